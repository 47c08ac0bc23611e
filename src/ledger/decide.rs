//! The rules that a new booking has to pass, in their order, the same on both databases.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rows::{EventBuyerRow, EventZoneRow};
use super::sql::{Fault, Outcome};
use super::{Committed, IDEMPOTENCY_TTL, IdempotencyKey, NewBooking, Returned, StoredAnswer};
use crate::domain::{Booking, EventId, VisitorId, ZoneKey};
use crate::engine::{BuyerTally, Tally, ZoneTally};

/// The zones of a transaction, by event and key: in the order in which they are locked.
pub(super) type Zones = BTreeMap<(EventId, ZoneKey), ZoneTally>;
/// The buyers of a transaction, by event and visitor: in the order in which they are locked.
pub(super) type Buyers = BTreeMap<(EventId, VisitorId), Tally>;

pub(super) fn zones(rows: Vec<EventZoneRow>) -> Outcome<Zones> {
    rows.into_iter().map(EventZoneRow::read).collect()
}

pub(super) fn buyers(rows: Vec<EventBuyerRow>) -> Outcome<Buyers> {
    rows.into_iter().map(EventBuyerRow::read).collect()
}

/// A change to a count: seats, and how many bookings changed it (each is a version).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) seats: i64,
    pub(super) versions: i64,
}

/// What a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) zones: BTreeMap<(EventId, ZoneKey), Change>,
    pub(super) buyers: BTreeMap<(EventId, VisitorId), Change>,
}

impl Changes {
    /// Counts one booking: `sign` is 1 for seats that are taken, -1 for seats that come back.
    fn count(&mut self, booking: &Booking, sign: i64) {
        let zone = self.zones.entry((booking.event.clone(), booking.zone.clone())).or_default();
        let buyer = self.buyers.entry((booking.event.clone(), booking.visitor.clone())).or_default();
        for change in [zone, buyer] {
            change.seats += sign * i64::from(booking.quantity);
            change.versions += 1;
        }
    }
}

/// What the ledger holds, as far as it matters to a batch of new bookings.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// The answers that are still kept under the keys of the batch, by place in the batch from 0.
    pub(super) kept: HashMap<usize, StoredAnswer>,
    /// Which passes of the batch were used.
    pub(super) passes: HashSet<String>,
    /// The zones that are there, of events that are there.
    pub(super) zones: Zones,
    /// The visitors who bought before.
    pub(super) buyers: Buyers,
}

/// What is to be written, and answered.
pub(super) struct Decided<'b> {
    pub(super) answers: Vec<Committed>,
    pub(super) done: Vec<&'b NewBooking>,
    pub(super) changes: Changes,
}

impl Books {
    /// Decides booking after booking; each finds the books as those before it left them.
    pub(super) fn decide<'b>(&mut self, batch: &'b [NewBooking]) -> Decided<'b> {
        let mut fresh: HashMap<&IdempotencyKey, &NewBooking> = HashMap::new();
        let mut decided =
            Decided { answers: Vec::with_capacity(batch.len()), done: vec![], changes: Changes::default() };
        for (place, new) in batch.iter().enumerate() {
            let booking = &new.booking;
            let answer = self.kept.get(&place).or_else(|| {
                let first = fresh.get(&new.key)?;
                let kept = booking.created_at < first.booking.created_at.plus(IDEMPOTENCY_TTL);
                kept.then_some(&first.answer)
            });
            let who = (booking.event.clone(), booking.visitor.clone());
            let mut buyer = self.buyers.get(&who).copied().unwrap_or_default();
            let seen = Seen {
                answer,
                zone: self.zones.get_mut(&(booking.event.clone(), booking.zone.clone())),
                pass_used: new.pass.as_ref().is_some_and(|pass| self.passes.contains(pass.as_str())),
                buyer: &mut buyer,
            };
            let answer = decide(new, seen);
            if matches!(answer, Committed::Done { .. }) {
                self.buyers.insert(who, buyer);
                self.passes.extend(new.pass.as_ref().map(|pass| pass.as_str().to_owned()));
                fresh.insert(&new.key, new);
                decided.changes.count(booking, 1);
                decided.done.push(new);
            }
            decided.answers.push(answer);
        }
        decided
    }
}

/// What matters to one new booking.
struct Seen<'a> {
    /// The answer that is still kept under the booking's key.
    answer: Option<&'a StoredAnswer>,
    /// The zone, if the event is there and has it.
    zone: Option<&'a mut ZoneTally>,
    /// Whether the booking's pass was used.
    pass_used: bool,
    /// The visitor's seats.
    buyer: &'a mut Tally,
}

/// Decides, and counts the seats of a booking that is done.
fn decide(new: &NewBooking, seen: Seen<'_>) -> Committed {
    if let Some(answer) = seen.answer {
        return Committed::Replayed { answer: answer.clone(), pass_used: seen.pass_used };
    }
    let Some(zone) = seen.zone else { return Committed::UnknownZone };
    if seen.pass_used {
        return Committed::PassUsed;
    }
    let quantity = new.booking.quantity;
    let Some(taken) = zone.tally.taken.checked_add(quantity).filter(|taken| *taken <= zone.capacity) else {
        return Committed::InsufficientSeats;
    };
    let within_limit = |seats: &u32| new.max_per_user == 0 || *seats <= new.max_per_user;
    let Some(seats) = seen.buyer.taken.checked_add(quantity).filter(within_limit) else {
        return Committed::UserLimit;
    };
    zone.tally = Tally { taken, version: zone.tally.version + 1 };
    *seen.buyer = Tally { taken: seats, version: seen.buyer.version + 1 };
    let buyer = BuyerTally { visitor: new.booking.visitor.clone(), tally: *seen.buyer };
    Committed::Done { zone: zone.clone(), buyer }
}

/// Takes the seats of these bookings off the counts, and says what the counts are after each.
pub(super) fn give_back(
    bookings: Vec<Booking>,
    zones: &mut Zones,
    buyers: &mut Buyers,
) -> Outcome<(Vec<Returned>, Changes)> {
    let mut changes = Changes::default();
    let mut returned = Vec::with_capacity(bookings.len());
    for booking in bookings {
        let zone = zones.get_mut(&(booking.event.clone(), booking.zone.clone()));
        let buyer = buyers.get_mut(&(booking.event.clone(), booking.visitor.clone()));
        let (Some(zone), Some(buyer)) = (zone, buyer) else {
            return Err(Fault::corrupt("booking: its zone or its buyer is gone"));
        };
        zone.tally = less(zone.tally, booking.quantity)?;
        *buyer = less(*buyer, booking.quantity)?;
        changes.count(&booking, -1);
        let buyer = BuyerTally { visitor: booking.visitor.clone(), tally: *buyer };
        returned.push(Returned { booking, zone: zone.clone(), buyer });
    }
    Ok((returned, changes))
}

fn less(tally: Tally, seats: u32) -> Outcome<Tally> {
    let taken = tally.taken.checked_sub(seats).ok_or_else(|| Fault::corrupt("count of seats"))?;
    Ok(Tally { taken, version: tally.version + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BookingId, BookingStatus, Money, Timestamp};

    fn new(quantity: u32, max_per_user: u32) -> NewBooking {
        let visitor = VisitorId::parse("v").expect("id");
        NewBooking {
            booking: Booking {
                id: BookingId::parse("b").expect("id"),
                event: EventId::parse("e").expect("id"),
                zone: ZoneKey::parse("s/z").expect("key"),
                visitor: visitor.clone(),
                quantity,
                unit_price: Money::default(),
                status: BookingStatus::Reserved,
                created_at: Timestamp::default(),
                expires_at: Timestamp::default(),
                confirmed_at: None,
                confirmation_code: None,
                payment_id: None,
            },
            pass: None,
            max_per_user,
            answer: StoredAnswer { body_hash: [0; 32], status: 201, body: String::new() },
            key: IdempotencyKey { visitor, route: "reserve", key: "k".into() },
        }
    }

    #[test]
    fn the_first_rule_that_fails_gives_the_answer() {
        let zone =
            ZoneTally { zone: ZoneKey::parse("s/z").expect("key"), capacity: 5, tally: Tally { taken: 4, version: 9 } };
        let ask = |answer: Option<&StoredAnswer>, there: bool, pass_used, quantity, limit| {
            let (mut zone, mut buyer) = (zone.clone(), Tally { taken: 2, version: 7 });
            let seen = Seen { answer, zone: there.then_some(&mut zone), pass_used, buyer: &mut buyer };
            (decide(&new(quantity, limit), seen), zone.tally, buyer)
        };
        let kept = new(1, 0).answer;
        let before = (Tally { taken: 4, version: 9 }, Tally { taken: 2, version: 7 });
        for (asked, answer) in [
            (ask(Some(&kept), false, true, 9, 1), Committed::Replayed { answer: kept.clone(), pass_used: true }),
            (ask(Some(&kept), true, false, 1, 0), Committed::Replayed { answer: kept.clone(), pass_used: false }),
            (ask(None, false, true, 9, 1), Committed::UnknownZone),
            (ask(None, true, true, 9, 1), Committed::PassUsed),
            (ask(None, true, false, 2, 1), Committed::InsufficientSeats),
            (ask(None, true, false, u32::MAX, 1), Committed::InsufficientSeats),
            (ask(None, true, false, 1, 2), Committed::UserLimit),
        ] {
            assert_eq!((asked.0, (asked.1, asked.2)), (answer, before));
        }
        for limit in [0, 3] {
            let (done, zone, buyer) = ask(None, true, false, 1, limit);
            assert!(matches!(done, Committed::Done { .. }), "{done:?}");
            assert_eq!((zone, buyer), (Tally { taken: 5, version: 10 }, Tally { taken: 3, version: 8 }));
        }
    }
}
