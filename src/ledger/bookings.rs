//! Bookings and seats: what is read, and the steps of a booking that give no seats back.

use super::records::{total, window};
use super::rows::{BookingRow, BuyerRow, ZoneRow, booking_columns};
use super::sql::{Outcome, Sql, args};
use super::{Page, PageRequest};
use crate::domain::{Booking, BookingId, BookingStatus, EventId, Timestamp, VisitorId};
use crate::engine::{BuyerTally, Tally, ZoneTally};

pub(super) async fn booking(db: &mut impl Sql, id: &BookingId, visitor: &VisitorId) -> Outcome<Option<Booking>> {
    let sql = concat!("SELECT ", booking_columns!(), " FROM bookings WHERE id = $1 AND visitor_id = $2");
    db.row::<BookingRow>(sql, args![id, visitor]).await?.map(BookingRow::read).transpose()
}

pub(super) async fn bookings(db: &mut impl Sql, visitor: &VisitorId, page: PageRequest) -> Outcome<Page<Booking>> {
    let total = total(db, "SELECT COUNT(*) AS n FROM bookings WHERE visitor_id = $1", args![visitor]).await?;
    let sql = concat!(
        "SELECT ",
        booking_columns!(),
        " FROM bookings WHERE visitor_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3"
    );
    let (limit, offset) = window(page);
    let rows = db.rows::<BookingRow>(sql, args![visitor, limit, offset]).await?;
    Ok(Page { data: rows.into_iter().map(BookingRow::read).collect::<Outcome<_>>()?, total })
}

pub(super) async fn buyer(db: &mut impl Sql, event: &EventId, visitor: &VisitorId) -> Outcome<BuyerTally> {
    let sql = "SELECT visitor_id, seats, version FROM buyers WHERE event_id = $1 AND visitor_id = $2";
    match db.row::<BuyerRow>(sql, args![event, visitor]).await? {
        Some(row) => row.read(),
        None => Ok(BuyerTally { visitor: visitor.clone(), tally: Tally::default() }),
    }
}

pub(super) async fn zones(db: &mut impl Sql, event: &EventId) -> Outcome<Vec<ZoneTally>> {
    let sql = "SELECT show_id, id, capacity, taken, version FROM zones WHERE event_id = $1 ORDER BY show_id, id";
    db.rows::<ZoneRow>(sql, args![event]).await?.into_iter().map(ZoneRow::read).collect()
}

/// The guard is in the statement: whatever the caller believed, only a reservation that is still good is confirmed.
pub(super) async fn confirm(
    db: &mut impl Sql,
    id: &BookingId,
    visitor: &VisitorId,
    code: &str,
    payment: Option<&str>,
    now: Timestamp,
) -> Outcome<Option<Booking>> {
    let sql = concat!(
        "UPDATE bookings SET status = 'confirmed', confirmed_at = $3, confirmation_code = $4, payment_id = $5 \
         WHERE id = $1 AND visitor_id = $2 AND status = 'reserved' AND expires_at > $3 RETURNING ",
        booking_columns!()
    );
    if let Some(row) = db.row::<BookingRow>(sql, args![id, visitor, now, code, payment]).await? {
        return row.read().map(Some);
    }
    let mut found = booking(db, id, visitor).await?;
    if let Some(booking) = &mut found
        && booking.status == BookingStatus::Reserved
    {
        booking.status = BookingStatus::Expired; // the sweep has not come by yet
    }
    Ok(found)
}

/// Marks a booking as cancelled if it holds seats. The caller gives them back in the same transaction.
pub(super) async fn mark_cancelled(db: &mut impl Sql, id: &BookingId, visitor: &VisitorId) -> Outcome<Option<Booking>> {
    let sql = concat!(
        "UPDATE bookings SET status = 'cancelled' \
         WHERE id = $1 AND visitor_id = $2 AND status IN ('reserved', 'confirmed') RETURNING ",
        booking_columns!()
    );
    db.row::<BookingRow>(sql, args![id, visitor]).await?.map(BookingRow::read).transpose()
}
