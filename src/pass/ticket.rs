//! Queue tickets: what a visitor holds to prove a place. Only Usher reads them, so they are opaque and cheap: a keyed MAC
//! over a few fixed bytes.
//!
//! ```text
//! base64url( version 1 | number 8 | joined 8 | expires 8 | event length 1 | event | visitor length 1 | visitor | MAC 32 )
//! ```
//!
//! Numbers are big-endian, times are microseconds since the epoch, the MAC is HMAC-SHA256 over everything before it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::id::MAX_ID_LEN;
use crate::domain::{EventId, Timestamp, VisitorId};

/// The first byte of every ticket; another layout takes another.
const VERSION: u8 = 1;
/// Version, number and the two times.
const HEAD_LEN: usize = 1 + 8 + 8 + 8;
const MAC_LEN: usize = 32;
/// Both ids as long as they may be.
const MAX_BYTES: usize = HEAD_LEN + 2 * (1 + MAX_ID_LEN) + MAC_LEN;
/// The longest ticket, in characters.
pub const MAX_TICKET_LEN: usize = MAX_BYTES.div_ceil(3) * 4;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The event of the line.
    pub event: EventId,
    /// Who holds the place.
    pub visitor: VisitorId,
    /// The number of the place.
    pub number: u64,
    /// When the visitor joined.
    pub joined_at: Timestamp,
    /// Until when the place is honoured.
    pub expires_at: Timestamp,
}

/// Why a ticket is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It was not issued with this key, or was changed since.
    #[error("the ticket is not authentic")]
    Forged,
    /// It is authentic, and its time is over.
    #[error("the ticket has expired")]
    Expired,
}

/// The key of queue tickets.
pub struct TicketKey(hmac::Key);

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey(***)")
    }
}

impl TicketKey {
    /// A key from a secret of at least 32 bytes (the settings check the length).
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The ticket as text.
    pub fn issue(&self, ticket: &Ticket) -> String {
        let mut bytes = [0; MAX_BYTES];
        let mut end = 0;
        let mut put = |part: &[u8]| {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        };
        put(&[VERSION]);
        put(&ticket.number.to_be_bytes());
        put(&ticket.joined_at.micros().to_be_bytes());
        put(&ticket.expires_at.micros().to_be_bytes());
        for id in [ticket.event.as_str(), ticket.visitor.as_str()] {
            // An id has at most MAX_ID_LEN = 128 bytes.
            put(&[u8::try_from(id.len()).unwrap_or(u8::MAX)]);
            put(id.as_bytes());
        }
        let mac = hmac::sign(&self.0, &bytes[..end]);
        bytes[end..end + MAC_LEN].copy_from_slice(mac.as_ref());
        URL_SAFE_NO_PAD.encode(&bytes[..end + MAC_LEN])
    }

    /// Reads a ticket, if it was issued with this key and is good at `now`. The MAC is compared in constant time, before
    /// anything else is read.
    ///
    /// # Errors
    /// [`TicketError::Forged`] for anything that this key did not issue, [`TicketError::Expired`] from `expires_at` on.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Ticket, TicketError> {
        let ticket = self.open(text).ok_or(TicketError::Forged)?;
        if now < ticket.expires_at { Ok(ticket) } else { Err(TicketError::Expired) }
    }

    fn open(&self, text: &str) -> Option<Ticket> {
        if text.len() > MAX_TICKET_LEN {
            return None;
        }
        let mut bytes = [0; MAX_TICKET_LEN];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (body, mac) = bytes.get(..length)?.split_at_checked(length.checked_sub(MAC_LEN)?)?;
        hmac::verify(&self.0, body, mac).ok()?;

        let (version, rest) = body.split_first()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (joined, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (event, rest) = take_id(rest)?;
        let (visitor, rest) = take_id(rest)?;
        if *version != VERSION || !rest.is_empty() {
            return None;
        }
        Some(Ticket {
            event: EventId::parse(event).ok()?,
            visitor: VisitorId::parse(visitor).ok()?,
            number: u64::from_be_bytes(*number),
            joined_at: Timestamp::from_micros(i64::from_be_bytes(*joined)),
            expires_at: Timestamp::from_micros(i64::from_be_bytes(*expires)),
        })
    }
}

fn take_id(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(id).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> TicketKey {
        TicketKey::new(&[7; 32])
    }

    fn ticket() -> Ticket {
        Ticket {
            event: EventId::parse("arena").expect("an id"),
            visitor: VisitorId::parse("visitor-1").expect("an id"),
            number: 42,
            joined_at: Timestamp::from_seconds(1_000),
            expires_at: Timestamp::from_seconds(2_000),
        }
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_500);

    #[test]
    fn a_ticket_is_good_until_it_expires() {
        let text = key().issue(&ticket());
        assert_eq!(key().verify(&text, NOW), Ok(ticket()));
        assert_eq!(key().verify(&text, Timestamp::from_micros(1_999_999_999)), Ok(ticket()));
        assert_eq!(key().verify(&text, Timestamp::from_seconds(2_000)), Err(TicketError::Expired));
    }

    #[test]
    fn every_changed_cut_or_lengthened_ticket_is_forged() {
        let text = key().issue(&ticket());
        for at in 0..text.len() {
            for other in ["A", "B", "-", ".", "="] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, other);
                if changed != text {
                    assert_eq!(key().verify(&changed, NOW), Err(TicketError::Forged), "{at}");
                }
            }
            assert_eq!(key().verify(&text[..at], NOW), Err(TicketError::Forged), "cut at {at}");
        }
        for longer in [format!("{text}A"), format!("{text}="), format!(" {text}"), "A".repeat(MAX_TICKET_LEN + 1)] {
            assert_eq!(key().verify(&longer, NOW), Err(TicketError::Forged));
        }
        assert_eq!(TicketKey::new(&[8; 32]).verify(&text, NOW), Err(TicketError::Forged), "another key");
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", key()), "TicketKey(***)");
    }

    proptest! {
        #[test]
        fn any_ticket_reads_as_it_was_issued(
            event in "[A-Za-z0-9._:-]{1,128}", visitor in "[A-Za-z0-9._:-]{1,128}",
            number: u64, joined: i64, expires: i64,
        ) {
            let ticket = Ticket {
                event: EventId::parse(&event).expect("an id"),
                visitor: VisitorId::parse(&visitor).expect("an id"),
                number,
                joined_at: Timestamp::from_micros(joined),
                expires_at: Timestamp::from_micros(expires),
            };
            let text = key().issue(&ticket);
            prop_assert!(text.len() <= MAX_TICKET_LEN);
            let wanted = if expires > i64::MIN { Ok(ticket) } else { Err(TicketError::Expired) };
            prop_assert_eq!(key().verify(&text, Timestamp::from_micros(i64::MIN)), wanted);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,600}") {
            prop_assert_eq!(key().verify(&text, NOW), Err(TicketError::Forged));
        }
    }
}
