//! Instances of the binary in processes of their own, on a private Redis and a private Postgres, behind addresses that stay.

use std::path::Path;
use std::time::Duration;

use super::postgres::{Postgres, Sync};
use super::process::free_port;
use super::redis::RedisServer;
use super::scratch::Scratch;
use super::service::{Service, built};
use super::usher::{ADMIN_TOKEN, JWT_SECRET};

/// Instances and their stores. All end when this is dropped.
pub struct Fleet {
    /// The line; taken out while it is restarted.
    pub redis: Option<RedisServer>,
    pub postgres: Postgres,
    /// Of the database.
    pub database: String,
    /// Where each instance listens, also after a restart.
    pub addresses: Vec<String>,
    /// `None` while an instance is down.
    pub services: Vec<Option<Service>>,
    variables: Vec<(String, String)>,
    scratch: Scratch,
}

impl Fleet {
    /// Starts stores and so many instances; `more` are further variables.
    pub async fn start(count: usize, sync: Sync, more: &[(&str, &str)]) -> Self {
        let stores = move || (RedisServer::start(&["--enable-debug-command", "yes"]), Postgres::start(sync));
        let (redis, postgres) = tokio::task::spawn_blocking(stores).await.expect("the stores start");
        let database = postgres.fresh_database().await;
        let shared = [
            ("USHER_ADMIN_TOKEN", ADMIN_TOKEN),
            ("USHER_AUTH_JWT_SECRET", JWT_SECRET),
            ("USHER_AUTH", "optional"),
            ("USHER_TICKET_SECRET", "a-secret-of-the-tickets-0123456789"),
            ("USHER_PASS_SECRET", "a-secret-of-the-passes-0123456789"),
            ("USHER_REDIS_URL", &redis.url()),
            ("USHER_DATABASE_URL", &database),
            ("USHER_WORKERS", "2"),
        ];
        let variables =
            shared.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let addresses = (0..count).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let services = (0..count).map(|_| None).collect();
        let scratch = Scratch::new("fleet");
        let mut fleet = Self { redis: Some(redis), postgres, database, addresses, services, variables, scratch };
        for at in 0..count {
            fleet.launch(at).await;
        }
        fleet
    }

    /// Starts an instance that is down.
    pub async fn launch(&mut self, at: usize) {
        self.launch_of(&built(), at).await;
    }

    /// The same with a binary of another version.
    pub async fn launch_of(&mut self, path: &Path, at: usize) {
        let dir = self.scratch.path().join(at.to_string());
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut variables: Vec<_> = self.variables.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        variables.push(("USHER_LISTEN", &self.addresses[at]));
        self.services[at] = Some(Service::start_of(path, &dir, &variables, &[]).await);
    }

    /// Ends an instance as a crash would.
    pub fn kill(&mut self, at: usize) {
        drop(self.services[at].take());
    }

    /// Tells an instance to stop, and waits for its end; gives how long that took.
    pub async fn stop(&mut self, at: usize) -> Duration {
        let mut service = self.services[at].take().expect("it runs");
        let told = std::time::Instant::now();
        service.signal("TERM");
        assert_eq!(service.ended().await, Some(0), "{}", service.log());
        told.elapsed()
    }

    /// Kills Redis and starts it again, with what it saved last.
    pub async fn restart_redis(&mut self) {
        let redis = self.redis.take().expect("it runs");
        self.redis = Some(redis.restart_killed().await);
    }

    /// The running Redis.
    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("it runs")
    }

    /// Any instance that runs.
    pub fn any(&self) -> &Service {
        self.services.iter().flatten().next().expect("one runs")
    }
}
