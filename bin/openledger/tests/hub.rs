//! Models by name: a hub on this machine, a cache that is filled once, and everything that can go
//! wrong between them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{COMMIT, Hub, Remote};
use serde_json::Value;

const WEIGHTS: &str = "model.safetensors";
/// SHA-256 of the bundled weights is computed by nobody here: a short name is not compared.
const NAME: &str = "weights-of-the-test";

fn bundled() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bundled/base"))
}

/// The bundled base as a model of a hub, with files that nobody needs.
fn hub() -> Hub {
    let files = [
        "config.json",
        "generation_config.json",
        "openledger_template.json",
        "tokenizer.json",
        "tokenizer_config.json",
        WEIGHTS,
        "RECIPE.md",
    ];
    Hub::serve(files.map(|name| {
        let remote = Remote {
            content: std::fs::read(bundled().join(name)).unwrap(),
            etag: match name {
                WEIGHTS => NAME.to_owned(),
                other => other.replace(['.', '_'], "-"),
            },
            ..Remote::default()
        };
        (name.to_owned(), remote)
    }))
}

/// A program that knows the cache `home` and the hub `endpoint`.
fn openledger(home: &Path, endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openledger"));
    for name in [
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .stdin(Stdio::null());
    command
}

/// Plans a run on `org/tiny`, which takes all its files.
fn plan(home: &Path, endpoint: &str) -> Command {
    let rows = home.join("rows.jsonl");
    let lines: String = (0..8)
        .map(|n| format!("{{\"q\": \"What is {n}?\", \"a\": \"It is {n}.\"}}\n"))
        .collect();
    std::fs::write(&rows, lines).unwrap();
    let mut command = openledger(home, endpoint);
    command.args(["train", "--base", "org/tiny", "--text", "q,a", "--json"]);
    command.args(["--preset", "quick", "--dry-run", "--data"]);
    command.arg(rows).arg("--out").arg(home.join("run"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(mut command: Command, words: &[&str]) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn snapshot(home: &Path) -> PathBuf {
    home.join("hub/models--org--tiny/snapshots").join(COMMIT)
}

#[test]
fn a_name_is_fetched_once_with_what_is_needed() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    let home = home.path();
    let mut command = plan(home, &hub.url);
    command.env("HF_TOKEN", "hf_secret");
    assert_eq!(succeeds(command)["base"], "org/tiny");
    let asked = hub.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.token.as_deref() == Some("Bearer hf_secret"))
    );
    assert!(!asked.iter().any(|asked| asked.path.ends_with("RECIPE.md")));
    assert_eq!(
        std::fs::read(snapshot(home).join(WEIGHTS)).unwrap(),
        std::fs::read(bundled().join(WEIGHTS)).unwrap()
    );
    assert_eq!(
        std::fs::read_to_string(home.join("hub/models--org--tiny/refs/main")).unwrap(),
        COMMIT
    );
    // From now on nobody is asked.
    assert_eq!(succeeds(plan(home, &hub.url))["base"], "org/tiny");
    assert!(hub.asked().is_empty());
    let mut offline = plan(home, "http://127.0.0.1:9");
    offline.env("HF_HUB_OFFLINE", "1");
    assert_eq!(succeeds(offline)["base"], "org/tiny");
}

#[test]
fn a_token_may_stand_in_its_file() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    std::fs::write(home.path().join("token"), "hf_of_the_file\n").unwrap();
    let mut command = openledger(home.path(), &hub.url);
    command.args(["model", "inspect", "org/tiny", "--json"]);
    succeeds(command);
    let asked = hub.asked();
    assert!(asked.len() > 3, "{asked:?}");
    for asked in asked {
        assert_eq!(
            asked.token.as_deref(),
            Some("Bearer hf_of_the_file"),
            "{}",
            asked.path
        );
    }
}

#[test]
fn inspecting_fetches_no_weights() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    let mut command = openledger(home.path(), &hub.url);
    command.args(["model", "inspect", "org/tiny@main", "--json"]);
    let summary = succeeds(command);
    assert_eq!(summary["name"], "org/tiny");
    assert_eq!(summary["weights"], Value::Null);
    assert!(
        !hub.asked()
            .iter()
            .any(|asked| asked.path.ends_with(WEIGHTS))
    );
}

#[test]
fn a_broken_connection_is_taken_up_where_it_ended() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    // Broken twice with something gained, then with nothing: that is given up.
    hub.change(WEIGHTS, |remote| remote.breaks = vec![1000, 500, 0]);
    fails(
        plan(home.path(), &hub.url),
        &["cannot fetch org/tiny", "--base DIR"],
    );
    assert!(!snapshot(home.path()).join(WEIGHTS).exists());
    let ranges = |hub: &Hub| -> Vec<String> {
        let asked = hub.asked().into_iter();
        let weights = asked.filter(|asked| asked.path.ends_with(WEIGHTS));
        let ranges = weights.filter_map(|asked| asked.range);
        ranges.filter(|range| range != "bytes=0-0").collect()
    };
    assert_eq!(ranges(&hub), ["bytes=0-", "bytes=1000-", "bytes=1500-"]);
    succeeds(plan(home.path(), &hub.url));
    assert_eq!(ranges(&hub), ["bytes=1500-"]);
    assert_eq!(
        std::fs::read(snapshot(home.path()).join(WEIGHTS)).unwrap(),
        std::fs::read(bundled().join(WEIGHTS)).unwrap()
    );
}

#[test]
fn damaged_files_are_not_kept() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    let home = home.path();
    hub.change(WEIGHTS, |remote| remote.overstated = 10);
    let size = std::fs::metadata(bundled().join(WEIGHTS)).unwrap().len();
    let said = format!("{size} bytes came, the hub names {}", size + 10);
    fails(plan(home, &hub.url), &[WEIGHTS, &said, "try again"]);
    assert!(!snapshot(home).join(WEIGHTS).exists());
    // A large file is named by its SHA-256.
    hub.change(WEIGHTS, |remote| {
        remote.overstated = 0;
        remote.etag = "0123456789abcdef".repeat(4);
    });
    fails(plan(home, &hub.url), &[WEIGHTS, "SHA-256", "try again"]);
    assert!(!snapshot(home).join(WEIGHTS).exists());
    hub.change(WEIGHTS, |remote| remote.etag = NAME.into());
    succeeds(plan(home, &hub.url));
}

#[test]
fn what_a_hub_does_not_give_is_said_with_the_way_out() {
    let (hub, home) = (hub(), tempfile::tempdir().unwrap());
    let home = home.path();
    let inspect = |model: &str, endpoint: &str| {
        let mut command = openledger(home, endpoint);
        command.args(["model", "inspect", model]);
        command
    };
    let cache = home.join("hub").display().to_string();
    fails(
        inspect("org/none", &hub.url),
        &[
            "there is no org/none with a revision main",
            "--base DIR",
            &cache,
        ],
    );
    fails(
        inspect("org/gated", &hub.url),
        &["private or gated", "HF_TOKEN"],
    );
    // Nothing listens on this port of the machine itself.
    fails(
        inspect("org/tiny", "http://127.0.0.1:9"),
        &[
            "http://127.0.0.1:9: cannot fetch org/tiny",
            "--base DIR",
            &cache,
        ],
    );
    let mut offline = inspect("org/tiny", &hub.url);
    offline.env("HF_HUB_OFFLINE", "1");
    fails(
        offline,
        &["not in the cache and HF_HUB_OFFLINE is set", &cache],
    );
    fails(
        inspect("no-such-folder", &hub.url),
        &["there is no such folder", "org/name"],
    );

    hub.remove(WEIGHTS);
    fails(plan(home, &hub.url), &["holds no model.safetensors"]);
    hub.remove("tokenizer.json");
    fails(plan(home, &hub.url), &["holds no tokenizer.json"]);
    assert!(!home.join("hub/models--org--tiny/refs/main").exists());
}
