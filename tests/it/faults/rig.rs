//! A service in a process of its own behind two proxies, and what is looked at from outside.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::proxy::Proxy;
use crate::support::scratch::Scratch;
use crate::support::service::Service;
use crate::support::usher::{ADMIN_TOKEN, JWT_SECRET, Reply, user_token};
use crate::support::{postgres, redis};

/// Every request is to be answered within a second, whatever is away. A machine that does other things meanwhile may add to
/// it: more in the short form, which runs beside other tests.
pub fn promise() -> Duration {
    super::seconds(3, 1) + Duration::from_millis(500)
}

/// A service whose stores can be taken away.
pub struct Rig {
    pub service: Service,
    pub redis: Proxy,
    pub postgres: Proxy,
    /// The database, past the proxy.
    pub database: String,
    prefix: String,
    _scratch: Scratch,
}

/// One answer, and how long it took.
pub struct Timed {
    pub name: String,
    pub reply: Reply,
    pub took: Duration,
}

impl Timed {
    /// Panics unless it came in time, and as a whole problem if it is one of ours.
    pub fn check(&self) {
        self.check_within(promise());
    }

    pub fn check_within(&self, bound: Duration) {
        let Self { name, reply, took } = self;
        assert!(*took <= bound, "{name} took {took:?}: {} {}", reply.status, reply.text);
        if !reply.status.is_server_error() {
            return;
        }
        let code = reply.code();
        assert!(matches!(code.as_str(), "STORE_UNAVAILABLE" | "OVERLOADED"), "{name}: {} {}", reply.status, reply.text);
        reply.expect_problem(503, &code);
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|after| after > 0), "{name}: {:?}", reply.headers);
    }
}

/// What the process takes up.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub resident_kb: u64,
    pub tasks: u64,
    pub calls: u64,
    pub files: usize,
}

impl Rig {
    pub async fn start(more: &[(&str, &str)]) -> Self {
        let server = tokio::task::spawn_blocking(redis::shared).await.expect("Redis starts");
        let database = postgres::fresh_database().await;
        let port = |url: &str| url.rsplit(':').next().and_then(|rest| rest.split('/').next()?.parse::<u16>().ok());
        let store = port(&database).expect("a port");
        let (redis, postgres) = (Proxy::start(server.port()), Proxy::start(store));
        let scratch = Scratch::new("faults");
        let prefix = redis::fresh_prefix();
        let urls = (
            format!("redis://127.0.0.1:{}/", redis.port()),
            database.replace(&format!(":{store}/"), &format!(":{}/", postgres.port())),
        );
        let mut variables = vec![
            ("USHER_REDIS_URL", urls.0.as_str()),
            ("USHER_REDIS_PREFIX", &prefix),
            ("USHER_DATABASE_URL", &urls.1),
            ("USHER_TICKET_SECRET", "a secret for tickets, 32 bytes or more"),
            ("USHER_PASS_SECRET", "a secret for the passes, 32 bytes or more"),
            ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
            ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
            ("USHER_AUTH", "optional"),
        ];
        variables.extend(more);
        let service = Service::start(scratch.path(), &variables, &[]).await;
        Self { service, redis, postgres, database, prefix, _scratch: scratch }
    }

    /// Puts an event with a queue that lets in so many a minute.
    pub async fn put_event(&self, id: &str, admit_per_minute: u32) {
        let put = self.ask("put", self.admin(Method::PUT, &format!("/events/{id}")).json(&spec(admit_per_minute)));
        assert_eq!(put.await.reply.status, 201);
    }

    /// Stops the line, and waits until its last step is known.
    pub async fn pause(&self, event: &str) {
        let patch = self.admin(Method::PATCH, &format!("/events/{event}/queue")).json(&json!({ "state": "paused" }));
        self.ask("pause", patch).await.reply.expect(200);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.service.api(method, &format!("/admin{path}")).bearer_auth(ADMIN_TOKEN)
    }

    /// Sends a request, and reads the answer whole. A stream is read no further than its head.
    pub async fn ask(&self, name: &str, request: RequestBuilder) -> Timed {
        let asked = Instant::now();
        let answer =
            request.send().await.unwrap_or_else(|e| panic!("{name}: no answer after {:?}: {e:?}", asked.elapsed()));
        let (status, headers) = (answer.status(), answer.headers().clone());
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if is_stream { String::new() } else { answer.text().await.expect("a body") };
        Timed { name: name.to_owned(), took: asked.elapsed(), reply: Reply { status, headers, text } }
    }

    pub async fn plain(&self, path: &str) -> Timed {
        self.ask(path, self.service.client.get(format!("http://{}{path}", self.service.address))).await
    }

    pub async fn join(&self, event: &str) -> Timed {
        self.ask("join", self.service.api(Method::POST, "/queue/join").json(&json!({ "event_id": event }))).await
    }

    /// Joins and gives the ticket.
    pub async fn ticket(&self, event: &str) -> String {
        let joined = self.join(event).await.reply;
        joined.expect(201)["token"].as_str().expect("a ticket").to_owned()
    }

    pub async fn position(&self, event: &str, ticket: &str) -> Timed {
        let request = self.service.api(Method::GET, &format!("/queue/position/{event}"));
        self.ask("position", request.header("X-Queue-Ticket", ticket)).await
    }

    /// Joins, and polls until the pass is there.
    pub async fn pass(&self, event: &str) -> String {
        let ticket = self.ticket(event).await;
        for _ in 0..200 {
            if let Some(pass) = self.position(event, &ticket).await.reply.expect(200)["queue_pass"].as_str() {
                return pass.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never let in");
    }

    pub async fn reserve(&self, event: &str, pass: &str, key: &str) -> Timed {
        let body = json!({ "event_id": event, "show_id": "s1", "zone_id": "z1", "quantity": 1, "unit_price": 100.0 });
        let request = self.service.api(Method::POST, "/bookings/reserve");
        self.ask("reserve", request.header("X-Queue-Pass", pass).header("X-Idempotency-Key", key).json(&body)).await
    }

    /// Sends every kind of request at once: `ticket` stands in line at `event`, `pass` is good at `desk`.
    pub async fn everything(&self, event: &str, ticket: &str, (desk, pass): (&str, &str)) -> Vec<Timed> {
        let api = |method: Method, path: &str| self.service.api(method, path);
        // A visitor of whom nothing is known here.
        let stranger = user_token(&format!("stranger-{}", uuid::Uuid::new_v4()));
        let booking = uuid::Uuid::new_v4();
        let at = |path: &str| format!("{path}/{event}");
        let no_ticket = "usher-no-such-ticket";
        let requests = vec![
            ("join", api(Method::POST, "/queue/join").json(&json!({ "event_id": event }))),
            ("position", api(Method::GET, &at("/queue/position")).header("X-Queue-Ticket", ticket)),
            ("position of a stranger", api(Method::GET, &at("/queue/position")).bearer_auth(&stranger)),
            ("stream", api(Method::GET, &format!("{}/stream", at("/queue/position"))).bearer_auth(&stranger)),
            ("leave", api(Method::DELETE, "/queue/leave").json(&json!({ "event_id": event, "token": no_ticket }))),
            (
                "leave for good",
                api(Method::DELETE, "/queue/leave").json(&json!({ "event_id": event, "token": ticket })),
            ),
            ("status", api(Method::GET, &at("/queue/status"))),
            (
                "confirm",
                api(Method::POST, &format!("/bookings/{booking}/confirm")).bearer_auth(&stranger).json(&json!({})),
            ),
            ("cancel", api(Method::DELETE, &format!("/bookings/{booking}")).bearer_auth(&stranger)),
            ("booking", api(Method::GET, &format!("/bookings/{booking}")).bearer_auth(&stranger)),
            ("bookings", api(Method::GET, "/bookings").bearer_auth(&stranger)),
            ("summary", api(Method::GET, &format!("/bookings/summary?event_id={event}")).bearer_auth(&stranger)),
            ("events", api(Method::GET, "/events")),
            ("event", api(Method::GET, &at("/events"))),
            ("availability", api(Method::GET, &format!("{}/availability", at("/events")))),
            ("admin: events", self.admin(Method::GET, "/events")),
            ("admin: event", self.admin(Method::GET, &at("/events"))),
            ("admin: put", self.admin(Method::PUT, "/events/another").json(&spec(1))),
            ("admin: patch", self.admin(Method::PATCH, "/events/another/queue").json(&json!({ "message": "m" }))),
            ("admin: reset", self.admin(Method::POST, "/events/another/reset").json(&json!({ "confirm": "another" }))),
            ("admin: remove", self.admin(Method::DELETE, "/events/nowhere")),
            ("admin: inventory", self.admin(Method::GET, "/inventory-status")),
            ("admin: sync", self.admin(Method::POST, "/sync-inventory")),
            ("admin: audit", self.admin(Method::GET, "/audit")),
        ];
        let asked = requests.into_iter().map(|(name, request)| self.ask(name, request));
        let (mut all, reserved, health, metrics, ready) = tokio::join!(
            futures_util::future::join_all(asked),
            self.reserve(desk, pass, "everything"),
            self.plain("/health"),
            self.plain("/metrics"),
            self.plain("/ready"),
        );
        all.extend([reserved, health, metrics, ready]);
        all
    }

    /// Visitors ever let in, by the store itself, past the proxy.
    pub async fn admitted(&self, event: &str) -> u64 {
        let key = format!("{}:2:{{{event}}}:event", self.prefix);
        redis::shared().command(&["HGET", &key, "admitted"]).await
    }

    /// One metric, summed over its labels that hold `label`.
    pub async fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.plain("/metrics").await.reply.text;
        let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = text.lines().filter(named).filter(|line| line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    pub async fn size(&self) -> Size {
        let proc = format!("/proc/{}", self.service.id());
        let status = std::fs::read_to_string(format!("{proc}/status")).expect("a process");
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        Size {
            resident_kb: resident.expect("a size"),
            tasks: self.metric("usher_tasks", "").await,
            calls: self.metric("usher_store_calls", "").await,
            files: std::fs::read_dir(format!("{proc}/fd")).expect("a process").count(),
        }
    }
}

fn spec(admit_per_minute: u32) -> Value {
    json!({ "name": "An event", "queue": { "admit_per_minute": admit_per_minute, "max_per_user": 0 }, "shows": [
        { "id": "s1", "name": "Friday", "zones": [{ "id": "z1", "name": "Floor", "capacity": 100_000, "price": 100.0 }] }] })
}
