//! Opaque identifiers: 1 to 128 characters from `[A-Za-z0-9._:-]`.
//!
//! The alphabet has no space, slash or comma, so those are free to separate ids wherever several are packed into one
//! string (Redis values, zone keys).

use std::fmt;
use std::sync::Arc;

/// The longest id that is accepted, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// The alphabet and the length as the OpenAPI document says them.
const PATTERN: &str = "^[A-Za-z0-9._:-]{1,128}$";

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 characters from [A-Za-z0-9._:-]")]
pub struct InvalidId;

/// Which bytes an id may have: looked up, for every request brings some of them.
const LEGAL: [bool; 256] = {
    let (mut legal, mut byte) = ([false; 256], 0);
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // below 256
        let b = byte as u8;
        legal[byte] = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        byte += 1;
    }
    legal
};

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(|b| LEGAL[usize::from(b)])
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the alphabet and the length, and takes the text as an id.
            ///
            /// # Errors
            /// [`InvalidId`] when the text is empty, longer than [`MAX_ID_LEN`] or has another character.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_id(text) { Ok(Self(Arc::from(text))) } else { Err(InvalidId) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let text = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
                text.min_length(Some(1)).max_length(Some(MAX_ID_LEN)).pattern(Some(PATTERN)).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    )*};
}

ids! {
    /// What people queue for.
    EventId,
    /// Who queues: the `sub` of a user token, the trusted header's value, or an identity minted at an anonymous join.
    VisitorId,
    /// One performance of an event.
    ShowId,
    /// One price zone of a show. Unique within its show only.
    ZoneId,
    /// One reservation.
    BookingId,
    /// The `jti` of a pass: derived from event and number, so that no place can ever have two.
    PassId,
}

/// A zone within its event: show and zone together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneKey {
    /// The show that the zone belongs to.
    pub show: ShowId,
    /// The zone within the show.
    pub zone: ZoneId,
}

impl ZoneKey {
    /// Reads the `show/zone` form that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`InvalidId`] when there is no slash or a half is not an id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (show, zone) = text.split_once('/').ok_or(InvalidId)?;
        Ok(Self { show: ShowId::parse(show)?, zone: ZoneId::parse(zone)? })
    }
}

impl fmt::Display for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.show, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    #[test]
    fn the_alphabet_and_the_length_are_checked() {
        for good in ["a", "b0000000-0000-0001-0001-000000000000", "user:1.2_3-x", &"x".repeat(128)] {
            assert!(EventId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "é", "a\n", "a,b", &"x".repeat(129)] {
            assert!(EventId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_zone_key_reads_what_it_writes() {
        let key = ZoneKey::parse("s1/z:1").expect("valid");
        assert_eq!(key.to_string(), "s1/z:1");
        assert!(ZoneKey::parse("s1").is_err());
        assert!(ZoneKey::parse("s1/z/2").is_err());
    }

    proptest! {
        #![proptest_config(hostile::config("ids"))]

        #[test]
        fn an_id_is_what_the_pattern_says(text in "\\PC{0,6}|[A-Za-z0-9._:-]{1,140}|[A-Za-z0-9._:-]{0,9}.[A-Za-z0-9._:-]{0,9}") {
            let good = (1..=128).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
            prop_assert_eq!(EventId::parse(&text).is_ok(), good);
            let quoted = serde_json::to_string(&text).expect("JSON");
            let read: Result<VisitorId, _> = serde_json::from_str(&quoted);
            prop_assert_eq!(read.is_ok(), good);
            if let Ok(id) = read {
                prop_assert_eq!((id.as_str(), serde_json::to_string(&id).expect("JSON")), (text.as_str(), quoted));
            }
        }

        #[test]
        fn a_zone_key_is_two_ids_and_one_slash(show in "[A-Za-z0-9._:-]{0,3}", zone in "[A-Za-z0-9._:/ -]{0,4}", text in "[a/ ]{0,6}|\\PC{0,6}") {
            let made = format!("{show}/{zone}");
            for text in [made, text] {
                let good = text.split('/').count() == 2 && text.split('/').all(|half| ShowId::parse(half).is_ok());
                let read = ZoneKey::parse(&text);
                prop_assert_eq!(read.is_ok(), good, "{:?}", &text);
                if let Ok(key) = read {
                    prop_assert_eq!(key.to_string(), text);
                }
            }
        }
    }
}
