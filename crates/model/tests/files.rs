//! Base models as files: round trips, shards, and every way in which a file can be wrong.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{config, small};
use openledger_model::{Base, Config, Dtype};
use safetensors::tensor::{Dtype as Stored, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

fn saved(tied: bool) -> (Base, TempDir) {
    let (base, directory) = (small(tied), tempfile::tempdir().unwrap());
    base.save(directory.path(), Dtype::F32).unwrap();
    (base, directory)
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Writes these tensors as an `F32` file.
fn write(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, x)| x.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (
            name.as_str(),
            TensorView::new(Stored::F32, shape.clone(), bytes).unwrap(),
        )
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

fn tensors(base: &Base) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    base.layout()
        .into_iter()
        .map(|(name, at, shape)| {
            let size: usize = shape.iter().product();
            (name, shape, base.params()[at..at + size].to_vec())
        })
        .collect()
}

fn load_error(directory: &TempDir) -> String {
    let error = Base::load(directory.path()).unwrap_err().to_string();
    error.replace(&directory.path().display().to_string(), "DIR")
}

#[test]
fn saving_and_loading_keeps_every_bit() {
    for tied in [true, false] {
        let (base, directory) = saved(tied);
        let loaded = Base::load(directory.path()).unwrap();
        assert_eq!(loaded.config, base.config);
        assert!(loaded.params() == base.params());
    }
}

#[test]
fn bf16_keeps_the_upper_half() {
    let (base, directory) = saved(false);
    base.save(directory.path(), Dtype::Bf16).unwrap();
    let once = Base::load(directory.path()).unwrap();
    for (a, b) in once.params().iter().zip(base.params()) {
        assert!((a - b).abs() <= b.abs() / 256.0, "{a} is not {b}");
        assert_eq!(a.to_bits() & 0xffff, 0);
    }
    once.save(directory.path(), Dtype::Bf16).unwrap();
    assert!(Base::load(directory.path()).unwrap().params() == once.params());
}

#[test]
fn shards_are_one_model() {
    let (base, directory) = saved(false);
    let dir = directory.path();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let all = tensors(&base);
    let (one, two) = all.split_at(all.len() / 2);
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", one), ("b.safetensors", two)] {
        write(&dir.join(file), part);
        map.extend(part.iter().map(|(name, _, _)| (name.clone(), json!(file))));
    }
    let index = dir.join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    assert!(Base::load(dir).unwrap().params() == base.params());

    edit(&index, |json| {
        json["weight_map"]["lm_head.weight"] = json!("../b.safetensors")
    });
    assert!(load_error(&directory).contains("names of files in the same directory"));
    fs::write(&index, "{}").unwrap();
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors.index.json: field `weight_map` is missing"
    );
}

#[test]
fn a_tied_table_may_have_either_name() {
    let (base, directory) = saved(true);
    let mut all = tensors(&base);
    all[0].0 = "lm_head.weight".into();
    write(&directory.path().join("model.safetensors"), &all);
    assert!(Base::load(directory.path()).unwrap().params() == base.params());
}

#[test]
fn wrong_tensors_are_named_with_both_shapes() {
    let (base, directory) = saved(true);
    let file = directory.path().join("model.safetensors");
    let all = tensors(&base);
    let norm = all.len() - 1;

    let mut bad = all.clone();
    bad[norm].1 = vec![2, 24];
    write(&file, &bad);
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors: tensor `model.norm.weight` has shape [2, 24], the configuration \
         says [48]"
    );

    let mut bad = all.clone();
    bad[norm].2[7] = f32::NAN;
    write(&file, &bad);
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors: tensor `model.norm.weight` is not finite at element 7"
    );

    write(&file, &all[..norm]);
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors: tensor `model.norm.weight` is missing; expected shape [48]"
    );

    let mut bad = all;
    bad.push((
        "model.layers.0.self_attn.q_proj.bias".into(),
        vec![1],
        vec![0.0],
    ));
    write(&file, &bad);
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors: tensor `model.layers.0.self_attn.q_proj.bias` of shape [1] does \
         not belong to this model"
    );
}

#[test]
fn a_damaged_file_is_an_error_wherever_it_is_cut() {
    let (_, directory) = saved(true);
    let file = directory.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for len in [0, 5, 8, 100, 3000, whole.len() - 1] {
        fs::write(&file, &whole[..len]).unwrap();
        let error = load_error(&directory);
        assert!(
            error.starts_with("DIR/model.safetensors: damaged safetensors file"),
            "{error}"
        );
    }
    fs::remove_file(&file).unwrap();
    assert!(load_error(&directory).starts_with("DIR/model.safetensors: No such file"));
}

#[test]
fn unsupported_architectures_are_named() {
    let (_, directory) = saved(true);
    let path = directory.path().join("config.json");
    for (field, value) in [
        ("model_type", json!("mixtral")),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0}),
        ),
        ("num_key_value_heads", json!(3)),
        ("hidden_size", json!(-1)),
        ("rms_norm_eps", json!(0.0)),
        ("quantization_config", json!({"bits": 4})),
    ] {
        let before = fs::read(&path).unwrap();
        edit(&path, |json| json[field] = value.clone());
        let error = load_error(&directory);
        assert!(
            error.starts_with(&format!("DIR/config.json: field `{field}` is {value}")),
            "{error}"
        );
        fs::write(&path, before).unwrap();
    }
    edit(&path, |json| {
        drop(json.as_object_mut().unwrap().remove("vocab_size"))
    });
    // What is absent has the family's value, which is not this model's.
    assert_eq!(
        load_error(&directory),
        "DIR/model.safetensors: tensor `model.embed_tokens.weight` has shape [91, 48], the \
         configuration says [32000, 48]"
    );
    fs::write(&path, "{").unwrap();
    assert!(load_error(&directory).starts_with("DIR/config.json: not the expected JSON"));
}

#[test]
fn both_forms_of_rope_settings_are_read() {
    let (_, directory) = saved(true);
    let path = directory.path().join("config.json");
    edit(&path, |json| {
        json.as_object_mut().unwrap().remove("rope_theta");
        json["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5000.0});
        json["eos_token_id"] = json!([2, 3]);
    });
    let loaded = Config::from_hf(&path).unwrap();
    assert_eq!(
        loaded,
        Config {
            rope_theta: 5000.0,
            eos: vec![2, 3],
            ..config(true)
        }
    );
}
