//! A crowd of clients made by hand, because the usual client would be busier than the service, and what came of their requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Answers are counted by milliseconds up to this many.
const SLOWEST: usize = 20_000;

/// What came of a crowd's requests.
pub struct Tally {
    /// By status; 0 where the connection broke.
    statuses: Vec<AtomicU64>,
    /// How many were answered within so many milliseconds.
    took: Vec<AtomicU64>,
    /// What was wanted, whether there was time for it or not.
    wanted: AtomicU64,
}

impl Tally {
    fn new() -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { statuses: zeros(600), took: zeros(SLOWEST + 1), wanted: AtomicU64::new(0) }
    }

    fn count(&self, status: u16, took: Duration) {
        self.statuses[usize::from(status)].fetch_add(1, Ordering::Relaxed);
        if status > 0 {
            let at = usize::try_from(took.as_millis()).unwrap_or(SLOWEST).min(SLOWEST);
            self.took[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers with this status; 0 for none at all.
    pub fn of(&self, status: usize) -> u64 {
        self.statuses[status].load(Ordering::Relaxed)
    }

    /// Answers with any status.
    pub fn answered(&self) -> u64 {
        self.took.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Every status there was.
    pub fn seen(&self) -> Vec<usize> {
        (0..self.statuses.len()).filter(|status| self.of(*status) > 0).collect()
    }

    /// Milliseconds within which so many of a hundred were answered.
    pub fn within(&self, percent: u64) -> usize {
        let (mut left, all) = (self.answered() * percent, 100);
        let reached = |count: &AtomicU64| {
            let counted = count.load(Ordering::Relaxed) * all;
            let enough = counted >= left;
            left = left.saturating_sub(counted);
            enough
        };
        self.took.iter().position(reached).unwrap_or(SLOWEST)
    }

    /// All of it in words.
    pub fn told(&self) -> String {
        let statuses: Vec<_> = self.seen().into_iter().map(|status| format!("{status}: {}", self.of(status))).collect();
        let [half, most, nearly] = [50, 95, 99].map(|percent| self.within(percent));
        let (wanted, statuses) = (self.wanted(), statuses.join(", "));
        format!("{wanted} wanted; {statuses}; p50 {half} ms, p95 {most} ms, p99 {nearly} ms")
    }
}

/// One client with one request.
struct Visitor {
    address: SocketAddr,
    from: Ipv4Addr,
    request: Arc<str>,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Visitor {
    /// From one of many addresses: with few, the kernel soon looks long for a free port.
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((self.from, 0).into())?;
        socket.connect(self.address).await
    }

    /// Sends the request, and waits for the whole answer.
    async fn ask(&mut self) -> std::io::Result<u16> {
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream.write_all(self.request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("content-length: ").map_or(0, |text| text.parse().expect("a length"));
            if self.buffer.len() < end + 4 + length {
                continue;
            }
            if field("connection: close").is_none() {
                self.connection = Some(stream);
            }
            return Ok(head[9..12].parse().expect("a status"));
        }
    }

    /// Asks `every` so often until the end; where the answers come more slowly, as soon as one is there.
    async fn insist(mut self, first: Instant, every: Duration, end: Instant, tally: Arc<Tally>) {
        let mut due = first;
        while due.max(Instant::now()) < end {
            tokio::time::sleep_until(due.into()).await;
            tally.wanted.fetch_add(1, Ordering::Relaxed);
            let asked = Instant::now();
            let status = self.ask().await.unwrap_or(0);
            tally.count(status, asked.elapsed());
            due += every;
        }
        if !every.is_zero() {
            let missed = end.saturating_duration_since(due).as_nanos() / every.as_nanos();
            tally.wanted.fetch_add(u64::try_from(missed).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// So many clients that together send `rate` requests a second for a while, each its own of these in turn; with no rate, as
/// many as are answered. They have threads of their own: whoever is timed beside them does not wait for them.
pub async fn storm(
    address: &str,
    requests: &[Arc<str>],
    clients: u32,
    rate: Option<f64>,
    lasts: Duration,
) -> Arc<Tally> {
    let every = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(f64::from(clients) / rate));
    let (address, requests) = (address.parse().expect("an address"), requests.to_vec());
    let crowd = async move {
        let (tally, mut all) = (Arc::new(Tally::new()), JoinSet::new());
        let start = Instant::now();
        for (at, request) in (0..clients).zip(requests.iter().cycle()) {
            let from = Ipv4Addr::new(127, 0, 1, u8::try_from(at % 200 + 1).unwrap_or(1));
            let visitor = Visitor { address, from, request: Arc::clone(request), connection: None, buffer: Vec::new() };
            let first = start + every * at / clients;
            all.spawn(visitor.insist(first, every, start + lasts, Arc::clone(&tally)));
        }
        while all.join_next().await.is_some() {}
        tally
    };
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads = threads.expect("threads");
    tokio::task::spawn_blocking(move || threads.block_on(crowd)).await.expect("no panic")
}
