//! A whole network of our own: the program under test, started on free ports in a fresh folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::environment::{Repo, read_text};
use crate::process::line;

/// Sixty rows with a contributor each: a loop of seconds even without optimisation.
pub(crate) const TINY: [&str; 8] = [
    "--datanet",
    "tests/clients/tiny.jsonl",
    "--text",
    "question,answer",
    "--contributor",
    "contributor",
    "--limit",
    "60",
];

const POLL: Duration = Duration::from_millis(100);

/// A started `openledger dev`; ended when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    child: Child,
    log: PathBuf,
    output: PathBuf,
}

impl Network {
    /// Starts `openledger dev --json` with `extra` arguments on the data directory
    /// `scratch/data`; standard output and error go to files in `scratch`.
    pub(crate) fn start(
        repo: &Repo,
        binary: &Path,
        scratch: &Path,
        extra: &[&str],
    ) -> Result<Self> {
        fs::create_dir_all(scratch).with_context(|| format!("creating {}", scratch.display()))?;
        let (log, output) = (scratch.join("stderr.log"), scratch.join("stdout.json"));
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("creating {}", path.display()))
        };
        let mut command = Command::new(binary);
        command
            .args([
                "dev",
                "--json",
                "--rpc-port",
                "0",
                "--http-port",
                "0",
                "--data-dir",
            ])
            .arg(scratch.join("data"))
            .args(extra)
            .current_dir(&repo.root)
            .stdin(Stdio::null())
            .stdout(create(&output)?)
            .stderr(create(&log)?);
        println!("$ {}", line(&command));
        let child = command
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        Ok(Self { child, log, output })
    }

    /// Waits for the JSON summary that the program prints once the loop is through.
    pub(crate) fn summary(&mut self, limit: Duration) -> Result<Value> {
        let started = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            let printed = read_text(&self.output)?;
            if let Ok(summary) = serde_json::from_str::<Value>(&printed) {
                return Ok(summary);
            }
            if let Some(status) = ended {
                bail!(
                    "the program ended with {status} and no JSON summary{}",
                    self.log_tail()
                );
            }
            if started.elapsed() > limit {
                bail!("no summary within {} s{}", limit.as_secs(), self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// `kill -9`, as a power cut would: no handler of the program runs.
    pub(crate) fn cut_off(&mut self) -> Result<()> {
        self.child.kill().context("killing the program")?;
        self.child
            .wait()
            .context("waiting for the killed program")?;
        Ok(())
    }

    /// The exit status if the program ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The process id, for reading its memory use.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of the program's log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(30)..];
        format!(
            "\n--- last lines of its log ({}) ---\n{}",
            self.log.display(),
            tail.join("\n")
        )
    }

    /// Asks the program to stop and requires that it does so cleanly.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the program ended by itself with {status}{}",
                self.log_tail()
            );
        }
        terminate(self.child.id())?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!(
                    "asked to stop, the program ended with {status}{}",
                    self.log_tail()
                );
            }
            std::thread::sleep(POLL);
        }
        bail!(
            "asked to stop, the program went on for 30 s{}",
            self.log_tail()
        );
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // After `stop` or a crash there is nothing left to kill, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(id: u32) -> Result<()> {
    let status = Command::new("kill")
        .args(["-TERM", &id.to_string()])
        .status()?;
    if !status.success() {
        bail!("`kill -TERM {id}` failed: {status}");
    }
    Ok(())
}

/// An empty folder for one run under cargo's target directory.
pub(crate) fn scratch(repo: &Repo, name: &str) -> Result<PathBuf> {
    let dir = repo.target_dir()?.join("xtask").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// Reads a number at a JSON pointer; the error names the pointer.
pub(crate) fn number(summary: &Value, pointer: &str) -> Result<f64> {
    summary
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("the summary holds no number at {pointer}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A stand-in for the program: a shell script that gets the same arguments.
    fn started(body: &str) -> (tempfile::TempDir, Network) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let script = dir.path().join("openledger");
        crate::environment::write_text(&script, &format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
        let repo = Repo {
            root: dir.path().to_path_buf(),
        };
        let network = Network::start(&repo, &script, &dir.path().join("run"), &["--extra"]);
        (dir, network.expect("a shell script starts"))
    }

    #[test]
    fn the_summary_is_read_and_the_program_stopped() {
        let (_dir, mut network) = started(
            "trap 'exit 0' TERM; printf '{\"a\":'; printf '[1,2]}\\n'; \
             echo \"$@\" >&2; while :; do read -r _ || sleep 0.05; done",
        );
        let summary = network
            .summary(Duration::from_secs(20))
            .expect("the script prints JSON");
        assert!((number(&summary, "/a/1").expect("a number") - 2.0).abs() < 1e-9);
        assert!(number(&summary, "/b").is_err());
        let until = Instant::now() + Duration::from_secs(20);
        while !network
            .log_tail()
            .contains("dev --json --rpc-port 0 --http-port 0")
        {
            assert!(Instant::now() < until, "{}", network.log_tail());
        }
        network
            .stop()
            .expect("the script ends with 0 when asked to");
    }

    #[test]
    fn an_early_end_is_an_error_with_the_log() {
        let (_dir, mut network) = started("echo 'port 8545 is taken' >&2; exit 7");
        let error = network
            .summary(Duration::from_secs(20))
            .expect_err("no JSON was printed");
        let error = format!("{error:#}");
        assert!(
            error.contains("port 8545 is taken") && error.contains('7'),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_ignores_the_loop_is_given_up() {
        let (_dir, mut network) = started("while :; do sleep 0.05; done");
        let error = network
            .summary(Duration::ZERO)
            .expect_err("it prints nothing");
        assert!(
            error.to_string().contains("no summary within 0 s"),
            "{error}"
        );
        network.cut_off().expect("it can be killed");
    }
}
