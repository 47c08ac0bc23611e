//! Health, readiness, metrics and the keys of the passes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::error::Answer;
use super::state::State;
use crate::domain::{Code, Problem};

/// How long readiness waits for a store.
const PATIENCE: Duration = Duration::from_millis(800);
/// How old what is known of a line may be.
const FOLLOWED: Duration = Duration::from_secs(5);

/// Whether the process is up.
#[utoipa::path(get, path = "/health", tag = "Health",
    responses((status = 200, description = "The process is up", body = serde_json::Value)))]
pub async fn health() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Whether the stores answer and the lines are followed. Read-only.
#[utoipa::path(get, path = "/ready", tag = "Health",
    responses((status = 200, description = "The stores answer", body = serde_json::Value),
        (status = 503, description = "STORE_UNAVAILABLE, or going down", body = super::error::ProblemBody, content_type = "application/problem+json")))]
pub async fn ready(state: web::Data<State>) -> Answer<HttpResponse> {
    if state.draining.load(Ordering::Relaxed) {
        let detail = "This instance is going down: send new requests to another one.";
        return Err(Problem::new(Code::StoreUnavailable, detail).into());
    }
    let (queue, ledger) = tokio::join!(
        tokio::time::timeout(PATIENCE, state.engine.ping()),
        tokio::time::timeout(PATIENCE, state.ledger.ping())
    );
    let feed = if state.follower.age() <= FOLLOWED { Ok(()) } else { Err("not heard of for too long".to_owned()) };
    let looks = [("queue", said(queue)), ("feed", feed), ("ledger", said(ledger))];
    for (store, look) in &looks {
        state.metrics.store_up.with_label_values(&[store]).set(look.is_ok().into());
    }
    let (down, causes): (Vec<_>, Vec<_>) =
        looks.into_iter().filter_map(|(store, look)| Some((store, format!("{store}: {}", look.err()?)))).unzip();
    if down.is_empty() {
        return Ok(HttpResponse::Ok()
            .json(serde_json::json!({ "status": "ready", "queue": "up", "feed": "up", "ledger": "up" })));
    }
    let detail =
        format!("Away, or refusing: {}. Take this instance out of the balance until they are well.", down.join(", "));
    Err(Problem { detail, ..Problem::unavailable(causes.join("; ")) }.into())
}

/// What a store said to a look at it, in words.
fn said<E: std::fmt::Display>(look: Result<Result<(), E>, tokio::time::error::Elapsed>) -> Result<(), String> {
    match look {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Metrics in the Prometheus text form.
#[utoipa::path(get, path = "/metrics", tag = "Health",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain")))]
pub async fn metrics(state: web::Data<State>) -> Answer<HttpResponse> {
    let events = state.catalogue.all();
    let lines = events.iter().filter_map(|live| {
        let (counters, _) = live.line.latest()?;
        Some((live.event.id.as_str(), counters.waiting, counters.active))
    });
    state.metrics.connections.set(i64::try_from(state.connections.count()).unwrap_or(i64::MAX));
    state.metrics.feed_age.set(state.follower.age().as_secs_f64());
    let text = state.metrics.render(lines).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

/// The public keys that passes are signed with, for verifiers elsewhere.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Health",
    responses((status = 200, description = "A JWK set; empty with a shared secret", body = serde_json::Value)))]
pub async fn jwks(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=300")).json(state.passes.jwks())
}
