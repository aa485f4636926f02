//! Which rules apply when: chain id, forks, fee parameters.

use crate::{
    error::{Error, Result},
    evm::RollupEvmFactory,
};
use alloc::{format, string::ToString};
use alloy_consensus::Header;
use alloy_eips::{calc_next_block_base_fee, eip1559::BaseFeeParams};
use alloy_evm::EvmEnv;
use alloy_op_evm::{OpBlockExecutorFactory, block::OpAlloyReceiptBuilder};
use alloy_op_hardforks::{ForkCondition, OpChainHardforks, OpHardfork, OpHardforks};
use alloy_primitives::{B64, Bytes};
use op_alloy_consensus::{
    decode_holocene_extra_data, decode_jovian_extra_data, encode_holocene_extra_data,
    encode_jovian_extra_data,
};
use op_revm::OpSpecId;

/// Chain id of OP Sepolia, whose real blocks the tests replay.
const OP_SEPOLIA: u64 = 11_155_420;

/// The rules of one chain.
#[derive(Debug, Clone)]
pub struct ChainSpec {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// EIP-1559 parameters used where a block names none (Canyon's, in OP Stack terms).
    pub base_fee_params: BaseFeeParams,
    ethereum: bool,
    factory: OpBlockExecutorFactory<OpAlloyReceiptBuilder, OpChainHardforks, RollupEvmFactory>,
}

impl ChainSpec {
    /// A chain with every fork up to Jovian active at genesis, and no other one.
    #[must_use]
    pub fn jovian_at_genesis(chain_id: u64) -> Self {
        Self::with_karst(chain_id, None)
    }

    /// A chain with every fork up to Jovian active at genesis, and Karst from `karst_time` on (Unix
    /// seconds; zero for genesis, `None` for never).
    ///
    /// Karst is Osaka's EVM, fewer pairs for `bn256Pairing`, and the cap of EIP-7825 on the gas of
    /// what is not a deposit (specs, "Karst: Execution Engine").
    #[must_use]
    pub fn with_karst(chain_id: u64, karst_time: Option<u64>) -> Self {
        use OpHardfork::{
            Bedrock, Canyon, Ecotone, Fjord, Granite, Holocene, Isthmus, Jovian, Karst, Regolith,
        };
        let karst = karst_time.map(|time| (Karst, ForkCondition::Timestamp(time)));
        let forks = [
            Regolith, Canyon, Ecotone, Fjord, Granite, Holocene, Isthmus, Jovian,
        ]
        .map(|fork| (fork, ForkCondition::Timestamp(0)));
        let forks = [(Bedrock, ForkCondition::Block(0))]
            .into_iter()
            .chain(forks)
            .chain(karst);
        Self::new(
            chain_id,
            BaseFeeParams::optimism_canyon(),
            OpChainHardforks::new(forks),
        )
    }

    /// Ethereum with every fork up to Prague active at genesis: a layer 1 for development.
    #[must_use]
    pub fn ethereum(chain_id: u64) -> Self {
        use OpHardfork::{Bedrock, Canyon, Ecotone, Fjord, Granite, Holocene, Isthmus, Regolith};
        // Without Holocene's parameters in the header: those are the OP Stack's.
        let forks = [Regolith, Canyon, Ecotone, Fjord, Granite, Isthmus]
            .map(|fork| (fork, ForkCondition::Timestamp(0)));
        let never = (Holocene, ForkCondition::Never);
        let forks = [(Bedrock, ForkCondition::Block(0)), never]
            .into_iter()
            .chain(forks);
        Self {
            ethereum: true,
            ..Self::new(
                chain_id,
                BaseFeeParams::ethereum(),
                OpChainHardforks::new(forks),
            )
        }
    }

    /// The rules that a genesis description asks for: the OP Stack's up to Jovian, and Karst from
    /// its `karstTime` on, which is where op-reth reads it.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn of_genesis(genesis: &alloy_genesis::Genesis) -> Self {
        Self::with_karst(genesis.config.chain_id, genesis_karst_time(genesis))
    }

    /// When Karst becomes active, Unix seconds; `None` for never.
    #[must_use]
    pub fn karst_time(&self) -> Option<u64> {
        match self.forks().op_fork_activation(OpHardfork::Karst) {
            ForkCondition::Timestamp(time) => Some(time),
            _ => None,
        }
    }

    /// Whether Karst rules hold at `timestamp`.
    #[must_use]
    pub fn is_karst(&self, timestamp: u64) -> bool {
        self.forks().is_karst_active_at_timestamp(timestamp)
    }

    /// The most gas that a transaction which is no deposit may ask for at `timestamp` (EIP-7825,
    /// since Karst).
    #[must_use]
    pub fn transaction_gas_cap(&self, timestamp: u64) -> Option<u64> {
        self.is_karst(timestamp)
            .then_some(revm::primitives::eip7825::TX_GAS_LIMIT_CAP)
    }

    /// Whether the chain runs by Ethereum's rules instead of the OP Stack's.
    #[must_use]
    pub const fn is_ethereum(&self) -> bool {
        self.ethereum
    }

    /// The rules of OP Sepolia.
    #[must_use]
    pub fn op_sepolia() -> Self {
        let parameters = BaseFeeParams::optimism_sepolia_canyon();
        Self::new(OP_SEPOLIA, parameters, OpChainHardforks::op_sepolia())
    }

    /// The rules of the chain with this id: OP Sepolia's, or those of a chain of our own, which has
    /// every fork up to Jovian from genesis.
    #[must_use]
    pub fn of_chain(chain_id: u64) -> Self {
        match chain_id {
            OP_SEPOLIA => Self::op_sepolia(),
            own => Self::jovian_at_genesis(own),
        }
    }

    /// A chain with given forks.
    #[must_use]
    pub fn new(chain_id: u64, base_fee_params: BaseFeeParams, forks: OpChainHardforks) -> Self {
        let factory = OpBlockExecutorFactory::new(
            OpAlloyReceiptBuilder::default(),
            forks,
            RollupEvmFactory::default(),
        );
        Self {
            chain_id,
            base_fee_params,
            ethereum: false,
            factory,
        }
    }

    pub(crate) const fn factory(
        &self,
    ) -> &OpBlockExecutorFactory<OpAlloyReceiptBuilder, OpChainHardforks, RollupEvmFactory> {
        &self.factory
    }

    #[cfg(feature = "std")]
    pub(crate) const fn factory_evm(&self) -> &RollupEvmFactory {
        self.factory.evm_factory()
    }

    /// The fork schedule.
    #[must_use]
    pub const fn forks(&self) -> &OpChainHardforks {
        self.factory.spec()
    }

    /// Whether Isthmus rules (message passer root in the header) hold at `timestamp`.
    #[must_use]
    pub fn is_isthmus(&self, timestamp: u64) -> bool {
        self.forks().is_isthmus_active_at_timestamp(timestamp)
    }

    /// Whether Jovian rules (minimum base fee, DA footprint) hold at `timestamp`.
    #[must_use]
    pub fn is_jovian(&self, timestamp: u64) -> bool {
        self.forks().is_jovian_active_at_timestamp(timestamp)
    }

    /// The EVM environment of a block with this header.
    #[must_use]
    pub fn evm_env(&self, header: &Header) -> EvmEnv<OpSpecId> {
        alloy_op_evm::evm_env_for_op_block(header, self.forks(), self.chain_id)
    }

    /// The base fee of the block after `parent`: EIP-1559 with the parameters that the parent's
    /// extra data carries since Holocene; since Jovian it counts the larger of gas and DA
    /// footprint and does not fall below the minimum.
    ///
    /// # Errors
    /// When the parent's extra data is malformed.
    pub fn next_base_fee(&self, parent: &Header) -> Result<u64> {
        let (elasticity, denominator, floor) = self.fee_parameters(parent)?;
        let params = if elasticity == 0 && denominator == 0 {
            self.base_fee_params
        } else {
            BaseFeeParams::new(u128::from(denominator), u128::from(elasticity))
        };
        let counted = if self.is_jovian(parent.timestamp) {
            parent
                .gas_used
                .max(parent.blob_gas_used.unwrap_or_default())
        } else {
            parent.gas_used
        };
        let base_fee = parent.base_fee_per_gas.unwrap_or_default();
        Ok(calc_next_block_base_fee(counted, parent.gas_limit, base_fee, params).max(floor))
    }

    /// (elasticity, denominator, minimum base fee) of a header's extra data.
    pub(crate) fn fee_parameters(&self, header: &Header) -> Result<(u32, u32, u64)> {
        let malformed = |e| Error::InvalidBlock(format!("extra data of {}: {e}", header.number));
        let forks = self.forks();
        let (elasticity, denominator, floor) = if self.is_jovian(header.timestamp) {
            decode_jovian_extra_data(&header.extra_data).map_err(malformed)?
        } else if forks.is_holocene_active_at_timestamp(header.timestamp) {
            let (e, d) = decode_holocene_extra_data(&header.extra_data).map_err(malformed)?;
            (e, d, 0)
        } else {
            (0, 0, 0)
        };
        if (elasticity == 0) != (denominator == 0) {
            return Err(Error::InvalidBlock(format!(
                "extra data of {}: elasticity {elasticity} with denominator {denominator}",
                header.number
            )));
        }
        Ok((elasticity, denominator, floor))
    }

    /// The extra data of a block at `timestamp` with these attributes; all-zero parameters stand
    /// for the chain's own.
    ///
    /// # Errors
    /// When the attributes lack what the fork requires.
    pub fn extra_data(
        &self,
        timestamp: u64,
        eip_1559_params: Option<B64>,
        min_base_fee: Option<u64>,
    ) -> Result<Bytes> {
        let invalid = |e: &dyn core::fmt::Display| Error::InvalidAttributes(e.to_string());
        if !self.forks().is_holocene_active_at_timestamp(timestamp) {
            return Ok(Bytes::new());
        }
        let params =
            eip_1559_params.ok_or_else(|| invalid(&"eip1559Params are required since Holocene"))?;
        if self.is_jovian(timestamp) {
            let floor =
                min_base_fee.ok_or_else(|| invalid(&"minBaseFee is required since Jovian"))?;
            encode_jovian_extra_data(params, self.base_fee_params, floor).map_err(|e| invalid(&e))
        } else {
            encode_holocene_extra_data(params, self.base_fee_params).map_err(|e| invalid(&e))
        }
    }
}

/// `karstTime` of a genesis description.
#[cfg(feature = "std")]
pub(crate) fn genesis_karst_time(genesis: &alloy_genesis::Genesis) -> Option<u64> {
    let value = genesis.config.extra_fields.get("karstTime")?;
    value.as_u64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parent(spec: &ChainSpec, gas_used: u64, base_fee: u64, floor: u64) -> Header {
        Header {
            gas_limit: 60_000_000,
            gas_used,
            blob_gas_used: Some(0),
            base_fee_per_gas: Some(base_fee),
            extra_data: spec.extra_data(1, Some(B64::ZERO), Some(floor)).unwrap(),
            timestamp: 1,
            ..Default::default()
        }
    }

    #[test]
    fn base_fee_follows_gas_and_footprint_and_stops_at_the_floor() {
        let spec = ChainSpec::jovian_at_genesis(1);
        // Elasticity 6, denominator 250: the target is 10M gas; twice the target adds 1/250.
        assert_eq!(
            spec.next_base_fee(&parent(&spec, 20_000_000, 1_000_000, 0))
                .unwrap(),
            1_004_000
        );
        assert_eq!(
            spec.next_base_fee(&parent(&spec, 0, 1_000_000, 0)).unwrap(),
            996_000
        );
        assert_eq!(
            spec.next_base_fee(&parent(&spec, 0, 1_000_000, 999_000))
                .unwrap(),
            999_000
        );
        let mut full = parent(&spec, 0, 1_000_000, 0);
        full.blob_gas_used = Some(20_000_000);
        assert_eq!(spec.next_base_fee(&full).unwrap(), 1_004_000);
    }

    #[test]
    fn malformed_extra_data_is_an_error() {
        let spec = ChainSpec::jovian_at_genesis(1);
        let mut header = parent(&spec, 0, 1, 0);
        header.extra_data = Bytes::from_static(&[0; 9]);
        assert!(spec.next_base_fee(&header).is_err());
        // A zero denominator next to a non-zero elasticity would divide by zero.
        let mut bytes = [0u8; 17];
        (bytes[0], bytes[8]) = (1, 6);
        header.extra_data = bytes.to_vec().into();
        assert!(spec.next_base_fee(&header).is_err());
        assert!(spec.extra_data(1, None, Some(0)).is_err());
        assert!(spec.extra_data(1, Some(B64::ZERO), None).is_err());
    }
}
