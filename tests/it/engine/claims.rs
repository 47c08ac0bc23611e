//! Reservations ask for seats.

use std::time::Duration;

use usher::domain::QueuePolicy;
use usher::engine::{Admission, Claim, Claimed, LedgerNews, Standing};

use super::rig::{Rig, at, buyer, claim, policy, z};

/// An open queue with ten seats in zone 1.
async fn with_seats(rig: &Rig, policy: QueuePolicy) {
    rig.open(policy).await;
    rig.zone(1, 10, 0, 1).await;
}

pub async fn a_claim_holds_seats_and_the_pass(rig: Rig) {
    with_seats(&rig, policy()).await;
    let pass = rig.admit(1, 0.0).await;
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 4), 1.0).await, Claimed::Held);
    let stock = rig.engine.stock(&rig.event).await.expect("stock");
    assert_eq!((stock[0].zone.clone(), stock[0].capacity, stock[0].held, stock[0].available()), (z(1), 10, 4, 6));
    assert_eq!(rig.counters(1.0).await.active, 1, "the slot is kept until the hold is settled");
}

pub async fn the_same_booking_twice_is_the_same_hold(rig: Rig) {
    with_seats(&rig, policy()).await;
    let pass = rig.admit(1, 0.0).await;
    let one = claim(1, 1, Some(pass), 6);
    let answers = rig.engine.claim(&rig.event, &[one.clone(), one.clone()], at(1.0)).await.expect("claim");
    assert_eq!(answers, [Claimed::Held, Claimed::Held]);
    assert_eq!(rig.claim(one.clone(), 2.0).await, Claimed::Held);
    assert_eq!(rig.claim(one, 99.0).await, Claimed::Held, "whatever became of the pass since");
    assert_eq!(rig.available(1).await, 4);
}

pub async fn a_pass_serves_one_claim_at_a_time(rig: Rig) {
    with_seats(&rig, policy()).await;
    let pass = rig.admit(1, 0.0).await;
    let batch = [claim(1, 1, Some(pass), 1), claim(2, 1, Some(pass), 1)];
    let answers = rig.engine.claim(&rig.event, &batch, at(1.0)).await.expect("claim");
    assert_eq!(answers, [Claimed::Held, Claimed::PassBusy]);
    assert_eq!(rig.claim(claim(3, 1, Some(pass), 1), 1.0).await, Claimed::PassBusy);
    assert_eq!(rig.available(1).await, 9);
    rig.undo(1).await;
    assert_eq!(rig.claim(claim(2, 1, Some(pass), 1), 1.0).await, Claimed::Held);
}

pub async fn each_refusal_of_a_pass(rig: Rig) {
    with_seats(&rig, policy()).await;
    let used = rig.admit(1, 0.0).await;
    rig.claim(claim(1, 1, Some(used), 1), 1.0).await;
    rig.settle(1).await;
    assert_eq!(rig.claim(claim(2, 1, Some(used), 1), 1.0).await, Claimed::PassUsed);
    assert_eq!(rig.claim(claim(2, 1, Some(used), 1), 99.0).await, Claimed::PassUsed, "used, then expired");
    let back = rig.admit(2, 1.0).await;
    rig.leave(2, back.number, 2.0).await;
    assert_eq!(rig.claim(claim(2, 2, Some(back), 1), 2.0).await, Claimed::PassVoid);
    let expired = rig.admit(3, 2.0).await;
    assert_eq!(rig.claim(claim(2, 3, Some(expired), 1), 62.999).await, Claimed::Held);
    rig.undo(2).await;
    assert_eq!(rig.claim(claim(2, 3, Some(expired), 1), 63.0).await, Claimed::PassExpired);
    // One without a record that ran out already is not taken at its word.
    assert_eq!(rig.claim(claim(3, 4, Some(expired), 1), 63.0).await, Claimed::PassExpired);
}

pub async fn a_refused_claim_leaves_the_pass_good(rig: Rig) {
    with_seats(&rig, QueuePolicy { max_per_user: 8, ..policy() }).await;
    rig.zone(2, 5, 3, 1).await;
    let pass = rig.admit(1, 0.0).await;
    let in_zone = |zone, quantity| Claim { zone: z(zone), ..claim(1, 1, Some(pass), quantity) };
    assert_eq!(rig.claim(in_zone(2, 3), 1.0).await, Claimed::SoldOut);
    assert_eq!(rig.claim(in_zone(1, 9), 1.0).await, Claimed::UserLimit);
    assert_eq!(rig.claim(in_zone(3, 1), 1.0).await, Claimed::UnknownZone);
    assert_eq!(rig.claim(in_zone(3, 9), 1.0).await, Claimed::UserLimit, "the limit comes before the stock");
    assert_eq!(rig.pass(1, 1.0).await, pass);
    assert_eq!(rig.claim(in_zone(2, 2), 1.0).await, Claimed::Held, "all that is left");
    assert_eq!(rig.available(2).await, 0);
    let other = rig.admit(2, 1.0).await;
    let late = Claim { zone: z(2), ..claim(2, 2, Some(other), 1) };
    assert_eq!(rig.claim(late, 2.0).await, Claimed::InsufficientSeats);
    // A refused claim of a pass without a record leaves none behind.
    let unknown = Admission { number: 99, ..pass };
    assert_eq!(rig.claim(claim(3, 9, Some(unknown), 9), 1.0).await, Claimed::UserLimit);
    assert_eq!(rig.locate(9, 1.0).await, Standing::Absent);
}

/// Only what the ledger counted, and only to a visitor and a pass that cannot have a booking.
pub async fn what_is_sold_out_is_known_without_asking(rig: Rig) {
    with_seats(&rig, policy()).await;
    rig.zone(2, 5, 4, 1).await;
    let (pass, known) = (rig.admit(1, 0.0).await, rig.admit(2, 0.0).await);
    let of = |visitor, pass| Claim { zone: z(2), ..claim(visitor, visitor, Some(pass), 2) };
    assert_eq!(rig.claim(of(1, pass), 1.0).await, Claimed::SoldOut);
    let unknown = Admission { number: 99, ..pass };
    assert_eq!(rig.claim(of(3, unknown), 1.0).await, Claimed::InsufficientSeats, "a pass of another store");
    rig.observe(LedgerNews { buyers: vec![buyer(2, 0, 1)], ..LedgerNews::default() }).await;
    assert_eq!(rig.claim(of(2, known), 1.0).await, Claimed::InsufficientSeats, "somebody who bought once");
    let other = Rig { event: usher::domain::EventId::parse("lost").expect("an id"), engine: rig.engine.clone() };
    other.rules(1, policy(), 0.0).await;
    other.grant(1_001, 2_001).await;
    other.zone(2, 5, 4, 1).await;
    let pass = other.admit(1, 10.0).await;
    assert_eq!(other.claim(of(1, pass), 11.0).await, Claimed::InsufficientSeats, "a line that was lost once");
}

pub async fn no_pass_where_none_is_needed(rig: Rig) {
    with_seats(&rig, QueuePolicy { queue_required: false, ..policy() }).await;
    let batch = [claim(1, 1, None, 4), claim(2, 1, None, 4), claim(3, 1, None, 4)];
    let answers = rig.engine.claim(&rig.event, &batch, at(0.0)).await.expect("claim");
    assert_eq!(answers, [Claimed::Held, Claimed::Held, Claimed::InsufficientSeats]);
    assert_eq!(rig.locate(1, 0.0).await, Standing::Absent);
    rig.settle(1).await;
    rig.undo(2).await;
    assert_eq!((rig.available(1).await, rig.counters(0.0).await.active), (10, 0));
}

pub async fn the_limit_counts_what_the_ledger_says(rig: Rig) {
    with_seats(&rig, QueuePolicy { max_per_user: 4, ..policy() }).await;
    let pass = rig.admit(1, 0.0).await;
    rig.observe(LedgerNews { buyers: vec![buyer(1, 3, 1)], ..LedgerNews::default() }).await;
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 2), 1.0).await, Claimed::UserLimit);
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 1.0).await, Claimed::Held);
    rig.undo(1).await;
    rig.rules(2, policy(), 1.0).await;
    assert_eq!(rig.claim(claim(2, 1, Some(pass), 9), 1.0).await, Claimed::Held, "0 is no limit");
}

pub async fn a_pass_without_a_record_is_taken_at_its_word(rig: Rig) {
    with_seats(&rig, policy()).await;
    let lost = Admission { number: 500, admitted_at: at(-10.0), expires_at: at(50.0) };
    assert_eq!(rig.claim(claim(1, 1, Some(lost), 2), 0.0).await, Claimed::Held);
    assert_eq!((rig.pass(1, 0.0).await, rig.counters(0.0).await.active), (lost, 1));
    assert_eq!(rig.claim(claim(2, 1, Some(lost), 2), 0.0).await, Claimed::PassBusy);
    rig.undo(1).await;
    assert_eq!(rig.pass(1, 0.0).await, lost);
    assert_eq!(rig.claim(claim(2, 1, Some(lost), 2), 0.0).await, Claimed::Held);
    rig.settle(2).await;
    assert_eq!((rig.locate(1, 0.0).await, rig.counters(0.0).await.active), (Standing::Used(lost), 0));

    // Another one runs out while it is in use, as any pass would.
    assert_eq!(rig.claim(claim(3, 2, Some(Admission { number: 501, ..lost }), 1), 49.0).await, Claimed::Held);
    assert_eq!(rig.release(50.0).await.counters.active, 0);
}

pub async fn a_newer_pass_replaces_an_older_record(rig: Rig) {
    with_seats(&rig, policy()).await;
    let old = rig.admit(1, 0.0).await;
    let newer = Admission { number: 500, expires_at: old.expires_at.plus(Duration::from_mins(1)), ..old };
    assert_eq!(rig.claim(claim(1, 1, Some(newer), 1), 1.0).await, Claimed::Held);
    assert_eq!((rig.pass(1, 1.0).await, rig.counters(1.0).await.active), (newer, 1), "one slot, not two");
    assert_eq!(rig.claim(claim(2, 1, Some(old), 1), 1.0).await, Claimed::PassVoid);
    assert_eq!(rig.release(old.expires_at.since(at(0.0)).as_secs_f64()).await.counters.active, 1);

    // The place that such a pass came from, or an older one, is given up with it: nobody is let in twice.
    let place = rig.joined(2, 2.0).await;
    let lost = Admission { number: place.number, ..newer };
    assert_eq!(rig.claim(claim(3, 2, Some(lost), 1), 2.0).await, Claimed::Held);
    let counters = rig.counters(2.0).await;
    assert_eq!((counters.waiting, counters.left), (0, 0));
    assert_eq!(rig.pass(2, 2.0).await, lost);
}

pub async fn a_later_place_voids_an_earlier_pass(rig: Rig) {
    with_seats(&rig, policy()).await;
    let first = rig.admit(1, 0.0).await;
    rig.joined(1, 62.0).await; // the first pass ran out
    assert_eq!(rig.claim(claim(1, 1, Some(first), 1), 62.0).await, Claimed::PassExpired);
    // The same with a clock that was set back: the pass would be good again, but its holder waits in line.
    assert_eq!(rig.claim(claim(1, 1, Some(first), 1), 2.0).await, Claimed::PassVoid);
    rig.release(63.0).await;
    assert_eq!(rig.claim(claim(1, 1, Some(first), 1), 2.0).await, Claimed::PassVoid, "or was let in again");
    let second = rig.pass(1, 63.0).await;
    assert_eq!(rig.claim(claim(1, 1, Some(second), 1), 63.0).await, Claimed::Held);
}
