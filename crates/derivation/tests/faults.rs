//! What may go wrong on the way: missing data, foreign data, reorgs, lies.

mod common;

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Encodable;
use common::{Lie, MemL2, Setup, Verifier, World};
use openledger_derivation::{
    Attributes, BlockData, ChannelLimits, ChannelOut, Commitments, DaError, Error, FRAMES_VERSION,
    Next, Step, encode_blob, inbox_commitment, inbox_frames,
};
use proptest::prelude::*;
use rand_chacha::rand_core::RngCore;
use std::io::Write;

const LIMITS: ChannelLimits = ChannelLimits {
    max_frame_bytes: 1500,
    target_bytes: 1_000_000,
    max_blocks: 1000,
    quality: 5,
};

/// A world with `slots` L1 blocks' worth of L2 blocks.
fn world(slots: usize) -> World {
    let mut world = World::new(Setup::default());
    more(&mut world, slots);
    world
}

fn more(world: &mut World, slots: usize) {
    for _ in 0..slots {
        world.l1.push(Vec::new(), &[]);
        world.sequence_slot(4);
    }
}

/// Sends everything that is not batched yet, in one L1 block.
fn post(world: &mut World) {
    let frames = world.channel(LIMITS).frames;
    let txs = frames
        .chunks(2)
        .map(|frames| world.inline(frames))
        .collect();
    world.l1.push(txs, &[]);
}

fn derive(pipeline: &mut Verifier, l2: &MemL2) -> Step {
    World::derive(pipeline, l2).expect("no source fails")
}

fn height(world: &World) -> usize {
    world.l2.blocks().len() - 1
}

#[test]
fn missing_data_stalls_and_goes_on_when_it_is_back() {
    let mut world = world(5);
    let first = height(&world);
    let frames = world.channel(LIMITS).frames;
    let tx = world.committed(&frames);
    world.l1.push(vec![tx], &[]);
    let commitment = world.da.put(inbox_frames(&frames));
    let gone = DaError::Unavailable("restarting".into());
    let data = world.da.set(&commitment, Err(gone)).expect("it was there");
    more(&mut world, 3);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    for _ in 0..3 {
        let error = World::derive(&mut pipeline, &l2).expect_err("the data is missing");
        assert!(
            matches!(&error, Error::DataUnavailable { commitment: c, .. } if **c == *commitment)
        );
        assert_eq!(error.next(), Next::Retry);
        assert_eq!(l2.head().number, 0);
    }
    assert!(first > 0);
    world.da.set(&commitment, data);
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    world.check(&l2, height(&world));
}

#[test]
fn invalid_data_is_dropped_and_the_rest_goes_on() {
    let mut world = world(5);
    let frames = world.channel(LIMITS).frames;
    let certificate = world
        .da
        .put(b"what a certificate stood for".as_slice().into());
    world
        .da
        .set(&certificate, Err(DaError::Invalid("stale".into())));
    let txs = vec![
        world.inbox(inbox_commitment(&certificate)),
        world.inbox(inbox_commitment(&[7, 7, 7])), // no known type of commitment
        world.inbox(inbox_commitment(&[])),
        world.inline(&frames),
    ];
    world.l1.push(txs, &[]);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    world.check(&l2, height(&world));
}

#[test]
fn a_keccak_commitment_is_held_to_its_hash() {
    let mut world = world(3);
    let frames = inbox_frames(&world.channel(LIMITS).frames);
    let hash = alloy_primitives::keccak256(&frames);
    let commitment = [&[0], hash.as_slice()].concat();
    let tx = world.inbox(inbox_commitment(&commitment));
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    world
        .da
        .set(&commitment, Ok(b"something else".as_slice().into()));
    let error = World::derive(&mut pipeline, &l2).expect_err("the data is wrong");
    assert_eq!(error.next(), Next::Retry);
    world.da.set(&commitment, Ok(frames));
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn commitments_are_no_frames_on_a_chain_without_alt_da() {
    let mut world = World::new(Setup {
        alt_da: Commitments::None,
        ..Setup::default()
    });
    more(&mut world, 3);
    let frames = world.channel(LIMITS).frames;
    let tx = world.committed(&frames);
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    assert_eq!(l2.head().number, 0);
}

#[test]
fn only_the_batcher_is_read() {
    let mut world = world(3);
    let frames = world.channel(LIMITS).frames;
    let data = inbox_frames(&frames);
    let other = common::signed(&common::stranger(), 0, common::INBOX, data.clone());
    let elsewhere = common::signed(&common::batcher(), 0, common::PORTAL, data);
    world.l1.push(vec![other, elsewhere], &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    assert_eq!(l2.head().number, 0);
    let tx = world.inline(&frames);
    world.l1.push(vec![tx], &[]);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn garbage_between_the_frames_is_ignored() {
    let mut world = world(6);
    let frames = world.channel(LIMITS).frames;
    assert!(
        frames.len() > 2,
        "several frames, so that garbage comes in between"
    );
    let mut txs = Vec::new();
    for frame in &frames {
        let mut noise = vec![0; 300];
        world.rng.fill_bytes(&mut noise);
        noise[0] = FRAMES_VERSION;
        let cut = inbox_frames([&frame.slice(..frame.len() - 1)]);
        let mut foreign = frame.to_vec();
        foreign[0] ^= 1; // another channel, which does not begin
        foreign[17] |= 1;
        for data in [
            noise.into(),
            cut,
            Bytes::new(),
            vec![9, 9].into(),
            inbox_frames([&foreign.into()]),
        ] {
            txs.push(world.inbox(data));
        }
        txs.push(world.inline(std::slice::from_ref(frame)));
    }
    world.l1.push(txs, &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn a_channel_that_takes_too_long_is_forgotten() {
    let mut world = world(2);
    let frames = world.channel(LIMITS).frames;
    let (first, rest) = frames.split_at(1);
    assert!(!rest.is_empty());
    let tx = world.inline(first);
    world.l1.push(vec![tx], &[]);
    for _ in 0..51 {
        world.l1.push(Vec::new(), &[]);
    }
    let tx = world.inline(rest);
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    assert_eq!(l2.head().number, 0);
    let tx = world.inline(&frames);
    world.l1.push(vec![tx], &[]);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn a_reorg_resets_and_the_new_chain_is_derived() {
    let mut world = world(4);
    post(&mut world);
    let kept = height(&world);
    more(&mut world, 4);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
    let before = l2.head();

    // The last six blocks of the layer 1 are replaced; the sequencer follows.
    world.l1.pop(4);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    let origin = world.l1.head();
    let keep = world
        .l2
        .blocks()
        .into_iter()
        .rfind(|b| {
            world.l1.block(b.head.l1_origin.number.min(origin)).hash == b.head.l1_origin.hash
        })
        .expect("genesis is there");
    world.l2.rewind(&keep.head);
    world.sequence_slot(4);
    more(&mut world, 3);
    world.unbatched = world.unbatched.min(kept + 1);
    post(&mut world);

    let Step::Reset { safe, reason } = derive(&mut pipeline, &l2) else {
        panic!("no reset")
    };
    assert!(matches!(reason, Error::Reorged { .. }), "{reason}");
    assert_eq!(
        safe.number as usize, kept,
        "back to before the second channel, no further"
    );
    l2.rewind(&safe);
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    world.check(&l2, height(&world));
    assert_ne!(l2.head(), before);
}

#[test]
fn a_shorter_layer_1_is_a_reorg_too() {
    let mut world = world(4);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    assert!(l2.head().number > 0);
    world.l1.pop(1);
    assert_eq!(height(&world), l2.head().number as usize);
    let Step::Reset { safe, .. } = derive(&mut pipeline, &l2) else {
        panic!("no reset")
    };
    assert_eq!(safe.number, 0, "the batch is gone");
    l2.rewind(&safe);
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
}

/// A batch, and the first frame of a second one; the others are still to come.
fn in_the_middle_of_a_channel() -> (World, Vec<Bytes>) {
    let mut world = world(4);
    post(&mut world);
    more(&mut world, 4);
    let mut frames = world.channel(LIMITS).frames;
    let rest = frames.split_off(1);
    let tx = world.inline(&frames);
    world.l1.push(vec![tx], &[]);
    (world, rest)
}

#[test]
fn a_restart_finds_its_place() {
    let (mut world, rest) = in_the_middle_of_a_channel();
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    assert!(l2.head().number > 0 && (l2.head().number as usize) < height(&world));
    let tx = world.inline(&rest);
    world.l1.push(vec![tx], &[]);
    // A new pipeline, with half a channel below the safe head's origin.
    let mut pipeline = world.pipeline(&l2);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn a_checkpoint_spares_what_was_read() {
    let (mut world, rest) = in_the_middle_of_a_channel();
    world.l1.push(Vec::new(), &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    // Half a channel is there: it is read again, and nothing below it.
    let open = *pipeline.checkpoint().expect("it began at genesis");
    assert_eq!(open.read_from, open.l1.number - 1);
    let tx = world.inline(&rest);
    world.l1.push(vec![tx], &[]);
    let mut pipeline = world.pipeline(&l2);
    pipeline.resume(&open);
    let head = l2.head();
    assert!(head.l1_origin.number < open.read_from);
    pipeline.step(&head).expect("a step");
    let start = pipeline.origin().expect("it has started");
    assert_eq!(start.number, head.l1_origin.number + 1);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
    // Between channels nothing is read again.
    let between = *pipeline.checkpoint().expect("it knows");
    assert_eq!(between.read_from, between.l1.number + 1);
    more(&mut world, 3);
    post(&mut world);
    let mut pipeline = world.pipeline(&l2);
    pipeline.resume(&between);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn what_came_too_early_stays_dropped_after_a_restart() {
    let mut world = world(3);
    let middle = world.l2.blocks().len() / 2;
    world.unbatched = middle;
    post(&mut world); // leaves a gap
    world.unbatched = 1;
    let limits = ChannelLimits {
        max_blocks: middle - 1,
        ..LIMITS
    };
    let frames = world.channel(limits).frames;
    let tx = world.inline(&frames);
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, middle - 1);
    let done = *pipeline.checkpoint().expect("it began at genesis");
    assert_eq!(done.l1, pipeline.origin().expect("it has started").id());
    assert_eq!(done.safe, l2.head().id());

    // Nothing new, and from then on as if nothing had happened.
    let mut pipeline = world.pipeline(&l2);
    pipeline.resume(&done);
    let again = |pipeline: &mut Verifier| derive(pipeline, &l2);
    assert_eq!(again(&mut pipeline), Step::Idle);
    world.check(&l2, middle - 1);
    world.l1.pop(1);
    let Step::Reset { safe, .. } = again(&mut pipeline) else {
        panic!("no reset")
    };
    assert_eq!(safe.number, 0, "the batch is gone");
    l2.rewind(&safe);
    assert_eq!(again(&mut pipeline), Step::Idle);
    world.l1.push(Vec::new(), &[]);
    post(&mut world);
    assert_eq!(again(&mut pipeline), Step::Idle);
    assert_eq!(l2.head().number, 0, "the first half is still missing");
}

#[test]
fn a_second_reorg_goes_as_deep_as_it_must() {
    let mut world = world(4);
    post(&mut world);
    more(&mut world, 4);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    let first = l2.head();
    assert!(first.number > 0);
    // Above the batch: it stays.
    world.l1.pop(2);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    let Step::Reset { safe, .. } = derive(&mut pipeline, &l2) else {
        panic!("no reset")
    };
    assert_eq!(*safe, first);
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    // Below the batch: it is gone, though the pipeline read those L1 blocks again with it.
    world.l1.pop(6);
    (0..7).for_each(|_| {
        world.l1.push(Vec::new(), &[]);
    });
    let Step::Reset { safe, .. } = derive(&mut pipeline, &l2) else {
        panic!("no reset")
    };
    assert_eq!(safe.number, 0);
}

/// Changes one fact of the blocks of a channel.
type Change = fn(usize, &mut BlockData<'_>);

#[test]
fn batches_that_break_a_rule_are_dropped() {
    let changes: [(&str, u64, Change); 7] = [
        ("another parent", 0, |i, block| {
            if i == 0 {
                block.parent_hash = B256::ZERO;
            }
        }),
        ("another layer 1", 0, |_, block| {
            block.l1_origin.hash = B256::ZERO
        }),
        ("a later time", 0, |_, block| block.timestamp += 1),
        ("an earlier time", 0, |_, block| block.timestamp -= 1),
        ("an origin too far ahead", 0, |_, block| {
            block.l1_origin.number += 2
        }),
        ("an origin of before", 5, |i, block| {
            if i >= 5 {
                block.l1_origin.number -= 1;
                block.sequence_number = 9;
            }
        }),
        ("before genesis", 0, |_, block| block.timestamp -= 2 * 500),
    ];
    for (name, expected, change) in changes {
        for odd in [false, true] {
            let mut world = World::new(Setup::default());
            world.l1.push(Vec::new(), &[]);
            for _ in 0..11 {
                // What no span can hold makes singular batches.
                world.sequence(if odd {
                    vec![vec![0x33].into()]
                } else {
                    Vec::new()
                });
            }
            let mut channel = ChannelOut::new(world.config.clone(), LIMITS, [3; 16]);
            for (i, block) in world.l2.blocks()[1..].iter().enumerate() {
                let mut data = common::block_data(block);
                change(i, &mut data);
                channel.add_block(&data).expect("it fits");
            }
            let tx = world.inline(&channel.close().expect("it fits").frames);
            world.l1.push(vec![tx], &[]);
            let (mut pipeline, l2) = world.verifier();
            assert_eq!(derive(&mut pipeline, &l2), Step::Idle, "{name}, odd {odd}");
            let height = l2.head().number;
            assert!(
                height <= expected,
                "{name}, odd {odd}: {height} blocks derived"
            );
        }
    }
}

#[test]
fn transactions_too_far_ahead_of_the_origin_are_dropped() {
    let mut world = World::new(Setup::default());
    let genesis = world.config.l1_genesis();
    for _ in 0..902 {
        let parent = world.l2.head();
        let mut attributes = world
            .builder
            .next_attributes(&parent, genesis)
            .expect("attributes");
        assert_eq!(attributes.no_tx_pool, parent.number >= 900);
        attributes
            .transactions
            .push(common::random_transaction(&mut world.rng));
        world.l2.execute(&attributes);
    }
    world.l1.push(Vec::new(), &[]);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, 900);
}

#[test]
fn zlib_channels_are_read_too() {
    let mut world = world(3);
    let span = span_of(&world.channel(LIMITS).frames);
    let tx = world.inbox(channel_of(&span, true, true));
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn frames_come_in_blobs_too() {
    let mut world = world(3);
    let frames = world.channel(LIMITS).frames;
    let mut hashes = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let hash = B256::with_last_byte(i as u8 + 1);
        world
            .l1
            .add_blob(hash, encode_blob(&inbox_frames([frame])).expect("it fits"));
        hashes.push(hash);
    }
    let noise = B256::repeat_byte(9);
    world.l1.add_blob(noise, vec![0xff; 131_072]);
    hashes.insert(1, noise);
    let tx = common::blob_transaction(hashes);
    world.l1.push(vec![tx], &[]);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn after_a_restart_a_reorg_goes_back_by_one_window() {
    let mut world = World::new(Setup {
        window: 5,
        ..Setup::default()
    });
    for _ in 0..8 {
        more(&mut world, 2);
        post(&mut world);
    }
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
    let mut pipeline = world.pipeline(&l2);
    world.l1.pop(4);
    for _ in 0..4 {
        world.l1.push(Vec::new(), &[]);
    }
    let Step::Reset { safe, .. } = derive(&mut pipeline, &l2) else {
        panic!("no reset")
    };
    let fork = world.l1.head() - 4;
    assert!(
        safe.l1_origin.number + 5 <= fork && safe.number > 0,
        "{safe:?}"
    );
}

#[test]
fn a_silent_batcher_leaves_empty_blocks_with_the_deposits() {
    let mut world = World::new(Setup {
        window: 4,
        ..Setup::default()
    });
    for slot in 0..12u8 {
        let log = common::deposit_log(
            common::batcher().address(),
            common::INBOX,
            &common::opaque(5, 6, 100_000, false, &[slot]),
        );
        world.l1.push(Vec::new(), &[vec![log]]);
        world.sequence_slot(0);
    }
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    let blocks = l2.blocks();
    // The sequencer made empty blocks with the same origins, so the chains agree.
    world.check(&l2, blocks.len() - 1);
    let deposits = blocks.iter().filter(|b| b.transactions.len() == 2).count();
    assert_eq!(deposits, 8, "every epoch up to a window below the head");
    assert_eq!(l2.head().l1_origin.number, 8);
    // Batches that come after the window are no use.
    post(&mut world);
    derive(&mut pipeline, &l2);
    assert_eq!(l2.head().l1_origin.number, 9);
}

#[test]
fn a_span_that_overlaps_the_safe_chain_adds_what_is_new() {
    let mut world = world(3);
    post(&mut world);
    let first = height(&world);
    more(&mut world, 3);
    world.unbatched = first - 3;
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    *l2.offline.lock().expect("lock") = true;
    let error = World::derive(&mut pipeline, &l2).expect_err("the overlap needs the layer 2");
    assert!(
        matches!(error, Error::L2 { .. }) && error.next() == Next::Retry,
        "{error}"
    );
    assert_eq!(
        l2.head().number as usize,
        first,
        "nothing was lost, nothing was skipped"
    );
    *l2.offline.lock().expect("lock") = false;
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn a_gap_drops_the_channel() {
    let mut world = world(3);
    let start = world.unbatched;
    world.unbatched += 2;
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    assert_eq!(l2.head().number, 0);
    world.unbatched = start;
    post(&mut world);
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn transactions_of_no_known_kind_travel_too() {
    let mut world = world(1);
    world.l1.push(Vec::new(), &[]);
    let odd: [&[u8]; 4] = [&[0x33, 1, 2, 3], &[0xc0], &[0x02, 0xc1, 0x80], &[0x80]];
    for tx in odd {
        let plain = common::random_transaction(&mut world.rng);
        world.sequence(vec![plain.clone(), Bytes::copy_from_slice(tx)]);
        world.sequence(vec![plain]);
    }
    world.l1.push(Vec::new(), &[]);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    world.check(&l2, height(&world));
}

#[test]
fn an_invalid_block_is_replaced_by_its_deposits() {
    let mut world = world(4);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    let mut replaced = None;
    loop {
        match pipeline.step(&l2.head()).expect("no source fails") {
            Step::Attributes(attributes) if attributes.timestamp == common::GENESIS_TIME + 8 => {
                assert!(attributes.no_tx_pool);
                let plain: Attributes = attributes.deposits_only();
                pipeline.flush_channel();
                replaced = Some(l2.execute(&plain));
            }
            Step::Attributes(attributes) => {
                l2.execute(&attributes);
            }
            Step::Advanced(_) => {}
            step => {
                assert_eq!(step, Step::Idle);
                break;
            }
        }
    }
    assert_eq!(replaced, Some(l2.head()), "the rest of the channel is gone");
}

#[test]
fn attributes_come_again_until_they_are_executed() {
    let mut world = world(2);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    let mut step = || loop {
        match pipeline.step(&l2.head()).expect("no source fails") {
            Step::Advanced(_) => {}
            step => return step,
        }
    };
    let first = step();
    assert_eq!(first, step());
    let Step::Attributes(attributes) = first else {
        panic!("no attributes")
    };
    l2.execute(&attributes);
    assert_ne!(Step::Attributes(attributes), step());
    let mut wrong = l2.head();
    wrong.hash = B256::ZERO;
    wrong.parent_hash = B256::ZERO;
    let error = pipeline
        .step(&wrong)
        .expect_err("not the head that was led to");
    assert_eq!(error.next(), Next::Stop);
}

#[test]
fn a_layer_1_that_lies_gives_an_error() {
    for lie in [
        Lie::Transactions,
        Lie::MissingTransaction,
        Lie::Receipts,
        Lie::Offline,
    ] {
        let mut world = world(3);
        let log = common::deposit_log(
            common::INBOX,
            common::INBOX,
            &common::opaque(1, 1, 1, false, &[]),
        );
        world.l1.push(Vec::new(), &[vec![log]]);
        world.sequence_slot(3);
        post(&mut world);
        let (mut pipeline, l2) = world.verifier();
        world.l1.lie(Some(lie));
        let error = World::derive(&mut pipeline, &l2).expect_err("a lie");
        assert_eq!(error.next(), Next::Retry, "{lie:?}: {error}");
        let forged = matches!(error, Error::Forged { .. });
        assert_eq!(forged, lie != Lie::Offline, "{lie:?}: {error}");
        // Once it tells the truth, nothing is missing.
        world.l1.lie(None);
        derive(&mut pipeline, &l2);
        world.check(&l2, height(&world));
    }
}

#[test]
fn a_forged_header_is_no_origin() {
    let mut world = world(3);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    derive(&mut pipeline, &l2);
    // A new pipeline looks for its place by the hashes of origins.
    pipeline.reset();
    let mut pipeline = world.pipeline(&l2);
    world.l1.lie(Some(Lie::Header));
    let error = World::derive(&mut pipeline, &l2).expect_err("a lie");
    assert!(
        matches!(error, Error::Forged { what: "header", .. }),
        "{error}"
    );
    assert_eq!(error.next(), Next::Retry);
    world.l1.lie(None);
    assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
}

#[test]
fn receipts_are_read_only_where_the_bloom_filter_says_so() {
    let mut world = world(20);
    post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    let read = world.l1.receipts_read();
    derive(&mut pipeline, &l2);
    assert_eq!(world.l1.receipts_read(), read);
}

/// A channel whose batches are these bytes, as inbox data.
fn channel_of(batches: &[u8], wrap: bool, zlib: bool) -> Bytes {
    let mut rlp = Vec::new();
    if wrap {
        batches.encode(&mut rlp);
    } else {
        rlp.extend_from_slice(batches);
    }
    let data = if zlib {
        miniz_oxide::deflate::compress_to_vec_zlib(&rlp, 6)
    } else {
        let mut out = vec![1];
        let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 3, 22);
        encoder.write_all(&rlp).expect("memory takes it");
        drop(encoder);
        out
    };
    let mut frame = vec![9; 16];
    frame.extend([0, 0]);
    frame.extend((data.len() as u32).to_be_bytes());
    frame.extend(data);
    frame.push(1);
    inbox_frames([&frame.into()])
}

#[derive(Debug, Clone)]
enum Noise {
    Inbox(Vec<u8>),
    Channel(Vec<u8>),
    Batch {
        body: Vec<u8>,
        zlib: bool,
    },
    /// A true span batch with some bytes changed.
    Damaged(Vec<(usize, u8)>),
    /// A true span batch cut short.
    Cut(usize),
}

fn noise() -> impl Strategy<Value = Noise> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        bytes().prop_map(Noise::Inbox),
        bytes().prop_map(Noise::Channel),
        (bytes(), 0u8..2, any::<bool>()).prop_map(|(mut body, version, zlib)| {
            body.insert(0, version);
            Noise::Batch { body, zlib }
        }),
        proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6).prop_map(Noise::Damaged),
        any::<usize>().prop_map(Noise::Cut),
    ]
}

/// The bytes inside a channel of one span batch.
fn span_of(frames: &[Bytes]) -> Vec<u8> {
    let data: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame[22..frame.len() - 1].to_vec())
        .collect();
    let mut rlp = Vec::new();
    std::io::Read::read_to_end(&mut brotli::Decompressor::new(&data[1..], 4096), &mut rlp)
        .expect("our own channel");
    Bytes::decode_all(&rlp)
}

trait DecodeAll {
    fn decode_all(rlp: &[u8]) -> Vec<u8>;
}

impl DecodeAll for Bytes {
    fn decode_all(rlp: &[u8]) -> Vec<u8> {
        let mut rest = rlp;
        let bytes: Self = alloy_rlp::Decodable::decode(&mut rest).expect("one batch");
        assert!(rest.is_empty(), "one batch");
        bytes.to_vec()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn noise_from_the_batcher_stops_nothing(list in proptest::collection::vec(noise(), 1..12)) {
        let mut world = world(2);
        let channel = world.channel(LIMITS);
        let span = span_of(&channel.frames);
        for noise in list {
            let data = match noise {
                Noise::Inbox(bytes) => bytes.into(),
                Noise::Channel(bytes) => channel_of(&bytes, false, false),
                Noise::Batch { body, zlib } => channel_of(&body, true, zlib),
                Noise::Damaged(changes) => {
                    let mut body = span.clone();
                    for (at, byte) in changes {
                        let at = at % body.len();
                        body[at] ^= byte;
                    }
                    channel_of(&body, true, false)
                }
                Noise::Cut(at) => channel_of(&span[..at % span.len()], true, true),
            };
            let tx = world.inbox(data);
            world.l1.push(vec![tx], &[]);
        }
        let (mut pipeline, l2) = world.verifier();
        prop_assert_eq!(derive(&mut pipeline, &l2), Step::Idle);
    }
}
