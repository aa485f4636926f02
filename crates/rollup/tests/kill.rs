//! kill -9 at random points: the reopened chain is the last committed block, whole.
//!
//! The test binary starts itself as the writer. The writer prints each block after committing it;
//! what was printed must be there after the kill, and the tables must agree with the header.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; the pipe is the protocol"
)]

mod common;

use common::*;
use openledger_rollup::{Chain, state::recompute_root};
use std::{
    io::{BufRead, BufReader, Write},
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const DIR: &str = "OPENLEDGER_KILL_TEST_DIR";
const ROUNDS: &str = "OPENLEDGER_KILL_ROUNDS";
/// Blocks whose state the writer keeps: every block takes an old one's away.
const HISTORY: u64 = 8;

/// Writes blocks until it is killed; does nothing as part of a normal test run.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut config = manual(Some(PathBuf::from(dir)), genesis());
    config.state_history = NonZeroU64::new(HISTORY);
    let chain = Chain::open(config).unwrap();
    let handle = chain.handle();
    let contract = wallet(0).address().create(0);
    loop {
        let number = handle.head().unwrap().number + 1;
        let nonce = handle.pending_nonce(wallet(0).address()).unwrap();
        let raw = if nonce == 0 {
            create(&wallet(0), 0, &deploying(&STORE_AND_LOG))
        } else {
            // Values of zero clear slots, so that nodes vanish, too.
            call(&wallet(0), nonce, contract, &words(number % 40, number % 3))
        };
        handle.send_raw(raw).unwrap();
        let nonce = handle.pending_nonce(wallet(1).address()).unwrap();
        let to = alloy_primitives::Address::left_padding_from(&number.to_be_bytes());
        handle.send_raw(transfer(&wallet(1), nonce, to, 1)).unwrap();
        let block = handle.make_block().unwrap();
        assert_eq!(block.transactions.len(), 2);
        // A line of its own: the harness prints "test writer ... " without an end.
        println!("\nblock {number} {}", block.hash());
        std::io::stdout().flush().unwrap();
    }
}

/// A cheap generator: the moments differ, the run is the same.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Runs the writer for a few blocks and a random moment more; returns the last printed block.
fn run_and_kill(dir: &Path, blocks: u64, extra: Duration) -> Option<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = None;
    let mut see = |line: String| {
        let mut words = line.split_whitespace();
        if words.next() == Some("block") {
            let number = words.next().unwrap().parse::<u64>().unwrap();
            last = Some((number, words.next().unwrap().to_owned()));
            return true;
        }
        false
    };
    let mut seen = 0;
    while seen < blocks {
        let line = lines
            .next()
            .expect("the writer runs until it is killed")
            .unwrap();
        seen += u64::from(see(line));
    }
    let start = Instant::now();
    while start.elapsed() < extra {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        // The last line may be cut off; only whole ones were acknowledged.
        if line.len() > 60 {
            see(line);
        }
    }
    last
}

#[test]
fn what_was_acknowledged_survives_and_agrees_with_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut height = 0;
    // More rounds for a long run: OPENLEDGER_KILL_ROUNDS=5000.
    let rounds = std::env::var(ROUNDS).map_or(1_000, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let blocks = next(&mut seed) % 4;
        let extra = Duration::from_micros(next(&mut seed) % 20_000);
        let printed = run_and_kill(dir.path(), blocks, extra);

        let chain = Chain::open(manual(Some(dir.path().to_path_buf()), genesis())).unwrap();
        let handle = chain.handle();
        let reader = handle.reader().unwrap();
        let head = reader.head().unwrap();
        if let Some((number, hash)) = printed {
            let kept = reader.header(number).unwrap().unwrap_or_else(|| {
                panic!(
                    "round {round}: block {number} was acknowledged, the head is {}",
                    head.number
                )
            });
            assert_eq!(kept.hash().to_string(), hash);
        }
        assert!(head.number >= height, "round {round}");
        height = head.number;
        assert_eq!(
            recompute_root(&**reader.snapshot()).unwrap(),
            head.state_root
        );
        let oldest = reader.oldest_state().unwrap();
        assert_eq!(oldest, head.number.saturating_sub(HISTORY));
        let state = |number| reader.state(number).unwrap();
        for number in oldest..=head.number {
            let nonce = state(number).nonce(wallet(1).address()).unwrap();
            assert_eq!(nonce, number);
        }
        let block = reader.executed(head.number).unwrap().unwrap();
        assert_eq!(
            reader.totals(head.number).unwrap().transactions,
            2 * head.number
        );
        for tx in &block.block.transactions {
            assert!(handle.included(tx.hash()).unwrap().is_some());
        }
    }
    assert!(height > rounds, "{rounds} rounds made only {height} blocks");
}
