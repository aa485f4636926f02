//! Where the contracts are, and who may do what.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

/// The addresses of one deployment. They follow from the deployer's address and nonce alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Chain id.
    pub chain_id: u64,
    /// `AccessManager` of OpenZeppelin: the only authority.
    pub access_manager: Address,
    /// `ProtocolParameters`: what governance sets, by epoch.
    pub parameters: Address,
    /// `InferenceSettlement`: deposits, epochs, claims.
    pub settlement: Address,
    /// `DatanetRegistry`, ERC-721: Datanets and their versions.
    pub datanets: Address,
    /// `ContributionAnchor`: batches, bonds, challenges.
    pub anchor: Address,
    /// `ModelRegistry`, ERC-721: base models and adapters.
    pub models: Address,
}

/// A role of the `AccessManager`. Role 0 is its administrator (governance).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Posts epochs; needs a bond besides.
    Settler,
    /// Disables pending epochs and pauses Datanets.
    Guardian,
    /// Sets the protocol's parameters.
    Governor,
    /// Spends from the Datanets' commons.
    Commons,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Settler, Self::Guardian, Self::Governor, Self::Commons];

    /// The number that the `AccessManager` knows it by.
    pub const fn id(self) -> u64 {
        match self {
            Self::Settler => 1,
            Self::Guardian => 2,
            Self::Governor => 3,
            Self::Commons => 4,
        }
    }

    /// Its name, for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Settler => "settler",
            Self::Guardian => "guardian",
            Self::Governor => "governor",
            Self::Commons => "commons",
        }
    }
}

impl Deployment {
    /// The addresses that [`deploy`](crate::deploy) gives the contracts when `deployer`'s first
    /// transaction for it has nonce `first_nonce`.
    pub fn expected(chain_id: u64, deployer: Address, first_nonce: u64) -> Self {
        let at = |offset: u64| deployer.create(first_nonce.saturating_add(offset));
        Self {
            chain_id,
            access_manager: at(0),
            parameters: at(1),
            settlement: at(2),
            datanets: at(3),
            anchor: at(4),
            models: at(5),
        }
    }

    /// All contracts with their names, in the order of their creation.
    pub const fn contracts(&self) -> [(&'static str, Address); 6] {
        [
            ("AccessManager", self.access_manager),
            ("ProtocolParameters", self.parameters),
            ("InferenceSettlement", self.settlement),
            ("DatanetRegistry", self.datanets),
            ("ContributionAnchor", self.anchor),
            ("ModelRegistry", self.models),
        ]
    }

    /// The name of the contract at `address`, if it is one of ours.
    pub fn name_of(&self, address: Address) -> Option<&'static str> {
        self.contracts()
            .into_iter()
            .find(|(_, at)| *at == address)
            .map(|(name, _)| name)
    }
}
