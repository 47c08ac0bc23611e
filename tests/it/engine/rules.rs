//! Events come, change and go.

use usher::domain::{QueuePolicy, QueueState};
use usher::engine::{
    Claimed, Counters, EngineError, EventRules, InForce, Joined, Leaving, LedgerNews, NumberBlock, Numbers, Standing,
};

use std::time::Duration;

use super::rig::{Rig, at, claim, in_state, policy, rules, v, z};

pub async fn an_unknown_event_is_said_to_be_so(rig: Rig) {
    let (engine, event, now) = (&rig.engine, &rig.event, at(0.0));
    let unknown = |error: Option<EngineError>| assert!(matches!(error, Some(EngineError::UnknownEvent)), "{error:?}");
    unknown(engine.grant_numbers(event, NumberBlock { start: 1, end: 2 }, Duration::ZERO, now).await.err());
    for visitors in [&[v(1)][..], &[]] {
        unknown(engine.join(event, visitors, now).await.err());
        unknown(engine.locate(event, visitors, now).await.err());
    }
    unknown(engine.leave(event, &[Leaving { visitor: v(1), number: 1 }], now).await.err());
    unknown(engine.leave(event, &[], now).await.err());
    unknown(engine.release(event, None, now).await.err());
    unknown(engine.counters(event, now).await.err());
    unknown(engine.claim(event, &[claim(1, 1, None, 1)], now).await.err());
    unknown(engine.claim(event, &[], now).await.err());
    unknown(engine.observe(event, &LedgerNews::default(), now).await.err());
    unknown(engine.stale_holds(event, now).await.err());
    unknown(engine.stock(event).await.err());
    unknown(engine.retain_zones(event, &[z(1)]).await.err());
    engine.remove(event).await.expect("forgetting what is not known is no error");
    engine.ping().await.expect("the store answers");
}

pub async fn only_newer_rules_are_put_in_force(rig: Rig) {
    rig.open(policy()).await;
    for (version, state, in_force) in [
        (1, QueueState::Closed, (1, QueueState::Open)),
        (3, QueueState::Paused, (3, QueueState::Paused)),
        (2, QueueState::Closed, (3, QueueState::Paused)),
        (-1, QueueState::Closed, (3, QueueState::Paused)),
    ] {
        rig.rules(version, in_state(state), 0.0).await;
        let counters = rig.counters(0.0).await;
        assert_eq!((counters.version, counters.state), in_force);
    }
}

pub async fn a_higher_floor_empties_line_and_passes(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let old = rig.admit(1, 0.0).await;
    let held = rig.admit(2, 1.0).await;
    assert_eq!(rig.claim(claim(1, 2, Some(held), 2), 2.0).await, Claimed::Held);
    rig.joined(3, 2.0).await;

    let floor = EventRules { number_floor: 100, ..rules(2, policy()) };
    let in_force = rig.engine.put_rules(&rig.event, &floor, at(3.0)).await.expect("rules");
    let numbers = Numbers { left: 999_901, past: 1_000_001 };
    assert_eq!(
        in_force,
        InForce { version: 2, floor: 100, numbers },
        "numbers below the floor are not handed out any more"
    );
    for visitor in 1..=3 {
        assert_eq!(rig.locate(visitor, 3.0).await, Standing::Absent);
    }
    let counters = rig.counters(3.0).await;
    assert_eq!((counters.waiting, counters.active, counters.admitted, counters.left), (0, 0, 2, 0));
    assert_eq!(rig.claim(claim(2, 1, Some(old), 1), 3.0).await, Claimed::PassVoid);
    assert_eq!(rig.available(1).await, 8, "the hold stays");
    rig.settle(1).await;
    assert_eq!((rig.available(1).await, rig.locate(2, 3.0).await), (10, Standing::Absent));

    let place = rig.joined(1, 4.5).await;
    assert_eq!((place.number, place.position, place.joined_at), (100, 1, at(4.5)));
}

pub async fn a_floor_never_sinks(rig: Rig) {
    let event = &rig.event;
    let with_floor = |version, number_floor| EventRules { number_floor, ..rules(version, policy()) };
    rig.engine.put_rules(event, &with_floor(1, 50), at(0.0)).await.expect("rules");
    assert_eq!(rig.grant(1, 101).await, 51);
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    assert_eq!(pass.number, 50);
    rig.engine.put_rules(event, &with_floor(2, 10), at(1.0)).await.expect("rules");
    assert_eq!(rig.pass(1, 1.0).await, pass, "a lower floor empties nothing");
    let below = usher::engine::Admission { number: 49, ..pass };
    assert_eq!(rig.claim(claim(1, 2, Some(below), 1), 1.0).await, Claimed::PassVoid);
}

pub async fn what_is_removed_is_unknown(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 7).await;
    let pass = rig.admit(1, 0.0).await;
    rig.claim(claim(1, 1, Some(pass), 1), 1.0).await;
    rig.joined(2, 1.0).await;
    rig.engine.remove(&rig.event).await.expect("removed");
    assert!(matches!(rig.engine.counters(&rig.event, at(1.0)).await, Err(EngineError::UnknownEvent)));
    rig.engine.remove(&rig.event).await.expect("twice is no error");

    rig.rules(1, policy(), 2.0).await;
    let counters = rig.counters(2.0).await;
    assert_eq!((counters.waiting, counters.admitted, counters.numbers), (0, 0, Numbers { left: 0, past: 1 }));
    assert!(rig.engine.stock(&rig.event).await.expect("stock").is_empty());
    assert!(rig.engine.stale_holds(&rig.event, at(99.0)).await.expect("holds").is_empty());
}

pub async fn a_lobby_opens_by_itself_at_its_time(rig: Rig) {
    let opens_at = Some(at(10.0));
    rig.open(QueuePolicy { opens_at, ..in_state(QueueState::Lobby) }).await;
    rig.join_all(0..50, 1.0).await;
    let early = rig.release(9.999_999).await;
    assert_eq!((early.admitted, early.counters.state), (0, QueueState::Lobby));
    let opened = rig.release(10.0).await;
    assert_eq!((opened.admitted, opened.counters.state), (50, QueueState::Open));

    // An open queue waits for its time as well; a lobby without a time waits to be opened by hand.
    rig.rules(2, QueuePolicy { opens_at: Some(at(30.0)), ..policy() }, 20.0).await;
    assert_eq!(rig.counters(29.0).await.state, QueueState::Lobby);
    rig.rules(3, in_state(QueueState::Lobby), 30.0).await;
    rig.joined(50, 31.0).await;
    assert_eq!(rig.release(9_999.0).await.admitted, 0);
}

pub async fn a_paused_queue_takes_joins_and_lets_nobody_in(rig: Rig) {
    rig.open(QueuePolicy { opens_at: Some(at(100.0)), ..in_state(QueueState::Paused) }).await;
    assert_eq!(rig.joined(1, 0.0).await.position, 1);
    let released = rig.release(60.0).await;
    assert_eq!((released.admitted, released.counters.state), (0, QueueState::Paused));
    rig.rules(2, policy(), 61.0).await;
    assert_eq!(rig.release(61.0).await.admitted, 1);
}

pub async fn a_closed_queue_takes_no_joins_and_keeps_places(rig: Rig) {
    rig.open(policy()).await;
    let pass = rig.admit(1, 0.0).await;
    let place = rig.joined(2, 1.0).await;
    rig.rules(2, in_state(QueueState::Closed), 2.0).await;
    let answers = rig.join_all([1, 2, 3], 3.0).await;
    assert_eq!(answers, [Joined::Admitted(pass), Joined::Already(place), Joined::Closed]);
    assert_eq!(rig.release(4.0).await.admitted, 0);
}

pub async fn counters_tell_the_whole_story(rig: Rig) {
    rig.open(policy()).await;
    rig.join_all(0..10, 0.0).await;
    rig.release(0.05).await; // five tokens
    rig.leave(9, 10, 0.1).await;
    let expected = Counters {
        state: QueueState::Open,
        waiting: 4,
        active: 5,
        admitted: 5,
        parked: 0,
        left: 1,
        version: 1,
        numbers: Numbers { left: 999_990, past: 1_000_001 },
        resumes_at: usher::domain::Timestamp::default(),
        at: at(0.1),
    };
    assert_eq!(rig.counters(0.1).await, expected);
    assert_eq!(rig.counters(60.05).await.active, 0, "passes that ran out do not count, swept or not");
}
