//! What holds for Postgres alone.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use usher::ledger::postgres::{PostgresLedger, PostgresSettings};
use usher::ledger::{Ledger, LedgerError};

use super::{Shared, commit_one, is_done, new, put, taken};
use crate::support::postgres::fresh_database;

/// A ledger in a new database.
pub async fn fresh() -> Shared {
    // Cases that race many callers over a few connections may have to wait on a machine that is busy otherwise.
    let patient = PostgresSettings { acquire_timeout: Duration::from_secs(30), ..PostgresSettings::default() };
    Arc::new(open(&fresh_database().await, &patient).await)
}

async fn open(url: &str, settings: &PostgresSettings) -> PostgresLedger {
    let settings = PostgresSettings { max_connections: 8, ..settings.clone() };
    let ledger = PostgresLedger::connect(url, &settings).await.expect("connect");
    ledger.migrate().await.expect("migrate");
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_instances_share_a_database() {
    let url = fresh_database().await;
    let mut opening = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        opening.spawn(async move { open(&url, &PostgresSettings::default()).await });
    }
    let instances = opening.join_all().await;
    put(&instances[0], &[("z", 50)]).await;
    let mut racing = JoinSet::new();
    for i in 0..200 {
        let instance = instances[i % 4].clone();
        racing.spawn(async move { is_done(&commit_one(&instance, &new(&format!("b{i}"), &format!("v{i}"), 1)).await) });
    }
    assert_eq!(racing.join_all().await.into_iter().filter(|done| *done).count(), 50);
    assert_eq!(taken(&instances[3]).await, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_never_let_go_costs_time_not_seats() {
    let url = fresh_database().await;
    put(&open(&url, &PostgresSettings::default()).await, &[("z", 10)]).await;
    let settings = PostgresSettings { statement_timeout: Duration::from_millis(800), ..PostgresSettings::default() };
    let ledger = open(&url, &settings).await;
    let mut other = PgConnection::connect(&url).await.expect("connect");
    let mut lock = other.begin().await.expect("begin");
    sqlx::query("SELECT * FROM zones FOR UPDATE").execute(&mut *lock).await.expect("lock");
    let error = ledger.commit(&[new("b1", "ann", 1)]).await.expect_err("locked");
    assert!(matches!(&error, LedgerError::Unavailable(text) if text.contains("55P03")), "{error}");
    ledger.ping().await.expect("reading goes on");
    lock.rollback().await.expect("let go");
    assert!(is_done(&commit_one(&ledger, &new("b1", "ann", 1)).await), "and writing too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_back_when_the_server_does() {
    let url = fresh_database().await;
    let ledger = open(&url, &PostgresSettings::default()).await;
    put(&ledger, &[("z", 10)]).await;
    let mut admin = PgConnection::connect(&url).await.expect("connect");
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(sql).execute(&mut admin).await.expect("terminate");
    // Each connection that was lost is noticed at most once.
    for _ in 0..9 {
        match ledger.commit(&[new("b1", "ann", 1)]).await {
            Ok(answers) => return assert!(is_done(&answers[0]), "{answers:?}"),
            Err(error) => assert!(matches!(error, LedgerError::Unavailable(_)), "{error}"),
        }
    }
    panic!("it does not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_rather_be_quick_is_overruled() {
    let url = fresh_database().await;
    let mut admin = PgConnection::connect(&url).await.expect("connect");
    let quick =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
    sqlx::raw_sql(quick).execute(&mut admin).await.expect("alter");
    let ledger = open(&url, &PostgresSettings::default()).await;
    assert_eq!(ledger.synchronous_commit().await.expect("setting"), "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_table_that_grows_is_read_whole() {
    let url = fresh_database().await;
    let ledger = open(&url, &PostgresSettings { max_connections: 1, ..PostgresSettings::default() }).await;
    put(&ledger, &[("z", 10_000)]).await;
    // Often enough that the server settles on plans, made while there was nothing in the tables.
    for batch in 0..12 {
        let batch: Vec<_> = (0..20).map(|i| new(&format!("b{batch}-{i}"), &format!("v{batch}-{i}"), 1)).collect();
        assert!(ledger.commit(&batch).await.expect("commit").iter().all(is_done));
        ledger.existing(&[batch[0].booking.id.clone()]).await.expect("existing");
        ledger.expire_due(super::at(0), 10).await.expect("nothing is due");
        ledger.purge_answers(super::at(0), 10).await.expect("nothing to purge");
    }
    drop(ledger);
    let mut admin = PgConnection::connect(&url).await.expect("connect");
    let sql = "SELECT relname::text, seq_tup_read FROM pg_stat_user_tables \
               WHERE relname IN ('bookings', 'buyers', 'idempotency') ORDER BY relname";
    let mut read: Vec<(String, i64)> = Vec::new();
    // The server counts a little later.
    for _ in 0..50 {
        read = sqlx::query_as(sql).fetch_all(&mut admin).await.expect("counts");
        let counted: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'bookings'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("a count");
        if counted == 240 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(read.len() == 3 && read.iter().all(|(_, rows)| *rows == 0), "rows read without an index: {read:?}");
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    let url = fresh_database().await;
    let ledger = open(&url, &PostgresSettings { queue: 2, ..PostgresSettings::default() }).await;
    let answers = futures_util::future::join_all((0..20).map(|_| ledger.ping())).await;
    let full = |e: &LedgerError| matches!(e, LedgerError::Unavailable(text) if text.contains("limit"));
    assert_eq!(answers.iter().filter(|a| a.as_ref().is_err_and(full)).count(), 18, "{answers:?}");
    ledger.ping().await.expect("room again");
}

#[tokio::test]
async fn no_error_tells_the_password() {
    let settings = PostgresSettings { acquire_timeout: Duration::from_millis(300), ..PostgresSettings::default() };
    for url in [
        "postgres://usher:hunter2@127.0.0.1:1/usher",
        "postgres://usher:hunter2@127.0.0.1:port/usher",
        "postgres://usher:hunter2@[/usher",
        "postgres://usher:hunter2@127.0.0.1:1/usher?sslmode=hunter2",
        "hunter2",
    ] {
        let error = PostgresLedger::connect(url, &settings).await.expect_err("nobody is there").to_string();
        assert!(error.starts_with("the ledger is unavailable") && !error.contains("hunter2"), "{error}");
    }
}
