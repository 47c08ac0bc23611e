//! Short concurrent histories of one event are linearizable on both engines: several threads ask at the same time, and there
//! is an order of all operations that keeps to what came before what, and explains every answer.
//!
//! What is asked follows from a seed; how the threads run does not. So a seed that once failed is kept in `kept-seeds.txt` and
//! tried several times, every time. `USHER_CHAOS=1` tries many more histories.

mod model;
mod record;
mod refused;
mod script;
mod subject;

use std::sync::{Arc, Mutex};

use stateright::semantics::SequentialSpec;
use usher::engine::Engine;

use self::model::{Model, Op, World};
use self::record::{History, is_linearizable, overlapping, record, told};
use self::script::Script;
use self::subject::Subject;
use super::rig::Rig;
use crate::support::seeds::{kept, long, seed};

/// How often a seed that once failed is tried.
const AGAIN: usize = 20;
/// Most visitors in a batch.
const BATCH: usize = 2;

/// Records histories with `take` and checks each: those of kept seeds, and `histories` new ones, twenty times as many in the long form.
fn check(test: &str, histories: u64, batch: usize, mut take: impl FnMut(&Script) -> History) {
    let (first, many) = (seed(test), if long() { 20 * histories } else { histories });
    let again = kept(include_str!("kept-seeds.txt")).into_iter().flat_map(|seed| [seed; AGAIN]);
    let (mut operations, mut at_once) = (0, 0);
    for seed in again.chain((0..many).map(|n| first.wrapping_add(n))) {
        let script = Script::from_seed(seed, batch);
        let history = take(&script);
        assert!(
            is_linearizable(Model::new(script.world), &history),
            "seed {seed}: no order explains this history of {:?}\n{}",
            script.world,
            told(&history)
        );
        operations += history.len() / 2;
        at_once += overlapping(&history);
    }
    println!("{test}: {many} histories, {at_once} of {operations} operations asked while another was under way");
    assert!(at_once * 20 > operations, "next to nothing happened at once: {at_once} of {operations} operations");
}

fn check_engine(test: &str, histories: u64, rig: impl FnOnce() -> Rig, gathered: bool) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let engine: Arc<dyn Engine> = runtime.block_on(async { rig().engine });
    check(test, histories, if gathered { 1 } else { BATCH }, |script| {
        let mut subject = runtime.block_on(Subject::open(&engine, script.world));
        if gathered {
            subject = runtime.block_on(async { subject.gathered() });
        }
        let history = record(script, &|op: &Op| runtime.block_on(subject.ask(op)));
        runtime.block_on(subject.close());
        history
    });
}

#[test]
fn histories_in_memory_are_linearizable() {
    check_engine("linear, in memory", 1_000, Rig::memory, false);
}

#[test]
fn histories_on_redis_are_linearizable() {
    check_engine("linear, on Redis", 200, Rig::redis, false);
}

#[test]
fn histories_through_batches_are_linearizable() {
    check_engine("linear, on Redis in batches", 200, Rig::redis, true);
}

/// The specification itself, asked under one lock, passes; asked with a look and a write in two steps, as no engine may, it is
/// found out. So what is recorded is enough to find a race, and enough threads meet.
#[test]
fn a_check_and_a_write_in_two_steps_are_found_out() {
    let new = |world: World| Mutex::new(Model::new(world));
    check("linear, under one lock", 200, BATCH, |script| {
        let model = new(script.world);
        record(script, &|op: &Op| model.lock().expect("whole").invoke(op))
    });

    let found = (0..2_000).find(|&seed| {
        let script = Script::from_seed(seed, BATCH);
        let model = new(script.world);
        let history = record(&script, &|op: &Op| {
            let mut seen = model.lock().expect("whole").clone();
            std::thread::yield_now();
            let ret = seen.invoke(op);
            *model.lock().expect("whole") = seen;
            ret
        });
        !is_linearizable(Model::new(script.world), &history)
    });
    println!("linear, in two steps: found out by history {found:?}");
    assert!(found.is_some());
}
