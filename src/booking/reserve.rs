//! One reservation: verify the pass, hold the seats, write the ledger, settle the hold.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Bookings;
use crate::catalogue::{LiveEvent, engine_problem, ledger_problem};
use crate::domain::booking::MAX_QUANTITY;
use crate::domain::{
    Booking, BookingId, BookingStatus, Code, EventId, Money, PassId, Problem, Timestamp, VisitorId, ZoneKey,
};
use crate::engine::{Claim, Claimed, EngineError, LedgerNews};
use crate::ledger::{Committed, IdempotencyKey, LedgerError, NewBooking, StoredAnswer};
use crate::pass::{PassError, VerifiedPass};
use crate::queue::refused;

const ROUTE: &str = "reserve";
/// How long a second request with a pass that is in use, or for seats that the first one holds, waits for its answer.
const BUSY_WAITS: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

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
    #[schema(value_type = String)]
    pub booking_id: BookingId,
    /// `reserved`.
    pub status: BookingStatus,
    /// When the reservation ends unless it is confirmed.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What all seats cost.
    #[schema(value_type = f64)]
    pub total_price: Money,
    /// Seats.
    pub quantity: u32,
    /// The event.
    #[schema(value_type = String)]
    pub event_id: EventId,
    /// The show.
    #[schema(value_type = String)]
    pub show_id: crate::domain::ShowId,
    /// The zone.
    #[schema(value_type = String)]
    pub zone_id: crate::domain::ZoneId,
    /// The catalogue's price of a seat.
    #[schema(value_type = f64)]
    pub unit_price: Money,
}

/// A request whose caller, pass and key were checked.
struct Checked {
    request: ReserveRequest,
    visitor: VisitorId,
    pass: Option<VerifiedPass>,
    key: IdempotencyKey,
    body_hash: [u8; 32],
}

impl Bookings {
    /// Reserves seats. Runs to its end even when the caller goes away.
    ///
    /// # Errors
    /// Every code of the booking section of the API reference; after an error nothing is held, except that a hold whose
    /// fate is not known (the ledger did not answer) is looked into by the sweeper.
    pub async fn reserve(self: &Arc<Self>, request: ReserveRequest) -> Result<StoredAnswer, Problem> {
        let service = Arc::clone(self);
        let done = tokio::spawn(async move { service.reserve_now(request).await }).await;
        let answer = done.unwrap_or_else(|broken| Err(Problem::internal(broken)));
        if let Err(problem) = &answer {
            self.metrics.refused.with_label_values(&[problem.code.as_str()]).inc();
        }
        answer
    }

    async fn reserve_now(&self, request: ReserveRequest) -> Result<StoredAnswer, Problem> {
        let now = self.clock.now();
        let (checked, refusal) = match self.catalogue.find(&request.event) {
            Ok(live) => {
                let (checked, expired) = self.check(request, live.event.spec.queue.queue_required, now)?;
                if expired {
                    let detail = "The pass has run out; join the queue again.";
                    (checked, Problem::new(Code::QueuePassExpired, detail))
                } else {
                    match self.carry_out(&live, &checked).await {
                        Ok(answer) => return Ok(answer),
                        Err(problem) => (checked, problem),
                    }
                }
            }
            // The event may have been removed since: its bookings are still there, and so are their answers.
            Err(no_event) => match self.check(request, false, now) {
                Ok((checked, _)) => (checked, no_event),
                Err(_) => return Err(no_event),
            },
        };
        // A retry of a request that succeeded meets a used pass, a changed price or an empty zone: its first answer comes first.
        if matches!(refusal.code, Code::Overloaded | Code::InternalError | Code::IdempotencyMismatch) {
            return Err(refusal);
        }
        match self.ledger.answer(&checked.key, now).await.map_err(ledger_problem)? {
            Some(stored) => same_body(stored, &checked),
            None => Err(refusal),
        }
    }

    /// Checks pass, key and body; `true` when the pass is authentic but has run out.
    fn check(&self, request: ReserveRequest, needs_pass: bool, now: Timestamp) -> Result<(Checked, bool), Problem> {
        let (visitor, pass, expired) = self.check_pass(needs_pass, &request, now)?;
        let key = idempotency_key(&visitor, request.key.as_deref())?;
        if !(1..=MAX_QUANTITY).contains(&request.quantity) {
            return Err(Problem::invalid(format!("quantity must be from 1 to {MAX_QUANTITY}.")));
        }
        let body_hash = body_hash(&request);
        Ok((Checked { request, visitor, pass, key, body_hash }, expired))
    }

    /// Who asks, and with which pass; `true` when the pass is authentic but has run out.
    fn check_pass(
        &self,
        needs_pass: bool,
        request: &ReserveRequest,
        now: Timestamp,
    ) -> Result<(VisitorId, Option<VerifiedPass>, bool), Problem> {
        let unknown =
            || Problem::new(Code::Unauthorized, "Send a bearer token, or the ticket or pass of this visitor.");
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
        let (pass, expired) = match self.passes.verify(token, now) {
            Ok(pass) => (pass, false),
            Err(PassError::Expired(pass)) => (*pass, true),
            Err(why) => {
                tracing::debug!(%why, "a pass was refused");
                return Err(Problem::new(
                    Code::InvalidQueuePass,
                    "Send the pass exactly as it was given to this visitor.",
                ));
            }
        };
        let other_visitor = request.caller.as_ref().is_some_and(|caller| *caller != pass.visitor);
        if pass.event != request.event || other_visitor {
            let detail = "The pass is for another event or was given to another visitor.";
            return Err(Problem::new(Code::QueuePassMismatch, detail));
        }
        Ok((pass.visitor.clone(), Some(pass), expired))
    }

    async fn carry_out(&self, live: &LiveEvent, checked: &Checked) -> Result<StoredAnswer, Problem> {
        let request = &checked.request;
        let Some(zone) = live.event.zone(&request.zone) else {
            let detail = format!("The event has no zone {} in show {}.", request.zone.zone, request.zone.show);
            return Err(Problem::new(Code::ZoneNotFound, detail));
        };
        if request.unit_price.is_some_and(|shown| shown != zone.price) {
            let price = serde_json::to_string(&zone.price).unwrap_or_default();
            return Err(Problem::new(
                Code::PriceChanged,
                format!("A seat costs {price} now; show that and ask again."),
            ));
        }
        let booking = self.draft(live, checked, zone.price);
        let claim = Claim {
            booking: booking.id.clone(),
            visitor: checked.visitor.clone(),
            pass: checked.pass.as_ref().map(VerifiedPass::claimed),
            zone: request.zone.clone(),
            quantity: request.quantity,
        };
        let mut refusal = busy();
        for wait in BUSY_WAITS {
            match self.claim(live, &claim).await {
                Ok(Claimed::PassBusy) => refusal = busy(),
                // Without a pass nothing keeps a retry from meeting the seats that the first request holds.
                Ok(Claimed::InsufficientSeats) if claim.pass.is_none() && self.merely_held(&claim, live).await? => {
                    refusal = no_seats();
                }
                Ok(claimed) => return self.claimed(live, claimed, checked, booking).await,
                // What the store did before it fell silent is not known: nothing may stay held.
                Err(problem) if problem.code == Code::StoreUnavailable => {
                    let undone = LedgerNews { undone: vec![booking.id], ..LedgerNews::default() };
                    self.tell_all(&request.event, &undone).await;
                    return Err(problem);
                }
                Err(problem) => return Err(problem),
            }
            tokio::time::sleep(wait).await;
            if let Some(stored) = self.ledger.answer(&checked.key, self.clock.now()).await.map_err(ledger_problem)? {
                return same_body(stored, checked);
            }
        }
        Err(refusal)
    }

    /// Whether the seats are there, says the ledger: then they are held by reservations on their way to it.
    async fn merely_held(&self, claim: &Claim, live: &LiveEvent) -> Result<bool, Problem> {
        let zones = self.ledger.zones(&live.event.id).await.map_err(ledger_problem)?;
        let left = zones.iter().find(|said| said.zone == claim.zone).map(|said| said.capacity - said.tally.taken);
        Ok(left.is_some_and(|left| left >= claim.quantity))
    }

    async fn claim(&self, live: &LiveEvent, claim: &Claim) -> Result<Claimed, Problem> {
        let event = &live.event.id;
        let ask = || async { self.claims.ask((event.clone(), claim.clone())).await.map_err(refused) };
        match ask().await? {
            Err(EngineError::UnknownEvent) => {
                self.catalogue.restore(event, self.clock.now()).await?;
                ask().await?.map_err(engine_problem)
            }
            Ok(Claimed::UnknownZone) => {
                let live = self.catalogue.find(event)?;
                self.catalogue.sync_stock(&live.event, self.clock.now()).await?;
                ask().await?.map_err(engine_problem)
            }
            // The engine may have missed that seats came back, and no rebuild tells it of buyers: ask the ledger.
            Ok(Claimed::UserLimit) => {
                let buyer = self.ledger.buyer(event, &claim.visitor).await.map_err(ledger_problem)?;
                let most = live.event.spec.queue.max_per_user;
                if most > 0 && buyer.tally.taken.saturating_add(claim.quantity) > most {
                    return Ok(Claimed::UserLimit);
                }
                self.tell_all(event, &LedgerNews { buyers: vec![buyer], ..LedgerNews::default() }).await;
                ask().await?.map_err(engine_problem)
            }
            claimed => claimed.map_err(engine_problem),
        }
    }

    async fn claimed(
        &self,
        live: &LiveEvent,
        claimed: Claimed,
        checked: &Checked,
        booking: Booking,
    ) -> Result<StoredAnswer, Problem> {
        match claimed {
            Claimed::Held => self.write(live, checked, booking).await,
            Claimed::PassUsed => Err(pass_used()),
            Claimed::PassExpired => {
                Err(Problem::new(Code::QueuePassExpired, "The pass has run out; join the queue again."))
            }
            Claimed::PassVoid => {
                Err(Problem::new(Code::InvalidQueuePass, "The pass was given back or withdrawn; join again."))
            }
            Claimed::InsufficientSeats => Err(no_seats()),
            Claimed::UserLimit => Err(too_many(live)),
            Claimed::UnknownZone => Err(Problem::new(Code::ZoneNotFound, "The zone is no longer there.")),
            Claimed::PassBusy => Err(busy()),
        }
    }

    /// Writes the booking to the ledger and settles or undoes the hold.
    async fn write(&self, live: &LiveEvent, checked: &Checked, booking: Booking) -> Result<StoredAnswer, Problem> {
        let event = booking.event.clone();
        let id = booking.id.clone();
        let answer = StoredAnswer { body_hash: checked.body_hash, status: 201, body: answer_body(&booking)? };
        let pass: Option<PassId> = checked.pass.as_ref().map(|pass| pass.id.clone());
        let new = NewBooking {
            booking,
            pass,
            max_per_user: live.event.spec.queue.max_per_user,
            answer: answer.clone(),
            key: checked.key.clone(),
        };
        let settled = || LedgerNews { settled: vec![id.clone()], ..LedgerNews::default() };
        let undone = || LedgerNews { undone: vec![id.clone()], ..LedgerNews::default() };
        let committed = match self.commits.ask(new).await {
            Ok(Ok(committed)) => committed,
            Ok(Err(error)) => return self.find_out(&event, &id, checked, answer, ledger_problem(error)).await,
            Err(crate::coalesce::Refused::Full) => {
                self.tell_all(&event, &undone()).await;
                return Err(Problem::overloaded("The ledger"));
            }
            Err(lost) => return self.find_out(&event, &id, checked, answer, refused(lost)).await,
        };
        match committed {
            Committed::Done { zone, buyer } => {
                let news = LedgerNews { zones: vec![zone], buyers: vec![buyer], ..settled() };
                self.tell_all(&event, &news).await;
                self.metrics.reserved.inc();
                Ok(answer)
            }
            Committed::Replayed { answer, pass_used } => {
                // A pass that the first request used up is used, though the engine had forgotten; a fresh one stays good.
                self.tell_all(&event, &if pass_used { settled() } else { undone() }).await;
                same_body(answer, checked)
            }
            Committed::PassUsed => {
                self.tell_all(&event, &settled()).await;
                Err(pass_used())
            }
            // The engine's counts were wrong: they are set right before the next one asks.
            Committed::InsufficientSeats => {
                self.tell_counted(&event, &checked.visitor, undone()).await;
                Err(no_seats())
            }
            Committed::UserLimit => {
                self.tell_counted(&event, &checked.visitor, undone()).await;
                Err(too_many(live))
            }
            Committed::UnknownZone => {
                self.tell_all(&event, &undone()).await;
                Err(Problem::new(Code::ZoneNotFound, "The zone is no longer there."))
            }
        }
    }

    /// The ledger failed: asks it whether the booking was written. When even that fails, the hold stays for the sweeper.
    async fn find_out(
        &self,
        event: &EventId,
        id: &BookingId,
        checked: &Checked,
        answer: StoredAnswer,
        failure: Problem,
    ) -> Result<StoredAnswer, Problem> {
        let ids = [id.clone()];
        match self.ledger.existing(&ids).await {
            Ok(there) if there.is_empty() => {
                self.tell_all(event, &LedgerNews { undone: ids.to_vec(), ..LedgerNews::default() }).await;
                Err(failure)
            }
            Ok(_) => {
                let settled = LedgerNews { settled: ids.to_vec(), ..LedgerNews::default() };
                self.tell_counted(event, &checked.visitor, settled).await;
                self.metrics.reserved.inc();
                Ok(answer)
            }
            Err(_) => Err(failure),
        }
    }

    /// Tells the engine what became of a hold, together with what the ledger counts now, so that its seats are at no time
    /// both unheld and uncounted. Without the counts a settled hold is left to the sweeper, which asks for them again.
    async fn tell_counted(&self, event: &EventId, visitor: &VisitorId, news: LedgerNews) {
        let counted = async { Ok((self.ledger.zones(event).await?, self.ledger.buyer(event, visitor).await?)) };
        let news = match counted.await {
            Ok((zones, buyer)) => LedgerNews { zones, buyers: vec![buyer], ..news },
            Err::<_, LedgerError>(error) => {
                tracing::warn!(event_id = %event, %error, "the counts could not be read; the next rebuild tells them");
                LedgerNews { settled: Vec::new(), ..news }
            }
        };
        self.tell_all(event, &news).await;
    }

    fn draft(&self, live: &LiveEvent, checked: &Checked, price: Money) -> Booking {
        let now = self.clock.now();
        let hold = Duration::from_secs(live.event.spec.queue.hold_ttl_seconds.into());
        let id = BookingId::parse(&uuid::Uuid::now_v7().to_string()).expect("a UUID is an id");
        Booking {
            id,
            event: checked.request.event.clone(),
            zone: checked.request.zone.clone(),
            visitor: checked.visitor.clone(),
            quantity: checked.request.quantity,
            unit_price: price,
            status: BookingStatus::Reserved,
            created_at: now,
            expires_at: now.plus(hold),
            confirmed_at: None,
            confirmation_code: None,
            payment_id: None,
        }
    }
}

fn same_body(stored: StoredAnswer, checked: &Checked) -> Result<StoredAnswer, Problem> {
    if stored.body_hash == checked.body_hash {
        return Ok(stored);
    }
    Err(Problem::new(Code::IdempotencyMismatch, "Send a new idempotency key with a new request."))
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

fn answer_body(booking: &Booking) -> Result<String, Problem> {
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

fn busy() -> Problem {
    let detail = "Another reservation with this pass is still running; ask again shortly.";
    Problem::new(Code::RequestInProgress, detail)
}

fn pass_used() -> Problem {
    Problem::new(Code::QueuePassUsed, "A pass is good for one reservation; join the queue again for another.")
}

fn no_seats() -> Problem {
    Problem::new(Code::InsufficientSeats, "Fewer seats are left than asked for; the pass stays good for another try.")
}

fn too_many(live: &LiveEvent) -> Problem {
    let most = live.event.spec.queue.max_per_user;
    Problem::new(Code::UserLimitExceeded, format!("A visitor may have at most {most} seats of this event."))
}
