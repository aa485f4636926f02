//! The attribution threshold: a noise floor from decoys, and a controller for the governed floor.

use openledger_primitives::Bps;
use serde::{Deserialize, Serialize};

/// The `share` quantile of `values` by nearest rank: the smallest value with at least that share
/// of the values at or below it. `None` without values.
pub fn quantile(values: &[i64], share: Bps) -> Option<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let count = u128::try_from(sorted.len()).ok()?;
    let rank = count
        .checked_mul(share.get().into())?
        .div_ceil(u128::from(Bps::WHOLE.get()))
        .saturating_sub(1);
    sorted.get(usize::try_from(rank).ok()?).copied()
}

/// How governance steers a model's floor: the bounds, and how many clusters an inference should
/// pay on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Lowest floor, units of 2^-20.
    pub min: u32,
    /// Highest floor, units of 2^-20.
    pub max: u32,
    /// Paid clusters for each inference that the controller aims at, in thousandths.
    pub target_milli: u32,
}

impl Default for Threshold {
    /// Bounds of 0.001 and 0.25 in cosine, aiming at eight paid clusters an inference.
    fn default() -> Self {
        Self {
            min: 1_048,
            max: 262_144,
            target_milli: 8_000,
        }
    }
}

impl Threshold {
    /// The floor of the next epoch.
    ///
    /// It rises while more clusters are paid than aimed at and falls while fewer are, in proportion
    /// to the miss and by at most one eighth (12.5 %) an epoch, inside the bounds; the form is that
    /// of the EIP-1559 base fee. An epoch without inferences leaves it as it is.
    #[must_use]
    pub fn next(&self, floor: u32, paid_clusters: u64, inferences: u64) -> u32 {
        let max = self.max.max(self.min);
        let floor = floor.clamp(self.min, max);
        let target = u128::from(self.target_milli.max(1));
        let Some(observed) = u128::from(paid_clusters)
            .saturating_mul(1_000)
            .checked_div(inferences.into())
        else {
            return floor;
        };
        let miss = observed.abs_diff(target).min(target);
        let step = u128::from(floor)
            .saturating_mul(miss)
            .checked_div(target.saturating_mul(8))
            .and_then(|step| u32::try_from(step).ok())
            .unwrap_or_default();
        let moved = match observed.cmp(&target) {
            core::cmp::Ordering::Greater => floor.saturating_add(step.max(1)),
            core::cmp::Ordering::Less => floor.saturating_sub(step.max(1)),
            core::cmp::Ordering::Equal => floor,
        };
        moved.clamp(self.min, max)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_rank() {
        let values = [5, 1, 4, 2, 3];
        for (bps, expected) in [(0, 1), (2_000, 1), (2_001, 2), (9_500, 5), (10_000, 5)] {
            assert_eq!(
                quantile(&values, Bps::new(bps).unwrap()),
                Some(expected),
                "{bps}"
            );
        }
        assert_eq!(quantile(&[], Bps::WHOLE), None);
    }

    #[test]
    fn moves_towards_the_target_and_no_faster_than_an_eighth() {
        let t = Threshold {
            min: 100,
            max: 100_000,
            target_milli: 2_000,
        };
        assert_eq!(t.next(8_000, 20, 10), 8_000);
        assert_eq!(t.next(8_000, 1_000, 10), 9_000);
        assert_eq!(t.next(8_000, 0, 10), 7_000);
        assert_eq!(t.next(8_000, 30, 10), 8_500);
        assert_eq!(t.next(8_000, 1_000, 0), 8_000);
        assert_eq!(t.next(100, 0, 1), 100);
        assert_eq!(t.next(7, 0, 0), 100);
    }

    proptest! {
        #[test]
        fn stays_inside_bounds_and_steps(
            floor: u32, paid: u64, inferences: u64, min: u32, max: u32, target_milli: u32,
        ) {
            let t = Threshold { min, max, target_milli };
            let start = floor.clamp(min, max.max(min));
            let next = t.next(floor, paid, inferences);
            prop_assert!(next >= min && next <= max.max(min));
            prop_assert!(next.abs_diff(start) <= (start / 8).max(1));
        }
    }
}
