//! A place is kept for whoever steps away, and they hold up nobody.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::usher::{Reply, Setup, World};

on_every_setup!(whoever_steps_away_is_passed_over_and_back_at_the_front);

/// The least there may be, in seconds.
const PRESENCE: u64 = 5;

fn ticket(reply: &Reply) -> String {
    reply.expect(201)["token"].as_str().expect("a ticket").to_owned()
}

async fn whoever_steps_away_is_passed_over_and_back_at_the_front(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused", "presence_seconds": PRESENCE })).await;
    let (away, polls, streams) =
        (ticket(&world.join(0, "e").await), ticket(&world.join(1, "e").await), ticket(&world.join(0, "e").await));
    let request = world.request(1, Method::GET, "/queue/position/e/stream").header("X-Queue-Ticket", &streams);
    let mut stream = request.send().await.expect("a stream");
    let reading = tokio::spawn(async move {
        let mut last = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            last = chunk.to_vec();
        }
        String::from_utf8_lossy(&last).into_owned()
    });
    // One polls as they are told to, one has a stream open, the first is not heard of for longer than the time.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2 * PRESENCE + 1) {
        let seen = world.position(0, "e", &polls).await.expect(200);
        let pause = seen["poll_after_seconds"].as_u64().expect("seconds");
        assert!(pause <= PRESENCE / 4, "often enough to be seen: {seen}");
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    let patch = |queue| world.admin(Method::PATCH, "/events/e/queue", Some(queue));
    patch(json!({ "state": "open", "admit_per_minute": 60 })).await.expect(200);
    world.pass(0, "e", &polls).await;
    let told = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("let in").expect("no panic");
    assert!(told.contains("admitted"), "{told}");
    let live = world.admin(Method::GET, "/events/e", None).await.expect(200)["live"].clone();
    assert_eq!((&live["waiting"], &live["parked"], &live["admitted_total"]), (&json!(0), &json!(1), &json!(2)));
    // Others come; whoever was away is before them, and goes in first.
    patch(json!({ "admit_per_minute": 0 })).await.expect(200);
    let newcomer = ticket(&world.join(0, "e").await);
    let seen = world.sees(1, "e", &away, |reply| reply.json()["position"] == 1).await.expect(200);
    assert_eq!((&seen["state"], &seen["position"]), (&json!("waiting"), &json!(1)));
    // The feed tells of it within a second, as of all that a store did.
    let back = Instant::now();
    loop {
        let behind = world.position(0, "e", &newcomer).await.expect(200);
        if (&behind["position"], &behind["total_in_queue"]) == (&json!(2), &json!(2)) {
            break;
        }
        assert!(back.elapsed() < Duration::from_secs(1), "{behind}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    patch(json!({ "admit_per_minute": 60 })).await.expect(200);
    world.pass(1, "e", &away).await;
    world.pass(0, "e", &newcomer).await;
}
