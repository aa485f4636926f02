//! `cargo xtask bench AREA`: measure, compare with the goal (and with a peer where there is
//! one), write `bench/results/AREA.json`.

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
    let (area, rest) = args
        .split_first()
        .context("bench needs an area; areas: loop")?;
    let cold_build = match rest {
        [] => false,
        [flag] if flag == "--cold-build" => true,
        _ => bail!("unexpected arguments: {}", rest.join(" ")),
    };
    match area.as_str() {
        "loop" => whole_loop(repo, cold_build),
        other => bail!("unknown area `{other}`; areas: loop"),
    }
}

/// One measured number and what it is held against.
#[derive(Debug)]
struct Measurement {
    metric: String,
    unit: &'static str,
    ours: f64,
    goal: Option<f64>,
    command: &'static str,
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
        goal,
        command: LOOP,
    };
    measured.push(below(
        "loop, start to exit".to_owned(),
        seconds,
        Some(LOOP_SECONDS),
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
        goal: Some(LOOP_MEMORY_MIB),
        command: LOOP,
    });
    write(repo, "loop", &measured)
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
        goal: Some(COLD_BUILD_SECONDS),
        command: "cargo build --release",
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

fn write(repo: &Repo, area: &str, measured: &[Measurement]) -> Result<()> {
    let commit = commit(repo)?;
    let machine = machine(Path::new("/proc"));
    let list: Vec<Value> = measured
        .iter()
        .map(|m| entry(m, &commit, &machine))
        .collect();
    let file = repo.path(&format!("bench/results/{area}.json"));
    write_text(&file, &(serde_json::to_string_pretty(&list)? + "\n"))?;
    let readme = repo.path(README);
    let text = read_text(&readme)?;
    write_text(&readme, &with_table(&text, area, &table(&list)?)?)?;
    for m in measured {
        let goal = m.goal.map_or(String::new(), |g| {
            format!("  (goal: at most {g} {})", m.unit)
        });
        println!("{:<28} {:>10.2} {}{goal}", m.metric, m.ours, m.unit);
    }
    let missed: Vec<&str> = measured
        .iter()
        .filter(|m| met(m) == Some(false))
        .map(|m| m.metric.as_str())
        .collect();
    if !missed.is_empty() {
        bail!("goals missed: {}", missed.join(", "));
    }
    Ok(())
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
    let mut table = String::from("| what | measured | goal | met |\n|---|---|---|---|\n");
    for entry in list {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let ours = entry["ours"].as_f64().context("`ours` is a number")?;
        let unit = text("unit");
        let goal = entry["goal"]
            .as_f64()
            .map_or(String::new(), |g| format!("≤ {g} {unit}"));
        let met = match entry["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        table.push_str(&format!(
            "| {} | {ours:.1} {unit} | {goal} | {met} |\n",
            text("metric")
        ));
    }
    if let Some(first) = list.first() {
        let text = |field: &str| first[field].as_str().unwrap_or_default();
        table.push_str(&format!(
            "\nAt {} on: {}.\n",
            text("commit"),
            text("machine")
        ));
    }
    Ok(table)
}

fn entry(m: &Measurement, commit: &str, machine: &str) -> Value {
    json!({
        "metric": m.metric,
        "unit": m.unit,
        "ours": (m.ours * 1000.0).round() / 1000.0,
        "peer": null,
        "peer_value": null,
        "ratio": null,
        "goal": m.goal,
        "met": met(m),
        "command": m.command,
        "commit": commit,
        "machine": machine,
    })
}

/// All goals of this area are upper limits.
fn met(m: &Measurement) -> Option<bool> {
    m.goal.map(|goal| m.ours <= goal)
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
            goal: Some(10.0),
            command: LOOP,
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
}
