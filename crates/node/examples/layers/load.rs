//! The load: transfers of many senders over JSON-RPC, in their order.

use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use openledger_node::rollup::Layer1Settings;
use openledger_node::rollup::network::Choices;
use openledger_primitives::{Address, Bytes, U256, keccak256};
use openledger_rollup::ChainHandle;
use serde_json::{Value, json};

use crate::common::{L2, choices, key, open};

pub(crate) const SENDERS: usize = 200;

/// Calls of one request.
const BATCH: usize = 250;

/// Gas of a block, the most that the layer 1 allows: 23,800 transfers a second.
const GAS_LIMIT: u64 = 500_000_000;

pub(crate) fn wallets() -> Vec<PrivateKeySigner> {
    (0..SENDERS).map(|n| key(&format!("sender {n}"))).collect()
}

/// The network of the tests with large blocks and rich senders.
pub(crate) fn network() -> Choices {
    let base = choices();
    let funded = wallets()
        .into_iter()
        .map(|wallet| (wallet.address(), open(1_000)));
    Choices {
        settings: Layer1Settings {
            gas_limit: GAS_LIMIT,
            ..base.settings
        },
        allocations: funded.collect::<BTreeMap<_, _>>(),
        ..base
    }
}

pub(crate) fn receiver(n: usize) -> Address {
    Address::from_slice(&keccak256(format!("receiver {n}"))[12..])
}

/// Signed transfers `from..to`, round after round of all senders.
pub(crate) fn transfers(wallets: &[PrivateKeySigner], from: usize, to: usize) -> Vec<Bytes> {
    let sign = |n: usize| {
        let tx = TxEip1559 {
            chain_id: L2,
            nonce: (n / wallets.len()) as u64,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: receiver(n).into(),
            value: U256::from(n + 1),
            ..TxEip1559::default()
        };
        let wallet = &wallets[n % wallets.len()];
        let signature = wallet.sign_hash_sync(&tx.signature_hash()).unwrap();
        tx.into_signed(signature).encoded_2718().into()
    };
    (from..to).map(sign).collect()
}

/// Sends everything, never more than the pool holds; all of it must be accepted. Blocks.
pub(crate) fn send(agent: &ureq::Agent, url: &str, chain: &ChainHandle, transactions: &[Bytes]) {
    for part in transactions.chunks(BATCH) {
        // What a layer 1 that reorganised gave back counts, too: first the chain takes that in.
        let waiting = || {
            let status = chain.pool_status();
            status.pending + status.queued
        };
        while waiting() > 15_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
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
