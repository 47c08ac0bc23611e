//! Reservations: who gets the seats, what a retry is answered, and what becomes of a booking.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::desk::{RUSH, admitted_as, asking, booking_id, reservation};
use crate::support::redis;
use crate::support::usher::{Reply, Setup, World, user_token};

on_every_setup!(
    two_hundred_racers_get_fifty_seats,
    a_retry_gets_the_first_answer_whatever_happened,
    a_key_belongs_to_one_request_of_one_visitor,
    the_same_request_twice_at_once_is_one_booking,
    a_key_that_is_none_is_refused,
    a_bad_request_changes_nothing,
    too_few_seats_leave_the_pass_good,
    the_limit_of_a_visitor_leaves_the_pass_good,
    a_count_that_was_missed_does_not_keep_a_visitor_out,
    the_price_is_the_catalogues,
    an_event_without_a_queue_needs_no_pass,
    a_booking_is_confirmed_once,
    a_cancelled_booking_gives_its_seats_back,
    a_reservation_that_is_not_confirmed_runs_out,
    bookings_are_listed_newest_first,
    a_booking_is_its_visitors_alone,
    a_ticket_or_a_pass_says_whose_bookings,
    a_payment_is_text_of_at_most_128_characters,
    a_client_that_goes_away_leaves_nothing_held,
);

async fn open(setup: Setup, seats: u32, more: Value) -> World {
    let world = World::start(setup).await;
    let mut queue = json!({ "admit_per_minute": RUSH });
    queue.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    world.put_event("e", seats, queue).await;
    world
}

/// A request about bookings as a signed-in visitor.
async fn call(world: &World, at: usize, method: Method, path: &str, user: &str) -> Reply {
    world.send(world.request(at, method, path).bearer_auth(user_token(user))).await
}

/// Reserves as a signed-in visitor without a pass.
async fn buy(world: &World, at: usize, user: &str, key: &str, quantity: u32) -> Reply {
    world.send(reservation(world, at, key, &asking("e", quantity)).bearer_auth(user_token(user))).await
}

async fn two_hundred_racers_get_fifty_seats(setup: Setup) {
    let world = open(setup, 50, json!({})).await;
    let racers = join_all((0..200).map(|n| {
        let world = &world;
        async move { (n, world.admitted(n, "e").await.1) }
    }))
    .await;
    let run = || {
        join_all(racers.iter().map(|(n, pass)| {
            let world = &world;
            async move { world.reserve(*n, "e", pass, &format!("key-{n}"), 1).await }
        }))
    };
    let first = run().await;
    let sold: Vec<&Reply> = first.iter().filter(|reply| reply.status == StatusCode::CREATED).collect();
    assert_eq!(sold.len(), 50);
    let bookings: HashSet<String> = sold.iter().map(|reply| booking_id(reply)).collect();
    assert_eq!(bookings.len(), 50);
    for reply in first.iter().filter(|reply| reply.status != StatusCode::CREATED) {
        reply.expect_problem(409, "INSUFFICIENT_SEATS");
    }
    let again = run().await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((first.status, &first.text), (again.status, &again.text));
    }
    for at in 0..2 {
        assert_eq!(world.available(at, "e").await, 0);
    }
    let zone = world.admin(Method::GET, "/inventory-status", None).await.expect(200)["zones"][0].clone();
    assert_eq!((&zone["taken"], &zone["held"], &zone["in_sync"]), (&json!(50), &json!(0), &json!(true)));
}

async fn a_retry_gets_the_first_answer_whatever_happened(setup: Setup) {
    let world = open(setup, 2, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let first = world.reserve(0, "e", &pass, "k", 2).await;
    let id = booking_id(&first);
    let same = async |what: &str| {
        for at in 0..2 {
            let again = world.reserve(at, "e", &pass, "k", 2).await;
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{what}");
            assert_eq!(again.header("content-type"), "application/json");
        }
    };
    same("sold out").await;
    call(&world, 0, Method::POST, &format!("/bookings/{id}/confirm"), "ann").await.expect(200);
    same("confirmed").await;
    call(&world, 0, Method::DELETE, &format!("/bookings/{id}"), "ann").await.expect(200);
    same("cancelled").await;
    assert_eq!(world.available(0, "e").await, 2, "a retry takes no seats");
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "max_per_user": 1 }))).await.expect(200);
    same("over the limit").await;
    let mut event = world.admin(Method::GET, "/events/e", None).await.expect(200);
    let spec = json!({ "name": "e", "queue": event["queue"].take(), "shows": [
        { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": 2, "price": 120.0 }] }] });
    world.admin(Method::PUT, "/events/e", Some(spec.clone())).await.expect(200);
    same("at another price").await;
    world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    same("with a pass of before a reset").await;
    let mut spec = spec;
    spec["shows"][0]["zones"][0]["id"] = json!("z2");
    world.admin(Method::PUT, "/events/e", Some(spec)).await.expect(200);
    same("without its zone").await;
    world.admin(Method::DELETE, "/events/e", None).await.expect(200);
    for at in 0..2 {
        world.eventually(at, "/queue/status/e", |reply| reply.status == StatusCode::NOT_FOUND).await;
    }
    same("without its event").await;
    world.reserve(0, "e", &pass, "k2", 2).await.expect_problem(404, "EVENT_NOT_FOUND");
}

async fn a_key_belongs_to_one_request_of_one_visitor(setup: Setup) {
    let world = open(setup, 10, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let first = world.reserve(0, "e", &pass, "k", 2).await;
    first.expect(201);
    world.reserve(1, "e", &pass, "k", 3).await.expect_problem(422, "IDEMPOTENCY_MISMATCH");
    let mut unpriced = asking("e", 2);
    unpriced.as_object_mut().expect("fields").remove("unit_price");
    let request = reservation(&world, 0, "k", &unpriced).header("X-Queue-Pass", &pass);
    world.send(request).await.expect_problem(422, "IDEMPOTENCY_MISMATCH");
    // The other name of the header, and the same key of another visitor and in another case.
    let request = world.request(1, Method::POST, "/bookings/reserve").header("Idempotency-Key", "k");
    let again = world.send(request.header("X-Queue-Pass", &pass).json(&asking("e", 2))).await;
    assert_eq!(again.text, first.text);
    let (_, bens) = admitted_as(&world, 0, "e", "ben").await;
    let other = world.reserve(1, "e", &bens, "k", 2).await;
    assert_ne!(booking_id(&other), booking_id(&first));
    world.reserve(0, "e", &pass, "K", 2).await.expect_problem(403, "QUEUE_PASS_USED");
    // A fresh pass with an old key gets the old answer, and stays good.
    let (_, fresh) = admitted_as(&world, 0, "e", "ann").await;
    assert_eq!(world.reserve(1, "e", &fresh, "k", 2).await.text, first.text);
    world.reserve(1, "e", &fresh, "k", 3).await.expect_problem(422, "IDEMPOTENCY_MISMATCH");
    world.reserve(1, "e", &fresh, "k3", 1).await.expect(201);
    assert_eq!(world.available(0, "e").await, 5);
}

async fn the_same_request_twice_at_once_is_one_booking(setup: Setup) {
    let world = open(setup, 10, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let answers = join_all((0..20).map(|at| world.reserve(at, "e", &pass, "k", 3))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (StatusCode::CREATED, &answers[0].text));
    }
    assert_eq!(world.available(1, "e").await, 7);

    // One pass and many keys: one booking, and the others are told why.
    let (_, pass) = admitted_as(&world, 0, "e", "ben").await;
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    let answers = join_all(keys.iter().enumerate().map(|(at, key)| world.reserve(at, "e", &pass, key, 1))).await;
    let (sold, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!(sold.len(), 1);
    for answer in refused {
        answer.expect_problem(403, "QUEUE_PASS_USED");
    }
    assert_eq!(world.available(0, "e").await, 6);
}

async fn a_key_that_is_none_is_refused(setup: Setup) {
    let world = open(setup, 10, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let bare =
        || world.request(0, Method::POST, "/bookings/reserve").header("X-Queue-Pass", &pass).json(&asking("e", 1));
    world.send(bare()).await.expect_problem(400, "INVALID_REQUEST");
    let long = "k".repeat(256);
    for key in ["", "two words", "tab\there", "caf\u{e9}", long.as_str()] {
        let value = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).expect("a header");
        let reply = world.send(bare().header("X-Idempotency-Key", value)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "INVALID_REQUEST"), "{key:?}");
    }
    assert_eq!(world.available(0, "e").await, 10);
    world.send(bare().header("X-Idempotency-Key", &long[1..])).await.expect(201);
}

async fn a_bad_request_changes_nothing(setup: Setup) {
    let world = open(setup, 20, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let send = async |body: &Value| world.send(reservation(&world, 1, "k", body).header("X-Queue-Pass", &pass)).await;
    for quantity in [json!(0), json!(11), json!(-1), json!(1.5), json!(4_294_967_297_u64), json!("2"), json!(null)] {
        let reply = send(&asking("e", &quantity)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "INVALID_REQUEST"), "{quantity}");
        assert!(reply.json()["detail"].as_str().expect("text").contains("quantity"), "{}", reply.text);
    }
    for (field, value, status, code) in [
        ("zone_id", json!("z9"), 404, "ZONE_NOT_FOUND"),
        ("show_id", json!("s9"), 404, "ZONE_NOT_FOUND"),
        ("event_id", json!("e9"), 404, "EVENT_NOT_FOUND"),
        ("zone_id", json!("z 1"), 400, "INVALID_REQUEST"),
        ("zone_id", json!(""), 400, "INVALID_REQUEST"),
        ("event_id", json!("x".repeat(129)), 400, "INVALID_REQUEST"),
        ("unit_price", json!(99.5), 409, "PRICE_CHANGED"),
        ("unit_price", json!(0), 409, "PRICE_CHANGED"),
        ("unit_price", json!(-1), 400, "INVALID_REQUEST"),
        ("unit_price", json!(100.001), 400, "INVALID_REQUEST"),
    ] {
        let mut body = asking("e", 1);
        body[field] = value;
        send(&body).await.expect_problem(status, code);
    }
    assert_eq!(world.available(0, "e").await, 20);
    // Nothing of it used up the pass, or the key.
    let mut unpriced = asking("e", 10);
    unpriced.as_object_mut().expect("fields").remove("unit_price");
    assert_eq!(send(&unpriced).await.expect(201)["total_price"], 1000.0);
}

async fn too_few_seats_leave_the_pass_good(setup: Setup) {
    let world = open(setup, 3, json!({})).await;
    let (ticket, pass) = admitted_as(&world, 0, "e", "ann").await;
    world.reserve(0, "e", &pass, "k", 4).await.expect_problem(409, "INSUFFICIENT_SEATS");
    let seen = world.sees(1, "e", &ticket, |reply| reply.json()["state"] == "admitted").await;
    assert_eq!(seen.expect(200)["state"], "admitted");
    assert_eq!(world.available(1, "e").await, 3);
    // A refusal is no first answer: the same key may ask for less.
    world.reserve(1, "e", &pass, "k", 3).await.expect(201);
}

async fn the_limit_of_a_visitor_leaves_the_pass_good(setup: Setup) {
    let world = open(setup, 20, json!({ "max_per_user": 4 })).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    world.reserve(0, "e", &pass, "k1", 5).await.expect_problem(409, "USER_LIMIT_EXCEEDED");
    let first = booking_id(&world.reserve(1, "e", &pass, "k1", 3).await);
    let summary = call(&world, 0, Method::GET, "/bookings/summary?event_id=e", "ann").await.expect(200);
    let wanted =
        json!({ "user_id": "ann", "event_id": "e", "booked_count": 3, "max_allowed": 4, "remaining_slots": 1 });
    assert_eq!(summary, wanted);
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    world.reserve(0, "e", &pass, "k2", 2).await.expect_problem(409, "USER_LIMIT_EXCEEDED");
    assert_eq!(world.available(1, "e").await, 17);
    // Seats that come back count no longer, and a limit that was raised holds at once.
    call(&world, 1, Method::DELETE, &format!("/bookings/{first}"), "ann").await.expect(200);
    world.reserve(0, "e", &pass, "k2", 4).await.expect(201);
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "max_per_user": 0 }))).await.expect(200);
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    world.reserve(0, "e", &pass, "k3", 10).await.expect(201);
    let summary = call(&world, 0, Method::GET, "/bookings/summary?event_id=e", "ann").await.expect(200);
    assert_eq!((&summary["booked_count"], &summary["max_allowed"]), (&json!(14), &Value::Null));
}

/// The engine hears of seats that come back, but a message can get lost. On Redis the loss is made by hand.
async fn a_count_that_was_missed_does_not_keep_a_visitor_out(setup: Setup) {
    let world = open(setup, 20, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let booking = booking_id(&world.reserve(0, "e", &pass, "k1", 10).await);
    let key = world.settings.redis.as_ref().map(|redis| format!("{}:2:{{e}}:buyers", redis.prefix));
    let mut before = None;
    if let Some(key) = &key {
        let count: String = redis::shared().command(&["HGET", key, "ann"]).await;
        before = Some(count);
    }
    call(&world, 0, Method::DELETE, &format!("/bookings/{booking}"), "ann").await.expect(200);
    if let (Some(key), Some(before)) = (&key, &before) {
        let _: u32 = redis::shared().command(&["HSET", key, "ann", before]).await;
    }
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    world.reserve(0, "e", &pass, "k2", 10).await.expect(201);
}

async fn the_price_is_the_catalogues(setup: Setup) {
    let world = open(setup, 20, json!({})).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    let spec = json!({ "name": "e", "queue": { "admit_per_minute": RUSH }, "shows": [
        { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": 20, "price": 19.99 }] }] });
    world.admin(Method::PUT, "/events/e", Some(spec)).await.expect(200);
    for at in 0..2 {
        let price = |reply: &Reply| reply.json()["shows"][0]["zones"][0]["price"] == 19.99;
        world.eventually(at, "/events/e", price).await;
        world.reserve(at, "e", &pass, "k", 1).await.expect_problem(409, "PRICE_CHANGED");
    }
    let mut body = asking("e", 3);
    body["unit_price"] = json!(19.99);
    let reply = world.send(reservation(&world, 1, "k", &body).header("X-Queue-Pass", &pass)).await;
    assert_eq!(reply.expect(201)["total_price"], 59.97);
}

async fn an_event_without_a_queue_needs_no_pass(setup: Setup) {
    let world = open(setup, 10, json!({ "queue_required": false })).await;
    let first = buy(&world, 0, "ann", "k1", 2).await;
    first.expect(201);
    assert_eq!(buy(&world, 1, "ann", "k1", 2).await.text, first.text);
    // Even when each of them asks for all that is left.
    let answers = join_all((0..10).map(|at| buy(&world, at, "ann", "k2", 8))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (StatusCode::CREATED, &answers[0].text));
    }
    assert_eq!(world.available(1, "e").await, 0);
    buy(&world, 0, "ben", "k", 1).await.expect_problem(409, "INSUFFICIENT_SEATS");
    let path = format!("/bookings/{}", booking_id(&first));
    call(&world, 0, Method::DELETE, &path, "ann").await.expect(200);
    // Somebody must be asking, though: by token or by ticket.
    world.send(reservation(&world, 0, "k3", &asking("e", 1))).await.expect_problem(401, "UNAUTHORIZED");
    let ticket = world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    let request = reservation(&world, 1, "k3", &asking("e", 1)).header("X-Queue-Ticket", ticket);
    world.send(request).await.expect(201);
}

async fn a_booking_is_confirmed_once(setup: Setup) {
    let world = open(setup, 10, json!({ "queue_required": false })).await;
    let id = booking_id(&buy(&world, 0, "ann", "k", 2).await);
    let path = format!("/bookings/{id}/confirm");
    let first = call(&world, 0, Method::POST, &path, "ann").await;
    let body = first.expect(200);
    assert_eq!((&body["booking_id"], &body["status"]), (&json!(id), &json!("confirmed")));
    assert!(body["confirmed_at"].is_string() && body["confirmation_code"].is_string(), "{body}");
    let with_payment = world.request(1, Method::POST, &path).bearer_auth(user_token("ann"));
    let again = world.send(with_payment.json(&json!({ "payment_id": "p1" }))).await;
    assert_eq!((again.status, again.text), (StatusCode::OK, first.text));
    let booking = call(&world, 1, Method::GET, &format!("/bookings/{id}"), "ann").await.expect(200);
    assert_eq!(booking["confirmation_code"], body["confirmation_code"]);

    let id = booking_id(&buy(&world, 0, "ann", "k2", 1).await);
    let path = format!("/bookings/{id}/confirm");
    let codes = join_all((0..10).map(|at| call(&world, at, Method::POST, &path, "ann"))).await;
    let codes: HashSet<String> = codes.iter().map(|reply| reply.expect(200).to_string()).collect();
    assert_eq!(codes.len(), 1, "{codes:?}");
}

async fn a_cancelled_booking_gives_its_seats_back(setup: Setup) {
    let world = open(setup, 4, json!({ "queue_required": false })).await;
    let reserved = booking_id(&buy(&world, 0, "ann", "k1", 2).await);
    let confirmed = booking_id(&buy(&world, 0, "ann", "k2", 2).await);
    call(&world, 0, Method::POST, &format!("/bookings/{confirmed}/confirm"), "ann").await.expect(200);
    for (left, id) in [(2, reserved), (4, confirmed)] {
        let path = format!("/bookings/{id}");
        let first = call(&world, 0, Method::DELETE, &path, "ann").await;
        let body = first.expect(200);
        assert_eq!((&body["booking_id"], &body["status"]), (&json!(id), &json!("cancelled")));
        assert!(body["message"].is_string());
        for at in 0..2 {
            assert_eq!(world.available(at, "e").await, left, "at once");
            let again = call(&world, at, Method::DELETE, &path, "ann").await;
            assert_eq!((again.status, &again.text), (first.status, &first.text));
            let confirm = call(&world, at, Method::POST, &format!("{path}/confirm"), "ann").await;
            confirm.expect_problem(409, "BOOKING_CANCELLED");
        }
    }
    // Cancelled many times at once, the seats come back once.
    buy(&world, 1, "ben", "k", 3).await.expect(201);
    let id = booking_id(&buy(&world, 0, "cyd", "k", 1).await);
    let path = format!("/bookings/{id}");
    for reply in join_all((0..10).map(|at| call(&world, at, Method::DELETE, &path, "cyd"))).await {
        reply.expect(200);
    }
    assert_eq!(world.available(0, "e").await, 1);
}

async fn a_reservation_that_is_not_confirmed_runs_out(setup: Setup) {
    let world = open(setup, 4, json!({ "queue_required": false, "hold_ttl_seconds": 1 })).await;
    let id = booking_id(&buy(&world, 0, "ann", "k", 3).await);
    world.eventually(1, "/events/e/availability", |reply| reply.json()["shows"][0]["zones"][0]["available"] == 4).await;
    let path = format!("/bookings/{id}");
    assert_eq!(call(&world, 0, Method::GET, &path, "ann").await.expect(200)["status"], "expired");
    call(&world, 1, Method::POST, &format!("{path}/confirm"), "ann").await.expect_problem(409, "BOOKING_EXPIRED");
    call(&world, 0, Method::DELETE, &path, "ann").await.expect_problem(409, "BOOKING_EXPIRED");
    let summary = call(&world, 0, Method::GET, "/bookings/summary?event_id=e", "ann").await.expect(200);
    assert_eq!(summary["booked_count"], 0);
    assert_eq!(world.available(0, "e").await, 4, "given back once");
    // What is confirmed in time stays.
    let id = booking_id(&buy(&world, 1, "ben", "k", 4).await);
    let confirm = call(&world, 1, Method::POST, &format!("/bookings/{id}/confirm"), "ben").await;
    if confirm.status == StatusCode::OK {
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        assert_eq!(call(&world, 0, Method::GET, &format!("/bookings/{id}"), "ben").await.json()["status"], "confirmed");
    }
}

async fn bookings_are_listed_newest_first(setup: Setup) {
    let world = open(setup, 10, json!({ "queue_required": false })).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(booking_id(&buy(&world, n, "ann", &format!("k{n}"), 1).await));
    }
    buy(&world, 0, "ben", "k", 1).await.expect(201);
    ids.reverse();
    let list = async |query: &str| call(&world, 1, Method::GET, &format!("/bookings{query}"), "ann").await;
    let listed = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["booking_id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let whole = list("").await.expect(200);
    assert_eq!((listed(&whole), &whole["page"], &whole["total"]), (ids.clone(), &json!(1), &json!(5)));
    for (query, wanted) in [("?page=1&page_size=2", &ids[..2]), ("?page=3&page_size=2", &ids[4..]), ("?page=9", &[])] {
        let page = list(query).await.expect(200);
        assert_eq!((listed(&page), &page["total"]), (wanted.to_vec(), &json!(5)), "{query}");
    }
    assert_eq!(list("?page=2&page_size=2").await.expect(200)["page_size"], 2);
    for query in ["?page=0", "?page_size=0", "?page_size=101", "?page=x", "?page=-1"] {
        list(query).await.expect_problem(400, "INVALID_REQUEST");
    }
    let row = &whole["data"][4];
    let single = call(&world, 0, Method::GET, &format!("/bookings/{}", ids[4]), "ann").await.expect(200);
    assert_eq!(row, &single);
    for (field, value) in [
        ("event_id", json!("e")),
        ("show_id", json!("s1")),
        ("zone_id", json!("z1")),
        ("status", json!("reserved")),
        ("quantity", json!(1)),
        ("total_price", json!(100.0)),
    ] {
        assert_eq!(row[field], value, "{field}");
    }
}

async fn a_booking_is_its_visitors_alone(setup: Setup) {
    let world = open(setup, 10, json!({ "queue_required": false })).await;
    let id = booking_id(&buy(&world, 0, "ann", "k", 2).await);
    let paths = [
        (Method::GET, format!("/bookings/{id}")),
        (Method::DELETE, format!("/bookings/{id}")),
        (Method::POST, format!("/bookings/{id}/confirm")),
    ];
    for (method, path) in &paths {
        call(&world, 1, method.clone(), path, "ben").await.expect_problem(404, "BOOKING_NOT_FOUND");
        world.send(world.request(0, method.clone(), path)).await.expect_problem(401, "UNAUTHORIZED");
        let nobody = path.replace(&id, "0");
        call(&world, 0, method.clone(), &nobody, "ann").await.expect_problem(404, "BOOKING_NOT_FOUND");
    }
    assert_eq!(call(&world, 0, Method::GET, "/bookings", "ben").await.expect(200)["total"], 0);
    assert_eq!(call(&world, 0, Method::GET, &paths[0].1, "ann").await.expect(200)["status"], "reserved");
    call(&world, 0, Method::GET, "/bookings/summary?event_id=e9", "ann").await.expect_problem(404, "EVENT_NOT_FOUND");
    call(&world, 0, Method::GET, "/bookings/summary", "ann").await.expect_problem(400, "INVALID_REQUEST");
}

async fn a_ticket_or_a_pass_says_whose_bookings(setup: Setup) {
    let world = open(setup, 10, json!({})).await;
    let (ticket, pass) = world.admitted(0, "e").await;
    let (others_ticket, others_pass) = world.admitted(1, "e").await;
    let id = booking_id(&world.reserve(0, "e", &pass, "k", 2).await);
    let path = format!("/bookings/{id}");
    for (header, mine, others) in [("X-Queue-Ticket", &ticket, &others_ticket), ("X-Queue-Pass", &pass, &others_pass)] {
        let get = |path: &str, proof: &String| world.request(1, Method::GET, path).header(header, proof);
        assert_eq!(world.send(get(&path, mine)).await.expect(200)["booking_id"], json!(id));
        assert_eq!(world.send(get("/bookings", mine)).await.expect(200)["total"], 1);
        assert_eq!(world.send(get("/bookings/summary?event_id=e", mine)).await.expect(200)["booked_count"], 2);
        world.send(get(&path, others)).await.expect_problem(404, "BOOKING_NOT_FOUND");
        assert_eq!(world.send(get("/bookings", others)).await.expect(200)["total"], 0);
        let forged = world.send(get(&path, &format!("{mine}x"))).await;
        assert!(matches!(forged.status.as_u16(), 401 | 403), "{}", forged.text);
    }
    let cookie = world.request(0, Method::GET, &path).header("Cookie", format!("usher_ticket={ticket}"));
    world.send(cookie).await.expect(200);
    // A token and a ticket that disagree.
    let both = world.request(0, Method::GET, &path).bearer_auth(user_token("ann")).header("X-Queue-Ticket", &ticket);
    world.send(both).await.expect_problem(403, "INVALID_TOKEN");
    let confirm = world.request(0, Method::POST, &format!("{path}/confirm")).header("X-Queue-Pass", &pass);
    world.send(confirm).await.expect(200);
    let cancel = world.request(1, Method::DELETE, &path).header("X-Queue-Ticket", &ticket);
    world.send(cancel).await.expect(200);
}

async fn a_payment_is_text_of_at_most_128_characters(setup: Setup) {
    let world = open(setup, 10, json!({ "queue_required": false })).await;
    for (n, (payment, good)) in [
        (json!("p-1"), true),
        (json!("é".repeat(128)), true),
        (json!("票".repeat(128)), true),
        (json!(null), true),
        (json!("é".repeat(129)), false),
        (json!("p".repeat(129)), false),
        (json!(""), false),
        (json!("a\u{0}b"), false),
        (json!("a\nb"), false),
        (json!("a\u{85}b"), false),
        (json!(7), false),
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("user-{n}");
        let id = booking_id(&buy(&world, n, &user, "k", 1).await);
        let confirm = world.request(n, Method::POST, &format!("/bookings/{id}/confirm")).bearer_auth(user_token(&user));
        let reply = world.send(confirm.json(&json!({ "payment_id": payment }))).await;
        if good {
            reply.expect(200);
        } else {
            reply.expect_problem(400, "INVALID_REQUEST");
            let booking = call(&world, 0, Method::GET, &format!("/bookings/{id}"), &user).await.expect(200);
            assert_eq!(booking["status"], "reserved");
        }
        call(&world, 0, Method::DELETE, &format!("/bookings/{id}"), &user).await.expect(200);
    }
}

/// Clients that hang up at any moment: what they asked for is a whole booking or nothing.
async fn a_client_that_goes_away_leaves_nothing_held(setup: Setup) {
    let world = open(setup, 40, json!({ "queue_required": false, "max_per_user": 0 })).await;
    let token = user_token("ann");
    let body = asking("e", 1).to_string();
    for n in 0..20_usize {
        let address = world.instances[n % world.instances.len()].address;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let text = format!(
            "POST /api/v1/bookings/reserve HTTP/1.1\r\nHost: usher\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nX-Idempotency-Key: k{n}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // Every fourth is cut off within its body.
        let sent = if n % 4 == 0 { text.len() - 10 } else { text.len() };
        stream.write_all(&text.as_bytes()[..sent]).await.expect("sent");
        tokio::time::sleep(std::time::Duration::from_micros(n as u64 * 300)).await;
        drop(stream);
    }
    for _ in 0..100 {
        let zone = world.admin(Method::GET, "/inventory-status", None).await.expect(200)["zones"][0].clone();
        let (sold, free) = (zone["taken"].as_u64().expect("a count"), zone["available"].as_u64().expect("a count"));
        assert!(sold <= 15, "a request that was cut off was carried out");
        if zone["held"] == 0 && zone["in_sync"] == true && sold + free == 40 {
            let booked = call(&world, 1, Method::GET, "/bookings", "ann").await.expect(200)["total"].clone();
            assert_eq!(booked, sold, "each of the seats belongs to a booking");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("seats are held for clients that are gone");
}
