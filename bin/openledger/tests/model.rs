//! `openledger model inspect`: what it says about models that can be used, and all that is wrong
//! with one that cannot.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Whether it succeeded, what it printed, and what it said on the side.
fn inspect(folder: &Path, more: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["model", "inspect"])
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn summary(folder: &Path) -> (bool, Value) {
    let (good, out, _) = inspect(folder, &["--json"]);
    (good, serde_json::from_str(&out).unwrap())
}

/// A copy of the bundled base.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "openledger_template.json",
    ] {
        let from = repository("bundled/base").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    folder
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_good_model_is_described() {
    let folder = copy();
    let (good, found) = summary(folder.path());
    assert!(good, "{found}");
    assert_eq!(found["problems"], json!([]));
    assert_eq!(found["template"], "built-in");
    assert_eq!(found["tokens"], found["shape"]["vocabulary"]);
    let values = found["weights"]["values"].as_object().unwrap().values();
    let stored: u64 = values.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(found["shape"]["parameters"], stored);
    let bytes = |list: &str, at: usize, field: &str| found[list][at][field].as_u64().unwrap();
    assert_eq!(found["serving"][0]["format"], "bf16");
    assert!(bytes("serving", 0, "weights_bytes") >= 2 * stored);
    assert!(bytes("serving", 2, "weights_bytes") < bytes("serving", 0, "weights_bytes"));
    assert!(bytes("serving", 0, "cache_bytes_per_token") > 0);
    assert_eq!(found["tuning"][4]["method"], "full");
    assert_eq!(bytes("tuning", 4, "trained_parameters"), stored);

    let (good, out, _) = inspect(folder.path(), &[]);
    assert!(good);
    for words in [
        "llama",
        "Memory for serving",
        "Memory for tuning",
        "qlora",
        "int8",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let folder = copy();
    edit(&folder.path().join("config.json"), |config| {
        config["hidden_act"] = json!("relu");
        config["rope_scaling"] = json!({"rope_type": "longrope"});
        config["quantization_config"] = json!({"bits": 4});
    });
    std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
    let (good, found) = summary(folder.path());
    assert!(!good);
    let problems = found["problems"].to_string();
    for words in [
        "`hidden_act`",
        "`rope_scaling`",
        "`quantization_config`",
        "tokenizer.json",
    ] {
        assert!(problems.contains(words), "{words}: {problems}");
    }
    assert_eq!(found["problems"].as_array().unwrap().len(), 4);
    assert_eq!(found["serving"], json!([]));
    let (_, out, err) = inspect(folder.path(), &[]);
    assert!(out.contains("Cannot be used here:\n- "), "{out}");
    assert!(err.contains("4 problems"), "{err}");
}

#[test]
fn every_tensor_that_does_not_fit_is_said() {
    let folder = copy();
    edit(&folder.path().join("config.json"), |config| {
        let layers = config["num_hidden_layers"].as_u64().unwrap();
        config["num_hidden_layers"] = json!(layers + 1);
        config["intermediate_size"] = json!(32);
    });
    let (good, found) = summary(folder.path());
    assert!(!good);
    let count = |words: &str| {
        let problems = found["problems"].as_array().unwrap().iter();
        problems
            .filter(|text| text.as_str().unwrap().contains(words))
            .count() as u64
    };
    let layers = found["shape"]["layers"].as_u64().unwrap();
    assert_eq!(count("is missing; expected shape"), 9);
    assert_eq!(count("the configuration says"), 3 * (layers - 1));
    let (_, out, _) = inspect(folder.path(), &[]);
    assert!(out.contains("more (--json)"), "{out}");
}

#[test]
fn a_tokenizer_of_another_model_is_said() {
    let folder = copy();
    let other = repository("fixtures/model/architectures/llama3");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(other.join(name), folder.path().join(name)).unwrap();
    }
    let (good, found) = summary(folder.path());
    assert!(!good);
    let problems = found["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0]
            .as_str()
            .unwrap()
            .contains("they are not a pair")
    );
}
