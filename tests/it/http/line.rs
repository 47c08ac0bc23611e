//! Join, position, leave, status.

use reqwest::Method;
use serde_json::{Value, json};
use usher::domain::Clock;
use usher::domain::time::SystemClock;

use crate::support::usher::{Reply, Setup, World, user_token};

on_every_setup!(
    a_visitor_goes_through_the_line_and_books,
    joining_twice_gives_the_same_place,
    a_browser_keeps_a_ticket_for_each_event,
    the_line_is_first_come_first_served_and_closes_up_at_once,
    leaving_is_for_ones_own_place,
    whoever_left_or_ran_out_joins_at_the_back,
    polling_admits_nobody,
    an_admitted_visitor_sees_the_same_pass_everywhere,
    a_pass_that_is_given_back_lets_the_next_one_in,
    the_states_of_a_queue,
    the_line_can_be_full,
    the_status_tells_the_lines_numbers,
    an_event_can_be_removed_under_its_line,
    a_reset_makes_places_and_passes_void,
);

fn ticket(reply: &Reply) -> String {
    reply.json()["token"].as_str().expect("a ticket").to_owned()
}

/// What a pass says, unverified.
fn claims(pass: &str) -> Value {
    use base64::Engine;
    let middle = pass.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).expect("base64");
    serde_json::from_slice(&bytes).expect("claims")
}

async fn leave(world: &World, at: usize, event: &str, ticket: &str) -> Reply {
    let body = json!({ "event_id": event, "token": ticket });
    world.send(world.request(at, Method::DELETE, "/queue/leave").json(&body)).await
}

async fn patch(world: &World, event: &str, change: Value) {
    world.admin(Method::PATCH, &format!("/events/{event}/queue"), Some(change)).await.expect(200);
}

async fn a_visitor_goes_through_the_line_and_books(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 6000 })).await;
    let joined = world.join(0, "e").await;
    let body = joined.expect(201);
    assert_eq!((&body["position"], &body["total_in_queue"], &body["is_ready"]), (&json!(1), &json!(1), &json!(false)));
    let ticket = ticket(&joined);
    let pass = world.pass(1, "e", &ticket).await;
    let reserved = world.reserve(1, "e", &pass, "k1", 2).await;
    let body = reserved.expect(201);
    assert_eq!(
        (&body["status"], &body["total_price"], &body["quantity"]),
        (&json!("reserved"), &json!(200.0), &json!(2))
    );
    assert_eq!(world.reserve(0, "e", &pass, "k1", 2).await.text, reserved.text, "the first answer, byte for byte");
    world.reserve(0, "e", &pass, "k2", 2).await.expect_problem(403, "QUEUE_PASS_USED");
    assert_eq!(world.available(0, "e").await, 8);
    assert_eq!(world.position(0, "e", &ticket).await.expect(200)["state"], "used");
}

async fn joining_twice_gives_the_same_place(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    world.join(0, "e").await.expect(201);
    let first = world.join_as(0, "e", "anna").await;
    let place = first.expect(201);
    assert_eq!((&place["position"], &place["total_in_queue"]), (&json!(2), &json!(2)));
    world.join(1, "e").await.expect(201);
    for at in 0..3 {
        let again = world.join_as(at, "e", "anna").await.expect(200);
        for field in ["position", "joined_at", "expires_at", "token"] {
            assert_eq!(again[field], place[field], "{field}");
        }
        assert_eq!(again["total_in_queue"], 3);
    }
    // By the ticket alone it is the same visitor too.
    let request = world.request(1, Method::POST, "/queue/join").header("X-Queue-Ticket", ticket(&first));
    let by_ticket = world.send(request.json(&json!({ "event_id": "e" }))).await.expect(200);
    assert_eq!(by_ticket["joined_at"], place["joined_at"]);
    // A hundred at once are still one visitor.
    let joins = (0..100).map(|at| world.join_as(at, "e", "berta"));
    let replies = futures_util::future::join_all(joins).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    assert!(replies.iter().all(|reply| reply.json()["position"] == 4));
}

async fn a_browser_keeps_a_ticket_for_each_event(setup: Setup) {
    let world = World::start(setup).await;
    for event in ["one", "two"] {
        world.put_event(event, 10, json!({ "state": "paused" })).await;
    }
    // A browser's jar, by path: what the server sets is sent back to the paths below it, the longest first.
    let mut jar: Vec<(String, String)> = Vec::new();
    let cookies = |jar: &[(String, String)], path: &str| {
        let mut sent: Vec<_> = jar.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str())).collect();
        sent.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        sent.iter().map(|(_, pair)| pair.as_str()).collect::<Vec<_>>().join("; ")
    };
    for (event, status) in [("one", 201), ("two", 201), ("one", 200), ("two", 200)] {
        let request =
            world.request(0, Method::POST, "/queue/join").header("Cookie", cookies(&jar, "/api/v1/queue/join"));
        let reply = world.send(request.json(&json!({ "event_id": event }))).await;
        reply.expect(status);
        for set in reply.headers.get_all("set-cookie") {
            let set = set.to_str().expect("text");
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            let path = set.split("; ").find_map(|part| part.strip_prefix("Path=")).expect("a path").to_owned();
            jar.retain(|(known, _)| *known != path);
            jar.push((path, set.split("; ").next().expect("a pair").to_owned()));
        }
    }
    assert_eq!(jar.len(), 3, "one for each event, one for the paths without an event");
    for event in ["one", "two"] {
        let path = format!("/queue/position/{event}");
        let cookie = cookies(&jar, &format!("/api/v1{path}"));
        let seen = world.send(world.request(1, Method::GET, &path).header("Cookie", cookie)).await.expect(200);
        assert_eq!((&seen["position"], &seen["event_id"]), (&json!(1), &json!(event)));
    }
}

async fn the_line_is_first_come_first_served_and_closes_up_at_once(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let mut tickets = Vec::new();
    for at in 0..6 {
        let joined = world.join(at, "e").await;
        assert_eq!(joined.expect(201)["position"], at + 1);
        tickets.push(ticket(&joined));
    }
    // A join may have to wait for the feed; a leave does not.
    for at in 0..2 {
        world.eventually(at, "/queue/status/e", |reply| reply.json()["total_in_queue"] == 6).await;
    }
    assert_eq!(leave(&world, 0, "e", &tickets[2]).await.expect(200)["success"], true);
    for (behind, place) in [(0, 1), (1, 2), (3, 3), (4, 4), (5, 5)] {
        let closed_up = |reply: &Reply| reply.json()["position"] == place && reply.json()["total_in_queue"] == 5;
        let seen = world.sees(behind + 1, "e", &tickets[behind], closed_up).await.expect(200);
        assert_eq!(
            (&seen["position"], &seen["total_in_queue"], &seen["state"]),
            (&json!(place), &json!(5), &json!("waiting"))
        );
    }
    world.position(0, "e", &tickets[2]).await.expect_problem(404, "NOT_IN_QUEUE");
    // Let in one a second from here on: the order of admission is the order of the line.
    patch(&world, "e", json!({ "state": "open", "admit_per_minute": 300 })).await;
    let mut admitted = Vec::new();
    for at in [0, 1, 3, 4, 5] {
        let pass = world.pass(at, "e", &tickets[at]).await;
        admitted.push(claims(&pass)["adm"].as_i64().expect("a time"));
    }
    assert!(admitted.is_sorted(), "{admitted:?}");
}

async fn leaving_is_for_ones_own_place(setup: Setup) {
    let world = World::start(setup).await;
    for event in ["e", "other"] {
        world.put_event(event, 10, json!({ "state": "paused" })).await;
    }
    let anna = ticket(&world.join_as(0, "e", "anna").await);
    let berta = ticket(&world.join_as(0, "e", "berta").await);
    let as_anna = |ticket: &str, event: &str| {
        let request = world.request(0, Method::DELETE, "/queue/leave").bearer_auth(user_token("anna"));
        world.send(request.json(&json!({ "event_id": event, "token": ticket })))
    };
    as_anna(&berta, "e").await.expect_problem(403, "INVALID_TOKEN");
    as_anna(&anna, "other").await.expect_problem(403, "INVALID_TOKEN");
    as_anna("rubbish", "e").await.expect_problem(403, "INVALID_TOKEN");
    let mut forged = anna.clone().into_bytes();
    forged[20] ^= 1;
    as_anna(&String::from_utf8_lossy(&forged), "e").await.expect_problem(403, "INVALID_TOKEN");
    assert_eq!(world.position(0, "e", &berta).await.expect(200)["position"], 2, "nobody has left");
    as_anna(&anna, "e").await.expect(200);
    as_anna(&anna, "e").await.expect(200);
    assert_eq!(world.position(0, "e", &berta).await.expect(200)["position"], 1);
}

async fn whoever_left_or_ran_out_joins_at_the_back(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let old = ticket(&world.join_as(0, "e", "anna").await);
    world.join(0, "e").await.expect(201);
    leave(&world, 0, "e", &old).await.expect(200);
    assert_eq!(world.join_as(0, "e", "anna").await.expect(201)["position"], 2);
    // The old ticket no longer stands for a place: it cannot take the new one away.
    leave(&world, 0, "e", &old).await.expect(200);
    assert_eq!(world.join_as(0, "e", "anna").await.expect(200)["position"], 2);

    world.put_event("short", 10, json!({ "admit_per_minute": 60000, "pass_ttl_seconds": 1 })).await;
    let ticket = ticket(&world.join_as(0, "short", "anna").await);
    world.pass(0, "short", &ticket).await;
    let path = "/queue/position/short";
    let mut state = json!("admitted");
    for _ in 0..100 {
        let seen = world.send(world.request(1, Method::GET, path).header("X-Queue-Ticket", &ticket)).await.expect(200);
        state = seen["state"].clone();
        if state == "expired" {
            assert_eq!((&seen["queue_pass"], &seen["is_ready"]), (&Value::Null, &json!(false)));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(state, "expired");
    world.join_as(0, "short", "anna").await.expect(201);
}

async fn polling_admits_nobody(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 0 })).await;
    let first = ticket(&world.join(0, "e").await);
    for at in 0..60 {
        let reply = world.position(at, "e", &first).await;
        let seen = reply.expect(200);
        assert_eq!((&seen["position"], &seen["queue_pass"]), (&json!(1), &Value::Null));
        assert_eq!(seen["estimated_wait_seconds"], Value::Null, "a line that does not move has no estimate");
        assert_eq!(reply.header("retry-after"), seen["poll_after_seconds"].to_string());
    }
}

async fn an_admitted_visitor_sees_the_same_pass_everywhere(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60000 })).await;
    let (ticket, pass) = world.admitted(0, "e").await;
    for at in 0..4 {
        let seen = world.sees(at, "e", &ticket, |reply| reply.json()["queue_pass"].is_string()).await.expect(200);
        assert_eq!(claims(seen["queue_pass"].as_str().expect("a pass")), claims(&pass));
        assert_eq!(
            (&seen["state"], &seen["position"], &seen["is_ready"]),
            (&json!("admitted"), &json!(0), &json!(true))
        );
    }
    let request = world.request(1, Method::POST, "/queue/join").header("X-Queue-Ticket", &ticket);
    let again = world.send(request.json(&json!({ "event_id": "e" }))).await.expect(200);
    assert_eq!((&again["is_ready"], &again["position"]), (&json!(true), &json!(0)));
    assert_eq!(claims(again["queue_pass"].as_str().expect("a pass")), claims(&pass));
}

async fn a_pass_that_is_given_back_lets_the_next_one_in(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60000, "max_active": 1 })).await;
    let (first, _) = world.admitted(0, "e").await;
    let second = ticket(&world.join(1, "e").await);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(world.position(0, "e", &second).await.expect(200)["state"], "waiting", "one at a time");
    leave(&world, 1, "e", &first).await.expect(200);
    world.pass(0, "e", &second).await;
}

async fn the_states_of_a_queue(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "closed", "admit_per_minute": 60000 })).await;
    world.join(0, "e").await.expect_problem(409, "QUEUE_NOT_OPEN");
    world.join(0, "nowhere").await.expect_problem(404, "EVENT_NOT_FOUND");
    patch(&world, "e", json!({ "state": "paused" })).await;
    let early = ticket(&world.join(1, "e").await);
    patch(&world, "e", json!({ "state": "closed" })).await;
    world.join(1, "e").await.expect_problem(409, "QUEUE_NOT_OPEN");
    assert_eq!(world.position(1, "e", &early).await.expect(200)["position"], 1, "those inside keep their places");

    let opens = SystemClock.now().plus(std::time::Duration::from_secs(2)).to_string();
    patch(&world, "e", json!({ "state": "lobby", "opens_at": opens })).await;
    let late = ticket(&world.join(0, "e").await);
    assert_eq!(world.position(0, "e", &early).await.expect(200)["state"], "waiting", "a lobby lets nobody in");
    world.eventually(1, "/queue/status/e", |reply| reply.json()["state"] == "lobby").await;
    world.pass(0, "e", &early).await;
    world.pass(1, "e", &late).await;
    assert!(SystemClock.now().to_string() >= opens, "nobody went in before the time");
    world.eventually(1, "/queue/status/e", |reply| reply.json()["state"] == "open").await;
}

async fn the_line_can_be_full(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "state": "paused", "max_queue": 3 })).await;
    let joins = (0..20).map(|at| world.join(at, "e"));
    let replies = futures_util::future::join_all(joins).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 3);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.expect_problem(409, "QUEUE_FULL");
    }
}

async fn the_status_tells_the_lines_numbers(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60000, "max_active": 2, "message": "Soon!" })).await;
    for at in 0..5 {
        world.join(at, "e").await.expect(201);
    }
    for at in 0..2 {
        let wanted = |reply: &Reply| reply.json()["admitted_active"] == 2 && reply.json()["total_in_queue"] == 3;
        let reply = world.eventually(at, "/queue/status/e", wanted).await;
        let status = reply.json();
        assert_eq!(
            (&status["state"], &status["is_open"], &status["message"]),
            (&json!("open"), &json!(true), &json!("Soon!"))
        );
        assert_eq!((&status["name"], &status["admit_per_minute"]), (&json!("Event e"), &json!(60000)));
        assert_eq!(reply.header("cache-control"), "public, max-age=1");
    }
}

async fn an_event_can_be_removed_under_its_line(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60000, "max_active": 1 })).await;
    let (first, pass) = world.admitted(0, "e").await;
    let waiting = ticket(&world.join(0, "e").await);
    let reserved = world.reserve(0, "e", &pass, "k", 1).await.expect(201);
    world.admin(Method::DELETE, "/events/e", None).await.expect(200);
    for at in 0..2 {
        world.eventually(at, "/queue/status/e", |reply| reply.status == 404).await;
        world.position(at, "e", &waiting).await.expect_problem(404, "EVENT_NOT_FOUND");
        world.join(at, "e").await.expect_problem(404, "EVENT_NOT_FOUND");
        world.reserve(at, "e", &pass, "k3", 1).await.expect_problem(404, "EVENT_NOT_FOUND");
    }
    // What was reserved stays, and can be confirmed.
    let path = format!("/bookings/{}/confirm", reserved["booking_id"].as_str().expect("an id"));
    world.send(world.request(0, Method::POST, &path).header("X-Queue-Ticket", &first)).await.expect(200);
    // Put again, the line is empty, numbers go on, and the seat is still taken.
    world.put_event("e", 10, json!({ "admit_per_minute": 60000 })).await;
    world.position(1, "e", &waiting).await.expect_problem(404, "NOT_IN_QUEUE");
    let (_, fresh) = world.admitted(1, "e").await;
    assert!(claims(&fresh)["num"].as_u64() > claims(&pass)["num"].as_u64());
    assert_eq!(world.available(0, "e").await, 9);
}

async fn a_reset_makes_places_and_passes_void(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60000, "max_active": 1 })).await;
    let (_, pass) = world.admitted(0, "e").await;
    let waiting = ticket(&world.join(0, "e").await);
    world
        .admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "f" })))
        .await
        .expect_problem(400, "INVALID_REQUEST");
    assert_eq!(world.position(0, "e", &waiting).await.expect(200)["position"], 1, "nothing was reset");
    world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    world.sees(1, "e", &waiting, |reply| reply.status == 404).await.expect_problem(404, "NOT_IN_QUEUE");
    world.reserve(1, "e", &pass, "k", 1).await.expect_problem(403, "INVALID_QUEUE_PASS");
    let (_, fresh) = world.admitted(1, "e").await;
    world.reserve(0, "e", &fresh, "k", 1).await.expect(201);
}
