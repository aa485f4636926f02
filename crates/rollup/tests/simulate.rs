//! `eth_simulateV1`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount, root::state_root_unhashed};
use common::{node::Node, *};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn simulate(node: &Node, request: Value) -> Value {
    node.ok("eth_simulateV1", json!([request, "latest"]))
}

fn refused(node: &Node, request: Value) -> i64 {
    node.err("eth_simulateV1", json!([request])).0
}

fn calls(calls: Value) -> Value {
    json!({ "blockStateCalls": [{ "calls": calls }] })
}

#[test]
fn a_block_has_the_root_of_the_state_that_its_calls_leave() {
    let node = Node::start();
    let (from, to) = (wallet(0).address(), Address::repeat_byte(9));
    let call = json!({ "from": from, "to": to, "value": "0x5" });
    let blocks = simulate(&node, calls(json!([call, call])));
    let block = &blocks[0];
    let full = U256::from(1_000 * ETHER);
    let mut accounts: BTreeMap<Address, (u64, U256)> =
        (0..10).map(|n| (wallet(n).address(), (0, full))).collect();
    accounts.insert(from, (2, full - U256::from(10)));
    accounts.insert(to, (0, U256::from(10)));
    let root = state_root_unhashed(accounts.into_iter().map(|(address, (nonce, balance))| {
        let account = TrieAccount {
            nonce,
            balance,
            storage_root: EMPTY_ROOT_HASH,
            code_hash: KECCAK256_EMPTY,
        };
        (address, account)
    }));
    assert_eq!(block["stateRoot"], json!(root));
    let genesis = node.handle.head().unwrap();
    assert_eq!(block["parentHash"], json!(genesis.hash()));
    assert_eq!(block["number"], "0x1");
    assert_eq!(block["baseFeePerGas"], "0x0");
    assert_eq!(block["gasUsed"], "0xa410");
    assert_eq!(
        block["timestamp"],
        json!(format!("{:#x}", GENESIS_TIME + 12))
    );
    let hashes = block["transactions"].as_array().unwrap();
    assert_eq!(hashes.len(), 2);
    assert_ne!(hashes[0], hashes[1], "the nonces differ");
    for call in block["calls"].as_array().unwrap() {
        assert_eq!(
            (&call["status"], &call["gasUsed"]),
            (&json!("0x1"), &json!("0x5208"))
        );
        assert_eq!(call["logs"], json!([]));
    }
    // Nothing happened.
    assert_eq!(node.handle.head().unwrap(), genesis);
    assert_eq!(node.handle.balance(to).unwrap(), U256::ZERO);
}

#[test]
fn blocks_stand_on_each_other() {
    let node = Node::start();
    let poor = Address::repeat_byte(0x77);
    let from = wallet(1);
    let created = node.include(&create(&from, 0, &deploying(&STORE_AND_LOG)));
    let contract = &created["contractAddress"];
    let store = json!({ "from": poor, "to": contract, "input": Bytes::from(words(3, 4)) });
    let answer = simulate(
        &node,
        json!({
            "returnFullTransactions": true,
            "traceTransfers": true,
            "blockStateCalls": [
                {
                    "stateOverrides": { poor.to_string(): { "balance": "0x64" } },
                    "calls": [store, { "from": poor, "to": from.address(), "value": "0x63" }],
                },
                {
                    "blockOverrides": {
                        "number": "0x4",
                        "time": "0x77777777",
                        "feeRecipient": poor,
                        "baseFeePerGas": "0x9",
                    },
                    "calls": [{ "from": poor, "to": from.address(), "value": "0x1" }],
                },
            ],
        }),
    );
    // Block 1 is made; 2 is the first here, 3 fills the gap.
    let blocks = answer.as_array().unwrap();
    assert_eq!(blocks.len(), 3);
    for (number, pair) in (2..).zip(blocks.windows(2)) {
        assert_eq!(pair[0]["number"], json!(format!("{number:#x}")));
        assert_eq!(pair[1]["parentHash"], pair[0]["hash"]);
    }
    let transaction = &blocks[0]["transactions"][0];
    assert_eq!(transaction["from"], json!(poor));
    assert_eq!(transaction["blockHash"], blocks[0]["hash"]);
    let first = &blocks[0]["calls"];
    let log = &first[0]["logs"][0];
    assert_eq!(log["address"], *contract);
    assert_eq!(log["topics"][0], json!(B256::with_last_byte(3)));
    assert_eq!(log["blockHash"], blocks[0]["hash"]);
    assert_eq!(log["transactionHash"], transaction["hash"]);
    // A transfer of the coin, as if it were a token.
    let log = &first[1]["logs"][0];
    assert_eq!(log["address"], "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
    let transfer = keccak256("Transfer(address,address,uint256)");
    assert_eq!(log["topics"][0], json!(transfer));
    assert_eq!(log["topics"][1], json!(poor.into_word()));
    assert_eq!(log["data"], json!(B256::from(U256::from(0x63))));
    let last = &blocks[2];
    assert_eq!(
        (&last["timestamp"], &last["miner"]),
        (&json!("0x77777777"), &json!(poor))
    );
    assert_eq!(last["baseFeePerGas"], "0x9");
    assert_eq!(last["calls"][0]["status"], "0x1");
    assert_eq!(blocks[1]["transactions"], json!([]));
    assert_eq!(blocks[1]["stateRoot"], blocks[0]["stateRoot"]);
    assert_ne!(blocks[2]["stateRoot"], blocks[0]["stateRoot"]);
}

#[test]
fn a_call_that_fails_is_a_result() {
    let node = Node::start();
    let from = wallet(0).address();
    let code = |code: &[u8]| json!({ "code": Bytes::copy_from_slice(code) });
    let (reverts, loops) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let answer = simulate(
        &node,
        json!({ "blockStateCalls": [{
            "stateOverrides": {
                reverts.to_string(): code(&reverting()),
                loops.to_string(): code(&[0x5b, 0x5f, 0x56]),
            },
            "calls": [
                { "from": from, "to": reverts },
                { "from": from, "to": loops, "gas": "0xffff" },
                { "from": from, "to": from },
            ],
        }] }),
    );
    let calls = &answer[0]["calls"];
    let statuses = [
        &calls[0]["status"],
        &calls[1]["status"],
        &calls[2]["status"],
    ];
    assert_eq!(statuses, [&json!("0x0"), &json!("0x0"), &json!("0x1")]);
    assert_eq!(calls[0]["error"]["code"], 3);
    assert_eq!(calls[0]["error"]["message"], "execution reverted: no");
    assert!(calls[0]["returnData"].as_str().unwrap().len() > 2);
    assert_eq!(calls[1]["error"]["code"], -32_015);
    assert_eq!(calls[1]["gasUsed"], "0xffff");
}

#[test]
fn with_validation_a_call_is_held_to_what_a_transaction_is() {
    let node = Node::start();
    let (from, poor) = (wallet(0).address(), Address::repeat_byte(0x77));
    let validated = |call: Value| {
        let mut request = calls(json!([call]));
        request["validation"] = true.into();
        request
    };
    let fee = "0x77359400"; // two gwei
    let good = json!({ "from": from, "to": poor, "value": "0x1", "maxFeePerGas": fee });
    let block = &simulate(&node, validated(good.clone()))[0];
    assert_eq!(block["calls"][0]["status"], "0x1");
    let base_fee = node
        .handle
        .spec()
        .next_base_fee(&node.handle.head().unwrap());
    let base_fee = base_fee.unwrap();
    assert_eq!(block["baseFeePerGas"], json!(format!("{base_fee:#x}")));
    let with = |key: &str, value: Value| {
        let mut call = good.clone();
        call[key] = value;
        refused(&node, validated(call))
    };
    assert_eq!(with("nonce", "0x9".into()), -38_011);
    assert_eq!(with("maxFeePerGas", "0x1".into()), -38_012);
    assert_eq!(with("gas", "0x1".into()), -38_013);
    assert_eq!(with("from", json!(poor)), -38_014);
    assert_eq!(with("gas", "0x7777777777".into()), -38_015);
    // None of which matters without.
    let free = json!({ "from": from, "to": poor, "nonce": "0x9" });
    assert_eq!(
        simulate(&node, calls(json!([free])))[0]["calls"][0]["status"],
        "0x1"
    );
}

#[test]
fn requests_have_an_order_and_bounds() {
    let node = Node::start();
    let block = |overrides: Value| json!({ "blockOverrides": overrides });
    let blocks = |list: Vec<Value>| refused(&node, json!({ "blockStateCalls": list }));
    assert_eq!(blocks(vec![]), -32_602);
    let three = block(json!({ "number": "0x3" }));
    assert_eq!(blocks(vec![three.clone(), three]), -38_020);
    assert_eq!(blocks(vec![block(json!({ "number": "0x0" }))]), -38_020);
    assert_eq!(blocks(vec![block(json!({ "time": "0x5" }))]), -38_021);
    assert_eq!(blocks(vec![block(json!({ "number": "0x102" }))]), -38_026);
    let many = vec![json!({}); 1_001];
    assert_eq!(refused(&node, calls(json!(many))), -38_026);
    let moved = json!({ "stateOverrides": {
        Address::with_last_byte(1).to_string(): { "movePrecompileToAddress": Address::ZERO },
    } });
    assert_eq!(blocks(vec![moved]), -32_602);
    let blob = json!({ "blobVersionedHashes": [B256::ZERO], "maxFeePerBlobGas": "0x1", "to": Address::ZERO });
    assert_eq!(refused(&node, calls(json!([blob]))), -32_602);
    assert_eq!(
        node.err("eth_simulateV1", json!([calls(json!([])), "0x9"]))
            .1,
        "header not found"
    );
}
