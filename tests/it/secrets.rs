//! No secret in any log: the binary with its logs at their loudest, through every flow and every failure.

use std::path::Path;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::process::{PASS_SECRET, TICKET_SECRET};
use crate::support::redis::{self, RedisServer};
use crate::support::scratch::Scratch;
use crate::support::service::Service;
use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET, user_token};

/// Passwords of stores; the servers that are asked for none let them pass.
const REDIS_PASSWORD: &str = "sesame-of-the-queue";
const DATABASE_PASSWORD: &str = "sesame-of-the-ledger";

/// Sends a request, whatever comes of it; gives status and body.
async fn send(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

fn text(body: &str, field: &str) -> String {
    let body: Value = serde_json::from_str(body).expect("JSON");
    body[field].as_str().unwrap_or_else(|| panic!("no {field}: {body}")).to_owned()
}

/// Polls until the pass is there.
async fn pass(service: &Service, ticket: &str) -> String {
    for _ in 0..200 {
        let (_, body) = send(service.api(Method::GET, "/queue/position/e").header("X-Queue-Ticket", ticket)).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        if let Some(pass) = body["queue_pass"].as_str() {
            return pass.to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never let in");
}

/// Goes through what visitors and operators do, well and badly; gives everything that must not be in a log.
async fn every_flow(service: &Service) -> Vec<String> {
    let mut secrets: Vec<String> =
        [ADMIN_TOKEN, JWT_SECRET, TICKET_SECRET, PASS_SECRET].into_iter().map(str::to_owned).collect();
    let admin = |method, path: &str| service.api(method, path).bearer_auth(ADMIN_TOKEN);
    let spec = json!({ "name": "e", "queue": { "admit_per_minute": 60_000 }, "shows": [
        { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": 50, "price": 100.0 }] }] });
    assert_eq!(send(admin(Method::PUT, "/admin/events/e").json(&spec)).await.0, 201);
    for path in ["/admin/events", "/admin/audit", "/admin/inventory-status", "/admin/events/nowhere"] {
        send(admin(Method::GET, path)).await;
    }
    send(admin(Method::POST, "/admin/sync-inventory")).await;

    // Who is known by token, and who by ticket alone: by header, by cookie, in the body.
    let token = user_token("anna");
    let join = || service.api(Method::POST, "/queue/join");
    let (status, body) = send(join().bearer_auth(&token).json(&json!({ "event_id": "e" }))).await;
    assert_eq!(status, 201, "{body}");
    let known = text(&body, "token");
    let ticket = text(&send(join().json(&json!({ "event_id": "e" }))).await.1, "token");
    let position = || service.api(Method::GET, "/queue/position/e");
    assert_eq!(send(position().header("Cookie", format!("usher_ticket={ticket}"))).await.0, 200);
    assert_eq!(send(position().bearer_auth(&token)).await.0, 200);
    let passes = [pass(service, &known).await, pass(service, &ticket).await];
    let stream = service.api(Method::GET, "/queue/position/e/stream").header("X-Queue-Ticket", &ticket).send().await;
    let first = stream.expect("a stream").chunk().await.expect("bytes").expect("an event");
    assert!(String::from_utf8_lossy(&first).contains(&passes[1]), "the stream tells the pass");

    let reserve = |key: &str, zone: &str| {
        let body = json!({ "event_id": "e", "show_id": "s1", "zone_id": zone, "quantity": 1 });
        service.api(Method::POST, "/bookings/reserve").header("X-Idempotency-Key", key.to_owned()).json(&body)
    };
    let key = "a-key-that-nobody-else-should-see";
    for zone in ["z9", "z1", "z1"] {
        send(reserve(key, zone).bearer_auth(&token).header("X-Queue-Pass", &passes[0])).await;
    }
    let (status, booked) = send(reserve(key, "z1").bearer_auth(&token).header("X-Queue-Pass", &passes[0])).await;
    assert_eq!(status, 201, "{booked}");
    let booking = text(&booked, "booking_id");
    for request in [
        reserve(key, "z9").bearer_auth(&token).header("X-Queue-Pass", &passes[0]),
        reserve("other-key", "z1").bearer_auth(&token).header("X-Queue-Pass", &passes[1]),
        reserve("other-key", "z1").header("X-Queue-Pass", format!("{}x", passes[1])),
        reserve("other-key", "z1").header("X-Queue-Ticket", &ticket),
        service
            .api(Method::POST, &format!("/bookings/{booking}/confirm"))
            .bearer_auth(&token)
            .json(&json!({ "payment_id": "a-payment-of-annas" })),
        service.api(Method::GET, &format!("/bookings/{booking}")).bearer_auth(&token),
        service.api(Method::GET, "/bookings").header("X-Queue-Pass", &passes[1]),
        service.api(Method::DELETE, &format!("/bookings/{booking}")).bearer_auth(&token),
        service.api(Method::DELETE, "/queue/leave").json(&json!({ "event_id": "e", "token": known })),
    ] {
        send(request).await;
    }

    // In the wrong place, of the wrong kind, and not quite what was issued.
    let forged =
        [format!("{}A", &ticket[1..]), format!("{}A", &passes[0][1..]), format!("{}A", &token[..token.len() - 1])];
    for text in [&token, &known, &ticket, &passes[0], &passes[1]].into_iter().chain(&forged) {
        secrets.push(text.clone());
        for request in [
            service.api(Method::GET, &format!("/queue/position/{text}")),
            service.api(Method::GET, &format!("/queue/status/{text}")),
            service.api(Method::GET, &format!("/{text}")),
            service.api(Method::GET, &format!("/bookings?page={text}&ticket={text}")),
            service.api(Method::GET, &format!("/bookings/summary?event_id={text}")).bearer_auth(&token),
            service.api(Method::GET, &format!("/bookings/{text}")).bearer_auth(&token),
            join().json(&json!(text)),
            join().json(&json!({ "event_id": text })),
            join().json(&json!({ "event_id": "e", text.as_str(): 1 })),
            join().header("Content-Type", text.as_str()).body("{}"),
            reserve("k", "z1").json(
                &json!({ "event_id": "e", "show_id": "s1", "zone_id": "z1", "quantity": text, "queue_pass": text }),
            ),
            service.api(Method::DELETE, "/queue/leave").json(&json!({ "event_id": "e", "token": text })),
            admin(Method::PUT, "/admin/events/x").json(&json!({ "name": "x", text.as_str(): text })),
            admin(Method::PATCH, "/admin/events/e/queue").json(&json!({ "state": text })),
            position().bearer_auth(text),
            position().header("Authorization", text.as_str()),
            position().header("X-Queue-Ticket", text.as_str()),
            position().header("X-Request-ID", text.as_str()),
            position().header("Cookie", format!("usher_ticket={text}; other={text}")),
            service.api(Method::GET, "/admin/events").bearer_auth(text),
            reserve(text, "z1").header("X-Queue-Pass", text.as_str()),
        ] {
            send(request).await;
        }
    }
    for wrong in ["a-wrong-token-of-an-operator", key] {
        send(service.api(Method::GET, "/admin/events").bearer_auth(wrong)).await;
        secrets.push(wrong.to_owned());
    }
    secrets.push("a-payment-of-annas".to_owned());
    secrets
}

/// Nothing of it is in what the process wrote, which has to be enough to be sure that it was listened to.
fn expect_silence(service: &Service, secrets: &[String], log: &str) {
    assert!(log.lines().count() > 200, "only {} lines at trace", log.lines().count());
    assert!(log.contains("\"refused\"") && log.contains("UNAUTHORIZED"), "refusals are logged at this level");
    for secret in secrets {
        // A part of a token is as bad as all of it where the rest can be guessed: the last half is enough to find it.
        let half = &secret[secret.len() / 2..];
        for (what, written) in [("the log", log), ("standard output", service.stdout().as_str())] {
            let line = written.lines().find(|line| line.contains(half));
            assert!(line.is_none(), "{secret} is in {what}: {line:?}");
        }
    }
}

async fn started(dir: &Path, more: &[(&str, &str)]) -> Service {
    let mut variables = vec![
        ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
        ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
        ("USHER_AUTH", "optional"),
        ("USHER_TICKET_SECRET", TICKET_SECRET),
        ("USHER_LOG_LEVEL", "trace,actix_http=trace"),
    ];
    variables.extend(more);
    Service::start(dir, &variables, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_a_log_embedded() {
    let scratch = Scratch::new("secrets");
    let mut service = started(scratch.path(), &[]).await;
    let mut secrets = every_flow(&service).await;
    service.signal("TERM");
    assert_eq!(service.ended().await, Some(0));
    // The generated key of the passes.
    let key = std::fs::read_to_string(scratch.path().join("data").join("pass.pem")).expect("a key");
    secrets.push(key.lines().nth(1).expect("a line of base64").to_owned());
    expect_silence(&service, &secrets, &service.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_a_log_scaled_out_and_with_a_store_gone() {
    let scratch = Scratch::new("secrets");
    let store = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    store.command::<()>(&["CONFIG", "SET", "requirepass", REDIS_PASSWORD]).await;
    let queue = format!("redis://:{REDIS_PASSWORD}@127.0.0.1:{}/", store.port());
    let ledger = crate::support::postgres::fresh_database().await;
    let ledger = ledger.replace("postgres@", &format!("postgres:{DATABASE_PASSWORD}@"));
    assert!(ledger.contains(DATABASE_PASSWORD));
    let prefix = redis::fresh_prefix();
    let more = [
        ("USHER_REDIS_URL", queue.as_str()),
        ("USHER_REDIS_PREFIX", &prefix),
        ("USHER_DATABASE_URL", &ledger),
        ("USHER_PASS_SECRET", PASS_SECRET),
    ];
    let mut service = started(scratch.path(), &more).await;
    let mut secrets = every_flow(&service).await;
    secrets.extend([REDIS_PASSWORD.to_owned(), DATABASE_PASSWORD.to_owned()]);
    // Reconnecting, with the password, to a store that is not there.
    drop(store);
    let join = service.api(Method::POST, "/queue/join").bearer_auth(user_token("berta"));
    assert_eq!(send(join.json(&json!({ "event_id": "e" }))).await.0, 503);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    service.signal("TERM");
    assert_eq!(service.ended().await, Some(0));
    let log = service.log();
    assert!(log.contains("\"turned away\""), "the failure is logged");
    expect_silence(&service, &secrets, &log);
}
