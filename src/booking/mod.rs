//! Reservations and what becomes of them. The order of things keeps two promises: a pass is checked before any inventory is
//! touched, and nothing is answered as reserved that is not on disk.

use std::sync::Arc;

use crate::catalogue::{Catalogue, engine_problem, ledger_problem};
use crate::coalesce::{Bounds, Coalescer};
use crate::domain::{Booking, BookingId, BookingStatus, Clock, Code, EventId, Problem, VisitorId};
use crate::engine::{BuyerTally, Claim, Claimed, Engine, EngineError, LedgerNews, ZoneTally};
use crate::ledger::{Cancelled, Committed, Ledger, LedgerError, NewBooking, Page, PageRequest};
use crate::metrics::Metrics;
use crate::pass::PassKey;
use doubts::Doubts;

mod doubts;
mod request;
mod reserve;
mod sweep;

pub use request::{Reservation, ReserveRequest};
pub use sweep::Sweeper;

/// Bookings in one ledger transaction.
const COMMIT_BATCH: usize = 100;
/// Claims in one engine transition.
const CLAIM_BATCH: usize = 100;

/// The booking service.
pub struct Bookings {
    engine: Arc<dyn Engine>,
    ledger: Arc<dyn Ledger>,
    catalogue: Arc<Catalogue>,
    passes: Arc<PassKey>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    claims: Coalescer<(EventId, Claim), Result<Claimed, EngineError>>,
    commits: Coalescer<NewBooking, Result<Committed, LedgerError>>,
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
    /// The service; `pending` bounds how many reservations may wait for each of the stores.
    pub fn new(
        engine: Arc<dyn Engine>,
        ledger: Arc<dyn Ledger>,
        catalogue: Arc<Catalogue>,
        passes: Arc<PassKey>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        pending: usize,
    ) -> Self {
        let claims = {
            let (engine, clock) = (Arc::clone(&engine), Arc::clone(&clock));
            Coalescer::start(Bounds { batch: CLAIM_BATCH, in_flight: 2, pending }, move |asked| {
                claim_by_event(Arc::clone(&engine), asked, clock.now())
            })
        };
        let commits = {
            let (ledger, metrics) = (Arc::clone(&ledger), Arc::clone(&metrics));
            Coalescer::start(Bounds { batch: COMMIT_BATCH, in_flight: 2, pending }, move |asked: Vec<NewBooking>| {
                let (ledger, metrics) = (Arc::clone(&ledger), Arc::clone(&metrics));
                async move {
                    metrics.commit_batch.observe(asked.len() as f64);
                    match ledger.commit(&asked).await {
                        Ok(each) => each.into_iter().map(Ok).collect(),
                        Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
                    }
                }
            })
        };
        Self { engine, ledger, catalogue, passes, clock, metrics, claims, commits, doubts: Doubts::default() }
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
                self.tell(&returned.booking.event, returned.zone, returned.buyer).await;
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

    /// Tells the engine what the ledger counts now. A failure costs nothing but time: the next rebuild says it again.
    async fn tell(&self, event: &EventId, zone: ZoneTally, buyer: BuyerTally) {
        let news = LedgerNews { zones: vec![zone], buyers: vec![buyer], ..LedgerNews::default() };
        self.tell_all(event, &news).await;
    }

    async fn tell_all(&self, event: &EventId, news: &LedgerNews) {
        let told = match self.engine.observe(event, news, self.clock.now()).await {
            // The store came back empty: what it is told now comes from the ledger as it stands, with this news in it.
            Err(EngineError::UnknownEvent) => self.catalogue.restore(event, self.clock.now()).await,
            told => told.map(drop).map_err(engine_problem),
        };
        if let Err(error) = told {
            tracing::warn!(event_id = %event, %error, cause = ?error.cause, "the engine did not hear of a change in the ledger; the next rebuild tells it");
        }
    }
}

/// Carries out a mixed batch of claims event by event.
async fn claim_by_event(
    engine: Arc<dyn Engine>,
    asked: Vec<(EventId, Claim)>,
    now: crate::domain::Timestamp,
) -> Vec<Result<Claimed, EngineError>> {
    let mut answers = Vec::with_capacity(asked.len());
    answers.resize_with(asked.len(), || Err(EngineError::Unavailable("no answer".into())));
    let mut groups: std::collections::HashMap<EventId, Vec<(usize, Claim)>> = std::collections::HashMap::new();
    for (at, (event, claim)) in asked.into_iter().enumerate() {
        groups.entry(event).or_default().push((at, claim));
    }
    for (event, members) in groups {
        let (places, claims): (Vec<usize>, Vec<Claim>) = members.into_iter().unzip();
        match engine.claim(&event, &claims, now).await {
            Ok(each) => places.into_iter().zip(each).for_each(|(place, claimed)| answers[place] = Ok(claimed)),
            Err(error) => places.into_iter().for_each(|place| answers[place] = Err(error.clone())),
        }
    }
    answers
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
