//! `debug_`: blocks as bytes, witnesses, traces.

use super::{
    Context, Shared,
    error::{RpcResult, server},
    methods::{answer, method},
};
use crate::{
    block::Block,
    call::Overrides,
    chain::included,
    error::{Error, Result},
    trace::trace_block,
};
use alloy_eips::{BlockId, BlockNumberOrTag, Encodable2718};
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::{
    GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace,
};
use jsonrpsee::{RpcModule, core::RegisterMethodError};
use serde_json::{Value, json};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "debug_getRawHeader", |cx, args| {
        let block = block(cx, args.next()?)?;
        Bytes::from(alloy_rlp::encode(block.header.inner()))
    });
    method!(module, "debug_getRawBlock", |cx, args| {
        block(cx, args.next()?)?.encode_rlp()
    });
    method!(module, "debug_getRawReceipts", |cx, args| {
        let number = block(cx, args.next()?)?.number();
        let receipts = cx.chain.reader()?.receipts(number)?.unwrap_or_default();
        let encoded = receipts.iter().map(|r| Bytes::from(r.encoded_2718()));
        encoded.collect::<Vec<_>>()
    });
    method!(module, "debug_getRawTransaction", |cx, args| {
        let found = cx.chain.included(args.next()?)?;
        found.map(|found| found.transaction().encoded.clone())
    });
    method!(module, "debug_executionWitness", |cx, args| {
        cx.chain.witness(args.next()?)?.witness
    });
    method!(module, "debug_traceTransaction", |cx, args| {
        let (hash, options): (B256, Option<GethDebugTracingOptions>) =
            (args.next()?, args.optional()?);
        let reader = cx.chain.reader()?;
        let found = included(&reader, hash)?.ok_or_else(|| server("transaction not found"))?;
        let block = &found.block.block;
        let traces = trace(cx, block, Some(found.index), &options.unwrap_or_default())?;
        traces.into_iter().next()
    });
    method!(module, "debug_traceBlockByNumber", |cx, args| {
        let tag: BlockNumberOrTag = args.next()?;
        let options = args.optional()?.unwrap_or_default();
        whole(cx, &block(cx, tag.into())?, &options)?
    });
    method!(module, "debug_traceBlockByHash", |cx, args| {
        let hash: B256 = args.next()?;
        let options = args.optional()?.unwrap_or_default();
        whole(cx, &block(cx, hash.into())?, &options)?
    });
    method!(module, "debug_traceCall", |cx, args| {
        let request: TransactionRequest = args.next()?;
        let id = args.optional()?.unwrap_or_default();
        let options: GethDebugTracingCallOptions = args.optional()?.unwrap_or_default();
        let overrides = Overrides {
            state: options.state_overrides,
            block: options.block_overrides.map(Box::new),
        };
        let tracing = options.tracing_options;
        cx.chain
            .with_context(id, |context| context.trace(request, overrides, tracing))?
    });
    Ok(())
}

fn block(cx: &Context, id: BlockId) -> Result<Block> {
    let reader = cx.chain.reader()?;
    let number = cx.chain.resolve(&reader, id)?;
    reader.block(number)?.ok_or_else(|| Error::Unknown {
        what: "block",
        id: number.to_string(),
    })
}

fn trace(
    cx: &Context,
    block: &Block,
    index: Option<usize>,
    options: &GethDebugTracingOptions,
) -> Result<Vec<GethTrace>> {
    let Some(parent) = block.number().checked_sub(1) else {
        return Err(Error::InvalidTransaction("genesis is not traceable".into()));
    };
    let state = cx.chain.reader()?.state(parent)?;
    trace_block(cx.chain.spec(), &state, block, index, options)
}

/// A whole block's traces, each with its transaction.
fn whole(cx: &Context, block: &Block, options: &GethDebugTracingOptions) -> RpcResult<Vec<Value>> {
    let traces = trace(cx, block, None, options)?;
    let pairs = block.transactions.iter().zip(traces);
    Ok(pairs
        .map(|(tx, result)| json!({ "txHash": tx.hash(), "result": result }))
        .collect())
}
