//! Transactions derived per second on one thread, as JSON, and what kona's pipeline makes of the
//! same: a layer 1 in memory whose inbox holds commitments, payloads in files, the mix of
//! `da_bytes`, everything checked, nothing executed. Rules up to Isthmus, which kona knows.
//!
//! `cargo run --release -p openledger-derivation --example derive [transactions] [runs]`

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/kona.rs"]
mod kona;

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
        jovian: false,
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
    let dir = tempfile::tempdir().expect("a folder");
    world.da.move_to(dir.path());
    let (mut seconds, mut kona_seconds) = (Vec::new(), Vec::new());
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
        kona_seconds.push(kona::compare(&world, &l2).as_secs_f64());
    }
    assert_eq!(last, Step::Idle);
    let median = |seconds: &[f64]| {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let rate = |seconds: &[f64]| transactions as f64 / median(seconds);
    let report = serde_json::json!({
        "transactions": transactions,
        "blocks": blocks,
        "l1_blocks": world.l1.head(),
        "frames": frames,
        "compressed_bytes": bytes,
        "seconds": seconds,
        "kona_seconds": kona_seconds,
        "tx_per_second": rate(&seconds),
        "kona_tx_per_second": rate(&kona_seconds),
    });
    println!("{report:#}");
}
