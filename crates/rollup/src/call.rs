//! Running transactions that are not sent: `eth_call`, gas estimation, access lists.

use crate::{
    error::{Error, Result},
    spec::ChainSpec,
    state::View,
    trace,
};
use alloy_consensus::Header;
use alloy_eips::eip2930::AccessList;
use alloy_evm::{
    Evm, EvmEnv, EvmFactory, InvalidTxError,
    call::caller_gas_allowance,
    eth::{EthEvmContext, EthEvmFactory},
    overrides::{apply_block_overrides, apply_state_overrides},
    rpc::TryIntoTxEnv,
};
use alloy_op_evm::{OpEvmContext, OpTx};
use alloy_primitives::{Bytes, Log};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use alloy_rpc_types_trace::geth::{GethDebugTracingOptions, GethTrace};
use alloy_sol_types::{Panic, Revert, SolError};
use op_revm::{OpHaltReason, OpSpecId, OpTransaction};
use revm::{
    Inspector,
    context::{
        TransactionType, TxEnv,
        result::{EVMError, ExecutionResult, InvalidTransaction, ResultAndState},
    },
    database::{State, StateBuilder},
    database_interface::{WrapDatabaseRef, bal::EvmDatabaseError},
    inspector::NoOpInspector,
};
use revm_inspectors::access_list::AccessListInspector;

/// Gas that a call may use when it names none, and the most that it may name.
pub const CALL_GAS_CAP: u64 = 100_000_000;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// Returned.
    Success {
        /// Return data, or the deployed code for a creation.
        output: Bytes,
        /// Gas used.
        gas_used: u64,
        /// Logs emitted.
        logs: Vec<Log>,
    },
    /// Reverted.
    Revert {
        /// Revert data.
        output: Bytes,
        /// Gas used.
        gas_used: u64,
    },
    /// Ran out of gas or hit another exceptional halt.
    Halt {
        /// Why.
        reason: String,
        /// Whether more gas could help.
        out_of_gas: bool,
        /// Gas used.
        gas_used: u64,
    },
}

impl CallOutcome {
    /// Gas used.
    #[must_use]
    pub const fn gas_used(&self) -> u64 {
        match self {
            Self::Success { gas_used, .. }
            | Self::Revert { gas_used, .. }
            | Self::Halt { gas_used, .. } => *gas_used,
        }
    }
}

/// What a call runs on.
#[derive(Debug, Clone, Copy)]
pub struct CallContext<'a> {
    /// The rules.
    pub spec: &'a ChainSpec,
    /// The block whose environment the call sees.
    pub header: &'a Header,
    /// The state after that block.
    pub state: &'a View,
}

/// Changes to the environment that the caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Accounts.
    pub state: Option<StateOverride>,
    /// Block fields.
    pub block: Option<Box<BlockOverrides>>,
}

pub(crate) type CallDb<'a> = State<WrapDatabaseRef<&'a View>>;

struct Prepared<'a> {
    env: EvmEnv<OpSpecId>,
    db: CallDb<'a>,
}

impl CallContext<'_> {
    /// Runs a call (`eth_call`): no signature, no nonce check, the base fee only when a fee is
    /// named.
    ///
    /// # Errors
    /// [`Error::InvalidTransaction`] when the call cannot be run.
    pub fn call(&self, request: TransactionRequest, overrides: Overrides) -> Result<CallOutcome> {
        let mut prepared = self.prepare(overrides)?;
        let mut tx = self.transaction(&prepared.env, request)?;
        tx.gas_limit = tx.gas_limit.min(CALL_GAS_CAP);
        self.limit_to_balance(&mut prepared, &mut tx)?;
        self.run(&mut prepared, tx)
    }

    /// The least gas limit with which the transaction succeeds (`eth_estimateGas`), by bisection.
    /// `Err` in the inner result is the outcome that no gas limit avoids.
    ///
    /// # Errors
    /// [`Error::InvalidTransaction`] when the call cannot be run.
    pub fn estimate_gas(
        &self,
        request: TransactionRequest,
        overrides: Overrides,
    ) -> Result<std::result::Result<u64, CallOutcome>> {
        let mut prepared = self.prepare(overrides)?;
        let mut tx = self.transaction(&prepared.env, request)?;
        let mut high = tx.gas_limit.min(self.most_gas());
        tx.gas_limit = high;
        self.limit_to_balance(&mut prepared, &mut tx)?;
        high = tx.gas_limit;
        let first = self.run(&mut prepared, tx.clone())?;
        if let CallOutcome::Halt {
            out_of_gas: true, ..
        } = first
        {
            return Err(Error::InvalidTransaction(format!(
                "gas required exceeds allowance ({high})"
            )));
        }
        if !matches!(first, CallOutcome::Success { .. }) {
            return Ok(Err(first));
        }
        // Below what was used it cannot succeed. What was used often suffices; where it does not
        // (refunds, the 63/64 rule), the least limit is usually little above.
        let used = first.gas_used();
        let mut low = used.saturating_sub(1);
        let mut guesses = [used, used + used / 64 + 2_300].into_iter();
        while low + 1 < high {
            let probe = guesses
                .next()
                .filter(|guess| (low + 1..high).contains(guess))
                .unwrap_or(low + (high - low) / 2);
            tx.gas_limit = probe;
            match self.run(&mut prepared, tx.clone()) {
                Ok(CallOutcome::Success { .. }) => high = probe,
                Ok(_) => low = probe,
                // Below the intrinsic cost.
                Err(Error::InvalidTransaction(_)) => low = probe,
                Err(error) => return Err(error),
            }
            // Closer than 1.5 % and 1,000 gas is not worth more runs.
            if high - low <= high / 64 && high - low < 1_000 {
                break;
            }
        }
        Ok(Ok(high))
    }

    /// The access list that the transaction would use (`eth_createAccessList`), and its outcome
    /// with that list.
    ///
    /// # Errors
    /// [`Error::InvalidTransaction`] when the call cannot be run.
    pub fn access_list(
        &self,
        request: TransactionRequest,
        overrides: Overrides,
    ) -> Result<(AccessList, CallOutcome)> {
        let mut prepared = self.prepare(overrides)?;
        let mut tx = self.transaction(&prepared.env, request)?;
        tx.gas_limit = tx.gas_limit.min(self.most_gas());
        self.limit_to_balance(&mut prepared, &mut tx)?;
        // A legacy transaction has no list, and would not pay for one.
        tx.tx_type = tx.tx_type.max(TransactionType::Eip2930.into());
        let mut list = std::mem::take(&mut tx.access_list);
        // A list changes gas costs and with them, in rare contracts, the path; two rounds settle it.
        for _ in 0..2 {
            tx.access_list = list.clone();
            let mut inspector = AccessListInspector::new(list.clone());
            self.transact(&mut prepared, tx.clone(), Some(&mut inspector))?;
            let found = inspector.access_list();
            if found == list {
                break;
            }
            list = found;
        }
        tx.access_list = list.clone();
        let outcome = self.run(&mut prepared, tx)?;
        Ok((list, outcome))
    }

    /// Runs a call as [`CallContext::call`] does and tells what happened inside
    /// (`debug_traceCall`).
    ///
    /// # Errors
    /// [`Error::InvalidTransaction`] when the call cannot be run or the tracer is not known.
    pub fn trace(
        &self,
        request: TransactionRequest,
        overrides: Overrides,
        options: GethDebugTracingOptions,
    ) -> Result<GethTrace> {
        let mut prepared = self.prepare(overrides)?;
        let mut tx = self.transaction(&prepared.env, request)?;
        tx.gas_limit = tx.gas_limit.min(self.most_gas());
        if options.tracer.is_none() {
            tx.gas_limit = tx.gas_limit.min(trace::STEPS_GAS);
        }
        self.limit_to_balance(&mut prepared, &mut tx)?;
        let mut inspector = trace::inspector(options, tx.gas_limit)?;
        let result = self.transact(&mut prepared, tx.clone(), Some(&mut inspector))?;
        let Prepared { env, db } = &mut prepared;
        inspector
            .get_result(None, &tx, &env.block_env, &result, db)
            .map_err(|error| trace::refused(&error))
    }

    /// The most gas that a transaction can have in a block.
    fn most_gas(&self) -> u64 {
        let cap = self.spec.transaction_gas_cap(self.header.timestamp);
        let limit = self.header.gas_limit.min(CALL_GAS_CAP);
        cap.map_or(limit, |cap| limit.min(cap))
    }

    fn prepare(&self, overrides: Overrides) -> Result<Prepared<'_>> {
        let mut env = self.spec.evm_env(self.header);
        env.cfg_env.disable_eip3607 = true;
        env.cfg_env.disable_base_fee = true;
        env.cfg_env.disable_nonce_check = true;
        env.cfg_env.disable_block_gas_limit = true;
        // A call may take more than a transaction (EIP-7825).
        env.cfg_env.tx_gas_limit_cap = Some(u64::MAX);
        let mut db = StateBuilder::new_with_database(WrapDatabaseRef(self.state)).build();
        if let Some(block) = overrides.block {
            apply_block_overrides(*block, &mut db, &mut env.block_env);
        }
        if let Some(state) = overrides.state {
            apply_state_overrides(state, &mut db)
                .map_err(|e| Error::InvalidTransaction(e.to_string()))?;
        }
        Ok(Prepared { env, db })
    }

    fn transaction(
        &self,
        env: &EvmEnv<OpSpecId>,
        mut request: TransactionRequest,
    ) -> Result<TxEnv> {
        if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() {
            return Err(Error::InvalidTransaction(
                "transaction type not supported".into(),
            ));
        }
        if let Some(id) = request.chain_id
            && id != self.spec.chain_id
        {
            return Err(Error::InvalidTransaction(format!(
                "chainId does not match node's (have={id}, want={})",
                self.spec.chain_id
            )));
        }
        request.gas = Some(request.gas.unwrap_or(CALL_GAS_CAP));
        request
            .try_into_tx_env(env)
            .map_err(|e| Error::InvalidTransaction(e.to_string()))
    }

    /// With a fee named, the sender must be able to pay for the gas: cut the limit to that.
    fn limit_to_balance(&self, prepared: &mut Prepared<'_>, tx: &mut TxEnv) -> Result<()> {
        if tx.gas_price > 0 {
            let allowance = caller_gas_allowance(&mut prepared.db, &*tx)
                .map_err(|_| Error::InvalidTransaction("insufficient funds for transfer".into()))?;
            tx.gas_limit = tx.gas_limit.min(allowance);
        }
        Ok(())
    }

    fn run(&self, prepared: &mut Prepared<'_>, tx: TxEnv) -> Result<CallOutcome> {
        let watched = None::<&mut NoOpInspector>;
        Ok(outcome(self.transact(prepared, tx, watched)?.result))
    }

    fn transact<'p, 's, I>(
        &self,
        prepared: &'p mut Prepared<'s>,
        tx: TxEnv,
        inspector: Option<&'p mut I>,
    ) -> Result<ResultAndState<OpHaltReason>>
    where
        I: Inspector<EthEvmContext<&'p mut CallDb<'s>>>
            + Inspector<OpEvmContext<&'p mut CallDb<'s>>>,
    {
        let Prepared { env, db } = prepared;
        Ok(transact(self.spec, env.clone(), db, tx, inspector)?)
    }
}

/// Runs a transaction by the chain's rules, under the eyes of an inspector if there is one.
pub(crate) fn transact<'p, 's, I>(
    spec: &ChainSpec,
    env: EvmEnv<OpSpecId>,
    db: &'p mut CallDb<'s>,
    tx: TxEnv,
    inspector: Option<&'p mut I>,
) -> Result<ResultAndState<OpHaltReason>, Failure>
where
    I: Inspector<EthEvmContext<&'p mut CallDb<'s>>> + Inspector<OpEvmContext<&'p mut CallDb<'s>>>,
{
    if spec.is_ethereum() {
        let rules = env.cfg_env.spec.into_eth_spec();
        let cfg = env.cfg_env.with_spec_and_mainnet_gas_params(rules);
        let env = EvmEnv::new(cfg, env.block_env);
        let factory = EthEvmFactory::default();
        let done = match inspector {
            None => factory.create_evm(db, env).transact(tx),
            Some(inspector) => factory
                .create_evm_with_inspector(db, env, inspector)
                .transact(tx),
        };
        let ResultAndState { result, state } = done.map_err(refused)?;
        let result = result.map_haltreason(OpHaltReason::Base);
        return Ok(ResultAndState { result, state });
    }
    let factory = spec.factory_evm();
    let tx = op_tx(tx);
    let done = match inspector {
        None => factory.create_evm(db, env).transact(tx),
        Some(inspector) => factory
            .create_evm_with_inspector(db, env, inspector)
            .transact(tx),
    };
    done.map_err(refused)
}

/// A call pays no L1 fee: it has no encoding that could go to L1.
fn op_tx(base: TxEnv) -> OpTx {
    OpTx(OpTransaction {
        base,
        enveloped_tx: Some(Bytes::new()),
        deposit: Default::default(),
    })
}

/// Why a transaction did not run at all.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is invalid; with the reason, where it is one of Ethereum's.
    Invalid(Option<InvalidTransaction>, String),
    /// The state could not be read.
    State(Error),
}

impl Failure {
    pub(crate) const fn reason(&self) -> Option<&InvalidTransaction> {
        match self {
            Self::Invalid(reason, _) => reason.as_ref(),
            Self::State(_) => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(_, text) => Self::InvalidTransaction(text),
            Failure::State(error) => error,
        }
    }
}

/// The EVM's refusal in geth's words, where geth has some.
fn refused<E: InvalidTxError>(error: EVMError<EvmDatabaseError<Error>, E>) -> Failure {
    let error = match error {
        EVMError::Database(EvmDatabaseError::Database(error)) => return Failure::State(error),
        EVMError::Transaction(error) => error,
        other => return Failure::Invalid(None, other.to_string()),
    };
    let reason = error.as_invalid_tx_err();
    let text = match reason {
        Some(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        Some(InvalidTransaction::GasPriceLessThanBasefee) => {
            "max fee per gas less than block base fee".into()
        }
        Some(InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas,
            gas_limit,
        }) => {
            format!("intrinsic gas too low: gas {gas_limit}, minimum needed {initial_gas}")
        }
        _ => error.to_string(),
    };
    Failure::Invalid(reason.cloned(), text)
}

pub(crate) fn outcome(result: ExecutionResult<OpHaltReason>) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { output, logs, .. } => CallOutcome::Success {
            output: output.into_data(),
            gas_used,
            logs,
        },
        ExecutionResult::Revert { output, .. } => CallOutcome::Revert { output, gas_used },
        ExecutionResult::Halt { reason, .. } => {
            let reason = format!("{reason:?}");
            CallOutcome::Halt {
                out_of_gas: reason.contains("OutOfGas"),
                reason,
                gas_used,
            }
        }
    }
}

/// The reason in revert data made by Solidity's `revert("...")` or by a failed check (a panic).
#[must_use]
pub fn revert_reason(output: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(output) {
        return Some(revert.reason);
    }
    let panic = Panic::abi_decode(output).ok()?;
    Some(
        panic
            .kind()
            .map_or_else(|| panic.to_string(), |kind| kind.to_string()),
    )
}
