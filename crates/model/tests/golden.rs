//! The decoder against values that torch and transformers computed (`tests/peers`).
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use std::path::PathBuf;

use openledger_model::{
    Base, Example, KvCache, Lane, Sampler, SamplingConfig, Tokenizer, Workspace, full_gradients,
    step,
};
use serde::Deserialize;

/// Sums of a few hundred f32 products in another order: rounding differs by about 1e-6 of the
/// largest value; logits reach 20.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    training: Training,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: Vec<u32>,
    decoded: String,
    last_logits: Vec<f64>,
    logits: Vec<(usize, f64)>,
    greedy: Vec<u32>,
    greedy_text: String,
    greedy_margin: f64,
}

#[derive(Deserialize)]
struct Training {
    loss_from: usize,
    mean_loss: f64,
    gradients: std::collections::BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    values: Vec<(usize, f64)>,
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model_directory() -> PathBuf {
    let directory = repository().join("../shared/models/tinystories-656k");
    assert!(
        directory.is_dir(),
        "the model tinystories-656k is not at {}",
        directory.display()
    );
    directory
}

fn golden() -> Golden {
    let path = repository().join("fixtures/model/tinystories-656k.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn close(found: impl Into<f64>, want: f64, scale: f64, what: &str) {
    let found = found.into();
    assert!(
        (found - want).abs() <= TOLERANCE * scale,
        "{what}: {found}, torch has {want}"
    );
}

#[test]
fn tokens_are_those_of_the_reference() {
    let tokenizer = Tokenizer::load(&model_directory()).unwrap();
    for case in golden().cases {
        assert_eq!(tokenizer.encode(&case.text), case.tokens[1..]);
        assert_eq!(tokenizer.decode(&case.tokens), case.decoded);
        assert_eq!(tokenizer.decode(&case.greedy), case.greedy_text);
    }
}

#[test]
fn logits_are_those_of_the_reference() {
    let base = Base::load(&model_directory()).unwrap();
    let mut ws = Workspace::new();
    for case in golden().cases {
        let mut cache = KvCache::new(&base.config, 64);
        let lane = Lane {
            tokens: &case.tokens,
            cache: &mut cache,
            adapter: None,
            all_logits: true,
        };
        let out = step(&base, &mut [lane], &mut ws).unwrap().remove(0);
        let scale = case.last_logits.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        for (index, want) in case.logits {
            close(out.logits[index], want, scale, "a logit");
        }
        let last = &out.logits[out.logits.len() - base.config.vocab..];
        for (found, want) in last.iter().zip(case.last_logits) {
            close(*found, want, scale, "a last logit");
        }
    }
}

#[test]
fn greedy_text_is_that_of_the_reference() {
    let base = Base::load(&model_directory()).unwrap();
    let mut ws = Workspace::new();
    for case in golden().cases {
        assert!(
            case.greedy_margin > 1e-3,
            "the reference itself had to break a tie"
        );
        let mut cache = KvCache::new(&base.config, 128);
        let mut sampler = Sampler::new(SamplingConfig::default()).unwrap();
        let mut next = case.tokens.clone();
        let mut found = Vec::new();
        while found.len() < case.greedy.len() {
            let lane = Lane {
                tokens: &next,
                cache: &mut cache,
                adapter: None,
                all_logits: false,
            };
            let out = step(&base, &mut [lane], &mut ws).unwrap();
            next = vec![sampler.sample(&out[0].logits).unwrap().token];
            found.push(next[0]);
        }
        assert_eq!(found, case.greedy);
    }
}

#[test]
fn gradients_are_those_of_autograd() {
    let base = Base::load(&model_directory()).unwrap();
    let golden = golden();
    let example = Example {
        tokens: golden.cases[0].tokens.clone(),
        loss_from: golden.training.loss_from,
    };
    let mut grads = vec![0.0; base.params().len()];
    let loss = full_gradients(&base, &example, &mut grads, &mut Workspace::new()).unwrap();
    close(loss.mean(), golden.training.mean_loss, 1.0, "the loss");
    for (name, at, shape) in base.layout() {
        let want = &golden.training.gradients[&name];
        let part = &grads[at..at + shape.iter().product::<usize>()];
        let norm = part
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        close(norm, want.norm, want.norm, &name);
        for (index, value) in &want.values {
            close(part[*index], *value, want.norm, &name);
        }
    }
}
