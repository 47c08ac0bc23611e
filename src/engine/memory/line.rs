//! The line: visitors in order of their numbers, and the changes that whoever follows is told of.

use std::collections::{BTreeMap, HashMap};

use super::feed::Feed;
use crate::domain::VisitorId;
use crate::domain::present::{Change, Present};
use crate::engine::{RELEASE_BATCH, SNAPSHOT_PAGE, SnapshotPage};

/// The visitors who wait. Every visitor is in all three; every change is told.
#[derive(Debug)]
pub struct Line {
    visitors: BTreeMap<u64, VisitorId>,
    numbers: HashMap<VisitorId, u64>,
    present: Present,
    /// What changed.
    pub feed: Feed,
}

impl Line {
    /// Nobody, and nothing told yet.
    pub fn new(feed: Feed) -> Self {
        Self { visitors: BTreeMap::new(), numbers: HashMap::new(), present: Present::default(), feed }
    }

    /// Visitors in line.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a visitor in line.
    pub fn number(&self, visitor: &VisitorId) -> Option<u64> {
        self.numbers.get(visitor).copied()
    }

    /// Whether somebody has the number.
    pub fn has(&self, number: u64) -> bool {
        self.visitors.contains_key(&number)
    }

    /// The position of a number in line; 1 is the front.
    pub fn position(&self, number: u64) -> Option<u64> {
        self.present.position(number)
    }

    /// Adds a visitor, who must not be in line, at a number that nobody has.
    pub fn push(&mut self, number: u64, visitor: VisitorId) {
        self.numbers.insert(visitor.clone(), number);
        self.visitors.insert(number, visitor);
        self.present.insert(number..=number);
        self.feed.tell(Change::Joined { first: number, last: number });
    }

    /// Takes a visitor out of the line.
    pub fn remove(&mut self, visitor: &VisitorId) -> Option<u64> {
        let number = self.numbers.remove(visitor)?;
        self.visitors.remove(&number);
        self.present.remove(number);
        self.feed.tell(Change::Gone(number));
        Some(number)
    }

    /// The number at the front.
    pub fn front(&self) -> Option<u64> {
        self.visitors.first_key_value().map(|(number, _)| *number)
    }

    /// Takes at most so many visitors with numbers below `end` out of the front of the line.
    pub fn pop(&mut self, most: u32, end: u64) -> Vec<(u64, VisitorId)> {
        let mut popped = Vec::new();
        while popped.len() < most as usize
            && let Some(front) = self.visitors.first_entry()
            && *front.key() < end
        {
            let (number, visitor) = front.remove_entry();
            self.numbers.remove(&visitor);
            popped.push((number, visitor));
        }
        if let Some((last, _)) = popped.last() {
            self.present.remove_up_to(*last);
            self.feed.tell(Change::GoneUpTo(*last));
        }
        popped
    }

    /// Takes visitors out of the front until `present` of them are not away, looking at no more than [`RELEASE_BATCH`]; says of
    /// each whether they are, and how many are not. Whoever comes behind the last of those is left where they are.
    pub fn front_until(&mut self, present: u32, is_away: impl Fn(u64) -> bool) -> (Vec<(u64, VisitorId, bool)>, u32) {
        let (mut away, mut found) = (Vec::new(), 0);
        for &number in self.visitors.keys().take(RELEASE_BATCH as usize) {
            if found == present {
                break;
            }
            away.push(is_away(number));
            found += u32::from(!away.last().is_some_and(|away| *away));
        }
        let most = u32::try_from(away.len()).unwrap_or(RELEASE_BATCH);
        let out = self.pop(most, u64::MAX).into_iter().zip(away);
        (out.map(|((number, visitor), away)| (number, visitor, away)).collect(), found)
    }

    /// Sends everybody away, because every number up to this one is void, and those who are beyond it.
    pub fn clear(&mut self, up_to: u64) {
        let last = self.visitors.last_key_value().map_or(0, |(number, _)| *number);
        let up_to = up_to.max(last);
        self.visitors.clear();
        self.numbers.clear();
        self.present.remove_up_to(up_to);
        self.feed.tell(Change::GoneUpTo(up_to));
    }

    /// The numbers from `from` on, a page of them.
    pub fn snapshot(&self, from: u64) -> SnapshotPage {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut numbers = self.visitors.range(from..).map(|(number, _)| *number);
        for number in numbers.by_ref().take(SNAPSHOT_PAGE) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        SnapshotPage { ranges, next: numbers.next() }
    }
}
