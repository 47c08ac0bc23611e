//! The open streams of one event: a table of slots, and what each has to tell.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::{HEARTBEAT, LOOK_AGAIN};
use crate::domain::{Timestamp, VisitorId};
use crate::engine::{PLACE_TTL, Standing as Found};
use crate::queue::{Held, PositionView};

/// Slots by index; a free one is used again.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
}

/// What a stream has to tell when its connection can take it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// The position, as it is then.
    Position,
    /// The visitor is not in line: what the store said, and how many wait.
    Found(Found, u64),
    /// That it is still there.
    Silence,
    /// Nothing any more.
    Over,
}

/// One stream.
pub(super) struct Slot {
    pub visitor: VisitorId,
    pub number: u64,
    pub expires_at: Timestamp,
    /// The position that was told last.
    position: u64,
    /// When something was sent last.
    sent: Instant,
    /// When the store was last asked for the visitor.
    asked: Option<Instant>,
    /// After which time the other numbers of the answer are told anew.
    refresh: Duration,
    next: Option<Told>,
    waker: Option<Waker>,
}

impl Slot {
    pub fn new(visitor: VisitorId, held: Option<Held>, now: Instant) -> Self {
        Self {
            visitor,
            number: held.map_or(0, |held| held.number),
            expires_at: held.map_or(Timestamp::default(), |held| held.expires_at),
            position: 0,
            sent: now,
            asked: None,
            refresh: Duration::ZERO,
            next: None,
            waker: None,
        }
    }

    /// The place that the visitor had; number 0 if that is not known.
    pub fn held(&self) -> Held {
        Held { number: self.number, expires_at: self.expires_at }
    }

    /// Notes what was sent, if it was more than a comment.
    pub fn sent(&mut self, view: Option<&PositionView>, now: Instant) {
        self.sent = now;
        if let Some(view) = view {
            self.position = view.position;
            self.expires_at = view.expires_at;
            self.refresh = Duration::from_secs(view.poll_after_seconds.max(1));
        }
    }

    /// What there is to tell, once.
    pub fn take(&mut self) -> Option<Told> {
        self.next.take()
    }

    /// Remembers whom to wake.
    pub fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Whether a stream whose visitor stands at `position` has something to tell: another position after `pace`, other
    /// numbers after as long as a poll would wait, or that it is still there.
    pub fn is_due(&mut self, position: u64, pace: Duration, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.sent);
        if since >= self.refresh || (position != self.position && since >= pace) {
            self.next.get_or_insert(Told::Position);
        }
        self.is_silent(now)
    }

    /// Whether there is something to tell, if only that it is still there.
    pub fn is_silent(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.sent) >= HEARTBEAT {
            self.next.get_or_insert(Told::Silence);
        }
        self.next.is_some()
    }

    /// Whether the store is asked for the visitor now: at once when they are `known` to have joined and so must have gone.
    pub fn may_look(&mut self, known: bool, now: Instant) -> bool {
        let late = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= LOOK_AGAIN);
        let due = !matches!(self.next, Some(Told::Found(..) | Told::Over)) && (known || late);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// Takes in what the store said; gives whom to wake.
    pub fn found(&mut self, standing: Found, waiting: u64) -> Option<Waker> {
        self.next = Some(match standing {
            Found::Waiting(place) => {
                self.number = place.number;
                self.expires_at = place.joined_at.plus(PLACE_TTL);
                if place.position == self.position {
                    return None;
                }
                Told::Found(standing, waiting)
            }
            Found::Absent => Told::Over,
            _ => Told::Found(standing, waiting),
        });
        self.waker.take()
    }
}

impl Table {
    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub fn insert(&mut self, slot: Slot) -> usize {
        if let Some(at) = self.free.pop() {
            self.slots[at] = Some(slot);
            return at;
        }
        self.slots.push(Some(slot));
        self.slots.len() - 1
    }

    pub fn remove(&mut self, at: usize) {
        if self.slots.get_mut(at).and_then(Option::take).is_some() {
            self.free.push(at);
        }
    }

    pub fn get(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at)?.as_mut()
    }

    /// Looks at every slot; gives the wakers of those where `wakes` says so.
    pub fn each(&mut self, mut wakes: impl FnMut(usize, &mut Slot) -> bool) -> Vec<Waker> {
        let slots = self.slots.iter_mut().enumerate();
        slots
            .filter_map(|(at, slot)| {
                let slot = slot.as_mut()?;
                if wakes(at, slot) { slot.waker.take() } else { None }
            })
            .collect()
    }

    /// Ends every stream: the event is gone.
    pub fn end_all(&mut self) -> Vec<Waker> {
        self.each(|_, slot| {
            slot.next = Some(Told::Over);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventId;
    use crate::queue::Standing;

    fn view(position: u64, poll_after_seconds: u64) -> PositionView {
        PositionView {
            event_id: EventId::parse("e").expect("an id"),
            state: Standing::Waiting,
            position,
            total_in_queue: 9,
            estimated_wait_seconds: None,
            is_ready: false,
            expires_at: Timestamp::from_seconds(1),
            poll_after_seconds,
            queue_pass: None,
            queue_pass_expires_at: None,
        }
    }

    fn slot(start: Instant) -> Slot {
        let mut slot = Slot::new(
            VisitorId::parse("v").expect("an id"),
            Some(Held { number: 5, expires_at: Timestamp::default() }),
            start,
        );
        slot.sent(Some(&view(5, 10)), start);
        slot
    }

    #[test]
    fn a_new_position_is_told_at_its_pace() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut slot = slot(start);
        let pace = Duration::from_millis(600);
        assert!(!slot.is_due(5, pace, after(5_000)), "nothing has changed");
        assert!(!slot.is_due(4, pace, after(500)), "too soon");
        assert!(slot.is_due(4, pace, after(600)));
        assert!(matches!(slot.take(), Some(Told::Position)));
        assert!(slot.is_due(5, pace, after(10_000)), "the other numbers, as often as a poll would ask");
    }

    #[test]
    fn a_silent_stream_is_kept_alive() {
        let start = Instant::now();
        let mut slot = slot(start);
        assert!(!slot.is_silent(start + HEARTBEAT / 2));
        assert!(slot.is_silent(start + HEARTBEAT));
        assert!(matches!(slot.take(), Some(Told::Silence)));
    }

    #[test]
    fn the_store_is_asked_once_and_then_now_and_then() {
        let start = Instant::now();
        let mut slot = slot(start);
        assert!(slot.may_look(false, start) && !slot.may_look(false, start));
        assert!(slot.may_look(true, start) && slot.may_look(false, start + LOOK_AGAIN));
        slot.found(Found::Absent, 0);
        assert!(!slot.may_look(true, start + 3 * LOOK_AGAIN), "the stream is over");
        assert!(matches!(slot.take(), Some(Told::Over)));
    }

    #[test]
    fn free_slots_are_used_again() {
        let (mut table, now) = (Table::default(), Instant::now());
        let (first, second) = (table.insert(slot(now)), table.insert(slot(now)));
        table.remove(first);
        table.remove(first);
        assert_eq!(table.insert(slot(now)), first);
        table.remove(first);
        table.remove(second);
        assert!(table.is_empty() && table.get(first).is_none());
    }
}
