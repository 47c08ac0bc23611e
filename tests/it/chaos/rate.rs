//! Rate and cap while instances are killed and paused and the store's clock is moved, seen from outside: how many were let in is read
//! from the store, with the time before and after each look by a clock that nobody moves.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::clock::MovedRedis;
use super::dice::Dice;
use crate::support::scratch::Scratch;
use crate::support::service::Service;
use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET};
use crate::support::{postgres, seeds};

const TICKET_SECRET: &str = "a-secret-of-the-tickets-0123456789";
const PASS_SECRET: &str = "a-secret-of-the-passes-0123456789";
/// Two events: one is let in by the rate, the other is held up by the cap.
const PACED: &str = "paced";
const CAPPED: &str = "capped";
/// Visitors a second, and the burst: one second's worth.
const A_MINUTE: u32 = 2_400;
const RATE: f64 = 40.0;
const CAP: u64 = 12;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// A release comes this often from each instance.
const TICK: f64 = 0.1;

/// What both events have come to, on one moment of the store.
const LOOKS: &str = "local time = redis.call('TIME') \
    local now = string.format('%.0f', time[1] * 1000000 + time[2]) \
    return { redis.call('HGET', KEYS[1], 'admitted'), redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') }";

struct Stage {
    redis: MovedRedis,
    database: String,
    scratch: Scratch,
    instances: Vec<Option<Service>>,
}

/// One look, and the seconds just before and just after it.
#[derive(Debug, Clone, Copy)]
struct Look {
    between: (f64, f64),
    admitted: u64,
    active: u64,
}

fn key(event: &str, name: &str) -> String {
    format!("usher:2:{{{event}}}:{name}")
}

impl Stage {
    async fn start(count: usize, crowd: usize) -> Self {
        let (redis, database) = tokio::join!(MovedRedis::start(), postgres::fresh_database());
        let mut stage = Self { redis, database, scratch: Scratch::new("rate"), instances: Vec::new() };
        for at in 0..count {
            stage.instances.push(None);
            stage.begin(at).await;
        }
        let paced = json!({ "admit_per_minute": A_MINUTE, "state": "paused" });
        stage.put(PACED, paced).await;
        let capped = json!({ "admit_per_minute": 60_000, "max_active": CAP, "pass_ttl_seconds": 2, "state": "paused" });
        stage.put(CAPPED, capped).await;
        for (event, crowd) in [(PACED, crowd), (CAPPED, crowd / 4)] {
            let service = stage.any();
            let joins =
                (0..crowd).map(|_| service.api(Method::POST, "/queue/join").json(&json!({ "event_id": event })));
            let mut joins = joins.map(|join| async move { join.send().await.expect("an answer").status() });
            loop {
                let batch: Vec<_> = joins.by_ref().take(100).collect();
                if batch.is_empty() {
                    break;
                }
                let joined = futures_util::future::join_all(batch).await;
                assert!(joined.iter().all(|status| *status == 201), "{joined:?}");
            }
        }
        stage
    }

    /// Starts an instance, in the place of one that is gone.
    async fn begin(&mut self, at: usize) {
        let dir = self.scratch.path().join(at.to_string());
        std::fs::create_dir_all(&dir).expect("a directory");
        let (redis, prefix) = (self.redis.url(), "usher");
        let variables = [
            ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
            ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
            ("USHER_AUTH", "optional"),
            ("USHER_TICKET_SECRET", TICKET_SECRET),
            ("USHER_PASS_SECRET", PASS_SECRET),
            ("USHER_REDIS_URL", &redis),
            ("USHER_REDIS_PREFIX", prefix),
            ("USHER_RECOVERY_MS", "500"),
            ("USHER_DATABASE_URL", &self.database),
        ];
        self.instances[at] = Some(Service::start(&dir, &variables, &[]).await);
    }

    fn any(&self) -> &Service {
        self.instances.iter().flatten().next().expect("one that runs")
    }

    fn signal(&self, at: usize, name: &str) {
        self.instances[at].as_ref().expect("it runs").signal(name);
    }

    async fn admin(&self, method: Method, path: &str, body: &serde_json::Value) {
        let request = self.any().api(method, &format!("/admin{path}")).bearer_auth(ADMIN_TOKEN).json(body);
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {:?}", answer.text().await);
    }

    async fn put(&self, event: &str, queue: serde_json::Value) {
        let spec = json!({ "name": event, "queue": queue, "shows": [{ "id": "s1", "name": "Friday",
            "zones": [{ "id": "z1", "name": "Floor", "capacity": 10, "price": 1.0 }] }] });
        self.admin(Method::PUT, &format!("/events/{event}"), &spec).await;
    }

    /// Opens both events, and looks at them until told to stop.
    async fn open(&self) -> Watch {
        for event in [PACED, CAPPED] {
            self.admin(Method::PATCH, &format!("/events/{event}/queue"), &json!({ "state": "open" })).await;
        }
        let (stop, stopped) = oneshot::channel();
        let looks = tokio::spawn(watch(self.redis.connect().await, stopped));
        // Several instances that meet an event for the first time may begin it with a recovery.
        let patience = Instant::now() + Duration::from_secs(10);
        let mut redis = self.redis.connect().await;
        for event in [PACED, CAPPED] {
            let mut call = redis::cmd("HGET");
            call.arg(key(event, "event")).arg("admitted");
            while call.query_async::<u64>(&mut redis).await.expect("a number") == 0 {
                assert!(Instant::now() < patience, "nobody is let in");
                sleep(0.02).await;
            }
        }
        Watch { stop, looks }
    }

    /// When each visitor of an event was let in and until when, by the clock of the store, as their records say.
    async fn admissions(&self, event: &str) -> Vec<(f64, f64)> {
        let mut call = redis::cmd("HVALS");
        let records: Vec<String> =
            call.arg(key(event, "passes")).query_async(&mut self.redis.connect().await).await.expect("records");
        let micros = |text: &str| text.parse::<f64>().expect("microseconds") / 1e6;
        let mut times: Vec<_> = records
            .iter()
            .map(|record| record.split(' ').collect::<Vec<_>>())
            .map(|words| (micros(words[2]), micros(words[3])))
            .collect();
        times.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        times
    }
}

/// What looks at both events meanwhile.
struct Watch {
    stop: oneshot::Sender<()>,
    looks: JoinHandle<[Vec<Look>; 2]>,
}

impl Watch {
    async fn end(self) -> [Vec<Look>; 2] {
        self.stop.send(()).expect("it looks");
        self.looks.await.expect("looks")
    }
}

async fn watch(mut redis: redis::aio::MultiplexedConnection, mut stop: oneshot::Receiver<()>) -> [Vec<Look>; 2] {
    let (started, mut looks) = (Instant::now(), [Vec::new(), Vec::new()]);
    while matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
        for (event, looks) in [PACED, CAPPED].into_iter().zip(&mut looks) {
            let mut call = redis::cmd("EVAL");
            call.arg(LOOKS).arg(2).arg(key(event, "event")).arg(key(event, "active"));
            let before = started.elapsed().as_secs_f64();
            let (admitted, active) = call.query_async(&mut redis).await.expect("an answer");
            looks.push(Look { between: (before, started.elapsed().as_secs_f64()), admitted, active });
        }
        tokio::time::sleep(LOOK).await;
    }
    looks
}

/// In no window of any length more than the rate allows and one second's worth; and the cap in every look.
fn within_bounds([paced, capped]: &[Vec<Look>; 2]) {
    let (mut most_over, mut windows) = (f64::MIN, [0_u32; 3]);
    for (at, from) in paced.iter().enumerate() {
        for to in &paced[at + 1..] {
            #[allow(clippy::cast_precision_loss)]
            let admitted = (to.admitted - from.admitted) as f64;
            let (least, most) = (to.between.0 - from.between.1, to.between.1 - from.between.0);
            assert!(admitted <= RATE * most + RATE + 1e-3, "{admitted} in {most} s, from {from:?} to {to:?}");
            most_over = most_over.max(admitted - RATE * most);
            for (count, window) in windows.iter_mut().zip([1.0, 10.0, 60.0]) {
                *count += u32::from(least <= window && window <= most + LOOK.as_secs_f64());
            }
        }
    }
    let active = capped.iter().map(|look| look.active).max().unwrap_or(0);
    println!(
        "windows of 1, 10 and 60 s: {windows:?}; most above rate*window: {most_over:.2} of {RATE}; most active: {active} of {CAP}"
    );
    assert!(
        windows[0] > 100 && windows[1] > 0 && (windows[2] > 0 || !seeds::long()),
        "only {windows:?} windows were seen"
    );
    assert_eq!(active, CAP, "never more than the cap, and the cap was met");
}

/// Over the whole run the rate within 1 %. Where nobody released for longer than the burst lasts, that time is lost.
fn long_run_rate(looks: &[Look]) {
    let (first, last) = (looks.iter().find(|look| look.admitted > 0).expect("somebody"), looks.last().expect("a look"));
    let (mut moved, mut idle, mut gaps) = (first.between.0, 0.0, 0.0);
    for pair in looks.windows(2).filter(|pair| pair[1].admitted > pair[0].admitted) {
        let gap = pair[1].between.1 - moved;
        if gap > 1.0 {
            (idle, gaps) = (idle + gap - 1.0, gaps + 1.0);
        }
        moved = pair[1].between.1;
    }
    #[allow(clippy::cast_precision_loss)]
    let admitted = (last.admitted - first.admitted) as f64;
    let seconds = last.between.0 - first.between.1;
    let rate = admitted / (seconds - idle);
    println!("{admitted} in {seconds:.2} s, {idle:.2} s lost: {:.2} % of the rate", 100.0 * rate / RATE);
    // At each end, of the run and of a gap, up to a tick's worth was due and not let in yet; a look is not on one moment.
    let edges =
        RATE * (2.0 * TICK * (1.0 + gaps) + last.between.1 - last.between.0 + first.between.1 - first.between.0);
    assert!((admitted - RATE * (seconds - idle)).abs() <= 0.01 * RATE * seconds + edges + 1.0);
}

/// The same from what is recorded of each visitor, where one clock ran through.
async fn records_agree(stage: &Stage, [paced, capped]: &[Vec<Look>; 2]) {
    let times = stage.admissions(PACED).await;
    let known = paced.last().expect("a look").admitted;
    assert!(times.len() as u64 >= known, "{} records of {known}: nobody was let in twice", times.len());
    for (at, (from, _)) in times.iter().enumerate() {
        for (more, (to, _)) in times[at..].iter().enumerate() {
            #[allow(clippy::cast_precision_loss)]
            let admitted = (more + 1) as f64;
            assert!(admitted <= RATE * (to - from) + RATE + 1e-3, "{admitted} within {} s", to - from);
        }
    }
    let times = stage.admissions(CAPPED).await;
    assert!(times.len() as u64 >= capped.last().expect("a look").admitted);
    for (at, (admitted, _)) in times.iter().enumerate() {
        let out = times[..=at].iter().filter(|(_, until)| until > admitted).count();
        assert!(out as u64 <= CAP, "{out} passes were out at once");
    }
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Rounds of faults: as many as the form has.
fn rounds() -> usize {
    if seeds::long() { 10 } else { 1 }
}

/// People enough that neither line ends before the faults do.
fn crowd(seconds: f64) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let crowd = (RATE * (seconds * rounds() as f64 + 4.0)) as usize;
    crowd
}

/// In each round one instance is paused and goes on, and one is killed and started again.
async fn instances_fail(count: usize) {
    let mut random = Dice::of(seeds::seed("instances_fail"));
    let mut stage = Stage::start(count, crowd(12.0)).await;
    let (watch, started) = (stage.open().await, Instant::now());
    for _ in 0..rounds() {
        sleep(random.between(0.5, 1.5)).await;
        let paused = random.below(count);
        stage.signal(paused, "STOP");
        sleep(random.between(1.5, 3.0)).await;
        stage.signal(paused, "CONT");
        sleep(random.between(0.5, 1.5)).await;
        let killed = random.below(count);
        stage.signal(killed, "KILL");
        sleep(random.between(0.2, 1.2)).await;
        stage.begin(killed).await;
        sleep(1.2).await;
    }
    // Long enough for windows of ten seconds.
    sleep((10.5 - started.elapsed().as_secs_f64()).max(0.0)).await;
    let looks = watch.end().await;
    println!("{count} instances, each round one paused and one killed");
    within_bounds(&looks);
    long_run_rate(&looks[0]);
    records_agree(&stage, &looks).await;
}

/// Each on stores of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_and_cap_hold_while_instances_are_paused_and_killed() {
    tokio::join!(instances_fail(1), instances_fail(2), instances_fail(4));
}

/// Ahead, back, behind, and the whole way: each jump within the same window as the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_and_cap_hold_while_the_clock_of_the_store_is_moved() {
    let mut random = Dice::of(seeds::seed("clock_moved"));
    let stage = Stage::start(2, crowd(12.0)).await;
    let (watch, started) = (stage.open().await, Instant::now());
    for _ in 0..rounds() {
        for seconds in [30, 0, 30, -30, 0, -30, 30, 0] {
            sleep(random.between(0.3, 1.2)).await;
            stage.redis.ahead(seconds);
        }
        sleep(1.0).await;
    }
    // Long enough for windows of ten seconds.
    sleep((10.5 - started.elapsed().as_secs_f64()).max(0.0)).await;
    let looks = watch.end().await;
    within_bounds(&looks);
    // It never stops either: a jump costs a tick, not a second.
    let (first, last) = (looks[0][0], *looks[0].last().expect("a look"));
    #[allow(clippy::cast_precision_loss)]
    let (admitted, seconds) = ((last.admitted - first.admitted) as f64, last.between.0 - first.between.1);
    println!(
        "{admitted} in {seconds:.1} s of a clock that jumps: {:.0} % of the rate",
        100.0 * admitted / seconds / RATE
    );
    assert!(admitted >= RATE * seconds / 2.0, "{admitted} in {seconds} s");
}
