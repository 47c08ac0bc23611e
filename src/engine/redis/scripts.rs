//! The scripts: one file a transition, with the libs in front of each.

use std::sync::LazyLock;

use super::keys::{
    ACTIVE, BUYERS, DUE, ENDED, EVENT, FEED, HOLDS, JOINS, Key, LINE, PARKED, PASSES, SEEN0, SEEN1, ZONES,
};

/// What all scripts start with: what they share about an event and its line, about passes and seats, and about who was seen.
pub const LIBS: [(&str, &str); 3] = [
    ("lib", include_str!("../../../lua/lib.lua")),
    ("lib_booking", include_str!("../../../lua/lib_booking.lua")),
    ("lib_presence", include_str!("../../../lua/lib_presence.lua")),
];

/// A transition on the store.
#[derive(Debug)]
pub struct Script {
    /// The name of its file, without `.lua`.
    pub name: &'static str,
    /// The text of its file.
    pub source: &'static str,
    /// The keys it is handed, in order.
    pub keys: &'static [Key],
    loaded: LazyLock<redis::Script>,
}

impl Script {
    /// The whole text as the store runs it.
    pub fn text(&self) -> String {
        let [(_, lib), (_, booking), (_, presence)] = LIBS;
        [lib, booking, presence, self.source].join("\n")
    }

    /// The digest by which the store knows it.
    pub(super) fn sha(&self) -> &str {
        self.loaded.get_hash()
    }
}

macro_rules! scripts {
    ($($constant:ident = $name:literal: $($key:ident),*;)*) => {
        $(
            #[doc = concat!("`lua/", $name, ".lua`.")]
            pub static $constant: Script = Script {
                name: $name,
                source: include_str!(concat!("../../../lua/", $name, ".lua")),
                keys: &[$($key),*],
                loaded: LazyLock::new(|| redis::Script::new(&$constant.text())),
            };
        )*
        /// Every script.
        pub static ALL: &[&Script] = &[$(&$constant),*];
    };
}

scripts! {
    PUT_RULES = "put_rules": EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED, SEEN0, SEEN1;
    GRANT_NUMBERS = "grant_numbers": EVENT;
    REMOVE = "remove": EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS, FEED, PARKED, SEEN0, SEEN1;
    JOIN = "join": EVENT, LINE, JOINS, PASSES, ACTIVE, FEED, PARKED;
    LOCATE = "locate": EVENT, LINE, JOINS, PASSES, ACTIVE, PARKED;
    RECLAIM = "reclaim": EVENT, LINE, JOINS, PASSES, ACTIVE, FEED, PARKED, SEEN0, SEEN1;
    SEE = "see": EVENT, SEEN0, SEEN1;
    LEAVE = "leave": EVENT, LINE, PASSES, ACTIVE, ENDED, FEED, PARKED;
    SWEEP = "sweep": EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED;
    RELEASE = "release": EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED, SEEN0, SEEN1;
    FOLLOW = "follow": EVENT, LINE, PARKED, ACTIVE, FEED;
    SNAPSHOT = "snapshot": EVENT, LINE;
    COUNTERS = "counters": EVENT, LINE, PARKED, ACTIVE;
    CLAIM = "claim": EVENT, LINE, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS, FEED, PARKED;
    OBSERVE = "observe": EVENT, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS;
    STALE_HOLDS = "stale_holds": EVENT, DUE;
    STOCK = "stock": EVENT, ZONES;
    FORGET_ZONES = "forget_zones": EVENT, ZONES;
}

/// Why a script refused as a whole: the negative number at the head of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptError {
    /// -1: the event is not known. Nothing was changed.
    UnknownEvent,
    /// -2: the arguments do not have the form that the header says. Nothing was changed.
    BadArguments,
}

impl ScriptError {
    /// The error behind a number.
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            -1 => Some(Self::UnknownEvent),
            -2 => Some(Self::BadArguments),
            _ => None,
        }
    }
}
