//! Records what several threads ask of one event at the same time, and looks for an order that explains the answers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stateright::semantics::{ConsistencyTester, LinearizabilityTester};
use usher::engine::{Joined, Standing};

use super::model::{Claiming, Model, Op, Ret};
use super::script::{Pause, Script, Step, VISITORS, Which, last_look};

/// Something that was asked, or answered. A thread asks the next only after it was answered.
#[derive(Debug, Clone)]
pub enum What {
    Asked(Op),
    Answered(Ret),
}

/// Who asked or was answered what, in order of time.
pub type History = Vec<(usize, What)>;

/// Whether the operations can be put in an order in which one after the other gives these answers, and in which none that
/// was answered comes after one that was asked later.
pub fn is_linearizable(model: Model, history: &History) -> bool {
    let mut tester = LinearizabilityTester::new(model);
    for (by, what) in history {
        let noted = match what.clone() {
            What::Asked(op) => tester.on_invoke(*by, op),
            What::Answered(ret) => tester.on_return(*by, ret),
        };
        noted.map(|_| ()).expect("one question at a time");
    }
    tester.is_consistent()
}

/// Operations that were asked while another was under way.
pub fn overlapping(history: &History) -> usize {
    let (mut under_way, mut overlapping) = (0, 0);
    for (_, what) in history {
        match what {
            What::Asked(_) => {
                overlapping += usize::from(under_way > 0);
                under_way += 1;
            }
            What::Answered(_) => under_way -= 1,
        }
    }
    overlapping
}

/// A history in lines.
pub fn told(history: &History) -> String {
    let mut text = String::new();
    for (by, what) in history {
        writeln!(text, "  {by}: {what:?}").expect("a text");
    }
    text
}

/// Carries out a script against `ask`: the beginning, then all threads at once, then a last look. The history of it.
pub fn record(script: &Script, ask: &(impl Fn(&Op) -> Ret + Sync)) -> History {
    let recorder = Recorder { ask, stamps: AtomicU64::new(0), told: [const { AtomicU64::new(0) }; VISITORS] };
    let observer = script.threads.len();
    let (mut entries, arrived) = (Vec::new(), AtomicUsize::new(0));
    recorder.steps(observer, &script.beginning, &mut entries, |_| {});
    std::thread::scope(|scope| {
        let threads: Vec<_> = (script.threads.iter().enumerate())
            .map(|(by, steps)| {
                let (recorder, arrived) = (&recorder, &arrived);
                scope.spawn(move || {
                    let mut entries = Vec::new();
                    recorder.steps(by, steps, &mut entries, |step| {
                        if step == 0 || script.in_step {
                            meet(arrived, (step + 1) * script.threads.len());
                        }
                    });
                    entries
                })
            })
            .collect();
        for thread in threads {
            entries.extend(thread.join().expect("a thread"));
        }
    });
    recorder.steps(observer, &last_look(), &mut entries, |_| {});
    entries.sort_by_key(|&(stamp, ..)| stamp);
    entries.into_iter().map(|(_, by, what)| (by, what)).collect()
}

/// Waits, awake, until so many have arrived: a thread that sleeps would come too late. One that never comes is not waited for.
fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, Ordering::SeqCst);
    let patience = Instant::now() + Duration::from_secs(20);
    while arrived.load(Ordering::SeqCst) < all && Instant::now() < patience {
        std::thread::yield_now();
    }
}

struct Recorder<'a, A> {
    ask: &'a A,
    stamps: AtomicU64,
    /// The number that each visitor was told last; a visitor may ask from several threads.
    told: [AtomicU64; VISITORS],
}

impl<A: Fn(&Op) -> Ret + Sync> Recorder<'_, A> {
    fn steps(&self, by: usize, steps: &[Step], entries: &mut Vec<(u64, usize, What)>, mut ready: impl FnMut(usize)) {
        for (at, Step { op, pause }) in steps.iter().enumerate() {
            ready(at);
            let op = self.with_numbers(op);
            // A stamp before the question and one after the answer: what is stamped apart was apart.
            let asked = self.stamps.fetch_add(1, Ordering::SeqCst);
            if *pause == Pause::BeforeTheQuestion {
                std::thread::yield_now();
            }
            let ret = (self.ask)(&op);
            if *pause == Pause::AfterTheAnswer {
                std::thread::yield_now();
            }
            let answered = self.stamps.fetch_add(1, Ordering::SeqCst);
            self.remember(&op, &ret);
            entries.push((asked, by, What::Asked(op)));
            entries.push((answered, by, What::Answered(ret)));
        }
    }

    fn with_numbers(&self, op: &Op<Which>) -> Op {
        let number = |visitor: usize, which: &Which| match which {
            Which::Told => self.told[visitor].load(Ordering::SeqCst).max(1),
            Which::Guess(number) => *number,
        };
        match op {
            Op::Join(visitors) => Op::Join(visitors.clone()),
            Op::Locate(visitors) => Op::Locate(visitors.clone()),
            Op::Leave(leaving) => Op::Leave(leaving.iter().map(|(who, which)| (*who, number(*who, which))).collect()),
            Op::Release => Op::Release,
            Op::Claim(claims) => Op::Claim(
                claims
                    .iter()
                    .map(|&Claiming { booking, visitor, number: ref which, quantity }| Claiming {
                        booking,
                        visitor,
                        number: number(visitor, which),
                        quantity,
                    })
                    .collect(),
            ),
            Op::Observe { settled, undone, tally } => {
                Op::Observe { settled: settled.clone(), undone: undone.clone(), tally: *tally }
            }
            Op::Count => Op::Count,
        }
    }

    fn remember(&self, op: &Op, ret: &Ret) {
        let numbers: HashMap<usize, u64> = match (op, ret) {
            (Op::Join(visitors), Ret::Joined(joined)) => {
                (visitors.iter().zip(joined)).filter_map(|(who, joined)| Some((*who, number_joined(joined)?))).collect()
            }
            (Op::Locate(visitors), Ret::Located(stand)) => {
                (visitors.iter().zip(stand)).filter_map(|(who, stands)| Some((*who, number_of(stands)?))).collect()
            }
            _ => HashMap::new(),
        };
        for (visitor, number) in numbers {
            self.told[visitor].store(number, Ordering::SeqCst);
        }
    }
}

const fn number_joined(joined: &Joined) -> Option<u64> {
    match joined {
        Joined::New(place) | Joined::Already(place) => Some(place.number),
        Joined::Admitted(pass) => Some(pass.number),
        Joined::Parked(away) => Some(away.number),
        Joined::Full | Joined::Closed | Joined::NoNumbers => None,
    }
}

const fn number_of(standing: &Standing) -> Option<u64> {
    match standing {
        Standing::Waiting(place) => Some(place.number),
        Standing::Admitted(pass) | Standing::Used(pass) | Standing::Expired(pass) => Some(pass.number),
        Standing::Parked(away) => Some(away.number),
        Standing::Absent => None,
    }
}
