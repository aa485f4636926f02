//! The L1 attributes deposit: the first transaction of every block, by which the layer 2 knows the
//! layer 1.
//!
//! Spec: L1 attributes, of Ecotone, Isthmus and Jovian.

use crate::{
    config::RollupConfig,
    deposit::{Deposit, Source},
    error::{Error, Result},
    l1::L1Header,
    rlp,
    system::{DEFAULT_DA_FOOTPRINT_GAS_SCALAR, SystemConfig},
    types::{BlockId, L2Head},
};
use alloc::vec::Vec;
use alloy_primitives::{Address, B64, B256, Bytes, U256, address, keccak256};

/// Who sends it; nobody has the key.
const DEPOSITOR: Address = address!("0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001");

/// The `L1Block` predeploy.
const L1_BLOCK: Address = address!("0x4200000000000000000000000000000000000015");

/// Gas of the deposit since Regolith.
const GAS: u64 = 1_000_000;

/// `setL1BlockValuesEcotone()` and the length of its calldata.
const ECOTONE: ([u8; 4], usize) = ([0x44, 0x0a, 0x5e, 0x20], 164);
/// `setL1BlockValuesIsthmus()`: the operator fee follows.
const ISTHMUS: ([u8; 4], usize) = ([0x09, 0x89, 0x99, 0xbe], 176);
/// `setL1BlockValuesJovian()`: the DA footprint gas scalar follows.
const JOVIAN: ([u8; 4], usize) = ([0x3d, 0xb6, 0xbe, 0x2b], 178);

/// The calldata for a block of the epoch of `origin`.
pub(crate) fn calldata(
    config: &RollupConfig,
    system: &SystemConfig,
    origin: &L1Header,
    sequence_number: u64,
) -> Vec<u8> {
    let (selector, length) = if config.is_jovian() { JOVIAN } else { ISTHMUS };
    let blob_base_fee = origin.blob_base_fee(config.blob_fraction(origin));
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&selector);
    out.extend_from_slice(&system.base_fee_scalar.to_be_bytes());
    out.extend_from_slice(&system.blob_base_fee_scalar.to_be_bytes());
    out.extend_from_slice(&sequence_number.to_be_bytes());
    out.extend_from_slice(&origin.block.timestamp.to_be_bytes());
    out.extend_from_slice(&origin.block.number.to_be_bytes());
    out.extend_from_slice(&U256::from(origin.base_fee).to_be_bytes::<32>());
    out.extend_from_slice(&blob_base_fee.to_be_bytes::<32>());
    out.extend_from_slice(origin.block.hash.as_slice());
    out.extend_from_slice(system.batcher.into_word().as_slice());
    out.extend_from_slice(&system.operator_fee_scalar.to_be_bytes());
    out.extend_from_slice(&system.operator_fee_constant.to_be_bytes());
    if config.is_jovian() {
        let scalar = match system.da_footprint_gas_scalar {
            0 => DEFAULT_DA_FOOTPRINT_GAS_SCALAR,
            scalar => scalar,
        };
        out.extend_from_slice(&scalar.to_be_bytes());
    }
    out
}

/// The deposit around it, as EIP-2718 bytes.
pub(crate) fn deposit(
    config: &RollupConfig,
    system: &SystemConfig,
    origin: &L1Header,
    sequence_number: u64,
) -> Bytes {
    Deposit {
        source_hash: Source::L1Info(sequence_number).hash(origin.block.hash),
        from: DEPOSITOR,
        to: Some(L1_BLOCK),
        mint: U256::ZERO,
        value: U256::ZERO,
        gas: GAS,
        data: calldata(config, system, origin, sequence_number).into(),
    }
    .encode()
}

/// What a block's calldata says about its epoch and the system config.
struct Info {
    origin: BlockId,
    sequence_number: u64,
    system: SystemConfig,
}

fn read(data: &[u8]) -> Option<Info> {
    let selector = data.first_chunk::<4>()?;
    let (_, length) = [ECOTONE, ISTHMUS, JOVIAN]
        .into_iter()
        .find(|(known, _)| known == selector)?;
    if data.len() != length {
        return None;
    }
    let u64_at = |at: usize| Some(u64::from_be_bytes(*data.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?));
    let mut system = SystemConfig {
        batcher: Address::from_slice(data.get(144..164)?),
        base_fee_scalar: u32_at(4)?,
        blob_base_fee_scalar: u32_at(8)?,
        ..SystemConfig::default()
    };
    if length >= ISTHMUS.1 {
        system.operator_fee_scalar = u32_at(164)?;
        system.operator_fee_constant = u64_at(168)?;
    }
    if length >= JOVIAN.1 {
        system.da_footprint_gas_scalar = u16::from_be_bytes(*data.get(176..)?.first_chunk()?);
    }
    Some(Info {
        origin: BlockId {
            number: u64_at(28)?,
            hash: B256::from_slice(data.get(100..132)?),
        },
        sequence_number: u64_at(12)?,
        system,
    })
}

impl RollupConfig {
    /// The block that a layer 2 header (RLP) and its first transaction (EIP-2718) are, with its
    /// place in the epoch and the system config in force.
    ///
    /// The fee parameters and the gas limit come from the header (Holocene and Jovian extra data),
    /// everything else from the L1 attributes deposit; for genesis, which has none, from
    /// `rollup.json`.
    ///
    /// # Errors
    ///
    /// [`Error::BadL2Block`] for bytes that are no block of this chain, [`Error::UnknownUpgrade`].
    pub fn head_of(&self, header: &[u8], first_transaction: Option<&[u8]>) -> Result<L2Head> {
        let hash = keccak256(header);
        let fields = rlp::list(header).ok_or(Error::BadL2Block {
            number: 0,
            reason: "header is no RLP list",
        })?;
        let bad = |number: u64, reason: &'static str| Error::BadL2Block { number, reason };
        let number = fields
            .get(8)
            .and_then(rlp::Item::u64)
            .ok_or(bad(0, "header without a number"))?;
        let (Some(parent_hash), Some(gas_limit), Some(timestamp), Some(extra)) = (
            fields.first().and_then(rlp::Item::fixed::<32>),
            fields.get(9).and_then(rlp::Item::u64),
            fields.get(11).and_then(rlp::Item::u64),
            fields.get(12).and_then(rlp::Item::bytes),
        ) else {
            return Err(bad(number, "malformed header"));
        };
        let mut head = L2Head {
            number,
            hash,
            parent_hash: parent_hash.into(),
            timestamp,
            l1_origin: self.l1_genesis(),
            sequence_number: 0,
            system_config: self.genesis_system_config(),
        };
        if number == self.l2_genesis().number {
            if hash != self.l2_genesis().hash {
                return Err(bad(number, "not the genesis block of the rollup config"));
            }
            return Ok(head);
        }
        let info = first_transaction
            .and_then(Deposit::calldata)
            .and_then(read)
            .ok_or(bad(number, "first transaction is no L1 attributes deposit"))?;
        head.l1_origin = info.origin;
        head.sequence_number = info.sequence_number;
        head.system_config = info.system;
        head.system_config.gas_limit = gas_limit
            .checked_sub(self.passing_gas(timestamp)?)
            .ok_or(bad(number, "less gas than its upgrade transactions"))?;
        // version (0: Holocene, 1: Jovian) ++ denominator ++ elasticity (++ minimum base fee)
        match extra {
            [0, params @ ..] if params.len() == 8 => {
                head.system_config.eip_1559_params = B64::from_slice(params);
            }
            [1, rest @ ..] if rest.len() == 16 => {
                let (params, fee) = rest.split_at(8);
                head.system_config.eip_1559_params = B64::from_slice(params);
                head.system_config.min_base_fee =
                    fee.iter().fold(0, |acc, b| acc << 8 | u64::from(*b));
            }
            _ => return Err(bad(number, "extra data of no known version")),
        }
        Ok(head)
    }
}
