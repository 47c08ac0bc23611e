//! Who is calling, and how often.

use reqwest::Method;
use serde_json::json;

use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET, Reply, Setup, World, user_token};

on_every_setup!(a_visitor_is_known_by_token_or_ticket, the_operator_is_known_by_the_token);

/// An HS256 token with these claims.
fn signed(claims: &serde_json::Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), claims, &key).expect("signed")
}

async fn join_with(world: &World, header: (&str, &str)) -> Reply {
    let request = world.request(0, Method::POST, "/queue/join").header(header.0, header.1);
    world.send(request.json(&json!({ "event_id": "e" }))).await
}

async fn a_visitor_is_known_by_token_or_ticket(setup: Setup) {
    let world = World::start(setup).await;
    for event in ["e", "other"] {
        world.put_event(event, 10, json!({ "state": "paused" })).await;
    }
    let bearer = |token: &str| format!("Bearer {token}");
    let by_sub = signed(&json!({ "sub": "anna", "exp": 4_000_000_000_u64 }), JWT_SECRET);
    let by_user_id = signed(&json!({ "user_id": "anna" }), JWT_SECRET);
    let anna = join_with(&world, ("Authorization", &bearer(&by_sub))).await;
    anna.expect(201);
    join_with(&world, ("Authorization", &bearer(&by_user_id))).await.expect(200);

    let forged = signed(&json!({ "sub": "anna" }), "another secret, of 32 bytes or more");
    let expired = signed(&json!({ "sub": "anna", "exp": 1_000 }), JWT_SECRET);
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0.";
    let odd = signed(&json!({ "sub": "a b" }), JWT_SECRET);
    for token in [&bearer(&forged), &bearer(&expired), &bearer(none), &bearer(&odd), "Bearer", "Basic YTpi", "Bearer "]
    {
        let reply = join_with(&world, ("Authorization", token)).await;
        reply.expect_problem(401, "UNAUTHORIZED");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }

    // Token and ticket have to agree, wherever both are sent.
    let ticket = anna.json()["token"].as_str().expect("a ticket").to_owned();
    let disagreeing = |method: Method, path: &str| {
        world.request(0, method, path).bearer_auth(user_token("berta")).header("X-Queue-Ticket", &ticket)
    };
    world.send(disagreeing(Method::GET, "/queue/position/e")).await.expect_problem(403, "INVALID_TOKEN");
    world.send(disagreeing(Method::GET, "/bookings")).await.expect_problem(403, "INVALID_TOKEN");
    let join = disagreeing(Method::POST, "/queue/join").json(&json!({ "event_id": "e" }));
    world.send(join).await.expect_problem(403, "INVALID_TOKEN");
    // The ticket alone says who it is; another event's ticket is no place here.
    assert_eq!(world.position(0, "e", &ticket).await.expect(200)["position"], 1);
    world.position(0, "other", &ticket).await.expect_problem(404, "NOT_IN_QUEUE");
    world.position(0, "e", "rubbish").await.expect_problem(403, "INVALID_TOKEN");
    world.send(world.request(0, Method::GET, "/queue/position/e")).await.expect_problem(404, "NOT_IN_QUEUE");
    // A header that nobody trusts is no identity.
    join_with(&world, ("X-User-ID", "anna")).await.expect(201);
}

async fn the_operator_is_known_by_the_token(setup: Setup) {
    let world = World::start(setup).await;
    let mut bodies = std::collections::HashSet::new();
    for header in [
        None,
        Some("Bearer wrong".to_owned()),
        Some(format!("Basic {ADMIN_TOKEN}")),
        Some(format!("Bearer {ADMIN_TOKEN}x")),
    ] {
        for (method, path) in
            [(Method::GET, "/admin/events"), (Method::PUT, "/admin/events/e"), (Method::GET, "/admin/events/nowhere")]
        {
            let mut request = world.request(0, method, path);
            if let Some(header) = &header {
                request = request.header("Authorization", header);
            }
            let reply = world.send(request).await;
            reply.expect_problem(401, "UNAUTHORIZED");
            bodies.insert(reply.text);
        }
    }
    assert_eq!(bodies.len(), 1, "nobody learns which half was wrong");
    world.admin(Method::GET, "/events", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_token_is_required_a_ticket_is_not_enough() {
    let world = World::start_with(Setup::Embedded, &[("auth", "required")]).await;
    world.put_event("e", 10, json!({})).await;
    world.join(0, "e").await.expect_problem(401, "UNAUTHORIZED");
    let anna = world.join_as(0, "e", "anna").await;
    anna.expect(201);
    let ticket = anna.json()["token"].as_str().expect("a ticket").to_owned();
    world.position(0, "e", &ticket).await.expect_problem(401, "UNAUTHORIZED");
    world.send(world.request(0, Method::GET, "/bookings")).await.expect_problem(401, "UNAUTHORIZED");
    world.reserve(0, "e", "rubbish", "k", 1).await.expect_problem(401, "UNAUTHORIZED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_header_names_the_visitor() {
    let world = World::start_with(Setup::Embedded, &[("auth_trusted_header", "X-User-ID")]).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    join_with(&world, ("X-User-ID", "anna")).await.expect(201);
    join_with(&world, ("X-User-ID", "anna")).await.expect(200);
    join_with(&world, ("X-User-ID", "a b")).await.expect_problem(401, "UNAUTHORIZED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_over_the_limit_is_told_when_to_come_back() {
    let limits = [("rate_limit_per_visitor", "1"), ("rate_limit_visitor_burst", "3")];
    let world = World::start_with(Setup::Embedded, &limits).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000 })).await;
    let joined = world.join_as(0, "e", "anna").await.expect(201);
    let ticket = joined["token"].as_str().expect("a ticket");
    let mut limited = None;
    for _ in 0..5 {
        let reply = world.position(0, "e", ticket).await;
        if reply.status == 429 {
            limited = Some(reply);
            break;
        }
    }
    let limited = limited.expect("five polls at once are over a burst of three");
    limited.expect_problem(429, "RATE_LIMITED");
    for (header, value) in
        [("x-ratelimit-limit", "3"), ("x-ratelimit-remaining", "0"), ("retry-after", "1"), ("x-ratelimit-reset", "1")]
    {
        assert_eq!(limited.header(header), value, "{header}");
    }
    assert!(limited.header("ratelimit").contains("r=0") && limited.header("ratelimit-policy").contains("q=3"));
    world.join_as(0, "e", "berta").await.expect(201);

    // A valid pass lifts the limit; a made-up one does not.
    let pass = loop {
        let reply = world.position(0, "e", ticket).await;
        if let Some(pass) = reply.json()["queue_pass"].as_str() {
            break pass.to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    };
    let poll = |pass: &str| {
        let request = world.request(0, Method::GET, "/queue/position/e").header("X-Queue-Ticket", ticket);
        world.send(request.header("X-Queue-Pass", pass))
    };
    for _ in 0..10 {
        poll(&pass).await.expect(200);
    }
    let mut refused = false;
    for _ in 0..5 {
        refused |= poll("made.up.pass").await.status == 429;
    }
    assert!(refused);
}

/// Behind a trusted proxy each client is counted by its own address, whatever it writes into the header itself; so are guesses of
/// the operators' token, and what is for everybody but asks the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_is_counted_by_address() {
    let limits = [
        ("rate_limit_per_address", "1"),
        ("rate_limit_address_burst", "3"),
        ("trusted_proxies", "127.0.0.0/8, 10.0.0.0/8"),
    ];
    let world = World::start_with(Setup::Embedded, &limits).await;
    world.put_event("e", 10, json!({})).await;
    let limited = |path: &'static str, forwarded: Vec<String>, token: Option<&'static str>| {
        let world = &world;
        async move {
            let mut limited = 0;
            for forwarded in forwarded {
                let mut request = world.request(0, Method::GET, path).header("X-Forwarded-For", forwarded);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let reply = world.send(request).await;
                if reply.status == 429 {
                    reply.expect_problem(429, "RATE_LIMITED");
                    assert!(!reply.header("retry-after").is_empty());
                    limited += 1;
                }
            }
            limited
        }
    };
    let same = |address: &str| (0..8).map(|n| format!("192.0.2.{n}, {address}, 10.0.0.1")).collect::<Vec<_>>();
    let network = (0..8).map(|n| format!("2001:db8::{n}")).collect::<Vec<_>>();
    let others = (0..8).map(|n| format!("203.0.113.{n}")).collect::<Vec<_>>();
    let anywhere = "/events/e/availability";
    assert!(limited(anywhere, same("198.51.100.1"), None).await >= 3, "one address, under many made-up ones");
    assert!(limited(anywhere, network, None).await >= 3, "one network of IPv6");
    assert_eq!(limited(anywhere, others, None).await, 0, "eight addresses");
    assert!(limited("/admin/events", same("198.51.100.2"), Some("a-guess-of-the-token")).await >= 3, "guesses");
    assert_eq!(limited("/admin/events", same("198.51.100.2"), Some(ADMIN_TOKEN)).await, 0, "the operator");
    assert_eq!(limited("/queue/status/e", same("198.51.100.1"), None).await, 0, "answered from memory");
}

/// A header that says who calls says nothing when it is there twice: a proxy may have read one of them, and we the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_is_sent_twice_is_none() {
    let world = World::start_with(Setup::Embedded, &[("auth_trusted_header", "X-User-ID")]).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let join = || world.request(0, Method::POST, "/queue/join").json(&json!({ "event_id": "e" }));
    world
        .send(join().header("X-User-ID", "mallory").header("X-User-ID", "anna"))
        .await
        .expect_problem(401, "UNAUTHORIZED");
    world.send(join().header("X-User-ID", "anna")).await.expect(201);
    let bearer = |token: &str| format!("Bearer {token}");
    let twice = join()
        .header("Authorization", bearer(&user_token("anna")))
        .header("Authorization", bearer(&user_token("berta")));
    world.send(twice).await.expect_problem(401, "UNAUTHORIZED");
    let events = world.request(0, Method::GET, "/admin/events").header("Authorization", "Bearer x");
    world.send(events.bearer_auth(ADMIN_TOKEN)).await.expect_problem(401, "UNAUTHORIZED");
}
