//! What is known from outside of requests and batches, and the bounds that must hold at every step.
//!
//! All run on one thread, and nobody else goes while something is noted here.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::coalesce::Bounds;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// On its way, or dropped.
    Open,
    Answered,
    Broken,
}

pub struct World {
    pub bounds: Bounds,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    /// Requests that were about to be made, less those turned away. Noted before.
    asked: usize,
    /// Requests that were accepted. Noted after.
    accepted: usize,
    /// Requests of batches that began, and of those that ended.
    begun: usize,
    ended: usize,
    /// The batches, and what became of them.
    batches: Vec<(Vec<u32>, Fate)>,
    in_flight: usize,
    faults: Vec<String>,
}

impl World {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, noted: Mutex::default() }
    }

    fn note(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().expect("whole")
    }

    /// A request is about to be made.
    pub fn asks(&self) {
        self.note().asked += 1;
    }

    /// A request was accepted. Others may have been answered since, so this counts too few, never too many.
    pub fn accepted(&self) {
        let mut noted = self.note();
        noted.accepted += 1;
        let (waiting, most) = (
            noted.accepted.saturating_sub(noted.ended),
            self.bounds.pending + self.bounds.in_flight * self.bounds.batch,
        );
        if waiting > most {
            noted.faults.push(format!("{waiting} requests wait, of {most} that may"));
        }
    }

    /// A request was turned away: as many others as may must have been waiting.
    pub fn turned_away(&self) {
        let mut noted = self.note();
        noted.asked -= 1;
        let waiting = noted.asked.saturating_sub(noted.begun);
        if waiting < self.bounds.pending {
            let may = self.bounds.pending;
            noted.faults.push(format!("turned away while at most {waiting} requests waited, of {may} that may"));
        }
    }

    /// What became of the batches in which a request was.
    pub fn fates(&self, request: u32) -> Vec<Fate> {
        let noted = self.note();
        noted.batches.iter().filter(|(asked, _)| asked.contains(&request)).map(|(_, fate)| *fate).collect()
    }

    /// Fails if something that must hold did not, at any time.
    pub fn check(&self) {
        let noted = self.note();
        assert!(noted.faults.is_empty(), "{:?} with {:?}", noted.faults, self.bounds);
        assert_eq!(noted.in_flight, 0);
    }
}

/// A batch on its way, until it is dropped.
pub struct Batch {
    world: Arc<World>,
    at: usize,
    fate: Cell<Fate>,
}

impl Batch {
    pub fn begin(world: &Arc<World>, asked: &[u32]) -> Self {
        let mut noted = world.note();
        noted.in_flight += 1;
        noted.begun += asked.len();
        if noted.in_flight > world.bounds.in_flight {
            let fault = format!("{} batches on their way, of {}", noted.in_flight, world.bounds.in_flight);
            noted.faults.push(fault);
        }
        if asked.is_empty() || asked.len() > world.bounds.batch {
            noted.faults.push(format!("a batch of {}, of {}", asked.len(), world.bounds.batch));
        }
        noted.batches.push((asked.to_vec(), Fate::Open));
        Self { world: Arc::clone(world), at: noted.batches.len() - 1, fate: Cell::new(Fate::Open) }
    }

    /// How it is about to end.
    pub fn ends(&self, fate: Fate) {
        self.fate.set(fate);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut noted = self.world.note();
        noted.in_flight -= 1;
        noted.ended += noted.batches[self.at].0.len();
        noted.batches[self.at].1 = self.fate.get();
    }
}
