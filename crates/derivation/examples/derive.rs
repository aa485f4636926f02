//! Transactions derived per second on one thread, as JSON: a layer 1 in memory whose inbox holds
//! commitments, the mix of `da_bytes`, everything checked, nothing executed.
//!
//! `cargo run --release -p openledger-derivation --example derive [transactions] [runs]`

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Setup, World};
use openledger_derivation::{ChannelLimits, Step};
use std::time::Instant;

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map_while(|arg| arg.parse::<usize>().ok());
    let transactions = args.next().unwrap_or(60_000);
    let runs = args.next().unwrap_or(3);
    let mut world = World::new(Setup {
        window: 100_000,
        ..Setup::default()
    });
    world.sequence_mix(transactions);
    let (mut frames, mut bytes) = (0, 0);
    while world.unbatched < world.l2.blocks().len() {
        let channel = world.channel(ChannelLimits::default());
        frames += channel.frames.len();
        bytes += channel.compressed_bytes;
        let txs = channel
            .frames
            .iter()
            .map(|f| world.committed(std::slice::from_ref(f)))
            .collect();
        world.l1.push(txs, &[]);
    }
    let mut seconds = Vec::new();
    let (mut blocks, mut last) = (0, Step::Idle);
    for _ in 0..runs {
        let (mut pipeline, l2) = world.verifier();
        // The stand-in for the layer 2 hashes every block, which is not derivation's work.
        let mut spent = 0.0;
        loop {
            let head = l2.head();
            let start = Instant::now();
            last = pipeline.step(&head).expect("no source fails");
            spent += start.elapsed().as_secs_f64();
            match &last {
                Step::Attributes(attributes) => {
                    l2.execute(attributes);
                }
                Step::Advanced(_) => {}
                Step::Idle | Step::Reset { .. } => break,
            }
        }
        blocks = l2.blocks().len() - 1;
        world.check(&l2, world.l2.blocks().len() - 1);
        seconds.push(spent);
    }
    assert_eq!(last, Step::Idle);
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let report = serde_json::json!({
        "transactions": transactions,
        "blocks": blocks,
        "l1_blocks": world.l1.head(),
        "frames": frames,
        "compressed_bytes": bytes,
        "seconds": seconds,
        "tx_per_second": transactions as f64 / best,
    });
    println!("{report:#}");
}
