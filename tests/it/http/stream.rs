//! Positions pushed over server-sent events.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::usher::{Setup, World};

on_every_setup!(a_stream_tells_every_change_and_ends_with_the_pass);

/// An open stream, read event by event.
struct Stream {
    answer: futures_util::stream::BoxStream<'static, reqwest::Result<Vec<u8>>>,
    read: String,
}

impl Stream {
    async fn open(world: &World, at: usize, event: &str, ticket: &str) -> Self {
        let request = world.request(at, Method::GET, &format!("/queue/position/{event}/stream"));
        let answer = request.header("X-Queue-Ticket", ticket).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        // The body is kept as it comes, whatever pieces it comes in.
        let pieces = futures_util::stream::unfold(answer, |mut answer| async move {
            match answer.chunk().await {
                Ok(Some(piece)) => Some((Ok(piece.to_vec()), answer)),
                Ok(None) => None,
                Err(error) => Some((Err(error), answer)),
            }
        });
        Self { answer: pieces.boxed(), read: String::new() }
    }

    /// The next block of lines; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let block = self.read[..end].to_owned();
                self.read.drain(..end + 2);
                return Some(block);
            }
            let next =
                tokio::time::timeout(Duration::from_secs(20), self.answer.next()).await.expect("something in time");
            self.read.push_str(std::str::from_utf8(&next?.expect("a piece")).expect("text"));
        }
    }

    /// The next position; `None` at the end.
    async fn position(&mut self) -> Option<Value> {
        let block = self.block().await?;
        let data = block.strip_prefix("event: position\ndata: ").unwrap_or_else(|| panic!("{block}"));
        Some(serde_json::from_str(data).expect("JSON"))
    }
}

async fn a_stream_tells_every_change_and_ends_with_the_pass(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 60_000, "state": "paused" })).await;
    let mut tickets = Vec::new();
    for at in 0..3 {
        tickets.push(world.join(at, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned());
    }
    let mut stream = Stream::open(&world, 1, "e", &tickets[2]).await;
    assert_eq!(stream.position().await.expect("at once")["position"], 3);
    // Somebody ahead leaves, through the other instance.
    let body = json!({ "event_id": "e", "token": tickets[0] });
    world.send(world.request(0, Method::DELETE, "/queue/leave").json(&body)).await.expect(200);
    let moved = stream.position().await.expect("a change");
    assert_eq!((&moved["position"], &moved["total_in_queue"]), (&json!(2), &json!(2)));
    world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "state": "open" }))).await.expect(200);
    let mut last = moved;
    while let Some(seen) = stream.position().await {
        assert_eq!(last["queue_pass"], Value::Null, "the event with the pass is the last one");
        last = seen;
    }
    assert_eq!((&last["state"], &last["is_ready"]), (&json!("admitted"), &json!(true)));
    world.reserve(0, "e", last["queue_pass"].as_str().expect("a pass"), "k", 1).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_a_stream_is_refused_and_polling_works() {
    let world = World::start_with(Setup::Embedded, &[("max_streams", "1")]).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let ticket = world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    let mut first = Stream::open(&world, 0, "e", &ticket).await;
    first.position().await.expect("at once");
    let path = "/queue/position/e/stream";
    let second = world.send(world.request(0, Method::GET, path).header("X-Queue-Ticket", &ticket)).await;
    second.expect_problem(503, "OVERLOADED");
    assert!(second.header("retry-after").parse::<u64>().is_ok());
    world.position(0, "e", &ticket).await.expect(200);
    // A client that goes away makes room.
    drop(first);
    for _ in 0..200 {
        let metrics = world.send(world.client.get(world.url(0, "/metrics"))).await.text;
        if metrics.contains("\nusher_streams 0\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Stream::open(&world, 0, "e", &ticket).await.position().await.expect("at once");
    // Nobody who has no place gets a stream, and none is counted for them.
    let stranger = world.request(0, Method::GET, path).bearer_auth(crate::support::usher::user_token("anna"));
    let again = || stranger.try_clone().expect("no body");
    // The stream that was just dropped may still count for a moment.
    for _ in 0..100 {
        if world.send(again()).await.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.send(again()).await.expect_problem(404, "NOT_IN_QUEUE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_in_good_order_when_the_service_stops() {
    let mut world = World::start(Setup::Embedded).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    let ticket = world.join(0, "e").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    let mut stream = Stream::open(&world, 0, "e", &ticket).await;
    stream.position().await.expect("at once");
    let started = std::time::Instant::now();
    world.instances[0].stop().await;
    assert!(started.elapsed() < Duration::from_secs(7), "an open stream held up the stop");
    let goodbye = stream.block().await.expect("a goodbye");
    let after: u64 = goodbye.strip_prefix("retry: ").and_then(|ms| ms.parse().ok()).expect("when to come back");
    assert!((1_000..5_000).contains(&after));
    assert_eq!(stream.block().await, None);
}
