//! Blocks of a chain behind a JSON-RPC, taken out so that others can execute them.

use openledger_chain::{HttpNode, Node};
use openledger_primitives::Bytes;
use openledger_rollup::block::Block;
use openledger_rollup::engine::new_payload_request;
pub use openledger_rollup::witness::BlockWitness;
use openledger_rollup::witness::Witness;
use serde_json::{Value, json};

use crate::{Error, Result};

/// A block with everything that executing it again takes.
///
/// # Errors
/// When the node does not answer, has no such block, or does not serve `debug_`.
pub async fn block_witness(rpc: &str, number: u64) -> Result<BlockWitness> {
    let node = HttpNode::new(rpc)?;
    let (tag, chain_id) = (tag(number), node.chain_id().await?);
    let block: Bytes = ask(&node, "debug_getRawBlock", tag.clone()).await?;
    let witness: Witness = ask(&node, "debug_executionWitness", tag).await?;
    // A chain without a layer 1 has no such method, and no Karst that it could tell of. Should the
    // answer be missing for another reason, the block does not come out right when it is replayed.
    let rollup: Option<Value> = ask(&node, "optimism_rollupConfig", json!([])).await.ok();
    let karst_time = rollup.and_then(|config| config.get("karst_time")?.as_u64());
    Ok(BlockWitness {
        chain_id,
        karst_time,
        ethereum: false,
        block,
        witness,
    })
}

/// Number of the last block.
///
/// # Errors
/// When the node does not answer.
pub async fn last_block(rpc: &str) -> Result<u64> {
    Ok(HttpNode::new(rpc)?.head().await?.number)
}

/// The parameters that name a block.
fn tag(number: u64) -> Value {
    json!([format!("0x{number:x}")])
}

/// Block `number` as the `engine_newPayloadV4` request that hands it to another execution client.
///
/// # Errors
/// When the node does not answer, has no such block, or gives bytes that are none.
pub async fn engine_payload(rpc: &str, number: u64) -> Result<Value> {
    let node = HttpNode::new(rpc)?;
    let raw: Bytes = ask(&node, "debug_getRawBlock", tag(number)).await?;
    let block = Block::decode_rlp(&raw)?;
    Ok(new_payload_request(number, &block))
}

async fn ask<T: serde::de::DeserializeOwned>(
    node: &HttpNode,
    method: &'static str,
    params: Value,
) -> Result<T> {
    let value = node.request(method, params).await?;
    serde_json::from_value(value).map_err(|error| Error::Invalid {
        field: method.to_owned(),
        message: format!("the node's answer cannot be read: {error}"),
    })
}
