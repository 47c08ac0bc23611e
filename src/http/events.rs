//! `/api/v1/events`: what there is to book.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::caller::Counted;
use super::error::{Answer, ProblemBody};
use super::params::id;
use super::state::State;
use crate::catalogue::LiveEvent;
use crate::domain::catalogue::Show;
use crate::domain::{EventId, Money, QueueState, ShowId, Timestamp, ZoneId};

/// An event in a list.
#[derive(Serialize, utoipa::ToSchema)]
pub struct EventView {
    /// Its id.
    id: EventId,
    /// Its name.
    name: String,
    /// The state of its queue.
    state: QueueState,
    /// Whether a reservation needs a pass.
    queue_required: bool,
    /// When the queue opens, if that is set.
    opens_at: Option<Timestamp>,
    /// Its shows and zones.
    shows: Vec<Show>,
}

/// A list of events.
#[derive(Serialize, utoipa::ToSchema)]
pub struct EventsView {
    /// The events, ordered by id.
    data: Vec<EventView>,
    /// How many.
    total: usize,
}

/// Seats left, by show and zone.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AvailabilityView {
    /// The event.
    event_id: EventId,
    /// Its shows.
    shows: Vec<ShowAvailability>,
}

/// Seats left of a show.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ShowAvailability {
    /// The show.
    id: ShowId,
    /// Its name.
    name: String,
    /// When it starts.
    starts_at: Option<Timestamp>,
    /// Its zones.
    zones: Vec<ZoneAvailability>,
}

/// Seats left of a zone.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ZoneAvailability {
    /// The zone.
    id: ZoneId,
    /// Its name.
    name: String,
    /// Seats there are.
    capacity: u32,
    /// Seats that can be reserved.
    available: u32,
    /// The price of a seat.
    price: Money,
}

fn event_view(live: &LiveEvent, now: Timestamp) -> EventView {
    let queue = &live.event.spec.queue;
    EventView {
        id: live.event.id.clone(),
        name: live.event.spec.name.clone(),
        state: queue.state_at(now),
        queue_required: queue.queue_required,
        opens_at: queue.opens_at,
        shows: live.event.spec.shows.clone(),
    }
}

/// All events.
#[utoipa::path(get, path = "/api/v1/events", tag = "Events",
    responses((status = 200, description = "All events", body = EventsView)))]
pub async fn list(state: web::Data<State>) -> Answer<HttpResponse> {
    let now = state.clock.now();
    let data: Vec<_> = state.catalogue.all().iter().map(|live| event_view(live, now)).collect();
    Ok(HttpResponse::Ok().json(EventsView { total: data.len(), data }))
}

/// One event.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "Events", params(("id" = EventId, Path)),
    responses((status = 200, description = "The event", body = EventView),
        (status = "4XX", description = "INVALID_REQUEST, EVENT_NOT_FOUND", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn get(state: web::Data<State>, path: web::Path<String>) -> Answer<HttpResponse> {
    let event: EventId = id("id", &path)?;
    Ok(HttpResponse::Ok().json(event_view(&*state.catalogue.find(&event)?, state.clock.now())))
}

/// Seats left of an event, from the fast inventory.
#[utoipa::path(get, path = "/api/v1/events/{id}/availability", tag = "Events", params(("id" = EventId, Path)),
    responses((status = 200, description = "Seats left", body = AvailabilityView),
        (status = "4XX", description = "INVALID_REQUEST, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn availability(state: web::Data<State>, _: Counted, path: web::Path<String>) -> Answer<HttpResponse> {
    let event_id: EventId = id("id", &path)?;
    let (live, stock) = state.admin.availability(&event_id).await?;
    let left = |show: &ShowId, zone: &ZoneId| {
        stock
            .iter()
            .find(|s| s.zone.show == *show && s.zone.zone == *zone)
            .map_or(0, crate::engine::ZoneStock::available)
    };
    let shows = live.event.spec.shows.iter().map(|show| ShowAvailability {
        id: show.id.clone(),
        name: show.name.clone(),
        starts_at: show.starts_at,
        zones: show
            .zones
            .iter()
            .map(|zone| ZoneAvailability {
                id: zone.id.clone(),
                name: zone.name.clone(),
                capacity: zone.capacity,
                available: left(&show.id, &zone.id),
                price: zone.price,
            })
            .collect(),
    });
    let view = AvailabilityView { event_id, shows: shows.collect() };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=1")).json(view))
}
