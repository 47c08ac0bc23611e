//! More than one instance can do: a crowd that asks twice as often as it can be answered, clients who send far ahead, slowly or
//! never read, and more connections than there may be. Whoever holds a pass books all the while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::rig::Rig;
use crate::support::crowd::storm;
use crate::support::seeds::long;

/// Connections that the client who asks may have come to keep meanwhile.
const STRAY: u64 = 3;
/// The longest that a booking may take in the storm, on a machine that the crowd needs too.
const BOOKED: Duration = Duration::from_secs(5);

/// How large the storm is.
struct Size {
    /// Most connections that the service takes.
    limit: u32,
    /// Those of the crowd: more than that.
    crowd: u32,
    lasts: Duration,
    /// Of each kind that does not behave.
    wild: usize,
    /// Who book meanwhile, one after the other.
    bookings: u32,
}

impl Size {
    fn asked_for() -> Self {
        if long() {
            Self { limit: 16_000, crowd: 17_500, lasts: Duration::from_mins(1), wild: 500, bookings: 240 }
        } else {
            Self { limit: 240, crowd: 260, lasts: Duration::from_secs(3), wild: 10, bookings: 12 }
        }
    }
}

/// Bytes that come back, until the service has enough of this client: what it sends next fails then.
async fn drain(mut stream: TcpStream) -> usize {
    let (mut read, mut buffer) = (0, vec![0; 65_536]);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        read += length;
    }
    read
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// Sends a byte now and then.
async fn dawdle(address: String) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    for byte in b"GET /".iter().chain(std::iter::repeat(&b'x')) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            return;
        }
    }
}

/// Asks for much, and reads nothing of it.
async fn turn_away(address: String) {
    let Ok(mut stream) = deaf(&address).await else { return };
    while stream.write_all(get("/openapi.json").as_bytes()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A connection that takes few bytes before they are read.
async fn deaf(address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    socket.connect(address.parse().expect("an address")).await
}

/// Sends thousands of requests ahead, and comes again when it is cut.
async fn rush(address: String) {
    let ahead = get("/api/v1/queue/status/e").repeat(2_000);
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else { return };
        let _cut = stream.write_all(ahead.as_bytes()).await;
        drain(stream).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Those who come, and those who ask where they stand: one to seven.
async fn requests(rig: &Rig) -> Vec<Arc<str>> {
    let body = r#"{"event_id":"e"}"#;
    let kind = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    let mut all = Vec::new();
    for at in 0..64 {
        all.push(if at % 8 == 0 {
            format!("POST /api/v1/queue/join HTTP/1.1\r\nhost: x\r\n{kind}\r\n\r\n{body}").into()
        } else {
            let ticket = rig.ticket("e").await;
            format!("GET /api/v1/queue/position/e HTTP/1.1\r\nhost: x\r\nx-queue-ticket: {ticket}\r\n\r\n").into()
        });
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_what_it_can_do() {
    let size = Size::asked_for();
    let limit = size.limit.to_string();
    let rig = Rig::start(&[("USHER_MAX_CONNECTIONS", &limit), ("USHER_MAX_STREAMS", "100")]).await;
    rig.put_event("e", 600_000).await;
    let passes = futures_util::future::join_all((0..size.bookings).map(|_| rig.pass("e"))).await;
    let line =
        rig.admin(Method::PATCH, "/events/e/queue").json(&json!({ "admit_per_minute": 60, "max_queue": 20_000 }));
    rig.ask("patch", line).await.reply.expect(200);
    let (requests, address) = (requests(&rig).await, rig.service.address.clone());

    let trial = super::seconds(2, 5);
    let calm = storm(&address, &requests, 64, None, trial).await;
    let able = calm.answered() as f64 / trial.as_secs_f64();
    println!("64 clients: {able:.0} a second; {}", calm.told());

    let mut wild = JoinSet::new();
    for _ in 0..size.wild {
        wild.spawn(dawdle(address.clone()));
        wild.spawn(turn_away(address.clone()));
    }
    for _ in 0..size.wild.div_ceil(50) {
        wild.spawn(rush(address.clone()));
    }
    let started = Instant::now();
    let booking = async {
        let (mut took, mut memory) = (Vec::new(), Vec::new());
        for (at, pass) in (1..).zip(&passes) {
            tokio::time::sleep_until((started + size.lasts * at / (size.bookings + 1)).into()).await;
            let answer = rig.reserve("e", pass, &format!("k{at}")).await;
            assert_eq!(answer.reply.status, 201, "{}", answer.reply.text);
            took.push(answer.took);
            memory.push(rig.size().await.resident_kb / 1_024);
        }
        took.sort();
        (took, memory)
    };
    // The trial may have had less of the machine than the storm has.
    let crowd = storm(&address, &requests, size.crowd, Some(super::seconds(4, 2).as_secs_f64() * able), size.lasts);
    let (crowd, (took, memory)) = tokio::join!(crowd, booking);
    let ended = Instant::now();
    wild.abort_all();
    println!("{} clients: {}", size.crowd, crowd.told());
    let (half, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} bookings: half of them within {half:?}, all within {slowest:?}", took.len());
    println!("memory in MB: {memory:?}; turned away: {}", rig.metric("usher_shed_total", "").await);
    assert!(slowest < BOOKED, "a pass was kept waiting: {slowest:?}");

    assert!(crowd.answered() * 10 < crowd.wanted() * 9, "it was no storm");
    for status in crowd.seen() {
        assert!(matches!(status, 0 | 200 | 201 | 409 | 429 | 503), "{status}");
    }
    assert!(crowd.of(200) + crowd.of(201) > 0, "{}", crowd.told());
    // What the whole crowd takes is there once it has been there for a while.
    let (early, late) = memory.split_at(memory.len() / 2);
    let (early, late) = (early.iter().max().expect("some"), late.iter().max().expect("some"));
    assert!(*late <= early + early / 10 + 16, "memory grows: {memory:?}");

    // Ten good answers in a row are normal; the first of them tells since when.
    let (mut good, mut since) = (0, ended.elapsed());
    while good < 10 {
        let poll = rig.plain("/api/v1/queue/status/e").await;
        if poll.reply.status == 200 && poll.took < Duration::from_millis(200) {
            good += 1;
        } else {
            (good, since) = (0, ended.elapsed());
        }
        assert!(ended.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("back to normal after {since:?}");
    assert!(since < super::seconds(10, 2), "{since:?}");
}

/// Opens connections until so many are open.
async fn crowded(rig: &Rig, idle: &mut Vec<TcpStream>, wanted: u64, deadline: Instant) {
    while rig.metric("usher_connections", "").await < wanted {
        assert!(Instant::now() < deadline, "{} opened", idle.len());
        idle.push(TcpStream::connect(&rig.service.address).await.expect("room"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_connections_are_for_those_who_book_or_operate() {
    let rig = Rig::start(&[("USHER_MAX_CONNECTIONS", "40"), ("USHER_MAX_STREAMS", "10"), ("USHER_WORKERS", "1")]).await;
    rig.put_event("e", 600_000).await;
    let (pass, ticket) = (rig.pass("e").await, rig.ticket("e").await);
    rig.position("e", &ticket).await.reply.expect(200);
    let open = async || rig.metric("usher_connections", "").await;
    let before = open().await;
    let mut idle = Vec::new();
    // Well before the first of them is closed because nothing was asked on it.
    let deadline = Instant::now() + Duration::from_secs(8);
    crowded(&rig, &mut idle, 31, deadline).await;
    // From three quarters on everybody is served in turn.
    let poll = rig.position("e", &ticket).await.reply;
    poll.expect(200);
    assert_eq!(poll.header("connection"), "close");
    crowded(&rig, &mut idle, 36, deadline).await;
    // And from seven eighths on, those who book or operate.
    let refused = rig.position("e", &ticket).await.reply;
    refused.expect_problem(503, "OVERLOADED");
    assert_eq!((refused.header("connection"), refused.header("retry-after")), ("close", "1"));
    rig.join("e").await.reply.expect_problem(503, "OVERLOADED");
    let stranger = rig.reserve("e", "no.such.pass", "stranger").await.reply;
    assert_eq!((stranger.status.as_u16(), stranger.header("connection")), (403, "close"), "{}", stranger.text);
    let booked = rig.reserve("e", &pass, "k").await.reply;
    booked.expect(201);
    assert_eq!(booked.header("connection"), "");
    let patch = rig.admin(Method::PATCH, "/events/e/queue").json(&json!({ "state": "paused" }));
    rig.ask("pause", patch).await.reply.expect(200);
    rig.plain("/ready").await.reply.expect(200);
    assert_eq!(rig.metric("usher_shed_total", "").await, 2);
    // Everybody is welcome again once they have gone.
    drop(idle);
    let gone = Instant::now();
    while open().await > before + STRAY {
        assert!(gone.elapsed() < Duration::from_secs(20), "they are counted for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let poll = rig.position("e", &ticket).await.reply;
    poll.expect(200);
    assert_eq!(poll.header("connection"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_far_ahead_is_cut() {
    let rig = Rig::start(&[]).await;
    rig.put_event("e", 60).await;
    let (request, address) = (get("/api/v1/queue/status/e"), &rig.service.address);
    // A few are answered.
    let mut stream = TcpStream::connect(address).await.expect("room");
    stream.write_all(request.repeat(20).as_bytes()).await.expect("sent");
    let mut text = String::new();
    while text.matches("HTTP/1.1 200").count() < 20 {
        let mut buffer = vec![0; 65_536];
        let length = stream.read(&mut buffer).await.expect("answers");
        assert!(length > 0, "cut after {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    // Thousands are not, and take neither time nor memory from anybody.
    let before = rig.size().await.resident_kb;
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.expect("room");
        let _cut = stream.write_all(request.repeat(2_000).as_bytes()).await;
        let answers = drain(stream).await / text.len().div_ceil(20);
        assert!(answers < 100, "{answers} were answered");
    }
    let after = rig.size().await.resident_kb;
    assert!(after < before + 65_536, "{before} kB became {after} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_cut() {
    let rig = Rig::start(&[]).await;
    let before = rig.metric("usher_connections", "").await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(deaf(&rig.service.address).await.expect("room"));
    }
    for _ in 0..8 {
        for stream in &mut streams {
            stream.write_all(get("/openapi.json").repeat(8).as_bytes()).await.expect("sent");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(rig.metric("usher_connections", "").await >= before + 20);
    let waited = Instant::now();
    while rig.metric("usher_connections", "").await > before + STRAY {
        assert!(waited.elapsed() < Duration::from_mins(1), "they stay");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("cut after {:?}", waited.elapsed());
}

/// Neither reaches Postgres: `http/sold_out.rs` shows it of the one, and the limit is counted in the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_late_or_asks_too_often_is_told_quickly() {
    let rig = Rig::start(&[]).await;
    let spec = json!({ "name": "Few seats", "queue": { "admit_per_minute": 600_000 }, "shows": [
        { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": 1, "price": 100.0 }] }] });
    rig.ask("put", rig.admin(Method::PUT, "/events/e").json(&spec)).await.reply.expect(201);
    rig.reserve("e", &rig.pass("e").await, "k").await.reply.expect(201);
    let body = r#"{"event_id":"e","show_id":"s1","zone_id":"z1","quantity":1,"unit_price":100.0}"#;
    let kind = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    let mut late = Vec::new();
    for at in 0..16 {
        let pass = rig.pass("e").await;
        rig.reserve("e", &pass, "first").await.reply.expect_problem(409, "INSUFFICIENT_SEATS");
        let who = format!("x-queue-pass: {pass}\r\nx-idempotency-key: late-{at}");
        let reserve = format!("POST /api/v1/bookings/reserve HTTP/1.1\r\nhost: x\r\n{who}\r\n{kind}\r\n\r\n{body}");
        late.push(reserve.into());
    }
    told(&rig, "sold out", &late, &[409]).await;

    let rig = Rig::start(&[("USHER_RATE_LIMIT_PER_VISITOR", "1"), ("USHER_RATE_LIMIT_VISITOR_BURST", "1")]).await;
    rig.put_event("e", 60).await;
    let ticket = rig.ticket("e").await;
    let poll = format!("GET /api/v1/queue/position/e HTTP/1.1\r\nhost: x\r\nx-queue-ticket: {ticket}\r\n\r\n");
    told(&rig, "too often", &[poll.into()], &[429, 200]).await;
}

/// A thousand requests a second, nearly all of which get the first of these answers, and all of them one of these.
async fn told(rig: &Rig, what: &str, requests: &[Arc<str>], statuses: &[usize]) {
    let crowd = storm(&rig.service.address, requests, 16, Some(1_000.0), super::seconds(2, 10)).await;
    println!("{what}: {}", crowd.told());
    assert!(crowd.of(statuses[0]) * 10 > crowd.answered() * 9, "{}", crowd.told());
    assert!(crowd.seen().iter().all(|seen| *seen == 0 || statuses.contains(seen)), "{}", crowd.told());
    assert!(crowd.of(0) * 100 <= crowd.answered(), "{}", crowd.told());
}
