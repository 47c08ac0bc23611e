//! One event: the transitions of the line and the passes. `lua/*.lua` takes the same steps in the same order.

use std::time::Duration;

use crate::domain::present::Seen;
use crate::domain::release::Bucket;
use crate::domain::{QueueState, Timestamp, VisitorId};
use crate::engine::{
    Admission, Away, Claim, Claimed, ClaimedPass, Counters, Cursor, EventRules, Followed, InForce, Joined, Leaving,
    LedgerNews, Left, NumberBlock, Numbers, PLACE_TTL, Place, RELEASE_BATCH, Reclaim, Released, SnapshotPage, Standing,
    StockChange,
};

use super::feed::Feed;
use super::line::Line;
use super::marks::Marks;
use super::numbers::Blocks;
use super::passes::{Pass, PassState, Passes};
use super::presence::{Parked, Presence};
use super::stock::{Before, Stock};

/// All that the engine keeps of an event.
#[derive(Debug)]
pub struct EventState {
    rules: EventRules,
    bucket: Bucket,
    line: Line,
    marks: Marks,
    passes: Passes,
    admitted: u64,
    left: u64,
    /// No block was granted yet that is new to everybody.
    unsure: bool,
    /// Numbers below it were handed out by another store, or may have been.
    lost_to: u64,
    /// Nobody is let in before.
    resume_at: Timestamp,
    presence: Presence,
    parked: Parked,
    /// The numbers to hand out.
    pub numbers: Blocks,
    /// The fast inventory.
    pub stock: Stock,
}

impl EventState {
    /// A new event, with an empty bucket and no numbers.
    ///
    /// `feed` is another number for each event ever made.
    pub fn new(rules: EventRules, feed: u64, now: Timestamp) -> Self {
        Self {
            rules,
            bucket: Bucket::empty(now),
            line: Line::new(Feed::new(feed)),
            marks: Marks::default(),
            passes: Passes::default(),
            admitted: 0,
            left: 0,
            unsure: true,
            lost_to: 0,
            resume_at: Timestamp::default(),
            presence: Presence::default(),
            parked: Parked::default(),
            numbers: Blocks::default(),
            stock: Stock::default(),
        }
    }

    /// The numbers to hand out.
    pub fn numbers(&self) -> Numbers {
        Numbers { left: self.numbers.left(), past: self.numbers.past().max(self.floor()).max(1) }
    }

    /// What is in force.
    pub fn in_force(&self) -> InForce {
        InForce { version: self.rules.version, floor: self.floor(), numbers: self.numbers() }
    }

    /// The floor in force.
    pub const fn floor(&self) -> u64 {
        self.rules.number_floor
    }

    /// Puts newer rules in force. A floor never sinks.
    pub fn put_rules(&mut self, rules: &EventRules, now: Timestamp) {
        if rules.version <= self.rules.version {
            return;
        }
        self.bucket.rerate(self.rules.policy.admit_per_minute, rules.policy.admit_per_minute, now);
        if self.rules.policy.presence_seconds != rules.policy.presence_seconds {
            self.presence.forget();
        }
        let floor = self.floor();
        self.rules = EventRules { number_floor: floor.max(rules.number_floor), ..rules.clone() };
        if self.floor() > floor {
            self.numbers.raise(self.floor());
            self.line.clear(self.floor() - 1);
            self.marks = Marks::default();
            self.passes = Passes::default();
            self.parked = Parked::default();
        }
    }

    /// See [`crate::engine::Engine::grant_numbers`].
    pub fn grant(&mut self, block: NumberBlock, recovery: Duration, now: Timestamp) {
        if self.numbers.grant(block, self.floor()) && self.unsure {
            (self.unsure, self.lost_to) = (false, block.start);
            let lost = block.start > self.floor().max(1);
            self.resume_at = if lost { now.plus(recovery) } else { Timestamp::default() };
        }
    }

    /// See [`crate::engine::Engine::reclaim`].
    pub fn reclaim(&mut self, proof: &Reclaim, now: Timestamp) -> Standing {
        if let Some(number) = self.parked.remove(&proof.visitor) {
            self.line.push(number, proof.visitor.clone());
            self.presence.see(&self.rules.policy, number, now);
        }
        if self.was_lost(proof, now) {
            self.line.remove(&proof.visitor);
            self.line.push(proof.number, proof.visitor.clone());
            self.marks.note_earlier(proof.number, proof.joined_at);
            self.presence.see(&self.rules.policy, proof.number, now);
        }
        self.locate(&proof.visitor, now)
    }

    /// Whether a store lost the place that the ticket proves. It is not if the visitor has a better one or a pass of it, if it is
    /// somebody else's, or if it was given up.
    fn was_lost(&mut self, proof: &Reclaim, now: Timestamp) -> bool {
        let &Reclaim { ref visitor, number, joined_at } = proof;
        let kept = self.line.number(visitor).is_some_and(|place| place <= number)
            || self.passes.get(visitor).is_some_and(|pass| pass.admission.number >= number);
        if kept || number < self.floor().max(1) || joined_at.plus(PLACE_TTL) <= now {
            return false;
        }
        if number >= self.numbers.next() {
            self.numbers.abandon(number + 1);
            self.presence.distrust();
            (self.unsure, self.lost_to) = (true, self.numbers.next());
        }
        number < self.lost_to && !self.line.has(number) && !self.parked.has(number)
    }

    /// See [`crate::engine::Engine::join`].
    pub fn join(&mut self, visitor: &VisitorId, now: Timestamp) -> Joined {
        if let Some(place) = self.place(visitor) {
            return Joined::Already(place);
        }
        if let Some(pass) = self.passes.get(visitor).filter(|pass| pass.is_good(now)) {
            return Joined::Admitted(pass.admission);
        }
        if let Some(away) = self.away(visitor) {
            return Joined::Parked(away);
        }
        let policy = &self.rules.policy;
        if policy.state_at(now) == QueueState::Closed {
            return Joined::Closed;
        }
        if policy.max_queue > 0 && (self.line.len() + self.parked.len()) as u64 >= u64::from(policy.max_queue) {
            return Joined::Full;
        }
        let Some(number) = self.numbers.take() else { return Joined::NoNumbers };
        self.line.push(number, visitor.clone());
        let joined_at = self.marks.note(number, now);
        Joined::New(Place { number, position: self.line.len() as u64, joined_at })
    }

    /// See [`crate::engine::Engine::locate`].
    pub fn locate(&self, visitor: &VisitorId, now: Timestamp) -> Standing {
        match self.place(visitor) {
            Some(place) => Standing::Waiting(place),
            None if let Some(away) = self.away(visitor) => Standing::Parked(away),
            None => self.passes.get(visitor).map_or(Standing::Absent, |pass| pass.standing(now)),
        }
    }

    fn away(&self, visitor: &VisitorId) -> Option<Away> {
        let number = self.parked.number(visitor)?;
        Some(Away { number, joined_at: self.marks.joined_at(number) })
    }

    fn place(&self, visitor: &VisitorId) -> Option<Place> {
        let number = self.line.number(visitor)?;
        let position = self.line.position(number)?;
        Some(Place { number, position, joined_at: self.marks.joined_at(number) })
    }

    /// See [`crate::engine::Engine::leave`].
    pub fn leave(&mut self, leaving: &Leaving, now: Timestamp) -> Left {
        let visitor = &leaving.visitor;
        if self.line.number(visitor) == Some(leaving.number) {
            self.line.remove(visitor);
            self.left += 1;
            return Left::Line;
        }
        if self.parked.number(visitor) == Some(leaving.number) {
            self.parked.remove(visitor);
            self.left += 1;
            return Left::Line;
        }
        match self.passes.get(visitor) {
            Some(pass)
                if pass.admission.number == leaving.number
                    && pass.state == PassState::Active
                    && pass.admission.expires_at > now =>
            {
                self.passes.end(visitor, PassState::Void);
                Left::Pass
            }
            _ => Left::Nothing,
        }
    }

    /// See [`crate::engine::Engine::release`].
    pub fn release(&mut self, since: Option<Duration>, now: Timestamp) -> Released {
        self.passes.sweep(now);
        self.drop_old_places(now);
        let policy = &self.rules.policy;
        let (mut admitted, mut parked) = (0, 0);
        if policy.state_at(now) == QueueState::Open && !self.unsure && now >= self.resume_at {
            let most = (RELEASE_BATCH as usize).min(self.line.len()).min(match policy.max_active as usize {
                0 => usize::MAX,
                cap => cap.saturating_sub(self.passes.active(now)),
            });
            let most = u32::try_from(most).unwrap_or(RELEASE_BATCH);
            let expires_at = now.plus(Duration::from_secs(policy.pass_ttl_seconds.into()));
            let tokens = self.bucket.tokens(policy.admit_per_minute, since, now, most);
            let is_away = |number| self.presence.is_away(policy, number, self.marks.joined_at(number), now);
            let (out, present) = self.line.front_until(tokens, is_away);
            admitted = self.bucket.take(policy.admit_per_minute, since, now, present);
            for (number, visitor, is_away) in out {
                if is_away {
                    self.parked.push(number, visitor);
                    parked += 1;
                } else {
                    let admission = Admission { number, admitted_at: now, expires_at };
                    self.passes.put(visitor, Pass { admission, state: PassState::Active });
                }
            }
        }
        self.admitted += u64::from(admitted);
        Released { admitted, parked, counters: self.counters(now) }
    }

    /// Drops places of the oldest join mark that outlived [`PLACE_TTL`], at most [`RELEASE_BATCH`].
    fn drop_old_places(&mut self, now: Timestamp) {
        let fronts = [self.parked.front(), self.line.front()];
        self.marks.forget_before(fronts.into_iter().flatten().min().unwrap_or(self.numbers.next()));
        let Some((joined_at, end)) = self.marks.oldest() else { return };
        if joined_at.plus(PLACE_TTL) >= now {
            return;
        }
        let dropped = self.parked.forget(RELEASE_BATCH as usize, end) + self.line.pop(RELEASE_BATCH, end).len();
        self.left += dropped as u64;
    }

    /// See [`crate::engine::Engine::see`].
    pub fn see(&mut self, seen: &[Seen], lasted: Duration, now: Timestamp) {
        self.presence.tell(&self.rules.policy, seen, now.minus(lasted), now);
    }

    /// See [`crate::engine::Engine::follow`].
    pub fn follow(&self, cursor: Option<Cursor>, now: Timestamp) -> Followed {
        let (changes, cursor, more) = self.line.feed.since(cursor);
        Followed { counters: self.counters(now), cursor, changes, more }
    }

    /// See [`crate::engine::Engine::snapshot`].
    pub fn snapshot(&self, from: u64) -> SnapshotPage {
        self.line.snapshot(from)
    }

    /// See [`crate::engine::Engine::counters`].
    pub fn counters(&self, now: Timestamp) -> Counters {
        Counters {
            state: self.rules.policy.state_at(now),
            waiting: self.line.len() as u64,
            active: self.passes.active(now) as u64,
            admitted: self.admitted,
            left: self.left,
            parked: self.parked.len() as u64,
            version: self.rules.version,
            numbers: self.numbers(),
            resumes_at: self.resume_at,
            at: now,
        }
    }

    /// See [`crate::engine::Engine::claim`].
    pub fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        if self.stock.holds(&claim.booking) {
            return Claimed::Held;
        }
        if let Some(refusal) = claim.pass.and_then(|pass| self.refuse_pass(&claim.visitor, pass, now)) {
            return refusal;
        }
        let limit = u64::from(self.rules.policy.max_per_user);
        let bought = u64::from(self.stock.bought(&claim.visitor));
        if limit > 0 && bought + u64::from(claim.quantity) > limit {
            return Claimed::UserLimit;
        }
        match self.stock.available(&claim.zone) {
            None => return Claimed::UnknownZone,
            Some(_) if self.is_sold_out(claim) => return Claimed::SoldOut,
            Some(available) if available < claim.quantity => return Claimed::InsufficientSeats,
            Some(_) => {}
        }
        if let Some(pass) = claim.pass {
            self.take_pass(claim, pass);
        }
        let (visitor, number) = (claim.visitor.clone(), claim.pass.map(|pass| pass.number));
        self.stock.hold(claim.booking.clone(), visitor, number, claim.zone.clone(), claim.quantity, now);
        Claimed::Held
    }

    /// Whether the ledger's own count has no seats left for a visitor and a pass that certainly never came to a booking.
    fn is_sold_out(&self, claim: &Claim) -> bool {
        let was_lost = self.unsure || self.resume_at != Timestamp::default();
        let is_own = |pass: ClaimedPass| {
            self.passes.get(&claim.visitor).is_some_and(|record| record.admission.number == pass.number)
        };
        self.stock.unsold(&claim.zone).is_some_and(|left| left < claim.quantity)
            && !was_lost
            && claim.pass.is_some_and(is_own)
            && !self.stock.knows(&claim.visitor)
    }

    /// Why a pass does not do; `None` when it does.
    fn refuse_pass(&self, visitor: &VisitorId, pass: ClaimedPass, now: Timestamp) -> Option<Claimed> {
        if pass.number < self.floor() {
            return Some(Claimed::PassVoid);
        }
        let record = self.passes.get(visitor);
        let same = record.filter(|record| record.admission.number == pass.number);
        match same.map(|record| &record.state) {
            Some(PassState::Used) => return Some(Claimed::PassUsed),
            Some(PassState::Void) => return Some(Claimed::PassVoid),
            Some(PassState::Expired | PassState::Lapsed(_)) => return Some(Claimed::PassExpired),
            _ => {}
        }
        if same.map_or(pass.expires_at, |record| record.admission.expires_at) <= now {
            return Some(Claimed::PassExpired);
        }
        if matches!(same, Some(Pass { state: PassState::Busy(_), .. })) {
            return Some(Claimed::PassBusy);
        }
        let later = record.is_some_and(|record| record.admission.number > pass.number)
            || self.line.number(visitor).or(self.parked.number(visitor)).is_some_and(|number| number > pass.number);
        later.then_some(Claimed::PassVoid)
    }

    /// Marks a pass as in use. One without a record, or with an older one, is taken at its word: the store lost the
    /// admission, so it may hold the place that the pass came from, too.
    fn take_pass(&mut self, claim: &Claim, pass: ClaimedPass) {
        let state = PassState::Busy(claim.booking.clone());
        if self.passes.get(&claim.visitor).is_some_and(|record| record.admission.number == pass.number) {
            self.passes.mark(&claim.visitor, state);
        } else {
            self.line.remove(&claim.visitor);
            self.parked.remove(&claim.visitor);
            let ClaimedPass { number, admitted_at, expires_at } = pass;
            self.passes
                .put(claim.visitor.clone(), Pass { admission: Admission { number, admitted_at, expires_at }, state });
        }
    }

    /// See [`crate::engine::Engine::observe`]. Tallies come first, so that seats in both show as taken, never as free.
    pub fn observe(&mut self, news: &LedgerNews) -> Vec<StockChange> {
        let mut before = Before::new();
        for zone in &news.zones {
            self.stock.count_zone(zone, &mut before);
        }
        for buyer in &news.buyers {
            self.stock.count_buyer(buyer);
        }
        for (bookings, used) in [(&news.settled, true), (&news.undone, false)] {
            for booking in bookings {
                if let Some(hold) = self.stock.unhold(booking, &mut before)
                    && let Some(number) = hold.number
                {
                    self.passes.resolve(&hold.visitor, number, booking, used);
                }
            }
        }
        self.stock.changes(before)
    }
}
