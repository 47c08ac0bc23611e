//! A ledger that is there and does not get on: somebody holds a lock, or a statement takes too long, and all connections are
//! waiting for that. Waits are bounded, and the circuit opens and closes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};

use super::rig::Rig;
use super::seconds;
use crate::support::usher::user_token;

/// A wait for a connection (2 s), for the statement (1 s), and once more to find out what became of it; with room to spare.
const BOUND: Duration = Duration::from_secs(6);
const HEALED: Duration = Duration::from_secs(5);
const CLIENTS: usize = 24;

/// What a crowd met.
#[derive(Debug, Default, Clone, Copy)]
struct Met {
    slowest: Duration,
    refused: usize,
    lists: usize,
}

/// Asks for bookings and reserves all the time.
async fn crowd(rig: &Rig, lasting: Duration, pass: &str) -> Met {
    let met = Mutex::new(Met::default());
    let until = Instant::now() + lasting;
    let client = |n: usize| {
        let met = &met;
        async move {
            let token = user_token(&format!("reader-{n}"));
            for round in 0.. {
                if Instant::now() >= until {
                    return;
                }
                let timed = if n.is_multiple_of(2) {
                    rig.ask("bookings", rig.service.api(reqwest::Method::GET, "/bookings").bearer_auth(&token)).await
                } else {
                    rig.reserve("rush", pass, &format!("k-{n}-{round}")).await
                };
                timed.check_within(BOUND);
                {
                    let mut met = met.lock().expect("no panic");
                    met.slowest = met.slowest.max(timed.took);
                    met.refused += usize::from(timed.reply.status == 503);
                    met.lists += usize::from(timed.name == "bookings" && timed.reply.status == 200);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    futures_util::future::join_all((0..CLIENTS).map(client)).await;
    met.into_inner().expect("no panic")
}

/// `all`: everything that is asked of the ledger fails, not reservations alone.
async fn exhausted(harm: &'static str, mend: &'static str, all: bool) {
    let rig = Rig::start(&[("USHER_DATABASE_POOL_SIZE", "3"), ("USHER_DATABASE_TIMEOUT_MS", "1000")]).await;
    rig.put_event("rush", 60_000_000).await;
    let passes = [rig.pass("rush").await, rig.pass("rush").await];
    rig.reserve("rush", &passes[0], "before").await.reply.expect(201);

    let mut intruder = PgConnection::connect(&rig.database).await.expect("Postgres answers");
    intruder.execute(harm).await.expect("harm is done");
    let lasting = seconds(4, 30);
    let others = async {
        // Whatever needs no ledger is answered as ever.
        let until = Instant::now() + lasting;
        let (mut seen_open, mut seen_closed) = (0, 0);
        while Instant::now() < until {
            let joined = rig.join("rush").await;
            joined.check();
            joined.reply.expect(201);
            let ready = rig.plain("/ready").await;
            ready.check();
            if rig.metric("usher_circuit_open", "ledger").await == 1 {
                seen_open += 1;
            } else {
                seen_closed += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (seen_open, seen_closed, rig.size().await)
    };
    let (met, (open, closed, size)) = tokio::join!(crowd(&rig, lasting, &passes[1]), others);
    let opened = rig.metric("usher_circuit_opened_total", "ledger").await;
    println!("{harm}: {met:?}; opened {opened} times, seen open {open}, closed {closed}; {size:?}");
    // Beside other tests the answers may be too far apart to be failures in a row.
    if all && crate::support::seeds::long() {
        assert!(opened >= 1 && open >= 1, "the circuit never opened");
        assert!(rig.metric("usher_circuit_refused_total", "ledger").await >= 1, "nobody was refused at once");
    } else if !all {
        // A ledger that answers others is not away.
        assert!(met.lists >= 10 && closed >= 1, "slow reservations kept all others out");
    }
    assert!(met.refused >= 1, "no harm was done");
    assert!(size.calls <= 64, "{size:?}");

    intruder.execute(mend).await.expect("mended");
    let mended = Instant::now();
    let well = async {
        loop {
            let booked = rig.reserve("rush", &passes[1], "well-again").await.reply;
            if booked.status == 201 && rig.plain("/ready").await.reply.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(HEALED, well).await.is_ok(), "not well again: {}", rig.service.log());
    println!("well again after {:?}", mended.elapsed());
    assert_eq!(rig.metric("usher_circuit_open", "").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_on_the_bookings() {
    exhausted("BEGIN; LOCK TABLE bookings IN ACCESS EXCLUSIVE MODE", "ROLLBACK", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_take_too_long() {
    exhausted(
        "CREATE FUNCTION drowse() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(3); RETURN NEW; END'; \
         CREATE TRIGGER drowse BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION drowse()",
        "DROP TRIGGER drowse ON bookings",
        false,
    )
    .await;
}
