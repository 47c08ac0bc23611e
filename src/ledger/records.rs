//! The audit log and the first answers to requests.

use super::rows::{AnswerRow, AuditRow, Number};
use super::sql::{Arg, Outcome, Sql, args};
use super::{Actor, AuditEntry, IdempotencyKey, Page, PageRequest, StoredAnswer};
use crate::domain::{EventId, Timestamp};

pub(super) async fn audit(
    db: &mut impl Sql,
    actor: &Actor,
    action: &str,
    event: Option<&EventId>,
    detail: &serde_json::Value,
    now: Timestamp,
) -> Outcome<()> {
    let sql = "INSERT INTO audit (at, actor, action, event_id, detail) VALUES ($1, $2, $3, $4, $5)";
    db.run(sql, args![now, &actor.0, action, event.map(EventId::as_str), &detail.to_string()]).await?;
    Ok(())
}

pub(super) async fn audit_log(db: &mut impl Sql, page: PageRequest) -> Outcome<Page<AuditEntry>> {
    let total = total(db, "SELECT COUNT(*) AS n FROM audit", args![]).await?;
    let sql = "SELECT id, at, actor, action, event_id, detail FROM audit ORDER BY id DESC LIMIT $1 OFFSET $2";
    let (limit, offset) = window(page);
    let rows = db.rows::<AuditRow>(sql, args![limit, offset]).await?;
    Ok(Page { data: rows.into_iter().map(AuditRow::read).collect::<Outcome<_>>()?, total })
}

/// The answer to a COUNT.
pub(super) async fn total(db: &mut impl Sql, sql: &'static str, args: Vec<Arg>) -> Outcome<u64> {
    let row = db.row::<Number>(sql, args).await?;
    Ok(row.and_then(|row| u64::try_from(row.n).ok()).unwrap_or(0))
}

/// LIMIT and OFFSET of a page.
pub(super) fn window(page: PageRequest) -> (u32, i64) {
    let size = page.size.clamp(1, 100);
    (size, i64::from(page.page.saturating_sub(1)) * i64::from(size))
}

pub(super) async fn answer(db: &mut impl Sql, key: &IdempotencyKey, now: Timestamp) -> Outcome<Option<StoredAnswer>> {
    let sql = "SELECT body_hash, status, body FROM idempotency \
               WHERE visitor_id = $1 AND route = $2 AND key = $3 AND expires_at > $4";
    let row = db.row::<AnswerRow>(sql, args![&key.visitor, key.route, &key.key, now]).await?;
    row.map(AnswerRow::read).transpose()
}

pub(super) async fn purge_answers(db: &mut impl Sql, now: Timestamp, limit: u32) -> Outcome<u64> {
    let sql = "DELETE FROM idempotency WHERE expires_at <= $1 AND (visitor_id, route, key) IN \
               (SELECT visitor_id, route, key FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
    db.run(sql, args![now, limit]).await
}
