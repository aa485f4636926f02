//! Executing transactions again to see inside them: `debug_trace*`.
//!
//! A transaction is traced where it stood: the block's system calls and the transactions before it
//! run first, through the same block executor that made the block.

use crate::{
    block::{Block, Transaction},
    error::{Error, Result},
    ethereum,
    exec::classify,
    spec::ChainSpec,
    state::View,
};
use alloy_eips::eip2718::WithEncoded;
use alloy_evm::{
    Evm, EvmFactory, FromTxWithEncoded,
    block::{BlockExecutionError, BlockExecutor, BlockExecutorFactory, TxResult},
    eth::EthEvmFactory,
};
use alloy_op_evm::{OpBlockExecutionCtx, OpTx};
use alloy_rpc_types_trace::geth::{GethDebugTracingOptions, GethTrace};
use revm::{DatabaseRef, context::result::HaltReasonTr, database::State};
use revm_inspectors::tracing::{DebugInspector, DebugInspectorError, TransactionContext};

/// Most gas of a transaction whose single steps are traced: a step is some hundred bytes.
pub(crate) const STEPS_GAS: u64 = 5_000_000;

pub(crate) fn inspector(options: GethDebugTracingOptions, gas: u64) -> Result<DebugInspector> {
    if options.tracer.is_none() && gas > STEPS_GAS {
        return Err(Error::InvalidTransaction(format!(
            "tracing the steps of {gas} gas takes too much memory, the limit is {STEPS_GAS}: name a \
             tracer, for example callTracer"
        )));
    }
    DebugInspector::new(options).map_err(|error| refused(&error))
}

/// What is wrong with the options asked for.
pub(crate) fn refused<E: std::fmt::Display>(error: &DebugInspectorError<E>) -> Error {
    Error::InvalidTransaction(match error {
        DebugInspectorError::UnsupportedTracer | DebugInspectorError::JsTracerNotEnabled => {
            "tracer not supported; there are callTracer, prestateTracer, 4byteTracer, \
             flatCallTracer, muxTracer, noopTracer, and the steps themselves without a name"
                .into()
        }
        other => other.to_string(),
    })
}

/// Traces the transactions of `block`, or only the one at `index`; `state` is its parent's.
///
/// # Errors
/// When the tracer is not known, or the block cannot be executed on this state.
pub fn trace_block(
    spec: &ChainSpec,
    state: &View,
    block: &Block,
    index: Option<usize>,
    options: &GethDebugTracingOptions,
) -> Result<Vec<GethTrace>> {
    let wanted = |at: usize| index.is_none_or(|index| index == at);
    let most = (0..)
        .zip(&block.transactions)
        .filter(|(at, _)| wanted(*at))
        .map(|(_, tx)| alloy_consensus::Transaction::gas_limit(tx.envelope()))
        .max();
    let inspector = inspector(options.clone(), most.unwrap_or_default())?;
    let header = block.header.inner();
    let mut db = State::builder().with_database_ref(state).build();
    if spec.is_ethereum() {
        let env = ethereum::environment(spec, header);
        let evm = EthEvmFactory::default().create_evm_with_inspector(&mut db, env, inspector);
        let executor = ethereum::executor(evm, header);
        return follow(executor, block, index, |executor, tx| {
            let inner = ethereum::recovered(tx)?;
            let encoded = WithEncoded::new(tx.encoded.clone(), &inner);
            executor.execute_transaction_without_commit(encoded)
        });
    }
    let factory = spec.factory();
    let env = spec.evm_env(header);
    let evm = factory
        .evm_factory()
        .create_evm_with_inspector(&mut db, env, inspector);
    let context = OpBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        extra_data: header.extra_data.clone(),
    };
    let executor = factory.create_executor(evm, context);
    follow(executor, block, index, |executor, tx| {
        let encoded = WithEncoded::new(tx.encoded.clone(), &tx.inner);
        executor.execute_transaction_without_commit(encoded)
    })
}

/// Runs a block on its executor, whose inspector watches what is wanted. `run` executes one
/// transaction.
fn follow<E>(
    mut executor: E,
    block: &Block,
    index: Option<usize>,
    run: impl Fn(&mut E, &Transaction) -> std::result::Result<E::Result, BlockExecutionError>,
) -> Result<Vec<GethTrace>>
where
    E: BlockExecutor<
        Evm: Evm<
            DB: DatabaseRef<Error: std::fmt::Display>,
            Inspector = DebugInspector,
            HaltReason: HaltReasonTr,
        >,
    >,
{
    let wanted = |at: usize| index.is_none_or(|index| index == at);
    executor.evm_mut().disable_inspector();
    executor.apply_pre_execution_changes().map_err(classify)?;
    let mut traces = Vec::new();
    for (at, tx) in block.transactions.iter().enumerate() {
        executor.evm_mut().set_inspector_enabled(wanted(at));
        let outcome = run(&mut executor, tx).map_err(classify)?;
        if wanted(at) {
            let place = TransactionContext {
                block_hash: Some(block.hash()),
                tx_index: Some(at),
                tx_hash: Some(tx.hash()),
            };
            // A deposit or not, the tracers look at what every transaction has.
            let asked = OpTx::from_encoded_tx(tx.envelope(), tx.sender(), tx.encoded.clone());
            let around = executor.evm().block().clone();
            let (db, inspector, _) = executor.evm_mut().components_mut();
            let trace = inspector.get_result(Some(place), &asked, &around, outcome.result(), db);
            traces.push(trace.map_err(|error| refused(&error))?);
            inspector.fuse().map_err(|error| refused(&error))?;
            if index.is_some() {
                break;
            }
        }
        executor.commit_transaction(outcome).map_err(classify)?;
    }
    Ok(traces)
}
