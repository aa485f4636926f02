//! Bytes of data availability per transaction, as JSON: half transfers of the native coin, half
//! ERC-20 transfers, from 200 senders to random ones of 1000 receivers. Signatures are random
//! words, which compress as badly as true ones.
//!
//! `cargo run --release -p openledger-derivation --example da_bytes [transactions] [quality ..]`

#[path = "../tests/common/mod.rs"]
mod common;

use common::{MIX_BLOCK, Setup, World, block_data};
use openledger_derivation::{ChannelLimits, ChannelOut};
use std::time::Instant;

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map_while(|arg| arg.parse::<usize>().ok());
    let transactions = args.next().unwrap_or(15_000);
    let mut qualities: Vec<_> = args.filter_map(|q| u8::try_from(q).ok()).collect();
    if qualities.is_empty() {
        qualities = vec![2, 5, 9, 10, 11];
    }
    let mut world = World::new(Setup::default());
    world.sequence_mix(transactions);
    let blocks = world.l2.blocks();
    let raw: usize = blocks[1..]
        .iter()
        .flat_map(|b| &b.transactions[1..])
        .map(|tx| tx.len())
        .sum();
    let measure = |quality: u8| {
        let limits = ChannelLimits {
            target_bytes: usize::MAX,
            quality,
            ..Default::default()
        };
        let mut channel = ChannelOut::new(world.config.clone(), limits, [1; 16]);
        let start = Instant::now();
        for block in &blocks[1..] {
            channel.add_block(&block_data(block)).expect("no limit");
        }
        let closed = channel.close().expect("few frames");
        let seconds = start.elapsed().as_secs_f64();
        let per = |bytes: usize| bytes as f64 / transactions as f64;
        serde_json::json!({
            "quality": quality,
            "span_bytes_per_tx": per(closed.raw_bytes),
            "compressed_bytes_per_tx": per(closed.compressed_bytes),
            "frames": closed.frames.len(),
            "seconds": seconds,
            "tx_per_second": transactions as f64 / seconds,
        })
    };
    let results: Vec<_> = qualities.into_iter().map(measure).collect();
    let report = serde_json::json!({
        "transactions": transactions,
        "blocks": blocks.len() - 1,
        "transactions_per_block": MIX_BLOCK,
        "raw_bytes_per_tx": raw as f64 / transactions as f64,
        "brotli": results,
        "default": measure(ChannelLimits::default().quality),
    });
    println!("{report:#}");
}
