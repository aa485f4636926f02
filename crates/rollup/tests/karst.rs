//! Karst, active from a block in the middle of the chain on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_eips::{BlockId, Encodable2718};
use alloy_primitives::{Address, B64, B256, Bytes, Sealable, TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;
use common::*;
use openledger_rollup::{
    Chain, ChainHandle, Error,
    call::CallOutcome,
    derived::Derived,
    engine::PayloadAttributes,
    genesis::{GenesisBlock, SEQUENCER_FEE_VAULT},
    pool::PoolError,
    rpc::LocalRpc,
    spec::ChainSpec,
};
use serde_json::{Value, json};

/// Blocks are a second apart here: this is the time of block 3.
const KARST: u64 = GENESIS_TIME + 3;

/// The cap of EIP-7825.
const CAP: u64 = 1 << 24;

/// Stores at slot 0 how many leading zeros 1 has (CLZ, EIP-7939).
const COUNT_ZEROS: [u8; 6] = [0x60, 0x01, 0x1e, 0x5f, 0x55, 0x00];

fn karst() -> (Chain, ChainHandle) {
    let mut genesis = genesis();
    let fields = &mut genesis.config.extra_fields;
    fields.insert("karstTime".into(), KARST.into());
    open(genesis)
}

/// A block with one transaction, and whether it succeeded.
fn include(chain: &ChainHandle, raw: Bytes) -> bool {
    let hash = chain.send_raw(raw).unwrap();
    chain.make_block().unwrap();
    chain.included(hash).unwrap().unwrap().receipt().status()
}

fn call(chain: &ChainHandle, block: u64, to: Address, input: Vec<u8>) -> CallOutcome {
    let request = TransactionRequest::default()
        .to(to)
        .input(Bytes::from(input).into());
    chain
        .call(request, BlockId::number(block), Default::default())
        .unwrap()
}

#[test]
fn osaka_begins_with_the_block_of_that_time() {
    let (_chain, chain) = karst();
    let from = wallet(0);
    let contract = from.address().create(0);
    assert!(include(&chain, create(&from, 0, &deploying(&COUNT_ZEROS))));
    let slot = |chain: &ChainHandle| {
        let state = chain.state(BlockId::latest()).unwrap();
        state.storage_at(contract, U256::ZERO).unwrap()
    };
    // Block 2: no such instruction.
    assert!(!include(&chain, common::call(&from, 1, contract, &[0])));
    assert_eq!(slot(&chain), U256::ZERO);
    // Block 3.
    assert!(include(&chain, common::call(&from, 2, contract, &[0])));
    assert_eq!(slot(&chain), U256::from(255));
    assert_eq!(chain.head().unwrap().timestamp, KARST);

    // Calls see the rules of their block, too.
    let halts = |block| {
        matches!(
            call(&chain, block, contract, vec![]),
            CallOutcome::Halt { .. }
        )
    };
    assert_eq!((halts(2), halts(3)), (true, false));

    // 301 pairs of points at infinity: fine for Jovian, one too many for Karst; 300 are fine.
    let pairing = Address::with_last_byte(8);
    let halts = |block, pairs: usize| {
        let outcome = call(&chain, block, pairing, vec![0; pairs * 192]);
        matches!(outcome, CallOutcome::Halt { .. })
    };
    assert_eq!((halts(2, 427), halts(2, 428)), (false, true));
    assert_eq!((halts(3, 300), halts(3, 301)), (false, true));

    // The cost of P256VERIFY doubles (EIP-7951).
    let gas = |block| {
        let verify = "0x0000000000000000000000000000000000000100"
            .parse()
            .unwrap();
        call(&chain, block, verify, vec![]).gas_used()
    };
    assert_eq!(gas(3) - gas(2), 3_450);

    for number in 2..=3 {
        let witness = chain.witness(BlockId::number(number)).unwrap();
        let (computed, claimed) = witness.replay().unwrap();
        assert_eq!(computed, claimed);
    }
    // Without the time, the block of Karst is another one.
    let mut witness = chain.witness(BlockId::number(3)).unwrap();
    witness.karst_time = None;
    let (computed, claimed) = witness.replay().unwrap();
    assert_ne!(computed, claimed);
}

#[test]
fn transactions_have_a_gas_cap_and_deposits_have_none() {
    let (_chain, chain) = karst();
    let from = wallet(0);
    let greedy = |nonce| {
        let mut tx = request(nonce, Address::repeat_byte(9).into(), 1, Bytes::new());
        tx.gas_limit = CAP + 1;
        tx
    };
    assert!(include(&chain, sign(&from, greedy(0))));
    // Known before Karst, but not included before: it never will be.
    chain.make_block().unwrap();
    let late = chain.send_raw(sign(&from, greedy(1))).unwrap();
    chain.make_block().unwrap();
    assert_eq!(chain.head().unwrap().timestamp, KARST);
    assert!(chain.included(late).unwrap().is_none());
    assert!(chain.pool().get(late).is_none());

    let refused = chain.send_raw(sign(&from, greedy(1))).unwrap_err();
    let have = CAP + 1;
    assert!(
        matches!(refused, Error::Pool(PoolError::GasCap { have: h, cap: CAP }) if h == have),
        "{refused}"
    );
    let deposit: Bytes = op_alloy_consensus::TxDeposit {
        source_hash: B256::repeat_byte(3),
        from: Address::repeat_byte(4),
        to: TxKind::Call(Address::repeat_byte(5)),
        mint: 7,
        value: U256::from(7),
        gas_limit: have,
        is_system_transaction: false,
        input: Bytes::new(),
    }
    .seal_slow()
    .encoded_2718()
    .into();
    let head = chain.head().unwrap();
    let attributes = |transactions| PayloadAttributes {
        timestamp: head.timestamp + 1,
        prev_randao: B256::repeat_byte(1),
        suggested_fee_recipient: SEQUENCER_FEE_VAULT,
        parent_beacon_block_root: Some(B256::repeat_byte(2)),
        transactions,
        no_tx_pool: true,
        gas_limit: head.gas_limit,
        eip_1559_params: Some(B64::ZERO),
        min_base_fee: Some(0),
    };
    let batch = attributes(vec![deposit.clone(), sign(&from, greedy(1))]);
    let outcome = chain.derive(head.hash(), &batch).unwrap();
    assert!(matches!(outcome, Derived::Invalid { .. }), "{outcome:?}");
    let outcome = chain
        .derive(head.hash(), &attributes(vec![deposit]))
        .unwrap();
    assert!(matches!(outcome, Derived::Built { .. }), "{outcome:?}");
    let balance = chain.balance(Address::repeat_byte(5)).unwrap();
    assert_eq!(balance, U256::from(7));

    // What is estimated is never above the cap, and a call may still take more.
    let endless = [0x5b, 0x5f, 0x56]; // JUMPDEST, PUSH0, JUMP
    let contract = from.address().create(1);
    assert!(include(&chain, create(&from, 1, &deploying(&endless))));
    let request = TransactionRequest::default()
        .to(contract)
        .from(from.address());
    let error = chain
        .with_context(BlockId::latest(), |context| {
            context.estimate_gas(request.clone(), Default::default())
        })
        .unwrap_err();
    assert!(error.to_string().ends_with("(16777216)"), "{error}");
    let outcome = chain.call(request, BlockId::latest(), Default::default());
    assert!(outcome.unwrap().gas_used() > CAP);
}

#[test]
fn the_rules_are_those_of_the_genesis_description() {
    let mut genesis = genesis();
    let none = ChainSpec::of_genesis(&genesis);
    assert_eq!(none.karst_time(), None);
    genesis
        .config
        .extra_fields
        .insert("karstTime".into(), 5.into());
    let spec = ChainSpec::of_genesis(&genesis);
    assert_eq!(spec.karst_time(), Some(5));
    assert_eq!(spec.transaction_gas_cap(4), None);
    assert_eq!(spec.transaction_gas_cap(5), Some(CAP));
    let error = GenesisBlock::new(&none, &genesis).unwrap_err();
    assert!(error.to_string().contains("karstTime"), "{error}");
    // The header does not depend on it.
    let with = GenesisBlock::new(&spec, &genesis).unwrap().header;
    genesis.config.extra_fields.clear();
    let without = GenesisBlock::new(&none, &genesis).unwrap().header;
    assert_eq!(with, without);
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(!0, byte)
}

#[test]
fn eth_config_tells_of_karst_before_and_after_it_begins() {
    let (_chain, chain) = karst();
    let rpc = LocalRpc::new(chain.clone()).unwrap();
    let config = || -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_config", "params": []});
        let answer = rpc.answer(&request.to_string()).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()["result"].clone()
    };
    let before = config();
    let (jovian, karst) = (&before["current"], &before["next"]);
    assert_eq!(karst, &before["last"]);
    assert_eq!(jovian["activationTime"], 0);
    assert_eq!(karst["activationTime"], KARST);
    assert_eq!(jovian["chainId"], format!("{CHAIN_ID:#x}"));
    // EIP-6122: the checksum of the genesis hash, and of the time after it.
    let genesis = chain.block(0).unwrap().unwrap().block.hash();
    let checksum = |bytes: &[u8]| format!("{:#010x}", crc32(bytes));
    assert_eq!(jovian["forkId"], checksum(genesis.as_slice()));
    let with_time = [genesis.as_slice(), &KARST.to_be_bytes()].concat();
    assert_eq!(karst["forkId"], checksum(&with_time));
    for fork in [jovian, karst] {
        let precompiles = &fork["precompiles"];
        assert_eq!(precompiles["ECREC"], json!(Address::with_last_byte(1)));
        let p256 = Address::from_word(U256::from(0x100).into());
        assert_eq!(precompiles["P256VERIFY"], json!(p256));
        assert_eq!(precompiles.as_object().unwrap().len(), 18);
        assert_eq!(fork["blobSchedule"]["max"], 0);
        let contracts = fork["systemContracts"].as_object().unwrap();
        let names: Vec<&String> = contracts.keys().collect();
        assert_eq!(names, ["BEACON_ROOTS_ADDRESS", "HISTORY_STORAGE_ADDRESS"]);
    }
    for _ in 0..3 {
        chain.make_block().unwrap();
    }
    let after = config();
    assert_eq!(&after["current"], karst);
    assert_eq!(
        (&after["next"], &after["last"]),
        (&Value::Null, &Value::Null)
    );
}
