//! Raising the fees of a transaction that waits.

use std::time::Duration;

use crate::Fees;

/// When a transaction that is not mined is replaced by one that pays more, and how much that may be.
///
/// Both have the same nonce, so that only one of them can be mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Time without being mined after which a transaction is replaced.
    pub after: Duration,
    /// The most that a unit of gas may cost, wei. No transaction has a higher ceiling, the first
    /// version included: above it, transactions wait until gas is cheaper.
    pub max_fee: u128,
}

impl Default for Replacement {
    /// Two slots of Ethereum, and 500 gwei.
    fn default() -> Self {
        Self {
            after: Duration::from_secs(24),
            max_fee: 500_000_000_000,
        }
    }
}

impl Replacement {
    /// `fees` within the limit.
    pub(crate) fn capped(&self, fees: Fees) -> Fees {
        let max_fee = fees.max_fee.min(self.max_fee);
        Fees {
            max_fee,
            max_priority_fee: fees.max_priority_fee.min(max_fee),
        }
    }

    /// The fees of a replacement: what the node wants now, and enough for its mempool to let go of
    /// `old`. `None` when that is beyond the limit.
    pub(crate) fn raised(&self, old: Fees, wanted: Fees) -> Option<Fees> {
        let least = Fees {
            max_fee: bumped(old.max_fee),
            max_priority_fee: bumped(old.max_priority_fee),
        };
        if least.max_fee > self.max_fee {
            return None;
        }
        let tip = least.max_priority_fee.max(wanted.max_priority_fee);
        Some(self.capped(Fees {
            max_fee: least.max_fee.max(wanted.max_fee),
            max_priority_fee: tip,
        }))
    }
}

/// A tenth more, which is what mempools ask for on either fee (geth's `--txpool.pricebump`).
fn bumped(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(10).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fees(max_fee: u128, max_priority_fee: u128) -> Fees {
        Fees {
            max_fee,
            max_priority_fee,
        }
    }

    #[test]
    fn both_fees_rise_by_a_tenth_at_the_least_and_not_above_the_limit() {
        let rule = Replacement {
            max_fee: 1_000,
            ..Replacement::default()
        };
        // The node wants less, more, and more than the limit.
        assert_eq!(
            rule.raised(fees(101, 1), fees(50, 0)),
            Some(fees(112, 2)),
            "a tenth is rounded up"
        );
        assert_eq!(
            rule.raised(fees(100, 10), fees(300, 40)),
            Some(fees(300, 40))
        );
        assert_eq!(
            rule.raised(fees(100, 10), fees(5_000, 4_000)),
            Some(fees(1_000, 1_000))
        );
        assert_eq!(
            rule.raised(fees(909, 10), fees(0, 0)),
            Some(fees(1_000, 11))
        );
        assert_eq!(rule.raised(fees(910, 10), fees(0, 0)), None);
        assert_eq!(rule.capped(fees(2_000, 1_500)), fees(1_000, 1_000));
        let all = Replacement {
            max_fee: u128::MAX,
            ..rule
        };
        let most = fees(u128::MAX, u128::MAX);
        assert_eq!(all.raised(most, most), Some(most), "no overflow");
    }
}
