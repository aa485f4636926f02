//! Two execution clients with an Engine API between them: one is ours, and the other one, too.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256};
use common::*;
use openledger_rollup::{
    Chain, ChainHandle, Clock, Error, Result, RpcConfig, RpcServer,
    engine::EngineClient,
    rpc::{JwtSecret, serve_engine},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

/// Posts to an Engine API. What it is told to change in an answer, it changes.
#[derive(Debug)]
struct Client {
    addr: SocketAddr,
    secret: JwtSecret,
    asked: Mutex<Vec<&'static str>>,
    /// Method whose answer is a lie, with what stands in it and what shall.
    lie: Mutex<Option<(&'static str, String, String)>>,
}

fn secret(byte: &str) -> JwtSecret {
    JwtSecret::from_hex(&byte.repeat(32)).unwrap()
}

impl Client {
    fn new(addr: SocketAddr, secret: JwtSecret) -> Arc<Self> {
        Arc::new(Self {
            addr,
            secret,
            asked: Mutex::default(),
            lie: Mutex::default(),
        })
    }

    fn lie(&self, method: &'static str, truth: &str, lie: &str) {
        *self.lie.lock().unwrap() = Some((method, truth.into(), lie.into()));
    }

    fn asked(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|name| **name == method).count()
    }
}

impl EngineClient for Client {
    fn ask(&self, method: &'static str, params: Value) -> Result<Value> {
        self.asked.lock().unwrap().push(method);
        let failed = |reason: String| Error::Execution(reason);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let token = self.secret.token(Clock::system().now().as_secs());
        let mut stream = TcpStream::connect(self.addr).map_err(|e| failed(e.to_string()))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        if !head.starts_with("HTTP/1.1 200") {
            return Err(failed(head.lines().next().unwrap_or_default().to_owned()));
        }
        let mut body = body.to_owned();
        if let Some((lied, truth, lie)) = &*self.lie.lock().unwrap()
            && *lied == method
        {
            assert!(body.contains(truth.as_str()), "{body}");
            body = body.replace(truth.as_str(), lie);
        }
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        match answer.get("error") {
            Some(error) => Err(failed(error.to_string())),
            None => Ok(answer["result"].take()),
        }
    }
}

/// The other client, behind its server.
struct Other {
    runtime: tokio::runtime::Runtime,
    server: Option<RpcServer>,
    _chain: Chain,
    handle: ChainHandle,
}

impl Other {
    fn start() -> Self {
        Self::of(genesis())
    }

    fn of(genesis: alloy_genesis::Genesis) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let (chain, handle) = open(genesis);
        let server = serve_engine(
            handle.clone(),
            ([127, 0, 0, 1], 0).into(),
            RpcConfig::default(),
            secret("1f"),
            Clock::system(),
        );
        let server = runtime.block_on(server).unwrap();
        Self {
            runtime,
            server: Some(server),
            _chain: chain,
            handle,
        }
    }

    fn client(&self) -> Arc<Client> {
        Client::new(self.server.as_ref().unwrap().addr(), secret("1f"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

fn beside(client: &Arc<Client>, dir: Option<std::path::PathBuf>) -> Result<(Chain, ChainHandle)> {
    let mut config = manual(dir, genesis());
    let client: Arc<Client> = Arc::clone(client);
    config.client = Some(client);
    let chain = Chain::open(config)?;
    let handle = chain.handle();
    Ok((chain, handle))
}

#[test]
fn both_make_the_same_blocks() {
    let other = Other::start();
    let client = other.client();
    let (_chain, chain) = beside(&client, None).unwrap();
    let (from, to) = (wallet(0), Address::repeat_byte(9));
    let contract = from.address().create(1);
    chain.send_raw(transfer(&from, 0, to, 5)).unwrap();
    chain
        .send_raw(create(&from, 1, &deploying(&STORE_AND_LOG)))
        .unwrap();
    let first = chain.make_block().unwrap();
    chain
        .send_raw(call(&from, 2, contract, &words(3, 4)))
        .unwrap();
    let second = chain.make_block().unwrap();
    assert_eq!(
        (first.transactions.len(), second.transactions.len()),
        (2, 1)
    );
    for block in [&first, &second] {
        let theirs = other.handle.block(block.number()).unwrap().unwrap();
        assert_eq!(theirs.block.hash(), block.hash());
    }
    let theirs = other.handle.labels().unwrap();
    assert_eq!(theirs, chain.labels().unwrap());
    assert_eq!(theirs.finalized, 2);
    // Both executed: each block was made there, and given there.
    assert_eq!(client.asked("engine_getPayloadV4"), 2);
    assert_eq!(client.asked("engine_newPayloadV4"), 2);
}

#[test]
fn a_client_that_disagrees_stops_the_chain() {
    let other = Other::start();
    let client = other.client();
    let (_chain, chain) = beside(&client, None).unwrap();
    let genesis = chain.head().unwrap();
    let refused = |text: &str| {
        let error = chain.make_block().unwrap_err();
        assert!(matches!(error, Error::Execution(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(chain.head().unwrap().hash(), genesis.hash());
    };
    client.lie("engine_newPayloadV4", "\"VALID\"", "\"INVALID\"");
    refused("Invalid");
    client.lie("engine_newPayloadV4", "\"VALID\"", "\"FINE\"");
    refused("FINE");
    client.lie(
        "engine_getPayloadV4",
        "\"blockHash\":\"0x",
        "\"blockHash\":\"0xff\",\"x\":\"",
    );
    refused("engine_getPayloadV4");
    *client.lie.lock().unwrap() = None;
    let block = chain.make_block().unwrap();
    assert_eq!(chain.head().unwrap().hash(), block.hash());
    assert_eq!(other.handle.head().unwrap().hash(), block.hash());
}

#[test]
fn a_client_that_is_behind_is_given_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let at = || Some(dir.path().to_path_buf());
    let chain = Chain::open(manual(at(), genesis())).unwrap();
    let from = wallet(0);
    for nonce in 0..5 {
        let raw = transfer(&from, nonce, Address::repeat_byte(9), 1);
        chain.handle().send_raw(raw).unwrap();
        chain.handle().make_block().unwrap();
    }
    chain.shutdown();
    let other = Other::start();
    let client = other.client();
    let (running, chain) = beside(&client, at()).unwrap();
    assert_eq!(other.handle.head().unwrap(), chain.head().unwrap());
    assert_eq!(other.handle.head().unwrap().number, 5);
    running.shutdown();
    drop(chain);

    // Of another chain: nothing to share, not even the genesis.
    let mut foreign = genesis();
    foreign.timestamp += 1;
    let foreign = Other::of(foreign);
    let error = beside(&foreign.client(), at()).unwrap_err();
    assert!(error.to_string().contains("another chain"), "{error}");
    // And without the secret there is no answer at all.
    let addr = other.server.as_ref().unwrap().addr();
    let error = beside(&Client::new(addr, secret("20")), at()).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}

#[test]
fn since_karst_a_payload_is_asked_for_by_its_new_version() {
    let mut genesis = genesis();
    let fields = &mut genesis.config.extra_fields;
    fields.insert("karstTime".into(), (GENESIS_TIME + 2).into());
    let other = Other::of(genesis.clone());
    let client = other.client();
    let mut config = manual(None, genesis);
    let shared: Arc<Client> = Arc::clone(&client);
    config.client = Some(shared);
    let running = Chain::open(config).unwrap();
    let chain = running.handle();
    for _ in 0..3 {
        chain.make_block().unwrap();
    }
    assert_eq!(client.asked("engine_getPayloadV4"), 1);
    assert_eq!(client.asked("engine_getPayloadV5"), 2);
    let head = other.handle.head().unwrap();
    assert_eq!(head, chain.head().unwrap());
    assert_ne!(head.hash(), B256::ZERO);
    assert!(chain.state(BlockId::latest()).is_ok());
}
