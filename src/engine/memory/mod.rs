//! The in-process engine: the reference model.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Claim, Claimed, Counters, Cursor, Engine, EngineError, EventRules, Followed, InForce, Joined, Leaving, LedgerNews,
    Left, NumberBlock, Numbers, Reclaim, Released, Result, SnapshotPage, Standing, StockChange, ZoneStock,
};
use crate::domain::present::Seen;
use crate::domain::{BookingId, EventId, Timestamp, VisitorId, ZoneKey};

mod feed;
mod line;
mod marks;
mod numbers;
mod passes;
mod presence;
mod state;
mod stock;

use state::EventState;

/// Keeps every event in process. Time comes from the `now` of each call alone, and nothing is kept on disk.
///
/// A batch is one critical section of its event; events do not wait for each other. No lock is held across an await.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    events: RwLock<HashMap<EventId, Mutex<EventState>>>,
    /// Events ever made: tells the feeds of an event that was removed and put again apart.
    made: AtomicU64,
}

impl MemoryEngine {
    /// An engine that knows no event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs one transition. A transition that panicked left its event readable: every step keeps the state whole.
    fn on<T>(&self, event: &EventId, transition: impl FnOnce(&mut EventState) -> T) -> Result<T> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let state = events.get(event).ok_or(EngineError::UnknownEvent)?;
        Ok(transition(&mut state.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn put_rules(&self, event: &EventId, rules: &EventRules, now: Timestamp) -> Result<InForce> {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Mutex::new(EventState::new(rules.clone(), self.made.fetch_add(1, Ordering::Relaxed), now));
        let state = events.entry(event.clone()).or_insert_with(new);
        let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.put_rules(rules, now);
        Ok(state.in_force())
    }

    async fn grant_numbers(
        &self,
        event: &EventId,
        block: NumberBlock,
        recovery: Duration,
        now: Timestamp,
    ) -> Result<Numbers> {
        self.on(event, |state| {
            state.grant(block, recovery, now);
            state.numbers()
        })
    }

    async fn remove(&self, event: &EventId) -> Result<()> {
        self.events.write().unwrap_or_else(PoisonError::into_inner).remove(event);
        Ok(())
    }

    async fn join(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Joined>> {
        self.on(event, |state| visitors.iter().map(|visitor| state.join(visitor, now)).collect())
    }

    async fn locate(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Standing>> {
        self.on(event, |state| visitors.iter().map(|visitor| state.locate(visitor, now)).collect())
    }

    async fn reclaim(&self, event: &EventId, places: &[Reclaim], now: Timestamp) -> Result<Vec<Standing>> {
        self.on(event, |state| places.iter().map(|place| state.reclaim(place, now)).collect())
    }

    async fn see(&self, event: &EventId, seen: &[Seen], lasted: Duration, now: Timestamp) -> Result<()> {
        self.on(event, |state| state.see(seen, lasted, now))
    }

    async fn leave(&self, event: &EventId, leaving: &[Leaving], now: Timestamp) -> Result<Vec<Left>> {
        self.on(event, |state| leaving.iter().map(|one| state.leave(one, now)).collect())
    }

    async fn release(&self, event: &EventId, since: Option<Duration>, now: Timestamp) -> Result<Released> {
        self.on(event, |state| state.release(since, now))
    }

    async fn follow(&self, event: &EventId, cursor: Option<Cursor>, now: Timestamp) -> Result<Followed> {
        self.on(event, |state| state.follow(cursor, now))
    }

    async fn snapshot(&self, event: &EventId, from: u64) -> Result<SnapshotPage> {
        self.on(event, |state| state.snapshot(from))
    }

    async fn counters(&self, event: &EventId, now: Timestamp) -> Result<Counters> {
        self.on(event, |state| state.counters(now))
    }

    async fn claim(&self, event: &EventId, claims: &[Claim], now: Timestamp) -> Result<Vec<Claimed>> {
        self.on(event, |state| claims.iter().map(|claim| state.claim(claim, now)).collect())
    }

    async fn observe(&self, event: &EventId, news: &LedgerNews, _now: Timestamp) -> Result<Vec<StockChange>> {
        self.on(event, |state| state.observe(news))
    }

    async fn stale_holds(&self, event: &EventId, now: Timestamp) -> Result<Vec<BookingId>> {
        self.on(event, |state| state.stock.stale(now))
    }

    async fn stock(&self, event: &EventId) -> Result<Vec<ZoneStock>> {
        self.on(event, |state| state.stock.all())
    }

    async fn retain_zones(&self, event: &EventId, keep: &[ZoneKey]) -> Result<()> {
        self.on(event, |state| state.stock.retain(keep))
    }

    fn is_in_process(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
