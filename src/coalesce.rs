//! Turns concurrent requests into batches: what arrives while the last batch was on its way goes out as one.
//!
//! A request that finds no batch on its way goes out alone, at once. Beside others that are on their way a batch fills for
//! a while first: small batches side by side cost the store more than the same requests in one. The bounds are the size of
//! a batch, the batches on their way at once, the time to fill, and the requests that may wait; one more is turned away.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// The bounds of a [`Coalescer`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most requests in one batch.
    pub batch: usize,
    /// Most batches on their way at once.
    pub in_flight: usize,
    /// How long a batch fills while others are on their way.
    pub fill: Duration,
    /// Most requests that wait for a batch.
    pub pending: usize,
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many requests wait as may. Nothing was done.
    #[error("as many requests wait as may")]
    Full,
    /// The batch broke down, or the service is going down. It may have been carried out.
    #[error("the batch broke down")]
    Lost,
}

/// A door behind which requests are batched. Cheap to clone; the last clone ends the work.
pub struct Coalescer<Q, A> {
    requests: mpsc::Sender<(Q, oneshot::Sender<A>)>,
}

impl<Q, A> Clone for Coalescer<Q, A> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Coalescer<Q, A> {
    /// Starts the work on the current runtime. `run` carries out one batch and answers each request in its place.
    pub fn start<F, R>(bounds: Bounds, run: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<A>> + Send + 'static,
    {
        let (requests, mut waiting) = mpsc::channel::<(Q, oneshot::Sender<A>)>(bounds.pending.max(1));
        let others = u32::try_from(bounds.in_flight.saturating_sub(1)).unwrap_or(u32::MAX);
        let slots = Arc::new(Semaphore::new(bounds.in_flight.max(1)));
        let run = Arc::new(run);
        tokio::spawn(async move {
            // The slot comes first: whatever arrives while none is free makes the next batch larger.
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                let mut batch = Vec::new();
                if waiting.recv_many(&mut batch, bounds.batch.max(1)).await == 0 {
                    return;
                }
                let full = Instant::now() + bounds.fill;
                while batch.len() < bounds.batch {
                    let room = bounds.batch - batch.len();
                    tokio::select! {
                        biased;
                        _ = waiting.recv_many(&mut batch, room), if !waiting.is_closed() => {}
                        _ = slots.acquire_many(others) => break,
                        () = sleep_until(full) => break,
                    }
                }
                let run = Arc::clone(&run);
                // A task of its own: a caller that goes away does not take the others' batch with it.
                tokio::spawn(async move {
                    let (asked, askers): (Vec<Q>, Vec<_>) = batch.into_iter().unzip();
                    let answers = run(asked).await;
                    debug_assert_eq!(answers.len(), askers.len(), "one answer for each request");
                    for (asker, answer) in askers.into_iter().zip(answers) {
                        let _gone = asker.send(answer);
                    }
                    drop(slot);
                });
            }
        });
        Self { requests }
    }

    /// Asks, and waits for the answer of the batch.
    ///
    /// # Errors
    /// [`Refused`] when the waiting room is full or the batch broke down.
    pub async fn ask(&self, request: Q) -> Result<A, Refused> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send((request, answer)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Lost,
        })?;
        answered.await.map_err(|_| Refused::Lost)
    }
}
