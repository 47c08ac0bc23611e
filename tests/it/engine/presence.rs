//! Whoever is away when their turn comes is passed over, keeps the place, and stands at the front when back.

use std::time::Duration;

use usher::domain::present::{BITS, Seen};
use usher::domain::{QueuePolicy, QueueState};
use usher::engine::{EventRules, Joined, Left, PLACE_TTL, Reclaim, Standing};
use usher::follow::catch_up;
use usher::line::Line;

use super::rig::{Rig, at, policy, rules, v};

/// Ten seconds, so two windows of five; visitors 1 to `count` joined at zero and have the numbers 1 to `count`.
async fn waiting(rig: &Rig, count: usize) {
    rig.open(QueuePolicy { presence_seconds: 10, state: QueueState::Paused, ..policy() }).await;
    for visitor in 1..=count {
        assert_eq!(rig.joined(visitor, 0.0).await.number, visitor as u64);
    }
}

async fn open(rig: &Rig, seconds: f64) {
    rig.rules(2, QueuePolicy { presence_seconds: 10, admit_per_minute: 60_000, ..policy() }, seconds).await;
}

fn seen(numbers: &[u64]) -> Vec<Seen> {
    let mut words = [0; 64];
    for number in numbers {
        assert!(*number < BITS);
        words[(number / 64) as usize] |= 1 << (number % 64);
    }
    if numbers.is_empty() { vec![] } else { vec![(0, words)] }
}

/// Tells every two seconds, until `until`, that these were seen.
pub async fn watch(rig: &Rig, numbers: &[u64], from: u32, until: u32) {
    for second in (from..=until).step_by(2) {
        let told = rig.engine.see(&rig.event, &seen(numbers), Duration::from_secs(2), at(second.into())).await;
        told.expect("told");
    }
}

async fn back(rig: &Rig, visitor: usize, seconds: f64) -> Standing {
    let proof = Reclaim { visitor: v(visitor), number: 999, joined_at: at(0.0) };
    rig.engine.reclaim(&rig.event, &[proof], at(seconds)).await.expect("an answer")[0]
}

pub async fn whoever_is_away_holds_up_nobody_and_comes_back_to_the_front(rig: Rig) {
    waiting(&rig, 3).await;
    let line = Line::unknown(at(0.0));
    watch(&rig, &[2, 3], 0, 20).await;
    open(&rig, 20.0).await;
    let released = rig.release(21.0).await;
    assert_eq!((released.admitted, released.parked, released.counters.parked), (2, 1, 1));
    assert_eq!((released.counters.waiting, released.counters.left), (0, 0));
    rig.pass(2, 21.0).await;
    assert!(matches!(rig.locate(1, 21.0).await, Standing::Parked(away) if away.number == 1));
    assert!(matches!(rig.join(1, 21.0).await, Joined::Parked(away) if away.joined_at == at(0.0)));
    rig.joined(4, 21.0).await;
    let Standing::Waiting(place) = back(&rig, 1, 22.0).await else { panic!("not back") };
    assert_eq!((place.number, place.position, place.joined_at), (1, 1, at(0.0)));
    catch_up(rig.engine.as_ref(), &rig.event, &line, || at(22.0)).await.expect("followed");
    assert_eq!(line.look(1, at(22.0)).expect("fresh").position, Some(1));
    let released = rig.release(22.5).await;
    assert_eq!((released.admitted, released.parked), (2, 0));
    rig.pass(1, 22.5).await;
}

pub async fn nobody_is_away_when_nobody_told_who_was_seen(rig: Rig) {
    waiting(&rig, 2).await;
    watch(&rig, &[], 0, 20).await;
    // Cut off from 20 to 60, and told again since: nobody has had the time to be seen.
    watch(&rig, &[], 60, 68).await;
    open(&rig, 69.0).await;
    let released = rig.release(69.5).await;
    assert_eq!((released.admitted, released.parked), (2, 0));
}

pub async fn nobody_is_away_who_just_joined_or_where_it_is_not_asked(rig: Rig) {
    waiting(&rig, 1).await;
    watch(&rig, &[], 0, 20).await;
    rig.joined(2, 12.0).await;
    open(&rig, 20.0).await;
    let released = rig.release(21.0).await;
    assert_eq!((released.admitted, released.parked), (1, 1));
    rig.pass(2, 21.0).await;
    back(&rig, 1, 21.0).await;
    watch(&rig, &[], 22, 40).await;
    rig.rules(3, QueuePolicy { admit_per_minute: 60_000, ..policy() }, 40.0).await;
    assert_eq!(rig.release(41.0).await.admitted, 1);
}

pub async fn what_was_seen_counts_for_its_time(rig: Rig) {
    waiting(&rig, 2).await;
    // At 23 the windows from 15 on count; what was gathered from 16 to 18 lies in one of them.
    watch(&rig, &[1, 2], 0, 12).await;
    watch(&rig, &[2], 14, 18).await;
    watch(&rig, &[], 20, 22).await;
    open(&rig, 22.0).await;
    let released = rig.release(23.0).await;
    assert_eq!((released.admitted, released.parked), (1, 1));
    rig.pass(2, 23.0).await;
}

pub async fn many_who_are_away_are_passed_over_a_batch_at_a_time(rig: Rig) {
    waiting(&rig, 151).await;
    watch(&rig, &[151], 0, 20).await;
    open(&rig, 20.0).await;
    let released = rig.release(21.0).await;
    assert_eq!((released.admitted, released.parked), (0, 100));
    let released = rig.release(21.0).await;
    assert_eq!((released.admitted, released.parked), (1, 50), "and the tokens were kept");
    // All come back, the last first, and stand in their order.
    for visitor in (1..=150).rev() {
        assert!(matches!(back(&rig, visitor, 22.0).await, Standing::Waiting(place) if place.position == 1));
    }
    let released = rig.release(23.0).await;
    assert_eq!((released.admitted, released.parked), (100, 0));
    rig.pass(1, 23.0).await;
    assert!(matches!(rig.locate(101, 23.0).await, Standing::Waiting(place) if place.position == 1));
}

pub async fn the_parked_can_leave_and_do_not_stay_for_ever(rig: Rig) {
    waiting(&rig, 4).await;
    watch(&rig, &[4], 0, 20).await;
    open(&rig, 20.0).await;
    assert_eq!(rig.release(21.0).await.parked, 3);
    assert_eq!(rig.leave(1, 1, 22.0).await, Left::Line);
    assert_eq!(rig.leave(1, 1, 22.0).await, Left::Nothing);
    assert_eq!(rig.locate(1, 22.0).await, Standing::Absent);
    let full = QueuePolicy { presence_seconds: 10, max_queue: 2, ..policy() };
    rig.rules(3, full, 22.0).await;
    assert_eq!(rig.join(5, 22.0).await, Joined::Full, "they count");
    let over = 1.0 + PLACE_TTL.as_secs_f64();
    let counters = rig.release(over).await.counters;
    assert_eq!((counters.parked, counters.left), (0, 3));
}

pub async fn a_reset_sends_the_parked_away(rig: Rig) {
    waiting(&rig, 2).await;
    watch(&rig, &[2], 0, 20).await;
    open(&rig, 20.0).await;
    assert_eq!(rig.release(21.0).await.parked, 1);
    let reset = EventRules { number_floor: 500, ..rules(9, policy()) };
    rig.engine.put_rules(&rig.event, &reset, at(22.0)).await.expect("rules");
    assert_eq!(rig.locate(1, 22.0).await, Standing::Absent);
    assert_eq!(rig.counters(22.0).await.parked, 0);
}
