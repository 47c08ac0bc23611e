//! The binary in processes of its own: started, signalled, killed, reached over HTTP.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::usher::{ADMIN_TOKEN, user_token};

/// The binary of this build, or the one that `USHER_CHAOS_BINARY` names.
pub fn built() -> PathBuf {
    std::env::var_os("USHER_CHAOS_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_usher").into()).into()
}

/// The binary with these variables, and none of the tests' own.
pub fn binary(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Command {
    program(&built(), dir, variables, args)
}

fn program(path: &Path, dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("USHER_")) {
        command.env_remove(name);
    }
    command.env("USHER_DATA_DIR", dir.join("data")).env("USHER_LISTEN", "127.0.0.1:0");
    command.envs(variables.iter().copied()).args(args).current_dir(dir).stdin(Stdio::null());
    command
}

/// A service in a process of its own; killed when this is dropped.
pub struct Service {
    child: Child,
    /// Where it listens.
    pub address: String,
    pub client: reqwest::Client,
    dir: PathBuf,
}

impl Service {
    pub async fn start(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Self {
        Self::start_of(&built(), dir, variables, args).await
    }

    /// The same with a binary of another version.
    pub async fn start_of(path: &Path, dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Self {
        let log = |name: &str| std::fs::File::create(dir.join(name)).expect("a file");
        let mut command = program(path, dir, &[("USHER_RATE_LIMIT_PER_VISITOR", "0")], args);
        command.envs(variables.iter().copied()).stdout(log("stdout")).stderr(log("stderr"));
        let child = command.spawn().expect("the binary starts");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
        let mut service = Self { child, address: String::new(), client, dir: dir.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while service.address.is_empty() {
            let ended = service.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", service.log());
            let ready = service.lines().into_iter().find(|line| line["message"] == "ready");
            service.address = ready.map_or(String::new(), |line| line["address"].as_str().expect("text").to_owned());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        service
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// What it logged, line by line; a line that is still being written is left out.
    pub fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).expect("a file")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn api(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}/api/v1{path}", self.address))
    }

    pub async fn put_event(&self, seats: u32) {
        let spec = json!({ "name": "e", "queue": { "queue_required": false, "max_per_user": 0 }, "shows": [
            { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": seats, "price": 100.0 }] }] });
        let put = self.api(Method::PUT, "/admin/events/e").bearer_auth(ADMIN_TOKEN).json(&spec).send().await;
        assert_eq!(put.expect("an answer").status(), 201);
    }

    pub async fn reserve(&self, key: &str) -> Option<(u16, String)> {
        let body = json!({ "event_id": "e", "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0 });
        let request = self.api(Method::POST, "/bookings/reserve").bearer_auth(user_token("ann"));
        let reply = request.header("X-Idempotency-Key", key).json(&body).send().await.ok()?;
        Some((reply.status().as_u16(), reply.text().await.ok()?))
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits for the end and gives the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
