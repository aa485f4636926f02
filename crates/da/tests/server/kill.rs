//! `kill -9` in the middle of puts.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::*;

const FOLDER: &str = "OPENLEDGER_DA_TEST_FOLDER";

/// The same test in the process that is to be killed: serves until then.
fn be_killed(dir: &Path) -> ! {
    let served = Served::new(dir, |config| config.max_requests = 64);
    let address = dir.join("address");
    std::fs::write(dir.join("address.new"), served.url()).unwrap();
    std::fs::rename(dir.join("address.new"), address).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        be_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..3u8 {
        let address = dir.path().join("address");
        let _ = std::fs::remove_file(&address);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::what_was_acknowledged_survives_kill_9"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let url = loop {
            if let Ok(url) = std::fs::read_to_string(&address) {
                break url;
            }
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        };
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let (url, acknowledged) = (url.clone(), &acknowledged);
                scope.spawn(move || {
                    let mut config = ClientConfig::new(url);
                    config.mode = CommitmentMode::Keccak;
                    let client = HttpClient::new(config);
                    for i in 0..u32::MAX {
                        let payload = [&[round, thread][..], &i.to_be_bytes()]
                            .concat()
                            .repeat(900);
                        match client.put(&payload) {
                            Ok(commitment) => {
                                let mut acknowledged = acknowledged.lock().unwrap();
                                acknowledged.push((commitment, payload));
                            }
                            Err(_) => break,
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300));
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(!acknowledged.is_empty());
    let served = Served::new(dir.path(), |_| {});
    let client = served.client(CommitmentMode::Keccak);
    for (commitment, payload) in &acknowledged {
        assert_eq!(client.get(commitment).unwrap(), payload[..]);
    }
}
