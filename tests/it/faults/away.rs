//! A store that goes away under load, in each way there is: requests are answered within a second, nobody is let in, nothing
//! grows, and all is well again soon after the store is back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::rig::{Rig, Timed, promise};
use super::seconds;
use crate::support::proxy::Fault;

/// After the store is back, everything works within this.
const HEALED: Duration = Duration::from_secs(5);
/// From here on an outage is known of.
const NOTICED: Duration = Duration::from_millis(1_500);
/// Room for operators' writes to the other store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that ask all the time.
const CLIENTS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Redis,
    Postgres,
}

impl Store {
    fn set(self, rig: &Rig, fault: Fault) {
        match self {
            Self::Redis => rig.redis.set(fault),
            Self::Postgres => rig.postgres.set(fault),
        }
    }

    /// As the metrics name it.
    const fn label(self) -> &'static str {
        match self {
            Self::Redis => "queue",
            Self::Postgres => "ledger",
        }
    }

    /// What cannot be answered without it.
    const fn needed_for(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &[
                "join",
                "position of a stranger",
                "stream",
                "leave for good",
                "reserve",
                "availability",
                "admin: events",
                "admin: event",
                "admin: inventory",
                "admin: sync",
                "/ready",
            ],
            Self::Postgres => &[
                "reserve",
                "confirm",
                "cancel",
                "booking",
                "bookings",
                "summary",
                "admin: put",
                "admin: patch",
                "admin: reset",
                "admin: remove",
                "admin: inventory",
                "admin: sync",
                "admin: audit",
                "/ready",
            ],
        }
    }
}

/// Everything that is asked must be answered in time; what needs the store with 503, the rest as ever.
fn check_all(answers: &[Timed], away: Store) {
    for answer in answers {
        let (name, status) = (answer.name.as_str(), answer.reply.status.as_u16());
        let needs_it = away.needed_for().contains(&name);
        // What is work for the other store takes as long as that takes on a busy machine.
        answer.check_within(if needs_it || !name.starts_with("admin") { promise() } else { PATIENCE });
        if needs_it {
            assert_eq!(status, 503, "{name} without {away:?}: {}", answer.reply.text);
        } else if matches!(name, "status" | "events" | "event" | "/health" | "/metrics") {
            assert_eq!(status, 200, "{name} without {away:?}: {}", answer.reply.text);
        }
    }
}

/// Keeps asking for a while; gives how many answers there were and the slowest of each kind.
async fn crowd(rig: &Rig, lasting: Duration, tickets: &[String], pass: &str) -> (usize, Vec<(String, Duration)>) {
    let slowest = Mutex::new(std::collections::BTreeMap::<String, Duration>::new());
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let until = Instant::now() + lasting;
    let client = |n: usize| {
        let (slowest, answers) = (&slowest, &answers);
        async move {
            for round in 0.. {
                if Instant::now() >= until {
                    return;
                }
                let ticket = &tickets[(n + round) % tickets.len()];
                let timed = match (n + round) % 4 {
                    0 => rig.join("e").await,
                    1 => rig.position("e", ticket).await,
                    2 => rig.reserve("rush", pass, &format!("k-{n}-{round}")).await,
                    _ => rig.plain("/api/v1/events/e/availability").await,
                };
                timed.check();
                answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                slowest
                    .lock()
                    .expect("no panic")
                    .entry(timed.name)
                    .and_modify(|most| *most = timed.took.max(*most))
                    .or_insert(timed.took);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    futures_util::future::join_all((0..CLIENTS).map(client)).await;
    (answers.into_inner(), slowest.into_inner().expect("no panic").into_iter().collect())
}

/// A rig with a line that moves once a second and one that lets in at once; tickets of the first, a pass of the second.
async fn rig() -> (Rig, Vec<String>, String) {
    let rig = Rig::start(&[]).await;
    rig.put_event("e", 60).await;
    rig.put_event("rush", 60_000_000).await;
    let joins = (0..40).map(|_| rig.ticket("e"));
    let tickets = futures_util::future::join_all(joins).await;
    let pass = rig.pass("rush").await;
    (rig, tickets, pass)
}

async fn outage(store: Store, fault: Fault, lasting: Duration) {
    let (rig, tickets, pass) = rig().await;
    // All of it works before, and connections are open and statements known.
    let started = Instant::now();
    loop {
        let warm = rig.pass("rush").await;
        let answers = rig.everything("e", &tickets[37], ("rush", &warm)).await;
        let Some(failed) = answers.iter().find(|answer| answer.reply.status.is_server_error()) else { break };
        // A machine that is busy otherwise may be slow at first.
        assert!(started.elapsed() < Duration::from_secs(20), "{}: {}", failed.name, failed.reply.text);
    }

    store.set(&rig, fault);
    let began = Instant::now();
    let admitted = rig.admitted("e").await;
    let first = rig.everything("e", &tickets[39], ("rush", &pass)).await;
    check_all(&first, store);
    let slowest = first.iter().max_by_key(|timed| timed.took).map(|timed| (&timed.name, timed.took));
    println!("{store:?} {fault:?}: the slowest of the first requests {slowest:?}");

    let watch = async {
        tokio::time::sleep(NOTICED.saturating_sub(began.elapsed())).await;
        let (then, size) = (rig.admitted("e").await, rig.size().await);
        while began.elapsed() < lasting {
            for (path, status) in [("/health", 200), ("/ready", 503)] {
                let timed = rig.plain(path).await;
                timed.check();
                assert_eq!(timed.reply.status, status, "{path}: {}", timed.reply.text);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(rig.admitted("e").await, then, "somebody was let in while {store:?} was away");
        (size, rig.size().await)
    };
    let ((answers, slowest), (before, after)) = tokio::join!(crowd(&rig, lasting, &tickets, &pass), watch);
    if store == Store::Redis {
        assert_eq!(rig.admitted("e").await, admitted);
    }
    println!("{store:?} {fault:?}: {answers} answers, slowest {slowest:?}; {before:?}, then {after:?}");
    assert!(after.tasks <= before.tasks + 64 && after.files <= before.files + 64, "{before:?}, then {after:?}");
    assert!(after.calls <= 64, "{after:?}");
    assert!(after.resident_kb <= before.resident_kb + 16 * 1_024, "{before:?}, then {after:?}");
    check_all(&rig.everything("e", &tickets[39], ("rush", &pass)).await, store);
    assert_eq!(rig.metric("usher_circuit_open", store.label()).await, 1);

    store.set(&rig, Fault::None);
    let healed = Instant::now();
    let mut last = String::new();
    let well = async {
        loop {
            let ready = rig.plain("/ready").await.reply;
            let answers = [rig.join("e").await, rig.position("e", &tickets[38]).await, rig.join("rush").await];
            let booked = rig.reserve("rush", &pass, "well-again").await.reply;
            let others = [("ready", &ready), ("reserve", &booked)];
            let all = others.into_iter().chain(answers.iter().map(|timed| (timed.name.as_str(), &timed.reply)));
            let failing: Vec<_> = all.filter(|(_, reply)| !reply.status.is_success()).collect();
            if failing.is_empty() {
                return;
            }
            last = format!("{failing:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let well = tokio::time::timeout(HEALED, well).await;
    assert!(well.is_ok(), "not well {HEALED:?} after {store:?} came back: {last}");
    println!("{store:?} {fault:?}: well again after {:?}", healed.elapsed());
    assert_eq!(rig.metric("usher_circuit_open", "").await, 0);
    assert!(rig.metric("usher_circuit_opened_total", store.label()).await >= 1);
    let then = rig.admitted("e").await;
    let moves = async {
        while rig.admitted("e").await == then {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(HEALED, moves).await.is_ok(), "nobody is let in again");
}

macro_rules! outages {
    ($($name:ident: $store:ident $fault:ident $long:literal;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            outage(Store::$store, Fault::$fault, seconds(3, $long)).await;
        }
    )* };
}

outages! {
    redis_falls_silent: Redis BlackHole 60;
    redis_is_cut_off: Redis Cut 60;
    redis_resets_connections: Redis Reset 20;
    postgres_falls_silent: Postgres BlackHole 60;
    postgres_is_cut_off: Postgres Cut 60;
    postgres_resets_connections: Postgres Reset 20;
}

/// A slow store is no store that is away.
async fn slow(store: Store) {
    let (rig, tickets, pass) = rig().await;
    store.set(&rig, Fault::Delay(Duration::from_millis(300)));
    let began = Instant::now();
    // Where a connection has to be made first, readiness comes to its bound of 0.8 s: the first times, and later hardly ever.
    let (mut rounds, mut missed) = (0, 0);
    while began.elapsed() < seconds(2, 30) {
        let ticket = &tickets[39];
        let all = [rig.join("e").await, rig.position("e", ticket).await];
        for timed in all.iter().chain(&[rig.plain("/api/v1/events/e/availability").await]) {
            assert!(timed.reply.status.is_success(), "{} after {:?}: {}", timed.name, timed.took, timed.reply.text);
        }
        let ready = rig.plain("/ready").await.reply.status;
        missed += u32::from(!ready.is_success());
        rounds += 1;
    }
    assert!(missed <= 2 + rounds / 20, "{missed} of {rounds}");
    let booked = rig.reserve("rush", &pass, "slowly").await;
    booked.reply.expect(201);
    println!("{store:?} 300 ms slower: {rounds} rounds, a reserve in {:?}", booked.took);
    assert_eq!(rig.metric("usher_circuit_opened_total", "").await, 0, "{}", rig.service.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_slow() {
    slow(Store::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_slow() {
    slow(Store::Postgres).await;
}
