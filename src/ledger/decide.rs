//! The rules that a new booking has to pass, in their order, the same on both databases.

use super::{Committed, NewBooking, StoredAnswer};
use crate::engine::{BuyerTally, Tally, ZoneTally};

/// What the ledger holds, as far as it matters to one new booking.
pub(super) struct Seen<'a> {
    /// The answer that is still kept under the booking's key.
    pub(super) answer: Option<&'a StoredAnswer>,
    /// The zone, if the event is there and has it.
    pub(super) zone: Option<&'a mut ZoneTally>,
    /// Whether the booking's pass was used.
    pub(super) pass_used: bool,
    /// The visitor's seats.
    pub(super) buyer: &'a mut Tally,
}

/// Decides, and counts the seats of a booking that is done.
pub(super) fn decide(new: &NewBooking, seen: Seen<'_>) -> Committed {
    if let Some(answer) = seen.answer {
        return Committed::Replayed(answer.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Booking, BookingId, BookingStatus, EventId, Money, Timestamp, VisitorId, ZoneKey};
    use crate::ledger::IdempotencyKey;

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
            (ask(Some(&kept), false, true, 9, 1), Committed::Replayed(kept.clone())),
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
