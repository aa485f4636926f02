//! `cargo xtask fuzz`: random bytes against everything that parses foreign ones.
//!
//! The targets are programs of the package in `fuzz/`. To search they need LLVM's coverage
//! counters, which stable Rust has (`-Cpasses=sancov-module`, what `cargo fuzz --sanitizer none`
//! passes); without them the same programs still run what they are given, and so the test step
//! `fuzz` tries every seed, and every input that once failed, on each change.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::environment::Repo;
use crate::process::{command, execute};

const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

const HOST: &str = "x86_64-unknown-linux-gnu";

/// One target: its name, where its seeds lie, and the longest input worth trying, in bytes.
struct Target {
    name: &'static str,
    seeds: &'static str,
    longest: u32,
}

const TARGETS: [Target; 13] = [
    target("gguf", "fixtures/model/gguf", 100_000),
    target("safetensors", "fuzz/seeds/safetensors", 4_096),
    target("tokenizer", "fuzz/seeds/tokenizer", 8_192),
    target("chat_template", "fuzz/seeds/chat_template", 4_096),
    target("rows", "fuzz/seeds/rows", 4_096),
    target("transaction", "fuzz/seeds/transaction", 4_096),
    target("block", "fuzz/seeds/block", 8_192),
    target("witness", "fuzz/seeds/witness", 65_536),
    target("batch", "fuzz/seeds/batch", 8_192),
    target("frames", "fuzz/seeds/frames", 8_192),
    target("rpc", "fuzz/seeds/rpc", 4_096),
    target("commitment", "fuzz/seeds/commitment", 4_096),
    target("certificate", "fuzz/seeds/certificate", 4_096),
];

const fn target(name: &'static str, seeds: &'static str, longest: u32) -> Target {
    Target {
        name,
        seeds,
        longest,
    }
}

/// `fuzz [TARGET]... [--seconds N]`.
pub(crate) fn run(repo: &Repo, args: &[String]) -> Result<()> {
    let (mut chosen, mut seconds) = (Vec::new(), 60);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let value = args.next().context("--seconds needs a number")?;
            seconds = value
                .parse::<u32>()
                .with_context(|| format!("--seconds {value} is not a whole number"))?;
        } else if let Some(target) = TARGETS.iter().find(|target| target.name == arg) {
            chosen.push(target);
        } else {
            bail!("unknown target `{arg}`; the targets are: {}", names());
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.iter().collect();
    }
    // Not beside the usual artifacts: these have counters in every crate.
    let folder = repo.target_dir()?.join("fuzz");
    let place = folder.to_string_lossy().into_owned();
    let arguments = ["build", "-p", "openledger-fuzz", "--bins", "--target", HOST];
    execute(
        command(&repo.root, "cargo", &arguments)
            .args(["--target-dir", &place])
            .env("RUSTFLAGS", COVERAGE),
    )?;
    let programs = folder.join(HOST).join("debug");
    let mut failed = Vec::new();
    for target in chosen {
        // What a search finds interesting is kept for the next one.
        let corpus = folder.join("corpus").join(target.name);
        let found = folder.join("found").join(target.name);
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let options = [
            format!("-max_total_time={seconds}"),
            format!("-max_len={}", target.longest),
            format!("-artifact_prefix={}/", found.display()),
            // Seconds for one input, and MiB.
            "-timeout=10".to_owned(),
            "-rss_limit_mb=2048".to_owned(),
            "-print_final_stats=1".to_owned(),
        ];
        let program = programs.join(format!("fuzz_{}", target.name));
        let mut search = command(&repo.root, &program.to_string_lossy(), &[]);
        search
            .args(&options)
            .arg(&corpus)
            .arg(repo.path(target.seeds));
        if let Err(error) = execute(&mut search) {
            println!("{error:#}");
            failed.push(target.name);
        }
    }
    if !failed.is_empty() {
        bail!(
            "failing inputs of {}: see {}; add them to fuzz/seeds once they are handled",
            failed.join(", "),
            folder.join("found").display()
        );
    }
    Ok(())
}

/// The test step: every seed once, with the programs of the usual build.
pub(crate) fn seeds(repo: &Repo) -> Result<()> {
    let programs = repo.target_dir()?.join("debug");
    for target in &TARGETS {
        let files = files(&repo.path(target.seeds))?;
        let program = programs.join(format!("fuzz_{}", target.name));
        execute(command(&repo.root, &program.to_string_lossy(), &[]).args(files))?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        found.push(entry?.path());
    }
    if found.is_empty() {
        bail!("{} holds no seed", folder.display());
    }
    found.sort();
    Ok(found)
}

fn names() -> String {
    TARGETS.map(|target| target.name).join(", ")
}
