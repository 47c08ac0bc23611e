//! Positions pushed over server-sent events.
//!
//! One hub an instance serves all streams. A stream is a slot in its table and nothing else: no task, no timer, no channel. Ten
//! times a second, right after the lines were followed, the hub looks over the table, asks the store in batches about those
//! who are no longer in line, and wakes the streams that have something to tell; what a stream tells is read when its connection
//! can take it, so the latest value wins. The event that carries the pass is the last one.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream;

use crate::catalogue::{Catalogue, LiveEvent};
use crate::domain::{Clock, Code, EventId, Problem, VisitorId};
use crate::engine::{MAX_BATCH, Standing as Found};
use crate::metrics::Metrics;
use crate::queue::{Held, PositionView, Queue, Standing};
use table::{Slot, Table, Told};

mod table;

/// Events that are pushed a second at most, about: with more streams each is told of new positions less often, so that a line that
/// moves all the time does not take all of the instance.
const PUSHES: u32 = 30_000;
/// However many streams there are, each is told of a new position after so long.
const SLOWEST: Duration = Duration::from_millis(700);
/// A comment line is sent after this long without an event.
const HEARTBEAT: Duration = Duration::from_secs(14);
/// A visitor who may have joined too lately to be known here is looked for in the store this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The streams of one instance.
pub struct Streams {
    queue: Arc<Queue>,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    most: usize,
    rooms: Mutex<Rooms>,
}

/// The open streams, by event.
#[derive(Default)]
struct Rooms {
    events: HashMap<EventId, Table>,
    open: usize,
    closing: bool,
}

impl Streams {
    /// At most `most` streams at once.
    pub fn new(
        queue: Arc<Queue>,
        catalogue: Arc<Catalogue>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        most: usize,
    ) -> Self {
        Self { queue, catalogue, clock, metrics, most, rooms: Mutex::default() }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream of `text/event-stream` chunks for one visitor.
    ///
    /// # Errors
    /// `OVERLOADED` at the limit of streams; otherwise the errors of a poll.
    pub async fn open(
        self: &Arc<Self>,
        live: &LiveEvent,
        visitor: &VisitorId,
        held: Option<Held>,
    ) -> Result<Push, Problem> {
        // The seat comes first: a crowd that is turned away asks no store.
        let seat = self.seat()?;
        let first = self.queue.position(live, visitor, held).await?;
        let mut slot = Slot::new(visitor.clone(), held, Instant::now());
        slot.sent(Some(&first), Instant::now());
        let event = live.event.id.clone();
        let at = self.rooms().events.entry(event.clone()).or_default().insert(slot);
        let last = first.state != Standing::Waiting;
        Ok(Push { seat, event, at, first: Some(first), over: last })
    }

    fn seat(self: &Arc<Self>) -> Result<Seat, Problem> {
        let mut rooms = self.rooms();
        if rooms.open >= self.most || rooms.closing {
            let detail = "As many streams are open as this instance takes; poll the position instead.";
            return Err(Problem::new(Code::Overloaded, detail));
        }
        rooms.open += 1;
        self.metrics.streams.inc();
        Ok(Seat(Arc::clone(self)))
    }

    /// One step of the hub.
    pub async fn tick(&self) {
        let events: Vec<EventId> = self.rooms().events.keys().cloned().collect();
        for event in events {
            let Ok(live) = self.catalogue.find(&event) else {
                self.wake(|rooms| rooms.events.get_mut(&event).map(Table::end_all).unwrap_or_default());
                continue;
            };
            for gone in self.look_over(&event, &live).chunks(MAX_BATCH) {
                let places = gone.iter().map(|(_, visitor, held)| (visitor, *held));
                match self.queue.locate_all(&live, places).await {
                    Ok((standings, waiting)) => {
                        self.wake(|rooms| rooms.found(&event, gone, &standings, waiting));
                    }
                    // A store that is away for a moment ends no stream.
                    Err(problem) => {
                        tracing::debug!(event_id = %event, cause = ?problem.cause, "streams wait for the store");
                        break;
                    }
                }
            }
        }
    }

    /// Wakes the streams that have something to tell, and says who is no longer in line.
    fn look_over(&self, event: &EventId, live: &LiveEvent) -> Vec<Missing> {
        let (now, time) = (Instant::now(), self.clock.now());
        let open = u32::try_from(self.rooms().open).unwrap_or(u32::MAX);
        let pace = (Duration::from_secs(1) * open / PUSHES).min(SLOWEST);
        let mut gone = Vec::new();
        self.wake(|rooms| {
            let Some(table) = rooms.events.get_mut(event) else { return Vec::new() };
            let looked = live.line.survey(time, |present| {
                table.each(|at, slot| {
                    if let Some(position) = present.visit(slot.number) {
                        return slot.is_due(position, pace, now);
                    }
                    if slot.may_look(slot.number <= present.highest(), now) {
                        gone.push((at, slot.visitor.clone(), slot.held()));
                    }
                    slot.is_silent(now)
                })
            });
            // Nothing is known of the line for now: the connections are kept.
            looked.unwrap_or_else(|| table.each(|_, slot| slot.is_silent(now)))
        });
        gone
    }

    /// Tells every stream to end: the service goes down. Clients are told to come back spread over some seconds.
    pub fn close(&self) {
        self.wake(|rooms| {
            rooms.closing = true;
            rooms.events.values_mut().flat_map(|table| table.each(|_, _| true)).collect()
        });
    }

    /// Wakes whom `choose` chooses, once the lock is free again.
    fn wake(&self, choose: impl FnOnce(&mut Rooms) -> Vec<Waker>) {
        let wakers = choose(&mut self.rooms());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A slot whose visitor is not known to be in line, and the place that they had.
type Missing = (usize, VisitorId, Held);

impl Rooms {
    /// Takes in what the store said of some visitors.
    fn found(&mut self, event: &EventId, asked: &[Missing], standings: &[Found], waiting: u64) -> Vec<Waker> {
        let Some(table) = self.events.get_mut(event) else { return Vec::new() };
        asked
            .iter()
            .zip(standings)
            // The slot may be another visitor's by now.
            .filter_map(|((at, visitor, _), standing)| {
                table.get(*at).filter(|slot| slot.visitor == *visitor)?.found(*standing, waiting)
            })
            .collect()
    }
}

/// A place among the streams, counted as long as it is held.
struct Seat(Arc<Streams>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.rooms().open -= 1;
        self.0.metrics.streams.dec();
    }
}

/// One open stream.
pub struct Push {
    seat: Seat,
    event: EventId,
    /// Its slot.
    at: usize,
    /// What it begins with.
    first: Option<PositionView>,
    over: bool,
}

impl Drop for Push {
    fn drop(&mut self) {
        let mut rooms = self.seat.0.rooms();
        if let Some(table) = rooms.events.get_mut(&self.event) {
            table.remove(self.at);
            if table.is_empty() {
                rooms.events.remove(&self.event);
            }
        }
    }
}

impl Stream for Push {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<String>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(position(&first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let next = self.next(context.waker());
        if let Poll::Ready((_, last)) = &next {
            self.over = *last;
        }
        next.map(|(chunk, _)| chunk)
    }
}

impl Push {
    /// The next chunk, and whether it is the last.
    fn next(&self, waker: &Waker) -> Poll<(Option<String>, bool)> {
        const END: Poll<(Option<String>, bool)> = Poll::Ready((None, true));
        let streams = &self.seat.0;
        let Ok(live) = streams.catalogue.find(&self.event) else { return END };
        let (told, visitor, held) = {
            let mut rooms = streams.rooms();
            let closing = rooms.closing;
            let Some(slot) = self.slot(&mut rooms) else { return END };
            if closing {
                return Poll::Ready((Some(goodbye(&slot.visitor)), true));
            }
            let Some(told) = slot.take() else {
                slot.wait(waker);
                return Poll::Pending;
            };
            (told, slot.visitor.clone(), slot.held())
        };
        // A pass may have to be signed: nobody waits for the lock meanwhile.
        let view = match told {
            Told::Over => return END,
            Told::Silence => None,
            Told::Position => streams.queue.waiting(&live, held),
            Told::Found(standing, waiting) => match streams.queue.view(&live, &visitor, standing, waiting) {
                Ok(view) => Some(view),
                Err(_) => return END,
            },
        };
        let mut rooms = streams.rooms();
        let Some(slot) = self.slot(&mut rooms) else { return END };
        slot.sent(view.as_ref(), Instant::now());
        // Whoever is no longer in line by now is told so by the next step.
        let chunk = view.as_ref().map_or_else(|| ": still here\n\n".to_owned(), position);
        Poll::Ready((Some(chunk), view.is_some_and(|view| view.state != Standing::Waiting)))
    }

    fn slot<'a>(&self, rooms: &'a mut Rooms) -> Option<&'a mut Slot> {
        rooms.events.get_mut(&self.event)?.get(self.at)
    }
}

/// A position as an event.
fn position(view: &PositionView) -> String {
    let json = serde_json::to_string(view).expect("a view has no key that is not a text");
    format!("event: position\ndata: {json}\n\n")
}

/// When to come back, spread over some seconds by the visitor's id, so that not all come back at once.
fn goodbye(visitor: &VisitorId) -> String {
    let spread = visitor.as_str().bytes().fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    format!("retry: {}\n\n", 1_000 + spread % 4_000)
}
