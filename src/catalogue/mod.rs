//! The events as this instance knows them: the ledger's word, kept at hand and put in force in the engine.
//!
//! Every instance follows the ledger's versions a few times a second. Reading an event costs no round trip.
//!
//! The ledger may be set back to an older state: a backup, or a standby that was behind. Then it forgot versions, a floor and
//! numbers that the line knows. Versions would not count on the store, so its events overtake what is in force there; an
//! instance that finds less in it than it read before reads it anew; and it is told which numbers are out whenever that matters:
//! before it gives more of them, and before it makes them void.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;

use crate::domain::wait::{Outflow, Totals, poll_after_seconds};
use crate::domain::{Code, Event, EventId, Problem, QueueState, Timestamp, ZoneKey};
use crate::engine::{self, Engine, EngineError, EventRules, InForce, LedgerNews, Numbers, StockChange};
use crate::ledger::{Extent, Ledger, LedgerError};
use crate::line::{Flow, Line};

mod mend;

use mend::Mend;

/// Numbers taken from the ledger at a time.
const NUMBER_BLOCK: u64 = 1_000_000;
/// With fewer left than this the next block is fetched.
const NUMBER_LOW: u64 = 500_000;
/// How often the log hears of what goes on failing for one event.
const COMPLAINT: Duration = Duration::from_secs(10);
/// Events that a step is taken for at the same time.
const AT_ONCE: usize = 8;

/// An event and its live numbers.
pub struct LiveEvent {
    /// What the ledger says of it.
    pub event: Event,
    /// Its line; shared by all versions of the event.
    pub line: Arc<Line>,
    mend: Arc<Mend>,
    /// When it was last said that nobody is let in.
    complained: AtomicI64,
}

impl LiveEvent {
    /// Whether it may be said again that something does not work that is tried ten times a second.
    pub fn may_complain(&self, now: Timestamp) -> bool {
        let last = Timestamp::from_micros(self.complained.load(Ordering::Relaxed));
        let may = now.since(last) >= COMPLAINT;
        if may {
            self.complained.store(now.micros(), Ordering::Relaxed);
        }
        may
    }

    /// Seconds until whoever stands at `position` is let in, as the line moves now, and after a recovery that is under way; `None`
    /// when it does not move.
    pub fn wait_seconds(&self, position: u64, flow: Option<Flow>, now: Timestamp) -> Option<u64> {
        let policy = &self.event.spec.queue;
        if policy.state_at(now) != QueueState::Open {
            return None;
        }
        let unknown = || Flow { outflow: Outflow::starting(now, Totals::default()), resumes_at: now, at: now };
        let flow = flow.unwrap_or_else(unknown);
        let now = flow.at.max(now);
        let recovery = flow.resumes_at.since(now).as_millis().div_ceil(1_000);
        let wait = flow.outflow.wait_seconds(position, policy.rate_per_second(), now)?;
        Some(wait.saturating_add(u64::try_from(recovery).unwrap_or(u64::MAX)))
    }

    /// When a client should ask again. Where presence is asked for, often enough to be seen in every window.
    pub fn poll_after_seconds(&self, wait: Option<u64>) -> u64 {
        let most = self.event.spec.queue.presence_window().map_or(u64::MAX, |window| window.as_secs() / 2);
        poll_after_seconds(wait).min(most.max(1))
    }
}

type Events = HashMap<EventId, Arc<LiveEvent>>;

/// The events of this instance.
pub struct Catalogue {
    ledger: Arc<dyn Ledger>,
    engine: Arc<dyn Engine>,
    recovery: Duration,
    events: ArcSwap<Events>,
    /// How far the ledger was read. The lock also keeps two refreshes from running at once.
    read: tokio::sync::Mutex<Extent>,
    /// The version of that.
    version: AtomicI64,
}

impl Catalogue {
    /// An empty catalogue; [`Catalogue::refresh`] fills it.
    /// `recovery` is how long nobody is let in after a store lost its line.
    pub fn new(ledger: Arc<dyn Ledger>, engine: Arc<dyn Engine>, recovery: Duration) -> Self {
        Self {
            ledger,
            engine,
            recovery,
            events: ArcSwap::default(),
            read: tokio::sync::Mutex::default(),
            version: AtomicI64::new(0),
        }
    }

    /// Whether a store is known to be away: then nothing can be put in force, let in or sold.
    pub fn is_away(&self) -> bool {
        self.engine.is_away() || self.ledger.is_away()
    }

    /// The event.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND` when there is none, or it was removed.
    pub fn find(&self, id: &EventId) -> Result<Arc<LiveEvent>, Problem> {
        self.events
            .load()
            .get(id)
            .cloned()
            .ok_or_else(|| Problem::new(Code::EventNotFound, format!("There is no event {id}.")))
    }

    /// All events.
    pub fn all(&self) -> Vec<Arc<LiveEvent>> {
        let mut all: Vec<_> = self.events.load().values().cloned().collect();
        all.sort_by(|a, b| a.event.id.cmp(&b.event.id));
        all
    }

    /// Reads what changed in the ledger and puts it in force. One step of the background loop; also run by the instance
    /// that made a change, so that its answer already holds.
    ///
    /// # Errors
    /// When a store cannot be reached: what was not put in force is tried again by the next step.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), Problem> {
        self.read_on(&mut *self.read.lock().await, now).await
    }

    /// The last version that was read. Waits for nobody.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Relaxed)
    }

    /// [`Catalogue::refresh`] after a change that was made when `known` had been read: a version that is no higher means that the
    /// ledger was set back.
    ///
    /// # Errors
    /// As there.
    pub async fn refresh_to(&self, made: i64, known: i64, now: Timestamp) -> Result<(), Problem> {
        let mut read = self.read.lock().await;
        if made <= known {
            self.begin_anew(&mut read).await?;
        }
        self.read_on(&mut read, now).await
    }

    async fn read_on(&self, read: &mut Extent, now: Timestamp) -> Result<(), Problem> {
        let mut extent = self.ledger.extent().await.map_err(ledger_problem)?;
        if extent.version < read.version || extent.events < read.events {
            self.begin_anew(read).await?;
            extent = self.ledger.extent().await.map_err(ledger_problem)?;
        }
        read.events = extent.events;
        if extent.version == read.version {
            return Ok(());
        }
        let changed = self.ledger.events_since(read.version).await.map_err(ledger_problem)?;
        for event in changed {
            let version = event.version;
            if event.removed {
                self.forget(&event.id).await?;
            } else {
                self.put_in_force(&event, now).await?;
                let mut events = Events::clone(&self.events.load());
                let known = events.get(&event.id).map(|live| (Arc::clone(&live.line), Arc::clone(&live.mend)));
                let (line, mend) = known.unwrap_or_else(|| (Arc::new(Line::unknown(now)), Arc::default()));
                if events.get(&event.id).is_some_and(|live| live.event.number_floor != event.number_floor) {
                    line.forget();
                }
                events.insert(
                    event.id.clone(),
                    Arc::new(LiveEvent { event, line, mend, complained: AtomicI64::default() }),
                );
                self.events.store(Arc::new(events));
            }
            self.note(read, version);
        }
        // No event may have this one any more, or ever have had it.
        self.note(read, extent.version);
        Ok(())
    }

    fn note(&self, read: &mut Extent, version: i64) {
        read.version = read.version.max(version);
        self.version.store(read.version, Ordering::Relaxed);
    }

    /// The ledger was set back to a state before what was read of it: all of it is read anew, each event in a version above all
    /// that were read, because versions that it gives now were given before. Events that it does not have (any more) are not there.
    async fn begin_anew(&self, read: &mut Extent) -> Result<(), Problem> {
        tracing::error!(?read, "the ledger is older than what was read of it: it was set back, and is read anew");
        // Whatever breaks off here is begun again by the next step: the ledger never has so many.
        read.events = i64::MAX;
        let there = self.ledger.events_since(0).await.map_err(ledger_problem)?;
        let known = self.events.load_full();
        for event in &there {
            let floor = known.get(&event.id).map_or(0, |live| live.event.number_floor);
            self.ledger.overtake(&event.id, read.version + 1, floor).await.map_err(ledger_problem)?;
        }
        let mut events = Events::clone(&known);
        events.retain(|id, _| there.iter().any(|event| event.id == *id));
        self.events.store(Arc::new(events));
        *read = Extent::default();
        Ok(())
    }

    /// Forgets an event here, and then on the store: whoever misses it there must not find it here and put it in force again. The
    /// lock of the refresh is held, so nobody else changes the events.
    async fn forget(&self, id: &EventId) -> Result<(), Problem> {
        let mut events = Events::clone(&self.events.load());
        let live = events.remove(id);
        self.events.store(Arc::new(events));
        let remove = self.engine.remove(id);
        let removed = match live {
            Some(live) => live.mend.apart(remove).await,
            None => remove.await,
        };
        removed.map_err(engine_problem)
    }

    /// Puts an event's rules, numbers and inventory in force, and says which zones that changed. The same at start, after a
    /// change, when the store came back empty, and when an operator asks for it: what is in force already stays.
    ///
    /// # Errors
    /// When a store cannot be reached.
    pub async fn put_in_force(&self, event: &Event, now: Timestamp) -> Result<Vec<StockChange>, Problem> {
        let (newer, InForce { numbers, .. }) = self.put_rules(event, now).await?;
        let event = newer.as_ref().unwrap_or(event);
        self.tell_ledger(&event.id, numbers).await?;
        if numbers.left < NUMBER_LOW {
            self.grant_block(event, now).await?;
        }
        self.sync_stock(event, now).await
    }

    /// Puts the rules in force. Where newer ones are, either somebody else read them earlier, or the ledger was set back and
    /// forgot them: the ledger can tell, and its word goes. The event is told as the ledger has it then.
    async fn put_rules(&self, event: &Event, now: Timestamp) -> Result<(Option<Event>, InForce), Problem> {
        let put = async |event: &Event| {
            let (version, policy) = (event.version, event.spec.queue.clone());
            let rules = EventRules { version, policy, number_floor: event.number_floor };
            self.engine.put_rules(&event.id, &rules, now).await.map_err(engine_problem)
        };
        let known = put(event).await?;
        if known.version <= event.version {
            return Ok((None, known));
        }
        let overtaking = self.ledger.overtake(&event.id, known.version, known.floor).await;
        let (event, overtook) = overtaking.map_err(ledger_problem)?;
        if overtook {
            tracing::error!(event_id = %event.id, in_force = known.version, now = event.version,
                "the ledger is older than the line: it was set back, and the rules that it has are put in force");
        }
        if event.removed {
            return Err(ledger_problem(LedgerError::EventNotFound));
        }
        let known = put(&event).await?;
        Ok((Some(event), known))
    }

    /// Makes sure that the ledger knows of every number of the event that is out: before it makes all of them void.
    ///
    /// # Errors
    /// When a store cannot be reached.
    pub async fn count_numbers(&self, id: &EventId, now: Timestamp) -> Result<(), Problem> {
        match self.engine.counters(id, now).await {
            Ok(counters) => self.tell_ledger(id, counters.numbers).await,
            Err(EngineError::UnknownEvent) => Ok(()),
            Err(error) => Err(engine_problem(error)),
        }
    }

    /// Tells the ledger which numbers are out, in whole blocks, because a ticket that proves a number says nothing of those
    /// behind it. News only to a ledger that was set back.
    async fn tell_ledger(&self, id: &EventId, numbers: Numbers) -> Result<(), Problem> {
        if numbers.past <= 1 {
            return Ok(());
        }
        let blocks = (numbers.past - 1).div_ceil(NUMBER_BLOCK);
        self.ledger.raise_numbers(id, blocks * NUMBER_BLOCK + 1).await.map_err(ledger_problem)
    }

    /// Brings an event back that the engine does not know as it is: its store came back empty, or older than it was. Those
    /// who ask for it meanwhile wait for the same.
    ///
    /// # Errors
    /// When a store cannot be reached, or there is no such event.
    pub async fn restore(&self, id: &EventId, now: Timestamp) -> Result<(), Problem> {
        let live = self.find(id)?;
        let work = async {
            // It may have been removed meanwhile.
            let live = self.find(id)?;
            tracing::warn!(event_id = %id, "the store lost the event or a part of it: putting it in force again");
            self.put_in_force(&live.event, now).await.map(drop)
        };
        live.mend.once(work).await
    }

    /// Asks the engine something of an event; where its store lost the event, that is mended and asked once more.
    ///
    /// # Errors
    /// Those of the engine, and of [`Catalogue::restore`].
    pub async fn mended<T, F>(&self, id: &EventId, now: Timestamp, ask: impl Fn() -> F) -> Result<T, Problem>
    where
        F: Future<Output = engine::Result<T>>,
    {
        let mut answer = ask().await;
        if let Err(EngineError::UnknownEvent) = answer {
            self.restore(id, now).await?;
            answer = ask().await;
        }
        answer.map_err(engine_problem)
    }

    /// Fetches the next block of numbers when few are left.
    ///
    /// # Errors
    /// When a store cannot be reached.
    pub async fn top_up_numbers(&self, event: &Event, numbers: Numbers, now: Timestamp) -> Result<(), Problem> {
        if numbers.left >= NUMBER_LOW {
            return Ok(());
        }
        self.tell_ledger(&event.id, numbers).await?;
        self.grant_block(event, now).await
    }

    /// Takes a block of numbers from the ledger, which knows of all that are out, and hands it to the engine.
    async fn grant_block(&self, event: &Event, now: Timestamp) -> Result<(), Problem> {
        let block = self.ledger.take_numbers(&event.id, NUMBER_BLOCK).await.map_err(ledger_problem)?;
        // Several instances may each take a block of a new event, and the first to be granted is not the first there is: but
        // nobody can have waited for longer than the event exists.
        let recovery = self.recovery.min(now.since(event.created_at));
        self.engine.grant_numbers(&event.id, block, recovery, now).await.map_err(engine_problem)?;
        Ok(())
    }

    /// Rebuilds the fast inventory of an event from the ledger. Safe while sales go on: see *Tallies* in [`crate::engine`].
    ///
    /// # Errors
    /// When a store cannot be reached.
    pub async fn sync_stock(&self, event: &Event, now: Timestamp) -> Result<Vec<StockChange>, Problem> {
        let keep: Vec<ZoneKey> = event.zones().map(|(key, _)| key).collect();
        let zones = self.ledger.zones(&event.id).await.map_err(ledger_problem)?;
        let news = LedgerNews { zones, ..LedgerNews::default() };
        let changes = self.engine.observe(&event.id, &news, now).await.map_err(engine_problem)?;
        self.engine.retain_zones(&event.id, &keep).await.map_err(engine_problem)?;
        Ok(changes)
    }
}

/// Takes a step for each of these events, some of them at a time. What becomes of one does not hold up the others.
pub async fn each<F>(events: impl Iterator<Item = Arc<LiveEvent>>, step: impl Fn(Arc<LiveEvent>) -> F)
where
    F: Future<Output = ()>,
{
    futures_util::stream::iter(events).for_each_concurrent(AT_ONCE, step).await;
}

/// What an engine's failure is to a caller.
pub fn engine_problem(error: EngineError) -> Problem {
    match error {
        EngineError::Overloaded => Problem::overloaded("This instance"),
        EngineError::UnknownEvent | EngineError::Unavailable(_) => Problem::unavailable(error),
    }
}

/// What a ledger's failure is to a caller.
pub fn ledger_problem(error: LedgerError) -> Problem {
    match error {
        LedgerError::EventNotFound => Problem::new(Code::EventNotFound, "There is no such event."),
        LedgerError::CapacityInUse { zone, taken } => Problem::new(
            Code::CapacityInUse,
            format!("Zone {zone} has {taken} seats sold or held; cancel bookings first or keep the capacity."),
        ),
        LedgerError::Invalid(text) => Problem::invalid(text),
        LedgerError::Unavailable(_) => Problem::unavailable(error),
    }
}
