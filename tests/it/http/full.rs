//! A Redis that answers and refuses: its memory is full, or its user has lost rights. Nobody joins and readiness tells; while it is
//! memory that is missing, nobody is let in and operators can still steer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use usher::app::Application;
use usher::domain::time::SystemClock;

use crate::support::redis::RedisServer;
use crate::support::usher::{Instance, Reply, Setup, World};

const PASSWORD: &str = "sesame-of-the-store";

async fn own_redis() -> RedisServer {
    let start = || RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    tokio::task::spawn_blocking(start).await.expect("Redis starts")
}

/// Less than an empty server takes.
async fn fill(redis: &RedisServer) {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "500kb"]).await;
}

async fn make_room(redis: &RedisServer) {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
}

/// Asks whether the instance is ready until the answer is this one: a refusal is noticed by the next release, and forgotten
/// three seconds after the last.
async fn ready(world: &World, at: usize, status: u16) -> Reply {
    let asked = Instant::now();
    loop {
        let reply = world.send(world.client.get(world.url(at, "/ready"))).await;
        if reply.status == status {
            return reply;
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "{} {}", reply.status, reply.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn patch(world: &World, change: Value) {
    world.admin(Method::PATCH, "/events/e/queue", Some(change)).await.expect(200);
}

/// The live numbers of the event.
async fn live(world: &World) -> Value {
    world.admin(Method::GET, "/events/e", None).await.expect(200)["live"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_lets_nobody_in_and_operators_steer() {
    let redis = own_redis().await;
    let mut world = World::start_with(Setup::Scaled(1), &[("redis_url", &redis.url())]).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000 })).await;
    let (ticket, pass) = world.admitted(0, "e").await;
    let booking = world.reserve(0, "e", &pass, "k", 4).await.expect(201)["booking_id"].clone();
    patch(&world, json!({ "state": "paused" })).await;
    let mut tickets = Vec::new();
    for at in 0..3 {
        tickets.push(world.join(at, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned());
    }
    let before = live(&world).await;
    ready(&world, 0, 200).await;

    fill(&redis).await;
    let asked = Instant::now();
    world.join(0, "e").await.expect_problem(503, "STORE_UNAVAILABLE");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    ready(&world, 0, 503).await.expect_problem(503, "STORE_UNAVAILABLE");
    for change in [json!({ "state": "open" }), json!({ "admit_per_minute": 6_000 }), json!({ "max_active": 5 })] {
        patch(&world, change).await;
    }
    assert_eq!(live(&world).await["state"], "open");
    // Their passes would run out before they could be used.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(live(&world).await["admitted_total"], before["admitted_total"]);
    assert_eq!(world.position(0, "e", &tickets[1]).await.expect(200)["position"], 2);
    patch(&world, json!({ "state": "paused" })).await;
    assert_eq!(live(&world).await["state"], "paused");

    // What frees goes on.
    let leave = world.request(0, Method::DELETE, "/queue/leave");
    let left = world.send(leave.json(&json!({ "event_id": "e", "token": tickets[0] }))).await;
    assert!(left.status.is_success(), "{}", left.text);
    assert_eq!(live(&world).await["waiting"], 2);
    let path = format!("/bookings/{}", booking.as_str().expect("an id"));
    let cancel = world.request(0, Method::DELETE, &path).header("X-Queue-Ticket", &ticket);
    world.send(cancel).await.expect(200);
    assert_eq!(world.available(0, "e").await, 10);

    // Another instance starts beside it, so that there is one to steer with.
    world.instances.push(Instance::start(&world.settings).await);
    ready(&world, 1, 503).await;
    world.position(1, "e", &tickets[1]).await.expect(200);

    make_room(&redis).await;
    for at in 0..2 {
        ready(&world, at, 200).await;
    }
    world.join(0, "e").await.expect(201);
    patch(&world, json!({ "state": "open" })).await;
    world.pass(0, "e", &tickets[1]).await;
}

/// The rights of the user that the service comes as.
async fn rights(redis: &RedisServer, rules: &[&str]) {
    let password = format!(">{PASSWORD}");
    let words: Vec<&str> =
        ["ACL", "SETUSER", "usher", "reset", "on", &password].into_iter().chain(rules.to_owned()).collect();
    redis.command::<()>(&words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_of_by_name() {
    let redis = own_redis().await;
    rights(&redis, &["~*", "&*", "+@all"]).await;
    let url = format!("redis://usher:{PASSWORD}@127.0.0.1:{}/", redis.port());
    let world = World::start_with(Setup::Scaled(1), &[("redis_url", &url)]).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    ready(&world, 0, 200).await;

    // The second in the words of Redis 7.0, and of later ones.
    for (rules, causes) in [
        (["~others:*", "&*", "+@all"], ["NoPerm", "NOPERM"]),
        (["~*", "&*", "+@all -hset -zadd"], ["can't run this command", "ACL failure in script"]),
    ] {
        let rules: Vec<&str> = rules.iter().flat_map(|rule| rule.split(' ')).collect();
        rights(&redis, &rules).await;
        world.join(0, "e").await.expect_problem(503, "STORE_UNAVAILABLE");
        ready(&world, 0, 503).await;
        let refused =
            Application::build(&world.settings, Arc::new(SystemClock)).await.err().expect("it does not start");
        let text = refused.to_string();
        assert!(
            text.starts_with("events: STORE_UNAVAILABLE: the store") && causes.iter().any(|cause| text.contains(cause)),
            "{text}"
        );
        assert!(!text.contains(PASSWORD), "{text}");
    }
    rights(&redis, &["~*", "&*", "+@all"]).await;
    ready(&world, 0, 200).await;
    world.join(0, "e").await.expect(201);
}
