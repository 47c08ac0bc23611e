//! The circuit to a store: a store that is away is answered for at once, not after a time-out each.
//!
//! It opens after some failures in a row, and when a heartbeat on a connection of its own is not answered while calls
//! wait: so a store that has fallen silent is told from one that is slow, and a call may take its time as long as the
//! store shows signs of life. Without one every call that waits is given up. While it is open calls are refused, and
//! one try at a time looks whether the store is back.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

mod breaker;

use breaker::Breaker;
pub use breaker::{Pulse, State};

/// How often the circuit looks whether a heartbeat is due.
const TICK: Duration = Duration::from_millis(50);

/// The store is away: the call was refused, or given up while it was under way (then it may still be carried out).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is away, and calls are refused until it answers")]
pub struct Away;

/// The circuit to one store.
#[derive(Debug)]
pub struct Circuit {
    /// Which store, as the metrics name it.
    pub name: &'static str,
    breaker: Mutex<Breaker>,
    state: watch::Sender<State>,
    under_way: AtomicUsize,
    /// How often it opened.
    opened: AtomicUsize,
    /// Calls that were refused.
    refused: AtomicUsize,
}

/// What a circuit has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Whether it is open now.
    pub open: bool,
    /// Calls that are under way.
    pub under_way: usize,
    /// How often it opened.
    pub opened: usize,
    /// Calls that were refused while it was open.
    pub refused: usize,
}

/// A call that is under way.
#[derive(Debug)]
pub struct Call(Arc<Circuit>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks a store for a sign of life, on a connection of its own.
pub trait Heart: Send {
    /// Whether the store answers, in bounded time. `closed`: the circuit is, and only a sign of life is asked for;
    /// otherwise whether calls can be carried out again.
    fn beat(&mut self, closed: bool) -> impl Future<Output = Pulse> + Send;
}

impl Circuit {
    /// A closed circuit.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            breaker: Mutex::new(Breaker::new(Instant::now())),
            state: watch::Sender::new(State::Closed),
            under_way: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls are refused.
    pub fn is_open(&self) -> bool {
        *self.state.borrow() != State::Closed
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        Counts {
            open: self.is_open(),
            under_way: self.under_way.load(Ordering::Relaxed),
            opened: self.opened.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Begins a call.
    ///
    /// # Errors
    /// [`Away`] while the circuit is open.
    pub fn begin(self: &Arc<Self>) -> Result<Call, Away> {
        if self.is_open() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Away);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Ok(Call(Arc::clone(self)))
    }

    /// Waits for `work`, but no longer than the store shows signs of life.
    ///
    /// # Errors
    /// [`Away`] when it does not any more; `work` is dropped then.
    pub async fn unless_away<T>(&self, work: impl Future<Output = T>) -> Result<T, Away> {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            done = work => Ok(done),
            // Fails when the sender is gone, which `self` holds.
            _ = state.wait_for(|state| *state == State::Dead) => Err(Away),
        }
    }

    /// A call was answered, be it with a refusal of its own.
    pub fn worked(&self) {
        self.breaker().worked(Instant::now());
    }

    /// A call failed because of the store.
    pub fn failed(&self) {
        let mut breaker = self.breaker();
        if breaker.failed(Instant::now()) {
            self.turn(State::Open, breaker);
        }
    }

    /// Tells everybody, before anybody else can turn it again.
    fn turn(&self, state: State, _turned: MutexGuard<'_, Breaker>) {
        let before = self.state.send_replace(state);
        if state == State::Closed {
            tracing::info!(store = self.name, "the store answers again");
        } else if before == State::Closed {
            self.opened.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(store = self.name, ?state, "the store is away: calls are refused until it answers");
        }
    }

    /// Keeps watch until the task is ended.
    pub async fn watch(self: Arc<Self>, mut heart: impl Heart) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let under_way = self.under_way.load(Ordering::Relaxed);
            let closed = {
                let mut breaker = self.breaker();
                if !breaker.is_due(Instant::now(), under_way) {
                    continue;
                }
                breaker.state() == State::Closed
            };
            let pulse = heart.beat(closed).await;
            let mut breaker = self.breaker();
            if let Some(state) = breaker.asked(pulse, Instant::now()) {
                self.turn(state, breaker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that is there or not.
    struct Switch(watch::Receiver<bool>);

    impl Heart for Switch {
        async fn beat(&mut self, _closed: bool) -> Pulse {
            if *self.0.borrow() { Pulse::Alive } else { Pulse::None }
        }
    }

    #[tokio::test]
    async fn calls_that_wait_for_a_silent_store_are_given_up_and_come_through_again() {
        let circuit = Circuit::new("test");
        let (store, there) = watch::channel(false);
        let watching = tokio::spawn(Arc::clone(&circuit).watch(Switch(there)));
        let call = circuit.begin().expect("closed");
        let waited = tokio::time::timeout(Duration::from_secs(5), circuit.unless_away(std::future::pending::<()>()));
        assert_eq!(waited.await.expect("given up"), Err(Away));
        assert!(circuit.begin().is_err());
        assert_eq!(circuit.counts(), Counts { open: true, under_way: 1, opened: 1, refused: 1 });
        drop(call);
        store.send_replace(true);
        let closed = async {
            while circuit.is_open() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed");
        assert_eq!(circuit.counts(), Counts { open: false, under_way: 0, opened: 1, refused: 1 });
        watching.abort();
    }
}
