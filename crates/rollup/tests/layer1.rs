//! The same engine under Ethereum's rules, and blocks that L1 decides.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_consensus::EMPTY_ROOT_HASH;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256, Bytes, Sealable, TxKind, U256, address};
use common::*;
use openledger_rollup::{
    Chain, ChainConfig, ChainHandle, Error,
    derived::Derived,
    engine::PayloadAttributes,
    genesis::{BASE_FEE_VAULT, SEQUENCER_FEE_VAULT},
    spec::ChainSpec,
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
