//! A hub on this machine: the few requests that fetching a model takes, with faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit that every file belongs to.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file, and what goes wrong with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remote {
    pub(crate) content: Vec<u8>,
    /// Name of the content, SHA-256 for large files.
    pub(crate) etag: String,
    /// The connection breaks after this many bytes, once an entry.
    pub(crate) breaks: Vec<usize>,
    /// Bytes that are named more than there are.
    pub(crate) overstated: usize,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Remote>,
    asked: Vec<Asked>,
}

/// A hub that knows the model `org/tiny`, gated by no token.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
    pub(crate) url: String,
}

impl Hub {
    /// Serves `files` until the test ends.
    pub(crate) fn serve(files: impl IntoIterator<Item = (String, Remote)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            files: files.into_iter().collect(),
            asked: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is its own affair.
                let _ = answer(&mut stream.unwrap(), &shared);
            }
        });
        Self { state, url }
    }

    /// Changes a file.
    pub(crate) fn change(&self, file: &str, change: impl FnOnce(&mut Remote)) {
        change(self.state.lock().unwrap().files.get_mut(file).unwrap());
    }

    pub(crate) fn remove(&self, file: &str) {
        self.state.lock().unwrap().files.remove(file).unwrap();
    }

    /// Requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(stream: &mut TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let range = headers.remove("range");
    let mut state = state.lock().unwrap();
    state.asked.push(Asked {
        path: path.clone(),
        range: range.clone(),
        token: headers.remove("authorization"),
    });
    let not_found = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    if path.starts_with("/api/models/org/gated") {
        return stream.write_all(
            b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    }
    if path == "/api/models/org/tiny/revision/main" {
        let siblings: Vec<_> = state
            .files
            .keys()
            .map(|file| serde_json::json!({"rfilename": file}))
            .collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        return stream.write_all(body.as_bytes());
    }
    let prefix = format!("/org/tiny/resolve/{COMMIT}/");
    let file = path
        .strip_prefix(&prefix)
        .and_then(|file| state.files.get_mut(file));
    let (Some(remote), Some(range)) = (file, range) else {
        return stream.write_all(not_found);
    };
    let (start, end) = range["bytes=".len()..].split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end
        .parse()
        .map_or(remote.content.len(), |last: usize| last + 1);
    let body = &remote.content[start..end.min(remote.content.len())];
    let total = remote.content.len() + remote.overstated;
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{total}\r\n\
         etag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n",
        body.len(),
        end - 1,
        remote.etag
    );
    stream.write_all(head.as_bytes())?;
    let probe = range == "bytes=0-0";
    let sent = match remote.breaks.first() {
        Some(&bytes) if !probe => {
            remote.breaks.remove(0);
            bytes.min(body.len())
        }
        _ => body.len(),
    };
    stream.write_all(&body[..sent])
}
