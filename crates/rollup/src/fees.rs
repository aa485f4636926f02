//! What a transaction pays besides gas: the L1 data fee and the operator fee.

use crate::{error::Result, spec::ChainSpec, state::View};
use alloy_consensus::Header;
use alloy_primitives::U256;
use op_revm::L1BlockInfo;
use revm::database_interface::WrapDatabaseRef;

/// The L1 fee parameters in force in a block, from the `L1Block` predeploy's storage. All zero on a
/// chain without that predeploy.
///
/// # Errors
/// When the state cannot be read.
pub fn l1_info(spec: &ChainSpec, header: &Header, state: &View) -> Result<L1BlockInfo> {
    let rules = *spec.evm_env(header).spec_id();
    L1BlockInfo::try_fetch(
        &mut WrapDatabaseRef(state),
        U256::from(header.number),
        rules,
    )
}

/// The L1 data fee and the largest operator fee of an encoded transaction, wei, where `info` is in
/// force.
#[must_use]
pub fn l1_cost(
    spec: &ChainSpec,
    header: &Header,
    info: &L1BlockInfo,
    encoded: &[u8],
    gas_limit: U256,
) -> U256 {
    let rules = *spec.evm_env(header).spec_id();
    // It remembers the fee of a transaction, so each gets its own.
    info.clone().tx_cost(encoded, gas_limit, rules)
}
