//! Tells the engine who was seen: polls and streams leave a bit for each number in [`crate::line::Line`], and this takes them along
//! now and then. A poll writes nothing to a store.

use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::{Catalogue, LiveEvent, each, engine_problem};
use crate::domain::{Clock, Problem, Timestamp};
use crate::engine::{Engine, EngineError, SEEN_BATCH};

/// The longest between two tellings; a quarter of the presence window if that is shorter.
const SELDOM: Duration = Duration::from_secs(5);

/// The presence service of an instance.
pub struct Presence {
    engine: Arc<dyn Engine>,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
}

impl Presence {
    /// For the catalogue's events.
    pub fn new(engine: Arc<dyn Engine>, catalogue: Arc<Catalogue>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, catalogue, clock }
    }

    /// One step: tells who was seen of every event that is due. A failure of one event does not hold up the others.
    pub async fn tick(&self) {
        if self.engine.is_away() {
            return;
        }
        let now = self.clock.now();
        let due = self.catalogue.all().into_iter().filter_map(|live| {
            let window = live.event.spec.queue.presence_window()?;
            (now.since(live.line.told_at()) >= SELDOM.min(window / 4)).then_some(live)
        });
        each(due, |live| async move {
            if let Err(problem) = self.tell(&live, now).await {
                tracing::warn!(event_id = %live.event.id, error = %problem, cause = ?problem.cause, "who was seen could not be told; nobody is passed over for it");
            }
        })
        .await;
    }

    async fn tell(&self, live: &LiveEvent, now: Timestamp) -> Result<(), Problem> {
        // What was seen before the first telling is of no known time.
        let lasted = now.since(live.line.told_at());
        let seen = live.line.take_seen();
        let mut rest = seen.as_slice();
        loop {
            let (batch, after) = rest.split_at(rest.len().min(SEEN_BATCH));
            match self.engine.see(&live.event.id, batch, lasted, now).await {
                Ok(()) => {}
                // The release restores it; there is nobody in line.
                Err(EngineError::UnknownEvent) => return Ok(()),
                Err(error) => {
                    live.line.see_again(rest);
                    return Err(engine_problem(error));
                }
            }
            rest = after;
            if rest.is_empty() {
                live.line.told(now);
                return Ok(());
            }
        }
    }
}
