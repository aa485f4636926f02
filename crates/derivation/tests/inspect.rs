//! Looking into what a batcher sent.

mod common;

use common::{Setup, World};
use openledger_derivation::{ChannelLimits, blocks_in_batch, blocks_in_frames, inbox_frames};

#[test]
fn the_blocks_of_a_channel_come_back_out_of_its_frames() {
    let mut world = World::new(Setup::default());
    world.l1.push(Vec::new(), &[]);
    world.sequence_slot(4);
    world.l1.push(Vec::new(), &[]);
    world.sequence_slot(4);
    let limits = ChannelLimits {
        max_frame_bytes: 300,
        ..ChannelLimits::default()
    };
    let channel = world.channel(limits);
    assert!(channel.frames.len() > 1);
    let data = inbox_frames(&channel.frames);
    let found: Vec<_> = blocks_in_frames(&world.config, &data).collect();
    let blocks = world.l2.blocks();
    assert_eq!(found.len(), blocks.len() - 1);
    for (found, block) in found.iter().zip(&blocks[1..]) {
        assert_eq!(found.timestamp, block.head.timestamp);
        assert_eq!(found.epoch, block.head.l1_origin.number);
        // All but the deposit.
        assert_eq!(found.transactions, block.transactions[1..]);
    }
    // A frame that is missing leaves nothing.
    let data = inbox_frames(&channel.frames[1..]);
    assert_eq!(blocks_in_frames(&world.config, &data).count(), 0);
    assert!(blocks_in_batch(&world.config, &[2, 0xc0]).is_none());
}
