//! New bookings: one transaction for the whole batch, each statement for all of it at once.
//!
//! What is read before the locks is only a first look: the unique indexes and the guards have the last word. When one of
//! them objects, or Postgres breaks a deadlock, nothing of the batch is kept, and its bookings are tried one by one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;

use super::seats::{add_to_buyers, all, change_zones, give_back, lock_buyers, lock_zones};
use super::{PostgresLedger, TRIES};
use crate::domain::{BookingId, PassId, Timestamp};
use crate::ledger::decide::Books;
use crate::ledger::rows::{BookingRow, Id, KeptRow, booking_columns};
use crate::ledger::sql::{Fault, Outcome, Sql, args, job};
use crate::ledger::{Committed, IDEMPOTENCY_TTL, NewBooking, Returned, StoredAnswer};

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

async fn commit(db: &mut PgConnection, batch: &[NewBooking]) -> Outcome<Vec<Committed>> {
    let mut books = Books {
        kept: kept_answers(db, batch).await?,
        passes: used_passes(db, batch).await?,
        zones: lock_zones(db, batch.iter().map(|new| &new.booking), true).await?,
        buyers: lock_buyers(db, batch.iter().map(|new| &new.booking)).await?,
    };
    let decided = books.decide(batch);
    if !decided.done.is_empty() {
        change_zones(db, &decided.changes).await?;
        add_to_buyers(db, &decided.changes, &books.buyers).await?;
        insert_bookings(db, &decided.done).await?;
        insert_answers(db, &decided.done).await?;
    }
    Ok(decided.answers)
}

async fn kept_answers(db: &mut PgConnection, batch: &[NewBooking]) -> Outcome<HashMap<usize, StoredAnswer>> {
    let rows: Vec<KeptRow> = sqlx::query_as(
        "SELECT w.ordinal - 1 AS place, i.body_hash, i.status, i.body FROM \
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
    rows.into_iter().map(KeptRow::read).collect()
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
    give_back(db, rows.into_iter().map(BookingRow::read).collect::<Outcome<_>>()?).await
}

pub(super) async fn existing(db: &mut PgConnection, ids: &[BookingId]) -> Outcome<Vec<BookingId>> {
    let wanted: Vec<&str> = ids.iter().map(BookingId::as_str).collect();
    let sql = "SELECT id FROM bookings WHERE id = ANY($1::text[])";
    let rows: Vec<Id> = sqlx::query_as(sql).bind(wanted).fetch_all(db).await?;
    rows.iter().map(|row| BookingId::parse(&row.id).map_err(|_| Fault::corrupt("booking"))).collect()
}
