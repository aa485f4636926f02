//! Derivation from preimages alone comes to the same blocks, and needs every one of them.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "a source is shared as an Arc, and here by one thread alone"
)]

mod common;

use alloy_primitives::{Address, B256, Bytes, address, keccak256};
use alloy_trie::root::ordered_trie_root_with_encoder;
use common::{MemL2, Setup, World, deposit_log, opaque};
use openledger_derivation::{
    Challenging, ChannelLimits, Commitments, Pipeline, Step, inbox_commitment, inbox_frames,
    oracle::{Preimages as _, Recorder, Witnessed, list_nodes},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

const LIMITS: ChannelLimits = ChannelLimits {
    max_frame_bytes: 1500,
    target_bytes: 3_000,
    max_blocks: 1000,
    quality: 5,
};
const CONTRACT: Address = address!("0x00000000000000000000000000000000000dac00");

/// Blocks with deposits, in channels behind hashes.
fn world() -> World {
    let mut world = World::new(Setup {
        alt_da: Commitments::Keccak(Challenging {
            contract: CONTRACT,
            challenge_window: 4,
            resolve_window: 3,
        }),
        ..Setup::default()
    });
    for n in 0..8u8 {
        let deposit = deposit_log(
            Address::repeat_byte(n),
            Address::repeat_byte(7),
            &opaque(5, 3, 50_000, false, &[n]),
        );
        let data = inbox_frames(&world.channel(LIMITS).frames);
        let commitment = [&[0], keccak256(&data).as_slice()].concat();
        world.da.set(&commitment, Ok(data));
        let tx = world.inbox(inbox_commitment(&commitment));
        world.l1.push(vec![tx; 3], &[vec![deposit], Vec::new()]);
        world.sequence_slot(3);
    }
    world
}

type Known = BTreeMap<B256, Bytes>;

/// Derives all there is from preimages, on top of the blocks of `l2`, which are read by preimages, too.
fn derive(world: &World, known: &Known, head: B256, l2: &MemL2) -> Result<(), String> {
    let layer1 = Witnessed::new(known.clone(), head);
    let data = Witnessed::new(known.clone(), B256::ZERO);
    let layer2 = Witnessed::new(known.clone(), l2.head().hash);
    let mut pipeline = Pipeline::new(world.config.clone(), layer1, data, layer2);
    loop {
        match pipeline.step(&l2.head()) {
            Ok(Step::Attributes(attributes)) => {
                l2.execute(&attributes);
            }
            Ok(Step::Advanced(_)) => {}
            Ok(Step::Idle) => return Ok(()),
            Ok(Step::Reset { reason, .. }) => return Err(reason.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[test]
fn every_preimage_is_needed_and_they_are_enough() {
    let world = world();
    let l2 = MemL2::new(world.config.clone());
    let (l1, da) = (
        Arc::new(Recorder::new(Arc::clone(&world.l1))),
        Arc::new(Recorder::new(Arc::clone(&world.da))),
    );
    let sources = (Arc::clone(&l1), Arc::clone(&da), Arc::clone(&l2));
    let mut pipeline = Pipeline::new(world.config.clone(), sources.0, sources.1, sources.2);
    loop {
        match pipeline.step(&l2.head()).expect("no source fails") {
            Step::Attributes(attributes) => {
                l2.execute(&attributes);
            }
            Step::Advanced(_) => {}
            Step::Idle => break,
            step @ Step::Reset { .. } => panic!("{step:?}"),
        }
    }
    assert!(l2.head().number > 30, "{}", l2.head().number);
    let mut known = l1.preimages();
    known.extend(da.preimages());
    let genesis = &world.l2.blocks()[0].header;
    known.insert(keccak256(genesis), genesis.clone());

    let head = world.l1.block(world.l1.head()).hash;
    let derived = MemL2::new(world.config.clone());
    let outcome = derive(&world, &known, head, &derived);
    assert_eq!(outcome, Ok(()));
    let heads = |l2: &MemL2| -> Vec<_> { l2.blocks().iter().map(|block| block.head).collect() };
    assert_eq!(heads(&derived), heads(&l2));

    let mut unneeded = Vec::new();
    for (hash, bytes) in &known {
        let mut without = known.clone();
        without.remove(hash);
        let l2 = MemL2::new(world.config.clone());
        match derive(&world, &without, head, &l2) {
            Err(error) => assert!(error.contains(&hash.to_string()), "{error}"),
            Ok(()) => unneeded.push(*hash),
        }
        let mut forged = known.clone();
        forged.insert(*hash, [&bytes[..], &[0]].concat().into());
        let l2 = MemL2::new(world.config.clone());
        let outcome = derive(&world, &forged, head, &l2);
        assert!(outcome.is_err() || unneeded.last() == Some(hash));
    }
    // Blocks of the layer 2 are read where derivation starts above genesis alone.
    assert_eq!(unneeded, [keccak256(genesis)]);

    let blocks = derived.blocks();
    for block in &blocks[..=20] {
        let nodes = list_nodes(&block.transactions);
        let bytes = nodes.into_iter().chain([block.header.clone()]);
        known.extend(bytes.map(|bytes| (keccak256(&bytes), bytes)));
    }
    derived.rewind(&blocks[20].head);
    let outcome = derive(&world, &known, head, &derived);
    assert_eq!(outcome, Ok(()));
    assert_eq!(heads(&derived), heads(&l2));
    derived.rewind(&blocks[20].head);
    known.remove(&blocks[20].head.hash);
    let error = derive(&world, &known, head, &derived).expect_err("no head");
    assert!(error.contains(&blocks[20].head.hash.to_string()), "{error}");
}

proptest! {
    #[test]
    fn a_list_is_read_from_its_nodes(sizes in proptest::collection::vec(0usize..90, 0..300)) {
        let items: Vec<Bytes> = sizes.iter().zip(0u64..)
            .map(|(size, n)| [&n.to_be_bytes()[..], &vec![7; *size]].concat().into())
            .collect();
        let root = ordered_trie_root_with_encoder(&items, |item, out| out.extend_from_slice(item));
        let known: Known = list_nodes(&items).into_iter().map(|n| (keccak256(&n), n)).collect();
        prop_assert!(items.is_empty() || known.preimage(root).is_ok());
        let mut header = alloy_consensus::Header {
            transactions_root: root,
            receipts_root: root,
            ..Default::default()
        };
        header.number = 5;
        let header: Bytes = alloy_rlp::encode(&header).into();
        let head = keccak256(&header);
        let mut known = known;
        known.insert(head, header);
        let layer1 = Witnessed::new(known, head);
        use openledger_derivation::L1;
        prop_assert_eq!(layer1.transactions(head), Ok(items.clone()));
        prop_assert_eq!(layer1.receipts(head), Ok(items));
        prop_assert_eq!(layer1.header_by_number(6), Ok(None));
    }
}
