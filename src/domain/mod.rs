//! Pure types and rules: no I/O, and time is an argument.

pub mod booking;
pub mod catalogue;
pub mod id;
pub mod money;
pub mod policy;
pub mod present;
pub mod problem;
pub mod release;
pub mod time;
pub mod wait;

pub use booking::{Booking, BookingStatus};
pub use catalogue::{Event, EventSpec};
pub use id::{BookingId, EventId, PassId, ShowId, VisitorId, ZoneId, ZoneKey};
pub use money::Money;
pub use policy::{PolicyPatch, QueuePolicy, QueueState};
pub use problem::{Code, Problem};
pub use time::{Clock, Timestamp};
