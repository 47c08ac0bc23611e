//! The HTTP door: thin handlers that extract, call one service and map the answer.

use std::future::ready;

use actix_web::HttpRequest;
use actix_web::web::{self, ServiceConfig};

use crate::metrics::Metrics;

mod address;
mod admin;
mod ahead;
mod body;
mod bookings;
mod caller;
mod connections;
mod docs;
mod error;
mod events;
mod head;
mod health;
mod limits;
mod observe;
mod params;
mod queue;
mod state;
mod unread;

pub use address::Proxies;
pub use connections::Connections;
pub use docs::{OpenApiText, openapi_json};
pub use limits::Limits;
pub use observe::Observe;
pub use state::{Callers, State};

/// Where the API lives.
pub const BASE: &str = "/api/v1";

/// Every path there is, with the metrics of each. A path that is known answers other methods with 405, any other path with
/// 404. Paths are tried in this order: those that a crowd asks for come first.
pub fn routes(metrics: &Metrics) -> impl FnOnce(&mut ServiceConfig) {
    let at = |path: &str, methods: &'static str| {
        let other = move |request: HttpRequest| ready(error::method_not_allowed(&request, methods));
        web::resource(path).app_data(metrics.route(path)).default_service(web::to(other))
    };
    let api = |path: &str, methods| at(&format!("{BASE}{path}"), methods);
    let crowd = [
        api("/queue/position/{event_id}", "GET").route(web::get().to(queue::position)),
        api("/queue/status/{event_id}", "GET").route(web::get().to(queue::status)),
        api("/queue/join", "POST").route(web::post().to(queue::join)),
        api("/bookings/reserve", "POST").route(web::post().to(bookings::reserve)),
        api("/queue/position/{event_id}/stream", "GET").route(web::get().to(queue::stream)),
        api("/queue/leave", "DELETE").route(web::delete().to(queue::leave)),
    ];
    let others = [
        api("/bookings", "GET").route(web::get().to(bookings::list)),
        api("/bookings/summary", "GET").route(web::get().to(bookings::summary)),
        api("/bookings/{id}", "GET, DELETE")
            .route(web::get().to(bookings::get))
            .route(web::delete().to(bookings::cancel)),
        api("/bookings/{id}/confirm", "POST").route(web::post().to(bookings::confirm)),
        api("/events", "GET").route(web::get().to(events::list)),
        api("/events/{id}", "GET").route(web::get().to(events::get)),
        api("/events/{id}/availability", "GET").route(web::get().to(events::availability)),
        api("/admin/events", "GET").route(web::get().to(admin::list)),
        api("/admin/events/{id}", "GET, PUT, DELETE")
            .route(web::get().to(admin::get))
            .route(web::put().to(admin::put))
            .route(web::delete().to(admin::remove)),
        api("/admin/events/{id}/queue", "PATCH").route(web::patch().to(admin::patch)),
        api("/admin/events/{id}/reset", "POST").route(web::post().to(admin::reset)),
        api("/admin/inventory-status", "GET").route(web::get().to(admin::inventory)),
        api("/admin/sync-inventory", "POST").route(web::post().to(admin::sync)),
        api("/admin/audit", "GET").route(web::get().to(admin::audit)),
        at("/health", "GET").route(web::get().to(health::health)),
        at("/ready", "GET").route(web::get().to(health::ready)),
        at("/metrics", "GET").route(web::get().to(health::metrics)),
        at("/.well-known/jwks.json", "GET").route(web::get().to(health::jwks)),
        at("/openapi.json", "GET").route(web::get().to(docs::document)),
        at("/docs", "GET").route(web::get().to(docs::page)),
    ];
    move |config| {
        for resource in crowd.into_iter().chain(others) {
            config.service(resource);
        }
        config.default_service(web::to(error::not_found));
    }
}
