//! `kill -9` at any moment of the loop, then restart: nothing acknowledged is lost or doubled.
//!
//! One loop runs undisturbed. Another, in a directory of its own, is killed at random moments
//! until it is through. Both must end with the same rows, the same adapter, the same answers and
//! the same wei in the same hands.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// Kills before the loop is left alone.
const KILLS: u32 = 14;

fn start(data: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["dev", "--json", "--exit-after-loop", "--limit", "32"])
        .args([
            "--rpc-port",
            "0",
            "--l1-port",
            "0",
            "--da-port",
            "0",
            "--http-port",
            "0",
            "--data-dir",
        ])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn summary(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Lets the child run for `patience` at most: its output if it ended, else it is killed.
fn run_or_kill(child: Child, patience: Duration) -> Option<Output> {
    let pid = child.id();
    let (send, receive) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = send.send(child.wait_with_output().unwrap());
    });
    let ended = receive.recv_timeout(patience).ok();
    if ended.is_none() {
        let killed = Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap();
        // The child may have ended in between; then the kill finds nobody.
        let last = receive.recv().unwrap();
        waiter.join().unwrap();
        return (!killed.success() && last.status.success()).then_some(last);
    }
    waiter.join().unwrap();
    ended
}

/// The numbers that must not depend on how often the loop was killed. Block numbers and times may.
fn outcome(summary: &Value) -> Value {
    let mut outcome = summary.clone();
    let fields = outcome.as_object_mut().unwrap();
    for volatile in ["chain", "seconds", "urls", "dev"] {
        fields.remove(volatile);
    }
    // The digest binds the block of the commitment.
    fields["adapter"].as_object_mut().unwrap().remove("digest");
    outcome
}

#[test]
fn a_loop_that_is_killed_ends_like_one_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let calm = summary(&start(&dir.path().join("calm")).wait_with_output().unwrap());
    assert_eq!(calm["settlement"]["conserved"], true, "{calm}");

    let data = dir.path().join("killed");
    // Moments from a fixed sequence (Knuth's MMIX constants); the machine's speed decides what
    // they hit, so every run kills elsewhere.
    let mut state = u64::from(std::process::id());
    let mut kills = 0;
    let mut finished = None;
    while kills < KILLS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let patience = Duration::from_millis(100 + (state >> 33) % 2_900);
        if let Some(output) = run_or_kill(start(&data), patience) {
            finished = Some(output);
            break;
        }
        kills += 1;
    }
    let output = finished.unwrap_or_else(|| start(&data).wait_with_output().unwrap());
    let killed = summary(&output);
    assert!(kills > 0, "the loop ended before it could be killed once");
    assert_eq!(outcome(&killed), outcome(&calm), "after {kills} kills");
}
