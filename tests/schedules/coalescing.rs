//! What must hold of the coalescer, whoever goes next.

use std::sync::Arc;
use std::time::Duration;

use shuttle::future::{block_on, yield_now};
use shuttle::rand::{Rng, thread_rng};

use crate::asking::Asking;
use crate::coalesce::{Bounds, Coalescer, Refused};
use crate::runs::under_many_schedules;
use crate::tasks;
use crate::time::{FOREVER, SOME_TIME};
use crate::world::{Batch, Fate, World};

/// What may happen to batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Some panic, before or after they waited.
    Panics,
    /// Some are dropped while they wait.
    Drops,
    /// Everything may be dropped, the gathering task too: the service goes down.
    GoesDown,
}

fn any_bounds() -> Bounds {
    let mut chance = thread_rng();
    Bounds {
        batch: chance.gen_range(1..4),
        in_flight: chance.gen_range(1..4),
        fill: [Duration::ZERO, SOME_TIME, FOREVER][chance.gen_range(0..3)],
        pending: chance.gen_range(1..4),
    }
}

/// The answer to a request: one that no other has.
const fn answer(request: u32) -> u32 {
    request + 1_000
}

fn perhaps_break(trouble: Trouble, batch: &Batch) {
    if trouble == Trouble::Panics && thread_rng().gen_ratio(1, 4) {
        batch.ends(Fate::Broken);
        std::panic::resume_unwind(Box::new("a batch that breaks down")); // without a word
    }
}

fn start(world: &Arc<World>, trouble: Trouble) -> Coalescer<u32, u32> {
    let world = Arc::clone(world);
    Coalescer::start(world.bounds, move |asked: Vec<u32>| {
        let batch = Batch::begin(&world, &asked);
        perhaps_break(trouble, &batch);
        async move {
            for _ in 0..thread_rng().gen_range(0..4) {
                yield_now().await;
            }
            perhaps_break(trouble, &batch);
            batch.ends(Fate::Answered);
            asked.into_iter().map(answer).collect()
        }
    })
}

/// Several ask, some of whom go away; then, when all have their answers, one more.
fn scenario(trouble: Trouble) {
    tasks::begin(match trouble {
        Trouble::None | Trouble::Panics => None,
        Trouble::Drops => Some(1),
        Trouble::GoesDown => Some(0),
    });
    let world = Arc::new(World::new(any_bounds()));
    let coalescer = start(&world, trouble);
    let askers: Vec<_> = (0..thread_rng().gen_range(2..9))
        .map(|request| {
            let (world, coalescer) = (Arc::clone(&world), coalescer.clone());
            let patience = thread_rng().gen_ratio(1, 5).then(|| thread_rng().gen_range(1..4));
            shuttle::future::spawn(async move { one(&world, &coalescer, request, patience, trouble).await })
        })
        .collect();
    block_on(async move {
        for asker in askers {
            asker.await.expect("an asker");
        }
        one(&world, &coalescer, 99, None, trouble).await;
        drop(coalescer);
        for _ in 0..1_000 {
            if tasks::live() == 0 {
                break;
            }
            yield_now().await;
        }
        assert_eq!(tasks::live(), 0, "the last door that closes ends the work");
        world.check();
    });
}

/// One request, its answer, and what must be true of that.
async fn one(world: &World, coalescer: &Coalescer<u32, u32>, request: u32, patience: Option<u32>, trouble: Trouble) {
    world.asks();
    let answered = Asking::new(world, patience, coalescer.ask(request)).await;
    let fates = world.fates(request);
    match answered {
        Some(Ok(told)) => assert_eq!((told, fates.as_slice()), (answer(request), [Fate::Answered].as_slice())),
        Some(Err(Refused::Full)) => assert_eq!(fates, [], "a request that was turned away is not carried out"),
        Some(Err(Refused::Lost)) => match trouble {
            Trouble::None => panic!("request {request} is lost"),
            Trouble::Panics => assert_eq!(fates, [Fate::Broken]),
            Trouble::Drops => assert_eq!(fates, [Fate::Open]),
            Trouble::GoesDown => assert!(fates.len() <= 1, "{fates:?}"),
        },
        None => assert!(fates.len() <= 1, "whoever goes away is asked for once at most: {fates:?}"),
    }
}

#[test]
fn everyone_has_their_own_answer_once() {
    under_many_schedules("coalescer", || scenario(Trouble::None));
}

#[test]
fn a_batch_that_panics_is_told_to_all_who_were_in_it() {
    under_many_schedules("coalescer, batches panic", || scenario(Trouble::Panics));
}

#[test]
fn a_batch_that_is_dropped_is_told_to_all_who_were_in_it() {
    under_many_schedules("coalescer, batches are dropped", || scenario(Trouble::Drops));
}

#[test]
fn nobody_waits_for_a_service_that_went_down() {
    under_many_schedules("coalescer, the service goes down", || scenario(Trouble::GoesDown));
}
