//! What becomes of a pass.

use std::time::Duration;

use usher::domain::QueuePolicy;
use usher::engine::{Admission, Claimed, Joined, Left, Standing};

use super::rig::{Rig, at, claim, policy};

pub async fn each_standing_is_told_apart(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    assert_eq!(pass, Admission { number: 1, admitted_at: at(1.0), expires_at: at(61.0) });
    assert_eq!(rig.join(1, 2.0).await, Joined::Admitted(pass), "the same facts at every call");
    assert_eq!(rig.locate(2, 2.0).await, Standing::Absent);
    let place = rig.joined(2, 2.0).await;
    assert_eq!(rig.locate(2, 2.0).await, Standing::Waiting(place));

    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 2.0).await, Claimed::Held);
    assert_eq!(rig.locate(1, 2.0).await, Standing::Admitted(pass), "a pass in use is still a pass");
    assert_eq!(rig.join(1, 2.0).await, Joined::Admitted(pass));
    rig.settle(1).await;
    assert_eq!(rig.locate(1, 2.0).await, Standing::Used(pass));
    assert_eq!(rig.locate(1, 99.0).await, Standing::Used(pass), "used stays used after it would have run out");

    rig.release(3.0).await;
    let second = rig.pass(2, 3.0).await;
    assert_eq!(rig.locate(2, 62.999_999).await, Standing::Admitted(second));
    assert_eq!(rig.locate(2, 63.0).await, Standing::Expired(second));
}

pub async fn an_ended_pass_leads_to_the_back_of_the_line(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    for visitor in 1..=3 {
        rig.admit(visitor, 0.0).await;
    }
    let (used, back) = (rig.pass(1, 1.0).await, rig.pass(2, 1.0).await);
    rig.claim(claim(1, 1, Some(used), 1), 1.0).await;
    rig.settle(1).await;
    assert_eq!(rig.leave(2, back.number, 1.0).await, Left::Pass);
    rig.joined(9, 62.0).await;
    // 1 used the pass, 2 gave it back, 3 let it run out: each stands behind 9 now, in the order of joining.
    for (visitor, position) in [(3, 2), (1, 3), (2, 4)] {
        let place = rig.joined(visitor, 62.0).await;
        assert_eq!(place.position, position);
        assert_eq!(rig.locate(visitor, 62.0).await, Standing::Waiting(place), "the line counts, not the old pass");
    }
    rig.rules(2, QueuePolicy { pass_ttl_seconds: 7_200, ..policy() }, 62.0).await;
    assert_eq!(rig.release(63.0).await.admitted, 4);
    for (visitor, number) in [(9, 4), (3, 5), (1, 6), (2, 7)] {
        assert_eq!(rig.pass(visitor, 63.0).await.number, number);
    }
    // What is left of the old passes does not come back to haunt the new ones.
    assert_eq!(rig.release(63.5).await.counters.active, 4);
    assert_eq!(rig.release(3_600.0 + 62.0).await.counters.active, 4);
    assert_eq!(rig.pass(1, 3_662.0).await.number, 6);
}

pub async fn a_pass_can_be_given_back_once(rig: Rig) {
    rig.open(QueuePolicy { max_active: 1, ..policy() }).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    rig.joined(2, 1.0).await;
    assert_eq!(rig.release(2.0).await.admitted, 0);
    assert_eq!(rig.leave(1, pass.number + 1, 2.0).await, Left::Nothing);
    assert_eq!(rig.leave(1, pass.number, 2.0).await, Left::Pass);
    assert_eq!(rig.leave(1, pass.number, 2.0).await, Left::Nothing);
    assert_eq!(rig.locate(1, 2.0).await, Standing::Absent);
    assert_eq!(rig.counters(2.0).await.left, 0, "who was let in did not leave the line");
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 2.0).await, Claimed::PassVoid);
    let released = rig.release(2.0).await;
    assert_eq!((released.admitted, released.counters.active), (1, 1));
    let second = rig.pass(2, 2.0).await;
    assert_eq!(rig.leave(2, second.number, 62.0).await, Left::Nothing, "it ran out");
}

pub async fn a_pass_in_use_cannot_be_given_back(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    rig.claim(claim(1, 1, Some(pass), 1), 1.0).await;
    assert_eq!(rig.leave(1, pass.number, 1.0).await, Left::Nothing);
    rig.settle(1).await;
    assert_eq!(rig.leave(1, pass.number, 1.0).await, Left::Nothing, "nor can one that was used");
    assert_eq!(rig.locate(1, 1.0).await, Standing::Used(pass));
}

pub async fn passes_that_ran_out_are_expired_swept_or_not(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    for swept in [false, true] {
        assert_eq!(rig.locate(1, 61.0).await, Standing::Expired(pass), "swept: {swept}");
        assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 61.0).await, Claimed::PassExpired);
        assert_eq!(rig.leave(1, pass.number, 61.0).await, Left::Nothing);
        assert_eq!(rig.counters(61.0).await.active, 0);
        rig.release(61.0).await;
    }
    assert_eq!(rig.joined(1, 61.0).await.position, 1);
}

pub async fn ended_passes_are_forgotten_after_an_hour(rig: Rig) {
    rig.open(policy()).await;
    let pass = rig.admit(1, 0.0).await;
    let over = pass.expires_at.plus(Duration::from_hours(1));
    let event = &rig.event;
    rig.engine.release(event, None, pass.expires_at).await.expect("release");
    rig.engine.release(event, None, over.minus(Duration::from_micros(1))).await.expect("release");
    assert_eq!(rig.locate(1, 3_661.0).await, Standing::Expired(pass));
    rig.engine.release(event, None, over).await.expect("release");
    assert_eq!(rig.locate(1, 3_661.0).await, Standing::Absent);
}

pub async fn a_swept_pass_stays_expired_when_the_clock_goes_back(rig: Rig) {
    rig.open(QueuePolicy { max_active: 1, ..policy() }).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    rig.joined(2, 1.0).await;
    assert_eq!(rig.release(61.0).await.admitted, 1, "the slot was given to the next");
    assert_eq!(rig.locate(1, 31.0).await, Standing::Expired(pass));
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 31.0).await, Claimed::PassExpired);
    assert_eq!(rig.counters(31.0).await.active, 1);
}
