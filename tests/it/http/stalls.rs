//! Stores that fall silent in the middle of a reservation: a 503 means that nothing stays held.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use super::desk::{RUSH, admitted_as};
use crate::support::redis::RedisServer;
use crate::support::usher::{Reply, Setup, World};

/// Well below the time after which any hold is cleared up.
const SOON: Duration = Duration::from_secs(10);

/// Waits until nothing is held and all ten seats are there.
async fn all_free(world: &World) {
    let wanted = json!([0, 0, 10]);
    let mut seen = Value::Null;
    let freed = async {
        loop {
            let reply = world.admin(Method::GET, "/inventory-status", None).await;
            if reply.status == 200 {
                let zone = &reply.json()["zones"][0];
                seen = json!([zone["taken"], zone["held"], zone["available"]]);
            }
            if seen == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let freed = tokio::time::timeout(SOON, freed).await;
    assert!(freed.is_ok(), "taken, held, available: {seen}");
}

/// Reserves as a client does that was told to come again: a store that has just come back may still be slow.
async fn reserved(world: &World, at: usize, pass: &str) -> Reply {
    let again = async {
        loop {
            let reply = world.reserve(at, "e", pass, "k", 4).await;
            if reply.status != 503 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(SOON, again).await.expect("the stores are well again");
    reply.expect(201);
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stalls_keeps_no_seat_and_no_pass() {
    let server = tokio::task::spawn_blocking(|| RedisServer::start(&[])).await.expect("Redis starts");
    let url = server.url();
    // One connection that is seldom busy: what is asked of a store that stands still is sent, and carried out later.
    let calm = [
        ("redis_url", url.as_str()),
        ("redis_timeout_ms", "300"),
        ("redis_pool_size", "1"),
        ("release_interval_ms", "1000"),
    ];
    let world = World::start_with(Setup::Scaled(1), &calm).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH, "max_per_user": 5 })).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    // From here on the server knows the script.
    world.reserve(0, "e", &pass, "k", 6).await.expect_problem(409, "USER_LIMIT_EXCEEDED");
    let told: String = server.command(&["INFO", "server"]).await;
    let id = told.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process").trim();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([&format!("-{name}"), id]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    };
    signal("STOP");
    let refused = world.reserve(0, "e", &pass, "k", 4).await;
    signal("CONT");
    refused.expect_problem(503, "STORE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    all_free(&world).await;
    reserved(&world, 0, &pass).await;
    assert_eq!(world.available(0, "e").await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_stalls_keeps_no_seat_and_no_pass() {
    for table in ["idempotency", "zones", "bookings"] {
        let world = World::start_with(Setup::Scaled(2), &[("database_timeout_ms", "1000")]).await;
        world.put_event("e", 10, json!({ "admit_per_minute": RUSH })).await;
        let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
        let url = world.settings.database.as_ref().expect("a world on Postgres").url.expose().to_owned();
        let mut intruder = PgConnection::connect(&url).await.expect("Postgres answers");
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        intruder.execute(sqlx::AssertSqlSafe(lock)).await.expect("locked");
        world.reserve(0, "e", &pass, "k", 4).await.expect_problem(503, "STORE_UNAVAILABLE");
        intruder.execute("ROLLBACK").await.expect("unlocked");
        all_free(&world).await;
        let first = reserved(&world, 1, &pass).await;
        assert_eq!(reserved(&world, 0, &pass).await.text, first.text, "{table}");
    }
}
