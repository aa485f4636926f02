//! `openledger model export`: every format, what comes back of it, and what is refused.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openledger_model::{Adapter, Base, Tokenizer};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/model/architectures")
        .join(name)
}

fn export(base: &Path, format: &str, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["model", "export", "--json", "--format", format, "--base"])
        .arg(base)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

/// The report of an export that succeeds; its files are there, as long as it says.
fn exported(base: &Path, format: &str, out: &Path, more: &[&str]) -> Value {
    let output = export(base, format, out, more);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{format}: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for file in report["files"].as_array().unwrap() {
        let size = std::fs::metadata(file["path"].as_str().unwrap())
            .unwrap()
            .len();
        assert_eq!(file["bytes"], size);
    }
    assert_eq!(report["format"], format);
    report
}

fn refused(output: &Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn all_formats_are_written_and_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join("new").join(name);
    let base = fixture("llama2");
    let adapter = base.join("adapter");
    let flags = ["--adapter", adapter.to_str().unwrap()];
    let config = Base::load(&base).unwrap().config;
    let want = Adapter::load_peft(&adapter, &config).unwrap();

    exported(&base, "peft", &path("peft"), &flags);
    let again = Adapter::load_peft(&path("peft"), &config).unwrap();
    assert_eq!(again.params(), want.params());

    exported(&base, "safetensors", &path("folder"), &flags);
    exported(&base, "gguf", &path("model.gguf"), &flags);
    let merged = Base::load(&path("folder")).unwrap();
    assert!(merged.params() == Base::load(&path("model.gguf")).unwrap().params());
    assert!(merged.params() != Base::load(&base).unwrap().params());

    let q8 = [flags[0], flags[1], "--dtype", "q8_0"];
    let report = exported(&base, "gguf", &path("q8.gguf"), &q8);
    let notes = report["notes"].to_string();
    assert!(notes.contains("F16"), "{notes}");

    let report = exported(&base, "gguf-adapter", &path("adapter.gguf"), &flags);
    assert_eq!(report["tensors"], want.layout().len());
    // An adapter is not a base, and says so.
    let error = Base::load(&path("adapter.gguf")).unwrap_err().to_string();
    assert!(error.contains("general.type"), "{error}");
}

#[test]
fn the_bundled_base_goes_to_gguf_and_from_there_to_a_folder() {
    let directory = tempfile::tempdir().unwrap();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bundled/base");
    let (file, folder) = (
        directory.path().join("base.gguf"),
        directory.path().join("base"),
    );
    exported(&bundled, "gguf", &file, &["--dtype", "bf16"]);
    exported(&file, "safetensors", &folder, &["--dtype", "bf16"]);
    let (was, is) = (Base::load(&bundled).unwrap(), Base::load(&folder).unwrap());
    assert_eq!(was.config, is.config);
    assert!(was.params() == is.params());
    let text = "What is a Merkle tree?";
    let tokens = |path: &Path| Tokenizer::load(path).unwrap().encode(text);
    assert_eq!(tokens(&bundled), tokens(&folder));
}

#[test]
fn what_cannot_be_written_is_refused_and_old_files_stay() {
    let directory = tempfile::tempdir().unwrap();
    let base = fixture("llama2");
    let out = directory.path().join("out.gguf");
    std::fs::write(&out, "an older export").unwrap();
    refused(&export(&base, "gguf-adapter", &out, &[]), &["--adapter"]);
    refused(&export(&base, "safetensors", &out, &[]), &["is a file"]);
    let folder = directory.path();
    refused(&export(&base, "gguf", folder, &[]), &["is a folder"]);
    let q8 = ["--dtype", "q8_0"];
    let other = directory.path().join("other");
    refused(&export(&base, "peft", &other, &[]), &["--adapter"]);
    refused(&export(&base, "safetensors", &other, &q8), &["safetensors"]);
    // llama.cpp would scale this model's scores in another way.
    let gemma = export(&fixture("gemma2"), "gguf", &out, &[]);
    refused(&gemma, &["attention_scale", "GGUF"]);
    let adapter = fixture("llama3").join("adapter");
    let flags = ["--adapter", adapter.to_str().unwrap()];
    refused(&export(&base, "gguf", &out, &flags), &["adapter"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"an older export");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    refused(
        &export(&base, "safetensors", &base, &[]),
        &["is what is read"],
    );
}
