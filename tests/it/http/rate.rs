//! The rate and the cap, on 1, 2 and 4 instances.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::usher::{Setup, World};

/// Ten a second.
const RATE: u32 = 600;

/// One look at how many were ever let in.
struct Look {
    /// Just before the question was asked, and just after it was answered.
    between: (f64, f64),
    admitted: u64,
}

async fn admitted_total(world: &World) -> u64 {
    let live = world.admin(Method::GET, "/events/e", None).await.expect(200);
    live["live"]["admitted_total"].as_u64().expect("a number")
}

/// Lets a crowd wait, and looks for `seconds` how it is let in.
async fn watch(world: &World, seconds: u64, crowd: usize) -> Vec<Look> {
    world.put_event("e", 10, json!({ "admit_per_minute": RATE, "state": "paused" })).await;
    let joins = (0..crowd).map(|at| world.join(at, "e"));
    for reply in futures_util::future::join_all(joins).await {
        reply.expect(201);
    }
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": "open" }))).await.expect(200);
    let started = Instant::now();
    let mut looks = Vec::new();
    while started.elapsed() < Duration::from_secs(seconds) {
        let before = started.elapsed().as_secs_f64();
        let admitted = admitted_total(world).await;
        looks.push(Look { between: (before, started.elapsed().as_secs_f64()), admitted });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    looks
}

/// In any ten seconds after the first: 100 ± 5. In any window at all: no more than the rate allows plus one second's worth.
async fn ten_a_second(instances: Setup) {
    let world = World::start(instances).await;
    let looks = watch(&world, 23, 300).await;
    let per_second = f64::from(RATE) / 60.0;
    let mut windows = 0;
    for (at, from) in looks.iter().enumerate() {
        for to in &looks[at + 1..] {
            #[allow(clippy::cast_precision_loss)]
            let admitted = (to.admitted - from.admitted) as f64;
            // Between two looks at least `least` and at most `most` seconds have gone by.
            let (least, most) = (to.between.0 - from.between.1, to.between.1 - from.between.0);
            assert!(admitted <= per_second * most + per_second + 1.0, "{admitted} in {most} s");
            if from.between.0 > 1.0 && (9.9..10.1).contains(&least) {
                windows += 1;
                let expected = per_second * (least + most) / 2.0;
                assert!(
                    (admitted - expected).abs() <= 5.0 + per_second * (most - least),
                    "{admitted} in {least} to {most} s"
                );
            }
        }
    }
    assert!(windows > 20, "only {windows} windows of ten seconds were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_a_minute_embedded() {
    ten_a_second(Setup::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_a_minute_on_one_instance() {
    ten_a_second(Setup::Scaled(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_a_minute_on_two_instances() {
    ten_a_second(Setup::Scaled(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_a_minute_on_four_instances() {
    ten_a_second(Setup::Scaled(4)).await;
}

on_every_setup!(a_rate_far_too_high_is_undone, the_cap_is_never_exceeded);

async fn a_rate_far_too_high_is_undone(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 0 })).await;
    let joins = (0..400).map(|at| world.join(at, "e"));
    futures_util::future::join_all(joins).await;
    assert_eq!(admitted_total(&world).await, 0, "a rate of zero lets nobody in");
    let too_high = json!({ "admit_per_minute": 60_000_000, "max_active": 50 });
    world.admin(Method::PATCH, "/events/e/queue", Some(too_high)).await.expect(200);
    world.eventually(1, "/queue/status/e", |reply| reply.json()["admitted_active"] == 50).await;
    // From here on one a minute, without the cap: what was saved up at the high rate is worth one at most.
    let change = json!({ "admit_per_minute": 1, "max_active": 0 });
    world.admin(Method::PATCH, "/events/e/queue", Some(change)).await.expect(200);
    let then = admitted_total(&world).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let later = admitted_total(&world).await;
    assert!((50..=51).contains(&then) && (50..=51).contains(&later), "{then}, then {later}");
    for wrong in [json!(-1), json!(60_000_001), json!(1.5), json!("600")] {
        let patch = world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "admit_per_minute": wrong }))).await;
        patch.expect_problem(400, "INVALID_REQUEST");
        assert!(
            patch.json()["detail"].as_str().is_some_and(|detail| detail.contains("admit_per_minute")),
            "{}",
            patch.text
        );
    }
    let now = world.admin(Method::GET, "/events/e", None).await.expect(200);
    assert_eq!(now["queue"]["admit_per_minute"], 1, "what was refused changed nothing");
}

async fn the_cap_is_never_exceeded(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 1_000, json!({ "admit_per_minute": 60_000, "max_active": 7 })).await;
    // Forty visitors use their passes as soon as they get them; every look in between sees at most seven out.
    let visitors = (0..40).map(|at| {
        let world = &world;
        async move {
            let (_, pass) = world.admitted(at, "e").await;
            world.reserve(at + 1, "e", &pass, "k", 1).await.expect(201);
        }
    });
    let all = futures_util::future::join_all(visitors);
    let looks = async {
        let mut most = 0;
        loop {
            let live = world.admin(Method::GET, "/events/e", None).await.expect(200)["live"].clone();
            most = most.max(live["active"].as_u64().expect("a number"));
            assert!(most <= 7, "{most} were active");
            if live["admitted_total"] == 40 && live["active"] == 0 {
                return most;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (_, most) = tokio::join!(all, looks);
    assert!(most > 1, "the cap was never even near");
}
