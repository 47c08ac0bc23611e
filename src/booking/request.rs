//! What a reservation asks for, who asks, and what it is answered: everything that can be said without a store.

use serde::Serialize;

use crate::domain::booking::MAX_QUANTITY;
use crate::domain::{
    Booking, BookingId, BookingStatus, Code, EventId, Money, Problem, ShowId, Timestamp, VisitorId, ZoneId, ZoneKey,
};
use crate::ledger::{IdempotencyKey, StoredAnswer};
use crate::pass::{PassError, PassKey, VerifiedPass};

const ROUTE: &str = "reserve";

/// What a visitor asks for.
#[derive(Debug, Clone)]
pub struct ReserveRequest {
    /// Who asks, if that is known without the pass.
    pub caller: Option<VisitorId>,
    /// Whether the pass alone may say who asks.
    pub pass_identifies: bool,
    /// The event.
    pub event: EventId,
    /// The zone.
    pub zone: ZoneKey,
    /// Seats, 1 to [`MAX_QUANTITY`].
    pub quantity: u32,
    /// The price that the visitor was shown, if they say so.
    pub unit_price: Option<Money>,
    /// The pass as it was sent.
    pub pass: Option<String>,
    /// The idempotency key as it was sent.
    pub key: Option<String>,
}

/// The answer to a reservation; it is stored, and given again byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reservation {
    /// The booking.
    pub booking_id: BookingId,
    /// `reserved`.
    pub status: BookingStatus,
    /// When the reservation ends unless it is confirmed.
    pub expires_at: Timestamp,
    /// What all seats cost.
    pub total_price: Money,
    /// Seats.
    pub quantity: u32,
    /// The event.
    pub event_id: EventId,
    /// The show.
    pub show_id: ShowId,
    /// The zone.
    pub zone_id: ZoneId,
    /// The catalogue's price of a seat.
    pub unit_price: Money,
}

/// A request whose caller, pass and key were checked.
pub(super) struct Checked {
    pub request: ReserveRequest,
    pub visitor: VisitorId,
    pub pass: Option<VerifiedPass>,
    pub key: IdempotencyKey,
    pub body_hash: [u8; 32],
}

impl Checked {
    /// Checks pass, key and body; `true` when the pass is authentic but has run out.
    pub fn check(
        request: ReserveRequest,
        passes: &PassKey,
        needs_pass: bool,
        now: Timestamp,
    ) -> Result<(Self, bool), Problem> {
        let (visitor, pass, expired) = check_pass(&request, passes, needs_pass, now)?;
        let key = idempotency_key(&visitor, request.key.as_deref())?;
        if !(1..=MAX_QUANTITY).contains(&request.quantity) {
            return Err(Problem::invalid(format!("quantity must be from 1 to {MAX_QUANTITY}.")));
        }
        let body_hash = body_hash(&request);
        Ok((Self { request, visitor, pass, key, body_hash }, expired))
    }

    /// The answer that was stored under this request's key, if it was to the same body.
    pub fn replay(&self, stored: StoredAnswer) -> Result<StoredAnswer, Problem> {
        if stored.body_hash == self.body_hash {
            return Ok(stored);
        }
        Err(Problem::new(Code::IdempotencyMismatch, "Send a new idempotency key with a new request."))
    }
}

/// Who asks, and with which pass; `true` when the pass is authentic but has run out.
fn check_pass(
    request: &ReserveRequest,
    passes: &PassKey,
    needs_pass: bool,
    now: Timestamp,
) -> Result<(VisitorId, Option<VerifiedPass>, bool), Problem> {
    let unknown = || Problem::new(Code::Unauthorized, "Send a bearer token, or the ticket or pass of this visitor.");
    if request.caller.is_none() && !request.pass_identifies {
        return Err(unknown());
    }
    let Some(token) = request.pass.as_deref() else {
        if needs_pass {
            let detail = "Join the queue, wait for the pass, and send it as X-Queue-Pass.";
            return Err(Problem::new(Code::QueuePassRequired, detail));
        }
        return Ok((request.caller.clone().ok_or_else(unknown)?, None, false));
    };
    let (pass, expired) = match passes.verify(token, now) {
        Ok(pass) => (pass, false),
        Err(PassError::Expired(pass)) => (*pass, true),
        Err(why) => {
            tracing::debug!(%why, "a pass was refused");
            return Err(Problem::new(Code::InvalidQueuePass, "Send the pass exactly as it was given to this visitor."));
        }
    };
    let other_visitor = request.caller.as_ref().is_some_and(|caller| *caller != pass.visitor);
    if pass.event != request.event || other_visitor {
        let detail = "The pass is for another event or was given to another visitor.";
        return Err(Problem::new(Code::QueuePassMismatch, detail));
    }
    Ok((pass.visitor.clone(), Some(pass), expired))
}

fn idempotency_key(visitor: &VisitorId, key: Option<&str>) -> Result<IdempotencyKey, Problem> {
    let key =
        key.ok_or_else(|| Problem::invalid("Send X-Idempotency-Key (or Idempotency-Key), new for each reservation."))?;
    if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::invalid("The idempotency key must be 1 to 255 visible ASCII characters without spaces."));
    }
    Ok(IdempotencyKey { visitor: visitor.clone(), route: ROUTE, key: key.to_owned() })
}

/// SHA-256 over the fields that make the request; none of them can hold a newline.
fn body_hash(request: &ReserveRequest) -> [u8; 32] {
    let price = request.unit_price.map_or(-1, Money::minor);
    let text = format!("{}\n{}\n{}\n{price}", request.event, request.zone, request.quantity);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The body of the answer to a new booking.
pub(super) fn answer_body(booking: &Booking) -> Result<String, Problem> {
    serde_json::to_string(&Reservation {
        booking_id: booking.id.clone(),
        status: booking.status,
        expires_at: booking.expires_at,
        total_price: booking.total(),
        quantity: booking.quantity,
        event_id: booking.event.clone(),
        show_id: booking.zone.show.clone(),
        zone_id: booking.zone.zone.clone(),
        unit_price: booking.unit_price,
    })
    .map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    proptest! {
        #![proptest_config(hostile::config("keys"))]

        #[test]
        fn a_key_is_visible_ascii_of_a_bounded_length(key in "\\PC{0,6}|[!-~]{1,300}|[ -~]{0,9}") {
            let visitor = VisitorId::parse("anna").expect("an id");
            let good = (1..=255).contains(&key.len()) && key.bytes().all(|b| (b'!'..=b'~').contains(&b));
            let read = idempotency_key(&visitor, Some(&key));
            prop_assert_eq!(read.is_ok(), good);
            if let Ok(read) = read {
                prop_assert_eq!(read, IdempotencyKey { visitor, route: ROUTE, key });
            }
        }
    }
}
