//! Fee suggestions: `eth_gasPrice`, `eth_maxPriorityFeePerGas`, `eth_feeHistory`.

use super::{
    Context, Shared,
    error::{RpcResult, invalid_params, server},
    methods::{answer, method},
};
use crate::{block::ExecutedBlock, chain::ChainHandle, error::Result};
use alloy_consensus::Transaction as _;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{U64, U256};
use alloy_rpc_types_eth::FeeHistory;
use jsonrpsee::{RpcModule, core::RegisterMethodError};

/// Tip suggested while blocks have room, wei per gas: op-geth's minimum suggestion.
const MIN_TIP: u128 = 1_000_000;
/// Blocks in a fee history.
const MAX_HISTORY: u64 = 1_024;

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_maxPriorityFeePerGas", |cx, args| U256::from(
        tip(&cx.chain)?
    ));
    method!(module, "eth_gasPrice", |cx, args| {
        let head = cx.chain.head()?;
        U256::from(u128::from(cx.chain.spec().next_base_fee(&head)?) + tip(&cx.chain)?)
    });
    method!(module, "eth_feeHistory", |cx, args| {
        // The count comes as a quantity or, from older clients, as a number.
        let count: U64 = args.next()?;
        let newest: BlockNumberOrTag = args.next()?;
        let percentiles: Vec<f64> = args.optional()?.unwrap_or_default();
        history(&cx.chain, count.to::<u64>(), newest, &percentiles)?
    });
    Ok(())
}

/// Effective tips of a block's transactions with their gas, cheapest first. A deposit pays none.
fn tips(block: &ExecutedBlock) -> Vec<(u128, u64)> {
    let base_fee = block.block.header.base_fee_per_gas.unwrap_or_default();
    let mut before = 0;
    let mut tips = Vec::new();
    for (tx, receipt) in block.block.transactions.iter().zip(&block.receipts) {
        let gas = receipt.cumulative_gas_used() - before;
        before = receipt.cumulative_gas_used();
        let tip = if tx.is_deposit() {
            0
        } else {
            let tip = tx.envelope().effective_tip_per_gas(base_fee);
            tip.unwrap_or_default()
        };
        tips.push((tip, gas));
    }
    tips.sort_unstable();
    tips
}

/// As op-geth suggests: the minimum while the last block had room, otherwise 10 % above its median.
fn tip(chain: &ChainHandle) -> Result<u128> {
    let floor = MIN_TIP.max(chain.pool().config().min_priority_fee);
    let head = chain.head()?;
    if head.gas_used.saturating_mul(10) < head.gas_limit.saturating_mul(9) {
        return Ok(floor);
    }
    let Some(block) = chain.block(head.number)? else {
        return Ok(floor);
    };
    let mut tips = tips(&block);
    let deposits = block.block.transactions.iter().filter(|tx| tx.is_deposit());
    // They are not among those that bid.
    tips.drain(..deposits.count().min(tips.len()));
    let median = tips.get(tips.len() / 2).map_or(0, |(tip, _)| *tip);
    Ok(floor.max(median.saturating_add(median / 10)))
}

#[allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the specification wants ratios as JSON numbers; they decide nothing here"
)]
fn history(
    chain: &ChainHandle,
    count: u64,
    newest: BlockNumberOrTag,
    percentiles: &[f64],
) -> RpcResult<FeeHistory> {
    let ordered = percentiles.windows(2).all(|w| w[0] <= w[1]);
    if percentiles.len() > 100 || !ordered || percentiles.iter().any(|p| !(0.0..=100.0).contains(p))
    {
        return Err(server("invalid reward percentile"));
    }
    let reader = chain.reader()?;
    let newest = chain.resolve(&reader, newest.into())?;
    let count = count.min(MAX_HISTORY).min(newest + 1);
    if count == 0 {
        return Err(invalid_params("block count must be positive"));
    }
    let oldest = newest + 1 - count;
    let mut history = FeeHistory {
        oldest_block: oldest,
        ..Default::default()
    };
    let mut rewards = Vec::new();
    let mut last = None;
    for number in oldest..=newest {
        let header = reader
            .header(number)?
            .ok_or_else(|| server("header not found"))?;
        history
            .base_fee_per_gas
            .push(header.base_fee_per_gas.unwrap_or_default().into());
        history
            .gas_used_ratio
            .push(header.gas_used as f64 / header.gas_limit.max(1) as f64);
        // There are no blobs; the header field holds the DA footprint, which is not a blob's.
        history.base_fee_per_blob_gas.push(1);
        history.blob_gas_used_ratio.push(0.0);
        if !percentiles.is_empty() {
            let block = reader
                .executed(number)?
                .ok_or_else(|| server("header not found"))?;
            rewards.push(reward(&tips(&block), header.gas_used, percentiles));
        }
        last = Some(header);
    }
    if let Some(last) = last {
        history
            .base_fee_per_gas
            .push(chain.spec().next_base_fee(&last)?.into());
        history.base_fee_per_blob_gas.push(1);
    }
    history.reward = (!percentiles.is_empty()).then_some(rewards);
    Ok(history)
}

/// The tips below which each percentile of the block's gas paid.
#[allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "percentiles come as JSON numbers; they decide nothing here"
)]
fn reward(tips: &[(u128, u64)], gas_used: u64, percentiles: &[f64]) -> Vec<u128> {
    percentiles
        .iter()
        .map(|percentile| {
            let threshold = gas_used as f64 * percentile / 100.0;
            let mut sum = 0u64;
            for (tip, gas) in tips {
                sum += gas;
                if sum as f64 >= threshold {
                    return *tip;
                }
            }
            tips.last().map_or(0, |(tip, _)| *tip)
        })
        .collect()
}
