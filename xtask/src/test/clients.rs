//! Clients that people really use, against a live node: cast, viem, openai-python, a browser; and
//! anvil as a layer 1 that is not ours.
//!
//! One network is started on a small Datanet; every script in tests/clients/ then runs against
//! it and learns all it needs from its environment:
//!
//! | variable | content |
//! |---|---|
//! | `OPENLEDGER_SUMMARY` | path of the JSON summary that the node printed |
//! | `OPENLEDGER_RPC`, `OPENLEDGER_HTTP` | base URLs |
//! | `OPENLEDGER`, `ANVIL`, `CAST`, `CHROMIUM` | paths of the programs |
//! | `OPENLEDGER_SCREENSHOTS` | folder for screenshots of the pages |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli_docs::debug_binary;
use crate::environment::{Repo, anvil, chromium, npm_packages, python_venv, write_text};
use crate::network::{Network, TINY, scratch};
use crate::process::{command, execute, exists};

/// Long enough for a busy two-core machine without optimisation of the service crates.
const LOOP_LIMIT: Duration = Duration::from_secs(600);

pub(super) fn run(repo: &Repo) -> Result<()> {
    let binary = debug_binary(repo)?;
    let dir = repo.path("tests/clients");
    npm_packages(&dir)?;
    let python = python_venv("venv-clients", &dir.join("requirements.txt"))?;
    let chromium = chromium()?;
    let cast = native_cast(repo)?;
    let anvil = anvil(repo)?;

    let scratch = scratch(repo, "clients")?;
    let mut network = Network::start(repo, &binary, &scratch, &TINY)?;
    let summary = network.summary(LOOP_LIMIT)?;
    let summary_file = scratch.join("summary.json");
    write_text(&summary_file, &serde_json::to_string_pretty(&summary)?)?;
    let url = |name: &str| {
        summary["urls"][name]
            .as_str()
            .with_context(|| format!("the summary names no urls.{name}: {}", summary["urls"]))
            .map(|url| url.trim_end_matches('/').to_owned())
    };
    let environment = BTreeMap::from([
        (
            "OPENLEDGER_SUMMARY",
            summary_file.to_string_lossy().into_owned(),
        ),
        ("OPENLEDGER_RPC", url("rpc")?),
        ("OPENLEDGER_L1", url("l1")?),
        ("OPENLEDGER_DA", url("da")?),
        ("OPENLEDGER_HTTP", url("http")?),
        ("OPENLEDGER", binary.to_string_lossy().into_owned()),
        ("ANVIL", anvil.to_string_lossy().into_owned()),
        ("CAST", cast.to_string_lossy().into_owned()),
        ("CHROMIUM", chromium.to_string_lossy().into_owned()),
        (
            "OPENLEDGER_SCREENSHOTS",
            scratch.join("screenshots").to_string_lossy().into_owned(),
        ),
    ]);

    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&dir)?
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| interpreter(path, "").is_some())
        .collect();
    scripts.sort();
    let mut failed = Vec::new();
    let python = python.to_string_lossy();
    for script in &scripts {
        let interpreter = interpreter(script, &python).context("filtered above")?;
        let name = script
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!("--- {name}");
        let path = script.to_string_lossy();
        if let Err(error) = self::run_script(repo, interpreter, &path, &environment) {
            println!("{error:#}");
            failed.push(name);
        }
        if let Some(status) = network.ended()? {
            bail!("the node ended with {status}{}", network.log_tail());
        }
    }
    println!(
        "clients: {} passed; {} failed",
        scripts.len() - failed.len(),
        failed.len()
    );
    if !failed.is_empty() {
        bail!("failed: {}{}", failed.join(", "), network.log_tail());
    }
    network.stop()
}

fn run_script(
    repo: &Repo,
    interpreter: &str,
    script: &str,
    environment: &BTreeMap<&str, String>,
) -> Result<()> {
    execute(command(&repo.root, interpreter, &[script]).envs(environment))
}

/// `check_*.mjs` runs in Node.js, `check_*.py` in our Python; other files are support.
fn interpreter<'a>(script: &std::path::Path, python: &'a str) -> Option<&'a str> {
    let name = script.file_name()?.to_str()?;
    if !name.starts_with("check_") {
        return None;
    }
    match name.rsplit_once('.')?.1 {
        "mjs" => Some("node"),
        "py" => Some(python),
        _ => None,
    }
}

/// Foundry's cast: `CAST` if set, else the native program out of the npm package (its JavaScript
/// launcher hides exit codes), else the one on PATH.
fn native_cast(repo: &Repo) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CAST") {
        return Ok(PathBuf::from(path));
    }
    let packaged = repo.path("tests/clients/node_modules/@foundry-rs/cast-linux-amd64/bin/cast");
    for cast in [packaged, PathBuf::from("cast")] {
        if exists(&cast.to_string_lossy(), "--version") {
            return Ok(cast);
        }
    }
    bail!(
        "no cast for this machine; type: curl -L https://foundry.paradigm.xyz | bash && foundryup   \
         (or set CAST to the program)"
    )
}
