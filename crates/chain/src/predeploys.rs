//! Contracts that a genesis has: the OP Stack's and ours on the layer 2, Ethereum's on both layers.
//!
//! Their constructors never run, so what a constructor would set lies in the storage slots that the
//! documentation of each contract names.

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy_sol_types::SolValue;
use openledger_primitives::{AmountError, Wei};

use crate::bindings::{
    FeeVault, GasPriceOracle, L1Block, L2ToL1MessagePasser, LiquidityController,
    NativeAssetLiquidity, OpenMinter, WrappedOpen,
};

/// `OpenMinter`: OPEN coming from the layer 1 and going there.
pub const OPEN_MINTER: Address = address!("4F50454E00000000000000000000000000000001");
/// `NativeAssetLiquidity`: coins that nobody has yet.
pub const NATIVE_ASSET_LIQUIDITY: Address = address!("4200000000000000000000000000000000000029");
const LIQUIDITY_CONTROLLER: Address = address!("420000000000000000000000000000000000002A");
/// `L1Block`: what the layer 2 knows of the layer 1.
pub const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// `L2ToL1MessagePasser`: calls from the layer 2 to the layer 1.
pub const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");
/// `FeeVault`, four times: tips, base fees, L1 fees, operator fees.
pub const FEE_VAULTS: [Address; 4] = [
    address!("4200000000000000000000000000000000000011"),
    address!("4200000000000000000000000000000000000019"),
    address!("420000000000000000000000000000000000001A"),
    address!("420000000000000000000000000000000000001b"),
];

/// All OPEN there will ever be, wei.
pub const SUPPLY: Wei = Wei::new(1_000_000_000 * Wei::OPEN.get());

/// An account of a genesis with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predeploy {
    /// Name of the contract, for people.
    pub name: &'static str,
    /// Where it is.
    pub address: Address,
    /// Its code.
    pub code: Bytes,
    /// Its storage, without zeros.
    pub storage: Vec<(B256, B256)>,
    /// Its coins.
    pub balance: Wei,
}

/// Who a layer 2 belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer2Owners {
    /// `OpenBridge` on the layer 1.
    pub bridge: Address,
    /// Names the minters of OPEN; the bridge is one from genesis.
    pub governor: Address,
    /// Where fees can be sent to.
    pub treasury: Address,
}

const fn at(name: &'static str, address: Address, code: Bytes) -> Predeploy {
    Predeploy {
        name,
        address,
        code,
        storage: Vec::new(),
        balance: Wei::ZERO,
    }
}

fn slot(number: u64) -> B256 {
    B256::from(U256::from(number))
}

/// The contracts of the layer 2. `allocated` is what the genesis gives to other accounts: the rest
/// of the supply waits in `NativeAssetLiquidity`.
///
/// # Errors
/// When more is allocated than there is.
pub fn layer2(owners: &Layer2Owners, allocated: Wei) -> Result<Vec<Predeploy>, AmountError> {
    let minter = keccak256((OPEN_MINTER, U256::from(1)).abi_encode());
    let mut all = vec![
        at(
            "WrappedOpen",
            address!("4200000000000000000000000000000000000006"),
            WrappedOpen::DEPLOYED_BYTECODE.clone(),
        ),
        at(
            "GasPriceOracle",
            address!("420000000000000000000000000000000000000F"),
            GasPriceOracle::DEPLOYED_BYTECODE.clone(),
        ),
        at("L1Block", L1_BLOCK, L1Block::DEPLOYED_BYTECODE.clone()),
        at(
            "L2ToL1MessagePasser",
            MESSAGE_PASSER,
            L2ToL1MessagePasser::DEPLOYED_BYTECODE.clone(),
        ),
        Predeploy {
            balance: SUPPLY.checked_sub(allocated)?,
            ..at(
                "NativeAssetLiquidity",
                NATIVE_ASSET_LIQUIDITY,
                NativeAssetLiquidity::DEPLOYED_BYTECODE.clone(),
            )
        },
        Predeploy {
            storage: vec![(slot(0), owners.governor.into_word()), (minter, slot(1))],
            ..at(
                "LiquidityController",
                LIQUIDITY_CONTROLLER,
                LiquidityController::DEPLOYED_BYTECODE.clone(),
            )
        },
        Predeploy {
            storage: vec![(slot(0), owners.bridge.into_word())],
            ..at(
                "OpenMinter",
                OPEN_MINTER,
                OpenMinter::DEPLOYED_BYTECODE.clone(),
            )
        },
    ];
    all.extend(FEE_VAULTS.map(|vault| Predeploy {
        storage: vec![(slot(0), owners.treasury.into_word())],
        ..at("FeeVault", vault, FeeVault::DEPLOYED_BYTECODE.clone())
    }));
    all.extend(ethereum());
    Ok(all)
}

/// The system contracts of Ethereum that an OP Stack chain has, too: roots of beacon blocks
/// (EIP-4788) and hashes of past blocks (EIP-2935).
#[must_use]
pub fn ethereum() -> [Predeploy; 2] {
    [
        at(
            "BeaconRoots",
            eip4788::BEACON_ROOTS_ADDRESS,
            eip4788::BEACON_ROOTS_CODE.clone(),
        ),
        at(
            "HistoryStorage",
            eip2935::HISTORY_STORAGE_ADDRESS,
            eip2935::HISTORY_STORAGE_CODE.clone(),
        ),
    ]
}

/// The contracts of a layer 1: Ethereum's system contracts up to Prague.
#[must_use]
pub fn layer1() -> [Predeploy; 4] {
    let [beacon, history] = ethereum();
    [
        beacon,
        history,
        at(
            "WithdrawalRequests",
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone(),
        ),
        at(
            "ConsolidationRequests",
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_whole_supply_is_somewhere_and_every_contract_has_code() {
        let owners = Layer2Owners {
            bridge: Address::repeat_byte(1),
            governor: Address::repeat_byte(2),
            treasury: Address::repeat_byte(3),
        };
        let allocated = Wei::new(5 * Wei::OPEN.get());
        let all = layer2(&owners, allocated).unwrap();
        let held: u128 = all.iter().map(|p| p.balance.get()).sum();
        assert_eq!(held + allocated.get(), SUPPLY.get());
        for predeploy in all.iter().chain(&layer1()) {
            assert!(!predeploy.code.is_empty(), "{}", predeploy.name);
        }
        let addresses: std::collections::BTreeSet<_> = all.iter().map(|p| p.address).collect();
        assert_eq!(addresses.len(), all.len());
        let one_more = Wei::new(SUPPLY.get() + 1);
        assert!(layer2(&owners, one_more).is_err());
    }
}
