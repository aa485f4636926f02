//! How long a wallet waits: transfers one by one at a steady rate, timed until somebody tells of
//! them over WebSocket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, keccak256};
use jsonrpsee::core::client::{ClientT, Subscription, SubscriptionClientT};
use jsonrpsee::rpc_params;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use serde_json::{Value, json};

use crate::Fallible;
use crate::client::Connection;
use crate::mix::{Mix, sign};

/// Connections that send, so that one slow answer does not hold up the rest.
const CONNECTIONS: usize = 4;

/// Longest wait for the last ones.
const LIMIT: Duration = Duration::from_secs(30);

/// When each transaction was told of.
type Told = Arc<Mutex<HashMap<B256, Instant>>>;

pub(crate) fn measure(url: &str, senders: usize, rate: usize, seconds: usize) -> Fallible<Value> {
    let raw = sign(&Mix::Transfers, senders, rate * seconds)?;
    let hashes: Vec<B256> = raw.iter().map(keccak256).collect();
    let told = [Told::default(), Told::default()];
    let runtime = tokio::runtime::Runtime::new()?;
    let socket = url.replace("http://", "ws://");
    let sub_blocks = runtime.block_on(follow(&socket, told.clone()))?;

    let begun = Instant::now();
    let sent = std::thread::scope(|scope| -> Fallible<Vec<(usize, Instant)>> {
        let work = |connection: usize| -> Fallible<Vec<(usize, Instant)>> {
            let mut http = Connection::open(url)?;
            let mut sent = Vec::new();
            // A sender's transactions go over one connection, in order.
            let mine = (0..raw.len()).filter(|n| n % senders % CONNECTIONS == connection);
            for n in mine {
                let due = begun + Duration::from_secs(1) / u32::try_from(rate)? * u32::try_from(n)?;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                // From when it was due: a client that lags behind is not the node's good luck.
                sent.push((n, due));
                http.ask("eth_sendRawTransaction", &json!([raw[n]]))?;
            }
            Ok(sent)
        };
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| scope.spawn(move || work(connection)))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a connection panicked")??);
        }
        Ok(all)
    })?;
    let sending = begun.elapsed().as_secs_f64();
    let whole = |told: &Told| told.lock().map_or(0, |told| told.len()) >= raw.len();
    let waiting = Instant::now();
    while !whole(&told[1]) || (sub_blocks && !whole(&told[0])) {
        if waiting.elapsed() > LIMIT {
            return Err(format!("not all told of within {LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let percentiles = |told: &Told| -> Fallible<Value> {
        let told = told.lock().map_err(|_| "the reader panicked")?;
        let mut waits = Vec::new();
        for (n, since) in &sent {
            let at = told.get(&hashes[*n]).ok_or("told of all")?;
            waits.push(at.saturating_duration_since(*since).as_secs_f64() * 1e3);
        }
        waits.sort_by(f64::total_cmp);
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        Ok(json!({ "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0) }))
    };
    Ok(json!({
        "transactions": raw.len(),
        "transactions_per_second": raw.len() as f64 / sending,
        "sub_block": if sub_blocks { percentiles(&told[0])? } else { Value::Null },
        "block": percentiles(&told[1])?,
    }))
}

/// Notes what sub-blocks (in the first of `told`) and blocks (in the second) have, from now on.
/// False when the node has no sub-blocks.
async fn follow(url: &str, told: [Told; 2]) -> Fallible<bool> {
    let client = Arc::new(
        WsClientBuilder::default()
            .max_response_size(64 << 20)
            .max_buffer_capacity_per_subscription(4_096)
            .build(url)
            .await?,
    );
    let [in_sub_blocks, in_blocks] = told;
    let subscribe = async |topic: &str| -> Result<Subscription<Value>, _> {
        client
            .subscribe("eth_subscribe", rpc_params![topic], "eth_unsubscribe")
            .await
    };
    let heads = subscribe("newHeads").await?;
    let flashblocks = subscribe("newFlashblocks").await;
    tokio::spawn(follow_blocks(Arc::clone(&client), heads, in_blocks));
    let Ok(mut flashblocks) = flashblocks else {
        return Ok(false);
    };
    tokio::spawn(async move {
        // Its connection lives as long as somebody listens.
        let _client = client;
        while let Some(Ok(sub)) = flashblocks.next().await {
            let receipts = sub["diff"]["receipts"].as_array();
            let hashes = receipts.into_iter().flatten();
            note(
                &in_sub_blocks,
                hashes.map(|receipt| &receipt["transactionHash"]),
            );
        }
    });
    Ok(true)
}

async fn follow_blocks(client: Arc<WsClient>, mut heads: Subscription<Value>, told: Told) {
    while let Some(Ok(head)) = heads.next().await {
        let by_hash = rpc_params![&head["hash"], false];
        let block: Result<Value, _> = client.request("eth_getBlockByHash", by_hash).await;
        let Ok(block) = block else { return };
        note(
            &told,
            block["transactions"].as_array().into_iter().flatten(),
        );
    }
}

fn note<'a>(told: &Told, hashes: impl Iterator<Item = &'a Value>) {
    let now = Instant::now();
    let Ok(mut told) = told.lock() else { return };
    for hash in hashes {
        if let Some(hash) = hash.as_str().and_then(|hash| hash.parse().ok()) {
            told.entry(hash).or_insert(now);
        }
    }
}
