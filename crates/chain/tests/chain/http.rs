//! `HttpNode` against a JSON-RPC server that speaks for the test chain.

use std::sync::Arc;

use openledger_chain::evm::TestChain;
use openledger_chain::{
    Call, Error, Follower, HttpNode, MemoryOutbox, Node, Reader, Sender, deploy, money,
};
use openledger_primitives::{Address, B256, Bytes, DEV_CHAIN_ID, Wei};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{CONFIG, NAMES, address, genesis, open, wallet};

/// Serves one connection until the client hangs up.
async fn serve(chain: Arc<TestChain>, mut stream: TcpStream) {
    let mut inbox = Vec::new();
    loop {
        let body = loop {
            if let Some(body) = take_request(&mut inbox) {
                break body;
            }
            let mut buffer = [0u8; 16_384];
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => inbox.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        };
        let request: Value = serde_json::from_slice(&body).unwrap();
        let method = request["method"].as_str().unwrap();
        let mut reply = json!({"jsonrpc": "2.0", "id": request["id"]});
        match answer(&chain, method, &request["params"]).await {
            Ok(result) => reply["result"] = result,
            Err(Error::Reverted { reason }) => {
                reply["error"] =
                    json!({"code": 3, "message": format!("execution reverted: {reason}")});
            }
            Err(error) => reply["error"] = json!({"code": -32000, "message": error.to_string()}),
        }
        let reply = reply.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        let response = format!("{head}content-length: {}\r\n\r\n{reply}", reply.len());
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

/// The body of the first complete HTTP request in `inbox`, which is taken out of it.
fn take_request(inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = inbox.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&inbox[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))?;
    let total = end + length.trim().parse::<usize>().unwrap();
    if inbox.len() < total {
        return None;
    }
    let body = inbox[end..total].to_vec();
    inbox.drain(..total);
    Some(body)
}

fn hex(n: impl std::fmt::LowerHex) -> Value {
    json!(format!("{n:#x}"))
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn call(request: &Value) -> (Option<Address>, Call) {
    let some = |key: &str| request.get(key).filter(|v| !v.is_null());
    let value = some("value").map_or(0, |v| {
        u128::from_str_radix(v.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    });
    let call = Call {
        to: some("to").map(parse),
        value: Wei::new(value),
        data: some("input").map(parse).unwrap_or_default(),
        gas: some("gas").map(number),
        ..Call::default()
    };
    (some("from").map(parse), call)
}

async fn answer(chain: &TestChain, method: &str, params: &Value) -> Result<Value, Error> {
    Ok(match method {
        "eth_chainId" => hex(DEV_CHAIN_ID),
        "eth_gasPrice" | "eth_maxPriorityFeePerGas" => hex(0),
        "eth_getBlockByNumber" => {
            let head = chain.head().await?;
            let mut block = json!({
                "number": hex(head.number), "timestamp": hex(head.timestamp),
                "gasLimit": "0x1", "gasUsed": "0x0", "difficulty": "0x0", "extraData": "0x",
                "nonce": "0x0000000000000000", "miner": Address::ZERO, "size": "0x1",
                "logsBloom": format!("0x{}", "0".repeat(512)), "uncles": [], "transactions": [],
            });
            for root in [
                "hash",
                "parentHash",
                "sha3Uncles",
                "stateRoot",
                "transactionsRoot",
                "receiptsRoot",
                "mixHash",
            ] {
                block[root] = json!(B256::ZERO);
            }
            block
        }
        "eth_getTransactionCount" => hex(chain.nonce(parse(&params[0]), true).await?),
        "eth_getBalance" => hex(chain.balance(parse(&params[0]), None).await?.get()),
        "eth_getCode" => json!(chain.code(parse(&params[0])).await?),
        "eth_call" => {
            let (from, call) = call(&params[0]);
            json!(chain.call(from, &call).await?)
        }
        "eth_estimateGas" => {
            let head = chain.head().await?;
            assert_eq!(
                number(&params[3]["number"]),
                head.number + 1,
                "for the next block"
            );
            let (from, call) = call(&params[0]);
            hex(chain.estimate(from.unwrap(), &call).await?)
        }
        "eth_sendRawTransaction" => json!(chain.submit(parse::<Bytes>(&params[0])).await?),
        "eth_getTransactionReceipt" => match chain.receipt(parse(&params[0])).await? {
            None => Value::Null,
            Some(r) => json!({
                // A deposit of the OP Stack, to prove that unknown types are no obstacle.
                "type": "0x7e", "transactionHash": r.tx, "transactionIndex": "0x0",
                "blockHash": B256::with_last_byte(1), "blockNumber": hex(r.block),
                "from": Address::ZERO, "to": Value::Null, "contractAddress": r.created,
                "cumulativeGasUsed": hex(r.gas_used), "gasUsed": hex(r.gas_used),
                "effectiveGasPrice": "0x0", "status": hex(u8::from(r.success)),
                "logsBloom": format!("0x{}", "0".repeat(512)), "logs": r.logs,
                "depositNonce": "0x0",
            }),
        },
        "eth_getLogs" => {
            let addresses: Vec<Address> = parse(&params[0]["address"]);
            let (from, to) = (
                number(&params[0]["fromBlock"]),
                number(&params[0]["toBlock"]),
            );
            json!(chain.logs(&addresses, from, to).await?)
        }
        other => panic!("the client asked for {other}"),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_http() {
    let chain = Arc::new(TestChain::new(DEV_CHAIN_ID));
    for name in NAMES {
        chain.fund(address(name), open(100));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(chain.clone(), stream));
        }
    });

    let node: Arc<dyn Node> = Arc::new(HttpNode::new(&url).unwrap());
    let outbox = Arc::new(MemoryOutbox::default());
    let sender = Sender::new(node.clone(), NAMES.map(wallet), outbox, CONFIG)
        .await
        .unwrap();
    let at = deploy(&sender, address("deployer"), 0, &genesis())
        .await
        .unwrap();
    let reader = Reader::new(node.clone(), at);
    sender
        .send(address("payer"), &at.deposit(open(2)))
        .await
        .unwrap();
    assert_eq!(
        reader.payer(address("payer")).await.unwrap().balance(),
        open(2)
    );
    let refused = sender.send(address("payer"), &at.finalise_epoch()).await;
    assert!(
        matches!(&refused, Err(Error::Reverted { reason }) if reason.contains("NotPending")),
        "{refused:?}"
    );
    let mut follower = Follower::new(node, at, 0);
    let ledger = money::recompute(&follower.catch_up().await.unwrap()).unwrap();
    assert_eq!(ledger.flow().unwrap().unspent, open(2));
    ledger
        .verify(&reader, follower.next_block() - 1)
        .await
        .unwrap();
    server.abort();

    let wrong = HttpNode::new("127.0.0.1:8545 please").unwrap_err();
    assert!(wrong.to_string().starts_with("not a URL"), "{wrong}");
}
