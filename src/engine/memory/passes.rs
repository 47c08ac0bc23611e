//! The passes: who was let in, and what became of it.

use std::collections::{BTreeSet, HashMap};

use crate::domain::{BookingId, Timestamp, VisitorId};
use crate::engine::{Admission, ENDED_TTL, RELEASE_BATCH, Standing};

/// What a pass has come to. Whether an [`PassState::Active`] or [`PassState::Busy`] one ran out is a question of time alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassState {
    /// Out.
    Active,
    /// Out, and in use by this reservation.
    Busy(BookingId),
    /// In use by this reservation, and its slot was given to somebody else since, because it ran out.
    Lapsed(BookingId),
    /// Made into a booking.
    Used,
    /// Ran out.
    Expired,
    /// Given back.
    Void,
}

/// The last pass of a visitor.
#[derive(Debug, Clone)]
pub struct Pass {
    /// What it says.
    pub admission: Admission,
    /// What became of it.
    pub state: PassState,
}

impl Pass {
    /// Whether it is out at `now`: neither used, given back nor run out.
    pub fn is_good(&self, now: Timestamp) -> bool {
        matches!(self.state, PassState::Active | PassState::Busy(_)) && self.admission.expires_at > now
    }

    /// What a visitor who is not in line is told.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.state {
            PassState::Used => Standing::Used(self.admission),
            PassState::Void => Standing::Absent,
            _ if self.is_good(now) => Standing::Admitted(self.admission),
            _ => Standing::Expired(self.admission),
        }
    }
}

/// The passes of an event. Every record is in exactly one of `active` and `ended`.
#[derive(Debug, Default)]
pub struct Passes {
    records: HashMap<VisitorId, Pass>,
    /// By expiry: those that take a slot.
    active: BTreeSet<(Timestamp, VisitorId)>,
    /// By the time at which they are forgotten: all others.
    ended: BTreeSet<(Timestamp, VisitorId)>,
}

impl Passes {
    /// The last pass of a visitor.
    pub fn get(&self, visitor: &VisitorId) -> Option<&Pass> {
        self.records.get(visitor)
    }

    /// Passes that take a slot at `now`. Those that ran out do not, swept or not.
    pub fn active(&self, now: Timestamp) -> usize {
        self.active.len() - self.active.iter().take_while(|(expires, _)| *expires <= now).count()
    }

    /// Records a pass that is out, in place of any other of the visitor.
    pub fn put(&mut self, visitor: VisitorId, pass: Pass) {
        if let Some(old) = self.records.remove(&visitor) {
            self.active.remove(&(old.admission.expires_at, visitor.clone()));
            self.ended.remove(&(old.admission.expires_at.plus(ENDED_TTL), visitor.clone()));
        }
        self.active.insert((pass.admission.expires_at, visitor.clone()));
        self.records.insert(visitor, pass);
    }

    /// Changes the state of a pass that keeps its slot.
    pub fn mark(&mut self, visitor: &VisitorId, state: PassState) {
        if let Some(pass) = self.records.get_mut(visitor) {
            pass.state = state;
        }
    }

    /// Changes the state of a pass and takes its slot.
    pub fn end(&mut self, visitor: &VisitorId, state: PassState) {
        if let Some(pass) = self.records.get_mut(visitor) {
            pass.state = state;
            self.active.remove(&(pass.admission.expires_at, visitor.clone()));
            self.ended.insert((pass.admission.expires_at.plus(ENDED_TTL), visitor.clone()));
        }
    }

    /// A booking took over the pass that it had in use, or gave it back. Passed over when the visitor has another by now.
    pub fn resolve(&mut self, visitor: &VisitorId, number: u64, booking: &BookingId, used: bool) {
        let Some(pass) = self.records.get(visitor).filter(|pass| pass.admission.number == number) else { return };
        match (&pass.state, used) {
            (PassState::Busy(by) | PassState::Lapsed(by), true) if by == booking => self.end(visitor, PassState::Used),
            (PassState::Busy(by), false) if by == booking => self.mark(visitor, PassState::Active),
            (PassState::Lapsed(by), false) if by == booking => self.mark(visitor, PassState::Expired),
            _ => {}
        }
    }

    /// Takes the slots of passes that ran out, then forgets those that ended long ago; a bounded number of each.
    pub fn sweep(&mut self, now: Timestamp) {
        for visitor in due(&self.active, now) {
            let state = match self.records.get(&visitor).map(|pass| &pass.state) {
                Some(PassState::Busy(booking)) => PassState::Lapsed(booking.clone()),
                _ => PassState::Expired,
            };
            self.end(&visitor, state);
        }
        for visitor in due(&self.ended, now) {
            if let Some(old) = self.records.remove(&visitor) {
                self.ended.remove(&(old.admission.expires_at.plus(ENDED_TTL), visitor));
            }
        }
    }
}

fn due(set: &BTreeSet<(Timestamp, VisitorId)>, now: Timestamp) -> Vec<VisitorId> {
    set.iter().take_while(|(at, _)| *at <= now).take(RELEASE_BATCH as usize).map(|(_, v)| v.clone()).collect()
}
