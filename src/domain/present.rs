//! The numbers that are present in a line, and the position of each: a bitmap with running counts.
//!
//! A position is a binary search for a block of [`BITS`] numbers, the count of all blocks before it, and the bits up to the
//! number: the same few steps at a thousand and at a million. Blocks without a number are not kept, so memory is bounded by the numbers that
//! are present, whatever gaps there are between them. A change costs one addition for each block behind it.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers in one block.
pub const BITS: u64 = WORD * WORDS as u64;
const WORD: u64 = u64::BITS as u64;
const WORDS: usize = 64;

/// A change of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The numbers from the first to the last joined.
    Joined {
        /// The first number.
        first: u64,
        /// The last number, not below the first.
        last: u64,
    },
    /// The number is out of the line.
    Gone(u64),
    /// Every number up to this one is out of the line: the front moved past it.
    GoneUpTo(u64),
}

impl Change {
    /// The last number that this change says joined.
    pub const fn last_joined(&self) -> Option<u64> {
        match *self {
            Self::Joined { last, .. } => Some(last),
            Self::Gone(_) | Self::GoneUpTo(_) => None,
        }
    }
}

/// Numbers of one block whose holders were seen: the block's index, and a bit for each number.
pub type Seen = (u64, [u64; WORDS]);

/// The numbers that are present, and whose holders were seen since that was last asked.
#[derive(Debug, Default)]
pub struct Present {
    /// Ordered by index; none is empty.
    blocks: Vec<Block>,
    highest: u64,
}

#[derive(Debug)]
struct Block {
    /// The block holds the numbers from `index * BITS` on.
    index: u64,
    /// Numbers present in the blocks before this one.
    before: u64,
    /// Numbers present in this one.
    count: u32,
    words: Box<[u64; WORDS]>,
    /// A bit for each number whose holder was seen, present or not.
    seen: Box<[AtomicU64; WORDS]>,
}

impl Block {
    /// The word and the bit of a number of this block.
    const fn at(number: u64) -> (usize, u64) {
        ((number % BITS / WORD) as usize, 1 << (number % WORD))
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = Self::at(number);
        self.words[word] & bit != 0
    }

    /// Notes that the holder of a number was seen. Most of the time that is known already, and costs no write.
    fn see(&self, number: u64) {
        let (word, bit) = Self::at(number);
        if self.seen[word].load(Ordering::Relaxed) & bit == 0 {
            self.seen[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Numbers of this block up to `number`, itself included.
    fn up_to(&self, number: u64) -> u64 {
        let (word, bit) = Self::at(number);
        let whole: u32 = self.words[..word].iter().map(|bits| bits.count_ones()).sum();
        u64::from(whole + (self.words[word] & (bit | (bit - 1))).count_ones())
    }
}

impl Present {
    /// Numbers present.
    pub fn len(&self) -> u64 {
        self.blocks.last().map_or(0, |last| last.before + u64::from(last.count))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The highest number that is known to have joined, present or not.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The position of a number, from 1; `None` when it is not present.
    pub fn position(&self, number: u64) -> Option<u64> {
        let block = &self.blocks[self.find(number).ok()?];
        block.has(number).then(|| block.before + block.up_to(number))
    }

    /// The position of a number, from 1, whose holder was seen now; `None` when it is not present.
    pub fn visit(&self, number: u64) -> Option<u64> {
        let block = &self.blocks[self.find(number).ok()?];
        block.has(number).then(|| {
            block.see(number);
            block.before + block.up_to(number)
        })
    }

    /// The numbers whose holders were seen since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        let taken = self.blocks.iter().map(|block| {
            let take =
                |word: &AtomicU64| if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Relaxed) };
            (block.index, std::array::from_fn(|at| take(&block.seen[at])))
        });
        taken.filter(|(_, words)| words.iter().any(|word| *word != 0)).collect()
    }

    /// Gives back what [`Present::take_seen`] took and could not be told.
    pub fn see_again(&self, seen: &[Seen]) {
        for (index, words) in seen {
            if let Ok(at) = self.blocks.binary_search_by_key(index, |block| block.index) {
                for (word, bits) in self.blocks[at].seen.iter().zip(words) {
                    word.fetch_or(*bits, Ordering::Relaxed);
                }
            }
        }
    }

    /// The lowest number that is present.
    pub fn first(&self) -> Option<u64> {
        let front = self.blocks.first()?;
        let (word, bits) = front.words.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        Some(front.index * BITS + word as u64 * WORD + u64::from(bits.trailing_zeros()))
    }

    /// Takes in changes, in their order. A change that is known already changes nothing.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Joined { first, last } => self.insert(first..=last),
                Change::Gone(number) => self.remove(number),
                Change::GoneUpTo(number) => self.remove_up_to(number),
            }
        }
    }

    /// Adds the numbers of a range.
    pub fn insert(&mut self, numbers: RangeInclusive<u64>) {
        let (mut next, last) = (*numbers.start(), *numbers.end());
        self.highest = self.highest.max(last);
        while next <= last {
            let end = last.min(next | (BITS - 1));
            self.insert_in_block(next, end);
            next = end + 1;
        }
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: u64) {
        let Ok(at) = self.find(number) else { return };
        let (word, bit) = Block::at(number);
        let block = &mut self.blocks[at];
        if block.words[word] & bit == 0 {
            return;
        }
        block.words[word] &= !bit;
        block.count -= 1;
        let is_empty = block.count == 0;
        self.blocks[at + 1..].iter_mut().for_each(|behind| behind.before -= 1);
        if is_empty {
            self.blocks.remove(at);
        }
    }

    /// Takes every number up to this one out.
    pub fn remove_up_to(&mut self, number: u64) {
        self.highest = self.highest.max(number);
        let whole = self.blocks.partition_point(|block| block.index < number / BITS);
        self.blocks.drain(..whole);
        if let Some(front) = self.blocks.first_mut()
            && front.index == number / BITS
        {
            let (word, bit) = Block::at(number);
            front.words[..word].fill(0);
            front.words[word] &= !(bit | (bit - 1));
            front.count = front.words.iter().map(|bits| bits.count_ones()).sum();
            if front.count == 0 {
                self.blocks.remove(0);
            }
        }
        self.recount(0);
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.blocks.binary_search_by_key(&(number / BITS), |block| block.index)
    }

    fn insert_in_block(&mut self, first: u64, last: u64) {
        let at = self.find(first).unwrap_or_else(|at| {
            let (words, seen) = (Box::new([0; WORDS]), Box::new([const { AtomicU64::new(0) }; WORDS]));
            let block = Block { index: first / BITS, before: 0, count: 0, words, seen };
            self.blocks.insert(at, block);
            at
        });
        let block = &mut self.blocks[at];
        for number in first..=last {
            let (word, bit) = Block::at(number);
            block.count += u32::from(block.words[word] & bit == 0);
            block.words[word] |= bit;
        }
        self.recount(at);
    }

    /// Sets the running counts right from a block on.
    fn recount(&mut self, from: usize) {
        let mut before = from.checked_sub(1).map_or(0, |at| self.blocks[at].before + u64::from(self.blocks[at].count));
        for block in &mut self.blocks[from..] {
            block.before = before;
            before += u64::from(block.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Numbers around the edges of words and blocks, and far away.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0..200_u64, 2 => BITS - 70..BITS + 70, 1 => 9 * BITS..9 * BITS + 130, 1 => 1_u64 << 50..(1 << 50) + 3]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (number(), 0..150_u64).prop_map(|(first, more)| Change::Joined { first, last: first + more }),
            4 => number().prop_map(Change::Gone),
            1 => number().prop_map(Change::GoneUpTo),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set(changes in proptest::collection::vec(change(), 0..60)) {
            let (mut present, mut plain, mut highest) = (Present::default(), BTreeSet::new(), 0);
            for change in changes {
                present.apply(&[change]);
                match change {
                    Change::Joined { first, last } => {
                        plain.extend(first..=last);
                        highest = highest.max(last);
                    }
                    Change::Gone(number) => {
                        plain.remove(&number);
                    }
                    Change::GoneUpTo(number) => {
                        plain = plain.split_off(&(number + 1));
                        highest = highest.max(number);
                    }
                }
                prop_assert_eq!(present.len(), plain.len() as u64);
                prop_assert_eq!(present.is_empty(), plain.is_empty());
                prop_assert_eq!(present.first(), plain.first().copied());
                prop_assert_eq!(present.highest(), highest);
            }
            for (at, &number) in plain.iter().enumerate() {
                prop_assert_eq!(present.position(number), Some(at as u64 + 1));
                if !plain.contains(&(number + 1)) {
                    prop_assert_eq!(present.position(number + 1), None);
                }
            }
        }
    }

    #[test]
    fn what_is_empty_takes_no_room() {
        let mut present = Present::default();
        present.insert(1..=100_000);
        present.insert(1 << 60..=(1 << 60) + 1);
        assert_eq!((present.len(), present.blocks.len()), (100_002, 26));
        present.remove_up_to(100_000);
        assert_eq!((present.blocks.len(), present.position((1 << 60) + 1)), (1, Some(2)));
        present.remove(1 << 60);
        present.remove((1 << 60) + 1);
        assert!(present.is_empty() && present.blocks.is_empty());
    }
}
