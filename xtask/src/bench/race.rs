//! Several programs doing the same work in turns, so that a busy moment meets all of them.
//!
//! Each side is a process that reads a line, does what it says and replies with one JSON object
//! (see `crates/finetune/examples/engine` and `bench/engine/peers.py`). A turn is one line to every
//! side; the first turn warms up and does not count.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::line;

/// A process that does what it is told, a line at a time.
pub(super) struct Worker {
    command: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Worker {
    /// Starts `command`; its standard error goes to `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let errors = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("could not start `{}`", line(&command)))?;
        Ok(Self {
            command: line(&command),
            input: child.stdin.take().context("standard input is a pipe")?,
            output: BufReader::new(child.stdout.take().context("standard output is a pipe")?),
            child,
            log: log.to_owned(),
        })
    }

    /// What it replies to `line`.
    pub(super) fn ask(&mut self, line: &str) -> Result<Value> {
        // A process that has ended is told apart below, with its last words.
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        let mut reply = String::new();
        self.output.read_line(&mut reply)?;
        if reply.is_empty() {
            let status = self.child.wait()?;
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.trim().lines().rev().take(4).collect();
            let words: String = last.iter().rev().flat_map(|l| ["\n  ", l]).collect();
            bail!("`{}` ended with {status} on `{line}`:{words}", self.command);
        }
        serde_json::from_str(&reply)
            .with_context(|| format!("`{}` replied to `{line}` with {reply}", self.command))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One side of a race.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// What tables call it.
    pub(super) name: &'static str,
    /// Which of the workers runs it.
    pub(super) worker: usize,
    pub(super) line: String,
}

/// What a side needed, turn by turn.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub(super) name: &'static str,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    pub(super) last: Value,
}

impl Timing {
    fn tokens(&self) -> f64 {
        self.last["tokens"].as_f64().unwrap_or(f64::NAN)
    }

    /// Median wall seconds of a turn.
    pub(super) fn seconds(&self) -> f64 {
        median(&self.wall)
    }

    /// Tokens a second, from the median turn.
    pub(super) fn rate(&self) -> f64 {
        self.tokens() / self.seconds()
    }

    /// A number of the reply, for each second of the median turn.
    pub(super) fn per_second(&self, field: &str) -> Option<f64> {
        Some(self.last[field].as_f64()? / self.seconds())
    }

    pub(super) fn json(&self) -> Value {
        let best = self.wall.iter().copied().fold(f64::INFINITY, f64::min);
        json!({
            "name": self.name,
            "turns": self.wall.len(),
            "tokens_per_second": self.rate(),
            "tokens_per_second_best": self.tokens() / best,
            "tokens_per_cpu_second": self.tokens() / median(&self.cpu),
            "wall_seconds": self.seconds(),
            "cpu_seconds": median(&self.cpu),
        })
    }
}

/// Turns that count: at least, at most, and how long to go on in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) time: Duration,
}

/// Runs all sides in turns; fails when they come to different numbers.
pub(super) fn race(workers: &mut [Worker], sides: &[Side], turns: Turns) -> Result<Vec<Timing>> {
    let mut timings: Vec<Timing> = Vec::with_capacity(sides.len());
    for side in sides {
        let last = workers[side.worker].ask(&side.line)?;
        let (wall, cpu) = (Vec::new(), Vec::new());
        let name = side.name;
        timings.push(Timing {
            name,
            wall,
            cpu,
            last,
        });
    }
    let started = Instant::now();
    for turn in 0..turns.most {
        if turn >= turns.least && started.elapsed() > turns.time {
            break;
        }
        for (side, timing) in sides.iter().zip(&mut timings) {
            timing.last = workers[side.worker].ask(&side.line)?;
            for (field, seconds) in [("wall", &mut timing.wall), ("cpu", &mut timing.cpu)] {
                let number = timing.last[field].as_f64();
                seconds.push(number.with_context(|| format!("{}: no `{field}`", side.name))?);
            }
        }
    }
    let (first, others) = timings.split_first().context("a race has sides")?;
    for other in others {
        let apart = distance(&first.last["check"], &other.last["check"])?;
        if apart.is_nan() || apart > TOLERANCE {
            bail!(
                "{} and {} do different work: their numbers differ by {:.1} %",
                first.name,
                other.name,
                100.0 * apart
            );
        }
    }
    Ok(timings)
}

/// bf16 and 8-bit weights leave about 1 %.
const TOLERANCE: f64 = 0.05;

/// Euclidean distance of two lists of numbers, as a share of the first one's length.
fn distance(a: &Value, b: &Value) -> Result<f64> {
    let numbers =
        |list: &Value| -> Option<Vec<f64>> { list.as_array()?.iter().map(Value::as_f64).collect() };
    let (a, b) = numbers(a)
        .zip(numbers(b))
        .context("`check` is a list of numbers")?;
    if a.len() != b.len() || a.is_empty() {
        bail!("{} numbers to check against {}", a.len(), b.len());
    }
    let square = |x: f64| x * x;
    let apart: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    Ok((apart / a.iter().copied().map(square).sum::<f64>()).sqrt())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => f64::NAN,
        [.., _] if sorted.len() % 2 == 1 => sorted[sorted.len() / 2],
        _ => sorted[sorted.len() / 2 - 1].midpoint(sorted[sorted.len() / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(script: &str, dir: &Path) -> Worker {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start(command, &dir.join("log")).expect("sh starts")
    }

    fn turns(count: usize) -> Turns {
        Turns {
            least: count,
            most: count,
            time: Duration::ZERO,
        }
    }

    const REPLIES: &str = "while read -r line; do echo \
        '{\"wall\": 2.0, \"cpu\": 3.0, \"tokens\": 10, \"check\": [1.0, 2.0]}'; done";

    #[test]
    fn every_side_gets_its_turns_after_a_warm_up() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut workers = [worker(REPLIES, dir.path()), worker(REPLIES, dir.path())];
        let side = |worker| Side {
            name: "a side",
            worker,
            line: "work".to_owned(),
        };
        let timings = race(&mut workers, &[side(0), side(1)], turns(3)).expect("both reply");
        assert_eq!(timings.len(), 2);
        assert_eq!(timings[1].wall, [2.0; 3]);
        assert!((timings[0].rate() - 5.0).abs() < 1e-12);
    }

    #[test]
    fn different_work_is_no_race() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let other = REPLIES.replace("[1.0, 2.0]", "[1.0, 2.5]");
        let mut workers = [worker(REPLIES, dir.path()), worker(&other, dir.path())];
        let side = |worker| Side {
            name: "a side",
            worker,
            line: "work".to_owned(),
        };
        let error = race(&mut workers, &[side(0), side(1)], turns(1));
        let error = error.expect_err("the numbers differ").to_string();
        assert!(error.contains("22.4 %"), "{error}");
    }

    #[test]
    fn a_side_that_ends_leaves_its_last_words() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut worker = worker("echo no such model >&2; exit 3", dir.path());
        let error = worker.ask("prefill").expect_err("it ended").to_string();
        assert!(
            error.contains("no such model") && error.contains("prefill"),
            "{error}"
        );
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-12);
        assert!((median(&[9.0, 1.0, 3.0]) - 3.0).abs() < 1e-12);
    }
}
