//! A soak: visitors of every kind come and go, then it is quiet, and nothing is left but what its stated bound allows.
//!
//! `USHER_CHAOS_SECONDS` says how long; an hour in the long form.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{Connection, Row};
use usher::domain::EventId;
use usher::engine::redis::keys;

use super::dice::Dice;
use crate::support::redis::RedisServer;
use crate::support::scratch::Scratch;
use crate::support::service::Service;
use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET};
use crate::support::{postgres, seeds};

const EVENT: &str = "e";
/// An event with so slow a line that whoever steps away is parked.
const SLOW: &str = "slow";
/// Visitors who come at a time.
const AT_ONCE: usize = 12;
/// Short, so that passes, reservations and presence run out while it lasts.
const PASS_TTL: u64 = 2;
const HOLD_TTL: u64 = 2;
const PRESENCE: u64 = 5;
/// How long a pass that ended is remembered, and the first answer to a key.
const REMEMBERED: f64 = 3_600.0;
const ANSWERS: f64 = 48.0 * 3_600.0;

fn length() -> Duration {
    let asked = std::env::var("USHER_CHAOS_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    Duration::from_secs(asked.unwrap_or(if seeds::long() { 3_600 } else { 12 }))
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    joined: AtomicU64,
    left: AtomicU64,
    vanished: AtomicU64,
    streams: AtomicU64,
    no_shows: AtomicU64,
    reserved: AtomicU64,
    confirmed: AtomicU64,
    cancelled: AtomicU64,
    events: AtomicU64,
}

fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

fn counted(what: &AtomicU64) -> u64 {
    what.load(Ordering::Relaxed)
}

/// Asks again where a store is away for a moment: a machine that does other things meanwhile may take the time from it, or from
/// us.
async fn answered(request: RequestBuilder) -> (u16, Value) {
    for _ in 0..100 {
        let answer = request.try_clone().expect("no stream").send().await.expect("an answer");
        let status = answer.status().as_u16();
        // 408: this process came to send what it wanted to only after ten seconds.
        if status != 503 && status != 408 {
            assert!(status < 500, "{status}: {:?}", answer.text().await);
            return (status, answer.json().await.unwrap_or(Value::Null));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("a store stays away");
}

/// One visitor, from the join to whatever end the dice have for them.
async fn visit(service: &Service, done: &Done, dice: &mut Dice) {
    let join = service.api(Method::POST, "/queue/join").json(&json!({ "event_id": EVENT }));
    let (status, joined) = answered(join).await;
    assert!(status == 201 || status == 429, "{joined}");
    let Some(ticket) = joined["token"].as_str() else { return };
    count(&done.joined);
    let end = dice.below(10);
    match end {
        0 => {
            let body = json!({ "event_id": EVENT, "token": ticket });
            answered(service.api(Method::DELETE, "/queue/leave").header("X-Queue-Ticket", ticket).json(&body)).await;
            count(&done.left);
        }
        1 => count(&done.vanished),
        2 => {
            let path = format!("/queue/position/{EVENT}/stream");
            let mut stream =
                service.api(Method::GET, &path).header("X-Queue-Ticket", ticket).send().await.expect("a stream");
            let _first = stream.chunk().await;
            tokio::time::sleep(Duration::from_secs_f64(dice.between(0.0, 0.5))).await;
            count(&done.streams);
        }
        _ => {
            let Some(pass) = admitted(service, ticket).await else { return count(&done.vanished) };
            if end == 3 {
                return count(&done.no_shows);
            }
            book(service, done, (ticket, &pass), end).await;
        }
    }
}

/// Polls until the pass is there; gives up like somebody without patience.
async fn admitted(service: &Service, ticket: &str) -> Option<String> {
    for _ in 0..20 {
        let poll = service.api(Method::GET, &format!("/queue/position/{EVENT}")).header("X-Queue-Ticket", ticket);
        let (_, position) = answered(poll).await;
        if let Some(pass) = position["queue_pass"].as_str() {
            return Some(pass.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

/// Reserves, and confirms, cancels, or lets it run out.
async fn book(service: &Service, done: &Done, (ticket, pass): (&str, &str), end: usize) {
    let body = json!({ "event_id": EVENT, "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 1.0 });
    let reserve = service.api(Method::POST, "/bookings/reserve").header("X-Queue-Pass", pass);
    let (status, booking) = answered(reserve.header("X-Idempotency-Key", "k").json(&body)).await;
    if status != 201 {
        return;
    }
    count(&done.reserved);
    let path = format!("/bookings/{}", booking["booking_id"].as_str().expect("an id"));
    let known = |method, path: &str| service.api(method, path).header("X-Queue-Ticket", ticket);
    let (request, what) = match end {
        4 => (known(Method::POST, &format!("{path}/confirm")), &done.confirmed),
        5 | 6 => (known(Method::DELETE, &path), &done.cancelled),
        _ => return,
    };
    if answered(request).await.0 == 200 {
        count(what);
    }
}

async fn put(service: &Service, event: &str) {
    let queue = json!({ "admit_per_minute": if event == SLOW { 60 } else { 6_000 }, "max_active": 40, "pass_ttl_seconds": PASS_TTL,
        "hold_ttl_seconds": HOLD_TTL, "presence_seconds": PRESENCE, "max_per_user": 4 });
    let spec = json!({ "name": event, "queue": queue, "shows": [{ "id": "s1", "name": "Friday",
        "zones": [{ "id": "z1", "name": "Floor", "capacity": 1_000_000, "price": 1.0 }] }] });
    let path = format!("/admin/events/{event}");
    let (status, body) = answered(service.api(Method::PUT, &path).bearer_auth(ADMIN_TOKEN).json(&spec)).await;
    assert!(status < 300, "{body}");
}

/// Events that come and go, each with some who wait for it.
async fn passing_events(service: &Service, done: &Done, until: Instant) {
    while Instant::now() < until {
        let event = format!("passing-{}", counted(&done.events));
        put(service, &event).await;
        for _ in 0..5 {
            answered(service.api(Method::POST, "/queue/join").json(&json!({ "event_id": event }))).await;
        }
        let (shown, patience) = (format!("\"{event}\""), Instant::now() + Duration::from_secs(10));
        while !metrics(service).await.contains(&shown) {
            assert!(Instant::now() < patience, "its figures are shown while it is there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let path = format!("/admin/events/{event}");
        answered(service.api(Method::DELETE, &path).bearer_auth(ADMIN_TOKEN)).await;
        count(&done.events);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn crowd(service: &Service, done: &Done, dice: &mut Dice, until: Instant) {
    let visitors = (0..AT_ONCE).map(|_| dice.below(usize::MAX)).map(|seed| async move {
        let mut dice = Dice::of(seed as u64);
        while Instant::now() < until {
            visit(service, done, &mut dice).await;
        }
    });
    tokio::join!(futures_util::future::join_all(visitors), passing_events(service, done, until));
}

/// The process as the kernel sees it.
#[derive(Debug, Clone, Copy)]
struct Process {
    kilobytes: u64,
    threads: u64,
    files: usize,
}

fn process(service: &Service) -> Process {
    let dir = format!("/proc/{}", service.id());
    let status = std::fs::read_to_string(format!("{dir}/status")).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    let files = std::fs::read_dir(format!("{dir}/fd")).expect("files").count();
    Process { kilobytes: field("VmRSS:"), threads: field("Threads:"), files }
}

/// Lets a crowd come twice, each time followed by quiet, and compares the process. The first time warms it up.
async fn soak(service: &mut Service, name: &str) -> Done {
    let (mut dice, done, length) = (Dice::of(seeds::seed(name)), Done::default(), length());
    put(service, EVENT).await;
    put(service, SLOW).await;
    for _ in 0..20 {
        answered(service.api(Method::POST, "/queue/join").json(&json!({ "event_id": SLOW }))).await;
    }
    crowd(service, &done, &mut dice, Instant::now() + length / 4).await;
    quiet(service).await;
    let (warm, came) = (process(service), counted(&done.joined));
    crowd(service, &done, &mut dice, Instant::now() + length * 3 / 4).await;
    parked_are_forgotten(service).await;
    quiet(service).await;
    let after = process(service);
    let more = counted(&done.joined) - came;
    println!("{name}: {done:?}\n  warm {warm:?}\n  then {after:?}, {more} visitors later");
    // A pass that ended is remembered for an hour: some 500 bytes each in process. The rest is the allocator's play.
    let allowed = warm.kilobytes + warm.kilobytes / 5 + more / 2 + 8 * 1_024;
    assert!(after.kilobytes <= allowed, "{warm:?} grew to {after:?}");
    assert!(after.threads <= warm.threads + 2 && after.files <= warm.files + 8, "{warm:?} grew to {after:?}");
    for what in
        [&done.left, &done.streams, &done.no_shows, &done.reserved, &done.confirmed, &done.cancelled, &done.events]
    {
        assert!(counted(what) > 0, "not everything happened: {done:?}");
    }
    done
}

async fn metrics(service: &Service) -> String {
    let answer = service.client.get(format!("http://{}/metrics", service.address)).send().await.expect("an answer");
    answer.text().await.expect("text")
}

/// What an operator sees of an event's line.
async fn live(service: &Service, event: &str) -> Value {
    let path = format!("/admin/events/{event}");
    answered(service.api(Method::GET, &path).bearer_auth(ADMIN_TOKEN)).await.1["live"].clone()
}

/// Those of the slow line who are away are parked by now, and a reset forgets them.
async fn parked_are_forgotten(service: &Service) {
    let patience = Instant::now() + Duration::from_secs(30);
    while live(service, SLOW).await["parked"].as_u64().is_none_or(|parked| parked == 0) {
        assert!(Instant::now() < patience, "nobody is parked: {}", live(service, SLOW).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let path = format!("/admin/events/{SLOW}/reset");
    let reset = service.api(Method::POST, &path).bearer_auth(ADMIN_TOKEN).json(&json!({ "confirm": SLOW }));
    assert_eq!(answered(reset).await.0, 200);
    let after = live(service, SLOW).await;
    assert!(after["parked"] == 0 && after["waiting"] == 0 && after["active"] == 0, "{after}");
}

/// Waits until everybody is out of the line and what runs out has run out; no connection of ours is left open.
async fn quiet(service: &mut Service) {
    service.client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
    let patience = Instant::now() + Duration::from_mins(1);
    loop {
        let live = live(service, EVENT).await;
        if live["waiting"] == 0 && live["active"] == 0 {
            break;
        }
        assert!(Instant::now() < patience, "the line does not end: {live}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(HOLD_TTL + 2)).await;
    // Removed events are in no figure any more.
    let metrics = metrics(service).await;
    assert!(metrics.contains("usher_") && !metrics.contains("passing-"), "{metrics}");
}

/// The rows of the ledger: what is for keeps is one a booking, one a buyer; all else runs out.
macro_rules! ledger {
    ($connection:expr, $done:expr) => {{
        let (connection, done) = (&mut *$connection, $done);
        let mut numbers = Vec::new();
        for sql in [
            "SELECT COUNT(*) FROM bookings",
            "SELECT COUNT(*) FROM bookings WHERE status = 'reserved'",
            "SELECT COUNT(*) FROM buyers",
            "SELECT COUNT(*) FROM idempotency",
            "SELECT COALESCE(MAX(expires_at), 0) FROM idempotency",
            "SELECT COUNT(*) FROM audit",
            "SELECT COUNT(*) FROM events",
        ] {
            let row = sqlx::query(sql).fetch_one(&mut *connection).await.expect(sql);
            numbers.push(row.get::<i64, _>(0));
        }
        println!("  bookings, reserved, buyers, answers, until, audit, events: {numbers:?}");
        let reserved = counted(&done.reserved).cast_signed();
        assert_eq!(numbers[..2], [reserved, 0], "one a reservation, and none is still waiting");
        assert!(numbers[2] <= reserved && numbers[3] <= reserved);
        #[allow(clippy::cast_precision_loss)]
        let until = numbers[4] as f64 / 1e6;
        assert!(until <= now() + ANSWERS, "every answer has an end, and the sweep of it is tested with the ledgers");
        assert_eq!(numbers[5], 2 * counted(&done.events).cast_signed() + 3, "one entry for each thing an operator did");
        assert_eq!(numbers[6], counted(&done.events).cast_signed() + 2);
    }};
}

#[allow(clippy::disallowed_methods)] // the wall clock of the test itself
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

const VARIABLES: [(&str, &str); 3] =
    [("USHER_ADMIN_TOKEN", ADMIN_TOKEN), ("USHER_AUTH_JWT_SECRET", JWT_SECRET), ("USHER_AUTH", "optional")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_embedded() {
    let scratch = Scratch::new("growth");
    let mut service = Service::start(scratch.path(), &VARIABLES, &[]).await;
    let done = soak(&mut service, "growth, embedded").await;
    let file = format!("sqlite://{}?mode=ro", scratch.path().join("data/ledger.db").display());
    let mut ledger = sqlx::SqliteConnection::connect(&file).await.expect("the ledger");
    ledger!(&mut ledger, &done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_on_redis_and_postgres() {
    let scratch = Scratch::new("growth");
    let start = || RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let redis = tokio::task::spawn_blocking(start).await.expect("Redis starts");
    let database = postgres::fresh_database().await;
    let url = redis.url();
    let mut variables = VARIABLES.to_vec();
    variables.extend([("USHER_REDIS_URL", &*url), ("USHER_REDIS_PREFIX", "usher"), ("USHER_DATABASE_URL", &*database)]);
    variables.extend([("USHER_TICKET_SECRET", "a-secret-of-the-tickets-0123456789")]);
    variables.extend([("USHER_PASS_SECRET", "a-secret-of-the-passes-0123456789")]);
    let mut service = Service::start(scratch.path(), &variables, &[]).await;
    let done = soak(&mut service, "growth, scaled out").await;
    let mut ledger = sqlx::PgConnection::connect(&database).await.expect("the ledger");
    ledger!(&mut ledger, &done);
    store_is_bounded(&redis, &done).await;
}

/// The size of each key beside its bound; and there is no key of an event that is gone.
async fn store_is_bounded(redis: &RedisServer, done: &Done) {
    let event = EventId::parse(EVENT).expect("an id");
    let mut sizes = std::collections::HashMap::new();
    for key in keys::ALL {
        let ask = match key.kind {
            "hash" => "HLEN",
            "zset" => "ZCARD",
            _ => "XLEN",
        };
        sizes.insert(key.name, redis.command::<u64>(&[ask, &key.of("usher", &event)]).await);
    }
    println!("  {sizes:?}");
    let all: Vec<String> = redis.command(&["KEYS", "*"]).await;
    assert!(
        all.iter().all(|key| [EVENT, SLOW].iter().any(|event| key.contains(&format!("{{{event}}}"))))
            && all.len() <= 2 * keys::ALL.len(),
        "{all:?}"
    );
    for empty in [keys::LINE, keys::ACTIVE, keys::HOLDS, keys::DUE, keys::PARKED] {
        assert_eq!(sizes[empty.name], 0, "{}", empty.name);
    }
    assert!(sizes["joins"] <= 2, "marks before the front are dropped: {}", sizes["joins"]);
    assert!(sizes["feed"] <= 8_192 + 200 && sizes["zones"] == 1 && sizes["event"] <= 24);
    // The bitmaps: a field for 4,096 numbers, and one that says which window it is.
    let blocks = counted(&done.joined) / 4_096 + 2;
    assert!(sizes["seen0"] <= blocks + 1 && sizes["seen1"] <= blocks + 1);
    assert!(sizes["buyers"] <= counted(&done.reserved), "one a visitor who reserved");
    // Every pass that is remembered is on its way out: it is in the schedule, and none is scheduled for later than stated.
    assert_eq!(sizes["passes"], sizes["ended"]);
    let last: Vec<String> =
        redis.command(&["ZRANGE", &keys::ENDED.of("usher", &event), "-1", "-1", "WITHSCORES"]).await;
    let forgotten = last[1].parse::<f64>().expect("microseconds") / 1e6;
    #[allow(clippy::cast_precision_loss)]
    let latest = now() + REMEMBERED + PASS_TTL as f64;
    assert!(forgotten <= latest, "{forgotten} is after {latest}");
}
