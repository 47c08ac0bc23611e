//! The rules of a circuit, without I/O: when it opens, when it is time for a sign of life, and when it closes.

use std::time::{Duration, Instant};

/// Calls in a row that failed until the circuit opens.
pub const FAILURES: u32 = 5;
/// Calls that are under way and nothing heard for so long: a heartbeat asks whether the store is there at all.
pub const SILENCE: Duration = Duration::from_millis(100);
/// A heartbeat comes at least this often, so that its connection is not given up by whatever lies between.
pub const REST: Duration = Duration::from_secs(5);
/// Between two tries of an open circuit.
pub const RETRY: Duration = Duration::from_millis(100);

/// The state of a circuit. Time is an argument.
#[derive(Debug)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Since when no call is let through; `None` while closed.
    open: Option<Instant>,
    /// A heartbeat, or a try, is on its way: never more than one.
    asking: bool,
    /// When the store was last heard of, when it was last asked for a sign of life, and when that was answered or given up.
    heard: Instant,
    begun: Instant,
    asked: Instant,
}

impl Breaker {
    /// Closed.
    pub const fn new(now: Instant) -> Self {
        Self { failures: 0, open: None, asking: false, heard: now, begun: now, asked: now }
    }

    /// Whether calls are refused.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A call was answered. An answer to a call from before the circuit opened does not close it.
    pub const fn worked(&mut self, now: Instant) {
        self.failures = 0;
        self.heard = now;
    }

    /// A call failed. Says whether that opens the circuit.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= FAILURES && self.trip(now)
    }

    /// Whether it is time to ask for a sign of life; whoever is told so asks, and reports with [`Breaker::asked`].
    /// `under_way`: calls that wait for an answer.
    pub fn is_due(&mut self, now: Instant, under_way: usize) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        let due = match self.open {
            Some(_) => since(self.asked) >= RETRY,
            None => since(self.asked) >= REST || (under_way > 0 && since(self.heard) >= SILENCE),
        };
        let due = due && !self.asking;
        if due {
            (self.asking, self.begun) = (true, now);
        }
        due
    }

    /// What came of asking. Says whether that opened (`Some(true)`) or closed (`Some(false)`) the circuit.
    pub fn asked(&mut self, alive: bool, now: Instant) -> Option<bool> {
        self.asking = false;
        self.asked = now;
        if !alive {
            // Calls were answered meanwhile: then it is the heartbeat's own connection that fell silent.
            return (self.heard <= self.begun && self.trip(now)).then_some(true);
        }
        self.worked(now);
        self.open.take().map(|_| false)
    }

    const fn trip(&mut self, now: Instant) -> bool {
        let opens = self.open.is_none();
        if opens {
            self.open = Some(now);
            // The first try is a whole pause away.
            self.asked = now;
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn failures_in_a_row_open_it_and_only_an_answer_to_a_try_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        for _ in 1..FAILURES {
            assert!(!breaker.failed(start));
        }
        breaker.worked(start);
        for _ in 1..FAILURES {
            assert!(!breaker.failed(start), "one that worked in between begins the row anew");
        }
        assert!(breaker.failed(start) && breaker.is_open());
        assert!(!breaker.failed(start), "it opens once");
        breaker.worked(start);
        assert!(breaker.is_open(), "a late answer says nothing of now");

        assert!(!breaker.is_due(start + 99 * MS, 9));
        assert!(breaker.is_due(start + 100 * MS, 0));
        assert!(!breaker.is_due(start + 900 * MS, 9), "one try at a time");
        assert_eq!(breaker.asked(false, start + 900 * MS), None);
        assert!(breaker.is_open() && !breaker.is_due(start + 999 * MS, 0));
        assert!(breaker.is_due(start + 1_000 * MS, 0));
        assert_eq!(breaker.asked(true, start + 1_001 * MS), Some(false));
        assert!(!breaker.is_open());
        for _ in 1..FAILURES {
            assert!(!breaker.failed(start), "what failed before is over");
        }
    }

    #[test]
    fn a_heartbeat_is_due_when_calls_wait_and_nothing_is_heard() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        assert!(!breaker.is_due(start + 4_999 * MS, 0), "nobody waits");
        assert!(breaker.is_due(start + 5_000 * MS, 0), "the connection is kept warm");
        assert_eq!(breaker.asked(true, start + 5_000 * MS), None);
        assert!(!breaker.is_due(start + 5_099 * MS, 1));
        breaker.worked(start + 5_099 * MS);
        assert!(!breaker.is_due(start + 5_100 * MS, 1), "others are answered");
        assert!(breaker.is_due(start + 5_199 * MS, 1));
        breaker.worked(start + 5_200 * MS);
        assert_eq!(breaker.asked(false, start + 5_700 * MS), None, "others were answered meanwhile");
        assert!(breaker.is_due(start + 5_700 * MS, 1));
        assert_eq!(breaker.asked(false, start + 6_200 * MS), Some(true), "no sign of life");
        assert!(breaker.is_open());
    }
}
