//! Follows the engine's feed of each event, so that polls and pushes are answered from memory.
//!
//! An event whose feed is not known yet, or was lost from sight, is begun anew: the feed's end is noted, the numbers in line are read page by
//! page, and then the changes since. The pages are not one moment, but every change says what is, not what differs, so what
//! comes of it is exact.

use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::{Catalogue, LiveEvent, each, engine_problem};
use crate::domain::present::Present;
use crate::domain::{Clock, EventId, Problem, Timestamp};
use crate::engine::{self, Engine, EngineError};
use crate::line::Line;

/// An event where nothing happens is asked for this often.
const QUIET: Duration = Duration::from_millis(400);
/// Most calls for one event in one step.
const ROUNDS: u32 = 1_000;

/// The follower of an instance.
pub struct Follower {
    engine: Arc<dyn Engine>,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
}

impl Follower {
    /// A follower of the catalogue's events.
    pub fn new(engine: Arc<dyn Engine>, catalogue: Arc<Catalogue>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, catalogue, clock }
    }

    /// One step: hears what is new of every event that is due. A failure of one event does not hold up the others.
    pub async fn tick(&self) {
        if self.engine.is_away() {
            return;
        }
        let now = self.clock.now();
        let due = self.catalogue.all().into_iter().filter(|live| is_due(live, now));
        each(due, |live| async move {
            if let Err(problem) = self.follow(&live).await {
                tracing::warn!(event_id = %live.event.id, error = %problem, cause = ?problem.cause, "the line could not be followed");
            }
        })
        .await;
    }

    /// How long ago the line was heard of that was heard of longest ago: zero without events.
    pub fn age(&self) -> Duration {
        let now = self.clock.now();
        self.catalogue.all().iter().map(|live| live.line.age(now)).max().unwrap_or_default()
    }

    async fn follow(&self, live: &LiveEvent) -> Result<(), Problem> {
        match catch_up(self.engine.as_ref(), &live.event.id, &live.line, || self.clock.now()).await {
            Ok(()) => Ok(()),
            Err(EngineError::UnknownEvent) => {
                live.line.forget();
                self.catalogue.restore(&live.event.id, self.clock.now()).await
            }
            Err(error) => Err(engine_problem(error)),
        }
    }
}

/// Brings what is known of a line up to what the engine's feed says.
///
/// # Errors
/// Those of the engine. What was read before holds, and the next call goes on there.
pub async fn catch_up(
    engine: &dyn Engine,
    event: &EventId,
    line: &Line,
    now: impl Fn() -> Timestamp,
) -> engine::Result<()> {
    let mut begun = false;
    for _ in 0..ROUNDS {
        let asked = now();
        let from = line.cursor();
        let followed = engine.follow(event, from, asked).await?;
        if followed.changes.is_none() {
            // Behind again before the snapshot was read to its end: the next step tries once more.
            if std::mem::replace(&mut begun, true) {
                break;
            }
            line.begin(snapshot(engine, event).await?, followed.cursor);
            continue;
        }
        line.heard(from, &followed, asked);
        if !followed.more {
            break;
        }
    }
    Ok(())
}

async fn snapshot(engine: &dyn Engine, event: &EventId) -> engine::Result<Present> {
    let mut present = Present::default();
    let mut from = Some(0);
    while let Some(start) = from {
        let page = engine.snapshot(event, start).await?;
        page.ranges.iter().for_each(|(first, last)| present.insert(*first..=*last));
        from = page.next;
    }
    tracing::info!(event_id = %event, waiting = present.len(), "follows the line");
    Ok(present)
}

/// Whether something is going on in the line, or it is time to look.
fn is_due(live: &LiveEvent, now: Timestamp) -> bool {
    live.line.cursor().is_none()
        || live.line.latest().is_none_or(|(counters, _)| counters.waiting > 0)
        || live.line.age(now) >= QUIET
}
