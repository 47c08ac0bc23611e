//! What every request leaves behind: counts, and a log line when something is wrong.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use tracing_actix_web::RootSpanBuilder;

use super::error::HttpProblem;
use super::state::State;
use crate::domain::Code;

/// Counts the answer and its time by route.
pub async fn count<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let started = std::time::Instant::now();
    let metrics = request.app_data::<web::Data<State>>().map(|state| std::sync::Arc::clone(&state.metrics));
    let outcome = next.call(request).await;
    if let (Some(metrics), Ok(response)) = (metrics, &outcome) {
        let pattern = response.request().match_pattern();
        let route = pattern.as_deref().unwrap_or("none");
        let class = match response.status().as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        metrics.requests.with_label_values(&[route, class]).inc();
        metrics.request_seconds.with_label_values(&[route]).observe(started.elapsed().as_secs_f64());
    }
    outcome
}

/// One span a request, named by its route; never the query, a header or a body, so that no secret gets into a log.
pub struct Spans;

impl RootSpanBuilder for Spans {
    fn on_request_start(request: &ServiceRequest) -> tracing::Span {
        tracing::info_span!(
            "request",
            method = %request.method(),
            path = %request.path(),
            request_id = %uuid::Uuid::now_v7(),
        )
    }

    fn on_request_end<B: MessageBody>(span: tracing::Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let error = match outcome {
            Ok(response) => response.response().error(),
            Err(error) => Some(error),
        };
        let Some(told) = error.and_then(|error| error.as_error::<HttpProblem>()) else { return };
        let problem = &told.problem;
        match problem.code {
            Code::InternalError => {
                tracing::error!(parent: &span, code = problem.code.as_str(), cause = ?problem.cause, "failed");
            }
            code if code.status() >= 500 => {
                tracing::warn!(parent: &span, code = code.as_str(), cause = ?problem.cause, "turned away");
            }
            code => tracing::debug!(parent: &span, code = code.as_str(), detail = problem.detail, "refused"),
        }
    }
}
