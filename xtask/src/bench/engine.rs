//! `cargo xtask bench engine`: the model engine against torch with PEFT and against llama.cpp.
//!
//! All sides read the same random weights and see the same tokens, run in turns on all cores, and
//! must come to the same losses and logits. Wall seconds decide; processor seconds and the share of
//! what the machine can do at most are written beside them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::plot::Plot;
use super::race::{Side, Timing, Turns, Worker, race};
use super::{Goal, Measurement, Others, line, write};
use crate::environment::{Repo, peers_venv, write_text};
use crate::network::scratch;
use crate::process::{command, execute, read};

const COMMAND: &str = "cargo xtask bench engine";

const PARTS: [&str; 5] = ["training", "serving", "memory", "modes", "growth"];

/// Indices of the processes; torch and llama.cpp each have one, so that their pools of threads are
/// not in each other's way.
const OURS: usize = 0;
const TORCH: usize = 1;
const LLAMA: usize = 2;

/// Tokens that a decoding lane holds before its first step.
const HELD: usize = 128;

pub(super) fn run(repo: &Repo, only: Option<&str>) -> Result<()> {
    if let Some(part) = only.filter(|part| !PARTS.contains(part)) {
        bail!("unknown part `{part}`; parts: {}", PARTS.join(", "));
    }
    let mut bench = Bench::new(repo)?;
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    if wanted("training") {
        bench.training();
    }
    if wanted("serving") {
        bench.serving();
    }
    if wanted("memory") {
        bench.memory();
    }
    if wanted("modes") {
        bench.modes();
    }
    let plots = if wanted("growth") {
        bench.growth()
    } else {
        Vec::new()
    };
    let Bench {
        measured,
        failed,
        peaks,
        versions,
        folder,
        ..
    } = bench;
    std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    let results = repo.path("bench/results");
    for plot in &plots {
        let file = results.join(format!("engine-{}.svg", plot.name));
        write_text(&file, &plot.svg())?;
    }
    if !plots.is_empty() {
        let growth: Vec<Value> = plots.iter().map(Plot::json).collect();
        let growth = json!({ "peaks": peaks, "versions": versions, "growth": growth });
        let text = serde_json::to_string_pretty(&growth)? + "\n";
        write_text(&results.join("engine-growth.json"), &text)?;
    }
    if !failed.is_empty() {
        println!("\nnot measured:\n  {}", failed.join("\n  "));
    }
    println!();
    let others = if only.is_some() {
        Others::Keep
    } else {
        Others::Drop
    };
    write(repo, "engine", &measured, others)?;
    if !failed.is_empty() {
        bail!("{} measurements failed, see above", failed.len());
    }
    Ok(())
}

/// What the growth plots show.
const RATE: &str = "tokens/s";

/// The processes, and what has been measured so far.
struct Bench {
    root: PathBuf,
    /// Of the models and logs.
    folder: PathBuf,
    engine: PathBuf,
    python: PathBuf,
    workers: Vec<Worker>,
    peaks: Value,
    versions: Value,
    measured: Vec<Measurement>,
    failed: Vec<String>,
}

impl Bench {
    fn new(repo: &Repo) -> Result<Self> {
        let python = peers_venv(
            "venv-bench-engine",
            &repo.path("bench/engine/requirements.txt"),
        )?;
        for (package, example) in [
            ("openledger-kernels", "peaks"),
            ("openledger-finetune", "engine"),
        ] {
            let arguments = ["build", "--release", "-p", package, "--example", example];
            execute(&mut command(&repo.root, "cargo", &arguments))?;
        }
        let examples = repo.target_dir()?.join("release/examples");
        let peaks = examples.join("peaks");
        let peaks = read(&mut command(&repo.root, &peaks.to_string_lossy(), &[]))?;
        println!("peaks: {}", peaks.trim());
        let mut bench = Self {
            root: repo.root.clone(),
            folder: scratch(repo, "bench-engine")?,
            engine: examples.join("engine"),
            python,
            workers: Vec::new(),
            peaks: serde_json::from_str(&peaks)?,
            versions: Value::Null,
            measured: Vec::new(),
            failed: Vec::new(),
        };
        bench.start()?;
        bench.versions = bench.workers[TORCH].ask("versions")?;
        println!("peers: {}", bench.versions);
        Ok(bench)
    }

    /// Starts all sides afresh.
    fn start(&mut self) -> Result<()> {
        self.workers.clear();
        self.workers = vec![self.ours()?, self.peer("torch")?, self.peer("llama")?];
        Ok(())
    }

    fn ours(&self) -> Result<Worker> {
        let engine = command(&self.root, &self.engine.to_string_lossy(), &[]);
        Worker::start(engine, &self.folder.join("ours.log"))
    }

    /// A peer chooses its threads itself, whatever is set for other programs here.
    fn peer(&self, log: &str) -> Result<Worker> {
        let script = self.root.join("bench/engine/peers.py");
        let script = script.to_string_lossy();
        let python = self.python.to_string_lossy();
        let mut peer = command(&self.root, &python, &[script.as_ref()]);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("OPENBLAS_") || text.ends_with("_NUM_THREADS") {
                peer.env_remove(&name);
            }
        }
        peer.env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HF_HUB_OFFLINE", "1");
        Worker::start(peer, &self.folder.join(format!("{log}.log")))
    }

    /// The folder of a random model of this shape, made when first asked for, and its weights.
    fn model(&mut self, shape: &str) -> Result<(String, f64)> {
        let dir = self.folder.join(shape).to_string_lossy().into_owned();
        let saved = self.folder.join(format!("{shape}.parameters"));
        if !saved.exists() {
            let reply = self.workers[OURS].ask(&format!("save shape={shape} dir={dir}"))?;
            write_text(&saved, &reply["parameters"].to_string())?;
        }
        let parameters = crate::environment::read_text(&saved)?.parse()?;
        Ok((dir, parameters))
    }

    /// The same as a GGUF file.
    fn gguf(&mut self, shape: &str, kind: &str) -> Result<String> {
        let (dir, _) = self.model(shape)?;
        let file = self.folder.join(format!("{shape}-{kind}.gguf"));
        let to = file.to_string_lossy().into_owned();
        if !file.exists() {
            self.workers[LLAMA].ask(&format!("gguf dir={dir} to={to} type={kind}"))?;
        }
        Ok(to)
    }

    /// One race; afterwards all sides have forgotten what they held. The others go on if it fails.
    fn race(&mut self, what: &str, sides: &[Side], turns: Turns) -> Option<Vec<Timing>> {
        let outcome = race(&mut self.workers, sides, turns).and_then(|timings| {
            self.workers[OURS] = self.ours()?;
            self.workers[TORCH].ask("forget")?;
            self.workers[LLAMA].ask("forget")?;
            Ok(timings)
        });
        self.keep(what, outcome)
    }

    fn keep<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                println!("{what}: {error:#}");
                self.failed.push(format!("{what}: {error:#}"));
                if let Err(error) = self.start() {
                    self.failed.push(format!("starting again: {error:#}"));
                }
                None
            }
        }
    }

    fn add(&mut self, measurement: Measurement) {
        println!("{}", line(&measurement));
        self.measured.push(measurement);
    }

    /// Ours, the first of `timings`, against the best of the others.
    fn compare(&mut self, metric: String, timings: &[Timing], goal: f64) {
        let Some((ours, others)) = timings.split_first() else {
            return;
        };
        let best = others.iter().max_by(|a, b| a.rate().total_cmp(&b.rate()));
        let roof = self.roof(ours);
        println!("{metric}: {roof}");
        let measurement = Measurement {
            metric,
            unit: "tokens/s",
            ours: ours.rate(),
            peer: best.map(|peer| (peer.name.to_owned(), peer.rate())),
            goal: Some(Goal::RatioAtLeast(goal)),
            command: COMMAND,
            details: json!({
                "sides": timings.iter().map(Timing::json).collect::<Vec<_>>(),
                "roof": roof,
            }),
        };
        self.add(measurement);
    }

    /// What a side reaches of what the machine can do at most.
    fn roof(&self, side: &Timing) -> Value {
        let rate = |field: &str| side.per_second(field).map(|x| x / 1e9);
        let share = |rate: Option<f64>, peak: &str| {
            let peak = self.peaks[peak][1].as_f64()?;
            Some((1000.0 * rate? / peak).round() / 1000.0)
        };
        let (operations, bytes) = (rate("operations"), rate("bytes"));
        json!({
            "gflops": operations.map(f64::round),
            "of_bf16_peak": share(operations, "bf16_gflops"),
            "gb_per_second": bytes.map(|x| (10.0 * x).round() / 10.0),
            "of_read_bandwidth": share(bytes, "read_256mib_gb_s"),
        })
    }

    fn training(&mut self) {
        for (shape, name) in [("tiny", "tiny"), ("135m", "135M")] {
            for (batch, length) in [(8, 128), (2, 1024)] {
                for (verb, metric, goal, peers) in [
                    ("gradients", "LoRA gradient", 1.3, ["PEFT bf16", "PEFT f32"]),
                    (
                        "each",
                        "LoRA gradient an example",
                        2.0,
                        ["torch expanded bf16", "torch expanded f32"],
                    ),
                ] {
                    let metric = format!("{metric}, {name}, {batch} x {length}");
                    let model = self.model(shape);
                    let Some((dir, _)) = self.keep(&metric, model) else {
                        continue;
                    };
                    let work = format!("{verb} dir={dir} batch={batch} length={length}");
                    let sides = [
                        ours(&work),
                        torch(peers[0], &work, "bf16"),
                        torch(peers[1], &work, "f32"),
                    ];
                    if let Some(timings) = self.race(&metric, &sides, turns(2, 9, 10)) {
                        self.compare(metric, &timings, goal);
                    }
                }
            }
        }
    }

    fn serving(&mut self) {
        let metric = "prefill, 135M, 512 tokens".to_owned();
        let model = self.model("135m");
        let gguf = self.gguf("135m", "BF16");
        if let Some((dir, gguf)) = self.keep(&metric, model.and_then(|(dir, _)| Ok((dir, gguf?)))) {
            let work = format!("prefill dir={dir} length=512");
            let sides = [
                ours(&work),
                torch("torch bf16", &work, "bf16"),
                llama(
                    "llama.cpp BF16",
                    format!("llama_prefill gguf={gguf} length=512"),
                ),
            ];
            if let Some(timings) = self.race(&metric, &sides, turns(3, 15, 12)) {
                self.compare(metric, &timings, 1.2);
            }
        }
        for (format, kind, peer) in [
            ("bf16", "BF16", "llama.cpp BF16"),
            ("int8", "Q8_0", "llama.cpp Q8_0"),
        ] {
            for (lanes, steps) in [(1, 24), (16, 12), (64, 6)] {
                let metric = format!("decode, 135M, {format}, batch {lanes}");
                let model = self.model("135m");
                let gguf = self.gguf("135m", kind);
                let paths = model.and_then(|(dir, _)| Ok((dir, gguf?)));
                let Some((dir, gguf)) = self.keep(&metric, paths) else {
                    continue;
                };
                let work = format!("lanes={lanes} held={HELD} steps={steps}");
                let sides = [
                    ours(&format!("decode dir={dir} {work} format={format}")),
                    llama(peer, format!("llama_decode gguf={gguf} {work}")),
                ];
                if let Some(timings) = self.race(&metric, &sides, turns(3, 15, 8)) {
                    self.compare(metric, &timings, 1.1);
                }
            }
        }
    }

    fn memory(&mut self) {
        for (checkpointing, goal, note) in [
            ("off", Some(Goal::RatioAtMost(0.5)), ""),
            ("on", None, ", activations computed again"),
        ] {
            let metric = format!("peak memory of LoRA tuning, 135M, 8 x 128{note}");
            let outcome = self.peaks_of_memory(checkpointing);
            if let Some([ours, peft]) = self.keep(&metric, outcome) {
                self.add(Measurement {
                    metric,
                    unit: "MiB",
                    ours,
                    peer: Some(("PEFT bf16".to_owned(), peft)),
                    goal,
                    command: COMMAND,
                    details: Value::Null,
                });
            }
        }
    }

    /// Each in a process of its own, from start to end.
    fn peaks_of_memory(&mut self, checkpointing: &str) -> Result<[f64; 2]> {
        let (dir, _) = self.model("135m")?;
        let work = format!("memory dir={dir} batch=8 length=128 checkpointing={checkpointing}");
        let mut peaks = [0.0; 2];
        for (mut worker, peak) in [self.ours()?, self.peer("memory")?]
            .into_iter()
            .zip(&mut peaks)
        {
            let reply = worker.ask(&work)?;
            *peak = reply["peak"].as_f64().context("the reply has `peak`")?;
        }
        Ok(peaks)
    }

    fn modes(&mut self) {
        for (shape, name) in [("tiny", "tiny"), ("135m", "135M")] {
            let metric = format!("exact against fast, LoRA gradient, {name}, 8 x 128");
            let model = self.model(shape);
            let Some((dir, _)) = self.keep(&metric, model) else {
                continue;
            };
            let work = format!("gradients dir={dir} batch=8 length=128");
            let sides = [
                Side {
                    name: "exact",
                    worker: OURS,
                    line: format!("{work} mode=exact"),
                },
                ours(&work),
            ];
            let Some(timings) = self.race(&metric, &sides, turns(3, 9, 8)) else {
                continue;
            };
            self.add(Measurement {
                metric,
                unit: "ms",
                ours: 1000.0 * timings[0].seconds(),
                peer: Some(("fast".to_owned(), 1000.0 * timings[1].seconds())),
                goal: Some(Goal::RatioAtMost(4.0)),
                command: COMMAND,
                details: json!({
                    "sides": timings.iter().map(Timing::json).collect::<Vec<_>>()
                }),
            });
        }
    }

    /// Tokens a second against threads, length and size.
    fn growth(&mut self) -> Vec<Plot> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut counts: Vec<usize> = (0..)
            .map(|power| 1 << power)
            .take_while(|count| *count < cores)
            .collect();
        counts.push(cores);
        let mut threads = Plot::new("threads", "Speed by threads, 135M", ["threads", RATE]);
        for count in counts {
            let x = count as f64;
            self.train_point(
                &mut threads,
                x,
                ("135m", 8, 128),
                &format!(" threads={count}"),
                true,
            );
            self.prefill_point(&mut threads, x, 512, &format!(" threads={count}"));
        }
        let title = "Speed by sequence length, 135M, two sequences trained, one prefilled";
        let mut length = Plot::new("length", title, ["tokens in a sequence", RATE]);
        for power in 7..=12 {
            let (tokens, x) = (1 << power, f64::from(1 << power));
            // torch's activations at 2 x 4,096 need more memory than a small machine has.
            self.train_point(&mut length, x, ("135m", 2, tokens), "", tokens <= 2048);
            self.prefill_point(&mut length, x, tokens, "");
        }
        let mut size = Plot::new(
            "size",
            "Training speed by model size, 8 x 128",
            ["parameters", RATE],
        );
        for shape in ["tiny", "35m", "135m", "360m"] {
            let model = self.model(shape);
            if let Some((_, parameters)) = self.keep(shape, model) {
                self.train_point(&mut size, parameters, (shape, 8, 128), "", true);
            }
        }
        vec![threads, length, size]
    }

    fn train_point(
        &mut self,
        plot: &mut Plot,
        x: f64,
        (shape, batch, length): (&str, usize, usize),
        threads: &str,
        with_torch: bool,
    ) {
        let what = format!("training by {}, {x}", plot.name);
        let model = self.model(shape);
        let Some((dir, _)) = self.keep(&what, model) else {
            return;
        };
        let work = format!("gradients dir={dir} batch={batch} length={length}{threads}");
        let mut sides = vec![ours(&work)];
        if with_torch {
            // Eager attention won every trial of short sequences; no time to try again.
            let work = format!("{work} attention=eager");
            sides.push(torch("PEFT bf16", &work, "bf16"));
        }
        let Some(timings) = self.race(&what, &sides, turns(1, 5, 3)) else {
            return;
        };
        println!(
            "{what}: {:.0} tokens/s, {}",
            timings[0].rate(),
            self.roof(&timings[0])
        );
        let names = ["LoRA training, OpenLedger", "LoRA training, PEFT bf16"];
        for (name, timing) in names.into_iter().zip(&timings) {
            plot.add(name, x, timing.rate());
        }
    }

    fn prefill_point(&mut self, plot: &mut Plot, x: f64, length: usize, threads: &str) {
        let what = format!("prefill by {}, {x}", plot.name);
        let model = self.model("135m");
        let Some((dir, _)) = self.keep(&what, model) else {
            return;
        };
        let work = format!("prefill dir={dir} length={length}{threads}");
        if let Some(timings) = self.race(&what, &[ours(&work)], turns(2, 9, 2)) {
            println!(
                "{what}: {:.0} tokens/s, {}",
                timings[0].rate(),
                self.roof(&timings[0])
            );
            plot.add("prefill, OpenLedger", x, timings[0].rate());
        }
    }
}

fn ours(work: &str) -> Side {
    Side {
        name: "OpenLedger",
        worker: OURS,
        line: work.to_owned(),
    }
}

fn torch(name: &'static str, work: &str, dtype: &str) -> Side {
    Side {
        name,
        worker: TORCH,
        line: format!("{work} dtype={dtype}"),
    }
}

fn llama(name: &'static str, line: String) -> Side {
    Side {
        name,
        worker: LLAMA,
        line,
    }
}

fn turns(least: usize, most: usize, seconds: u64) -> Turns {
    Turns {
        least,
        most,
        time: Duration::from_secs(seconds),
    }
}
