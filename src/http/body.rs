//! JSON bodies, with errors that name the field.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::HttpProblem;
use super::state::State;
use crate::domain::{Code, Problem};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON body of at most `max_body_bytes`: an object, as every body of the contract is.
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
            let bytes = tokio::time::timeout(PATIENCE, read(&mut payload, &request, limit)).await;
            parse(&bytes.map_err(|_| too_slow())??).map(Self)
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

fn too_slow() -> HttpProblem {
    Problem::new(Code::RequestTimeout, format!("The body must arrive within {} seconds.", PATIENCE.as_secs())).into()
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
    // An array would be taken as the fields in order, which nobody means.
    if matches!(bytes.trim_ascii_start(), [first, ..] if *first != b'{') {
        return Err(Problem::invalid("The body must be a JSON object.").into());
    }
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
        Problem::invalid_as_sent(&format!("{field}{inner}."))
    })?;
    json.end().map_err(|_| Problem::invalid("There is more after the JSON body."))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{EventId, EventSpec, Money, PolicyPatch};
    use crate::hostile;

    /// The shape of what visitors send.
    #[derive(Debug, serde::Deserialize)]
    struct Shape {
        event_id: EventId,
        quantity: u32,
        #[serde(default)]
        unit_price: Option<Money>,
    }

    fn read(text: &str) -> Result<Shape, Problem> {
        parse(text.as_bytes()).map_err(|told: HttpProblem| told.problem)
    }

    fn refused(text: &str) -> String {
        let told = read(text).expect_err(text);
        assert_eq!(told.code, Code::InvalidRequest);
        told.detail
    }

    #[test]
    fn a_body_is_one_object_whose_fields_are_there_once() {
        let good = read(r#" {"event_id":"e","quantity":2,"unit_price":19.99,"more":[]} "#).expect("good");
        assert_eq!((good.event_id.as_str(), good.quantity, good.unit_price.map(Money::minor)), ("e", 2, Some(1_999)));
        for (text, says) in [
            (r#"["e",2,19.99]"#, "object"),
            (r#""e""#, "object"),
            ("null", "object"),
            ("", "EOF"),
            (r#"{"event_id":"e","quantity":2}{}"#, "more"),
            (r#"{"event_id":"e","event_id":"f","quantity":2}"#, "duplicate"),
            (r#"{"event_id":"e","quantity":2,"quantity":3}"#, "duplicate"),
            (r#"{"event_id":"e","quantity":-1}"#, "quantity"),
            (r#"{"event_id":"e","quantity":4294967296}"#, "quantity"),
            (r#"{"event_id":"e","quantity":2.5}"#, "quantity"),
            (r#"{"event_id":"e","quantity":"2"}"#, "quantity"),
            (r#"{"event_id":"e","quantity":1e400}"#, "number"),
            (r#"{"event_id":"e","quantity":2,"unit_price":1e300}"#, "unit_price"),
            (&format!(r#"{{"event_id":"e","quantity":2,"more":{}}}"#, "[".repeat(60_000)), "value"),
        ] {
            let detail = refused(text);
            assert!(detail.contains(says), "{says}: {detail}");
        }
    }

    #[test]
    fn a_detail_that_repeats_the_body_is_short_and_not_for_the_log() {
        let told = read(&format!(r#"{{"event_id":"e","quantity":"{}"}}"#, "s".repeat(60_000))).expect_err("refused");
        assert!(told.quotes && told.detail.contains("sss") && told.detail.chars().count() <= 301, "{}", told.detail);
    }

    proptest! {
        #![proptest_config(hostile::config("bodies"))]

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                r#"[{}\[\]",:0-9a-z\\u.eE+ -]{0,80}"#.prop_map(String::into_bytes),
                hostile::spoiled(serde_json::json!({"event_id": "e", "quantity": 2, "unit_price": 1.5})).prop_map(|json| json.to_string().into_bytes()),
            ],
        ) {
            let told = [
                parse::<Shape>(&bytes).err(),
                parse::<EventSpec>(&bytes).err(),
                parse::<PolicyPatch>(&bytes).err(),
            ];
            for told in told.into_iter().flatten() {
                prop_assert_eq!(told.problem.code, Code::InvalidRequest);
                prop_assert!(told.problem.detail.chars().count() <= 301);
            }
            if let Ok(read) = parse::<Shape>(&bytes) {
                // What was read is what a reader that knows nothing of the shape finds.
                let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                prop_assert_eq!(&json["event_id"], read.event_id.as_str());
                prop_assert_eq!(&json["quantity"], read.quantity);
            }
        }
    }
}
