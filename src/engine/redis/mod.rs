//! The engine on Redis: one Lua script a transition, on keys that share the event as their hash tag.
//!
//! A script that timed out may still have run; every method may be called again. Batches above [`MAX_BATCH`] are split
//! into several calls, each a transition of its own. Numbers, versions and times must stay below 2^53.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::{
    Claim, Claimed, Counters, Cursor, ENDED_TTL, Engine, EngineError, EventRules, Followed, HOLD_TTL, InForce, Joined,
    Leaving, LedgerNews, Left, MAX_BATCH, NumberBlock, Numbers, PLACE_TTL, RELEASE_BATCH, Reclaim, Released, Result,
    SNAPSHOT_PAGE, SnapshotPage, Standing, StockChange, ZoneStock,
};
use crate::circuit::Circuit;
use crate::domain::present::{Change, Seen};
use crate::domain::{BookingId, EventId, Timestamp, VisitorId, ZoneKey};

mod check;
mod feed;
pub mod keys;
mod news;
mod pool;
mod refusal;
mod reply;
pub mod scripts;
mod source;

pub use check::UnfitStore;
use pool::Argument;
use pool::Argument::{Int, Run, Text};
use scripts::Script;

/// Whose clock the scripts go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockSource {
    /// The store's: one clock for all instances. The `now` of each call is not looked at.
    Store,
    /// The caller's `now`: for one instance alone, and for tests.
    Caller,
}

/// What the URLs of a store lead to.
#[derive(Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels, who say which server is the master. User, password, database and TLS of the first URL are the master's.
    Sentinel {
        /// The name that the Sentinels know the master by.
        master: String,
        /// The password of the Sentinels themselves, if they have one. Never shown.
        password: Option<String>,
    },
    /// Nodes of a Cluster; it need not be all of them.
    Cluster,
}

/// How to reach the store.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`, with user, password and database where needed. Never shown.
    pub url: String,
    /// The other Sentinels, or nodes of the Cluster. Never shown.
    pub others: Vec<String>,
    /// What the URLs lead to.
    pub topology: Topology,
    /// What all keys start with: letters, digits, `-`, `_` and `.`.
    pub prefix: String,
    /// Most connections at a time.
    pub pool_size: u32,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// Whose clock counts.
    pub clock: ClockSource,
}

impl RedisSettings {
    /// The usual settings for a store: prefix `usher`, 16 connections, 1 s for an answer and to connect, the store's clock.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            others: Vec::new(),
            topology: Topology::Single,
            prefix: "usher".into(),
            pool_size: 16,
            response_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            clock: ClockSource::Store,
        }
    }
}

/// Leaves the URL out: it may carry a password.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, others: _, topology: _, prefix, pool_size, response_timeout, connect_timeout, clock } = self;
        f.debug_struct("RedisSettings")
            .field("prefix", prefix)
            .field("pool_size", pool_size)
            .field("response_timeout", response_timeout)
            .field("connect_timeout", connect_timeout)
            .field("clock", clock)
            .finish_non_exhaustive()
    }
}

/// Keeps every event on a Redis server that any number of instances may share.
pub struct RedisEngine {
    pool: pool::Pool,
    prefix: String,
    clock: ClockSource,
    /// The highest number of each event that this instance knows to be handed out: a store that has not come to it is old.
    known: RwLock<HashMap<EventId, u64>>,
}

impl fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool: _, prefix, clock, known: _ } = self;
        f.debug_struct("RedisEngine").field("prefix", prefix).field("clock", clock).finish_non_exhaustive()
    }
}

impl RedisEngine {
    /// An engine that opens connections as it needs them: the store need not be up yet. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the URL cannot be read or the prefix has other characters than
    /// [`RedisSettings::prefix`] says.
    pub fn new(settings: &RedisSettings) -> Result<Self> {
        let prefix = settings.prefix.clone();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if prefix.is_empty() || !prefix.bytes().all(plain) {
            return Err(EngineError::Unavailable("the key prefix must be of letters, digits, - _ and .".into()));
        }
        Ok(Self { pool: pool::pool(settings)?, prefix, clock: settings.clock, known: RwLock::default() })
    }

    fn known(&self, event: &EventId) -> u64 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(event).copied().unwrap_or(0)
    }

    fn know(&self, event: &EventId, numbers: impl Iterator<Item = u64>) {
        let highest = numbers.max().unwrap_or(0);
        if highest > self.known(event) {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let number = known.entry(event.clone()).or_default();
            *number = highest.max(*number);
        }
    }

    /// The circuit to the store.
    pub const fn circuit(&self) -> &Arc<Circuit> {
        self.pool.circuit()
    }

    /// The argument that tells a script the time.
    fn time(&self, now: Timestamp) -> Argument<'static> {
        match self.clock {
            ClockSource::Store => Text(""),
            ClockSource::Caller => Int(now.micros()),
        }
    }

    fn keys(&self, event: &EventId, script: &Script) -> Vec<String> {
        script.keys.iter().map(|key| key.of(&self.prefix, event)).collect()
    }

    /// Runs a script once; returns the reply behind its status.
    async fn run(&self, script: &Script, event: &EventId, arguments: &[Argument<'_>]) -> Result<Vec<Value>> {
        let keys = self.keys(event, script);
        let mut connection = pool::borrow(&self.pool).await?;
        reply::body(connection.run(script, &keys, arguments).await?)
    }

    /// Runs a script over a batch, [`MAX_BATCH`] items a call, on one connection. `head` comes first in each call; each
    /// item adds its own arguments and gets `size` values of the reply. A batch of nothing still asks for the event.
    async fn run_batch<'a, I: Sync, T>(
        &self,
        (script, event, head): (&Script, &EventId, &[Argument<'a>]),
        items: &'a [I],
        arguments: impl Fn(&'a I, &mut Vec<Argument<'a>>) + Send + Sync,
        size: usize,
        read: fn(&[Value]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let keys = self.keys(event, script);
        let mut connection = pool::borrow(&self.pool).await?;
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items;
        loop {
            let (batch, after) = rest.split_at(rest.len().min(MAX_BATCH));
            let mut call = head.to_vec();
            for item in batch {
                arguments(item, &mut call);
            }
            let values = reply::body(connection.run(script, &keys, &call).await?)?;
            answers.extend(reply::each(&values, size, batch.len(), read)?);
            if after.is_empty() {
                return Ok(answers);
            }
            rest = after;
        }
    }
}

/// A length of time in microseconds.
fn micros(span: Duration) -> Argument<'static> {
    Int(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// A number that the ledger handed out; those stay far below 2^53.
fn number(number: u64) -> Argument<'static> {
    Int(i64::try_from(number).unwrap_or(i64::MAX))
}

#[async_trait]
impl Engine for RedisEngine {
    async fn put_rules(&self, event: &EventId, rules: &EventRules, now: Timestamp) -> Result<InForce> {
        let policy = &rules.policy;
        let arguments = [
            self.time(now),
            Run,
            Int(rules.version),
            number(rules.number_floor),
            Int(policy.admit_per_minute.into()),
            Int(policy.max_active.into()),
            micros(Duration::from_secs(policy.pass_ttl_seconds.into())),
            Int(policy.max_queue.into()),
            Int(policy.max_per_user.into()),
            Text(policy.state.as_str()),
            policy.opens_at.map_or(Text(""), |at| Int(at.micros())),
            micros(Duration::from_secs(policy.presence_seconds.into())),
        ];
        reply::in_force(&self.run(&scripts::PUT_RULES, event, &arguments).await?)
    }

    async fn grant_numbers(
        &self,
        event: &EventId,
        block: NumberBlock,
        recovery: Duration,
        now: Timestamp,
    ) -> Result<Numbers> {
        let arguments = [self.time(now), Run, micros(recovery), number(block.start), number(block.end)];
        reply::numbers(&self.run(&scripts::GRANT_NUMBERS, event, &arguments).await?)
    }

    async fn remove(&self, event: &EventId) -> Result<()> {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(event);
        self.run(&scripts::REMOVE, event, &[]).await.map(drop)
    }

    async fn join(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Joined>> {
        let call = (&scripts::JOIN, event, &[self.time(now), Run, number(self.known(event))][..]);
        let joined =
            self.run_batch(call, visitors, |visitor, call| call.push(Text(visitor.as_str())), 4, reply::joined).await?;
        self.know(
            event,
            joined.iter().filter_map(|joined| if let Joined::New(place) = joined { Some(place.number) } else { None }),
        );
        Ok(joined)
    }

    async fn reclaim(&self, event: &EventId, places: &[Reclaim], now: Timestamp) -> Result<Vec<Standing>> {
        let call = (&scripts::RECLAIM, event, &[self.time(now), Run, micros(PLACE_TTL)][..]);
        self.run_batch(call, places, news::reclaim_arguments, 4, reply::standing).await
    }

    async fn locate(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Standing>> {
        let call = (&scripts::LOCATE, event, &[self.time(now)][..]);
        self.run_batch(call, visitors, |visitor, call| call.push(Text(visitor.as_str())), 4, reply::standing).await
    }

    async fn see(&self, event: &EventId, seen: &[Seen], lasted: Duration, now: Timestamp) -> Result<()> {
        let mut arguments = vec![self.time(now), micros(lasted)];
        for (block, words) in seen {
            arguments.push(number(*block));
            arguments.push(Argument::Bytes(words.iter().flat_map(|word| word.to_le_bytes()).collect()));
        }
        self.run(&scripts::SEE, event, &arguments).await.map(drop)
    }

    async fn leave(&self, event: &EventId, leaving: &[Leaving], now: Timestamp) -> Result<Vec<Left>> {
        let call = (&scripts::LEAVE, event, &[self.time(now), micros(ENDED_TTL)][..]);
        self.run_batch(call, leaving, news::leaving_arguments, 1, reply::left).await
    }

    async fn release(&self, event: &EventId, since: Option<Duration>, now: Timestamp) -> Result<Released> {
        let (now, batch) = (self.time(now), Int(RELEASE_BATCH.into()));
        let sweep = [now.clone(), batch.clone(), micros(ENDED_TTL), micros(PLACE_TTL)];
        self.run(&scripts::SWEEP, event, &sweep).await?;
        reply::released(&self.run(&scripts::RELEASE, event, &[now, Run, batch, since.map_or(Text(""), micros)]).await?)
    }

    async fn follow(&self, event: &EventId, cursor: Option<Cursor>, now: Timestamp) -> Result<Followed> {
        let cursor = cursor.map_or(Text(""), |cursor| Argument::Built(feed::step(cursor)));
        let values = self.run(&scripts::FOLLOW, event, &[self.time(now), cursor, Int(feed::STEPS)]).await?;
        let followed = feed::followed(&values)?;
        self.know(event, followed.changes.iter().flatten().filter_map(Change::last_joined));
        Ok(followed)
    }

    async fn snapshot(&self, event: &EventId, from: u64) -> Result<SnapshotPage> {
        let most = Int(i64::try_from(SNAPSHOT_PAGE).unwrap_or(i64::MAX));
        feed::page(&self.run(&scripts::SNAPSHOT, event, &[number(from), most]).await?)
    }

    async fn counters(&self, event: &EventId, now: Timestamp) -> Result<Counters> {
        reply::counters(&self.run(&scripts::COUNTERS, event, &[self.time(now)]).await?)
    }

    async fn claim(&self, event: &EventId, claims: &[Claim], now: Timestamp) -> Result<Vec<Claimed>> {
        let call = (&scripts::CLAIM, event, &[self.time(now), micros(HOLD_TTL)][..]);
        self.run_batch(call, claims, news::claim_arguments, 1, reply::claimed).await
    }

    async fn observe(&self, event: &EventId, news: &LedgerNews, _now: Timestamp) -> Result<Vec<StockChange>> {
        let keys = self.keys(event, &scripts::OBSERVE);
        let mut connection = pool::borrow(&self.pool).await?;
        let mut changes = news::Changes::default();
        for part in news::parts(news) {
            let values = reply::body(connection.run(&scripts::OBSERVE, &keys, &part.arguments()).await?)?;
            changes.add(&values)?;
        }
        Ok(changes.finish())
    }

    async fn stale_holds(&self, event: &EventId, now: Timestamp) -> Result<Vec<BookingId>> {
        let most = Int(i64::try_from(MAX_BATCH).unwrap_or(i64::MAX));
        let values = self.run(&scripts::STALE_HOLDS, event, &[self.time(now), most]).await?;
        let read = |value| BookingId::parse(reply::text(value)?).map_err(|_| reply::odd("a booking"));
        values.iter().map(read).collect()
    }

    async fn stock(&self, event: &EventId) -> Result<Vec<ZoneStock>> {
        let values = self.run(&scripts::STOCK, event, &[]).await?;
        let mut zones = reply::each(&values, 2, values.len() / 2, reply::zone)?;
        zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        Ok(zones)
    }

    /// Looks first and forgets then: a zone that comes to be in between is not touched.
    async fn retain_zones(&self, event: &EventId, keep: &[ZoneKey]) -> Result<()> {
        let kept: std::collections::HashSet<_> = keep.iter().collect();
        let zones = self.stock(event).await?;
        let needless: Vec<_> = zones.iter().filter(|stock| !kept.contains(&stock.zone)).collect();
        for batch in needless.chunks(MAX_BATCH) {
            let names: Vec<_> = batch.iter().map(|stock| Argument::Built(stock.zone.to_string())).collect();
            self.run(&scripts::FORGET_ZONES, event, &names).await?;
        }
        Ok(())
    }

    fn is_away(&self) -> bool {
        self.circuit().is_open()
    }

    async fn ping(&self) -> Result<()> {
        let mut connection = pool::borrow(&self.pool).await?;
        let answer = connection.send(&redis::cmd("PING")).await;
        answer.map_err(|error| EngineError::Unavailable(error.to_string()))?;
        match self.pool.refused_lately() {
            Some(said) => Err(EngineError::Unavailable(format!("it refuses: {said}"))),
            None => Ok(()),
        }
    }
}
