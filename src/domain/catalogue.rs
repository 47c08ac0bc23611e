//! Events, shows and zones: what there is to sell, and the rules of its queue.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::id::{EventId, ShowId, ZoneId, ZoneKey};
use super::money::Money;
use super::policy::QueuePolicy;
use super::time::Timestamp;

/// Most shows of one event.
pub const MAX_SHOWS: usize = 1_000;
/// Most zones of one event, over all its shows.
pub const MAX_ZONES: usize = 5_000;
/// Most seats of one zone.
pub const MAX_CAPACITY: u32 = 10_000_000;
/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 200;

/// One price zone of a show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Unique within the show.
    pub id: ZoneId,
    /// What visitors read.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$")]
    pub name: String,
    /// Seats there are, 0 to [`MAX_CAPACITY`].
    #[schema(maximum = 10_000_000)]
    pub capacity: u32,
    /// The price of a seat.
    pub price: Money,
}

/// One performance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Unique within the event.
    pub id: ShowId,
    /// What visitors read.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$")]
    pub name: String,
    /// When it starts, if that is known.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Its zones.
    #[serde(default)]
    #[schema(max_items = 5000)]
    pub zones: Vec<Zone>,
}

/// What an operator puts: an event without its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    /// What visitors read.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$")]
    pub name: String,
    /// Its shows.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub shows: Vec<Show>,
    /// The rules of its queue.
    #[serde(default)]
    pub queue: QueuePolicy,
}

impl EventSpec {
    /// Checks names, counts, ranges and that ids are unique.
    ///
    /// # Errors
    /// A sentence that names what is wrong and where.
    pub fn check(&self) -> Result<(), String> {
        self.queue.check()?;
        check_name("name", &self.name)?;
        if self.shows.len() > MAX_SHOWS {
            return Err(format!("an event has at most {MAX_SHOWS} shows"));
        }
        if self.shows.iter().map(|s| s.zones.len()).sum::<usize>() > MAX_ZONES {
            return Err(format!("an event has at most {MAX_ZONES} zones"));
        }
        let mut seen = HashSet::new();
        for show in &self.shows {
            check_name(&format!("name of show {}", show.id), &show.name)?;
            if !seen.insert((&show.id, None)) {
                return Err(format!("show {} is there twice", show.id));
            }
            for zone in &show.zones {
                check_name(&format!("name of zone {}", zone.id), &zone.name)?;
                if zone.capacity > MAX_CAPACITY {
                    return Err(format!("capacity of zone {} must be at most {MAX_CAPACITY}", zone.id));
                }
                if !seen.insert((&show.id, Some(&zone.id))) {
                    return Err(format!("zone {} is there twice in show {}", zone.id, show.id));
                }
            }
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("{what} must be 1 to {MAX_NAME_CHARS} characters, none of them a control character"))
}

/// An event as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// What the operator last put.
    pub spec: EventSpec,
    /// Grows with every change of any event: the order in which changes were made.
    pub version: i64,
    /// Places with a smaller number are void: the queue was reset after they were handed out.
    pub number_floor: u64,
    /// Set when the event was removed: it takes no more requests, its bookings stay.
    pub removed: bool,
    /// When it was put for the first time, or again after it was removed.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Event {
    /// The zone, if the event has it.
    pub fn zone(&self, key: &ZoneKey) -> Option<&Zone> {
        let show = self.spec.shows.iter().find(|s| s.id == key.show)?;
        show.zones.iter().find(|z| z.id == key.zone)
    }

    /// Every zone with its key.
    pub fn zones(&self) -> impl Iterator<Item = (ZoneKey, &Zone)> {
        self.spec.shows.iter().flat_map(|show| {
            show.zones.iter().map(|zone| (ZoneKey { show: show.id.clone(), zone: zone.id.clone() }, zone))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    fn spec(json: &str) -> Result<(), String> {
        serde_json::from_str::<EventSpec>(json).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn a_spec_is_checked_whole() {
        assert_eq!(spec(r#"{"name":"Tour"}"#), Ok(()));
        let zone = r#"{"id":"z1","name":"Floor","capacity":5,"price":1.5}"#;
        let with = |zones: &str| format!(r#"{{"name":"Tour","shows":[{{"id":"s1","name":"Fri","zones":[{zones}]}}]}}"#);
        assert_eq!(spec(&with(zone)), Ok(()));
        for (bad, says) in [
            (with(&format!("{zone},{zone}")), "twice"),
            (with(&zone.replace("1.5", "-1")), "amount"),
            (with(&zone.replace(":5", ":-5")), "u32"),
            (with(&zone.replace("z1", "z 1")), "A-Za-z0-9"),
            (r#"{"name":""}"#.into(), "name"),
            (r#"{"name":"Tour","queue":{"admit_per_minute":60000001}}"#.into(), "admit_per_minute"),
            (r#"{"name":"Tour","colour":"red"}"#.into(), "colour"),
        ] {
            let error = spec(&bad).expect_err(&bad);
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #![proptest_config(hostile::config("catalogue"))]

        /// A spec of any shape is refused, or is one that is whole when it is written and read again.
        #[test]
        fn a_spec_is_refused_or_reads_as_it_is_written(json in hostile::spoiled(serde_json::json!({
            "name": "Tour", "queue": { "admit_per_minute": 60, "state": "lobby", "opens_at": "2026-05-01T18:00:00Z" },
            "shows": [
                { "id": "s1", "name": "Friday", "starts_at": "2026-05-01T18:00:00+02:00",
                  "zones": [{ "id": "z1", "name": "Floor", "capacity": 5, "price": 19.99 }, { "id": "z2", "name": "Seats", "capacity": 0, "price": 0 }] },
                { "id": "s2", "name": "Saturday" },
            ],
        }))) {
            let Ok(spec) = serde_json::from_value::<EventSpec>(json) else { return Ok(()) };
            if spec.check().is_ok() {
                let written = serde_json::to_string(&spec).expect("JSON");
                let read: EventSpec = serde_json::from_str(&written).expect("what is written is read");
                prop_assert_eq!(read.check(), Ok(()));
                prop_assert_eq!(read, spec);
            }
        }
    }
}
