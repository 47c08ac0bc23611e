//! New bookings, and seats that come back. There is one writer, so what was read stays true until it is written. A batch
//! is handed over as one JSON array: the number of statements does not grow with it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::domain::{Booking, BookingId, PassId, Timestamp};
use crate::ledger::decide::{self, Books, Changes};
use crate::ledger::rows::{BookingRow, BuyerRow, EventBuyerRow, EventZoneRow, Id, KeptRow, ZoneRow, booking_columns};
use crate::ledger::sql::{Fault, Outcome, Sql, args};
use crate::ledger::{Committed, IDEMPOTENCY_TTL, NewBooking, Returned, StoredAnswer};

/// One JSON array of `of` each.
fn array<T>(rows: impl IntoIterator<Item = T>, of: impl Fn(T) -> Value) -> String {
    Value::Array(rows.into_iter().map(of).collect()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

pub(super) async fn commit(db: &mut SqliteConnection, batch: &[NewBooking]) -> Outcome<Vec<Committed>> {
    let mut books = read(db, batch).await?;
    let decided = books.decide(batch);
    if !decided.done.is_empty() {
        count_seats(db, &decided.changes).await?;
        insert_bookings(db, &decided.done).await?;
        insert_answers(db, &decided.done).await?;
    }
    Ok(decided.answers)
}

async fn read(db: &mut SqliteConnection, batch: &[NewBooking]) -> Outcome<Books> {
    let zones = array(batch, |new| json!([new.booking.event, new.booking.zone.show, new.booking.zone.zone]));
    let zones = db
        .rows::<EventZoneRow>(
            "SELECT z.event_id, z.show_id, z.id, z.capacity, z.taken, z.version FROM \
             (SELECT DISTINCT value ->> 0 AS e, value ->> 1 AS s, value ->> 2 AS z FROM json_each($1)) w \
             CROSS JOIN zones z ON z.event_id = w.e AND z.show_id = w.s AND z.id = w.z \
             CROSS JOIN events e ON e.id = z.event_id AND NOT e.removed",
            args![&zones],
        )
        .await?;
    let buyers = array(batch, |new| json!([new.booking.event, new.booking.visitor]));
    let buyers = db
        .rows::<EventBuyerRow>(
            "SELECT u.event_id, u.visitor_id, u.seats, u.version FROM \
             (SELECT DISTINCT value ->> 0 AS e, value ->> 1 AS v FROM json_each($1)) w \
             CROSS JOIN buyers u ON u.event_id = w.e AND u.visitor_id = w.v",
            args![&buyers],
        )
        .await?;
    Ok(Books {
        kept: kept_answers(db, batch).await?,
        passes: used_passes(db, batch).await?,
        zones: decide::zones(zones)?,
        buyers: decide::buyers(buyers)?,
    })
}

async fn kept_answers(db: &mut SqliteConnection, batch: &[NewBooking]) -> Outcome<HashMap<usize, StoredAnswer>> {
    let keys =
        array(batch, |new| json!([new.key.visitor, new.key.route, new.key.key, new.booking.created_at.micros()]));
    let rows = db
        .rows::<KeptRow>(
            "SELECT w.key AS place, i.body_hash, i.status, i.body FROM json_each($1) w \
             CROSS JOIN idempotency i ON i.visitor_id = w.value ->> 0 AND i.route = w.value ->> 1 \
             AND i.key = w.value ->> 2 AND i.expires_at > w.value ->> 3",
            args![&keys],
        )
        .await?;
    rows.into_iter().map(KeptRow::read).collect()
}

async fn used_passes(db: &mut SqliteConnection, batch: &[NewBooking]) -> Outcome<HashSet<String>> {
    let passes = array(batch.iter().filter_map(|new| new.pass.as_ref()), |pass| json!(pass));
    let sql = "SELECT b.pass_id AS id FROM json_each($1) w CROSS JOIN bookings b ON b.pass_id = w.value";
    Ok(db.rows::<Id>(sql, args![&passes]).await?.into_iter().map(|row| row.id).collect())
}

/// The guard is in the statement: seats that are not there cannot be taken.
async fn count_seats(db: &mut SqliteConnection, changes: &Changes) -> Outcome<()> {
    for ((event, zone), change) in &changes.zones {
        let sql = "UPDATE zones SET taken = taken + $4, version = version + $5 \
                   WHERE event_id = $1 AND show_id = $2 AND id = $3 AND taken + $4 BETWEEN 0 AND capacity";
        let args = args![event, &zone.show, &zone.zone, change.seats, change.versions];
        if db.run(sql, args).await? != 1 {
            return Err(Fault::Collision);
        }
    }
    let buyers = array(&changes.buyers, |((event, visitor), c)| json!([event, visitor, c.seats, c.versions]));
    db.run(
        "INSERT INTO buyers (event_id, visitor_id, seats, version) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE TRUE \
         ON CONFLICT (event_id, visitor_id) DO UPDATE SET seats = seats + excluded.seats, \
         version = version + excluded.version",
        args![&buyers],
    )
    .await?;
    Ok(())
}

async fn insert_bookings(db: &mut SqliteConnection, done: &[&NewBooking]) -> Outcome<()> {
    let rows = array(done, |new| {
        let booking = &new.booking;
        json!([
            booking.id,
            booking.event,
            booking.zone.show,
            booking.zone.zone,
            booking.visitor,
            new.pass.as_ref().map(PassId::as_str),
            booking.quantity,
            booking.unit_price.minor(),
            booking.created_at.micros(),
            booking.expires_at.micros(),
        ])
    });
    db.run(
        "INSERT INTO bookings (id, event_id, show_id, zone_id, visitor_id, pass_id, quantity, unit_price_minor, \
         created_at, expires_at, status) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, 'reserved' FROM json_each($1)",
        args![&rows],
    )
    .await?;
    Ok(())
}

/// Writes the first answers. A record that is there has run out: it would have been answered otherwise.
async fn insert_answers(db: &mut SqliteConnection, done: &[&NewBooking]) -> Outcome<()> {
    let rows = array(done, |new| {
        let expires_at = new.booking.created_at.plus(IDEMPOTENCY_TTL).micros();
        let (key, answer) = (&new.key, &new.answer);
        json!([key.visitor, key.route, key.key, hex(&answer.body_hash), answer.status, answer.body, expires_at])
    });
    db.run(
        "INSERT INTO idempotency (visitor_id, route, key, body_hash, status, body, expires_at) \
         SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4, value ->> 5, value ->> 6 \
         FROM json_each($1) WHERE TRUE ON CONFLICT (visitor_id, route, key) DO UPDATE SET \
         body_hash = excluded.body_hash, status = excluded.status, body = excluded.body, \
         expires_at = excluded.expires_at",
        args![&rows],
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
    let wanted = array(ids, |id| json!(id));
    let sql = "SELECT id FROM bookings WHERE id IN (SELECT value FROM json_each($1))";
    let rows = db.rows::<Id>(sql, args![&wanted]).await?;
    rows.iter().map(|row| BookingId::parse(&row.id).map_err(|_| Fault::corrupt("booking"))).collect()
}
