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

/// What becomes of a script where the memory of the store is full. Redis reads it from the first line of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It runs: it changes nothing, which Redis sees to.
    Reads,
    /// It runs: it frees more than it takes, or takes next to nothing and operators need it.
    Runs,
    /// It answers whoever needs no memory. The first write that does is refused, and before that nothing was changed.
    Tries,
    /// It is refused as a whole.
    Refused,
}

impl WhenFull {
    const fn first_line(self) -> &'static str {
        match self {
            Self::Reads => "#!lua flags=no-writes\n",
            Self::Runs => "#!lua flags=allow-oom\n",
            Self::Tries => "",
            Self::Refused => "#!lua\n",
        }
    }
}

/// A transition on the store.
#[derive(Debug)]
pub struct Script {
    /// The name of its file, without `.lua`.
    pub name: &'static str,
    /// The text of its file.
    pub source: &'static str,
    /// The keys it is handed, in order.
    pub keys: &'static [Key],
    /// What becomes of it without memory.
    pub when_full: WhenFull,
    loaded: LazyLock<redis::Script>,
}

impl Script {
    /// The whole text as the store runs it.
    pub fn text(&self) -> String {
        let [(_, lib), (_, booking), (_, presence)] = LIBS;
        let text = [lib, booking, presence, self.source].join("\n");
        self.when_full.first_line().to_owned() + &text
    }

    /// The digest by which the store knows it.
    pub(super) fn sha(&self) -> &str {
        self.loaded.get_hash()
    }
}

macro_rules! scripts {
    ($($constant:ident = $name:literal, $when_full:ident: $($key:ident),*;)*) => {
        $(
            #[doc = concat!("`lua/", $name, ".lua`.")]
            pub static $constant: Script = Script {
                name: $name,
                source: include_str!(concat!("../../../lua/", $name, ".lua")),
                keys: &[$($key),*],
                when_full: WhenFull::$when_full,
                loaded: LazyLock::new(|| redis::Script::new(&$constant.text())),
            };
        )*
        /// Every script.
        pub static ALL: &[&Script] = &[$(&$constant),*];
    };
}

scripts! {
    PUT_RULES = "put_rules", Runs: EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED, SEEN0, SEEN1;
    GRANT_NUMBERS = "grant_numbers", Runs: EVENT;
    REMOVE = "remove", Runs: EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS, FEED, PARKED, SEEN0, SEEN1;
    JOIN = "join", Tries: EVENT, LINE, JOINS, PASSES, ACTIVE, FEED, PARKED;
    LOCATE = "locate", Reads: EVENT, LINE, JOINS, PASSES, ACTIVE, PARKED;
    RECLAIM = "reclaim", Tries: EVENT, LINE, JOINS, PASSES, ACTIVE, FEED, PARKED, SEEN0, SEEN1;
    SEE = "see", Tries: EVENT, SEEN0, SEEN1;
    LEAVE = "leave", Runs: EVENT, LINE, PASSES, ACTIVE, ENDED, FEED, PARKED;
    SWEEP = "sweep", Runs: EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED;
    RELEASE = "release", Refused: EVENT, LINE, JOINS, PASSES, ACTIVE, ENDED, FEED, PARKED, SEEN0, SEEN1;
    FOLLOW = "follow", Reads: EVENT, LINE, PARKED, ACTIVE, FEED;
    SNAPSHOT = "snapshot", Reads: EVENT, LINE;
    COUNTERS = "counters", Reads: EVENT, LINE, PARKED, ACTIVE;
    CLAIM = "claim", Tries: EVENT, LINE, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS, FEED, PARKED;
    OBSERVE = "observe", Runs: EVENT, PASSES, ACTIVE, ENDED, ZONES, HOLDS, DUE, BUYERS;
    STALE_HOLDS = "stale_holds", Reads: EVENT, DUE;
    STOCK = "stock", Reads: EVENT, ZONES;
    FORGET_ZONES = "forget_zones", Runs: EVENT, ZONES;
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
