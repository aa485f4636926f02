//! `optimism_`: what a rollup node answers about a chain that is derived from L1 (specs,
//! "Rollup node", output method and sync status).

use super::{
    Context, Shared,
    error::{RpcResult, server},
    methods::{answer, method},
};
use crate::{
    block::{Block, output_root},
    error::Result,
};
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::B256;
use jsonrpsee::{RpcModule, core::RegisterMethodError, types::ErrorCode};
use serde_json::{Value, json};
use std::fmt;

/// What whoever derives the chain knows and the chain does not.
pub trait RollupStatus: fmt::Debug + Send + Sync {
    /// `rollup.json`.
    fn rollup_config(&self) -> Value;

    /// Heads of both layers, the fields of `optimism_syncStatus`.
    ///
    /// # Errors
    /// When the chain cannot be read.
    fn sync_status(&self) -> Result<Value>;

    /// A block's reference: `hash`, `number`, `parentHash`, `timestamp`, `l1origin`,
    /// `sequenceNumber`.
    ///
    /// # Errors
    /// When the block does not begin with L1 attributes.
    fn block_ref(&self, block: &Block) -> Result<Value>;
}

pub(super) fn register(
    module: &mut RpcModule<Context>,
) -> std::result::Result<(), RegisterMethodError> {
    method!(module, "optimism_version", |_cx, args| concat!(
        "openledger/",
        env!("CARGO_PKG_VERSION")
    ));
    method!(module, "optimism_rollupConfig", |cx, args| status(cx)?
        .rollup_config());
    method!(module, "optimism_syncStatus", |cx, args| status(cx)?
        .sync_status()?);
    method!(module, "optimism_outputAtBlock", |cx, args| output(
        cx,
        args.next()?
    )?);
    Ok(())
}

/// What is known of the L1.
fn status(cx: &Context) -> RpcResult<&dyn RollupStatus> {
    let status = cx.status.as_deref();
    // As if the method did not exist: without L1 there is nothing to tell.
    status.ok_or_else(|| ErrorCode::MethodNotFound.into())
}

fn output(cx: &Context, tag: BlockNumberOrTag) -> RpcResult<Value> {
    let status = status(cx)?;
    let reader = cx.chain.reader()?;
    let number = cx.chain.resolve(&reader, tag.into())?;
    let block = reader
        .block(number)?
        .ok_or_else(|| server("header not found"))?;
    let root = output_root(&block.header).ok_or_else(|| {
        server("the block is older than Isthmus: its output is not in the header")
    })?;
    Ok(json!({
        "version": B256::ZERO,
        "outputRoot": root,
        "blockRef": status.block_ref(&block)?,
        "withdrawalStorageRoot": block.header.withdrawals_root,
        "stateRoot": block.header.state_root,
        "syncStatus": status.sync_status()?,
    }))
}

/// A block's reference without its origin, for [`RollupStatus::block_ref`].
#[must_use]
pub fn reference(block: &Block) -> Value {
    let header = &block.header;
    json!({
        "hash": block.hash(),
        "number": header.number,
        "parentHash": header.parent_hash,
        "timestamp": header.timestamp,
    })
}
