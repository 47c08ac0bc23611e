//! `/api/v1/bookings`: reservations and what becomes of them.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::caller::{Caller, pass};
use super::error::{Answer, ProblemBody};
use super::params::{PageView, id, page, query};
use super::state::State;
use crate::booking::{Reservation, ReserveRequest};
use crate::domain::{
    Booking, BookingId, BookingStatus, Code, EventId, Money, Problem, ShowId, Timestamp, VisitorId, ZoneId, ZoneKey,
};

/// The body of a reservation.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct ReserveBody {
    /// The event.
    event_id: EventId,
    /// The show.
    show_id: ShowId,
    /// The zone.
    zone_id: ZoneId,
    /// Seats, 1 to 10.
    #[schema(minimum = 1, maximum = 10)]
    quantity: u32,
    /// The price that was shown; a price that is no longer the catalogue's is refused.
    #[serde(default)]
    unit_price: Option<Money>,
    /// The pass, where it is not sent as X-Queue-Pass.
    #[serde(default)]
    queue_pass: Option<String>,
}

/// The body of a confirmation; may be left out whole.
#[derive(Deserialize, Default, utoipa::ToSchema)]
pub struct ConfirmBody {
    /// The payment that confirms it, 1 to 128 characters.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$")]
    payment_id: Option<String>,
}

/// A booking.
#[derive(Serialize, utoipa::ToSchema)]
pub struct BookingView {
    /// Its id.
    booking_id: BookingId,
    /// The event.
    event_id: EventId,
    /// The show.
    show_id: ShowId,
    /// The zone.
    zone_id: ZoneId,
    /// Where it stands.
    status: BookingStatus,
    /// Seats.
    quantity: u32,
    /// The price of a seat when it was made.
    unit_price: Money,
    /// What all seats cost.
    total_price: Money,
    /// When it was made.
    created_at: Timestamp,
    /// When the reservation ends unless it is confirmed.
    expires_at: Timestamp,
    /// When it was confirmed.
    confirmed_at: Option<Timestamp>,
    /// What the visitor shows at the door.
    confirmation_code: Option<String>,
}

/// The answer to a confirmation.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ConfirmView {
    /// The booking.
    booking_id: BookingId,
    /// `confirmed`.
    status: BookingStatus,
    /// When it was confirmed.
    confirmed_at: Option<Timestamp>,
    /// What the visitor shows at the door.
    confirmation_code: Option<String>,
}

/// The answer to a cancellation.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CancelView {
    /// The booking.
    booking_id: BookingId,
    /// `cancelled`.
    status: BookingStatus,
    /// What happened.
    message: &'static str,
}

/// How many seats of an event one has.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SummaryView {
    /// Who.
    user_id: VisitorId,
    /// Of which event.
    event_id: EventId,
    /// Seats reserved or confirmed.
    booked_count: u32,
    /// The most there may be; null = no limit.
    max_allowed: Option<u32>,
    /// How many more; null = no limit.
    remaining_slots: Option<u32>,
}

#[derive(Deserialize)]
struct SummaryQuery {
    event_id: EventId,
}

impl From<Booking> for BookingView {
    fn from(booking: Booking) -> Self {
        Self {
            total_price: booking.total(),
            booking_id: booking.id,
            event_id: booking.event,
            show_id: booking.zone.show,
            zone_id: booking.zone.zone,
            status: booking.status,
            quantity: booking.quantity,
            unit_price: booking.unit_price,
            created_at: booking.created_at,
            expires_at: booking.expires_at,
            confirmed_at: booking.confirmed_at,
            confirmation_code: booking.confirmation_code,
        }
    }
}

/// Reserve seats with the pass. What is answered 201 is on disk.
#[utoipa::path(post, path = "/api/v1/bookings/reserve", tag = "Booking", request_body = ReserveBody,
    params(("X-Queue-Pass" = Option<String>, Header), ("X-Idempotency-Key" = Option<String>, Header), ("Idempotency-Key" = Option<String>, Header)),
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 201, description = "Reserved; the same again for the same key and body", body = Reservation),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, QUEUE_PASS_REQUIRED, INVALID_QUEUE_PASS, QUEUE_PASS_EXPIRED, QUEUE_PASS_USED, QUEUE_PASS_MISMATCH, EVENT_NOT_FOUND, ZONE_NOT_FOUND, PRICE_CHANGED, INSUFFICIENT_SEATS, USER_LIMIT_EXCEEDED, REQUEST_IN_PROGRESS, IDEMPOTENCY_MISMATCH, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED, STORE_UNAVAILABLE: nothing is held", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn reserve(
    state: web::Data<State>,
    request: HttpRequest,
    caller: Caller,
    body: Body<ReserveBody>,
) -> Answer<HttpResponse> {
    let body = body.0;
    let key = ["X-Idempotency-Key", "Idempotency-Key"].into_iter().find_map(|name| request.headers().get(name));
    let asked = ReserveRequest {
        caller: if caller.anonymous_allowed { caller.at(&body.event_id)? } else { caller.visitor()? },
        pass_identifies: caller.anonymous_allowed,
        event: body.event_id,
        zone: ZoneKey { show: body.show_id, zone: body.zone_id },
        quantity: body.quantity,
        unit_price: body.unit_price,
        pass: pass(&request).or(body.queue_pass).filter(|text| !text.is_empty()),
        key: key.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
    };
    let answer = state.bookings.reserve(asked).await?;
    let status = actix_web::http::StatusCode::from_u16(answer.status).unwrap_or(actix_web::http::StatusCode::CREATED);
    Ok(HttpResponse::build(status)
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answer.body))
}

/// Confirm a reservation.
#[utoipa::path(post, path = "/api/v1/bookings/{id}/confirm", tag = "Booking", params(("id" = BookingId, Path)), request_body = Option<ConfirmBody>,
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 200, description = "Confirmed, now or before", body = ConfirmView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, BOOKING_NOT_FOUND, BOOKING_EXPIRED, BOOKING_CANCELLED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn confirm(
    state: web::Data<State>,
    request: HttpRequest,
    caller: Caller,
    path: web::Path<String>,
    payload: web::Payload,
) -> Answer<HttpResponse> {
    let id: BookingId = id("id", &path)?;
    let visitor = visitor(&state, &request, &caller)?;
    let body = optional_body(&request, payload).await?;
    let payment = body.payment_id.as_deref();
    if payment.is_some_and(|text| !(1..=128).contains(&text.chars().count()) || text.chars().any(char::is_control)) {
        return Err(
            Problem::invalid("payment_id must be 1 to 128 characters, none of them a control character.").into()
        );
    }
    let booking = state.bookings.confirm(&id, &visitor, payment).await?;
    Ok(HttpResponse::Ok().json(ConfirmView {
        booking_id: booking.id,
        status: booking.status,
        confirmed_at: booking.confirmed_at,
        confirmation_code: booking.confirmation_code,
    }))
}

/// Cancel a booking; its seats come back at once.
#[utoipa::path(delete, path = "/api/v1/bookings/{id}", tag = "Booking", params(("id" = BookingId, Path)),
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 200, description = "Cancelled, now or before", body = CancelView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, BOOKING_NOT_FOUND, BOOKING_EXPIRED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn cancel(
    state: web::Data<State>,
    request: HttpRequest,
    caller: Caller,
    path: web::Path<String>,
) -> Answer<HttpResponse> {
    let id: BookingId = id("id", &path)?;
    let visitor = visitor(&state, &request, &caller)?;
    let booking = state.bookings.cancel(&id, &visitor).await?;
    let message = "The booking is cancelled; its seats are free again.";
    Ok(HttpResponse::Ok().json(CancelView { booking_id: booking.id, status: booking.status, message }))
}

/// One booking of the caller's.
#[utoipa::path(get, path = "/api/v1/bookings/{id}", tag = "Booking", params(("id" = BookingId, Path)),
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 200, description = "The booking", body = BookingView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, BOOKING_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn get(
    state: web::Data<State>,
    request: HttpRequest,
    caller: Caller,
    path: web::Path<String>,
) -> Answer<HttpResponse> {
    let id: BookingId = id("id", &path)?;
    let booking = state.bookings.get(&id, &visitor(&state, &request, &caller)?).await?;
    Ok(HttpResponse::Ok().json(BookingView::from(booking)))
}

/// The caller's bookings, newest first.
#[utoipa::path(get, path = "/api/v1/bookings", tag = "Booking",
    params(("page" = Option<u32>, Query, minimum = 1, maximum = 1_000_000), ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100)),
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 200, description = "One page", body = PageView<BookingView>),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn list(state: web::Data<State>, request: HttpRequest, caller: Caller) -> Answer<HttpResponse> {
    let asked = page(&request)?;
    let found = state.bookings.list(&visitor(&state, &request, &caller)?, asked).await?;
    let data: Vec<_> = found.data.into_iter().map(BookingView::from).collect();
    Ok(HttpResponse::Ok().json(PageView { data, page: asked.page, page_size: asked.size, total: found.total }))
}

/// How many seats of an event the caller has, and may have.
#[utoipa::path(get, path = "/api/v1/bookings/summary", tag = "Booking", params(("event_id" = EventId, Query)),
    security((), ("visitor" = []), ("ticket" = []), ("pass" = [])),
    responses((status = 200, description = "The caller's seats", body = SummaryView),
        (status = "4XX", description = "INVALID_REQUEST, UNAUTHORIZED, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn summary(state: web::Data<State>, request: HttpRequest, caller: Caller) -> Answer<HttpResponse> {
    let SummaryQuery { event_id } = query(&request)?;
    let user_id = visitor(&state, &request, &caller)?;
    let seats = state.bookings.summary(&event_id, &user_id).await?;
    Ok(HttpResponse::Ok().json(SummaryView {
        user_id,
        event_id,
        booked_count: seats.booked,
        max_allowed: seats.allowed,
        remaining_slots: seats.allowed.map(|most| most.saturating_sub(seats.booked)),
    }))
}

/// Whose bookings: the caller's, or those of the pass where an anonymous visitor sends one.
fn visitor(state: &State, request: &HttpRequest, caller: &Caller) -> Answer<VisitorId> {
    if let Some(visitor) = caller.visitor()? {
        return Ok(visitor);
    }
    let by_pass = pass(request).and_then(|token| state.passes.verify(&token, state.clock.now()).ok());
    let detail = "Send a bearer token, or the ticket or pass of this visitor.";
    Ok(by_pass.map(|pass| pass.visitor).ok_or_else(|| Problem::new(Code::Unauthorized, detail))?)
}

/// Older clients confirm without a body, and without a content type.
async fn optional_body(request: &HttpRequest, payload: web::Payload) -> Answer<ConfirmBody> {
    use actix_web::FromRequest;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    if matches!(length, None | Some("0")) && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok(ConfirmBody::default());
    }
    let mut payload = payload.into_inner();
    Ok(Body::<ConfirmBody>::from_request(request, &mut payload).await?.0)
}
