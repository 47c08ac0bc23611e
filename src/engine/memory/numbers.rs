//! The numbers to hand out: the block in use and one spare.

use crate::engine::NumberBlock;

/// What is left of the blocks that the ledger granted.
///
/// As soon as the block in use is empty the spare takes its place, so there is never a spare behind an empty block, and
/// `end` is past every number known so far whenever a new block may come.
#[derive(Debug, Default)]
pub struct Blocks {
    next: u64,
    end: u64,
    spare: Option<NumberBlock>,
}

impl Blocks {
    /// How many there are.
    pub fn left(&self) -> u64 {
        self.end - self.next + self.spare.map_or(0, |spare| spare.end - spare.start)
    }

    /// One past the last of them, or past the numbers that were given up.
    pub fn past(&self) -> u64 {
        self.spare.map_or(self.end, |spare| spare.end)
    }

    /// The number that is handed out next, if there is one; never smaller than any before.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Adds a block. Ignored when there is a spare, or when the block does not lie beyond every number known so far.
    /// Numbers of it below `floor` are void from the start and left out.
    /// Says whether it was added.
    pub fn grant(&mut self, block: NumberBlock, floor: u64) -> bool {
        let start = block.start.max(floor);
        if self.spare.is_some() || block.start == 0 || block.start < self.end || start >= block.end {
            return false;
        }
        if self.next < self.end {
            self.spare = Some(NumberBlock { start, end: block.end });
        } else {
            (self.next, self.end) = (start, block.end);
        }
        true
    }

    /// Hands out a number.
    pub fn take(&mut self) -> Option<u64> {
        if self.next >= self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.promote(0);
        Some(number)
    }

    /// Gives up what numbers there are; those that come lie beyond `past`, or begin with it.
    pub fn abandon(&mut self, past: u64) {
        self.next = self.next.max(past);
        (self.end, self.spare) = (self.next, None);
    }

    /// Leaves out the numbers below a new floor.
    pub fn raise(&mut self, floor: u64) {
        self.next = self.next.max(floor).min(self.end);
        self.promote(floor);
    }

    fn promote(&mut self, floor: u64) {
        if self.next >= self.end
            && let Some(spare) = self.spare.take()
        {
            (self.next, self.end) = (spare.start.max(floor).min(spare.end), spare.end);
        }
    }
}
