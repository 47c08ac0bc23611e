//! A booking and the states it goes through.

use serde::{Deserialize, Serialize};

use super::id::{BookingId, EventId, VisitorId, ZoneKey};
use super::money::Money;
use super::time::Timestamp;

/// Most seats in one reservation.
pub const MAX_QUANTITY: u32 = 10;

/// Where a booking stands.
///
/// ```text
/// reserved ──confirm──▶ confirmed ──cancel──▶ cancelled
///    │ ├─────────────────cancel───────────────▶ cancelled
///    └─expires_at─▶ expired
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BookingStatus {
    /// Seats are held until `expires_at`.
    Reserved,
    /// Sold.
    Confirmed,
    /// Given back by the visitor.
    Cancelled,
    /// Not confirmed in time.
    Expired,
}

impl BookingStatus {
    /// The word on the wire and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Reads [`BookingStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reserved, Self::Confirmed, Self::Cancelled, Self::Expired].into_iter().find(|s| s.as_str() == text)
    }
}

/// A booking as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Its id.
    pub id: BookingId,
    /// The event that it is for.
    pub event: EventId,
    /// The zone that it is for.
    pub zone: ZoneKey,
    /// Whose it is.
    pub visitor: VisitorId,
    /// Seats, 1 to [`MAX_QUANTITY`].
    pub quantity: u32,
    /// The catalogue's price of a seat when it was made.
    pub unit_price: Money,
    /// Where it stands.
    pub status: BookingStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the reservation ends unless it is confirmed.
    pub expires_at: Timestamp,
    /// When it was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// What the visitor shows at the door, once confirmed.
    pub confirmation_code: Option<String>,
    /// The payment that confirmed it, as the caller named it.
    pub payment_id: Option<String>,
}

impl Booking {
    /// What all its seats cost.
    pub const fn total(&self) -> Money {
        self.unit_price.times(self.quantity)
    }
}
