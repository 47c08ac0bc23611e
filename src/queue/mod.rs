//! The line as a visitor meets it: join, position, leave, status.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalogue::{Catalogue, LiveEvent, engine_problem};
use crate::coalesce::{Bounds, Coalescer, Refused};
use crate::domain::wait::poll_after_seconds;
use crate::domain::{Clock, Code, EventId, Problem, QueueState, Timestamp, VisitorId};
use crate::engine::{self, Admission, Engine, EngineError, Joined, Leaving, Left, MAX_BATCH, PLACE_TTL, Place};
use crate::metrics::Metrics;
use crate::pass::{PassKey, Ticket, TicketKey};

mod view;

pub use view::{JoinView, PositionView, Standing, StatusView};

/// Batches of one kind on their way to the engine at once.
const IN_FLIGHT: usize = 2;

type Ask<A> = Coalescer<(EventId, VisitorId), Result<(A, u64), EngineError>>;

/// The queue service.
pub struct Queue {
    engine: Arc<dyn Engine>,
    catalogue: Arc<Catalogue>,
    tickets: Arc<TicketKey>,
    passes: Arc<PassKey>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    joins: Ask<Joined>,
    lookups: Ask<engine::Standing>,
}

/// What came of a join.
pub enum Join {
    /// A new place.
    New(JoinView),
    /// The same place, or the same pass, again.
    Again(JoinView),
}

impl Queue {
    /// The service; `pending` bounds how many joins, and how many lookups, may wait for the engine.
    pub fn new(
        engine: Arc<dyn Engine>,
        catalogue: Arc<Catalogue>,
        tickets: Arc<TicketKey>,
        passes: Arc<PassKey>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        pending: usize,
    ) -> Self {
        let bounds = Bounds { batch: MAX_BATCH, in_flight: IN_FLIGHT, pending };
        let (on, time) = (Arc::clone(&engine), Arc::clone(&clock));
        let joins = Coalescer::start(bounds, move |asked| {
            let (engine, clock) = (Arc::clone(&on), Arc::clone(&time));
            by_event(asked, move |event, visitors| {
                let (engine, now) = (Arc::clone(&engine), clock.now());
                async move {
                    let joined = engine.join(&event, &visitors, now).await?;
                    Ok((joined, engine.counters(&event, now).await?.waiting))
                }
            })
        });
        let (on, time) = (Arc::clone(&engine), Arc::clone(&clock));
        let lookups = Coalescer::start(bounds, move |asked| {
            let (engine, clock) = (Arc::clone(&on), Arc::clone(&time));
            by_event(asked, move |event, visitors| {
                let (engine, now) = (Arc::clone(&engine), clock.now());
                async move {
                    let standings = engine.locate(&event, &visitors, now).await?;
                    Ok((standings, engine.counters(&event, now).await?.waiting))
                }
            })
        });
        Self { engine, catalogue, tickets, passes, clock, metrics, joins, lookups }
    }

    /// Gives the visitor a place, or says again which they have.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `QUEUE_FULL`, `QUEUE_NOT_OPEN`, `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn join(&self, event: &EventId, visitor: &VisitorId) -> Result<Join, Problem> {
        let live = self.catalogue.find(event)?;
        let (joined, waiting) = self.ask_join(&live, visitor).await?;
        match joined {
            Joined::New(place) => {
                self.metrics.joined.inc();
                live.flow.joined();
                Ok(Join::New(self.place_view(&live, visitor, place, waiting)))
            }
            Joined::Already(place) => Ok(Join::Again(self.place_view(&live, visitor, place, waiting))),
            Joined::Admitted(admission) => Ok(Join::Again(self.pass_view(&live, visitor, admission, waiting)?)),
            Joined::Full => Err(Problem::new(Code::QueueFull, "The line is at its limit; try again later.")),
            Joined::Closed => Err(Problem::new(Code::QueueNotOpen, "This queue takes no new visitors.")),
            Joined::NoNumbers => Err(Problem::overloaded("The line")),
        }
    }

    async fn ask_join(&self, live: &LiveEvent, visitor: &VisitorId) -> Result<(Joined, u64), Problem> {
        let id = &live.event.id;
        let mut answer = ask(&self.joins, id, visitor).await?;
        // The store came back empty, or the block of numbers ran out: mend it and ask once more.
        match answer {
            Err(EngineError::UnknownEvent) => {
                self.catalogue.restore(id, self.clock.now()).await?;
                answer = ask(&self.joins, id, visitor).await?;
            }
            Ok((Joined::NoNumbers, _)) => {
                self.catalogue.top_up_numbers(id, engine::NumbersLeft(0)).await?;
                answer = ask(&self.joins, id, visitor).await?;
            }
            _ => {}
        }
        answer.map_err(engine_problem)
    }

    /// Where the visitor stands. Admits nobody.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `NOT_IN_QUEUE`, `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn position(&self, event: &EventId, visitor: &VisitorId) -> Result<PositionView, Problem> {
        let live = self.catalogue.find(event)?;
        let mut answer = ask(&self.lookups, event, visitor).await?;
        if let Err(EngineError::UnknownEvent) = answer {
            self.catalogue.restore(event, self.clock.now()).await?;
            answer = ask(&self.lookups, event, visitor).await?;
        }
        let (standing, waiting) = answer.map_err(engine_problem)?;
        let view = |state, admission: Admission, pass: Option<String>| PositionView {
            event_id: event.clone(),
            state,
            position: 0,
            total_in_queue: waiting,
            estimated_wait_seconds: Some(0),
            is_ready: state == Standing::Admitted,
            expires_at: admission.expires_at,
            poll_after_seconds: 1,
            queue_pass: pass,
            queue_pass_expires_at: (state == Standing::Admitted).then_some(admission.expires_at),
        };
        Ok(match standing {
            engine::Standing::Waiting(place) => {
                let wait = live.wait_seconds(place.position, self.clock.now());
                PositionView {
                    event_id: event.clone(),
                    state: Standing::Waiting,
                    position: place.position,
                    total_in_queue: waiting,
                    estimated_wait_seconds: wait,
                    is_ready: false,
                    expires_at: place.joined_at.plus(PLACE_TTL),
                    poll_after_seconds: poll_after_seconds(wait),
                    queue_pass: None,
                    queue_pass_expires_at: None,
                }
            }
            engine::Standing::Admitted(admission) => {
                view(Standing::Admitted, admission, Some(self.pass(event, visitor, admission)?))
            }
            engine::Standing::Used(admission) => view(Standing::Used, admission, None),
            engine::Standing::Expired(admission) => view(Standing::Expired, admission, None),
            engine::Standing::Absent => {
                return Err(Problem::new(Code::NotInQueue, "Join the queue first, at POST /api/v1/queue/join."));
            }
        })
    }

    /// Gives up the place, or the pass, that the ticket stands for. Leaving twice is no error.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn leave(&self, ticket: &Ticket) -> Result<Left, Problem> {
        let live = self.catalogue.find(&ticket.event)?;
        let leaving = [Leaving { visitor: ticket.visitor.clone(), number: ticket.number }];
        let left = match self.engine.leave(&live.event.id, &leaving, self.clock.now()).await {
            Ok(left) => left.first().copied().unwrap_or(Left::Nothing),
            Err(EngineError::UnknownEvent) => Left::Nothing,
            Err(error) => return Err(engine_problem(error)),
        };
        if left != Left::Nothing {
            self.metrics.left.inc();
        }
        Ok(left)
    }

    /// The line as a whole, as of the last release: no round trip.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`.
    pub fn status(&self, event: &EventId) -> Result<StatusView, Problem> {
        let live = self.catalogue.find(event)?;
        let now = self.clock.now();
        let policy = &live.event.spec.queue;
        let state = policy.state_at(now);
        let latest = live.flow.latest();
        let waiting = latest.map_or(0, |(counters, _)| counters.waiting);
        Ok(StatusView {
            event_id: event.clone(),
            name: live.event.spec.name.clone(),
            state,
            is_open: state == QueueState::Open,
            total_in_queue: waiting,
            admitted_active: latest.map_or(0, |(counters, _)| counters.active),
            admit_per_minute: policy.admit_per_minute,
            observed_admit_per_minute: latest.map_or(0, |(_, outflow)| outflow.admitted_per_minute()),
            estimated_wait_seconds: live.wait_seconds(waiting + 1, now),
            message: policy.message.clone(),
            updated_at: latest.map_or(now, |(counters, _)| counters.at),
        })
    }

    fn ticket(&self, event: &EventId, visitor: &VisitorId, number: u64, joined_at: Timestamp) -> String {
        let (event, visitor) = (event.clone(), visitor.clone());
        self.tickets.issue(&Ticket { event, visitor, number, joined_at, expires_at: joined_at.plus(PLACE_TTL) })
    }

    fn place_view(&self, live: &LiveEvent, visitor: &VisitorId, place: Place, waiting: u64) -> JoinView {
        let wait = live.wait_seconds(place.position, self.clock.now());
        JoinView {
            event_id: live.event.id.clone(),
            position: place.position,
            total_in_queue: waiting,
            estimated_wait_seconds: wait,
            is_ready: false,
            token: self.ticket(&live.event.id, visitor, place.number, place.joined_at),
            joined_at: place.joined_at,
            expires_at: place.joined_at.plus(PLACE_TTL),
            poll_after_seconds: poll_after_seconds(wait),
            queue_pass: None,
            queue_pass_expires_at: None,
        }
    }

    /// For one who is admitted already. When they joined is no longer known; the ticket counts from the admission.
    fn pass_view(
        &self,
        live: &LiveEvent,
        visitor: &VisitorId,
        admission: Admission,
        waiting: u64,
    ) -> Result<JoinView, Problem> {
        let id = &live.event.id;
        Ok(JoinView {
            event_id: id.clone(),
            position: 0,
            total_in_queue: waiting,
            estimated_wait_seconds: Some(0),
            is_ready: true,
            token: self.ticket(id, visitor, admission.number, admission.admitted_at),
            joined_at: admission.admitted_at,
            expires_at: admission.expires_at,
            poll_after_seconds: 1,
            queue_pass: Some(self.pass(id, visitor, admission)?),
            queue_pass_expires_at: Some(admission.expires_at),
        })
    }

    fn pass(&self, event: &EventId, visitor: &VisitorId, admission: Admission) -> Result<String, Problem> {
        self.passes.mint(event, visitor, &admission).map_err(Problem::internal)
    }
}

async fn ask<A: Send + 'static>(
    door: &Ask<A>,
    event: &EventId,
    visitor: &VisitorId,
) -> Result<Result<(A, u64), EngineError>, Problem> {
    door.ask((event.clone(), visitor.clone())).await.map_err(refused)
}

/// What a full or broken batch is to a caller.
pub fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Full => Problem::overloaded("This instance"),
        Refused::Lost => Problem::unavailable(refused),
    }
}

/// Carries out a mixed batch event by event, in the order of first mention, and puts the answers back in their places.
async fn by_event<A, F, R>(asked: Vec<(EventId, VisitorId)>, run: F) -> Vec<Result<(A, u64), EngineError>>
where
    A: Copy,
    F: Fn(EventId, Vec<VisitorId>) -> R,
    R: Future<Output = engine::Result<(Vec<A>, u64)>>,
{
    let mut answers: Vec<Result<(A, u64), EngineError>> =
        asked.iter().map(|_| Err(EngineError::Unavailable("no answer".into()))).collect();
    let mut groups: HashMap<EventId, Vec<(usize, VisitorId)>> = HashMap::new();
    for (at, (event, visitor)) in asked.into_iter().enumerate() {
        groups.entry(event).or_default().push((at, visitor));
    }
    for (event, members) in groups {
        let (places, visitors): (Vec<usize>, Vec<VisitorId>) = members.into_iter().unzip();
        match run(event, visitors).await {
            Ok((each, waiting)) => {
                for (place, answer) in places.into_iter().zip(each) {
                    answers[place] = Ok((answer, waiting));
                }
            }
            Err(error) => places.into_iter().for_each(|place| answers[place] = Err(error.clone())),
        }
    }
    answers
}
