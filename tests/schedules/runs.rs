//! Runs a scenario under many schedules, each of which follows from a seed of its own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

use crate::seeds::{kept, long, seed};

/// Seeds for each scenario.
const USUAL: u64 = 150;
const MANY: u64 = 10_000;
/// Schedules that follow from a seed.
const EACH: usize = 10;

/// Runs the scenario under the schedules of kept seeds and of new ones: every second one chooses anew at each step, the others
/// let one task go on for as long as it can, but for a few points.
///
/// # Panics
/// When a scenario does, or everybody waits for somebody else. The seed is printed.
pub fn under_many_schedules(scenario: &str, run: impl Fn() + Send + Sync + Copy + 'static) {
    let (first, many) = (seed(scenario), if long() { MANY } else { USUAL });
    let again = kept(include_str!("kept-seeds.txt"));
    for seed in again.into_iter().chain((0..many).map(|n| first.wrapping_add(n))) {
        let result = catch_unwind(AssertUnwindSafe(|| under_schedule(seed, run)));
        result.unwrap_or_else(|panic| {
            eprintln!("{scenario}: failed under the schedule of USHER_CHAOS_SEED={seed}");
            resume_unwind(panic)
        });
    }
    println!("{scenario}: {many} seeds, {EACH} schedules each");
}

fn under_schedule(seed: u64, run: impl Fn() + Send + Sync + Copy + 'static) {
    fn go(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::new();
        config.stack_size = 256 * 1024; // builds for tests are not sparing
        Runner::new(scheduler, config).run(run);
    }
    if seed.is_multiple_of(2) {
        go(RandomScheduler::new_from_seed(seed, EACH), run);
    } else {
        go(PctScheduler::new_from_seed(seed, 3, EACH), run);
    }
}
