//! Output tokens a second of one engine: `throughput BASE_DIR [ADAPTERS] [LANES]`.
//!
//! Sixteen requests in flight over the given number of adapters (0 = the base alone), each with a
//! prompt of 64 random tokens and 32 answer tokens.
#![allow(clippy::print_stdout, reason = "output of a command-line tool")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use openledger_model::template::Template;
use openledger_model::{Adapter, Base, LoraConfig, Target, Tokenizer};
use openledger_serving::{Engine, EngineConfig, Event, Prompt, Request, Sampling};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput BASE_DIR [ADAPTERS] [LANES]".into());
    };
    let number = |index: usize, default: usize| -> Result<usize, std::num::ParseIntError> {
        rest.get(index).map_or(Ok(default), |text| text.parse())
    };
    let (adapters, lanes) = (number(0, 0)?, number(1, 16)?);
    let base = Arc::new(Base::load(Path::new(directory))?);
    let tokenizer = Tokenizer::load(Path::new(directory))?;
    let template = Template::for_tokenizer(&tokenizer);
    let config = EngineConfig {
        lanes,
        ..EngineConfig::default()
    };
    let engine = Engine::start(Arc::clone(&base), tokenizer, template, config)?;
    let scratch = std::env::temp_dir().join(format!("openlora-{}", std::process::id()));
    for index in 0..adapters {
        let lora = LoraConfig {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Target::ALL.to_vec(),
            ..LoraConfig::default()
        };
        let path = scratch.join(index.to_string());
        Adapter::new(&base.config, lora, index as u64)?.save_peft(&path, "base")?;
        engine.adapters().load(&index.to_string(), &path)?;
    }
    let vocab = base.config.vocab as u32;
    let request = |number: usize| {
        let name = (adapters > 0).then(|| (number * 7 % adapters).to_string());
        let tokens = (0..64).map(|i| (i * 31 + number as u32 * 17) % (vocab - 3) + 3);
        let mut request = Request::new(name.as_deref(), Prompt::Tokens(tokens.collect()));
        request.sampling = Sampling {
            max_tokens: Some(32),
            ignore_eos: true,
            ..Sampling::greedy()
        };
        request
    };
    let begun = Instant::now();
    let (total, mut next, mut tokens) = (128, 0, 0);
    let mut running = std::collections::VecDeque::new();
    while next < total || !running.is_empty() {
        while next < total && running.len() < lanes {
            running.push_back(engine.submit(request(next))?);
            next += 1;
        }
        let Some(mut answers) = running.pop_front() else {
            break;
        };
        while let Some(event) = answers.events.blocking_recv() {
            tokens += usize::from(matches!(event, Event::Token { .. }));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let stats = engine.stats();
    println!(
        "{adapters} adapters, {lanes} lanes: {tokens} output tokens in {seconds:.2} s = {:.0} tok/s, {} steps, {:.1} ms a load",
        tokens as f64 / seconds,
        stats.steps,
        1000.0 * stats.adapters.load_seconds / stats.adapters.loads.max(1) as f64
    );
    if adapters > 0 {
        std::fs::remove_dir_all(&scratch)?;
    }
    Ok(())
}
