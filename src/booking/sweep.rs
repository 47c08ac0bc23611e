//! What time does to bookings: reservations run out, holds whose reservation died are cleared up, old answers are deleted,
//! and now and then the fast inventory is compared with the ledger.

use std::collections::HashSet;
use std::sync::Arc;

use super::Bookings;
use crate::catalogue::{LiveEvent, engine_problem, ledger_problem};
use crate::domain::{BookingId, EventId, Problem, Timestamp};
use crate::engine::{EngineError, LedgerNews};

/// Reservations in one sweep's transaction.
const SWEEP: u32 = 200;
/// Most transactions in one step.
const ROUNDS: u32 = 20;
/// Steps between two comparisons of the fast inventory with the ledger.
const STEPS_PER_SYNC: u64 = 30;

/// The background side of the booking service.
pub struct Sweeper(Arc<Bookings>, std::sync::atomic::AtomicU64);

impl Sweeper {
    /// A sweeper for the service's stores. Every instance runs one; they do not get in each other's way.
    pub fn new(bookings: Arc<Bookings>) -> Self {
        Self(bookings, 0.into())
    }

    /// One step, meant to run once a second.
    pub async fn tick(&self, now: Timestamp) {
        // Every part of it needs both stores, if only to tell one what the other said.
        if self.0.catalogue.is_away() {
            return;
        }
        let step = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let report = |what: &str, done: Result<(), Problem>| {
            if let Err(problem) = done {
                tracing::warn!(what, error = %problem, cause = ?problem.cause, "a sweep failed; the next one tries again");
            }
        };
        report("expired reservations", self.expire(now).await);
        report("old answers", self.purge(now).await);
        self.0.doubts.retain(|event| self.0.catalogue.find(event).is_ok());
        for live in self.0.catalogue.all() {
            report("holds in doubt", self.holds_in_doubt(&live, now).await);
            report("stale holds", self.stale_holds(&live, now).await);
            if step % STEPS_PER_SYNC == STEPS_PER_SYNC - 1 {
                report("inventory", self.0.catalogue.sync_stock(&live.event, now).await.map(drop));
            }
        }
    }

    async fn expire(&self, now: Timestamp) -> Result<(), Problem> {
        for _ in 0..ROUNDS {
            let expired = self.0.ledger.expire_due(now, SWEEP).await.map_err(ledger_problem)?;
            let last = expired.len() < SWEEP as usize;
            self.0.metrics.expired.inc_by(expired.len() as u64);
            for returned in expired {
                self.0.teller.counts(&returned.booking.event, returned.zone, returned.buyer).await;
            }
            if last {
                break;
            }
        }
        Ok(())
    }

    async fn purge(&self, now: Timestamp) -> Result<(), Problem> {
        for _ in 0..ROUNDS {
            if self.0.ledger.purge_answers(now, 1_000).await.map_err(ledger_problem)? < 1_000 {
                break;
            }
        }
        Ok(())
    }

    /// Holds of reservations that a store left without an answer.
    async fn holds_in_doubt(&self, live: &LiveEvent, now: Timestamp) -> Result<(), Problem> {
        let event = &live.event.id;
        let doubtful = self.0.doubts.take(event);
        let cleared = self.clear(event, &doubtful, now).await;
        if cleared.is_err() {
            for booking in doubtful {
                self.0.doubts.note(event, booking);
            }
        }
        cleared
    }

    /// Holds that waited too long.
    async fn stale_holds(&self, live: &LiveEvent, now: Timestamp) -> Result<(), Problem> {
        let event = &live.event.id;
        match self.0.engine.stale_holds(event, now).await {
            Ok(stale) => self.clear(event, &stale, now).await,
            Err(EngineError::UnknownEvent) => Ok(()),
            Err(error) => Err(engine_problem(error)),
        }
    }

    /// Ends holds: the ledger says which became bookings; the others are undone.
    async fn clear(&self, event: &EventId, holds: &[BookingId], now: Timestamp) -> Result<(), Problem> {
        if holds.is_empty() {
            return Ok(());
        }
        let there: HashSet<_> = self.0.ledger.existing(holds).await.map_err(ledger_problem)?.into_iter().collect();
        let (settled, undone) = holds.iter().cloned().partition(|id| there.contains(id));
        let zones = self.0.ledger.zones(event).await.map_err(ledger_problem)?;
        let news = LedgerNews { settled, undone, zones, ..LedgerNews::default() };
        tracing::warn!(event_id = %event, settled = news.settled.len(), undone = news.undone.len(), "cleared up stale holds");
        match self.0.engine.observe(event, &news, now).await {
            // The store came back empty: the holds are gone with the rest.
            Ok(_) | Err(EngineError::UnknownEvent) => Ok(()),
            Err(error) => Err(engine_problem(error)),
        }
    }
}
