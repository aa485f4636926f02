//! `eth_simulateV1`: blocks that are not made (execution-apis, the method of that name).
//!
//! Calls run one after another in blocks on top of a real one, with what is overridden. Each block
//! gets its header, roots included, as if it had been made. Its transactions have no signature, so
//! they pay nothing for their data on the layer 1.

use crate::{
    block::{Block, ExecutedBlock, Transaction},
    call::{CALL_GAS_CAP, CallDb, CallOutcome, Failure, outcome, transact},
    error::Error,
    ethereum::{self, PragueAtGenesis},
    exec::{self, BlockInputs, BodyRoots, Execution},
    reader::ChainReader,
    spec::ChainSpec,
    state::{StateChanges, StateTrie, View},
};
use alloy_consensus::{
    EthereumTxEnvelope, Header, Receipt, ReceiptEnvelope, Sealable, Sealed, TxEip4844,
    transaction::Recovered,
};
use alloy_eips::{Encodable2718, eip7685::EMPTY_REQUESTS_HASH};
use alloy_evm::{
    Evm, EvmEnv, EvmFactory, FromRecoveredTx,
    block::{BlockExecutionError, SystemCaller},
    eth::EthEvmFactory,
    overrides::{OverrideBlockHashes, apply_state_overrides},
};
use alloy_hardforks::EthereumHardforks;
use alloy_op_evm::OpTx;
use alloy_primitives::{B256, TxKind, keccak256};
use alloy_rpc_types_eth::{
    BlockOverrides, TransactionRequest,
    simulate::{MAX_SIMULATE_BLOCKS, SimBlock, SimulatePayload},
    state::StateOverride,
};
use alloy_trie::EMPTY_ROOT_HASH;
use op_alloy_consensus::{L2_TO_L1_MESSAGE_PASSER_ADDRESS, OpTxEnvelope};
use op_revm::OpSpecId;
use revm::{
    Database, DatabaseCommit,
    context::{TxEnv, result::InvalidTransaction},
    database::{StateBuilder, states::bundle_state::BundleRetention},
    database_interface::WrapDatabaseRef,
};
use revm_inspectors::transfer::TransferInspector;
use std::sync::Arc;

/// Calls of one request, over all its blocks.
const MAX_CALLS: usize = 1_000;

/// Seconds between blocks that name no time, as in geth.
const INTERVAL: u64 = 12;

/// A block that might have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// The block and its receipts.
    pub executed: ExecutedBlock,
    /// How each call ended.
    pub calls: Vec<CallOutcome>,
}

/// Why nothing was simulated, with the code that the specification has for it.
#[derive(Debug)]
pub struct Refusal {
    /// JSON-RPC error code; `None` for an error that has none of its own.
    pub code: Option<i32>,
    /// What is wrong.
    pub error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { code: None, error }
    }
}

fn refusal(code: i32, message: String) -> Refusal {
    Refusal {
        code: Some(code),
        error: Error::InvalidTransaction(message),
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let code = match failure.reason() {
            Some(InvalidTransaction::NonceTooLow { .. }) => -38_010,
            Some(InvalidTransaction::NonceTooHigh { .. }) => -38_011,
            Some(InvalidTransaction::GasPriceLessThanBasefee) => -38_012,
            Some(
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            ) => -38_013,
            Some(InvalidTransaction::LackOfFundForMaxFee { .. }) => -38_014,
            Some(InvalidTransaction::CallerGasLimitMoreThanBlock) => -38_015,
            Some(InvalidTransaction::RejectCallerWithCode) => -38_024,
            Some(InvalidTransaction::CreateInitCodeSizeLimit) => -38_025,
            _ => return Error::from(failure).into(),
        };
        Self {
            code: Some(code),
            error: failure.into(),
        }
    }
}

/// The chain above which blocks are simulated, as it grows.
struct Simulation<'a> {
    spec: &'a ChainSpec,
    reader: &'a ChainReader,
    /// Tries of the last block.
    trie: StateTrie,
    db: CallDb<'a>,
    /// The last block.
    head: Sealed<Header>,
    /// Gas that all calls to come may use.
    budget: u64,
    validation: bool,
    transfers: bool,
}

/// Simulates blocks on block `base` of the chain, whose tries are `trie` and whose state is `state`.
///
/// # Errors
/// When blocks are out of order, there are too many, or a call cannot run at all; a call that
/// reverts is a result.
pub fn simulate(
    spec: &ChainSpec,
    reader: &ChainReader,
    base: &Sealed<Header>,
    (trie, state): (StateTrie, &View),
    request: SimulatePayload,
) -> Result<Vec<Simulated>, Refusal> {
    let calls: usize = request
        .block_state_calls
        .iter()
        .map(|b| b.calls.len())
        .sum();
    if request.block_state_calls.is_empty() {
        return Err(refusal(-32_602, "empty input".into()));
    }
    if calls > MAX_CALLS {
        return Err(refusal(-38_026, format!("more than {MAX_CALLS} calls")));
    }
    let db = StateBuilder::new_with_database(WrapDatabaseRef(state))
        .with_bundle_update()
        .build();
    let mut simulation = Simulation {
        spec,
        reader,
        trie,
        db,
        head: base.clone(),
        budget: CALL_GAS_CAP,
        validation: request.validation,
        transfers: request.trace_transfers,
    };
    let mut blocks = Vec::new();
    for block in request.block_state_calls {
        let next = simulation.head.number + 1;
        let number = match block.block_number_override() {
            None => next,
            Some(number) => u64::try_from(number)
                .map_err(|_| refusal(-32_602, format!("block number {number}")))?,
        };
        if number < next {
            let text = format!("block numbers must be in order: {number} < {next}");
            return Err(refusal(-38_020, text));
        }
        if number - base.number > MAX_SIMULATE_BLOCKS {
            return Err(refusal(-38_026, "too many blocks".into()));
        }
        // What a number leaves out is filled with empty blocks.
        for _ in next..number {
            blocks.push(simulation.block(SimBlock::default())?);
        }
        blocks.push(simulation.block(block)?);
    }
    Ok(blocks)
}

impl Simulation<'_> {
    fn block(&mut self, block: SimBlock) -> Result<Simulated, Refusal> {
        let overrides = block.block_overrides.unwrap_or_default();
        let header = self.draft(&overrides)?;
        if let Some(hashes) = overrides.block_hash {
            self.db.override_block_hashes(hashes);
        }
        if let Some(state) = block.state_overrides {
            self.override_state(state)?;
        }
        let mut env = self.spec.evm_env(&header);
        if !self.validation {
            env.cfg_env.disable_eip3607 = true;
            env.cfg_env.disable_base_fee = true;
            env.cfg_env.disable_nonce_check = true;
            env.cfg_env.tx_gas_limit_cap = Some(u64::MAX);
        }
        self.begin(&header, &env)?;
        let mut execution = Execution {
            transactions: Vec::new(),
            receipts: Vec::new(),
            gas_used: 0,
            // Without a signature there is nothing to be put on the layer 1.
            da_footprint: 0,
            requests_hash: EMPTY_REQUESTS_HASH,
            changes: StateChanges::default(),
        };
        let mut calls = Vec::with_capacity(block.calls.len());
        for call in block.calls {
            calls.push(self.call(call, &header, &env, &mut execution)?);
        }
        let block = self.seal(&header, execution)?;
        Ok(Simulated {
            executed: block,
            calls,
        })
    }

    /// The header as the calls see it.
    fn draft(&self, overrides: &BlockOverrides) -> Result<Header, Refusal> {
        let head = &self.head;
        let timestamp = overrides.time.unwrap_or(head.timestamp + INTERVAL);
        if timestamp <= head.timestamp {
            let text = format!(
                "block timestamps must be in order: {timestamp} <= {}",
                head.timestamp
            );
            return Err(refusal(-38_021, text));
        }
        let base_fee = match overrides.base_fee {
            Some(fee) => u64::try_from(fee)
                .map_err(|_| refusal(-32_602, format!("base fee {fee} exceeds 64 bits")))?,
            None if self.validation => self.spec.next_base_fee(head)?,
            None => 0,
        };
        Ok(Header {
            number: head.number + 1,
            parent_hash: head.hash(),
            timestamp,
            beneficiary: overrides.coinbase.unwrap_or(head.beneficiary),
            mix_hash: overrides.random.unwrap_or_default(),
            gas_limit: overrides.gas_limit.unwrap_or(head.gas_limit),
            base_fee_per_gas: Some(base_fee),
            extra_data: head.extra_data.clone(),
            parent_beacon_block_root: Some(B256::ZERO),
            ..Default::default()
        })
    }

    fn override_state(&mut self, state: StateOverride) -> Result<(), Refusal> {
        if state.values().any(|a| a.move_precompile_to.is_some()) {
            let text = "movePrecompileToAddress is not supported";
            return Err(refusal(-32_602, text.into()));
        }
        apply_state_overrides(state, &mut self.db).map_err(|e| refusal(-32_602, e.to_string()))
    }

    /// The system calls that a block begins with (EIP-2935, EIP-4788).
    fn begin(&mut self, header: &Header, env: &EvmEnv<OpSpecId>) -> Result<(), Refusal> {
        let db = &mut self.db;
        let done = if self.spec.is_ethereum() {
            let env = ethereum::environment(self.spec, header);
            let evm = EthEvmFactory::default().create_evm(db, env);
            system_calls(evm, PragueAtGenesis, header)
        } else {
            let evm = self.spec.factory_evm().create_evm(db, env.clone());
            system_calls(evm, self.spec.forks(), header)
        };
        done.map_err(|error| exec::classify(error).into())
    }

    fn call(
        &mut self,
        call: TransactionRequest,
        header: &Header,
        env: &EvmEnv<OpSpecId>,
        execution: &mut Execution,
    ) -> Result<CallOutcome, Refusal> {
        let left = header.gas_limit - execution.gas_used;
        if call.gas.is_some_and(|gas| gas > left) {
            let text = format!("block gas limit reached: {left} gas is left");
            return Err(refusal(-38_015, text));
        }
        let gas = call.gas.unwrap_or(left).min(self.budget);
        let tx = self.transaction(call, gas)?;
        let asked: TxEnv = OpTx::from_recovered_tx(tx.envelope(), tx.sender()).0.base;
        let mut watcher = TransferInspector::new(false).with_logs(true);
        let watcher = self.transfers.then_some(&mut watcher);
        let done = transact(self.spec, env.clone(), &mut self.db, asked, watcher)?;
        self.db.commit(done.state);
        let (result, used) = (&done.result, done.result.tx_gas_used());
        self.budget = self.budget.saturating_sub(used);
        execution.gas_used += used;
        let receipt = Receipt {
            status: result.is_success().into(),
            cumulative_gas_used: execution.gas_used,
            logs: result.logs().to_vec(),
        };
        let kind = match tx.envelope() {
            OpTxEnvelope::Legacy(_) => ReceiptEnvelope::Legacy(receipt.with_bloom()),
            OpTxEnvelope::Eip2930(_) => ReceiptEnvelope::Eip2930(receipt.with_bloom()),
            OpTxEnvelope::Eip7702(_) => ReceiptEnvelope::Eip7702(receipt.with_bloom()),
            _ => ReceiptEnvelope::Eip1559(receipt.with_bloom()),
        };
        execution.receipts.push(ethereum::receipt(kind));
        execution.transactions.push(Arc::new(tx));
        Ok(outcome(done.result))
    }

    /// A call as a transaction, with a signature of zeros.
    fn transaction(
        &mut self,
        mut call: TransactionRequest,
        gas: u64,
    ) -> Result<Transaction, Refusal> {
        let invalid = |text: String| refusal(-32_602, text);
        let from = call.from.unwrap_or_default();
        let account = self.db.basic(from).map_err(|e| invalid(e.to_string()))?;
        call.from = Some(from);
        call.gas = Some(gas);
        call.nonce = call
            .nonce
            .or(Some(account.map_or(0, |account| account.nonce)));
        call.to = call.to.or(Some(TxKind::Create));
        if call.chain_id.is_some_and(|id| id != self.spec.chain_id) {
            return Err(invalid("chainId does not match node's".into()));
        }
        call.chain_id = Some(self.spec.chain_id);
        if call.gas_price.is_none() {
            call.max_fee_per_gas = call.max_fee_per_gas.or(Some(0));
            call.max_priority_fee_per_gas = call.max_priority_fee_per_gas.or(Some(0));
        }
        let envelope = call
            .build_typed_simulate_transaction()
            .map_err(|e| invalid(e.to_string()))?;
        let envelope = match envelope {
            EthereumTxEnvelope::Legacy(tx) => OpTxEnvelope::Legacy(tx),
            EthereumTxEnvelope::Eip2930(tx) => OpTxEnvelope::Eip2930(tx),
            EthereumTxEnvelope::Eip1559(tx) => OpTxEnvelope::Eip1559(tx),
            EthereumTxEnvelope::Eip7702(tx) => OpTxEnvelope::Eip7702(tx),
            EthereumTxEnvelope::<TxEip4844>::Eip4844(_) => {
                return Err(invalid("transaction type not supported".into()));
            }
        };
        Ok(Transaction {
            encoded: envelope.encoded_2718().into(),
            inner: Recovered::new_unchecked(envelope, from),
        })
    }

    /// Roots and header; the block becomes the head.
    fn seal(&mut self, draft: &Header, mut execution: Execution) -> Result<ExecutedBlock, Refusal> {
        self.db.merge_transitions(BundleRetention::PlainState);
        execution.changes = StateChanges::from_bundle(&self.db.take_bundle());
        let snapshot = &**self.reader.snapshot();
        let root = self.trie.apply(snapshot, &execution.changes)?.root;
        let passer = keccak256(L2_TO_L1_MESSAGE_PASSER_ADDRESS);
        let passer = self.trie.account(snapshot, passer)?;
        let passer = passer.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        let (head, inputs) = (&self.head, BlockInputs::of(draft));
        let header = Header {
            // The one field that may differ from what the parent asks for.
            base_fee_per_gas: draft.base_fee_per_gas,
            ..exec::seal(
                self.spec,
                head,
                &inputs,
                &execution,
                &BodyRoots::of(&execution),
                root,
                passer,
            )?
        };
        self.head = header.seal_slow();
        let hash = [(self.head.number, self.head.hash())];
        self.db.override_block_hashes(hash.into_iter().collect());
        Ok(ExecutedBlock {
            block: Arc::new(Block {
                header: self.head.clone(),
                transactions: execution.transactions,
            }),
            receipts: execution.receipts,
        })
    }
}

fn system_calls<E: Evm<DB: DatabaseCommit>>(
    mut evm: E,
    forks: impl EthereumHardforks,
    header: &Header,
) -> Result<(), BlockExecutionError> {
    let mut caller = SystemCaller::new(forks);
    caller.apply_blockhashes_contract_call(header.parent_hash, &mut evm)?;
    caller.apply_beacon_root_contract_call(header.parent_beacon_block_root, &mut evm)
}
