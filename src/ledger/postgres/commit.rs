//! New bookings: one transaction for the whole batch, each statement for all of it at once.
//!
//! What is read before the locks is only a first look: the unique indexes and the guards have the last word. When one of
//! them objects, or Postgres breaks a deadlock, nothing of the batch is kept, and its bookings are tried one by one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::seats::{self, Changes, add_to_buyers, all, change_zones, lock_buyers, lock_zones, tell};
use super::{PostgresLedger, TRIES};
use crate::domain::{BookingId, PassId, Timestamp};
use crate::engine::Tally;
use crate::ledger::decide::{Seen, decide};
use crate::ledger::rows::{BookingRow, Id, booking_columns};
use crate::ledger::sql::{Fault, Outcome, Sql, args, job};
use crate::ledger::{Committed, IDEMPOTENCY_TTL, IdempotencyKey, NewBooking, Returned, StoredAnswer};

impl PostgresLedger {
    /// Writes the batch in one transaction or, if that collides with others, one by one.
    pub(super) async fn commit_batch(&self, batch: Arc<[NewBooking]>) -> Outcome<Vec<Committed>> {
        match self.transact(job!(batch => |db| commit(db, &batch)), 1).await {
            Err(fault) if fault.is_collision() => {}
            outcome => return outcome,
        }
        let mut answers = Vec::with_capacity(batch.len());
        for new in batch.iter() {
            let one: Arc<[NewBooking]> = Arc::from([new.clone()]);
            answers.extend(self.transact(job!(one => |db| commit(db, &one)), TRIES).await?);
        }
        Ok(answers)
    }
}

#[derive(FromRow)]
struct KeptRow {
    ordinal: i64,
    body_hash: Vec<u8>,
    status: i64,
    body: String,
}

async fn commit(db: &mut PgConnection, batch: &[NewBooking]) -> Outcome<Vec<Committed>> {
    let kept = kept_answers(db, batch).await?;
    let mut passes = used_passes(db, batch).await?;
    let mut zones = lock_zones(db, batch.iter().map(|new| &new.booking), true).await?;
    let mut buyers = lock_buyers(db, batch.iter().map(|new| &new.booking)).await?;

    let mut fresh: HashMap<&IdempotencyKey, &NewBooking> = HashMap::new();
    let (mut of_zones, mut of_buyers) = (Changes::new(), Changes::new());
    let mut done = Vec::new();
    let mut answers = Vec::with_capacity(batch.len());
    for (ordinal, new) in (1_i64..).zip(batch.iter()) {
        let booking = &new.booking;
        let answer = kept.get(&ordinal).or_else(|| {
            let first = fresh.get(&new.key)?;
            let kept = booking.created_at < first.booking.created_at.plus(IDEMPOTENCY_TTL);
            kept.then_some(&first.answer)
        });
        let mut buyer =
            buyers.get(&(booking.event.clone(), booking.visitor.clone())).copied().unwrap_or(Tally::default());
        let answer = decide(
            new,
            Seen {
                answer,
                zone: zones.get_mut(&(booking.event.clone(), booking.zone.clone())),
                pass_used: new.pass.as_ref().is_some_and(|pass| passes.contains(pass.as_str())),
                buyer: &mut buyer,
            },
        );
        if matches!(answer, Committed::Done { .. }) {
            buyers.insert((booking.event.clone(), booking.visitor.clone()), buyer);
            tell(&mut of_zones, &mut of_buyers, booking, 1);
            passes.extend(new.pass.as_ref().map(|pass| pass.as_str().to_owned()));
            fresh.insert(&new.key, new);
            done.push(new);
        }
        answers.push(answer);
    }
    if !done.is_empty() {
        change_zones(db, &of_zones).await?;
        add_to_buyers(db, &of_buyers, &buyers).await?;
        insert_bookings(db, &done).await?;
        insert_answers(db, &done).await?;
    }
    Ok(answers)
}

/// The answers that are still kept under the keys of the batch, by place in the batch from 1.
async fn kept_answers(db: &mut PgConnection, batch: &[NewBooking]) -> Outcome<BTreeMap<i64, StoredAnswer>> {
    let rows: Vec<KeptRow> = sqlx::query_as(
        "SELECT w.ordinal, i.body_hash, i.status, i.body FROM \
         UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY \
         AS w (visitor_id, route, key, created_at, ordinal) \
         JOIN idempotency i ON i.visitor_id = w.visitor_id AND i.route = w.route AND i.key = w.key \
         AND i.expires_at > w.created_at",
    )
    .bind(batch.iter().map(|new| new.key.visitor.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.key.route).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.key.key.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.booking.created_at.micros()).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let body_hash = row.body_hash.try_into().map_err(|_| Fault::corrupt("hash"))?;
            let status = u16::try_from(row.status).map_err(|_| Fault::corrupt("status"))?;
            Ok((row.ordinal, StoredAnswer { body_hash, status, body: row.body }))
        })
        .collect()
}

async fn used_passes(db: &mut PgConnection, batch: &[NewBooking]) -> Outcome<HashSet<String>> {
    let passes: Vec<&str> = batch.iter().filter_map(|new| new.pass.as_ref()).map(PassId::as_str).collect();
    if passes.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = "SELECT pass_id AS id FROM bookings WHERE pass_id = ANY($1::text[])";
    let rows: Vec<Id> = sqlx::query_as(sql).bind(passes).fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

async fn insert_bookings(db: &mut PgConnection, done: &[&NewBooking]) -> Outcome<()> {
    macro_rules! column {
        (|$new:ident| $value:expr) => {
            done.iter().map(|$new| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "INSERT INTO bookings (id, event_id, show_id, zone_id, visitor_id, pass_id, quantity, unit_price_minor, \
         created_at, expires_at, status) \
         SELECT w.*, 'reserved' FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) AS w",
    )
    .bind(column!(|new| new.booking.id.as_str()))
    .bind(column!(|new| new.booking.event.as_str()))
    .bind(column!(|new| new.booking.zone.show.as_str()))
    .bind(column!(|new| new.booking.zone.zone.as_str()))
    .bind(column!(|new| new.booking.visitor.as_str()))
    .bind(column!(|new| new.pass.as_ref().map(PassId::as_str)))
    .bind(column!(|new| i64::from(new.booking.quantity)))
    .bind(column!(|new| new.booking.unit_price.minor()))
    .bind(column!(|new| new.booking.created_at.micros()))
    .bind(column!(|new| new.booking.expires_at.micros()))
    .execute(db)
    .await?;
    Ok(())
}

/// Writes the first answers. A record that had run out is overwritten; one that had not is somebody else's, written since
/// it was looked for.
async fn insert_answers(db: &mut PgConnection, done: &[&NewBooking]) -> Outcome<()> {
    macro_rules! column {
        (|$new:ident| $value:expr) => {
            done.iter().map(|$new| $value).collect::<Vec<_>>()
        };
    }
    let written = sqlx::query(
        "INSERT INTO idempotency AS i (visitor_id, route, key, body_hash, status, body, expires_at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::text[], $7::bigint[]) \
         ON CONFLICT (visitor_id, route, key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status, \
         body = excluded.body, expires_at = excluded.expires_at WHERE i.expires_at <= excluded.expires_at - $8",
    )
    .bind(column!(|new| new.key.visitor.as_str()))
    .bind(column!(|new| new.key.route))
    .bind(column!(|new| new.key.key.as_str()))
    .bind(column!(|new| new.answer.body_hash.to_vec()))
    .bind(column!(|new| i64::from(new.answer.status)))
    .bind(column!(|new| new.answer.body.as_str()))
    .bind(column!(|new| new.booking.created_at.plus(IDEMPOTENCY_TTL).micros()))
    .bind(i64::try_from(IDEMPOTENCY_TTL.as_micros()).unwrap_or(i64::MAX))
    .execute(db)
    .await?
    .rows_affected();
    all(written, done.len())
}

/// Reservations that another instance is ending right now are passed over.
pub(super) async fn expire_due(db: &mut PgConnection, now: Timestamp, limit: u32) -> Outcome<Vec<Returned>> {
    let sql = concat!(
        "UPDATE bookings SET status = 'expired' WHERE id IN (SELECT id FROM bookings \
         WHERE status = 'reserved' AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING ",
        booking_columns!()
    );
    let rows = db.rows::<BookingRow>(sql, args![now, limit]).await?;
    seats::give_back(db, rows.into_iter().map(BookingRow::read).collect::<Outcome<_>>()?).await
}

pub(super) async fn existing(db: &mut PgConnection, ids: &[BookingId]) -> Outcome<Vec<BookingId>> {
    let wanted: Vec<&str> = ids.iter().map(BookingId::as_str).collect();
    let sql = "SELECT id FROM bookings WHERE id = ANY($1::text[])";
    let rows: Vec<Id> = sqlx::query_as(sql).bind(wanted).fetch_all(db).await?;
    rows.iter().map(|row| BookingId::parse(&row.id).map_err(|_| Fault::corrupt("booking"))).collect()
}
