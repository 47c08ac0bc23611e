//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, web};

use super::address::Proxies;
use super::connections::Connections;
use super::error::HttpProblem;
use super::limits::Limits;
use crate::admin::Admin;
use crate::booking::Bookings;
use crate::catalogue::Catalogue;
use crate::domain::{Clock, Problem};
use crate::engine::Engine;
use crate::follow::Follower;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::pass::{AdminToken, PassKey, TicketKey, VisitorKey};
use crate::push::Streams;
use crate::queue::Queue;

/// How callers are known.
pub struct Callers {
    /// Checks user tokens, if there is a key for them.
    pub visitor_key: Option<VisitorKey>,
    /// The header of a gateway that has authenticated the visitor, if one is trusted.
    pub trusted_header: Option<HeaderName>,
    /// Whether a visitor without a token may call.
    pub anonymous_allowed: bool,
}

/// What the handlers share: one for each instance, built where the application is wired.
pub struct State {
    /// Whether the service is going down, and no balancer should send new requests.
    pub draining: Arc<AtomicBool>,
    /// Those that are open.
    pub connections: Arc<Connections>,
    /// The line.
    pub queue: Arc<Queue>,
    /// Reservations.
    pub bookings: Arc<Bookings>,
    /// Operators.
    pub admin: Admin,
    /// Events.
    pub catalogue: Arc<Catalogue>,
    /// Pushes.
    pub streams: Arc<Streams>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How old what is known of the lines is, for readiness.
    pub follower: Arc<Follower>,
    /// The queue's store, for readiness.
    pub engine: Arc<dyn Engine>,
    /// The ledger, for readiness.
    pub ledger: Arc<dyn Ledger>,
    /// Tickets.
    pub tickets: Arc<TicketKey>,
    /// Passes.
    pub passes: Arc<PassKey>,
    /// How callers are known.
    pub callers: Callers,
    /// The operators' token.
    pub admin_token: AdminToken,
    /// Rate limits.
    pub limits: Limits,
    /// Proxies whose word on the client's address is taken.
    pub proxies: Proxies,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Most bytes of a body.
    pub max_body_bytes: usize,
    /// Whether cookies are for https only.
    pub cookie_secure: bool,
}

impl State {
    /// What the handler of this request shares, for extractors.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` where the server was wired without it.
    pub fn of(request: &HttpRequest) -> Result<&Self, HttpProblem> {
        let state = request.app_data::<web::Data<Self>>();
        state.map(|state| &***state).ok_or_else(|| Problem::internal("no state").into())
    }
}
