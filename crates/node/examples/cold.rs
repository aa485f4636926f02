//! `cold DIR TRANSACTIONS`: what the sequencer of a whole dev rollup takes for transfers that come
//! in over JSON-RPC, and what a verifier then takes from an empty directory, with nothing but the
//! layer 1 and the data, until it has the same block. One JSON object.
#![allow(clippy::print_stdout, reason = "replies to the program that asks")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use common::{CHANNEL, L2, choices, hash_at, key, keys, open, start_as, verifier};
use openledger_node::rollup::Layer1Settings;
use openledger_node::rollup::network::Choices;
use openledger_primitives::{Address, B256, Bytes, U256, keccak256};
use serde_json::{Value, json};

const SENDERS: usize = 200;

/// Calls of one request.
const BATCH: usize = 250;

/// Gas of a block: more than a second's transfers, so that the machine is the limit.
const GAS_LIMIT: u64 = 1_000_000_000;

fn wallets() -> Vec<PrivateKeySigner> {
    (0..SENDERS).map(|n| key(&format!("sender {n}"))).collect()
}

/// Signed transfers, round after round of all senders.
fn transfers(count: usize) -> Vec<Bytes> {
    let wallets = wallets();
    let sign = |n: usize| {
        let tx = TxEip1559 {
            chain_id: L2,
            nonce: (n / SENDERS) as u64,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: Address::from_slice(&keccak256(format!("receiver {n}"))[12..]).into(),
            value: U256::from(n + 1),
            ..TxEip1559::default()
        };
        let wallet = &wallets[n % SENDERS];
        let signature = wallet.sign_hash_sync(&tx.signature_hash()).unwrap();
        tx.into_signed(signature).encoded_2718().into()
    };
    (0..count).map(sign).collect()
}

/// Sends everything, and returns when each is accepted. Blocks.
fn send(agent: &ureq::Agent, url: &str, transactions: &[Bytes]) {
    for part in transactions.chunks(BATCH) {
        let call = |raw: &Bytes| json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw] });
        let calls = Value::Array(part.iter().map(call).collect());
        let request = agent.post(url).content_type("application/json");
        let mut answer = request.send(calls.to_string()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
        let refused = answers.iter().find(|answer| answer["error"].is_object());
        assert_eq!(refused, None);
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let count: usize = args.next().expect("a number").parse().unwrap();
    let raw = transfers(count);
    let base = choices();
    let funded = wallets()
        .into_iter()
        .map(|wallet| (wallet.address(), open(1_000)));
    let choices = Choices {
        settings: Layer1Settings {
            gas_limit: GAS_LIMIT,
            ..base.settings
        },
        allocations: funded.collect::<BTreeMap<_, _>>(),
        ..base
    };
    let rollup = start_as(&dir.join("dev"), &choices, &keys(), CHANNEL).await;
    let node = rollup.layer2();
    let chain = node.chain();
    let mut tick = tokio::time::interval(Duration::from_millis(5));

    let begun = Instant::now();
    // The pool is bounded: the client keeps at most this many ahead of the chain.
    let (url, pool) = (node.url(), chain.clone());
    let sending = tokio::task::spawn_blocking(move || {
        let agent = ureq::agent();
        for part in raw.chunks(1_000) {
            while pool.pool_status().pending > 15_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
            send(&agent, &url, part);
        }
    });
    sending.await.unwrap();
    // Deposits of L1 attributes count as well: the receivers tell.
    let last = Address::from_slice(&keccak256(format!("receiver {}", count - 1))[12..]);
    while chain.pool_status().pending > 0 || chain.balance(last).unwrap().is_zero() {
        tick.tick().await;
    }
    let sequencer_seconds = begun.elapsed().as_secs_f64();
    let head = chain.labels().unwrap().head;
    while chain.labels().unwrap().safe < head {
        tick.tick().await;
    }

    let (l1, da) = (rollup.layer1().url(), rollup.da_url());
    let begun = Instant::now();
    let network = choices
        .find(&l1, key("deployer").address(), 0)
        .await
        .unwrap();
    let cold = verifier(&network, &dir.join("verifier"), &l1, &da).await;
    while cold.chain().labels().unwrap().safe < head {
        assert_eq!(cold.status().heads().trouble, None);
        tick.tick().await;
    }
    let verifier_seconds = begun.elapsed().as_secs_f64();
    let hash: Option<B256> = hash_at(&cold, head);
    assert_eq!(hash, hash_at(node, head));
    let report = json!({
        "transactions": count,
        "blocks": head,
        "hash": hash,
        "sequencer_seconds": sequencer_seconds,
        "verifier_seconds": verifier_seconds,
        "batches": rollup.batches(),
    });
    println!("{report}");
    cold.stop().await;
    rollup.stop().await;
}
