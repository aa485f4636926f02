//! The client of both sides: signs beforehand, sends raw transactions in JSON-RPC batches over a
//! few connections, and waits until the state has counted every transaction of every sender.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use alloy_primitives::Bytes;
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};

use crate::mix::{Mix, sign};
use crate::{Fallible, timed};

/// Transactions of one request.
const BATCH: usize = 250;

/// Connections, each with senders of its own.
const CONNECTIONS: usize = 4;

/// Longest wait for the last block.
const LIMIT: Duration = Duration::from_secs(300);

/// A keep-alive HTTP connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(crate) fn open(url: &str) -> Fallible<Self> {
        let host = url.strip_prefix("http://").ok_or("an http:// URL")?;
        let host = host.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            host,
        })
    }

    fn post(&mut self, body: &str) -> Fallible<Value> {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Fallible<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.post(&body.to_string())?;
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}").into()),
            None => Ok(answer["result"].clone()),
        }
    }
}

/// Requests of each connection, as text, and one that asks for the nonces of all senders.
struct Load {
    requests: Vec<Vec<String>>,
    nonces: String,
    /// The same for the sender of the last transaction, and its nonce when it has all.
    last: (String, usize),
    count: usize,
    /// Transactions of the same senders before these.
    before: usize,
}

impl Load {
    fn new(mix: &Mix, senders: usize, count: usize) -> Fallible<Self> {
        let raw = sign(mix, senders, count)?;
        let mut shares = vec![Vec::new(); CONNECTIONS];
        for (n, bytes) in raw.iter().enumerate() {
            // A sender's transactions go over one connection, in order.
            shares[n % senders % CONNECTIONS].push((n, bytes));
        }
        let request = |part: &[(usize, &Bytes)]| {
            let calls: Vec<Value> = part
                .iter()
                .map(|(n, raw)| json!({ "jsonrpc": "2.0", "id": n, "method": "eth_sendRawTransaction", "params": [raw] }))
                .collect();
            Value::Array(calls).to_string()
        };
        let requests = shares
            .iter()
            .map(|share| share.chunks(BATCH).map(request).collect())
            .collect();
        let wallets = crate::mix::senders(senders);
        let first = mix.first_nonce() as usize;
        let newest = count.checked_sub(1).ok_or("at least one transaction")?;
        let last = wallets.iter().skip(newest % senders).take(1);
        Ok(Self {
            requests,
            last: (nonces(last), first + newest / senders + 1),
            nonces: nonces(wallets.iter()),
            count,
            before: first * senders,
        })
    }

    /// Sends everything; fails when one transaction is refused.
    fn send(&self, url: &str) -> Fallible<()> {
        std::thread::scope(|scope| {
            let work = |requests: &Vec<String>| -> Fallible<()> {
                let mut connection = Connection::open(url)?;
                for request in requests {
                    let answers = connection.post(request)?;
                    let answers = answers.as_array().ok_or("a batch is answered by a list")?;
                    if let Some(refused) = answers.iter().find(|answer| answer["error"].is_object())
                    {
                        return Err(format!("refused: {refused}").into());
                    }
                }
                Ok(())
            };
            let threads: Vec<_> = self
                .requests
                .iter()
                .map(|requests| scope.spawn(move || work(requests)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a connection panicked")?)
        })
    }

    /// Waits until the latest state has all transactions. Asks for one sender until that has all of
    /// its own, so that the side that answers has its processor to itself, and for all then.
    fn wait(&self, url: &str) -> Fallible<()> {
        let mut connection = Connection::open(url)?;
        let begun = Instant::now();
        let (sender, wanted) = &self.last;
        loop {
            if counted(&mut connection, sender)? >= *wanted {
                let all = counted(&mut connection, &self.nonces)?;
                if all == self.before + self.count {
                    return Ok(());
                }
            }
            if begun.elapsed() > LIMIT {
                let all = counted(&mut connection, &self.nonces)?;
                let wanted = self.before + self.count;
                return Err(format!("{all} of {wanted} within {LIMIT:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A batch of calls that asks for the nonces of senders.
fn nonces<'a>(senders: impl Iterator<Item = &'a PrivateKeySigner>) -> String {
    let calls = senders
        .enumerate()
        .map(|(n, sender)| json!({ "jsonrpc": "2.0", "id": n, "method": "eth_getTransactionCount", "params": [sender.address(), "latest"] }));
    Value::Array(calls.collect()).to_string()
}

/// The sum of the nonces that a batch asks for.
fn counted(connection: &mut Connection, nonces: &str) -> Fallible<usize> {
    let mut counted = 0;
    let answers = connection.post(nonces)?;
    for answer in answers.as_array().ok_or("a batch is answered by a list")? {
        let nonce = answer["result"].as_str().ok_or("a nonce is a string")?;
        counted += usize::from_str_radix(nonce.trim_start_matches("0x"), 16)?;
    }
    Ok(counted)
}

pub(crate) fn submit(url: &str, mix: &Mix, senders: usize, count: usize) -> Fallible<Value> {
    let load = Load::new(mix, senders, count)?;
    let begun = Instant::now();
    load.send(url)?;
    let accepted = begun.elapsed();
    load.wait(url)?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut connection = Connection::open(url)?;
    let block = connection.ask("eth_blockNumber", &json!([]))?;
    Ok(json!({
        "seconds": seconds,
        "accepted_seconds": accepted.as_secs_f64(),
        "transactions": load.count,
        "transactions_per_second": load.count as f64 / seconds,
        "last_block": block,
    }))
}

/// Fills the pool first and then asks for one block: what a side takes to execute, hash and keep
/// it, apart from intake.
pub(crate) fn submit_and_mine(url: &str, senders: usize, count: usize) -> Fallible<Value> {
    let load = Load::new(&Mix::Transfers, senders, count)?;
    let (intake, ()) = timed(|| load.send(url))?;
    let mut connection = Connection::open(url)?;
    let (mining, _) = timed(|| connection.ask("evm_mine", &json!([])))?;
    load.wait(url)?;
    let block = connection.ask("eth_getBlockByNumber", &json!(["latest", false]))?;
    Ok(json!({
        "seconds": mining.as_secs_f64(),
        "intake_seconds": intake.as_secs_f64(),
        "transactions": load.count,
        "in_last_block": block["transactions"].as_array().map(Vec::len),
        "gas": block["gasUsed"],
    }))
}
