//! The binary itself: what it prints, how it ends, and what is left after it was killed.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::postgres::{Postgres, Sync};
use crate::support::redis;
use crate::support::scratch::Scratch;
use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET, user_token};

const TICKET_SECRET: &str = "a-secret-of-the-tickets-0123456789";
const PASS_SECRET: &str = "a-secret-of-the-passes-0123456789";

/// The binary with these variables, and none of the tests' own.
fn usher(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("USHER_")) {
        command.env_remove(name);
    }
    command.env("USHER_DATA_DIR", dir.join("data")).env("USHER_LISTEN", "127.0.0.1:0");
    command.envs(variables.iter().copied()).args(args).current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
async fn run(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = usher(dir, variables, args);
    let ran = tokio::task::spawn_blocking(move || command.output());
    let ended = tokio::time::timeout(Duration::from_mins(1), ran).await.expect("it ends by itself");
    ended.expect("no panic").expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed; gives what it printed.
async fn succeeds(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> String {
    let output = run(dir, variables, args).await;
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A service in a process of its own; killed when this is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    pub(crate) client: reqwest::Client,
    dir: std::path::PathBuf,
}

impl Service {
    pub(crate) async fn start(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Self {
        let log = |name: &str| std::fs::File::create(dir.join(name)).expect("a file");
        let mut command = usher(dir, &[("USHER_RATE_LIMIT_PER_VISITOR", "0")], args);
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
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// What it logged, line by line; a line that is still being written is left out.
    fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn stdout(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).expect("a file")
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn api(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}/api/v1{path}", self.address))
    }

    async fn put_event(&self, seats: u32) {
        let spec = json!({ "name": "e", "queue": { "queue_required": false, "max_per_user": 0 }, "shows": [
            { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": seats, "price": 100.0 }] }] });
        let put = self.api(Method::PUT, "/admin/events/e").bearer_auth(ADMIN_TOKEN).json(&spec).send().await;
        assert_eq!(put.expect("an answer").status(), 201);
    }

    async fn reserve(&self, key: &str) -> Option<(u16, String)> {
        let body = json!({ "event_id": "e", "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0 });
        let request = self.api(Method::POST, "/bookings/reserve").bearer_auth(user_token("ann"));
        let reply = request.header("X-Idempotency-Key", key).json(&body).send().await.ok()?;
        Some((reply.status().as_u16(), reply.text().await.ok()?))
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits for the end and gives the exit code.
    async fn ended(&mut self) -> Option<i32> {
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

/// Kills the service in the middle of sales, as soon as the first 201 is there, a few times over. Every 201 must be a booking
/// afterwards, and its retry the same bytes.
async fn survives_kills(dir: &Path, variables: &[(&str, &str)]) {
    let mut sold: Vec<(String, String)> = Vec::new();
    for round in 0..5 {
        let mut service = Service::start(dir, variables, &[]).await;
        if round == 0 {
            service.put_event(1_000).await;
        }
        for (key, answer) in &sold {
            assert_eq!(service.reserve(key).await, Some((201, answer.clone())), "round {round}");
            let id = serde_json::from_str::<Value>(answer).expect("JSON")["booking_id"].clone();
            let path = format!("/bookings/{}", id.as_str().expect("an id"));
            let booking =
                service.api(Method::GET, &path).bearer_auth(user_token("ann")).send().await.expect("an answer");
            assert_eq!(booking.status(), 200, "round {round}: {path}");
        }
        let keys: Vec<String> = (0..16).map(|n| format!("key-{round}-{n}")).collect();
        {
            let service = &service;
            let asked = keys.iter().map(|key| async move { (key, service.reserve(key).await) });
            let mut answers: FuturesUnordered<_> = asked.collect();
            let mut killed = false;
            while let Some((key, answer)) = answers.next().await {
                let Some((status, answer)) = answer else { continue };
                assert_eq!(status, 201, "{answer}");
                sold.push((key.clone(), answer));
                if !killed {
                    service.signal("KILL");
                    killed = true;
                }
            }
        }
        assert_eq!(service.ended().await, None, "killed");
        assert!(sold.len() > round);
    }
    let service = Service::start(dir, variables, &[]).await;
    let listed = service.api(Method::GET, "/bookings").bearer_auth(user_token("ann")).send().await.expect("an answer");
    let total = listed.json::<Value>().await.expect("JSON")["total"].as_u64().expect("a count");
    assert!(total >= sold.len() as u64, "{total} bookings, {} answered", sold.len());
    let zones = service.api(Method::GET, "/admin/inventory-status").bearer_auth(ADMIN_TOKEN).send().await;
    let zone = zones.expect("an answer").json::<Value>().await.expect("JSON")["zones"][0].clone();
    assert_eq!(zone["taken"], total, "each seat that is taken belongs to a booking");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill_on_sqlite() {
    let scratch = Scratch::new("kill");
    let variables = [("USHER_ADMIN_TOKEN", ADMIN_TOKEN), ("USHER_AUTH_JWT_SECRET", JWT_SECRET)];
    survives_kills(scratch.path(), &variables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill_on_postgres() {
    let scratch = Scratch::new("kill");
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(Sync::On)).await.expect("Postgres starts");
    let (database, prefix) = (postgres.fresh_database().await, redis::fresh_prefix());
    let redis = redis::shared().url();
    let variables = [
        ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
        ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
        ("USHER_TICKET_SECRET", TICKET_SECRET),
        ("USHER_PASS_SECRET", PASS_SECRET),
        ("USHER_REDIS_URL", &redis),
        ("USHER_REDIS_PREFIX", &prefix),
        ("USHER_DATABASE_URL", &database),
    ];
    survives_kills(scratch.path(), &variables).await;
}

/// What is in the file, the variables, the arguments, and what the message must name.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);

#[tokio::test]
async fn a_mistake_in_the_settings_stops_the_start_and_is_named() {
    let scratch = Scratch::new("mistakes");
    let file = scratch.path().join("usher.toml");
    let path = file.to_str().expect("a text path").to_owned();
    let in_file = ["--config", path.as_str()];
    let cases: &[Case<'_>] = &[
        ("lissten = \"127.0.0.1:0\"", &[], &in_file, &["lissten", "usher.toml", "listen"]),
        ("[server]\nlisten = \"127.0.0.1:0\"", &[], &in_file, &["server", "usher.toml"]),
        ("workers = \"many\"", &[], &in_file, &["workers", "many"]),
        ("workers = ", &[], &in_file, &["usher.toml", "line 1"]),
        ("", &[], &["--config", "nowhere.toml"], &["nowhere.toml"]),
        ("", &[("USHER_LISSTEN", "127.0.0.1:0")], &[], &["USHER_LISSTEN", "USHER_LISTEN"]),
        ("", &[("USHER_LISTEN", "here")], &[], &["USHER_LISTEN"]),
        ("", &[("USHER_LOG_LEVEL", "loud")], &[], &["USHER_LOG_LEVEL"]),
        ("", &[("USHER_PASS_SECRET", "short")], &[], &["USHER_PASS_SECRET", "32"]),
        (
            "",
            &[("USHER_MAX_BODY_BYTES", "-1"), ("USHER_WORKERS", "x")],
            &[],
            &["USHER_MAX_BODY_BYTES", "USHER_WORKERS"],
        ),
        ("", &[], &["--release-interval-ms", "5"], &["--release-interval-ms", "20"]),
        ("", &[("USHER_AUTH", "required")], &[], &["auth", "auth_jwt_secret"]),
        (
            "",
            &[("USHER_REDIS_URL", "redis://127.0.0.1:1/")],
            &[],
            &["redis_url", "database_url", "ticket_secret", "pass_private_key or pass_secret", "admin_token"],
        ),
        (
            "",
            &[("USHER_AUTH_JWT_SECRET", PASS_SECRET), ("USHER_PASS_SECRET", PASS_SECRET)],
            &[],
            &["auth_jwt_secret", "pass_secret"],
        ),
        ("", &[("USHER_PASS_PRIVATE_KEY", "nowhere.pem")], &[], &["nowhere.pem"]),
    ];
    for (content, variables, args, named) in cases {
        std::fs::write(&file, content).expect("a file");
        let output = run(scratch.path(), variables, args).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{content} {variables:?} {args:?}: {said}");
        for name in *named {
            assert!(said.contains(name), "{content} {variables:?} {args:?} does not name {name}: {said}");
        }
        assert!(!said.contains(PASS_SECRET) && !said.contains("panicked"), "{said}");
        assert_eq!(text(&output.stdout), "");
    }
    let unknown = run(scratch.path(), &[], &["--lissten", "x"]).await;
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("--lissten"));
}

#[tokio::test]
async fn a_store_that_is_not_there_stops_the_start() {
    let scratch = Scratch::new("nowhere");
    let nowhere = "postgres://somebody:sesame-open@127.0.0.1:1/usher";
    let output = run(scratch.path(), &[("USHER_DATABASE_URL", nowhere)], &[]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("usher: ledger:") && !said.contains("sesame-open"), "{said}");
}

#[tokio::test]
async fn the_settings_in_force_are_logged_once_and_no_secret_is() {
    let scratch = Scratch::new("settings");
    let file = scratch.path().join("usher.toml");
    std::fs::write(&file, format!("ticket_secret = \"{TICKET_SECRET}\"\nworkers = 3\n")).expect("a file");
    let (database, prefix) = (crate::support::postgres::fresh_database().await, redis::fresh_prefix());
    // A password that the servers do not ask for.
    let database = database.replace("postgres@", "postgres:sesame-open@");
    let variables = [
        ("USHER_CONFIG", file.to_str().expect("a text path")),
        ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
        ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
        ("USHER_REDIS_URL", &redis::shared().url()),
        ("USHER_REDIS_PREFIX", &prefix),
        ("USHER_DATABASE_URL", &database),
        ("USHER_WORKERS", "2"),
        ("USHER_LOG_LEVEL", "iNFo"),
    ];
    let mut service = Service::start(scratch.path(), &variables, &["serve", "--pass-secret", PASS_SECRET]).await;
    let wrong = service.api(Method::GET, "/admin/events").bearer_auth("a-wrong-token-of-some-length").send().await;
    assert_eq!(wrong.expect("an answer").status(), 401);
    let token = user_token("ann");
    let right = service.api(Method::GET, "/bookings").bearer_auth(&token).send().await;
    assert_eq!(right.expect("an answer").status(), 200);
    service.signal("TERM");
    assert_eq!(service.ended().await, Some(0));

    let (log, lines) = (service.log(), service.lines());
    assert_eq!(log.lines().count(), lines.len(), "every line is JSON");
    for setting in usher::config::table::all() {
        let told: Vec<_> = lines.iter().filter(|line| line["setting"] == setting.key).collect();
        assert_eq!(told.len(), 1, "{}", setting.key);
        assert!(told[0]["value"].is_string() && told[0]["source"].is_string(), "{}", told[0]);
    }
    let told = |key: &str| {
        let line = lines.iter().find(|line| line["setting"] == key).expect("a line");
        (line["value"].as_str().expect("text").to_owned(), line["source"].as_str().expect("text").to_owned())
    };
    assert_eq!(told("workers"), ("2".into(), "environment".into()));
    assert_eq!(told("pass_secret"), ("***".into(), "flag".into()));
    assert_eq!(told("ticket_secret"), ("***".into(), format!("file {}", file.display())));
    assert_eq!(told("admin_token"), ("***".into(), "environment".into()));
    assert_eq!(told("max_pending").1, "default");
    for secret in [TICKET_SECRET, PASS_SECRET, JWT_SECRET, ADMIN_TOKEN, "sesame-open", "a-wrong-token", token.as_str()]
    {
        assert!(!log.contains(secret) && !service.stdout().contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_generated_admin_token_is_printed_once_and_works() {
    let scratch = Scratch::new("token");
    let mut service = Service::start(scratch.path(), &[], &[]).await;
    let printed = service.stdout();
    let token = printed.trim_end().rsplit(' ').next().expect("a token").to_owned();
    assert_eq!(printed.lines().count(), 1);
    assert!(token.len() >= 32 && !service.log().contains(&token));
    let events = service.api(Method::GET, "/admin/events").bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(events.status(), 200);
    service.signal("INT");
    assert_eq!(service.ended().await, Some(0));
    assert!(!service.log().contains(&token));
}

#[tokio::test]
async fn a_second_process_is_kept_out_of_the_data_directory() {
    let scratch = Scratch::new("second");
    let service = Service::start(scratch.path(), &[], &[]).await;
    for command in ["serve", "migrate", "seed"] {
        let second = run(scratch.path(), &[], &[command]).await;
        let said = text(&second.stderr);
        assert_eq!(second.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("data_dir") && said.contains("another usher"), "{command}: {said}");
    }
    // The first one goes on, and leaves the directory to others when it ends, however it ends.
    let health = service.client.get(format!("http://{}/health", service.address)).send().await;
    assert_eq!(health.expect("an answer").status(), 200);
    service.signal("KILL");
    drop(service);
    succeeds(scratch.path(), &[], &["migrate"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_signal_drains() {
    let scratch = Scratch::new("drain");
    let variables = [("USHER_ADMIN_TOKEN", ADMIN_TOKEN), ("USHER_AUTH_JWT_SECRET", JWT_SECRET)];
    let mut service = Service::start(scratch.path(), &variables, &[]).await;
    service.put_event(100).await;
    let patch = json!({ "state": "paused" });
    let patched =
        service.api(Method::PATCH, "/admin/events/e/queue").bearer_auth(ADMIN_TOKEN).json(&patch).send().await;
    assert_eq!(patched.expect("an answer").status(), 200);
    let token = user_token("ann");
    let join = service.api(Method::POST, "/queue/join").bearer_auth(&token).json(&json!({ "event_id": "e" }));
    assert_eq!(join.send().await.expect("an answer").status(), 201);
    let stream = service.api(Method::GET, "/queue/position/e/stream").bearer_auth(&token).send().await;
    let stream = stream.expect("an answer");
    assert_eq!(stream.status(), 200);
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let asked = futures_util::future::join_all(keys.iter().map(|key| service.reserve(key)));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        service.signal("TERM");
    };
    let (answers, ()) = tokio::join!(asked, stop);
    // What was answered was answered well; what came too late found nobody.
    assert!(answers.iter().flatten().all(|(status, _)| *status == 201), "{answers:?}");
    stream.text().await.expect("the stream comes to an end, not to a break");
    assert_eq!(service.ended().await, Some(0));
    let lines = service.lines();
    assert_eq!(lines.last().map(|line| &line["message"]), Some(&json!("stopped")));
    assert!(lines.iter().all(|line| line["level"] != "ERROR"), "{}", service.log());
}

#[tokio::test]
async fn the_catalogue_of_the_load_tests_is_seeded_as_often_as_one_likes() {
    let scratch = Scratch::new("seed");
    let dir = scratch.path();
    let first = succeeds(dir, &[], &["seed"]).await;
    succeeds(dir, &[], &["seed", "--out", "ids.json"]).await;
    assert_eq!(std::fs::read_to_string(dir.join("ids.json")).expect("a file"), first);
    let ids: Value = serde_json::from_str(&first).expect("JSON");
    let service = Service::start(dir, &[], &[]).await;
    let mut seats = 0;
    for event in ids["events"].as_array().expect("events") {
        let path = format!("/events/{}/availability", event["id"].as_str().expect("an id"));
        let found: Value = service.api(Method::GET, &path).send().await.expect("an answer").json().await.expect("JSON");
        for (show, found) in
            event["shows"].as_array().expect("shows").iter().zip(found["shows"].as_array().expect("shows"))
        {
            for (zone, found) in
                show["zones"].as_array().expect("zones").iter().zip(found["zones"].as_array().expect("zones"))
            {
                assert_eq!((&zone["id"], &zone["price"]), (&found["id"], &found["price"]));
                seats += found["available"].as_u64().expect("a count");
            }
        }
    }
    assert_eq!(seats, 900_000);
}

#[tokio::test]
async fn the_small_commands_do_what_they_say() {
    let scratch = Scratch::new("commands");
    let dir = scratch.path();
    for _ in 0..2 {
        assert!(succeeds(dir, &[], &["migrate"]).await.contains("up to date"));
    }
    let secret = [("USHER_AUTH_JWT_SECRET", JWT_SECRET)];
    let tokens: Value = serde_json::from_str(&succeeds(dir, &secret, &["token", "--count", "50"]).await).expect("JSON");
    assert_eq!(tokens.as_array().map(Vec::len), Some(50));
    assert!(!run(dir, &[], &["token"]).await.status.success(), "there is no secret to sign with");

    let document = succeeds(dir, &[("USHER_LOG_LEVEL", "DeBuG")], &["openapi"]).await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert!(document["paths"]["/api/v1/bookings/reserve"]["post"].is_object());

    let service = Service::start(dir, &secret, &[]).await;
    let address = service.address.clone();
    let bookings = service.api(Method::GET, "/bookings").bearer_auth(tokens[49]["token"].as_str().expect("a token"));
    assert_eq!(bookings.send().await.expect("an answer").status(), 200);
    for args in [&["healthcheck"][..], &["healthcheck", "--ready"]] {
        succeeds(dir, &[("USHER_LISTEN", &address)], args).await;
    }
    drop(service);
    let down = run(dir, &[("USHER_LISTEN", &address)], &["healthcheck"]).await;
    assert!(!down.status.success());
}

#[tokio::test]
async fn the_demonstration_ends_well() {
    let scratch = Scratch::new("demo");
    let printed = succeeds(scratch.path(), &[], &["demo", "--once", "--visitors", "60"]).await;
    assert!(printed.contains("60"), "{printed}");
}
