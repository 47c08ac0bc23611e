//! The queue engine: the line, the passes that are out, and the fast inventory of each event.
//!
//! [`Engine`] is the contract; `memory` runs it in process and is the reference, `redis` runs it on a shared store with one
//! Lua script a transition. Every method is one atomic transition on one event, takes a batch where many visitors can
//! share a round trip, and takes the time. An engine that several instances share may use its store's clock instead of
//! `now`, so that there is one clock.
//!
//! # What an engine keeps of an event
//! * the **line**: visitor → number, ordered by number;
//! * **numbers**: the next one to hand out and the block it may go up to (blocks come from the ledger, so a number is never
//!   handed out twice, even by a store that came back empty);
//! * **join marks**: one (number, time) a second in which somebody joined, so that the time of any join is known to the
//!   second without storing it for each visitor, and places older than [`PLACE_TTL`] can be dropped by number;
//! * **passes**: visitor → number, state, admitted at, expires at; kept for [`ENDED_TTL`] after expiry, so that a used
//!   pass is known as used for as long as it could be presented;
//! * **active**: the passes that are out, ordered by expiry; counted against `max_active`;
//! * **zones**: zone → capacity, tally (what the ledger says is taken, and the version of that saying), held (seats of
//!   reservations on their way to the ledger). Available = capacity − taken − held;
//! * **holds**: booking → visitor, number, zone, quantity, due;
//! * **buyers**: visitor → tally of seats, as the ledger last said;
//! * the **feed**: the last [`FEED_LENGTH`] steps that changed the line, so that an instance can follow it and answer
//!   positions from memory.
//!
//! # The feed
//! Whoever follows holds a [`Cursor`], and is told what changed since. One whose cursor is no longer (or not) in the feed is told
//! to begin anew: with [`Engine::snapshot`], page by page, and then with the changes since the cursor that came before the
//! first page. Every [`Change`] says what is, not what differs, so changes that a page had in it already do no harm.
//!
//! # Recovery
//! A store may come back empty, or as it was a while ago. Tickets prove the places it lost: [`Engine::reclaim`] puts a visitor back
//! at a number that this store did not hand out, because it lies below the first block that this store was granted, or because the store has
//! not come to it yet. The latter tells that the store is older than the number, and so does a join by an instance that knows of higher
//! numbers: then the store gives up the numbers it has, hands out none until it is granted a block that is new to
//! everybody, and takes all numbers below that block for lost. Such a first block begins the recovery, for which nobody is
//! let in. A place that the visitor has already, or a pass of that place, stands; so does another visitor's place.
//!
//! # Presence
//! Where the rules ask for it, a visitor who was not seen for `presence_seconds` is not let in. The instances note who polls, a bit for
//! each number, and tell it now and then ([`Engine::see`]); the engine keeps two windows of half that time. When the turn comes of
//! somebody who is in neither window, and did not join within that time, they are parked: out of the line, so that they hold up nobody, with their number kept.
//! The next poll or join reclaims the place, which is then at the front. Where nobody told who was seen for the length of a window, nobody is
//! known to be away, and not before that time has gone by in full since it was told again: a service that was cut off parks nobody.
//!
//! # Tallies
//! The ledger counts each zone's seats itself and numbers every change of the count. The engine only ever replaces a tally
//! by one with a higher version, so answers may arrive in any order or twice, a rebuild can run while sales go on, and a
//! hold that is counted in both for a moment errs on the side of "fewer seats left".
//!
//! # Small cases
//! * A visitor in line is told of the place, whatever became of an earlier pass. A pass in use is still a good pass to
//!   `join` and `locate`, keeps its slot, and cannot be given back.
//! * A pass that ran out is expired to every method and frees its slot, swept or not. Once the sweep took the slot it stays
//!   expired, even if the clock is set back. If it is in use then, the booking may still settle it (used) or undo it (expired).
//! * A claim checks: booking held already → `Held`; number below the floor → `PassVoid`; the record of the same number (used,
//!   given back, ran out, in use); the expiry; a record or a place of the same visitor with a larger number → `PassVoid`; then
//!   the limit, the zone, the seats. Only `Held` changes anything.
//! * A pass without a record, or with a record of a smaller number in whatever state, is taken at its word: it becomes the
//!   visitor's record and takes a slot (over `max_active` if need be: it is out), and the visitor's place in line, which
//!   cannot be a later one, is given up without counting as left.
//! * A hold settles or undoes a pass only while that pass names its booking. `settled` goes before `undone`, and both after the
//!   tallies. A zone that was forgotten and comes back starts with nothing held.
//! * A floor never sinks. Places that a raised floor empties do not count as left. Numbers below it are left out of the blocks.
//! * Tokens are saved up while a queue is paused or full, as ever up to one burst; `remove` of an unknown event is no error.
//! * A place is dropped when its join mark is older than [`PLACE_TTL`], the marks in order of numbers: after a clock that
//!   was set back a place may live as much longer, never shorter.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::present::{Change, Seen};
use crate::domain::{BookingId, EventId, QueuePolicy, QueueState, Timestamp, VisitorId, ZoneKey};

mod batched;
pub mod memory;
pub mod redis;

pub use batched::Batched;

/// How long a place in line is honoured.
pub const PLACE_TTL: Duration = Duration::from_hours(24);
/// How long a pass is remembered after it ran out.
pub const ENDED_TTL: Duration = Duration::from_hours(1);
/// How long a hold waits for the ledger before the sweeper asks what became of it.
pub const HOLD_TTL: Duration = Duration::from_secs(30);
/// Most visitors let in by one call of [`Engine::release`]: keeps one call under a millisecond on Redis.
pub const RELEASE_BATCH: u32 = 100;
/// Most blocks in one call of [`Engine::see`].
pub const SEEN_BATCH: usize = 16;
/// Most items in one batch of any other call.
pub const MAX_BATCH: usize = 512;
/// Steps that a feed keeps, about: whoever falls further behind begins anew.
pub const FEED_LENGTH: usize = 8_192;
/// Most places in one page of a snapshot: keeps one call at a millisecond or two on Redis.
pub const SNAPSHOT_PAGE: usize = 1_000;

/// Why an engine did not carry out a transition. Refusals of single visitors are in the answers, not here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The engine does not know the event: it was never put, or the store came back empty. Nothing was changed.
    #[error("the engine does not know the event")]
    UnknownEvent,
    /// The store did not answer, or answered something that cannot be. The transition may have happened.
    #[error("the store of the engine is unavailable: {0}")]
    Unavailable(String),
    /// As many calls wait for the store as may. Nothing was changed.
    #[error("as many calls wait for the store as may")]
    Overloaded,
}

/// The answer of an engine.
pub type Result<T> = std::result::Result<T, EngineError>;

/// A range of numbers that the ledger set aside: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberBlock {
    /// The first number of the block; at least 1.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// What the ledger says of an event, as far as the engine needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRules {
    /// Rules with a smaller version than those in force are ignored.
    pub version: i64,
    /// The rules of the queue.
    pub policy: QueuePolicy,
    /// Passes with a smaller number are void (the queue was reset).
    pub number_floor: u64,
}

/// The numbers of an event, as far as the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// How many there are to hand out.
    pub left: u64,
    /// No number below it is free: it was granted, proved by a ticket, or is void. At least 1.
    pub past: u64,
}

/// What an engine has in force after [`Engine::put_rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The version of the rules. Higher than what was put: somebody else's.
    pub version: i64,
    /// The floor: it may be higher than that of the rules, too.
    pub floor: u64,
    /// The numbers.
    pub numbers: Numbers,
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The visitor's number: higher than that of everyone who joined before.
    pub number: u64,
    /// 1 for the next to be let in.
    pub position: u64,
    /// When the visitor joined, to the second (the time of the join mark).
    pub joined_at: Timestamp,
}

/// The place of a visitor who was away when their turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away {
    /// The visitor's number.
    pub number: u64,
    /// When the visitor joined, to the second.
    pub joined_at: Timestamp,
}

/// An admission: the facts from which the pass is minted, equal at every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The number of the place that was admitted.
    pub number: u64,
    /// When it was let in.
    pub admitted_at: Timestamp,
    /// When the pass runs out.
    pub expires_at: Timestamp,
}

/// The answer to one join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// A new place at the back.
    New(Place),
    /// The visitor was in line already: the same place.
    Already(Place),
    /// The visitor is admitted already.
    Admitted(Admission),
    /// The line is at `max_queue`.
    Full,
    /// The queue is closed.
    Closed,
    /// The visitor was away when their turn came: [`Engine::reclaim`] puts them back in line.
    Parked(Away),
    /// No number is left in the block: the ledger has to grant more. Try again.
    NoNumbers,
}

/// Where a visitor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the line.
    Waiting(Place),
    /// Let in; the pass is good.
    Admitted(Admission),
    /// The pass was used.
    Used(Admission),
    /// The pass ran out.
    Expired(Admission),
    /// Away when their turn came: [`Engine::reclaim`] puts them back in line.
    Parked(Away),
    /// Not here: never joined, left, gave the pass back, or too long ago.
    Absent,
}

/// One leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Who leaves.
    pub visitor: VisitorId,
    /// The place that is given up. A place with another number is left alone.
    pub number: u64,
}

/// One visitor whose ticket proves a place that may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaim {
    /// Whose place.
    pub visitor: VisitorId,
    /// The number of the place.
    pub number: u64,
    /// When they joined.
    pub joined_at: Timestamp,
}

/// The answer to one leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Out of the line; everyone behind moved up.
    Line,
    /// The pass was given back, and its slot with it. It is void from here on.
    Pass,
    /// There was nothing to leave (any more), or the pass is in use by a reservation.
    Nothing,
}

/// The live numbers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// The state in force, with the opening time taken into account.
    pub state: QueueState,
    /// Visitors in line.
    pub waiting: u64,
    /// Passes out: not used, given back or run out.
    pub active: u64,
    /// Visitors ever admitted.
    pub admitted: u64,
    /// Visitors who left the line, or whose place ran out.
    pub left: u64,
    /// The version of the rules in force.
    pub version: i64,
    /// Visitors who were away when their turn came, and are not in line until they are back.
    pub parked: u64,
    /// The numbers to hand out.
    pub numbers: Numbers,
    /// Until then nobody is let in, because a store lost its line; in the past where that is over or never was.
    pub resumes_at: Timestamp,
    /// The clock that these were read by.
    pub at: Timestamp,
}

/// What one release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Visitors let in by this call.
    pub admitted: u32,
    /// Visitors parked by this call because they were away; [`RELEASE_BATCH`] at most with those let in.
    pub parked: u32,
    /// The event afterwards.
    pub counters: Counters,
}

/// A step in an event's feed. What the two numbers mean is the engine's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub u64, pub u64);

/// What the feed of an event says since a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The event now.
    pub counters: Counters,
    /// Where to go on.
    pub cursor: Cursor,
    /// What changed since, in order; `None` when the cursor is not in the feed: begin anew.
    pub changes: Option<Vec<Change>>,
    /// Whether there is more to be read at once.
    pub more: bool,
}

/// Some of the numbers in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPage {
    /// Numbers next to each other as one range (first and last), in order.
    pub ranges: Vec<(u64, u64)>,
    /// From where to read on; `None` after the last page.
    pub next: Option<u64>,
}

/// One reservation that asks for seats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The booking that the seats are for. The same id twice is the same hold.
    pub booking: BookingId,
    /// Who asks.
    pub visitor: VisitorId,
    /// The pass that was verified; `None` where the event needs none.
    pub pass: Option<ClaimedPass>,
    /// The seats asked for.
    pub zone: ZoneKey,
    /// How many, at least 1.
    pub quantity: u32,
}

/// What a verified pass says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedPass {
    /// The number of the place that was admitted.
    pub number: u64,
    /// When it was let in.
    pub admitted_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
}

/// The answer to one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The seats are held; the pass is taken until the hold is settled or undone.
    Held,
    /// The pass is taken by another reservation that has not reached the ledger yet.
    PassBusy,
    /// The pass was used.
    PassUsed,
    /// The pass ran out.
    PassExpired,
    /// The pass was given back, or its number lies below the floor, or a later place of the same visitor replaced it.
    PassVoid,
    /// Fewer seats are left than asked for. The pass stays good.
    InsufficientSeats,
    /// The same, and nobody needs to be asked: the seats are taken by the ledger's own count, and neither this pass nor this
    /// visitor ever came to a booking, as far back as the event goes.
    SoldOut,
    /// The visitor would have more than `max_per_user` seats. The pass stays good.
    UserLimit,
    /// The engine does not know the zone.
    UnknownZone,
}

/// A count and the version of its counting. Higher versions win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Seats taken (reserved or confirmed).
    pub taken: u32,
    /// Grows with every change of the count.
    pub version: i64,
}

/// What the ledger says of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneTally {
    /// Which zone.
    pub zone: ZoneKey,
    /// Seats there are.
    pub capacity: u32,
    /// Seats taken. Every change of capacity is a new version too.
    pub tally: Tally,
}

/// What the ledger says of a visitor's seats of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuyerTally {
    /// Whose seats.
    pub visitor: VisitorId,
    /// How many.
    pub tally: Tally,
}

/// News from the ledger: what it counts now, and which holds it has taken over or refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerNews {
    /// Holds that are bookings now: the pass is used, the seats are in the zone's tally.
    pub settled: Vec<BookingId>,
    /// Holds that came to nothing: the pass is good again, the seats are free.
    pub undone: Vec<BookingId>,
    /// Zones, one entry each at most.
    pub zones: Vec<ZoneTally>,
    /// Buyers, one entry each at most.
    pub buyers: Vec<BuyerTally>,
}

/// The fast inventory's view of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneStock {
    /// Which zone.
    pub zone: ZoneKey,
    /// Seats there are.
    pub capacity: u32,
    /// Seats taken, as the ledger last said.
    pub tally: Tally,
    /// Seats of reservations on their way to the ledger.
    pub held: u32,
}

impl ZoneStock {
    /// Seats that can be claimed.
    pub const fn available(&self) -> u32 {
        self.capacity.saturating_sub(self.tally.taken).saturating_sub(self.held)
    }
}

/// The contract. See the module's head for the state behind it.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Puts the rules in force unless a version as new is in force already, and creates the event if it is not known.
    /// Tokens saved up so far are carried over to a new rate ([`crate::domain::release::Bucket::rerate`]); a new event starts with none.
    /// A `number_floor` above the old one empties the line, the passes and the join marks (holds and inventory stay).
    /// Says what is in force then.
    async fn put_rules(&self, event: &EventId, rules: &EventRules, now: Timestamp) -> Result<InForce>;

    /// Adds a block of numbers. It is used up after the one in use; one spare block is kept, and a block that does not lie
    /// beyond every number known so far, or comes while there is a spare, is ignored. The first block of a store that came
    /// back empty or old begins the recovery: nobody is let in for so long, while those who wait reclaim their places.
    async fn grant_numbers(
        &self,
        event: &EventId,
        block: NumberBlock,
        recovery: Duration,
        now: Timestamp,
    ) -> Result<Numbers>;

    /// Forgets the event. Not knowing it is no error.
    async fn remove(&self, event: &EventId) -> Result<()>;

    /// Gives each visitor a place, in the order of the batch. A visitor who has one, or a good pass, gets that; one whose
    /// pass was used, given back or ran out gets a new place at the back.
    async fn join(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Joined>>;

    /// Says where each visitor stands.
    async fn locate(&self, event: &EventId, visitors: &[VisitorId], now: Timestamp) -> Result<Vec<Standing>>;

    /// Puts visitors back in line at their own numbers, those who were parked and those whose places the store lost, and says
    /// where each stands. See *Recovery* and *Presence*.
    async fn reclaim(&self, event: &EventId, places: &[Reclaim], now: Timestamp) -> Result<Vec<Standing>>;

    /// Tells which holders of numbers were seen in the time that `lasted` until now. See *Presence*. Does nothing where the rules
    /// ask for no presence. At most [`SEEN_BATCH`] blocks a call.
    async fn see(&self, event: &EventId, seen: &[Seen], lasted: Duration, now: Timestamp) -> Result<()>;

    /// Takes visitors out of the line, or takes their passes back.
    async fn leave(&self, event: &EventId, leaving: &[Leaving], now: Timestamp) -> Result<Vec<Left>>;

    /// Drops passes that ran out and places older than [`PLACE_TTL`] (a bounded number of each a call), then admits
    /// `min(tokens, max_active − active, RELEASE_BATCH)` visitors from the front, each recorded as admitted in the same step. Who is
    /// away when their turn comes is parked. `since` is how long ago the caller released last, by a clock that nobody moves; `None` where
    /// that is not known. See [`crate::domain::release`].
    async fn release(&self, event: &EventId, since: Option<Duration>, now: Timestamp) -> Result<Released>;

    /// What changed in the line since `cursor`, a bounded number of steps a call; with `None` where the feed stands. Changes nothing.
    async fn follow(&self, event: &EventId, cursor: Option<Cursor>, now: Timestamp) -> Result<Followed>;

    /// The numbers in line from `from` on, at most [`SNAPSHOT_PAGE`] of them. Changes nothing.
    async fn snapshot(&self, event: &EventId, from: u64) -> Result<SnapshotPage>;

    /// The live numbers. Changes nothing.
    async fn counters(&self, event: &EventId, now: Timestamp) -> Result<Counters>;

    /// Checks pass, limit and stock of each claim and holds the seats, in the order of the batch. A pass that the engine has
    /// no record of (the store was emptied since) is taken at its word: its signature was verified, and the ledger takes
    /// each pass once.
    async fn claim(&self, event: &EventId, claims: &[Claim], now: Timestamp) -> Result<Vec<Claimed>>;

    /// Takes in what the ledger says. Holds that are not known (any more) and tallies that are not newer are passed over.
    /// Returns the zones whose availability changed, before (`None` = not known) and after.
    async fn observe(&self, event: &EventId, news: &LedgerNews, now: Timestamp) -> Result<Vec<StockChange>>;

    /// Holds that have waited for the ledger longer than [`HOLD_TTL`], at most [`MAX_BATCH`], oldest first. Changes nothing.
    async fn stale_holds(&self, event: &EventId, now: Timestamp) -> Result<Vec<BookingId>>;

    /// The fast inventory, ordered by zone.
    async fn stock(&self, event: &EventId) -> Result<Vec<ZoneStock>>;

    /// Forgets zones that the event no longer has.
    async fn retain_zones(&self, event: &EventId, keep: &[ZoneKey]) -> Result<()>;

    /// Whether the engine is in this process: a call costs no round trip, and gathering calls into batches saves nothing.
    fn is_in_process(&self) -> bool {
        false
    }

    /// Whether the store is known to be away: every call would be refused at once.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether the store answers, and lets transitions do their work, as far as the last ones tell. Read-only.
    async fn ping(&self) -> Result<()>;
}

/// A zone whose availability changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockChange {
    /// Which zone.
    pub zone: ZoneKey,
    /// Seats available before; `None` when the zone was not known.
    pub before: Option<u32>,
    /// Seats available now.
    pub after: u32,
}
