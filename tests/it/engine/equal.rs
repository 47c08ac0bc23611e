//! Random operations have equal answers on both engines.
//!
//! 200 sequences are tried, with `USHER_CHAOS=1` 10,000, or as many as `USHER_EQUAL_CASES` says; those that once failed are
//! tried first, every time.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};
use usher::domain::{QueuePolicy, QueueState, Timestamp};
use usher::engine::{
    Admission, Claim, ClaimedPass, Engine, EngineError, EventRules, Leaving, LedgerNews, NumberBlock, Standing,
};
use usher::follow::catch_up;
use usher::line::Line;

use super::rig::{RECOVERY, Rig, at, b, buyer, proof, tally, v, z};
use crate::support::seeds::{long, seed};

const CASES: u32 = 200;
const MANY_CASES: u32 = 10_000;
const VISITORS: usize = 7;
/// Less than half the presence time of the policies.
const QUIET: Duration = Duration::from_millis(2_400);

/// One step. Small worlds, so that things meet.
#[derive(Debug, Clone)]
enum Op {
    Step(i64),
    Rules {
        version: i64,
        policy: QueuePolicy,
        opens_in: Option<i64>,
        floor: u64,
    },
    Grant(u64, u64),
    Join(Vec<usize>),
    Locate,
    Leave(Vec<(usize, Number)>),
    /// Microseconds since the caller's last one, where that is known.
    Release(Option<u64>),
    Reclaim(Vec<(usize, u64)>),
    See(Vec<u64>, u64),
    /// Told for seven seconds without a gap that nobody was seen.
    Quiet,
    Claim(Vec<(usize, usize, Option<Number>, usize, u32)>),
    Observe {
        settled: Vec<usize>,
        undone: Vec<usize>,
        zone: Option<(usize, u32, u32, i64)>,
        buyer: Option<(usize, u32, i64)>,
    },
    Retain(Vec<usize>),
    Remove,
}

/// A number that a caller comes with: the one the visitor had last, or any.
#[derive(Debug, Clone)]
enum Number {
    Own,
    Any { number: u64, good_for: i64 },
}

fn number() -> impl Strategy<Value = Number> {
    let any = (0..60_u64, select(vec![-1_000_000_i64, 0, 1, 3_000_000, 90_000_000]));
    prop_oneof![4 => Just(Number::Own), 1 => any.prop_map(|(number, good_for)| Number::Any { number, good_for })]
}

fn policy() -> impl Strategy<Value = QueuePolicy> {
    let state = prop_oneof![
        6 => Just(QueueState::Open),
        1 => Just(QueueState::Lobby),
        1 => Just(QueueState::Paused),
        1 => Just(QueueState::Closed)
    ];
    let rate = select(vec![0, 1, 7, 60, 77, 600, 6_000, 6_000, 60_000_000]);
    let (limits, presence) = ((select(vec![0, 0, 2, 4]), select(vec![0, 0, 2])), select(vec![0, 0, 5]));
    (rate, select(vec![0, 1, 2, 3]), select(vec![1, 2, 5, 60]), limits, state, presence).prop_map(
        |(admit_per_minute, max_active, pass_ttl_seconds, (max_queue, max_per_user), state, presence_seconds)| {
            QueuePolicy {
                admit_per_minute,
                max_active,
                pass_ttl_seconds,
                max_queue,
                max_per_user,
                state,
                presence_seconds,
                ..QueuePolicy::default()
            }
        },
    )
}

fn rules() -> impl Strategy<Value = Op> {
    let opens_in = proptest::option::weighted(0.2, -2_000_000..5_000_000_i64);
    (0..12_i64, policy(), opens_in, prop_oneof![6 => Just(0), 1 => 0..60_u64])
        .prop_map(|(version, policy, opens_in, floor)| Op::Rules { version, policy, opens_in, floor })
}

fn op() -> impl Strategy<Value = Op> {
    let steps =
        vec![1, 9_999, 100_000, 333_333, 1_000_000, 1_000_000, 5_000_000, 30_000_000, 3_700_000_000, 90_000_000_000];
    let back = vec![-1, -500_000, -3_000_000, -30_000_000];
    let visitor = || 0..VISITORS;
    let claim = (0..6_usize, visitor(), proptest::option::weighted(0.9, number()), 1..4_usize, 1..4_u32);
    let news = (
        vec(0..6_usize, 0..3),
        vec(0..6_usize, 0..2),
        proptest::option::of((1..3_usize, 0..9_u32, 0..5_u32, 0..9_i64)),
        proptest::option::of((visitor(), 0..3_u32, 0..9_i64)),
    );
    prop_oneof![
        6 => select(steps).prop_map(Op::Step),
        2 => select(back).prop_map(Op::Step),
        2 => rules(),
        2 => (0..60_u64, 0..20_u64).prop_map(|(start, length)| Op::Grant(start, start + length)),
        8 => vec(visitor(), 0..4).prop_map(Op::Join),
        2 => Just(Op::Locate),
        2 => vec((0..VISITORS, 0..60_u64), 1..4).prop_map(Op::Reclaim),
        3 => (vec(0..60_u64, 0..4), select(vec![0, 600_000, 2_400_000])).prop_map(|(seen, lasted)| Op::See(seen, lasted)),
        3 => Just(Op::Quiet),
        3 => vec((visitor(), number()), 1..3).prop_map(Op::Leave),
        8 => select(vec![None, None, Some(0), Some(100_000), Some(2_000_000)]).prop_map(Op::Release),
        6 => vec(claim, 1..4).prop_map(Op::Claim),
        5 => news.prop_map(|(settled, undone, zone, buyer)| Op::Observe { settled, undone, zone, buyer }),
        1 => vec(1..3_usize, 0..3).prop_map(Op::Retain),
        1 => any::<bool>().prop_map(|remove| if remove { Op::Remove } else { Op::Locate }),
    ]
}

/// What a caller knows: the time, and what each visitor was told last.
struct Caller {
    now: Timestamp,
    told: HashMap<usize, Admission>,
}

impl Caller {
    fn number(&self, visitor: usize, number: &Number) -> Admission {
        let Number::Any { number, good_for } = *number else {
            return self.told.get(&visitor).copied().unwrap_or(Admission {
                number: 1,
                admitted_at: self.now,
                expires_at: self.now,
            });
        };
        let expires_at = Timestamp::from_micros(self.now.micros() + good_for);
        Admission { number, admitted_at: self.now, expires_at }
    }

    fn tell(&mut self, visitor: usize, standing: Standing) {
        let told = match standing {
            Standing::Admitted(pass) | Standing::Used(pass) | Standing::Expired(pass) => pass,
            // Of a place only the number is known; its pass might be good for ten seconds.
            Standing::Waiting(place) => Admission {
                number: place.number,
                admitted_at: self.now,
                expires_at: self.now.plus(Duration::from_secs(10)),
            },
            Standing::Parked(_) | Standing::Absent => return,
        };
        self.told.insert(visitor, told);
    }

    /// Carries out one step; the answer as text.
    async fn apply(&self, rig: &Rig, op: &Op) -> String {
        fn text<T: Debug>(answer: T) -> String {
            format!("{answer:?}")
        }
        let (engine, event, now) = (&rig.engine, &rig.event, self.now);
        match op {
            Op::Step(_) => String::new(),
            Op::Rules { version, policy, opens_in, floor } => {
                let opens_at = opens_in.map(|span| Timestamp::from_micros(now.micros() + span));
                let policy = QueuePolicy { opens_at, ..policy.clone() };
                text(
                    engine.put_rules(event, &EventRules { version: *version, policy, number_floor: *floor }, now).await,
                )
            }
            Op::Grant(start, end) => {
                text(engine.grant_numbers(event, NumberBlock { start: *start, end: *end }, RECOVERY, now).await)
            }
            Op::Join(visitors) => {
                let visitors: Vec<_> = visitors.iter().map(|&n| v(n)).collect();
                text(engine.join(event, &visitors, now).await)
            }
            Op::Locate => text(everyone(engine.as_ref(), rig, now).await),
            Op::Leave(leaving) => {
                let one =
                    |(n, number): &(usize, Number)| Leaving { visitor: v(*n), number: self.number(*n, number).number };
                text(engine.leave(event, &leaving.iter().map(one).collect::<Vec<_>>(), now).await)
            }
            Op::Release(since) => text(engine.release(event, since.map(Duration::from_micros), now).await),
            Op::Reclaim(places) => {
                let places: Vec<_> = places.iter().map(|&(n, number)| proof(n, number)).collect();
                text(engine.reclaim(event, &places, now).await)
            }
            Op::See(numbers, lasted) => {
                let mut words = [0; 64];
                for number in numbers {
                    words[0] |= 1 << number;
                }
                text(engine.see(event, &[(0, words)], Duration::from_micros(*lasted), now).await)
            }
            Op::Quiet => {
                let mut answers = Vec::new();
                for more in [0, 1, 2, 3].map(|calls| QUIET * calls) {
                    answers.push(engine.see(event, &[], QUIET, now.plus(more)).await);
                }
                text(answers)
            }
            Op::Claim(claims) => {
                let one = |(booking, n, number, zone, quantity): &(usize, usize, Option<Number>, usize, u32)| {
                    let pass = number.as_ref().map(|number| self.number(*n, number));
                    let pass = pass.map(|Admission { number, admitted_at, expires_at }| ClaimedPass {
                        number,
                        admitted_at,
                        expires_at,
                    });
                    Claim { booking: b(*booking), visitor: v(*n), pass, zone: z(*zone), quantity: *quantity }
                };
                text(engine.claim(event, &claims.iter().map(one).collect::<Vec<_>>(), now).await)
            }
            Op::Observe { settled, undone, zone, buyer: said } => {
                let news = LedgerNews {
                    settled: settled.iter().map(|&n| b(n)).collect(),
                    undone: undone.iter().map(|&n| b(n)).collect(),
                    zones: zone
                        .iter()
                        .map(|&(n, capacity, taken, version)| tally(n, capacity, taken, version))
                        .collect(),
                    buyers: said.iter().map(|&(n, taken, version)| buyer(n, taken, version)).collect(),
                };
                text(engine.observe(event, &news, now).await)
            }
            Op::Retain(zones) => {
                text(engine.retain_zones(event, &zones.iter().map(|&n| z(n)).collect::<Vec<_>>()).await)
            }
            Op::Remove => text(engine.remove(event).await),
        }
    }
}

async fn everyone(engine: &dyn Engine, rig: &Rig, now: Timestamp) -> Result<Vec<Standing>, String> {
    let visitors: Vec<_> = (0..VISITORS).map(v).collect();
    engine.locate(&rig.event, &visitors, now).await.map_err(|error| error.to_string())
}

/// All that can be seen of an event, as text.
async fn view(rig: &Rig, now: Timestamp) -> String {
    let (engine, event) = (&rig.engine, &rig.event);
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}",
        everyone(engine.as_ref(), rig, now).await,
        engine.counters(event, now).await,
        engine.stock(event).await,
        engine.stale_holds(event, now.plus(Duration::from_secs(15))).await,
    )
}

/// Positions answered from memory are those of the store: everyone in line is where the followed line says, and nobody else is.
async fn positions_agree(rig: &Rig, line: &Line, now: Timestamp) -> Result<(), TestCaseError> {
    let (engine, event) = (rig.engine.as_ref(), &rig.event);
    match catch_up(engine, event, line, || now).await {
        Err(EngineError::UnknownEvent) => {
            line.forget();
            return Ok(());
        }
        followed => followed.map_err(|error| TestCaseError::fail(error.to_string()))?,
    }
    let counters = engine.counters(event, now).await.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut places = HashMap::new();
    for standing in everyone(engine, rig, now).await.map_err(TestCaseError::fail)? {
        if let Standing::Waiting(place) = standing {
            places.insert(place.number, place.position);
        }
    }
    for number in 0..80 {
        let look = line.look(number, now).expect("followed just now");
        proptest::prop_assert_eq!(look.position, places.get(&number).copied(), "number {}", number);
        proptest::prop_assert_eq!(look.waiting, counters.waiting);
    }
    Ok(())
}

async fn compare(ops: &[Op]) -> Result<(), TestCaseError> {
    let (memory, redis) = (Rig::memory(), Rig::redis());
    // One line follows every step, the other looks now and then.
    let lines = [&memory, &redis].map(|rig| (rig, [Line::unknown(at(0.0)), Line::unknown(at(0.0))]));
    let mut caller = Caller { now: at(0.0), told: HashMap::new() };
    for (step, op) in ops.iter().enumerate() {
        if let Op::Step(span) = op {
            caller.now = Timestamp::from_micros(caller.now.micros() + span);
        }
        let (expected, answer) = (caller.apply(&memory, op).await, caller.apply(&redis, op).await);
        proptest::prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, op);
        if matches!(op, Op::Quiet) {
            caller.now = caller.now.plus(QUIET * 3);
        }
        let (expected, found) = (view(&memory, caller.now).await, view(&redis, caller.now).await);
        proptest::prop_assert_eq!(&expected, &found, "after step {}: {:?}", step, op);
        for (rig, [always, seldom]) in &lines {
            positions_agree(rig, always, caller.now).await?;
            if step % 7 == 6 || step + 1 == ops.len() {
                positions_agree(rig, seldom, caller.now).await?;
            }
        }
        if let Ok(standings) = everyone(memory.engine.as_ref(), &memory, caller.now).await {
            standings.into_iter().enumerate().for_each(|(visitor, standing)| caller.tell(visitor, standing));
        }
    }
    redis.engine.remove(&redis.event).await.map_err(|error| TestCaseError::fail(error.to_string()))
}

#[test]
fn random_sequences_have_equal_answers() {
    let usual = if long() { MANY_CASES } else { CASES };
    let cases = std::env::var("USHER_EQUAL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/equal.txt");
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed("equal")),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        source_file: Some(file!()),
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let start = (rules(), 1..5_u64, 5..30_u64);
    let sequence = (start, vec(op(), 1..40)).prop_map(|((rules, first, length), ops)| {
        let zone = |zone| Op::Observe { settled: vec![], undone: vec![], zone: Some((zone, 6, 0, 1)), buyer: None };
        let mut all = vec![rules, Op::Grant(first, first + length), zone(1), zone(2)];
        all.extend(ops);
        all
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let answer = TestRunner::new(config).run(&sequence, |ops| runtime.block_on(compare(&ops)));
    if let Err(error) = answer {
        panic!("{error}");
    }
}
