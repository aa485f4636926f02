//! The state of a block that is still open, and what the pool tells of its arrivals.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B64, B256, Bytes, U256};
use alloy_rpc_types_eth::TransactionRequest;
use common::{node::Node, *};
use jsonrpsee::{
    core::client::{Subscription, SubscriptionClientT},
    rpc_params,
    ws_client::WsClientBuilder,
};
use openledger_rollup::{
    AttributesSource, Chain, Clock, Error, SequencerConfig, block::Block, call::CallOutcome,
    engine::PayloadAttributes, genesis::SEQUENCER_FEE_VAULT,
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Blocks of ten seconds, as a layer 1 without deposits would have them.
#[derive(Debug)]
struct Slots;

impl AttributesSource for Slots {
    fn next(&self, head: &Block) -> Result<PayloadAttributes, Error> {
        Ok(PayloadAttributes {
            timestamp: head.header.timestamp + 10,
            prev_randao: B256::repeat_byte(7),
            suggested_fee_recipient: SEQUENCER_FEE_VAULT,
            parent_beacon_block_root: Some(B256::ZERO),
            transactions: Vec::new(),
            no_tx_pool: false,
            gas_limit: head.header.gas_limit,
            eip_1559_params: Some(B64::ZERO),
            min_base_fee: Some(0),
        })
    }
}

#[test]
fn calls_and_balances_see_what_has_run_of_the_open_block() {
    // Time passes when it is looked at, a millisecond each time; the block is open until `over`.
    let (looks, over) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let ends = Arc::clone(&over);
    let mut config = manual(None, genesis());
    config.clock = Clock::new(move || {
        let passed = match ends.load(Ordering::SeqCst) {
            true => 10_000,
            false => looks.fetch_add(1, Ordering::SeqCst).min(9_000),
        };
        Duration::from_secs(GENESIS_TIME) + Duration::from_millis(passed)
    });
    config.attributes = Some(Arc::new(Slots));
    config.sequencer = Some(SequencerConfig {
        block_time: 10,
        sub_block: 1,
        ..SequencerConfig::default()
    });
    let running = Chain::open(config).unwrap();
    let chain = running.handle();
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    let contract = from.address().create(1);
    let (latest, pending) = (BlockId::latest(), BlockId::pending());
    let balance = |id| chain.state(id).unwrap().balance(to).unwrap();
    assert_eq!(balance(pending), U256::ZERO);

    chain.send_raw(transfer(&from, 0, to, 5)).unwrap();
    chain
        .send_raw(create(&from, 1, &deploying(&STORE_AND_LOG)))
        .unwrap();
    chain
        .send_raw(common::call(&from, 2, contract, &words(3, 4)))
        .unwrap();
    while chain.pending().map_or(0, |block| block.receipts.len()) < 3 {
        std::thread::yield_now();
    }
    assert_eq!(chain.head().unwrap().number, 0);
    assert_eq!(
        (balance(latest), balance(pending)),
        (U256::ZERO, U256::from(5))
    );
    let state = chain.state(pending).unwrap();
    assert_eq!(
        state.storage_at(contract, U256::from(3)).unwrap(),
        U256::from(4)
    );
    assert_eq!(
        state.storage_at(contract, U256::from(4)).unwrap(),
        U256::ZERO
    );
    assert_eq!(state.code(contract).unwrap(), Bytes::from(STORE_AND_LOG));
    assert_eq!(state.nonce(from.address()).unwrap(), 3);
    assert_eq!(chain.pending_nonce(from.address()).unwrap(), 3);
    let fees = state.balance(SEQUENCER_FEE_VAULT).unwrap();
    assert!(!fees.is_zero());

    // A call runs in the open block, where the contract is.
    let request = TransactionRequest::default()
        .from(from.address())
        .to(contract)
        .input(Bytes::from(words(1, 2)).into());
    let logs = |id| match chain.call(request.clone(), id, Default::default()).unwrap() {
        CallOutcome::Success { logs, .. } => logs.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((logs(latest), logs(pending)), (0, 1));
    let open = chain
        .with_context(pending, |context| Ok(context.header.clone()))
        .unwrap();
    assert_eq!((open.number, open.timestamp), (1, GENESIS_TIME + 10));
    assert_eq!(open.mix_hash, B256::repeat_byte(7));

    // The block ends, and its state is what was told. An arrival wakes the sequencer, but is late.
    over.store(true, Ordering::SeqCst);
    chain.send_raw(transfer(&from, 3, to, 1)).unwrap();
    while chain.head().unwrap().number == 0 {
        std::thread::yield_now();
    }
    let state = chain.state(BlockId::number(1)).unwrap();
    assert_eq!(state.balance(to).unwrap(), U256::from(5));
    assert_eq!(state.balance(SEQUENCER_FEE_VAULT).unwrap(), fees);
    running.shutdown();
}

#[test]
fn arrivals_in_the_pool_are_told() {
    let node = Node::start();
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    let early = node.send(&transfer(&from, 0, to, 1));
    let filter = node.ok("eth_newPendingTransactionFilter", json!([]));
    let changes = || node.ok("eth_getFilterChanges", json!([filter]));
    assert_eq!(changes(), json!([]));
    let hashes: Vec<Value> = (1..4)
        .map(|nonce| node.send(&transfer(&from, nonce, to, 1)))
        .collect();
    assert!(!hashes.contains(&early));
    assert_eq!(changes(), json!(hashes));
    node.handle.make_block().unwrap();
    assert_eq!(changes(), json!([]));
    let (_, refused) = node.err("eth_getFilterLogs", json!([filter]));
    assert_eq!(refused, "filter not found");
    assert_eq!(node.ok("eth_uninstallFilter", json!([filter])), true);
    assert_eq!(
        node.err("eth_getFilterChanges", json!([filter])).1,
        "filter not found"
    );

    node.runtime.block_on(async {
        let client = WsClientBuilder::default()
            .build(format!("ws://{}", node.addr))
            .await
            .unwrap();
        let subscribe =
            |params| client.subscribe::<Value, _>("eth_subscribe", params, "eth_unsubscribe");
        let topic = "newPendingTransactions";
        let mut hashes: Subscription<Value> = subscribe(rpc_params![topic]).await.unwrap();
        let mut full: Subscription<Value> = subscribe(rpc_params![topic, true]).await.unwrap();
        let hash = node.handle.send_raw(transfer(&from, 4, to, 1)).unwrap();
        assert_eq!(hashes.next().await.unwrap().unwrap(), json!(hash));
        let transaction = full.next().await.unwrap().unwrap();
        assert_eq!(transaction["hash"], json!(hash));
        assert_eq!(transaction["from"], json!(from.address()));
        assert_eq!(transaction["blockHash"], Value::Null);
    });
}
