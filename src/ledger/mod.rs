//! The ledger: the durable record of events, bookings and what operators did. All SQL lives here.
//!
//! [`Ledger`] is the contract; `sqlite` and `postgres` carry it out, each with SQL of its own. The ledger refuses to oversell
//! by itself: each zone's row counts its seats, guarded by the statement that adds to it and by a CHECK. Writes are safe to
//! cancel for the caller: a transaction that was begun runs to its end or is rolled back.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    Booking, BookingId, Event, EventId, EventSpec, PassId, PolicyPatch, Timestamp, VisitorId, ZoneKey,
};
use crate::engine::{BuyerTally, NumberBlock, ZoneTally};

mod bookings;
mod catalogue;
mod decide;
pub mod postgres;
mod records;
mod rows;
mod sql;
pub mod sqlite;

/// How long the first answer to an idempotency key is kept.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_hours(48);

/// Why the ledger did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// No such event, or it was removed.
    #[error("no such event")]
    EventNotFound,
    /// A zone would shrink below what is taken, or a zone with taken seats would go.
    #[error("zone {zone} has {taken} seats sold or held")]
    CapacityInUse {
        /// Which zone.
        zone: ZoneKey,
        /// Seats that are taken.
        taken: u32,
    },
    /// The change does not fit; the text says which field.
    #[error("{0}")]
    Invalid(String),
    /// The database did not answer in time, or answered with an error. Nothing was changed, or it cannot be known.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
}

/// The answer of a ledger.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// Who did something, for the audit log. Never holds a secret.
#[derive(Debug, Clone)]
pub struct Actor(pub String);

/// A reservation to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBooking {
    /// The booking, `reserved`.
    pub booking: Booking,
    /// The pass that it uses up; unique in the ledger.
    pub pass: Option<PassId>,
    /// The most seats of the event that the visitor may have; 0 = no limit.
    pub max_per_user: u32,
    /// The idempotency record that is written with it.
    pub answer: StoredAnswer,
    /// The route and key that the answer is kept under.
    pub key: IdempotencyKey,
}

/// Whose request, on which route, under which key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Who asked.
    pub visitor: VisitorId,
    /// A short name of the route.
    pub route: &'static str,
    /// What the client sent, 1 to 255 visible ASCII characters.
    pub key: String,
}

/// The first answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// SHA-256 of the request's canonical body.
    pub body_hash: [u8; 32],
    /// The HTTP status.
    pub status: u16,
    /// The body, byte for byte.
    pub body: String,
}

/// What became of one new booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is on disk.
    Done {
        /// The zone afterwards.
        zone: ZoneTally,
        /// The visitor's seats afterwards.
        buyer: BuyerTally,
    },
    /// The idempotency key was there already. Nothing was changed.
    Replayed {
        /// Its answer.
        answer: StoredAnswer,
        /// Whether the pass of this request was used, as it is when the request was sent again as it was.
        pass_used: bool,
    },
    /// The pass was used already. Nothing was changed.
    PassUsed,
    /// Not so many seats left. Nothing was changed.
    InsufficientSeats,
    /// The visitor would have too many seats. Nothing was changed.
    UserLimit,
    /// The event or the zone is not there (any more). Nothing was changed.
    UnknownZone,
}

/// A booking whose seats came back, with the counts afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// The booking afterwards.
    pub booking: Booking,
    /// The zone afterwards.
    pub zone: ZoneTally,
    /// The visitor's seats afterwards.
    pub buyer: BuyerTally,
}

/// What became of a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It was reserved or confirmed; its seats came back.
    Now(Box<Returned>),
    /// It was cancelled or had expired before; nothing was changed.
    Before(Booking),
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows of this page.
    pub data: Vec<T>,
    /// Rows in all.
    pub total: u64,
}

/// Which page: `page` counts from 1, `size` is 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// From 1.
    pub page: u32,
    /// 1 to 100.
    pub size: u32,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Grows with every entry.
    pub id: i64,
    /// When it was done.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done: `event.create`, `event.replace`, `event.remove`, `queue.patch`, `queue.reset`, `inventory.sync`.
    pub action: String,
    /// To which event, if to one.
    pub event_id: Option<EventId>,
    /// The request's body, or what came of it.
    pub detail: serde_json::Value,
}

/// How far the catalogue has come. Neither ever sinks, unless the ledger is set back to an older state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub struct Extent {
    /// The version of the last change of any event.
    pub version: i64,
    /// Events there are, removed ones too.
    pub events: i64,
}

/// The contract. Each method is one transaction; `now` is the caller's clock.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Every event whose version is above `version`, removed ones too, in the order of their versions.
    /// Versions are given under one row lock held to the commit, so none is ever skipped.
    async fn events_since(&self, version: i64) -> Result<Vec<Event>>;

    /// How far the catalogue has come.
    async fn extent(&self) -> Result<Extent>;

    /// Somebody knows the event in version `version` and with this floor. Where that is newer than the event is here, the ledger
    /// was set back, and so its event overtakes what is known: it gets a version above, and no lower floor (`true`). Otherwise
    /// nothing is changed. Gives the event as it is then, removed or not.
    async fn overtake(&self, id: &EventId, version: i64, floor: u64) -> Result<(Event, bool)>;

    /// Creates the event (`true`) or replaces it (`false`), with an audit entry. A removed event comes back to life with its
    /// bookings and number mark. Zones keep their taken seats and get a new version.
    async fn put_event(&self, id: &EventId, spec: &EventSpec, actor: &Actor, now: Timestamp) -> Result<(Event, bool)>;

    /// Changes some fields of the policy, with an audit entry.
    async fn patch_policy(&self, id: &EventId, patch: &PolicyPatch, actor: &Actor, now: Timestamp) -> Result<Event>;

    /// Marks the event as removed and makes every number handed out so far void, with an audit entry.
    async fn remove_event(&self, id: &EventId, actor: &Actor, now: Timestamp) -> Result<Event>;

    /// Makes every number handed out so far void: raises `number_floor` to the mark of the blocks, with an audit entry.
    async fn reset_event(&self, id: &EventId, actor: &Actor, now: Timestamp) -> Result<Event>;

    /// Numbers below `past` are known to be out: none of them is ever set aside from now on. Does nothing where that is known.
    async fn raise_numbers(&self, id: &EventId, past: u64) -> Result<()>;

    /// Sets aside the next `count` numbers of an event. No number is ever in two blocks.
    async fn take_numbers(&self, id: &EventId, count: u64) -> Result<NumberBlock>;

    /// Writes reservations, all that can be in one transaction (group commit), and answers for each in order. When this
    /// returns they are on disk. Each is checked: key not used, pass not used, zone's capacity, visitor's limit.
    async fn commit(&self, bookings: &[NewBooking]) -> Result<Vec<Committed>>;

    /// The first answer to a key, if it is (still) kept at `now`.
    async fn answer(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<StoredAnswer>>;

    /// Confirms a reservation of the visitor's that has not run out. `None`: no such booking of theirs. Otherwise the
    /// booking as it stands after the call: confirmed now or before, or unchanged when cancelled or expired (a reservation
    /// past `expires_at` is answered as `expired` even before the sweep). `code` and `payment` are taken only by the call that confirms.
    async fn confirm(
        &self,
        id: &BookingId,
        visitor: &VisitorId,
        code: &str,
        payment: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Booking>>;

    /// Cancels a booking of the visitor's. `None`: no such booking of theirs.
    async fn cancel(&self, id: &BookingId, visitor: &VisitorId, now: Timestamp) -> Result<Option<Cancelled>>;

    /// A booking of the visitor's.
    async fn booking(&self, id: &BookingId, visitor: &VisitorId) -> Result<Option<Booking>>;

    /// The visitor's bookings, newest first.
    async fn bookings(&self, visitor: &VisitorId, page: PageRequest) -> Result<Page<Booking>>;

    /// The visitor's seats of an event: reserved and confirmed.
    async fn buyer(&self, event: &EventId, visitor: &VisitorId) -> Result<BuyerTally>;

    /// Which of these bookings are there.
    async fn existing(&self, ids: &[BookingId]) -> Result<Vec<BookingId>>;

    /// Every zone of the event with its tally.
    async fn zones(&self, event: &EventId) -> Result<Vec<ZoneTally>>;

    /// Turns up to `limit` reservations past their `expires_at` into `expired` and gives their seats back. Safe to run
    /// from several instances at once. The tallies of a zone that comes up more than once are those after each.
    async fn expire_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Returned>>;

    /// Deletes up to `limit` idempotency records that have run out at `now`, and says how many.
    async fn purge_answers(&self, now: Timestamp, limit: u32) -> Result<u64>;

    /// Writes an audit entry that goes with no other change.
    async fn audit(
        &self,
        actor: &Actor,
        action: &str,
        event: Option<&EventId>,
        detail: &serde_json::Value,
        now: Timestamp,
    ) -> Result<()>;

    /// The audit log, newest first.
    async fn audit_log(&self, page: PageRequest) -> Result<Page<AuditEntry>>;

    /// Whether the database is known to be away: every call would be refused at once.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether the database answers. Read-only.
    async fn ping(&self) -> Result<()>;
}
