//! Connections to Postgres: a bounded pool, watched over by a circuit.
//!
//! The pool hands out slots, as the one to Redis does: the borrower of a slot connects it, and hears at once why that
//! fails. A connection goes back into its slot only when the work on it came to its end; otherwise it is dropped, and
//! when it failed so are all that are as old. Giving one back takes no round trip, so that a server that falls silent
//! keeps no slot.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bb8::ManageConnection;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Error};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PostgresSettings;
use crate::circuit::{Away, Circuit, Heart, Pulse};
use crate::ledger::LedgerError;
use crate::ledger::sql::{Fault, Outcome};

/// How long a connection may rest before it is asked whether it still stands.
const RESTED: Duration = Duration::from_secs(1);
/// How long a heartbeat waits for its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opens connections.
struct Connector {
    options: Arc<PgConnectOptions>,
    /// What every session is set to.
    session: String,
    timeout: Duration,
    /// Grows when a connection breaks. Connections of an earlier age are not used any more.
    age: AtomicU64,
}

/// An open connection.
struct Link {
    age: u64,
    connection: PgConnection,
    used: Instant,
}

/// Makes the slots of the pool: `None` before the first use and after a failure.
struct Slots;

/// Lends slots in the order in which they are asked for: bb8 by itself lets whoever comes just then overtake those who
/// wait.
#[derive(Clone)]
struct Lender {
    turns: Arc<Semaphore>,
    slots: bb8::Pool<Slots>,
    timeout: Duration,
}

/// A slot that is lent.
struct Lent<'a> {
    slot: bb8::PooledConnection<'a, Slots>,
    /// Given back after the slot, so that whoever is next finds it.
    _turn: SemaphorePermit<'a>,
}

impl Lender {
    async fn lend(&self) -> Result<Lent<'_>, Error> {
        let late = || Error::PoolTimedOut;
        let turn = timeout(self.timeout, self.turns.acquire()).await.map_err(|_| late())?.map_err(|_| late())?;
        Ok(Lent { slot: self.slots.get().await.map_err(|_| late())?, _turn: turn })
    }
}

/// A pool of connections, and the circuit to the server.
pub(super) struct Pool {
    slots: Lender,
    connector: Arc<Connector>,
    pub(super) circuit: Arc<Circuit>,
    transaction_timeout: Duration,
    /// Keeps watch over the server; ends with the pool.
    _watch: JoinSet<()>,
}

impl ManageConnection for Slots {
    type Connection = Option<Link>;
    type Error = Infallible;

    async fn connect(&self) -> Result<Option<Link>, Infallible> {
        Ok(None)
    }

    async fn is_valid(&self, _: &mut Option<Link>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Option<Link>) -> bool {
        false
    }
}

impl Connector {
    async fn open(&self) -> Result<Link, Error> {
        let age = self.age.load(Ordering::Relaxed);
        let connect = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            sqlx::query(sqlx::AssertSqlSafe(self.session.as_str())).execute(&mut connection).await?;
            Ok::<_, Error>(connection)
        };
        let connection = timeout(self.timeout, connect).await.map_err(|_| Error::Io(ErrorKind::TimedOut.into()))??;
        Ok(Link { age, connection, used: Instant::now() })
    }

    /// The connection of a slot, if it may still be used. One that was at work a moment ago is not asked: that would be
    /// a round trip more for every call.
    async fn still_good(&self, link: Option<Link>) -> Option<Link> {
        let mut link = link.filter(|link| link.age == self.age.load(Ordering::Relaxed))?;
        if link.used.elapsed() > RESTED {
            let answer = timeout(self.timeout, link.connection.ping()).await;
            answer.ok()?.ok()?;
        }
        Some(link)
    }

    /// Ends an age. Only the first to notice does.
    fn end(&self, age: u64) {
        let _ = self.age.compare_exchange(age, age + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool that opens its connections when they are first needed. `session` is run on each.
    pub(super) fn new(options: Arc<PgConnectOptions>, session: String, settings: &PostgresSettings) -> Arc<Self> {
        let connector =
            Arc::new(Connector { options, session, timeout: settings.connect_timeout, age: AtomicU64::new(0) });
        let most = settings.max_connections.max(1);
        let slots = bb8::Pool::builder()
            .max_size(most)
            .test_on_check_out(false)
            .connection_timeout(settings.acquire_timeout)
            .build_unchecked(Slots);
        let turns = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        let slots = Lender { turns, slots, timeout: settings.acquire_timeout };
        let circuit = Circuit::new("ledger");
        let mut watch = JoinSet::new();
        let monitor = Monitor { connector: Arc::clone(&connector), slots: slots.clone(), link: None };
        watch.spawn(Arc::clone(&circuit).watch(monitor));
        let transaction_timeout = settings.transaction_timeout;
        Arc::new(Self { slots, connector, circuit, transaction_timeout, _watch: watch })
    }

    /// Lends a connection. One whose work takes too long, or is given up because the server is away, is dropped.
    pub(super) async fn on_connection<T, W>(&self, work: W) -> Outcome<T>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>>,
    {
        let _call = self.circuit.begin().map_err(away)?;
        let outcome = self.circuit.unless_away(self.lend(work)).await.map_err(away)?;
        match &outcome {
            Err(fault) if is_failure(fault) => self.circuit.failed(),
            _ => self.circuit.worked(),
        }
        outcome
    }

    async fn lend<T, W>(&self, work: W) -> Outcome<T>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>>,
    {
        let mut lent = self.slots.lend().await?;
        // Taken out for the time of the work: whatever breaks it off leaves the slot empty.
        let mut link = match self.connector.still_good(lent.slot.take()).await {
            Some(link) => link,
            None => self.connector.open().await?,
        };
        let Ok(outcome) = timeout(self.transaction_timeout, work(&mut link.connection)).await else {
            let late = "no answer in time; what was asked may still be done";
            return Err(LedgerError::Unavailable(late.to_owned()).into());
        };
        if let Err(Fault::Sql(error)) = &outcome
            && is_lost(error)
        {
            self.connector.end(link.age);
        } else {
            link.used = Instant::now();
            *lent.slot = Some(link);
        }
        outcome
    }
}

fn away(away: Away) -> Fault {
    LedgerError::Unavailable(away.to_string()).into()
}

/// Whether the connection is of no use any more: it broke, or the server is going down, or has become a standby.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Database(error) => {
            error.code().is_some_and(|code| matches!(&*code, "57P01" | "57P02" | "57P03" | "25006"))
        }
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether the server cannot do its work, rather than refuse this one call: it is away or full, or keeps its callers
/// waiting.
fn is_failure(fault: &Fault) -> bool {
    match fault {
        Fault::Sql(Error::Database(error)) => error.code().is_some_and(|code| {
            // Class 53: out of connections, disk or memory. 57014, 55P03: a statement, or a lock, took too long.
            code.starts_with("53") || matches!(&*code, "57014" | "55P03" | "57P01" | "57P02" | "57P03" | "25006")
        }),
        Fault::Sql(error) => is_lost(error) || matches!(error, Error::PoolTimedOut),
        Fault::Rule(LedgerError::Unavailable(_)) => true,
        Fault::Rule(_) | Fault::Collision => false,
    }
}

/// Asks for signs of life.
struct Monitor {
    connector: Arc<Connector>,
    slots: Lender,
    link: Option<Link>,
}

impl Heart for Monitor {
    async fn beat(&mut self, closed: bool) -> Pulse {
        // Calls need a connection of the pool: as long as others keep them all, the circuit stays open.
        let _slot = if closed {
            None
        } else {
            let Ok(slot) = self.slots.lend().await else { return Pulse::Busy };
            Some(slot)
        };
        let age = self.connector.age.load(Ordering::Relaxed);
        if let Some(mut link) = self.link.take().filter(|link| link.age == age) {
            match timeout(PATIENCE, link.connection.ping()).await {
                Ok(Ok(())) => {
                    self.link = Some(link);
                    return Pulse::Alive;
                }
                // What is on its way on the other connections will not arrive either.
                Err(_) => {
                    self.connector.end(age);
                    return Pulse::None;
                }
                // It may only have been this connection.
                Ok(Err(_)) => {}
            }
        }
        self.link = self.connector.open().await.ok();
        if self.link.is_some() { Pulse::Alive } else { Pulse::None }
    }
}
