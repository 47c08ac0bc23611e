//! Whatever is wrong with a request gets a problem that says so, and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};
use usher::domain::Code;

use crate::support::usher::{Reply, Setup, World};

on_every_setup!(bad_requests_are_told_what_is_wrong_and_change_nothing);

async fn raw(world: &World, method: Method, path: &str, kind: Option<&str>, body: impl Into<reqwest::Body>) -> Reply {
    let mut request = world.request(0, method, path).body(body);
    if let Some(kind) = kind {
        request = request.header("Content-Type", kind);
    }
    world.send(request).await
}

async fn bad_requests_are_told_what_is_wrong_and_change_nothing(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let long = "x".repeat(129);
    let json = Some("application/json");
    for (body, says) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "object"),
        (r#"["e"]"#, "object"),
        ("null", "object"),
        ("{}", "event_id"),
        (r#"{"event_id":7}"#, "event_id"),
        (r#"{"event_id":""}"#, "event_id"),
        (r#"{"event_id":"a b"}"#, "event_id"),
        (r#"{"event_id":"a/b"}"#, "event_id"),
        (r#"{"event_id":"e"} x"#, "more"),
        (&format!(r#"{{"event_id":"{long}"}}"#), "event_id"),
        (&"[".repeat(10_000), ""),
    ] {
        let reply = raw(&world, Method::POST, "/queue/join", json, body.to_owned()).await;
        reply.expect_problem(400, "INVALID_REQUEST");
        assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{says}: {}", reply.text);
    }
    raw(&world, Method::POST, "/queue/join", json, vec![0xFF, 0xFE]).await.expect_problem(400, "INVALID_REQUEST");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("nonsense")] {
        raw(&world, Method::POST, "/queue/join", kind, r#"{"event_id":"e"}"#)
            .await
            .expect_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let huge = format!(r#"{{"event_id":"e","x":"{}"}}"#, "x".repeat(70_000));
    raw(&world, Method::POST, "/queue/join", json, huge).await.expect_problem(413, "PAYLOAD_TOO_LARGE");

    for (method, path, allowed) in [
        (Method::GET, "/queue/join", "POST"),
        (Method::POST, "/queue/position/e", "GET"),
        (Method::PUT, "/queue/leave", "DELETE"),
        (Method::PATCH, "/bookings/x", "GET, DELETE"),
        (Method::POST, "/queue/position/e/stream", "GET"),
        (Method::POST, "/admin/events/e", "GET, PUT, DELETE"),
    ] {
        let reply = world.send(world.request(0, method, path)).await;
        reply.expect_problem(405, "METHOD_NOT_ALLOWED");
        assert_eq!(reply.header("allow"), allowed);
    }
    for path in ["/", "/queue", "/queue/position", "/bookings/x/y/z", "/admin", "/%00", "/queue/position/e/streams"] {
        world.send(world.request(0, Method::GET, path)).await.expect_problem(404, "NOT_FOUND");
    }
    for path in ["/queue/position/a%20b", &format!("/queue/status/{long}"), "/events/%C3%A9", "/queue/status/a%2Fb"] {
        world.send(world.request(0, Method::GET, path)).await.expect_problem(400, "INVALID_REQUEST");
    }
    world.send(world.request(0, Method::GET, "/queue/status/nowhere")).await.expect_problem(404, "EVENT_NOT_FOUND");
    world
        .send(world.request(0, Method::GET, "/events/nowhere/availability"))
        .await
        .expect_problem(404, "EVENT_NOT_FOUND");

    let event = |queue: Value| json!({ "name": "E", "queue": queue });
    for (spec, says) in [
        (json!({}), "name"),
        (json!({ "name": "E", "shows": [{}] }), "shows[0]"),
        (
            json!({ "name": "E", "shows": [{ "id": "s", "name": "S", "zones": [{ "id": "z", "name": "Z", "capacity": -1, "price": 1 }] }] }),
            "capacity",
        ),
        (
            json!({ "name": "E", "shows": [{ "id": "s", "name": "S", "zones": [{ "id": "z", "name": "Z", "capacity": 1, "price": 1.005 }] }] }),
            "price",
        ),
        (json!({ "name": "E", "color": 1 }), "color"),
        (event(json!({ "admit_per_minute": -1 })), "queue.admit_per_minute"),
        (event(json!({ "admit_per_minute": 60_000_001 })), "queue.admit_per_minute"),
        (event(json!({ "admit_per_minute": 1e300 })), "queue.admit_per_minute"),
        (event(json!({ "pass_ttl_seconds": 0 })), "queue.pass_ttl_seconds"),
        (event(json!({ "hold_ttl_seconds": 86_401 })), "queue.hold_ttl_seconds"),
        (event(json!({ "state": "ajar" })), "queue.state"),
        (event(json!({ "opens_at": "soon" })), "queue.opens_at"),
        (event(json!({ "message": "x".repeat(501) })), "queue.message"),
        (event(json!({ "speed": 1 })), "speed"),
    ] {
        for id in ["e", "new"] {
            let reply = world.admin(Method::PUT, &format!("/events/{id}"), Some(spec.clone())).await;
            reply.expect_problem(400, "INVALID_REQUEST");
            assert!(
                reply.json()["detail"].as_str().is_some_and(|detail| detail.contains(says)),
                "{says}: {}",
                reply.text
            );
        }
    }
    let still = world.admin(Method::GET, "/events", None).await.expect(200);
    assert_eq!((&still["total"], &still["data"][0]["name"]), (&json!(1), &json!("Event e")));
    assert_eq!(
        (&still["data"][0]["live"]["waiting"], &still["data"][0]["queue"]["state"]),
        (&json!(0), &json!("paused"))
    );
    assert_eq!(world.admin(Method::GET, "/audit", None).await.expect(200)["total"], 1);
}

/// `docs/API.md` has the same table of codes as the code.
#[test]
fn the_reference_lists_every_code() {
    let rows: Vec<_> =
        Code::ALL.iter().map(|c| format!("| `{}` | {} | {} |", c.as_str(), c.status(), c.title())).collect();
    let table = format!("| --- | --- | --- |\n{}\n\n", rows.join("\n"));
    assert!(
        include_str!("../../../docs/API.md").contains(&table),
        "docs/API.md should have exactly these rows:\n{table}"
    );
}

/// Every path and method of the document is there, and says no more and no less than the document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_and_the_service_agree() {
    let world = World::start(Setup::Embedded).await;
    let document = world.send(world.client.get(world.url(0, "/openapi.json"))).await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    for (path, verbs) in paths {
        let verbs: Vec<_> = verbs.as_object().expect("verbs").keys().map(|verb| verb.to_uppercase()).collect();
        let url = world.url(0, &path.replace("{event_id}", "x").replace("{id}", "x"));
        for verb in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let reply = world.send(world.client.request(verb.parse().expect("a method"), &url)).await;
            let there = !(reply.status == 405 || (reply.status == 404 && reply.code() == "NOT_FOUND"));
            assert_eq!(there, verbs.iter().any(|known| known == verb), "{verb} {path}: {}", reply.text);
        }
    }
    assert!(paths.len() > 20, "{}", paths.len());
    // And the reference names each of them.
    for path in paths.keys() {
        let short = path.strip_prefix("/api/v1").unwrap_or(path);
        assert!(include_str!("../../../docs/API.md").contains(short), "docs/API.md does not tell of {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_metrics_keys_and_docs_are_there() {
    let world = World::start(Setup::Scaled(1)).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    world.join(0, "e").await.expect(201);
    let get = |path: &'static str| world.send(world.client.get(world.url(0, path)));
    assert_eq!(get("/health").await.expect(200)["status"], "ok");
    assert_eq!(get("/ready").await.expect(200)["status"], "ready");
    assert_eq!(
        get("/.well-known/jwks.json").await.expect(200),
        json!({ "keys": [] }),
        "a shared secret is published to nobody"
    );
    assert!(get("/docs").await.text.contains("<title>"));
    let metrics = get("/metrics").await.text;
    for line in ["usher_joined_total 1", "usher_store_up{store=\"ledger\"} 1", "usher_store_up{store=\"queue\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
    let reply = get("/health").await;
    for (header, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(reply.header(header), value);
    }
    // Nothing is kept unless it says so, and what a browser shows loads nothing but its own.
    let events = world.admin(Method::GET, "/events", None).await;
    assert_eq!(events.header("cache-control"), "no-store");
    assert_eq!(events.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(get("/.well-known/jwks.json").await.header("cache-control"), "public, max-age=300");
    let docs = get("/docs").await;
    let policy = docs.header("content-security-policy").to_owned();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(docs.text.matches("<script").count() + docs.text.matches("<style").count(), 2, "each has its digest");
    assert!(!docs.text.contains("style=") && !docs.text.contains("onclick="), "which does not cover attributes");
    let embedded = World::start(Setup::Embedded).await;
    let jwks = embedded.send(embedded.client.get(embedded.url(0, "/.well-known/jwks.json"))).await.expect(200);
    assert_eq!((&jwks["keys"][0]["kty"], &jwks["keys"][0]["crv"]), (&json!("OKP"), &json!("Ed25519")));
}

/// Also where they are refused before any route is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_on_an_origin_that_is_allowed_may_read_every_answer() {
    let origin = "https://shop.example";
    let world = World::start_with(Setup::Embedded, &[("cors_origins", origin)]).await;
    let from = |origin: &str, path: &str| world.client.get(world.url(0, path)).header("Origin", origin.to_owned());
    let long = format!("/{}", "x".repeat(9_000));
    for (path, status) in [("/health", 200), ("/api/v1/queue/status/none", 404), (&long, 414)] {
        let reply = world.send(from(origin, path)).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("access-control-allow-origin"), origin, "{status}");
        assert!(reply.header("access-control-expose-headers").contains("retry-after"), "{:?}", reply.headers);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{status}");
        let stranger = world.send(from("https://elsewhere.example", path)).await;
        assert_eq!(stranger.header("access-control-allow-origin"), "", "{status}");
    }
}
