//! The span channel: each output token pays the row that it was found in.

use std::collections::BTreeMap;

use openledger_primitives::Wei;

use crate::Error;

/// What the span channel pays for one inference; `paid` and `uncovered` sum to the budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanPay {
    /// Wei for each cluster that covers a token, by cluster.
    pub paid: BTreeMap<u32, Wei>,
    /// Surprisal won by each cluster, milli-bits.
    pub won_millibits: BTreeMap<u32, u64>,
    /// The part of the tokens that no admissible span covers, and the roundings.
    pub uncovered: Wei,
}

/// Shares `budget` among the clusters that cover output tokens.
///
/// Token `j` weighs `surprisals[j]` milli-bits and belongs to cluster `cover[j]`, that of the
/// earliest occurrence of the longest admissible span over it. A cluster is paid
/// `floor(budget * won / total)` where `total` runs over **all** tokens, covered or not: so a
/// cluster's pay does not depend on what others cover, and nobody gains from another's loss.
///
/// # Errors
/// [`Error::OutOfRange`] if the lists differ in length.
pub fn pay_spans(budget: Wei, surprisals: &[u32], cover: &[Option<u32>]) -> Result<SpanPay, Error> {
    if surprisals.len() != cover.len() {
        return Err(Error::OutOfRange {
            what: "cover of the output tokens",
        });
    }
    const SUM: Error = Error::OutOfRange {
        what: "sum of surprisals",
    };
    let mut total = 0u64;
    let mut won_millibits = BTreeMap::<u32, u64>::new();
    for (&millibits, cluster) in surprisals.iter().zip(cover) {
        total = total.checked_add(millibits.into()).ok_or(SUM)?;
        if let Some(cluster) = cluster {
            let won = won_millibits.entry(*cluster).or_default();
            *won = won.checked_add(millibits.into()).ok_or(SUM)?;
        }
    }
    let mut pay = SpanPay {
        uncovered: budget,
        ..SpanPay::default()
    };
    if total > 0 {
        for (&cluster, &won) in &won_millibits {
            let amount = budget.mul_div(won.into(), total.into())?;
            pay.uncovered = pay.uncovered.checked_sub(amount)?;
            pay.paid.insert(cluster, amount);
        }
    }
    pay.won_millibits = won_millibits;
    Ok(pay)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uncovered_tokens_pay_the_commons() {
        let pay = pay_spans(Wei::new(101), &[10, 20, 70], &[Some(4), None, Some(4)]).unwrap();
        assert_eq!(pay.paid[&4], Wei::new(80));
        assert_eq!(pay.uncovered, Wei::new(21));
        assert_eq!(pay.won_millibits[&4], 80);
    }

    #[test]
    fn an_answer_without_surprise_pays_nobody() {
        let pay = pay_spans(Wei::new(9), &[0, 0], &[Some(1), Some(2)]).unwrap();
        assert_eq!(pay.uncovered, Wei::new(9));
        assert!(pay.paid.is_empty());
        assert_eq!(
            pay_spans(Wei::new(9), &[], &[]).unwrap().uncovered,
            Wei::new(9)
        );
    }

    proptest! {
        #[test]
        fn conserves_the_budget(
            budget: u128,
            tokens in proptest::collection::vec((any::<u32>(), proptest::option::of(0u32..5)), 0..40),
        ) {
            let (surprisals, cover): (Vec<u32>, Vec<Option<u32>>) = tokens.into_iter().unzip();
            let pay = pay_spans(Wei::new(budget), &surprisals, &cover).unwrap();
            let paid = Wei::total(pay.paid.values().copied()).unwrap();
            prop_assert_eq!(paid.checked_add(pay.uncovered).unwrap(), Wei::new(budget));
        }

        /// Cutting one cluster in two, token by token, never wins a wei.
        #[test]
        fn splitting_a_cluster_never_gains(
            budget in 0u128..1 << 90,
            tokens in proptest::collection::vec((any::<u32>(), 0u32..3, any::<bool>()), 1..40),
        ) {
            let surprisals: Vec<u32> = tokens.iter().map(|t| t.0).collect();
            let whole: Vec<_> = tokens.iter().map(|t| Some(t.1)).collect();
            let cut: Vec<_> = tokens
                .iter()
                .map(|t| Some(if t.1 == 0 && t.2 { 9 } else { t.1 }))
                .collect();
            let before = pay_spans(Wei::new(budget), &surprisals, &whole).unwrap().paid;
            let after = pay_spans(Wei::new(budget), &surprisals, &cut).unwrap().paid;
            let get = |paid: &BTreeMap<u32, Wei>, c| paid.get(&c).map_or(0, |wei| wei.get());
            prop_assert!(get(&after, 0) + get(&after, 9) <= get(&before, 0));
            prop_assert_eq!(get(&after, 1), get(&before, 1));
        }
    }
}
