//! `cargo xtask bench rollup`: the chain against anvil, with one client and the same signed bytes;
//! derivation against kona; what a cold verifier takes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::plot::Plot;
use super::{Goal, Measurement, Others, write};
use crate::environment::{Repo, anvil, write_text};
use crate::network::{number, scratch};
use crate::process::{command, execute, line, read};

const COMMAND: &str = "cargo xtask bench rollup";

const ANVIL: &str = "anvil 1.7.1";

/// Repeats of each side, in turn; the median counts.
const TURNS: usize = 3;

const SENDERS: &str = "200";

/// Transactions of one turn; anvil keeps fewer in its pool than we do in ours.
const TRANSACTIONS: &str = "20000";

/// Transfers of the one block that is executed.
const BLOCK: &str = "20000";

/// Blocks by which a chain grows, and transactions of each.
const BLOCKS: &str = "200";
const BLOCK_OF_GROWTH: &str = "4000";

/// Accounts that the chain is about whose history grows, and blocks whose state it keeps.
const ACCOUNTS_OF_HISTORY: &str = "80000";
const HISTORY_KEPT: &str = "20";

/// The example that runs a whole rollup.
pub(super) const LAYERS: &str = "layers";

/// The parts of the benchmark, with the examples that measure them and their packages.
const PARTS: [(&str, &[(&str, &str)]); 8] = [
    ("intake", &[("openledger-rollup", "rollup")]),
    ("execution", &[("openledger-rollup", "rollup")]),
    ("latency", &[("openledger-rollup", "rollup")]),
    ("roots", &[("openledger-rollup", "rollup")]),
    ("growth", &[("openledger-rollup", "rollup")]),
    ("data", &[("openledger-derivation", "da_bytes")]),
    ("derivation", &[("openledger-derivation", "derive")]),
    ("cold", &[("openledger-node", LAYERS)]),
];

/// Measures all parts, or `only` one and keeps what is known of the others.
pub(super) fn run(repo: &Repo, only: Option<&str>) -> Result<()> {
    let parts: Vec<_> = PARTS
        .iter()
        .filter(|(part, _)| only.is_none_or(|only| only == *part))
        .collect();
    if parts.is_empty() {
        let names: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("the parts are {}", names.join(", "));
    }
    let anvil = anvil(repo)?;
    for (package, example) in parts.iter().flat_map(|(_, examples)| *examples) {
        let build = ["build", "--release", "-p", package, "--example", example];
        execute(&mut command(&repo.root, "cargo", &build))?;
    }
    let folder = scratch(repo, "bench-rollup")?;
    let bench = Bench {
        examples: repo.target_dir()?.join("release/examples"),
        anvil,
        genesis: folder.join("genesis.json"),
        root: repo.root.clone(),
        folder,
    };
    let mut measured = Vec::new();
    for (part, _) in parts {
        measured.extend(bench.part(part)?);
    }
    std::fs::remove_dir_all(&bench.folder)
        .with_context(|| format!("removing {}", bench.folder.display()))?;
    println!();
    let others = if only.is_some() {
        Others::Keep
    } else {
        Others::Drop
    };
    write(repo, "rollup", &measured, others)
}

struct Bench {
    root: PathBuf,
    folder: PathBuf,
    genesis: PathBuf,
    examples: PathBuf,
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
    fn part(&self, part: &str) -> Result<Vec<Measurement>> {
        let genesis = || self.ask(&["genesis", SENDERS, &self.genesis.to_string_lossy()]);
        match part {
            "intake" => {
                genesis()?;
                let mixes = [
                    ("transfers", "transfers"),
                    ("erc20", "ERC-20 transfers"),
                    ("settlement", "deposits and commitments of the protocol"),
                ];
                mixes
                    .map(|(mix, what)| self.submit(mix, what))
                    .into_iter()
                    .collect()
            }
            "execution" => {
                genesis()?;
                self.execution()
            }
            "latency" => {
                genesis()?;
                self.latency()
            }
            "roots" => {
                let sizes = [
                    (10_000, None),
                    (100_000, None),
                    (1_000_000, Some(Goal::RatioAtLeast(100.0))),
                    (10_000_000, None),
                ];
                let sizes = sizes.into_iter();
                sizes
                    .map(|(accounts, goal)| self.root(accounts, goal))
                    .collect()
            }
            "growth" => self.growth(),
            "data" => Ok(vec![self.da_bytes()?]),
            "derivation" => Ok(vec![self.derivation()?]),
            _ => Ok(vec![self.cold()?]),
        }
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        self.example("rollup", words)
    }

    /// What an example prints.
    fn example(&self, name: &str, words: &[&str]) -> Result<Value> {
        let program = self.examples.join(name);
        let text = read(&mut command(&self.root, &program.to_string_lossy(), words))?;
        serde_json::from_str(&text).with_context(|| format!("`{name} {}`: {text}", words.join(" ")))
    }

    /// Our node, on an empty folder.
    fn openledger(&self, options: &[&str]) -> Result<Side> {
        let data = self.folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        let mut serve = Command::new(self.examples.join("rollup"));
        serve
            .arg("serve")
            .args([&self.genesis, &data])
            .args(options);
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

    /// Sends a mix to a fresh node, and tells how many a second came to be in its state.
    fn rate(&self, side: &Side, mix: &str) -> Result<f64> {
        if mix != "transfers" {
            self.ask(&["prepare", &side.url, SENDERS])?;
        }
        let outcome = self.ask(&["submit", &side.url, SENDERS, TRANSACTIONS, mix])?;
        println!("{outcome}");
        number(&outcome, "/transactions_per_second")
    }

    /// Raw transactions in over JSON-RPC, until the latest state has them all.
    fn submit(&self, mix: &str, what: &str) -> Result<Measurement> {
        // How anvil makes blocks; the better way is the peer. Mining each transaction at once, its
        // default, took more than a minute for 20,000 and is no way to run a chain. With blocks
        // every 200 ms it answers calls from different blocks while contracts are deployed, so
        // that the preparation of the other mixes fails now and then.
        let ways: &[(&str, &[&str])] = match mix {
            "transfers" => &[
                ("every second", &["--block-time", "1"]),
                ("every 200 ms", &["--block-time", "0.2"]),
            ],
            _ => &[("every second", &["--block-time", "1"])],
        };
        let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); ways.len()]);
        for _ in 0..TURNS {
            ours.push(self.rate(&self.openledger(&[])?, mix)?);
            for ((_, options), rates) in ways.iter().zip(&mut theirs) {
                rates.push(self.rate(&self.anvil(options)?, mix)?);
            }
        }
        let rates = theirs.iter().map(|rates| median(rates));
        let best = ways.iter().zip(rates).max_by(|a, b| a.1.total_cmp(&b.1));
        let ((way, _), rate) = best.context("anvil makes blocks in some way")?;
        Ok(Measurement {
            metric: format!("{TRANSACTIONS} {what}, from JSON-RPC to the state on disk"),
            unit: "tx/s",
            ours: median(&ours),
            peer: Some((format!("{ANVIL}, blocks {way}"), rate)),
            goal: Some(Goal::RatioAtLeast(3.0)),
            command: COMMAND,
            details: json!({ "ours": ours, "anvil": theirs }),
        })
    }

    /// One block of transfers whose senders are known, in memory on both sides: executed, hashed
    /// and kept. Ours on disk as well, in the details.
    fn execution(&self) -> Result<Vec<Measurement>> {
        let (mut ours, mut disk, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let outcome = self.ask(&["execute", SENDERS, BLOCK])?;
            println!("ours: {outcome}");
            let gas = number(&outcome, "/gas")?;
            ours.push(gas / number(&outcome, "/seconds")? / 1e6);
            disk.push(gas / number(&outcome, "/disk_seconds")? / 1e6);
            let node = self.anvil(&["--no-mining"])?;
            let outcome = self.ask(&["mine", &node.url, SENDERS, BLOCK])?;
            println!("anvil: {outcome}");
            theirs.push(gas / number(&outcome, "/seconds")? / 1e6);
        }
        let row = |metric: &str, ours: &[f64], peer, goal| Measurement {
            metric: metric.to_owned(),
            unit: "Mgas/s",
            ours: median(ours),
            peer,
            goal,
            command: COMMAND,
            details: json!({ "ours": ours, "anvil": theirs }),
        };
        Ok(vec![
            row(
                "a block of 20,000 transfers, senders known: executed, hashed, kept in memory",
                &ours,
                Some((ANVIL.to_owned(), median(&theirs))),
                Some(Goal::RatioAtLeast(1.2)),
            ),
            row(
                "the same, of what one core should do",
                &ours,
                None,
                Some(Goal::AtLeast(1_000.0)),
            ),
            row("the same, on disk", &disk, None, None),
        ])
    }

    /// 1,000 transfers a second for ten seconds, one by one.
    fn latency(&self) -> Result<Vec<Measurement>> {
        let words = |url: &str| {
            let words = ["latency", url, SENDERS, "1000", "10"];
            words.map(str::to_owned)
        };
        let measure = |side: &Side| -> Result<Value> {
            let words = words(&side.url);
            let outcome = self.ask(&words.each_ref().map(String::as_str))?;
            println!("{outcome}");
            Ok(outcome)
        };
        let ours = measure(&self.openledger(&["live"])?)?;
        let theirs = measure(&self.anvil(&["--block-time", "0.2"])?)?;
        let peer = number(&theirs, "/block/p50_ms")?;
        let row = |metric: &str, goal| -> Result<Measurement> {
            Ok(Measurement {
                metric: metric.to_owned(),
                unit: "ms",
                ours: number(&ours, "/sub_block/p50_ms")?,
                peer: Some((format!("{ANVIL}, blocks every 200 ms"), peer)),
                goal: Some(Goal::AtMost(goal)),
                command: COMMAND,
                details: json!({ "ours": ours, "anvil": theirs }),
            })
        };
        Ok(vec![
            row(
                "a transfer at 1,000 a second, median to its pre-confirmation",
                20.0,
            )?,
            row("the same, to its receipt in a sub-block", 220.0)?,
        ])
    }

    /// Throughput and disk while chain and state grow together.
    fn growth(&self) -> Result<Vec<Measurement>> {
        let dir = self.folder.join("growth");
        let outcome = self.ask(&["growth", &dir.to_string_lossy(), BLOCKS, BLOCK_OF_GROWTH])?;
        std::fs::remove_dir_all(&dir)?;
        let points = outcome["points"].as_array().context("`points`")?;
        let mut speed = Plot::new(
            "speed",
            "Deposits executed and stored, each making an account",
            ["accounts", "tx/s"],
        );
        let mut disk = Plot::new("disk", "The chain on disk", ["accounts", "MiB"]);
        let mut ends = Vec::new();
        for point in points {
            let [accounts, rate, mib] = ["/accounts", "/transactions_per_second", "/disk_mib"]
                .map(|pointer| number(point, pointer));
            let (accounts, rate, mib) = (accounts?, rate?, mib?);
            speed.add("blocks of 4,000", accounts, rate);
            disk.add("chain.redb", accounts, mib);
            ends.push((accounts, rate, mib));
        }
        for plot in [&speed, &disk] {
            let file = format!("bench/results/rollup-{}.svg", plot.name);
            write_text(&self.root.join(file), &plot.svg())?;
        }
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else {
            bail!("no point was measured");
        };
        let row = |metric: String, unit, ours, peer: Option<(String, f64)>| Measurement {
            metric,
            unit,
            ours,
            peer,
            goal: None,
            command: COMMAND,
            details: outcome.clone(),
        };
        let [whole, kept] = [self.history("0")?, self.history(HISTORY_KEPT)?];
        let of = |outcome: &Value| -> Result<(f64, f64)> {
            let points = outcome["points"].as_array().context("`points`")?;
            let last = points.last().context("no point was measured")?;
            let blocks = number(last, "/blocks")?;
            let deposits = blocks * number(outcome, "/transactions_of_a_block")?;
            let bytes = number(last, "/disk_mib")? * 1_048_576.0;
            Ok((number(last, "/transactions_per_second")?, bytes / deposits))
        };
        let (whole_rate, whole_bytes) = of(&whole)?;
        let (kept_rate, kept_bytes) = of(&kept)?;
        let history = |metric: &str, unit, ours, all| Measurement {
            metric: metric.to_owned(),
            unit,
            ours,
            peer: Some(("ours, with the state of all blocks".to_owned(), all)),
            goal: None,
            command: COMMAND,
            details: json!({ "all": whole, "kept": kept }),
        };
        Ok(vec![
            history(
                "deposits to 80,000 accounts, the state of 20 blocks kept",
                "tx/s",
                kept_rate,
                whole_rate,
            ),
            history(
                "disk for such a deposit after 200 blocks, all tables",
                "bytes",
                kept_bytes,
                whole_bytes,
            ),
            row(
                format!("deposits executed and stored, up to {} accounts", last.0),
                "tx/s",
                last.1,
                Some((format!("ours, up to {}", first.0), first.1)),
            ),
            row(
                "disk for a transaction and its account, all tables".to_owned(),
                "bytes",
                last.2 * 1_048_576.0 / last.0,
                Some((
                    format!("ours, at {}", first.0),
                    first.2 * 1_048_576.0 / first.0,
                )),
            ),
        ])
    }

    /// A chain about the same accounts that keeps the state of `kept` blocks.
    fn history(&self, kept: &str) -> Result<Value> {
        let dir = self.folder.join("history");
        let path = dir.to_string_lossy();
        let what = [BLOCKS, BLOCK_OF_GROWTH, ACCOUNTS_OF_HISTORY, kept];
        let outcome = self.ask(&[&["history", &*path], &what[..]].concat())?;
        std::fs::remove_dir_all(&dir)?;
        Ok(outcome)
    }

    /// Bytes of data availability at the batcher's quality.
    fn da_bytes(&self) -> Result<Measurement> {
        let outcome = self.example("da_bytes", &["15000", "9", "10"])?;
        println!("{outcome}");
        Ok(Measurement {
            metric: "data availability, half transfers, half ERC-20, at the batcher's quality"
                .to_owned(),
            unit: "bytes/tx",
            ours: number(&outcome, "/default/compressed_bytes_per_tx")?,
            peer: Some((
                "span batch, brotli q9".to_owned(),
                number(&outcome, "/brotli/0/compressed_bytes_per_tx")?,
            )),
            goal: Some(Goal::AtMost(76.0)),
            command: COMMAND,
            details: outcome,
        })
    }

    /// Attributes out of a layer 1 and payloads in files, by us and by kona.
    fn derivation(&self) -> Result<Measurement> {
        let outcome = self.example("derive", &["60000", "5"])?;
        println!("{outcome}");
        Ok(Measurement {
            metric: "60,000 transactions derived, data in files".to_owned(),
            unit: "tx/s",
            ours: number(&outcome, "/tx_per_second")?,
            peer: Some((
                "kona-derive 0.4.5".to_owned(),
                number(&outcome, "/kona_tx_per_second")?,
            )),
            goal: Some(Goal::AtLeast(100_000.0)),
            command: COMMAND,
            details: outcome,
        })
    }

    /// What a verifier takes from nothing for what the sequencer did.
    fn cold(&self) -> Result<Measurement> {
        let dir = self.folder.join("cold");
        let outcome = self.example(LAYERS, &["cold", &dir.to_string_lossy(), "100000"])?;
        println!("{outcome}");
        Ok(Measurement {
            metric: "100,000 transfers, a verifier from nothing".to_owned(),
            unit: "s",
            ours: number(&outcome, "/verifier_seconds")?,
            peer: Some((
                "the sequencer".to_owned(),
                number(&outcome, "/sequencer_seconds")?,
            )),
            goal: Some(Goal::RatioAtMost(1.0)),
            command: COMMAND,
            details: outcome,
        })
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
