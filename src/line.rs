//! What this instance knows of an event's line: the numbers that are present, the live numbers, and how fast it moves.
//!
//! The follower keeps it true to the engine's feed; polls, pushes and status are answered from it, without a round trip. What is
//! answered here is never older than [`FRESH`]: older knowledge is not told, and the store is asked instead.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::domain::Timestamp;
use crate::domain::present::{Change, Present, Seen};
use crate::domain::wait::{Outflow, Totals};
use crate::engine::{Counters, Cursor, Followed};

/// The longest that positions are answered from memory after the feed was last heard.
pub const FRESH: Duration = Duration::from_secs(1);
/// Answers of the store that overtook each other lie within this; counters that are older by more mean that its clock was set back.
const OVERTAKEN: Duration = Duration::from_secs(5);

/// An event's line as this instance knows it.
#[derive(Debug)]
pub struct Line {
    known: RwLock<Known>,
    /// Grows with every change of what is known.
    version: AtomicU64,
    /// Microseconds of the last release that this instance ran.
    released_at: AtomicI64,
    /// When this instance asked for it, by a clock that nobody moves.
    asked: Mutex<Option<Instant>>,
    /// Somebody joined through this instance since a release was last due.
    stirred: AtomicBool,
    /// Microseconds until which it was told who was seen.
    told_at: AtomicI64,
}

#[derive(Debug, Default)]
struct Known {
    present: Present,
    /// The last number whose join the feed told, or that was taken in right behind one; `None` after a snapshot.
    tail: Option<u64>,
    /// Where the feed was read to; `None` before the first snapshot.
    cursor: Option<Cursor>,
    /// When the feed was last heard, by this instance's clock; at first, when the event came to be known.
    heard: Timestamp,
    flow: Option<(Counters, Outflow)>,
    /// The highest number that the store said is let in, and when.
    passed: (u64, Timestamp),
}

/// One look at a line.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Where the number stands, from 1; `None` when it is not in line.
    pub position: Option<u64>,
    /// Visitors in line.
    pub waiting: u64,
    /// How the line moves.
    pub flow: Flow,
}

/// How a line moves.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// How fast.
    pub outflow: Outflow,
    /// Until then it does not: see [`Counters::resumes_at`].
    pub resumes_at: Timestamp,
    /// The store's clock when that was seen.
    pub at: Timestamp,
}

impl From<(Counters, Outflow)> for Flow {
    fn from((counters, outflow): (Counters, Outflow)) -> Self {
        Self { outflow, resumes_at: counters.resumes_at, at: counters.at }
    }
}

impl Line {
    /// A line of which nothing is known yet.
    pub fn unknown(now: Timestamp) -> Self {
        Self {
            known: RwLock::new(Known { heard: now, ..Known::default() }),
            version: AtomicU64::new(0),
            released_at: AtomicI64::new(0),
            asked: Mutex::new(None),
            stirred: AtomicBool::new(false),
            told_at: AtomicI64::new(now.micros()),
        }
    }

    /// Where a number stands whose holder was seen now, if the line is known and was heard of within [`FRESH`].
    pub fn look(&self, number: u64, now: Timestamp) -> Option<Look> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let flow = known.flow.filter(|_| known.is_fresh(now))?;
        Some(Look {
            position: known.present.visit(number).filter(|_| !known.was_passed(number, now)),
            waiting: known.present.len(),
            flow: flow.into(),
        })
    }

    /// Many looks at one moment; `None` where [`Line::look`] gives none.
    pub fn survey<T>(&self, now: Timestamp, look: impl FnOnce(&Present) -> T) -> Option<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.is_fresh(now).then(|| look(&known.present))
    }

    /// The store said that a number is let in. The feed may yet tell that it joined: until it has caught up, nobody up to that
    /// number is told from memory that they wait.
    pub fn passed(&self, number: u64, now: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let passed = if known.was_passed(number, now) { known.passed.0 } else { number };
        known.passed = (passed, now);
    }

    /// The holder of a number was seen, though the store answered.
    pub fn see(&self, number: u64) {
        self.known.read().unwrap_or_else(PoisonError::into_inner).present.visit(number);
    }

    /// The numbers whose holders were seen since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).present.take_seen()
    }

    /// Gives back what could not be told.
    pub fn see_again(&self, seen: &[Seen]) {
        self.known.read().unwrap_or_else(PoisonError::into_inner).present.see_again(seen);
    }

    /// Until when it was told who was seen.
    pub fn told_at(&self) -> Timestamp {
        Timestamp::from_micros(self.told_at.load(Ordering::Relaxed))
    }

    /// It was told who was seen until `now`.
    pub fn told(&self, now: Timestamp) {
        self.told_at.store(now.micros(), Ordering::Relaxed);
    }

    /// The live numbers; `None` before the first were heard.
    pub fn latest(&self) -> Option<(Counters, Outflow)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (counters, outflow) = known.flow?;
        let waiting = if known.cursor.is_some() { known.present.len() } else { counters.waiting };
        Some((Counters { waiting, ..counters }, outflow))
    }

    /// Grows with every change: whoever saw this version has seen all there is.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How long ago the feed was heard.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.known.read().unwrap_or_else(PoisonError::into_inner).heard)
    }

    /// Where to read on; `None` when a snapshot comes first.
    pub fn cursor(&self) -> Option<Cursor> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).cursor
    }

    /// Whether a release has something to do: somebody may wait, or the last one was `idle` ago.
    pub fn is_due(&self, now: Timestamp, idle: Duration) -> bool {
        let released = Timestamp::from_micros(self.released_at.load(Ordering::Relaxed));
        self.stirred.swap(false, Ordering::Relaxed)
            || now.since(released) >= idle
            || released > now
            || self.latest().is_none_or(|(counters, _)| counters.waiting > 0)
    }

    /// Takes in what a release reported. `now` is this instance's clock.
    pub fn released(&self, counters: Counters, now: Timestamp) {
        self.released_at.store(now.micros(), Ordering::Relaxed);
        self.known.write().unwrap_or_else(PoisonError::into_inner).count(counters);
    }

    /// How long ago this instance asked for its last release that was answered.
    pub fn since_release(&self, now: Instant) -> Option<Duration> {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.map(|asked| now.saturating_duration_since(asked))
    }

    /// A release was answered that this instance asked for then.
    pub fn release_asked(&self, then: Instant) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(then);
    }

    /// Takes in what the feed said since `from`. `now` is when it was asked. An answer that a [`Line::forget`] overtook is
    /// passed over.
    pub fn heard(&self, from: Option<Cursor>, followed: &Followed, now: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.cursor != from {
            return;
        }
        let changes = followed.changes.as_deref().unwrap_or_default();
        known.present.apply(changes);
        if let Some(last) = changes.iter().rev().find_map(Change::last_joined) {
            known.tail = known.tail.max(Some(last));
        }
        known.cursor = Some(followed.cursor);
        known.count(followed.counters);
        // In the middle of a long way behind, what is known is old however lately it was heard.
        if !followed.more {
            known.heard = now;
        }
        if !changes.is_empty() {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Begins anew from a snapshot, to be followed by the changes since `cursor`.
    pub fn begin(&self, present: Present, cursor: Cursor) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.present = present;
        known.tail = None;
        known.cursor = Some(cursor);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The store does not know the event: nothing that was known of it stands.
    pub fn forget(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.present = Present::default();
        known.tail = None;
        known.cursor = None;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Somebody joined through this instance. A number right behind the last one that the feed told is taken in at once: whatever
    /// becomes of it the feed has yet to tell. Any other waits for the feed, because numbers between may have joined
    /// elsewhere, or this one may be gone again.
    pub fn joined(&self, number: u64) {
        self.stirred.store(true, Ordering::Relaxed);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.tail.is_some_and(|tail| tail + 1 == number) {
            known.tail = Some(number);
            known.present.insert(number..=number);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Somebody left through this instance: whoever stands behind moves up at once.
    pub fn left(&self, number: u64) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).present.remove(number);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl Known {
    fn is_fresh(&self, now: Timestamp) -> bool {
        // The other way round: the clock was set back, or the feed was heard just now by another thread.
        self.cursor.is_some() && now.since(self.heard) <= FRESH && self.heard.since(now) <= FRESH
    }

    fn was_passed(&self, number: u64, now: Timestamp) -> bool {
        number <= self.passed.0 && now.since(self.passed.1) <= FRESH
    }

    fn count(&mut self, counters: Counters) {
        let totals = Totals { waiting: counters.waiting, admitted: counters.admitted, left: counters.left };
        match self.flow.as_mut() {
            Some((last, _)) if counters.at < last.at && last.at.since(counters.at) <= OVERTAKEN => {}
            Some((last, outflow)) => {
                outflow.observe(counters.at, totals);
                *last = counters;
            }
            None => self.flow = Some((counters, Outflow::starting(counters.at, totals))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::QueueState;
    use crate::engine::Numbers;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + millis * 1_000)
    }

    fn counters(now: Timestamp) -> Counters {
        let numbers = Numbers { left: 9, past: 10 };
        Counters {
            state: QueueState::Open,
            waiting: 0,
            active: 0,
            admitted: 0,
            left: 0,
            parked: 0,
            version: 1,
            numbers,
            resumes_at: Timestamp::default(),
            at: now,
        }
    }

    fn step(line: &Line, changes: &[Change], now: Timestamp) {
        let from = line.cursor();
        let cursor = Cursor(0, from.map_or(1, |Cursor(_, seen)| seen + 1));
        let followed = Followed { counters: counters(now), cursor, changes: Some(changes.to_vec()), more: false };
        line.heard(from, &followed, now);
    }

    fn begun(numbers: std::ops::RangeInclusive<u64>) -> Line {
        let line = Line::unknown(at(0));
        let mut present = Present::default();
        present.insert(numbers);
        line.begin(present, Cursor(0, 1));
        line
    }

    fn position(line: &Line, number: u64) -> Option<u64> {
        line.look(number, at(0)).expect("fresh").position
    }

    #[test]
    fn what_is_old_is_not_told() {
        let line = begun(1..=3);
        assert!(line.look(2, at(0)).is_none(), "the snapshot is followed first");
        step(&line, &[], at(0));
        assert_eq!(line.look(2, at(1_000)).map(|look| (look.position, look.waiting)), Some((Some(2), 3)));
        assert!(line.look(2, at(1_001)).is_none());
        assert!(line.look(2, at(-1_001)).is_none(), "the clock was set back");
        assert_eq!(line.age(at(5_000)), Duration::from_secs(5));
    }

    #[test]
    fn a_join_is_taken_in_only_right_behind_one_that_the_feed_told() {
        let line = begun(1..=3);
        step(&line, &[], at(0));
        line.joined(4);
        assert_eq!(position(&line, 4), None, "it may have come and gone before the snapshot");
        step(&line, &[Change::Joined { first: 4, last: 5 }, Change::Gone(4)], at(0));
        line.joined(4);
        line.joined(7);
        assert_eq!((position(&line, 4), position(&line, 7)), (None, None));
        line.joined(6);
        line.joined(7);
        assert_eq!(position(&line, 7), Some(6));
        step(&line, &[Change::Joined { first: 6, last: 7 }, Change::GoneUpTo(6)], at(0));
        assert_eq!((position(&line, 6), position(&line, 7)), (None, Some(1)));
    }

    #[test]
    fn a_leave_is_taken_in_before_or_after_the_feed_tells_of_the_join() {
        let line = begun(1..=3);
        step(&line, &[], at(0));
        line.left(2);
        line.left(4);
        assert_eq!(position(&line, 3), Some(2));
        step(&line, &[Change::Joined { first: 4, last: 5 }, Change::Gone(2), Change::Gone(4)], at(0));
        assert_eq!((position(&line, 4), position(&line, 5)), (None, Some(3)));
    }

    #[test]
    fn an_answer_that_was_overtaken_is_passed_over() {
        let line = begun(1..=3);
        let late = Followed { counters: counters(at(0)), cursor: Cursor(0, 9), changes: Some(vec![]), more: false };
        let from = line.cursor();
        line.forget();
        line.heard(from, &late, at(0));
        assert_eq!(line.cursor(), None);
        assert!(line.look(1, at(0)).is_none());
    }

    #[test]
    fn whoever_was_told_that_they_are_let_in_does_not_wait_again() {
        let line = begun(1..=3);
        step(&line, &[Change::GoneUpTo(3)], at(0));
        line.passed(4, at(0));
        // The feed is behind the store.
        step(&line, &[Change::Joined { first: 4, last: 6 }], at(100));
        let position = |number, now| line.look(number, at(now)).expect("fresh").position;
        assert_eq!((position(4, 100), position(5, 100)), (None, Some(2)));
        assert_eq!(position(4, 1_001), Some(1), "by then it has told, or the visitor is back in line");
    }

    #[test]
    fn answers_that_overtook_each_other_do_not_count_backwards() {
        let line = begun(1..=3);
        line.released(Counters { admitted: 10, ..counters(at(500)) }, at(500));
        line.released(counters(at(400)), at(500));
        assert_eq!(line.latest().map(|(counters, _)| counters.admitted), Some(10));
        line.released(counters(at(-60_000)), at(500));
        assert_eq!(line.latest().map(|(counters, _)| counters.admitted), Some(0), "the store's clock was set back");
    }

    #[test]
    fn a_release_is_due_when_somebody_waits_or_joined_or_it_is_time() {
        let line = Line::unknown(at(0));
        let idle = Duration::from_secs(1);
        assert!(line.is_due(at(0), idle));
        line.released(counters(at(0)), at(0));
        assert!(!line.is_due(at(999), idle));
        assert!(line.is_due(at(1_000), idle));
        line.joined(1);
        assert!(line.is_due(at(10), idle) && !line.is_due(at(10), idle));
    }
}
