//! Events, shows and zones: each function runs within a transaction that its caller began.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::FromRow;

use super::records::audit;
use super::rows::{CatalogueRow, Number, count, events, zone_key};
use super::sql::{Fault, Outcome, Sql, args};
use super::{Actor, Extent, LedgerError};
use crate::domain::catalogue::Zone;
use crate::domain::{Event, EventId, EventSpec, PolicyPatch, QueuePolicy, Timestamp, ZoneKey};
use crate::engine::NumberBlock;

macro_rules! catalogue {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, e.name, e.policy, e.version, e.number_floor, e.removed, e.created_at, e.updated_at, s.id AS show_id, \
             s.name AS show_name, s.starts_at, z.id AS zone_id, z.name AS zone_name, z.capacity, z.price_minor \
             FROM events e LEFT JOIN shows s ON s.event_id = e.id \
             LEFT JOIN zones z ON z.event_id = s.event_id AND z.show_id = s.id ",
            $rest
        )
    };
}

pub(super) async fn since(db: &mut impl Sql, version: i64) -> Outcome<Vec<Event>> {
    let sql = catalogue!("WHERE e.version > $1 ORDER BY e.version, s.ordinal, z.ordinal");
    events(db.rows::<CatalogueRow>(sql, args![version]).await?)
}

/// The event, removed or not.
async fn find(db: &mut impl Sql, id: &EventId) -> Outcome<Option<Event>> {
    let sql = catalogue!("WHERE e.id = $1 ORDER BY s.ordinal, z.ordinal");
    Ok(events(db.rows::<CatalogueRow>(sql, args![id]).await?)?.pop())
}

async fn live(db: &mut impl Sql, id: &EventId) -> Outcome<Event> {
    Ok(find(db, id).await?.filter(|event| !event.removed).ok_or(LedgerError::EventNotFound)?)
}

pub(super) async fn extent(db: &mut impl Sql) -> Outcome<Extent> {
    let sql = "SELECT version, (SELECT count(*) FROM events) AS events FROM catalogue_version";
    db.row(sql, args![]).await?.ok_or_else(|| Fault::corrupt("catalogue version"))
}

async fn next_version(db: &mut impl Sql) -> Outcome<i64> {
    version_above(db, 0).await
}

/// The version of the change that is being made, and above this one. Always the first statement of its transaction: the row's
/// lock keeps changes of the catalogue in line.
async fn version_above(db: &mut impl Sql, known: i64) -> Outcome<i64> {
    let sql = "UPDATE catalogue_version SET version = CASE WHEN version < $1 THEN $1 ELSE version END + 1 \
               RETURNING version AS n";
    let row = db.row::<Number>(sql, args![known]).await?.ok_or_else(|| Fault::corrupt("catalogue version"))?;
    Ok(row.n)
}

/// The event's own version is compared, and now: an instance that reads it later than another one finds that one's change
/// here. A version that no event comes to have does no harm.
pub(super) async fn overtake(db: &mut impl Sql, id: &EventId, known: i64, floor: u64) -> Outcome<(Event, bool)> {
    let version = version_above(db, known).await?;
    let sql = "UPDATE events SET version = $3, \
               number_floor = CASE WHEN number_floor < $4 THEN $4 ELSE number_floor END \
               WHERE id = $1 AND version < $2";
    let overtaken = db.run(sql, args![id, known, version, mark(floor)?]).await? > 0;
    Ok((find(db, id).await?.ok_or(LedgerError::EventNotFound)?, overtaken))
}

/// A number as the database keeps it.
fn mark(number: u64) -> Outcome<i64> {
    i64::try_from(number).map_err(|_| LedgerError::Invalid("that many numbers there are not".to_owned()).into())
}

fn policy_text(policy: &QueuePolicy) -> Outcome<String> {
    serde_json::to_string(policy).map_err(|e| LedgerError::Invalid(format!("queue: {e}")).into())
}

pub(super) async fn put(
    db: &mut impl Sql,
    id: &EventId,
    spec: &EventSpec,
    actor: &Actor,
    now: Timestamp,
) -> Outcome<(Event, bool)> {
    spec.check().map_err(LedgerError::Invalid)?;
    let version = next_version(db).await?;
    let created = find(db, id).await?.is_none_or(|event| event.removed);
    db.run(
        "INSERT INTO events (id, name, policy, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, policy = excluded.policy, version = excluded.version, \
         created_at = CASE WHEN events.removed THEN excluded.created_at ELSE events.created_at END, \
         removed = FALSE, updated_at = excluded.updated_at",
        args![id, &spec.name, &policy_text(&spec.queue)?, version, now],
    )
    .await?;
    put_zones(db, id, spec).await?;
    let action = if created { "event.create" } else { "event.replace" };
    audit(db, actor, action, Some(id), &json!(spec), now).await?;
    Ok((live(db, id).await?, created))
}

/// A zone as it stands before a put.
#[derive(FromRow)]
struct StandingRow {
    show_id: String,
    id: String,
    name: String,
    capacity: i64,
    price_minor: i64,
    taken: i64,
    version: i64,
    ordinal: i64,
}

impl StandingRow {
    fn is(&self, ordinal: i64, zone: &Zone) -> bool {
        (self.ordinal, self.capacity, self.price_minor) == (ordinal, zone.capacity.into(), zone.price.minor())
            && self.name == zone.name
    }
}

/// Brings shows and zones in line with the spec. Zones that stay keep what is taken; every one of them gets a new version.
async fn put_zones<S: Sql>(db: &mut S, id: &EventId, spec: &EventSpec) -> Outcome<()> {
    let mut wanted: BTreeMap<ZoneKey, (i64, &Zone)> = BTreeMap::new();
    for show in &spec.shows {
        for (ordinal, zone) in (0..).zip(&show.zones) {
            wanted.insert(ZoneKey { show: show.id.clone(), zone: zone.id.clone() }, (ordinal, zone));
        }
    }
    let mut gone = Vec::new();
    let mut mark = 0;
    for row in db.rows::<StandingRow>(S::LOCK_ZONES, args![id]).await? {
        let (zone, taken) = (zone_key(&row.show_id, &row.id)?, count(row.taken)?);
        match wanted.get(&zone) {
            Some((_, spec)) if taken > spec.capacity => return Err(LedgerError::CapacityInUse { zone, taken }.into()),
            None if taken > 0 => return Err(LedgerError::CapacityInUse { zone, taken }.into()),
            Some((ordinal, spec)) if row.is(*ordinal, spec) => drop(wanted.remove(&zone)),
            Some(_) => {}
            None => {
                mark = mark.max(row.version);
                gone.push(zone);
            }
        }
    }
    for zone in &gone {
        let sql = "DELETE FROM zones WHERE event_id = $1 AND show_id = $2 AND id = $3 AND taken = 0";
        db.run(sql, args![id, &zone.show, &zone.zone]).await?;
    }
    // A zone that comes back one day must not count its versions from the start: its readers keep the highest they saw.
    db.run("UPDATE events SET tally_mark = $2 WHERE id = $1 AND tally_mark < $2", args![id, mark]).await?;
    db.run("UPDATE zones SET version = version + 1 WHERE event_id = $1", args![id]).await?;
    put_shows(db, id, spec).await?;
    for (key, (ordinal, zone)) in wanted {
        db.run(
            "INSERT INTO zones (event_id, show_id, id, name, capacity, price_minor, ordinal, version) \
             SELECT $1, $2, $3, $4, $5, $6, $7, tally_mark + 1 FROM events WHERE id = $1 \
             ON CONFLICT (event_id, show_id, id) DO UPDATE SET name = excluded.name, \
             capacity = excluded.capacity, price_minor = excluded.price_minor, ordinal = excluded.ordinal",
            args![id, &key.show, &key.zone, &zone.name, zone.capacity, zone.price.minor(), ordinal],
        )
        .await?;
    }
    Ok(())
}

/// Shows in the order of the spec; those that are gone have no zones left.
async fn put_shows(db: &mut impl Sql, id: &EventId, spec: &EventSpec) -> Outcome<()> {
    db.run("UPDATE shows SET ordinal = -1 WHERE event_id = $1", args![id]).await?;
    for (ordinal, show) in (0_i64..).zip(&spec.shows) {
        db.run(
            "INSERT INTO shows (event_id, id, name, starts_at, ordinal) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (event_id, id) DO UPDATE SET name = excluded.name, starts_at = excluded.starts_at, \
             ordinal = excluded.ordinal",
            args![id, &show.id, &show.name, show.starts_at.map(Timestamp::micros), ordinal],
        )
        .await?;
    }
    db.run("DELETE FROM shows WHERE event_id = $1 AND ordinal = -1", args![id]).await?;
    Ok(())
}

pub(super) async fn patch(
    db: &mut impl Sql,
    id: &EventId,
    patch: &PolicyPatch,
    actor: &Actor,
    now: Timestamp,
) -> Outcome<Event> {
    let version = next_version(db).await?;
    let mut event = live(db, id).await?;
    event.spec.queue = patch.apply(&event.spec.queue).map_err(LedgerError::Invalid)?;
    (event.version, event.updated_at) = (version, now);
    let sql = "UPDATE events SET policy = $2, version = $3, updated_at = $4 WHERE id = $1";
    db.run(sql, args![id, &policy_text(&event.spec.queue)?, version, now]).await?;
    audit(db, actor, "queue.patch", Some(id), &json!(patch), now).await?;
    Ok(event)
}

pub(super) async fn remove(db: &mut impl Sql, id: &EventId, actor: &Actor, now: Timestamp) -> Outcome<Event> {
    let version = next_version(db).await?;
    live(db, id).await?;
    // Whoever waited must not come back with a ticket when the event is put again.
    let sql =
        "UPDATE events SET removed = TRUE, number_floor = number_next, version = $2, updated_at = $3 WHERE id = $1";
    db.run(sql, args![id, version, now]).await?;
    audit(db, actor, "event.remove", Some(id), &json!({}), now).await?;
    find(db, id).await?.ok_or_else(|| LedgerError::EventNotFound.into())
}

pub(super) async fn reset(db: &mut impl Sql, id: &EventId, actor: &Actor, now: Timestamp) -> Outcome<Event> {
    let version = next_version(db).await?;
    live(db, id).await?;
    let sql = "UPDATE events SET number_floor = number_next, version = $2, updated_at = $3 WHERE id = $1";
    db.run(sql, args![id, version, now]).await?;
    let event = live(db, id).await?;
    audit(db, actor, "queue.reset", Some(id), &json!({ "number_floor": event.number_floor }), now).await?;
    Ok(event)
}

pub(super) async fn raise_numbers(db: &mut impl Sql, id: &EventId, past: u64) -> Outcome<()> {
    let sql = "UPDATE events SET number_next = $2 WHERE id = $1 AND number_next < $2";
    db.run(sql, args![id, mark(past)?]).await.map(drop)
}

/// One statement, so that no two callers ever see the same mark.
pub(super) async fn take_numbers(db: &mut impl Sql, id: &EventId, count: u64) -> Outcome<NumberBlock> {
    let sql =
        "UPDATE events SET number_next = number_next + $2 WHERE id = $1 AND NOT removed RETURNING number_next AS n";
    let next = db.row::<Number>(sql, args![id, mark(count)?]).await?.ok_or(LedgerError::EventNotFound)?.n;
    let end = u64::try_from(next).map_err(|_| Fault::corrupt("number"))?;
    Ok(NumberBlock { start: end.saturating_sub(count), end })
}
