//! New bookings, and seats that come back. There is one writer, so each row can be looked at and then changed.

use sqlx::FromRow;
use sqlx::sqlite::SqliteConnection;

use crate::domain::{Booking, BookingId, PassId, Timestamp};
use crate::engine::{Tally, ZoneTally};
use crate::ledger::decide::{Seen, decide};
use crate::ledger::rows::{BookingRow, BuyerRow, Id, ZoneRow, booking_columns, count};
use crate::ledger::sql::{Fault, Outcome, Sql, args};
use crate::ledger::{Committed, IDEMPOTENCY_TTL, NewBooking, Returned, StoredAnswer};

/// Everything that matters to one new booking, in one row.
#[derive(FromRow)]
struct SeenRow {
    body_hash: Option<Vec<u8>>,
    status: Option<i64>,
    body: Option<String>,
    capacity: Option<i64>,
    taken: Option<i64>,
    version: Option<i64>,
    pass_used: Option<i64>,
    seats: Option<i64>,
    buyer_version: Option<i64>,
}

impl SeenRow {
    fn answer(&mut self) -> Outcome<Option<StoredAnswer>> {
        let (Some(hash), Some(status), Some(body)) = (self.body_hash.take(), self.status, self.body.take()) else {
            return Ok(None);
        };
        let body_hash = hash.try_into().map_err(|_| Fault::corrupt("hash"))?;
        let status = u16::try_from(status).map_err(|_| Fault::corrupt("status"))?;
        Ok(Some(StoredAnswer { body_hash, status, body }))
    }

    fn zone(&self, new: &NewBooking) -> Outcome<Option<ZoneTally>> {
        let (Some(capacity), Some(taken), Some(version)) = (self.capacity, self.taken, self.version) else {
            return Ok(None);
        };
        let tally = Tally { taken: count(taken)?, version };
        Ok(Some(ZoneTally { zone: new.booking.zone.clone(), capacity: count(capacity)?, tally }))
    }
}

pub(super) async fn commit(db: &mut SqliteConnection, bookings: &[NewBooking]) -> Outcome<Vec<Committed>> {
    let mut answers = Vec::with_capacity(bookings.len());
    for new in bookings {
        let answer = decide_one(db, new).await?;
        if matches!(answer, Committed::Done { .. }) {
            write(db, new).await?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

async fn decide_one(db: &mut SqliteConnection, new: &NewBooking) -> Outcome<Committed> {
    let (booking, key) = (&new.booking, &new.key);
    let sql = "SELECT i.body_hash, i.status, i.body, z.capacity, z.taken, z.version, \
               (SELECT 1 FROM bookings b WHERE b.pass_id = $1) AS pass_used, u.seats, u.version AS buyer_version \
               FROM (SELECT 1) \
               LEFT JOIN idempotency i ON i.visitor_id = $2 AND i.route = $3 AND i.key = $4 AND i.expires_at > $5 \
               LEFT JOIN zones z ON z.event_id = $6 AND z.show_id = $7 AND z.id = $8 \
               AND EXISTS (SELECT 1 FROM events e WHERE e.id = $6 AND NOT e.removed) \
               LEFT JOIN buyers u ON u.event_id = $6 AND u.visitor_id = $9";
    let args = args![
        new.pass.as_ref().map(PassId::as_str),
        &key.visitor,
        key.route,
        &key.key,
        booking.created_at,
        &booking.event,
        &booking.zone.show,
        &booking.zone.zone,
        &booking.visitor,
    ];
    let mut row = db.row::<SeenRow>(sql, args).await?.ok_or_else(|| Fault::corrupt("answer"))?;
    let (answer, mut zone) = (row.answer()?, row.zone(new)?);
    let mut buyer = Tally { taken: count(row.seats.unwrap_or(0))?, version: row.buyer_version.unwrap_or(0) };
    let pass_used = row.pass_used.is_some();
    Ok(decide(new, Seen { answer: answer.as_ref(), zone: zone.as_mut(), pass_used, buyer: &mut buyer }))
}

/// Writes what was decided; the seats are counted under the same guard once more.
async fn write(db: &mut SqliteConnection, new: &NewBooking) -> Outcome<()> {
    let NewBooking { booking, pass, answer, key, .. } = new;
    let counted = db
        .run(
            "UPDATE zones SET taken = taken + $4, version = version + 1 \
             WHERE event_id = $1 AND show_id = $2 AND id = $3 AND taken + $4 <= capacity",
            args![&booking.event, &booking.zone.show, &booking.zone.zone, booking.quantity],
        )
        .await?;
    if counted != 1 {
        return Err(Fault::Collision);
    }
    db.run(
        "INSERT INTO buyers (event_id, visitor_id, seats, version) VALUES ($1, $2, $3, 1) \
         ON CONFLICT (event_id, visitor_id) DO UPDATE SET seats = seats + excluded.seats, version = version + 1",
        args![&booking.event, &booking.visitor, booking.quantity],
    )
    .await?;
    db.run(
        "INSERT INTO bookings (id, event_id, show_id, zone_id, visitor_id, pass_id, quantity, unit_price_minor, status, \
         created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'reserved', $9, $10)",
        args![
            &booking.id,
            &booking.event,
            &booking.zone.show,
            &booking.zone.zone,
            &booking.visitor,
            pass.as_ref().map(PassId::as_str),
            booking.quantity,
            booking.unit_price.minor(),
            booking.created_at,
            booking.expires_at,
        ],
    )
    .await?;
    db.run(
        "INSERT INTO idempotency (visitor_id, route, key, body_hash, status, body, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (visitor_id, route, key) DO UPDATE SET \
         body_hash = excluded.body_hash, status = excluded.status, body = excluded.body, expires_at = excluded.expires_at",
        args![
            &key.visitor,
            key.route,
            &key.key,
            answer.body_hash.to_vec(),
            u32::from(answer.status),
            &answer.body,
            booking.created_at.plus(IDEMPOTENCY_TTL),
        ],
    )
    .await?;
    Ok(())
}

/// Takes a booking's seats off the counts of its zone and its visitor.
pub(super) async fn give_back(db: &mut SqliteConnection, booking: Booking) -> Outcome<Returned> {
    let zone = db
        .row::<ZoneRow>(
            "UPDATE zones SET taken = taken - $4, version = version + 1 \
             WHERE event_id = $1 AND show_id = $2 AND id = $3 RETURNING show_id, id, capacity, taken, version",
            args![&booking.event, &booking.zone.show, &booking.zone.zone, booking.quantity],
        )
        .await?
        .ok_or_else(|| Fault::corrupt("booking: its zone is gone"))?
        .read()?;
    let buyer = db
        .row::<BuyerRow>(
            "UPDATE buyers SET seats = seats - $3, version = version + 1 \
             WHERE event_id = $1 AND visitor_id = $2 RETURNING visitor_id, seats, version",
            args![&booking.event, &booking.visitor, booking.quantity],
        )
        .await?
        .ok_or_else(|| Fault::corrupt("booking: its buyer is gone"))?
        .read()?;
    Ok(Returned { booking, zone, buyer })
}

pub(super) async fn expire_due(db: &mut SqliteConnection, now: Timestamp, limit: u32) -> Outcome<Vec<Returned>> {
    let sql = concat!(
        "UPDATE bookings SET status = 'expired' WHERE id IN (SELECT id FROM bookings \
         WHERE status = 'reserved' AND expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING ",
        booking_columns!()
    );
    let mut returned = Vec::new();
    for row in db.rows::<BookingRow>(sql, args![now, limit]).await? {
        returned.push(give_back(db, row.read()?).await?);
    }
    Ok(returned)
}

pub(super) async fn existing(db: &mut SqliteConnection, ids: &[BookingId]) -> Outcome<Vec<BookingId>> {
    let wanted = serde_json::Value::from(ids.iter().map(BookingId::as_str).collect::<Vec<_>>()).to_string();
    let sql = "SELECT id FROM bookings WHERE id IN (SELECT value FROM json_each($1))";
    let rows = db.rows::<Id>(sql, args![&wanted]).await?;
    rows.iter().map(|row| BookingId::parse(&row.id).map_err(|_| Fault::corrupt("booking"))).collect()
}
