//! Tokens per second of gradients and decoding on one thread.
//!
//! `cargo run --release -p openledger-model --example model_throughput [model directory]`; without a
//! directory it measures a random model of 1.3 million parameters.
#![allow(clippy::print_stdout, reason = "a report for a person")]

use std::path::Path;
use std::time::{Duration, Instant};

use openledger_model::{
    Adapter, Base, Config, Error, Example, KvCache, Lane, LoraConfig, Target, Workspace,
    full_gradients, lora_gradients, loss, step,
};

/// Processor time of this thread where the system tells it, so that a shared machine does not
/// matter; else time on the clock.
fn clock(start: Instant) -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Tokens per second over the repeats of one second.
fn rate(tokens: usize, mut run: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    run()?;
    let zero = Instant::now();
    let (start, mut runs) = (clock(zero), 0);
    loop {
        run()?;
        runs += 1;
        let took = clock(zero).saturating_sub(start);
        if took > Duration::from_secs(1) {
            return Ok((tokens * runs) as f64 / took.as_secs_f64());
        }
    }
}

fn main() -> Result<(), Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("nothing has used the pool yet");
    let base = match std::env::args().nth(1) {
        Some(directory) => Base::load(Path::new(&directory))?,
        None => Base::random(
            Config {
                hidden: 128,
                layers: 5,
                heads: 8,
                kv_heads: 4,
                head_dim: 16,
                mlp: 384,
                vocab: 2048,
                context: 512,
                rope_theta: 10_000.0,
                norm_eps: 1e-6,
                tie_embeddings: true,
                bos: Some(0),
                eos: vec![1],
                features: openledger_model::Features::default(),
            },
            1,
        ),
    };
    let c = &base.config;
    let lora = LoraConfig {
        rank: 16,
        alpha: 32.0,
        dropout: 0.0,
        targets: Target::ALL.to_vec(),
        ..LoraConfig::default()
    };
    let adapter = Adapter::new(c, lora, 1)?;
    let mut ws = Workspace::new();
    println!(
        "{}, {} weights, {}",
        c.shape(),
        base.params().len(),
        ws.isa().name()
    );

    for len in [128, 256] {
        let tokens = (0..=len).map(|i| (i * 31 % 2000) as u32).collect();
        let example = Example {
            tokens,
            loss_from: 1,
        };
        let mut grads = vec![0.0; adapter.params().len()];
        let mut full = vec![0.0; base.params().len()];
        println!(
            "{len} tokens an example, tokens/s: forward {:.0}, with adapter {:.0}, LoRA gradients {:.0}, full gradients {:.0}",
            rate(len, || loss(&base, None, &example, &mut ws).map(drop))?,
            rate(len, || loss(&base, Some(&adapter), &example, &mut ws)
                .map(drop))?,
            rate(len, || lora_gradients(
                &base, &adapter, &example, &mut grads, &mut ws
            )
            .map(drop))?,
            rate(len, || full_gradients(&base, &example, &mut full, &mut ws)
                .map(drop))?,
        );
    }

    let adapters: Vec<Adapter> = (0..32)
        .map(|seed| Adapter::new(c, adapter.config.clone(), seed))
        .collect::<Result<_, _>>()?;
    for lanes in [1, 8, 32] {
        for with in [false, true] {
            let mut caches: Vec<KvCache> = (0..lanes).map(|_| KvCache::new(c, 512)).collect();
            let prompt: Vec<u32> = (0..128).collect();
            let mut advance = |tokens: &[u32], back: usize| {
                let mut batch: Vec<Lane<'_>> = caches
                    .iter_mut()
                    .zip(&adapters)
                    .map(|(cache, adapter)| {
                        cache.truncate(back);
                        Lane {
                            tokens,
                            cache,
                            adapter: with.then_some(adapter),
                            all_logits: false,
                        }
                    })
                    .collect();
                step(&base, &mut batch, &mut ws).map(drop)
            };
            let prefill = rate(lanes * 128, || advance(&prompt, 0))?;
            let decode = rate(lanes, || advance(&[7], 128))?;
            let with = if with { "own adapters" } else { "base only" };
            println!(
                "{lanes} lanes, {with}, tokens/s: prefill {prefill:.0}, decode at 128 {decode:.0}"
            );
        }
    }
    Ok(())
}
