//! Many at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use usher::domain::QueuePolicy;
use usher::engine::{Claimed, Joined};

use super::rig::{Rig, at, claim, policy, v};

pub async fn concurrent_releases_never_exceed_max_active(rig: Rig) {
    rig.open(QueuePolicy { max_active: 20, admit_per_minute: 60_000_000, ..policy() }).await;
    rig.zone(1, 1_000, 0, 1).await;
    rig.join_all(0..400, 0.0).await;
    let over = Arc::new(AtomicBool::new(false));
    let releasers: Vec<_> = (0..4)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let mut admitted = 0;
                for step in 1..=60 {
                    let released = rig.release(f64::from(step) * 0.01).await;
                    assert!(released.counters.active <= 20, "{} passes are out", released.counters.active);
                    admitted += released.admitted;
                }
                admitted
            })
        })
        .collect();
    let watcher = {
        let (rig, over) = (rig.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            for n in 0..200 {
                let counters = rig.counters(0.0).await;
                over.fetch_or(counters.active > 20, Ordering::Relaxed);
                assert_eq!(counters.waiting + counters.admitted, 400, "nobody is lost, not even for a moment");
                if let usher::engine::Standing::Admitted(pass) = rig.locate(n, 0.0).await {
                    rig.leave(n, pass.number, 0.0).await; // makes room
                }
            }
        })
    };
    let mut admitted = 0;
    for releaser in releasers {
        admitted += u64::from(releaser.await.expect("a releaser"));
    }
    watcher.await.expect("the watcher");
    assert!(!over.load(Ordering::Relaxed));
    let counters = rig.counters(0.6).await;
    assert_eq!((counters.admitted, counters.waiting + counters.admitted), (admitted, 400));
}

pub async fn concurrent_joins_give_each_visitor_one_place(rig: Rig) {
    rig.open(policy()).await;
    let joiners: Vec<_> = (0..8)
        .map(|offset| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let mut new = Vec::new();
                for n in 0..100 {
                    if let Joined::New(place) = rig.join((n + offset * 13) % 100, 0.0).await {
                        new.push(place.number);
                    }
                }
                new
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for joiner in joiners {
        numbers.extend(joiner.await.expect("a joiner"));
    }
    assert_eq!(numbers.len(), 100);
    assert_eq!(numbers.into_iter().collect::<HashSet<_>>(), (1..=100).collect());
    assert_eq!(rig.counters(0.0).await.waiting, 100);
}

pub async fn two_hundred_race_for_fifty_seats(rig: Rig) {
    rig.open(QueuePolicy { admit_per_minute: 60_000_000, ..policy() }).await;
    rig.zone(1, 50, 0, 1).await;
    rig.join_all(0..200, 0.0).await;
    while rig.release(1.0).await.admitted > 0 {}
    let racers: Vec<_> = (0..200)
        .map(|n| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let pass = rig.pass(n, 2.0).await;
                rig.claim(claim(n, n, Some(pass), 1), 2.0).await
            })
        })
        .collect();
    let mut held = 0;
    for racer in racers {
        match racer.await.expect("a racer") {
            Claimed::Held => held += 1,
            Claimed::InsufficientSeats => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held, rig.available(1).await), (50, 0));
}

pub async fn one_pass_many_claims(rig: Rig) {
    rig.open(policy()).await;
    rig.zone(1, 50, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    let racers: Vec<_> = (0..32)
        .map(|n| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.claim(claim(n, 1, Some(pass), 1), 1.0).await })
        })
        .collect();
    let mut held = 0;
    for racer in racers {
        held += u32::from(racer.await.expect("a racer") == Claimed::Held);
    }
    assert_eq!((held, rig.available(1).await), (1, 49));
    let standing = rig.engine.locate(&rig.event, &[v(1)], at(1.0)).await.expect("locate");
    assert_eq!(standing, [usher::engine::Standing::Admitted(pass)]);
}
