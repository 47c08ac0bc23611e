//! Mending an event once: whoever asks first does it, and those who ask meanwhile share the outcome. Without it a thousand
//! joins at an empty store would each take a block of numbers.

use std::future::Future;
use std::sync::PoisonError;

use crate::domain::Problem;

/// One for each event.
#[derive(Debug, Default)]
pub struct Mend {
    busy: tokio::sync::Mutex<()>,
    last: std::sync::Mutex<Last>,
}

/// How often it was tried, and whether the last try went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Last {
    tries: u64,
    well: bool,
}

impl Mend {
    /// Does the work, or waits for whoever is at it and takes what came of that.
    ///
    /// # Errors
    /// Those of the work; `STORE_UNAVAILABLE` where somebody else's failed.
    pub async fn once(&self, work: impl Future<Output = Result<(), Problem>>) -> Result<(), Problem> {
        let asked = self.last();
        let _busy = self.busy.lock().await;
        let Last { tries, well } = self.last();
        if tries == asked.tries {
            let outcome = work.await;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
                Last { tries: tries + 1, well: outcome.is_ok() };
            outcome
        } else if well {
            Ok(())
        } else {
            Err(Problem::unavailable("somebody else tried to mend the event, and could not"))
        }
    }

    /// Waits until nobody is at it, and keeps everybody from it during this work.
    pub async fn apart<T>(&self, work: impl Future<Output = T>) -> T {
        let _busy = self.busy.lock().await;
        work.await
    }

    fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_the_outcome() {
        let (mend, done) = (Mend::default(), AtomicU32::new(0));
        for (round, well) in [(1, true), (2, false)] {
            let work = || async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                done.fetch_add(1, Ordering::Relaxed);
                if well { Ok(()) } else { Err(Problem::unavailable("down")) }
            };
            let outcomes = futures_util::future::join_all((0..50).map(|_| mend.once(work()))).await;
            assert!(outcomes.iter().all(|outcome| outcome.is_ok() == well));
            assert_eq!(done.load(Ordering::Relaxed), round, "each round is one try");
        }
    }
}
