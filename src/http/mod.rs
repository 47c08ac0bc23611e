//! The HTTP door: thin handlers that extract, call one service and map the answer.

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
    let stream = web::resource(format!("{BASE}/queue/position/{{event_id}}/stream"));
    config
        .service(stream.route(web::get().to(queue::stream)).default_service(web::to(error::method_not_allowed)))
        .service(web::scope("").wrap(TracingLogger::<Spans>::new()).configure(traced));
}

fn traced(config: &mut ServiceConfig) {
    let at = |path: &str| web::resource(path).default_service(web::to(error::method_not_allowed));
    let api = |path: &str| web::resource(format!("{BASE}{path}")).default_service(web::to(error::method_not_allowed));
    config
        .service(api("/queue/join").route(web::post().to(queue::join)))
        .service(api("/queue/leave").route(web::delete().to(queue::leave)))
        .service(api("/queue/position/{event_id}").route(web::get().to(queue::position)))
        .service(api("/queue/status/{event_id}").route(web::get().to(queue::status)))
        .service(api("/bookings").route(web::get().to(bookings::list)))
        .service(api("/bookings/reserve").route(web::post().to(bookings::reserve)))
        .service(api("/bookings/summary").route(web::get().to(bookings::summary)))
        .service(api("/bookings/{id}").route(web::get().to(bookings::get)).route(web::delete().to(bookings::cancel)))
        .service(api("/bookings/{id}/confirm").route(web::post().to(bookings::confirm)))
        .service(api("/events").route(web::get().to(events::list)))
        .service(api("/events/{id}").route(web::get().to(events::get)))
        .service(api("/events/{id}/availability").route(web::get().to(events::availability)))
        .service(api("/admin/events").route(web::get().to(admin::list)))
        .service(
            api("/admin/events/{id}")
                .route(web::get().to(admin::get))
                .route(web::put().to(admin::put))
                .route(web::delete().to(admin::remove)),
        )
        .service(api("/admin/events/{id}/queue").route(web::patch().to(admin::patch)))
        .service(api("/admin/events/{id}/reset").route(web::post().to(admin::reset)))
        .service(api("/admin/inventory-status").route(web::get().to(admin::inventory)))
        .service(api("/admin/sync-inventory").route(web::post().to(admin::sync)))
        .service(api("/admin/audit").route(web::get().to(admin::audit)))
        .service(at("/health").route(web::get().to(health::health)))
        .service(at("/ready").route(web::get().to(health::ready)))
        .service(at("/metrics").route(web::get().to(health::metrics)))
        .service(at("/.well-known/jwks.json").route(web::get().to(health::jwks)))
        .service(at("/openapi.json").route(web::get().to(docs::document)))
        .service(at("/docs").route(web::get().to(docs::page)))
        .default_service(web::to(error::not_found));
}
