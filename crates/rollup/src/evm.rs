//! The OP Stack's EVM, with the rule of Karst that op-revm does not have yet: `bn256Pairing` takes
//! 300 pairs at most (specs, "Karst: Execution Engine").

use alloy_evm::{Database, Evm, EvmEnv, EvmFactory, precompiles::PrecompilesMap};
use alloy_op_evm::{OpEvmContext, OpEvmFactory, OpTx, OpTxError};
use op_revm::{OpHaltReason, OpSpecId};
use revm::{
    Inspector,
    context::{BlockEnv, result::EVMError},
    inspector::NoOpInspector,
    precompile::{
        EthPrecompileResult, Precompile, PrecompileHalt, PrecompileId, bn254, eth_precompile_fn,
    },
};

/// Bytes of 300 pairs.
const KARST_PAIRING_INPUT: usize = 57_600;

fn pairing(input: &[u8], gas_limit: u64) -> EthPrecompileResult {
    if input.len() > KARST_PAIRING_INPUT {
        return Err(PrecompileHalt::Bn254PairLength);
    }
    let (point, base) = (
        bn254::pair::ISTANBUL_PAIR_PER_POINT,
        bn254::pair::ISTANBUL_PAIR_BASE,
    );
    bn254::run_pair(input, point, base, gas_limit)
}

eth_precompile_fn!(karst_pairing, pairing);

/// Makes the EVM of a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RollupEvmFactory(OpEvmFactory);

fn with_karst<E>(mut evm: E, rules: OpSpecId) -> E
where
    E: Evm<Precompiles = PrecompilesMap>,
{
    if rules.is_enabled_in(OpSpecId::KARST) {
        let mut precompiles = op_revm::precompiles::karst().clone();
        let id = PrecompileId::Bn254Pairing;
        precompiles.extend([Precompile::new(id, bn254::pair::ADDRESS, karst_pairing)]);
        *evm.precompiles_mut() = PrecompilesMap::new(alloc::borrow::Cow::Owned(precompiles));
    }
    evm
}

impl EvmFactory for RollupEvmFactory {
    type Evm<DB: Database, I: Inspector<OpEvmContext<DB>>> =
        <OpEvmFactory as EvmFactory>::Evm<DB, I>;
    type Context<DB: Database> = OpEvmContext<DB>;
    type Tx = OpTx;
    type Error<DBError: core::error::Error + Send + Sync + 'static> = EVMError<DBError, OpTxError>;
    type HaltReason = OpHaltReason;
    type Spec = OpSpecId;
    type BlockEnv = BlockEnv;
    type Precompiles = PrecompilesMap;

    fn create_evm<DB: Database>(
        &self,
        db: DB,
        env: EvmEnv<OpSpecId, BlockEnv>,
    ) -> Self::Evm<DB, NoOpInspector> {
        let rules = env.cfg_env.spec;
        with_karst(self.0.create_evm(db, env), rules)
    }

    fn create_evm_with_inspector<DB: Database, I: Inspector<Self::Context<DB>>>(
        &self,
        db: DB,
        env: EvmEnv<OpSpecId, BlockEnv>,
        inspector: I,
    ) -> Self::Evm<DB, I> {
        let rules = env.cfg_env.spec;
        with_karst(self.0.create_evm_with_inspector(db, env, inspector), rules)
    }
}
