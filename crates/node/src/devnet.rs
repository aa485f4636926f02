//! The dev network: who has what at the start, and the rules of its rollup.

use std::collections::BTreeMap;

use openledger_chain::layer1::Layer1Settings;
use openledger_primitives::{Address, DEV_CHAIN_ID, Wei};

use crate::Result;
use crate::rollup::availability::seeded_committee;
use crate::rollup::network::{Choices, GAS_LIMIT};
use crate::rollup::roles::DevKeys;
use crate::wallets::{DevWallets, Role};

/// Chain id of the dev network's layer 1.
pub const DEV_L1_CHAIN_ID: u64 = 901_336;
/// Seconds between blocks of the dev network.
const BLOCK_TIME: u64 = 1;
/// What each role wallet starts with.
const ALLOWANCE: Wei = Wei::new(1_000_000 * Wei::OPEN.get());
/// What the faucet starts with. The rest of the supply is on the layer 1.
const FAUCET: Wei = Wei::new(100_000_000 * Wei::OPEN.get());
/// What the keys of the dev network's operators of data availability follow from: no secret, as no
/// key of the dev network is.
const OPERATORS: &str = "openledger dev data availability";
/// Base fee of the dev network, wei a gas: a thousandth of a gwei, as layer 2 networks have it.
pub(crate) const BASE_FEE: u64 = 1_000_000;

/// The dev network as `openledger dev` makes it: every role funded, short windows.
///
/// # Errors
/// Never; dev keys exist on the dev chain.
pub fn choices() -> Result<Choices> {
    let wallets = DevWallets::new(DEV_CHAIN_ID)?;
    let mut allocations: BTreeMap<Address, Wei> = Role::ALL
        .into_iter()
        .map(|role| (wallets.address(role), ALLOWANCE))
        .collect();
    allocations.insert(wallets.address(Role::Faucet), FAUCET);
    Ok(Choices {
        l2_chain_id: DEV_CHAIN_ID,
        block_time: BLOCK_TIME,
        seq_window_size: 3_600,
        settings: Layer1Settings {
            owner: wallets.address(Role::Governor),
            treasury: wallets.address(Role::Deployer),
            guardian: wallets.address(Role::Guardian),
            guardian_sunset: 4_102_444_800,
            batcher: wallets.address(Role::Batcher),
            unsafe_block_signer: wallets.address(Role::Sequencer),
            batch_inbox: Choices::batch_inbox(DEV_CHAIN_ID),
            gas_limit: GAS_LIMIT,
            // The sequencer gives the data away: what it costs on a dev layer 1 means nothing.
            base_fee_scalar: 0,
            blob_base_fee_scalar: 0,
            eip_1559: (250, 6),
            min_base_fee: BASE_FEE,
            da_footprint_gas_scalar: 10,
            bond: Wei::new(Wei::OPEN.get() / 100),
            challenge_window: 20,
            clock: 300,
            decision_window: 300,
            proof_maturity_delay: 10,
            game_finality_delay: 5,
            data_windows: (100, 100),
            data_bond: Wei::new(Wei::OPEN.get() / 100),
        },
        allocations,
        governor: wallets.address(Role::Governor),
        treasury: wallets.address(Role::Treasury),
        committee: Some(seeded_committee(OPERATORS)?),
        hashes: false,
    })
}

/// The deployer of the dev network's contracts on the layer 1.
///
/// # Errors
/// Never; dev keys exist on the dev chain.
pub fn deployer() -> Result<Address> {
    Ok(DevWallets::new(DEV_CHAIN_ID)?.address(Role::Deployer))
}

/// The keys of the dev network's rollup.
pub(crate) fn keys(wallets: &DevWallets) -> DevKeys {
    DevKeys {
        deployer: wallets.role(Role::Deployer),
        batcher: wallets.role(Role::Batcher),
        proposer: wallets.role(Role::Proposer),
        guardian: wallets.role(Role::Guardian),
        operators: Some(OPERATORS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use openledger_chain::predeploys::SUPPLY;
    use openledger_primitives::U256;

    #[test]
    fn the_genesis_holds_the_whole_supply() {
        let choices = choices().unwrap();
        let layer1 = openledger_chain::layer1::Layer1::expected(1, Address::ZERO, 0);
        let genesis = choices.genesis(&layer1, 1).unwrap();
        let sum = genesis
            .alloc
            .values()
            .fold(U256::ZERO, |sum, account| sum + account.balance);
        assert_eq!(sum, U256::from(SUPPLY.get()));
    }
}
