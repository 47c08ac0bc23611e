//! Private Redis servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::process::{Guarded, free_port};

/// A server of its own, with nothing on disk. It ends when this is dropped, or with the test process.
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    _process: Guarded,
}

/// The server that the tests of this process share; each test has keys of its own, see [`fresh_prefix`].
static SHARED: LazyLock<RedisServer> = LazyLock::new(|| RedisServer::start(&["--maxmemory-policy", "noeviction"]));

/// The server that all tests share. Never flush it.
pub fn shared() -> &'static RedisServer {
    &SHARED
}

/// A key prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn dir(port: u16) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{port}"))
}

impl RedisServer {
    /// Starts a server with further options.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not answer within ten seconds.
    pub fn start(options: &[&str]) -> Self {
        Self::start_on(free_port(), options)
    }

    /// The same, on a port of the caller's choice.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_on(port: u16, options: &[&str]) -> Self {
        let found = std::process::Command::new("redis-server").arg("--version").output();
        assert!(found.is_ok(), "redis-server is missing: install Debian's `redis-server`");

        // What another server on this port may have left.
        let dir = dir(port);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory for the server");
        Self::launch(port, options.iter().map(|&option| option.to_owned()).collect())
    }

    /// Kills the server and starts it again: with what it saved last, if anything.
    ///
    /// # Panics
    /// As [`RedisServer::start`], and when its process cannot be killed.
    pub async fn restart_killed(self) -> Self {
        let told: String = self.command(&["INFO", "server"]).await;
        let id = told.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process").trim();
        let killed = std::process::Command::new("kill").args(["-KILL", id]).status();
        assert!(killed.is_ok_and(|status| status.success()));
        let Self { port, options, _process: process } = self;
        let again = move || {
            drop(process);
            Self::launch(port, options)
        };
        tokio::task::spawn_blocking(again).await.expect("Redis starts")
    }

    fn launch(port: u16, options: Vec<String>) -> Self {
        let dir = dir(port);
        let (port_text, dir_text) = (port.to_string(), dir.display().to_string());
        let mut arguments = vec!["--port", &port_text, "--bind", "127.0.0.1", "--dir", &dir_text];
        arguments.extend(["--save", "", "--appendonly", "no"]);
        arguments.extend(options.iter().map(String::as_str));
        let process = Guarded::start("redis-server", &arguments, "TERM", &dir.join("log"));
        let server = Self { port, options, _process: process };

        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.answers() {
            assert!(Instant::now() < deadline, "redis-server does not answer; see {}", dir.join("log").display());
            #[allow(clippy::disallowed_methods)] // runs before the runtime has anything to do
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG")
        };
        ping().unwrap_or(false)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Kills it with no chance to write or say anything.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&self) {
        let told: String = self.command(&["INFO", "server"]).await;
        let id = told.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process").trim().to_owned();
        let killed = std::process::Command::new("kill").args(["-KILL", &id]).status();
        assert!(killed.is_ok_and(|status| status.success()));
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Panics
    /// When it fails.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.expect("an answer")
    }
}
