//! What one event answers at one moment of time: the specification that recorded histories are held against.
//!
//! It is written from the contract (`src/engine/mod.rs`), as plainly as can be, and shares no code with an engine. The clock
//! stands still, so nothing runs out and tokens are merely used up.

use std::collections::BTreeMap;
use std::time::Duration;

use stateright::semantics::SequentialSpec;
use usher::domain::{QueueState, Timestamp};
use usher::engine::{
    Admission, Claimed, Counters, Joined, Left, Numbers, Place, RELEASE_BATCH, Released, Standing, StockChange,
};

use crate::engine::rig::{at, change};

/// How long a pass is good.
pub const PASS_TTL: u32 = 60;

/// The moment at which everything is asked.
pub fn now() -> Timestamp {
    at(10.0)
}

/// The pass that goes with a number; all passes are from [`now`].
pub fn pass(number: u64) -> Admission {
    Admission { number, admitted_at: now(), expires_at: now().plus(Duration::from_secs(PASS_TTL.into())) }
}

/// How an event begins.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Tokens saved up.
    pub tokens: u32,
    /// 0 for no cap.
    pub max_active: u32,
    /// 0 for no limit.
    pub max_queue: u32,
    /// Numbers to hand out, from 1.
    pub numbers: u64,
    /// Seats of the only zone.
    pub seats: u32,
}

/// What can be asked of an event. `N` is how a number is told: by itself, or by where to get it when the time comes.
#[derive(Debug, Clone)]
pub enum Op<N = u64> {
    Join(Vec<usize>),
    Locate(Vec<usize>),
    Leave(Vec<(usize, N)>),
    Release,
    Claim(Vec<Claiming<N>>),
    /// Bookings settled, bookings undone, and how many seats are taken by which version of the count.
    Observe {
        settled: Vec<usize>,
        undone: Vec<usize>,
        tally: Option<(u32, i64)>,
    },
    Count,
}

/// One claim.
#[derive(Debug, Clone)]
pub struct Claiming<N> {
    pub booking: usize,
    pub visitor: usize,
    pub number: N,
    pub quantity: u32,
}

/// The answer, in the words of the contract.
#[derive(Debug, Clone, PartialEq)]
pub enum Ret {
    Joined(Vec<Joined>),
    Located(Vec<Standing>),
    Left(Vec<Left>),
    Released(Released),
    Claimed(Vec<Claimed>),
    Observed(Vec<StockChange>),
    Counted(Counters),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pass {
    Out,
    Busy(usize),
    Used,
    GivenBack,
}

#[derive(Debug, Clone)]
struct Hold {
    visitor: usize,
    number: u64,
    quantity: u32,
}

/// The event.
#[derive(Debug, Clone)]
pub struct Model {
    world: World,
    /// Number and visitor, the front first.
    line: Vec<(u64, usize)>,
    /// The last pass of each visitor.
    passes: BTreeMap<usize, (u64, Pass)>,
    next: u64,
    tokens: u32,
    admitted: u64,
    left: u64,
    holds: BTreeMap<usize, Hold>,
    /// Seats taken, and the version of that count.
    tally: (u32, i64),
}

impl Model {
    pub fn new(world: World) -> Self {
        Self {
            world,
            line: Vec::new(),
            passes: BTreeMap::new(),
            next: 1,
            tokens: world.tokens,
            admitted: 0,
            left: 0,
            holds: BTreeMap::new(),
            tally: (0, 1),
        }
    }

    fn place(&self, visitor: usize) -> Option<Place> {
        let ahead = self.line.iter().position(|&(_, waits)| waits == visitor)?;
        Some(Place { number: self.line[ahead].0, position: ahead as u64 + 1, joined_at: now() })
    }

    fn active(&self) -> usize {
        self.passes.values().filter(|(_, pass)| matches!(pass, Pass::Out | Pass::Busy(_))).count()
    }

    fn available(&self) -> u32 {
        let held = self.holds.values().map(|hold| hold.quantity).sum();
        self.world.seats.saturating_sub(self.tally.0).saturating_sub(held)
    }

    fn counters(&self) -> Counters {
        Counters {
            state: QueueState::Open,
            waiting: self.line.len() as u64,
            active: self.active() as u64,
            admitted: self.admitted,
            left: self.left,
            parked: 0,
            version: 1,
            numbers: Numbers { left: self.world.numbers + 1 - self.next, past: self.world.numbers + 1 },
            resumes_at: Timestamp::default(),
            at: now(),
        }
    }

    fn join(&mut self, visitor: usize) -> Joined {
        match (self.place(visitor), self.passes.get(&visitor)) {
            (Some(place), _) => Joined::Already(place),
            (None, Some(&(number, Pass::Out | Pass::Busy(_)))) => Joined::Admitted(pass(number)),
            _ if self.world.max_queue > 0 && self.line.len() >= self.world.max_queue as usize => Joined::Full,
            _ if self.next > self.world.numbers => Joined::NoNumbers,
            _ => {
                self.line.push((self.next, visitor));
                self.next += 1;
                Joined::New(self.place(visitor).expect("the last in line"))
            }
        }
    }

    fn locate(&self, visitor: usize) -> Standing {
        match (self.place(visitor), self.passes.get(&visitor)) {
            (Some(place), _) => Standing::Waiting(place),
            (None, Some(&(number, Pass::Out | Pass::Busy(_)))) => Standing::Admitted(pass(number)),
            (None, Some(&(number, Pass::Used))) => Standing::Used(pass(number)),
            (None, Some((_, Pass::GivenBack)) | None) => Standing::Absent,
        }
    }

    fn leave(&mut self, visitor: usize, number: u64) -> Left {
        if let Some(ahead) = self.line.iter().position(|&place| place == (number, visitor)) {
            self.line.remove(ahead);
            self.left += 1;
            return Left::Line;
        }
        if self.passes.get(&visitor) == Some(&(number, Pass::Out)) {
            self.passes.insert(visitor, (number, Pass::GivenBack));
            return Left::Pass;
        }
        Left::Nothing
    }

    fn release(&mut self) -> Released {
        let free = match self.world.max_active as usize {
            0 => usize::MAX,
            cap => cap.saturating_sub(self.active()),
        };
        let most = free.min(self.line.len()).min(RELEASE_BATCH as usize).min(self.tokens as usize);
        for (number, visitor) in self.line.drain(..most) {
            self.passes.insert(visitor, (number, Pass::Out));
        }
        let admitted = u32::try_from(most).expect("a batch");
        self.tokens -= admitted;
        self.admitted += u64::from(admitted);
        Released { admitted, parked: 0, counters: self.counters() }
    }

    fn claim(&mut self, claim: &Claiming<u64>) -> Claimed {
        let &Claiming { booking, visitor, number, quantity } = claim;
        if self.holds.contains_key(&booking) {
            return Claimed::Held;
        }
        match self.passes.get(&visitor) {
            Some(&(known, Pass::Used)) if known == number => return Claimed::PassUsed,
            Some(&(known, Pass::GivenBack)) if known == number => return Claimed::PassVoid,
            Some(&(known, Pass::Busy(_))) if known == number => return Claimed::PassBusy,
            Some(&(known, _)) if known > number => return Claimed::PassVoid,
            _ => {}
        }
        if self.place(visitor).is_some_and(|place| place.number > number) {
            return Claimed::PassVoid;
        }
        let is_known = self.passes.get(&visitor).is_some_and(|&(known, _)| known == number);
        if is_known && self.world.seats.saturating_sub(self.tally.0) < quantity {
            return Claimed::SoldOut;
        }
        if self.available() < quantity {
            return Claimed::InsufficientSeats;
        }
        // A pass that is not known is taken at its word, and its holder's place is given up.
        if self.passes.get(&visitor) != Some(&(number, Pass::Out)) {
            self.line.retain(|&(_, waits)| waits != visitor);
        }
        self.passes.insert(visitor, (number, Pass::Busy(booking)));
        self.holds.insert(booking, Hold { visitor, number, quantity });
        Claimed::Held
    }

    fn observe(&mut self, settled: &[usize], undone: &[usize], tally: Option<(u32, i64)>) -> Vec<StockChange> {
        let before = self.available();
        if let Some(news) = tally.filter(|news| news.1 > self.tally.1) {
            self.tally = news;
        }
        for (bookings, becomes) in [(settled, Pass::Used), (undone, Pass::Out)] {
            for booking in bookings {
                let Some(hold) = self.holds.remove(booking) else { continue };
                if self.passes.get(&hold.visitor) == Some(&(hold.number, Pass::Busy(*booking))) {
                    self.passes.insert(hold.visitor, (hold.number, becomes));
                }
            }
        }
        let after = self.available();
        if before == after { vec![] } else { vec![change(1, Some(before), after)] }
    }
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match op {
            Op::Join(visitors) => Ret::Joined(visitors.iter().map(|&visitor| self.join(visitor)).collect()),
            Op::Locate(visitors) => Ret::Located(visitors.iter().map(|&visitor| self.locate(visitor)).collect()),
            Op::Leave(leaving) => {
                Ret::Left(leaving.iter().map(|&(visitor, number)| self.leave(visitor, number)).collect())
            }
            Op::Release => Ret::Released(self.release()),
            Op::Claim(claims) => Ret::Claimed(claims.iter().map(|claim| self.claim(claim)).collect()),
            Op::Observe { settled, undone, tally } => Ret::Observed(self.observe(settled, undone, *tally)),
            Op::Count => Ret::Counted(self.counters()),
        }
    }
}
