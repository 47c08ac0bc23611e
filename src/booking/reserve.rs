//! One reservation: hold the seats, write the ledger, settle the hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bookings;
use super::request::{Checked, ReserveRequest, answer_body};
use crate::catalogue::{LiveEvent, engine_problem, ledger_problem};
use crate::circuit::Away;
use crate::domain::{Booking, BookingId, BookingStatus, Code, EventId, Money, PassId, Problem, VisitorId};
use crate::engine::{Claim, Claimed, EngineError, LedgerNews};
use crate::ledger::{Committed, LedgerError, NewBooking, StoredAnswer};
use crate::pass::VerifiedPass;

/// How often an engine that has forgotten something is mended before its answer stands.
const MENDS: u32 = 3;
/// How long a second request with a pass that is in use, or for seats that the first one holds, waits for its answer.
const BUSY: Duration = Duration::from_secs(2);
/// The pauses between two looks in that time.
const BUSY_WAITS: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Why a reservation was not carried out.
enum Unserved {
    /// And never was before.
    Final(Problem),
    /// An earlier request with the same key may have been: its answer would come first.
    Perhaps(Problem),
}

impl From<Problem> for Unserved {
    fn from(problem: Problem) -> Self {
        Self::Perhaps(problem)
    }
}

impl Bookings {
    /// Reserves seats. Runs to its end even when the caller goes away.
    ///
    /// # Errors
    /// Every code of the booking section of the API reference; after an error nothing is held, except that a hold whose
    /// fate is not known (a store did not answer) is looked into by the next sweep.
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
                let (checked, expired) =
                    Checked::check(request, &self.passes, live.event.spec.queue.queue_required, now)?;
                if expired {
                    let detail = "The pass has run out; join the queue again.";
                    (checked, Problem::new(Code::QueuePassExpired, detail))
                } else {
                    match self.carry_out(&live, &checked).await {
                        Ok(answer) => return Ok(answer),
                        Err(Unserved::Final(problem)) => return Err(problem),
                        Err(Unserved::Perhaps(problem)) => (checked, problem),
                    }
                }
            }
            // The event may have been removed since: its bookings are still there, and so are their answers.
            Err(no_event) => match Checked::check(request, &self.passes, false, now) {
                Ok((checked, _)) => (checked, no_event),
                Err(_) => return Err(no_event),
            },
        };
        // A retry of a request that succeeded meets a used pass, a changed price or an empty zone: its first answer comes first.
        if matches!(refusal.code, Code::Overloaded | Code::InternalError | Code::IdempotencyMismatch) {
            return Err(refusal);
        }
        match self.ledger.answer(&checked.key, now).await.map_err(ledger_problem)? {
            Some(stored) => checked.replay(stored),
            None => Err(refusal),
        }
    }

    async fn carry_out(&self, live: &LiveEvent, checked: &Checked) -> Result<StoredAnswer, Unserved> {
        // Neither is touched without the other: there would be holds that nobody can write or undo.
        if self.catalogue.is_away() {
            return Err(Problem::unavailable(Away).into());
        }
        let request = &checked.request;
        let Some(zone) = live.event.zone(&request.zone) else {
            let detail = format!("The event has no zone {} in show {}.", request.zone.zone, request.zone.show);
            return Err(Problem::new(Code::ZoneNotFound, detail).into());
        };
        if request.unit_price.is_some_and(|shown| shown != zone.price) {
            let price = serde_json::to_string(&zone.price).unwrap_or_default();
            let detail = format!("A seat costs {price} now; show that and ask again.");
            return Err(Problem::new(Code::PriceChanged, detail).into());
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
        let asked = Instant::now();
        for wait in BUSY_WAITS {
            match self.claim(live, &claim).await {
                Ok(Claimed::PassBusy) => refusal = busy(),
                // The seats may be held by a reservation that comes to nothing, by the first request that this one retries, or
                // counted twice until their hold is settled: only the ledger can say that there are none.
                Ok(Claimed::InsufficientSeats) if self.merely_held(&claim, live).await? => {
                    refusal = no_seats();
                }
                Ok(claimed) => return self.claimed(live, claimed, checked, booking).await,
                Err(problem) => {
                    // What the store did before it fell silent is not known.
                    if problem.code == Code::StoreUnavailable {
                        self.doubts.note(&request.event, booking.id);
                    }
                    return Err(problem.into());
                }
            }
            // A ledger that is slow as well must not make it longer.
            if asked.elapsed() > BUSY {
                break;
            }
            tokio::time::sleep(wait).await;
            if let Some(stored) = self.ledger.answer(&checked.key, self.clock.now()).await.map_err(ledger_problem)? {
                return Ok(checked.replay(stored)?);
            }
        }
        Err(refusal.into())
    }

    /// Whether the seats are there, says the ledger: then they are held by reservations on their way to it.
    async fn merely_held(&self, claim: &Claim, live: &LiveEvent) -> Result<bool, Problem> {
        let zones = self.ledger.zones(&live.event.id).await.map_err(ledger_problem)?;
        let left = zones.iter().find(|said| said.zone == claim.zone).map(|said| said.capacity - said.tally.taken);
        Ok(left.is_some_and(|left| left >= claim.quantity))
    }

    /// Asks the engine for the seats. What it has forgotten or missed is mended, and it is asked again: more than once, for
    /// while one request puts an event back into an empty store, others meet it half there.
    async fn claim(&self, live: &LiveEvent, claim: &Claim) -> Result<Claimed, Problem> {
        let event = &live.event.id;
        let mut mends = 0;
        loop {
            mends += 1;
            match self.batched.claim(event, claim).await {
                Err(EngineError::UnknownEvent) if mends <= MENDS => {
                    self.catalogue.restore(event, self.clock.now()).await?;
                }
                Ok(Claimed::UnknownZone) if mends <= MENDS => {
                    let live = self.catalogue.find(event)?;
                    self.catalogue.sync_stock(&live.event, self.clock.now()).await?;
                }
                // The engine may have missed that seats came back, and no rebuild tells it of buyers: the ledger knows.
                Ok(Claimed::UserLimit) if mends <= MENDS => {
                    let buyer = self.ledger.buyer(event, &claim.visitor).await.map_err(ledger_problem)?;
                    let most = live.event.spec.queue.max_per_user;
                    if most > 0 && buyer.tally.taken.saturating_add(claim.quantity) > most {
                        return Ok(Claimed::UserLimit);
                    }
                    self.teller.news(event, &LedgerNews { buyers: vec![buyer], ..LedgerNews::default() }).await;
                }
                answer => return answer.map_err(engine_problem),
            }
        }
    }

    async fn claimed(
        &self,
        live: &LiveEvent,
        claimed: Claimed,
        checked: &Checked,
        booking: Booking,
    ) -> Result<StoredAnswer, Unserved> {
        let refusal = match claimed {
            Claimed::Held => return Ok(self.write(live, checked, booking).await?),
            // The pass was never used, so there is no first answer either: the ledger is spared the crowd that is too late.
            Claimed::SoldOut => return Err(Unserved::Final(no_seats())),
            Claimed::PassUsed => pass_used(),
            Claimed::PassExpired => Problem::new(Code::QueuePassExpired, "The pass has run out; join the queue again."),
            Claimed::PassVoid => {
                Problem::new(Code::InvalidQueuePass, "The pass was given back or withdrawn; join again.")
            }
            Claimed::InsufficientSeats => no_seats(),
            Claimed::UserLimit => too_many(live),
            // The catalogue has the zone, and the engine was just told of it: its store was emptied once more.
            Claimed::UnknownZone => Problem::unavailable("the engine does not keep the zone"),
            Claimed::PassBusy => busy(),
        };
        Err(refusal.into())
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
                self.teller.news(&event, &undone()).await;
                return Err(Problem::overloaded("The ledger"));
            }
            Err(lost) => return self.find_out(&event, &id, checked, answer, Problem::unavailable(lost)).await,
        };
        match committed {
            // The engine was told with the whole batch.
            Committed::Done { .. } => {
                self.metrics.reserved.inc();
                Ok(answer)
            }
            Committed::Replayed { answer, pass_used } => {
                // A pass that the first request used up is used, though the engine had forgotten; a fresh one stays good.
                self.teller.news(&event, &if pass_used { settled() } else { undone() }).await;
                checked.replay(answer)
            }
            Committed::PassUsed => {
                self.teller.news(&event, &settled()).await;
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
                self.teller.news(&event, &undone()).await;
                Err(Problem::new(Code::ZoneNotFound, "The zone is no longer there."))
            }
        }
    }

    /// The ledger failed: asks it whether the booking was written. When even that fails, the sweeper asks again.
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
                self.teller.news(event, &LedgerNews { undone: ids.to_vec(), ..LedgerNews::default() }).await;
                Err(failure)
            }
            Ok(_) => {
                let settled = LedgerNews { settled: ids.to_vec(), ..LedgerNews::default() };
                self.tell_counted(event, &checked.visitor, settled).await;
                self.metrics.reserved.inc();
                Ok(answer)
            }
            Err(_) => {
                self.doubts.note(event, id.clone());
                Err(failure)
            }
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
        self.teller.news(event, &news).await;
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
