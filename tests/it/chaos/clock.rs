//! A private Redis whose clock can be moved while it runs: libfaketime stands between it and the system's clock.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::process::{Guarded, free_port};
use crate::support::scratch::Scratch;

const MISSING: &str = "the tests need libfaketime: install Debian's package `faketime`";

pub struct MovedRedis {
    port: u16,
    offset: PathBuf,
    _process: Guarded,
    _scratch: Scratch,
}

/// Where Debian puts it, on whichever architecture.
fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found = places.map(|place| place.path().join("faketime/libfaketime.so.1")).filter(|file| file.is_file());
    found.next().expect(MISSING)
}

impl MovedRedis {
    /// A server with the system's time.
    pub async fn start() -> Self {
        let (scratch, port) = (Scratch::new("moved-redis"), free_port());
        let offset = scratch.path().join("offset");
        std::fs::write(&offset, "+0").expect("a file");
        // The C library comes second so that it allocates, not jemalloc, which asks for the time before libfaketime can tell it.
        let preload = format!("LD_PRELOAD={} libc.so.6", library().display());
        let (file, dir) =
            (format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()), scratch.path().display().to_string());
        let port_text = port.to_string();
        // Real is what measures spans: only the wall clock is moved.
        let mut arguments = vec![&*preload, &*file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        arguments.extend(["redis-server", "--port", &port_text, "--bind", "127.0.0.1", "--dir", &dir]);
        arguments.extend(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]);
        let process = Guarded::start("env", &arguments, "TERM", &scratch.path().join("log"));
        let server = Self { port, offset, _process: process, _scratch: scratch };
        let deadline = Instant::now() + Duration::from_secs(10);
        let client = redis::Client::open(server.url()).expect("a URL");
        while client.get_multiplexed_async_connection().await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("a connection")
    }

    /// Its clock is so many seconds ahead of the system's from now on.
    pub fn ahead(&self, seconds: i32) {
        // Put in place whole: it is read with every look at the clock.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}")).expect("a file");
        std::fs::rename(&new, &self.offset).expect("a file");
    }
}
