//! What becomes of a reservation.

use usher::domain::{BookingStatus, Timestamp};
use usher::ledger::{Cancelled, Ledger};

use super::{Shared, TTL, at, booking, commit_one, event, is_done, new, page, put, seats_of, taken, visitor};

/// Event `e` with ten seats in `s1/z`, and `b1`: two of them for Ann.
async fn reserved(ledger: &dyn Ledger) {
    put(ledger, &[("z", 10)]).await;
    assert!(is_done(&commit_one(ledger, &new("b1", "ann", 2)).await));
}

async fn cancel(ledger: &dyn Ledger, id: &str, who: &str) -> Option<Cancelled> {
    ledger.cancel(&booking(id), &visitor(who), at(9)).await.expect("cancel")
}

pub async fn a_reservation_is_confirmed_once(ledger: Shared) {
    reserved(&*ledger).await;
    let (id, ann) = (booking("b1"), visitor("ann"));
    let first = ledger.confirm(&id, &ann, "CODE1", Some("pay-1"), at(3)).await.expect("confirm").expect("hers");
    assert_eq!((first.status, first.confirmed_at), (BookingStatus::Confirmed, Some(at(3))));
    assert_eq!(first.confirmation_code.as_deref(), Some("CODE1"));
    assert_eq!(first.payment_id.as_deref(), Some("pay-1"));
    let again = ledger.confirm(&id, &ann, "CODE2", None, at(4)).await.expect("confirm");
    assert_eq!(again.as_ref(), Some(&first), "as it was");
    let later = ledger.confirm(&id, &ann, "CODE2", None, at(0).plus(2 * TTL)).await.expect("confirm");
    assert_eq!(later.as_ref(), Some(&first), "its end no longer matters");
    assert_eq!(ledger.booking(&id, &ann).await.expect("booking"), Some(first));
    assert_eq!((taken(&*ledger).await, seats_of(&*ledger, "ann").await), (2, 2));
}

pub async fn a_late_confirmation_is_refused(ledger: Shared) {
    reserved(&*ledger).await;
    let (id, ann, end) = (booking("b1"), visitor("ann"), at(0).plus(TTL));
    let late = ledger.confirm(&id, &ann, "CODE", None, end).await.expect("confirm").expect("hers");
    assert_eq!((late.status, late.confirmation_code), (BookingStatus::Expired, None));
    let in_time = Timestamp::from_micros(end.micros() - 1);
    let done = ledger.confirm(&id, &ann, "CODE", None, in_time).await.expect("confirm").expect("hers");
    assert_eq!((done.status, done.payment_id), (BookingStatus::Confirmed, None));
    assert!(matches!(cancel(&*ledger, "b1", "ann").await, Some(Cancelled::Now(_))));
    let cancelled = ledger.confirm(&id, &ann, "AGAIN", None, at(4)).await.expect("confirm").expect("hers");
    assert_eq!(cancelled.status, BookingStatus::Cancelled);
    assert_eq!(cancelled.confirmation_code.as_deref(), Some("CODE"));
}

pub async fn a_cancelled_booking_gives_its_seats_back(ledger: Shared) {
    reserved(&*ledger).await;
    assert!(is_done(&commit_one(&*ledger, &new("b2", "ann", 3)).await));
    ledger.confirm(&booking("b2"), &visitor("ann"), "CODE", None, at(1)).await.expect("confirm");
    let mut versions = Vec::new();
    for (id, left) in [("b1", 3), ("b2", 0)] {
        let Some(Cancelled::Now(returned)) = cancel(&*ledger, id, "ann").await else { panic!("not cancelled") };
        assert_eq!((returned.booking.id.clone(), returned.booking.status), (booking(id), BookingStatus::Cancelled));
        assert_eq!((returned.zone.tally.taken, returned.zone.capacity, returned.buyer.tally.taken), (left, 10, left));
        assert_eq!(ledger.zones(&event("e")).await.expect("zones"), std::slice::from_ref(&returned.zone));
        assert_eq!(ledger.buyer(&event("e"), &visitor("ann")).await.expect("buyer"), returned.buyer);
        versions.push((returned.zone.tally.version, returned.buyer.tally.version));
        let Some(Cancelled::Before(before)) = cancel(&*ledger, id, "ann").await else { panic!("cancelled twice") };
        assert_eq!(before, returned.booking);
        assert_eq!(taken(&*ledger).await, left, "the seats came back once");
    }
    assert_eq!(versions[1], (versions[0].0 + 1, versions[0].1 + 1));
}

pub async fn a_booking_is_its_visitors_alone(ledger: Shared) {
    reserved(&*ledger).await;
    let (id, bob) = (booking("b1"), visitor("bob"));
    assert_eq!(ledger.booking(&id, &bob).await.expect("booking"), None);
    assert_eq!(ledger.confirm(&id, &bob, "CODE", None, at(1)).await.expect("confirm"), None);
    assert_eq!(cancel(&*ledger, "b1", "bob").await, None);
    assert_eq!(cancel(&*ledger, "b9", "ann").await, None);
    assert_eq!(ledger.bookings(&bob, page(1, 10)).await.expect("bookings").total, 0);
    let hers = ledger.booking(&id, &visitor("ann")).await.expect("booking").expect("hers");
    assert_eq!((hers.status, taken(&*ledger).await), (BookingStatus::Reserved, 2));
}

pub async fn due_reservations_expire(ledger: Shared) {
    put(&*ledger, &[("z", 10), ("y", 10)]).await;
    let mut batch: Vec<_> = ["ann", "bob", "ann", "cyd", "ann", "dee"]
        .iter()
        .enumerate()
        .map(|(i, who)| new(&format!("b{i}"), who, 1))
        .collect();
    for (i, new) in batch.iter_mut().enumerate() {
        new.booking.expires_at = at(100 + i64::try_from(i).expect("small"));
    }
    batch[1].booking.zone = super::key("s1/y");
    assert!(ledger.commit(&batch).await.expect("commit").iter().all(is_done));
    ledger.confirm(&booking("b3"), &visitor("cyd"), "CODE", None, at(1)).await.expect("confirm");
    assert_eq!(ledger.expire_due(at(99), 10).await.expect("expire"), []);

    let mut swept = ledger.expire_due(at(104), 3).await.expect("expire");
    assert_eq!(swept.len(), 3, "no more than asked for");
    swept.extend(ledger.expire_due(at(104), 10).await.expect("expire"));
    let mut ids: Vec<_> = swept.iter().map(|r| r.booking.id.to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["b0", "b1", "b2", "b4"], "due, and not confirmed");
    assert!(swept.iter().all(|r| r.booking.status == BookingStatus::Expired));
    let of_z: Vec<_> = swept.iter().filter(|r| r.zone.zone == super::key("s1/z")).map(|r| r.zone.tally).collect();
    assert_eq!(of_z.iter().map(|t| t.taken).collect::<Vec<_>>(), [4, 3, 2], "the count after each");
    assert!(of_z.windows(2).all(|w| w[1].version == w[0].version + 1));
    let of_ann: Vec<_> = swept.iter().filter(|r| r.buyer.visitor == visitor("ann")).map(|r| r.buyer.tally).collect();
    assert_eq!(of_ann.iter().map(|t| t.taken).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(of_ann.last(), Some(&ledger.buyer(&event("e"), &visitor("ann")).await.expect("buyer").tally));
    assert_eq!(taken(&*ledger).await, 2);
    assert_eq!(ledger.expire_due(at(104), 10).await.expect("expire"), []);
}

pub async fn an_expired_booking_stays_expired(ledger: Shared) {
    reserved(&*ledger).await;
    let (id, ann, end) = (booking("b1"), visitor("ann"), at(0).plus(TTL));
    assert_eq!(ledger.expire_due(end, 10).await.expect("expire").len(), 1);
    let Some(Cancelled::Before(before)) = cancel(&*ledger, "b1", "ann").await else { panic!("cancelled") };
    assert_eq!(before.status, BookingStatus::Expired);
    let confirmed = ledger.confirm(&id, &ann, "CODE", None, at(1)).await.expect("confirm").expect("hers");
    assert_eq!((confirmed.status, confirmed.confirmed_at), (BookingStatus::Expired, None));
    assert_eq!((taken(&*ledger).await, seats_of(&*ledger, "ann").await), (0, 0));
}

pub async fn bookings_are_paged(ledger: Shared) {
    put(&*ledger, &[("z", 100)]).await;
    let batch: Vec<_> = (0..7)
        .map(|i| {
            let mut new = new(&format!("b{i}"), "ann", 1);
            new.booking.created_at = at(i / 2); // pairs of the same time are told apart by their ids
            new
        })
        .chain([new("other", "bob", 1)])
        .collect();
    assert!(ledger.commit(&batch).await.expect("commit").iter().all(is_done));
    let mut seen = Vec::new();
    for (number, size) in [(1, 3), (2, 3), (3, 1), (4, 0)] {
        let got = ledger.bookings(&visitor("ann"), page(number, 3)).await.expect("bookings");
        assert_eq!((got.total, got.data.len()), (7, size), "page {number}");
        seen.extend(got.data.into_iter().map(|b| b.id.to_string()));
    }
    assert_eq!(seen, ["b6", "b5", "b4", "b3", "b2", "b1", "b0"]);
    assert_eq!(ledger.bookings(&visitor("ann"), page(1, 100)).await.expect("bookings").data.len(), 7);
    assert_eq!(ledger.bookings(&visitor("ann"), page(u32::MAX, 100)).await.expect("bookings").data.len(), 0);
}

pub async fn existing_bookings_are_found(ledger: Shared) {
    reserved(&*ledger).await;
    let ids = [booking("b0"), booking("b1"), booking("b2"), booking("b1")];
    assert_eq!(ledger.existing(&ids).await.expect("existing"), [booking("b1")]);
    cancel(&*ledger, "b1", "ann").await;
    assert_eq!(ledger.existing(&ids).await.expect("existing"), [booking("b1")], "whatever became of it");
}
