//! New bookings: one transaction for the whole batch, each statement for all of it at once.
//!
//! What is read before the locks is only a first look: the unique indexes and the guards have the last word. When one of
//! them objects, or Postgres breaks a deadlock, nothing of the batch is kept, and its bookings are tried one by one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::seats::{give_back, lock_buyers, lock_zones};
use super::{PostgresLedger, TRIES};
use crate::domain::{BookingId, PassId, Timestamp};
use crate::ledger::decide::{Books, Buyers, Decided};
use crate::ledger::rows::{BookingRow, EventBuyerRow, Id, KeptRow, booking_columns};
use crate::ledger::sql::{Fault, Outcome, Sql, args, job};
use crate::ledger::{Committed, IDEMPOTENCY_TTL, NewBooking, Returned, StoredAnswer};

/// What is known of one booking of the batch, `place` in it from 0: the answer under its key, its pass if that was used.
#[derive(FromRow)]
struct KnownRow {
    place: i64,
    body_hash: Option<Vec<u8>>,
    status: Option<i64>,
    body: Option<String>,
    pass_id: Option<String>,
}

impl KnownRow {
    fn note(self, kept: &mut HashMap<usize, StoredAnswer>, passes: &mut HashSet<String>) -> Outcome<()> {
        let Self { place, body_hash, status, body, pass_id } = self;
        passes.extend(pass_id);
        if let (Some(body_hash), Some(status), Some(body)) = (body_hash, status, body) {
            kept.extend([KeptRow { place, body_hash, status, body }.read()?]);
        }
        Ok(())
    }
}

/// A buyer's count after the writing, and how many zones and answers were written.
#[derive(FromRow)]
struct WrittenRow {
    #[sqlx(flatten)]
    buyer: EventBuyerRow,
    zones: i64,
    answers: i64,
}

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
    let (kept, passes) = first_look(db, batch).await?;
    let buyers = lock_buyers(db, batch.iter().map(|new| &new.booking)).await?;
    // Last of all: the zone is what everybody wants.
    let zones = lock_zones(db, batch.iter().map(|new| &new.booking), true).await?;
    let mut books = Books { kept, passes, zones, buyers };
    let decided = books.decide(batch);
    if !decided.done.is_empty() {
        write(db, &decided, &books.buyers).await?;
    }
    Ok(decided.answers)
}

/// The answers that are kept under the keys of the batch, and which of its passes were used.
async fn first_look(
    db: &mut PgConnection,
    batch: &[NewBooking],
) -> Outcome<(HashMap<usize, StoredAnswer>, HashSet<String>)> {
    let rows: Vec<KnownRow> = sqlx::query_as(
        "SELECT w.ordinal - 1 AS place, i.body_hash, i.status, i.body, b.pass_id FROM \
         UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) WITH ORDINALITY \
         AS w (visitor_id, route, key, created_at, pass_id, ordinal) \
         LEFT JOIN idempotency i ON i.visitor_id = w.visitor_id AND i.route = w.route AND i.key = w.key \
         AND i.expires_at > w.created_at \
         LEFT JOIN bookings b ON b.pass_id = w.pass_id \
         WHERE i.key IS NOT NULL OR b.pass_id IS NOT NULL",
    )
    .bind(batch.iter().map(|new| new.key.visitor.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.key.route).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.key.key.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.booking.created_at.micros()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.pass.as_ref().map(PassId::as_str)).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let (mut kept, mut passes) = (HashMap::new(), HashSet::new());
    for row in rows {
        row.note(&mut kept, &mut passes)?;
    }
    Ok((kept, passes))
}

/// Writes what was decided, in one statement, so that the zones stay locked for one round trip and the commit. Its guards:
/// seats that are not there are not taken; an answer that was kept under a key meanwhile stands; `expected` is what the
/// counts of buyers come to, unless somebody was added by another transaction.
async fn write(db: &mut PgConnection, decided: &Decided<'_>, expected: &Buyers) -> Outcome<()> {
    let (done, zones, buyers) = (&decided.done, &decided.changes.zones, &decided.changes.buyers);
    macro_rules! column {
        ($of:expr, |$one:pat_param| $value:expr) => {
            $of.map(|$one| $value).collect::<Vec<_>>()
        };
    }
    let rows: Vec<WrittenRow> = sqlx::query_as(
        "WITH counted AS (\
           UPDATE zones z SET taken = z.taken + w.seats, version = z.version + w.versions \
           FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) \
           AS w (event_id, show_id, id, seats, versions) \
           WHERE z.event_id = w.event_id AND z.show_id = w.show_id AND z.id = w.id \
           AND z.taken + w.seats BETWEEN 0 AND z.capacity RETURNING 1), \
         booked AS (\
           INSERT INTO bookings (id, event_id, show_id, zone_id, visitor_id, pass_id, quantity, unit_price_minor, \
           created_at, expires_at, status) \
           SELECT w.*, 'reserved' FROM UNNEST($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], \
           $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[]) AS w), \
         answered AS (\
           INSERT INTO idempotency AS i (visitor_id, route, key, body_hash, status, body, expires_at) \
           SELECT * FROM UNNEST($16::text[], $17::text[], $18::text[], $19::bytea[], $20::bigint[], $21::text[], \
           $22::bigint[]) \
           ON CONFLICT (visitor_id, route, key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status, \
           body = excluded.body, expires_at = excluded.expires_at WHERE i.expires_at <= excluded.expires_at - $23 \
           RETURNING 1), \
         bought AS (\
           INSERT INTO buyers AS u (event_id, visitor_id, seats, version) \
           SELECT w.* FROM UNNEST($24::text[], $25::text[], $26::bigint[], $27::bigint[]) \
           AS w (event_id, visitor_id, seats, versions) ORDER BY w.event_id COLLATE \"C\", w.visitor_id COLLATE \"C\" \
           ON CONFLICT (event_id, visitor_id) DO UPDATE \
           SET seats = u.seats + excluded.seats, version = u.version + excluded.version \
           RETURNING u.event_id, u.visitor_id, u.seats, u.version) \
         SELECT bought.*, (SELECT count(*) FROM counted) AS zones, (SELECT count(*) FROM answered) AS answers FROM bought",
    )
    .bind(column!(zones.keys(), |(event, _)| event.as_str()))
    .bind(column!(zones.keys(), |(_, zone)| zone.show.as_str()))
    .bind(column!(zones.keys(), |(_, zone)| zone.zone.as_str()))
    .bind(column!(zones.values(), |change| change.seats))
    .bind(column!(zones.values(), |change| change.versions))
    .bind(column!(done.iter(), |new| new.booking.id.as_str()))
    .bind(column!(done.iter(), |new| new.booking.event.as_str()))
    .bind(column!(done.iter(), |new| new.booking.zone.show.as_str()))
    .bind(column!(done.iter(), |new| new.booking.zone.zone.as_str()))
    .bind(column!(done.iter(), |new| new.booking.visitor.as_str()))
    .bind(column!(done.iter(), |new| new.pass.as_ref().map(PassId::as_str)))
    .bind(column!(done.iter(), |new| i64::from(new.booking.quantity)))
    .bind(column!(done.iter(), |new| new.booking.unit_price.minor()))
    .bind(column!(done.iter(), |new| new.booking.created_at.micros()))
    .bind(column!(done.iter(), |new| new.booking.expires_at.micros()))
    .bind(column!(done.iter(), |new| new.key.visitor.as_str()))
    .bind(column!(done.iter(), |new| new.key.route))
    .bind(column!(done.iter(), |new| new.key.key.as_str()))
    .bind(column!(done.iter(), |new| new.answer.body_hash.as_slice()))
    .bind(column!(done.iter(), |new| i64::from(new.answer.status)))
    .bind(column!(done.iter(), |new| new.answer.body.as_str()))
    .bind(column!(done.iter(), |new| new.booking.created_at.plus(IDEMPOTENCY_TTL).micros()))
    .bind(i64::try_from(IDEMPOTENCY_TTL.as_micros()).unwrap_or(i64::MAX))
    .bind(column!(buyers.keys(), |(event, _)| event.as_str()))
    .bind(column!(buyers.keys(), |(_, visitor)| visitor.as_str()))
    .bind(column!(buyers.values(), |change| change.seats))
    .bind(column!(buyers.values(), |change| change.versions))
    .fetch_all(db)
    .await?;
    let mut as_expected = rows.len() == buyers.len();
    for row in rows {
        let written = usize::try_from(row.zones) == Ok(zones.len()) && usize::try_from(row.answers) == Ok(done.len());
        let (key, tally) = row.buyer.read()?;
        as_expected = as_expected && written && expected.get(&key) == Some(&tally);
    }
    if as_expected { Ok(()) } else { Err(Fault::Collision) }
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
