//! Orderly ends: a stop with many streams open, and a restart of one instance after the other that no client notices.
//!
//! `USHER_CHAOS_OLDER` names the binary of an earlier version: then the restarts make one instance after the other
//! old, and new again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;

use crate::support::balancer::Balancer;
use crate::support::fleet::Fleet;
use crate::support::postgres::Sync;
use crate::support::seeds::long;
use crate::support::usher::ADMIN_TOKEN;

/// The longest that an orderly end may take.
const DRAIN: Duration = Duration::from_secs(10);

async fn put_event(fleet: &Fleet, queue: serde_json::Value) {
    let spec = json!({ "name": "e", "queue": queue, "shows": [{ "id": "s1", "name": "Friday",
        "zones": [{ "id": "z1", "name": "Floor", "capacity": 1_000_000, "price": 100.0 }] }] });
    let put = fleet.any().api(Method::PUT, "/admin/events/e").bearer_auth(ADMIN_TOKEN).json(&spec).send().await;
    assert_eq!(put.expect("an answer").status(), 201);
    // Until every instance knows it.
    for address in &fleet.addresses {
        let status = || reqwest::get(format!("http://{address}/api/v1/queue/status/e"));
        while status().await.expect("an answer").status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_many_streams_well_and_in_time() {
    let streams = if long() { 10_000 } else { 600 };
    let mut fleet = Fleet::start(1, Sync::Off, &[("USHER_DRAIN_MS", "1000")]).await;
    put_event(&fleet, json!({ "state": "paused" })).await;
    let api = format!("http://{}/api/v1", fleet.addresses[0]);
    let client = reqwest::Client::new();
    let open = (0..streams).map(|_| {
        let (client, api) = (client.clone(), api.clone());
        async move {
            let join = client.post(format!("{api}/queue/join")).json(&json!({ "event_id": "e" })).send().await;
            let ticket: serde_json::Value = join.expect("an answer").json().await.expect("JSON");
            let stream = client.get(format!("{api}/queue/position/e/stream"));
            let stream = stream.header("X-Queue-Ticket", ticket["token"].as_str().expect("a ticket")).send().await;
            stream.expect("a stream")
        }
    });
    let open: Vec<_> = futures_util::stream::iter(open).buffer_unordered(64).collect().await;
    assert!(open.iter().all(|stream| stream.status() == 200));
    // Each is read to its end; one that breaks off is an error.
    let ends = tokio::spawn(async move {
        let read = open.into_iter().map(|stream| tokio::spawn(stream.text()));
        futures_util::future::join_all(read.collect::<Vec<_>>()).await
    });
    // Others keep asking until the instance says that it is not ready any more, as a balancer does: each is answered, and whole.
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = (0..8).map(|_| {
        let (client, api, asked) = (client.clone(), api.clone(), Arc::clone(&asked));
        let ready = format!("http://{}/ready", fleet.addresses[0]);
        tokio::spawn(async move {
            loop {
                let reply = client.get(format!("{api}/queue/status/e")).send().await.expect("an answer");
                assert_eq!(reply.status(), 200);
                reply.text().await.expect("a whole answer");
                asked.fetch_add(1, Ordering::Relaxed);
                let ready = client.get(&ready).send().await.expect("an answer");
                if ready.status() == 503 {
                    return;
                }
            }
        })
    });
    let asks: Vec<_> = asks.collect();
    let took = fleet.stop(0).await;
    for ask in asks {
        ask.await.expect("no panic");
    }
    let ends = ends.await.expect("no panic");
    let told = ends.iter().filter(|end| {
        let text = end.as_ref().expect("no panic").as_ref().expect("an end, not a break");
        text.contains("retry:")
    });
    assert_eq!(told.count(), streams, "each is told when to come back");
    println!("{streams} streams and {} requests: ended in {took:?}", asked.load(Ordering::Relaxed));
    assert!(took <= DRAIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let rounds = if long() { 6 } else { 1 };
    let mut fleet = Fleet::start(2, Sync::Off, &[("USHER_DRAIN_MS", "1500")]).await;
    put_event(&fleet, json!({ "admit_per_minute": 6_000, "max_per_user": 0 })).await;
    let balancer = Balancer::start(&fleet.addresses).await;
    let api = format!("http://{}/api/v1", balancer.address);
    let (going, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let visitors = (0..16).map(|who| {
        let (api, going, asked) = (api.clone(), Arc::clone(&going), Arc::clone(&asked));
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut key = 0;
            while going.load(Ordering::Relaxed) {
                let join = client.post(format!("{api}/queue/join")).json(&json!({ "event_id": "e" })).send().await;
                let join = join.expect("an answer to a join");
                assert!(join.status().is_success(), "join: {} {:?}", join.status(), join.text().await);
                let ticket: serde_json::Value = join.json().await.expect("JSON");
                let ticket = ticket["token"].as_str().expect("a ticket").to_owned();
                let pass = loop {
                    let poll = client.get(format!("{api}/queue/position/e")).header("X-Queue-Ticket", &ticket);
                    let poll = poll.send().await.expect("an answer to a poll");
                    assert_eq!(poll.status(), 200, "poll: {:?}", poll.text().await);
                    asked.fetch_add(1, Ordering::Relaxed);
                    let seen: serde_json::Value = poll.json().await.expect("JSON");
                    if let Some(pass) = seen["queue_pass"].as_str() {
                        break pass.to_owned();
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                key += 1;
                let body =
                    json!({ "event_id": "e", "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0 });
                let reserve = client.post(format!("{api}/bookings/reserve")).header("X-Queue-Pass", pass);
                let reserve = reserve.header("X-Idempotency-Key", format!("{who}-{key}")).json(&body).send().await;
                let reserve = reserve.expect("an answer to a reserve");
                assert_eq!(reserve.status(), 201, "reserve: {:?}", reserve.text().await);
                asked.fetch_add(2, Ordering::Relaxed);
            }
        })
    });
    let visitors: Vec<_> = visitors.collect();
    balancer.all_up().await;
    let older = std::env::var_os("USHER_CHAOS_OLDER").map(std::path::PathBuf::from);
    for round in 0..rounds * 2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let took = fleet.stop(round % 2).await;
        assert!(took <= DRAIN, "{took:?}");
        match &older {
            Some(older) if round / 2 % 2 == 0 => fleet.launch_of(older, round % 2).await,
            _ => fleet.launch(round % 2).await,
        }
        balancer.all_up().await;
    }
    going.store(false, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.expect("every request was answered well");
    }
    println!("{} restarts, {} requests, 0 failed", rounds * 2, asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 100);
}
