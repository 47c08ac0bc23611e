//! Telling the engine what the ledger counts now, and what became of holds.

use std::sync::Arc;

use crate::catalogue::{Catalogue, engine_problem};
use crate::domain::{Clock, EventId};
use crate::engine::{BuyerTally, Engine, EngineError, LedgerNews, ZoneTally};

/// Tells the engine. A failure costs nothing but time: the next rebuild, or the sweeper, says it again.
#[derive(Clone)]
pub(super) struct Teller {
    pub engine: Arc<dyn Engine>,
    pub catalogue: Arc<Catalogue>,
    pub clock: Arc<dyn Clock>,
}

impl Teller {
    /// The counts after one booking.
    pub async fn counts(&self, event: &EventId, zone: ZoneTally, buyer: BuyerTally) {
        self.news(event, &LedgerNews { zones: vec![zone], buyers: vec![buyer], ..LedgerNews::default() }).await;
    }

    pub async fn news(&self, event: &EventId, news: &LedgerNews) {
        let told = match self.engine.observe(event, news, self.clock.now()).await {
            // The store came back empty: what it is told now comes from the ledger as it stands, with this news in it.
            Err(EngineError::UnknownEvent) => self.catalogue.restore(event, self.clock.now()).await,
            told => told.map(drop).map_err(engine_problem),
        };
        if let Err(error) = told {
            tracing::warn!(event_id = %event, %error, cause = ?error.cause, "the engine did not hear of a change in the ledger; the next rebuild tells it");
        }
    }
}
