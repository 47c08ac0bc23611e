//! A line outlives its store: whoever polls with a ticket is back at their own number, and newcomers stand behind.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::usher::{Instance, Reply, Setup, World};

async fn with_redis(count: usize) -> (RedisServer, World) {
    let start = || RedisServer::start(&["--enable-debug-command", "yes"]);
    let server = tokio::task::spawn_blocking(start).await.expect("Redis starts");
    let world = World::start_with(Setup::Scaled(count), &[("redis_url", &server.url())]).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    (server, world)
}

async fn join(world: &World, count: usize) -> Vec<String> {
    let mut tickets = Vec::new();
    for at in 0..count {
        let reply = world.join(at, "e").await;
        tickets.push(reply.expect(201)["token"].as_str().expect("a ticket").to_owned());
    }
    tickets
}

/// The same at a store that has just come back: whoever is told to come again does.
async fn returning(world: &World, count: usize) -> Vec<String> {
    let mut tickets = Vec::new();
    let started = Instant::now();
    while tickets.len() < count {
        let reply = world.join(tickets.len(), "e").await;
        match reply.status.as_u16() {
            503 => assert!(started.elapsed() < Duration::from_secs(10), "{}", reply.text),
            _ => tickets.push(reply.expect(201)["token"].as_str().expect("a ticket").to_owned()),
        }
    }
    tickets
}

/// Everybody polls, from the back to the front and again, until each is at the place that the list says. A first poll may
/// still be answered from what the instance knew of the line before.
async fn stand(world: &World, tickets: &[String]) {
    let wanted = |at: usize, reply: &Reply| {
        reply.json()["position"] == at + 1 && reply.json()["total_in_queue"] == tickets.len()
    };
    let started = Instant::now();
    loop {
        let mut wrong = Vec::new();
        for (at, ticket) in tickets.iter().enumerate().rev() {
            let reply = world.position(at, "e", ticket).await;
            assert!(reply.status == 503 || reply.expect(200)["state"] == "waiting", "{}", reply.text);
            if !wanted(at, &reply) {
                wrong.push((at, reply.text));
            }
        }
        if wrong.is_empty() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "not at their places: {wrong:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_outlives_a_store_that_was_emptied() {
    let (server, world) = with_redis(2).await;
    let mut tickets = join(&world, 20).await;
    stand(&world, &tickets).await;
    for _ in 0..2 {
        let () = server.command(&["FLUSHALL"]).await;
        // Before any of the others is back.
        tickets.extend(join(&world, 3).await);
        stand(&world, &tickets).await;
    }
    // To join again is to be back as well.
    let () = server.command(&["FLUSHALL"]).await;
    let again = world.request(0, Method::POST, "/queue/join").header("X-Queue-Ticket", &tickets[7]);
    let back: Value = world.send(again.json(&json!({ "event_id": "e" }))).await.expect(200);
    assert_eq!(back["token"], tickets[7].as_str());
    stand(&world, &tickets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_outlives_a_store_that_is_as_it_was_before() {
    let (server, world) = with_redis(2).await;
    let mut tickets = join(&world, 10).await;
    let () = server.command(&["SAVE"]).await;
    tickets.extend(join(&world, 10).await);
    tokio::time::sleep(Duration::from_millis(300)).await; // until both instances have heard of them
    let () = server.command(&["DEBUG", "RELOAD", "NOSAVE"]).await;
    tickets.extend(join(&world, 4).await);
    stand(&world, &tickets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_outlives_a_store_that_was_killed() {
    let (server, world) = with_redis(2).await;
    let mut tickets = join(&world, 10).await;
    let server = server.restart_killed().await;
    tickets.extend(returning(&world, 3).await);
    stand(&world, &tickets).await;
    // And with what it had saved before the last ones came: their numbers must not be given to others, though the
    // instances are new as well and know of nobody.
    let () = server.command(&["SAVE"]).await;
    tickets.extend(join(&world, 10).await);
    let settings = world.settings.clone();
    let mut world = world;
    for instance in &mut world.instances {
        instance.stop().await;
    }
    let _server = server.restart_killed().await;
    for instance in &mut world.instances {
        *instance = Instance::start(&settings).await;
    }
    tickets.extend(returning(&world, 4).await);
    stand(&world, &tickets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_seats_outlive_an_old_store() {
    let (server, world) = with_redis(1).await;
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "admit_per_minute": 60_000, "state": "open" }))).await;
    let (_, pass) = world.admitted(0, "e").await;
    let () = server.command(&["SAVE"]).await;
    world.reserve(0, "e", &pass, "k", 4).await.expect(201);
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": "paused" }))).await.expect(200);
    let tickets = join(&world, 3).await;
    let _server = server.restart_killed().await;
    stand(&world, &tickets).await;
    world
        .eventually(0, "/events/e/availability", |reply| {
            reply.status == 200 && reply.json()["shows"][0]["zones"][0]["available"] == 6
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Nobody was let in by the rules of then, and the pass is still used.
    stand(&world, &tickets).await;
    world.reserve(0, "e", &pass, "another", 1).await.expect_problem(403, "QUEUE_PASS_USED");
}

/// Whichever instance is the first to grant it numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_event_waits_for_no_recovery() {
    let world = World::start_with(Setup::Scaled(4), &[("recovery_ms", "60000")]).await;
    for event in ["a", "b", "c", "d", "e"] {
        world.put_event(event, 10, json!({ "admit_per_minute": 60_000 })).await;
        world.admitted(0, event).await;
    }
    // Nor one that is put again after it was removed.
    world.admin(Method::DELETE, "/events/a", None).await.expect(200);
    world.put_event("a", 10, json!({ "admit_per_minute": 60_000 })).await;
    world.admitted(0, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_outlives_its_process() {
    let mut world = World::start(Setup::Embedded).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let mut tickets = join(&world, 20).await;
    world.instances[0].stop().await;
    world.instances[0] = Instance::start(&world.settings).await;
    tickets.extend(join(&world, 3).await);
    stand(&world, &tickets).await;
}

/// A place is taken back at once, and the way in is longer by what is left of the recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_is_part_of_the_wait() {
    let mut world = World::start_with(Setup::Embedded, &[("recovery_ms", "50000")]).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60, "state": "paused" })).await;
    let tickets = join(&world, 2).await;
    // An event that is younger than the recovery waits for as long as it is there.
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.instances[0].stop().await;
    world.instances[0] = Instance::start(&world.settings).await;
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": "open" }))).await.expect(200);
    world.position(0, "e", &tickets[0]).await.expect(200);
    let told = world.position(0, "e", &tickets[1]).await.expect(200);
    assert_eq!((&told["position"], &told["state"]), (&json!(2), &json!("waiting")));
    let wait = |told: &serde_json::Value| told["estimated_wait_seconds"].as_u64().expect("a wait");
    assert!((5..60).contains(&wait(&told)), "{told}");
    let status = world.eventually(0, "/queue/status/e", |reply| wait(&reply.json()) >= 4).await;
    assert_eq!(status.json()["state"], "open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_are_back_by_themselves() {
    let (server, world) = with_redis(1).await;
    let tickets = join(&world, 3).await;
    let mut streams = Vec::new();
    for ticket in &tickets {
        let request = world.request(0, Method::GET, "/queue/position/e/stream").header("X-Queue-Ticket", ticket);
        streams.push(request.send().await.expect("a stream"));
    }
    let () = server.command(&["FLUSHALL"]).await;
    // Without a poll of anybody.
    let prefix = &world.settings.redis.as_ref().expect("Redis").prefix;
    let key = usher::engine::redis::keys::LINE.of(prefix, &usher::domain::EventId::parse("e").expect("an id"));
    let mut waiting = 0_u64;
    for _ in 0..100 {
        waiting = server.command(&["ZCARD", &key]).await;
        if waiting == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(waiting, 3, "their streams stood for them");
    drop(streams);
    stand(&world, &tickets).await;
}
