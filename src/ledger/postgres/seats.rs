//! The counts of zones and buyers, many rows a statement. Buyers are always locked before zones, both in the order of their
//! keys, so that no two transactions wait for each other in a circle.
//!
//! `UNNEST` pads arrays of unequal length with NULL; the arrays of one statement are all made from one list here, and the
//! columns that they go into are NOT NULL.

use sqlx::postgres::PgConnection;

use crate::domain::{Booking, EventId, VisitorId, ZoneKey};
use crate::ledger::Returned;
use crate::ledger::decide::{self, Buyers, Changes, Zones};
use crate::ledger::sql::{Fault, Outcome};

/// Locks the zones of these bookings and reads them. A zone that is not there is left out, and with `live_only` so are those
/// of removed events.
pub(super) async fn lock_zones<'b>(
    db: &mut PgConnection,
    bookings: impl Iterator<Item = &'b Booking> + Send,
    live_only: bool,
) -> Outcome<Zones> {
    let (mut events, mut shows, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for booking in bookings {
        events.push(booking.event.as_str());
        shows.push(booking.zone.show.as_str());
        ids.push(booking.zone.zone.as_str());
    }
    // A zone that several bookings want comes up several times and is locked once.
    let rows = sqlx::query_as(
        "SELECT z.event_id, z.show_id, z.id, z.capacity, z.taken, z.version FROM zones z \
         WHERE (z.event_id, z.show_id, z.id) IN (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[])) \
         AND (NOT $4 OR EXISTS (SELECT 1 FROM events e WHERE e.id = z.event_id AND NOT e.removed)) \
         ORDER BY z.event_id, z.show_id, z.id FOR UPDATE",
    )
    .bind(events)
    .bind(shows)
    .bind(ids)
    .bind(live_only)
    .fetch_all(db)
    .await?;
    decide::zones(rows)
}

/// Locks the buyers of these bookings and reads them. Who never bought of the event is left out.
pub(super) async fn lock_buyers<'b>(
    db: &mut PgConnection,
    bookings: impl Iterator<Item = &'b Booking> + Send,
) -> Outcome<Buyers> {
    let (events, visitors): (Vec<&str>, Vec<&str>) =
        bookings.map(|booking| (booking.event.as_str(), booking.visitor.as_str())).unzip();
    let rows = sqlx::query_as(
        "SELECT u.event_id, u.visitor_id, u.seats, u.version FROM buyers u \
         WHERE (u.event_id, u.visitor_id) IN (SELECT * FROM UNNEST($1::text[], $2::text[])) \
         ORDER BY u.event_id, u.visitor_id FOR UPDATE",
    )
    .bind(events)
    .bind(visitors)
    .fetch_all(db)
    .await?;
    decide::buyers(rows)
}

/// Counts seats of zones, within their capacity.
pub(super) async fn change_zones(db: &mut PgConnection, changes: &Changes) -> Outcome<()> {
    let column = |of: fn(&(EventId, ZoneKey)) -> &str| changes.zones.keys().map(of).collect::<Vec<_>>();
    let found = sqlx::query(
        "UPDATE zones z SET taken = z.taken + w.seats, version = z.version + w.versions \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) \
         AS w (event_id, show_id, id, seats, versions) \
         WHERE z.event_id = w.event_id AND z.show_id = w.show_id AND z.id = w.id \
         AND z.taken + w.seats BETWEEN 0 AND z.capacity",
    )
    .bind(column(|(event, _)| event.as_str()))
    .bind(column(|(_, zone)| zone.show.as_str()))
    .bind(column(|(_, zone)| zone.zone.as_str()))
    .bind(changes.zones.values().map(|change| change.seats).collect::<Vec<_>>())
    .bind(changes.zones.values().map(|change| change.versions).collect::<Vec<_>>())
    .execute(db)
    .await?
    .rows_affected();
    all(found, changes.zones.len())
}

/// Takes the seats of these bookings off the counts, and says what the counts were after each.
pub(super) async fn give_back(db: &mut PgConnection, bookings: Vec<Booking>) -> Outcome<Vec<Returned>> {
    if bookings.is_empty() {
        return Ok(Vec::new());
    }
    let mut buyers = lock_buyers(db, bookings.iter()).await?;
    let mut zones = lock_zones(db, bookings.iter(), false).await?;
    let (returned, changes) = decide::give_back(bookings, &mut zones, &mut buyers)?;
    change_zones(db, &changes).await?;
    take_from_buyers(db, &changes).await?;
    Ok(returned)
}

async fn take_from_buyers(db: &mut PgConnection, changes: &Changes) -> Outcome<()> {
    let column = |of: fn(&(EventId, VisitorId)) -> &str| changes.buyers.keys().map(of).collect::<Vec<_>>();
    let found = sqlx::query(
        "UPDATE buyers u SET seats = u.seats + w.seats, version = u.version + w.versions \
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w (event_id, visitor_id, seats, versions) \
         WHERE u.event_id = w.event_id AND u.visitor_id = w.visitor_id",
    )
    .bind(column(|(event, _)| event.as_str()))
    .bind(column(|(_, visitor)| visitor.as_str()))
    .bind(changes.buyers.values().map(|change| change.seats).collect::<Vec<_>>())
    .bind(changes.buyers.values().map(|change| change.versions).collect::<Vec<_>>())
    .execute(db)
    .await?
    .rows_affected();
    all(found, changes.buyers.len())
}

/// A statement that left a row out did not find what was locked before: the transaction must not be kept.
pub(super) fn all(found: u64, wanted: usize) -> Outcome<()> {
    if usize::try_from(found) == Ok(wanted) { Ok(()) } else { Err(Fault::Collision) }
}
