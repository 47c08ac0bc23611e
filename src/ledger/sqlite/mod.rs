//! The ledger on SQLite: one file, one writer, a few readers.
//!
//! The write-ahead log is synchronised at every commit (`synchronous = FULL`), so what was answered is on disk. The price
//! of that is shared: the writer puts whatever waits into one transaction.

mod commit;
mod ledger;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, FromRow};
use tokio::sync::Semaphore;

use super::sql::{Outcome, Sql, args, unavailable};
use super::{LedgerError, Result};
use writer::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What can be tuned.
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    /// Connections that read, at least 1.
    pub readers: u32,
    /// Writes that may wait, and reads that may be under way; whoever comes after is answered [`LedgerError::Unavailable`] at once.
    pub queue: usize,
    /// How long a statement waits for another process that writes to the same file.
    pub busy_timeout: Duration,
    /// How long a caller waits for an answer.
    pub answer_timeout: Duration,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { readers: 4, queue: 1_024, busy_timeout: Duration::from_secs(5), answer_timeout: Duration::from_secs(10) }
    }
}

/// How the writer's connection is set up, as SQLite itself says.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Pragmas {
    /// `wal`.
    pub journal_mode: String,
    /// 2 = FULL.
    pub synchronous: i64,
    /// 1 = on.
    pub foreign_keys: i64,
    /// Milliseconds.
    pub busy_timeout: i64,
}

/// A ledger in a file. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    options: Arc<SqliteConnectOptions>,
    writer: Writer,
    readers: SqlitePool,
    reads: Arc<Semaphore>,
    answer_timeout: Duration,
}

impl SqliteLedger {
    /// Opens the file, and creates it if there is none; its directory has to be there. Must be called within a Tokio
    /// runtime, and before anything else [`SqliteLedger::migrate`] has to have run on the file once.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the file cannot be opened.
    pub async fn open(path: impl AsRef<Path>, settings: &SqliteSettings) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(settings.busy_timeout)
            .disable_statement_logging();
        let connection = SqliteConnection::connect_with(&options).await.map_err(|e| unavailable(&e))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(settings.readers.max(1))
            .acquire_timeout(settings.answer_timeout)
            .connect_lazy_with(options.clone().create_if_missing(false).read_only(true));
        Ok(Self {
            writer: Writer::start(connection, options.clone(), settings.queue.max(1)),
            options: Arc::new(options),
            readers,
            reads: Arc::new(Semaphore::new(settings.queue.max(1))),
            answer_timeout: settings.answer_timeout,
        })
    }

    /// Brings the tables up to date. Does nothing when they are.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when a migration fails, or the file was written by a newer version.
    pub async fn migrate(&self) -> Result<()> {
        let mut connection = SqliteConnection::connect_with(&self.options).await.map_err(|e| unavailable(&e))?;
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        let closed = connection.close().await;
        migrated.map_err(|e| LedgerError::Unavailable(format!("the migration failed: {e}")))?;
        closed.map_err(|e| unavailable(&e))
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.options.get_filename().to_owned()
    }

    /// How the writer's connection is set up.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the database does not answer.
    pub async fn pragmas(&self) -> Result<Pragmas> {
        let sql = "SELECT j.journal_mode, s.synchronous, f.foreign_keys, b.timeout AS busy_timeout FROM \
                   pragma_journal_mode j, pragma_synchronous s, pragma_foreign_keys f, pragma_busy_timeout b";
        let pragmas = self.write(move |db| Box::pin(async move { db.row::<Pragmas>(sql, args![]).await })).await?;
        pragmas.ok_or_else(|| LedgerError::Unavailable("SQLite does not say how it is set up".to_owned()))
    }

    /// Runs `job` in a transaction of the writer.
    async fn write<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Outcome<T>> + Send + 'static,
    {
        in_time(self.answer_timeout, self.writer.submit(job)).await
    }

    /// Runs `job` on a reader, in a task of its own: a caller that goes away does not leave a connection half way.
    async fn read<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Outcome<T>> + Send + 'static,
    {
        let permit = Arc::clone(&self.reads).try_acquire_owned().map_err(|_| at_its_limit())?;
        let readers = self.readers.clone();
        let task = tokio::spawn(async move {
            let _permit = permit;
            let mut connection = readers.acquire().await?;
            job(&mut connection).await
        });
        let answer = async { task.await.map_err(|_| LedgerError::Unavailable("a read was broken off".to_owned())) };
        Ok(in_time(self.answer_timeout, answer).await??)
    }
}

fn at_its_limit() -> LedgerError {
    LedgerError::Unavailable("the ledger is at its limit".to_owned())
}

/// Waits no longer than `limit`. What is under way goes on without the caller.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(LedgerError::Unavailable("no answer in time; what was asked may still be done".to_owned())),
    }
}
