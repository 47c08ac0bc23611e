//! Single calls on an engine that takes batches: straight where the engine is in process, gathered into batches where a
//! round trip is to be shared.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Claim, Claimed, Engine, EngineError, Joined, MAX_BATCH, Reclaim, Result, Standing};
use crate::coalesce::{Bounds, Coalescer, Refused};
use crate::domain::{Clock, EventId, VisitorId};

/// Batches of one kind on their way to the engine at once.
const IN_FLIGHT: usize = 2;
/// Claims in one batch: each takes the store several times as long as a join.
const CLAIMS: usize = 100;

type Door<Q, A> = Coalescer<(EventId, Q), Result<A>>;

/// An engine, one visitor at a time. Cheap to clone.
#[derive(Clone)]
pub struct Batched {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    /// `None` where the engine is in process: there is no round trip to share.
    doors: Option<Arc<Doors>>,
}

struct Doors {
    joins: Door<VisitorId, (Joined, u64)>,
    lookups: Door<VisitorId, (Standing, u64)>,
    reclaims: Door<Reclaim, (Standing, u64)>,
    claims: Door<Claim, Claimed>,
}

impl Batched {
    /// `pending` bounds how many calls of each kind may wait for a batch. Call it within a Tokio runtime.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, pending: usize) -> Self {
        let mut batched = Self { engine, clock, doors: None };
        if !batched.engine.is_in_process() {
            let bounds = Bounds { batch: MAX_BATCH, in_flight: IN_FLIGHT, fill: Duration::ZERO, pending };
            let doors = Doors {
                joins: batched.door(bounds, |on, event, visitors| async move { on.joins(&event, &visitors).await }),
                lookups: batched.door(bounds, |on, event, visitors| async move { on.lookups(&event, &visitors).await }),
                reclaims: batched.door(bounds, |on, event, places| async move { on.reclaims(&event, &places).await }),
                claims: batched.door(Bounds { batch: CLAIMS, ..bounds }, |on, event, claims| async move {
                    on.engine.claim(&event, &claims, on.clock.now()).await
                }),
            };
            batched.doors = Some(Arc::new(doors));
        }
        batched
    }

    /// The engine itself.
    pub const fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// [`Engine::join`] for one visitor, and how many wait afterwards.
    ///
    /// # Errors
    /// Those of the engine; [`EngineError::Overloaded`] when as many calls wait as may.
    pub async fn join(&self, event: &EventId, visitor: &VisitorId) -> Result<(Joined, u64)> {
        match &self.doors {
            Some(doors) => ask(&doors.joins, event, visitor.clone()).await,
            None => only(self.joins(event, std::slice::from_ref(visitor)).await),
        }
    }

    /// [`Engine::locate`] for one visitor, and how many wait.
    ///
    /// # Errors
    /// As of [`Batched::join`].
    pub async fn locate(&self, event: &EventId, visitor: &VisitorId) -> Result<(Standing, u64)> {
        match &self.doors {
            Some(doors) => ask(&doors.lookups, event, visitor.clone()).await,
            None => only(self.lookups(event, std::slice::from_ref(visitor)).await),
        }
    }

    /// [`Engine::reclaim`] for one visitor, and how many wait.
    ///
    /// # Errors
    /// As of [`Batched::join`].
    pub async fn reclaim(&self, event: &EventId, place: &Reclaim) -> Result<(Standing, u64)> {
        match &self.doors {
            Some(doors) => ask(&doors.reclaims, event, place.clone()).await,
            None => only(self.reclaims(event, std::slice::from_ref(place)).await),
        }
    }

    /// [`Engine::claim`] for one reservation.
    ///
    /// # Errors
    /// As of [`Batched::join`].
    pub async fn claim(&self, event: &EventId, claim: &Claim) -> Result<Claimed> {
        match &self.doors {
            Some(doors) => ask(&doors.claims, event, claim.clone()).await,
            None => only(self.engine.claim(event, std::slice::from_ref(claim), self.clock.now()).await),
        }
    }

    async fn joins(&self, event: &EventId, visitors: &[VisitorId]) -> Result<Vec<(Joined, u64)>> {
        let joined = self.engine.join(event, visitors, self.clock.now()).await?;
        // Whoever has a new place is the last in line: their position is the length of the line.
        let mut waiting = 0;
        if !joined.iter().all(|joined| matches!(joined, Joined::New(_))) {
            waiting = self.engine.counters(event, self.clock.now()).await?.waiting;
        }
        let with_length = |joined| match joined {
            Joined::New(place) => (joined, waiting.max(place.position)),
            _ => (joined, waiting),
        };
        Ok(joined.into_iter().map(with_length).collect())
    }

    async fn lookups(&self, event: &EventId, visitors: &[VisitorId]) -> Result<Vec<(Standing, u64)>> {
        let standings = self.engine.locate(event, visitors, self.clock.now()).await?;
        let waiting = self.engine.counters(event, self.clock.now()).await?.waiting;
        Ok(standings.into_iter().map(|standing| (standing, waiting)).collect())
    }

    async fn reclaims(&self, event: &EventId, places: &[Reclaim]) -> Result<Vec<(Standing, u64)>> {
        let standings = self.engine.reclaim(event, places, self.clock.now()).await?;
        let waiting = self.engine.counters(event, self.clock.now()).await?.waiting;
        Ok(standings.into_iter().map(|standing| (standing, waiting)).collect())
    }

    fn door<Q, A, F, R>(&self, bounds: Bounds, run: F) -> Door<Q, A>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Fn(Self, EventId, Vec<Q>) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Vec<A>>> + Send + 'static,
    {
        let on = self.clone();
        Coalescer::start(bounds, move |asked| {
            let on = on.clone();
            by_event(asked, move |event, items| run(on.clone(), event, items))
        })
    }
}

async fn ask<Q: Send + 'static, A: Send + 'static>(door: &Door<Q, A>, event: &EventId, item: Q) -> Result<A> {
    door.ask((event.clone(), item)).await.unwrap_or_else(|refused| {
        Err(match refused {
            Refused::Full => EngineError::Overloaded,
            Refused::Lost => EngineError::Unavailable(refused.to_string()),
        })
    })
}

fn only<A>(answers: Result<Vec<A>>) -> Result<A> {
    answers?.pop().ok_or_else(|| EngineError::Unavailable("no answer".into()))
}

/// Carries out a mixed batch event by event and puts the answers back in their places.
async fn by_event<Q, A, F, R>(asked: Vec<(EventId, Q)>, run: F) -> Vec<Result<A>>
where
    F: Fn(EventId, Vec<Q>) -> R,
    R: Future<Output = Result<Vec<A>>>,
{
    let mut answers = Vec::with_capacity(asked.len());
    answers.resize_with(asked.len(), || Err(EngineError::Unavailable("no answer".into())));
    let mut groups: HashMap<EventId, (Vec<usize>, Vec<Q>)> = HashMap::new();
    for (at, (event, item)) in asked.into_iter().enumerate() {
        let (places, items) = groups.entry(event).or_default();
        places.push(at);
        items.push(item);
    }
    for (event, (places, items)) in groups {
        match run(event, items).await {
            Ok(each) => places.into_iter().zip(each).for_each(|(place, answer)| answers[place] = Ok(answer)),
            Err(error) => places.into_iter().for_each(|place| answers[place] = Err(error.clone())),
        }
    }
    answers
}
