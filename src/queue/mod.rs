//! The line as a visitor meets it: join, position, leave, status.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::catalogue::{Catalogue, LiveEvent, engine_problem};
use crate::domain::{Clock, Code, EventId, Problem, QueueState, Timestamp, VisitorId};
use crate::engine::{self, Admission, Batched, Engine, EngineError, Joined, Leaving, Left, PLACE_TTL, Place, Reclaim};
use crate::line::Flow;
use crate::metrics::Metrics;
use crate::pass::{PassKey, Ticket, TicketKey};

mod view;

pub use view::{JoinView, PositionView, Standing, StatusView};

/// How often an engine that has forgotten something is mended before its answer stands.
const MENDS: u32 = 3;
/// Visitors without a ticket whose numbers are remembered: some 100 bytes each.
const REMEMBERED: usize = 1 << 18;

/// The queue service.
pub struct Queue {
    engine: Arc<dyn Engine>,
    batched: Batched,
    catalogue: Arc<Catalogue>,
    tickets: Arc<TicketKey>,
    passes: Arc<PassKey>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// The places of visitors who come without a ticket, so that each is looked up once.
    numbers: Cache<(EventId, VisitorId), Held>,
}

/// A place that a visitor was given, as a ticket or an earlier look-up says. They may have left it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the place.
    pub number: u64,
    /// Until when it is honoured.
    pub expires_at: Timestamp,
}

impl Held {
    fn reclaim(self, visitor: &VisitorId) -> Reclaim {
        Reclaim { visitor: visitor.clone(), number: self.number, joined_at: self.expires_at.minus(PLACE_TTL) }
    }
}

impl From<engine::Away> for Held {
    fn from(away: engine::Away) -> Self {
        Self { number: away.number, expires_at: away.joined_at.plus(PLACE_TTL) }
    }
}

impl From<&Ticket> for Held {
    fn from(ticket: &Ticket) -> Self {
        Self { number: ticket.number, expires_at: ticket.expires_at }
    }
}

/// What came of a join.
pub enum Join {
    /// A new place.
    New(JoinView),
    /// The same place, or the same pass, again.
    Again(JoinView),
}

impl Queue {
    /// The service.
    pub fn new(
        batched: Batched,
        catalogue: Arc<Catalogue>,
        tickets: Arc<TicketKey>,
        passes: Arc<PassKey>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let engine = Arc::clone(batched.engine());
        Self { engine, batched, catalogue, tickets, passes, clock, metrics, numbers: Cache::new(REMEMBERED) }
    }

    /// Gives the visitor a place, or says again which they have: also where the store lost it, if `held` proves it.
    ///
    /// # Errors
    /// `QUEUE_FULL`, `QUEUE_NOT_OPEN`, `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn join(&self, live: &LiveEvent, visitor: &VisitorId, held: Option<Held>) -> Result<Join, Problem> {
        if let Some(held) = held
            && let (engine::Standing::Waiting(place), waiting) = self.reclaim(live, visitor, held).await?
        {
            return Ok(Join::Again(self.place_view(live, visitor, place, waiting)));
        }
        let (joined, waiting) = self.ask_join(live, visitor).await?;
        match joined {
            Joined::New(place) => {
                self.metrics.joined.inc();
                live.line.joined(place.number);
                Ok(Join::New(self.place_view(live, visitor, place, waiting)))
            }
            Joined::Already(place) => Ok(Join::Again(self.place_view(live, visitor, place, waiting))),
            Joined::Admitted(admission) => Ok(Join::Again(self.pass_view(live, visitor, admission, waiting)?)),
            // The turn came while they were away: they are at the front now.
            Joined::Parked(away) => match self.reclaim(live, visitor, Held::from(away)).await? {
                (engine::Standing::Waiting(place), waiting) => {
                    Ok(Join::Again(self.place_view(live, visitor, place, waiting)))
                }
                _ => Err(Problem::unavailable("the place was gone when it was asked for")),
            },
            Joined::Full => Err(Problem::new(Code::QueueFull, "The line is at its limit; try again later.")),
            Joined::Closed => Err(Problem::new(Code::QueueNotOpen, "This queue takes no new visitors.")),
            Joined::NoNumbers => Err(Problem::overloaded("The line")),
        }
    }

    async fn ask_join(&self, live: &LiveEvent, visitor: &VisitorId) -> Result<(Joined, u64), Problem> {
        let id = &live.event.id;
        let mut mends = 0;
        loop {
            mends += 1;
            // The store came back empty or gave up its numbers, or they ran out: mend it and ask again.
            match self.batched.join(id, visitor).await {
                Err(EngineError::UnknownEvent) | Ok((Joined::NoNumbers, _)) if mends <= MENDS => {
                    self.catalogue.restore(id, self.clock.now()).await?;
                }
                answer => return answer.map_err(engine_problem),
            }
        }
    }

    /// Where the visitor stands. Admits nobody.
    ///
    /// # Errors
    /// `NOT_IN_QUEUE`, `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn position(
        &self,
        live: &LiveEvent,
        visitor: &VisitorId,
        held: Option<Held>,
    ) -> Result<PositionView, Problem> {
        match self.remembered(live, visitor, held) {
            Some(view) => Ok(view),
            None => self.look_up(live, visitor, held).await,
        }
    }

    /// Where the visitor stands, from memory; `None` where the number of the place is not known, or no longer in line.
    pub fn remembered(&self, live: &LiveEvent, visitor: &VisitorId, held: Option<Held>) -> Option<PositionView> {
        let held = held.or_else(|| self.numbers.get(&(live.event.id.clone(), visitor.clone())))?;
        let view = self.waiting(live, held)?;
        self.metrics.from_memory.inc();
        Some(view)
    }

    /// Where the visitor stands, from the store. A place that it lost is given back to whoever proves it.
    ///
    /// # Errors
    /// `NOT_IN_QUEUE`, `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn look_up(
        &self,
        live: &LiveEvent,
        visitor: &VisitorId,
        held: Option<Held>,
    ) -> Result<PositionView, Problem> {
        self.metrics.from_store.inc();
        let (mut standing, mut waiting) = self.locate(live, visitor).await?;
        let held = held.or_else(|| self.numbers.get(&(live.event.id.clone(), visitor.clone())));
        let lost = match standing {
            engine::Standing::Absent => held,
            engine::Standing::Parked(away) => Some(Held::from(away)),
            _ => None,
        };
        if let Some(held) = lost {
            (standing, waiting) = self.reclaim(live, visitor, held).await?;
        }
        if let engine::Standing::Waiting(place) = standing {
            live.line.see(place.number);
            let held = Held { number: place.number, expires_at: place.joined_at.plus(PLACE_TTL) };
            self.numbers.insert((live.event.id.clone(), visitor.clone()), held);
        }
        if let engine::Standing::Admitted(admission) = standing {
            live.line.passed(admission.number, self.clock.now());
        }
        self.view(live, visitor, standing, waiting)
    }

    /// The answer to a visitor whose place is in line; `None` where memory cannot tell.
    pub fn waiting(&self, live: &LiveEvent, held: Held) -> Option<PositionView> {
        let now = self.clock.now();
        let look = live.line.look(held.number, now)?;
        let wait = live.wait_seconds(look.position?, Some(look.flow), now);
        Some(place_in_line(live, look.position?, look.waiting, wait, held.expires_at))
    }

    /// Where a visitor stands, as the store says, and how many wait.
    ///
    /// # Errors
    /// `OVERLOADED`, `STORE_UNAVAILABLE`.
    pub async fn locate(&self, live: &LiveEvent, visitor: &VisitorId) -> Result<(engine::Standing, u64), Problem> {
        let id = &live.event.id;
        self.catalogue.mended(id, self.clock.now(), || self.batched.locate(id, visitor)).await
    }

    async fn reclaim(
        &self,
        live: &LiveEvent,
        visitor: &VisitorId,
        held: Held,
    ) -> Result<(engine::Standing, u64), Problem> {
        let (id, place) = (&live.event.id, held.reclaim(visitor));
        self.catalogue.mended(id, self.clock.now(), || self.batched.reclaim(id, &place)).await
    }

    /// Where many visitors stand, and how many wait. Places that the store lost are given back.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn locate_all(
        &self,
        live: &LiveEvent,
        places: impl Iterator<Item = (&VisitorId, Held)>,
    ) -> Result<(Vec<engine::Standing>, u64), Problem> {
        let (id, now) = (&live.event.id, self.clock.now());
        let places: Vec<_> = places.map(|(visitor, held)| held.reclaim(visitor)).collect();
        let standings = self.engine.reclaim(id, &places, now).await.map_err(engine_problem)?;
        Ok((standings, self.engine.counters(id, now).await.map_err(engine_problem)?.waiting))
    }

    /// What a visitor is shown who stands there, as the store says.
    ///
    /// # Errors
    /// `NOT_IN_QUEUE`; `INTERNAL_ERROR` when the pass cannot be signed.
    pub fn view(
        &self,
        live: &LiveEvent,
        visitor: &VisitorId,
        standing: engine::Standing,
        waiting: u64,
    ) -> Result<PositionView, Problem> {
        let event = &live.event.id;
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
                let wait = self.wait(live, place.position);
                place_in_line(live, place.position, waiting, wait, place.joined_at.plus(PLACE_TTL))
            }
            // Back in line by the next poll, and then at the front.
            engine::Standing::Parked(away) => {
                place_in_line(live, 1, waiting, self.wait(live, 1), away.joined_at.plus(PLACE_TTL))
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

    fn wait(&self, live: &LiveEvent, position: u64) -> Option<u64> {
        live.wait_seconds(position, live.line.latest().map(Flow::from), self.clock.now())
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
        if left == Left::Line {
            live.line.left(ticket.number);
        }
        if left != Left::Nothing {
            self.metrics.left.inc();
        }
        Ok(left)
    }

    /// The line as a whole, from memory.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`.
    pub fn status(&self, event: &EventId) -> Result<StatusView, Problem> {
        let live = self.catalogue.find(event)?;
        let now = self.clock.now();
        let policy = &live.event.spec.queue;
        let state = policy.state_at(now);
        let latest = live.line.latest();
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
            estimated_wait_seconds: live.wait_seconds(waiting + 1, latest.map(Flow::from), now),
            message: policy.message.clone(),
            updated_at: latest.map_or(now, |(counters, _)| counters.at),
        })
    }

    fn ticket(&self, event: &EventId, visitor: &VisitorId, number: u64, joined_at: Timestamp) -> String {
        let (event, visitor) = (event.clone(), visitor.clone());
        self.tickets.issue(&Ticket { event, visitor, number, joined_at, expires_at: joined_at.plus(PLACE_TTL) })
    }

    fn place_view(&self, live: &LiveEvent, visitor: &VisitorId, place: Place, waiting: u64) -> JoinView {
        let wait = self.wait(live, place.position);
        JoinView {
            event_id: live.event.id.clone(),
            position: place.position,
            total_in_queue: waiting,
            estimated_wait_seconds: wait,
            is_ready: false,
            token: self.ticket(&live.event.id, visitor, place.number, place.joined_at),
            joined_at: place.joined_at,
            expires_at: place.joined_at.plus(PLACE_TTL),
            poll_after_seconds: live.poll_after_seconds(wait),
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

fn place_in_line(
    live: &LiveEvent,
    position: u64,
    waiting: u64,
    wait: Option<u64>,
    expires_at: Timestamp,
) -> PositionView {
    PositionView {
        event_id: live.event.id.clone(),
        state: Standing::Waiting,
        position,
        total_in_queue: waiting,
        estimated_wait_seconds: wait,
        is_ready: false,
        expires_at,
        poll_after_seconds: live.poll_after_seconds(wait),
        queue_pass: None,
        queue_pass_expires_at: None,
    }
}
