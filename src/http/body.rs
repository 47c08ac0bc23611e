//! JSON bodies, with errors that name the field.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::HttpProblem;
use super::state::State;
use crate::domain::{Code, Problem};

/// A JSON body of at most `max_body_bytes`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = HttpProblem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, HttpProblem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let mut payload = payload.take();
        let request = request.clone();
        Box::pin(async move {
            let limit = request.app_data::<web::Data<State>>().map_or(65_536, |state| state.max_body_bytes);
            check_type(&request)?;
            let bytes = read(&mut payload, &request, limit).await?;
            parse(&bytes).map(Self)
        })
    }
}

fn check_type(request: &HttpRequest) -> Result<(), HttpProblem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, "Send the body with Content-Type: application/json.").into())
}

async fn read(payload: &mut Payload, request: &HttpRequest, limit: usize) -> Result<Vec<u8>, HttpProblem> {
    let too_large = || Problem::new(Code::PayloadTooLarge, format!("A body may have at most {limit} bytes."));
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|length: usize| length > limit) {
        return Err(too_large().into());
    }
    let mut bytes = Vec::with_capacity(declared.unwrap_or(256));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("The body could not be read to its end."))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large().into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpProblem> {
    if let Ok(parsed) = serde_json::from_slice(bytes) {
        return Ok(parsed);
    }
    // Only for the error, which is to name the field: keeping track of it costs as much as the reading.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        // What is not JSON at all has no field to name.
        let field = if inner.is_data() && path != "." { format!("{path}: ") } else { String::new() };
        Problem::invalid(format!("{field}{inner}."))
    })?;
    json.end().map_err(|_| Problem::invalid("There is more after the JSON body."))?;
    Ok(parsed)
}
