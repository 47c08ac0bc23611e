//! Turns concurrent requests into batches: what arrives while the last batch was on its way goes out as one.
//!
//! Nothing waits for a batch to fill: with one request at a time every batch has one item. The bounds are the size of a
//! batch, the batches on their way at once, and the requests that may wait; one more is turned away at once.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

/// The bounds of a [`Coalescer`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most requests in one batch.
    pub batch: usize,
    /// Most batches on their way at once.
    pub in_flight: usize,
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
        let slots = Arc::new(Semaphore::new(bounds.in_flight.max(1)));
        let run = Arc::new(run);
        tokio::spawn(async move {
            // The slot comes first: whatever arrives while none is free makes the next batch larger.
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                let mut batch = Vec::new();
                if waiting.recv_many(&mut batch, bounds.batch.max(1)).await == 0 {
                    return;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn everyone_gets_their_own_answer_and_batches_form_under_load() {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&batches);
        let doubler = Coalescer::start(Bounds { batch: 64, in_flight: 1, pending: 1_000 }, move |asked: Vec<u64>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                asked.into_iter().map(|n| n * 2).collect()
            }
        });
        let asks: Vec<_> = (0..500_u64)
            .map(|n| {
                let doubler = doubler.clone();
                tokio::spawn(async move { (n, doubler.ask(n).await) })
            })
            .collect();
        for ask in asks {
            let (n, answer) = ask.await.expect("task");
            assert_eq!(answer, Ok(n * 2));
        }
        assert!(batches.load(Ordering::SeqCst) < 100, "{batches:?} batches for 500 requests");
    }

    #[tokio::test]
    async fn one_too_many_is_turned_away_at_once_and_a_broken_batch_is_told() {
        let stuck = Coalescer::start(Bounds { batch: 1, in_flight: 1, pending: 1 }, |_: Vec<u8>| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            panic!("this batch breaks down")
        });
        let ask = || {
            let stuck = stuck.clone();
            tokio::spawn(async move { stuck.ask(0).await as Result<u8, Refused> })
        };
        let first = ask();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _second = ask();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(stuck.ask(0).await, Err(Refused::Full));
        assert_eq!(first.await.expect("task"), Err(Refused::Lost));
    }
}
