//! Private child processes that end with the tests, however the tests end.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A child process. It is stopped by process id when this is dropped, and also when the test process dies: its keeper waits
/// for the end of a pipe that only the test process holds open.
pub struct Guarded {
    keeper: Child,
}

impl Guarded {
    /// Starts `program` with `args`; `signal` is what stops it (`TERM`, `INT`, …). Its output goes to `log`.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(program: &str, args: &[&str], signal: &str, log: &std::path::Path) -> Self {
        let out = std::fs::File::create(log).expect("log file");
        let err = out.try_clone().expect("log file");
        let script = format!("\"$@\" & pid=$!; cat > /dev/null; kill -{signal} \"$pid\"; wait \"$pid\"");
        let keeper = Command::new("sh")
            .args(["-c", &script, "keeper", program])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
        Self { keeper }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// When no port can be bound.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
