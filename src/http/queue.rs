//! `/api/v1/queue`: the line.

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::BASE;
use super::body::Body;
use super::caller::{Caller, TICKET_COOKIE};
use super::error::{Answer, ProblemBody};
use super::params::id;
use super::state::State;
use crate::domain::{Code, EventId, Problem, VisitorId};
use crate::engine::{Left, PLACE_TTL};
use crate::queue::{Held, Join, JoinView, PositionView, StatusView};

/// The body of a join.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct JoinBody {
    /// Which line.
    event_id: EventId,
}

/// The body of a leave.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct LeaveBody {
    /// Which line.
    event_id: EventId,
    /// The queue ticket; may be left out where it is sent as header or cookie.
    #[serde(default)]
    token: Option<String>,
}

/// One event of a stream, as a reader of server-sent events has it: for the document only.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
pub struct PositionEvent {
    /// `position`; none where the server only says when to connect again.
    event: Option<String>,
    /// The object of a poll, as JSON.
    data: Option<String>,
    /// Milliseconds to wait before the next connection, when the server stops.
    retry: Option<u64>,
}

/// The answer to a leave.
#[derive(Serialize, utoipa::ToSchema)]
pub struct LeaveView {
    /// Always true: leaving twice is no error.
    success: bool,
    /// What happened.
    message: &'static str,
}

/// Join the line, or hear again which place one has.
#[utoipa::path(post, path = "/api/v1/queue/join", tag = "Queue", request_body = JoinBody,
    security((), ("visitor" = []), ("ticket" = [])),
    responses((status = 201, description = "A new place", body = JoinView),
        (status = 200, description = "The same place, or the pass, again", body = JoinView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, INVALID_TOKEN, EVENT_NOT_FOUND, QUEUE_FULL, QUEUE_NOT_OPEN, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED, STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn join(state: web::Data<State>, caller: Caller, body: Body<JoinBody>) -> Answer<HttpResponse> {
    let event = body.0.event_id;
    let live = state.catalogue.find(&event)?;
    let visitor = caller.joining(&event)?.unwrap_or_else(mint_visitor);
    let held = caller.ticket(&event).filter(|ticket| ticket.visitor == visitor).map(Held::from);
    let (mut response, view) = match state.queue.join(&live, &visitor, held).await? {
        Join::New(view) => (HttpResponse::Created(), view),
        Join::Again(view) => (HttpResponse::Ok(), view),
    };
    // One cookie for each event, by its path, so that no event's ticket is lost; and one for the paths without an event.
    for path in [format!("{BASE}/queue/position/{event}"), BASE.to_owned()] {
        response.cookie(ticket_cookie(&view.token, path, state.cookie_secure));
    }
    Ok(response
        .insert_header((header::RETRY_AFTER, view.poll_after_seconds))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(view))
}

/// Where one stands. Polling never admits anybody.
#[utoipa::path(get, path = "/api/v1/queue/position/{event_id}", tag = "Queue", params(("event_id" = EventId, Path)),
    security((), ("visitor" = []), ("ticket" = [])),
    responses((status = 200, description = "The place, or the pass", body = PositionView),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_TOKEN, EVENT_NOT_FOUND, NOT_IN_QUEUE, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED, STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn position(state: web::Data<State>, caller: Caller, path: web::Path<String>) -> Answer<HttpResponse> {
    let event: EventId = id("event_id", &path)?;
    let live = state.catalogue.find(&event)?;
    let (visitor, held) = in_line(&caller, &event)?;
    let view = match state.queue.remembered(&live, &visitor, held) {
        Some(view) => view,
        // On the heap, so that the many who do not get here do not carry the room for it.
        None => Box::pin(state.queue.look_up(&live, &visitor, held)).await?,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::RETRY_AFTER, view.poll_after_seconds))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(view))
}

/// The position as server-sent events: at once, on every change, and last with the pass.
#[utoipa::path(get, path = "/api/v1/queue/position/{event_id}/stream", tag = "Queue", params(("event_id" = EventId, Path)),
    security((), ("visitor" = []), ("ticket" = [])),
    responses((status = 200, description = "`event: position` with the object of a poll", body = PositionEvent, content_type = "text/event-stream"),
        (status = "4XX", description = "As a poll", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: poll instead; STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn stream(state: web::Data<State>, caller: Caller, path: web::Path<String>) -> Answer<HttpResponse> {
    let event: EventId = id("event_id", &path)?;
    let live = state.catalogue.find(&event)?;
    let (visitor, held) = in_line(&caller, &event)?;
    let chunks = state.streams.open(&live, &visitor, held).await?;
    let body = chunks.map(|chunk| Ok::<_, actix_web::Error>(web::Bytes::from(chunk)));
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// Leave the line, or give the pass back. Leaving twice is no error.
#[utoipa::path(delete, path = "/api/v1/queue/leave", tag = "Queue", request_body = LeaveBody,
    security((), ("visitor" = []), ("ticket" = [])),
    responses((status = 200, description = "Out of the line", body = LeaveView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, INVALID_TOKEN, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn leave(state: web::Data<State>, caller: Caller, body: Body<LeaveBody>) -> Answer<HttpResponse> {
    let LeaveBody { event_id, token } = body.0;
    state.catalogue.find(&event_id)?;
    let visitor = caller.visitor()?;
    let ticket = match token {
        Some(text) => state.tickets.verify(&text, state.clock.now()).ok(),
        None => Some(
            caller.ticket(&event_id).cloned().ok_or_else(|| Problem::invalid("token: the queue ticket is missing."))?,
        ),
    };
    let ticket = ticket
        .filter(|ticket| ticket.event == event_id && visitor.as_ref().is_none_or(|visitor| *visitor == ticket.visitor))
        .ok_or_else(|| Problem::new(Code::InvalidToken, "Send the ticket that this visitor got for this event."))?;
    let message = match state.queue.leave(&ticket).await? {
        Left::Line => "You have left the queue.",
        Left::Pass => "You have given your pass back.",
        Left::Nothing => "You were not in the queue any more.",
    };
    Ok(HttpResponse::Ok().json(LeaveView { success: true, message }))
}

/// The line as a whole.
#[utoipa::path(get, path = "/api/v1/queue/status/{event_id}", tag = "Queue", params(("event_id" = EventId, Path)),
    responses((status = 200, description = "The line's numbers; may be cached for a second", body = StatusView),
        (status = "4XX", description = "INVALID_REQUEST, EVENT_NOT_FOUND", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn status(state: web::Data<State>, path: web::Path<String>) -> Answer<HttpResponse> {
    let event: EventId = id("event_id", &path)?;
    let view = state.queue.status(&event)?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=1")).json(view))
}

/// The visitor whose place is asked for, and the place that their ticket says.
fn in_line(caller: &Caller, event: &EventId) -> Answer<(VisitorId, Option<Held>)> {
    let detail = "Send the ticket that the join gave, as X-Queue-Ticket or as its cookie; or join first.";
    let visitor = caller.at(event)?.ok_or_else(|| Problem::new(Code::NotInQueue, detail))?;
    let held = caller.ticket(event).filter(|ticket| ticket.visitor == visitor).map(Held::from);
    Ok((visitor, held))
}

/// A fresh identity for an anonymous visitor: nobody can guess it, and no user id of a token looks like it by chance.
fn mint_visitor() -> VisitorId {
    VisitorId::parse(&format!("anon-{}", uuid::Uuid::new_v4())).expect("a UUID is an id")
}

fn ticket_cookie(ticket: &str, path: String, secure: bool) -> Cookie<'static> {
    let age = i64::try_from(PLACE_TTL.as_secs()).unwrap_or(i64::MAX);
    Cookie::build(TICKET_COOKIE, ticket.to_owned())
        .path(path)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(secure)
        .max_age(actix_web::cookie::time::Duration::seconds(age))
        .finish()
}
