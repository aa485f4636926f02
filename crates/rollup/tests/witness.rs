//! A block's witness is enough, minimal and beyond doubt: what it leads to is the block's own hash,
//! every part of it is needed, and no part can be another.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_eips::BlockId;
use alloy_primitives::{Address, Bytes, TxKind};
use alloy_rlp::Decodable;
use common::*;
use openledger_rollup::{ChainHandle, Error, block::Block, witness::BlockWitness};
use proptest::prelude::*;

/// A few blocks: contracts made, slots written and cleared again, accounts touched for the first
/// time, a block hash read, failing calls, an empty block.
fn story(chain: &ChainHandle) -> u64 {
    let (from, other) = (wallet(0), wallet(1));
    let contract = from.address().create(0);
    // BLOCKHASH of NUMBER - 3, stored at slot 99.
    let looks_back = [0x60, 3, 0x43, 0x03, 0x40, 0x60, 99, 0x55, 0x00];
    let historian = from.address().create(1);
    let send = |bytes: Bytes| chain.send_raw(bytes).unwrap();
    let mut nonce = 0..;
    let mut next = || nonce.next().unwrap();
    send(create(&from, next(), &deploying(&STORE_AND_LOG)));
    send(create(&from, next(), &deploying(&looks_back)));
    chain.make_block().unwrap();
    for slot in 0..12 {
        send(call(&from, next(), contract, &words(slot, slot + 1)));
    }
    send(transfer(&other, 0, Address::repeat_byte(7), 5));
    chain.make_block().unwrap();
    chain.make_block().unwrap();
    // Clearing makes branches collapse, which needs the nodes beside the cleared ones.
    for slot in 1..12 {
        send(call(&from, next(), contract, &words(slot, 0)));
    }
    send(call(&from, next(), historian, &[]));
    chain.make_block().unwrap();
    let failing = sign(&other, request(1, TxKind::Create, 0, reverting().into()));
    send(failing);
    send(transfer(&other, 2, from.address(), 1));
    chain.make_block().unwrap();
    chain.head().unwrap().number
}

fn witness(chain: &ChainHandle, number: u64) -> BlockWitness {
    chain.witness(BlockId::number(number)).unwrap()
}

#[test]
fn every_block_comes_out_of_its_witness_alone() {
    let (_chain, chain) = open(genesis());
    let last = story(&chain);
    for number in 1..=last {
        // Also long after: the parent's tries are made by undoing what came since.
        let witness = witness(&chain, number);
        let json = serde_json::to_string(&witness).unwrap();
        let read: BlockWitness = serde_json::from_str(&json).unwrap();
        assert_eq!(read, witness);
        let (found, claimed) = read.replay().unwrap();
        assert_eq!(found, claimed);
        let stored = chain.block(number).unwrap().unwrap();
        assert_eq!(found.hash(), stored.block.hash());
    }
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        // Where the fuzz targets begin.
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
        let witness = witness(&chain, 4);
        std::fs::write(format!("{seeds}/block/cleared"), &witness.block).unwrap();
        let json = serde_json::to_string(&witness).unwrap();
        std::fs::write(format!("{seeds}/witness/cleared.json"), json).unwrap();
    }
    assert!(matches!(
        chain.witness(BlockId::number(0)),
        Err(Error::InvalidBlock(_))
    ));
    assert!(matches!(
        chain.witness(BlockId::number(last + 1)),
        Err(Error::Unknown { .. })
    ));
}

#[test]
fn every_preimage_is_needed() {
    let (_chain, chain) = open(genesis());
    for number in 1..=story(&chain) {
        let whole = witness(&chain, number);
        let fails = |change: &dyn Fn(&mut BlockWitness)| {
            let mut witness = whole.clone();
            change(&mut witness);
            assert!(witness.replay().is_err(), "block {number}");
        };
        for at in 0..whole.witness.state.len() {
            fails(&|w| drop(w.witness.state.remove(at)));
        }
        for at in 0..whole.witness.codes.len() {
            fails(&|w| drop(w.witness.codes.remove(at)));
        }
        for at in 0..whole.witness.headers.len() {
            fails(&|w| drop(w.witness.headers.remove(at)));
        }
    }
}

#[test]
fn a_false_block_comes_out_as_another() {
    let (_chain, chain) = open(genesis());
    story(&chain);
    let whole = witness(&chain, 2);
    let mut block = Block::decode_rlp(&whole.block).unwrap();
    block.transactions.pop();
    let mut lie = whole.clone();
    lie.block = block.encode_rlp();
    let (found, claimed) = lie.replay().unwrap();
    assert_ne!(found.hash(), claimed.hash());
    assert_ne!(found.state_root, claimed.state_root);

    let mut elsewhere = whole;
    elsewhere.chain_id += 1;
    assert!(elsewhere.replay().is_err(), "signed for another chain");
}

#[test]
fn raw_blocks_are_what_an_independent_decoder_reads() {
    let (_chain, chain) = open(genesis());
    for number in 0..=story(&chain) {
        let block = chain.block(number).unwrap().unwrap().block;
        let raw = block.encode_rlp();
        assert_eq!(raw.len(), block.rlp_size());
        assert_eq!(Block::decode_rlp(&raw).unwrap(), *block);
        type Other = alloy_consensus::Block<op_alloy_consensus::OpTxEnvelope>;
        let other = Other::decode(&mut raw.as_ref()).unwrap();
        assert_eq!(other.header, *block.header.inner());
        assert_eq!(other.body.transactions.len(), block.transactions.len());
        assert_eq!(alloy_rlp::encode(other), raw);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever bytes are changed or cut: an error or another block, never a panic and never the
    /// same block from other bytes.
    #[test]
    fn damaged_blocks_are_refused(at in 0.0..1.0_f64, byte in any::<u8>(), cut in any::<bool>()) {
        let (_chain, chain) = open(genesis());
        chain.send_raw(transfer(&wallet(0), 0, Address::repeat_byte(1), 1)).unwrap();
        let block = chain.make_block().unwrap();
        let mut raw = block.encode_rlp().to_vec();
        let at = (at * raw.len() as f64) as usize;
        if cut {
            raw.truncate(at);
        } else {
            prop_assume!(raw[at] != byte);
            raw[at] = byte;
        }
        if let Ok(read) = Block::decode_rlp(&raw) {
            prop_assert_ne!(&read, &*block);
            prop_assert_eq!(read.encode_rlp().to_vec(), raw);
        }
    }
}
