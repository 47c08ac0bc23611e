//! The contract, method by method.

use std::sync::Arc;

use async_trait::async_trait;

use super::SqliteLedger;
use super::commit;
use crate::domain::{Booking, BookingId, Event, EventId, EventSpec, PolicyPatch, Timestamp, VisitorId};
use crate::engine::{BuyerTally, NumberBlock, ZoneTally};
use crate::ledger::sql::{Sql, args, job};
use crate::ledger::{
    Actor, AuditEntry, Cancelled, Committed, Extent, IdempotencyKey, Ledger, LedgerError, NewBooking, Page,
    PageRequest, Result, Returned, StoredAnswer, bookings, catalogue, records,
};

#[async_trait]
impl Ledger for SqliteLedger {
    async fn events_since(&self, version: i64) -> Result<Vec<Event>> {
        self.read(job!(version => |db| catalogue::since(db, version))).await
    }

    async fn extent(&self) -> Result<Extent> {
        self.read(job!( => |db| catalogue::extent(db))).await
    }

    async fn overtake(&self, id: &EventId, version: i64, floor: u64) -> Result<(Event, bool)> {
        self.write(job!(id, version, floor => |db| catalogue::overtake(db, &id, version, floor))).await
    }

    async fn put_event(&self, id: &EventId, spec: &EventSpec, actor: &Actor, now: Timestamp) -> Result<(Event, bool)> {
        self.write(job!(id, spec, actor, now => |db| catalogue::put(db, &id, &spec, &actor, now))).await
    }

    async fn patch_policy(&self, id: &EventId, patch: &PolicyPatch, actor: &Actor, now: Timestamp) -> Result<Event> {
        self.write(job!(id, patch, actor, now => |db| catalogue::patch(db, &id, &patch, &actor, now))).await
    }

    async fn remove_event(&self, id: &EventId, actor: &Actor, now: Timestamp) -> Result<Event> {
        self.write(job!(id, actor, now => |db| catalogue::remove(db, &id, &actor, now))).await
    }

    async fn reset_event(&self, id: &EventId, actor: &Actor, now: Timestamp) -> Result<Event> {
        self.write(job!(id, actor, now => |db| catalogue::reset(db, &id, &actor, now))).await
    }

    async fn raise_numbers(&self, id: &EventId, past: u64) -> Result<()> {
        self.write(job!(id, past => |db| catalogue::raise_numbers(db, &id, past))).await
    }

    async fn take_numbers(&self, id: &EventId, count: u64) -> Result<NumberBlock> {
        self.write(job!(id, count => |db| catalogue::take_numbers(db, &id, count))).await
    }

    async fn commit(&self, bookings: &[NewBooking]) -> Result<Vec<Committed>> {
        if bookings.is_empty() {
            return Ok(Vec::new());
        }
        let batch: Arc<[NewBooking]> = Arc::from(bookings);
        self.write(move |db| Box::pin(async move { commit::commit(db, &batch).await })).await
    }

    async fn answer(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<StoredAnswer>> {
        self.read(job!(key, now => |db| records::answer(db, &key, now))).await
    }

    async fn confirm(
        &self,
        id: &BookingId,
        visitor: &VisitorId,
        code: &str,
        payment: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Booking>> {
        let payment = payment.map(str::to_owned);
        self.write(job!(id, visitor, code, payment, now => |db| {
            bookings::confirm(db, &id, &visitor, &code, payment.as_deref(), now)
        }))
        .await
    }

    async fn cancel(&self, id: &BookingId, visitor: &VisitorId, _now: Timestamp) -> Result<Option<Cancelled>> {
        self.write(job!(id, visitor => |db| async {
            match bookings::mark_cancelled(db, &id, &visitor).await? {
                Some(booking) => Ok(Some(Cancelled::Now(Box::new(commit::give_back(db, booking).await?)))),
                None => Ok(bookings::booking(db, &id, &visitor).await?.map(Cancelled::Before)),
            }
        }))
        .await
    }

    async fn booking(&self, id: &BookingId, visitor: &VisitorId) -> Result<Option<Booking>> {
        self.read(job!(id, visitor => |db| bookings::booking(db, &id, &visitor))).await
    }

    async fn bookings(&self, visitor: &VisitorId, page: PageRequest) -> Result<Page<Booking>> {
        self.read(job!(visitor, page => |db| bookings::bookings(db, &visitor, page))).await
    }

    async fn buyer(&self, event: &EventId, visitor: &VisitorId) -> Result<BuyerTally> {
        self.read(job!(event, visitor => |db| bookings::buyer(db, &event, &visitor))).await
    }

    async fn existing(&self, ids: &[BookingId]) -> Result<Vec<BookingId>> {
        self.read(job!(ids => |db| commit::existing(db, &ids))).await
    }

    async fn zones(&self, event: &EventId) -> Result<Vec<ZoneTally>> {
        self.read(job!(event => |db| bookings::zones(db, &event))).await
    }

    async fn expire_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Returned>> {
        self.write(job!(now, limit => |db| commit::expire_due(db, now, limit))).await
    }

    async fn purge_answers(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.write(job!(now, limit => |db| records::purge_answers(db, now, limit))).await
    }

    async fn audit(
        &self,
        actor: &Actor,
        action: &str,
        event: Option<&EventId>,
        detail: &serde_json::Value,
        now: Timestamp,
    ) -> Result<()> {
        let event = event.cloned();
        self.write(job!(actor, action, event, detail, now => |db| {
            records::audit(db, &actor, &action, event.as_ref(), &detail, now)
        }))
        .await
    }

    async fn audit_log(&self, page: PageRequest) -> Result<Page<AuditEntry>> {
        self.read(job!(page => |db| records::audit_log(db, page))).await
    }

    async fn ping(&self) -> Result<()> {
        if !self.writer.is_running() {
            return Err(LedgerError::Unavailable("the writer has stopped".to_owned()));
        }
        self.read(job!( => |db| db.run("SELECT 1", args![]))).await.map(drop)
    }
}
