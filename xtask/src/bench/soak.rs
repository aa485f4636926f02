//! `cargo xtask bench soak`: ten minutes of full load with everything that goes wrong in the middle;
//! memory must stay where it was.

use anyhow::{Context, Result};
use serde_json::Value;

use super::rollup::LAYERS;
use super::{Goal, Measurement, Others, write};
use crate::environment::Repo;
use crate::network::{number, scratch};
use crate::process::{command, execute, read};

/// Seconds of the soak.
const SOAK: &str = "600";

/// Runs it and keeps what it found.
pub(super) fn run(repo: &Repo) -> Result<()> {
    let build = [
        "build",
        "--release",
        "-p",
        "openledger-node",
        "--example",
        LAYERS,
    ];
    execute(&mut command(&repo.root, "cargo", &build))?;
    let folder = scratch(repo, "bench-soak")?;
    let program = repo.target_dir()?.join("release/examples").join(LAYERS);
    let words = ["soak", &folder.to_string_lossy(), SOAK];
    let text = read(&mut command(&repo.root, &program.to_string_lossy(), &words))?;
    let outcome: Value = serde_json::from_str(&text).context("the soak prints JSON")?;
    std::fs::remove_dir_all(&folder)?;
    let row = |metric: &str, unit, pointer: &str, peer, goal| -> Result<Measurement> {
        Ok(Measurement {
            metric: metric.to_owned(),
            unit,
            ours: number(&outcome, pointer)?,
            peer,
            goal,
            command: "cargo xtask bench soak",
            details: Value::Null,
        })
    };
    let before = number(&outcome, "/memory_mib/first_half")?;
    let measured = [
        row(
            "ten minutes of transfers, every one in the chain",
            "tx/s",
            "/transactions_per_second",
            None,
            None,
        )?,
        Measurement {
            details: outcome.clone(),
            ..row(
                "peak memory in the second half",
                "MiB",
                "/memory_mib/second_half",
                Some(("in the first half".to_owned(), before)),
                Some(Goal::RatioAtMost(1.25)),
            )?
        },
        row(
            "until everything was safe, at the sequencer and a verifier",
            "s",
            "/settled_seconds",
            None,
            None,
        )?,
    ];
    write(repo, "soak", &measured, Others::Drop)
}
