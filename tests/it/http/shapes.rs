//! Requests that are broken on purpose, byte by byte: shapes that two readers would read differently, heads and bodies that are too
//! large, and requests that never end. None of them gets through to what stands behind, and none holds up a connection.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::usher::{ADMIN_TOKEN, Setup, World};
use crate::support::wire::{Answer, answers, talk};

/// Long enough for any answer.
const QUIET: Duration = Duration::from_secs(3);

async fn world() -> World {
    let world = World::start(Setup::Embedded).await;
    world.put_event("e", 10, json!({ "state": "paused" })).await;
    world.join(0, "e").await.expect(201);
    world
}

async fn ask(world: &World, bytes: &[u8]) -> Vec<Answer> {
    let heard = talk(world.instances[0].address, bytes, QUIET).await;
    let heard = heard.unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(bytes)));
    let all = answers(&heard).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(bytes)));
    for answer in &all {
        answer.check().unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(bytes)));
    }
    all
}

/// What an attacker hides in the body of another request: it would take the event away.
fn hidden() -> String {
    format!(
        "DELETE /api/v1/admin/events/e HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hides_in_the_body_of_another_request() {
    let world = world().await;
    let chunked = format!("0\r\n\r\n{}", hidden());
    let whole = chunked.len();
    let shapes: Vec<(&str, String)> = [
        ("both lengths", format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked"), &chunked),
        ("both lengths, the other way round", format!("Transfer-Encoding: chunked\r\nContent-Length: {whole}"), &chunked),
        ("two lengths", format!("Content-Length: {whole}\r\nContent-Length: 5"), &chunked),
        ("two lengths in one", format!("Content-Length: 5, {whole}"), &chunked),
        ("a sign", "Content-Length: +5".to_owned(), &chunked),
        ("a negative length", "Content-Length: -1".to_owned(), &chunked),
        ("a length in hexadecimal", "Content-Length: 0x5".to_owned(), &chunked),
        ("a length beyond every number", "Content-Length: 99999999999999999999999".to_owned(), &chunked),
        ("twice chunked", format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nContent-Length: {whole}"), &chunked),
        ("an unknown coding", "Transfer-Encoding: xchunked".to_owned(), &chunked),
        ("identity", format!("Transfer-Encoding: identity\r\nContent-Length: {whole}"), &chunked),
        ("a coding behind chunked", "Transfer-Encoding: chunked, identity".to_owned(), &chunked),
        ("a space before the colon", format!("Transfer-Encoding : chunked\r\nContent-Length: {whole}"), &chunked),
        ("a folded line", format!("Transfer-Encoding:\r\n chunked\r\nContent-Length: {whole}"), &chunked),
        ("a vertical tab", format!("Transfer-Encoding: \x0bchunked\r\nContent-Length: {whole}"), &chunked),
        ("a lone line feed in a name", format!("X: y\nTransfer-Encoding: chunked\r\nContent-Length: {whole}"), &chunked),
        ("a zero byte", format!("Transfer-Encoding: chunked\0\r\nContent-Length: {whole}"), &chunked),
        ("a carriage return in a value", format!("X: a\rTransfer-Encoding: chunked\r\nContent-Length: {whole}"), &chunked),
    ]
    .into_iter()
    .map(|(what, headers, body)| {
        let head = "POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
        (what, format!("{head}\r\n{headers}\r\n\r\n{body}"))
    })
    .chain([
        (
            "chunks under HTTP/1.0",
            format!("POST /api/v1/queue/join HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        (
            "a chunk size in another base",
            format!("POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n{chunked}"),
        ),
        (
            "a chunk size beyond every number",
            format!("POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{chunked}"),
        ),
        (
            "a body larger than the limit",
            format!("POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}{}", 80_000 + hidden().len(), " ".repeat(80_000), hidden()),
        ),
        (
            "a body on a request that reads none",
            format!("GET /api/v1/queue/status/e HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}", hidden().len(), hidden()),
        ),
    ])
    .collect();
    for (what, request) in &shapes {
        let answers = ask(&world, request.as_bytes()).await;
        assert!(answers.len() <= 1, "{what}: the hidden request was answered: {answers:?}");
    }
    assert!(shapes.len() > 20);
    // The same bytes as a request of their own do what they say, so the shapes above hid something that works.
    world.eventually(0, "/queue/status/e", |reply| reply.status == 200 && reply.json()["total_in_queue"] == 1).await;
    let removed = ask(&world, hidden().as_bytes()).await;
    assert_eq!(removed[0].status, 200, "{removed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_request_is_refused_and_its_connection_closed() {
    let world = world().await;
    for request in [
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /health HTTP/1.1 HTTP/1.1\r\n\r\n",
        "GET  /health  HTTP/1.1\r\n\r\n",
        "GET\t/health\tHTTP/1.1\r\n\r\n",
        "get /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "TRACE /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET http://evil.example/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET //health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /api/v1/../../health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /api/v1/queue/status/%FF%FE HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /api/v1/queue/status/%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /api/v1/queue/status/%00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\n: nothing\r\n\r\n",
        "GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /health HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n",
        "GET /health HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nExpect: nonsense\r\nConnection: close\r\n\r\n",
    ] {
        for answer in ask(&world, request.as_bytes()).await {
            assert!(answer.status >= 200 && answer.status < 500, "{request:?}: {answer:?}");
        }
    }
    assert_eq!(ask(&world, b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await[0].status, 200);
    // An answer to HEAD has no body, also where it is a problem.
    let head =
        talk(world.instances[0].address, b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", QUIET)
            .await;
    let head = String::from_utf8(head.expect("an end")).expect("text");
    assert!(
        head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1,
        "{head}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_told_so() {
    let world = world().await;
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    let many = |count: usize, length: usize| {
        (0..count).fold(String::new(), |mut all, n| {
            let _written = write!(all, "X-{n}: {}\r\n", "y".repeat(length));
            all
        })
    };
    let post = |headers: &str, body: &str| {
        format!(
            "POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}"
        )
    };
    let large = " ".repeat(70_000);
    let chunks = format!("{:x}\r\n{large}\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len(), large.len());
    for (what, request, status, code) in [
        ("a long path", get(&format!("/{}", "x".repeat(9_000)), ""), 414, "URI_TOO_LONG"),
        ("a long query", get(&format!("/api/v1/bookings?{}", "x".repeat(9_000)), ""), 414, "URI_TOO_LONG"),
        ("a large header", get("/health", &many(1, 40_000)), 431, "HEADERS_TOO_LARGE"),
        ("many headers", get("/health", &many(90, 1_000)), 431, "HEADERS_TOO_LARGE"),
        ("a declared body", post(&format!("Content-Length: {}", large.len()), &large), 413, "PAYLOAD_TOO_LARGE"),
        ("a declared body that does not come", post("Content-Length: 9999999999", ""), 413, "PAYLOAD_TOO_LARGE"),
        ("a body in chunks", post("Transfer-Encoding: chunked", &chunks), 413, "PAYLOAD_TOO_LARGE"),
    ] {
        let answers = ask(&world, request.as_bytes()).await;
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        assert_eq!((answers[0].status, &answers[0].problem()["code"]), (status, &json!(code)), "{what}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{what}: {:?}", answers[0]);
    }
    // What the server beneath does not even read to its end, it refuses without a body.
    for (what, request, status) in [
        ("too many headers", get("/health", &many(120, 5)), 431),
        ("a head beyond all bounds", get("/health", &many(3, 90_000)), 431),
        ("a path beyond all bounds", get(&format!("/{}", "x".repeat(70_000)), ""), 400),
    ] {
        let answers = ask(&world, request.as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{what}: {answers:?}");
    }
    let fits = ask(&world, get(&format!("/nowhere?{}", "x".repeat(8_000)), &many(30, 1_000)).as_bytes()).await;
    assert_eq!(fits[0].status, 404, "{fits:?}");
}

/// A head and a body each have ten seconds, and what nobody reads has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_is_ended() {
    let world = world().await;
    let join = "POST /api/v1/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let chunk = "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"eve\r\n";
    let halves = [
        ("GET /health HTTP/1.1\r\nHost:".to_owned(), 408, None),
        (format!("{join}Content-Length: 30\r\n\r\n{{\"event"), 408, Some("REQUEST_TIMEOUT")),
        (format!("{join}{chunk}"), 408, Some("REQUEST_TIMEOUT")),
        (format!("{join}X-Queue-Ticket: rubbish\r\n{chunk}"), 403, Some("INVALID_TOKEN")),
        (format!("GET /health HTTP/1.1\r\nHost: a\r\n{chunk}"), 200, None),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n{chunk}", "x".repeat(9_000)), 414, Some("URI_TOO_LONG")),
    ];
    let started = Instant::now();
    let patience = Duration::from_secs(15);
    let talks = halves.iter().map(|(half, ..)| talk(world.instances[0].address, half.as_bytes(), patience));
    let heard = futures_util::future::join_all(talks).await;
    assert!(started.elapsed() < patience, "it closes by itself, not because nothing more is said");
    for ((half, status, code), heard) in halves.iter().zip(heard) {
        let all = answers(&heard.unwrap_or_else(|why| panic!("{why}: {half}"))).expect("answers");
        assert_eq!(all.iter().map(|answer| answer.status).collect::<Vec<_>>(), [*status], "{half}: {all:?}");
        if let Some(code) = code {
            assert_eq!(all[0].problem()["code"], *code);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let world = world().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut all: String = (0..20).map(|n| get(if n % 2 == 0 { "/health" } else { "/nowhere" })).collect();
    all.push_str("GET /api/v1/queue/status/e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let statuses: Vec<u16> = ask(&world, all.as_bytes()).await.iter().map(|answer| answer.status).collect();
    let wanted: Vec<u16> = (0..20).map(|n| if n % 2 == 0 { 200 } else { 404 }).chain([200]).collect();
    assert_eq!(statuses, wanted);
}
