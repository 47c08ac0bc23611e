//! What both databases understand: statements with numbered parameters, values to bind, and what can go wrong.
//!
//! Statements that SQLite and Postgres read alike are written once, against [`Sql`]; whatever locks rows, takes arrays or
//! is tuned lives in the module of its database.

use std::future::Future;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Postgres, Sqlite};

use super::LedgerError;
use crate::domain::{BookingId, EventId, PassId, ShowId, Timestamp, VisitorId, ZoneId};

/// Why a transaction did not go through.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database said no, or nothing.
    Sql(sqlx::Error),
    /// A rule said no.
    Rule(LedgerError),
    /// Another transaction got in between; the same work can be tried again.
    Collision,
}

/// The answer of a statement or a transaction.
pub(super) type Outcome<T> = Result<T, Fault>;

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Rule(error)
    }
}

impl Fault {
    /// A row that cannot have been written by this program.
    pub(super) fn corrupt(what: &str) -> Self {
        Self::Rule(LedgerError::Unavailable(format!("the ledger holds an impossible {what}")))
    }

    /// Whether the same work may well go through when it is tried again: Postgres broke a deadlock or a serialisation
    /// cycle at this transaction's cost, or somebody else just wrote the same key.
    pub(super) fn is_collision(&self) -> bool {
        match self {
            Self::Collision => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                error.is_unique_violation() || error.code().is_some_and(|code| code == "40P01" || code == "40001")
            }
            _ => false,
        }
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Rule(error) => error,
            Fault::Sql(error) => unavailable(&error),
            Fault::Collision => Self::Unavailable("too many writers want the same rows".to_owned()),
        }
    }
}

/// Says what is wrong without a word of the connection's settings, which may hold a password.
pub(super) fn unavailable(error: &sqlx::Error) -> LedgerError {
    LedgerError::Unavailable(match error {
        sqlx::Error::Configuration(_) => "the connection's settings cannot be read".to_owned(),
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("the database answered {code}: {}", error.message()),
            None => format!("the database answered: {}", error.message()),
        },
        sqlx::Error::Io(error) => format!("the connection failed: {}", error.kind()),
        sqlx::Error::PoolTimedOut => "no connection came free in time".to_owned(),
        other => other.to_string(),
    })
}

/// A value to bind.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    /// Text, or NULL.
    Text(Option<String>),
    /// A number, or NULL.
    Int(Option<i64>),
    /// Bytes.
    Bytes(Vec<u8>),
}

macro_rules! text_args {
    ($($id:ty),*) => {$(
        impl From<&$id> for Arg {
            fn from(id: &$id) -> Self {
                Self::from(id.as_str())
            }
        }
    )*};
}
text_args!(String, EventId, VisitorId, ShowId, ZoneId, BookingId, PassId);

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<&str>> for Arg {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<i64>> for Arg {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<u32> for Arg {
    fn from(number: u32) -> Self {
        Self::from(i64::from(number))
    }
}

impl From<Timestamp> for Arg {
    fn from(at: Timestamp) -> Self {
        Self::from(at.micros())
    }
}

/// The arguments of a statement, in the order of its `$1`, `$2`, …
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::ledger::sql::Arg::from($value)),*] };
}
pub(super) use args;

/// A row that can be read from either database.
pub(super) trait Record: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Record for T {}

/// A connection to either database. Only statements that both understand go through here.
pub(super) trait Sql: Send {
    /// Reads every zone of the event `$1`, and locks them where there is more than one writer.
    const LOCK_ZONES: &'static str;

    /// Every row of the answer.
    fn rows<T: Record>(&mut self, sql: &'static str, args: Vec<Arg>) -> impl Future<Output = Outcome<Vec<T>>> + Send;

    /// How many rows were changed.
    fn run(&mut self, sql: &'static str, args: Vec<Arg>) -> impl Future<Output = Outcome<u64>> + Send;

    /// The one row of the answer, if there is one.
    fn row<T: Record>(&mut self, sql: &'static str, args: Vec<Arg>) -> impl Future<Output = Outcome<Option<T>>> + Send {
        async move { Ok(self.rows(sql, args).await?.pop()) }
    }
}

macro_rules! sql_on {
    ($connection:ty, $database:ty, $for_update:literal) => {
        impl Sql for $connection {
            const LOCK_ZONES: &'static str = concat!(
                "SELECT show_id, id, name, capacity, price_minor, taken, version, ordinal FROM zones \
                 WHERE event_id = $1 ORDER BY show_id, id",
                $for_update
            );

            async fn rows<T: Record>(&mut self, sql: &'static str, args: Vec<Arg>) -> Outcome<Vec<T>> {
                let mut query = sqlx::query_as::<$database, T>(sql);
                for arg in args {
                    query = match arg {
                        Arg::Text(text) => query.bind(text),
                        Arg::Int(number) => query.bind(number),
                        Arg::Bytes(bytes) => query.bind(bytes),
                    };
                }
                Ok(query.fetch_all(self).await?)
            }

            async fn run(&mut self, sql: &'static str, args: Vec<Arg>) -> Outcome<u64> {
                let mut query = sqlx::query::<$database>(sql);
                for arg in args {
                    query = match arg {
                        Arg::Text(text) => query.bind(text),
                        Arg::Int(number) => query.bind(number),
                        Arg::Bytes(bytes) => query.bind(bytes),
                    };
                }
                Ok(query.execute(self).await?.rows_affected())
            }
        }
    };
}
sql_on!(PgConnection, Postgres, " FOR UPDATE");
sql_on!(SqliteConnection, Sqlite, "");

/// Work on a connection, with arguments that are its own: it may be run after its caller has gone, and more than once.
macro_rules! job {
    ($($arg:ident),* => |$db:ident| $run:expr) => {{
        $(let $arg = $arg.to_owned();)*
        move |$db| {
            $(let $arg = $arg.to_owned();)*
            Box::pin(async move { $run.await })
        }
    }};
}
pub(super) use job;
