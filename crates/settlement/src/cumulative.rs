//! Cumulative ledgers: what every account was ever debited or credited, and the tree over it.
//!
//! A root over cumulative amounts makes a claim independent of the number of epochs since the last
//! one, and an epoch's transaction independent of the number of accounts: the contract pays the
//! difference to what it has paid before.

use std::collections::BTreeMap;

use openledger_primitives::{
    Address, B256, Wei,
    merkle::{self, Tree},
    records::cumulative_leaf,
};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What each account was ever debited (or credited), by address. Never falls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cumulative(BTreeMap<Address, Wei>);

impl Cumulative {
    /// A ledger with these amounts; amounts of the same account are added up.
    ///
    /// # Errors
    /// [`Error::Amount`] if an account's sum does not fit in 128 bits.
    pub fn new(amounts: impl IntoIterator<Item = (Address, Wei)>) -> Result<Self, Error> {
        let mut ledger = Self::default();
        for (account, amount) in amounts {
            ledger.add(account, amount)?;
        }
        Ok(ledger)
    }

    /// Adds `amount` to `account`.
    ///
    /// # Errors
    /// [`Error::Amount`] if the sum does not fit in 128 bits.
    pub fn add(&mut self, account: Address, amount: Wei) -> Result<(), Error> {
        let sum = self.0.entry(account).or_default();
        *sum = sum.checked_add(amount)?;
        Ok(())
    }

    /// What `account` has in all.
    pub fn get(&self, account: Address) -> Wei {
        self.0.get(&account).copied().unwrap_or_default()
    }

    /// The accounts and amounts in address order: the order of the tree's leaves.
    pub fn iter(&self) -> impl Iterator<Item = (Address, Wei)> + '_ {
        self.0.iter().map(|(&account, &amount)| (account, amount))
    }

    /// Number of accounts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no account.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sum over all accounts.
    ///
    /// # Errors
    /// [`Error::Amount`] if it does not fit in 128 bits.
    pub fn total(&self) -> Result<Wei, Error> {
        Ok(Wei::total(self.0.values().copied())?)
    }

    /// The tree over the ledger: leaf data `abi.encode(address, uint128)`, in address order.
    pub fn tree(&self) -> Tree {
        Tree::from_data(
            self.iter()
                .map(|(account, wei)| cumulative_leaf(account, wei.get())),
        )
    }

    /// The root of [`Self::tree`].
    pub fn root(&self) -> B256 {
        self.tree().root()
    }

    /// The proof that a claim of `account` carries, or `None` if it has no line. For many proofs of
    /// one ledger use [`Self::proofs`], which builds the tree once.
    pub fn proof(&self, account: Address) -> Option<CumulativeProof> {
        self.proofs().find(|proof| proof.account == account)
    }

    /// The proofs of all accounts, in address order.
    pub fn proofs(&self) -> impl Iterator<Item = CumulativeProof> + '_ {
        let tree = self.tree();
        self.iter()
            .enumerate()
            .filter_map(move |(position, (account, cumulative))| {
                let index = u64::try_from(position).ok()?;
                Some(CumulativeProof {
                    account,
                    cumulative,
                    index,
                    siblings: tree.proof(position)?,
                })
            })
    }
}

/// Shows that `account` stands with `cumulative` wei under a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CumulativeProof {
    /// The account.
    pub account: Address,
    /// Its cumulative amount.
    pub cumulative: Wei,
    /// Position of its leaf.
    pub index: u64,
    /// Sibling hashes from the leaf up.
    pub siblings: Vec<B256>,
}

impl CumulativeProof {
    /// Whether the proof holds under `root`.
    pub fn verify(&self, root: B256) -> bool {
        let leaf = merkle::leaf(&cumulative_leaf(self.account, self.cumulative.get()));
        merkle::verify(root, leaf, self.index, &self.siblings)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_beyond_128_bits_is_refused() {
        let account = Address::repeat_byte(1);
        let mut ledger = Cumulative::new([(account, Wei::new(u128::MAX))]).unwrap();
        assert!(matches!(
            ledger.add(account, Wei::new(1)),
            Err(Error::Amount(_))
        ));
        ledger.add(Address::repeat_byte(2), Wei::new(1)).unwrap();
        assert!(ledger.total().is_err());
    }

    proptest! {
        #[test]
        fn every_line_is_proved_and_no_other(
            amounts in proptest::collection::btree_map(any::<[u8; 20]>(), any::<u64>(), 1..20),
        ) {
            let amounts = amounts.into_iter().map(|(a, w)| (Address::from(a), Wei::new(w.into())));
            let ledger = Cumulative::new(amounts).unwrap();
            let root = ledger.root();
            prop_assert_eq!(ledger.proofs().count(), ledger.len());
            for proof in ledger.proofs() {
                prop_assert!(proof.verify(root));
                prop_assert_eq!(ledger.proof(proof.account), Some(proof.clone()));
                let more = proof.cumulative.checked_add(Wei::new(1)).unwrap();
                let greedy = CumulativeProof { cumulative: more, ..proof };
                prop_assert!(!greedy.verify(root));
            }
        }
    }
}
