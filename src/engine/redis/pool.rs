//! Connections: a bounded pool, and one round trip a script call.
//!
//! The pool hands out slots rather than open connections, because it keeps the reason of a failed connection to itself and
//! lets its borrowers wait out their time. The borrower of a slot connects it, and hears at once why that fails. A
//! connection that failed is dropped (multiplexed ones do not heal, and after a failover they lead to a replica), and all
//! that are as old with it, so that a store that restarted costs one failed call and not one a slot. The next borrower
//! connects its slot again, which looks up the address again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::ManageConnection;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, IntoConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value};

use super::RedisSettings;
use super::scripts::Script;
use crate::engine::EngineError;

/// Opens connections.
#[derive(Debug)]
struct Connector {
    inner: RedisConnectionManager,
    connect_timeout: Duration,
    response_timeout: Duration,
    /// Grows when a connection breaks. Connections of an earlier age are not used any more.
    age: AtomicU64,
}

impl Connector {
    async fn open(&self, age: u64) -> RedisResult<Link> {
        let late = |_| RedisError::from((ErrorKind::Io, "connecting took too long"));
        let mut connection = tokio::time::timeout(self.connect_timeout, self.inner.connect()).await.map_err(late)??;
        connection.set_response_timeout(self.response_timeout);
        let run = server_run(&mut connection).await?;
        Ok(Link { age, connection, run })
    }
}

/// Which run of its program the server is in: another one may have lost what came last. Empty where it does not say so.
async fn server_run(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let facts = match redis::cmd("INFO").arg("server").query_async::<String>(connection).await {
        Err(error) if error.code() == Some("NOPERM") => String::new(),
        facts => facts?,
    };
    let run = facts.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim_end();
    Ok(run.into())
}

/// An open connection.
struct Link {
    age: u64,
    connection: MultiplexedConnection,
    /// As of [`server_run`].
    run: String,
}

/// One slot of the pool.
pub struct Connection {
    connector: Arc<Connector>,
    /// `None` before the first use and after a failure.
    link: Option<Link>,
}

/// Makes the slots of the pool.
#[derive(Debug)]
pub struct Manager(Arc<Connector>);

/// The pool of an engine.
pub type Pool = bb8::Pool<Manager>;

/// Connections that nobody used for so long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// A pool that opens its connections when they are first needed.
pub fn pool(settings: &RedisSettings) -> Result<Pool, EngineError> {
    // The error is not passed on: it may quote the URL, and with it the password.
    let unreadable = |_: RedisError| EngineError::Unavailable("the Redis URL cannot be read".into());
    let info = settings.url.as_str().into_connection_info().map_err(unreadable)?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let connector = Connector {
        inner: RedisConnectionManager::new(info.set_tcp_settings(tcp)).map_err(unreadable)?,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        age: AtomicU64::new(0),
    };
    Ok(Pool::builder()
        .max_size(settings.pool_size.max(1))
        .test_on_check_out(false) // a PING for each borrowing would halve the throughput
        .connection_timeout(settings.connect_timeout.saturating_add(settings.response_timeout))
        .idle_timeout(IDLE_TIMEOUT)
        .build_unchecked(Manager(Arc::new(connector))))
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection { connector: Arc::clone(&self.0), link: None })
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

/// Borrows a connection.
pub async fn borrow(pool: &Pool) -> Result<bb8::PooledConnection<'_, Manager>, EngineError> {
    pool.get().await.map_err(|error| match error {
        bb8::RunError::User(never) => match never {},
        bb8::RunError::TimedOut => EngineError::Unavailable("no connection was free in time".into()),
    })
}

fn unavailable(error: &RedisError) -> EngineError {
    EngineError::Unavailable(error.to_string())
}

impl Connection {
    /// The connection that is open, or a new one.
    async fn link(&mut self) -> RedisResult<&mut Link> {
        let age = self.connector.age.load(Ordering::Relaxed);
        match self.link.take() {
            Some(link) if link.age == age => Ok(self.link.insert(link)),
            _ => Ok(self.link.insert(self.connector.open(age).await?)),
        }
    }

    /// Sends one command, on a new connection if there is none.
    pub async fn send(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        self.send_with(|_| command.clone()).await
    }

    /// Sends the command that `build` makes of the server's run.
    async fn send_with(&mut self, build: impl FnOnce(&str) -> redis::Cmd) -> RedisResult<Value> {
        let link = self.link().await?;
        let (age, command) = (link.age, build(&link.run));
        let answer = link.connection.send_packed_command(&command).await.and_then(Value::extract_error);
        if let Err(error) = &answer {
            // READONLY: the connection leads to a replica since a failover.
            let moved = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly));
            if moved || error.is_io_error() || error.is_unrecoverable_error() {
                self.link = None;
                if !error.is_timeout() {
                    // Only the first to notice ends the age; a slow answer says nothing of the other connections.
                    let ages = &self.connector.age;
                    let _ = ages.compare_exchange(age, age + 1, Ordering::Relaxed, Ordering::Relaxed);
                }
            }
        }
        answer
    }

    /// Runs a script by its digest, and by its text where the store does not have it (yet, or any more).
    pub async fn run(
        &mut self,
        script: &Script,
        keys: &[String],
        arguments: &[Argument<'_>],
    ) -> Result<Value, EngineError> {
        let answer = match self.send_with(|run| command("EVALSHA", script.sha(), keys, arguments, run)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send_with(|run| command("EVAL", &script.text(), keys, arguments, run)).await
            }
            answer => answer,
        };
        answer.map_err(|error| unavailable(&error))
    }
}

/// One argument of a script.
#[derive(Debug, Clone)]
pub enum Argument<'a> {
    /// A text.
    Text(&'a str),
    /// A text that was built for the call.
    Built(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// Which run of its program the server is in, as the connection was told.
    Run,
}

fn command(verb: &str, script: &str, keys: &[String], arguments: &[Argument<'_>], run: &str) -> redis::Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(keys.len()).arg(keys);
    for argument in arguments {
        match argument {
            Argument::Text(text) => command.arg(*text),
            Argument::Built(text) => command.arg(text),
            Argument::Bytes(bytes) => command.arg(bytes.as_slice()),
            Argument::Int(number) => command.arg(*number),
            Argument::Run => command.arg(run),
        };
    }
    command
}
