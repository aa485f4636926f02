//! A whole rollup in one process under load, for `cargo xtask bench rollup` and `bench soak`. Every
//! command prints one JSON object.
//!
//! | command | what |
//! |---|---|
//! | `cold DIR TRANSACTIONS` | what the sequencer takes for transfers that come in over JSON-RPC, and what a verifier then takes from an empty directory, with nothing but the layer 1 and the data, until it has the same block |
//! | `soak DIR SECONDS` | as many transfers as go, while the batcher is restarted, the layer 1 takes blocks back and data availability is away; then everybody must have the same chain with every transfer in it |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "replies to the program that asks, and tells people how far it is"
)]
#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]

mod cold;
#[path = "../../tests/common/mod.rs"]
mod common;
mod load;
mod soak;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let report = match words.as_slice() {
        [command, dir, count] if command == "cold" => {
            cold::measure(&PathBuf::from(dir), count.parse().unwrap()).await
        }
        [command, dir, seconds] if command == "soak" => {
            soak::run(&PathBuf::from(dir), seconds.parse().unwrap()).await
        }
        _ => panic!("see the table at the top of this example"),
    };
    println!("{report}");
}
