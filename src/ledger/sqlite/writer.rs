//! The one task that writes. It owns its connection, so nobody can drop a transaction half way; callers hand in work and
//! wait for the answer. Whatever has piled up while the last transaction was synchronised goes into the next one.

use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::at_its_limit;
use crate::ledger::sql::{Outcome, Sql, args};
use crate::ledger::{LedgerError, Result};

/// Most pieces of work in one transaction: bounds how long the first of them waits.
const MOST_AT_ONCE: usize = 64;

type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Finished> + Send>;

/// A piece of work that was run, and waits for the end of the transaction.
struct Finished {
    /// Whether its changes are to be kept.
    keep: bool,
    /// Answers its caller.
    tell: Box<dyn FnOnce(Result<()>) + Send>,
}

/// The way to the writing task; it ends when the last clone of this is gone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Work>,
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finished").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions, queue: usize) -> Self {
        let (sender, mut receiver) = mpsc::channel(queue);
        tokio::spawn(async move {
            let mut task = Task { connection: Some(connection), options };
            while let Some(first) = receiver.recv().await {
                let mut batch: Vec<Work> = vec![first];
                while batch.len() < MOST_AT_ONCE
                    && let Ok(next) = receiver.try_recv()
                {
                    batch.push(next);
                }
                task.transact(batch).await;
            }
            task.close().await;
        });
        Self { queue: sender }
    }

    /// Whether work is still taken.
    pub(super) fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Runs `job` in a transaction and answers once that is on disk. A job that fails leaves no trace.
    pub(super) async fn submit<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Outcome<T>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel::<Result<T>>();
        let work: Work = Box::new(move |connection| {
            Box::pin(async move {
                let outcome = job(connection).await.map_err(LedgerError::from);
                Finished {
                    keep: outcome.is_ok(),
                    tell: Box::new(move |end| drop(sender.send(outcome.and_then(|value| end.map(|()| value))))),
                }
            })
        });
        self.queue.try_send(work).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => at_its_limit(),
            mpsc::error::TrySendError::Closed(_) => LedgerError::Unavailable("the writer has stopped".to_owned()),
        })?;
        receiver.await.map_err(|_| LedgerError::Unavailable("the database takes no writes".to_owned()))?
    }
}

struct Task {
    /// `None` after a failure: whatever state it was in, the next transaction begins on a new one.
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
}

impl Task {
    /// Runs the batch in one transaction, then answers everyone.
    async fn transact(&mut self, batch: Vec<Work>) {
        let mut finished = Vec::with_capacity(batch.len());
        let end = self.run(batch, &mut finished).await;
        if let Err(error) = &end {
            tracing::error!(%error, "a transaction of the ledger failed");
            self.connection = None;
        }
        for one in finished {
            (one.tell)(match &end {
                Ok(()) => Ok(()),
                Err(error) => Err(LedgerError::Unavailable(error.to_string())),
            });
        }
    }

    async fn run(&mut self, batch: Vec<Work>, finished: &mut Vec<Finished>) -> Result<()> {
        let db = match &mut self.connection {
            Some(open) => open,
            none => none.insert(
                SqliteConnection::connect_with(&self.options).await.map_err(|e| crate::ledger::sql::unavailable(&e))?,
            ),
        };
        // IMMEDIATE takes the write lock now, where waiting for another process is still harmless.
        db.run("BEGIN IMMEDIATE", args![]).await?;
        for work in batch {
            db.run("SAVEPOINT work", args![]).await?;
            let one = work(db).await;
            let keep = one.keep;
            finished.push(one);
            if !keep {
                db.run("ROLLBACK TO work", args![]).await?;
            }
            db.run("RELEASE work", args![]).await?;
        }
        db.run("COMMIT", args![]).await?;
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the ledger's file was not closed cleanly");
        }
    }
}
