//! The second opinion: kona's pipeline reads the same layer 1, and must come to the same
//! attributes, byte for byte. It knows the rules up to Isthmus.

mod common;
#[path = "common/kona.rs"]
mod kona;

use common::{Setup, World, config_log, deposit_log, opaque};
use kona::compare;
use openledger_derivation::{ChannelLimits, Commitments, Step};
use std::collections::VecDeque;

/// Batches, deposits, config updates, silence: what we make of it, kona makes of it.
fn agree(seed: u64, window: u64) {
    let mut world = World::new(Setup {
        seed,
        window,
        jovian: false,
        alt_da: Commitments::Generic,
    });
    let limits = ChannelLimits {
        max_frame_bytes: 900,
        target_bytes: 6000,
        max_blocks: 40,
        quality: 4,
    };
    let mut queue = VecDeque::new();
    for slot in 0..40u8 {
        let mut logs = Vec::new();
        if slot % 3 == 1 {
            let data = opaque(slot.into(), 7, 21_000, slot % 2 == 0, &[slot; 9]);
            logs.push(vec![deposit_log(common::PORTAL, common::INBOX, &data)]);
        }
        if slot % 8 == 2 {
            let value = alloy_primitives::U256::from(30_000_000 + u64::from(slot));
            logs.push(vec![config_log(2, &[value])]);
            let params = alloy_primitives::U256::from(u64::from(slot) << 32 | 5);
            logs.push(vec![config_log(4, &[params]), config_log(5, &[value])]);
        }
        let count = queue.len().min(3);
        world.l1.push(queue.drain(..count).collect(), &logs);
        world.sequence_slot(5);
        // The batcher sleeps in the middle, and the window passes if it is short.
        if slot % 4 == 3 && !(12..28).contains(&slot) {
            while world.unbatched < world.l2.blocks().len() {
                let channel = world.channel(limits);
                for (i, frames) in channel.frames.chunks(2).enumerate() {
                    queue.push_back(match (i + usize::from(slot)) % 5 {
                        0 => world.committed(frames),
                        _ => world.inline(frames),
                    });
                }
            }
        }
    }
    common::include(&world, queue, 3);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(World::derive(&mut pipeline, &l2), Ok(Step::Idle));
    assert!(l2.blocks().len() > 20);
    compare(&world, &l2);
}

#[test]
fn kona_derives_the_same_chain() {
    for seed in 0..4 {
        agree(seed, 100);
    }
}

#[test]
fn kona_fills_passed_windows_the_same_way() {
    for seed in 4..8 {
        agree(seed, 8);
    }
}
