//! Repository chores as one small program: `cargo xtask <verb>`.
//!
//! It exists so that a laptop and the CI machine run the very same commands: `.ci/run` is one
//! line that calls `cargo xtask test`. Two dependencies only (anyhow and `serde_json`), because it is
//! compiled before anything else can be checked.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on the terminal"
)]

mod bench;
mod cli_docs;
mod crash;
mod environment;
mod fuzz;
mod network;
mod process;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <verb>

  test [--only STEP]... [--slow] [--peers] [--list]
                        run every test of the repository; sets up what it needs
      --only STEP       run only this step (repeatable); --list names them
      --slow            also run the tests marked #[ignore = \"slow: ...\"]
      --peers           instead: set up torch, transformers and peft in an environment of
                        their own and compare our files and numbers with theirs
  tidy                  check the house rules (layers, file lengths, generated files, ...)
  bench loop [--cold-build]
                        time the loop, and the build with --cold-build; write
                        bench/results/loop.json and the table in README.md
  bench engine [--only PART]
                        race the model engine against torch, PEFT and llama.cpp; write
                        bench/results/engine* and the table in README.md; --only measures
                        one PART (training, serving, memory, modes, growth) again
  bench rollup [--only PART]
                        race the chain against anvil, alloy-trie and kona; write
                        bench/results/rollup.json and the table in README.md; --only measures
                        one PART (intake, execution, latency, roots, data, derivation, cold)
  bench soak            ten minutes of full load with a batcher restart, a layer 1 reorg and
                        an outage of data availability; write bench/results/soak.json
  fuzz [TARGET]... [--seconds N]
                        random bytes against the parsers of foreign bytes, each TARGET for
                        N seconds (default 60, all targets)
  cli-docs              rewrite docs/cli.md from the program's own help texts
";

fn main() -> ExitCode {
    match dispatch(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(mut args: Vec<String>) -> Result<()> {
    if args.is_empty() || args.iter().any(|a| a == "-h" || a == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let verb = args.remove(0);
    let repo = environment::Repo::find()?;
    match verb.as_str() {
        "test" => test::run(&repo, &test::Options::parse(&args)?),
        "tidy" => {
            reject_arguments(&args)?;
            tidy::run(&repo)
        }
        "bench" => bench::run(&repo, &args),
        "fuzz" => fuzz::run(&repo, &args),
        "cli-docs" => {
            reject_arguments(&args)?;
            cli_docs::write(&repo)
        }
        other => bail!("unknown verb `{other}`\n\n{USAGE}"),
    }
}

fn reject_arguments(args: &[String]) -> Result<()> {
    match args.first() {
        Some(extra) => bail!("unexpected argument `{extra}`\n\n{USAGE}"),
        None => Ok(()),
    }
}
