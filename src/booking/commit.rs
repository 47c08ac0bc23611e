//! Group commit: bookings that wait for the ledger are written in one transaction, and the engine is told of all of them in
//! one step, before any of them is answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::tell::Teller;
use crate::coalesce::{Bounds, Coalescer};
use crate::domain::EventId;
use crate::engine::{LedgerNews, Tally};
use crate::ledger::{Committed, Ledger, LedgerError, NewBooking};
use crate::metrics::Metrics;

/// Bookings in one transaction.
const BATCH: usize = 200;
/// Transactions on their way at once: while one waits for the disk, the next is put together.
const IN_FLIGHT: usize = 2;
/// How long the next one fills: about as long as a transaction takes under load.
const FILL: Duration = Duration::from_millis(10);

pub(super) type Commits = Coalescer<NewBooking, Result<Committed, LedgerError>>;

/// The door to the ledger; `pending` bounds how many bookings may wait at it.
pub(super) fn commits(ledger: Arc<dyn Ledger>, teller: Teller, metrics: Arc<Metrics>, pending: usize) -> Commits {
    Coalescer::start(
        Bounds { batch: BATCH, in_flight: IN_FLIGHT, fill: FILL, pending },
        move |asked: Vec<NewBooking>| {
            let (ledger, teller, metrics) = (Arc::clone(&ledger), teller.clone(), Arc::clone(&metrics));
            async move {
                metrics.commit_batch.observe(asked.len() as f64);
                match ledger.commit(&asked).await {
                    Ok(each) => {
                        for (event, news) in news(&asked, &each) {
                            teller.news(&event, &news).await;
                        }
                        each.into_iter().map(Ok).collect()
                    }
                    Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
                }
            }
        },
    )
}

/// What the engine is told of a batch: each booking that was written is settled, with the last count of its zone and buyer.
fn news(asked: &[NewBooking], each: &[Committed]) -> HashMap<EventId, LedgerNews> {
    let mut all: HashMap<EventId, LedgerNews> = HashMap::new();
    let (mut zones, mut buyers) = (HashMap::new(), HashMap::new());
    for (new, committed) in asked.iter().zip(each) {
        let Committed::Done { zone, buyer } = committed else { continue };
        let event = &new.booking.event;
        let news = all.entry(event.clone()).or_default();
        news.settled.push(new.booking.id.clone());
        keep_latest(&mut zones, (event, &zone.zone), &mut news.zones, zone, |zone| zone.tally);
        keep_latest(&mut buyers, (event, &buyer.visitor), &mut news.buyers, buyer, |buyer| buyer.tally);
    }
    all
}

/// Keeps one entry a key, the one with the highest version; `places` knows where each is.
fn keep_latest<K: std::hash::Hash + Eq, T: Clone>(
    places: &mut HashMap<K, usize>,
    key: K,
    list: &mut Vec<T>,
    one: &T,
    tally: impl Fn(&T) -> Tally,
) {
    match places.entry(key) {
        Entry::Occupied(place) => {
            let kept = &mut list[*place.get()];
            if tally(kept).version < tally(one).version {
                *kept = one.clone();
            }
        }
        Entry::Vacant(place) => {
            place.insert(list.len());
            list.push(one.clone());
        }
    }
}
