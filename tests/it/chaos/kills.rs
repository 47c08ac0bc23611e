//! Nothing that was answered is lost: the service and the ledger are killed again and again in the middle of sales.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::fleet::Fleet;
use crate::support::postgres::Sync;
use crate::support::seeds::long;

/// Reserves so many at a time.
const AT_ONCE: usize = 24;

/// Every 201 so far must be a booking; the last ones are also asked for again, and must be the same bytes.
async fn all_there(fleet: &Fleet, sold: &[(String, String)]) {
    let ids: Vec<String> = sold.iter().map(|(_, answer)| id(answer)).collect();
    let mut ledger = PgConnection::connect(&fleet.database).await.expect("Postgres answers");
    let sql = "SELECT count(*) FROM bookings WHERE id = ANY($1)";
    let found: i64 = sqlx::query_scalar(sql).bind(&ids).fetch_one(&mut ledger).await.expect("a count");
    assert_eq!(usize::try_from(found).expect("a count"), ids.len(), "bookings that were answered are gone");
    for (key, answer) in sold.iter().rev().take(AT_ONCE) {
        assert_eq!(again(fleet, key).await, *answer, "{key}");
    }
}

fn id(answer: &str) -> String {
    let booking: Value = serde_json::from_str(answer).expect("JSON");
    booking["booking_id"].as_str().expect("an id").to_owned()
}

/// The answer to a key, from a service whose stores may just have come back.
async fn again(fleet: &Fleet, key: &str) -> String {
    for _ in 0..200 {
        match fleet.any().reserve(key).await {
            Some((201, answer)) => return answer,
            Some((503 | 409, _)) | None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Some((status, answer)) => panic!("{status} {answer}"),
        }
    }
    panic!("{key} is never answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_booking_is_lost_however_often_service_and_ledger_are_killed() {
    let cycles = if long() { 100 } else { 4 };
    let mut fleet = Fleet::start(1, Sync::On, &[("USHER_RECOVERY_MS", "0")]).await;
    fleet.any().put_event(1_000_000).await;
    let mut sold: Vec<(String, String)> = Vec::new();
    let mut crashes = 0;
    for cycle in 0..cycles {
        let keys: Vec<String> = (0..AT_ONCE * 2).map(|n| format!("key-{cycle}-{n}")).collect();
        let before = sold.len();
        {
            // As soon as the first is answered, the ledger or the service goes.
            let crash = async || {
                if cycle % 2 == 0 { fleet.postgres.crash().await } else { fleet.any().signal("KILL") }
            };
            let service = fleet.any();
            let mut asked = keys.iter();
            let ask = |key: &String| {
                let key = key.clone();
                async move { (service.reserve(&key).await, key) }
            };
            let mut answers: FuturesUnordered<_> = asked.by_ref().take(AT_ONCE).map(ask).collect();
            let mut broken = false;
            let mut breaking = std::pin::pin!(crash());
            loop {
                tokio::select! {
                    () = &mut breaking, if sold.len() > before && !broken => broken = true,
                    next = answers.next() => {
                        let Some((answer, key)) = next else { break };
                        match answer {
                            Some((201, answer)) => sold.push((key, answer)),
                            Some((503 | 409, _)) | None => {}
                            Some((status, answer)) => panic!("{status} {answer}"),
                        }
                        answers.extend(asked.next().map(ask));
                    }
                }
            }
            if !broken {
                breaking.await;
            }
            crashes += 1;
        }
        if cycle % 2 == 1 {
            fleet.kill(0);
            fleet.launch(0).await;
        }
        all_there(&fleet, &sold).await;
    }
    println!("{crashes} crashes, {} bookings answered, 0 lost", sold.len());
    assert!(sold.len() >= cycles, "there was something to lose");
}
