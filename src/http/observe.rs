//! What every request passes: a look at the room there is for it and at the size of its head; and what it leaves behind: counts, a
//! log line when something is wrong, and the headers that every answer has.
//!
//! There is no span a request: at a hundred thousand polls a second it would cost more than the poll. What fails says
//! everything in one line instead.

use std::borrow::Cow;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::{Error, HttpResponse, ResponseError};

use pin_project_lite::pin_project;

use super::ahead;
use super::connections::{After, Connections};
use super::error::HttpProblem;
use super::head;
use super::unread::{Held, Holding};
use crate::domain::{Code, Problem};
use crate::metrics::{Metrics, RouteMetrics};

/// A client's, or a balancer's, own name for the request.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The middleware; one for each worker.
pub struct Observe {
    /// For requests that no route takes.
    other: RouteMetrics,
    connections: Arc<Connections>,
    draining: Arc<AtomicBool>,
}

impl Observe {
    /// Counts into these metrics. Each route brings its own: see [`super::routes`]. While `draining`, each answer is the last of
    /// its connection, so that a balancer does not come back with it; when `connections` run short, those to the crowd are.
    pub fn new(metrics: &Arc<Metrics>, connections: &Arc<Connections>, draining: &Arc<AtomicBool>) -> Self {
        Self { other: metrics.route("none"), connections: Arc::clone(connections), draining: Arc::clone(draining) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Observe
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<Holding<B>>;
    type Error = Error;
    type Transform = Observing<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Observing {
            service,
            other: Rc::new(self.other.clone()),
            connections: Arc::clone(&self.connections),
            draining: Arc::clone(&self.draining),
        }))
    }
}

/// The middleware around the routes.
pub struct Observing<S> {
    service: S,
    other: Rc<RouteMetrics>,
    connections: Arc<Connections>,
    draining: Arc<AtomicBool>,
}

impl<S, B> Service<ServiceRequest> for Observing<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<Holding<B>>;
    type Error = Error;
    type Future = Observed<S::Future, B>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let started = Instant::now();
        if ahead::is_too_far() {
            self.other.observe(StatusCode::TOO_MANY_REQUESTS.as_u16(), started.elapsed());
            let answer = HttpResponse::new(StatusCode::TOO_MANY_REQUESTS).map_body(|_, _| Holding::Cut);
            return Observed::Told { answer: Some(request.into_response(answer)) };
        }
        let admitted = if self.draining.load(Ordering::Relaxed) {
            Ok(After::Ends)
        } else {
            self.connections.admit(request.method(), request.path())
        };
        let after = admitted.as_ref().copied().unwrap_or(After::Ends);
        let checked = admitted.map_err(HttpProblem::from).and_then(|_| head::check(request.head()));
        let unread = matches!(checked, Ok(true) | Err(_)).then(|| Held::of(&mut request));
        match checked {
            Ok(_) => {
                let (other, answer) = (Rc::clone(&self.other), self.service.call(request));
                Observed::Answering { started, other, after, unread, answer }
            }
            Err(refused) => {
                tracing::debug!(code = refused.problem.code.as_str(), "refused");
                let told = HttpProblem { unread, last: after == After::Ends, ..refused };
                let mut answer =
                    request.into_response(told.error_response().map_body(|_, body| Holding::Told { body }));
                self.other.observe(answer.status().as_u16(), started.elapsed());
                secure(answer.headers_mut());
                Observed::Told { answer: Some(answer) }
            }
        }
    }
}

pin_project! {
    /// A request on its way.
    #[project = ObservedProjection]
    pub enum Observed<F, B> {
        /// To its route.
        Answering {
            started: Instant,
            other: Rc<RouteMetrics>,
            after: After,
            unread: Option<Held>,
            #[pin]
            answer: F,
        },
        /// No further than its head.
        Told { answer: Option<ServiceResponse<Holding<B>>> },
    }
}

impl<F, B> Future for Observed<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<Holding<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (started, other, after, unread, answer) = match self.project() {
            ObservedProjection::Answering { started, other, after, unread, answer } => {
                (started, other, after, unread, answer)
            }
            ObservedProjection::Told { answer } => {
                let twice = || HttpProblem::from(Problem::internal("an answer was asked for twice")).into();
                return Poll::Ready(answer.take().ok_or_else(twice));
            }
        };
        ahead::count(context);
        let mut outcome = ready!(answer.poll(context));
        if let Ok(response) = &mut outcome {
            let route = response.request().app_data::<RouteMetrics>().unwrap_or(other);
            route.observe(response.status().as_u16(), started.elapsed());
            if let Some(told) = response.response().error().and_then(|error| error.as_error::<HttpProblem>()) {
                report(response, told);
            }
            if after.is_end(response.status()) {
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            secure(response.headers_mut());
        }
        let unread = unread.take();
        Poll::Ready(outcome.map(|response| response.map_body(|_, body| Holding::new(body, unread))))
    }
}

/// Headers that every answer has, whatever it is: it is what it says, is shown in no frame, runs nothing, and tells nobody where
/// it was read.
fn every_answer() -> [(HeaderName, HeaderValue); 3] {
    [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

/// Headers that an answer has unless it says otherwise: it is kept nowhere, and a browser that shows it loads nothing.
fn other_answers() -> [(HeaderName, HeaderValue); 2] {
    [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    ]
}

fn secure(headers: &mut HeaderMap) {
    for (name, value) in every_answer() {
        headers.insert(name, value);
    }
    for (name, value) in other_answers() {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

/// The longest path that is logged, in bytes.
const MAX_PATH: usize = 512;
/// The longest part of a path that is logged, in bytes: the shortest ticket has 82, and every pass and user token more.
const MAX_PART: usize = 64;

/// Logs a problem with all that is known of its request; never the query, a header of the caller's, a body or a detail that
/// repeats a part of one, so that no secret gets into a log.
fn report<B>(response: &ServiceResponse<B>, told: &HttpProblem) {
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                method = %response.request().method(),
                path = &*path(response),
                request_id = request_id(response),
                code = told.problem.code.as_str(),
                detail = detail(&told.problem),
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

/// The path that was asked for; only its pattern where a part of it is so long that it may be a ticket or a pass that somebody
/// put in the wrong place.
fn path<B>(response: &ServiceResponse<B>) -> Cow<'_, str> {
    let path = response.request().path();
    if path.len() <= MAX_PATH && path.split('/').all(|part| part.len() <= MAX_PART) {
        return path.into();
    }
    response.request().match_pattern().map_or_else(|| "(too long)".into(), Cow::from)
}

/// What the caller was told, unless it repeats what may be a secret.
fn detail(problem: &Problem) -> &str {
    let repeats = problem.quotes || problem.detail.split(' ').any(|word| word.len() > MAX_PART);
    if repeats { "(repeats what was sent)" } else { &problem.detail }
}

/// The name that the request came with, if it is a harmless one; else a new one.
fn request_id<B>(response: &ServiceResponse<B>) -> String {
    let given = response.request().headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    given
        .filter(|id| id.len() <= MAX_PART && crate::domain::PassId::parse(id).is_ok())
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}
