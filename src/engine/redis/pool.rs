//! Connections: a bounded pool, and one round trip a script call.
//!
//! The pool hands out slots rather than open connections, because it keeps the reason of a failed connection to itself and
//! lets its borrowers wait out their time. The borrower of a slot connects it, and hears at once why that fails. A
//! connection that failed is dropped (multiplexed ones do not heal, and after a failover they lead to a replica), and all
//! that are as old with it, so that a store that restarted costs one failed call and not one a slot. The next borrower
//! connects its slot again, which looks up the address again.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::RedisSettings;
use super::refusal::Refusal;
use super::scripts::Script;
use super::source::{Server, Source, Wire};
use crate::circuit::{Away, Call, Circuit, Heart, Pulse};
use crate::engine::EngineError;

/// Connections that nobody used for so long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a heartbeat waits for its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a heartbeat waits for a new connection, at most.
const CONNECT: Duration = Duration::from_secs(2);

/// Opens connections.
struct Connector {
    source: Source,
    connect_timeout: Duration,
    response_timeout: Duration,
    /// Grows when a connection breaks. Connections of an earlier age are not used any more.
    age: AtomicU64,
    /// What the store refused of late, over whichever connection.
    refusal: Refusal,
}

impl Connector {
    async fn open(&self, age: u64) -> RedisResult<Link> {
        let late = |_| RedisError::from((ErrorKind::Io, "connecting took too long"));
        let connect = self.source.connect(self.response_timeout, age);
        let (wire, server) = timeout(self.connect_timeout, connect).await.map_err(late)??;
        tracing::debug!(run_id = server.run_id, "connected to Redis");
        Ok(Link { age, wire, server })
    }

    fn age(&self) -> u64 {
        self.age.load(Ordering::Relaxed)
    }

    /// Ends an age. Only the first to notice does.
    fn end(&self, age: u64) {
        let _ = self.age.compare_exchange(age, age + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// An open connection.
struct Link {
    age: u64,
    wire: Wire,
    /// Which server it leads to.
    server: Server,
}

/// One slot of the pool.
pub struct Connection {
    connector: Arc<Connector>,
    circuit: Arc<Circuit>,
    /// `None` before the first use and after a failure.
    link: Option<Link>,
}

/// Makes the slots of the pool.
pub struct Manager(Arc<Connector>, Arc<Circuit>);

/// The pool of an engine.
pub struct Pool {
    slots: bb8::Pool<Manager>,
    connector: Arc<Connector>,
    circuit: Arc<Circuit>,
    /// Keeps watch over the store; ends with the pool.
    _watch: JoinSet<()>,
}

impl Pool {
    /// The circuit to the store.
    pub const fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }

    /// What the store said when it refused to run a script, if that was of late.
    pub fn refused_lately(&self) -> Option<String> {
        self.connector.refusal.lately(Instant::now())
    }
}

/// A slot that is lent.
pub struct Borrowed<'a> {
    slot: bb8::PooledConnection<'a, Manager>,
    _call: Call,
}

impl Deref for Borrowed<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.slot
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.slot
    }
}

/// A pool that opens its connections when they are first needed.
pub fn pool(settings: &RedisSettings) -> Result<Pool, EngineError> {
    // The error is not passed on: it may quote the URL, and with it the password.
    let unreadable = |_: RedisError| EngineError::Unavailable("the Redis URL cannot be read".into());
    let connector = Arc::new(Connector {
        source: Source::open(settings).map_err(unreadable)?,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        age: AtomicU64::new(0),
        refusal: Refusal::default(),
    });
    let circuit = Circuit::new("queue");
    let heart = Connection { connector: Arc::clone(&connector), circuit: Arc::clone(&circuit), link: None };
    let mut watch = JoinSet::new();
    watch.spawn(Arc::clone(&circuit).watch(heart));
    let slots = bb8::Pool::builder()
        .max_size(settings.pool_size.max(1))
        .test_on_check_out(false) // a PING for each borrowing would halve the throughput
        .connection_timeout(settings.connect_timeout.saturating_add(settings.response_timeout))
        .idle_timeout(IDLE_TIMEOUT)
        .build_unchecked(Manager(Arc::clone(&connector), Arc::clone(&circuit)));
    Ok(Pool { slots, connector, circuit, _watch: watch })
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection { connector: Arc::clone(&self.0), circuit: Arc::clone(&self.1), link: None })
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

/// Borrows a connection.
pub async fn borrow(pool: &Pool) -> Result<Borrowed<'_>, EngineError> {
    let call = pool.circuit.begin().map_err(away)?;
    let slot = pool.circuit.unless_away(pool.slots.get()).await.map_err(away)?.map_err(|error| match error {
        bb8::RunError::User(never) => match never {},
        bb8::RunError::TimedOut => EngineError::Unavailable("no connection was free in time".into()),
    })?;
    Ok(Borrowed { slot, _call: call })
}

fn away(away: Away) -> EngineError {
    EngineError::Unavailable(away.to_string())
}

fn unavailable(error: &RedisError) -> EngineError {
    EngineError::Unavailable(error.to_string())
}

/// Whether the connection is of no use any more. READONLY: it leads to a replica since a failover.
fn is_lost(error: &RedisError) -> bool {
    let moved = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly));
    moved || error.is_io_error() || error.is_unrecoverable_error()
}

/// Whether the store cannot do its work, rather than refuse this one call.
fn is_failure(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown};
    is_lost(error) || matches!(error.kind(), ErrorKind::Server(BusyLoading | ClusterDown | MasterDown))
}

impl Connection {
    /// Sends one command, on a new connection if there is none.
    pub async fn send(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        self.send_with(|_| command.clone()).await
    }

    /// Sends the command that `build` makes of the server's run.
    async fn send_with(&mut self, build: impl FnOnce(&str) -> redis::Cmd) -> RedisResult<Value> {
        let circuit = Arc::clone(&self.circuit);
        let say =
            async |link: &mut Link| link.wire.send(&build(link.server.run_id.as_deref().unwrap_or_default())).await;
        let answer = circuit.unless_away(self.exchange(say)).await;
        let answer = answer.unwrap_or_else(|away| {
            self.link = None;
            Err(RedisError::from((ErrorKind::Io, "given up", away.to_string())))
        });
        match &answer {
            Err(error) if is_failure(error) => circuit.failed(),
            _ => circuit.worked(),
        }
        answer
    }

    /// Says something over a connection, opened first if need be, and judges by the answer whether it still stands.
    async fn exchange(&mut self, say: impl AsyncFnOnce(&mut Link) -> RedisResult<Value>) -> RedisResult<Value> {
        let age = self.connector.age();
        let link = match self.link.take() {
            Some(link) if link.age == age => self.link.insert(link),
            _ => self.link.insert(self.connector.open(age).await?),
        };
        let answer = say(link).await;
        if let Err(error) = &answer
            && is_lost(error)
        {
            tracing::debug!(run_id = link.server.run_id, %error, "a connection to Redis is given up");
            self.link = None;
            // A slow answer says nothing of the other connections.
            if !error.is_timeout() {
                self.connector.end(age);
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
        answer.map_err(|error| {
            self.connector.refusal.note(&error, Instant::now());
            unavailable(&error)
        })
    }
}

impl Heart for Connection {
    async fn beat(&mut self, _closed: bool) -> Pulse {
        let age = self.connector.age();
        if self.link.as_ref().is_some_and(|link| link.age == age) {
            match timeout(PATIENCE, self.exchange(ping)).await {
                Ok(Ok(_)) => return Pulse::Alive,
                // What is on its way on the other connections will not arrive either.
                Err(_) => {
                    self.link = None;
                    self.connector.end(age);
                    return Pulse::None;
                }
                // It may only have been this connection.
                Ok(Err(_)) => {}
            }
        }
        let again = timeout(self.connector.connect_timeout.min(CONNECT) + PATIENCE, self.exchange(ping)).await;
        if matches!(again, Ok(Ok(_))) { Pulse::Alive } else { Pulse::None }
    }
}

async fn ping(link: &mut Link) -> RedisResult<Value> {
    link.wire.ping().await
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
