//! The roles of the rollup as processes: they tell how they are, and end in order when they are
//! told to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use openledger_node::devnet;
use openledger_node::rollup::{Address, Layer1};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";
/// More than an orderly end takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A role, and the addresses that it has told on stderr.
struct Role {
    child: Child,
    told: mpsc::Receiver<String>,
}

impl Role {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_openledger"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, told }
    }

    /// The address in the next line that begins like this.
    fn address(&self, begin: &str) -> String {
        loop {
            let line = self.told.recv_timeout(PATIENCE).unwrap();
            if line.starts_with(begin) {
                let url = line.rsplit(' ').next().unwrap();
                return url.strip_prefix("http://").unwrap().to_owned();
            }
        }
    }

    /// Asks it to end, as a supervisor does, and waits for that.
    fn end(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(asked.success());
        let (send, ended) = mpsc::channel();
        std::thread::spawn(move || send.send(self.child.wait().unwrap()));
        ended.recv_timeout(PATIENCE).unwrap()
    }
}

/// The answer to a GET, head and body.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The files of the dev network, on a layer 1 that is not there.
fn network(dir: &Path) {
    let choices = devnet::choices().unwrap();
    let layer1 = Layer1::expected(devnet::DEV_L1_CHAIN_ID, Address::repeat_byte(1), 0);
    let network = choices.network(layer1, Default::default(), 1_700_000_000);
    network.unwrap().save(dir).unwrap();
}

#[test]
fn nodes_without_a_layer_1_say_so_and_end_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("network");
    network(&files);
    for role in ["verifier", "sequencer"] {
        let home = dir.path().join(role);
        let local = "127.0.0.1:0";
        let role = Role::start(&[
            role,
            "--network",
            files.to_str().unwrap(),
            "--data-dir",
            home.to_str().unwrap(),
            "--l1",
            NOBODY,
            "--da",
            NOBODY,
            "--rpc",
            local,
            "--metrics",
            local,
        ]);
        let address = role.address("health and metrics at");
        let health = loop {
            // Before its first look at the layer 1 nothing is wrong.
            let health = get(&address, "/health");
            if !health.starts_with("HTTP/1.1 200") {
                break health;
            }
            assert!(health.contains(r#""trouble":null"#), "{health}");
            std::thread::yield_now();
        };
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.contains(NOBODY), "{health}");
        let metrics = get(&address, "/metrics");
        for line in [
            "openledger_chain_head 0",
            "openledger_chain_safe 0",
            "openledger_trouble 1",
        ] {
            assert!(metrics.contains(&format!("\n{line}\n")), "{metrics}");
        }
        assert!(get(&address, "/else").starts_with("HTTP/1.1 404"));
        assert!(role.end().success());
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[test]
fn a_data_server_ends_when_told_to_and_keeps_its_operators() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    let mut committees = Vec::new();
    for _ in 0..2 {
        let args = [
            "da",
            "--data-dir",
            home,
            "--listen",
            "127.0.0.1:0",
            "--l1",
            NOBODY,
        ];
        let role = Role::start(&args);
        let address = role.address("data availability at");
        assert!(get(&address, "/health").starts_with("HTTP/1.1 200"));
        assert!(get(&address, "/metrics").contains("\nopenledger_da_puts_total 0\n"));
        let line = role.told.recv_timeout(PATIENCE).unwrap();
        let digest = line.strip_prefix("certificates of committee 0x").unwrap();
        assert_eq!(digest.len(), 64);
        assert!(get(&address, "/config").contains(digest));
        committees.push(digest.to_owned());
        assert!(role.end().success());
    }
    assert_eq!(committees[0], committees[1]);
}
