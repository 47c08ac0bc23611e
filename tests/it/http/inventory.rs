//! The fast inventory: rebuilt while sales go on, lost under sales, and empty after a restart. The ledger is what counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::desk::{RUSH, admitted_as, asking, booking_id, part, reservation};
use crate::support::redis;
use crate::support::usher::{Instance, Setup, World, user_token};

on_every_setup!(a_rebuild_under_sales_loses_no_seat);

/// The one zone of the world, as operators see it.
async fn zone(world: &World) -> Value {
    world.admin(Method::GET, "/inventory-status", None).await.expect(200)["zones"][0].clone()
}

/// Waits until fast inventory and ledger agree on this many seats taken.
async fn settles(world: &World, capacity: u64, taken: u64) {
    let wanted = json!([taken, 0, capacity - taken, true]);
    let mut seen = Value::Null;
    for _ in 0..200 {
        let zone = zone(world).await;
        seen = json!([zone["taken"], zone["held"], zone["available"], zone["in_sync"]]);
        if seen == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("taken, held, available, in sync: {seen}, not {wanted}");
}

/// The number of the place that a pass was given for.
fn number(pass: &str) -> u64 {
    let id = part(pass, 1)["jti"].as_str().expect("an id").to_owned();
    id.rsplit_once('.').expect("event and number").1.parse().expect("a number")
}

async fn a_rebuild_under_sales_loses_no_seat(setup: Setup) {
    const CAPACITY: u32 = 30;
    let world = World::start(setup).await;
    world.put_event("e", CAPACITY, json!({ "queue_required": false, "max_per_user": 0 })).await;
    let (over, kept) = (AtomicBool::new(false), AtomicU64::new(0));
    let racers = join_all((0..10_usize).map(|racer| {
        let (world, kept, token) = (&world, &kept, user_token(&format!("racer-{racer}")));
        async move {
            for round in 0..12_usize {
                let quantity = 1 + (racer + round) % 3;
                let request = reservation(world, racer + round, &format!("k{round}"), &asking("e", quantity));
                let reply = world.send(request.bearer_auth(&token)).await;
                if reply.status != StatusCode::CREATED {
                    reply.expect_problem(409, "INSUFFICIENT_SEATS");
                } else if (racer * 7 + round) % 4 == 0 {
                    kept.fetch_add(quantity as u64, Ordering::Relaxed);
                } else {
                    let path = format!("/bookings/{}", booking_id(&reply));
                    world.send(world.request(round, Method::DELETE, &path).bearer_auth(&token)).await.expect(200);
                }
            }
        }
    }));
    let rebuilds = async {
        let mut rebuilds = 0;
        while !over.load(Ordering::Relaxed) {
            let done = world.admin(Method::POST, "/sync-inventory", None).await.expect(200);
            assert_eq!(done["zones"], 1);
            let zone = zone(&world).await;
            assert!(
                zone["taken"].as_u64() <= Some(CAPACITY.into()) && zone["available"].as_u64() <= Some(CAPACITY.into())
            );
            rebuilds += 1;
        }
        rebuilds
    };
    let race = async {
        racers.await;
        over.store(true, Ordering::Relaxed);
    };
    let ((), rebuilds) = tokio::join!(race, rebuilds);
    assert!(rebuilds > 3, "{rebuilds} rebuilds while sales went on");
    settles(&world, CAPACITY.into(), kept.load(Ordering::Relaxed)).await;
}

/// Forgets all that the world has on Redis.
async fn empty_the_store(world: &World) {
    let prefix = &world.settings.redis.as_ref().expect("a world on Redis").prefix;
    let server = redis::shared();
    let mut cursor = "0".to_owned();
    loop {
        let (next, keys): (String, Vec<String>) =
            server.command(&["SCAN", &cursor, "MATCH", &format!("{prefix}:*"), "COUNT", "1000"]).await;
        if !keys.is_empty() {
            let words: Vec<&str> = std::iter::once("UNLINK").chain(keys.iter().map(String::as_str)).collect();
            let _: u64 = server.command(&words).await;
        }
        if next == "0" {
            return;
        }
        cursor = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_emptied_under_sales_is_rebuilt_on_one_instance() {
    a_store_emptied_under_sales_is_rebuilt(Setup::Scaled(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_emptied_under_sales_is_rebuilt_on_two_instances() {
    a_store_emptied_under_sales_is_rebuilt(Setup::Scaled(2)).await;
}

async fn a_store_emptied_under_sales_is_rebuilt(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 40, json!({ "admit_per_minute": RUSH })).await;
    let passes: Vec<String> =
        join_all((0..60).map(|n| world.admitted(n, "e"))).await.into_iter().map(|p| p.1).collect();
    let (over, sold) = (AtomicBool::new(false), AtomicU64::new(0));
    let racers = join_all(passes.iter().enumerate().map(|(n, pass)| {
        let (world, sold) = (&world, &sold);
        async move {
            // Spread over the time in which the store is emptied again and again.
            tokio::time::sleep(Duration::from_millis(n as u64 * 10)).await;
            let reply = world.reserve(n, "e", pass, "k", 1).await;
            match reply.status.as_u16() {
                201 => {
                    sold.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(world.reserve(n + 1, "e", pass, "k", 1).await.text, reply.text);
                    None
                }
                // Emptied again between the rebuild and the claim.
                503 => Some(n),
                _ => {
                    reply.expect_problem(409, "INSUFFICIENT_SEATS");
                    Some(n)
                }
            }
        }
    }));
    let emptying = async {
        while !over.load(Ordering::Relaxed) {
            empty_the_store(&world).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let race = async {
        let turned_away = racers.await;
        over.store(true, Ordering::Relaxed);
        turned_away
    };
    let (turned_away, ()) = tokio::join!(race, emptying);
    assert!(sold.load(Ordering::Relaxed) <= 40);
    for n in turned_away.into_iter().flatten() {
        if world.reserve(n, "e", &passes[n], "k", 1).await.status == StatusCode::CREATED {
            sold.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert_eq!(sold.load(Ordering::Relaxed), 40, "60 visitors with good passes asked for 40 seats");
    settles(&world, 40, 40).await;

    // Emptied once more in peace: availability is right at once, and the line works again.
    empty_the_store(&world).await;
    assert_eq!(world.available(1, "e").await, 0);
    empty_the_store(&world).await;
    let highest = passes.iter().map(|pass| number(pass)).max();
    let (_, fresh) = admitted_as(&world, 1, "e", "ann").await;
    assert!(Some(number(&fresh)) > highest, "numbers are never handed out twice");
    world.reserve(0, "e", &fresh, "k", 1).await.expect_problem(409, "INSUFFICIENT_SEATS");
    for (n, pass) in passes.iter().enumerate() {
        let again = world.reserve(n, "e", pass, "another", 1).await;
        assert!(matches!(again.code().as_str(), "QUEUE_PASS_USED" | "INSUFFICIENT_SEATS"), "{}", again.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_is_used_once_although_the_store_forgot_it() {
    let world = World::start(Setup::Scaled(2)).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH })).await;
    let (ticket, pass) = admitted_as(&world, 0, "e", "ann").await;
    empty_the_store(&world).await;
    let first = world.reserve(1, "e", &pass, "k", 1).await;
    first.expect(201);
    empty_the_store(&world).await;
    assert_eq!(world.reserve(0, "e", &pass, "k", 1).await.text, first.text);
    let is_used = |reply: &crate::support::usher::Reply| reply.json()["state"] == "used";
    let seen = world.sees(1, "e", &ticket, is_used).await.expect(200);
    assert_eq!(seen["state"], "used", "a retry does not revive the pass");
    empty_the_store(&world).await;
    world.reserve(0, "e", &pass, "k2", 1).await.expect_problem(403, "QUEUE_PASS_USED");
    assert_eq!(world.sees(1, "e", &ticket, is_used).await.expect(200)["state"], "used");
    settles(&world, 10, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_was_restarted_takes_the_passes_of_before_once() {
    let mut world = World::start(Setup::Embedded).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH })).await;
    let (anns_ticket, anns) = admitted_as(&world, 0, "e", "ann").await;
    let (_, bens) = admitted_as(&world, 0, "e", "ben").await;
    let first = world.reserve(0, "e", &anns, "k", 2).await;
    first.expect(201);

    world.instances[0].stop().await;
    world.instances[0] = Instance::start(&world.settings).await;
    assert_eq!(world.available(0, "e").await, 8);
    let (_, cyds) = admitted_as(&world, 0, "e", "cyd").await;
    assert!(number(&cyds) > number(&anns).max(number(&bens)), "numbers are never handed out twice");

    assert_eq!(world.reserve(0, "e", &anns, "k", 2).await.text, first.text);
    assert_eq!(
        world.position(0, "e", &anns_ticket).await.expect(200)["state"],
        "used",
        "a retry does not revive the pass"
    );
    world.reserve(0, "e", &anns, "k2", 1).await.expect_problem(403, "QUEUE_PASS_USED");
    world.reserve(0, "e", &bens, "k", 3).await.expect(201);
    world.reserve(0, "e", &bens, "k2", 1).await.expect_problem(403, "QUEUE_PASS_USED");
    world.reserve(0, "e", &cyds, "k", 1).await.expect(201);
    settles(&world, 10, 6).await;
}
