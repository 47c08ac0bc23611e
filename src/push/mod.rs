//! Positions pushed over server-sent events.
//!
//! Each open stream looks its visitor up once a second, through the same batched lookup as the polls, and sends what
//! changed. The event that carries the pass is the last one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::domain::{Code, EventId, Problem, VisitorId};
use crate::metrics::Metrics;
use crate::queue::{Held, PositionView, Queue, Standing};

/// How often a stream looks.
const LOOK: Duration = Duration::from_millis(500);
/// A comment line is sent after this long without an event.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The streams of one instance.
pub struct Streams {
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

/// What one stream holds while it is open.
struct Open {
    queue: Arc<Queue>,
    event: EventId,
    visitor: VisitorId,
    held: Option<Held>,
    closing: watch::Receiver<bool>,
    last: Option<PositionView>,
    sent: Instant,
    next: Option<PositionView>,
    over: bool,
    _place: Counted,
}

/// A place among the streams; counted as long as it is held.
struct Counted(Arc<Metrics>, #[allow(dead_code)] OwnedSemaphorePermit);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.dec();
    }
}

impl Streams {
    /// At most `most` streams at once; all of them end when `closing` turns true.
    pub fn new(queue: Arc<Queue>, metrics: Arc<Metrics>, most: usize, closing: watch::Receiver<bool>) -> Self {
        Self { queue, metrics, places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), closing }
    }

    /// Opens a stream of `text/event-stream` chunks for one visitor.
    ///
    /// # Errors
    /// `OVERLOADED` at the limit of streams; otherwise the errors of a poll.
    pub async fn open(
        &self,
        event: &EventId,
        visitor: &VisitorId,
        held: Option<Held>,
    ) -> Result<impl Stream<Item = String> + Send + 'static, Problem> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Problem::new(
                Code::Overloaded,
                "As many streams are open as this instance takes; poll the position instead.",
            )
        })?;
        self.metrics.streams.inc();
        let place = Counted(Arc::clone(&self.metrics), place);
        let first = self.queue.position(event, visitor, held).await?;
        let open = Open {
            queue: Arc::clone(&self.queue),
            event: event.clone(),
            visitor: visitor.clone(),
            held,
            closing: self.closing.clone(),
            last: None,
            sent: Instant::now(),
            next: Some(first),
            over: false,
            _place: place,
        };
        Ok(futures_util::stream::unfold(open, |mut open| async move {
            let chunk = open.chunk().await?;
            Some((chunk, open))
        }))
    }
}

impl Open {
    /// The next chunk to send; `None` when the stream is over.
    async fn chunk(&mut self) -> Option<String> {
        while !self.over {
            if let Some(view) = self.next.take()
                && self.last.as_ref() != Some(&view)
            {
                self.over = view.state != Standing::Waiting;
                self.sent = Instant::now();
                let json = serde_json::to_string(&view).ok()?;
                self.last = Some(view);
                return Some(format!("event: position\ndata: {json}\n\n"));
            }
            if self.sent.elapsed() >= HEARTBEAT {
                self.sent = Instant::now();
                return Some(": still here\n\n".to_owned());
            }
            tokio::select! {
                _ = self.closing.wait_for(|closing| *closing) => {
                    self.over = true;
                    // Spread over some seconds by the visitor's id, so that not all come back at once.
                    let spread = self.visitor.as_str().bytes().fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
                    return Some(format!("retry: {}\n\n", 1_000 + spread % 4_000));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.queue.position(&self.event, &self.visitor, self.held).await {
                Ok(view) => self.next = Some(view),
                // A store that is away for a moment ends no stream; a place that is gone does.
                Err(problem) if problem.code.status() >= 500 => {}
                Err(_) => self.over = true,
            }
        }
        None
    }
}
