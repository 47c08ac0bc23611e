//! `/api/v1/admin`: for operators, behind the admin token.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::caller::{bearer, count_address};
use super::error::{Answer, HttpProblem, ProblemBody};
use super::params::{PageView, id, page};
use super::state::State;
use crate::admin::{LiveNumbers, ZoneChange, ZoneNumbers};
use crate::domain::catalogue::Show;
use crate::domain::{Code, Event, EventId, EventSpec, PolicyPatch, Problem, QueuePolicy, Timestamp};
use crate::ledger::{Actor, AuditEntry};

/// Proof that the caller holds the admin token.
pub struct Operator(Actor);

impl FromRequest for Operator {
    type Error = HttpProblem;
    type Future = Ready<Result<Self, HttpProblem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Guesses are counted; the operator is not.
        ready(State::of(request).and_then(|state| {
            operator(request, state).or_else(|refused| count_address(request, state).and(Err(refused.into())))
        }))
    }
}

fn operator(request: &HttpRequest, state: &State) -> Result<Operator, Problem> {
    let refused = || Problem::new(Code::Unauthorized, "Send Authorization: Bearer <USHER_ADMIN_TOKEN>.");
    let token = bearer(request).map_err(|_| refused())?.ok_or_else(refused)?;
    if !state.admin_token.matches(token) {
        return Err(refused());
    }
    let from = state.proxies.client(request).map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    Ok(Operator(Actor(format!("admin@{from}"))))
}

/// An event as operators see it.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AdminEventView {
    /// Its id.
    id: EventId,
    /// Its name.
    name: String,
    /// Its shows and zones.
    shows: Vec<Show>,
    /// The policy in force.
    queue: QueuePolicy,
    /// Grows with every change of any event.
    version: i64,
    /// When it was last changed.
    updated_at: Timestamp,
    /// Live numbers, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveNumbers>,
}

/// All events as operators see them.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AdminEventsView {
    /// The events, ordered by id.
    data: Vec<AdminEventView>,
    /// How many.
    total: usize,
}

/// All zones, by the fast inventory and by the ledger.
#[derive(Serialize, utoipa::ToSchema)]
pub struct InventoryView {
    /// Whether every zone agrees.
    in_sync: bool,
    /// The zones.
    zones: Vec<ZoneNumbers>,
}

/// What a rebuild of the fast inventory did.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SyncView {
    /// Zones that were compared.
    zones: usize,
    /// Zones that were changed.
    changed: Vec<ZoneChange>,
}

/// The body of a reset.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetBody {
    /// The event's id again, so that it is not done by accident.
    confirm: String,
}

/// The answer to a removal or a reset.
#[derive(Serialize, utoipa::ToSchema)]
pub struct DoneView {
    /// Always true.
    success: bool,
    /// What happened.
    message: &'static str,
}

fn view(event: Event, live: Option<LiveNumbers>) -> AdminEventView {
    AdminEventView {
        id: event.id,
        name: event.spec.name,
        shows: event.spec.shows,
        queue: event.spec.queue,
        version: event.version,
        updated_at: event.updated_at,
        live,
    }
}

/// All events with their live numbers.
#[utoipa::path(get, path = "/api/v1/admin/events", tag = "Operators", security(("admin" = [])),
    responses((status = 200, description = "All events", body = AdminEventsView),
        (status = "4XX", description = "UNAUTHORIZED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn list(state: web::Data<State>, _: Operator) -> Answer<HttpResponse> {
    let data: Vec<_> = state.admin.events().await?.into_iter().map(|(event, live)| view(event, Some(live))).collect();
    Ok(HttpResponse::Ok().json(AdminEventsView { total: data.len(), data }))
}

/// One event with its policy and live numbers.
#[utoipa::path(get, path = "/api/v1/admin/events/{id}", tag = "Operators", params(("id" = EventId, Path)), security(("admin" = [])),
    responses((status = 200, description = "The event", body = AdminEventView),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn get(state: web::Data<State>, _: Operator, path: web::Path<String>) -> Answer<HttpResponse> {
    let (event, live) = state.admin.event(&id("id", &path)?).await?;
    Ok(HttpResponse::Ok().json(view(event, Some(live))))
}

/// Create or replace an event.
#[utoipa::path(put, path = "/api/v1/admin/events/{id}", tag = "Operators", params(("id" = EventId, Path)), security(("admin" = [])),
    request_body = EventSpec,
    responses((status = 201, description = "Created", body = AdminEventView), (status = 200, description = "Replaced", body = AdminEventView),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, CAPACITY_IN_USE, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn put(
    state: web::Data<State>,
    operator: Operator,
    path: web::Path<String>,
    body: Body<EventSpec>,
) -> Answer<HttpResponse> {
    let (event, created) = state.admin.put(&id("id", &path)?, &body.0, &operator.0).await?;
    let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(view(event, None)))
}

/// Change some fields of the policy; in force everywhere when this is answered.
#[utoipa::path(patch, path = "/api/v1/admin/events/{id}/queue", tag = "Operators", params(("id" = EventId, Path)), security(("admin" = [])),
    request_body = PolicyPatch,
    responses((status = 200, description = "The policy now in force", body = QueuePolicy),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn patch(
    state: web::Data<State>,
    operator: Operator,
    path: web::Path<String>,
    body: Body<PolicyPatch>,
) -> Answer<HttpResponse> {
    let event = state.admin.patch(&id("id", &path)?, &body.0, &operator.0).await?;
    Ok(HttpResponse::Ok().json(event.spec.queue))
}

/// Take an event away, even from under a waiting line. Its bookings stay.
#[utoipa::path(delete, path = "/api/v1/admin/events/{id}", tag = "Operators", params(("id" = EventId, Path)), security(("admin" = [])),
    responses((status = 200, description = "Removed", body = DoneView),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn remove(state: web::Data<State>, operator: Operator, path: web::Path<String>) -> Answer<HttpResponse> {
    state.admin.remove(&id("id", &path)?, &operator.0).await?;
    Ok(HttpResponse::Ok().json(DoneView { success: true, message: "The event is removed; its bookings stay." }))
}

/// Empty the line and make every pass void. Bookings stay.
#[utoipa::path(post, path = "/api/v1/admin/events/{id}/reset", tag = "Operators", params(("id" = EventId, Path)), security(("admin" = [])),
    request_body = ResetBody,
    responses((status = 200, description = "Reset", body = DoneView),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, EVENT_NOT_FOUND, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn reset(
    state: web::Data<State>,
    operator: Operator,
    path: web::Path<String>,
    body: Body<ResetBody>,
) -> Answer<HttpResponse> {
    let event: EventId = id("id", &path)?;
    if body.0.confirm != event.as_str() {
        return Err(Problem::invalid("confirm must be the id of the event that is to be reset.").into());
    }
    state.admin.reset(&event, &operator.0).await?;
    Ok(HttpResponse::Ok()
        .json(DoneView { success: true, message: "The line is empty and every pass is void; bookings stay." }))
}

/// All zones, by the fast inventory and by the ledger.
#[utoipa::path(get, path = "/api/v1/admin/inventory-status", tag = "Operators", security(("admin" = [])),
    responses((status = 200, description = "All zones", body = InventoryView),
        (status = "4XX", description = "UNAUTHORIZED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn inventory(state: web::Data<State>, _: Operator) -> Answer<HttpResponse> {
    let zones = state.admin.inventory().await?;
    Ok(HttpResponse::Ok().json(InventoryView { in_sync: zones.iter().all(|zone| zone.in_sync), zones }))
}

/// Rebuild the fast inventory from the ledger; safe while sales go on.
#[utoipa::path(post, path = "/api/v1/admin/sync-inventory", tag = "Operators", security(("admin" = [])),
    responses((status = 200, description = "What was changed", body = SyncView),
        (status = "4XX", description = "UNAUTHORIZED, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn sync(state: web::Data<State>, operator: Operator) -> Answer<HttpResponse> {
    let (zones, changed) = state.admin.sync_inventory(&operator.0).await?;
    Ok(HttpResponse::Ok().json(SyncView { zones, changed }))
}

/// What operators did, newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit", tag = "Operators", security(("admin" = [])),
    params(("page" = Option<u32>, Query, minimum = 1, maximum = 1_000_000), ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100)),
    responses((status = 200, description = "One page", body = PageView<AuditEntry>),
        (status = "4XX", description = "UNAUTHORIZED, INVALID_REQUEST, RATE_LIMITED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "STORE_UNAVAILABLE", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn audit(state: web::Data<State>, _: Operator, request: HttpRequest) -> Answer<HttpResponse> {
    let asked = page(&request)?;
    let found = state.admin.audit_log(asked).await?;
    let view = PageView { data: found.data, page: asked.page, page_size: asked.size, total: found.total };
    Ok(HttpResponse::Ok().json(view))
}
