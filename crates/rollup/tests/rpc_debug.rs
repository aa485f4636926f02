//! `debug_`: blocks as bytes, witnesses, and what happens inside transactions.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use common::{node::Node, *};
use openledger_rollup::block::Block;
use serde_json::{Value, json};

#[test]
fn blocks_as_bytes_and_witnesses() {
    let node = Node::start();
    let receipt = node.include(&transfer(&wallet(0), 0, Address::repeat_byte(9), 1));
    let (number, hash) = (&receipt["blockNumber"], &receipt["transactionHash"]);
    let bytes = |method: &str, params: Value| -> Bytes {
        serde_json::from_value(node.ok(method, params)).unwrap()
    };
    let header = bytes("debug_getRawHeader", json!([number]));
    assert_eq!(json!(keccak256(&header)), receipt["blockHash"]);
    let block = bytes("debug_getRawBlock", json!([receipt["blockHash"]]));
    let read = Block::decode_rlp(&block).unwrap();
    assert_eq!(json!(read.hash()), receipt["blockHash"]);
    let raw = bytes("debug_getRawTransaction", json!([hash]));
    assert_eq!(raw, read.transactions[0].encoded);
    let receipts = node.ok("debug_getRawReceipts", json!([number]));
    assert_eq!(receipts.as_array().unwrap().len(), 1);
    let witness = node.ok("debug_executionWitness", json!([number]));
    for part in ["state", "codes", "keys", "headers"] {
        assert!(witness[part].is_array(), "{part}");
    }
    assert_eq!(witness["headers"].as_array().unwrap().len(), 1);
    assert_eq!(
        node.err("debug_getRawBlock", json!(["0xffff"])).1,
        "header not found"
    );
}

#[test]
fn what_happened_inside_a_transaction() {
    let node = Node::start();
    let from = wallet(0);
    let created = node.include(&create(&from, 0, &deploying(&STORE_AND_LOG)));
    let contract = &created["contractAddress"];
    let to: Address = serde_json::from_value(contract.clone()).unwrap();
    // Two in one block: the second is traced after the first.
    let first = node.send(&call(&from, 1, to, &words(7, 41)));
    let second = node.send(&call(&from, 2, to, &words(7, 42)));
    node.handle.make_block().unwrap();
    let receipt = node.ok("eth_getTransactionReceipt", json!([second]));

    let tracer = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } });
    let trace = node.ok("debug_traceTransaction", json!([second, tracer]));
    assert_eq!(trace["type"], "CALL");
    assert_eq!(trace["to"], *contract);
    assert_eq!(trace["gasUsed"], receipt["gasUsed"]);
    assert_eq!(trace["logs"][0]["topics"], receipt["logs"][0]["topics"]);

    let tracer = json!({ "tracer": "prestateTracer", "tracerConfig": { "diffMode": true } });
    let trace = node.ok("debug_traceTransaction", json!([second, tracer]));
    let contract = contract.as_str().unwrap();
    let slot = B256::with_last_byte(7).to_string();
    let value = |side: &str| trace[side][contract]["storage"][&slot].clone();
    assert_eq!(value("pre"), json!(B256::with_last_byte(41)));
    assert_eq!(value("post"), json!(B256::with_last_byte(42)));

    let steps = node.ok("debug_traceTransaction", json!([second]));
    assert_eq!(steps["failed"], false);
    let last = steps["structLogs"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(last["op"], "STOP");

    let block = json!([receipt["blockNumber"], { "tracer": "callTracer" }]);
    let whole = node.ok("debug_traceBlockByNumber", block);
    assert_eq!(whole[0]["txHash"], json!(first));
    assert_eq!(whole[1]["result"]["gasUsed"], receipt["gasUsed"]);
    let block = json!([receipt["blockHash"], { "tracer": "callTracer" }]);
    assert_eq!(node.ok("debug_traceBlockByHash", block), whole);

    let request =
        json!({ "from": from.address(), "to": contract, "data": Bytes::from(words(1, 2)) });
    let options = json!([request, "latest", { "tracer": "callTracer" }]);
    let trace = node.ok("debug_traceCall", options);
    assert_eq!(trace["to"], *contract);
    assert!(trace.get("error").is_none(), "{trace}");

    let unknown = json!([second, { "tracer": "() => {}" }]);
    let refused = node.err("debug_traceTransaction", unknown).1;
    assert!(refused.contains("callTracer"), "{refused}");
    let missing = node.err("debug_traceTransaction", json!([B256::repeat_byte(1)]));
    assert_eq!(missing.1, "transaction not found");
    let genesis = node.err("debug_traceBlockByNumber", json!(["0x0"]));
    assert_eq!(genesis.1, "genesis is not traceable");
}
