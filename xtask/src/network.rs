//! A whole network of our own: the program under test, started on free ports in a fresh folder.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

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
    rpc_port: u16,
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
        let rpc_port = free_port()?;
        let (log, output) = (scratch.join("stderr.log"), scratch.join("stdout.json"));
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("creating {}", path.display()))
        };
        let mut command = Command::new(binary);
        command
            .args(["dev", "--json", "--rpc-port", &rpc_port.to_string()])
            .args([
                "--l1-port",
                "0",
                "--da-port",
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
        Ok(Self {
            child,
            log,
            output,
            rpc_port,
        })
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

    /// The chain's newest block, or the one with `number`; `None` while the node does not answer.
    pub(crate) fn block(&self, number: Option<u64>) -> Option<Block> {
        let tag = number.map_or("latest".to_owned(), |n| format!("0x{n:x}"));
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber",
            "params": [tag, false]});
        let answer = post(self.rpc_port, &request.to_string()).ok()?;
        let number = answer["result"]["number"].as_str()?;
        Some(Block {
            number: u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()?,
            hash: answer["result"]["hash"].as_str()?.to_owned(),
        })
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

/// A block that the node has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: String,
}

/// A port that nothing listens on at this moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

/// One JSON request over HTTP/1.1, by hand: xtask links no HTTP client.
fn post(port: u16, body: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("an HTTP answer has a body")?;
    serde_json::from_str(body).context("the answer is JSON")
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
        while !network.log_tail().contains("--http-port 0 --data-dir") {
            assert!(Instant::now() < until, "{}", network.log_tail());
        }
        network
            .stop()
            .expect("the script ends with 0 when asked to");
    }

    #[test]
    fn a_block_is_asked_for_over_plain_http() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one client");
            // All of the request: what a closed socket has not read resets the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut part = [0; 4096];
                let length = stream.read(&mut part).expect("a request");
                assert!(length > 0, "the request ends in its body");
                request.extend_from_slice(&part[..length]);
            }
            let body = "{\"result\":{\"number\":\"0x1f\",\"hash\":\"0xab\"}}";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream
                .write_all((head + body).as_bytes())
                .expect("answered");
            String::from_utf8_lossy(&request).into_owned()
        });
        let (_dir, mut network) = started("while :; do sleep 0.05; done");
        network.rpc_port = port;
        let block = network.block(Some(31)).expect("the server answers");
        assert_eq!(
            block,
            Block {
                number: 31,
                hash: "0xab".to_owned()
            }
        );
        let request = server.join().expect("the server ended");
        assert!(
            request.contains("eth_getBlockByNumber") && request.contains("0x1f"),
            "{request}"
        );
        assert_eq!(network.block(None), None, "nobody listens any more");
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
