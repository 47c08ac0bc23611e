//! The pace: the rate, the burst, the cap, the clock.

use usher::domain::QueuePolicy;
use usher::engine::{Left, RELEASE_BATCH};

use super::rig::{Rig, in_state, policy};

fn rate(admit_per_minute: u32) -> QueuePolicy {
    QueuePolicy { admit_per_minute, ..policy() }
}

/// Releases in steps from `from` to `to`, and says how many were let in.
async fn run(rig: &Rig, from: f64, to: f64, step: f64) -> u32 {
    let (mut now, mut admitted) = (from, 0);
    while now < to {
        now = (now + step).min(to);
        admitted += rig.release(now).await.admitted;
    }
    admitted
}

pub async fn the_rate_is_exact_over_a_minute(rig: Rig) {
    rig.open(rate(600)).await;
    rig.join_all(0..1_400, 0.0).await;
    assert_eq!(run(&rig, 0.0, 60.0, 0.25).await, 600);
    assert_eq!(run(&rig, 60.0, 120.0, 0.9).await, 600, "however often it is asked");
}

pub async fn one_burst_is_one_second(rig: Rig) {
    rig.open(rate(1_200)).await;
    rig.join_all(0..100, 0.0).await;
    assert_eq!(rig.release(3_600.0).await.admitted, 20);
    assert_eq!(rig.release(3_600.0).await.admitted, 0);
    rig.rules(2, rate(6), 3_600.0).await;
    assert_eq!(rig.release(7_200.0).await.admitted, 1, "at least one");
}

pub async fn a_new_event_has_no_tokens(rig: Rig) {
    rig.open(rate(60)).await;
    rig.joined(1, 0.0).await;
    assert_eq!(rig.release(0.0).await.admitted, 0);
    assert_eq!(rig.release(0.999_999).await.admitted, 0);
    assert_eq!(rig.release(1.0).await.admitted, 1);
}

pub async fn a_new_rate_touches_only_the_future(rig: Rig) {
    rig.open(rate(1)).await;
    rig.join_all(0..100, 0.0).await;
    rig.rules(2, rate(600), 59.0).await;
    assert_eq!(rig.release(59.0).await.admitted, 0, "59/60 of a token, at any rate");
    assert_eq!(rig.release(59.01).await.admitted, 1);
    assert_eq!(rig.release(60.01).await.admitted, 10);
    rig.rules(3, rate(60), 60.51).await;
    assert_eq!(rig.release(60.51).await.admitted, 1, "five tokens saved, but the new burst is one");
    rig.rules(4, QueuePolicy { max_active: 50, ..rate(60) }, 61.0).await;
    assert_eq!(rig.release(61.51).await.admitted, 1, "another change than that of the rate costs no time");
}

pub async fn a_rate_of_zero_lets_nobody_in(rig: Rig) {
    rig.open(rate(0)).await;
    rig.join_all(0..10, 0.0).await;
    assert_eq!(run(&rig, 0.0, 60.0, 5.0).await, 0);
    rig.rules(2, rate(60), 60.0).await;
    assert_eq!(rig.release(60.5).await.admitted, 0, "nothing was saved up");
    assert_eq!(rig.release(61.0).await.admitted, 1);
    rig.rules(3, rate(0), 61.9).await;
    assert_eq!(rig.release(100.0).await.admitted, 0);
}

pub async fn sixty_million_a_minute(rig: Rig) {
    rig.open(rate(60_000_000)).await;
    rig.join_all(0..1_024, 0.0).await;
    assert_eq!(rig.release(0.000_001).await.admitted, 1, "one a microsecond");
    let mut admitted = 1;
    for _ in 0..11 {
        admitted += rig.release(0.01).await.admitted;
    }
    assert_eq!(admitted, 1_024, "as many calls in the same instant as it takes");
}

pub async fn a_rate_set_far_too_high_is_undone_within_a_second(rig: Rig) {
    rig.open(rate(60_000_000)).await;
    rig.join_all(0..500, 0.0).await;
    rig.release(1.0).await;
    rig.release(2.0).await;
    rig.rules(2, rate(60), 3.0).await;
    let first = rig.release(3.0).await.admitted;
    assert!(first <= 1, "{first} at once");
    assert!(run(&rig, 3.0, 13.0, 0.25).await <= 11);
    rig.rules(3, rate(1), 13.0).await;
    rig.rules(4, rate(600), 13.0).await;
    assert!(rig.release(14.0).await.admitted >= 9, "a rate set far too low as well");
}

pub async fn a_clock_that_jumps_neither_floods_nor_stops(rig: Rig) {
    rig.open(rate(600)).await;
    rig.join_all(0..200, 0.0).await;
    rig.release(1.0).await;
    assert_eq!(rig.release(31.0).await.admitted, 10, "a jump ahead is worth one burst");
    assert_eq!(rig.release(1.0).await.admitted, 0, "a jump back starts again, empty");
    assert_eq!(rig.release(1.1).await.admitted, 1, "and goes on at the rate");
    assert_eq!(run(&rig, 1.1, 11.1, 0.25).await, 100);
    // A change of the rate while the clock is back does no harm either.
    rig.rules(2, rate(60), -20.0).await;
    assert_eq!(rig.release(-20.0).await.admitted, 0);
    assert_eq!(rig.release(-19.0).await.admitted, 1);
}

pub async fn time_that_the_caller_did_not_see_is_worth_nothing(rig: Rig) {
    rig.open(rate(600)).await;
    rig.join_all(0..200, 0.0).await;
    rig.release(0.45).await;
    for (clock, admitted) in [(30.45, 0), (30.55, 1), (0.55, 0), (0.65, 1), (-30.0, 0), (-29.9, 1), (0.1, 0), (0.2, 1)]
    {
        assert_eq!(rig.release_since(0.1, clock).await.admitted, admitted, "at {clock}");
    }
    assert_eq!(rig.release_since(2.0, 2.0).await.admitted, 10, "as long ago as the clock says");
}

pub async fn max_active_is_never_exceeded(rig: Rig) {
    rig.open(QueuePolicy { max_active: 7, pass_ttl_seconds: 2, ..rate(6_000) }).await;
    rig.join_all(0..300, 0.0).await;
    let mut admitted = 0;
    for step in 1..=400 {
        let now = f64::from(step) * 0.1;
        let released = rig.release(now).await;
        admitted += released.admitted;
        assert!(released.counters.active <= 7, "{} at {now}", released.counters.active);
        assert_eq!(released.counters, rig.counters(now).await);
    }
    assert!(admitted >= 7 * 19, "every slot comes back after two seconds; {admitted} were let in");
}

pub async fn slots_come_back(rig: Rig) {
    rig.open(QueuePolicy { max_active: 3, ..policy() }).await;
    rig.zone(1, 10, 0, 1).await;
    rig.join_all(0..10, 0.0).await;
    assert_eq!(rig.release(1.0).await.admitted, 3);
    let (used, back) = (rig.pass(0, 1.0).await, rig.pass(1, 1.0).await);
    rig.claim(super::rig::claim(1, 0, Some(used), 1), 2.0).await;
    assert_eq!(rig.release(2.0).await.admitted, 0, "a pass in use keeps its slot");
    rig.settle(1).await;
    assert_eq!(rig.release(3.0).await.admitted, 1, "used");
    assert_eq!(rig.leave(1, back.number, 4.0).await, Left::Pass);
    assert_eq!(rig.release(4.0).await.admitted, 1, "given back");
    assert_eq!(rig.release(60.9).await.admitted, 0);
    assert_eq!(rig.release(61.0).await.admitted, 1, "ran out");
}

pub async fn a_release_is_bounded(rig: Rig) {
    rig.open(rate(60_000)).await;
    rig.join_all(0..350, 0.0).await;
    for expected in [RELEASE_BATCH, RELEASE_BATCH, RELEASE_BATCH, 50, 0] {
        assert_eq!(rig.release(1.0).await.admitted, expected);
    }
}

pub async fn a_lower_cap_waits_for_room(rig: Rig) {
    rig.open(policy()).await;
    rig.join_all(0..20, 0.0).await;
    rig.release(0.1).await;
    rig.rules(2, QueuePolicy { max_active: 4, ..policy() }, 0.5).await;
    let released = rig.release(1.0).await;
    assert_eq!((released.admitted, released.counters.active), (0, 10));
    let released = rig.release(61.0).await;
    assert_eq!((released.admitted, released.counters.active), (4, 4));
}

pub async fn many_expired_passes_never_block_the_count(rig: Rig) {
    rig.open(QueuePolicy { max_active: 250, ..rate(60_000) }).await;
    rig.join_all(0..700, 0.0).await;
    for _ in 0..3 {
        rig.release(1.0).await;
    }
    // All 250 ran out; one call sweeps a part of them, and yet there is room for a whole batch in each.
    for expected in [(100, 100), (100, 200), (50, 250), (0, 250)] {
        let released = rig.release(62.0).await;
        assert_eq!((released.admitted, released.counters.active), expected);
    }
    rig.rules(2, in_state(usher::domain::QueueState::Closed), 62.0).await;
    assert_eq!(rig.release(200.0).await.counters.active, 0);
}
