//! Holds whose fate is not known, because a store did not answer: the next sweep looks into them, long before they are due.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::{BookingId, EventId};

/// Most holds that are remembered. Those beyond it wait until they are due.
const MOST: usize = 10_000;

/// The holds in doubt, by event.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<EventId, Vec<BookingId>>>);

impl Doubts {
    /// Remembers a hold.
    pub(super) fn note(&self, event: &EventId, booking: BookingId) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.values().map(Vec::len).sum::<usize>() < MOST {
            holds.entry(event.clone()).or_default().push(booking);
        }
    }

    /// Takes the holds of an event.
    pub(super) fn take(&self, event: &EventId) -> Vec<BookingId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(event).unwrap_or_default()
    }

    /// Forgets the holds of events that are no longer there.
    pub(super) fn retain(&self, there: impl Fn(&EventId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|event, _| there(event));
    }
}
