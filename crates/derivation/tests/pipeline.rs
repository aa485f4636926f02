//! The pipeline over a layer 1 in memory.

mod common;

use common::{Setup, World};
use openledger_derivation::{ChannelLimits, Step};
use proptest::prelude::*;
use std::collections::VecDeque;

/// Channels over `slots` L1 blocks, closed every `every` of them; frames go inline or behind
/// commitments, `per_tx` in a transaction and `per_block` transactions in a block.
fn round_trip(
    seed: u64,
    slots: usize,
    max_txs: usize,
    every: usize,
    limits: ChannelLimits,
    (per_tx, per_block): (usize, usize),
) {
    let mut world = World::new(Setup {
        seed,
        ..Setup::default()
    });
    let mut queue = VecDeque::new();
    for slot in 0..slots {
        let count = per_block.min(queue.len());
        world.l1.push(queue.drain(..count).collect(), &[]);
        world.sequence_slot(max_txs);
        if (slot + 1) % every == 0 || slot + 1 == slots {
            while world.unbatched < world.l2.blocks().len() {
                let channel = world.channel(limits);
                assert!(
                    channel
                        .frames
                        .iter()
                        .all(|f| f.len() <= limits.max_frame_bytes)
                );
                for (i, frames) in channel.frames.chunks(per_tx).enumerate() {
                    queue.push_back(if i % 2 == 0 {
                        world.inline(frames)
                    } else {
                        world.committed(frames)
                    });
                }
            }
        }
    }
    common::include(&world, queue, per_block);
    let (mut pipeline, l2) = world.verifier();
    let last = World::derive(&mut pipeline, &l2).expect("no source fails");
    assert_eq!(last, Step::Idle);
    world.check(&l2, world.l2.blocks().len() - 1);
}

#[test]
fn three_hundred_blocks_come_back_byte_for_byte() {
    let limits = ChannelLimits {
        max_frame_bytes: 2000,
        ..ChannelLimits::default()
    };
    round_trip(1, 50, 12, 7, limits, (1, 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_sizes_the_blocks_come_back(
        seed in any::<u64>(),
        slots in 1usize..12,
        max_txs in 0usize..8,
        every in 1usize..5,
        max_frame_bytes in 100usize..4000,
        target_bytes in 200usize..20_000,
        max_blocks in 1usize..60,
        quality in 0u8..=11,
        per_tx in 1usize..4,
    ) {
        let limits = ChannelLimits { max_frame_bytes, target_bytes, max_blocks, quality };
        round_trip(seed, slots, max_txs, every, limits, (per_tx, 40));
    }
}
