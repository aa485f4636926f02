//! The same engine under Ethereum's rules, and blocks that L1 decides.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_consensus::EMPTY_ROOT_HASH;
use alloy_eips::{BlockId, eip7685::EMPTY_REQUESTS_HASH};
use alloy_primitives::{Address, B64, B256, Bytes, Sealable, TxKind, U256, address, hex};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::GethDebugTracingOptions;
use common::*;
use openledger_rollup::{
    Chain, ChainConfig, ChainHandle, Error,
    call::{CallOutcome, Overrides},
    derived::Derived,
    engine::PayloadAttributes,
    genesis::{BASE_FEE_VAULT, SEQUENCER_FEE_VAULT},
    spec::ChainSpec,
    trace::trace_block,
    witness::BlockWitness,
};

fn ethereum() -> (Chain, ChainHandle) {
    let genesis = genesis();
    let mut config = ChainConfig::new(None, genesis.clone());
    config.spec = ChainSpec::ethereum(genesis.config.chain_id);
    config.sequencer = None;
    let chain = Chain::open(config).unwrap();
    let handle = chain.handle();
    (chain, handle)
}

#[test]
fn ethereum_burns_the_base_fee_and_has_its_own_header() {
    let (_chain, chain) = ethereum();
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    let before = chain.balance(from.address()).unwrap();
    chain.send_raw(transfer(&from, 0, to, 5)).unwrap();
    let block = chain.make_block().unwrap();
    let header = block.header.inner();
    assert_eq!(header.gas_used, 21_000);
    assert_eq!(header.withdrawals_root, Some(EMPTY_ROOT_HASH));
    assert_eq!(header.requests_hash, Some(EMPTY_REQUESTS_HASH));
    assert_eq!(
        (header.blob_gas_used, header.excess_blob_gas),
        (Some(0), Some(0))
    );
    assert!(header.extra_data.is_empty());

    let paid = before - chain.balance(from.address()).unwrap() - U256::from(5);
    let tip = chain.balance(header.beneficiary).unwrap();
    let burned = U256::from(header.base_fee_per_gas.unwrap()) * U256::from(21_000);
    assert_eq!(paid, tip + burned);
    assert_eq!(chain.balance(BASE_FEE_VAULT).unwrap(), U256::ZERO);
    assert_eq!(chain.balance(to).unwrap(), U256::from(5));

    // EIP-1559 with Ethereum's parameters: an empty block lowers the fee by an eighth.
    let next = chain.make_block().unwrap();
    let base_fee = |h: &alloy_consensus::Header| h.base_fee_per_gas.unwrap();
    let after = chain.make_block().unwrap();
    let expected = base_fee(&next.header) - base_fee(&next.header) / 8;
    assert_eq!(base_fee(&after.header), expected);
}

#[test]
fn ethereum_runs_contracts_and_refuses_deposits() {
    let (_chain, chain) = ethereum();
    let from = wallet(0);
    let hash = chain
        .send_raw(create(&from, 0, &deploying(&STORE_AND_LOG)))
        .unwrap();
    let contract = from.address().create(0);
    chain
        .send_raw(call(&from, 1, contract, &words(1, 7)))
        .unwrap();
    chain.make_block().unwrap();
    let found = chain.included(hash).unwrap().unwrap();
    assert!(found.receipt().status());
    assert_eq!(found.block.receipts[1].logs().len(), 1);

    let attributes = PayloadAttributes {
        transactions: vec![deposit(1)],
        ..attributes(&chain)
    };
    let head = chain.head().unwrap();
    let outcome = chain.derive(head.hash(), &attributes).unwrap();
    assert!(matches!(outcome, Derived::Invalid { .. }), "{outcome:?}");
    assert_eq!(chain.head().unwrap().hash(), head.hash());
}

/// A deposit that mints `wei` for a wallet that has nothing.
fn deposit(wei: u128) -> Bytes {
    use alloy_eips::Encodable2718;
    op_alloy_consensus::TxDeposit {
        source_hash: B256::repeat_byte(3),
        from: address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001"),
        to: TxKind::Call(Address::repeat_byte(0x33)),
        mint: wei,
        value: U256::from(wei),
        gas_limit: 100_000,
        is_system_transaction: false,
        input: Bytes::new(),
    }
    .seal_slow()
    .encoded_2718()
    .into()
}

fn attributes(chain: &ChainHandle) -> PayloadAttributes {
    let head = chain.head().unwrap();
    PayloadAttributes {
        timestamp: head.timestamp + 2,
        prev_randao: B256::repeat_byte(1),
        suggested_fee_recipient: SEQUENCER_FEE_VAULT,
        parent_beacon_block_root: Some(B256::repeat_byte(2)),
        transactions: Vec::new(),
        no_tx_pool: true,
        gas_limit: head.gas_limit,
        eip_1559_params: Some(B64::ZERO),
        min_base_fee: Some(0),
    }
}

#[test]
fn a_derived_block_is_built_once_and_then_agreed_with() {
    let (_chain, chain) = open(genesis());
    let genesis = chain.head().unwrap();
    let wanted = PayloadAttributes {
        transactions: vec![
            deposit(7),
            transfer(&wallet(0), 0, Address::repeat_byte(9), 5),
        ],
        ..attributes(&chain)
    };
    let Derived::Built { block, replaced: 0 } = chain.derive(genesis.hash(), &wanted).unwrap()
    else {
        panic!("it was not there");
    };
    assert_eq!(
        chain.balance(Address::repeat_byte(0x33)).unwrap(),
        U256::from(7)
    );
    assert_eq!(chain.labels().unwrap().safe, 1);
    let again = chain.derive(genesis.hash(), &wanted).unwrap();
    assert_eq!(again, Derived::Agreed(block.clone()));
    chain.finalize(block.hash()).unwrap();
    assert_eq!(chain.labels().unwrap().finalized, 1);
}

#[test]
fn what_l1_says_replaces_what_the_sequencer_said() {
    let (_chain, chain) = open(genesis());
    let genesis = chain.head().unwrap();
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    // Three blocks of the sequencer, with two transactions.
    chain.send_raw(transfer(&from, 0, to, 5)).unwrap();
    chain.make_block().unwrap();
    chain.send_raw(transfer(&from, 1, to, 6)).unwrap();
    chain.make_block().unwrap();
    chain.make_block().unwrap();
    // L1 has another first block, without them.
    let wanted = PayloadAttributes {
        timestamp: genesis.timestamp + 2,
        transactions: vec![deposit(7)],
        ..attributes(&chain)
    };
    let outcome = chain.derive(genesis.hash(), &wanted).unwrap();
    let Derived::Built { block, replaced: 3 } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(chain.head().unwrap().hash(), block.hash());
    assert_eq!(chain.balance(to).unwrap(), U256::ZERO);
    // The transactions are in the pool again and get into the next block.
    let next = chain.make_block().unwrap();
    assert_eq!(next.transactions.len(), 2);
    assert_eq!(chain.balance(to).unwrap(), U256::from(11));
}

#[test]
fn a_batch_with_an_invalid_transaction_makes_no_block() {
    let (_chain, chain) = open(genesis());
    let head = chain.head().unwrap();
    for bad in [
        transfer(&wallet(0), 5, Address::ZERO, 1), // a nonce too high
        Bytes::from_static(&[0x02, 0xc0]),         // no transaction at all
    ] {
        let wanted = PayloadAttributes {
            transactions: vec![deposit(1), bad],
            ..attributes(&chain)
        };
        let outcome = chain.derive(head.hash(), &wanted).unwrap();
        assert!(matches!(outcome, Derived::Invalid { .. }), "{outcome:?}");
        assert_eq!(chain.head().unwrap().hash(), head.hash());
    }
    let unknown = chain.derive(B256::repeat_byte(1), &attributes(&chain));
    assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
}

/// A signature of P-256 that is good (RIP-7212), for the precompile that Prague does not have.
const P256: [u8; 160] = hex!(
    "4cee90eb86eaa050036147a12d49004b6b9c72bd725d39d4785011fe190f0b4d"
    "a73bd4903f0ce3b639bbbf6e8e80d16931ff4bcf5993d58468e8fb19086e8cac"
    "36dbcd03009df8c59286b162af3bd7fcc0450c9aa81be5d10d312af6c66b1d60"
    "4aebd3099c618202fcfe16ae7770b0c49ab5eadf74b754204a3bb6060e44eff3"
    "7618b065f9832de4ca6ca971a7a1adc826d0f7c00181a5fb2ddf79ae00b4e10e"
);

#[test]
fn calls_and_traces_on_ethereum_run_by_its_own_rules() {
    let (_chain, ethereum) = ethereum();
    let (_chain, rollup) = open(genesis());
    let verify = |chain: &ChainHandle| {
        let request = TransactionRequest::default()
            .to(address!("0000000000000000000000000000000000000100"))
            .input(Bytes::from(P256).into());
        let latest = BlockId::latest();
        let outcome = chain.call(request.clone(), latest, Overrides::default());
        let CallOutcome::Success { output, .. } = outcome.unwrap() else {
            panic!("a call to an address without code succeeds");
        };
        let options: GethDebugTracingOptions =
            serde_json::from_value(serde_json::json!({ "tracer": "callTracer" })).unwrap();
        let trace = chain
            .with_context(latest, |c| c.trace(request, Overrides::default(), options))
            .unwrap();
        let traced = serde_json::to_value(trace).unwrap()["output"].clone();
        (output.len(), traced.is_null() || traced == "0x")
    };
    assert_eq!(verify(&ethereum), (0, true));
    assert_eq!(verify(&rollup), (32, false));

    // A transaction in a block: nobody but its sender, the receiver and the miner is touched.
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    let touched = |chain: &ChainHandle| {
        chain.send_raw(transfer(&from, 0, to, 5)).unwrap();
        let block = chain.make_block().unwrap();
        let options = serde_json::json!({
            "tracer": "prestateTracer", "tracerConfig": { "diffMode": true }
        });
        let options = serde_json::from_value(options).unwrap();
        let state = chain.state(BlockId::number(0)).unwrap();
        let traces = trace_block(chain.spec(), &state, &block, None, &options).unwrap();
        let trace = serde_json::to_value(&traces[0]).unwrap();
        let post = trace["post"].as_object().unwrap().clone();
        let vault = BASE_FEE_VAULT.to_string().to_lowercase();
        (post.len(), post.contains_key(&vault))
    };
    assert_eq!(touched(&ethereum), (3, false));
    assert!(touched(&rollup).1);

    let witness = ethereum.witness(BlockId::number(1)).unwrap();
    assert!(witness.ethereum);
    let json = serde_json::to_string(&witness).unwrap();
    let read: BlockWitness = serde_json::from_str(&json).unwrap();
    let (computed, claimed) = read.replay().unwrap();
    assert_eq!(computed, claimed);
    assert_eq!(claimed.hash(), ethereum.head().unwrap().hash());
}
