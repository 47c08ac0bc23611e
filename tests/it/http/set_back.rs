//! A ledger that was set back to an older state than the line: what operators say is in force or refused, and numbers that are
//! out are not handed out again.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use usher::catalogue::Catalogue;
use usher::domain::{EventId, PolicyPatch, QueueState, Timestamp};
use usher::engine::Engine;
use usher::engine::memory::MemoryEngine;
use usher::ledger::Actor;

use crate::ledger::{spec, sqlite};
use crate::support::redis::RedisServer;
use crate::support::usher::{Instance, Setup, World};

/// The tables that say which versions and which numbers there are.
const TABLES: [&str; 2] = ["catalogue_version", "events"];
/// Numbers come from the ledger in blocks of so many.
const BLOCK: u64 = 1_000_000;

/// A world with a paused event, whose ledger can be set back; scaled out on a Redis of its own.
struct Rig {
    world: World,
    redis: Option<RedisServer>,
}

impl Rig {
    async fn start(setup: Setup) -> Self {
        let rig = if setup == Setup::Embedded {
            Self { world: World::start(setup).await, redis: None }
        } else {
            let redis = tokio::task::spawn_blocking(|| RedisServer::start(&[])).await.expect("Redis starts");
            let world = World::start_with(setup, &[("redis_url", &redis.url())]).await;
            Self { world, redis: Some(redis) }
        };
        rig.world.put_event("e", 10, json!({ "state": "paused" })).await;
        rig
    }

    async fn stop(&mut self) {
        for instance in &mut self.world.instances {
            instance.stop().await;
        }
        while self.redis.is_none() && is_open(&self.world.dir().join("data/ledger.db")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn go_on(&mut self) {
        for instance in &mut self.world.instances {
            *instance = Instance::start(&self.world.settings).await;
        }
    }

    async fn empty_redis(&self) {
        if let Some(redis) = &self.redis {
            redis.command::<()>(&["FLUSHALL"]).await;
        }
    }

    /// Stops every instance, empties Redis, and starts them again: with the next block of numbers.
    async fn lose_the_line(&mut self) {
        self.stop().await;
        self.empty_redis().await;
        self.go_on().await;
    }

    async fn database(&self) -> PgConnection {
        let database = self.world.settings.database.as_ref().expect("Postgres");
        PgConnection::connect(database.url.expose()).await.expect("Postgres answers")
    }

    /// Keeps the ledger as it is; the embedded one has to be stopped.
    async fn keep(&self) {
        if self.redis.is_none() {
            return copy(&self.world.dir().join("data"), &self.world.dir().join("kept"));
        }
        let mut database = self.database().await;
        for table in TABLES {
            let sql = format!("DROP TABLE IF EXISTS kept_{table}; CREATE TABLE kept_{table} AS SELECT * FROM {table}");
            database.execute(AssertSqlSafe(sql)).await.expect("kept");
        }
    }

    /// Sets the ledger back to what was kept; the embedded one has to be stopped.
    async fn set_back(&self) {
        if self.redis.is_none() {
            return copy(&self.world.dir().join("kept"), &self.world.dir().join("data"));
        }
        let sql = "BEGIN; UPDATE catalogue_version SET version = k.version FROM kept_catalogue_version k; \
            UPDATE events SET version = k.version, policy = k.policy, number_next = k.number_next, \
            number_floor = k.number_floor FROM kept_events k WHERE k.id = events.id; COMMIT";
        self.database().await.execute(sql).await.expect("set back");
    }

    async fn patch(&self, state: &str) {
        self.world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": state }))).await.expect(200);
    }

    /// The state in force, by the store.
    async fn state(&self) -> String {
        let seen = self.world.admin(Method::GET, "/events/e", None).await.expect(200);
        seen["live"]["state"].as_str().expect("a state").to_owned()
    }

    /// So many visitors join: each one's ticket and its number. The first may be told to come again.
    async fn joined(&self, count: usize) -> Vec<(String, u64)> {
        let mut joined = Vec::new();
        for _ in 0..200 {
            if joined.len() == count {
                return joined;
            }
            let reply = self.world.join(joined.len(), "e").await;
            if reply.status == 503 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let ticket = reply.expect(201)["token"].as_str().expect("a ticket").to_owned();
            let bytes = URL_SAFE_NO_PAD.decode(&ticket).expect("base64url");
            joined.push((ticket, u64::from_be_bytes(bytes[1..9].try_into().expect("a number"))));
        }
        panic!("nobody can join");
    }

    /// A column of the event in the ledger.
    async fn ledger(&self, column: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT {column} FROM events WHERE id = 'e'"));
        self.database().await.fetch_one(sql).await.expect("the event").get(0)
    }
}

/// Whether this process still has the file open: SQLite tidies up behind it when it closes it.
fn is_open(file: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").expect("a process");
    open.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == file))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() && !name.ends_with("-shm") {
            std::fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_in_force_though_the_ledger_was_set_back_under_running_instances() {
    let rig = Rig::start(Setup::Scaled(2)).await;
    rig.keep().await;
    for state in ["open", "paused", "open"] {
        rig.patch(state).await;
    }
    rig.set_back().await;
    rig.patch("closed").await;
    assert_eq!(rig.state().await, "closed", "answered, and in force");
    rig.world.join(1, "e").await.expect_problem(409, "QUEUE_NOT_OPEN");
    rig.world.eventually(1, "/queue/status/e", |reply| reply.json()["state"] == "closed").await;
    rig.patch("open").await;
    assert_eq!(rig.state().await, "open");
}

/// As after a failover to a standby that was one commit behind: the version of the lost change is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_the_version_of_a_lost_one_is_in_force() {
    let rig = Rig::start(Setup::Scaled(2)).await;
    // At once, so that now and then nobody has noticed yet.
    for _ in 0..10 {
        rig.patch("paused").await;
        rig.keep().await;
        rig.patch("open").await;
        rig.set_back().await;
        rig.patch("closed").await;
        assert_eq!(rig.state().await, "closed", "answered, and in force");
        for at in 0..2 {
            rig.world.eventually(at, "/queue/status/e", |reply| reply.json()["state"] == "closed").await;
        }
    }
}

/// Also an event that only the newer ledger had is not there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_of_a_ledger_that_was_set_back_is_in_force_without_any_change() {
    let mut rig = Rig::start(Setup::Scaled(2)).await;
    rig.keep().await;
    rig.patch("open").await;
    rig.world.put_event("later", 10, json!({})).await;
    rig.set_back().await;
    let gone = "DELETE FROM zones WHERE event_id = 'later'; DELETE FROM shows WHERE event_id = 'later'; \
        DELETE FROM events WHERE id = 'later'";
    rig.database().await.execute(gone).await.expect("gone");
    for at in 0..2 {
        rig.world.eventually(at, "/queue/status/e", |reply| reply.json()["state"] == "paused").await;
        rig.world.eventually(at, "/queue/status/later", |reply| reply.status == 404).await;
    }
    assert_eq!(rig.state().await, "paused");

    // The same at a start, where nothing is known of what was read before.
    rig.patch("open").await;
    rig.patch("closed").await;
    rig.stop().await;
    rig.set_back().await;
    rig.go_on().await;
    assert_eq!(rig.state().await, "paused");
    rig.patch("open").await;
    assert_eq!(rig.state().await, "open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_voids_what_is_out_though_the_ledger_forgot_an_earlier_one() {
    let mut rig = Rig::start(Setup::Scaled(2)).await;
    rig.keep().await;
    rig.world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    let joined = rig.joined(3).await;
    assert!(joined.iter().all(|(_, number)| *number > BLOCK));
    let floor = rig.ledger("number_floor").await;
    rig.stop().await;
    rig.set_back().await;
    assert!(rig.ledger("number_floor").await < floor);
    rig.go_on().await;
    assert_eq!(rig.ledger("number_floor").await, floor, "the store knew of it");
    rig.world.position(1, "e", &joined[0].0).await.expect(200);

    rig.world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    for (at, (ticket, _)) in joined.iter().enumerate() {
        rig.world.eventually(at, "/queue/status/e", |reply| reply.json()["total_in_queue"] == 0).await;
        rig.world.position(at, "e", ticket).await.expect_problem(404, "NOT_IN_QUEUE");
    }
    assert!(rig.joined(1).await[0].1 > 2 * BLOCK);
}

/// Also where nobody stops: the instance knows what the store would not be asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stands_that_the_ledger_forgot_under_a_running_instance() {
    let rig = Rig::start(Setup::Scaled(1)).await;
    rig.keep().await;
    rig.world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    let floor = rig.ledger("number_floor").await;
    rig.set_back().await;
    assert!(rig.ledger("number_floor").await < floor);
    rig.patch("paused").await;
    assert_eq!(rig.ledger("number_floor").await, floor);
}

/// At once, before anything else told the ledger which numbers are out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_voids_passes_whose_numbers_the_ledger_forgot() {
    let mut rig = Rig::start(Setup::Scaled(1)).await;
    rig.patch("open").await;
    rig.keep().await;
    rig.lose_the_line().await;
    let (_, pass) = rig.world.admitted(0, "e").await;
    rig.set_back().await;
    rig.world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    rig.world.reserve(0, "e", &pass, "k", 1).await.expect_problem(403, "INVALID_QUEUE_PASS");
}

/// The store knows which numbers are out, and tells a ledger that was set back before it is lost itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_set_back_learns_the_numbers_from_the_store() {
    let mut rig = Rig::start(Setup::Scaled(2)).await;
    rig.keep().await;
    rig.lose_the_line().await;
    let before = rig.joined(5).await;
    assert!(before.iter().all(|(_, number)| *number > BLOCK), "numbers of a block that the ledger is going to forget");
    rig.set_back().await;
    rig.patch("paused").await;
    rig.lose_the_line().await;
    all_differ(&before, &rig.joined(5).await);
}

/// With the store lost as well, the first ticket that shows a number above all that the ledger remembers is enough.
async fn numbers_are_learned_from_a_ticket(setup: Setup) {
    let mut rig = Rig::start(setup).await;
    rig.stop().await;
    rig.keep().await;
    rig.go_on().await;
    for _ in 0..3 {
        rig.lose_the_line().await;
    }
    let before = rig.joined(5).await;
    rig.stop().await;
    rig.set_back().await;
    rig.empty_redis().await;
    rig.go_on().await;

    rig.world.position(0, "e", &before[2].0).await.expect(200);
    let after = rig.joined(5).await;
    assert!(before[0].1 > 3 * BLOCK && before[4].1 < after[0].1, "behind all who were there: {before:?} {after:?}");
    for (ticket, _) in &before {
        rig.world.position(0, "e", ticket).await.expect(200);
    }
    all_differ(&before, &after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_learned_from_a_ticket_on_postgres() {
    numbers_are_learned_from_a_ticket(Setup::Scaled(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_learned_from_a_ticket_embedded() {
    numbers_are_learned_from_a_ticket(Setup::Embedded).await;
}

fn all_differ(before: &[(String, u64)], after: &[(String, u64)]) {
    let mut seen = HashSet::new();
    for (_, number) in before.iter().chain(after) {
        assert!(seen.insert(number), "{number} was handed out twice: {before:?} {after:?}");
    }
}

/// An instance that read an event before another one's change puts an old version in force: that is no older ledger.
#[tokio::test]
async fn an_instance_that_is_late_is_no_ledger_that_was_set_back() {
    let (ledger, _scratch) = sqlite::fresh().await;
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let now = Timestamp::from_seconds(1_800_000_000);
    let catalogue = Catalogue::new(Arc::clone(&ledger), Arc::clone(&engine), Duration::ZERO);
    let (id, actor) = (EventId::parse("e").expect("an id"), Actor("tester".to_owned()));
    let (early, _) = ledger.put_event(&id, &spec(&[("z", 1)]), &actor, now).await.expect("put");
    let patch = PolicyPatch { state: Some(QueueState::Paused), ..PolicyPatch::default() };
    let late = ledger.patch_policy(&id, &patch, &actor, now).await.expect("patch");
    catalogue.refresh(now).await.expect("in force");

    catalogue.put_in_force(&early, now).await.expect("no harm");
    let there = ledger.events_since(0).await.expect("events");
    assert_eq!(there, [late], "the ledger was not touched");
    let counters = engine.counters(&id, now).await.expect("counters");
    assert_eq!((counters.version, counters.state), (there[0].version, QueueState::Paused));
}
