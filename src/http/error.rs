//! Problems as `application/problem+json` (RFC 9457).

use std::fmt;
use std::time::Duration;

use actix_web::body::MessageBody as _;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::unread::{Held, Holding};
use crate::domain::{Code, Problem};

/// What handlers return when they fail.
pub type Answer<T> = Result<T, HttpProblem>;

/// A problem on its way out, with headers of its own.
#[derive(Debug)]
pub struct HttpProblem {
    /// What went wrong.
    pub problem: Problem,
    /// Headers that go with it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body that came with the request, where nobody read it.
    pub unread: Option<Held>,
    /// Whether the answer is the last of its connection.
    pub last: bool,
}

/// The body of every 4xx and 5xx.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct ProblemBody {
    /// A name for the kind of problem: `urn:usher:problem:<code in lower case>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same at every occurrence.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What to do about it.
    pub detail: String,
    /// The name that programs go by.
    pub code: String,
    /// The title again, for older clients.
    pub error: String,
}

impl From<Problem> for HttpProblem {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Vec::new(), unread: None, last: false }
    }
}

impl fmt::Display for HttpProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl ResponseError for HttpProblem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let code = self.problem.code;
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json").insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(after) = self.problem.retry_after {
            response.insert_header((header::RETRY_AFTER, whole_seconds(after)));
        }
        // The rest of such a request is not read, so that what follows on the connection cannot be told from it.
        let unread =
            matches!(code, Code::RequestTimeout | Code::PayloadTooLarge | Code::UriTooLong | Code::HeadersTooLarge);
        if self.last || unread {
            response.force_close();
        }
        if code.status() == 401 {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        let response = response.json(ProblemBody {
            kind: format!("urn:usher:problem:{}", code.as_str().to_ascii_lowercase()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: self.problem.detail.clone(),
            code: code.as_str().to_owned(),
            error: code.title().to_owned(),
        });
        match &self.unread {
            Some(unread) => response.map_body(|_, body| Holding::new(body, Some(unread.clone())).boxed()),
            None => response,
        }
    }
}

/// Rounded up, at least one.
pub fn whole_seconds(span: Duration) -> u64 {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).max(1)
}

/// For a path that is nowhere.
pub async fn not_found() -> Answer<HttpResponse> {
    Err(Problem::new(Code::NotFound, "See /docs for the paths there are.").into())
}

/// For a path that is there, but not with this method.
pub fn method_not_allowed(request: &HttpRequest, methods: &'static str) -> Answer<HttpResponse> {
    let problem =
        Problem::new(Code::MethodNotAllowed, format!("{} does not work here, but {methods}.", request.method()));
    let headers = vec![(header::ALLOW, HeaderValue::from_static(methods))];
    Err(HttpProblem { headers, ..HttpProblem::from(problem) })
}
