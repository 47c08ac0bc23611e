//! How long a visitor still waits, from the outflow that was observed.
//!
//! Departures (admitted or left) are counted in bins of ten seconds and smoothed with a half-life of a minute. A bin in
//! which the line ran empty says nothing about how fast it could have moved, so it is not counted. Until there is a full
//! bin the operator's rate stands in.

use std::time::Duration;

use super::time::Timestamp;

const BIN: Duration = Duration::from_secs(10);
const HALF_LIFE_BINS: f64 = 6.0;
/// Without a departure for this long there is no estimate.
const STALLED: Duration = Duration::from_mins(1);

/// The smoothed outflow of one event's line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outflow {
    bin_start: Timestamp,
    bin_departed: u64,
    bin_admitted: u64,
    ran_empty: bool,
    last_departure: Timestamp,
    departures: Option<f64>,
    admissions: Option<f64>,
}

/// The running totals of a line, as the engine counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Visitors in the line now.
    pub waiting: u64,
    /// Visitors ever admitted.
    pub admitted: u64,
    /// Visitors who ever left the line without being admitted.
    pub left: u64,
}

impl Outflow {
    /// Starts counting at `now` from the totals so far.
    pub fn starting(now: Timestamp, totals: Totals) -> Self {
        Self {
            bin_start: now,
            bin_departed: totals.admitted + totals.left,
            bin_admitted: totals.admitted,
            ran_empty: totals.waiting == 0,
            last_departure: now,
            departures: None,
            admissions: None,
        }
    }

    /// Takes in the totals of `now`. Totals that went backwards (the store was emptied) start the count anew.
    pub fn observe(&mut self, now: Timestamp, totals: Totals) {
        let departed = totals.admitted + totals.left;
        if departed < self.bin_departed || totals.admitted < self.bin_admitted {
            *self = Self::starting(now, totals);
            return;
        }
        if departed > self.bin_departed || totals.waiting == 0 {
            self.last_departure = now;
        }
        self.ran_empty |= totals.waiting == 0;
        let span = now.since(self.bin_start);
        if span < BIN {
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        let per_second = |count: u64| count as f64 / span.as_secs_f64();
        let admitted = per_second(totals.admitted - self.bin_admitted);
        let smooth = |old: Option<f64>, new: f64| {
            let keep = 0.5_f64.powf(span.as_secs_f64() / BIN.as_secs_f64() / HALF_LIFE_BINS);
            Some(old.map_or(new, |old| old * keep + new * (1.0 - keep)))
        };
        self.admissions = smooth(self.admissions, admitted);
        if !self.ran_empty {
            self.departures = smooth(self.departures, per_second(departed - self.bin_departed));
        }
        *self = Self {
            bin_start: now,
            bin_departed: departed,
            bin_admitted: totals.admitted,
            ran_empty: totals.waiting == 0,
            ..*self
        };
    }

    /// Visitors admitted a minute, as observed; zero before the first full bin.
    pub fn admitted_per_minute(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate, never negative
        let per_minute = (self.admissions.unwrap_or(0.0) * 60.0).round() as u64;
        per_minute
    }

    /// Seconds until whoever stands at `position` (1 = next) is let in, rounded up; `None` when the line does not move.
    pub fn wait_seconds(&self, position: u64, rate_per_second: f64, now: Timestamp) -> Option<u64> {
        if position == 0 {
            return Some(0);
        }
        if rate_per_second <= 0.0 || now.since(self.last_departure) > STALLED.max(interval_of(rate_per_second)) {
            return None;
        }
        let outflow = self.departures.filter(|d| *d > 0.0).unwrap_or(rate_per_second);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seconds = (position as f64 / outflow).ceil() as u64;
        Some(seconds)
    }
}

/// A rate below one a minute is slow, not stalled: allow it two of its own intervals.
fn interval_of(rate_per_second: f64) -> Duration {
    Duration::try_from_secs_f64(2.0 / rate_per_second).unwrap_or(Duration::MAX)
}

/// When a client should ask again: a tenth of the wait, from 1 to 30 seconds; 10 when there is no estimate.
pub fn poll_after_seconds(wait_seconds: Option<u64>) -> u64 {
    wait_seconds.map_or(10, |wait| wait.div_ceil(10).clamp(1, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000).plus(Duration::from_secs(seconds))
    }

    fn totals(waiting: u64, admitted: u64, left: u64) -> Totals {
        Totals { waiting, admitted, left }
    }

    #[test]
    fn the_rate_stands_in_until_the_outflow_is_known() {
        let mut outflow = Outflow::starting(at(0), totals(1_000, 0, 0));
        assert_eq!(outflow.wait_seconds(100, 10.0, at(0)), Some(10));
        for s in 1..=20 {
            outflow.observe(at(s), totals(1_000, s * 2, s * 2)); // 4 a second depart, half of them leavers
        }
        assert_eq!(outflow.wait_seconds(100, 10.0, at(20)), Some(25));
        assert_eq!(outflow.admitted_per_minute(), 120);
    }

    #[test]
    fn an_empty_line_says_nothing_about_its_speed() {
        let mut outflow = Outflow::starting(at(0), totals(0, 0, 0));
        for s in 1..=60 {
            outflow.observe(at(s), totals(0, s / 10, 0));
        }
        assert_eq!(outflow.wait_seconds(100, 10.0, at(60)), Some(10));
    }

    #[test]
    fn a_line_that_stands_still_has_no_estimate() {
        let mut outflow = Outflow::starting(at(0), totals(100, 0, 0));
        outflow.observe(at(59), totals(100, 0, 0));
        assert!(outflow.wait_seconds(5, 10.0, at(59)).is_some());
        assert_eq!(outflow.wait_seconds(5, 10.0, at(61)), None);
        assert_eq!(outflow.wait_seconds(5, 0.0, at(1)), None);
        assert_eq!(outflow.wait_seconds(0, 0.0, at(61)), Some(0));
    }

    #[test]
    fn polls_are_rarer_at_the_back() {
        let ask = |wait| poll_after_seconds(wait);
        assert_eq!((ask(Some(0)), ask(Some(95)), ask(Some(9_999)), ask(None)), (1, 10, 30, 10));
    }
}
