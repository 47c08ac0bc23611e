//! `usher seed`: the catalogue of the load tests. 3 events of 3 shows of 5 zones of 20,000 seats: 900,000 in all.

use std::path::Path;

use serde_json::{Value, json};

use super::{Done, output};
use crate::config::Settings;
use crate::domain::catalogue::{Show, Zone};
use crate::domain::time::SystemClock;
use crate::domain::{Clock, EventId, EventSpec, Money, QueuePolicy, ShowId, Timestamp, ZoneId};
use crate::ledger::{Actor, Ledger, LedgerError};

const EVENTS: u32 = 3;
const SHOWS_PER_EVENT: u32 = 3;
const ZONES_PER_SHOW: u32 = 5;
const SEATS_PER_ZONE: u32 = 20_000;
/// Enough that the queue is not what a load test waits for: 1,000 visitors a second.
const ADMIT_PER_MINUTE: u32 = 60_000;

/// The events of the load tests. Shows are numbered through, 1 to 9; zones count from 1 within their show.
///
/// # Panics
/// Never: every id and amount is legal.
pub fn load_test_catalogue() -> Vec<(EventId, EventSpec)> {
    (1..=EVENTS)
        .map(|event| {
            let id = EventId::parse(&format!("a0000000-0000-{event:04}-0000-000000000000")).expect("an id");
            let first = (event - 1) * SHOWS_PER_EVENT + 1;
            let shows = (first..first + SHOWS_PER_EVENT).map(|number| show(event, number)).collect();
            let queue = QueuePolicy { admit_per_minute: ADMIT_PER_MINUTE, ..QueuePolicy::default() };
            (id, EventSpec { name: format!("Load test event {event}"), shows, queue })
        })
        .collect()
}

fn show(event: u32, show: u32) -> Show {
    let zones = (1..=ZONES_PER_SHOW).map(|zone| Zone {
        id: ZoneId::parse(&format!("b0000000-0000-{show:04}-{zone:04}-000000000000")).expect("an id"),
        name: format!("Zone {zone}"),
        capacity: SEATS_PER_ZONE,
        // 100.00 for the best zone, 20.00 less for each behind it.
        price: Money::from_minor(12_000 - 2_000 * i64::from(zone)).expect("an amount"),
    });
    Show {
        id: ShowId::parse(&format!("c0000000-0000-{event:04}-{show:04}-000000000000")).expect("an id"),
        name: format!("Show {show}"),
        starts_at: None,
        zones: zones.collect(),
    }
}

/// The ids, as the load scripts read them.
pub fn ids(catalogue: &[(EventId, EventSpec)]) -> Value {
    let zone = |zone: &Zone| json!({ "id": zone.id, "capacity": zone.capacity, "price": zone.price });
    let show = |show: &Show| json!({ "id": show.id, "zones": show.zones.iter().map(zone).collect::<Vec<_>>() });
    let event = |(id, spec): &(EventId, EventSpec)| json!({ "id": id, "name": spec.name, "shows": spec.shows.iter().map(show).collect::<Vec<_>>() });
    json!({ "events": catalogue.iter().map(event).collect::<Vec<_>>() })
}

/// Puts the catalogue into the ledger and gives the ids. Seeding again puts policies and prices back and keeps what was
/// sold.
///
/// # Errors
/// What the ledger says; events before the one that failed are in.
pub async fn seed(ledger: &dyn Ledger, now: Timestamp) -> Result<Value, LedgerError> {
    let catalogue = load_test_catalogue();
    let actor = Actor("usher seed".to_owned());
    for (id, spec) in &catalogue {
        ledger.put_event(id, spec, &actor, now).await?;
    }
    Ok(ids(&catalogue))
}

/// Runs the command.
///
/// # Errors
/// When the ledger cannot be opened or written, or the ids cannot be.
pub async fn run(settings: &Settings, out: Option<&Path>) -> Done {
    let crate::app::OpenedLedger { ledger, lock: _lock, .. } = crate::app::open_ledger(settings).await?;
    let ids = seed(ledger.as_ref(), SystemClock.now()).await?;
    Ok(output::write_json(&ids, out)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_catalogue_is_as_large_as_the_load_tests_expect() {
        let catalogue = load_test_catalogue();
        let shows: Vec<&Show> = catalogue.iter().flat_map(|(_, spec)| &spec.shows).collect();
        let zones: Vec<&Zone> = shows.iter().flat_map(|show| &show.zones).collect();
        assert_eq!((catalogue.len(), shows.len(), zones.len()), (3, 9, 45));
        assert_eq!(zones.iter().map(|zone| zone.capacity).sum::<u32>(), 900_000);
        assert!(zones.iter().all(|zone| zone.capacity == 20_000));
        let ids: HashSet<&str> = catalogue
            .iter()
            .map(|(id, _)| id.as_str())
            .chain(shows.iter().map(|show| show.id.as_str()))
            .chain(zones.iter().map(|zone| zone.id.as_str()))
            .collect();
        assert_eq!(ids.len(), 3 + 9 + 45);
        assert_eq!(zones[44].id.as_str(), "b0000000-0000-0009-0005-000000000000");
        for (id, spec) in &catalogue {
            assert_eq!(spec.check(), Ok(()), "{id}");
        }
    }

    #[test]
    fn the_ids_are_written_as_events_shows_and_zones() {
        let ids = ids(&load_test_catalogue());
        let zone = &ids["events"][2]["shows"][2]["zones"][0];
        assert_eq!(zone, &json!({"id": "b0000000-0000-0009-0001-000000000000", "capacity": 20_000, "price": 100.0}));
        assert_eq!(ids["events"][0]["id"], "a0000000-0000-0001-0000-000000000000");
    }
}
