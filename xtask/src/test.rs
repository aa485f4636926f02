//! `cargo xtask test`: every test of the repository with one command, each step timed.
//!
//! A failed step does not stop the ones after it, so that one run shows everything that is
//! broken; the exit status is that of the whole.

mod clients;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment::{Repo, npm_packages, peers_venv};
use crate::process::{command, execute, exists};
use crate::{cli_docs, crash, fuzz, tidy};

/// What the command line asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    only: Vec<String>,
    slow: bool,
    peers: bool,
    list: bool,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--only" => {
                    let step = args.next().context("--only needs the name of a step")?;
                    if !STEPS.iter().any(|s| s.name == step) {
                        bail!("unknown step `{step}`; the steps are: {}", names());
                    }
                    options.only.push(step.clone());
                }
                "--slow" => options.slow = true,
                "--peers" => options.peers = true,
                "--list" => options.list = true,
                other => bail!("unexpected argument `{other}`; see cargo xtask --help"),
            }
        }
        Ok(options)
    }
}

struct Step {
    name: &'static str,
    about: &'static str,
    action: fn(&Repo, &Options) -> Result<()>,
}

/// In order: the quick ones first, so that a slip costs seconds.
const STEPS: [Step; 14] = [
    Step {
        name: "tidy",
        about: "house rules",
        action: |repo, _| tidy::run(repo),
    },
    Step {
        name: "format",
        about: "rustfmt",
        action: |repo, _| cargo(repo, "fmt --all --check"),
    },
    Step {
        name: "contracts",
        about: "Solidity: ABI fresh, forge tests, gas",
        action: contracts,
    },
    Step {
        name: "fixtures",
        about: "test data that lies inside published crates",
        // Downloads and unpacks the crate for crates/rollup/tests/op_sepolia; compiles nothing.
        action: |repo, _| {
            cargo(
                repo,
                "info --quiet --registry crates-io kona-executor@0.4.0",
            )
        },
    },
    Step {
        name: "lint",
        about: "clippy, warnings denied",
        action: |repo, _| cargo(repo, "clippy --workspace --all-targets -- -D warnings"),
    },
    Step {
        name: "bare",
        about: "derivation and the block executor without an operating system",
        action: |repo, _| bare(repo),
    },
    Step {
        name: "build",
        about: "the program and every test",
        action: |repo, _| cargo(repo, "build --workspace --bins --tests"),
    },
    Step {
        name: "rust",
        about: "unit, property and differential tests",
        action: rust,
    },
    Step {
        name: "fuzz",
        about: "the seeds of every fuzz target",
        action: |repo, _| fuzz::seeds(repo),
    },
    Step {
        name: "doctests",
        about: "examples in the documentation",
        action: |repo, _| cargo(repo, "test --workspace --doc"),
    },
    Step {
        name: "rustdoc",
        about: "documentation builds without warnings",
        action: rustdoc,
    },
    Step {
        name: "cli",
        about: "docs/cli.md is fresh",
        action: |repo, _| cli_docs::check(repo),
    },
    Step {
        name: "clients",
        about: "cast, viem, ethers, openai-python and a real browser against a live node",
        action: |repo, _| clients::run(repo),
    },
    Step {
        name: "crash",
        about: "kill -9 at random points, then resume",
        action: crash::run_step,
    },
];

/// The target of a fault-proof machine: no operating system, no standard library.
const BARE: &str = "riscv64imac-unknown-none-elf";

fn bare(repo: &Repo) -> Result<()> {
    let add = ["target", "add", BARE];
    execute(&mut command(&repo.root, "rustup", &add))
        .with_context(|| format!("the target {BARE} is missing and rustup cannot install it"))?;
    for package in ["openledger-derivation", "openledger-rollup"] {
        let lint =
            format!("clippy -p {package} --no-default-features --target {BARE} -- -D warnings");
        cargo(repo, &lint)?;
    }
    Ok(())
}

fn names() -> String {
    STEPS.map(|s| s.name).join(", ")
}

/// Runs the chosen steps and prints one closing line per step.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    if options.list {
        for step in &STEPS {
            println!("{:<10} {}", step.name, step.about);
        }
        return Ok(());
    }
    if options.peers {
        return peers(repo);
    }
    let chosen = STEPS
        .iter()
        .filter(|step| options.only.is_empty() || options.only.iter().any(|o| o == step.name));
    let mut results: Vec<(&str, Duration, Option<String>)> = Vec::new();
    for step in chosen {
        println!("\n=== {}: {} ===", step.name, step.about);
        let started = Instant::now();
        let outcome = (step.action)(repo, options);
        let error = outcome.err().map(|e| format!("{e:#}"));
        let (verdict, detail) = match &error {
            None => ("passed", ""),
            Some(error) => ("FAILED", error.as_str()),
        };
        println!(
            "=== {} {verdict} in {:.1} s ===",
            step.name,
            started.elapsed().as_secs_f64()
        );
        if !detail.is_empty() {
            println!("{detail}");
        }
        results.push((step.name, started.elapsed(), error));
    }
    let failed = results
        .iter()
        .filter(|(_, _, error)| error.is_some())
        .count();
    println!("\n=== summary ===");
    for (name, time, error) in &results {
        let verdict = if error.is_none() { "ok" } else { "FAILED" };
        println!("{name:<10} {:>7.1} s  {verdict}", time.as_secs_f64());
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "steps: {verdict}. {} passed; {failed} failed",
        results.len() - failed
    );
    if failed > 0 {
        let names: Vec<&str> = results
            .iter()
            .filter(|(_, _, e)| e.is_some())
            .map(|(n, _, _)| *n)
            .collect();
        bail!(
            "failed: {}; again with: cargo xtask test --only {}",
            names.join(", "),
            names[0]
        );
    }
    Ok(())
}

fn cargo(repo: &Repo, arguments: &str) -> Result<()> {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    execute(&mut command(&repo.root, "cargo", &arguments))
}

fn contracts(repo: &Repo, _: &Options) -> Result<()> {
    let dir = repo.path("contracts");
    npm_packages(&dir)?;
    // `test` also compares the gas with contracts/snapshots.
    for arguments in [&["check"][..], &["fmt", "--check"], &["test"]] {
        let arguments = [&["build.mjs"], arguments].concat();
        execute(&mut command(&dir, "node", &arguments))?;
    }
    Ok(())
}

fn rust(repo: &Repo, options: &Options) -> Result<()> {
    // nextest is quicker and its report is clearer, but nobody has to install it.
    let arguments = match (exists("cargo-nextest", "--version"), options.slow) {
        (true, false) => "nextest run --workspace",
        (true, true) => "nextest run --workspace --profile slow --run-ignored all",
        (false, false) => "test --workspace --lib --bins --tests",
        (false, true) => "test --workspace --lib --bins --tests -- --include-ignored",
    };
    cargo(repo, arguments)
}

fn rustdoc(repo: &Repo, _: &Options) -> Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps"];
    execute(command(&repo.root, "cargo", &arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Comparisons with the programs that the field uses; needs a download of gigabytes, so it is
/// asked for by name.
fn peers(repo: &Repo) -> Result<()> {
    let dir = repo.path("tests/peers");
    let python = peers_venv("venv-peers", &dir.join("requirements.txt"))?;
    let mut scripts: Vec<_> = std::fs::read_dir(&dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_check(path))
        .collect();
    scripts.sort();
    if scripts.is_empty() {
        bail!("{} holds no check_*.py", dir.display());
    }
    let binary = cli_docs::built_binary(repo)?;
    let mut failed = Vec::new();
    for script in &scripts {
        let arguments = [script.to_string_lossy()];
        let mut process = command(
            &repo.root,
            &python.to_string_lossy(),
            &[arguments[0].as_ref()],
        );
        if let Err(error) = execute(process.env("OPENLEDGER", &binary)) {
            println!("{error:#}");
            failed.push(script.display().to_string());
        }
    }
    println!(
        "peers: {} passed; {} failed",
        scripts.len() - failed.len(),
        failed.len()
    );
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn is_check(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("check_") && name.ends_with(".py")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn steps_can_be_chosen_and_mistyped_ones_are_refused() {
        let options = parse("--only tidy --only rust --slow").expect("both steps exist");
        assert_eq!(options.only, ["tidy", "rust"]);
        assert!(options.slow && !options.peers);
        let error = parse("--only ruts").expect_err("no such step").to_string();
        assert!(
            error.contains("`ruts`") && error.contains("rust"),
            "{error}"
        );
        assert!(parse("--only").is_err() && parse("tidy").is_err());
    }
}
