//! The JSON-RPC surface as raw JSON: what a wallet sends and what it gets back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use common::{node::Node, *};
use jsonrpsee::{
    core::client::{Subscription, SubscriptionClientT},
    rpc_params,
    ws_client::WsClientBuilder,
};
use op_alloy_consensus::{OpTxEnvelope, TxDeposit};
use openledger_rollup::{
    Chain, ChainConfig, Error, RpcConfig,
    engine::{ForkChoice, PayloadAttributes},
    serve,
};
use serde_json::{Value, json};
#[test]
fn identifies_itself() {
    let node = Node::start();
    assert_eq!(node.ok("eth_chainId", json!([])), "0x1092");
    assert_eq!(node.ok("net_version", json!([])), "4242");
    assert_eq!(node.ok("eth_syncing", json!([])), false);
    assert_eq!(node.ok("eth_accounts", json!([])), json!([]));
    assert_eq!(node.ok("net_listening", json!([])), true);
    assert!(
        node.ok("web3_clientVersion", json!([]))
            .as_str()
            .unwrap()
            .starts_with("openledger/")
    );
    assert_eq!(node.ok("web3_sha3", json!(["0x"])), json!(keccak256([])));
    // Parameters may be left out altogether.
    let answer = node.post(&json!({ "jsonrpc": "2.0", "id": "x", "method": "eth_chainId" }));
    assert_eq!(
        answer,
        json!({ "jsonrpc": "2.0", "id": "x", "result": "0x1092" })
    );
}

#[test]
fn answers_unknown_methods_bad_json_and_bad_parameters_with_their_codes() {
    let node = Node::start();
    for method in ["eth_mining", "debug_traceBadBlock", "eth_getWork", "x"] {
        assert_eq!(
            node.err(method, json!([])),
            (-32601, "Method not found".into())
        );
    }
    let code = |body: &str| {
        let answer: Value = serde_json::from_str(&node.http(body).1).unwrap();
        answer["error"]["code"].as_i64().unwrap()
    };
    assert_eq!(code("{"), -32700);
    assert_eq!(code("{\"jsonrpc\":\"2.0\",\"id\":1}"), -32600);
    assert_eq!(node.err("eth_getBalance", json!([])).0, -32602);
    assert_eq!(
        node.err("eth_getBalance", json!(["0x12", "latest"])).0,
        -32602
    );
    assert_eq!(
        node.err("eth_getBlockByNumber", json!(["yesterday", false]))
            .0,
        -32602
    );
    assert_eq!(node.err("eth_call", json!([{ "to": 5 }])).0, -32602);
}

#[test]
fn answers_batches_in_order_and_limits_them() {
    let node = Node::start();
    let call = |id: u64, method: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method });
    let answer = node.post(&json!([
        call(7, "eth_chainId"),
        call(8, "nope"),
        call(9, "net_version")
    ]));
    assert_eq!(answer[0]["result"], "0x1092");
    assert_eq!(answer[1]["error"]["code"], -32601);
    assert_eq!(
        (&answer[2]["id"], &answer[2]["result"]),
        (&json!(9), &json!("4242"))
    );
    let many: Vec<_> = (0..1_001).map(|i| call(i, "eth_chainId")).collect();
    assert!(node.post(&json!(many))["error"]["code"].as_i64().unwrap() < 0);
}

#[test]
fn lets_web_pages_call() {
    let node = Node::start();
    let (head, _) = node.http("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_chainId\"}");
    assert!(
        head.to_lowercase()
            .contains("access-control-allow-origin: *"),
        "{head}"
    );
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let node = Node::start();
    let error = node
        .runtime
        .block_on(serve(node.handle.clone(), node.addr, RpcConfig::default()))
        .unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
    assert!(
        error.to_string().contains(&node.addr.to_string()),
        "{error}"
    );
}

#[test]
fn a_transfer_from_sending_to_receipt() {
    let node = Node::start();
    let (from, to) = (wallet(0), Address::repeat_byte(0xaa));
    let raw = transfer(&from, 0, to, ETHER);
    let hash = node.send(&raw);
    assert_eq!(hash, json!(keccak256(&raw)));

    // In the pool: known, without a block; the pending nonce counts it.
    let pending = node.ok("eth_getTransactionByHash", json!([hash]));
    assert_eq!(
        (&pending["blockHash"], &pending["from"]),
        (&Value::Null, &json!(from.address()))
    );
    assert_eq!(
        node.ok("eth_getTransactionReceipt", json!([hash])),
        Value::Null
    );
    let count = |tag: &str| node.ok("eth_getTransactionCount", json!([from.address(), tag]));
    assert_eq!(
        (count("pending"), count("latest")),
        (json!("0x1"), json!("0x0"))
    );
    assert_eq!(
        node.ok("txpool_status", json!([])),
        json!({ "pending": "0x1", "queued": "0x0" })
    );

    let block = node.handle.make_block().unwrap();
    assert_eq!(node.ok("eth_blockNumber", json!([])), "0x1");
    assert_eq!(count("latest"), "0x1");
    assert_eq!(
        node.ok("eth_getBalance", json!([to, "latest"])),
        json!(U256::from(ETHER))
    );
    assert_eq!(node.ok("eth_getBalance", json!([to, "earliest"])), "0x0");
    assert_eq!(
        node.ok("eth_getBalance", json!([to, { "blockHash": block.hash() }])),
        json!(U256::from(ETHER))
    );

    let receipt = node.ok("eth_getTransactionReceipt", json!([hash]));
    for (field, value) in [
        ("status", json!("0x1")),
        ("type", json!("0x2")),
        ("blockNumber", json!("0x1")),
        ("blockHash", json!(block.hash())),
        ("transactionIndex", json!("0x0")),
        ("gasUsed", json!("0x5208")),
        ("cumulativeGasUsed", json!("0x5208")),
        ("contractAddress", Value::Null),
        ("logs", json!([])),
        ("l1Fee", json!("0x0")),
        ("l1GasPrice", json!("0x0")),
        ("l1BaseFeeScalar", json!("0x0")),
        ("operatorFeeScalar", Value::Null),
        ("from", json!(from.address())),
        ("to", json!(to)),
    ] {
        assert_eq!(receipt[field], value, "{field}");
    }
    let price = block.header.base_fee_per_gas.unwrap() + 1_000_000_000;
    assert_eq!(receipt["effectiveGasPrice"], format!("{price:#x}"));

    let full = node.ok("eth_getBlockByNumber", json!(["latest", true]));
    assert_eq!(full["transactions"][0]["hash"], hash);
    assert_eq!(full["transactions"][0]["blockNumber"], "0x1");
    assert_eq!(full["hash"], json!(block.hash()));
    assert_eq!(full["parentBeaconBlockRoot"], json!(B256::ZERO));
    assert_eq!(full["extraData"].as_str().unwrap().len(), 2 + 34);
    let hashes = node.ok("eth_getBlockByHash", json!([block.hash(), false]));
    assert_eq!(hashes["transactions"], json!([hash]));
    assert_eq!(hashes["size"], full["size"]);
    for tag in ["safe", "finalized"] {
        assert_eq!(
            node.ok("eth_getBlockByNumber", json!([tag, false]))["number"],
            "0x1"
        );
    }
    assert_eq!(
        node.ok("eth_getBlockReceipts", json!(["latest"])),
        json!([receipt])
    );
    assert_eq!(
        node.ok("eth_getBlockTransactionCountByNumber", json!(["0x1"])),
        "0x1"
    );
    assert_eq!(
        node.ok("eth_getRawTransactionByHash", json!([hash])),
        json!(raw)
    );
    let by_index = node.ok(
        "eth_getTransactionByBlockNumberAndIndex",
        json!(["0x1", "0x0"]),
    );
    assert_eq!(by_index, node.ok("eth_getTransactionByHash", json!([hash])));
    assert_eq!(
        node.ok(
            "eth_getTransactionByBlockNumberAndIndex",
            json!(["0x1", "0x1"])
        ),
        Value::Null
    );
    assert_eq!(
        node.ok("eth_getBlockByNumber", json!(["0x99", false])),
        Value::Null
    );
    assert_eq!(
        node.err("eth_getBalance", json!([to, "0x99"])).1,
        "header not found"
    );
}

#[test]
fn refuses_transactions_in_the_words_of_geth() {
    let node = Node::start();
    let (from, to) = (wallet(0), Address::repeat_byte(1));
    let refused = |raw: &Bytes| {
        let (code, message) = node.err("eth_sendRawTransaction", json!([raw]));
        assert_eq!(code, -32000, "{message}");
        message
    };
    let check = |raw: &Bytes, words: &str| {
        let message = refused(raw);
        assert!(message.contains(words), "{message:?} lacks {words:?}");
    };
    let base = request(0, to.into(), 1, Bytes::new());
    check(
        &sign(
            &from,
            alloy_consensus::TxEip1559 {
                chain_id: 1,
                ..base.clone()
            },
        ),
        "invalid chain id for signer",
    );
    check(
        &transfer(&from, 0, to, 2_000 * ETHER),
        "insufficient funds for gas * price + value",
    );
    check(
        &transfer(&wallet(99), 0, to, 1),
        "insufficient funds for gas * price + value",
    );
    check(
        &sign(
            &from,
            alloy_consensus::TxEip1559 {
                gas_limit: 20_999,
                ..base.clone()
            },
        ),
        "intrinsic gas too low",
    );
    check(
        &sign(
            &from,
            alloy_consensus::TxEip1559 {
                gas_limit: 60_000_001,
                ..base.clone()
            },
        ),
        "exceeds block gas limit",
    );
    check(
        &sign(
            &from,
            alloy_consensus::TxEip1559 {
                max_priority_fee_per_gas: 20_000_000_000,
                ..base
            },
        ),
        "max priority fee per gas higher than max fee per gas",
    );
    check(&Bytes::from_static(&[0x02, 0xc0]), "malformed transaction");
    check(
        &Bytes::from_static(&hex!("7ef83ca0")),
        "malformed transaction",
    );
    check(&Bytes::from(vec![0x02; 200_000]), "oversized data");

    let raw = transfer(&from, 0, to, 1);
    node.send(&raw);
    assert_eq!(refused(&raw), "already known");
    assert_eq!(
        refused(&transfer(&from, 0, to, 2)),
        "replacement transaction underpriced"
    );
    node.handle.make_block().unwrap();
    check(&transfer(&from, 0, to, 3), "nonce too low");
    // A trailing byte is not another spelling of the same transaction.
    let mut longer = transfer(&from, 1, to, 1).to_vec();
    longer.push(0);
    check(&longer.into(), "malformed transaction");
}

#[test]
fn calls_estimates_and_reverts() {
    let node = Node::start();
    let from = wallet(0);
    let created = node.include(&create(&from, 0, &deploying(&STORE_AND_LOG)));
    let contract: Address = serde_json::from_value(created["contractAddress"].clone()).unwrap();
    assert_eq!(contract, from.address().create(0));
    assert_eq!(
        node.ok("eth_getCode", json!([contract, "latest"])),
        json!(Bytes::from_static(&STORE_AND_LOG))
    );
    let receipt = node.include(&call(&from, 1, contract, &words(7, 42)));
    assert_eq!(
        receipt["logs"][0]["topics"],
        json!([B256::with_last_byte(7)])
    );
    let stored = node.ok("eth_getStorageAt", json!([contract, "0x7", "latest"]));
    assert_eq!(stored, json!(B256::with_last_byte(42)));
    assert_eq!(
        node.ok("eth_getStorageAt", json!([contract, "0x7", "0x1"])),
        json!(B256::ZERO)
    );

    // The estimate suffices, and a call far below it does not.
    let request =
        json!({ "from": from.address(), "to": contract, "data": Bytes::from(words(8, 1)) });
    let estimate = node.ok("eth_estimateGas", json!([request]));
    let gas = u64::from_str_radix(&estimate.as_str().unwrap()[2..], 16).unwrap();
    let mut tx = common::request(2, contract.into(), 0, words(8, 1).into());
    tx.gas_limit = gas;
    assert_eq!(node.include(&sign(&from, tx))["status"], "0x1");
    assert_eq!(
        node.ok(
            "eth_estimateGas",
            json!([{ "from": from.address(), "to": from.address(), "value": "0x1" }])
        ),
        "0x5208"
    );
    let list = node.ok("eth_createAccessList", json!([request]));
    assert_eq!(list["accessList"][0]["address"], json!(contract));
    assert_eq!(
        list["accessList"][0]["storageKeys"],
        json!([B256::with_last_byte(8)])
    );
    // Its gas is what a transaction with that list takes.
    let mut tx = common::request(3, contract.into(), 0, words(8, 1).into());
    tx.access_list = serde_json::from_value(list["accessList"].clone()).unwrap();
    let receipt = node.include(&sign(&from, tx));
    assert_eq!(receipt["gasUsed"], list["gasUsed"]);

    // A revert carries its reason, code 3 and the data.
    let failing = node.include(&create(&from, 4, &deploying(&reverting())));
    let answer = node.answer(
        "eth_call",
        json!([{ "to": failing["contractAddress"] }, "latest"]),
    );
    assert_eq!(answer["error"]["code"], 3);
    assert_eq!(answer["error"]["message"], "execution reverted: no");
    assert!(
        answer["error"]["data"]
            .as_str()
            .unwrap()
            .starts_with("0x08c379a0")
    );
    assert_eq!(
        node.err(
            "eth_estimateGas",
            json!([{ "to": failing["contractAddress"] }])
        )
        .0,
        3
    );

    // Overrides: other code at an address, for one call. PUSH1 5, PUSH0, MSTORE, return it.
    let code = "0x60055f5260205ff3";
    let answer = node.ok(
        "eth_call",
        json!([{ "to": contract }, "latest", { contract.to_string(): { "code": code } }]),
    );
    assert_eq!(answer, json!(B256::with_last_byte(5)));
    let poor = json!([{ "from": wallet(99).address(), "to": contract, "value": "0x1" }]);
    assert!(node.err("eth_call", poor).1.contains("insufficient funds"));
}

#[test]
fn finds_logs_by_address_topic_and_range() {
    let node = Node::start();
    let from = wallet(0);
    let created = node.include(&create(&from, 0, &deploying(&STORE_AND_LOG)));
    let contract: Address = serde_json::from_value(created["contractAddress"].clone()).unwrap();
    let filter_id = node.ok("eth_newFilter", json!([{ "address": contract }]));
    let blocks_id = node.ok("eth_newBlockFilter", json!([]));
    for nonce in 1..=4 {
        node.include(&call(&from, nonce, contract, &words(nonce % 2, nonce)));
    }
    let all = node.ok(
        "eth_getLogs",
        json!([{ "fromBlock": "earliest", "address": contract }]),
    );
    assert_eq!(all.as_array().unwrap().len(), 4);
    assert_eq!(all[0]["blockNumber"], "0x2");
    assert_eq!(all[0]["logIndex"], "0x0");
    assert_eq!(all[0]["removed"], false);
    let count = |filter: Value| {
        node.ok("eth_getLogs", json!([filter]))
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        count(json!({ "fromBlock": "0x0", "topics": [B256::with_last_byte(1)] })),
        2
    );
    assert_eq!(count(json!({ "fromBlock": "0x0", "toBlock": "0x3" })), 2);
    assert_eq!(
        count(json!({ "fromBlock": "0x0", "address": from.address() })),
        0
    );
    assert_eq!(count(json!({ "fromBlock": "0x99" })), 0);
    let hash = node.ok("eth_getBlockByNumber", json!(["0x5", false]))["hash"].clone();
    assert_eq!(count(json!({ "blockHash": hash })), 1);
    assert_eq!(
        node.err(
            "eth_getLogs",
            json!([{ "fromBlock": "0x4", "toBlock": "0x2" }])
        )
        .1,
        "invalid block range params"
    );

    let changes = |id: &Value| node.ok("eth_getFilterChanges", json!([id]));
    assert_eq!(changes(&filter_id).as_array().unwrap().len(), 4);
    assert_eq!(changes(&filter_id), json!([]));
    assert_eq!(changes(&blocks_id).as_array().unwrap().len(), 4);
    assert_eq!(node.ok("eth_uninstallFilter", json!([filter_id])), true);
    assert_eq!(
        node.err("eth_getFilterChanges", json!([filter_id])).1,
        "filter not found"
    );
}

#[test]
fn proofs_verify_at_the_head_and_before() {
    let node = Node::start();
    let from = wallet(0);
    let created = node.include(&create(&from, 0, &deploying(&STORE_AND_LOG)));
    let contract: Address = serde_json::from_value(created["contractAddress"].clone()).unwrap();
    for nonce in 1..=6 {
        node.include(&call(&from, nonce, contract, &words(nonce, nonce * 10)));
    }
    for (tag, slot, expected) in [
        ("latest", 3u64, 30u64),
        ("0x4", 3, 30),
        ("0x3", 3, 0),
        ("0x7", 6, 60),
    ] {
        let proof = node.ok("eth_getProof", json!([contract, [U256::from(slot)], tag]));
        let header = node.ok("eth_getBlockByNumber", json!([tag, false]));
        let root: B256 = serde_json::from_value(header["stateRoot"].clone()).unwrap();
        let field = |name: &str| proof[name].clone();
        let account = TrieAccount::new(
            1,
            serde_json::from_value(field("balance")).unwrap(),
            serde_json::from_value(field("storageHash")).unwrap(),
            serde_json::from_value(field("codeHash")).unwrap(),
        );
        let nodes: Vec<Bytes> = serde_json::from_value(field("accountProof")).unwrap();
        let key = Nibbles::unpack(keccak256(contract));
        verify_proof(root, key, Some(alloy_rlp::encode(account)), &nodes).unwrap();
        let storage = &proof["storageProof"][0];
        assert_eq!(storage["value"], json!(U256::from(expected)));
        let nodes: Vec<Bytes> = serde_json::from_value(storage["proof"].clone()).unwrap();
        let key = Nibbles::unpack(keccak256(B256::from(U256::from(slot))));
        let value = (expected > 0).then(|| alloy_rlp::encode(U256::from(expected)));
        verify_proof(account.storage_root, key, value, &nodes).unwrap();
    }
    let absent = node.ok(
        "eth_getProof",
        json!([Address::repeat_byte(9), [], "latest"]),
    );
    assert_eq!(
        (&absent["balance"], &absent["nonce"]),
        (&json!("0x0"), &json!("0x0"))
    );
}

#[test]
fn deposits_look_as_op_stack_wallets_expect() {
    let node = Node::start();
    let deposit = TxDeposit {
        source_hash: B256::repeat_byte(5),
        from: Address::repeat_byte(0xd0),
        to: Address::repeat_byte(0x77).into(),
        mint: 100,
        value: U256::from(60),
        gas_limit: 100_000,
        is_system_transaction: false,
        input: Bytes::new(),
    };
    let raw: Bytes = OpTxEnvelope::from(deposit).encoded_2718().into();
    assert!(
        node.err("eth_sendRawTransaction", json!([raw]))
            .1
            .contains("type not supported")
    );
    let head = node.handle.head().unwrap();
    let attributes = PayloadAttributes {
        timestamp: head.timestamp + 2,
        prev_randao: B256::ZERO,
        suggested_fee_recipient: Address::ZERO,
        parent_beacon_block_root: Some(B256::ZERO),
        transactions: vec![raw],
        no_tx_pool: true,
        gas_limit: head.gas_limit,
        eip_1559_params: Some(Default::default()),
        min_base_fee: Some(0),
    };
    let engine = node.handle.engine();
    let current = ForkChoice::head_only(head.hash());
    let id = engine
        .fork_choice_updated(current, Some(attributes))
        .unwrap()
        .payload
        .unwrap();
    let block = engine.get_payload(id).unwrap();
    engine
        .fork_choice_updated(ForkChoice::head_only(block.hash()), None)
        .unwrap();

    let full = node.ok("eth_getBlockByNumber", json!(["latest", true]));
    let tx = &full["transactions"][0];
    for (field, value) in [
        ("type", json!("0x7e")),
        ("sourceHash", json!(B256::repeat_byte(5))),
        ("mint", json!("0x64")),
        ("value", json!("0x3c")),
        ("from", json!(Address::repeat_byte(0xd0))),
        ("depositReceiptVersion", json!("0x1")),
        ("gasPrice", json!("0x0")),
    ] {
        assert_eq!(tx[field], value, "{field}: {tx}");
    }
    let receipt = node.ok("eth_getTransactionReceipt", json!([tx["hash"]]));
    for (field, value) in [
        ("type", json!("0x7e")),
        ("depositNonce", json!("0x0")),
        ("depositReceiptVersion", json!("0x1")),
        ("effectiveGasPrice", json!("0x0")),
        ("status", json!("0x1")),
        ("l1Fee", Value::Null),
    ] {
        assert_eq!(receipt[field], value, "{field}: {receipt}");
    }
}

#[test]
fn suggests_fees() {
    let node = Node::start();
    let from = wallet(0);
    node.include(&transfer(&from, 0, from.address(), 1));
    assert_eq!(node.ok("eth_maxPriorityFeePerGas", json!([])), "0xf4240");
    let next = node
        .handle
        .spec()
        .next_base_fee(&node.handle.head().unwrap())
        .unwrap();
    assert_eq!(
        node.ok("eth_gasPrice", json!([])),
        format!("{:#x}", next + 1_000_000)
    );
    let history = node.ok("eth_feeHistory", json!(["0x5", "latest", [50.0]]));
    assert_eq!(history["oldestBlock"], "0x0");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 3);
    assert_eq!(history["baseFeePerGas"][2], format!("{next:#x}"));
    assert_eq!(history["reward"], json!([["0x0"], ["0x3b9aca00"]]));
    assert!(
        node.err("eth_feeHistory", json!(["0x5", "latest", [50.0, 10.0]]))
            .1
            .contains("percentile")
    );
}

#[test]
fn sends_and_waits_for_the_receipt() {
    let node = Node::start();
    let mut events = node.handle.subscribe();
    let from = wallet(0);
    let raw = transfer(&from, 0, from.address(), 1);
    let waiting = std::thread::scope(|scope| {
        let sent = scope.spawn(|| node.ok("eth_sendRawTransactionSync", json!([raw, 10_000])));
        while node.handle.pool_status().pending == 0 {
            std::thread::yield_now();
        }
        node.handle.make_block().unwrap();
        sent.join().unwrap()
    });
    assert_eq!(waiting["blockNumber"], "0x1");
    assert!(events.try_recv().is_ok());
    let (code, message) = node.err(
        "eth_sendRawTransactionSync",
        json!([transfer(&from, 1, from.address(), 1), 1]),
    );
    assert_eq!(code, 4);
    assert!(message.contains("wasn't processed in 1ms"), "{message}");
}

#[test]
fn subscriptions_follow_heads_and_logs() {
    let node = Node::start();
    let from = wallet(0);
    let contract = from.address().create(0);
    node.runtime.block_on(async {
        let client = WsClientBuilder::default()
            .build(format!("ws://{}", node.addr))
            .await
            .unwrap();
        let subscribe =
            |params| client.subscribe::<Value, _>("eth_subscribe", params, "eth_unsubscribe");
        let mut heads: Subscription<Value> = subscribe(rpc_params!["newHeads"]).await.unwrap();
        let mut logs: Subscription<Value> =
            subscribe(rpc_params!["logs", json!({ "address": contract })])
                .await
                .unwrap();
        assert!(subscribe(rpc_params!["syncing"]).await.is_err());

        node.handle
            .send_raw(create(&from, 0, &deploying(&STORE_AND_LOG)))
            .unwrap();
        let first = node.handle.make_block().unwrap();
        node.handle
            .send_raw(call(&from, 1, contract, &words(1, 2)))
            .unwrap();
        node.handle.make_block().unwrap();
        let head = heads.next().await.unwrap().unwrap();
        assert_eq!(
            (&head["number"], &head["hash"]),
            (&json!("0x1"), &json!(first.hash()))
        );
        assert_eq!(heads.next().await.unwrap().unwrap()["number"], "0x2");
        let log = logs.next().await.unwrap().unwrap();
        assert_eq!(log["topics"], json!([B256::with_last_byte(1)]));
        heads.unsubscribe().await.unwrap();
    });
}

#[test]
fn a_stopped_server_lets_go_of_its_chain() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for _ in 0..20 {
        let mut config = ChainConfig::new(Some(dir.path().into()), genesis());
        config.sequencer = None;
        // A directory is open once: this fails while anything of the last turn holds the chain.
        let chain = Chain::open(config).unwrap();
        runtime.block_on(async {
            let any = ([127, 0, 0, 1], 0).into();
            let server = serve(chain.handle(), any, RpcConfig::default())
                .await
                .unwrap();
            let client = WsClientBuilder::default()
                .build(format!("ws://{}", server.addr()))
                .await
                .unwrap();
            let followed: Subscription<Value> = client
                .subscribe("eth_subscribe", rpc_params!["newHeads"], "eth_unsubscribe")
                .await
                .unwrap();
            server.stop().await;
            drop(followed);
        });
        chain.shutdown();
    }
}
