//! The token bucket that sets the pace of a release, in its virtual-time form (GCRA).
//!
//! `v` is the time up to which tokens have been spent. With T = 60·10⁶ / admit_per_minute microseconds a token and a
//! burst of B = max(1, one second's worth) tokens:
//!
//! ```text
//! v ← max(v, now − B·T)        tokens older than the burst are lost
//! n = ⌊(now − v) / T⌋          whole tokens there are now
//! v ← v + n·T                  spend them
//! ```
//!
//! Between two looks the clock may be moved. Whoever looks says how long ago they looked themselves, by a clock that nobody
//! moves: time that they did not see go by ([`LEEWAY`] apart) is worth no token, and what was saved up stays.
//!
//! `lua/release.lua` and `lua/put_rules.lua` do the same arithmetic in the same order on the same doubles, so both engines
//! give equal answers. A change of the rate touches only the future: [`Bucket::rerate`] carries the tokens over.

use std::time::Duration;

use super::time::Timestamp;

/// Two calls may reach the store further apart than they were made: a longer time than that tells of a clock that was moved.
pub const LEEWAY: Duration = Duration::from_millis(500);

/// The state of one event's bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Microseconds since the epoch up to which tokens are spent.
    pub spent_until: f64,
    /// Microseconds since the epoch of the last look.
    pub looked_at: f64,
}

/// Microseconds between two tokens. The rate must not be zero.
fn interval(admit_per_minute: u32) -> f64 {
    60_000_000.0 / f64::from(admit_per_minute)
}

/// Tokens that can be saved up: one second's worth, at least one.
fn burst(admit_per_minute: u32) -> f64 {
    (f64::from(admit_per_minute) / 60.0).max(1.0)
}

#[allow(clippy::cast_precision_loss)] // microseconds stay below 2^53 until the year 2255
fn micros(now: Timestamp) -> f64 {
    now.micros() as f64
}

#[allow(clippy::cast_precision_loss)] // as above
fn length(span: Duration) -> f64 {
    span.as_micros() as f64
}

impl Bucket {
    /// An empty bucket: the first token comes one interval after `now`.
    pub fn empty(now: Timestamp) -> Self {
        Self { spent_until: micros(now), looked_at: micros(now) }
    }

    /// How many tokens there are, up to `most`.
    pub fn tokens(&self, admit_per_minute: u32, since: Option<Duration>, now: Timestamp, most: u32) -> u32 {
        Self { ..*self }.take(admit_per_minute, since, now, most)
    }

    /// Takes up to `most` tokens and says how many there were. `since` is how long ago the caller looked last; `None` where that
    /// is not known, and the clock is believed.
    ///
    /// A bucket that ran more than two intervals ahead of `now` (the store's clock was set back) starts again at `now`,
    /// empty, so that a clock that jumps never lets more in and never stops the line.
    pub fn take(&mut self, admit_per_minute: u32, since: Option<Duration>, now: Timestamp, most: u32) -> u32 {
        if admit_per_minute == 0 {
            return 0;
        }
        let (now, step) = (micros(now), interval(admit_per_minute));
        if let Some(since) = since {
            let gap = now - self.looked_at;
            if gap < 0.0 || gap > length(since) + length(LEEWAY) {
                self.spent_until = (self.spent_until + gap).min(now);
            }
        }
        self.looked_at = now;
        if self.spent_until > now + 2.0 * step {
            self.spent_until = now;
        }
        self.spent_until = self.spent_until.max(now - burst(admit_per_minute) * step);
        let tokens = ((now - self.spent_until) / step).floor().clamp(0.0, f64::from(most));
        self.spent_until += tokens * step;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=most
        let taken = tokens as u32;
        taken
    }

    /// Carries the tokens saved up so far over to a new rate, no more of them than its burst.
    pub fn rerate(&mut self, from: u32, to: u32, now: Timestamp) {
        let now = micros(now);
        if from == to {
            return;
        }
        if from == 0 || to == 0 {
            self.spent_until = now;
            return;
        }
        let saved = ((now - self.spent_until) / interval(from)).clamp(0.0, burst(from).min(burst(to)));
        self.spent_until = now - saved * interval(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000).plus(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn six_hundred_a_minute_is_ten_a_second_however_often_it_is_asked() {
        for step in [0.01, 0.05, 0.25, 0.9] {
            let mut bucket = Bucket::empty(at(0.0));
            let (mut clock, mut taken) = (0.0, 0);
            while clock < 60.0 {
                clock += step;
                taken += bucket.take(600, None, at(clock), 100);
            }
            assert!((599..=610).contains(&taken), "{taken} in steps of {step}");
        }
    }

    #[test]
    fn never_more_than_one_seconds_worth_at_once_and_at_least_one() {
        assert_eq!(Bucket::empty(at(0.0)).take(600, None, at(3600.0), 1_000), 10);
        assert_eq!(Bucket::empty(at(0.0)).take(6, None, at(3600.0), 1_000), 1);
        assert_eq!(Bucket::empty(at(0.0)).take(60_000_000, None, at(3600.0), 100), 100);
        assert_eq!(Bucket::empty(at(0.0)).take(0, None, at(3600.0), 100), 0);
    }

    #[test]
    fn a_change_of_rate_touches_only_the_future() {
        // 59 of the 60 seconds to the next token have gone by: 59/60 of a token, at any rate.
        let mut bucket = Bucket::empty(at(0.0));
        bucket.rerate(1, 600, at(59.0));
        assert_eq!(bucket.take(600, None, at(59.0), 100), 0);
        assert_eq!(bucket.take(600, None, at(59.01), 100), 1);
        // A rate far too high leaves nothing behind when it is undone.
        let mut bucket = Bucket::empty(at(0.0));
        bucket.take(60_000_000, None, at(1.0), 1_000_000);
        bucket.rerate(60_000_000, 60, at(1.0));
        assert_eq!(bucket.take(60, None, at(1.5), 100), 0);
        assert_eq!(bucket.take(60, None, at(2.0), 100), 1);
    }

    #[test]
    fn a_clock_that_jumps_neither_floods_nor_stops_the_line() {
        let mut bucket = Bucket::empty(at(0.0));
        assert_eq!(bucket.take(600, None, at(30.0), 100), 10, "a jump ahead is worth one burst");
        assert_eq!(bucket.take(600, None, at(0.0), 100), 0, "a jump back starts again, empty");
        assert_eq!(bucket.take(600, None, at(0.1), 100), 1, "and goes on at the rate");
    }

    #[test]
    fn time_that_the_caller_did_not_see_is_worth_nothing() {
        let tick = Some(Duration::from_millis(100));
        let mut bucket = Bucket::empty(at(0.0));
        assert_eq!(bucket.take(600, None, at(0.45), 100), 4);
        for (clock, token) in [(30.45, 0), (30.55, 1), (0.55, 0), (0.65, 1), (0.0, 0), (0.1, 1), (60.0, 0), (60.1, 1)] {
            assert_eq!(bucket.take(600, tick, at(clock), 100), token, "at {clock}");
        }
        // What was saved up is not lost with it.
        let mut bucket = Bucket::empty(at(0.0));
        assert_eq!(bucket.take(600, None, at(1.0), 0), 0);
        assert_eq!(bucket.take(600, tick, at(31.0), 100), 10);
        // Whoever was away for long believes the clock for as long.
        assert_eq!(bucket.take(600, Some(Duration::from_secs(2)), at(32.0), 100), 10);
    }
}
