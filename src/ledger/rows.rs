//! Rows as both databases give them, and what they say in the words of the domain.

use std::fmt::Display;

use sqlx::FromRow;

use super::sql::{Fault, Outcome};
use super::{AuditEntry, StoredAnswer};
use crate::domain::catalogue::{Show, Zone};
use crate::domain::{
    Booking, BookingId, BookingStatus, Event, EventId, EventSpec, Money, ShowId, Timestamp, VisitorId, ZoneId, ZoneKey,
};
use crate::engine::{BuyerTally, Tally, ZoneTally};

fn ok<T, E: Display>(what: &str, value: Result<T, E>) -> Outcome<T> {
    value.map_err(|_| Fault::corrupt(what))
}

/// A count that is never negative and fits in 32 bits.
pub(super) fn count(value: i64) -> Outcome<u32> {
    ok("count", u32::try_from(value))
}

pub(super) fn zone_key(show: &str, zone: &str) -> Outcome<ZoneKey> {
    Ok(ZoneKey { show: ok("show", ShowId::parse(show))?, zone: ok("zone", ZoneId::parse(zone))? })
}

/// The columns of a [`BookingRow`].
macro_rules! booking_columns {
    () => {
        "id, event_id, show_id, zone_id, visitor_id, quantity, unit_price_minor, status, created_at, expires_at, \
         confirmed_at, confirmation_code, payment_id"
    };
}
pub(super) use booking_columns;

#[derive(FromRow)]
pub(super) struct BookingRow {
    id: String,
    event_id: String,
    show_id: String,
    zone_id: String,
    visitor_id: String,
    quantity: i64,
    unit_price_minor: i64,
    status: String,
    created_at: i64,
    expires_at: i64,
    confirmed_at: Option<i64>,
    confirmation_code: Option<String>,
    payment_id: Option<String>,
}

impl BookingRow {
    pub(super) fn read(self) -> Outcome<Booking> {
        Ok(Booking {
            id: ok("booking", BookingId::parse(&self.id))?,
            event: ok("event", EventId::parse(&self.event_id))?,
            zone: zone_key(&self.show_id, &self.zone_id)?,
            visitor: ok("visitor", VisitorId::parse(&self.visitor_id))?,
            quantity: count(self.quantity)?,
            unit_price: ok("price", Money::from_minor(self.unit_price_minor))?,
            status: BookingStatus::parse(&self.status).ok_or_else(|| Fault::corrupt("status"))?,
            created_at: Timestamp::from_micros(self.created_at),
            expires_at: Timestamp::from_micros(self.expires_at),
            confirmed_at: self.confirmed_at.map(Timestamp::from_micros),
            confirmation_code: self.confirmation_code,
            payment_id: self.payment_id,
        })
    }
}

#[derive(FromRow)]
pub(super) struct ZoneRow {
    pub(super) show_id: String,
    pub(super) id: String,
    pub(super) capacity: i64,
    pub(super) taken: i64,
    pub(super) version: i64,
}

impl ZoneRow {
    pub(super) fn read(self) -> Outcome<ZoneTally> {
        Ok(ZoneTally {
            zone: zone_key(&self.show_id, &self.id)?,
            capacity: count(self.capacity)?,
            tally: Tally { taken: count(self.taken)?, version: self.version },
        })
    }
}

#[derive(FromRow)]
pub(super) struct BuyerRow {
    pub(super) visitor_id: String,
    pub(super) seats: i64,
    pub(super) version: i64,
}

impl BuyerRow {
    pub(super) fn read(self) -> Outcome<BuyerTally> {
        Ok(BuyerTally {
            visitor: ok("visitor", VisitorId::parse(&self.visitor_id))?,
            tally: Tally { taken: count(self.seats)?, version: self.version },
        })
    }
}

/// A zone of any event.
#[derive(FromRow)]
pub(super) struct EventZoneRow {
    event_id: String,
    show_id: String,
    id: String,
    capacity: i64,
    taken: i64,
    version: i64,
}

impl EventZoneRow {
    pub(super) fn read(self) -> Outcome<((EventId, ZoneKey), ZoneTally)> {
        let Self { event_id, show_id, id, capacity, taken, version } = self;
        let zone = ZoneRow { show_id, id, capacity, taken, version }.read()?;
        Ok(((ok("event", EventId::parse(&event_id))?, zone.zone.clone()), zone))
    }
}

/// A buyer of any event.
#[derive(FromRow)]
pub(super) struct EventBuyerRow {
    event_id: String,
    visitor_id: String,
    seats: i64,
    version: i64,
}

impl EventBuyerRow {
    pub(super) fn read(self) -> Outcome<((EventId, VisitorId), Tally)> {
        let Self { event_id, visitor_id, seats, version } = self;
        let buyer = BuyerRow { visitor_id, seats, version }.read()?;
        Ok(((ok("event", EventId::parse(&event_id))?, buyer.visitor), buyer.tally))
    }
}

/// The answer kept under the key of a booking in a batch, and the booking's place there from 0.
#[derive(FromRow)]
pub(super) struct KeptRow {
    pub(super) place: i64,
    pub(super) body_hash: Vec<u8>,
    pub(super) status: i64,
    pub(super) body: String,
}

impl KeptRow {
    pub(super) fn read(self) -> Outcome<(usize, StoredAnswer)> {
        let Self { place, body_hash, status, body } = self;
        Ok((ok("place", usize::try_from(place))?, AnswerRow { body_hash, status, body }.read()?))
    }
}

#[derive(FromRow)]
pub(super) struct AnswerRow {
    body_hash: Vec<u8>,
    status: i64,
    body: String,
}

impl AnswerRow {
    pub(super) fn read(self) -> Outcome<StoredAnswer> {
        Ok(StoredAnswer {
            body_hash: self.body_hash.try_into().map_err(|_| Fault::corrupt("hash"))?,
            status: ok("status", u16::try_from(self.status))?,
            body: self.body,
        })
    }
}

#[derive(FromRow)]
pub(super) struct AuditRow {
    id: i64,
    at: i64,
    actor: String,
    action: String,
    event_id: Option<String>,
    detail: String,
}

impl AuditRow {
    pub(super) fn read(self) -> Outcome<AuditEntry> {
        Ok(AuditEntry {
            id: self.id,
            at: Timestamp::from_micros(self.at),
            actor: self.actor,
            action: self.action,
            event_id: self.event_id.map(|id| ok("event", EventId::parse(&id))).transpose()?,
            detail: ok("detail", serde_json::from_str(&self.detail))?,
        })
    }
}

/// One number: a count, or a version.
#[derive(FromRow)]
pub(super) struct Number {
    pub(super) n: i64,
}

/// One id.
#[derive(FromRow)]
pub(super) struct Id {
    pub(super) id: String,
}

/// An event with one of its zones: the catalogue is read by one statement, so that it is of one moment.
#[derive(FromRow)]
pub(super) struct CatalogueRow {
    id: String,
    name: String,
    policy: String,
    version: i64,
    number_floor: i64,
    removed: bool,
    created_at: i64,
    updated_at: i64,
    show_id: Option<String>,
    show_name: Option<String>,
    starts_at: Option<i64>,
    zone_id: Option<String>,
    zone_name: Option<String>,
    capacity: Option<i64>,
    price_minor: Option<i64>,
}

/// Puts events together again. The rows of an event are neighbours, and so are those of a show.
pub(super) fn events(rows: Vec<CatalogueRow>) -> Outcome<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    for row in rows {
        if events.last().is_none_or(|event| event.id.as_str() != row.id) {
            events.push(Event {
                id: ok("event", EventId::parse(&row.id))?,
                spec: EventSpec {
                    name: row.name,
                    shows: Vec::new(),
                    queue: ok("policy", serde_json::from_str(&row.policy))?,
                },
                version: row.version,
                number_floor: ok("number", u64::try_from(row.number_floor))?,
                removed: row.removed,
                created_at: Timestamp::from_micros(row.created_at),
                updated_at: Timestamp::from_micros(row.updated_at),
            });
        }
        let (Some(event), Some(show_id), Some(name)) = (events.last_mut(), row.show_id, row.show_name) else {
            continue;
        };
        let shows = &mut event.spec.shows;
        if shows.last().is_none_or(|show| show.id.as_str() != show_id) {
            let starts_at = row.starts_at.map(Timestamp::from_micros);
            shows.push(Show { id: ok("show", ShowId::parse(&show_id))?, name, starts_at, zones: Vec::new() });
        }
        if let (Some(show), Some(zone_id), Some(name), Some(capacity), Some(price)) =
            (shows.last_mut(), row.zone_id, row.zone_name, row.capacity, row.price_minor)
        {
            show.zones.push(Zone {
                id: ok("zone", ZoneId::parse(&zone_id))?,
                name,
                capacity: count(capacity)?,
                price: ok("price", Money::from_minor(price))?,
            });
        }
    }
    Ok(events)
}
