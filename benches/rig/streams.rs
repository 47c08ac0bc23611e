//! A crowd of open streams, and how long news takes to reach each of them.
//!
//! Every time is taken in this process, from just before the leave is sent to when the stream's event has been read: what
//! this process takes to read all of them is part of it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::{Done, count, given};

/// Streams that are being opened at once.
const OPENING: usize = 256;
/// How long the whole crowd may take to open, and a change to reach all of it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two changes; a little more each time, so that no change meets the service at the same point of its own loops.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_STEP: Duration = Duration::from_millis(137);

/// What the streams report.
#[derive(Default)]
struct Board {
    /// Streams that have had their first event.
    open: Cell<usize>,
    /// Changes so far, and when the last was sent.
    change: Cell<Option<(u64, Instant)>>,
    /// What the last change took, stream by stream.
    times: RefCell<Vec<Duration>>,
    /// Why a stream ended before its time.
    fault: RefCell<Option<String>>,
    news: Notify,
}

impl Board {
    /// Waits until `done`, and fails with the first fault of a stream.
    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) -> Done {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(fault) = self.fault.borrow().as_ref() {
                return Err(fault.clone().into());
            }
            if done(self) {
                return Ok(());
            }
            tokio::time::timeout_at(deadline, self.news.notified())
                .await
                .map_err(|_| format!("not all streams {what} in {PATIENCE:?}"))?;
        }
    }
}

/// One stream.
struct Watcher {
    connection: TcpStream,
    /// What has been read of an event that is not whole yet.
    rest: Vec<u8>,
    /// Position at first, and moves up since.
    first: Option<u64>,
    moved: u64,
}

impl Watcher {
    /// Reads what is there; gives the newest position, if one came.
    fn read(&mut self) -> io::Result<Option<u64>> {
        let mut buffer = [0; 4_096];
        match self.connection.try_read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("a stream ended")),
            Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let text = String::from_utf8_lossy(&self.rest);
        if self.first.is_none() && !text.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(format!("no stream was opened: {text}")));
        }
        // An event ends with an empty line; one that is not whole yet is kept.
        let Some(whole) = text.rfind("\n\n").filter(|_| text.contains("\"position\":")) else { return Ok(None) };
        let position = text[..whole].rsplit_once("\"position\":").and_then(|(_, after)| {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            after[..digits].parse().ok()
        });
        self.rest.clear();
        Ok(position)
    }

    async fn watch(
        &mut self,
        board: &Board,
        opening: &mut Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        loop {
            self.connection.readable().await?;
            let Some(position) = self.read()? else { continue };
            let Some(first) = self.first else {
                self.first = Some(position);
                board.open.set(board.open.get() + 1);
                board.news.notify_one();
                *opening = None;
                continue;
            };
            let Some((changes, sent)) = board.change.get() else { continue };
            // An event may tell of something else, or of a change again.
            if first.saturating_sub(position) >= changes && self.moved < changes {
                self.moved = changes;
                board.times.borrow_mut().push(sent.elapsed());
                board.news.notify_one();
            }
        }
    }
}

async fn follow(to: SocketAddr, request: Vec<u8>, board: Rc<Board>, gate: std::sync::Arc<Semaphore>) {
    let mut opening = gate.acquire_owned().await.ok();
    let outcome = async {
        let mut connection = TcpStream::connect(to).await?;
        connection.write_all(&request).await?;
        drop(request);
        let mut watcher = Watcher { connection, rest: Vec::new(), first: None, moved: 0 };
        watcher.watch(&board, &mut opening).await
    };
    if let Err(error) = outcome.await {
        board.fault.borrow_mut().get_or_insert(error.to_string());
        board.news.notify_one();
    }
}

/// The resident memory of a process, in bytes.
fn resident(pid: usize) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1_024)
}

/// p50, p99 and the longest, in milliseconds.
fn digest(times: &mut [Duration]) -> serde_json::Value {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len() - 1)).map_or(0.0, ms);
    json!({ "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100) })
}

fn ms(time: &Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

pub async fn run(options: &ArgMatches) -> Done {
    let (event, pid) = (given(options, "event"), count(options, "pid"));
    let api = given(options, "api");
    let to: SocketAddr = api.parse()?;
    let text = std::fs::read_to_string(given(options, "tickets"))?;
    let tickets: Vec<&str> = text.lines().collect();
    let (leavers, watchers) = tickets
        .split_at_checked(count(options, "changes"))
        .filter(|(_, rest)| !rest.is_empty())
        .ok_or("too few tickets")?;

    let client = reqwest::Client::new();
    let leave = format!("http://{}/api/v1/queue/leave", given(options, "leave"));
    let before = resident(pid)?;

    let started = Instant::now();
    let board = Rc::new(Board::default());
    let gate = std::sync::Arc::new(Semaphore::new(OPENING));
    for ticket in watchers {
        let request = format!(
            "GET /api/v1/queue/position/{event}/stream HTTP/1.1\r\nHost: {api}\r\nX-Queue-Ticket: {ticket}\r\n\r\n"
        );
        tokio::task::spawn_local(follow(to, request.into_bytes(), Rc::clone(&board), std::sync::Arc::clone(&gate)));
    }
    board.until("opened", |board| board.open.get() == watchers.len()).await?;
    let opened = started.elapsed();
    tokio::time::sleep(PAUSE * 2).await;
    let mut most = resident(pid)?;

    let (mut all, mut rounds) = (Vec::new(), Vec::new());
    for (at, ticket) in (0_u32..).zip(leavers) {
        // The connection is open when the leave goes out; opening one is not what is measured.
        client.get(format!("http://{}/health", given(options, "leave"))).send().await?.bytes().await?;
        let request = client.delete(&leave).json(&json!({ "event_id": event, "token": ticket }));
        board.change.set(Some((u64::from(at) + 1, Instant::now())));
        request.send().await?.error_for_status()?;
        board.until("heard of a change", |board| board.times.borrow().len() == watchers.len()).await?;
        let mut times = board.times.take();
        rounds.push(digest(&mut times));
        all.extend(times);
        tokio::time::sleep(PAUSE + PAUSE_STEP * at).await;
        most = most.max(resident(pid)?);
    }
    let mut report = digest(&mut all);
    report["streams"] = json!(watchers.len());
    report["open_seconds"] = json!(opened.as_secs_f64());
    report["rounds"] = json!(rounds);
    report["rss_before"] = json!(before);
    report["rss_after"] = json!(most);
    report["bytes_a_stream"] = json!(most.saturating_sub(before) / watchers.len() as u64);
    println!("{report}");
    Ok(())
}
