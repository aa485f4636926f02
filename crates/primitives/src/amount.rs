//! Amounts of OPEN and shares of them, in checked integers.

use core::fmt;
use core::iter::Sum;
use core::str::FromStr;

use alloy_primitives::{U256, ruint};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of OPEN in wei (10^-18 OPEN).
///
/// The whole supply is 10^27 wei, far below `u128::MAX`, so 128 bits hold every amount and every
/// sum of amounts that can exist. Serialised as a decimal string, because JSON numbers lose
/// precision above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wei(u128);

/// Why an amount could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The sum or product does not fit in 128 bits.
    #[error("amount overflows 128 bits")]
    Overflow,
    /// More was taken than there was.
    #[error("amount would fall below zero: {have} - {take}")]
    Underflow {
        /// What there was.
        have: Wei,
        /// What should have been taken.
        take: Wei,
    },
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A share above the whole.
    #[error("{0} basis points are more than the whole (10,000)")]
    MoreThanWhole(u16),
    /// The text is not an amount.
    #[error("not an amount in wei: expected decimal digits")]
    NotAnAmount,
}

impl Wei {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One OPEN: 10^18 wei.
    pub const OPEN: Self = Self(1_000_000_000_000_000_000);

    /// An amount of `wei` wei.
    pub const fn new(wei: u128) -> Self {
        Self(wei)
    }

    /// The number of wei.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Whether there is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self + other`.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] above 2^128 - 1.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0
            .checked_add(other.0)
            .map(Self)
            .ok_or(AmountError::Overflow)
    }

    /// `self - other`.
    ///
    /// # Errors
    /// [`AmountError::Underflow`] if `other` is the larger.
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.0
            .checked_sub(other.0)
            .map(Self)
            .ok_or(AmountError::Underflow {
                have: self,
                take: other,
            })
    }

    /// `self * times`.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] above 2^128 - 1.
    pub fn mul_u64(self, times: u64) -> Result<Self, AmountError> {
        self.0
            .checked_mul(u128::from(times))
            .map(Self)
            .ok_or(AmountError::Overflow)
    }

    /// `floor(self * numerator / denominator)` with a 256-bit intermediate, so that only the
    /// result has to fit.
    ///
    /// # Errors
    /// [`AmountError::DivisionByZero`], or [`AmountError::Overflow`] if the result does not fit.
    pub fn mul_div(self, numerator: u128, denominator: u128) -> Result<Self, AmountError> {
        if denominator == 0 {
            return Err(AmountError::DivisionByZero);
        }
        // 2^128 * 2^128 fits in 256 bits, so the product cannot wrap.
        let product = U256::from(self.0).wrapping_mul(U256::from(numerator));
        let quotient = product.wrapping_div(U256::from(denominator));
        u128::try_from(quotient)
            .map(Self)
            .map_err(|_: ruint::FromUintError<u128>| AmountError::Overflow)
    }

    /// The sum of `amounts`.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] above 2^128 - 1.
    pub fn total(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// The amount as OPEN with all 18 decimals, trailing zeros cut: `1.5`, `0.000000000000000001`.
    pub fn open(self) -> String {
        let whole = self.0.checked_div(Self::OPEN.0).unwrap_or_default();
        let rest = self.0.checked_rem(Self::OPEN.0).unwrap_or_default();
        let digits = format!("{rest:018}");
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() {
            whole.to_string()
        } else {
            format!("{whole}.{digits}")
        }
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Wei {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::NotAnAmount);
        }
        text.parse().map(Self).map_err(|_| AmountError::Overflow)
    }
}

impl From<Wei> for U256 {
    fn from(wei: Wei) -> Self {
        Self::from(wei.0)
    }
}

impl TryFrom<U256> for Wei {
    type Error = AmountError;

    fn try_from(value: U256) -> Result<Self, AmountError> {
        u128::try_from(value)
            .map(Self)
            .map_err(|_| AmountError::Overflow)
    }
}

impl Serialize for Wei {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A share in basis points: 10,000 are the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bps(u16);

impl Bps {
    /// The whole: 10,000 basis points.
    pub const WHOLE: Self = Self(10_000);

    /// A share of `bps` basis points.
    ///
    /// # Errors
    /// [`AmountError::MoreThanWhole`] above 10,000.
    pub const fn new(bps: u16) -> Result<Self, AmountError> {
        if bps > Self::WHOLE.0 {
            Err(AmountError::MoreThanWhole(bps))
        } else {
            Ok(Self(bps))
        }
    }

    /// The number of basis points.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// This share of `amount`, rounded down.
    ///
    /// # Errors
    /// Never in practice: the result is at most `amount`.
    pub fn of(self, amount: Wei) -> Result<Wei, AmountError> {
        amount.mul_div(u128::from(self.0), u128::from(Self::WHOLE.0))
    }

    /// The rest of the whole.
    pub const fn complement(self) -> Self {
        // `self.0 <= 10_000` by construction, so the difference is exact.
        Self(Self::WHOLE.0.saturating_sub(self.0))
    }
}

impl Sum<Bps> for u32 {
    fn sum<I: Iterator<Item = Bps>>(iter: I) -> Self {
        iter.fold(0, |sum, bps| sum.saturating_add(Self::from(bps.0)))
    }
}

impl<'de> Deserialize<'de> for Bps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_open_without_losing_a_wei() {
        for (wei, open) in [
            (0, "0"),
            (1, "0.000000000000000001"),
            (1_500_000_000_000_000_000, "1.5"),
            (10u128.pow(27), "1000000000"),
        ] {
            assert_eq!(Wei::new(wei).open(), open);
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        let wei = Wei::new(u128::MAX);
        let json = serde_json::to_string(&wei).unwrap();
        assert_eq!(json, "\"340282366920938463463374607431768211455\"");
        assert_eq!(serde_json::from_str::<Wei>(&json).unwrap(), wei);
        assert!(serde_json::from_str::<Wei>("\"-1\"").is_err());
        assert!(serde_json::from_str::<Bps>("10001").is_err());
    }

    proptest! {
        #[test]
        fn share_and_complement_lose_at_most_one_wei(wei in 0..10u128.pow(30), bps in 0u16..=10_000) {
            let share = Bps::new(bps).unwrap();
            let both = share.of(Wei::new(wei)).unwrap().get()
                + share.complement().of(Wei::new(wei)).unwrap().get();
            prop_assert!(wei - both <= 1);
        }

        #[test]
        fn text_round_trip(wei: u128) {
            prop_assert_eq!(Wei::new(wei).to_string().parse::<Wei>().unwrap(), Wei::new(wei));
        }

        #[test]
        fn mul_div_is_exact_floor(a: u64, n: u64, d in 1u64..) {
            let exact = u128::from(a) * u128::from(n) / u128::from(d);
            prop_assert_eq!(Wei::new(a.into()).mul_div(n.into(), d.into()).unwrap().get(), exact);
        }
    }
}
