//! The HTTP door: thin handlers that extract, call one service and map the answer.

use std::future::ready;

use actix_web::HttpRequest;
use actix_web::web::{self, ServiceConfig};
use tracing_actix_web::TracingLogger;

mod address;
mod admin;
mod body;
mod bookings;
mod caller;
mod docs;
mod error;
mod events;
mod health;
mod limits;
mod observe;
mod params;
mod queue;
mod state;

pub use address::Proxies;
pub use docs::{OpenApiText, openapi_json};
pub use limits::Limits;
use observe::Spans;
pub use observe::count;
pub use state::{Callers, State};

/// Where the API lives.
pub const BASE: &str = "/api/v1";

/// Every path there is. A path that is known answers other methods with 405, any other path with 404.
///
/// The stream stands outside of the traced scope: a span would live as long as the stream.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(at("/api/v1/queue/position/{event_id}/stream", "GET").route(web::get().to(queue::stream)))
        .service(web::scope("").wrap(TracingLogger::<Spans>::new()).configure(traced));
}

/// A path, and the methods it takes: others are told which.
fn at(path: &str, methods: &'static str) -> actix_web::Resource {
    web::resource(path)
        .default_service(web::to(move |request: HttpRequest| ready(error::method_not_allowed(&request, methods))))
}

fn traced(config: &mut ServiceConfig) {
    let api = |path: &str, methods| at(&format!("{BASE}{path}"), methods);
    config
        .service(api("/queue/join", "POST").route(web::post().to(queue::join)))
        .service(api("/queue/leave", "DELETE").route(web::delete().to(queue::leave)))
        .service(api("/queue/position/{event_id}", "GET").route(web::get().to(queue::position)))
        .service(api("/queue/status/{event_id}", "GET").route(web::get().to(queue::status)))
        .service(api("/bookings", "GET").route(web::get().to(bookings::list)))
        .service(api("/bookings/reserve", "POST").route(web::post().to(bookings::reserve)))
        .service(api("/bookings/summary", "GET").route(web::get().to(bookings::summary)))
        .service(
            api("/bookings/{id}", "GET, DELETE")
                .route(web::get().to(bookings::get))
                .route(web::delete().to(bookings::cancel)),
        )
        .service(api("/bookings/{id}/confirm", "POST").route(web::post().to(bookings::confirm)))
        .service(api("/events", "GET").route(web::get().to(events::list)))
        .service(api("/events/{id}", "GET").route(web::get().to(events::get)))
        .service(api("/events/{id}/availability", "GET").route(web::get().to(events::availability)))
        .service(api("/admin/events", "GET").route(web::get().to(admin::list)))
        .service(
            api("/admin/events/{id}", "GET, PUT, DELETE")
                .route(web::get().to(admin::get))
                .route(web::put().to(admin::put))
                .route(web::delete().to(admin::remove)),
        )
        .service(api("/admin/events/{id}/queue", "PATCH").route(web::patch().to(admin::patch)))
        .service(api("/admin/events/{id}/reset", "POST").route(web::post().to(admin::reset)))
        .service(api("/admin/inventory-status", "GET").route(web::get().to(admin::inventory)))
        .service(api("/admin/sync-inventory", "POST").route(web::post().to(admin::sync)))
        .service(api("/admin/audit", "GET").route(web::get().to(admin::audit)))
        .service(at("/health", "GET").route(web::get().to(health::health)))
        .service(at("/ready", "GET").route(web::get().to(health::ready)))
        .service(at("/metrics", "GET").route(web::get().to(health::metrics)))
        .service(at("/.well-known/jwks.json", "GET").route(web::get().to(health::jwks)))
        .service(at("/openapi.json", "GET").route(web::get().to(docs::document)))
        .service(at("/docs", "GET").route(web::get().to(docs::page)))
        .default_service(web::to(error::not_found));
}
