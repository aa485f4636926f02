//! A chain in memory for tests: one block a transaction, no fees, revm underneath.
//!
//! It implements [`Node`], so a test runs the very code that talks to a real chain. Feature
//! `test-utils`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::Log;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use openledger_primitives::Wei;
use revm::context::result::ExecutionResult;
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::InMemoryDB;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{DatabaseRef, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

use crate::Error;
use crate::error::revert_reason;
use crate::node::{Call, Fees, Head, Node, Receipt, wei};

/// Gas limit of a block and of calls that are not transactions.
const BLOCK_GAS: u64 = 100_000_000;

#[derive(Debug)]
struct State {
    db: InMemoryDB,
    number: u64,
    timestamp: u64,
    receipts: BTreeMap<B256, Receipt>,
    /// Transactions that the "mempool" will swallow.
    lose: u32,
}

/// The chain. Block 1 is mined by the first transaction; each block is a second after the one
/// before.
#[derive(Debug)]
pub struct TestChain {
    chain_id: u64,
    state: Mutex<State>,
}

impl TestChain {
    /// An empty chain at unix second 1,700,000,000.
    pub fn new(chain_id: u64) -> Self {
        let state = State {
            db: InMemoryDB::default(),
            number: 0,
            timestamp: 1_700_000_000,
            receipts: BTreeMap::new(),
            lose: 0,
        };
        Self {
            chain_id,
            state: Mutex::new(state),
        }
    }

    /// Gives `account` coins out of nothing.
    pub fn fund(&self, account: Address, amount: Wei) {
        let mut state = self.lock();
        let mut info = info(&state, account);
        info.balance = info.balance.saturating_add(amount.into());
        state.db.insert_account_info(account, info);
    }

    /// Lets time pass until the next block.
    pub fn pass(&self, seconds: u64) {
        let mut state = self.lock();
        state.timestamp = state.timestamp.saturating_add(seconds);
    }

    /// Mines an empty block.
    pub fn mine(&self) {
        let mut state = self.lock();
        next_block(&mut state);
    }

    /// Swallows the next `count` submitted transactions after acknowledging them, as a node does
    /// that crashes with a mempool in memory.
    pub fn lose(&self, count: u32) {
        self.lock().lose = count;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call in the newest block, or in the one after it, and drops its effects.
    fn simulate(
        &self,
        from: Option<Address>,
        call: &Call,
        later: u64,
    ) -> Result<ExecutionResult, Error> {
        let state = self.lock();
        let from = from.unwrap_or_default();
        let tx = TxEnv {
            caller: from,
            gas_limit: BLOCK_GAS,
            kind: call.to.map_or(TxKind::Create, TxKind::Call),
            value: call.value.into(),
            data: call.data.clone(),
            nonce: info(&state, from).nonce,
            chain_id: Some(self.chain_id),
            ..TxEnv::default()
        };
        let mut evm = Context::mainnet()
            .with_db(state.db.clone())
            .with_cfg(self.cfg())
            .with_block(block(&state, later))
            .build_mainnet();
        let run = evm.transact(tx).map_err(|e| Error::Refused {
            method: "eth_call",
            message: e.to_string(),
        })?;
        match run.result {
            ExecutionResult::Revert { output, .. } => Err(Error::Reverted {
                reason: revert_reason(&output),
            }),
            ExecutionResult::Halt { reason, .. } => Err(Error::Reverted {
                reason: format!("{reason:?}"),
            }),
            success @ ExecutionResult::Success { .. } => Ok(success),
        }
    }

    fn cfg(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(SpecId::PRAGUE);
        cfg.chain_id = self.chain_id;
        cfg
    }

    fn execute(&self, raw: &Bytes) -> Result<B256, Error> {
        let refuse = |message: String| Error::Refused {
            method: "eth_sendRawTransaction",
            message,
        };
        let hash = keccak256(raw);
        let tx = TxEnvelope::decode_2718(&mut raw.as_ref()).map_err(|e| refuse(e.to_string()))?;
        let caller = tx.recover_signer().map_err(|e| refuse(e.to_string()))?;
        let mut state = self.lock();
        if state.receipts.contains_key(&hash) {
            return Ok(hash);
        }
        if tx.nonce() < info(&state, caller).nonce {
            return Err(refuse("nonce too low".to_owned()));
        }
        if state.lose > 0 {
            state.lose = state.lose.saturating_sub(1);
            return Ok(hash);
        }
        next_block(&mut state);
        let env = TxEnv {
            caller,
            gas_limit: tx.gas_limit(),
            kind: tx.kind(),
            value: tx.value(),
            data: tx.input().clone(),
            nonce: tx.nonce(),
            chain_id: tx.chain_id(),
            ..TxEnv::default()
        };
        let block = block(&state, 0);
        let result = Context::mainnet()
            .with_db(&mut state.db)
            .with_cfg(self.cfg())
            .with_block(block)
            .build_mainnet()
            .transact_commit(env);
        let result = result.map_err(|e| refuse(e.to_string()))?;
        let receipt = receipt(&state, hash, &result);
        state.receipts.insert(hash, receipt);
        Ok(hash)
    }
}

fn info(state: &State, account: Address) -> AccountInfo {
    // The in-memory database has no way to fail.
    state
        .db
        .basic_ref(account)
        .ok()
        .flatten()
        .unwrap_or_default()
}

fn next_block(state: &mut State) {
    state.number = state.number.saturating_add(1);
    state.timestamp = state.timestamp.saturating_add(1);
}

fn block(state: &State, later: u64) -> BlockEnv {
    BlockEnv {
        number: U256::from(state.number.saturating_add(later)),
        timestamp: U256::from(state.timestamp.saturating_add(later)),
        gas_limit: BLOCK_GAS,
        basefee: 0,
        ..BlockEnv::default()
    }
}

fn receipt(state: &State, tx: B256, result: &ExecutionResult) -> Receipt {
    let logs = if result.is_success() {
        result.logs()
    } else {
        &[]
    };
    let logs = (0..).zip(logs).map(|(index, log)| Log {
        inner: log.clone(),
        block_hash: Some(B256::with_last_byte(1)),
        block_number: Some(state.number),
        block_timestamp: Some(state.timestamp),
        transaction_hash: Some(tx),
        transaction_index: Some(0),
        log_index: Some(index),
        removed: false,
    });
    Receipt {
        tx,
        block: state.number,
        success: result.is_success(),
        gas_used: result.tx_gas_used(),
        // Nothing has a price here.
        fee: Wei::ZERO,
        created: result.created_address(),
        logs: logs.collect(),
    }
}

impl Node for TestChain {
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        ready(Ok(self.chain_id)).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        let state = self.lock();
        ready(Ok(Head {
            number: state.number,
            timestamp: state.timestamp,
        }))
        .boxed()
    }

    fn nonce(&self, account: Address, _: bool) -> BoxFuture<'_, Result<u64, Error>> {
        ready(Ok(info(&self.lock(), account).nonce)).boxed()
    }

    /// Knows the newest state only, whatever block is asked for.
    fn balance(&self, account: Address, _: Option<u64>) -> BoxFuture<'_, Result<Wei, Error>> {
        ready(wei("eth_getBalance", info(&self.lock(), account).balance)).boxed()
    }

    fn code(&self, account: Address) -> BoxFuture<'_, Result<Bytes, Error>> {
        let state = self.lock();
        let hash = info(&state, account).code_hash;
        let code = state
            .db
            .code_by_hash_ref(hash)
            .map(|code| code.original_bytes());
        ready(Ok(code.unwrap_or_default())).boxed()
    }

    fn call<'a>(
        &'a self,
        from: Option<Address>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        let result = self.simulate(from, call, 0);
        ready(result.map(|r| r.into_output().unwrap_or_default())).boxed()
    }

    /// What the call used, and a quarter for refunds and the 63/64 rule.
    fn estimate<'a>(&'a self, from: Address, call: &'a Call) -> BoxFuture<'a, Result<u64, Error>> {
        let used = self
            .simulate(Some(from), call, 1)
            .map(|r| r.gas().total_gas_spent());
        ready(used.map(|gas| gas.saturating_add(gas / 4).saturating_add(100_000))).boxed()
    }

    fn fees(&self) -> BoxFuture<'_, Result<Fees, Error>> {
        ready(Ok(Fees {
            max_fee: 0,
            max_priority_fee: 0,
        }))
        .boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, Error>> {
        ready(self.execute(&raw)).boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<Receipt>, Error>> {
        ready(Ok(self.lock().receipts.get(&tx).cloned())).boxed()
    }

    fn logs<'a>(
        &'a self,
        addresses: &'a [Address],
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<Log>, Error>> {
        let state = self.lock();
        let mut receipts: Vec<&Receipt> = state
            .receipts
            .values()
            .filter(|r| (from..=to).contains(&r.block))
            .collect();
        receipts.sort_by_key(|r| r.block);
        let logs = receipts.into_iter().flat_map(|r| r.logs.clone());
        ready(Ok(logs
            .filter(|log| addresses.contains(&log.address()))
            .collect()))
        .boxed()
    }
}
