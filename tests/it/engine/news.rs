//! What the ledger says, and what it makes of holds and passes.

use usher::engine::{Claimed, LedgerNews, MAX_BATCH, Standing, StockChange, Tally};

use super::rig::{Rig, at, b, buyer, change, claim, policy, tally, z};

/// An open queue with ten seats in zone 1, and visitor 1 with a hold on two of them as booking 1.
async fn with_hold(rig: &Rig) -> usher::engine::Admission {
    rig.open(policy()).await;
    assert_eq!(rig.zone(1, 10, 0, 1).await, [change(1, None, 10)]);
    let pass = rig.admit(1, 0.0).await;
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 2), 1.0).await, Claimed::Held);
    pass
}

pub async fn a_settled_hold_is_a_used_pass(rig: Rig) {
    let pass = with_hold(&rig).await;
    let news = LedgerNews { settled: vec![b(1)], zones: vec![tally(1, 10, 2, 2)], ..LedgerNews::default() };
    assert_eq!(rig.observe(news.clone()).await, [], "the seats went from held to taken");
    assert_eq!(rig.available(1).await, 8);
    assert_eq!((rig.locate(1, 1.0).await, rig.counters(1.0).await.active), (Standing::Used(pass), 0));
    assert_eq!(rig.observe(news).await, [], "twice is once");
    assert_eq!(rig.available(1).await, 8);
}

pub async fn an_undone_hold_is_a_good_pass(rig: Rig) {
    let pass = with_hold(&rig).await;
    assert_eq!(rig.undo(1).await, [change(1, Some(8), 10)]);
    assert_eq!((rig.pass(1, 1.0).await, rig.counters(1.0).await.active), (pass, 1));
    assert_eq!(rig.undo(1).await, []);
    assert_eq!(rig.settle(1).await, [], "what was undone cannot be settled");
    assert_eq!((rig.available(1).await, rig.pass(1, 1.0).await), (10, pass));
    assert!(rig.engine.stale_holds(&rig.event, at(999.0)).await.expect("holds").is_empty());
}

pub async fn only_newer_tallies_count(rig: Rig) {
    rig.open(policy()).await;
    let taken = |taken, version| rig.zone(1, 10, taken, version);
    assert_eq!(taken(4, 5).await, [change(1, None, 6)]);
    assert_eq!(taken(9, 5).await, []);
    assert_eq!(taken(9, 4).await, []);
    assert_eq!(taken(4, 6).await, [], "newer, but no change of what is available");
    assert_eq!(taken(3, 5).await, []);
    assert_eq!(taken(3, 7).await, [change(1, Some(6), 7)]);
    let stock = rig.engine.stock(&rig.event).await.expect("stock");
    assert_eq!((stock[0].tally, stock[0].capacity), (Tally { taken: 3, version: 7 }, 10));

    rig.rules(2, usher::domain::QueuePolicy { max_per_user: 5, ..policy() }, 0.0).await;
    for (taken, version, answer) in
        [(5, 2, Claimed::UserLimit), (0, 1, Claimed::UserLimit), (0, 2, Claimed::UserLimit), (4, 3, Claimed::Held)]
    {
        rig.observe(LedgerNews { buyers: vec![buyer(1, taken, version)], ..LedgerNews::default() }).await;
        assert_eq!(rig.claim(claim(1, 1, None, 1), 0.0).await, answer, "{taken} by version {version}");
    }
}

pub async fn changes_of_availability_are_told(rig: Rig) {
    rig.open(policy()).await;
    let zones = vec![tally(2, 5, 5, 0), tally(1, 10, 0, 0)];
    let news = LedgerNews { zones, ..LedgerNews::default() };
    assert_eq!(
        rig.observe(news).await,
        [change(1, None, 10), change(2, None, 0)],
        "in order; known at last is a change"
    );
    rig.claim(claim(1, 1, None, 3), 0.0).await;
    rig.claim(claim(2, 1, None, 1), 0.0).await;
    let news = LedgerNews {
        settled: vec![b(1), b(7)],
        undone: vec![b(2)],
        zones: vec![tally(1, 10, 3, 1), tally(2, 6, 5, 1)],
        buyers: vec![buyer(1, 3, 1)],
    };
    assert_eq!(rig.observe(news).await, [change(1, Some(6), 7), change(2, Some(0), 1)]);
}

pub async fn a_hold_settled_after_its_pass_ran_out(rig: Rig) {
    let pass = with_hold(&rig).await;
    assert_eq!(rig.release(61.0).await.counters.active, 0);
    assert_eq!(rig.locate(1, 61.0).await, Standing::Expired(pass));
    assert_eq!(rig.claim(claim(2, 1, Some(pass), 1), 61.0).await, Claimed::PassExpired);
    rig.settle(1).await;
    assert_eq!((rig.locate(1, 61.0).await, rig.counters(61.0).await.active), (Standing::Used(pass), 0));
    assert_eq!(rig.claim(claim(2, 1, Some(pass), 1), 61.0).await, Claimed::PassUsed);
}

pub async fn a_hold_undone_after_its_pass_ran_out(rig: Rig) {
    let pass = with_hold(&rig).await;
    rig.release(61.0).await;
    rig.undo(1).await;
    assert_eq!((rig.available(1).await, rig.locate(1, 61.0).await), (10, Standing::Expired(pass)));
    assert_eq!(rig.locate(1, 30.0).await, Standing::Expired(pass), "its slot is gone, whatever the clock says");
    assert_eq!(rig.counters(30.0).await.active, 0);
}

pub async fn a_late_settlement_spares_the_next_pass(rig: Rig) {
    with_hold(&rig).await;
    rig.joined(1, 62.0).await;
    rig.release(63.0).await;
    let next = rig.pass(1, 63.0).await;
    assert_eq!(next.number, 2);
    rig.settle(1).await;
    assert_eq!((rig.pass(1, 63.0).await, rig.counters(63.0).await.active), (next, 1));
    assert_eq!(rig.available(1).await, 10, "the hold itself is settled");
    assert_eq!(rig.claim(claim(2, 1, Some(next), 1), 63.0).await, Claimed::Held);
}

pub async fn stale_holds_come_oldest_first(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 1_000, 0, 1).await;
    for (booking, seconds) in [(3, 1.0), (1, 2.0), (2, 2.0), (4, 9.0)] {
        assert_eq!(rig.claim(claim(booking, booking, None, 1), seconds).await, Claimed::Held);
    }
    let stale = |seconds: f64| {
        let rig = rig.clone();
        async move { rig.engine.stale_holds(&rig.event, at(seconds)).await.expect("holds") }
    };
    assert_eq!(stale(30.9).await, []);
    assert_eq!(stale(31.0).await, [b(3)]);
    assert_eq!(stale(33.0).await, [b(3), b(1), b(2)]);
    assert_eq!(stale(33.0).await.len(), 3, "asking changes nothing");
    rig.settle(3).await;
    rig.undo(1).await;
    assert_eq!(stale(33.0).await, [b(2)]);
    let claims: Vec<_> = (10..10 + MAX_BATCH).map(|n| claim(n, n, None, 1)).collect();
    let answers = rig.engine.claim(&rig.event, &claims, at(3.0)).await.expect("claim");
    assert!(answers.iter().all(|answer| *answer == Claimed::Held));
    assert_eq!(stale(99.0).await.len(), MAX_BATCH);
}

pub async fn forgotten_zones_are_unknown(rig: Rig) {
    rig.open(policy()).await;
    let zones = (1..=MAX_BATCH + 9).map(|zone| tally(zone, 10, 0, 5)).collect();
    rig.observe(LedgerNews { zones, ..LedgerNews::default() }).await;
    rig.claim(claim(1, 1, None, 2), 0.0).await;
    rig.engine.retain_zones(&rig.event, &[z(7), z(9), z(99_999)]).await.expect("retain");
    let stock = rig.engine.stock(&rig.event).await.expect("stock");
    assert_eq!(stock.into_iter().map(|stock| stock.zone).collect::<Vec<_>>(), [z(7), z(9)]);
    assert_eq!(rig.claim(claim(2, 1, None, 1), 0.0).await, Claimed::UnknownZone);
    assert_eq!(rig.settle(1).await, [], "a hold on a forgotten zone is settled in silence");
    assert_eq!(rig.zone(1, 10, 0, 1).await, [change(1, None, 10)], "any version is news of an unknown zone");
    rig.engine.retain_zones(&rig.event, &[]).await.expect("retain");
    assert!(rig.engine.stock(&rig.event).await.expect("stock").is_empty());
}

pub async fn a_great_deal_of_news_is_taken_in_parts(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 10_000, 0, 1).await;
    let many = MAX_BATCH + 200;
    let claims: Vec<_> = (0..many).map(|n| claim(n, n, None, 2)).collect();
    rig.engine.claim(&rig.event, &claims, at(0.0)).await.expect("claim");
    let taken = u32::try_from(many).expect("few");
    let news = LedgerNews {
        settled: (0..many / 2).map(b).collect(),
        undone: (many / 2..many).map(b).collect(),
        zones: vec![tally(1, 10_000, taken, 2), tally(2, 1, 0, 1)],
        buyers: (0..many).map(|n| buyer(n, 2, 1)).collect(),
    };
    let changed = [change(1, Some(10_000 - 2 * taken), 10_000 - taken), change(2, None, 1)];
    assert_eq!(rig.observe(news.clone()).await, changed, "one change a zone, over all parts");
    assert_eq!(rig.observe(news).await, []);
    assert!(rig.engine.stale_holds(&rig.event, at(99.0)).await.expect("holds").is_empty());
}

pub async fn tallies_that_shrink_the_zone_never_go_below_zero(rig: Rig) {
    with_hold(&rig).await;
    assert_eq!(rig.zone(1, 5, 4, 2).await, [change(1, Some(8), 0)], "5 - 4 - 2 is none left");
    assert_eq!(rig.zone(1, 3, 4, 3).await, []);
    let gone: [StockChange; 0] = [];
    assert_eq!(rig.settle(1).await, gone);
    assert_eq!(rig.zone(1, 9, 4, 4).await, [change(1, Some(0), 5)]);
}
