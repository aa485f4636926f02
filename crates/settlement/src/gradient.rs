//! The gradient channel: influence scores netted over an epoch, then paid by cluster.
//!
//! Netting is the point. A mislabelled row helps some answers and harms others by chance; clipping
//! each answer's score at zero would pay it for every lucky draw, while the sum over the epoch
//! tends to nothing (docs/protocol/rewards.md, "Why net").

use openledger_primitives::{U256, Wei};

use crate::Error;

/// A sum of signed scores weighted by money, kept exactly: gains and losses apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetScore {
    gain: U256,
    loss: U256,
}

impl NetScore {
    /// Adds `weight * score`, where `score` is in units of 2^-20.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the sum leaves 256 bits, which takes more than 2^96 additions.
    pub fn add(&mut self, weight: Wei, score: i32) -> Result<(), Error> {
        const SUM: Error = Error::OutOfRange {
            what: "weighted sum of scores",
        };
        let magnitude = U256::from(score.unsigned_abs());
        let term = U256::from(weight.get()).checked_mul(magnitude).ok_or(SUM)?;
        let side = if score >= 0 {
            &mut self.gain
        } else {
            &mut self.loss
        };
        *side = side.checked_add(term).ok_or(SUM)?;
        Ok(())
    }

    /// The average score under a total weight of `weight`, rounded towards zero, in units of
    /// 2^-20; zero under no weight.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `weight` is not the sum of the weights that were added.
    pub fn average(&self, weight: Wei) -> Result<i64, Error> {
        const AVERAGE: Error = Error::OutOfRange {
            what: "average score",
        };
        let positive = self.gain >= self.loss;
        let difference = if positive {
            self.gain.checked_sub(self.loss)
        } else {
            self.loss.checked_sub(self.gain)
        };
        let magnitude = difference
            .ok_or(AVERAGE)?
            .checked_div(U256::from(weight.get()))
            .unwrap_or_default();
        let magnitude = i64::try_from(magnitude).map_err(|_| AVERAGE)?;
        if positive {
            Ok(magnitude)
        } else {
            magnitude.checked_neg().ok_or(AVERAGE)
        }
    }
}

/// What the gradient channel pays for one model and epoch; the parts sum to the pot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradientPay {
    /// Wei for each cluster, in the order given.
    pub paid: Vec<Wei>,
    /// The unattributed mass and the roundings.
    pub unattributed: Wei,
}

/// Shares `pot` by netted average scores: `A = max(0, average - floor)` and
/// `paid = floor(pot * A / (lambda + sum of A))`.
///
/// `lambda` is the mass that nobody owns. It keeps an epoch whose scores barely pass the floor from
/// paying out the whole pot for noise. `averages`, `floor` and `lambda` are in units of 2^-20.
///
/// # Errors
/// [`Error::OutOfRange`] if the sum of the scores does not fit.
pub fn pay_by_score(
    pot: Wei,
    averages: &[i64],
    floor: u32,
    lambda: u32,
) -> Result<GradientPay, Error> {
    const SUM: Error = Error::OutOfRange {
        what: "sum of scores above the floor",
    };
    let above: Vec<u64> = averages
        .iter()
        .map(|&average| u64::try_from(average.saturating_sub(floor.into())).unwrap_or(0))
        .collect();
    let mass = above
        .iter()
        .try_fold(u128::from(lambda), |sum, &a| sum.checked_add(a.into()))
        .ok_or(SUM)?;
    let mut pay = GradientPay {
        paid: Vec::with_capacity(above.len()),
        unattributed: pot,
    };
    for a in above {
        // `mass` is zero only if every `a` is, and then there is nothing to divide.
        let amount = if a == 0 {
            Wei::ZERO
        } else {
            pot.mul_div(a.into(), mass)?
        };
        pay.unattributed = pay.unattributed.checked_sub(amount)?;
        pay.paid.push(amount);
    }
    Ok(pay)
}

/// Shares `pot` equally among `clusters` clusters: the fallback of a model whose attribution did
/// not pass its audit, because the protocol never pays noise.
///
/// # Errors
/// [`Error::OutOfRange`] if the number of clusters does not fit in 64 bits.
pub fn pay_equally(pot: Wei, clusters: usize) -> Result<GradientPay, Error> {
    let count = u64::try_from(clusters).map_err(|_| Error::OutOfRange {
        what: "number of clusters",
    })?;
    if count == 0 {
        return Ok(GradientPay {
            paid: Vec::new(),
            unattributed: pot,
        });
    }
    let each = pot.mul_div(1, count.into())?;
    let unattributed = pot.checked_sub(each.mul_u64(count)?)?;
    Ok(GradientPay {
        paid: vec![each; clusters],
        unattributed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gains_and_losses_cancel() {
        let mut net = NetScore::default();
        net.add(Wei::new(10), 300).unwrap();
        net.add(Wei::new(30), -200).unwrap();
        assert_eq!(net.average(Wei::new(40)).unwrap(), -75);
        assert_eq!(net.average(Wei::ZERO).unwrap(), 0);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut net = NetScore::default();
        for _ in 0..1_000 {
            net.add(Wei::new(u128::MAX), i32::MIN).unwrap();
        }
        let average = net.average(Wei::new(u128::MAX)).unwrap();
        assert_eq!(average, i64::from(i32::MIN) * 1_000);
        let pay = pay_by_score(Wei::new(u128::MAX), &[i64::MAX; 3], u32::MAX, u32::MAX).unwrap();
        let paid = Wei::total(pay.paid)
            .unwrap()
            .checked_add(pay.unattributed)
            .unwrap();
        assert_eq!(paid, Wei::new(u128::MAX));
    }

    #[test]
    fn lambda_and_the_floor_go_to_the_commons() {
        let pay = pay_by_score(Wei::new(1_000), &[100, 40, -70], 40, 20).unwrap();
        assert_eq!(pay.paid, [Wei::new(750), Wei::ZERO, Wei::ZERO]);
        assert_eq!(pay.unattributed, Wei::new(250));
        assert_eq!(
            pay_by_score(Wei::new(5), &[], 0, 0).unwrap().unattributed,
            Wei::new(5)
        );
    }

    #[test]
    fn the_fallback_pays_clusters_alike() {
        let pay = pay_equally(Wei::new(11), 3).unwrap();
        assert_eq!(pay.paid, [Wei::new(3); 3]);
        assert_eq!(pay.unattributed, Wei::new(2));
        assert_eq!(
            pay_equally(Wei::new(11), 0).unwrap().unattributed,
            Wei::new(11)
        );
    }

    proptest! {
        #[test]
        fn conserves_the_pot(
            pot: u128,
            scores in proptest::collection::vec(-(1i64 << 32)..1 << 32, 0..30),
            floor: u32,
            lambda: u32,
        ) {
            let pay = pay_by_score(Wei::new(pot), &scores, floor, lambda).unwrap();
            let paid = Wei::total(pay.paid).unwrap();
            prop_assert_eq!(paid.checked_add(pay.unattributed).unwrap(), Wei::new(pot));
        }

        #[test]
        fn a_higher_score_is_never_paid_less(
            pot: u128,
            scores in proptest::collection::vec(-(1i64 << 21)..1 << 21, 2..20),
            floor in 0u32..1 << 19,
        ) {
            let pay = pay_by_score(Wei::new(pot), &scores, floor, 20_000).unwrap();
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by_key(|&i| scores[i]);
            prop_assert!(order.windows(2).all(|w| pay.paid[w[0]] <= pay.paid[w[1]]));
        }
    }
}
