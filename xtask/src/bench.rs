//! `cargo xtask bench AREA`: measure, compare with the goal (and with a peer where there is
//! one), write `bench/results/AREA.json`.

mod engine;
mod plot;
mod race;
mod rollup;
mod soak;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::environment::{Repo, read_text, write_text};
use crate::network::{Network, number, scratch};
use crate::process::{command, execute, read};

/// What the bundled default must stay under, on two cores, after the build.
const LOOP_SECONDS: f64 = 180.0;
const LOOP_MEMORY_MIB: f64 = 2048.0;
const COLD_BUILD_SECONDS: f64 = 900.0;

const README: &str = "README.md";
const CLOSE: &str = "<!-- /bench -->";

const LOOP: &str = "openledger dev --exit-after-loop --json";

pub(crate) fn run(repo: &Repo, args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["loop"] => whole_loop(repo, false),
        ["loop", "--cold-build"] => whole_loop(repo, true),
        ["rollup"] => rollup::run(repo, None),
        ["rollup", "--only", part] => rollup::run(repo, Some(part)),
        ["soak"] => soak::run(repo),
        ["engine"] => engine::run(repo, None),
        ["engine", "--only", part] => engine::run(repo, Some(part)),
        _ => bail!(
            "`bench {}` is none of: bench loop [--cold-build], bench engine [--only PART], \
             bench rollup [--only PART], bench soak",
            words.join(" ")
        ),
    }
}

/// One measured number and what it is held against.
#[derive(Debug)]
struct Measurement {
    metric: String,
    unit: &'static str,
    ours: f64,
    /// Name of what it is compared with, and that one's number.
    peer: Option<(String, f64)>,
    goal: Option<Goal>,
    command: &'static str,
    /// What else was seen: best repeats, processor seconds, the other peers.
    details: Value,
}

/// What a number should come to.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Ours is at most this, in its unit.
    AtMost(f64),
    /// Ours is at least this, in its unit.
    AtLeast(f64),
    /// Ours over the peer's is at least this.
    RatioAtLeast(f64),
    /// Ours over the peer's is at most this.
    RatioAtMost(f64),
}

impl Goal {
    fn value(self) -> f64 {
        match self {
            Self::AtMost(value)
            | Self::AtLeast(value)
            | Self::RatioAtLeast(value)
            | Self::RatioAtMost(value) => value,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::AtMost(_) => "at most",
            Self::AtLeast(_) => "at least",
            Self::RatioAtLeast(_) => "ratio at least",
            Self::RatioAtMost(_) => "ratio at most",
        }
    }
}

impl Measurement {
    fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, value)| self.ours / value)
    }

    fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::AtMost(goal) => Some(self.ours <= goal),
            Goal::AtLeast(goal) => Some(self.ours >= goal),
            Goal::RatioAtLeast(goal) => self.ratio().map(|ratio| ratio >= goal),
            Goal::RatioAtMost(goal) => self.ratio().map(|ratio| ratio <= goal),
        }
    }
}

/// The loop on the bundled default: seconds of each stage, the whole, and peak memory.
fn whole_loop(repo: &Repo, cold_build: bool) -> Result<()> {
    let mut measured = Vec::new();
    if cold_build {
        measured.push(cold_release_build(repo)?);
    }
    execute(&mut command(
        &repo.root,
        "cargo",
        &["build", "--release", "-p", "openledger"],
    ))?;
    let binary = repo.target_dir()?.join("release/openledger");

    let started = Instant::now();
    let mut network = Network::start(
        repo,
        &binary,
        &scratch(repo, "bench-loop")?,
        &["--exit-after-loop"],
    )?;
    let mut peak = 0.0_f64;
    while network.ended()?.is_none() {
        // The kernel keeps the high-water mark, so polling loses at most the last moment.
        peak = peak.max(peak_memory_mib(network.id()).unwrap_or(peak));
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = started.elapsed().as_secs_f64();
    let summary = network.summary(Duration::ZERO)?;

    let below = |metric: String, ours, goal| Measurement {
        metric,
        unit: "s",
        ours,
        peer: None,
        goal,
        command: LOOP,
        details: Value::Null,
    };
    measured.push(below(
        "loop, start to exit".to_owned(),
        seconds,
        Some(Goal::AtMost(LOOP_SECONDS)),
    ));
    let stages = summary["seconds"]
        .as_object()
        .context("the summary has `seconds`")?;
    // The stages' sum says less than the wall clock above, which counts start and exit too.
    for stage in stages.keys().filter(|stage| *stage != "total") {
        let pointer = format!("/seconds/{stage}");
        measured.push(below(
            format!("stage {stage}"),
            number(&summary, &pointer)?,
            None,
        ));
    }
    measured.push(Measurement {
        metric: "peak memory (VmHWM)".to_owned(),
        unit: "MiB",
        ours: peak,
        peer: None,
        goal: Some(Goal::AtMost(LOOP_MEMORY_MIB)),
        command: LOOP,
        details: Value::Null,
    });
    write(repo, "loop", &measured, Others::Drop)
}

/// A build from nothing in a target directory of its own.
fn cold_release_build(repo: &Repo) -> Result<Measurement> {
    let dir = scratch(repo, "bench-cold-build")?;
    let started = Instant::now();
    let mut build = command(
        &repo.root,
        "cargo",
        &["build", "--release", "-p", "openledger"],
    );
    execute(build.env("CARGO_TARGET_DIR", &dir))?;
    let ours = started.elapsed().as_secs_f64();
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(Measurement {
        metric: "cold release build".to_owned(),
        unit: "s",
        ours,
        peer: None,
        goal: Some(Goal::AtMost(COLD_BUILD_SECONDS)),
        command: "cargo build --release",
        details: Value::Null,
    })
}

/// Peak resident memory so far, from `/proc`.
fn peak_memory_mib(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    peak_in_status(&status)
}

fn peak_in_status(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// What becomes of the results that were not measured again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Keep,
    Drop,
}

fn write(repo: &Repo, area: &str, measured: &[Measurement], others: Others) -> Result<()> {
    let commit = commit(repo)?;
    let machine = machine(Path::new("/proc"));
    let file = repo.path(&format!("bench/results/{area}.json"));
    let mut list: Vec<Value> = match others {
        Others::Keep if file.exists() => serde_json::from_str(&read_text(&file)?)
            .with_context(|| format!("{} is a JSON list", file.display()))?,
        _ => Vec::new(),
    };
    for new in measured.iter().map(|m| entry(m, &commit, &machine)) {
        match list.iter_mut().find(|old| old["metric"] == new["metric"]) {
            Some(old) => *old = new,
            None => list.push(new),
        }
    }
    write_text(&file, &(serde_json::to_string_pretty(&list)? + "\n"))?;
    let readme = repo.path(README);
    let text = read_text(&readme)?;
    write_text(&readme, &with_table(&text, area, &table(&list)?)?)?;
    for m in measured {
        println!("{}", line(m));
    }
    let missed: Vec<&str> = measured
        .iter()
        .filter(|m| m.met() == Some(false))
        .map(|m| m.metric.as_str())
        .collect();
    if !missed.is_empty() {
        bail!("goals missed: {}", missed.join(", "));
    }
    Ok(())
}

/// A measurement as the terminal shows it.
fn line(m: &Measurement) -> String {
    let peer = m.peer.as_ref().map_or(String::new(), |(name, value)| {
        let ratio = m.ours / value;
        format!("  {name}: {value:.2}, ratio {ratio:.2}")
    });
    let goal = m.goal.map_or(String::new(), |g| {
        let met = if m.met() == Some(true) {
            "met"
        } else {
            "NOT MET"
        };
        format!("  (goal: {} {}, {met})", g.kind(), g.value())
    });
    format!("{:<42} {:>10.2} {}{peer}{goal}", m.metric, m.ours, m.unit)
}

/// Fails when the README's tables are not those of the committed results.
pub(crate) fn check_readme(repo: &Repo) -> Result<()> {
    let text = read_text(&repo.path(README))?;
    for area in text
        .split("<!-- bench:")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next())
    {
        let file = format!("bench/results/{area}.json");
        let list: Vec<Value> = serde_json::from_str(&read_text(&repo.path(&file))?)
            .with_context(|| format!("{file} is a JSON list"))?;
        if with_table(&text, area, &table(&list)?)? != text {
            bail!("the table does not show {file}; type: cargo xtask bench {area}");
        }
    }
    Ok(())
}

/// `text` with the lines between the area's two markers replaced.
fn with_table(text: &str, area: &str, table: &str) -> Result<String> {
    let open = format!("<!-- bench:{area} -->\n");
    let (before, rest) = text
        .split_once(&open)
        .with_context(|| format!("{README} has no line {open}"))?;
    let (_, after) = rest
        .split_once(CLOSE)
        .with_context(|| format!("{README} has no line {CLOSE}"))?;
    Ok(format!("{before}{open}{table}{CLOSE}{after}"))
}

fn table(list: &[Value]) -> Result<String> {
    let compared = list.iter().any(|entry| entry["peer"].is_string());
    let mut table = String::from(if compared {
        "| what | ours | peer | ratio | goal | met |\n|---|---|---|---|---|---|\n"
    } else {
        "| what | measured | goal | met |\n|---|---|---|---|\n"
    });
    for entry in list {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let ours = entry["ours"].as_f64().context("`ours` is a number")?;
        let (metric, unit) = (text("metric"), text("unit"));
        let goal = entry["goal"]
            .as_f64()
            .map_or(String::new(), |goal| match text("goal_kind") {
                "ratio at least" => format!("≥ {goal}x"),
                "ratio at most" => format!("≤ {goal}x"),
                "at least" => format!("≥ {goal} {unit}"),
                _ => format!("≤ {goal} {unit}"),
            });
        let met = match entry["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let peer = entry["peer_value"].as_f64().map_or(String::new(), |value| {
            format!("{value:.0} ({})", text("peer"))
        });
        let ratio = entry["ratio"]
            .as_f64()
            .map_or(String::new(), |ratio| format!("{ratio:.2}x"));
        table.push_str(&if compared {
            format!("| {metric} | {ours:.0} {unit} | {peer} | {ratio} | {goal} | {met} |\n")
        } else {
            format!("| {metric} | {ours:.1} {unit} | {goal} | {met} |\n")
        });
    }
    let mut places: Vec<String> = Vec::new();
    for entry in list {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let place = format!("\nAt {} on: {}.\n", text("commit"), text("machine"));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    table.push_str(&places.concat());
    Ok(table)
}

fn entry(m: &Measurement, commit: &str, machine: &str) -> Value {
    let rounded = |x: f64| (x * 1000.0).round() / 1000.0;
    json!({
        "metric": m.metric,
        "unit": m.unit,
        "ours": rounded(m.ours),
        "peer": m.peer.as_ref().map(|(name, _)| name),
        "peer_value": m.peer.as_ref().map(|(_, value)| rounded(*value)),
        "ratio": m.ratio().map(rounded),
        "goal": m.goal.map(Goal::value),
        "goal_kind": m.goal.map(Goal::kind),
        "met": m.met(),
        "command": m.command,
        "commit": commit,
        "machine": machine,
        "details": m.details,
    })
}

fn commit(repo: &Repo) -> Result<String> {
    let commit = read(&mut command(
        &repo.root,
        "git",
        &["rev-parse", "--short=12", "HEAD"],
    ))?;
    let changed = read(&mut command(
        &repo.root,
        "git",
        &[
            "status",
            "--porcelain",
            "--",
            "Cargo.lock",
            "bin",
            "crates",
            "contracts",
        ],
    ))?;
    let suffix = if changed.trim().is_empty() {
        ""
    } else {
        " with local changes"
    };
    Ok(format!("{}{suffix}", commit.trim()))
}

fn machine(proc: &Path) -> String {
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find(|l| l.starts_with(key))
            .and_then(|l| l.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&read("cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("meminfo"), "MemTotal")
        .and_then(|kb| kb.strip_suffix(" kB").and_then(|n| n.parse::<u64>().ok()))
        .map_or_else(
            || "unknown".to_owned(),
            |kb| format!("{} GiB", kb.div_ceil(1024 * 1024)),
        );
    let load = read("loadavg")
        .split(' ')
        .next()
        .unwrap_or("unknown")
        .to_owned();
    format!("{processor}, {cores} cores, {memory} memory, load average {load} at the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_mebibytes() {
        let status = "Name:\topenledger\nVmPeak:\t 9999 kB\nVmHWM:\t  524288 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_in_status(status), Some(512.0));
        assert_eq!(peak_in_status("Name:\tzombie\n"), None);
    }

    #[test]
    fn the_readme_s_table_is_replaced_and_nothing_else() {
        let list = [
            json!({"metric": "loop", "unit": "s", "ours": 12.34, "goal": 180.0,
            "met": true, "commit": "abc", "machine": "m"}),
        ];
        let text = "a\n<!-- bench:loop -->\nold\n<!-- /bench -->\nb\n";
        let table = table(&list).expect("numbers are there");
        assert!(
            table.contains("| loop | 12.3 s | ≤ 180 s | yes |"),
            "{table}"
        );
        let once = with_table(text, "loop", &table).expect("markers are there");
        assert!(once.starts_with("a\n") && once.ends_with("b\n") && !once.contains("old"));
        assert_eq!(
            with_table(&once, "loop", &table).expect("markers are there"),
            once
        );
        assert!(with_table("no markers", "loop", &table).is_err());
    }

    #[test]
    fn an_entry_has_every_field_of_the_ledger() {
        let m = Measurement {
            metric: "loop".to_owned(),
            unit: "s",
            ours: 12.345_678,
            peer: None,
            goal: Some(Goal::AtMost(10.0)),
            command: LOOP,
            details: Value::Null,
        };
        let entry = entry(&m, "abc", "a machine");
        let fields = [
            "metric",
            "unit",
            "ours",
            "peer",
            "peer_value",
            "ratio",
            "goal",
            "met",
            "command",
            "commit",
            "machine",
        ];
        for field in fields {
            assert!(entry.get(field).is_some(), "{field} is missing");
        }
        assert_eq!(entry["met"], false);
        assert_eq!(entry["ours"], 12.346);
    }

    #[test]
    fn a_ratio_is_held_against_its_goal_and_shown() {
        let mut m = Measurement {
            metric: "prefill".to_owned(),
            unit: "tokens/s",
            ours: 120.0,
            peer: Some(("torch".to_owned(), 100.0)),
            goal: Some(Goal::RatioAtLeast(1.3)),
            command: "bench",
            details: Value::Null,
        };
        assert_eq!(m.met(), Some(false));
        let list = [entry(&m, "abc", "a machine")];
        let table = table(&list).expect("numbers are there");
        let row = "| prefill | 120 tokens/s | 100 (torch) | 1.20x | ≥ 1.3x | **no** |";
        assert!(table.contains(row), "{table}");
        m.goal = Some(Goal::RatioAtMost(1.3));
        assert_eq!(m.met(), Some(true));
        m.peer = None;
        assert_eq!(m.met(), None);
    }
}
