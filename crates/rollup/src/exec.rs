//! Executing one block: a pure function of rules, parent header, transactions and a state reader.
//!
//! No I/O, clock or thread in here: the reader is a [`DatabaseRef`], so the same code runs on the
//! disk store, on a witness (see the OP Sepolia replay test) and, later, inside a fault-proof VM.

use crate::{
    block::Transaction,
    error::{Error, Result},
    ethereum,
    spec::ChainSpec,
    state::{Overlay, StateChanges},
};
use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header, Sealed, TxReceipt, proofs::calculate_receipt_root,
};
use alloy_eips::{eip2718::WithEncoded, eip7685::EMPTY_REQUESTS_HASH};
use alloy_evm::{
    EvmFactory,
    block::{BlockExecutionError, BlockExecutor, BlockExecutorFactory, BlockValidationError},
};
use alloy_op_evm::OpBlockExecutionCtx;
use alloy_op_hardforks::OpHardforks;
use alloy_primitives::{Address, B256, Bloom, Bytes};
use alloy_trie::{EMPTY_ROOT_HASH, root::ordered_trie_root_encoded};
use op_alloy_consensus::OpReceiptEnvelope;
use revm::DatabaseRef;

/// What a block is given from outside, besides its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInputs {
    /// Seconds since the epoch, above the parent's.
    pub timestamp: u64,
    /// Receiver of priority fees (the sequencer fee vault on OP chains).
    pub beneficiary: Address,
    /// The PREVRANDAO value.
    pub prev_randao: B256,
    /// Gas limit.
    pub gas_limit: u64,
    /// EIP-4788 root.
    pub parent_beacon_block_root: Option<B256>,
    /// Encoded fee parameters, see [`ChainSpec::extra_data`].
    pub extra_data: Bytes,
}

impl BlockInputs {
    /// The inputs that a given header was made from.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        Self {
            timestamp: header.timestamp,
            beneficiary: header.beneficiary,
            prev_randao: header.mix_hash,
            gas_limit: header.gas_limit,
            parent_beacon_block_root: header.parent_beacon_block_root,
            extra_data: header.extra_data.clone(),
        }
    }
}

/// Why an optional transaction did not get into the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It does not fit into what is left of the block; it may fit into the next one.
    NoRoom,
    /// It is invalid at this state.
    Invalid(String),
}

/// Transactions that may be put into a block, best first.
pub trait Candidates {
    /// The next transaction to try.
    fn next(&mut self) -> Option<Arc<Transaction>>;

    /// Tells that the transaction returned last did not get in. Later transactions of the same
    /// sender should not be offered.
    fn skipped(&mut self, transaction: &Transaction, reason: Skip);

    /// Tells what is in the block so far, after the forced transactions and after each one that
    /// got in.
    fn ran(&mut self, transactions: &[Arc<Transaction>], receipts: &[OpReceiptEnvelope]) {
        let _ = (transactions, receipts);
    }
}

/// No optional transactions.
#[derive(Debug, Clone, Copy)]
pub struct NoCandidates;

impl Candidates for NoCandidates {
    fn next(&mut self) -> Option<Arc<Transaction>> {
        None
    }

    fn skipped(&mut self, _: &Transaction, _: Skip) {}
}

/// What execution gives.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Transactions that got in.
    pub transactions: Vec<Arc<Transaction>>,
    /// Their receipts.
    pub receipts: Vec<OpReceiptEnvelope>,
    /// Gas used.
    pub gas_used: u64,
    /// DA footprint (Jovian), the header's `blobGasUsed`.
    pub da_footprint: u64,
    /// Hash of the requests to the consensus layer (EIP-7685); an OP Stack block has none.
    pub requests_hash: B256,
    /// State changes.
    pub changes: StateChanges,
}

/// The header of a block before execution, enough to set up the EVM.
fn draft(
    spec: &ChainSpec,
    parent: &Header,
    parent_hash: B256,
    inputs: &BlockInputs,
) -> Result<Header> {
    let header = Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: inputs.beneficiary,
        number: parent.number + 1,
        gas_limit: inputs.gas_limit,
        timestamp: inputs.timestamp,
        mix_hash: inputs.prev_randao,
        base_fee_per_gas: Some(spec.next_base_fee(parent)?),
        parent_beacon_block_root: inputs.parent_beacon_block_root,
        extra_data: inputs.extra_data.clone(),
        ..Default::default()
    };
    // Parameters that the next block could not use make this block invalid.
    spec.fee_parameters(&header)?;
    Ok(header)
}

/// Executes a block on the parent's state: `forced` transactions must all get in, `candidates` may.
///
/// # Errors
/// [`Error::InvalidBlock`] when a forced transaction is invalid or the inputs are; database errors
/// of the reader.
pub fn execute<DB>(
    spec: &ChainSpec,
    parent: &Header,
    parent_hash: B256,
    inputs: &BlockInputs,
    state: DB,
    forced: &[Arc<Transaction>],
    candidates: &mut dyn Candidates,
) -> Result<Execution>
where
    DB: DatabaseRef<Error = Error> + core::fmt::Debug,
{
    if inputs.timestamp <= parent.timestamp {
        return Err(Error::InvalidBlock(format!(
            "timestamp {} is not after the parent's {}",
            inputs.timestamp, parent.timestamp
        )));
    }
    let header = draft(spec, parent, parent_hash, inputs)?;
    if spec.is_ethereum() {
        return ethereum::execute(spec, &header, state, forced, candidates);
    }
    let mut db = Overlay::new(state);
    let factory = spec.factory();
    let evm = factory
        .evm_factory()
        .create_evm(&mut db, spec.evm_env(&header));
    let context = OpBlockExecutionCtx {
        parent_hash,
        parent_beacon_block_root: inputs.parent_beacon_block_root,
        extra_data: inputs.extra_data.clone(),
    };
    let mut executor = factory.create_executor(evm, context);
    let run = |executor: &mut _, tx: &Transaction| {
        BlockExecutor::execute_transaction(
            executor,
            WithEncoded::new(tx.encoded.clone(), &tx.inner),
        )
        .map(|_| ())
    };
    let transactions = drive(&mut executor, forced, candidates, run, |e| e.receipts())?;
    let (_, result) = executor.finish().map_err(classify)?;
    let changes = db.into_changes()?;
    Ok(Execution {
        transactions,
        receipts: result.receipts,
        gas_used: result.gas_used,
        da_footprint: result.blob_gas_used,
        requests_hash: EMPTY_REQUESTS_HASH,
        changes,
    })
}

/// Runs the system calls, the forced transactions and the candidates on a block executor. `run`
/// executes one transaction, `receipts` shows those so far.
pub(crate) fn drive<E: BlockExecutor>(
    executor: &mut E,
    forced: &[Arc<Transaction>],
    candidates: &mut dyn Candidates,
    run: impl Fn(&mut E, &Transaction) -> core::result::Result<(), BlockExecutionError>,
    receipts: impl Fn(&E) -> &[OpReceiptEnvelope],
) -> Result<Vec<Arc<Transaction>>> {
    executor.apply_pre_execution_changes().map_err(classify)?;
    let mut transactions = Vec::with_capacity(forced.len());
    for tx in forced {
        run(executor, tx).map_err(classify)?;
        transactions.push(Arc::clone(tx));
    }
    candidates.ran(&transactions, receipts(executor));
    while let Some(tx) = candidates.next() {
        match run(executor, &tx) {
            Ok(()) => {
                transactions.push(tx);
                candidates.ran(&transactions, receipts(executor));
            }
            Err(BlockExecutionError::Validation(reason)) => {
                candidates.skipped(&tx, skip_reason(&reason));
            }
            Err(error) => return Err(classify(error)),
        }
    }
    Ok(transactions)
}

fn skip_reason(error: &BlockValidationError) -> Skip {
    match error {
        BlockValidationError::InvalidTx { error, .. } => Skip::Invalid(error.to_string()),
        // Gas and DA footprint limits: the only other validation errors a transaction can raise.
        #[cfg_attr(
            not(feature = "std"),
            allow(unused_variables, reason = "nobody to tell")
        )]
        other => {
            #[cfg(feature = "std")]
            tracing::debug!(%other, "transaction does not fit");
            Skip::NoRoom
        }
    }
}

pub(crate) fn classify(error: BlockExecutionError) -> Error {
    match error {
        BlockExecutionError::Validation(e) => Error::InvalidBlock(e.to_string()),
        BlockExecutionError::Internal(e) => Error::Database(e.to_string()),
    }
}

/// What a header says of a block's transactions and receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRoots {
    transactions: B256,
    receipts: B256,
    bloom: Bloom,
}

impl BodyRoots {
    /// Computes them. They do not depend on the state root, so both can be computed at once.
    #[must_use]
    pub fn of(execution: &Execution) -> Self {
        let encoded: Vec<_> = execution
            .transactions
            .iter()
            .map(|tx| tx.encoded.as_ref())
            .collect();
        let receipts = &execution.receipts;
        Self {
            transactions: ordered_trie_root_encoded(&encoded),
            receipts: calculate_receipt_root(receipts),
            bloom: receipts.iter().fold(Bloom::ZERO, |all, r| all | r.bloom()),
        }
    }
}

/// Builds the header from execution, the roots of the body, the state root and the storage root of
/// the `L2ToL1MessagePasser` predeploy (which the header carries since Isthmus).
///
/// # Errors
/// When the parent's fee parameters are malformed.
pub fn seal(
    spec: &ChainSpec,
    parent: &Sealed<Header>,
    inputs: &BlockInputs,
    execution: &Execution,
    body: &BodyRoots,
    state_root: B256,
    message_passer_root: B256,
) -> Result<Header> {
    let forks = spec.forks();
    let at = inputs.timestamp;
    let isthmus = spec.is_isthmus(at);
    Ok(Header {
        state_root,
        transactions_root: body.transactions,
        receipts_root: body.receipts,
        logs_bloom: body.bloom,
        gas_used: execution.gas_used,
        withdrawals_root: if isthmus && !spec.is_ethereum() {
            Some(message_passer_root)
        } else {
            forks
                .is_canyon_active_at_timestamp(at)
                .then_some(EMPTY_ROOT_HASH)
        },
        blob_gas_used: forks.is_ecotone_active_at_timestamp(at).then(|| {
            if spec.is_jovian(at) {
                execution.da_footprint
            } else {
                0
            }
        }),
        excess_blob_gas: forks.is_ecotone_active_at_timestamp(at).then_some(0),
        requests_hash: isthmus.then_some(execution.requests_hash),
        ..draft(spec, parent, parent.hash(), inputs)?
    })
}
