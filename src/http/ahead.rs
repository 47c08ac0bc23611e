//! Requests that a client sends ahead of their answers. Those we serve wait for each answer, or send a few ahead; the server
//! beneath takes whatever fits in 128 KiB, thousands of short ones, keeps them all in memory and answers them in one go, while
//! nobody else is heard. So a connection that goes too far is cut.

use std::task::{Context, Poll};

use tokio::task::coop;

/// Steps of its task that a request counts as. A task has 128 of them in one go, and a connection is a task: some thirty requests
/// use them up.
const STEPS: u32 = 4;

/// Whether this connection has had all that one may have in one go.
pub fn is_too_far() -> bool {
    !coop::has_budget_remaining()
}

/// Counts a request, each time that it is looked after.
pub fn count(context: &mut Context<'_>) {
    for _ in 0..STEPS {
        if let Poll::Ready(step) = coop::poll_proceed(context) {
            step.made_progress();
        }
    }
}

/// Why a connection was cut: what the body of an answer fails with, because that ends a connection at once. The answer is never
/// sent, nor are those before it that were not sent yet.
#[derive(Debug, thiserror::Error)]
#[error("too many requests were sent ahead of their answers")]
pub struct Cut;
