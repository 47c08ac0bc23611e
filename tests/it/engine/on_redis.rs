//! What only the engine on Redis has: a store that can be away, empty, wrong or full, and a clock of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use usher::domain::{Clock, EventId, QueuePolicy, QueueState, Timestamp, VisitorId};
use usher::engine::redis::{ClockSource, RedisEngine, RedisSettings, UnfitStore, keys};
use usher::engine::{Claimed, Engine, EngineError, Joined, Left};

use super::rig::{Rig, at, claim, in_state, policy, rules, settings};
use crate::support::process::free_port;
use crate::support::redis::RedisServer;

/// An engine on a server of its own, by the caller's clock.
fn alone(options: &[&str]) -> (RedisServer, RedisEngine) {
    let server = RedisServer::start(options);
    let engine = engine_on(server.port());
    (server, engine)
}

fn engine_on(port: u16) -> RedisEngine {
    let url = format!("redis://127.0.0.1:{port}/");
    RedisEngine::new(&RedisSettings { url, prefix: "usher".into(), ..settings(ClockSource::Caller) })
        .expect("an engine")
}

fn event() -> EventId {
    EventId::parse("e1").expect("an id")
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_at_once_and_shows_no_password() {
    let url = format!("redis://usher:sesame@127.0.0.1:{}/", free_port());
    let settings = RedisSettings::new(url);
    let engine = RedisEngine::new(&settings).expect("it need not be up yet");
    let started = Instant::now();
    let error = engine.counters(&event(), at(0.0)).await.expect_err("nobody listens");
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(matches!(error, EngineError::Unavailable(_)));
    assert!(matches!(engine.ping().await, Err(EngineError::Unavailable(_))));
    assert!(matches!(engine.check_store(false).await, Err(UnfitStore::Unavailable(_))));
    let unreadable = RedisEngine::new(&RedisSettings::new("redis://usher:sesame@:not a port/")).expect_err("no URL");
    for text in [error.to_string(), unreadable.to_string(), format!("{engine:?} {settings:?} {unreadable:?}")] {
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[tokio::test]
async fn a_prefix_that_would_break_the_hash_tag_is_refused() {
    for prefix in ["", "a{b", "a b", "a:b"] {
        let settings = RedisSettings { prefix: prefix.into(), ..RedisSettings::new("redis://127.0.0.1/") };
        assert!(RedisEngine::new(&settings).is_err(), "{prefix:?}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_on() {
    let server = RedisServer::start(&[]);
    let response_timeout = Duration::from_millis(200);
    let settings = RedisSettings { response_timeout, pool_size: 1, ..RedisSettings::new(server.url()) };
    let engine = RedisEngine::new(&settings).expect("an engine");
    engine.ping().await.expect("it answers");
    let _: String = server.command(&["CLIENT", "PAUSE", "600", "ALL"]).await;
    let started = Instant::now();
    assert!(matches!(engine.counters(&event(), at(0.0)).await, Err(EngineError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_millis(550), "{:?}", started.elapsed());
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(matches!(engine.counters(&event(), at(0.0)).await, Err(EngineError::UnknownEvent)), "it answers again");
}

#[tokio::test]
async fn an_emptied_store_knows_no_event_until_it_is_put_again() {
    let (server, engine) = alone(&[]);
    let rig = Rig { event: event(), ..Rig::of(Arc::new(engine)) };
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    let _: String = server.command(&["FLUSHALL"]).await;
    let _: String = server.command(&["SCRIPT", "FLUSH"]).await;
    assert!(matches!(rig.engine.release(&rig.event, None, at(1.0)).await, Err(EngineError::UnknownEvent)));

    rig.rules(1, policy(), 1.0).await;
    rig.grant(2_000, 3_000).await;
    rig.zone(1, 10, 0, 1).await;
    assert_eq!(rig.joined(2, 1.0).await.number, 2_000);
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 1.0).await, Claimed::Held, "a pass outlives the store");
}

#[tokio::test]
async fn a_store_that_was_away_is_used_again() {
    let (mut server, engine) = alone(&[]);
    let port = server.port();
    for used_meanwhile in [true, false] {
        let pings = (0..4).map(|_| engine.ping()); // on as many connections
        assert!(futures_util::future::join_all(pings).await.iter().all(Result::is_ok));
        drop(server);
        if used_meanwhile {
            for _ in 0..3 {
                assert!(matches!(engine.ping().await, Err(EngineError::Unavailable(_))));
            }
        }
        server = RedisServer::start_on(port, &[]);
        // A heartbeat may have noticed: then calls go through again when the next one is answered.
        let back = async {
            while engine.is_away() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), back).await.expect("it is noticed that the store is back");
        let mut failed = 0;
        for _ in 0..8 {
            failed += u32::from(engine.ping().await.is_err());
        }
        assert!(failed <= u32::from(!used_meanwhile), "{failed} calls failed after the restart");
    }
    assert!(matches!(engine.counters(&event(), at(0.0)).await, Err(EngineError::UnknownEvent)));
}

#[tokio::test]
async fn the_stores_clock_counts_where_it_should() {
    let engine = RedisEngine::new(&settings(ClockSource::Store)).expect("an engine");
    let rig = Rig::of(Arc::new(engine));
    let wrong = -1_000_000.0; // a caller whose clock is off by days
    rig.rules(1, QueuePolicy { admit_per_minute: 60_000_000, ..policy() }, wrong).await;
    rig.grant(1, 100).await;
    let now = usher::domain::time::SystemClock.now();
    let Joined::New(place) = rig.join(1, wrong).await else { panic!("no new place") };
    assert!(now.since(place.joined_at).max(place.joined_at.since(now)) < Duration::from_mins(1));
    tokio::time::sleep(Duration::from_millis(2)).await;
    let released = rig.release(wrong).await;
    assert_eq!(released.admitted, 1);
    let pass = rig.pass(1, wrong).await;
    assert_eq!(pass.admitted_at, released.counters.at);
    assert_eq!(pass.expires_at, pass.admitted_at.plus(Duration::from_mins(1)));
    rig.zone(1, 10, 0, 1).await;
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), wrong).await, Claimed::Held);
    let far = Timestamp::from_seconds(9_000_000_000);
    assert!(rig.engine.stale_holds(&rig.event, far).await.expect("holds").is_empty());
}

#[tokio::test]
async fn the_keys_on_the_server_are_those_of_the_table() {
    let (server, engine) = alone(&[]);
    let rig = Rig { event: event(), ..Rig::of(Arc::new(engine)) };
    rig.open(QueuePolicy { presence_seconds: 10, ..policy() }).await;
    rig.zone(1, 10, 0, 1).await;
    rig.observe(usher::engine::LedgerNews { buyers: vec![super::rig::buyer(1, 0, 1)], ..Default::default() }).await;
    let pass = rig.admit(1, 0.0).await;
    rig.claim(claim(1, 1, Some(pass), 1), 1.0).await;
    let back = rig.admit(2, 1.0).await;
    rig.leave(2, back.number, 2.0).await;
    rig.joined(3, 2.0).await;
    super::presence::watch(&rig, &[9], 2, 24).await;
    assert_eq!(rig.release(25.0).await.parked, 1);
    rig.joined(4, 25.0).await;

    let mut found = BTreeMap::new();
    for key in server.command::<Vec<String>>(&["KEYS", "*"]).await {
        let kind: String = server.command(&["TYPE", &key]).await;
        found.insert(key, kind);
    }
    let table = keys::ALL.iter().map(|key| (key.of("usher", &event()), key.kind.to_owned())).collect();
    assert_eq!(found, table);
    assert!(found.keys().all(|key| key.starts_with("usher:2:{e1}:")));

    rig.engine.remove(&rig.event).await.expect("removed");
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_visitor_costs_at_most_160_bytes() {
    async fn used(server: &RedisServer) -> u64 {
        let info: String = server.command(&["INFO", "memory"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
        line.trim().parse().expect("a number")
    }
    const VISITORS: u64 = 10_000;
    let (server, engine) = alone(&[]);
    engine.put_rules(&event(), &rules(1, policy()), at(0.0)).await.expect("rules");
    engine
        .grant_numbers(&event(), usher::engine::NumberBlock { start: 1, end: 1_000_000 }, Duration::ZERO, at(0.0))
        .await
        .expect("grant");
    let id = |n: u64| VisitorId::parse(&format!("b0000000-0000-0001-0001-{n:012}")).expect("an id");
    engine.join(&event(), &[id(VISITORS)], at(0.0)).await.expect("join"); // loads the script
    let before = used(&server).await;
    let visitors: Vec<_> = (0..VISITORS).map(id).collect();
    for (second, batch) in visitors.chunks(500).enumerate() {
        engine.join(&event(), batch, at(second as f64)).await.expect("join");
    }
    let each = (used(&server).await - before) / VISITORS;
    println!("{each} bytes a waiting visitor");
    assert!(each <= 160, "{each} bytes a waiting visitor");
}

#[tokio::test]
async fn a_release_of_a_hundred_blocks_the_store_for_a_millisecond_at_most() {
    let (server, engine) = alone(&[]);
    let rig = Rig { event: event(), ..Rig::of(Arc::new(engine)) };
    rig.open(QueuePolicy { admit_per_minute: 60_000_000, max_active: 1_000_000, ..policy() }).await;
    rig.join_all(0..12_000, 0.0).await;
    // The second round sweeps a hundred passes that ran out in each call as well, the third forgets a hundred on top: the
    // most that a call can do.
    for (start, most) in [(1.0, 1_000), (62.0, 2_000), (3_800.0, 2_000)] {
        let mut micros = Vec::new();
        for _ in 0..40 {
            let _: String = server.command(&["CONFIG", "RESETSTAT"]).await;
            assert_eq!(rig.release(start).await.admitted, 100);
            let info: String = server.command(&["INFO", "commandstats"]).await;
            let spent = |name: &str| -> u64 {
                let line = info.lines().find(|line| line.starts_with(name));
                let usec = line.and_then(|line| line.split("usec=").nth(1)).and_then(|rest| rest.split(',').next());
                usec.and_then(|usec| usec.parse().ok()).unwrap_or(0)
            };
            micros.push(spent("cmdstat_evalsha:").max(spent("cmdstat_eval:")));
        }
        micros.sort_unstable();
        let (fastest, median) = (micros[0], micros[micros.len() / 2]);
        println!("a release of 100 blocks for {fastest} µs, {median} µs in the median");
        // The fastest one: what the script itself takes, whatever else this machine does meanwhile.
        assert!((1..=most).contains(&fastest), "{fastest} µs");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_takes_every_script() {
    let bus = free_port().to_string();
    let (server, engine) = alone(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let _: String = server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.command::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the cluster does not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // All keys of a call lie in one slot, or the node would refuse it.
    let rig = Rig { event: event(), ..Rig::of(Arc::new(engine)) };
    rig.open(policy()).await;
    rig.zone(1, 10, 0, 1).await;
    let pass = rig.admit(1, 0.0).await;
    assert_eq!(rig.claim(claim(1, 1, Some(pass), 1), 1.0).await, Claimed::Held);
    rig.undo(1).await;
    rig.leave(1, pass.number, 1.0).await;
    assert_eq!(rig.counters(1.0).await.active, 0);
    assert_eq!(rig.available(1).await, 10);
    assert!(rig.engine.stale_holds(&rig.event, at(99.0)).await.expect("holds").is_empty());
    rig.engine.retain_zones(&rig.event, &[]).await.expect("retain");
    let floor = usher::engine::EventRules { number_floor: 9, ..rules(2, policy()) };
    rig.engine.put_rules(&rig.event, &floor, at(2.0)).await.expect("rules");
    rig.engine.remove(&rig.event).await.expect("removed");
}

#[tokio::test]
async fn an_evicting_store_is_refused_unless_allowed() {
    let (_server, engine) = alone(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refusal = engine.check_store(false).await.expect_err("it may evict the line");
    assert!(matches!(&refusal, UnfitStore::Eviction(policy) if policy == "allkeys-lru"), "{refusal}");
    let warnings = engine.check_store(true).await.expect("allowed");
    assert!(warnings.len() == 1 && warnings[0].contains("allkeys-lru"), "{warnings:?}");
}

#[tokio::test]
async fn a_fit_store_is_taken_and_a_full_one_warned_about() {
    let (server, engine) = alone(&["--maxmemory-policy", "noeviction"]);
    assert_eq!(engine.check_store(false).await.expect("fit"), Vec::<String>::new());
    let _: String = server.command(&["CONFIG", "SET", "maxmemory", "1200000"]).await;
    let warnings = engine.check_store(false).await.expect("fit");
    assert!(warnings.len() == 1 && warnings[0].contains("70 %"), "{warnings:?}");
}

#[tokio::test]
async fn a_store_without_memory_refuses_what_grows_and_stays_whole() {
    let (server, engine) = alone(&["--maxmemory-policy", "noeviction"]);
    let rig = Rig { event: event(), ..Rig::of(Arc::new(engine)) };
    rig.open(policy()).await;
    let admitted = rig.admit(1, 0.0).await;
    let places = [rig.joined(2, 1.0).await, rig.joined(3, 1.0).await];
    rig.engine.ping().await.expect("well");
    let _: String = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (event, late) = (&rig.event, VisitorId::parse("late").expect("an id"));
    let full = |error: Option<EngineError>| {
        assert!(matches!(&error, Some(EngineError::Unavailable(text)) if text.contains("OOM")), "{error:?}");
    };
    full(rig.engine.join(event, &[late], at(1.0)).await.err());
    full(rig.engine.release(event, None, at(2.0)).await.err());
    full(rig.engine.ping().await.err());
    assert!(!rig.engine.is_away(), "it answers");

    // Who is there is told so, what frees goes on, and so do operators.
    assert_eq!(rig.join(2, 2.0).await, Joined::Already(places[0]));
    assert_eq!(rig.pass(1, 2.0).await, admitted);
    assert_eq!(rig.leave(3, places[1].number, 2.0).await, Left::Line);
    assert_eq!(rig.leave(1, admitted.number, 2.0).await, Left::Pass);
    rig.zone(1, 10, 3, 1).await;
    assert_eq!(rig.available(1).await, 7);
    rig.rules(2, in_state(QueueState::Paused), 2.0).await;
    let counters = rig.counters(2.0).await;
    assert_eq!((counters.state, counters.waiting, counters.active), (QueueState::Paused, 1, 0));
    assert_eq!((counters.numbers.left, counters.admitted), (999_997, 1));

    let _: String = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    rig.rules(3, policy(), 3.0).await;
    assert_eq!(rig.release(4.0).await.admitted, 1);
}
