//! The join marks: when the holder of a number joined, to the second, without keeping it for each visitor.

use std::collections::VecDeque;

use crate::domain::Timestamp;
use crate::engine::RELEASE_BATCH;

/// (number, time) of the first join of each second, in order of the numbers.
#[derive(Debug, Default)]
pub struct Marks(VecDeque<(u64, Timestamp)>);

impl Marks {
    /// Notes that `number` joins now, and says which time stands for it.
    pub fn note(&mut self, number: u64, now: Timestamp) -> Timestamp {
        match self.0.back() {
            Some(&(_, last)) if last.seconds() == now.seconds() => last,
            _ => {
                self.0.push_back((number, now));
                now
            }
        }
    }

    /// When the holder of a number joined: the time of the last mark at or before it.
    pub fn joined_at(&self, number: u64) -> Timestamp {
        let after = self.0.partition_point(|&(first, _)| first <= number);
        after.checked_sub(1).map_or_else(Timestamp::default, |at| self.0[at].1)
    }

    /// Notes that `number` joined then, unless the mark that stands for it says so.
    pub fn note_earlier(&mut self, number: u64, joined_at: Timestamp) {
        if self.joined_at(number) != joined_at {
            let place = self.0.partition_point(|&(first, _)| first < number);
            match self.0.get_mut(place) {
                Some(mark) if mark.0 == number => mark.1 = joined_at,
                _ => self.0.insert(place, (number, joined_at)),
            }
        }
    }

    /// Forgets marks that no place from `front` on needs, at most [`RELEASE_BATCH`] of them. The last one always stays.
    pub fn forget_before(&mut self, front: u64) {
        let needed = self.0.partition_point(|&(first, _)| first <= front).saturating_sub(1);
        self.0.drain(..needed.min(RELEASE_BATCH as usize));
    }

    /// The time of the first mark, and the number at which the places of that time end.
    pub fn oldest(&self) -> Option<(Timestamp, u64)> {
        self.0.front().map(|&(_, at)| (at, self.0.get(1).map_or(u64::MAX, |&(next, _)| next)))
    }
}
