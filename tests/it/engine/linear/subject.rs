//! A new event on a real engine, and how it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use usher::domain::time::ManualClock;
use usher::domain::{EventId, QueuePolicy, VisitorId};
use usher::engine::{Batched, Claim, Engine, Leaving, LedgerNews};

use super::model::{Claiming, Op, PASS_TTL, Ret, World, now, pass};
use crate::engine::rig::{Rig, b, claim, tally, v};

/// An event that begins as its world says.
pub struct Subject {
    rig: Rig,
    world: World,
    /// Where single calls are gathered into batches, as the service does it.
    gathered: Option<Batched>,
}

impl Subject {
    pub async fn open(engine: &Arc<dyn Engine>, world: World) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let event = EventId::parse(&format!("linear:{}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("an id");
        let rig = Rig { engine: Arc::clone(engine), event };
        // So many a second: a bucket holds one second's worth, and is full when the clock stands at `now`.
        let policy = QueuePolicy {
            admit_per_minute: world.tokens * 60,
            max_active: world.max_active,
            max_queue: world.max_queue,
            pass_ttl_seconds: PASS_TTL,
            max_per_user: 0,
            ..QueuePolicy::default()
        };
        rig.rules(1, policy, 0.0).await;
        rig.grant(1, world.numbers + 1).await;
        rig.zone(1, world.seats, 0, 1).await;
        Self { rig, world, gathered: None }
    }

    /// The same, asked one by one through the batches of the service.
    pub fn gathered(self) -> Self {
        let clock = Arc::new(ManualClock::at(now()));
        Self { gathered: Some(Batched::new(Arc::clone(&self.rig.engine), clock, 100)), ..self }
    }

    pub async fn close(self) {
        self.rig.engine.remove(&self.rig.event).await.expect("remove");
    }

    /// Asks. Every answer has to come: nothing is broken here.
    pub async fn ask(&self, op: &Op) -> Ret {
        let (engine, event) = (&self.rig.engine, &self.rig.event);
        match op {
            Op::Join(list) => match &self.gathered {
                Some(gathered) => Ret::Joined(vec![gathered.join(event, &v(*only(list))).await.expect("join").0]),
                None => Ret::Joined(engine.join(event, &visitors(list), now()).await.expect("join")),
            },
            Op::Locate(list) => match &self.gathered {
                Some(gathered) => Ret::Located(vec![gathered.locate(event, &v(*only(list))).await.expect("locate").0]),
                None => Ret::Located(engine.locate(event, &visitors(list), now()).await.expect("locate")),
            },
            Op::Leave(leaving) => {
                let leaving: Vec<_> = leaving.iter().map(|&(n, number)| Leaving { visitor: v(n), number }).collect();
                Ret::Left(engine.leave(event, &leaving, now()).await.expect("leave"))
            }
            Op::Release => Ret::Released(engine.release(event, None, now()).await.expect("release")),
            Op::Claim(claims) => {
                let claims: Vec<_> = claims.iter().map(claimed).collect();
                Ret::Claimed(match &self.gathered {
                    Some(gathered) => vec![gathered.claim(event, only(&claims)).await.expect("claim")],
                    None => engine.claim(event, &claims, now()).await.expect("claim"),
                })
            }
            Op::Observe { settled, undone, tally: count } => {
                let zones = count.iter().map(|&(taken, version)| tally(1, self.world.seats, taken, version)).collect();
                let bookings = |list: &[usize]| list.iter().map(|&n| b(n)).collect();
                let (settled, undone) = (bookings(settled), bookings(undone));
                let news = LedgerNews { settled, undone, zones, buyers: vec![] };
                Ret::Observed(engine.observe(event, &news, now()).await.expect("observe"))
            }
            Op::Count => Ret::Counted(engine.counters(event, now()).await.expect("counters")),
        }
    }
}

fn visitors(list: &[usize]) -> Vec<VisitorId> {
    list.iter().map(|&n| v(n)).collect()
}

fn only<T>(list: &[T]) -> &T {
    assert_eq!(list.len(), 1, "one by one");
    &list[0]
}

fn claimed(&Claiming { booking, visitor, number, quantity }: &Claiming<u64>) -> Claim {
    claim(booking, visitor, Some(pass(number)), quantity)
}
