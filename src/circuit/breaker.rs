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

/// What becomes of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They go through.
    Closed,
    /// New ones are refused; those under way are answered, or run into their own bounds.
    Open,
    /// The store gives no sign of life: those under way are given up as well.
    Dead,
}

/// What came of asking for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// The store answered, and calls can be carried out.
    Alive,
    /// Calls could not be carried out yet: others keep all connections.
    Busy,
    /// There was no answer.
    None,
}

/// The rules and what they go by. Time is an argument.
#[derive(Debug)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    state: State,
    /// A heartbeat, or a try, is on its way: never more than one.
    asking: bool,
    /// When the store was last heard of, when it was last asked for a sign of life, and when that was answered or given
    /// up.
    heard: Instant,
    begun: Instant,
    asked: Instant,
}

impl Breaker {
    /// Closed.
    pub const fn new(now: Instant) -> Self {
        Self { failures: 0, state: State::Closed, asking: false, heard: now, begun: now, asked: now }
    }

    /// What becomes of calls.
    pub const fn state(&self) -> State {
        self.state
    }

    /// A call was answered. An answer to a call from before the circuit opened does not close it.
    pub const fn worked(&mut self, now: Instant) {
        self.failures = 0;
        self.heard = now;
    }

    /// A call failed. Says whether that opens the circuit.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = self.state == State::Closed && self.failures >= FAILURES;
        if opens {
            self.state = State::Open;
            // The first try is a whole pause away.
            self.asked = now;
        }
        opens
    }

    /// Whether it is time to ask for a sign of life; whoever is told so asks, and reports with [`Breaker::asked`].
    /// `under_way`: calls that wait for an answer.
    pub fn is_due(&mut self, now: Instant, under_way: usize) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        let due = match self.state {
            State::Open | State::Dead => since(self.asked) >= RETRY,
            State::Closed => since(self.asked) >= REST || (under_way > 0 && since(self.heard) >= SILENCE),
        };
        let due = due && !self.asking;
        if due {
            (self.asking, self.begun) = (true, now);
        }
        due
    }

    /// Takes in what came of asking. Says what becomes of calls now, if that is something else.
    pub fn asked(&mut self, pulse: Pulse, now: Instant) -> Option<State> {
        (self.asking, self.asked) = (false, now);
        let state = match pulse {
            Pulse::Alive => {
                self.worked(now);
                State::Closed
            }
            // Calls were answered meanwhile: then it is the heartbeat's own connection that fell silent.
            Pulse::None if self.heard <= self.begun => State::Dead,
            Pulse::None | Pulse::Busy => self.state,
        };
        (std::mem::replace(&mut self.state, state) != state).then_some(state)
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
        assert!(breaker.failed(start));
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.failed(start), "it opens once");
        breaker.worked(start);
        assert_eq!(breaker.state(), State::Open, "a late answer says nothing of now");

        assert!(!breaker.is_due(start + 99 * MS, 9));
        assert!(breaker.is_due(start + 100 * MS, 0));
        assert!(!breaker.is_due(start + 900 * MS, 9), "one try at a time");
        assert_eq!(breaker.asked(Pulse::Busy, start + 900 * MS), None, "those who keep it busy are waited for");
        assert!(!breaker.is_due(start + 999 * MS, 0));
        assert!(breaker.is_due(start + 1_000 * MS, 0));
        assert_eq!(breaker.asked(Pulse::None, start + 1_001 * MS), Some(State::Dead));
        assert!(breaker.is_due(start + 1_101 * MS, 0));
        assert_eq!(breaker.asked(Pulse::Alive, start + 1_102 * MS), Some(State::Closed));
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
        assert_eq!(breaker.asked(Pulse::Alive, start + 5_000 * MS), None);
        assert!(!breaker.is_due(start + 5_099 * MS, 1));
        breaker.worked(start + 5_099 * MS);
        assert!(!breaker.is_due(start + 5_100 * MS, 1), "others are answered");
        assert!(breaker.is_due(start + 5_199 * MS, 1));
        breaker.worked(start + 5_200 * MS);
        assert_eq!(breaker.asked(Pulse::None, start + 5_700 * MS), None, "others were answered meanwhile");
        assert!(breaker.is_due(start + 5_700 * MS, 1));
        assert_eq!(breaker.asked(Pulse::None, start + 6_200 * MS), Some(State::Dead), "no sign of life");
    }
}
