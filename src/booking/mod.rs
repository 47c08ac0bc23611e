//! Reservations and what becomes of them. The order of things keeps two promises: a pass is checked before any inventory is
//! touched, and nothing is answered as reserved that is not on disk.

use std::sync::Arc;

use crate::catalogue::{Catalogue, ledger_problem};
use crate::domain::{Booking, BookingId, BookingStatus, Clock, Code, EventId, Problem, VisitorId};
use crate::engine::{Batched, Engine};
use crate::ledger::{Cancelled, Ledger, Page, PageRequest};
use crate::metrics::Metrics;
use crate::pass::PassKey;
use commit::Commits;
use doubts::Doubts;
use tell::Teller;

mod commit;
mod doubts;
mod request;
mod reserve;
mod sweep;
mod tell;

pub use request::{Reservation, ReserveRequest};
pub use sweep::Sweeper;

/// The booking service.
pub struct Bookings {
    engine: Arc<dyn Engine>,
    batched: Batched,
    ledger: Arc<dyn Ledger>,
    catalogue: Arc<Catalogue>,
    passes: Arc<PassKey>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    teller: Teller,
    commits: Commits,
    doubts: Doubts,
}

/// How many seats of an event a visitor has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Seats reserved or confirmed.
    pub booked: u32,
    /// The most there may be; `None` = no limit.
    pub allowed: Option<u32>,
}

impl Bookings {
    /// The service; `pending` bounds how many reservations may wait for the ledger.
    pub fn new(
        batched: Batched,
        ledger: Arc<dyn Ledger>,
        catalogue: Arc<Catalogue>,
        passes: Arc<PassKey>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        pending: usize,
    ) -> Self {
        let engine = Arc::clone(batched.engine());
        let teller =
            Teller { engine: Arc::clone(&engine), catalogue: Arc::clone(&catalogue), clock: Arc::clone(&clock) };
        let commits = commit::commits(Arc::clone(&ledger), teller.clone(), Arc::clone(&metrics), pending);
        Self { engine, batched, ledger, catalogue, passes, clock, metrics, teller, commits, doubts: Doubts::default() }
    }

    /// Confirms a reservation of the visitor's. Confirming twice gives the first answer again.
    ///
    /// # Errors
    /// `BOOKING_NOT_FOUND`, `BOOKING_EXPIRED`, `BOOKING_CANCELLED`, `STORE_UNAVAILABLE`.
    pub async fn confirm(
        &self,
        id: &BookingId,
        visitor: &VisitorId,
        payment: Option<&str>,
    ) -> Result<Booking, Problem> {
        let code = confirmation_code();
        let confirmed = self.ledger.confirm(id, visitor, &code, payment, self.clock.now()).await;
        let booking = confirmed.map_err(ledger_problem)?.ok_or_else(not_found)?;
        match booking.status {
            BookingStatus::Confirmed => Ok(booking),
            BookingStatus::Cancelled => Err(Problem::new(Code::BookingCancelled, "It was cancelled; reserve again.")),
            BookingStatus::Expired | BookingStatus::Reserved => Err(Problem::new(
                Code::BookingExpired,
                "It was not confirmed in time; its seats went back. Reserve again.",
            )),
        }
    }

    /// Cancels a booking of the visitor's; its seats come back at once. Cancelling twice gives the first answer again.
    ///
    /// # Errors
    /// `BOOKING_NOT_FOUND`, `BOOKING_EXPIRED`, `STORE_UNAVAILABLE`.
    pub async fn cancel(&self, id: &BookingId, visitor: &VisitorId) -> Result<Booking, Problem> {
        let cancelled = self.ledger.cancel(id, visitor, self.clock.now()).await;
        match cancelled.map_err(ledger_problem)?.ok_or_else(not_found)? {
            Cancelled::Now(returned) => {
                self.teller.counts(&returned.booking.event, returned.zone, returned.buyer).await;
                Ok(returned.booking)
            }
            Cancelled::Before(booking) if booking.status == BookingStatus::Expired => {
                Err(Problem::new(Code::BookingExpired, "It had run out already; its seats went back then."))
            }
            Cancelled::Before(booking) => Ok(booking),
        }
    }

    /// A booking of the visitor's.
    ///
    /// # Errors
    /// `BOOKING_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn get(&self, id: &BookingId, visitor: &VisitorId) -> Result<Booking, Problem> {
        self.ledger.booking(id, visitor).await.map_err(ledger_problem)?.ok_or_else(not_found)
    }

    /// The visitor's bookings, newest first.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn list(&self, visitor: &VisitorId, page: PageRequest) -> Result<Page<Booking>, Problem> {
        self.ledger.bookings(visitor, page).await.map_err(ledger_problem)
    }

    /// How many seats of an event the visitor has.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn summary(&self, event: &EventId, visitor: &VisitorId) -> Result<Summary, Problem> {
        let live = self.catalogue.find(event)?;
        let buyer = self.ledger.buyer(event, visitor).await.map_err(ledger_problem)?;
        let allowed = Some(live.event.spec.queue.max_per_user).filter(|most| *most > 0);
        Ok(Summary { booked: buyer.tally.taken, allowed })
    }
}

fn not_found() -> Problem {
    Problem::new(Code::BookingNotFound, "You have no booking with this id.")
}

/// Ten characters that nobody mistakes for one another (Crockford's alphabet), 50 bits from the system's generator.
fn confirmation_code() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let random = uuid::Uuid::new_v4();
    // Bytes 6 and 8 of a version 4 id hold fixed bits: leave them out.
    random
        .as_bytes()
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 6 | 8))
        .take(10)
        .map(|(_, byte)| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn confirmation_codes_are_legible_and_differ() {
        let codes: std::collections::HashSet<_> = (0..1_000).map(|_| super::confirmation_code()).collect();
        assert_eq!(codes.len(), 1_000);
        assert!(codes.iter().all(|code| code.len() == 10 && !code.contains(['I', 'L', 'O', 'U'])));
    }
}
