//! A chain behind its JSON-RPC server, asked with raw JSON.

use super::{genesis, open};
use alloy_primitives::Bytes;
use openledger_rollup::{Chain, ChainHandle, RpcConfig, RpcServer, serve};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// A chain with a server, and a runtime that carries it.
pub(crate) struct Node {
    pub(crate) runtime: tokio::runtime::Runtime,
    server: Option<RpcServer>,
    _chain: Chain,
    pub(crate) handle: ChainHandle,
    pub(crate) addr: SocketAddr,
}

impl Node {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let (chain, handle) = open(genesis());
        let server = runtime
            .block_on(serve(
                handle.clone(),
                ([127, 0, 0, 1], 0).into(),
                RpcConfig::default(),
            ))
            .unwrap();
        let addr = server.addr();
        Self {
            runtime,
            server: Some(server),
            _chain: chain,
            handle,
            addr,
        }
    }

    /// Posts a body and returns status line, headers and body.
    pub(crate) fn http(&self, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://dapp.example\r\n\
             Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub(crate) fn post(&self, body: &Value) -> Value {
        serde_json::from_str(&self.http(&body.to_string()).1).unwrap()
    }

    pub(crate) fn answer(&self, method: &str, params: Value) -> Value {
        self.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
    }

    pub(crate) fn ok(&self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Error code and message.
    pub(crate) fn err(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.answer(method, params);
        let error = answer
            .get("error")
            .unwrap_or_else(|| panic!("{method}: {answer}"));
        (
            error["code"].as_i64().unwrap(),
            error["message"].as_str().unwrap().to_owned(),
        )
    }

    pub(crate) fn send(&self, raw: &Bytes) -> Value {
        self.ok("eth_sendRawTransaction", json!([raw]))
    }

    /// Sends, makes a block and returns the receipt.
    pub(crate) fn include(&self, raw: &Bytes) -> Value {
        let hash = self.send(raw);
        self.handle.make_block().unwrap();
        self.ok("eth_getTransactionReceipt", json!([hash]))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}
