//! Our blocks, transactions and receipts as JSON-RPC objects.

use super::error::{RpcResult, failure};
use crate::{
    block::{self, ExecutedBlock, Transaction},
    call::CallOutcome,
    chain::Included,
    error::Result,
    fees, logs,
    reader::ChainReader,
    simulate::Simulated,
    spec::ChainSpec,
};
use alloy_consensus::{
    Header, ReceiptWithBloom, Sealed, Transaction as _, transaction::TransactionInfo,
};
use alloy_primitives::{Address, Bytes, U256};
use alloy_rpc_types_eth::{
    Block, BlockTransactions, Header as RpcHeader, Log, TransactionReceipt,
    simulate::{SimCallResult, SimulateError, SimulatedBlock},
};
use op_alloy_consensus::{
    OpReceipt, OpReceiptEnvelope, OpTxEnvelope,
    transaction::{OpDepositInfo, OpTransactionInfo},
};
use op_alloy_rpc_types::{L1BlockInfo, OpTransactionReceipt, Transaction as RpcTransaction};

/// A block as `eth_getBlockBy*` gives it.
pub(super) fn block(executed: &ExecutedBlock, full: bool) -> Block<RpcTransaction> {
    let block = &executed.block;
    let transactions = if full {
        BlockTransactions::Full(
            (0..block.transactions.len())
                .map(|i| transaction(executed, i))
                .collect(),
        )
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|tx| tx.hash()).collect())
    };
    Block {
        header: header(&block.header, Some(block.rlp_size())),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Default::default()),
    }
}

/// A header as subscriptions and `eth_getHeaderBy*` give it.
pub(super) fn header(header: &Sealed<Header>, size: Option<usize>) -> RpcHeader {
    RpcHeader {
        hash: header.hash(),
        inner: header.inner().clone(),
        total_difficulty: None,
        size: size.map(U256::from),
    }
}

/// A transaction of a block.
pub(super) fn transaction(executed: &ExecutedBlock, index: usize) -> RpcTransaction {
    let block = &executed.block;
    let receipt = executed.receipts.get(index);
    let info = OpTransactionInfo::new(
        TransactionInfo {
            hash: Some(block.transactions[index].hash()),
            index: u64::try_from(index).ok(),
            block_hash: Some(block.hash()),
            block_number: Some(block.number()),
            base_fee: block.header.base_fee_per_gas,
            block_timestamp: Some(block.header.timestamp),
        },
        OpDepositInfo {
            deposit_nonce: receipt.and_then(OpReceiptEnvelope::deposit_nonce),
            deposit_receipt_version: receipt.and_then(OpReceiptEnvelope::deposit_receipt_version),
        },
    );
    RpcTransaction::from_transaction(block.transactions[index].inner.clone(), info)
}

/// A transaction that is still in the pool.
pub(super) fn pending(tx: &Transaction) -> RpcTransaction {
    RpcTransaction::from_transaction(tx.inner.clone(), OpTransactionInfo::default())
}

/// A simulated block with the results of its calls.
pub(super) fn simulated(
    simulated: &Simulated,
    full: bool,
) -> SimulatedBlock<Block<RpcTransaction>> {
    let executed = &simulated.executed;
    let mut logs = logs::of_block(executed, false);
    let calls = simulated.calls.iter().zip(&executed.receipts);
    let calls = calls.map(|(outcome, receipt)| {
        let error = match outcome {
            CallOutcome::Success { .. } => None,
            failed => {
                let error = failure(failed);
                let reverted = matches!(failed, CallOutcome::Revert { .. });
                Some(SimulateError {
                    code: if reverted {
                        error.code()
                    } else {
                        SimulateError::VM_EXECUTION_ERROR_CODE
                    },
                    message: error.message().to_owned(),
                    data: None,
                })
            }
        };
        SimCallResult {
            return_data: match outcome {
                CallOutcome::Success { output, .. } | CallOutcome::Revert { output, .. } => {
                    output.clone()
                }
                CallOutcome::Halt { .. } => Bytes::new(),
            },
            logs: logs.by_ref().take(receipt.logs().len()).collect(),
            gas_used: outcome.gas_used(),
            max_used_gas: None,
            status: error.is_none(),
            error,
        }
    });
    let calls = calls.collect();
    SimulatedBlock {
        inner: block(executed, full),
        calls,
    }
}

/// Receipts of a block, with the OP Stack's fee fields.
pub(super) fn receipts(
    spec: &ChainSpec,
    reader: &ChainReader,
    executed: &ExecutedBlock,
) -> Result<Vec<OpTransactionReceipt>> {
    let pay = |tx: &std::sync::Arc<Transaction>| !(spec.is_ethereum() || tx.is_deposit());
    let info = match executed.block.transactions.iter().any(pay) {
        true => Some(l1_info(spec, reader, &executed.block)?),
        false => None,
    };
    let rules = *spec.evm_env(&executed.block.header).spec_id();
    let mut all_logs = logs::of_block(executed, false);
    let mut before = 0;
    (0..executed.receipts.len())
        .map(|index| {
            let tx = &executed.block.transactions[index];
            let receipt = &executed.receipts[index];
            let logs = all_logs.by_ref().take(receipt.logs().len()).collect();
            let gas_used = receipt.cumulative_gas_used() - before;
            before = receipt.cumulative_gas_used();
            let mut receipt = self::receipt(executed, index, gas_used, logs);
            if let (Some(mut info), false) = (info.clone(), tx.is_deposit()) {
                receipt.l1_block_info = l1_fields(&mut info, &tx.encoded, rules);
                // Since Jovian the field has the share of the DA footprint, as the header's has
                // the sum.
                receipt.inner.blob_gas_used = receipt
                    .l1_block_info
                    .da_footprint_gas_scalar
                    .map(|scalar| footprint(&tx.encoded, scalar));
            }
            Ok(receipt)
        })
        .collect()
}

/// What the transactions of a block pay by for their data. On a chain without L1 attributes that is
/// in the state, an open block's in that before it.
fn l1_info(
    spec: &ChainSpec,
    reader: &ChainReader,
    block: &block::Block,
) -> Result<op_revm::L1BlockInfo> {
    if let Some(info) = fees::l1_info_of(block) {
        return Ok(info);
    }
    let open = block.hash().is_zero();
    let state = reader.state(block.number() - u64::from(open))?;
    fees::l1_info(spec, &block.header, &state)
}

/// The receipt of one transaction.
pub(super) fn receipt_of(
    spec: &ChainSpec,
    reader: &ChainReader,
    included: &Included,
) -> RpcResult<Option<OpTransactionReceipt>> {
    Ok(receipts(spec, reader, &included.block)?
        .into_iter()
        .nth(included.index))
}

fn l1_fields(
    info: &mut op_revm::L1BlockInfo,
    encoded: &[u8],
    rules: op_revm::OpSpecId,
) -> L1BlockInfo {
    let number = |value: U256| value.saturating_to::<u128>();
    let fee = info.calculate_tx_l1_cost(encoded, rules);
    let data_gas = number(info.data_gas(encoded, rules));
    // Where there is no operator fee, op-reth does not mention it.
    let operator = |value: Option<U256>| {
        let both = [info.operator_fee_scalar, info.operator_fee_constant];
        let any = both.iter().flatten().any(|value| !value.is_zero());
        value.filter(|_| any).map(number)
    };
    L1BlockInfo {
        l1_gas_price: Some(number(info.l1_base_fee)),
        l1_gas_used: Some(data_gas),
        l1_fee: Some(number(fee)),
        l1_fee_scalar: None,
        l1_base_fee_scalar: Some(number(info.l1_base_fee_scalar)),
        l1_blob_base_fee: info.l1_blob_base_fee.map(number),
        l1_blob_base_fee_scalar: info.l1_blob_base_fee_scalar.map(number),
        operator_fee_scalar: operator(info.operator_fee_scalar),
        operator_fee_constant: operator(info.operator_fee_constant),
        da_footprint_gas_scalar: info.da_footprint_gas_scalar,
    }
}

/// Gas by which a transaction fills the block's DA footprint (specs, "Jovian: Execution Engine").
fn footprint(encoded: &[u8], scalar: u16) -> u64 {
    // Millionths of a byte.
    let size = op_revm::estimate_tx_compressed_size(encoded) / 1_000_000;
    size.saturating_mul(scalar.into())
}

/// A receipt without what the layer 1 takes.
fn receipt(
    executed: &ExecutedBlock,
    index: usize,
    gas_used: u64,
    logs: Vec<Log>,
) -> OpTransactionReceipt {
    let block = &executed.block;
    let tx = &block.transactions[index];
    let envelope = tx.envelope();
    let stored = &executed.receipts[index];
    let base_fee = block.header.base_fee_per_gas;
    let inner = TransactionReceipt {
        inner: ReceiptWithBloom {
            receipt: with_logs(stored, logs),
            logs_bloom: *stored.logs_bloom(),
        },
        transaction_hash: tx.hash(),
        transaction_index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        gas_used,
        effective_gas_price: envelope.effective_gas_price(base_fee),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.sender(),
        to: envelope.to(),
        contract_address: created(tx, stored),
    };
    OpTransactionReceipt {
        inner,
        l1_block_info: L1BlockInfo::default(),
        op_gas_refund: None,
    }
}

/// The address a creation gave code to.
pub(crate) fn created(tx: &Transaction, receipt: &OpReceiptEnvelope) -> Option<Address> {
    if !tx.envelope().is_create() {
        return None;
    }
    // A deposit has no nonce of its own; the receipt records the account's.
    let nonce = match tx.envelope() {
        OpTxEnvelope::Deposit(_) => receipt.deposit_nonce()?,
        other => other.nonce(),
    };
    Some(tx.sender().create(nonce))
}

/// The receipt with logs that know their positions.
fn with_logs(stored: &OpReceiptEnvelope, logs: Vec<Log>) -> OpReceipt<Log> {
    let inner = alloy_consensus::Receipt {
        status: stored.status().into(),
        cumulative_gas_used: stored.cumulative_gas_used(),
        logs,
    };
    match stored {
        OpReceiptEnvelope::Legacy(_) => OpReceipt::Legacy(inner),
        OpReceiptEnvelope::Eip2930(_) => OpReceipt::Eip2930(inner),
        OpReceiptEnvelope::Eip1559(_) => OpReceipt::Eip1559(inner),
        OpReceiptEnvelope::Eip7702(_) => OpReceipt::Eip7702(inner),
        OpReceiptEnvelope::PostExec(_) => OpReceipt::PostExec(inner),
        OpReceiptEnvelope::Deposit(deposit) => {
            OpReceipt::Deposit(op_alloy_consensus::OpDepositReceipt {
                inner,
                deposit_nonce: deposit.receipt.deposit_nonce,
                deposit_receipt_version: deposit.receipt.deposit_receipt_version,
            })
        }
    }
}
