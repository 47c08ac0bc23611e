//! The line: visitors in order of their numbers, with the position of each in logarithmic time.
//!
//! Numbers only grow, so the line is a list to which places are appended. A bitmap says which of them are still there; a
//! Fenwick tree counts its words, so that a position is one walk of the tree and one bit count. The list is cut off at the
//! front as it empties; bitmap and tree keep 12 bytes for each 64 places there ever were.

use std::collections::{HashMap, VecDeque};

use crate::domain::VisitorId;

/// A place, or what is left of it.
#[derive(Debug)]
struct Slot {
    number: u64,
    /// `None` once the visitor is out of the line.
    visitor: Option<VisitorId>,
}

/// The visitors who wait.
#[derive(Debug, Default)]
pub struct Line {
    slots: VecDeque<Slot>,
    /// The index of `slots[0]`, counted from the first place there ever was.
    base: usize,
    /// One bit for each place there ever was: whether it is still in line.
    words: Vec<u64>,
    /// Fenwick tree (from 1) over the bit counts of `words`.
    tree: Vec<u32>,
    /// Where each visitor's slot is, counted as `base` is.
    places: HashMap<VisitorId, usize>,
}

const BITS: usize = u64::BITS as usize;

const fn lowest_bit(i: usize) -> usize {
    i & i.wrapping_neg()
}

impl Line {
    /// Visitors in line.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The number of a visitor in line.
    pub fn number(&self, visitor: &VisitorId) -> Option<u64> {
        self.places.get(visitor).map(|&index| self.slots[index - self.base].number)
    }

    /// The position of a visitor in line; 1 is the front.
    pub fn position(&self, visitor: &VisitorId) -> Option<u64> {
        let &index = self.places.get(visitor)?;
        let (word, bit) = (index / BITS, index % BITS);
        let mut ahead = u64::from((self.words[word] & (u64::MAX >> (BITS - 1 - bit))).count_ones());
        let mut i = word;
        while i > 0 {
            ahead += u64::from(self.tree[i - 1]);
            i -= lowest_bit(i);
        }
        Some(ahead)
    }

    /// Adds a visitor, who must not be in line, at the back. `number` must be higher than all before.
    pub fn push(&mut self, number: u64, visitor: VisitorId) {
        let index = self.base + self.slots.len();
        let (word, bit) = (index / BITS, index % BITS);
        if word == self.words.len() {
            self.words.push(0);
            self.grow_tree();
        }
        self.words[word] |= 1 << bit;
        self.count(word, |n| n + 1);
        self.places.insert(visitor.clone(), index);
        self.slots.push_back(Slot { number, visitor: Some(visitor) });
    }

    /// Takes a visitor out of the line.
    pub fn remove(&mut self, visitor: &VisitorId) -> Option<u64> {
        let index = self.places.remove(visitor)?;
        let (word, bit) = (index / BITS, index % BITS);
        self.words[word] &= !(1 << bit);
        self.count(word, |n| n - 1);
        let slot = &mut self.slots[index - self.base];
        slot.visitor = None;
        let number = slot.number;
        while self.slots.front().is_some_and(|slot| slot.visitor.is_none()) {
            self.slots.pop_front();
            self.base += 1;
        }
        Some(number)
    }

    /// The number at the front.
    pub fn front(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.number)
    }

    /// Takes the visitor at the front out of the line.
    pub fn pop(&mut self) -> Option<(u64, VisitorId)> {
        let visitor = self.slots.front()?.visitor.clone()?;
        self.remove(&visitor).map(|number| (number, visitor))
    }

    /// Appends a node, which counts the nodes below it; its own word is still empty.
    fn grow_tree(&mut self) {
        let i = self.tree.len() + 1;
        let (mut below, mut sum) = (i - 1, 0);
        while below > i - lowest_bit(i) {
            sum += self.tree[below - 1];
            below -= lowest_bit(below);
        }
        self.tree.push(sum);
    }

    fn count(&mut self, word: usize, change: impl Fn(u32) -> u32) {
        let mut i = word + 1;
        while i <= self.tree.len() {
            self.tree[i - 1] = change(self.tree[i - 1]);
            i += lowest_bit(i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> VisitorId {
        VisitorId::parse(&format!("v{n}")).expect("valid")
    }

    #[test]
    fn positions_are_those_of_a_plain_list() {
        let (mut line, mut plain) = (Line::default(), Vec::new());
        for n in 0..1_000_usize {
            line.push(n as u64 * 3 + 1, id(n));
            plain.push(n);
            // Leavers all over the line, and a front that moves.
            if n % 3 == 0 {
                let gone = plain.remove(n * 7 % plain.len());
                assert_eq!(line.remove(&id(gone)), Some(gone as u64 * 3 + 1));
            }
            if n % 5 == 0 && !plain.is_empty() {
                let first = plain.remove(0);
                assert_eq!(line.pop(), Some((first as u64 * 3 + 1, id(first))));
            }
        }
        assert_eq!(line.len(), plain.len());
        assert_eq!(line.front(), plain.first().map(|&n| n as u64 * 3 + 1));
        for (at, &n) in plain.iter().enumerate() {
            assert_eq!(line.position(&id(n)), Some(at as u64 + 1));
        }
        while line.pop().is_some() {}
        assert_eq!((line.len(), line.front(), line.position(&id(999))), (0, None, None));
    }
}
