//! A clock that nobody can rely on: a span is over at once if it is none, never if it is [`FOREVER`], and otherwise after as
//! many steps as chance has it.

use std::future::Future;
use std::ops::Add;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use shuttle::rand::Rng;

/// A span that is not over before a test is.
pub const FOREVER: Duration = Duration::MAX;
/// A span that is over after as many steps as it takes.
pub const SOME_TIME: Duration = Duration::from_millis(1);

/// How long from when it was asked for.
#[derive(Clone, Copy)]
pub struct Instant(Duration);

impl Instant {
    pub const fn now() -> Self {
        Self(Duration::ZERO)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Waits.
pub fn sleep_until(until: Instant) -> impl Future<Output = ()> {
    let steps = match until.0 {
        Duration::ZERO => Some(0),
        FOREVER => None,
        _ => Some(shuttle::rand::thread_rng().gen_range(0..6)),
    };
    Sleep(steps)
}

struct Sleep(Option<u32>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            None => Poll::Pending,
            Some(0) => Poll::Ready(()),
            Some(steps) => {
                *steps -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
