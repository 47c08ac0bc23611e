//! The counts of zones and buyers, many rows a statement. Zones are always locked before buyers, both in the order of their
//! keys, so that no two transactions wait for each other in a circle.
//!
//! `UNNEST` pads arrays of unequal length with NULL; the arrays of one statement are all made from one list here, and the
//! columns that they go into are NOT NULL.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use crate::domain::{Booking, EventId, VisitorId, ZoneKey};
use crate::engine::{BuyerTally, Tally, ZoneTally};
use crate::ledger::Returned;
use crate::ledger::rows::{count, zone_key};
use crate::ledger::sql::{Fault, Outcome};

/// The zones of a transaction, by event and key.
pub(super) type Zones = BTreeMap<(EventId, ZoneKey), ZoneTally>;
/// The buyers of a transaction, by event and visitor.
pub(super) type Buyers = BTreeMap<(EventId, VisitorId), Tally>;

/// A change to a count: seats, and how many bookings changed it (each is a version).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    seats: i64,
    versions: i64,
}

/// The changes of a transaction, by key.
pub(super) type Changes<K> = BTreeMap<K, Change>;

/// Counts one booking: `sign` is 1 for seats that are taken, -1 for seats that come back.
pub(super) fn tell(
    zones: &mut Changes<(EventId, ZoneKey)>,
    buyers: &mut Changes<(EventId, VisitorId)>,
    booking: &Booking,
    sign: i64,
) {
    let zone = zones.entry((booking.event.clone(), booking.zone.clone())).or_default();
    let buyer = buyers.entry((booking.event.clone(), booking.visitor.clone())).or_default();
    for change in [zone, buyer] {
        change.seats += sign * i64::from(booking.quantity);
        change.versions += 1;
    }
}

#[derive(FromRow)]
struct ZoneRow {
    event_id: String,
    show_id: String,
    id: String,
    capacity: i64,
    taken: i64,
    version: i64,
}

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
    let rows: Vec<ZoneRow> = sqlx::query_as(
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
    let mut zones = Zones::new();
    for row in rows {
        let zone = zone_key(&row.show_id, &row.id)?;
        let tally = Tally { taken: count(row.taken)?, version: row.version };
        let event = EventId::parse(&row.event_id).map_err(|_| Fault::corrupt("event"))?;
        zones.insert((event, zone.clone()), ZoneTally { zone, capacity: count(row.capacity)?, tally });
    }
    Ok(zones)
}

#[derive(FromRow)]
struct BuyerRow {
    event_id: String,
    visitor_id: String,
    seats: i64,
    version: i64,
}

fn buyers_of(rows: Vec<BuyerRow>) -> Outcome<Buyers> {
    rows.into_iter()
        .map(|row| {
            let event = EventId::parse(&row.event_id).map_err(|_| Fault::corrupt("event"))?;
            let visitor = VisitorId::parse(&row.visitor_id).map_err(|_| Fault::corrupt("visitor"))?;
            Ok(((event, visitor), Tally { taken: count(row.seats)?, version: row.version }))
        })
        .collect()
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
    buyers_of(rows)
}

/// Counts seats of zones. The guard is in the statement: seats that are not there cannot be taken.
pub(super) async fn change_zones(db: &mut PgConnection, changes: &Changes<(EventId, ZoneKey)>) -> Outcome<()> {
    let column = |of: fn(&(EventId, ZoneKey)) -> &str| changes.keys().map(of).collect::<Vec<_>>();
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
    .bind(changes.values().map(|change| change.seats).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.versions).collect::<Vec<_>>())
    .execute(db)
    .await?
    .rows_affected();
    all(found, changes.len())
}

/// Counts seats of buyers who were there when they were locked, and adds those who were not. `expected` is what the counts
/// come to unless somebody was added by another transaction in the meantime.
pub(super) async fn add_to_buyers(
    db: &mut PgConnection,
    changes: &Changes<(EventId, VisitorId)>,
    expected: &Buyers,
) -> Outcome<()> {
    let column = |of: fn(&(EventId, VisitorId)) -> &str| changes.keys().map(of).collect::<Vec<_>>();
    let rows = sqlx::query_as(
        "INSERT INTO buyers AS u (event_id, visitor_id, seats, version) \
         SELECT w.event_id, w.visitor_id, w.seats, w.versions \
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w (event_id, visitor_id, seats, versions) \
         ORDER BY w.event_id COLLATE \"C\", w.visitor_id COLLATE \"C\" \
         ON CONFLICT (event_id, visitor_id) DO UPDATE \
         SET seats = u.seats + excluded.seats, version = u.version + excluded.version \
         RETURNING u.event_id, u.visitor_id, u.seats, u.version",
    )
    .bind(column(|(event, _)| event.as_str()))
    .bind(column(|(_, visitor)| visitor.as_str()))
    .bind(changes.values().map(|change| change.seats).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.versions).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let after = buyers_of(rows)?;
    let as_expected = after.iter().all(|(key, tally)| expected.get(key) == Some(tally));
    if as_expected && after.len() == changes.len() { Ok(()) } else { Err(Fault::Collision) }
}

/// Takes the seats of these bookings off the counts, and says what the counts were after each.
pub(super) async fn give_back(db: &mut PgConnection, bookings: Vec<Booking>) -> Outcome<Vec<Returned>> {
    if bookings.is_empty() {
        return Ok(Vec::new());
    }
    let mut zones = lock_zones(db, bookings.iter(), false).await?;
    let mut buyers = lock_buyers(db, bookings.iter()).await?;
    let (mut of_zones, mut of_buyers) = (Changes::new(), Changes::new());
    let mut returned = Vec::with_capacity(bookings.len());
    for booking in bookings {
        tell(&mut of_zones, &mut of_buyers, &booking, -1);
        let zone = zones.get_mut(&(booking.event.clone(), booking.zone.clone()));
        let buyer = buyers.get_mut(&(booking.event.clone(), booking.visitor.clone()));
        let (Some(zone), Some(buyer)) = (zone, buyer) else {
            return Err(Fault::corrupt("booking: its zone or its buyer is gone"));
        };
        zone.tally = less(zone.tally, booking.quantity)?;
        *buyer = less(*buyer, booking.quantity)?;
        let buyer = BuyerTally { visitor: booking.visitor.clone(), tally: *buyer };
        returned.push(Returned { booking, zone: zone.clone(), buyer });
    }
    change_zones(db, &of_zones).await?;
    take_from_buyers(db, &of_buyers).await?;
    Ok(returned)
}

fn less(tally: Tally, seats: u32) -> Outcome<Tally> {
    let taken = tally.taken.checked_sub(seats).ok_or_else(|| Fault::corrupt("count of seats"))?;
    Ok(Tally { taken, version: tally.version + 1 })
}

async fn take_from_buyers(db: &mut PgConnection, changes: &Changes<(EventId, VisitorId)>) -> Outcome<()> {
    let column = |of: fn(&(EventId, VisitorId)) -> &str| changes.keys().map(of).collect::<Vec<_>>();
    let found = sqlx::query(
        "UPDATE buyers u SET seats = u.seats + w.seats, version = u.version + w.versions \
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w (event_id, visitor_id, seats, versions) \
         WHERE u.event_id = w.event_id AND u.visitor_id = w.visitor_id",
    )
    .bind(column(|(event, _)| event.as_str()))
    .bind(column(|(_, visitor)| visitor.as_str()))
    .bind(changes.values().map(|change| change.seats).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.versions).collect::<Vec<_>>())
    .execute(db)
    .await?
    .rows_affected();
    all(found, changes.len())
}

/// A statement that left a row out did not find what was locked before: the transaction must not be kept.
pub(super) fn all(found: u64, wanted: usize) -> Outcome<()> {
    if usize::try_from(found) == Ok(wanted) { Ok(()) } else { Err(Fault::Collision) }
}
