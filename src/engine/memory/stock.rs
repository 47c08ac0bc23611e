//! The fast inventory: zones, the holds on their seats, and what each buyer has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::{BookingId, Timestamp, VisitorId, ZoneKey};
use crate::engine::{BuyerTally, HOLD_TTL, MAX_BATCH, StockChange, Tally, ZoneStock, ZoneTally};

/// Seats set aside for a reservation.
#[derive(Debug, Clone)]
pub struct Hold {
    /// For whom.
    pub visitor: VisitorId,
    /// The number of the pass in use; `None` where none was needed.
    pub number: Option<u64>,
    /// Of which zone.
    pub zone: ZoneKey,
    /// How many.
    pub quantity: u32,
    /// When the sweeper asks what became of it.
    due: Timestamp,
}

/// Zones, holds and buyers of an event.
#[derive(Debug, Default)]
pub struct Stock {
    zones: BTreeMap<ZoneKey, ZoneStock>,
    holds: HashMap<BookingId, Hold>,
    due: BTreeSet<(Timestamp, BookingId)>,
    buyers: HashMap<VisitorId, Tally>,
}

/// The availability of zones before they were first touched.
pub type Before = BTreeMap<ZoneKey, Option<u32>>;

impl Stock {
    /// Whether the booking holds seats.
    pub fn holds(&self, booking: &BookingId) -> bool {
        self.holds.contains_key(booking)
    }

    /// Seats the visitor has, as the ledger last said.
    pub fn bought(&self, visitor: &VisitorId) -> u32 {
        self.buyers.get(visitor).map_or(0, |tally| tally.taken)
    }

    /// Seats that can be claimed; `None` when the zone is not known.
    pub fn available(&self, zone: &ZoneKey) -> Option<u32> {
        self.zones.get(zone).map(ZoneStock::available)
    }

    /// Whether the ledger ever told of the visitor's seats.
    pub fn knows(&self, visitor: &VisitorId) -> bool {
        self.buyers.contains_key(visitor)
    }

    /// Seats that are not taken, whether or not they are held; `None` when the zone is not known.
    pub fn unsold(&self, zone: &ZoneKey) -> Option<u32> {
        self.zones.get(zone).map(|stock| stock.capacity.saturating_sub(stock.tally.taken))
    }

    /// Sets seats aside. There must be as many.
    pub fn hold(
        &mut self,
        booking: BookingId,
        visitor: VisitorId,
        number: Option<u64>,
        zone: ZoneKey,
        quantity: u32,
        now: Timestamp,
    ) {
        let due = now.plus(HOLD_TTL);
        if let Some(stock) = self.zones.get_mut(&zone) {
            stock.held = stock.held.saturating_add(quantity);
        }
        self.due.insert((due, booking.clone()));
        self.holds.insert(booking, Hold { visitor, number, zone, quantity, due });
    }

    /// Ends a hold.
    pub fn unhold(&mut self, booking: &BookingId, before: &mut Before) -> Option<Hold> {
        let hold = self.holds.remove(booking)?;
        self.due.remove(&(hold.due, booking.clone()));
        if let Some(stock) = self.zones.get_mut(&hold.zone) {
            before.entry(hold.zone.clone()).or_insert_with(|| Some(stock.available()));
            stock.held = stock.held.saturating_sub(hold.quantity);
        }
        Some(hold)
    }

    /// Takes in what the ledger says of a zone, if it is news.
    pub fn count_zone(&mut self, said: &ZoneTally, before: &mut Before) {
        let known = self.zones.get(&said.zone);
        if known.is_some_and(|known| known.tally.version >= said.tally.version) {
            return;
        }
        before.entry(said.zone.clone()).or_insert_with(|| known.map(ZoneStock::available));
        let held = known.map_or(0, |known| known.held);
        let stock = ZoneStock { zone: said.zone.clone(), capacity: said.capacity, tally: said.tally, held };
        self.zones.insert(said.zone.clone(), stock);
    }

    /// Takes in what the ledger says of a buyer, if it is news.
    pub fn count_buyer(&mut self, said: &BuyerTally) {
        match self.buyers.get_mut(&said.visitor) {
            Some(known) if known.version >= said.tally.version => {}
            Some(known) => *known = said.tally,
            None => {
                self.buyers.insert(said.visitor.clone(), said.tally);
            }
        }
    }

    /// What changed since `before` was noted.
    pub fn changes(&self, before: Before) -> Vec<StockChange> {
        let changed = before.into_iter().filter_map(|(zone, before)| {
            let after = self.available(&zone)?;
            (before != Some(after)).then_some(StockChange { zone, before, after })
        });
        changed.collect()
    }

    /// Holds that are due, oldest first.
    pub fn stale(&self, now: Timestamp) -> Vec<BookingId> {
        self.due.iter().take_while(|(due, _)| *due <= now).take(MAX_BATCH).map(|(_, id)| id.clone()).collect()
    }

    /// All zones, in order.
    pub fn all(&self) -> Vec<ZoneStock> {
        self.zones.values().cloned().collect()
    }

    /// Forgets all other zones.
    pub fn retain(&mut self, keep: &[ZoneKey]) {
        self.zones.retain(|zone, _| keep.contains(zone));
    }
}
