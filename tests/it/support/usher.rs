//! Whole services in this process, reached over HTTP, and a client that reads what they answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use usher::app::Application;
use usher::config::{self, AuthSettings, Settings};
use usher::domain::time::SystemClock;
use usher::domain::{Clock, VisitorId};

use super::scratch::Scratch;
use super::{postgres, redis};

pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";
pub const JWT_SECRET: &str = "a secret for user tokens, 32 bytes or more";

/// How a world is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// One instance, everything in process, SQLite.
    Embedded,
    /// So many instances on one Redis and one Postgres.
    Scaled(usize),
}

/// Running instances that share their stores. They stop when this is dropped.
pub struct World {
    pub instances: Vec<Instance>,
    pub client: reqwest::Client,
    /// What every instance was started with.
    pub settings: Settings,
    scratch: Scratch,
}

/// One running instance.
pub struct Instance {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    /// The `code` of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Panics unless the status is this one; gives the body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// Panics unless this is a whole problem with this status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["error"], body["title"]);
        for field in ["type", "title", "detail"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {}", self.text);
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Settings for a test: `more` overrides. The listen port is free.
pub fn settings(scratch: &Scratch, stores: &[(&str, &str)], more: &[(&str, &str)]) -> Settings {
    let dir = scratch.path().join("data");
    let mut pairs = vec![
        ("listen", "127.0.0.1:0"),
        ("workers", "2"),
        ("data_dir", dir.to_str().expect("a text path")),
        ("admin_token", ADMIN_TOKEN),
        ("auth_jwt_secret", JWT_SECRET),
        ("auth", "optional"),
        ("rate_limit_per_visitor", "0"),
        ("recovery_ms", "0"),
        ("drain_ms", "0"),
    ];
    for (key, value) in stores.iter().chain(more) {
        pairs.retain(|(known, _)| known != key);
        pairs.push((key, value));
    }
    config::from_pairs(&pairs).unwrap_or_else(|e| panic!("{e}"))
}

impl Instance {
    pub async fn start(settings: &Settings) -> Self {
        let built = Application::build(settings, Arc::new(SystemClock)).await;
        let application = built.unwrap_or_else(|e| panic!("the service does not start: {e}"));
        let address = application.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let until = async {
                let _told = stopped.await;
            };
            application.run(until).await.expect("an orderly end");
        });
        Self { address, stop: Some(stop), running: Some(running) }
    }

    /// Stops in good order, and waits for the end.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.expect("an orderly end");
        }
    }
}

impl World {
    pub async fn start(setup: Setup) -> Self {
        Self::start_with(setup, &[]).await
    }

    /// With some settings of its own.
    pub async fn start_with(setup: Setup, more: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("world");
        let count = match setup {
            Setup::Embedded => 1,
            Setup::Scaled(count) => count,
        };
        let stores = match setup {
            Setup::Embedded => Vec::new(),
            Setup::Scaled(_) => vec![
                ("redis_url", redis::shared().url()),
                ("redis_prefix", redis::fresh_prefix()),
                ("database_url", postgres::fresh_database().await),
                ("ticket_secret", "a secret for tickets, 32 bytes or more".to_owned()),
                ("pass_secret", "a secret for the passes, 32 bytes or more".to_owned()),
            ],
        };
        let stores: Vec<_> = stores.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let settings = settings(&scratch, &stores, more);
        let mut instances = Vec::new();
        for _ in 0..count {
            instances.push(Instance::start(&settings).await);
        }
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { instances, client, settings, scratch }
    }

    /// The URL of a path below `/api/v1` on instance `at` (counted round, so any number will do).
    pub fn api(&self, at: usize, path: &str) -> String {
        self.url(at, &format!("/api/v1{path}"))
    }

    pub fn url(&self, at: usize, path: &str) -> String {
        format!("http://{}{path}", self.instances[at % self.instances.len()].address)
    }

    /// A request to a path below `/api/v1` on instance `at`.
    pub fn request(&self, at: usize, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.api(at, path))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let answer = request.send().await.unwrap_or_else(|e| panic!("no answer: {e:?}"));
        let (status, headers) = (answer.status(), answer.headers().clone());
        Reply { status, headers, text: answer.text().await.unwrap_or_else(|e| panic!("no body: {e:?}")) }
    }

    /// A call as the operator.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let request = self.request(0, method, &format!("/admin{path}")).bearer_auth(ADMIN_TOKEN);
        self.send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    /// Puts an event with one show `s1`, one zone `z1` of `capacity` seats at 100.0, and this queue policy; waits until every
    /// instance knows it.
    pub async fn put_event(&self, id: &str, capacity: u32, queue: Value) {
        let spec = json!({ "name": format!("Event {id}"), "queue": queue, "shows": [{ "id": "s1", "name": "Friday",
            "zones": [{ "id": "z1", "name": "Floor", "capacity": capacity, "price": 100.0 }] }] });
        let put = self.admin(Method::PUT, &format!("/events/{id}"), Some(spec)).await;
        assert!(put.status.is_success(), "{}", put.text);
        for at in 0..self.instances.len() {
            self.eventually(at, &format!("/queue/status/{id}"), |reply| reply.status == StatusCode::OK).await;
        }
    }

    /// Asks again until the answer is as wanted; panics after ten seconds.
    pub async fn eventually(&self, at: usize, path: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        for _ in 0..200 {
            let reply = self.send(self.request(at, Method::GET, path)).await;
            if wanted(&reply) {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} on instance {at} did not become what was wanted");
    }

    /// Joins as an anonymous visitor.
    pub async fn join(&self, at: usize, event: &str) -> Reply {
        self.send(self.request(at, Method::POST, "/queue/join").json(&json!({ "event_id": event }))).await
    }

    /// Joins as a signed-in visitor.
    pub async fn join_as(&self, at: usize, event: &str, user: &str) -> Reply {
        let request = self.request(at, Method::POST, "/queue/join").bearer_auth(user_token(user));
        self.send(request.json(&json!({ "event_id": event }))).await
    }

    /// Polls with a ticket.
    pub async fn position(&self, at: usize, event: &str, ticket: &str) -> Reply {
        let request = self.request(at, Method::GET, &format!("/queue/position/{event}"));
        self.send(request.header("X-Queue-Ticket", ticket)).await
    }

    /// Polls with a ticket until the answer is as wanted. An instance knows at once what it did itself, and within a second what
    /// another did: with one instance there is no second try.
    pub async fn sees(&self, at: usize, event: &str, ticket: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let patience = if self.instances.len() > 1 { Duration::from_secs(1) } else { Duration::ZERO };
        let asked = std::time::Instant::now();
        loop {
            let reply = self.position(at, event, ticket).await;
            if wanted(&reply) || asked.elapsed() >= patience {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Joins anonymously, waits to be let in, and gives ticket and pass.
    pub async fn admitted(&self, at: usize, event: &str) -> (String, String) {
        let ticket = self.join(at, event).await.json()["token"].as_str().expect("a ticket").to_owned();
        let pass = self.pass(at, event, &ticket).await;
        (ticket, pass)
    }

    /// Polls until the pass is there; panics after ten seconds.
    pub async fn pass(&self, at: usize, event: &str, ticket: &str) -> String {
        for _ in 0..200 {
            if let Some(pass) = self.position(at, event, ticket).await.expect(200)["queue_pass"].as_str() {
                return pass.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never let in");
    }

    /// Reserves in zone `z1` of show `s1` with a pass.
    pub async fn reserve(&self, at: usize, event: &str, pass: &str, key: &str, quantity: u32) -> Reply {
        let body =
            json!({ "event_id": event, "show_id": "s1", "zone_id": "z1", "quantity": quantity, "unit_price": 100.0 });
        let request = self.request(at, Method::POST, "/bookings/reserve");
        self.send(request.header("X-Queue-Pass", pass).header("X-Idempotency-Key", key).json(&body)).await
    }

    /// Seats left in zone `z1` of show `s1`.
    pub async fn available(&self, at: usize, event: &str) -> u64 {
        let reply = self.send(self.request(at, Method::GET, &format!("/events/{event}/availability"))).await;
        reply.expect(200)["shows"][0]["zones"][0]["available"].as_u64().expect("a number")
    }

    /// Where the instances keep their files.
    pub fn dir(&self) -> &std::path::Path {
        self.scratch.path()
    }
}

/// A bearer token for this visitor, good for an hour.
pub fn user_token(user: &str) -> String {
    let auth: AuthSettings = config::from_pairs(&[("auth_jwt_secret", JWT_SECRET)]).expect("legal").auth;
    let visitor = VisitorId::parse(user).expect("an id");
    usher::pass::issue_user_token(&auth, &visitor, Duration::from_hours(1), SystemClock.now()).expect("signed")
}
