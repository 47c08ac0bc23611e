//! Events, their versions and their numbers.

use usher::domain::catalogue::Show;
use usher::domain::{Event, PolicyPatch, ShowId};
use usher::ledger::{Ledger, LedgerError};

use super::{Shared, actor, at, booking, commit_one, counts, event, is_done, key, new, put, spec, visitor};

async fn all(ledger: &dyn Ledger) -> Vec<Event> {
    ledger.events_since(0).await.expect("events")
}

pub async fn an_event_comes_back_as_it_was_put(ledger: Shared) {
    assert_eq!(all(&*ledger).await, []);
    let mut wanted = spec(&[("z", 50), ("a", 0), ("m", 10_000_000)]);
    wanted.name = "Tour “Été” 'n' \\ 東京".into();
    wanted.queue.message = Some("soon…\u{0}\n".into());
    wanted.queue.opens_at = Some(at(1_000));
    let empty =
        Show { id: ShowId::parse("a-first").expect("id"), name: "Empty".into(), starts_at: None, zones: vec![] };
    wanted.shows.push(empty);
    let (put, created) = ledger.put_event(&event("e"), &wanted, &actor(), at(5)).await.expect("put");
    assert!(created);
    assert_eq!(put.spec, wanted);
    assert_eq!((put.number_floor, put.removed, put.updated_at), (0, false, at(5)));
    assert_eq!(all(&*ledger).await, std::slice::from_ref(&put));

    wanted.shows[0].zones.reverse();
    wanted.shows.reverse();
    let (again, created) = ledger.put_event(&event("e"), &wanted, &actor(), at(6)).await.expect("put");
    assert!(!created);
    assert_eq!((again.spec, again.updated_at), (wanted, at(6)));
    assert!(again.version > put.version);
}

pub async fn the_spec_is_checked(ledger: Shared) {
    let mut wrong = spec(&[("z", 1)]);
    wrong.queue.pass_ttl_seconds = 0;
    let error = ledger.put_event(&event("e"), &wrong, &actor(), at(0)).await.expect_err("out of range");
    assert!(matches!(&error, LedgerError::Invalid(text) if text.contains("pass_ttl_seconds")), "{error}");
    assert_eq!(all(&*ledger).await, []);
    assert_eq!(ledger.audit_log(super::page(1, 10)).await.expect("log").total, 0);
}

pub async fn versions_grow_and_none_is_skipped(ledger: Shared) {
    for id in ["b", "a", "c"] {
        ledger.put_event(&event(id), &spec(&[("z", 1)]), &actor(), at(0)).await.expect("put");
    }
    let patch = PolicyPatch { admit_per_minute: Some(1), ..PolicyPatch::default() };
    ledger.patch_policy(&event("b"), &patch, &actor(), at(1)).await.expect("patch");
    ledger.remove_event(&event("a"), &actor(), at(2)).await.expect("remove");
    let events = all(&*ledger).await;
    let ids: Vec<_> = events.iter().map(|e| (e.id.as_str().to_owned(), e.version, e.removed)).collect();
    assert_eq!(ids, [("c".into(), 3, false), ("b".into(), 4, false), ("a".into(), 5, true)]);
    assert_eq!(ledger.events_since(3).await.expect("events"), events[1..]);
    assert_eq!(ledger.events_since(5).await.expect("events"), []);
}

pub async fn a_replaced_event_keeps_what_is_taken(ledger: Shared) {
    put(&*ledger, &[("z", 10), ("y", 10)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 4)).await));
    let before = counts(&*ledger).await;
    put(&*ledger, &[("z", 4), ("x", 1)]).await;
    let after = counts(&*ledger).await;
    let names: Vec<_> = after.iter().map(|(zone, taken, _)| (zone.as_str(), *taken)).collect();
    assert_eq!(names, [("s1/x", 0), ("s1/z", 4)]);
    assert!(after[1].2 > before[1].2, "a new version: {before:?} {after:?}");
    put(&*ledger, &[("z", 4), ("x", 1)]).await;
    assert!(counts(&*ledger).await[0].2 > after[0].2, "even where nothing changed");
}

pub async fn capacity_in_use_is_refused(ledger: Shared) {
    put(&*ledger, &[("z", 10), ("y", 10)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 4)).await));
    let (events, zones) = (all(&*ledger).await, counts(&*ledger).await);
    let mut moved = spec(&[("z", 10)]);
    moved.shows[0].id = ShowId::parse("s2").expect("id");
    for shrunk in [spec(&[("z", 3), ("y", 10)]), spec(&[("y", 10)]), spec(&[]), moved] {
        let error = ledger.put_event(&event("e"), &shrunk, &actor(), at(1)).await.expect_err("in use");
        let LedgerError::CapacityInUse { zone, taken } = error else { panic!("{error}") };
        assert_eq!((zone, taken), (key("s1/z"), 4));
    }
    assert_eq!((all(&*ledger).await, counts(&*ledger).await), (events, zones), "nothing was changed");
    ledger.cancel(&booking("b1"), &visitor("ann"), at(2)).await.expect("cancel");
    put(&*ledger, &[("y", 10)]).await;
}

pub async fn a_zone_that_comes_back_counts_on(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    for id in ["b1", "b2", "b3"] {
        assert!(is_done(&commit_one(&*ledger, &new(id, "ann", 1)).await));
        ledger.cancel(&booking(id), &visitor("ann"), at(1)).await.expect("cancel");
    }
    let before = counts(&*ledger).await[0].2;
    put(&*ledger, &[]).await;
    assert_eq!(counts(&*ledger).await, []);
    put(&*ledger, &[("z", 10)]).await;
    let after = counts(&*ledger).await;
    assert!(after[0].2 > before, "{before} {after:?}");
    assert_eq!(after[0].1, 0);
}

pub async fn a_policy_is_patched(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let patch = PolicyPatch {
        admit_per_minute: Some(7),
        opens_at: Some(Some(at(50))),
        message: Some(Some("hello".into())),
        ..PolicyPatch::default()
    };
    let patched = ledger.patch_policy(&event("e"), &patch, &actor(), at(3)).await.expect("patch");
    assert_eq!((patched.spec.queue.admit_per_minute, patched.spec.queue.opens_at), (7, Some(at(50))));
    assert_eq!((patched.version, patched.updated_at), (2, at(3)));
    assert_eq!(all(&*ledger).await, std::slice::from_ref(&patched));
    let wrong = PolicyPatch { hold_ttl_seconds: Some(0), ..PolicyPatch::default() };
    let error = ledger.patch_policy(&event("e"), &wrong, &actor(), at(4)).await.expect_err("out of range");
    assert!(matches!(&error, LedgerError::Invalid(text) if text.contains("hold_ttl_seconds")), "{error}");
    let error = ledger.patch_policy(&event("x"), &patch, &actor(), at(4)).await.expect_err("no such event");
    assert!(matches!(error, LedgerError::EventNotFound), "{error}");
    assert_eq!(all(&*ledger).await, [patched], "nothing was changed");
}

pub async fn a_removed_event_is_gone_until_it_is_put_again(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 4)).await));
    let block = ledger.take_numbers(&event("e"), 10).await.expect("numbers");
    let removed = ledger.remove_event(&event("e"), &actor(), at(1)).await.expect("remove");
    assert!(removed.removed && removed.version == 2 && removed.updated_at == at(1));
    let gone = |error: LedgerError| assert!(matches!(error, LedgerError::EventNotFound), "{error}");
    gone(ledger.remove_event(&event("e"), &actor(), at(2)).await.expect_err("removed"));
    gone(ledger.reset_event(&event("e"), &actor(), at(2)).await.expect_err("removed"));
    gone(ledger.take_numbers(&event("e"), 1).await.expect_err("removed"));
    gone(ledger.patch_policy(&event("e"), &PolicyPatch::default(), &actor(), at(2)).await.expect_err("removed"));
    gone(ledger.remove_event(&event("x"), &actor(), at(2)).await.expect_err("never there"));
    assert!(ledger.booking(&booking("b1"), &visitor("ann")).await.expect("booking").is_some(), "bookings stay");

    let (back, created) = ledger.put_event(&event("e"), &spec(&[("z", 10)]), &actor(), at(3)).await.expect("put");
    assert!(created && !back.removed);
    assert_eq!(counts(&*ledger).await[0].1, 4);
    assert_eq!(ledger.take_numbers(&event("e"), 5).await.expect("numbers").start, block.end);
}

pub async fn a_reset_voids_the_numbers_so_far(ledger: Shared) {
    let wanted = spec(&[("z", 1), ("y", 2)]);
    ledger.put_event(&event("e"), &wanted, &actor(), at(0)).await.expect("put");
    let first = ledger.take_numbers(&event("e"), 100).await.expect("numbers");
    assert_eq!((first.start, first.end), (1, 101));
    let reset = ledger.reset_event(&event("e"), &actor(), at(1)).await.expect("reset");
    assert_eq!((reset.number_floor, reset.version, reset.spec), (101, 2, wanted));
    let next = ledger.take_numbers(&event("e"), 7).await.expect("numbers");
    assert_eq!((next.start, next.end), (101, 108));
    assert_eq!(all(&*ledger).await[0].number_floor, 101);
}

pub async fn what_is_known_to_be_newer_is_overtaken(ledger: Shared) {
    put(&*ledger, &[("z", 1)]).await;
    ledger.put_event(&event("f"), &spec(&[]), &actor(), at(0)).await.expect("put");
    let [e, f]: [Event; 2] = all(&*ledger).await.try_into().expect("two");
    assert_eq!((e.version, f.version), (1, 2));
    for known in [0, 1] {
        let (same, overtook) = ledger.overtake(&event("e"), known, 9).await.expect("an answer");
        assert_eq!((&same, overtook), (&e, false), "nobody knows more than the ledger, whoever has changed what since");
    }
    let (over, overtook) = ledger.overtake(&event("e"), 70, 9).await.expect("an answer");
    assert_eq!((&over.spec, over.number_floor, overtook), (&e.spec, 9, true));
    assert!(over.version > 70 && ledger.extent().await.expect("an extent").version >= over.version);
    let (over, overtook) = ledger.overtake(&event("f"), 5, 0).await.expect("an answer");
    assert!(overtook && over.version > 71, "versions go on from the highest: {}", over.version);
    let lower = ledger.overtake(&event("e"), 1_000, 3).await.expect("an answer").0;
    assert_eq!(lower.number_floor, 9, "a floor never sinks");
    ledger.remove_event(&event("e"), &actor(), at(1)).await.expect("remove");
    let (removed, overtook) = ledger.overtake(&event("e"), 10_000, 0).await.expect("an answer");
    assert!(overtook && removed.removed && removed.version > 10_000, "whoever knows it is to hear that it was removed");
    let error = ledger.overtake(&event("x"), 20_000, 0).await.expect_err("not there");
    assert!(matches!(error, LedgerError::EventNotFound), "{error}");
    let extent = ledger.extent().await.expect("an extent");
    assert_eq!((extent.version, extent.events), (all(&*ledger).await[1].version, 2));
}

pub async fn numbers_that_are_out_are_never_set_aside(ledger: Shared) {
    put(&*ledger, &[("z", 1)]).await;
    ledger.take_numbers(&event("e"), 10).await.expect("numbers");
    for (past, next) in [(0, 11), (11, 12), (500, 500), (100, 501)] {
        ledger.raise_numbers(&event("e"), past).await.expect("raised");
        assert_eq!(ledger.take_numbers(&event("e"), 1).await.expect("numbers").start, next);
    }
    assert!(ledger.raise_numbers(&event("e"), u64::MAX).await.is_err(), "that many there are not");
    ledger.raise_numbers(&event("e"), 900).await.expect("raised");
    assert_eq!(ledger.reset_event(&event("e"), &actor(), at(1)).await.expect("reset").number_floor, 900);
}
