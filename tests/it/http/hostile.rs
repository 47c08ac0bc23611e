//! Whatever comes in, well formed or not: no fault of ours, no hang, nothing changed, and the service is there afterwards.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::json;

use crate::support::hostile::{self, change, spoiled};
use crate::support::usher::{Setup, World, user_token};
use crate::support::wire::{Answer, answers, talk};

/// So many connections at a time.
const AT_ONCE: usize = 48;
/// How long a connection may be silent before its sending side is closed.
const QUIET: Duration = Duration::from_millis(250);

const PATHS: &[&str] = &[
    "/api/v1/queue/join",
    "/api/v1/queue/leave",
    "/api/v1/queue/position/{}",
    "/api/v1/queue/position/{}/stream",
    "/api/v1/queue/status/{}",
    "/api/v1/bookings",
    "/api/v1/bookings/reserve",
    "/api/v1/bookings/summary",
    "/api/v1/bookings/{}",
    "/api/v1/bookings/{}/confirm",
    "/api/v1/events",
    "/api/v1/events/{}",
    "/api/v1/events/{}/availability",
    "/api/v1/admin/events",
    "/api/v1/admin/events/{}",
    "/api/v1/admin/events/{}/queue",
    "/api/v1/admin/events/{}/reset",
    "/api/v1/admin/sync-inventory",
    "/api/v1/admin/audit",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/.well-known/jwks.json",
];

fn method() -> impl Strategy<Value = String> {
    // Not HEAD: its answers have a length and no body, which a reader must know to tell them apart.
    let known = select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[A-GI-Z][A-Z-]{0,11}"]
}

fn target() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        select(vec!["e", "nowhere", "..", ".", "", "%00", "%FF%FE", "a%2Fb", "a%20b", "%", "%zz", "*", ";", "{}"])
            .prop_map(str::to_owned),
        (100..9_000_usize).prop_map(|length| "x".repeat(length)),
        "[!-~]{1,9}",
    ];
    let query = "(\\?(page|page_size|event_id|[a-z]{1,3})=[!-~]{0,12}(&[!-~]{0,9}){0,2})?";
    let known = (select(PATHS), part, query).prop_map(|(path, part, query)| path.replace("{}", &part) + &query);
    prop_oneof![9 => known, 1 => "[!-~]{0,20}", 1 => "https?://[a-z]{1,5}(:[0-9]{1,6})?/[a-z]{0,5}"]
}

/// Header lines, some of them with tokens that are not quite what was issued.
fn header(tokens: Vec<String>) -> impl Strategy<Value = String> {
    let token = (select(tokens), change()).prop_filter_map("a token that is still good", |(token, change)| {
        let changed = change.make(&token);
        // White space around a value is no part of it.
        (changed.trim() != token).then_some(changed)
    });
    let token = token.boxed();
    let value = prop_oneof![
        4 => token.clone(),
        1 => token.prop_map(|token| format!("Bearer {token}")),
        1 => "Bearer [!-~]{0,30}",
        1 => "usher_ticket=[ -~]{0,30}",
        1 => "[0-9a-f.:, ]{0,40}",
        2 => "[ -~]{0,40}",
        1 => "\\PC{0,20}",
        1 => select(vec!["application/json", "text/plain", "gzip", "close", "keep-alive", "100-continue", "chunked", "0", "-1", "anna"])
            .prop_map(str::to_owned),
    ];
    let name = select(vec![
        "Authorization",
        "Cookie",
        "X-Queue-Ticket",
        "X-Queue-Pass",
        "X-Idempotency-Key",
        "Idempotency-Key",
        "X-Forwarded-For",
        "X-User-ID",
        "X-Request-ID",
        "Content-Type",
        "Content-Encoding",
        "Accept",
        "Host",
        "Connection",
        "Expect",
        "Origin",
        "Access-Control-Request-Method",
        "Range",
        "If-None-Match",
        "X-HTTP-Method-Override",
        "Upgrade",
        "TE",
        "Via",
    ]);
    let known = (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    prop_oneof![9 => known, 1 => "[!-~]{1,12}: ?[ -~]{0,12}\r\n"]
}

/// A body with the lines that say how long it is, which need not be true.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let good = json!({ "event_id": "e", "token": "t", "show_id": "s1", "zone_id": "z1", "quantity": 2, "unit_price": 100.0,
        "queue_pass": "p", "payment_id": "p", "confirm": "e", "admit_per_minute": 5 });
    let bytes = prop_oneof![spoiled(good).prop_map(|json| json.to_string().into_bytes()), vec(any::<u8>(), 0..200)];
    let kind = select(vec![
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: application/json; charset=utf-8\r\n",
        "Content-Type: text/plain\r\n",
    ]);
    let length = prop_oneof![
        6 => Just(None).boxed(),
        1 => (0..300_usize).prop_map(Some).boxed(),
    ];
    let declared = (kind.clone(), bytes.clone(), length).prop_map(|(kind, bytes, length)| {
        (format!("{kind}Content-Length: {}\r\n", length.unwrap_or(bytes.len())), bytes)
    });
    let chunked = (kind, bytes).prop_map(|(kind, bytes)| {
        let chunks = [format!("{:x}\r\n", bytes.len()).into_bytes(), bytes, b"\r\n0\r\n\r\n".to_vec()].concat();
        (format!("{kind}Transfer-Encoding: chunked\r\n"), chunks)
    });
    prop_oneof![2 => Just((String::new(), Vec::new())), 4 => declared, 1 => chunked]
}

/// One to three requests in a row, now and then with bytes changed at random.
fn conversation(tokens: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let version =
        prop_oneof![9 => Just("HTTP/1.1"), 1 => select(vec!["HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "", "http/1.1"])];
    let request = (method(), target(), version, vec(header(tokens), 0..5), body());
    let request = request.prop_map(|(method, target, version, headers, (lengths, body))| {
        let head = format!("{method} {target} {version}\r\nHost: a\r\n{}{lengths}\r\n", headers.concat());
        [head.into_bytes(), body].concat()
    });
    let damage = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec((any::<Index>(), select(vec![&b""[..], b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xFF", b"\r\n\r\n"])), 1..4),
    ];
    (vec(request, 1..4), damage).prop_map(|(requests, damage)| {
        let mut bytes = requests.concat();
        for (at, other) in damage {
            let at = at.index(bytes.len());
            bytes.splice(at..=at, other.iter().copied());
        }
        bytes
    })
}

/// What must stay as it is.
async fn state(world: &World) -> (serde_json::Value, serde_json::Value, serde_json::Value) {
    let mut event = world.admin(Method::GET, "/events", None).await.expect(200);
    // This one changes with time alone.
    event["data"][0]["live"]["observed_admit_per_minute"].take();
    let audit = world.admin(Method::GET, "/audit", None).await.expect(200);
    let zones = world.admin(Method::GET, "/inventory-status", None).await.expect(200);
    (event, audit, zones)
}

async fn fuzz(setup: Setup) {
    let limits = [("trusted_proxies", "127.0.0.0/8"), ("rate_limit_per_address", "1000000")];
    let world = World::start_with(setup, &limits).await;
    // One event whose line waits: one visitor has a pass, three wait. Closed, so that no good join gets by.
    world.put_event("e", 10, json!({ "max_active": 1, "admit_per_minute": 60_000 })).await;
    let (ticket, pass) = world.admitted(0, "e").await;
    let mut tokens = vec![ticket, pass, user_token("anna")];
    for _ in 0..3 {
        tokens.push(world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned());
    }
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": "closed" }))).await.expect(200);
    let before = state(&world).await;
    assert_eq!(before.0["data"][0]["live"]["waiting"], 3, "{}", before.0);

    let address = world.instances[0].address;
    let long = crate::support::seeds::long();
    let config = Config { cases: if long { 1_000 } else { 20 }, max_shrink_iters: 200, ..hostile::config("wire") };
    let many = vec(conversation(tokens), AT_ONCE);
    let here = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&many, |conversations| {
            let talks = conversations.iter().map(|bytes| async move {
                let heard = talk(address, bytes, QUIET).await?;
                answers(&heard)?.iter().try_for_each(Answer::check)
            });
            let all = here.block_on(join_all(talks));
            for (outcome, bytes) in all.into_iter().zip(&conversations) {
                outcome
                    .map_err(|why| TestCaseError::fail(format!("{why}\nafter {}", String::from_utf8_lossy(bytes))))?;
            }
            Ok(())
        })
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    world.send(world.client.get(world.url(0, "/health"))).await.expect(200);
    world.send(world.client.get(world.url(0, "/ready"))).await.expect(200);
    assert_eq!(state(&world).await, before, "something was changed by somebody who may not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_conversations_change_nothing_embedded() {
    fuzz(Setup::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_conversations_change_nothing_scaled_out() {
    fuzz(Setup::Scaled(1)).await;
}
