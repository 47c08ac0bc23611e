//! Money in minor units. The wire shows major units (`100.0`); nothing inside ever does.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in minor units (cents), 0 to [`Money::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Money(i64);

/// Why a number is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an amount from 0 to 10000000 with at most two decimals")]
pub struct InvalidMoney;

impl Money {
    /// The largest amount: ten million in major units. A hundred of them fit a double exactly.
    pub const MAX: Self = Self(1_000_000_000);

    /// From minor units.
    ///
    /// # Errors
    /// [`InvalidMoney`] when the amount is negative or above [`Money::MAX`].
    pub fn from_minor(minor: i64) -> Result<Self, InvalidMoney> {
        if (0..=Self::MAX.0).contains(&minor) { Ok(Self(minor)) } else { Err(InvalidMoney) }
    }

    /// From the wire's major units.
    ///
    /// # Errors
    /// [`InvalidMoney`] when the amount is out of range or has a third decimal.
    pub fn from_major(major: f64) -> Result<Self, InvalidMoney> {
        let scaled = major * 100.0;
        let minor = scaled.round();
        // Tolerates what binary fractions add (19.99 * 100 = 1998.9999999999998), not a third decimal.
        if !minor.is_finite() || (scaled - minor).abs() > 1e-4 || !(0.0..=1e9).contains(&minor) {
            return Err(InvalidMoney);
        }
        #[allow(clippy::cast_possible_truncation)] // checked above
        Ok(Self(minor as i64))
    }

    /// Minor units.
    pub const fn minor(self) -> i64 {
        self.0
    }

    /// The amount `quantity` times over.
    pub const fn times(self, quantity: u32) -> Self {
        Self(self.0.saturating_mul(quantity as i64))
    }
}

impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let number = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::Number);
        let most = (Self::MAX.0 / 100) as f64;
        number.description(Some("Major units, at most two decimals")).minimum(Some(0.0)).maximum(Some(most)).into()
    }
}

impl utoipa::ToSchema for Money {
    fn name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[allow(clippy::cast_precision_loss)] // at most 1e11, far below 2^53
        serializer.serialize_f64(self.0 as f64 / 100.0)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_major(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    #[test]
    fn major_units_become_minor_units_exactly() {
        for (major, minor) in [(0.0, 0), (100.0, 10_000), (19.99, 1_999), (0.07, 7), (10_000_000.0, 1_000_000_000)] {
            assert_eq!(Money::from_major(major).map(Money::minor), Ok(minor));
        }
        for bad in [-0.01, 0.001, 10_000_000.01, f64::NAN, f64::INFINITY] {
            assert_eq!(Money::from_major(bad), Err(InvalidMoney), "{bad}");
        }
    }

    #[test]
    fn the_wire_shows_major_units() {
        let total = Money::from_major(100.0).expect("valid").times(2);
        assert_eq!(serde_json::to_string(&total).expect("json"), "200.0");
    }

    proptest! {
        #![proptest_config(hostile::config("money"))]

        #[test]
        fn no_amount_is_lost_on_the_wire(minor in 0..=Money::MAX.minor()) {
            let amount = Money::from_minor(minor).expect("in range");
            let json = serde_json::to_string(&amount).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Money>(&json).expect("JSON"), amount, "{}", json);
        }

        #[test]
        fn any_number_is_an_amount_to_the_cent_or_refused(major in prop_oneof![any::<f64>(), -1.0..1e7, 0.0..100.0], json in hostile::json()) {
            if let Ok(amount) = Money::from_major(major) {
                prop_assert!(amount >= Money::default() && amount <= Money::MAX);
                prop_assert!((amount.minor() as f64 / 100.0 - major).abs() < 1e-5, "{} is {}", major, amount.minor());
            }
            if let Ok(amount) = serde_json::from_value::<Money>(json.clone()) {
                prop_assert!(json.is_number() && amount <= Money::MAX);
            }
        }
    }
}
