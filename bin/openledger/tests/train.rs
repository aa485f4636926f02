//! `openledger train` as people use it: from a tiny file to an adapter, killed on the way, watched
//! from outside, and told what is wrong.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);

fn bundled() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bundled/base"))
}

/// A few rows of questions and answers.
fn rows(dir: &Path) -> PathBuf {
    let path = dir.join("rows.jsonl");
    let lines: String = (0..16)
        .map(|n| {
            let row = serde_json::json!({
                "question": format!("What is row {n}?"),
                "answer": format!("Row {n} of a small file, {} words long.", n % 5 + 3),
            });
            format!("{row}\n")
        })
        .collect();
    std::fs::write(&path, lines).unwrap();
    path
}

fn train(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openledger"));
    command.arg("train").args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A run of `steps` steps on `data` in `out`.
fn run(data: &Path, out: &Path, steps: u64, more: &[&str]) -> Command {
    let steps = format!("length={{\"steps\": {steps}}}");
    let base = bundled();
    let mut arguments = vec![
        "--base",
        base.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--text",
        "question,answer",
        "--out",
        out.to_str().unwrap(),
        "--set",
        "lora.rank=4",
        "--set",
        "batch=4",
        "--set",
        "checkpoint_every=3",
        "--set",
        "eval_every=4",
        "--set",
        &steps,
        "--json",
    ];
    arguments.extend(more);
    train(&arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn steps(events: &[Value]) -> Vec<u64> {
    let steps = events.iter().filter(|event| event["event"] == "step");
    steps.map(|step| step["step"].as_u64().unwrap()).collect()
}

/// Waits until `path` holds at least `lines` lines.
fn wait_for_lines(path: &Path, lines: usize) {
    let begun = Instant::now();
    while std::fs::read_to_string(path).map_or(0, |text| text.lines().count()) < lines {
        assert!(begun.elapsed() < PATIENCE, "{} stays short", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn killed_and_resumed_it_ends_in_the_same_bytes_and_can_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let (calm, killed) = (dir.path().join("calm"), dir.path().join("killed"));

    let events = succeed(&run(&data, &calm, 14, &[]).output().unwrap());
    assert_eq!(events[0]["event"], "plan");
    assert_eq!(
        (&events[0]["rows"], &events[0]["cut_rows"]),
        (&16.into(), &0.into())
    );
    assert_eq!(steps(&events), (1..=14).collect::<Vec<_>>());
    let end = events.last().unwrap();
    assert_eq!(
        (&end["event"], &end["ending"]),
        (&"end".into(), &"completed".into())
    );
    assert!(end["perplexity_after"].as_f64().unwrap() < end["perplexity_before"].as_f64().unwrap());
    assert!(
        std::fs::read_to_string(calm.join("curve.svg"))
            .unwrap()
            .starts_with("<svg")
    );

    // Killed after the checkpoint of step 3, watched from another process meanwhile.
    let mut child = run(&data, &killed, 14, &[]).spawn().unwrap();
    wait_for_lines(&killed.join("metrics.jsonl"), 4);
    let watcher = train(&["--watch", killed.to_str().unwrap(), "--json"])
        .spawn()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let watched = succeed(&watcher.wait_with_output().unwrap());
    assert_eq!(steps(&watched)[..4], [1, 2, 3, 4]);
    assert_eq!(watched.last().unwrap()["ending"], "paused");

    let resumed = succeed(&run(&data, &killed, 14, &[]).output().unwrap());
    let first = steps(&resumed)[0];
    assert!(first > 3 && first < 14, "it began again at step {first}");
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        let bytes = |run: &Path| std::fs::read(run.join("adapter").join(file)).unwrap();
        assert!(bytes(&calm) == bytes(&killed), "{file} differs");
    }

    // A finished run can still be watched, as lines for people.
    let output = train(&["--watch", killed.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success());
    let (lines, report) = (text(&output.stderr), text(&output.stdout));
    assert!(lines.contains("14/14 loss"), "{lines}");
    assert!(
        report.contains("perplexity") && report.contains("adapter"),
        "{report}"
    );
}

#[test]
fn a_run_is_paused_and_stopped_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (rows(dir.path()), dir.path().join("run"));
    let word = |flag: &str| train(&[flag, out.to_str().unwrap()]).output().unwrap();

    let child = run(&data, &out, 100_000, &[]).spawn().unwrap();
    wait_for_lines(&out.join("metrics.jsonl"), 2);
    let second = run(&data, &out, 100_000, &[]).output().unwrap();
    let said = text(&second.stderr);
    assert!(
        !second.status.success() && said.contains("another process trains"),
        "{said}"
    );

    let paused = word("--pause");
    let said = text(&paused.stdout);
    assert!(
        said.contains("paused at step") && said.contains("go on with:"),
        "{said}"
    );
    let events = succeed(&child.wait_with_output().unwrap());
    let last = *steps(&events).last().unwrap();
    assert!(
        !word("--pause").status.success(),
        "nobody is there to be paused"
    );

    let child = run(&data, &out, 100_000, &[]).spawn().unwrap();
    wait_for_lines(&out.join("metrics.jsonl"), last as usize + 2);
    let said = text(&word("--stop").stdout);
    assert!(said.contains("the result is kept as it is"), "{said}");
    let events = succeed(&child.wait_with_output().unwrap());
    assert_eq!(
        steps(&events)[0],
        last + 1,
        "it went on where it was paused"
    );
    assert_eq!(events.last().unwrap()["ending"], "stopped");
    assert!(out.join("adapter/adapter_model.safetensors").exists());
}

#[test]
fn ctrl_c_saves_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (rows(dir.path()), dir.path().join("run"));
    let child = run(&data, &out, 100_000, &[]).spawn().unwrap();
    wait_for_lines(&out.join("metrics.jsonl"), 2);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let events = succeed(&child.wait_with_output().unwrap());
    let (end, last) = (events.last().unwrap(), *steps(&events).last().unwrap());
    assert_eq!(
        (&end["ending"], &end["step"]),
        (&"paused".into(), &last.into())
    );
    assert!(
        out.join(format!("checkpoint-{last:08}.safetensors"))
            .exists()
    );
}

#[test]
fn what_is_wrong_is_said_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (rows(dir.path()), dir.path().join("run"));
    let fails = |mut command: Command, words: &[&str]| {
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{words:?}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    };
    let with = |more: &[&str]| run(&data, &out, 4, more);
    let base = bundled();
    let column = [
        "--base",
        base.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let column = [
        &column[..],
        &["--text", "body", "--out", out.to_str().unwrap()],
    ]
    .concat();
    fails(train(&column), &["body", "question", "answer"]);
    fails(with(&["--preset", "huge"]), &["huge", "quick", "thorough"]);
    fails(with(&["--set", "lora.rnk=3"]), &["rnk", "rank"]);
    fails(with(&["--set", "lora.rank=0"]), &["rank", "0"]);
    fails(
        with(&["--memory", "1MB"]),
        &["needs about", "may take", "batch"],
    );
    fails(with(&["--memory", "lots"]), &["lots"]);
    fails(
        train(&["--watch", out.to_str().unwrap()]),
        &["holds no run"],
    );
    fails(train(&[]), &["--data"]);
    fails(
        run(&dir.path().join("none.jsonl"), &out, 4, &[]),
        &["none.jsonl"],
    );
    let base = ["--base", "no/such/model", "--data", data.to_str().unwrap()];
    let base = [&base[..], &["--out", out.to_str().unwrap()]].concat();
    fails(train(&base), &["no/such/model"]);
    assert!(!out.join("metrics.jsonl").exists(), "nothing was begun");
}
