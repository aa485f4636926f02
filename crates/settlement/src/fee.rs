//! The fee of an inference and its split among the roles.

use openledger_primitives::{Bps, Wei, records::Parameters};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Prices of a model, frozen with its adapter version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Wei for one prompt token.
    pub prompt: Wei,
    /// Wei for one output token.
    pub output: Wei,
}

impl Prices {
    /// `prompt_tokens * prompt price + output_tokens * output price`, in wei.
    ///
    /// # Errors
    /// [`Error::Amount`] if the fee does not fit in 128 bits.
    pub fn fee(&self, prompt_tokens: u32, output_tokens: u32) -> Result<Wei, Error> {
        let prompt = self.prompt.mul_u64(prompt_tokens.into())?;
        Ok(prompt.checked_add(self.output.mul_u64(output_tokens.into())?)?)
    }
}

/// How a fee is shared among the roles; the shares are exactly the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    contributors: Bps,
    operator: Bps,
    model_owner: Bps,
    stakers: Bps,
}

impl Split {
    /// The split that the parameters name: what a model that is registered now is frozen with.
    ///
    /// # Errors
    /// As [`Self::from_bps`].
    pub fn new(parameters: &Parameters) -> Result<Self, Error> {
        Self::from_bps([
            parameters.contributorsBps,
            parameters.operatorBps,
            parameters.modelOwnerBps,
            parameters.stakersBps,
            parameters.treasuryBps,
        ])
    }

    /// A split in basis points: contributors, operator, model owner, stakers, treasury.
    ///
    /// # Errors
    /// [`Error::SharesNotWhole`] if the five shares do not sum to 10,000 basis points.
    pub fn from_bps(shares: [u16; 5]) -> Result<Self, Error> {
        let sum = shares
            .iter()
            .fold(0u32, |sum, &share| sum.saturating_add(share.into()));
        if sum != u32::from(Bps::WHOLE.get()) {
            return Err(Error::SharesNotWhole(sum));
        }
        let [contributors, operator, model_owner, stakers, _] = shares;
        Ok(Self {
            contributors: Bps::new(contributors)?,
            operator: Bps::new(operator)?,
            model_owner: Bps::new(model_owner)?,
            stakers: Bps::new(stakers)?,
        })
    }

    /// The parts of `fee`: four shares rounded down, and the treasury with what is left.
    ///
    /// # Errors
    /// Never for a split made by [`Split::new`]: the shares are at most the whole.
    pub fn parts(&self, fee: Wei) -> Result<FeeParts, Error> {
        let contributors = self.contributors.of(fee)?;
        let operator = self.operator.of(fee)?;
        let model_owner = self.model_owner.of(fee)?;
        let stakers = self.stakers.of(fee)?;
        let treasury =
            fee.checked_sub(Wei::total([contributors, operator, model_owner, stakers])?)?;
        Ok(FeeParts {
            contributors,
            operator,
            model_owner,
            stakers,
            treasury,
        })
    }
}

/// The parts of one fee, in wei; they sum to the fee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeParts {
    /// For the contributors, by spans and by gradients.
    pub contributors: Wei,
    /// For the operator that served.
    pub operator: Wei,
    /// For the owner of the model.
    pub model_owner: Wei,
    /// For the stakers.
    pub stakers: Wei,
    /// For the treasury, rounding dust included.
    pub treasury: Wei,
}

impl FeeParts {
    /// The fee that was split.
    ///
    /// # Errors
    /// Never for parts made by [`Split::parts`].
    pub fn total(&self) -> Result<Wei, Error> {
        let parts = [
            self.contributors,
            self.operator,
            self.model_owner,
            self.stakers,
            self.treasury,
        ];
        Ok(Wei::total(parts)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dust_goes_to_the_treasury() {
        let parts = Split::new(&Parameters::default())
            .unwrap()
            .parts(Wei::new(9))
            .unwrap();
        assert_eq!(parts.contributors, Wei::new(3));
        assert_eq!(parts.operator, Wei::new(2));
        assert_eq!(parts.model_owner, Wei::new(1));
        assert_eq!(parts.stakers, Wei::ZERO);
        assert_eq!(parts.treasury, Wei::new(3));
    }

    #[test]
    fn shares_must_be_the_whole() {
        let parameters = Parameters {
            treasuryBps: 601,
            ..Default::default()
        };
        assert_eq!(
            Split::new(&parameters).unwrap_err(),
            Error::SharesNotWhole(10_001)
        );
    }

    #[test]
    fn a_fee_beyond_128_bits_is_refused() {
        let prices = Prices {
            prompt: Wei::new(u128::MAX),
            output: Wei::ZERO,
        };
        assert_eq!(prices.fee(1, u32::MAX).unwrap(), Wei::new(u128::MAX));
        assert!(matches!(prices.fee(2, 0), Err(Error::Amount(_))));
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_fee(fee: u128, cuts in proptest::array::uniform4(0u16..=10_000)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let parameters = Parameters {
                contributorsBps: cuts[0],
                operatorBps: cuts[1] - cuts[0],
                modelOwnerBps: cuts[2] - cuts[1],
                stakersBps: cuts[3] - cuts[2],
                treasuryBps: 10_000 - cuts[3],
                ..Default::default()
            };
            let parts = Split::new(&parameters).unwrap().parts(Wei::new(fee)).unwrap();
            prop_assert_eq!(parts.total().unwrap(), Wei::new(fee));
        }
    }
}
