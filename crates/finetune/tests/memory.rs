//! The memory that an estimate foretells is the memory that a run takes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; a process tells its parent what it took"
)]

use std::path::{Path, PathBuf};

use openledger_finetune::{
    Control, Dataset, Length, Method, Mode, Optimizer, Quantization, Recipe, Row, memory,
    train_from,
};
use openledger_model::template::Template;
use openledger_model::{Config, Tokenizer};

/// Bytes that one line of this process's status tells.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.unwrap().trim().strip_suffix("kB").unwrap();
    kibibytes.trim().parse::<u64>().unwrap() * 1024
}

/// Names the case that a process of its own measures.
const CASE: &str = "OPENLEDGER_MEMORY_CASE";

/// How much the estimate may be below and above what is taken: it must not promise too much, and
/// should not refuse what fits.
const BOUNDS: (f64, f64) = (0.85, 1.6);

// Every case runs in a process of its own: an allocator keeps what the case before has freed.
#[test]
fn a_run_takes_the_memory_that_was_foretold() {
    if let Ok(name) = std::env::var(CASE) {
        println!("taken {}", taken(&name));
        return;
    }
    let mut wrong = Vec::new();
    for (name, recipe) in recipes() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_run_takes_the_memory_that_was_foretold",
                "--nocapture",
            ])
            .env(CASE, name)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let taken = text.lines().find_map(|line| line.split_once("taken "));
        let taken: f64 = taken
            .unwrap_or_else(|| panic!("{name}: {text}"))
            .1
            .parse()
            .unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS);
        let config = Config::load(&base()).unwrap();
        let foretold = pool
            .build()
            .unwrap()
            .install(|| memory(&config, &recipe, TOKENS));
        let ratio = foretold as f64 / taken;
        println!("{name}: foretold {foretold}, taken {taken}, ratio {ratio:.2}");
        if ratio < BOUNDS.0 || ratio > BOUNDS.1 {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

const THREADS: usize = 2;

/// Longest row, tokens.
const TOKENS: usize = 500;

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bundled/base")
}

fn recipes() -> [(&'static str, Recipe); 6] {
    let plain = Recipe {
        arithmetic: Mode::Fast,
        batch: 8,
        length: Length::Steps(2),
        eval_fraction: 0.0,
        eval_every: 0,
        checkpoint_every: 2,
        ..Recipe::default()
    };
    [
        ("lora, fast", plain.clone()),
        (
            "lora, exact",
            Recipe {
                arithmetic: Mode::Exact,
                ..plain.clone()
            },
        ),
        (
            "qlora",
            Recipe {
                method: Method::Qlora,
                quantization: Quantization::Nf4,
                ..plain.clone()
            },
        ),
        (
            "checkpointing",
            Recipe {
                gradient_checkpointing: true,
                ..plain.clone()
            },
        ),
        (
            "full",
            Recipe {
                method: Method::Full,
                ..plain.clone()
            },
        ),
        (
            "full, 8-bit Adam",
            Recipe {
                method: Method::Full,
                optimizer: Optimizer::Adamw8bit,
                ..plain
            },
        ),
    ]
}

/// Bytes that a run takes beyond what this process holds before it.
fn taken(name: &str) -> u64 {
    let recipes = recipes();
    let (_, recipe) = recipes.iter().find(|(known, _)| *known == name).unwrap();
    let base = base();
    let tokenizer = Tokenizer::load(&base).unwrap();
    let template = Template::for_tokenizer(&tokenizer);
    let config = Config::load(&base).unwrap();
    let text = "Every row has an owner, a licence and a price. ".repeat(100);
    let rows: Vec<Row> = (0..32).map(|id| Row::new(id, None, text.clone())).collect();
    let dataset = Dataset::from_rows(&rows, &tokenizer, &config, TOKENS, &template).unwrap();
    let run = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS);
    // Since Linux 4.0 a 5 sets the high-water mark back to what is held now (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    pool.build().unwrap().install(|| {
        train_from(&base, &dataset, recipe, run.path(), &mut |_| {
            Control::Continue
        })
        .unwrap();
    });
    status("VmHWM:") - before
}
