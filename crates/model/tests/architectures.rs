//! Every architecture against values that transformers, PEFT and autograd computed for a tiny
//! model of it (`tests/peers/golden_architectures.py`).
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{logits, repository};
use openledger_model::{
    Adapter, Arithmetic, Base, Example, Fast, Format, Isa, KvCache, Lane, Target, Workspace,
    full_gradients, full_gradients_pack, lora_gradients, loss, step,
};
use serde::Deserialize;

const NAMES: [&str; 10] = [
    "gemma2",
    "gemma3",
    "llama-linear",
    "llama-yarn",
    "llama2",
    "llama3",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
];

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    /// Of the last positions.
    logits: Vec<Vec<f64>>,
    greedy: Vec<u32>,
    greedy_margin: f64,
    loss_from: usize,
    full: Training,
    lora: Training,
}

#[derive(Deserialize)]
struct Training {
    /// Evenly spaced logits of all positions.
    logits: Vec<(usize, f64)>,
    mean_loss: f64,
    gradients: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    values: Vec<(usize, f64)>,
}

impl Reference {
    fn example(&self) -> Example {
        Example {
            tokens: self.tokens.clone(),
            loss_from: self.loss_from,
        }
    }

    /// The largest logit, to which errors are relative.
    fn scale(&self) -> f64 {
        let all = self.logits.iter().flatten();
        all.fold(0.0, |largest, x| x.abs().max(largest))
    }
}

fn directory(name: &str) -> PathBuf {
    repository("fixtures/model/architectures").join(name)
}

fn reference(name: &str) -> Reference {
    let path = directory(name).join("reference.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn exact(name: &str) -> Base {
    Base::load(&directory(name)).unwrap()
}

fn fast(name: &str) -> Base<Fast> {
    Base::load_as(&directory(name), Format::Bf16).unwrap()
}

fn adapter<A: Arithmetic>(name: &str, base: &Base<A>) -> Adapter {
    Adapter::load_peft(&directory(name).join("adapter"), &base.config).unwrap()
}

#[track_caller]
fn close(found: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (found - want).abs() <= tolerance,
        "{what}: {found}, the reference has {want} (within {tolerance:e})"
    );
}

/// Compares logits with the reference, bare and under the adapter; returns the largest error in
/// largest logits.
fn check_logits<A: Arithmetic>(name: &str, base: &Base<A>, relative: f64) -> f64 {
    let want = reference(name);
    let tolerance = relative * want.scale();
    let found = logits(base, None, &want.tokens);
    let last = found.len() - want.logits.len() * base.config.vocab;
    let mut worst = 0.0_f64;
    let mut check = |found: f32, want: f64, what: &str| {
        worst = worst.max((f64::from(found) - want).abs());
        close(
            f64::from(found),
            want,
            tolerance,
            &format!("{name}: {what}"),
        );
    };
    for (found, want) in found[last..].iter().zip(want.logits.iter().flatten()) {
        check(*found, *want, "a logit");
    }
    for (index, want) in &want.full.logits {
        check(found[*index], *want, "a logit");
    }
    let adapted = logits(base, Some(&adapter(name, base)), &want.tokens);
    for (index, want) in &want.lora.logits {
        check(adapted[*index], *want, "an adapted logit");
    }
    worst / want.scale()
}

fn greedy<A: Arithmetic>(base: &Base<A>, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut cache = KvCache::new(&base.config, prompt.len() + count);
    let (mut next, mut found) = (prompt.to_vec(), Vec::new());
    while found.len() < count {
        let lane = Lane {
            tokens: &next,
            cache: &mut cache,
            adapter: None,
            all_logits: false,
        };
        let out = step(base, &mut [lane], &mut Workspace::new()).unwrap();
        let best = (0..base.config.vocab).max_by(|a, b| {
            let logit = |i: &usize| out[0].logits[*i];
            logit(a).total_cmp(&logit(b))
        });
        next = vec![best.unwrap() as u32];
        found.push(next[0]);
    }
    found
}

#[test]
fn exact_logits_are_those_of_transformers() {
    for name in NAMES {
        // Sums in another order; the largest error of all is near 2e-6.
        check_logits(name, &exact(name), 1e-4);
    }
}

#[test]
fn fast_logits_are_those_of_transformers() {
    for name in NAMES {
        check_logits(name, &fast(name), 2e-2);
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in NAMES {
        let want = reference(name);
        assert!(want.greedy_margin > 0.03, "{name}: the choices were close");
        let count = want.greedy.len();
        assert_eq!(
            greedy(&exact(name), &want.tokens, count),
            want.greedy,
            "{name}"
        );
        assert_eq!(
            greedy(&fast(name), &want.tokens, count),
            want.greedy,
            "{name}"
        );
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

/// Compares a flat gradient with autograd's, tensor by tensor.
fn check_gradients(
    name: &str,
    layout: &[(String, usize, Vec<usize>)],
    found: &[f32],
    want: &Training,
    relative: f64,
) {
    assert_eq!(layout.len(), want.gradients.len(), "{name}: other tensors");
    for (tensor, at, shape) in layout {
        let found = &found[*at..*at + shape.iter().product::<usize>()];
        let want = &want.gradients[tensor];
        let tolerance = relative * want.norm;
        let what = format!("{name}: gradient of {tensor}");
        assert!(want.norm > 1e-4, "{what} is nothing");
        close(norm(found), want.norm, tolerance, &what);
        for (index, value) in &want.values {
            close(f64::from(found[*index]), *value, tolerance, &what);
        }
    }
}

fn check_training<A: Arithmetic>(name: &str, base: &Base<A>, relative: f64) {
    let want = reference(name);
    let (example, mut ws) = (want.example(), Workspace::new());

    let mut grads = vec![0.0; base.params().len()];
    let loss = full_gradients(base, &example, &mut grads, &mut ws).unwrap();
    close(loss.mean(), want.full.mean_loss, relative, name);
    check_gradients(name, &base.layout(), &grads, &want.full, relative);

    let adapter = adapter(name, base);
    let mut grads = vec![0.0; adapter.params().len()];
    let loss = lora_gradients(base, &adapter, &example, &mut grads, &mut ws).unwrap();
    close(loss.mean(), want.lora.mean_loss, relative, name);
    check_gradients(name, &adapter.layout(), &grads, &want.lora, relative);
}

#[test]
fn exact_gradients_are_those_of_autograd() {
    for name in NAMES {
        check_training(name, &exact(name), 1e-4);
    }
}

/// Products of bf16 have 8 bits each; over a few layers of a model whose attention is sharp that
/// is a few percent of a tensor's gradient.
#[test]
fn fast_gradients_are_near_those_of_autograd() {
    for name in NAMES {
        check_training(name, &fast(name), 1e-1);
    }
}

#[test]
fn checkpointing_changes_no_bit() {
    for name in NAMES {
        let (base, example) = (exact(name), reference(name).example());
        let mut kept = vec![0.0; base.params().len()];
        full_gradients(&base, &example, &mut kept, &mut Workspace::new()).unwrap();
        let mut ws = Workspace::new();
        ws.checkpointing = true;
        let mut again = vec![0.0; kept.len()];
        full_gradients(&base, &example, &mut again, &mut ws).unwrap();
        assert!(kept == again, "{name}");
    }
}

/// Decoding with a cache, prefill in pieces and the whole prompt are one function; windows of a
/// cache end where those of a sequence do.
#[test]
fn steps_with_a_cache_have_the_bits_of_the_whole() {
    for name in NAMES {
        let (base, want) = (exact(name), reference(name));
        let adapter = adapter(name, &base);
        let whole = logits(&base, Some(&adapter), &want.tokens);
        for pieces in [vec![1; 40], vec![33, 1, 1, 5], vec![7, 32, 1]] {
            let mut cache = KvCache::new(&base.config, 64);
            let (mut rest, mut found) = (want.tokens.as_slice(), Vec::new());
            for count in pieces {
                let (tokens, more) = rest.split_at(count);
                rest = more;
                let lane = Lane {
                    tokens,
                    cache: &mut cache,
                    adapter: Some(&adapter),
                    all_logits: true,
                };
                let out = step(&base, &mut [lane], &mut Workspace::new()).unwrap();
                found.extend_from_slice(&out[0].logits);
            }
            assert!(found == whole, "{name}");
        }
        // The loss is that of these logits too.
        let example = want.example();
        let forward = loss(&base, Some(&adapter), &example, &mut Workspace::new()).unwrap();
        let of_logits: f64 = (example.loss_from..example.tokens.len())
            .map(|i| {
                let row = &whole[(i - 1) * base.config.vocab..][..base.config.vocab];
                -openledger_model::log_probability(row, example.tokens[i])
            })
            .sum();
        assert!((forward.sum - of_logits).abs() < 1e-11, "{name}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_instruction_set_has_the_same_bits() {
    for name in NAMES {
        let (base, want) = (exact(name), reference(name));
        let (adapter, example) = (adapter(name, &base), want.example());
        let short = Example {
            tokens: want.tokens[..17].to_vec(),
            loss_from: 1,
        };
        let run = |isa: Isa| {
            let mut ws = Workspace::with_isa(isa);
            let mut full = vec![0.0; base.params().len()];
            let pack = [&example, &short];
            full_gradients_pack(&base, &pack, Some(0.01), &mut full, &mut ws).unwrap();
            let mut lora = vec![0.0; adapter.params().len()];
            lora_gradients(&base, &adapter, &example, &mut lora, &mut ws).unwrap();
            let mut cache = KvCache::new(&base.config, 64);
            let lane = Lane {
                tokens: &want.tokens,
                cache: &mut cache,
                adapter: Some(&adapter),
                all_logits: true,
            };
            let out = step(&base, &mut [lane], &mut ws).unwrap().remove(0);
            [bits(&full), bits(&lora), bits(&out.logits)]
        };
        let portable = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert!(run(isa) == portable, "{name} on {}", isa.name());
        }
    }
}

#[test]
fn saved_models_load_with_the_same_bits() {
    for name in NAMES {
        let base = exact(name);
        let copy = tempfile::tempdir().unwrap();
        base.save(copy.path(), openledger_model::Dtype::F32)
            .unwrap();
        let again = Base::load(copy.path()).unwrap();
        assert_eq!(again.config, base.config, "{name}");
        assert!(again.params() == base.params(), "{name}");
        let want = reference(name);
        assert!(
            logits(&again, None, &want.tokens) == logits(&base, None, &want.tokens),
            "{name}"
        );
    }
}

#[test]
fn adapters_fit_the_linears_that_a_model_has() {
    let (phi, llama) = (exact("phi3"), exact("llama2"));
    assert_eq!(adapter("phi3", &phi).config.targets, {
        let mut targets = Target::of(&phi.config).to_vec();
        targets.sort_unstable();
        targets
    });
    let mut config = adapter("phi3", &phi).config;
    let error = Adapter::new(&llama.config, config.clone(), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "targets = qkv_proj is out of range: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, \
         down_proj in this model"
    );
    config.targets = vec![Target::V];
    let error = Adapter::new(&phi.config, config, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "targets = v_proj is out of range: qkv_proj, o_proj, gate_up_proj, down_proj in this model"
    );
}
