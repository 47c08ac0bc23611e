//! The line: places, positions, leaving.

use usher::domain::{QueuePolicy, QueueState, VisitorId};
use usher::engine::{Joined, Leaving, Left, MAX_BATCH, Place, Standing};

use super::rig::{Rig, at, in_state, policy, v};

pub async fn joining_twice_never_gives_a_second_place(rig: Rig) {
    rig.open(policy()).await;
    let answers = rig.join_all([1, 2, 1, 2, 3], 0.5).await;
    let place = |number| Place { number, position: number, joined_at: at(0.5) };
    let expected = [
        Joined::New(place(1)),
        Joined::New(place(2)),
        Joined::Already(place(1)),
        Joined::Already(place(2)),
        Joined::New(place(3)),
    ];
    assert_eq!(answers, expected);
    assert_eq!(rig.join(2, 9.0).await, Joined::Already(place(2)));
    assert_eq!(rig.counters(9.0).await.waiting, 3);
}

pub async fn those_who_join_first_are_let_in_first(rig: Rig) {
    rig.open(policy()).await;
    // Ids in no order, so that only the order of joining can explain the order of release.
    let order: Vec<usize> = (0..200).map(|n| n * 73 % 200).collect();
    for (batch, visitors) in order.chunks(7).enumerate() {
        rig.join_all(visitors.iter().copied(), 0.01 * batch as f64).await;
    }
    let mut let_in = 0;
    for step in 1..=40 {
        let now = 1.0 + f64::from(step) * 0.05; // five a step
        let_in += rig.release(now).await.admitted as usize;
        for (i, &visitor) in order.iter().enumerate() {
            let admitted =
                matches!(rig.locate(visitor, now).await, Standing::Admitted(pass) if pass.number == i as u64 + 1);
            assert_eq!(admitted, i < let_in, "number {} when {let_in} are in", i + 1);
        }
        if let_in == order.len() {
            return;
        }
    }
    panic!("only {let_in} were let in");
}

pub async fn positions_move_up(rig: Rig) {
    rig.open(policy()).await;
    rig.join_all(0..10, 0.0).await;
    rig.leave(4, 5, 0.0).await;
    rig.release(0.02).await; // two are let in
    let mut positions = Vec::new();
    for visitor in 2..10 {
        if let Standing::Waiting(place) = rig.locate(visitor, 0.02).await {
            positions.push((place.number, place.position));
        }
    }
    assert_eq!(positions, [(3, 1), (4, 2), (6, 3), (7, 4), (8, 5), (9, 6), (10, 7)]);
}

pub async fn a_full_line_refuses_new_places_only(rig: Rig) {
    rig.open(QueuePolicy { max_queue: 2, ..in_state(QueueState::Paused) }).await;
    let answers = rig.join_all([1, 2, 3, 1], 0.0).await;
    assert_eq!(answers[2], Joined::Full);
    assert!(matches!(answers[3], Joined::Already(place) if place.position == 1));
    rig.leave(1, 1, 0.0).await;
    assert_eq!(rig.joined(3, 0.0).await.position, 2);
    rig.rules(2, QueuePolicy { max_queue: 0, ..policy() }, 0.0).await;
    assert_eq!(rig.joined(4, 0.0).await.position, 3, "0 is no limit");
}

pub async fn leaving_needs_the_right_number(rig: Rig) {
    rig.open(policy()).await;
    rig.join_all([1, 2], 0.0).await;
    assert_eq!(rig.leave(1, 2, 0.0).await, Left::Nothing);
    assert_eq!(rig.leave(3, 1, 0.0).await, Left::Nothing);
    let one = Leaving { visitor: v(1), number: 1 };
    let answers = rig.engine.leave(&rig.event, &[one.clone(), one], at(0.0)).await.expect("leave");
    assert_eq!(answers, [Left::Line, Left::Nothing]);
    assert_eq!(rig.locate(1, 0.0).await, Standing::Absent);
    let counters = rig.counters(0.0).await;
    assert_eq!((counters.waiting, counters.left), (1, 1));
    assert_eq!(rig.joined(1, 0.0).await, Place { number: 3, position: 2, joined_at: at(0.0) });
}

pub async fn joined_at_is_known_to_the_second(rig: Rig) {
    rig.open(in_state(QueueState::Paused)).await;
    for (visitor, joined, mark) in
        [(1, 0.2, 0.2), (2, 0.9, 0.2), (3, 1.0, 1.0), (4, 5.5, 5.5), (5, 5.9, 5.5), (6, 3.5, 3.5), (7, 3.9, 3.5)]
    {
        assert_eq!(rig.joined(visitor, joined).await.joined_at, at(mark), "v{visitor}");
    }
    rig.release(6.0).await;
    for (visitor, mark) in [(1, 0.2), (2, 0.2), (3, 1.0), (5, 5.5), (7, 3.5)] {
        assert!(matches!(rig.locate(visitor, 7.0).await, Standing::Waiting(place) if place.joined_at == at(mark)));
    }
    // Marks that nobody needs go, the others stay.
    for number in 1..=3 {
        rig.leave(number, number as u64, 7.0).await;
    }
    rig.release(8.0).await;
    assert!(matches!(rig.join(4, 8.0).await, Joined::Already(place) if place.joined_at == at(5.5)));
}

pub async fn places_are_dropped_after_a_day(rig: Rig) {
    const DAY: f64 = 86_400.0;
    rig.open(in_state(QueueState::Paused)).await;
    rig.join_all(0..150, 0.5).await;
    rig.join_all(150..160, 1.5).await;
    assert_eq!(rig.release(DAY + 0.5).await.counters.waiting, 160, "a day is not older than a day");
    assert_eq!(rig.release(DAY + 0.6).await.counters.waiting, 60, "a bounded number a call");
    let counters = rig.release(DAY + 0.6).await.counters;
    assert_eq!((counters.waiting, counters.left), (10, 150));
    assert_eq!(rig.release(DAY + 1.5).await.counters.waiting, 10);
    assert_eq!(rig.locate(149, DAY + 1.5).await, Standing::Absent);
    assert!(matches!(rig.locate(150, DAY + 1.5).await, Standing::Waiting(place) if place.position == 1));
    let again = rig.joined(0, DAY + 1.5).await;
    assert_eq!((again.number, again.position), (161, 11));
    rig.release(DAY + 2.0).await;
    let counters = rig.release(DAY + 2.0).await.counters;
    assert_eq!((counters.waiting, counters.left), (1, 160));
}

pub async fn all_legal_characters_make_ids(rig: Rig) {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
    let ids = [alphabet.to_owned(), "-".into(), ":".into(), ".".into(), "_".into(), "x".repeat(128), "0".into()];
    let event = usher::domain::EventId::parse(alphabet).expect("an id");
    let rig = Rig { event, ..rig };
    rig.open(policy()).await;
    let zone = usher::domain::ZoneKey::parse(&format!("{alphabet}/{alphabet}")).expect("a zone");
    let said = usher::engine::ZoneTally { zone: zone.clone(), capacity: 100, tally: usher::engine::Tally::default() };
    rig.observe(usher::engine::LedgerNews { zones: vec![said], ..Default::default() }).await;

    let visitors: Vec<_> = ids.iter().map(|id| VisitorId::parse(id).expect("an id")).collect();
    rig.engine.join(&rig.event, &visitors, at(0.0)).await.expect("join");
    assert_eq!(rig.release(1.0).await.admitted as usize, ids.len());
    for (id, visitor) in ids.iter().zip(&visitors) {
        let standing = rig.engine.locate(&rig.event, std::slice::from_ref(visitor), at(1.0)).await.expect("locate")[0];
        let Standing::Admitted(pass) = standing else { panic!("{id}: {standing:?}") };
        let booking = usher::domain::BookingId::parse(id).expect("an id");
        let claim = super::rig::claim(1, 1, Some(pass), 1);
        let claim = usher::engine::Claim { booking, visitor: visitor.clone(), zone: zone.clone(), ..claim };
        assert_eq!(rig.claim(claim, 1.0).await, usher::engine::Claimed::Held);
    }
    let mut stale: Vec<_> = rig.engine.stale_holds(&rig.event, at(99.0)).await.expect("holds");
    stale.sort();
    let mut expected: Vec<_> = ids.iter().map(|id| usher::domain::BookingId::parse(id).expect("an id")).collect();
    expected.sort();
    assert_eq!(stale, expected);
    rig.observe(usher::engine::LedgerNews { settled: stale, ..Default::default() }).await;
    let standings = rig.engine.locate(&rig.event, &visitors, at(1.0)).await.expect("locate");
    assert!(standings.iter().all(|standing| matches!(standing, Standing::Used(_))));
}

pub async fn large_batches_and_empty_ones_work(rig: Rig) {
    rig.open(in_state(QueueState::Paused)).await;
    let many = MAX_BATCH * 2 + 77;
    let answers = rig.join_all(0..many, 0.0).await;
    for (n, answer) in answers.iter().enumerate() {
        let n = n as u64 + 1;
        assert_eq!(*answer, Joined::New(Place { number: n, position: n, joined_at: at(0.0) }));
    }
    let visitors: Vec<_> = (0..many).rev().map(v).collect();
    let standings = rig.engine.locate(&rig.event, &visitors, at(0.0)).await.expect("locate");
    assert!(matches!(standings[0], Standing::Waiting(place) if place.position == many as u64));
    assert!(matches!(standings[many - 1], Standing::Waiting(place) if place.position == 1));
    let leaving: Vec<_> = (0..many).map(|n| Leaving { visitor: v(n), number: n as u64 + 1 }).collect();
    let left = rig.engine.leave(&rig.event, &leaving, at(0.0)).await.expect("leave");
    assert_eq!(left, vec![Left::Line; many]);
    assert_eq!(rig.counters(0.0).await.waiting, 0);

    assert!(rig.join_all([], 0.0).await.is_empty());
    assert!(rig.engine.locate(&rig.event, &[], at(0.0)).await.expect("locate").is_empty());
    assert!(rig.engine.leave(&rig.event, &[], at(0.0)).await.expect("leave").is_empty());
    assert!(rig.engine.claim(&rig.event, &[], at(0.0)).await.expect("claim").is_empty());
    assert!(rig.observe(usher::engine::LedgerNews::default()).await.is_empty());
}
