//! The system config: what the owner of the chain sets on the layer 1.
//!
//! Spec: system config; Holocene, Isthmus and Jovian system config.

use crate::error::{Error, Result};
use alloy_primitives::{Address, B64, B256, Log, b256};

/// Topic of `ConfigUpdate(uint256,uint8,bytes)`.
pub const CONFIG_UPDATE_TOPIC: B256 =
    b256!("0x1d2b0bda21d56b8bd12d4f94ebacffdfb35f5e226f84b461103bb8beab6353be");

/// DA footprint gas scalar that stands in for an unset one (Jovian, L1 attributes).
pub const DEFAULT_DA_FOOTPRINT_GAS_SCALAR: u16 = 400;

/// The system config in force at a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SystemConfig {
    /// Whose transactions to the inbox are batches.
    pub batcher: Address,
    /// Ecotone: weight of the L1 base fee.
    pub base_fee_scalar: u32,
    /// Ecotone: weight of the L1 blob base fee.
    pub blob_base_fee_scalar: u32,
    /// Gas limit of layer 2 blocks.
    pub gas_limit: u64,
    /// Holocene: denominator and elasticity; zero stands for the chain's own.
    pub eip_1559_params: B64,
    /// Isthmus: operator fee per gas.
    pub operator_fee_scalar: u32,
    /// Isthmus: operator fee per transaction.
    pub operator_fee_constant: u64,
    /// Jovian: floor of the base fee.
    pub min_base_fee: u64,
    /// Jovian: gas per byte of DA footprint; zero stands for 400.
    pub da_footprint_gas_scalar: u16,
}

/// One change of the system config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigUpdate {
    /// Type 0.
    Batcher(Address),
    /// Type 1: base fee scalar and blob base fee scalar.
    FeeScalars(u32, u32),
    /// Type 1 with a scalar of no known version: the old ones stay (Ecotone).
    IgnoredFeeScalars,
    /// Type 2.
    GasLimit(u64),
    /// Type 3: who signs unsafe blocks, which is nothing to derivation.
    UnsafeBlockSigner(Address),
    /// Type 4.
    Eip1559Params(B64),
    /// Type 5: operator fee scalar and constant.
    OperatorFee(u32, u64),
    /// Type 6.
    MinBaseFee(u64),
    /// Type 7.
    DaFootprintGasScalar(u16),
}

impl SystemConfig {
    /// Applies a change.
    pub const fn apply(&mut self, update: &ConfigUpdate) {
        match *update {
            ConfigUpdate::Batcher(address) => self.batcher = address,
            ConfigUpdate::FeeScalars(base, blob) => {
                self.base_fee_scalar = base;
                self.blob_base_fee_scalar = blob;
            }
            ConfigUpdate::GasLimit(limit) => self.gas_limit = limit,
            ConfigUpdate::Eip1559Params(params) => self.eip_1559_params = params,
            ConfigUpdate::OperatorFee(scalar, constant) => {
                self.operator_fee_scalar = scalar;
                self.operator_fee_constant = constant;
            }
            ConfigUpdate::MinBaseFee(fee) => self.min_base_fee = fee,
            ConfigUpdate::DaFootprintGasScalar(scalar) => self.da_footprint_gas_scalar = scalar,
            ConfigUpdate::IgnoredFeeScalars | ConfigUpdate::UnsafeBlockSigner(_) => {}
        }
    }
}

/// The Ecotone scalars inside the one `scalar` word: base fee, blob base fee. `None` for an
/// unknown version or non-zero padding.
pub(crate) fn fee_scalars(word: &[u8; 32]) -> Option<(u32, u32)> {
    let base = u32::from_be_bytes([word[28], word[29], word[30], word[31]]);
    let blob = u32::from_be_bytes([word[24], word[25], word[26], word[27]]);
    match word[0] {
        0 if word[1..28].iter().all(|b| *b == 0) => Some((base, 0)),
        1 if word[1..24].iter().all(|b| *b == 0) => Some((base, blob)),
        _ => None,
    }
}

impl ConfigUpdate {
    /// Reads a `ConfigUpdate` log. `block` and `index` only say where it is.
    ///
    /// # Errors
    ///
    /// [`Error::BadConfigUpdate`] for another version, an unknown type or malformed data: the
    /// contract is a newer one than this program, so nobody may go on.
    pub fn from_log(log: &Log, block: B256, index: u64) -> Result<Self> {
        Self::read(log).map_err(|reason| Error::BadConfigUpdate {
            block,
            index,
            reason,
        })
    }

    fn read(log: &Log) -> Result<Self, &'static str> {
        let [_, version, kind] = log.data.topics() else {
            return Err("not three topics");
        };
        if !version.is_zero() {
            return Err("unknown version");
        }
        if kind[..31].iter().any(|b| *b != 0) {
            return Err("unknown type");
        }
        let words = payload(&log.data.data)?;
        let one = || match words {
            [word] => Ok(word),
            _ => Err("not one word"),
        };
        Ok(match kind[31] {
            0 => Self::Batcher(address(one()?)?),
            1 => match words {
                [_, scalar] => fee_scalars(scalar)
                    .map_or(Self::IgnoredFeeScalars, |(base, blob)| {
                        Self::FeeScalars(base, blob)
                    }),
                _ => return Err("not two words"),
            },
            2 => Self::GasLimit(integer(one()?)?),
            3 => Self::UnsafeBlockSigner(address(one()?)?),
            4 => Self::Eip1559Params(B64::from(integer(one()?)?)),
            5 => {
                let word = one()?;
                if word[..20].iter().any(|b| *b != 0) {
                    return Err("operator fee out of range");
                }
                let scalar = u32::from_be_bytes([word[20], word[21], word[22], word[23]]);
                let mut constant = [0; 8];
                constant.copy_from_slice(&word[24..]);
                Self::OperatorFee(scalar, u64::from_be_bytes(constant))
            }
            6 => Self::MinBaseFee(integer(one()?)?),
            7 => Self::DaFootprintGasScalar(
                integer(one()?)?
                    .try_into()
                    .map_err(|_| "scalar above 65535")?,
            ),
            _ => return Err("unknown type"),
        })
    }
}

/// The words inside the one `bytes` argument.
fn payload(data: &[u8]) -> Result<&[[u8; 32]], &'static str> {
    let (words, rest) = data.as_chunks::<32>();
    let [offset, length, words @ ..] = words else {
        return Err("data too short");
    };
    if !rest.is_empty() || integer(offset)? != 32 || integer(length)? != 32 * words.len() as u64 {
        return Err("not one `bytes` of whole words");
    }
    Ok(words)
}

fn integer(word: &[u8; 32]) -> Result<u64, &'static str> {
    let (high, low) = word.split_at(24);
    if high.iter().any(|b| *b != 0) {
        return Err("integer above 64 bits");
    }
    Ok(low.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)))
}

fn address(word: &[u8; 32]) -> Result<Address, &'static str> {
    if word[..12].iter().any(|b| *b != 0) {
        return Err("address above 160 bits");
    }
    Ok(Address::from_slice(&word[12..]))
}
