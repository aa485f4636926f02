//! `cargo xtask bench rollup`: the chain against anvil, with one client and the same signed bytes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Goal, Measurement, Others, write};
use crate::environment::{Repo, anvil};
use crate::network::{number, scratch};
use crate::process::{command, execute, line, read};

const COMMAND: &str = "cargo xtask bench rollup";

const ANVIL: &str = "anvil 1.7.1";

/// Repeats of each side, in turn; the median counts.
const TURNS: usize = 3;

const SENDERS: &str = "200";

/// Transfers of one turn; anvil keeps fewer in its pool than we do in ours.
const TRANSFERS: &str = "20000";

/// Transfers of the one block that is executed.
const BLOCK: &str = "20000";

pub(super) fn run(repo: &Repo) -> Result<()> {
    let anvil = anvil(repo)?;
    let example = [
        "build",
        "--release",
        "-p",
        "openledger-rollup",
        "--example",
        "rollup",
    ];
    execute(&mut command(&repo.root, "cargo", &example))?;
    let folder = scratch(repo, "bench-rollup")?;
    let bench = Bench {
        ours: repo.target_dir()?.join("release/examples/rollup"),
        anvil,
        genesis: folder.join("genesis.json"),
        root: repo.root.clone(),
        folder,
    };
    bench.ask(&["genesis", SENDERS, &bench.genesis.to_string_lossy()])?;
    let mut measured = vec![bench.submit()?];
    measured.extend(bench.execution()?);
    for (accounts, goal) in [
        (10_000, None),
        (100_000, None),
        (1_000_000, Some(Goal::RatioAtLeast(100.0))),
        (4_000_000, None),
    ] {
        measured.push(bench.root(accounts, goal)?);
    }
    std::fs::remove_dir_all(&bench.folder)
        .with_context(|| format!("removing {}", bench.folder.display()))?;
    println!();
    write(repo, "rollup", &measured, Others::Drop)
}

struct Bench {
    root: PathBuf,
    folder: PathBuf,
    genesis: PathBuf,
    ours: PathBuf,
    anvil: PathBuf,
}

/// A node of one side; killed when it goes.
struct Side {
    child: Child,
    url: String,
}

impl Drop for Side {
    fn drop(&mut self) {
        // After a crash there is nothing left to kill, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let text = read(&mut command(
            &self.root,
            &self.ours.to_string_lossy(),
            words,
        ))?;
        serde_json::from_str(&text).with_context(|| format!("`rollup {}`: {text}", words.join(" ")))
    }

    /// Our node, on an empty folder.
    fn openledger(&self, turn: usize) -> Result<Side> {
        let data = self.folder.join(format!("data-{turn}"));
        let mut serve = Command::new(&self.ours);
        serve.arg("serve").args([&self.genesis, &data]);
        let mut child = start(serve.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let out = child.stdout.take().context("its output is a pipe")?;
        let mut first = String::new();
        BufReader::new(out).read_line(&mut first)?;
        let reply: Value = serde_json::from_str(&first).context("the node prints its port")?;
        let url = format!("http://127.0.0.1:{}", reply["port"]);
        Ok(Side { child, url })
    }

    /// anvil from the same genesis, with `options`.
    fn anvil(&self, options: &[&str]) -> Result<Side> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut anvil = Command::new(&self.anvil);
        anvil
            .args(["--port", &port.to_string(), "--silent", "--no-cors"])
            .args(["--order", "fifo", "--no-request-size-limit"])
            .args(["--gas-limit", "1000000000", "--init"])
            .arg(&self.genesis)
            .args(options)
            .stdout(Stdio::null());
        let child = start(&mut anvil)?;
        let side = Side {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("`{}` does not listen", line(&anvil));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(side)
    }

    /// Raw transactions in over JSON-RPC, until the latest state has them all.
    fn submit(&self) -> Result<Measurement> {
        // How anvil makes blocks; the better way is the peer. Mining each transaction at once, its
        // default, took more than a minute for 20,000 and is no way to run a chain.
        let ways: [(&str, &[&str]); 2] = [
            ("every second", &["--block-time", "1"]),
            ("every 200 ms", &["--block-time", "0.2"]),
        ];
        let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); ways.len()]);
        for turn in 0..TURNS {
            let node = self.openledger(turn)?;
            let outcome = self.ask(&["submit", &node.url, SENDERS, TRANSFERS])?;
            println!("ours: {outcome}");
            ours.push(number(&outcome, "/transactions_per_second")?);
            drop(node);
            for ((name, options), rates) in ways.iter().zip(&mut theirs) {
                let node = self.anvil(options)?;
                let outcome = self.ask(&["submit", &node.url, SENDERS, TRANSFERS])?;
                println!("anvil, blocks {name}: {outcome}");
                rates.push(number(&outcome, "/transactions_per_second")?);
            }
        }
        let rates: Vec<f64> = theirs.iter().map(|rates| median(rates)).collect();
        let best = if rates[0] > rates[1] { 0 } else { 1 };
        Ok(Measurement {
            metric: format!("{TRANSFERS} transfers, from JSON-RPC to the state on disk"),
            unit: "tx/s",
            ours: median(&ours),
            peer: Some((format!("{ANVIL}, blocks {}", ways[best].0), rates[best])),
            goal: Some(Goal::RatioAtLeast(3.0)),
            command: COMMAND,
            details: json!({ "ours": ours, "anvil": theirs }),
        })
    }

    /// One block of transfers whose senders are known: executed, hashed and kept.
    fn execution(&self) -> Result<Vec<Measurement>> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let outcome = self.ask(&["execute", SENDERS, BLOCK])?;
            println!("ours: {outcome}");
            let gas = number(&outcome, "/gas")?;
            ours.push(gas / number(&outcome, "/seconds")? / 1e6);
            let node = self.anvil(&["--no-mining"])?;
            let outcome = self.ask(&["submit", &node.url, SENDERS, BLOCK, "mine"])?;
            println!("anvil: {outcome}");
            theirs.push(gas / number(&outcome, "/seconds")? / 1e6);
        }
        let row = |metric: &str, peer, goal| Measurement {
            metric: metric.to_owned(),
            unit: "Mgas/s",
            ours: median(&ours),
            peer,
            goal: Some(goal),
            command: COMMAND,
            details: json!({ "ours": ours, "anvil": theirs }),
        };
        Ok(vec![
            row(
                "a block of 20,000 transfers: executed, hashed, on disk",
                Some((ANVIL.to_owned(), median(&theirs))),
                Goal::RatioAtLeast(1.2),
            ),
            row(
                "the same, of what one core should do",
                None,
                Goal::AtLeast(1_000.0),
            ),
        ])
    }

    /// Blocks that touch 1,000 accounts of many.
    fn root(&self, accounts: u64, goal: Option<Goal>) -> Result<Measurement> {
        let outcome = self.ask(&["root", &accounts.to_string(), "1000"])?;
        println!("{outcome}");
        Ok(Measurement {
            metric: format!("state roots, 1,000 updates in {accounts} accounts"),
            unit: "roots/min",
            ours: 60.0 / number(&outcome, "/seconds")?,
            peer: Some((
                "alloy-trie rebuild".to_owned(),
                60.0 / number(&outcome, "/rebuild_seconds")?,
            )),
            goal,
            command: COMMAND,
            details: outcome,
        })
    }
}

fn start(command: &mut Command) -> Result<Child> {
    println!("$ {}", line(command));
    command
        .spawn()
        .with_context(|| format!("could not start `{}`", line(command)))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
