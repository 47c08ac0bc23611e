//! Claims, leaves, tickets and news from the ledger, packed for their scripts.

use std::collections::BTreeMap;

use redis::Value;

use super::pool::Argument::{self, Built, Int, Text};
use super::{micros, number, reply};
use crate::domain::{BookingId, ZoneKey};
use crate::engine::{
    BuyerTally, Claim, ENDED_TTL, Leaving, LedgerNews, MAX_BATCH, Reclaim, Result, StockChange, ZoneTally,
};

/// What one claim adds to a call of `claim`.
pub fn claim_arguments<'a>(claim: &'a Claim, call: &mut Vec<Argument<'a>>) {
    call.extend([Text(claim.booking.as_str()), Text(claim.visitor.as_str())]);
    match claim.pass {
        None => call.extend([Text(""), Text("0"), Text("0")]),
        Some(pass) => {
            call.extend([number(pass.number), Int(pass.admitted_at.micros()), Int(pass.expires_at.micros())]);
        }
    }
    call.extend([Built(claim.zone.to_string()), Int(claim.quantity.into())]);
}

/// What one leave adds to a call of `leave`.
pub fn leaving_arguments<'a>(leaving: &'a Leaving, call: &mut Vec<Argument<'a>>) {
    call.extend([Text(leaving.visitor.as_str()), number(leaving.number)]);
}

/// What one ticket adds to a call of `reclaim`.
pub fn reclaim_arguments<'a>(place: &'a Reclaim, call: &mut Vec<Argument<'a>>) {
    call.extend([Text(place.visitor.as_str()), number(place.number), Int(place.joined_at.micros())]);
}

/// As much news as fits in one call of `observe`.
#[derive(Debug, Default)]
pub struct Part<'a> {
    zones: &'a [ZoneTally],
    buyers: &'a [BuyerTally],
    settled: &'a [BookingId],
    undone: &'a [BookingId],
}

/// Splits news into parts of at most [`MAX_BATCH`] items: tallies first, so that a seat is never free in between. There is
/// always one part, so that an event that is not known is noticed.
pub fn parts(news: &LedgerNews) -> Vec<Part<'_>> {
    let LedgerNews { settled, undone, zones, buyers } = news;
    if zones.len() + buyers.len() + settled.len() + undone.len() <= MAX_BATCH {
        return vec![Part { zones, buyers, settled, undone }];
    }
    let zones = zones.chunks(MAX_BATCH).map(|zones| Part { zones, ..Part::default() });
    let buyers = buyers.chunks(MAX_BATCH).map(|buyers| Part { buyers, ..Part::default() });
    let settled = settled.chunks(MAX_BATCH).map(|settled| Part { settled, ..Part::default() });
    let undone = undone.chunks(MAX_BATCH).map(|undone| Part { undone, ..Part::default() });
    zones.chain(buyers).chain(settled).chain(undone).collect()
}

impl<'a> Part<'a> {
    /// The arguments of the call.
    pub fn arguments(&self) -> Vec<Argument<'a>> {
        let length = |n: usize| Int(i64::try_from(n).unwrap_or(i64::MAX));
        let mut call =
            vec![micros(ENDED_TTL), length(self.zones.len()), length(self.buyers.len()), length(self.settled.len())];
        for zone in self.zones {
            call.extend([Built(zone.zone.to_string()), Int(zone.capacity.into())]);
            call.extend([Int(zone.tally.taken.into()), Int(zone.tally.version)]);
        }
        for buyer in self.buyers {
            call.extend([Text(buyer.visitor.as_str()), Int(buyer.tally.taken.into()), Int(buyer.tally.version)]);
        }
        call.extend(self.settled.iter().chain(self.undone).map(|booking| Text(booking.as_str())));
        call
    }
}

/// The zones that changed over all parts: before the first, after the last.
#[derive(Debug, Default)]
pub struct Changes(BTreeMap<ZoneKey, (Option<u32>, u32)>);

impl Changes {
    /// Takes in the reply of one part.
    pub fn add(&mut self, values: &[Value]) -> Result<()> {
        let seats = |value: &Value| reply::int(value).map(|seats| u32::try_from(seats).ok());
        for values in values.chunks(3) {
            let [zone, before, after] = values else { return Err(reply::odd("observe")) };
            let zone = ZoneKey::parse(reply::text(zone)?).map_err(|_| reply::odd("a zone"))?;
            let (before, after) = (seats(before)?, seats(after)?.ok_or_else(|| reply::odd("seats"))?);
            self.0.entry(zone).and_modify(|change| change.1 = after).or_insert((before, after));
        }
        Ok(())
    }

    /// Those whose availability is another in the end, in order.
    pub fn finish(self) -> Vec<StockChange> {
        let changed = self.0.into_iter().filter(|(_, (before, after))| *before != Some(*after));
        changed.map(|(zone, (before, after))| StockChange { zone, before, after }).collect()
    }
}
