//! Many callers at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use usher::domain::{BookingStatus, PolicyPatch};
use usher::ledger::{Cancelled, Committed, NewBooking};

use super::{
    Shared, TTL, actor, at, booking, commit_one, counts, event, is_done, key, new, put, seats_of, spec, taken, visitor,
};

/// Commits each batch in a task of its own and gathers every answer.
async fn all_at_once(ledger: &Shared, batches: Vec<Vec<NewBooking>>) -> Vec<Committed> {
    let mut tasks = JoinSet::new();
    for batch in batches {
        let ledger = Arc::clone(ledger);
        tasks.spawn(async move { ledger.commit(&batch).await.expect("commit") });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn done(answers: &[Committed]) -> usize {
    answers.iter().filter(|answer| is_done(answer)).count()
}

pub async fn numbers_are_never_given_twice(ledger: Shared) {
    put(&*ledger, &[("z", 1)]).await;
    let mut tasks = JoinSet::new();
    for i in 0..64 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move { ledger.take_numbers(&event("e"), 10 + i).await.expect("numbers") });
    }
    let mut blocks = tasks.join_all().await;
    blocks.sort_by_key(|block| block.start);
    assert_eq!(blocks[0].start, 1);
    assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start), "{blocks:?}");
    let sum: u64 = (0..64).map(|i| 10 + i).sum();
    assert_eq!(blocks[63].end, 1 + sum);
}

pub async fn racers_get_every_seat_once(ledger: Shared) {
    put(&*ledger, &[("z", 50)]).await;
    let batches = (0..200).map(|i| vec![new(&format!("b{i}"), &format!("v{i}"), 1)]).collect();
    let answers = all_at_once(&ledger, batches).await;
    assert_eq!(done(&answers), 50);
    assert!(answers.iter().all(|a| is_done(a) || *a == Committed::InsufficientSeats));
    let mut tallies: Vec<_> = answers
        .iter()
        .filter_map(|a| if let Committed::Done { zone, .. } = a { Some(zone.tally) } else { None })
        .collect();
    tallies.sort_by_key(|tally| tally.version);
    assert!(tallies.windows(2).all(|t| (t[1].version, t[1].taken) == (t[0].version + 1, t[0].taken + 1)));
    assert_eq!(counts(&*ledger).await, [("s1/z".to_owned(), 50, tallies[49].version)]);
}

pub async fn batches_that_overlap_agree(ledger: Shared) {
    let zones = ["a", "b", "c", "z"];
    put(&*ledger, &zones.map(|id| (id, 60))).await;
    // Sixteen batches of forty over four zones and twenty visitors, each in an order of its own: deadlocks, if locks were
    // taken as they come.
    let batches: Vec<Vec<_>> = (0..16)
        .map(|i| {
            let mut batch: Vec<_> = (0..40)
                .map(|j| {
                    let mut new = new(&format!("b{i}-{j}"), &format!("v{}", (i * 7 + j * 3) % 20), 1);
                    new.booking.zone = key(&format!("s1/{}", zones[(i + j) % 4]));
                    new
                })
                .collect();
            if i % 2 == 0 {
                batch.reverse();
            }
            batch
        })
        .collect();
    let answers = all_at_once(&ledger, batches).await;
    assert_eq!(done(&answers), 240);
    assert!(counts(&*ledger).await.iter().all(|(_, taken, _)| *taken == 60));
    let mut seats = 0;
    for i in 0..20 {
        seats += seats_of(&*ledger, &format!("v{i}")).await;
    }
    assert_eq!(seats, 240);
}

pub async fn one_key_in_many_hands_is_done_once(ledger: Shared) {
    put(&*ledger, &[("y", 100), ("z", 100)]).await;
    let batches = (0..32)
        .map(|i| {
            let mut copy = new(&format!("b{i}"), "ann", 1);
            copy.key.key = "the same".into();
            copy.answer.body = "the same".into();
            copy.booking.zone = key(if i % 2 == 0 { "s1/y" } else { "s1/z" });
            vec![new(&format!("other{i}"), &format!("v{i}"), 1), copy]
        })
        .collect();
    let answers = all_at_once(&ledger, batches).await;
    assert_eq!(done(&answers), 33);
    let replayed =
        answers.iter().filter(|a| matches!(a, Committed::Replayed { answer, .. } if answer.body == "the same"));
    assert_eq!(replayed.count(), 31);
    assert_eq!(seats_of(&*ledger, "ann").await, 1);
}

pub async fn one_pass_in_many_hands_is_used_once(ledger: Shared) {
    put(&*ledger, &[("y", 100), ("z", 100)]).await;
    let batches = (0..32)
        .map(|i| {
            let mut copy = new(&format!("b{i}"), &format!("v{i}"), 1);
            copy.pass = new("same", "ann", 1).pass;
            copy.booking.zone = key(if i % 2 == 0 { "s1/y" } else { "s1/z" });
            vec![copy]
        })
        .collect();
    let answers = all_at_once(&ledger, batches).await;
    assert_eq!(done(&answers), 1);
    assert!(answers.iter().all(|a| is_done(a) || *a == Committed::PassUsed));
    assert_eq!(counts(&*ledger).await.iter().map(|(_, taken, _)| taken).sum::<u32>(), 1);
}

pub async fn a_limit_holds_under_fire(ledger: Shared) {
    put(&*ledger, &[("y", 100), ("z", 100)]).await;
    let batches = (0..32)
        .map(|i| {
            let mut new = new(&format!("b{i}"), "ann", 1);
            new.max_per_user = 5;
            new.booking.zone = key(if i % 2 == 0 { "s1/y" } else { "s1/z" });
            vec![new]
        })
        .collect();
    let answers = all_at_once(&ledger, batches).await;
    assert_eq!(done(&answers), 5);
    assert!(answers.iter().all(|a| is_done(a) || *a == Committed::UserLimit));
    assert_eq!(seats_of(&*ledger, "ann").await, 5);
}

pub async fn sweepers_share_the_work(ledger: Shared) {
    put(&*ledger, &[("z", 300)]).await;
    let batch: Vec<_> = (0..300).map(|i| new(&format!("b{i}"), &format!("v{}", i % 7), 1)).collect();
    assert_eq!(done(&ledger.commit(&batch).await.expect("commit")), 300);
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            let mut swept = Vec::new();
            loop {
                let some = ledger.expire_due(at(0).plus(TTL), 20).await.expect("expire");
                if some.is_empty() {
                    return swept;
                }
                swept.extend(some);
            }
        });
    }
    let swept: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let ids: HashSet<_> = swept.iter().map(|returned| returned.booking.id.to_string()).collect();
    assert_eq!((swept.len(), ids.len()), (300, 300), "each once");
    let versions: HashSet<_> = swept.iter().map(|returned| returned.zone.tally.version).collect();
    assert_eq!(versions.len(), 300, "each a version of its own");
    assert_eq!(taken(&*ledger).await, 0);
}

pub async fn confirm_and_cancel_and_sweep_agree(ledger: Shared) {
    put(&*ledger, &[("z", 100)]).await;
    let batch: Vec<_> = (0..40).map(|i| new(&format!("b{i}"), &format!("v{}", i % 5), 1)).collect();
    assert_eq!(done(&ledger.commit(&batch).await.expect("commit")), 40);
    let mut tasks = JoinSet::new();
    let end = at(0).plus(TTL);
    for i in 0..40 {
        let (id, who) = (booking(&format!("b{i}")), visitor(&format!("v{}", i % 5)));
        for step in 0..4 {
            let (ledger, id, who) = (Arc::clone(&ledger), id.clone(), who.clone());
            tasks.spawn(async move {
                match step {
                    0 => drop(ledger.confirm(&id, &who, "CODE", None, at(1)).await.expect("confirm")),
                    1 if i % 2 == 0 => drop(ledger.cancel(&id, &who, at(1)).await.expect("cancel")),
                    2 => drop(ledger.expire_due(end, 3).await.expect("expire")),
                    _ => drop(ledger.commit(&[new(&format!("more{i}-{step}"), "v0", 1)]).await.expect("commit")),
                }
            });
        }
    }
    tasks.join_all().await;
    let mut holding = 0;
    for i in 0..5 {
        let who = visitor(&format!("v{i}"));
        let page = ledger.bookings(&who, super::page(1, 100)).await.expect("bookings");
        let seats = page
            .data
            .iter()
            .filter(|b| matches!(b.status, BookingStatus::Reserved | BookingStatus::Confirmed))
            .map(|b| b.quantity)
            .sum::<u32>();
        assert_eq!(seats_of(&*ledger, who.as_str()).await, seats, "{who}");
        holding += seats;
    }
    assert_eq!(taken(&*ledger).await, holding);
}

pub async fn a_caller_who_goes_away_leaves_all_or_nothing(ledger: Shared) {
    put(&*ledger, &[("z", 10_000)]).await;
    for round in 0..60_u64 {
        let batch: Vec<_> = (0..10).map(|i| new(&format!("b{round}-{i}"), &format!("v{round}"), 1)).collect();
        let patience = Duration::from_micros(round * 80);
        let _ = tokio::time::timeout(patience, ledger.commit(&batch)).await;
        let _ = tokio::time::timeout(patience, ledger.bookings(&visitor("ann"), super::page(1, 10))).await;
    }
    // Whatever was begun comes to its end; nothing stays locked, and no connection was lost.
    let mut last = (0, 0);
    for _ in 0..100 {
        let mut there = 0;
        for round in 0..60 {
            let ids: Vec<_> = (0..10).map(|i| booking(&format!("b{round}-{i}"))).collect();
            let found = ledger.existing(&ids).await.expect("existing").len();
            assert!(found == 0 || found == 10, "half a batch: {found}");
            there += found;
        }
        let now = (there, taken(&*ledger).await);
        if now == last && usize::try_from(now.1) == Ok(there) {
            break;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(usize::try_from(last.1), Ok(last.0), "seats and bookings agree");
    let batches = (0..40).map(|i| vec![new(&format!("after{i}"), "ann", 1)]).collect();
    assert_eq!(done(&all_at_once(&ledger, batches).await), 40);
}

pub async fn an_event_changes_while_it_sells(ledger: Shared) {
    put(&*ledger, &[("y", 400), ("z", 400)]).await;
    let mut tasks = JoinSet::new();
    for i in 0..40 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            let batch: Vec<_> = (0..5)
                .map(|j| {
                    let mut new = new(&format!("b{i}-{j}"), &format!("v{i}"), 1);
                    new.booking.zone = key(if j % 2 == 0 { "s1/z" } else { "s1/y" });
                    new
                })
                .collect();
            let answers = ledger.commit(&batch).await.expect("commit");
            assert_eq!(done(&answers), 5, "{answers:?}");
            let id = booking(&format!("b{i}-0"));
            let gone = ledger.cancel(&id, &visitor(&format!("v{i}")), at(1)).await.expect("cancel");
            assert!(matches!(gone, Some(Cancelled::Now(_))));
        });
    }
    for i in 0..20 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            let wanted = spec(&[("z", 400 + i), ("y", 400), ("x", i)]);
            ledger.put_event(&event("e"), &wanted, &actor(), at(i.into())).await.expect("put");
        });
    }
    tasks.join_all().await;
    let counts = counts(&*ledger).await;
    let seats: Vec<_> = counts.iter().map(|(zone, taken, _)| (zone.as_str(), *taken)).collect();
    assert_eq!(seats, [("s1/x", 0), ("s1/y", 80), ("s1/z", 80)]);
    assert_eq!(counts[2].2, counts[1].2 + 80, "120 + 40 changes here, 80 there, and every put on both");
}

pub async fn catalogue_changes_come_in_order(ledger: Shared) {
    put(&*ledger, &[("z", 10)]).await;
    let mut tasks = JoinSet::new();
    for i in 0..40_u32 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            let patch = PolicyPatch { admit_per_minute: Some(i), ..PolicyPatch::default() };
            let id = event(if i % 4 == 0 { "e" } else { "f" });
            if i % 4 == 1 {
                ledger.put_event(&id, &spec(&[("z", i)]), &actor(), at(0)).await.expect("put");
            } else if i % 4 == 0 {
                ledger.patch_policy(&id, &patch, &actor(), at(0)).await.expect("patch");
            }
        });
    }
    // A reader that only ever asks for what is newer sees every event in its last state in the end.
    let mut mark = 0;
    let mut seen = std::collections::HashMap::new();
    while !tasks.is_empty() || mark < 21 {
        for event in ledger.events_since(mark).await.expect("events") {
            assert!(event.version > mark);
            mark = event.version;
            seen.insert(event.id.clone(), event);
        }
        while tasks.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
    let mut end = ledger.events_since(0).await.expect("events");
    let mut seen: Vec<_> = seen.into_values().collect();
    end.sort_by_key(|event| event.version);
    seen.sort_by_key(|event| event.version);
    assert_eq!(seen, end);
    assert!(!is_done(&commit_one(&*ledger, &new("b1", "ann", 11)).await));
}
