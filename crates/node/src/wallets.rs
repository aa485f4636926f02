//! The dev network's wallets: one key a role and one a contributor, derived from public strings.
//!
//! Anyone can derive these keys, so they exist on the dev chain only: [`DevWallets::new`] refuses
//! every other chain id.

use alloy_signer_local::PrivateKeySigner;
use openledger_primitives::{Address, B256, DEV_CHAIN_ID, keccak256};

use crate::{Error, Result};

/// Who a dev wallet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Deploys the contracts, and does nothing else: their addresses follow from its nonce.
    Deployer,
    /// Stands in for governance.
    Governor,
    /// May disable a pending settlement.
    Guardian,
    /// Owns the Datanet and anchors its batches.
    Curator,
    /// Owns the tuned models.
    ModelOwner,
    /// Serves completions and posts settlements.
    Operator,
    /// Pays for the loop's completions.
    Payer,
    /// Receives the stakers' share until staking exists.
    Stakers,
    /// Receives the treasury's share, fees and dust.
    Treasury,
    /// Receives a Datanet's unattributed share.
    Commons,
    /// Hands out gas money.
    Faucet,
    /// Signs blocks that are not on the layer 1 yet.
    Sequencer,
    /// Sends batches to the layer 1.
    Batcher,
    /// Claims output roots on the layer 1.
    Proposer,
}

impl Role {
    /// Every role.
    pub(crate) const ALL: [Self; 14] = [
        Self::Deployer,
        Self::Governor,
        Self::Guardian,
        Self::Curator,
        Self::ModelOwner,
        Self::Operator,
        Self::Payer,
        Self::Stakers,
        Self::Treasury,
        Self::Commons,
        Self::Faucet,
        Self::Sequencer,
        Self::Batcher,
        Self::Proposer,
    ];

    /// Name as shown and as used in the derivation.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deployer => "deployer",
            Self::Governor => "governor",
            Self::Guardian => "guardian",
            Self::Curator => "curator",
            Self::ModelOwner => "model-owner",
            Self::Operator => "operator",
            Self::Payer => "payer",
            Self::Stakers => "stakers",
            Self::Treasury => "treasury",
            Self::Commons => "commons",
            Self::Faucet => "faucet",
            Self::Sequencer => "sequencer",
            Self::Batcher => "batcher",
            Self::Proposer => "proposer",
        }
    }
}

/// Keys of the dev network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevWallets {
    chain_id: u64,
}

impl DevWallets {
    /// The wallets of the dev chain.
    ///
    /// # Errors
    /// [`Error::DevKeysElsewhere`] for any other chain id.
    pub(crate) const fn new(chain_id: u64) -> Result<Self> {
        if chain_id == DEV_CHAIN_ID {
            Ok(Self { chain_id })
        } else {
            Err(Error::DevKeysElsewhere { chain_id })
        }
    }

    /// The key of a role.
    pub(crate) fn role(&self, role: Role) -> PrivateKeySigner {
        self.derive("role", role.name())
    }

    /// The address of a role.
    pub(crate) fn address(&self, role: Role) -> Address {
        self.role(role).address()
    }

    /// The key of the contributor called `name`.
    ///
    /// # Errors
    /// Never on the dev chain.
    pub(crate) fn contributor(&self, name: &str) -> Result<PrivateKeySigner> {
        let key = openledger_datanet::keys::dev_key(self.chain_id, name)?;
        signer(&key)
    }

    /// The API key bound to the dev payer.
    pub(crate) fn api_key(&self) -> String {
        let digest = self.seed("api-key", Role::Payer.name());
        format!("sk-dev-{}", &format!("{digest:x}")[..32])
    }

    fn seed(&self, kind: &str, name: &str) -> B256 {
        keccak256(format!("openledger dev {kind} {} {name}", self.chain_id))
    }

    fn derive(&self, kind: &str, name: &str) -> PrivateKeySigner {
        signer(&self.seed(kind, name))
            .expect("a keccak digest is zero or above the curve order with probability 2^-128")
    }
}

fn signer(key: &B256) -> Result<PrivateKeySigner> {
    PrivateKeySigner::from_bytes(key).map_err(|error| Error::Key(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn dev_keys_exist_on_the_dev_chain_only() {
        assert!(matches!(
            DevWallets::new(1),
            Err(Error::DevKeysElsewhere { chain_id: 1 })
        ));
        let wallets = DevWallets::new(DEV_CHAIN_ID).unwrap();
        let addresses: std::collections::BTreeSet<_> = Role::ALL
            .into_iter()
            .map(|role| wallets.address(role))
            .collect();
        assert_eq!(addresses.len(), Role::ALL.len());
        assert!(!addresses.contains(&wallets.contributor("payer").unwrap().address()));
    }
}
