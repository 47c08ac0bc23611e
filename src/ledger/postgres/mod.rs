//! The ledger on Postgres, for any number of instances.
//!
//! Every transaction runs in a task of its own to its end, whatever becomes of the caller: neither a half-begun transaction
//! nor a half-read answer ever goes back to the pool. Row locks are taken in one order everywhere: the catalogue's version,
//! events, bookings, buyers, zones; rows of one kind by key.

mod commit;
mod ledger;
mod pool;
mod seats;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Semaphore;

use super::sql::{Outcome, unavailable};
use super::{Ledger, LedgerError, Result};
use crate::circuit::Circuit;
use pool::Pool;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How often work that collided with another transaction is tried in all.
const TRIES: u32 = 3;

/// What can be tuned.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// Connections, at least 1.
    pub max_connections: u32,
    /// Calls that may be under way or wait for a connection; whoever comes after is answered [`LedgerError::Unavailable`] at once.
    pub queue: usize,
    /// How long a call waits for a connection of the pool.
    pub acquire_timeout: Duration,
    /// How long the server may take to accept a new connection.
    pub connect_timeout: Duration,
    /// How long one statement may take, told to the server. It waits for row locks for a second less, at least half as long.
    pub statement_timeout: Duration,
    /// How long one transaction may take; after that its connection is dropped.
    pub transaction_timeout: Duration,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            max_connections: 16,
            queue: 1_024,
            acquire_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            transaction_timeout: Duration::from_secs(10),
        }
    }
}

/// A ledger in a Postgres database. Clones share its connections.
#[derive(Clone)]
pub struct PostgresLedger {
    options: Arc<PgConnectOptions>,
    pool: Arc<Pool>,
    calls: Arc<Semaphore>,
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLedger").field("circuit", self.circuit()).finish_non_exhaustive()
    }
}

impl PostgresLedger {
    /// Connects to `url` (`postgres://user:password@host/database`). Before anything else [`PostgresLedger::migrate`] has
    /// to have run on the database once.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the URL cannot be read or the server does not answer; the text holds no part of the URL.
    pub async fn connect(url: &str, settings: &PostgresSettings) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|e| unavailable(&e))?
            .application_name("usher")
            .disable_statement_logging();
        let statement_ms = settings.statement_timeout.as_millis();
        let lock_ms = statement_ms.saturating_sub(1_000).max(statement_ms / 2);
        let idle_ms = settings.transaction_timeout.as_millis();
        // An answer means "on disk": a server that is set to be quicker than that is overruled. Every statement has an index
        // to go by; a plan that was made while the tables were small, or without statistics, must not read them whole. Where
        // none serves (a handful of rows), such a plan looks so dear that Postgres would compile it, for hundreds of
        // milliseconds.
        let session = format!(
            "SELECT set_config('statement_timeout', '{statement_ms}', false), set_config('lock_timeout', '{lock_ms}', false), \
             set_config('idle_in_transaction_session_timeout', '{idle_ms}', false), \
             set_config('jit', 'off', false), set_config('enable_seqscan', 'off', false), \
             set_config('enable_hashjoin', 'off', false), \
             set_config('enable_mergejoin', 'off', false), \
             CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END"
        );
        let options = Arc::new(options);
        let ledger = Self {
            pool: Pool::new(Arc::clone(&options), session, settings),
            calls: Arc::new(Semaphore::new(settings.queue.max(1))),
            options,
        };
        ledger.ping().await?;
        Ok(ledger)
    }

    /// The circuit to the server.
    pub fn circuit(&self) -> &Arc<Circuit> {
        &self.pool.circuit
    }

    /// Brings the tables up to date. Does nothing when they are. Several instances may call it at once.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when a migration fails, or the tables were made by a newer version.
    pub async fn migrate(&self) -> Result<()> {
        // A connection without time limits: it may have to wait for another instance that migrates.
        let mut connection = PgConnection::connect_with(&self.options).await.map_err(|e| unavailable(&e))?;
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        let closed = connection.close().await;
        migrated.map_err(|e| LedgerError::Unavailable(format!("the migration failed: {e}")))?;
        closed.map_err(|e| unavailable(&e))
    }

    /// When the server calls a commit done, in its own words: `on`, or stricter.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the database does not answer.
    pub async fn synchronous_commit(&self) -> Result<String> {
        let sql = "SELECT current_setting('synchronous_commit')";
        self.read(move |db| Box::pin(async move { Ok(sqlx::query_scalar(sql).fetch_one(db).await?) })).await
    }

    /// Runs `job` in a transaction, and again when another transaction got in its way.
    async fn write<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>> + Send + Sync + 'static,
    {
        let ledger = self.clone();
        self.spawn(async move { ledger.transact(job, TRIES).await }).await
    }

    /// Runs `job` on a connection, without a transaction.
    async fn read<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>> + Send + Sync + 'static,
    {
        let ledger = self.clone();
        self.spawn(async move { ledger.pool.on_connection(job).await }).await
    }

    /// Runs `work` in a task, so that it comes to its end whether the caller waits or not.
    async fn spawn<T: Send + 'static>(&self, work: impl Future<Output = Outcome<T>> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.calls)
            .try_acquire_owned()
            .map_err(|_| LedgerError::Unavailable("the ledger is at its limit".to_owned()))?;
        let task = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        let outcome = task.await.map_err(|_| LedgerError::Unavailable("a transaction was broken off".to_owned()))?;
        Ok(outcome?)
    }

    /// Runs `job` in a transaction up to `tries` times, as long as it collides with others.
    async fn transact<T, J>(&self, job: J, tries: u32) -> Outcome<T>
    where
        T: Send + 'static,
        J: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>> + Send + Sync + 'static,
    {
        let job = Arc::new(job);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let job = Arc::clone(&job);
            match self.pool.on_connection(move |connection| Box::pin(in_transaction(connection, job))).await {
                Err(fault) if fault.is_collision() && attempt < tries => {}
                outcome => return outcome,
            }
        }
    }
}

async fn in_transaction<T, J>(connection: &mut PgConnection, job: Arc<J>) -> Outcome<T>
where
    J: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Outcome<T>> + Send + Sync + 'static,
{
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    let outcome = job(&mut transaction).await;
    match outcome {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(fault) => {
            transaction.rollback().await?;
            Err(fault)
        }
    }
}
