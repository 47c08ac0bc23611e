//! A request on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::coalesce::Refused;
use crate::world::World;

/// Waits for the answer, and notes when the request was accepted or turned away. `None`: the asker went away first.
pub struct Asking<'a, F> {
    world: &'a World,
    accepted: bool,
    /// How often it looks for the answer before it goes away.
    patience: Option<u32>,
    ask: Pin<Box<F>>,
}

impl<'a, F> Asking<'a, F> {
    pub fn new(world: &'a World, patience: Option<u32>, ask: F) -> Self {
        Self { world, accepted: false, patience, ask: Box::pin(ask) }
    }
}

impl<F: Future<Output = Result<u32, Refused>>> Future for Asking<'_, F> {
    type Output = Option<Result<u32, Refused>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.ask.as_mut().poll(context);
        match polled {
            Poll::Ready(Err(Refused::Full)) => self.world.turned_away(),
            Poll::Pending if !self.accepted => {
                self.accepted = true;
                self.world.accepted();
            }
            _ => {}
        }
        if let Poll::Ready(answer) = polled {
            return Poll::Ready(Some(answer));
        }
        if let Some(left) = &mut self.patience {
            *left -= 1;
            if *left == 0 {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }
}
