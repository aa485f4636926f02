//! `openledger`: every role of the network in one executable.
//!
//! This binary parses arguments, draws progress and prints results; everything else is in
//! `openledger-node` and the crates below it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks through stdout and stderr"
)]

mod audit;
mod chain;
mod cli;
mod dev;
mod model;
mod pretrain;
mod progress;
mod rollup;
mod table;
mod train;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    cli::init_logging(&cli);
    let outcome = match cli.command.unwrap_or_default() {
        Command::Dev(args) => dev::run(args),
        Command::Train(args) => train::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Model(command) => model::run(command),
        Command::Attribution(command) => audit::attribution(command),
        Command::Settlement(command) => audit::settlement(command),
        Command::Chain(command) => chain::run(command),
        Command::L1(command) => rollup::l1(command),
        Command::Sequencer(args) => rollup::sequencer(args),
        Command::Verifier(args) => rollup::verifier(args),
        Command::Batcher(args) => rollup::batcher(args),
        Command::Proposer(args) => rollup::proposer(args),
        Command::Challenger(args) => rollup::challenger(args),
        Command::Da(args) => rollup::da(args),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain of causes on one line: what failed, and why.
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
