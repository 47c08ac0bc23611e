//! Points in time, and where they come from.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// The microseconds from 0000-01-01T00:00:00Z up to the end of 9999-12-31.
const WRITABLE: std::ops::Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

/// Why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-05-01T18:00:00Z")]
pub struct InvalidTime;

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time and `span` more.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time less `span`.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 time of any offset. In UTC it must lie in the years 0 to 9999, which is what can be written again.
    ///
    /// # Errors
    /// [`InvalidTime`] when the text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime)?;
        let micros = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).map_err(|_| InvalidTime)?;
        if WRITABLE.contains(&micros) { Ok(Self(micros)) } else { Err(InvalidTime) }
    }
}

/// RFC 3339 in UTC, to the microsecond, without trailing zeros.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The longest such time has 27 bytes; beyond the year 9999 there is no such time.
        let mut text = [0; 32];
        let mut rest = text.as_mut_slice();
        let written = OffsetDateTime::from_unix_timestamp(self.seconds()).ok().and_then(|at| {
            let nanos = u32::try_from(self.0.rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
            at.replace_nanosecond(nanos).ok()?.format_into(&mut rest, &Rfc3339).ok()
        });
        let length = 32 - rest.len();
        let written = written.and_then(|_| std::str::from_utf8(&text[..length]).ok());
        f.write_str(written.unwrap_or("9999-12-31T23:59:59Z"))
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where the time comes from. Nothing but [`SystemClock`] reads the wall clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may read it
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is told to move: for tests.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// A clock that stands at `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(at.micros().into())
    }

    /// Moves the clock to `at`, forwards or backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.micros(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, span: Duration) {
        self.set(self.now().plus(span));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    #[test]
    fn a_time_reads_what_it_writes() {
        for text in ["2026-05-01T18:00:00Z", "1970-01-01T00:00:00.000001Z", "2026-12-31T23:59:59.5Z"] {
            assert_eq!(Timestamp::parse(text).expect("valid").to_string(), text);
        }
        assert_eq!(Timestamp::parse("2026-05-01T20:00:00+02:00"), Timestamp::parse("2026-05-01T18:00:00Z"));
        assert!(Timestamp::parse("tomorrow").is_err());
    }

    #[test]
    fn a_time_that_cannot_be_written_in_utc_is_no_time() {
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTime), "{text}");
        }
        assert!(
            Timestamp::parse("9999-12-31T23:59:59.999999Z").is_ok() && Timestamp::parse("0000-01-01T00:00:00Z").is_ok()
        );
    }

    proptest! {
        #![proptest_config(hostile::config("times"))]

        #[test]
        fn what_is_read_can_be_written_and_read_again(
            text in "([0-9]{4}|0000|9999)-(0[1-9]|1[0-3])-([0-2][0-9]|3[0-2])[Tt ]([01][0-9]|2[0-5]):[0-5][0-9]:[0-6][0-9](\\.[0-9]{0,10})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])|\\PC{0,30}",
        ) {
            if let Ok(at) = Timestamp::parse(&text) {
                prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at), "{}", at);
                let json = serde_json::to_string(&at).expect("JSON");
                prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("JSON"), at);
            }
        }

        #[test]
        fn any_number_of_microseconds_is_written_as_a_time(micros: i64, in_range in WRITABLE) {
            prop_assert!(Timestamp::parse(&Timestamp::from_micros(micros).to_string()).is_ok());
            let at = Timestamp::from_micros(in_range);
            prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
            let _no_overflow = (at.plus(Duration::MAX), at.minus(Duration::MAX), at.since(Timestamp::from_micros(micros)));
        }
    }
}
