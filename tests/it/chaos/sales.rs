//! Never oversold, never lost: a sale through a wiped store, a stale one, a crash of the ledger and the death of an instance.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};

use crate::support::fleet::Fleet;
use crate::support::postgres::Sync;
use crate::support::seeds::long;
use crate::support::usher::ADMIN_TOKEN;

/// How large the sale is.
#[derive(Debug, Clone, Copy)]
struct Size {
    seats: usize,
    visitors: usize,
    /// Reservations that a visitor tries, each with a key of its own.
    tries: usize,
    at_once: usize,
}

/// What the visitors share.
struct Crowd {
    client: reqwest::Client,
    addresses: Vec<String>,
    turn: AtomicUsize,
    tries: AtomicUsize,
    unsure: AtomicUsize,
}

/// An answer, or nothing where a connection broke or a store was away: ask again.
type Told = Option<(StatusCode, String)>;

impl Crowd {
    /// Asks one instance after the other.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Told {
        let at = self.turn.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        let request = self.client.request(method, format!("http://{}/api/v1{path}", self.addresses[at]));
        let reply = build(request).send().await.ok()?;
        let status = reply.status();
        let text = reply.text().await.ok()?;
        (status != 503).then_some((status, text))
    }

    /// The same, until there is an answer.
    async fn insist(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> (StatusCode, String) {
        let since = Instant::now();
        loop {
            if let Some(told) = self.ask(method.clone(), path, &build).await {
                return told;
            }
            self.unsure.fetch_add(1, Ordering::Relaxed);
            assert!(since.elapsed() < Duration::from_mins(1), "nobody answers {path}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Joins, waits, and tries to reserve; gives key and answer of what was reserved.
    async fn visit(&self, who: usize, tries: usize) -> Option<(String, String)> {
        let join = |request: reqwest::RequestBuilder| request.json(&json!({ "event_id": "e" }));
        let (status, text) = self.insist(Method::POST, "/queue/join", join).await;
        assert_eq!(status, 201, "{text}");
        let ticket = field(&text, "token");
        let pass = loop {
            let poll = |request: reqwest::RequestBuilder| request.header("X-Queue-Ticket", &ticket);
            let (status, text) = self.insist(Method::GET, "/queue/position/e", poll).await;
            assert_eq!(status, 200, "a place was lost: {text}");
            let seen: Value = serde_json::from_str(&text).expect("JSON");
            if let Some(pass) = seen["queue_pass"].as_str() {
                break pass.to_owned();
            }
            assert_eq!(seen["state"], "waiting", "{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        for at in 0..tries {
            let key = format!("v{who}-{at}");
            let (status, text) = self.reserve(&pass, &key).await;
            if status == 201 {
                return Some((key, text));
            }
        }
        None
    }

    /// Reserves until the answer is final.
    async fn reserve(&self, pass: &str, key: &str) -> (StatusCode, String) {
        let body = json!({ "event_id": "e", "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0 });
        let build = |request: reqwest::RequestBuilder| {
            request.header("X-Queue-Pass", pass).header("X-Idempotency-Key", key).json(&body)
        };
        let since = Instant::now();
        loop {
            let (status, text) = self.insist(Method::POST, "/bookings/reserve", build).await;
            self.tries.fetch_add(1, Ordering::Relaxed);
            match field(&text, "code").as_str() {
                "" => {
                    assert_eq!(status, 201, "{text}");
                    return (status, text);
                }
                "INSUFFICIENT_SEATS" => return (status, text),
                // An earlier try of this key, whose answer was lost, is still under way.
                "REQUEST_IN_PROGRESS" => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("{other}: {text}"),
            }
            assert!(since.elapsed() < Duration::from_mins(1), "never final: {text}");
        }
    }
}

fn field(text: &str, name: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Breaks one thing after the other while the sale goes on.
async fn break_things(mut fleet: Fleet, pause: Duration) -> Fleet {
    let () = fleet.redis().command(&["SAVE"]).await;
    tokio::time::sleep(pause).await;
    println!("the store is wiped");
    let () = fleet.redis().command(&["FLUSHALL"]).await;
    tokio::time::sleep(pause).await;
    println!("an instance dies");
    fleet.kill(0);
    tokio::time::sleep(pause).await;
    fleet.launch(0).await;
    println!("the store is as it was before the sale");
    // What was saved at the start is still on its disk: the wipe was not.
    fleet.restart_redis().await;
    tokio::time::sleep(pause).await;
    println!("the ledger crashes");
    fleet.postgres.crash().await;
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_through_every_fault_sells_each_seat_once() {
    let size = if long() {
        Size { seats: 1_000, visitors: 2_000, tries: 100, at_once: 256 }
    } else {
        Size { seats: 100, visitors: 220, tries: 5, at_once: 48 }
    };
    let fleet = Fleet::start(2, Sync::On, &[("USHER_RECOVERY_MS", "500")]).await;
    let spec = json!({ "name": "e", "queue": { "admit_per_minute": 60_000, "pass_ttl_seconds": 3_600, "max_per_user": 0 },
        "shows": [{ "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": size.seats, "price": 100.0 }] }] });
    let put = fleet.any().api(Method::PUT, "/admin/events/e").bearer_auth(ADMIN_TOKEN).json(&spec).send().await;
    assert_eq!(put.expect("an answer").status(), 201);
    let crowd = Arc::new(Crowd {
        client: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client"),
        addresses: fleet.addresses.clone(),
        turn: AtomicUsize::new(0),
        tries: AtomicUsize::new(0),
        unsure: AtomicUsize::new(0),
    });
    // Until the other instance knows the event.
    for _ in 0..10 {
        let status = crowd.insist(Method::GET, "/queue/status/e", |request| request).await.0;
        if status != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    let pause = Duration::from_millis(if long() { 8_000 } else { 700 });
    let breaking = tokio::spawn(break_things(fleet, pause));
    let visits = (0..size.visitors).map(|who| {
        let crowd = Arc::clone(&crowd);
        async move { tokio::spawn(async move { crowd.visit(who, size.tries).await }).await.expect("no panic") }
    });
    let sold: HashMap<String, String> = futures_util::stream::iter(visits)
        .buffer_unordered(size.at_once)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let fleet = breaking.await.expect("no panic");
    let (tries, unsure) = (crowd.tries.load(Ordering::Relaxed), crowd.unsure.load(Ordering::Relaxed));
    println!("{size:?}: {} sold, {tries} answers to reservations, {unsure} requests sent again", sold.len());
    assert!(unsure > 0, "nothing was broken");

    let mut ledger = PgConnection::connect(&fleet.database).await.expect("Postgres answers");
    let rows =
        sqlx::query("SELECT id, quantity, pass_id FROM bookings").fetch_all(&mut ledger).await.expect("bookings");
    let booked: HashMap<String, i64> = rows.iter().map(|row| (row.get("id"), row.get("quantity"))).collect();
    let passes: std::collections::HashSet<Option<String>> = rows.iter().map(|row| row.get("pass_id")).collect();
    assert_eq!(booked.values().sum::<i64>(), i64::try_from(size.seats).expect("a count"), "every seat once");
    assert_eq!(passes.len(), rows.len(), "every pass once");
    assert_eq!(sold.len(), size.seats, "whoever has a seat was told so");
    for (key, answer) in &sold {
        assert!(booked.contains_key(&field(answer, "booking_id")), "{key} was answered 201 and is not there");
    }
    let available = crowd.insist(Method::GET, "/events/e/availability", |request| request).await.1;
    let available: Value = serde_json::from_str(&available).expect("JSON");
    assert_eq!(available["shows"][0]["zones"][0]["available"], 0);
}
