//! JSON-RPC: a line with the name of a method, and its parameters as JSON.
#![no_main]

use std::sync::LazyLock;

use alloy_genesis::Genesis;
use libfuzzer_sys::fuzz_target;
use openledger_rollup::rpc::LocalRpc;
use openledger_rollup::{Chain, ChainConfig};
use serde_json::{Value, json};

struct Node {
    rpc: LocalRpc,
    _chain: Chain,
}

/// A chain of three blocks.
static NODE: LazyLock<Node> = LazyLock::new(|| {
    let genesis = std::fs::read("fuzz/genesis.json");
    let genesis: Genesis = match genesis.map(|json| serde_json::from_slice(&json)) {
        Ok(Ok(genesis)) => genesis,
        other => panic!("fuzz/genesis.json: {other:?}"),
    };
    let mut config = ChainConfig::new(None, genesis);
    config.sequencer = None;
    let started = Chain::open(config).and_then(|chain| {
        for _ in 0..3 {
            chain.handle().make_block()?;
        }
        let rpc = LocalRpc::new(chain.handle())?;
        Ok((chain, rpc))
    });
    match started {
        Ok((chain, rpc)) => Node { rpc, _chain: chain },
        Err(error) => panic!("{error}"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some((method, params)) = text.split_once('\n') else {
        return;
    };
    // It waits for a block, by design.
    if method == "eth_sendRawTransactionSync" {
        return;
    }
    let Ok(params) = serde_json::from_str::<Value>(params) else {
        return;
    };
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let Ok(answer) = NODE.rpc.answer(&request.to_string()) else {
        // Parameters that are no list and no object.
        return;
    };
    let answer: Value = match serde_json::from_str(&answer) {
        Ok(answer) => answer,
        Err(error) => panic!("{error}: {answer}"),
    };
    let result = answer.get("result").is_some();
    assert_ne!(result, answer.get("error").is_some(), "{answer}");
});
