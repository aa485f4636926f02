//! Adapters against the PEFT library: files of ours that it read, and files of its own.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{config, logits, repository};
use openledger_model::export::Source;
use openledger_model::{
    Adapter, Base, Config, Dtype, Encoding, Example, KvCache, Lane, LoraConfig, Target, Workspace,
    lora_gradients, step,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Rounding of f32 sums in another order, relative to the largest value.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<u32>,
    loss_from: usize,
    mean_loss: f64,
    largest_change: f64,
    logits: Vec<(usize, f64)>,
    gradients: std::collections::BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    values: Vec<(usize, f64)>,
}

fn fixtures() -> PathBuf {
    repository("fixtures/model")
}

fn tinystories_path() -> PathBuf {
    let directory = repository("../shared/models/tinystories-656k");
    assert!(
        directory.is_dir(),
        "the model tinystories-656k is not at {}",
        directory.display()
    );
    directory
}

fn tinystories() -> Base {
    Base::load(&tinystories_path()).unwrap()
}

/// An adapter on all linears, the same on every machine.
fn ours(config: &Config) -> Adapter {
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout: 0.0,
        targets: Target::ALL.to_vec(),
        ..LoraConfig::default()
    };
    let mut adapter = Adapter::new(config, lora, 21).unwrap();
    for (i, x) in adapter.params_mut().iter_mut().enumerate() {
        *x += ((i * 31 % 97) as f32 - 48.0) / 1024.0;
    }
    adapter
}

#[track_caller]
fn close(found: impl Into<f64>, want: f64, scale: f64, what: &str) {
    let found = found.into();
    assert!(
        (found - want).abs() <= TOLERANCE * scale,
        "{what}: {found}, PEFT has {want}"
    );
}

/// Logits, loss and gradients of the adapter in a fixture directory are those of PEFT.
fn check_against_peft(directory: &Path) {
    let golden: Golden =
        serde_json::from_slice(&fs::read(directory.join("golden.json")).unwrap()).unwrap();
    let base = tinystories();
    let adapter = Adapter::load_peft(directory, &base.config).unwrap();
    assert!(golden.largest_change > 0.5, "the adapter must matter");
    let mut ws = Workspace::new();
    let logits = logits(&base, Some(&adapter), &golden.tokens);
    let scale = golden
        .logits
        .iter()
        .fold(0.0_f64, |m, (_, x)| m.max(x.abs()));
    for (index, want) in golden.logits {
        close(logits[index], want, scale, "a logit");
    }

    let example = Example {
        tokens: golden.tokens,
        loss_from: golden.loss_from,
    };
    let mut grads = vec![0.0; adapter.params().len()];
    let loss = lora_gradients(&base, &adapter, &example, &mut grads, &mut ws).unwrap();
    close(loss.mean(), golden.mean_loss, 1.0, "the loss");
    assert_eq!(adapter.layout().len(), golden.gradients.len());
    for (name, at, shape) in adapter.layout() {
        let want = &golden.gradients[&name];
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

#[test]
fn what_we_save_is_what_peft_judged() {
    let directory = fixtures().join("adapter-ours");
    let adapter = ours(&tinystories().config);
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        adapter.save_peft(&directory, "tinystories-656k").unwrap();
    }
    let fresh = tempfile::tempdir().unwrap();
    adapter.save_peft(fresh.path(), "tinystories-656k").unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let (a, b) = (
            fs::read(fresh.path().join(file)),
            fs::read(directory.join(file)),
        );
        assert!(
            a.unwrap() == b.unwrap(),
            "{file} differs from the committed one"
        );
    }
}

#[test]
fn our_adapter_computes_what_it_does_in_peft() {
    check_against_peft(&fixtures().join("adapter-ours"));
}

#[test]
fn an_adapter_of_peft_computes_what_it_does_there() {
    let directory = fixtures().join("adapter-peft");
    check_against_peft(&directory);
    let adapter = Adapter::load_peft(&directory, &tinystories().config).unwrap();
    // Rank-stabilised: 6 / sqrt(2), not 6 / 2.
    assert!((adapter.scale() - 4.242_640_7).abs() < 1e-6);
    assert_eq!(adapter.config.targets, [Target::Q, Target::V, Target::Down]);
}

#[test]
fn a_dora_adapter_of_peft_computes_what_it_does_there() {
    let directory = fixtures().join("adapter-dora");
    check_against_peft(&directory);
    let adapter = Adapter::load_peft(&directory, &tinystories().config).unwrap();
    assert!(adapter.config.dora && !adapter.config.rank_stabilized);
}

#[test]
fn a_dora_adapter_is_exported_as_the_model_that_it_makes() {
    let directory = fixtures().join("adapter-dora");
    let source = Source::open(&tinystories_path()).unwrap();
    let adapter = Adapter::load_peft(&directory, source.config()).unwrap();
    let tokens: Vec<u32> = (1..40).map(|n| n * n % 1000).collect();
    let base = tinystories();
    let (bare, adapted) = (
        logits(&base, None, &tokens),
        logits(&base, Some(&adapter), &tokens),
    );
    let scale = adapted.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let apart = |one: &[f32], other: &[f32]| {
        let pairs = one.iter().zip(other);
        pairs.fold(0.0_f32, |m, (a, b)| m.max((a - b).abs())) / scale
    };
    assert!(apart(&bare, &adapted) > 0.05, "the adapter must matter");

    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("merged");
    source
        .save_folder(Some(&adapter), Dtype::F32, &folder)
        .unwrap();
    let merged = logits(&Base::load(&folder).unwrap(), None, &tokens);
    assert!(apart(&merged, &adapted) < 1e-5);

    // Without the tokenizer, whose merges GGUF cannot express.
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let path = out.path().join("merged.gguf");
    Source::open(&folder)
        .unwrap()
        .save_gguf(None, Encoding::F32, "test", &path)
        .unwrap();
    let read = logits(&Base::load(&path).unwrap(), None, &tokens);
    assert_eq!(read, merged, "both files hold the same weights");

    let error = adapter
        .save_gguf(&out.path().join("adapter.gguf"), "test", Encoding::F32)
        .unwrap_err()
        .to_string();
    assert!(error.contains("export the merged model"), "{error}");
    assert!(!out.path().join("adapter.gguf").exists());
}

#[test]
fn saving_and_loading_keeps_every_bit() {
    let peft = |name| Adapter::load_peft(&fixtures().join(name), &tinystories().config).unwrap();
    let ours = common::adapter(&config(true), 3);
    for adapter in [ours, peft("adapter-peft"), peft("adapter-dora")] {
        let directory = tempfile::tempdir().unwrap();
        adapter.save_peft(directory.path(), "base").unwrap();
        let base = if adapter.config.rank == 3 {
            config(true)
        } else {
            tinystories().config
        };
        let loaded = Adapter::load_peft(directory.path(), &base).unwrap();
        assert_eq!(loaded.params(), adapter.params());
        assert_eq!(loaded.config, adapter.config);
        assert_eq!(loaded.scale().to_bits(), adapter.scale().to_bits());
    }
}

/// Saves an adapter, changes its configuration, and returns the error of loading it.
fn refused(field: &str, value: Value) -> String {
    let directory = tempfile::tempdir().unwrap();
    common::adapter(&config(true), 3)
        .save_peft(directory.path(), "base")
        .unwrap();
    let path = directory.path().join("adapter_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json[field] = value;
    fs::write(&path, json.to_string()).unwrap();
    let error = Adapter::load_peft(directory.path(), &config(true))
        .unwrap_err()
        .to_string();
    error.replace(&directory.path().display().to_string(), "DIR")
}

#[test]
fn what_is_not_plain_lora_is_refused() {
    for (field, value) in [
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("rank_pattern", json!({"q_proj": 8})),
        ("fan_in_fan_out", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
        ("a_field_of_next_year", json!(3)),
    ] {
        let error = refused(field, value.clone());
        assert!(
            error.starts_with(&format!(
                "DIR/adapter_config.json: field `{field}` is {value}, but"
            )),
            "{error}"
        );
    }
    assert_eq!(
        refused("use_dora", json!(true)),
        "DIR/adapter_model.safetensors: tensor `base_model.model.model.layers.0.mlp.down_proj.\
         lora_magnitude_vector` is missing; expected shape [48]"
    );
    assert_eq!(
        refused("r", json!(4)),
        "DIR/adapter_model.safetensors: tensor `base_model.model.model.layers.0.mlp.down_proj.\
         lora_A.weight` has shape [3, 72], the configuration says [4, 72]"
    );
}

#[test]
fn an_adapter_for_another_base_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = config(true);
    common::adapter(&other, 3)
        .save_peft(directory.path(), "base")
        .unwrap();
    other.layers = 3;
    let error = Adapter::load_peft(directory.path(), &other)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("layers.2.") && error.contains("is missing"),
        "{error}"
    );

    let base = common::small(true);
    let adapter = common::adapter(&other, 3);
    let mut cache = KvCache::new(&base.config, 8);
    let lane = Lane {
        tokens: &[1],
        cache: &mut cache,
        adapter: Some(&adapter),
        all_logits: false,
    };
    let error = step(&base, &mut [lane], &mut Workspace::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the adapter was made for 3 layers"),
        "{error}"
    );
}
