//! A master that dies, with Sentinels who choose another one; and a master that becomes a replica under its callers.

use std::time::{Duration, Instant};

use reqwest::Method;
use usher::engine::EngineError;
use usher::engine::redis::{ClockSource, RedisEngine, RedisSettings};

use super::rig::Rig;
use crate::engine::rig::{Rig as EngineRig, at, policy, settings};
use crate::support::process::{Guarded, free_port};
use crate::support::redis::RedisServer;
use crate::support::scratch::Scratch;

/// Sentinels see a master as down after this long.
const DOWN_AFTER_MS: u32 = 500;
/// Down, an election, a promotion, and the service follows: some two to four seconds, with room for a slow machine.
const BACK: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(30);

/// Asks again until it is so.
async fn until(what: &str, limit: Duration, mut so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(limit, wait).await.is_ok(), "{what}: not within {limit:?}");
}

/// A master, two replicas and three Sentinels.
struct Sentinels {
    servers: Vec<RedisServer>,
    ports: Vec<u16>,
    _processes: Vec<Guarded>,
    _scratch: Scratch,
}

impl Sentinels {
    async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let mut servers = vec![RedisServer::start(&["--repl-diskless-sync-delay", "0"])];
            let master = servers[0].port().to_string();
            for _ in 0..2 {
                servers.push(RedisServer::start(&["--replicaof", "127.0.0.1", &master]));
            }
            let scratch = Scratch::new("sentinels");
            let (mut ports, mut sentinels) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let port = free_port();
                let dir = scratch.path().join(port.to_string());
                std::fs::create_dir(&dir).expect("a directory");
                let conf = dir.join("sentinel.conf");
                let text = format!(
                    "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor line 127.0.0.1 {master} 2\n\
                     sentinel down-after-milliseconds line {DOWN_AFTER_MS}\nsentinel failover-timeout line 5000\n",
                    dir.display()
                );
                std::fs::write(&conf, text).expect("a file");
                let args = [conf.to_str().expect("a path"), "--sentinel"];
                sentinels.push(Guarded::start("redis-server", &args, "TERM", &dir.join("log")));
                ports.push(port);
            }
            Self { servers, ports, _processes: sentinels, _scratch: scratch }
        });
        let all = started.await.expect("no panic");
        for port in &all.ports {
            until("the Sentinels know of each other and of the replicas", SOON, async || {
                let known = async {
                    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).ok()?;
                    let mut sentinel = client.get_multiplexed_async_connection().await.ok()?;
                    let mut count = async |what: &str| {
                        let asked = redis::cmd("SENTINEL").arg(what).arg("line").query_async(&mut sentinel).await;
                        asked.ok().map(|each: Vec<redis::Value>| each.len())
                    };
                    Some((count("SENTINELS").await?, count("REPLICAS").await?))
                };
                known.await == Some((2, 2))
            })
            .await;
        }
        all
    }

    fn urls(&self) -> String {
        self.ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Waits until the replicas have all that the master has.
    async fn in_step(&self) {
        let offset = async |server: &RedisServer, name: &str| -> u64 {
            let told: String = server.command(&["INFO", "replication"]).await;
            let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let master = offset(&self.servers[0], "master_repl_offset").await;
        for replica in &self.servers[1..] {
            until("the replicas follow", SOON, async || offset(replica, "slave_repl_offset").await >= master).await;
        }
    }
}

async fn admitted(rig: &Rig) -> u64 {
    let live = rig.ask("event", rig.admin(Method::GET, "/events/e")).await.reply;
    live.expect(200)["live"]["admitted_total"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_replaced() {
    let sentinels = Sentinels::start().await;
    let urls = sentinels.urls();
    let mode =
        [("USHER_REDIS_URL", urls.as_str()), ("USHER_REDIS_MODE", "sentinel"), ("USHER_REDIS_SENTINEL_MASTER", "line")];
    let rig = Rig::start(&mode).await;
    // Two a second.
    rig.put_event("e", 120).await;
    let mut tickets = Vec::new();
    for _ in 0..60 {
        tickets.push(rig.ticket("e").await);
    }
    sentinels.in_step().await;

    let before = admitted(&rig).await;
    sentinels.servers[0].kill().await;
    let killed = Instant::now();
    let mut slowest = Duration::ZERO;
    until("joins work again", BACK, async || {
        let joined = rig.join("e").await;
        joined.check();
        slowest = slowest.max(joined.took);
        joined.reply.status == 201
    })
    .await;
    let back = killed.elapsed();
    until("the service is ready", BACK, async || rig.plain("/ready").await.reply.status == 200).await;

    // The line moves on, at its rate and no faster, over the failover too.
    let then = admitted(&rig).await;
    until("somebody is let in", BACK, async || admitted(&rig).await >= then + 4).await;
    let (let_in, seconds) = (admitted(&rig).await - before, killed.elapsed().as_secs_f64());
    println!(
        "a killed master: joins work again after {back:?}, slowest answer {slowest:?}; {let_in} let in in {seconds:.1} s"
    );
    assert!(let_in as f64 <= 2.0 * seconds + 2.0 + 1.0, "{let_in} let in in {seconds} s");

    // Nobody lost their place, and nobody was overtaken.
    rig.pause("e").await;
    let mut last = 0;
    for ticket in &tickets {
        let view = rig.position("e", ticket).await.reply.expect(200);
        let position = view["position"].as_u64().expect("a position");
        if view["state"] == "waiting" {
            assert_eq!(position, last + 1, "{view}");
        } else {
            assert_eq!(last, 0, "somebody was overtaken: {view}");
        }
        last = position;
    }
    assert!(last > 0, "all are in: nothing was seen of the line");
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_and_used_again_when_it_is_master() {
    let (server, other) =
        tokio::task::spawn_blocking(|| (RedisServer::start(&[]), RedisServer::start(&[]))).await.expect("Redis starts");
    let engine = RedisEngine::new(&RedisSettings { url: server.url(), ..settings(ClockSource::Caller) });
    let rig = EngineRig::of(std::sync::Arc::new(engine.expect("an engine")));
    rig.open(policy()).await;
    rig.joined(1, 0.0).await;
    let other = other.port().to_string();
    let _: String = server.command(&["REPLICAOF", "127.0.0.1", &other]).await;
    // The first is answered READONLY, the next find that the address leads to a replica; then they are refused at once.
    for _ in 0..8 {
        let release = rig.engine.release(&rig.event, None, at(1.0)).await;
        assert!(matches!(release, Err(EngineError::Unavailable(_))), "{release:?}");
    }
    // The replica answers a PING, which is not enough.
    let looked = Instant::now();
    while looked.elapsed() < Duration::from_secs(1) {
        assert!(rig.engine.is_away(), "after {:?}", looked.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _: String = server.command(&["REPLICAOF", "NO", "ONE"]).await;
    until("it is used again", SOON, async || {
        !matches!(rig.engine.counters(&rig.event, at(1.0)).await, Err(EngineError::Unavailable(_)))
    })
    .await;
}
