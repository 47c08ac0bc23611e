//! What operators can do.

use reqwest::Method;
use serde_json::json;

use crate::support::redis;
use crate::support::usher::{ADMIN_TOKEN, Setup, World};

on_every_setup!(
    an_event_is_created_replaced_and_listed,
    a_change_is_in_force_everywhere_within_a_second,
    capacity_that_is_in_use_stays,
    every_change_is_in_the_audit_log,
);

async fn an_event_is_created_replaced_and_listed(setup: Setup) {
    let world = World::start(setup).await;
    let spec = json!({ "name": "Tour", "shows": [{ "id": "s1", "name": "Friday", "starts_at": "2030-05-03T20:00:00+02:00",
        "zones": [{ "id": "z1", "name": "Floor", "capacity": 5, "price": 19.99 }] }] });
    let created = world.admin(Method::PUT, "/events/e", Some(spec.clone())).await.expect(201);
    let defaults = json!({ "admit_per_minute": 600, "max_active": 0, "pass_ttl_seconds": 300, "max_queue": 0,
        "hold_ttl_seconds": 600, "max_per_user": 10, "state": "open", "opens_at": null, "message": null, "queue_required": true,
        "presence_seconds": 0 });
    assert_eq!(created["queue"], defaults);
    world.admin(Method::PUT, "/events/e", Some(spec)).await.expect(200);
    let seen = world.admin(Method::GET, "/events/e", None).await.expect(200);
    assert_eq!((&seen["live"]["waiting"], &seen["live"]["state"]), (&json!(0), &json!("open")));
    assert_eq!(world.admin(Method::GET, "/events", None).await.expect(200)["data"][0]["id"], "e");
    world.admin(Method::GET, "/events/f", None).await.expect_problem(404, "EVENT_NOT_FOUND");

    let listed = world.eventually(1, "/events", |reply| reply.json()["total"] == 1).await.json();
    assert_eq!(listed["data"][0]["shows"][0]["starts_at"], "2030-05-03T18:00:00Z");
    let one = world.send(world.request(0, Method::GET, "/events/e")).await.expect(200);
    assert_eq!((&one["name"], &one["shows"][0]["zones"][0]["price"]), (&json!("Tour"), &json!(19.99)));
    let left = world.send(world.request(0, Method::GET, "/events/e/availability")).await.expect(200);
    assert_eq!(
        left["shows"][0]["zones"][0],
        json!({ "id": "z1", "name": "Floor", "capacity": 5, "available": 5, "price": 19.99 })
    );
    let status = world.admin(Method::GET, "/inventory-status", None).await.expect(200);
    assert_eq!((&status["in_sync"], &status["zones"][0]["available"]), (&json!(true), &json!(5)));
}

async fn a_change_is_in_force_everywhere_within_a_second(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000 })).await;
    let change = json!({ "state": "closed", "message": "Back at noon", "admit_per_minute": 1 });
    let now = world.admin(Method::PATCH, "/events/e/queue", Some(change)).await.expect(200);
    assert_eq!((&now["state"], &now["max_per_user"]), (&json!("closed"), &json!(10)));
    // The engine has it at once, whichever instance is asked.
    for at in 0..2 {
        world.join(at, "e").await.expect_problem(409, "QUEUE_NOT_OPEN");
    }
    let told = std::time::Instant::now();
    world.eventually(1, "/queue/status/e", |reply| reply.json()["message"] == "Back at noon").await;
    assert!(told.elapsed() < std::time::Duration::from_secs(1), "{:?}", told.elapsed());
    let change = json!({ "message": null, "opens_at": null });
    assert_eq!(world.admin(Method::PATCH, "/events/e/queue", Some(change)).await.expect(200)["message"], json!(null));
    world.admin(Method::PATCH, "/events/f/queue", Some(json!({}))).await.expect_problem(404, "EVENT_NOT_FOUND");
}

async fn capacity_that_is_in_use_stays(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000 })).await;
    let (_, pass) = world.admitted(0, "e").await;
    world.reserve(0, "e", &pass, "k", 4).await.expect(201);
    let with = |zones: serde_json::Value| json!({ "name": "Event e", "shows": [{ "id": "s1", "name": "Friday", "zones": zones }], "queue": { "admit_per_minute": 60_000 } });
    let zone = |capacity: i64| with(json!([{ "id": "z1", "name": "Floor", "capacity": capacity, "price": 100.0 }]));
    world.admin(Method::PUT, "/events/e", Some(zone(3))).await.expect_problem(409, "CAPACITY_IN_USE");
    world.admin(Method::PUT, "/events/e", Some(with(json!([])))).await.expect_problem(409, "CAPACITY_IN_USE");
    assert_eq!(world.available(0, "e").await, 6, "what was refused changed nothing");
    world.admin(Method::PUT, "/events/e", Some(zone(5))).await.expect(200);
    assert_eq!(world.available(1, "e").await, 1);
}

async fn every_change_is_in_the_audit_log(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({})).await;
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "admit_per_minute": 7 }))).await.expect(200);
    world
        .admin(Method::PATCH, "/events/e/queue", Some(json!({ "admit_per_minute": -7 })))
        .await
        .expect_problem(400, "INVALID_REQUEST");
    world.admin(Method::POST, "/sync-inventory", None).await.expect(200);
    world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    world.admin(Method::DELETE, "/events/e", None).await.expect(200);
    let log = world.admin(Method::GET, "/audit", None).await;
    let log_json = log.expect(200);
    let done: Vec<_> =
        log_json["data"].as_array().expect("rows").iter().map(|row| row["action"].as_str().unwrap_or("")).collect();
    assert_eq!(done, ["event.remove", "queue.reset", "inventory.sync", "queue.patch", "event.create"], "newest first");
    assert_eq!((&log_json["data"][3]["detail"]["admit_per_minute"], &log_json["total"]), (&json!(7), &json!(5)));
    assert!(log_json["data"][0]["actor"].as_str().is_some_and(|actor| actor.starts_with("admin@127.0.0.1")));
    assert!(!log.text.contains(ADMIN_TOKEN));
    assert_eq!(
        world.admin(Method::GET, "/audit?page=2&page_size=2", None).await.expect(200)["data"].as_array().map(Vec::len),
        Some(2)
    );
    for query in ["page=0", "page_size=101", "page=x", "page=-1"] {
        world.admin(Method::GET, &format!("/audit?{query}"), None).await.expect_problem(400, "INVALID_REQUEST");
    }
}

/// Takes every key of the world from Redis.
async fn empty_redis(world: &World) {
    let prefix = world.settings.redis.as_ref().map(|redis| redis.prefix.clone()).expect("a world on Redis");
    let script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end";
    redis::shared().command::<()>(&["EVAL", script, "0", &format!("{prefix}:*")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_reports_what_was_missing() {
    let world = World::start(Setup::Scaled(2)).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000 })).await;
    let (_, pass) = world.admitted(0, "e").await;
    world.reserve(1, "e", &pass, "k", 2).await.expect(201);
    let nothing = world.admin(Method::POST, "/sync-inventory", None).await.expect(200);
    assert_eq!(nothing, json!({ "zones": 1, "changed": [] }));
    // The release rebuilds by itself within a second: now and then it is there first.
    for _ in 0..20 {
        empty_redis(&world).await;
        let report = world.admin(Method::POST, "/sync-inventory", None).await.expect(200);
        assert_eq!(world.available(1, "e").await, 8, "rebuilt, by whomever");
        if report["changed"]
            == json!([{ "event_id": "e", "show_id": "s1", "zone_id": "z1", "before": null, "after": 8 }])
        {
            // The pass stays used, and the line goes on.
            world.reserve(0, "e", &pass, "k2", 2).await.expect_problem(403, "QUEUE_PASS_USED");
            world.admitted(1, "e").await;
            return;
        }
        assert_eq!(report["changed"], json!([]));
    }
    panic!("no rebuild reported anything");
}
