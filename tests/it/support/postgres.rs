//! One private Postgres for the whole test process, started when the first test asks for it; a database for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::process::{Guarded, free_port};
use super::scratch::Scratch;

const MISSING: &str =
    "the tests need Postgres: install Debian's package `postgresql`, or put `initdb` and `postgres` in PATH";

/// Whether the server waits for its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It does, as in production.
    On,
    /// It does not: quicker, and just as good unless the machine itself goes down.
    Off,
}

/// A private server.
pub struct Postgres {
    port: u16,
    root: PathBuf,
    _process: Guarded,
}

static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(Sync::Off));

/// The URL of a new, empty database on the server that the tests of this process share.
///
/// # Panics
/// When Postgres is not installed or does not start.
pub async fn fresh_database() -> String {
    // Starting it blocks for a second or two, which must not stop the runtime of whoever comes first.
    let server = tokio::task::spawn_blocking(|| &*SHARED).await.expect("Postgres starts");
    server.fresh_database().await
}

impl Postgres {
    /// Starts a server on a free port, in a directory that its keeper removes when it has ended.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[allow(clippy::disallowed_methods)] // runs before, and outside of, any runtime
    pub fn start(sync: Sync) -> Self {
        let root = Scratch::new("postgres").keep();
        let (data, log) = (root.join("data"), root.join("log"));
        if is_root() {
            let owned = Command::new("chown").arg("postgres:postgres").arg(&root).status();
            assert!(owned.is_ok_and(|s| s.success()), "{MISSING} (there is no user `postgres`)");
        }
        let made = unprivileged(&binary("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&root)
            .output()
            .expect(MISSING);
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let process = Self::run(&root, &data, &log, port, sync);
        for _ in 0..600 {
            let ready = std::fs::read_to_string(&log).unwrap_or_default();
            if ready.contains("ready to accept connections") {
                return Self { port, root, _process: process };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("Postgres does not start: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    fn run(root: &Path, data: &Path, log: &Path, port: u16, sync: Sync) -> Guarded {
        // The keeper tells this shell to stop; it passes that on as a fast shutdown and tidies up behind the server. The
        // signal is TERM, because a shell starts background processes with INT ignored and cannot trap it there. A server that
        // was crashed on purpose is started again.
        let script = "root=$1; shift; trap 'rm -f \"$root/again\"; kill -INT $pid' TERM; \
            while :; do \"$@\" & pid=$!; wait $pid; wait $pid; [ -e \"$root/again\" ] || break; rm -f \"$root/again\"; done; \
            rm -rf \"$root\"";
        let mut args: Vec<String> = vec!["-c".into(), script.into(), "postgres".into(), root.display().to_string()];
        let server = unprivileged(&binary("postgres"));
        args.push(server.get_program().to_string_lossy().into_owned());
        args.extend(server.get_args().map(|arg| arg.to_string_lossy().into_owned()));
        args.extend(["-D".into(), data.display().to_string(), "-p".into(), port.to_string()]);
        let sync = if sync == Sync::On { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            "shared_buffers=64MB",
            "log_min_messages=warning",
            "deadlock_timeout=200ms",
            &format!("fsync={sync}"),
        ] {
            args.extend(["-c".into(), setting.into()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Guarded::start("sh", &args, "TERM", log)
    }

    /// Ends the server as a crash would (`immediate`: no checkpoint, every connection cut), and waits until it is there again.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn crash(&self) {
        let lock = self.root.join("data/postmaster.pid");
        let process = || std::fs::read_to_string(&lock).ok().and_then(|text| text.lines().next().map(str::to_owned));
        let before = process().expect("a running server");
        std::fs::write(self.root.join("again"), "").expect("a file");
        let sent = Command::new("kill").args(["-QUIT", &before]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        for _ in 0..600 {
            if process().is_some_and(|id| id != before) && PgConnection::connect(&self.url("postgres")).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("Postgres does not come back");
    }

    /// The URL of a new, empty database.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&self.url("postgres")).await.expect("Postgres answers");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut admin).await.expect("a new database");
        admin.close().await.expect("a clean end");
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// `program`, as the user `postgres` when the tests run as root: Postgres refuses to be root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// Looks in PATH, then where Debian puts it; the newest version first.
fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    places.sort_by_key(|place| {
        let version = place.parent().and_then(Path::file_name).and_then(|v| v.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    std::env::split_paths(&path).chain(places).map(|place| place.join(name)).find(|file| file.is_file()).expect(MISSING)
}
