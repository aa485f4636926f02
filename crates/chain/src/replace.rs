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
    /// The most that a unit of gas, or of blob gas, may cost, wei. No transaction has a higher ceiling, the first
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

/// What a transaction offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) fees: Fees,
    /// Ceiling for a unit of blob gas, wei; `None` without blobs.
    pub(crate) blob_fee: Option<u128>,
}

impl Replacement {
    /// `offer` within the limit.
    pub(crate) fn capped(&self, offer: Offer) -> Offer {
        let max_fee = offer.fees.max_fee.min(self.max_fee);
        Offer {
            fees: Fees {
                max_fee,
                max_priority_fee: offer.fees.max_priority_fee.min(max_fee),
            },
            blob_fee: offer.blob_fee.map(|fee| fee.min(self.max_fee)),
        }
    }

    /// The offer of a replacement: what the node wants now, and enough for its mempool to let go of
    /// `old`. `None` when that is beyond the limit.
    pub(crate) fn raised(&self, old: Offer, wanted: Offer) -> Option<Offer> {
        let bumped = match old.blob_fee {
            None => more_by_a_tenth,
            Some(_) => doubled,
        };
        let least = Offer {
            fees: Fees {
                max_fee: bumped(old.fees.max_fee),
                max_priority_fee: bumped(old.fees.max_priority_fee),
            },
            blob_fee: old.blob_fee.map(bumped),
        };
        if self.capped(least) != least {
            return None;
        }
        let tip = least.fees.max_priority_fee;
        Some(self.capped(Offer {
            fees: Fees {
                max_fee: least.fees.max_fee.max(wanted.fees.max_fee),
                max_priority_fee: tip.max(wanted.fees.max_priority_fee),
            },
            blob_fee: least.blob_fee.max(wanted.blob_fee),
        }))
    }
}

/// What mempools ask for on either fee (geth's `--txpool.pricebump`).
fn more_by_a_tenth(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(10).max(1))
}

/// What they ask for where there are blobs, on all three (geth's `--blobpool.pricebump`).
fn doubled(fee: u128) -> u128 {
    fee.saturating_mul(2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn offer(max_fee: u128, max_priority_fee: u128) -> Offer {
        Offer {
            fees: Fees {
                max_fee,
                max_priority_fee,
            },
            blob_fee: None,
        }
    }

    const fn with_blobs(max_fee: u128, max_priority_fee: u128, blob_fee: u128) -> Offer {
        Offer {
            blob_fee: Some(blob_fee),
            ..offer(max_fee, max_priority_fee)
        }
    }

    #[test]
    fn all_fees_rise_enough_and_not_above_the_limit() {
        let rule = Replacement {
            max_fee: 1_000,
            ..Replacement::default()
        };
        // The node wants less, more, and more than the limit.
        for (old, wanted, raised) in [
            (offer(101, 1), offer(50, 0), Some(offer(112, 2))),
            (offer(100, 10), offer(300, 40), Some(offer(300, 40))),
            (
                offer(100, 10),
                offer(5_000, 4_000),
                Some(offer(1_000, 1_000)),
            ),
            (offer(909, 10), offer(0, 0), Some(offer(1_000, 11))),
            (offer(910, 10), offer(0, 0), None),
            (
                with_blobs(100, 10, 1),
                with_blobs(150, 1, 7),
                Some(with_blobs(200, 20, 7)),
            ),
            (with_blobs(100, 10, 501), with_blobs(1, 1, 1), None),
            (with_blobs(501, 10, 1), with_blobs(1, 1, 1), None),
        ] {
            assert_eq!(rule.raised(old, wanted), raised, "{old:?}");
        }
        assert_eq!(rule.capped(offer(2_000, 1_500)), offer(1_000, 1_000));
        let all = Replacement {
            max_fee: u128::MAX,
            ..rule
        };
        let most = offer(u128::MAX, u128::MAX);
        assert_eq!(all.raised(most, most), Some(most), "no overflow");
    }
}
