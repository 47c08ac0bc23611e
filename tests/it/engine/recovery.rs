//! Places that a store lost are given back to whoever proves them, and nobody is let in while that goes on.

use usher::engine::{Joined, NumberBlock, Reclaim, Standing};
use usher::follow::catch_up;
use usher::line::Line;

use super::rig::{RECOVERY, Rig, at, policy, proof, rules, v};

/// An event whose store came back empty at ten minutes: numbers up to a thousand were handed out before.
async fn emptied(rig: &Rig) {
    rig.rules(1, policy(), 600.0).await;
    let block = NumberBlock { start: 1_001, end: 2_001 };
    rig.engine.grant_numbers(&rig.event, block, RECOVERY, at(600.0)).await.expect("granted");
}

async fn reclaim(rig: &Rig, visitor: usize, number: u64, now: f64) -> Standing {
    rig.engine.reclaim(&rig.event, &[proof(visitor, number)], at(now)).await.expect("an answer")[0]
}

async fn numbers(rig: &Rig, visitors: &[usize], now: f64) -> Vec<Option<(u64, u64)>> {
    let visitors: Vec<_> = visitors.iter().map(|&n| v(n)).collect();
    let standings = rig.engine.locate(&rig.event, &visitors, at(now)).await.expect("an answer");
    let place =
        |standing| if let Standing::Waiting(place) = standing { Some((place.number, place.position)) } else { None };
    standings.into_iter().map(place).collect()
}

pub async fn lost_places_are_taken_back_in_their_order(rig: Rig) {
    emptied(&rig).await;
    let newcomer = rig.joined(9, 600.0).await;
    assert!(newcomer.number > 1_000);
    let line = Line::unknown(at(600.0));
    for (visitor, number) in [(3, 30), (1, 10), (4, 40), (2, 20)] {
        let Standing::Waiting(place) = reclaim(&rig, visitor, number, 601.0).await else { panic!("not back") };
        assert_eq!((place.number, place.joined_at), (number, proof(visitor, number).joined_at));
        catch_up(rig.engine.as_ref(), &rig.event, &line, || at(601.0)).await.expect("followed");
        assert_eq!(line.look(number, at(601.0)).expect("fresh").position, Some(place.position));
    }
    let places = numbers(&rig, &[1, 2, 3, 4, 9], 601.0).await;
    let wanted = [(10, 1), (20, 2), (30, 3), (40, 4), (newcomer.number, 5)];
    assert_eq!(places, wanted.map(Some));
    // Again, and with a newer place of their own: the earlier one stands.
    assert!(matches!(reclaim(&rig, 2, 20, 602.0).await, Standing::Waiting(place) if place.number == 20));
    assert!(matches!(reclaim(&rig, 2, 25, 602.0).await, Standing::Waiting(place) if place.number == 20));
    assert!(matches!(reclaim(&rig, 9, 15, 602.0).await, Standing::Waiting(place) if place.number == 15));
    assert_eq!(rig.counters(602.0).await.waiting, 5, "a visitor has one place");
}

pub async fn nobody_is_let_in_during_the_recovery(rig: Rig) {
    emptied(&rig).await;
    rig.joined(9, 600.0).await;
    let released = rig.release(604.9).await;
    assert_eq!((released.admitted, released.counters.resumes_at), (0, at(605.0)));
    reclaim(&rig, 1, 10, 604.9).await;
    assert!(rig.release(605.0).await.admitted > 0, "then it goes on");
    assert!(
        matches!(reclaim(&rig, 1, 10, 605.0).await, Standing::Admitted(pass) if pass.number == 10),
        "from the front"
    );
}

pub async fn a_first_store_needs_no_recovery(rig: Rig) {
    rig.open(policy()).await;
    rig.joined(1, 600.0).await;
    assert!(rig.release(600.0).await.admitted > 0);
}

pub async fn what_was_given_up_is_not_taken_back(rig: Rig) {
    rig.open(policy()).await;
    let place = rig.joined(1, 0.0).await;
    rig.leave(1, place.number, 1.0).await;
    let mine = Reclaim { visitor: v(1), number: place.number, joined_at: place.joined_at };
    let standings = rig.engine.reclaim(&rig.event, &[mine], at(1.0)).await.expect("an answer");
    assert_eq!(standings, [Standing::Absent], "this store handed the number out, so the visitor left");
}

pub async fn what_is_void_or_taken_is_not_taken_back(rig: Rig) {
    emptied(&rig).await;
    let reset = usher::engine::EventRules { number_floor: 500, ..rules(9, policy()) };
    rig.engine.put_rules(&rig.event, &reset, at(600.0)).await.expect("rules");
    assert_eq!(reclaim(&rig, 1, 499, 601.0).await, Standing::Absent, "below the floor");
    assert_eq!(reclaim(&rig, 1, 0, 601.0).await, Standing::Absent, "no number at all");
    assert_eq!(reclaim(&rig, 1, 600, 60.0 + 24.0 * 3600.0).await, Standing::Absent, "too old");
    assert!(matches!(reclaim(&rig, 1, 600, 601.0).await, Standing::Waiting(_)));
    assert_eq!(reclaim(&rig, 2, 600, 601.0).await, Standing::Absent, "somebody else's");
}

pub async fn a_store_that_is_older_than_a_number_gives_its_numbers_up(rig: Rig) {
    rig.open(policy()).await;
    rig.joined(1, 0.0).await;
    // Numbers to fifty were handed out since, says a ticket.
    let Standing::Waiting(place) = reclaim(&rig, 2, 50, 10.0).await else { panic!("not back") };
    assert_eq!((place.number, place.position), (50, 2));
    let refused = rig.engine.join(&rig.event, &[v(3)], at(10.0)).await.expect("an answer");
    assert_eq!(refused, [Joined::NoNumbers], "the numbers to come may be others' already");
    assert_eq!(rig.release(10.0).await.admitted, 0);
    rig.engine
        .grant_numbers(&rig.event, NumberBlock { start: 2_000_000, end: 3_000_000 }, RECOVERY, at(10.0))
        .await
        .expect("granted");
    assert_eq!(rig.joined(3, 10.0).await.number, 2_000_000);
    assert!(matches!(reclaim(&rig, 4, 30, 11.0).await, Standing::Waiting(place) if place.position == 2));
    assert_eq!(rig.release(14.9).await.admitted, 0);
    assert!(rig.release(15.0).await.admitted > 0);
}
