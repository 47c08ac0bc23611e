//! Sold out: the crowd that is too late is answered without the ledger.

use sqlx::{Connection, PgConnection};

use serde_json::json;

use super::desk::RUSH;
use crate::support::usher::{Setup, World};

/// Transactions that the database has carried out, as its backends report them about once a second.
async fn transactions(world: &World) -> i64 {
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let url = world.settings.database.as_ref().expect("a world on Postgres").url.expose();
    let mut looking = PgConnection::connect(url).await.expect("Postgres answers");
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(&mut looking).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_come_too_late_do_not_reach_the_ledger() {
    const LATE: usize = 400;
    let world = World::start(Setup::Scaled(2)).await;
    world.put_event("e", 2, json!({ "admit_per_minute": RUSH })).await;
    let (_, buys) = world.admitted(0, "e").await;
    let (_, late) = world.admitted(1, "e").await;
    let first = world.reserve(0, "e", &buys, "k", 2).await;
    first.expect(201);
    // Background work for as long as the crowd takes, and then the crowd.
    let idle = transactions(&world).await;
    let started = std::time::Instant::now();
    for at in 0..LATE {
        world.reserve(at, "e", &late, &format!("k{at}"), 1).await.expect_problem(409, "INSUFFICIENT_SEATS");
    }
    let took = started.elapsed();
    let busy = transactions(&world).await;
    tokio::time::sleep(took).await;
    let background = transactions(&world).await - busy;
    let asked = busy - idle;
    assert!(
        asked < background + i64::try_from(LATE / 4).expect("a count"),
        "{asked}, and {background} without a crowd"
    );
    // The retry of the one who has the seats is still the first answer, and seats that come back are sold.
    assert_eq!(world.reserve(1, "e", &buys, "k", 2).await.text, first.text);
    let id = first.json()["booking_id"].as_str().expect("an id").to_owned();
    let cancel = world.request(0, reqwest::Method::DELETE, &format!("/bookings/{id}")).header("X-Queue-Pass", &buys);
    world.send(cancel).await.expect(200);
    world.reserve(1, "e", &late, "again", 1).await.expect(201);
}
