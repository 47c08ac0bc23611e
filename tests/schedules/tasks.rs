//! Tasks of the scheduler, which break down as Tokio's do: a task that panics takes nobody with it.

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use shuttle::rand::Rng;

thread_local! {
    /// How many more tasks are started before those that may be dropped half-way; `None`: none may.
    static SPARED: Cell<Option<u32>> = const { Cell::new(None) };
    /// Tasks that have not ended.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// A new world without tasks. After the first `spared` tasks, each may be dropped at any point at which it waits, as when a
/// runtime goes down; with `None`, none.
pub fn begin(spared: Option<u32>) {
    SPARED.set(spared);
    LIVE.set(0);
}

/// Tasks that have not ended.
pub fn live() -> usize {
    LIVE.get()
}

/// Starts a task.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(task: F) {
    let mortal = SPARED.get() == Some(0);
    SPARED.set(SPARED.get().map(|spared| spared.saturating_sub(1)));
    LIVE.set(LIVE.get() + 1);
    let task = Mortal { task: Some(Box::pin(task)), mortal };
    shuttle::future::spawn(async move {
        let _broken_down = AssertUnwindSafe(task).catch_unwind().await;
        LIVE.set(LIVE.get() - 1);
    });
}

/// A task that may be dropped at any point at which it waits.
struct Mortal<F> {
    task: Option<Pin<Box<F>>>,
    mortal: bool,
}

impl<F: Future<Output = ()>> Future for Mortal<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(task) = self.task.as_mut() else { return Poll::Ready(()) };
        let polled = task.as_mut().poll(context);
        if polled.is_pending() && self.mortal && shuttle::rand::thread_rng().gen_ratio(1, 4) {
            self.task = None;
            return Poll::Ready(());
        }
        polled
    }
}
