//! What a transaction pays besides gas: the L1 data fee and the operator fee.

use crate::{block::Block, error::Result, spec::ChainSpec, state::View};
use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::{Address, U256, address};
use op_revm::{L1BlockInfo, constants::L1_BLOCK_CONTRACT};
use revm::database_interface::WrapDatabaseRef;

/// Who sends the L1 attributes; nobody has the key.
const DEPOSITOR: Address = address!("0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001");

/// `setL1BlockValuesJovian()`.
const JOVIAN: [u8; 4] = [0x3d, 0xb6, 0xbe, 0x2b];

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

/// The same from the block itself, whose first transaction sets them: that takes no state, which of
/// an old block need not be there. `None` where no such transaction is, or one from before Jovian.
///
/// Spec: "Jovian: L1 Attributes".
#[must_use]
pub fn l1_info_of(block: &Block) -> Option<L1BlockInfo> {
    let first = block.transactions.first()?;
    let tx = first.envelope();
    let sets = tx.is_deposit() && first.sender() == DEPOSITOR && tx.to() == Some(L1_BLOCK_CONTRACT);
    let input = tx.input().strip_prefix(&JOVIAN).filter(|_| sets)?;
    let field = |from: usize, bytes: usize| {
        let field = input.get(from..from + bytes)?;
        Some(U256::from_be_slice(field))
    };
    Some(L1BlockInfo {
        l2_block: Some(U256::from(block.number())),
        l1_base_fee_scalar: field(0, 4)?,
        l1_blob_base_fee_scalar: Some(field(4, 4)?),
        // Sequence number, time and number of the L1 block, 8 bytes each.
        l1_base_fee: field(32, 32)?,
        l1_blob_base_fee: Some(field(64, 32)?),
        // Hash of the L1 block and batcher, 32 bytes each.
        operator_fee_scalar: Some(field(160, 4)?),
        operator_fee_constant: Some(field(164, 8)?),
        da_footprint_gas_scalar: Some(field(172, 2)?.to()),
        ..L1BlockInfo::default()
    })
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
