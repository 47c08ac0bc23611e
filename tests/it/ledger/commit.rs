//! New bookings: what is checked, and in which order.

use usher::domain::{BookingStatus, Timestamp};
use usher::engine::{BuyerTally, Tally, ZoneTally};
use usher::ledger::{Committed, IDEMPOTENCY_TTL};

use super::{Shared, actor, at, booking, commit_one, counts, event, is_done, key, new, put, seats_of, taken, visitor};

pub async fn a_commit_counts_the_seats(ledger: Shared) {
    put(&*ledger, &[("y", 10), ("z", 10)]).await;
    let before = counts(&*ledger).await;
    let (first, second) = (new("b1", "ann", 3), new("b2", "ann", 2));
    for (new, taken) in [(&first, 3), (&second, 5)] {
        let Committed::Done { zone, buyer } = commit_one(&*ledger, new).await else { panic!("not done") };
        let versions = i64::from(taken == 5);
        let tally = Tally { taken, version: before[1].2 + 1 + versions };
        assert_eq!(zone, ZoneTally { zone: key("s1/z"), capacity: 10, tally });
        assert_eq!(buyer, BuyerTally { visitor: visitor("ann"), tally: Tally { taken, version: 1 + versions } });
        assert_eq!(ledger.zones(&event("e")).await.expect("zones")[1], zone);
        assert_eq!(ledger.buyer(&event("e"), &visitor("ann")).await.expect("buyer"), buyer);
    }
    assert_eq!(counts(&*ledger).await[0], before[0], "the other zone is as it was");
    let stored = ledger.booking(&booking("b1"), &visitor("ann")).await.expect("booking");
    assert_eq!(stored, Some(first.booking));
    let nobody = ledger.buyer(&event("e"), &visitor("bob")).await.expect("buyer");
    assert_eq!(nobody, BuyerTally { visitor: visitor("bob"), tally: Tally::default() });
}

pub async fn a_key_is_answered_once(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let mut first = new("b1", "ann", 1);
    first.answer.body = "{\"text\":\"\\u0000 “é” ' \\\\\"}".into();
    assert!(is_done(&commit_one(&*ledger, &first).await));
    assert_eq!(ledger.answer(&first.key, at(1)).await.expect("answer"), Some(first.answer.clone()));

    let mut again = new("b2", "ann", 2);
    again.key = first.key.clone();
    again.answer.body_hash = [8; 32]; // whether the bodies agree is for the caller to see
    assert_eq!(
        commit_one(&*ledger, &again).await,
        Committed::Replayed { answer: first.answer.clone(), pass_used: false }
    );
    assert_eq!((taken(&*ledger).await, seats_of(&*ledger, "ann").await), (1, 1));
    assert_eq!(ledger.booking(&booking("b2"), &visitor("ann")).await.expect("booking"), None);

    // Another visitor's, another route's and another text are other keys.
    let mut others = [new("b3", "bob", 1), new("b4", "ann", 1), new("b5", "ann", 1)];
    others[0].key.key.clone_from(&first.key.key);
    others[1].key = first.key.clone();
    others[1].key.route = "elsewhere";
    others[2].key.key = first.key.key.to_uppercase();
    for other in &others {
        assert_eq!(ledger.answer(&other.key, at(1)).await.expect("answer"), None);
        assert!(is_done(&commit_one(&*ledger, other).await));
    }
}

pub async fn an_answer_runs_out(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let first = new("b1", "ann", 1);
    assert!(is_done(&commit_one(&*ledger, &first).await));
    let end = at(0).plus(IDEMPOTENCY_TTL);
    let just_before = Timestamp::from_micros(end.micros() - 1);
    let mut again = new("b2", "ann", 1);
    again.key = first.key.clone();
    again.booking.created_at = just_before;
    assert_eq!(ledger.answer(&first.key, just_before).await.expect("answer"), Some(first.answer.clone()));
    assert!(matches!(commit_one(&*ledger, &again).await, Committed::Replayed { .. }));
    again.booking.created_at = end;
    assert_eq!(ledger.answer(&first.key, end).await.expect("answer"), None);
    assert!(is_done(&commit_one(&*ledger, &again).await));
    assert_eq!(ledger.answer(&first.key, end).await.expect("answer"), Some(again.answer), "overwritten");
}

pub async fn a_pass_is_used_once(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let first = new("b1", "ann", 1);
    assert!(is_done(&commit_one(&*ledger, &first).await));
    let mut again = new("b2", "ann", 1);
    again.pass = first.pass;
    assert_eq!(commit_one(&*ledger, &again).await, Committed::PassUsed);
    assert_eq!(ledger.answer(&again.key, at(1)).await.expect("answer"), None, "the key is free");
    ledger.cancel(&booking("b1"), &visitor("ann"), at(1)).await.expect("cancel");
    assert_eq!(commit_one(&*ledger, &again).await, Committed::PassUsed, "used for good");
    for id in ["b3", "b4"] {
        let mut without = new(id, "ann", 1);
        without.pass = None;
        assert!(is_done(&commit_one(&*ledger, &without).await));
    }
}

pub async fn no_seat_is_sold_twice(ledger: Shared) {
    put(&*ledger, &[("z", 3)]).await;
    assert_eq!(commit_one(&*ledger, &new("b1", "ann", 4)).await, Committed::InsufficientSeats);
    assert!(is_done(&commit_one(&*ledger, &new("b2", "ann", 2)).await));
    assert_eq!(commit_one(&*ledger, &new("b3", "bob", 2)).await, Committed::InsufficientSeats);
    assert_eq!(seats_of(&*ledger, "bob").await, 0);
    assert!(is_done(&commit_one(&*ledger, &new("b3", "bob", 1)).await));
    assert_eq!(taken(&*ledger).await, 3);
}

pub async fn a_visitor_has_a_limit(ledger: Shared) {
    put(&*ledger, &[("z", 100), ("y", 100)]).await;
    let limited = |id: &str, who: &str, quantity, limit| {
        let mut new = new(id, who, quantity);
        new.max_per_user = limit;
        new
    };
    assert_eq!(commit_one(&*ledger, &limited("b1", "ann", 5, 4)).await, Committed::UserLimit);
    assert_eq!(taken(&*ledger).await, 0, "nothing was changed");
    assert!(is_done(&commit_one(&*ledger, &limited("b1", "ann", 3, 4)).await));
    let mut elsewhere = limited("b2", "ann", 2, 4);
    elsewhere.booking.zone = key("s1/y");
    assert_eq!(commit_one(&*ledger, &elsewhere).await, Committed::UserLimit, "over all zones of the event");
    assert!(is_done(&commit_one(&*ledger, &limited("b3", "ann", 1, 4)).await));
    assert!(is_done(&commit_one(&*ledger, &limited("b4", "bob", 4, 4)).await));
    assert!(is_done(&commit_one(&*ledger, &limited("b5", "ann", 10, 0)).await), "0 = no limit");
}

pub async fn an_unknown_zone_is_refused(ledger: Shared) {
    assert_eq!(commit_one(&*ledger, &new("b1", "ann", 1)).await, Committed::UnknownZone);
    put(&*ledger, &[("y", 10)]).await;
    assert_eq!(commit_one(&*ledger, &new("b1", "ann", 1)).await, Committed::UnknownZone);
    put(&*ledger, &[("z", 10)]).await;
    ledger.remove_event(&event("e"), &actor(), at(1)).await.expect("remove");
    assert_eq!(commit_one(&*ledger, &new("b1", "ann", 1)).await, Committed::UnknownZone);
    put(&*ledger, &[("z", 10)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 1)).await));
}

pub async fn a_batch_sees_itself(ledger: Shared) {
    put(&*ledger, &[("z", 6)]).await;
    let mut batch = vec![
        new("b1", "ann", 2), // done
        new("b2", "ann", 2), // b1's key
        new("b3", "bob", 2), // b1's pass
        new("b4", "ann", 2), // over the limit
        new("b5", "bob", 5), // more than is left
        new("b6", "bob", 4), // done
        new("b7", "cyd", 1), // sold out
        new("b8", "bob", 5), // b5's key, which was not used up, but no seats
    ];
    let first = batch[0].clone();
    batch[1].key = first.key;
    batch[2].pass = first.pass;
    batch[3].max_per_user = 3;
    batch[7].key = batch[4].key.clone();
    let answers = ledger.commit(&batch).await.expect("commit");
    let [one, replayed, used, limit, short, two, sold_out, short_again] = &answers[..] else { panic!("{answers:?}") };
    let Committed::Done { zone: first, .. } = one else { panic!("{one:?}") };
    assert_eq!(*replayed, Committed::Replayed { answer: batch[0].answer.clone(), pass_used: false });
    assert_eq!([used, limit, short], [&Committed::PassUsed, &Committed::UserLimit, &Committed::InsufficientSeats]);
    let Committed::Done { zone: last, buyer } = two else { panic!("{two:?}") };
    assert_eq!([sold_out, short_again], [&Committed::InsufficientSeats; 2]);
    assert_eq!((first.tally.taken, last.tally.taken, buyer.tally.taken), (2, 6, 4));
    assert_eq!(last.tally.version, first.tally.version + 1);
    assert_eq!(ledger.zones(&event("e")).await.expect("zones"), std::slice::from_ref(last));
    let ids: Vec<_> = batch.iter().map(|new| new.booking.id.clone()).collect();
    let mut there = ledger.existing(&ids).await.expect("existing");
    there.sort();
    assert_eq!(there, [booking("b1"), booking("b6")]);
}

pub async fn the_rules_have_an_order(ledger: Shared) {
    put(&*ledger, &[("z", 2)]).await;
    let first = new("b1", "ann", 1);
    assert!(is_done(&commit_one(&*ledger, &first).await));
    let mut bad = new("b2", "ann", 9);
    (bad.key, bad.pass, bad.max_per_user) = (first.key.clone(), first.pass.clone(), 1);
    bad.booking.zone = key("s1/nowhere");
    assert_eq!(commit_one(&*ledger, &bad).await, Committed::Replayed { answer: first.answer, pass_used: true });
    bad.key.key = "fresh".into();
    assert_eq!(commit_one(&*ledger, &bad).await, Committed::UnknownZone);
    bad.booking.zone = key("s1/z");
    assert_eq!(commit_one(&*ledger, &bad).await, Committed::PassUsed);
    bad.pass = None;
    assert_eq!(commit_one(&*ledger, &bad).await, Committed::InsufficientSeats);
    bad.booking.quantity = 1;
    assert_eq!(commit_one(&*ledger, &bad).await, Committed::UserLimit);
    bad.max_per_user = 2;
    assert!(is_done(&commit_one(&*ledger, &bad).await));
}

pub async fn an_empty_batch_is_nothing(ledger: Shared) {
    assert_eq!(ledger.commit(&[]).await.expect("commit"), []);
    assert_eq!(ledger.existing(&[]).await.expect("existing"), []);
    assert_eq!(ledger.expire_due(at(0), 10).await.expect("expire"), []);
    put(&*ledger, &[("z", 1)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 1)).await));
    let stored = ledger.booking(&booking("b1"), &visitor("ann")).await.expect("booking").expect("there");
    assert_eq!(stored.status, BookingStatus::Reserved);
}
