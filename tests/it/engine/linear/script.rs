//! Who asks what, as chance has it: small worlds and short scripts, so that things meet.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::model::{Claiming, Op, World};

/// Visitors, each of whom may ask from every thread.
pub const VISITORS: usize = 4;
const BOOKINGS: usize = 4;
const THREADS: usize = 3;
const STEPS: usize = 4;

/// Which number a visitor comes with.
#[derive(Debug, Clone)]
pub enum Which {
    /// The one told last.
    Told,
    /// Any.
    Guess(u64),
}

/// Where a thread lets others go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Nowhere,
    BeforeTheQuestion,
    AfterTheAnswer,
}

/// One operation of a thread.
#[derive(Debug, Clone)]
pub struct Step {
    pub op: Op<Which>,
    pub pause: Pause,
}

/// What happens to one event.
#[derive(Debug, Clone)]
pub struct Script {
    pub world: World,
    /// Before the threads begin.
    pub beginning: Vec<Step>,
    pub threads: Vec<Vec<Step>>,
    /// Whether the threads wait for each other before each step, or run as they can.
    pub in_step: bool,
}

impl Script {
    /// The script that follows from a seed. Batches are of at most `batch` visitors.
    pub fn from_seed(seed: u64, batch: usize) -> Self {
        let config = Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let script = script(batch).new_tree(&mut TestRunner::new(config));
        script.expect("a script").current()
    }
}

/// What is asked when all threads are done: where everyone stands, the counts, and (by settling all bookings) what was held.
pub fn last_look() -> Vec<Step> {
    let step = |op| Step { op, pause: Pause::Nowhere };
    let everyone = (0..VISITORS).map(|visitor| step(Op::Locate(vec![visitor])));
    let settle = Op::Observe { settled: (0..BOOKINGS).collect(), undone: vec![], tally: None };
    everyone.chain([step(Op::Count), step(settle), step(Op::Count)]).collect()
}

fn script(batch: usize) -> impl Strategy<Value = Script> {
    let world = (select(vec![1, 2, 4, 10]), select(vec![0, 0, 1, 2]), select(vec![0, 0, 2]), 2..9_u64, 1..5_u32);
    let world = world.prop_map(|(tokens, max_active, max_queue, numbers, seats)| World {
        tokens,
        max_active,
        max_queue,
        numbers,
        seats,
    });
    // Some wait, and some of them may be in already.
    let join = |visitor| Step { op: Op::Join(vec![visitor]), pause: Pause::Nowhere };
    let beginning = (0..VISITORS, any::<bool>()).prop_map(move |(visitors, release)| {
        let release = release.then_some(Step { op: Op::Release, pause: Pause::Nowhere });
        (0..visitors).map(join).chain(release).collect()
    });
    let threads = vec(vec(step(batch), STEPS), THREADS);
    (world, beginning, threads, any::<bool>()).prop_map(|(world, beginning, threads, in_step)| Script {
        world,
        beginning,
        threads,
        in_step,
    })
}

fn step(batch: usize) -> impl Strategy<Value = Step> {
    let pause = select(vec![Pause::Nowhere, Pause::Nowhere, Pause::BeforeTheQuestion, Pause::AfterTheAnswer]);
    (op(batch), pause).prop_map(|(op, pause)| Step { op, pause })
}

fn op(batch: usize) -> impl Strategy<Value = Op<Which>> {
    let visitor = || 0..VISITORS;
    let visitors = || vec(visitor(), 1..=batch);
    let which = || prop_oneof![5 => Just(Which::Told), 1 => (1..7_u64).prop_map(Which::Guess)];
    let claim = (0..BOOKINGS, visitor(), which(), 1..3_u32);
    let claim = claim.prop_map(|(booking, visitor, number, quantity)| Claiming { booking, visitor, number, quantity });
    let news = (vec(0..BOOKINGS, 0..2), vec(0..BOOKINGS, 0..2), proptest::option::of((0..4_u32, 0..6_i64)));
    prop_oneof![
        5 => visitors().prop_map(Op::Join),
        3 => visitors().prop_map(Op::Locate),
        3 => vec((visitor(), which()), 1..=batch).prop_map(Op::Leave),
        5 => Just(Op::Release),
        4 => vec(claim, 1..=batch).prop_map(Op::Claim),
        3 => news.prop_map(|(settled, undone, tally)| Op::Observe { settled, undone, tally }),
        1 => Just(Op::Count),
    ]
}
