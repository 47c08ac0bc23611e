//! What the cases hold on to: an engine, an event of their own, and short words for the calls.

use std::sync::Arc;
use std::time::Duration;

use usher::domain::{BookingId, EventId, QueuePolicy, QueueState, Timestamp, VisitorId, ZoneKey};
use usher::engine::memory::MemoryEngine;
use usher::engine::redis::{ClockSource, RedisEngine, RedisSettings};
use usher::engine::{
    Admission, BuyerTally, Claim, Claimed, ClaimedPass, Counters, Engine, EventRules, Joined, Leaving, LedgerNews,
    Left, NumberBlock, Place, Reclaim, Released, Standing, StockChange, Tally, ZoneTally,
};

use crate::support::redis::{fresh_prefix, shared};

/// An engine and an event.
#[derive(Clone)]
pub struct Rig {
    pub engine: Arc<dyn Engine>,
    pub event: EventId,
}

/// How long nobody is let in after a store lost its line.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// What the ticket of a visitor says who joined at the second of their number.
pub fn proof(visitor: usize, number: u64) -> Reclaim {
    Reclaim { visitor: v(visitor), number, joined_at: at(number as f64 / 10.0) }
}

/// `seconds` after the start of all cases.
pub fn at(seconds: f64) -> Timestamp {
    let start = Timestamp::from_seconds(1_800_000_000);
    if seconds < 0.0 {
        start.minus(Duration::from_secs_f64(-seconds))
    } else {
        start.plus(Duration::from_secs_f64(seconds))
    }
}

/// Visitor `n`.
pub fn v(n: usize) -> VisitorId {
    VisitorId::parse(&format!("v{n}")).expect("an id")
}

/// Booking `n`.
pub fn b(n: usize) -> BookingId {
    BookingId::parse(&format!("b{n}")).expect("an id")
}

/// Zone `n`.
pub fn z(n: usize) -> ZoneKey {
    ZoneKey::parse(&format!("show/z{n}")).expect("a zone")
}

/// An open queue that lets a hundred a second in, with passes for a minute.
pub fn policy() -> QueuePolicy {
    QueuePolicy { admit_per_minute: 6_000, pass_ttl_seconds: 60, max_per_user: 0, ..QueuePolicy::default() }
}

/// Rules with no floor.
pub fn rules(version: i64, policy: QueuePolicy) -> EventRules {
    EventRules { version, policy, number_floor: 0 }
}

/// The same, in another state.
pub fn in_state(state: QueueState) -> QueuePolicy {
    QueuePolicy { state, ..policy() }
}

impl Rig {
    /// On the reference model.
    pub fn memory() -> Self {
        Self::of(Arc::new(MemoryEngine::new()))
    }

    /// On the shared server, by the caller's clock.
    pub fn redis() -> Self {
        Self::of(Arc::new(RedisEngine::new(&settings(ClockSource::Caller)).expect("an engine")))
    }

    pub fn of(engine: Arc<dyn Engine>) -> Self {
        Self { engine, event: EventId::parse("event:1").expect("an id") }
    }

    /// Puts rules in force at the start, and grants a million numbers from 1.
    pub async fn open(&self, policy: QueuePolicy) {
        self.rules(1, policy, 0.0).await;
        self.grant(1, 1_000_001).await;
    }

    pub async fn rules(&self, version: i64, policy: QueuePolicy, seconds: f64) {
        self.engine.put_rules(&self.event, &rules(version, policy), at(seconds)).await.expect("rules");
    }

    pub async fn grant(&self, start: u64, end: u64) -> u64 {
        self.engine.grant_numbers(&self.event, NumberBlock { start, end }, RECOVERY, at(0.0)).await.expect("grant").left
    }

    pub async fn join_all(&self, visitors: impl IntoIterator<Item = usize>, seconds: f64) -> Vec<Joined> {
        let visitors: Vec<_> = visitors.into_iter().map(v).collect();
        self.engine.join(&self.event, &visitors, at(seconds)).await.expect("join")
    }

    pub async fn join(&self, visitor: usize, seconds: f64) -> Joined {
        self.join_all([visitor], seconds).await[0]
    }

    /// Joins and expects a new place.
    pub async fn joined(&self, visitor: usize, seconds: f64) -> Place {
        match self.join(visitor, seconds).await {
            Joined::New(place) => place,
            other => panic!("v{visitor} has no new place: {other:?}"),
        }
    }

    pub async fn locate(&self, visitor: usize, seconds: f64) -> Standing {
        self.engine.locate(&self.event, &[v(visitor)], at(seconds)).await.expect("locate")[0]
    }

    /// The pass of an admitted visitor.
    pub async fn pass(&self, visitor: usize, seconds: f64) -> Admission {
        match self.locate(visitor, seconds).await {
            Standing::Admitted(admission) => admission,
            other => panic!("v{visitor} is not admitted: {other:?}"),
        }
    }

    pub async fn leave(&self, visitor: usize, number: u64, seconds: f64) -> Left {
        let leaving = [Leaving { visitor: v(visitor), number }];
        self.engine.leave(&self.event, &leaving, at(seconds)).await.expect("leave")[0]
    }

    pub async fn release(&self, seconds: f64) -> Released {
        self.engine.release(&self.event, None, at(seconds)).await.expect("release")
    }

    /// A release by somebody whose last one was `since` seconds ago.
    pub async fn release_since(&self, since: f64, seconds: f64) -> Released {
        let since = Some(Duration::from_secs_f64(since));
        self.engine.release(&self.event, since, at(seconds)).await.expect("release")
    }

    pub async fn counters(&self, seconds: f64) -> Counters {
        self.engine.counters(&self.event, at(seconds)).await.expect("counters")
    }

    /// Visitor `n` joins and is let in a second later.
    pub async fn admit(&self, visitor: usize, seconds: f64) -> Admission {
        self.joined(visitor, seconds).await;
        self.release(seconds + 1.0).await;
        self.pass(visitor, seconds + 1.0).await
    }

    /// Puts a zone in the inventory.
    pub async fn zone(&self, zone: usize, capacity: u32, taken: u32, version: i64) -> Vec<StockChange> {
        self.observe(LedgerNews { zones: vec![tally(zone, capacity, taken, version)], ..LedgerNews::default() }).await
    }

    pub async fn observe(&self, news: LedgerNews) -> Vec<StockChange> {
        self.engine.observe(&self.event, &news, at(0.0)).await.expect("observe")
    }

    pub async fn settle(&self, booking: usize) -> Vec<StockChange> {
        self.observe(LedgerNews { settled: vec![b(booking)], ..LedgerNews::default() }).await
    }

    pub async fn undo(&self, booking: usize) -> Vec<StockChange> {
        self.observe(LedgerNews { undone: vec![b(booking)], ..LedgerNews::default() }).await
    }

    pub async fn claim(&self, claim: Claim, seconds: f64) -> Claimed {
        self.engine.claim(&self.event, &[claim], at(seconds)).await.expect("claim")[0]
    }

    /// Seats available in a zone.
    pub async fn available(&self, zone: usize) -> u32 {
        let stock = self.engine.stock(&self.event).await.expect("stock");
        stock.iter().find(|stock| stock.zone == z(zone)).expect("a known zone").available()
    }
}

/// Settings for the shared server, with keys of their own.
pub fn settings(clock: ClockSource) -> RedisSettings {
    let response_timeout = Duration::from_secs(10); // the machine may be busy with the other tests
    let connect_timeout = Duration::from_secs(10);
    let prefix = fresh_prefix();
    RedisSettings {
        prefix,
        clock,
        pool_size: 4,
        response_timeout,
        connect_timeout,
        ..RedisSettings::new(shared().url())
    }
}

/// A claim of seats in zone 1.
pub fn claim(booking: usize, visitor: usize, pass: Option<Admission>, quantity: u32) -> Claim {
    let pass =
        pass.map(|Admission { number, admitted_at, expires_at }| ClaimedPass { number, admitted_at, expires_at });
    Claim { booking: b(booking), visitor: v(visitor), pass, zone: z(1), quantity }
}

pub fn tally(zone: usize, capacity: u32, taken: u32, version: i64) -> ZoneTally {
    ZoneTally { zone: z(zone), capacity, tally: Tally { taken, version } }
}

pub fn buyer(visitor: usize, taken: u32, version: i64) -> BuyerTally {
    BuyerTally { visitor: v(visitor), tally: Tally { taken, version } }
}

pub fn change(zone: usize, before: Option<u32>, after: u32) -> StockChange {
    StockChange { zone: z(zone), before, after }
}
