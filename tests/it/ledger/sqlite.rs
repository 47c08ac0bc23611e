//! What holds for SQLite alone.

use std::sync::Arc;
use std::time::Duration;

use usher::ledger::sqlite::{SqliteLedger, SqliteSettings};
use usher::ledger::{Committed, Ledger, LedgerError};

use super::{Shared, at, booking, commit_one, counts, is_done, new, put, visitor};
use crate::support::scratch::Scratch;

/// A ledger in a new file.
pub async fn fresh() -> (Shared, Scratch) {
    let scratch = Scratch::new("sqlite");
    (Arc::new(open(&scratch).await), scratch)
}

async fn open(scratch: &Scratch) -> SqliteLedger {
    let path = scratch.path().join("usher.db");
    let ledger = SqliteLedger::open(&path, &SqliteSettings::default()).await.expect("open");
    assert_eq!(ledger.path(), path);
    ledger.migrate().await.expect("migrate");
    ledger
}

#[tokio::test]
async fn what_was_answered_is_synchronised() {
    let scratch = Scratch::new("sqlite");
    let pragmas = open(&scratch).await.pragmas().await.expect("pragmas");
    assert_eq!(pragmas.journal_mode, "wal");
    assert_eq!((pragmas.synchronous, pragmas.foreign_keys, pragmas.busy_timeout), (2, 1, 5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_when_the_file_is_opened_again() {
    let scratch = Scratch::new("sqlite");
    let first = open(&scratch).await;
    put(&first, &[("z", 10)]).await;
    let reservation = new("b1", "ann", 2);
    assert!(is_done(&commit_one(&first, &reservation).await));
    first.take_numbers(&super::event("e"), 10).await.expect("numbers");
    let (events, zones) = (first.events_since(0).await.expect("events"), counts(&first).await);
    drop(first);
    let second = open(&scratch).await;
    assert_eq!(second.events_since(0).await.expect("events"), events);
    assert_eq!(counts(&second).await, zones);
    let stored = second.booking(&booking("b1"), &visitor("ann")).await.expect("booking");
    assert_eq!(stored.as_ref(), Some(&reservation.booking));
    assert_eq!(
        commit_one(&second, &reservation).await,
        Committed::Replayed { answer: reservation.answer, pass_used: true }
    );
    assert_eq!(second.take_numbers(&super::event("e"), 1).await.expect("numbers").start, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_write_to_one_file() {
    let scratch = Scratch::new("sqlite");
    let (one, two) = (open(&scratch).await, open(&scratch).await);
    put(&one, &[("z", 30)]).await;
    let work = |ledger: SqliteLedger, name: &'static str| async move {
        let mut done = 0;
        for i in 0..25 {
            done += u32::from(is_done(&commit_one(&ledger, &new(&format!("{name}{i}"), name, 1)).await));
        }
        done
    };
    let (a, b) = tokio::join!(work(one.clone(), "ann"), work(two, "bob"));
    assert_eq!(a + b, 30);
    assert_eq!(counts(&one).await[0].1, 30);
}

#[tokio::test]
async fn a_job_that_fails_spoils_no_other() {
    let (ledger, _scratch) = fresh().await;
    put(&*ledger, &[("z", 10)]).await;
    assert!(is_done(&commit_one(&*ledger, &new("b1", "ann", 1)).await));
    // The same booking under another key and pass cannot be written; what shares its transaction can.
    let mut twice = new("b2", "bob", 1);
    twice.booking.id = booking("b1");
    let batches = [[new("b3", "cyd", 1)], [twice], [new("b4", "dee", 1)]];
    let answers = futures_util::future::join_all(batches.iter().map(|batch| ledger.commit(batch))).await;
    assert!(matches!(&answers[1], Err(LedgerError::Unavailable(_))), "{answers:?}");
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(super::taken(&*ledger).await, 3);
    assert_eq!(super::seats_of(&*ledger, "bob").await, 0);
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    let scratch = Scratch::new("sqlite");
    let settings = SqliteSettings { queue: 2, ..SqliteSettings::default() };
    let ledger = SqliteLedger::open(scratch.path().join("usher.db"), &settings).await.expect("open");
    ledger.migrate().await.expect("migrate");
    let calls = (0..20).map(|_| ledger.purge_answers(at(0), 1));
    let answers = futures_util::future::join_all(calls).await;
    let full = |e: &LedgerError| matches!(e, LedgerError::Unavailable(text) if text.contains("limit"));
    assert_eq!(answers.iter().filter(|a| a.as_ref().is_err_and(full)).count(), 18, "{answers:?}");
    ledger.purge_answers(at(0), 1).await.expect("room again");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said() {
    let path = "/nowhere/at/all/usher.db";
    let error = SqliteLedger::open(path, &SqliteSettings::default()).await.expect_err("no such directory");
    assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_who_does_not_let_go_costs_time_not_seats() {
    let scratch = Scratch::new("sqlite");
    let settings = SqliteSettings { busy_timeout: Duration::from_millis(50), ..SqliteSettings::default() };
    let ledger = SqliteLedger::open(scratch.path().join("usher.db"), &settings).await.expect("open");
    ledger.migrate().await.expect("migrate");
    put(&ledger, &[("z", 10)]).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(ledger.path());
    let mut other = sqlx::ConnectOptions::connect(&options).await.expect("a connection");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("the lock");
    let error = ledger.commit(&[new("b1", "ann", 1)]).await.expect_err("locked");
    assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");
    ledger.ping().await.expect("reading goes on");
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("let go");
    assert!(is_done(&commit_one(&ledger, &new("b1", "ann", 1)).await), "and writing too");
}
