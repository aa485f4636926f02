//! The server over real sockets, with the client and with peers that misbehave.
#![allow(clippy::unwrap_used, reason = "tests")]

mod certificates;
mod kill;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openledger_da::server::{Running, serve};
use openledger_da::{
    CertificateKind, ClientConfig, Commitment, CommitmentMode, DaClient, DaError, HttpClient,
    InvalidReason, ServerConfig,
};
use tokio::runtime::Runtime;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A server on a runtime of its own, and its clock.
struct Served {
    running: Option<Running>,
    runtime: Runtime,
    now: Arc<AtomicU64>,
}

impl Served {
    fn new(dir: &Path, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let runtime = Runtime::new().unwrap();
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = now.clone();
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        let mut config = ServerConfig::new(ANY, dir, clock);
        change(&mut config);
        let running = runtime.block_on(serve(config)).unwrap();
        Self {
            running: Some(running),
            runtime,
            now,
        }
    }

    fn url(&self) -> String {
        self.running.as_ref().unwrap().url()
    }

    fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address()
    }

    fn client(&self, mode: CommitmentMode) -> HttpClient {
        let mut config = ClientConfig::new(self.url());
        config.mode = mode;
        HttpClient::new(config)
    }

    /// Status and body of a request without a client's ideas about them.
    fn ask(&self, request: &str) -> (u16, String) {
        ask(self.address(), request)
    }

    fn ask_bytes(&self, request: &str) -> (u16, Vec<u8>) {
        ask_bytes(self.address(), request)
    }

    fn set(&self, body: &str) {
        let length = body.len();
        let request = format!(
            "PATCH /memstore/config HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let (status, answer) = self.ask(&request);
        assert_eq!(status, 200, "{answer}");
    }

    fn shutdown(mut self) {
        self.runtime
            .block_on(self.running.take().unwrap().shutdown());
        self.runtime.shutdown_background();
    }
}

fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let (status, body) = ask_bytes(address, request);
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn ask_bytes(address: SocketAddr, request: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.map_or(answer.len(), |end| end + 4));
    let head = String::from_utf8_lossy(head);
    let status = head.split(' ').nth(1);
    (
        status.map_or(0, |status| status.parse().unwrap()),
        body.to_vec(),
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn what_is_put_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |_| {});
    let payload: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
    let client = served.client(CommitmentMode::Keccak);
    let commitment = client.put(&payload).unwrap();
    assert_eq!(commitment, Commitment::keccak(&payload));
    assert_eq!(client.put(&payload).unwrap(), commitment, "twice is once");
    assert_eq!(client.get(&commitment).unwrap(), payload);
    let absent = client.get(&Commitment::keccak(b"absent")).unwrap_err();
    assert!(matches!(absent, DaError::Unavailable { .. }), "{absent}");
    served.shutdown();

    let down = client.get(&commitment).unwrap_err();
    assert!(matches!(down, DaError::Unavailable { .. }), "{down}");
    let served = Served::new(dir.path(), |_| {});
    let client = served.client(CommitmentMode::Generic);
    assert_eq!(client.get(&commitment).unwrap(), payload);
}

#[test]
fn payloads_have_a_size_and_the_largest_passes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |config| config.max_requests = 2);
    let client = served.client(CommitmentMode::Keccak);
    let largest = vec![7; openledger_da::MAX_PAYLOAD_LEN];
    let commitment = client.put(&largest).unwrap();
    assert_eq!(client.get(&commitment).unwrap(), largest);
    for wrong in [vec![], vec![0; openledger_da::MAX_PAYLOAD_LEN + 1]] {
        let error = client.put(&wrong).unwrap_err();
        assert!(
            matches!(error, DaError::Rejected { status: None, .. }),
            "{error}"
        );
    }
    // Peers without such manners.
    let announced = "POST /put HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(served.ask(announced).0, 413);
    assert_eq!(served.ask(&post("/put", "")).0, 400);
    drop(served);

    let served = Served::new(dir.path(), |config| config.max_payload = 10);
    let client = served.client(CommitmentMode::Keccak);
    client.put(&[1; 10]).unwrap();
    let error = client.put(&[1; 11]).unwrap_err();
    assert!(
        matches!(
            error,
            DaError::Rejected {
                status: Some(413),
                ..
            }
        ),
        "{error}"
    );
    let chunked = "POST /put HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
                   8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    assert_eq!(served.ask(chunked).0, 413);
}

#[test]
fn garbage_is_refused_and_the_server_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |_| {});
    let digest = "11".repeat(32);
    for (path, status) in [
        (format!("/get/0x00{digest}"), 404),
        (format!("/get/00{digest}"), 404),
        (format!("/get/00{}", digest.replace("11", "Ff")), 404),
        (format!("/get/0x00{digest}00"), 400),
        (format!("/get/0x0x00{digest}"), 400),
        ("/get/".into(), 404),
        ("/get/0x".into(), 400),
        ("/get/zz".into(), 400),
        ("/get/0x02ff".into(), 400),
        ("/get/0x0100ffff".into(), 400),
        ("/get/0x010003aa".into(), 404),
        ("/get/0x03aa?commitment_mode=standard".into(), 404),
        ("/get/0xff?commitment_mode=standard".into(), 400),
        (format!("/get/0x01000300{}", "ab".repeat(32_000)), 400),
        (format!("/get/{}", "ab".repeat(40_000)), 414),
        ("/put".into(), 405),
        ("/memstore/config".into(), 404),
        ("/elsewhere".into(), 404),
        ("/health".into(), 200),
    ] {
        assert_eq!(
            served.ask(&get(&path)).0,
            status,
            "{}",
            &path[..path.len().min(80)]
        );
    }
    assert_eq!(
        served.ask(&post(&format!("/put/0x00{digest}"), "other")).0,
        400
    );
    assert_eq!(served.ask(&post("/put/0x010003aa", "other")).0, 400);
    assert_eq!(served.ask("\u{1}\u{2}\u{3}\r\n\r\n").0, 400);
    let (status, body) = served.ask(&get("/config"));
    assert_eq!(status, 200);
    assert!(
        body.contains(r#""max_payload_size_bytes":16252897"#),
        "{body}"
    );
    served.client(CommitmentMode::Keccak).put(b"alive").unwrap();
    let (_, metrics) = served.ask(&get("/metrics"));
    assert!(
        metrics.contains("openledger_da_puts_total 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("openledger_da_put_bytes_total 5\n"),
        "{metrics}"
    );
}

#[test]
fn peers_that_trickle_or_sleep_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |config| {
        config.deadline = Duration::from_millis(700);
        config.max_connections = 4;
    });
    let begun = Instant::now();
    let head = "POST /put HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc";
    let slow: Vec<TcpStream> = ["", "GET /he", head, head]
        .into_iter()
        .map(|sent| {
            let mut stream = TcpStream::connect(served.address()).unwrap();
            stream.write_all(sent.as_bytes()).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream
        })
        .collect();
    // All places are taken until the deadline; then this one is served.
    served
        .client(CommitmentMode::Keccak)
        .put(b"patient")
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(600));
    for mut stream in slow {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    drop(served);

    // Nor do they keep a server from ending.
    let served = Served::new(dir.path(), |_| {});
    let mut slow = TcpStream::connect(served.address()).unwrap();
    slow.write_all(head.as_bytes()).unwrap();
    served.client(CommitmentMode::Keccak).put(b"now").unwrap();
    let begun = Instant::now();
    served.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn faults_come_and_go_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |config| config.fault_injection = true);
    let client = served.client(CommitmentMode::Keccak);
    let commitment = client.put(b"sound").unwrap();
    let (_, before) = served.ask(&get("/memstore/config"));
    assert!(
        before.contains(r#""BlobExpiration":"336h0m0s""#),
        "{before}"
    );

    served.set(r#"{"PutReturnsFailoverError":true}"#);
    let error = client.put(b"next").unwrap_err();
    assert!(matches!(error, DaError::FailOver { .. }), "{error}");
    assert_eq!(client.get(&commitment).unwrap(), b"sound"[..]);

    served.set(r#"{"PutReturnsFailoverError":false,"ReturnsRateLimitError":true}"#);
    let retry_after = Some(Duration::from_secs(1));
    let busy = DaError::RateLimited { retry_after };
    assert_eq!(client.put(b"next").unwrap_err(), busy);
    assert_eq!(client.get(&commitment).unwrap_err(), busy);

    served.set(r#"{"ReturnsRateLimitError":false,"GetReturnsError":true}"#);
    let error = client.get(&commitment).unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");

    served.set(r#"{"GetReturnsError":false,"GetLatency":"300ms","PutLatency":"200ms"}"#);
    let begun = Instant::now();
    client.get(&commitment).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    client.put(b"late").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));

    // A payload put under a derivation error keeps it; what was put before is as it was. A digest
    // needs no server to be judged, so the client does not believe that it is invalid.
    served.set(r#"{"GetLatency":"0s","PutLatency":"0","NullableDerivationError":{"StatusCode":3,"Msg":"on request"}}"#);
    let marked = client.put(b"marked").unwrap();
    served.set(r#"{"NullableDerivationError":{"Reset":true}}"#);
    assert_eq!(client.get(&commitment).unwrap(), b"sound"[..]);
    let (status, body) = served.ask(&get(&format!("/get/{marked}")));
    assert_eq!(
        (status, body.as_str()),
        (418, r#"{"StatusCode":3,"Msg":"on request"}"#)
    );
    let error = client.get(&marked).unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");

    for wrong in [
        "",
        "3",
        r#"{"PutLatency":"soon"}"#,
        r#"{"NullableDerivationError":{"StatusCode":9}}"#,
    ] {
        let length = wrong.len();
        let request = format!(
            "PATCH /memstore/config HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{wrong}"
        );
        assert_eq!(served.ask(&request).0, 400, "{wrong}");
    }
}

#[test]
fn what_is_past_the_retention_goes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |config| {
        config.retention = Some(Duration::from_secs(1400));
        config.sweep_every = Duration::from_millis(20);
    });
    let client = served.client(CommitmentMode::Keccak);
    let old = client.put(b"old").unwrap();
    served.now.fetch_add(1400, Ordering::SeqCst);
    let young = client.put(b"young").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.get(&old).unwrap(), b"old"[..]);
    served.now.fetch_add(1401, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get(&old).is_ok() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.get(&young).unwrap(), b"young"[..]);
}

#[test]
fn more_requests_than_places_are_told_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), |config| config.max_requests = 1);
    let mut holder = TcpStream::connect(served.address()).unwrap();
    holder
        .write_all(b"POST /put HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        .unwrap();
    let client = served.client(CommitmentMode::Keccak);
    let deadline = Instant::now() + Duration::from_secs(20);
    let error = loop {
        match client.put(b"other") {
            Ok(_) => assert!(Instant::now() < deadline),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            DaError::RateLimited {
                retry_after: Some(_)
            }
        ),
        "{error}"
    );
    assert_eq!(served.ask(&get("/health")).0, 200, "health needs no place");
    holder.write_all(b"cde").unwrap();
    let mut answer = Vec::new();
    holder.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    client.put(b"other").unwrap();
}

/// A server that says one thing to one request.
fn says(answer: Vec<u8>) -> HttpClient {
    HttpClient::new(says_config(answer))
}

fn says_config(answer: Vec<u8>) -> ClientConfig {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(&answer);
        // Closing now would reset what the client still sends.
        std::thread::sleep(Duration::from_millis(300));
    });
    let mut config = ClientConfig::new(format!("http://{address}/"));
    config.get_timeout = Duration::from_secs(2);
    config.put_timeout = Duration::from_secs(2);
    config
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn certificates_of_eigenda_pass_through_opaque() {
    let commitment = Commitment::certificate(CertificateKind::EigenDaV4, vec![9; 900].into());
    let commitment = commitment.unwrap();
    let put = says(answer("200 OK", &commitment.encode())).put(b"payload");
    assert_eq!(put.unwrap(), commitment);
    let got = says(answer("200 OK", b"payload")).get_included(&commitment, Some(7));
    assert_eq!(got.unwrap(), b"payload"[..]);
    let body = br#"{"StatusCode":2,"Msg":"late"}"#;
    let error = says(answer("418 I'm a teapot", body)).get(&commitment);
    let invalid = DaError::Invalid {
        reason: InvalidReason::Stale,
        message: "late".into(),
    };
    assert_eq!(error.unwrap_err(), invalid);
}

#[test]
fn servers_that_lie_or_babble_are_unavailable() {
    let commitment = Commitment::keccak(b"truth");
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    let teapot = answer("418 I'm a teapot", br#"{"StatusCode":3,"Msg":"so what"}"#);
    for answer in [
        answer("200 OK", b"lies"),
        answer("200 OK", b""),
        endless,
        teapot,
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntru".to_vec(),
        b"HTTP/1.1 2".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        b"".to_vec(),
    ] {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let error = says(answer).get(&commitment).unwrap_err();
        assert!(
            matches!(error, DaError::Unavailable { .. }),
            "{text}: {error}"
        );
    }
    for (answer, name) in [
        (answer("200 OK", b"no commitment"), "words"),
        (answer("200 OK", b""), "nothing"),
    ] {
        let error = says(answer).put(b"payload").unwrap_err();
        assert!(
            matches!(error, DaError::Unavailable { .. }),
            "{name}: {error}"
        );
    }
    let other = answer("200 OK", &Commitment::keccak(b"other").encode());
    let error = says(other).put(b"payload").unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");
    let redirect =
        b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let error = says(redirect.to_vec()).get(&commitment).unwrap_err();
    assert!(
        matches!(
            error,
            DaError::Rejected {
                status: Some(301),
                ..
            }
        ),
        "{error}"
    );
    let error = HttpClient::new(ClientConfig::new("not a url"))
        .get(&commitment)
        .unwrap_err();
    assert!(
        matches!(error, DaError::Rejected { status: None, .. }),
        "{error}"
    );
}
