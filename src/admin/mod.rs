//! What operators do: put events, change policies while the line moves, look at the numbers, rebuild the inventory.
//! A change is in the ledger and in force in the engine, which every instance asks, before it is answered.

use std::sync::Arc;

use serde::Serialize;

use crate::catalogue::{Catalogue, LiveEvent, ledger_problem};
use crate::domain::{Clock, Code, Event, EventId, EventSpec, PolicyPatch, Problem, QueueState, Timestamp, ZoneKey};
use crate::engine::{Counters, Engine, ZoneStock};
use crate::ledger::{Actor, AuditEntry, Ledger, Page, PageRequest};

/// The operators' service.
pub struct Admin {
    engine: Arc<dyn Engine>,
    ledger: Arc<dyn Ledger>,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
}

/// The live numbers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LiveNumbers {
    /// The state in force.
    pub state: QueueState,
    /// Visitors in line.
    pub waiting: u64,
    /// Passes out.
    pub active: u64,
    /// Visitors ever admitted.
    pub admitted_total: u64,
    /// Visitors who left the line.
    pub left_total: u64,
    /// Visitors who were away when their turn came, and are out of line until they are back.
    pub parked: u64,
    /// The admission rate that was observed.
    pub observed_admit_per_minute: u64,
}

/// A zone as the fast inventory and the ledger see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ZoneNumbers {
    /// The event.
    pub event_id: EventId,
    /// The show.
    pub show_id: String,
    /// The zone.
    pub zone_id: String,
    /// Seats there are.
    pub capacity: u32,
    /// Seats reserved or confirmed, says the ledger.
    pub taken: u32,
    /// Seats on their way to the ledger.
    pub held: u32,
    /// Seats that can be claimed, says the fast inventory.
    pub available: u32,
    /// Whether the fast inventory agrees with the ledger.
    pub in_sync: bool,
}

/// A zone that a rebuild changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ZoneChange {
    /// The event.
    pub event_id: EventId,
    /// The show.
    pub show_id: String,
    /// The zone.
    pub zone_id: String,
    /// Seats available before; null when the zone was not known.
    pub before: Option<u32>,
    /// Seats available now.
    pub after: u32,
}

impl Admin {
    /// The service.
    pub fn new(
        engine: Arc<dyn Engine>,
        ledger: Arc<dyn Ledger>,
        catalogue: Arc<Catalogue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { engine, ledger, catalogue, clock }
    }

    /// Creates (`true`) or replaces an event.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `CAPACITY_IN_USE`, `STORE_UNAVAILABLE`.
    pub async fn put(&self, id: &EventId, spec: &EventSpec, actor: &Actor) -> Result<(Event, bool), Problem> {
        spec.check().map_err(Problem::invalid)?;
        self.refuse_below_held(id, spec).await?;
        let now = self.clock.now();
        let known = self.catalogue.version();
        let put = self.ledger.put_event(id, spec, actor, now).await.map_err(ledger_problem)?;
        self.put_in_force(&put.0, known, now).await?;
        Ok(put)
    }

    /// The ledger guards what it holds; this guards what is on its way there.
    async fn refuse_below_held(&self, id: &EventId, spec: &EventSpec) -> Result<(), Problem> {
        let Ok(live) = self.catalogue.find(id) else { return Ok(()) };
        let wanted = Event { spec: spec.clone(), ..live.event.clone() };
        for stock in self.stock(id).await? {
            let needed = stock.tally.taken + stock.held;
            if stock.held > 0 && wanted.zone(&stock.zone).map_or(0, |zone| zone.capacity) < needed {
                let detail =
                    format!("Zone {} has {needed} seats sold or held; keep the capacity or try again.", stock.zone);
                return Err(Problem::new(Code::CapacityInUse, detail));
            }
        }
        Ok(())
    }

    /// Changes some fields of an event's policy.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn patch(&self, id: &EventId, patch: &PolicyPatch, actor: &Actor) -> Result<Event, Problem> {
        let now = self.clock.now();
        let known = self.catalogue.version();
        let event = self.ledger.patch_policy(id, patch, actor, now).await.map_err(ledger_problem)?;
        self.put_in_force(&event, known, now).await?;
        Ok(event)
    }

    /// Takes an event away from under its line: those who wait are told `EVENT_NOT_FOUND`, passes and tickets are worth
    /// nothing, bookings stay and can be confirmed and cancelled.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn remove(&self, id: &EventId, actor: &Actor) -> Result<(), Problem> {
        let now = self.clock.now();
        self.catalogue.count_numbers(id, now).await?;
        let known = self.catalogue.version();
        let event = self.ledger.remove_event(id, actor, now).await.map_err(ledger_problem)?;
        self.put_in_force(&event, known, now).await
    }

    /// What was written to the ledger is put in force before it is answered. If that fails, every instance goes on trying.
    /// `known`: what had been read of the ledger before the change.
    async fn put_in_force(&self, changed: &Event, known: i64, now: Timestamp) -> Result<(), Problem> {
        self.catalogue.refresh_to(changed.version, known, now).await.map_err(|problem| Problem {
            detail: "The change is written; it comes into force as soon as the queue's store answers.".to_owned(),
            ..problem
        })
    }

    /// Empties the line and makes every pass void. Bookings stay.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn reset(&self, id: &EventId, actor: &Actor) -> Result<Event, Problem> {
        let now = self.clock.now();
        self.catalogue.count_numbers(id, now).await?;
        let known = self.catalogue.version();
        let event = self.ledger.reset_event(id, actor, now).await.map_err(ledger_problem)?;
        self.put_in_force(&event, known, now).await?;
        Ok(event)
    }

    /// Every event with its live numbers.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn events(&self) -> Result<Vec<(Event, LiveNumbers)>, Problem> {
        let mut events = Vec::new();
        for live in self.catalogue.all() {
            events.push((live.event.clone(), self.numbers(&live).await?));
        }
        Ok(events)
    }

    /// One event with its live numbers.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn event(&self, id: &EventId) -> Result<(Event, LiveNumbers), Problem> {
        let live = self.catalogue.find(id)?;
        Ok((live.event.clone(), self.numbers(&live).await?))
    }

    async fn numbers(&self, live: &LiveEvent) -> Result<LiveNumbers, Problem> {
        let (id, now) = (&live.event.id, self.clock.now());
        let counters = self.catalogue.mended(id, now, || self.engine.counters(id, now)).await?;
        Ok(live_numbers(counters, live))
    }

    /// Seats of every zone of every event, by the fast inventory and by the ledger.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn inventory(&self) -> Result<Vec<ZoneNumbers>, Problem> {
        let mut all = Vec::new();
        for live in self.catalogue.all() {
            let id = &live.event.id;
            let fast = self.stock(id).await?;
            for said in self.ledger.zones(id).await.map_err(ledger_problem)? {
                let known = fast.iter().find(|stock| stock.zone == said.zone);
                all.push(ZoneNumbers {
                    event_id: id.clone(),
                    show_id: said.zone.show.to_string(),
                    zone_id: said.zone.zone.to_string(),
                    capacity: said.capacity,
                    taken: said.tally.taken,
                    held: known.map_or(0, |stock| stock.held),
                    available: known.map_or(0, ZoneStock::available),
                    in_sync: known.is_some_and(|stock| stock.tally == said.tally && stock.capacity == said.capacity),
                });
            }
        }
        Ok(all)
    }

    /// Seats that can be claimed, by zone: for visitors, from the fast inventory alone.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn availability(&self, id: &EventId) -> Result<(Arc<LiveEvent>, Vec<ZoneStock>), Problem> {
        let live = self.catalogue.find(id)?;
        let stock = self.stock(id).await?;
        Ok((live, stock))
    }

    async fn stock(&self, id: &EventId) -> Result<Vec<ZoneStock>, Problem> {
        self.catalogue.mended(id, self.clock.now(), || self.engine.stock(id)).await
    }

    /// Rebuilds the fast inventory of every event from the ledger, and says what that changed.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn sync_inventory(&self, actor: &Actor) -> Result<(usize, Vec<ZoneChange>), Problem> {
        let now = self.clock.now();
        let (mut zones, mut changes) = (0, Vec::new());
        for live in self.catalogue.all() {
            let id = &live.event.id;
            zones += live.event.zones().count();
            changes.extend(self.catalogue.put_in_force(&live.event, now).await?.into_iter().map(|change| {
                let ZoneKey { show, zone } = change.zone;
                ZoneChange {
                    event_id: id.clone(),
                    show_id: show.to_string(),
                    zone_id: zone.to_string(),
                    before: change.before,
                    after: change.after,
                }
            }));
        }
        let detail = serde_json::json!({ "zones": zones, "changes": changes });
        self.ledger.audit(actor, "inventory.sync", None, &detail, now).await.map_err(ledger_problem)?;
        Ok((zones, changes))
    }

    /// The audit log, newest first.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn audit_log(&self, page: PageRequest) -> Result<Page<AuditEntry>, Problem> {
        self.ledger.audit_log(page).await.map_err(ledger_problem)
    }

    /// When the service's clock says it is: for answers that carry a time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

fn live_numbers(counters: Counters, live: &LiveEvent) -> LiveNumbers {
    LiveNumbers {
        state: counters.state,
        waiting: counters.waiting,
        active: counters.active,
        admitted_total: counters.admitted,
        left_total: counters.left,
        parked: counters.parked,
        observed_admit_per_minute: live.line.latest().map_or(0, |(_, outflow)| outflow.admitted_per_minute()),
    }
}
