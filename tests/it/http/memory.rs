//! Positions are answered from memory: no store is asked, and what is told is never old.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::redis::RedisServer;
use crate::support::usher::{Setup, World, user_token};

struct Store {
    server: RedisServer,
    world: World,
}

impl Store {
    /// One instance on a Redis of its own, and a paused event that asks for presence: that costs no write a poll either.
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| RedisServer::start(&[])).await.expect("Redis starts");
        let url = server.url();
        let more = [("redis_url", url.as_str()), ("redis_timeout_ms", "300")];
        let world = World::start_with(Setup::Scaled(1), &more).await;
        world.put_event("e", 10, json!({ "state": "paused", "presence_seconds": 60 })).await;
        Self { server, world }
    }

    /// How many scripts were run.
    async fn scripts(&self) -> u64 {
        let told: String = self.server.command(&["INFO", "commandstats"]).await;
        let calls = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
        calls.and_then(|text| text.parse().ok()).expect("a number")
    }

    async fn number(&self, section: &str, name: &str) -> u64 {
        let told: String = self.server.command(&["INFO", section]).await;
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|text| text.trim().parse().ok()).expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_polls_ask_the_store_nothing() {
    let store = Store::start().await;
    let world = &store.world;
    let ticket = world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    world.join_as(0, "e", "anna").await.expect(201);
    // Until the line is followed and the visitor without a ticket was looked up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let as_anna = || world.send(world.request(0, Method::GET, "/queue/position/e").bearer_auth(user_token("anna")));
    assert_eq!(as_anna().await.expect(200)["position"], 2);
    let before = store.scripts().await;
    for _ in 0..500 {
        assert_eq!(world.position(0, "e", &ticket).await.expect(200)["position"], 1);
        assert_eq!(as_anna().await.expect(200)["position"], 2);
    }
    let asked = store.scripts().await - before;
    assert!(asked < 500, "{asked} scripts (releases, the feed, who was seen) during 1000 polls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_the_line_is_never_old() {
    let store = Store::start().await;
    let world = &store.world;
    let ticket = world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    world.eventually(0, "/queue/status/e", |reply| reply.json()["total_in_queue"] == 1).await;
    let ready = || world.send(world.client.get(world.url(0, "/ready")));
    ready().await.expect(200);
    let process = store.number("server", "process_id").await.to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &process]).status().is_ok_and(|s| s.success()));
    signal("-STOP");
    let stopped = std::time::Instant::now();
    // For a second positions may still be told; from then on the store would have to say, and it does not.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.position(0, "e", &ticket).await.expect_problem(503, "STORE_UNAVAILABLE");
    let told = world.send(world.request(0, Method::GET, "/queue/status/e")).await.expect(200);
    let mut detail = String::new();
    while stopped.elapsed() < Duration::from_secs(10) && !detail.contains("feed") {
        let reply = ready().await;
        reply.expect_problem(503, "STORE_UNAVAILABLE");
        detail = reply.json()["detail"].as_str().expect("text").to_owned();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    signal("-CONT");
    assert!(detail.contains("feed") && stopped.elapsed() > Duration::from_secs(4), "{detail}: {:?}", stopped.elapsed());
    let later = world.send(world.request(0, Method::GET, "/queue/status/e")).await.expect(200);
    assert!(told["updated_at"].as_str() <= later["updated_at"].as_str());
    for _ in 0..100 {
        if ready().await.status == 200 {
            assert_eq!(world.position(0, "e", &ticket).await.expect(200)["position"], 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not ready again within five seconds");
}
