//! The feed: the last steps that changed the line.

use std::collections::VecDeque;

use crate::domain::present::Change;
use crate::engine::{Cursor, FEED_LENGTH};

/// Steps read by one call.
const STEPS: usize = 1_024;

/// The last changes, and how many there were before them.
#[derive(Debug)]
pub struct Feed {
    /// Which of all feeds ever made: a cursor of another one is not taken.
    id: u64,
    forgotten: u64,
    kept: VecDeque<Change>,
}

impl Feed {
    /// An empty feed.
    pub const fn new(id: u64) -> Self {
        Self { id, forgotten: 0, kept: VecDeque::new() }
    }

    /// Notes a change.
    pub fn tell(&mut self, change: Change) {
        if self.kept.len() == FEED_LENGTH {
            self.kept.pop_front();
            self.forgotten += 1;
        }
        self.kept.push_back(change);
    }

    /// What came after a cursor, where to go on, and whether there is more; `None` for a cursor that is not of this feed.
    pub fn since(&self, cursor: Option<Cursor>) -> (Option<Vec<Change>>, Cursor, bool) {
        let end = self.forgotten + self.kept.len() as u64;
        let from = cursor.filter(|Cursor(id, _)| *id == self.id).and_then(|Cursor(_, seen)| {
            let skip = usize::try_from(seen.checked_sub(self.forgotten)?).ok()?;
            (skip <= self.kept.len()).then_some(skip)
        });
        let Some(skip) = from else { return (None, Cursor(self.id, end), false) };
        let read: Vec<Change> = self.kept.iter().skip(skip).take(STEPS).copied().collect();
        let reached = self.forgotten + (skip + read.len()) as u64;
        (Some(read), Cursor(self.id, reached), reached < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_too_far_behind_begins_anew() {
        let mut feed = Feed::new(7);
        let (changes, start, _) = feed.since(None);
        assert_eq!(changes, None);
        (1..=FEED_LENGTH as u64).for_each(|number| feed.tell(Change::Gone(number)));
        let (changes, _, more) = feed.since(Some(start));
        assert_eq!((changes.map(|changes| changes.len()), more), (Some(STEPS), true));
        feed.tell(Change::Gone(0));
        assert_eq!(feed.since(Some(start)).0, None);
        assert_eq!(Feed::new(8).since(Some(start)).0, None, "of another feed");
        let (_, end, _) = feed.since(None);
        assert_eq!(feed.since(Some(end)), (Some(vec![]), end, false));
    }
}
