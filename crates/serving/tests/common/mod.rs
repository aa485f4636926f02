//! A small random model with a real tokenizer, and adapters that change its answers.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "shared by several test files"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_model::template::Template;
use openledger_model::{Adapter, Base, Config, LoraConfig, Target, Tokenizer};
use openledger_serving::{
    Answers, Completion, Engine, EngineConfig, Event, Prompt, Request, Sampling,
};

/// Tokens of an answer that is still running whenever a test looks: about a second of work, cut
/// short when the test drops it.
pub(crate) const LONG: u32 = 4_000;

pub(crate) fn config() -> Config {
    Config {
        hidden: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        mlp: 64,
        vocab: 300,
        context: 4096,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: openledger_model::Features::default(),
    }
}

/// A base with wide weights, so that its choices are not all alike.
pub(crate) fn base() -> Arc<Base> {
    let mut base = Base::random(config(), 11);
    base.update(|weights| weights.iter_mut().for_each(|w| *w *= 6.0));
    Arc::new(base)
}

pub(crate) fn tokenizer() -> Tokenizer {
    let text = "the quick brown fox jumps over the lazy dog and then it naps, as dogs do. ";
    Tokenizer::train(std::iter::repeat_n(text, 8), 300).unwrap()
}

/// Writes an adapter whose update is far from zero.
pub(crate) fn write_adapter(directory: &Path, seed: u64, rank: usize) -> PathBuf {
    let lora = LoraConfig {
        rank,
        alpha: 2.0 * rank as f32,
        dropout: 0.0,
        targets: Target::ALL.to_vec(),
        ..LoraConfig::default()
    };
    let mut adapter = Adapter::new(&config(), lora, seed).unwrap();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for value in adapter.params_mut() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *value += ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.4;
    }
    let path = directory.join(format!("adapter-{seed}"));
    adapter.save_peft(&path, "base").unwrap();
    path
}

pub(crate) fn start(config: EngineConfig) -> Engine {
    Engine::start(base(), tokenizer(), Template::leading_space(), config).unwrap()
}

pub(crate) fn request(model: Option<&str>, text: &str, max_tokens: u32) -> Request {
    let mut request = Request::new(model, Prompt::Text(text.into()));
    request.sampling = Sampling {
        max_tokens: Some(max_tokens),
        temperature: 0.8,
        ignore_eos: true,
        ..Sampling::default()
    };
    request
}

/// Waits for the end; returns the completions by choice and the text as it was streamed.
pub(crate) fn collect(mut answers: Answers) -> (Vec<Completion>, Vec<String>) {
    let mut done = Vec::new();
    let mut streamed: Vec<String> = Vec::new();
    let mut show = |choice: u32, text: &str| {
        streamed.resize(streamed.len().max(choice as usize + 1), String::new());
        streamed[choice as usize].push_str(text);
    };
    while let Some(event) = answers.events.blocking_recv() {
        match event {
            Event::Prompt { .. } => {}
            Event::Token { choice, text, .. } => show(choice, &text),
            Event::Done {
                choice,
                tail,
                completion,
            } => {
                show(choice, &tail);
                done.push((choice, *completion));
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    done.sort_by_key(|(choice, _)| *choice);
    (done.into_iter().map(|(_, done)| done).collect(), streamed)
}

pub(crate) fn one(engine: &Engine, request: Request) -> Completion {
    collect(engine.submit(request).unwrap()).0.remove(0)
}
