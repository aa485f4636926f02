//! Our side of `cargo xtask bench engine`: does one piece of work a line and says how long it took.
//!
//! `echo 'gradients dir=MODEL batch=8 length=128' | cargo run --release -p openledger-finetune --example engine`
//!
//! A line is a word and settings, `name=value`; the reply is one JSON object: `wall` and `cpu`
//! seconds, `tokens`, `operations`, `bytes`, and `check`, numbers that the other side must come to as
//! well. What a line needs is made when the line first comes and kept, so the first reply is the
//! warm-up. Lines:
//!
//! | line | what is timed |
//! |---|---|
//! | `save dir= shape=` | nothing: writes a random model of that shape, in bf16 |
//! | `gradients dir= batch= length= [mode=] [threads=]` | one batch's LoRA gradient, summed |
//! | `each dir= batch= length= [threads=]` | the same, a gradient for every example |
//! | `prefill dir= length= [format=] [threads=]` | a prompt, up to the last token's logits |
//! | `decode dir= lanes= held= steps= [format=] [threads=]` | steps of one token in each lane |
//! | `memory dir= batch= length= checkpointing=` | a tuning run; `peak` MiB of this process |
#![allow(clippy::print_stdout, reason = "replies to the program that asks")]

mod shapes;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a piece of work comes to.
struct Outcome {
    /// Tokens processed.
    tokens: usize,
    /// Numbers that every side must come to.
    check: Vec<f64>,
    /// Floating-point operations that it takes, without what is computed again.
    operations: f64,
    /// Bytes of weights, keys and values that it must read, where these are what limits it.
    bytes: Option<f64>,
}

/// Prepared work, ready to be timed.
type Work = Box<dyn FnMut() -> Fallible<Outcome> + Send>;

/// The settings of a line.
struct Settings<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Settings<'a> {
    fn parse(words: impl Iterator<Item = &'a str>) -> Fallible<Self> {
        words
            .map(|word| {
                word.split_once('=')
                    .ok_or_else(|| format!("`{word}` is not name=value").into())
            })
            .collect::<Fallible<_>>()
            .map(Self)
    }

    fn text(&self, name: &str) -> Fallible<&'a str> {
        let value = self.0.get(name).copied();
        value.ok_or_else(|| format!("the line has no {name}=").into())
    }

    fn or(&self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).copied().unwrap_or(default)
    }

    fn number(&self, name: &str) -> Fallible<usize> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|_| format!("{name}={text} is not a whole number").into())
    }
}

fn main() -> Fallible<()> {
    let mut works: HashMap<String, (rayon::ThreadPool, Work)> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let Some(verb) = words.next() else { continue };
        let settings = Settings::parse(words)?;
        let reply = match verb {
            "save" => {
                let directory = settings.text("dir")?.as_ref();
                json!({ "parameters": shapes::save(settings.text("shape")?, directory)? })
            }
            "memory" => work::memory(&settings)?,
            _ => {
                let (pool, work) = match works.entry(line.clone()) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        let threads = match settings.0.contains_key("threads") {
                            true => settings.number("threads")?,
                            false => std::thread::available_parallelism()?.get(),
                        };
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                        let pool = pool.build()?;
                        let work = pool.install(|| work::prepare(verb, &settings))?;
                        entry.insert((pool, work))
                    }
                };
                timed(pool, work)?
            }
        };
        println!("{reply}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn timed(pool: &rayon::ThreadPool, work: &mut Work) -> Fallible<Value> {
    let (start, before) = (Instant::now(), processor_seconds()?);
    let outcome = pool.install(work)?;
    let wall = start.elapsed().as_secs_f64();
    Ok(json!({
        "wall": wall,
        "cpu": processor_seconds()? - before,
        "tokens": outcome.tokens,
        "check": outcome.check,
        "operations": outcome.operations,
        "bytes": outcome.bytes,
    }))
}

/// Processor seconds of all threads of this process so far, to the nanosecond.
fn processor_seconds() -> Fallible<f64> {
    let mut nanoseconds = 0_u64;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().unwrap_or_default();
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
