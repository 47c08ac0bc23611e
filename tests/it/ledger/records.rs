//! The audit log, the kept answers, and whether the database is there.

use serde_json::json;
use usher::domain::PolicyPatch;
use usher::ledger::IDEMPOTENCY_TTL;

use super::{Shared, actor, at, commit_one, event, is_done, new, page, put, spec};

pub async fn run_out_answers_are_purged(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let batch: Vec<_> = (0..5)
        .map(|i| {
            let mut new = new(&format!("b{i}"), "ann", 1);
            new.booking.created_at = at(i);
            new
        })
        .collect();
    assert!(ledger.commit(&batch).await.expect("commit").iter().all(is_done));
    let end = at(3).plus(IDEMPOTENCY_TTL);
    assert_eq!(ledger.purge_answers(at(3), 10).await.expect("purge"), 0);
    assert_eq!(ledger.purge_answers(end, 3).await.expect("purge"), 3, "no more than asked for");
    assert_eq!(ledger.purge_answers(end, 3).await.expect("purge"), 1);
    assert_eq!(ledger.purge_answers(end, 3).await.expect("purge"), 0);
    assert!(ledger.answer(&batch[4].key, end).await.expect("answer").is_some());
    assert!(ledger.answer(&batch[0].key, at(1)).await.expect("answer").is_none());
}

pub async fn every_change_is_in_the_audit_log(ledger: Shared) {
    let (id, wanted) = (event("e"), spec(&[("z", 10)]));
    let patch = PolicyPatch { message: Some(None), max_active: Some(3), ..PolicyPatch::default() };
    ledger.put_event(&id, &wanted, &actor(), at(1)).await.expect("put");
    ledger.put_event(&id, &wanted, &actor(), at(2)).await.expect("put");
    ledger.patch_policy(&id, &patch, &actor(), at(3)).await.expect("patch");
    ledger.reset_event(&id, &actor(), at(4)).await.expect("reset");
    ledger.remove_event(&id, &actor(), at(5)).await.expect("remove");
    ledger.put_event(&id, &wanted, &actor(), at(6)).await.expect("put");
    let detail = json!({"zones": 3, "text": "“\u{0}”", "half": 0.5});
    ledger.audit(&actor(), "inventory.sync", None, &detail, at(7)).await.expect("audit");
    let log = ledger.audit_log(page(1, 100)).await.expect("log");
    assert_eq!(log.total, 7);
    let actions: Vec<_> = log.data.iter().rev().map(|entry| (entry.action.as_str(), entry.at)).collect();
    assert_eq!(
        actions,
        [
            ("event.create", at(1)),
            ("event.replace", at(2)),
            ("queue.patch", at(3)),
            ("queue.reset", at(4)),
            ("event.remove", at(5)),
            ("event.create", at(6)),
            ("inventory.sync", at(7)),
        ]
    );
    assert!(log.data.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert!(log.data.iter().all(|entry| entry.actor == "tester"));
    assert_eq!((&log.data[0].event_id, &log.data[0].detail), (&None, &detail));
    assert_eq!((log.data[1].event_id.as_ref(), &log.data[1].detail), (Some(&id), &json!(wanted)));
    assert_eq!(log.data[4].detail, json!({"max_active": 3, "message": null}));
}

pub async fn the_audit_log_is_paged(ledger: Shared) {
    for i in 0..5 {
        ledger.audit(&actor(), "inventory.sync", None, &json!(i), at(i)).await.expect("audit");
    }
    let mut seen = Vec::new();
    for (number, size) in [(1, 2), (2, 2), (3, 1), (4, 0)] {
        let got = ledger.audit_log(page(number, 2)).await.expect("log");
        assert_eq!((got.total, got.data.len()), (5, size), "page {number}");
        seen.extend(got.data.into_iter().map(|entry| entry.detail));
    }
    assert_eq!(seen, [json!(4), json!(3), json!(2), json!(1), json!(0)]);
}

pub async fn it_answers_a_ping(ledger: Shared) {
    ledger.ping().await.expect("an answer");
    put(&*ledger, &[("z", 1)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 1)).await));
    ledger.ping().await.expect("an answer");
}
