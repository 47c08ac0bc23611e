//! What every request leaves behind: counts, a log line when something is wrong, and the headers that every answer has.
//!
//! There is no span a request: at a hundred thousand polls a second it would cost more than the poll. What fails says
//! everything in one line instead.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

use pin_project_lite::pin_project;

use super::error::HttpProblem;
use crate::domain::Code;
use crate::metrics::{Metrics, RouteMetrics};

/// A client's, or a balancer's, own name for the request.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The middleware; one for each worker.
pub struct Observe {
    /// For requests that no route takes.
    other: RouteMetrics,
    draining: Arc<AtomicBool>,
}

impl Observe {
    /// Counts into these metrics. Each route brings its own: see [`super::routes`]. While `draining`, each answer is the last of
    /// its connection, so that a balancer does not come back with it.
    pub fn new(metrics: &Arc<Metrics>, draining: &Arc<AtomicBool>) -> Self {
        Self { other: metrics.route("none"), draining: Arc::clone(draining) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Observe
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = Observing<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let (other, draining) = (Rc::new(self.other.clone()), Arc::clone(&self.draining));
        ready(Ok(Observing { service, other, draining }))
    }
}

/// The middleware around the routes.
pub struct Observing<S> {
    service: S,
    other: Rc<RouteMetrics>,
    draining: Arc<AtomicBool>,
}

impl<S, B> Service<ServiceRequest> for Observing<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Observed<S::Future>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let last = self.draining.load(Ordering::Relaxed);
        Observed { started: Instant::now(), other: Rc::clone(&self.other), last, answer: self.service.call(request) }
    }
}

pin_project! {
    /// A request on its way.
    pub struct Observed<F> {
        started: Instant,
        other: Rc<RouteMetrics>,
        last: bool,
        #[pin]
        answer: F,
    }
}

impl<F, B> Future for Observed<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outcome = ready!(this.answer.poll(context));
        if let Ok(response) = &mut outcome {
            let route = response.request().app_data::<RouteMetrics>().unwrap_or(this.other);
            route.observe(response.status().as_u16(), this.started.elapsed());
            if let Some(told) = response.response().error().and_then(|error| error.as_error::<HttpProblem>()) {
                report(response, told);
            }
            if *this.last {
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            let headers = response.headers_mut();
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        Poll::Ready(outcome)
    }
}

/// Logs a problem with all that is known of its request; never the query, a header of the caller's or a body, so that no
/// secret gets into a log.
fn report<B>(response: &ServiceResponse<B>, told: &HttpProblem) {
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                method = %response.request().method(),
                path = response.request().path(),
                request_id = request_id(response),
                code = told.problem.code.as_str(),
                detail = told.problem.detail,
                cause = ?told.problem.cause,
                $text
            )
        };
    }
    match told.problem.code {
        Code::InternalError => line!(error, "failed"),
        code if code.status() >= 500 => line!(warn, "turned away"),
        _ => line!(debug, "refused"),
    }
}

/// The name that the request came with, if it is a harmless one; else a new one.
fn request_id<B>(response: &ServiceResponse<B>) -> String {
    let given = response.request().headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    given
        .filter(|id| crate::domain::PassId::parse(id).is_ok())
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}
