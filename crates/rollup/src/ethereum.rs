//! Ethereum's own rules, for the layer 1 of a development network.
//!
//! The same engine, store, pool and JSON-RPC make an Ethereum chain when a block is executed here:
//! base fees are burned instead of paid to a vault, headers carry EIP-7685 requests, and nothing
//! knows of deposits. The fork is Prague. Blob transactions (EIP-4844) are not accepted, since the
//! transactions of this crate are the OP Stack's; a layer 1 that takes blobs is reached by URL.

use crate::{
    block::Transaction, error::Result, exec, exec::Candidates, spec::ChainSpec, state::Overlay,
};
use alloc::{format, sync::Arc};
use alloy_consensus::{Header, ReceiptEnvelope, TxEnvelope, transaction::Recovered};
use alloy_eips::{eip2718::WithEncoded, eip7840::BlobParams};
use alloy_evm::{
    EvmEnv, EvmFactory,
    block::{BlockExecutionError, BlockExecutor, BlockValidationError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor, EthEvmFactory,
        receipt_builder::AlloyReceiptBuilder, spec::EthExecutorSpec,
    },
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::Address;
use op_alloy_consensus::{OpReceiptEnvelope, OpTxEnvelope};
use revm::DatabaseRef;

/// Every fork up to Prague from genesis, proof of stake from the first block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PragueAtGenesis;

impl EthereumHardforks for PragueAtGenesis {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        match fork {
            // An irregular state change of one chain at one height, which is not this one.
            EthereumHardfork::Dao => ForkCondition::Never,
            fork if fork <= EthereumHardfork::Paris => ForkCondition::Block(0),
            fork if fork <= EthereumHardfork::Prague => ForkCondition::Timestamp(0),
            _ => ForkCondition::Never,
        }
    }
}

impl EthExecutorSpec for PragueAtGenesis {
    /// There are no validators whose deposits would have to be listed (EIP-6110).
    fn deposit_contract_address(&self) -> Option<Address> {
        None
    }
}

/// Executes a block as [`exec::execute`] does, by Ethereum's rules.
pub(crate) fn execute<DB>(
    spec: &ChainSpec,
    header: &Header,
    state: DB,
    forced: &[Arc<Transaction>],
    candidates: &mut dyn Candidates,
) -> Result<exec::Execution>
where
    DB: DatabaseRef<Error = crate::Error> + core::fmt::Debug,
{
    let mut db = Overlay::new(state);
    let evm = EthEvmFactory::default().create_evm(&mut db, environment(spec, header));
    let mut executor = executor(evm, header);
    let run = |executor: &mut EthBlockExecutor<'_, _, _, _>, tx: &Transaction| {
        let inner = recovered(tx)?;
        executor
            .execute_transaction(WithEncoded::new(tx.encoded.clone(), &inner))
            .map(|_| ())
    };
    // Blocks of L1 are not told about before they are complete.
    let transactions = exec::drive(&mut executor, forced, candidates, run, |_| &[])?;
    let (_, result) = executor.finish().map_err(exec::classify)?;
    Ok(exec::Execution {
        transactions,
        receipts: result.receipts.into_iter().map(receipt).collect(),
        gas_used: result.gas_used,
        da_footprint: result.blob_gas_used,
        requests_hash: result.requests.requests_hash(),
        changes: db.into_changes()?,
    })
}

/// The EVM environment of a block with this header.
pub(crate) fn environment(spec: &ChainSpec, header: &Header) -> EvmEnv {
    // No block uses blobs, so there is never an excess of them.
    let header = Header {
        excess_blob_gas: Some(0),
        ..header.clone()
    };
    let blobs = Some(BlobParams::prague());
    EvmEnv::for_eth_block(&header, PragueAtGenesis, spec.chain_id, blobs)
}

/// The executor of a block with this header on an EVM.
pub(crate) fn executor<E>(
    evm: E,
    header: &Header,
) -> EthBlockExecutor<'static, E, PragueAtGenesis, AlloyReceiptBuilder> {
    let context = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: None,
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: None,
    };
    EthBlockExecutor::new(
        evm,
        context,
        PragueAtGenesis,
        AlloyReceiptBuilder::default(),
    )
}

/// A transaction as Ethereum knows it.
pub(crate) fn recovered(
    tx: &Transaction,
) -> core::result::Result<Recovered<TxEnvelope>, BlockExecutionError> {
    let envelope = match tx.envelope() {
        OpTxEnvelope::Legacy(tx) => TxEnvelope::Legacy(tx.clone()),
        OpTxEnvelope::Eip2930(tx) => TxEnvelope::Eip2930(tx.clone()),
        OpTxEnvelope::Eip1559(tx) => TxEnvelope::Eip1559(tx.clone()),
        OpTxEnvelope::Eip7702(tx) => TxEnvelope::Eip7702(tx.clone()),
        OpTxEnvelope::Deposit(_) | OpTxEnvelope::PostExec(_) => {
            let text = format!("{}: a transaction of the OP Stack on Ethereum", tx.hash());
            return Err(BlockValidationError::msg(text).into());
        }
    };
    Ok(Recovered::new_unchecked(envelope, tx.sender()))
}

/// The receipt types of Ethereum are a subset of the OP Stack's, with the same encoding.
pub(crate) fn receipt(receipt: ReceiptEnvelope) -> OpReceiptEnvelope {
    match receipt {
        ReceiptEnvelope::Legacy(receipt) => OpReceiptEnvelope::Legacy(receipt),
        ReceiptEnvelope::Eip2930(receipt) => OpReceiptEnvelope::Eip2930(receipt),
        ReceiptEnvelope::Eip7702(receipt) => OpReceiptEnvelope::Eip7702(receipt),
        // No transaction with blobs gets in.
        ReceiptEnvelope::Eip1559(receipt) | ReceiptEnvelope::Eip4844(receipt) => {
            OpReceiptEnvelope::Eip1559(receipt)
        }
    }
}
