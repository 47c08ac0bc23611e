//! Lets visitors in. Leaderless: every instance runs this loop against the same engine, and the token bucket inside the
//! engine's transition keeps the rate, however many instances there are and whichever of them die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalogue::{Catalogue, LiveEvent, each, engine_problem};
use crate::domain::{Problem, Timestamp};
use crate::engine::{Engine, EngineError, RELEASE_BATCH};
use crate::metrics::Metrics;

/// Most calls for one event in one step: bounds a step at any rate.
const ROUNDS: u32 = 50;
/// An event with nobody waiting is looked at this often.
const IDLE: Duration = Duration::from_secs(1);

/// The release service.
pub struct Releaser {
    engine: Arc<dyn Engine>,
    catalogue: Arc<Catalogue>,
    metrics: Arc<Metrics>,
}

impl Releaser {
    /// A releaser for the catalogue's events.
    pub fn new(engine: Arc<dyn Engine>, catalogue: Arc<Catalogue>, metrics: Arc<Metrics>) -> Self {
        Self { engine, catalogue, metrics }
    }

    /// One step: releases every event that is due. A failure of one event does not hold up the others. While the ledger is
    /// away nobody is let in either: their passes would run out before they could book.
    pub async fn tick(&self, now: Timestamp) {
        if self.catalogue.is_away() {
            self.metrics.release_failures.inc();
            return;
        }
        let due = self.catalogue.all().into_iter().filter(|live| live.line.is_due(now, IDLE));
        each(due, |live| async move {
            if let Err(problem) = self.release(&live, now).await {
                self.metrics.release_failures.inc();
                if live.may_complain(now) {
                    tracing::warn!(event_id = %live.event.id, error = %problem, cause = ?problem.cause, "nobody is let in for now");
                }
            }
        })
        .await;
    }

    async fn release(&self, live: &LiveEvent, now: Timestamp) -> Result<(), Problem> {
        let id = &live.event.id;
        for _ in 0..ROUNDS {
            let asked = Instant::now();
            let released = match self.engine.release(id, live.line.since_release(asked), now).await {
                Ok(released) => released,
                Err(EngineError::UnknownEvent) => return self.catalogue.restore(id, now).await,
                Err(error) => return Err(engine_problem(error)),
            };
            // The store is older than the rules, or gave its numbers up: then the inventory is old too.
            if released.counters.version < live.event.version || released.counters.numbers.left == 0 {
                return self.catalogue.restore(id, now).await;
            }
            self.metrics.admitted.inc_by(released.admitted.into());
            self.metrics.parked.inc_by(released.parked.into());
            live.line.released(released.counters, now);
            live.line.release_asked(asked);
            self.catalogue.top_up_numbers(&live.event, released.counters.numbers, now).await?;
            if released.admitted + released.parked < RELEASE_BATCH {
                break;
            }
        }
        Ok(())
    }
}
