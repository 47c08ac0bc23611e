//! Who was seen lately, and who is parked because they were not.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::domain::present::{BITS, Seen};
use crate::domain::{QueuePolicy, Timestamp, VisitorId};

/// What is known of who was seen, in two windows of time: the present one and the last.
#[derive(Debug, Default)]
pub struct Presence {
    /// Window `w` lies at `w % 2`.
    windows: [Window; 2],
    /// When this was told last, and since when that went on without a gap; `None` before the first time.
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    last: Timestamp,
    since: Timestamp,
}

#[derive(Debug, Default)]
struct Window {
    at: i64,
    blocks: HashMap<u64, [u64; 64]>,
}

impl Window {
    fn has(&self, number: u64) -> bool {
        let bit = number % BITS;
        self.blocks.get(&(number / BITS)).is_some_and(|words| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }
}

/// Which window a time lies in.
fn window_at(length: Duration, time: Timestamp) -> i64 {
    time.micros().div_euclid(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))
}

impl Presence {
    /// Nothing that was known counts any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// What was known may be old: nobody counts as absent until they have had the time to be seen.
    pub fn distrust(&mut self) {
        self.told = None;
    }

    /// Somebody tells who was seen at `at` or later.
    pub fn tell(&mut self, policy: &QueuePolicy, seen: &[Seen], at: Timestamp, now: Timestamp) {
        let Some(length) = policy.presence_window() else { return };
        let since = self.told.filter(|told| now.since(told.last) <= length).map_or(now, |told| told.since);
        self.told = Some(Told { last: now, since });
        for (block, words) in seen {
            self.note(length, at, *block, words);
        }
    }

    /// One visitor is seen now.
    pub fn see(&mut self, policy: &QueuePolicy, number: u64, now: Timestamp) {
        if let Some(length) = policy.presence_window() {
            let mut words = [0; 64];
            words[(number % BITS / 64) as usize] = 1 << (number % 64);
            self.note(length, now, number / BITS, &words);
        }
    }

    fn note(&mut self, length: Duration, at: Timestamp, block: u64, words: &[u64; 64]) {
        let at = window_at(length, at);
        let window = &mut self.windows[usize::from(at % 2 != 0)];
        if window.at > at {
            return;
        }
        if window.at < at {
            *window = Window { at, blocks: HashMap::new() };
        }
        let known = window.blocks.entry(block).or_insert([0; 64]);
        known.iter_mut().zip(words).for_each(|(known, word)| *known |= word);
    }

    /// Whether the holder of a number is known to be away: not seen in either window, and joined before them.
    pub fn is_away(&self, policy: &QueuePolicy, number: u64, joined_at: Timestamp, now: Timestamp) -> bool {
        let Some(length) = policy.presence_window() else { return false };
        let span = length * 2;
        let Some(told) = self.told else { return false };
        if now.since(told.last) > length || now < told.since.plus(span) || now < joined_at.plus(span) {
            return false;
        }
        let at = window_at(length, now);
        let seen_in = |at: i64| {
            let window = &self.windows[usize::from(at % 2 != 0)];
            window.at == at && window.has(number)
        };
        !seen_in(at) && !seen_in(at - 1)
    }
}

/// Visitors whose turn came while they were away, by number. None of them is in line.
#[derive(Debug, Default)]
pub struct Parked {
    visitors: BTreeMap<u64, VisitorId>,
    numbers: HashMap<VisitorId, u64>,
}

impl Parked {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a visitor.
    pub fn number(&self, visitor: &VisitorId) -> Option<u64> {
        self.numbers.get(visitor).copied()
    }

    /// The lowest number.
    pub fn front(&self) -> Option<u64> {
        self.visitors.first_key_value().map(|(number, _)| *number)
    }

    /// Whether the number is somebody's.
    pub fn has(&self, number: u64) -> bool {
        self.visitors.contains_key(&number)
    }

    /// Parks a visitor.
    pub fn push(&mut self, number: u64, visitor: VisitorId) {
        self.numbers.insert(visitor.clone(), number);
        self.visitors.insert(number, visitor);
    }

    /// Takes a visitor out.
    pub fn remove(&mut self, visitor: &VisitorId) -> Option<u64> {
        let number = self.numbers.remove(visitor)?;
        self.visitors.remove(&number);
        Some(number)
    }

    /// Forgets at most so many visitors with numbers below `end`, from the lowest on; says how many.
    pub fn forget(&mut self, most: usize, end: u64) -> usize {
        let mut forgotten = 0;
        while forgotten < most
            && let Some(first) = self.visitors.first_entry()
            && *first.key() < end
        {
            self.numbers.remove(&first.remove());
            forgotten += 1;
        }
        forgotten
    }
}
