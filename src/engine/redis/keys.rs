//! The keys on the store: all of them are named here and nowhere else.
//!
//! A key is `prefix:2:{event}:name`. The braces make the event the hash tag, so that all keys of an event live in one slot
//! of a Cluster; the number is the version of the layout.

use crate::domain::EventId;

/// The version of the layout. Another layout gets another number, so that two releases never read each other's keys.
pub const LAYOUT: u32 = 2;

/// One key of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The last part of the key.
    pub name: &'static str,
    /// The Redis type.
    pub kind: &'static str,
    /// What it holds.
    pub what: &'static str,
    /// What bounds its size.
    pub bound: &'static str,
}

macro_rules! keys {
    ($($constant:ident = $name:literal, $kind:literal, $what:literal, $bound:literal;)*) => {
        $(
            #[doc = $what]
            pub const $constant: Key = Key { name: $name, kind: $kind, what: $what, bound: $bound };
        )*
        /// Every key of an event.
        pub const ALL: &[Key] = &[$($constant),*];
    };
}

keys! {
    EVENT = "event", "hash", "Rules, floor, numbers to hand out, the bucket, counters, recovery, presence.", "24 fields";
    LINE = "line", "zset", "Visitors who wait, by number.", "max_queue; 24 hours of joins";
    JOINS = "joins", "zset", "Join marks `number:microseconds`, by number.", "one a second, 24 hours";
    PASSES = "passes", "hash", "Visitor to `number state admitted_at expires_at[ booking]`.",
        "admissions of the last pass_ttl and an hour";
    ACTIVE = "active", "zset", "Visitors whose passes take a slot, by expiry.", "max_active";
    ENDED = "ended", "zset", "Visitors whose passes ended, by the time they are forgotten.",
        "admissions of the last pass_ttl and an hour";
    ZONES = "zones", "hash", "`show/zone` to `capacity taken version held`.", "zones of the catalogue";
    HOLDS = "holds", "hash", "Booking to `visitor number zone quantity due`.", "reservations on their way to the ledger";
    DUE = "due", "zset", "Bookings that hold seats, by the time the sweeper asks for them.",
        "reservations on their way to the ledger";
    BUYERS = "buyers", "hash", "Visitor to `taken version`.", "buyers of the event";
    PARKED = "parked", "zset", "Visitors who were away when their turn came, by number.", "24 hours of joins";
    SEEN0 = "seen0", "hash", "Who was seen in an even window of time: block of numbers to bits.", "512 bytes for 4,096 numbers";
    SEEN1 = "seen1", "hash", "Who was seen in an odd window of time: block of numbers to bits.", "512 bytes for 4,096 numbers";
    FEED = "feed", "stream", "Changes of the line, for the instances that follow it.", "about 8,192 steps";
}

impl Key {
    /// The key as it stands on the store.
    pub fn of(self, prefix: &str, event: &EventId) -> String {
        format!("{prefix}:{LAYOUT}:{{{event}}}:{}", self.name)
    }
}
