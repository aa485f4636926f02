//! A layer 1 that takes blocks back, and nodes that were away meanwhile: everybody ends at the
//! chain that the layer 1 says, and reads no more of it than needed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use common::{choices, hash_at, key, noted, open, safe, sender, start, transfer, until, verifier};
use openledger_derivation::Checkpoint;
use openledger_node::rollup::batching::Sent;
use openledger_node::rollup::layer1::DevLayer1;
use openledger_node::rollup::rpc::Rpc;
use openledger_primitives::{Address, B256, U256};
use serde_json::Value;

/// Takes back the layer 1's blocks from `number` on.
fn take_back(layer1: &DevLayer1, number: u64) {
    let chain = layer1.handle();
    let hash = |number| chain.block(number).unwrap().unwrap().block.hash();
    // A block that comes in between moves the labels; then once more.
    let mut outcome = Ok(());
    for _ in 0..5 {
        let labels = chain.labels().unwrap();
        assert!(labels.finalized < number, "block {number} is final");
        outcome = chain.go_back(hash(number - 1), hash(labels.safe));
        if outcome.is_ok() {
            return;
        }
    }
    outcome.unwrap();
}

/// Whether a batch is on the layer 1 as it is now.
async fn is_there(l1: &str, batch: &Sent) -> bool {
    let (l1, transactions) = (l1.to_owned(), batch.l1_transactions.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let l1 = Rpc::new(l1);
        transactions.iter().all(|tx: &B256| {
            let receipt: Option<Value> = l1
                .ask("eth_getTransactionReceipt", serde_json::json!([tx]))
                .unwrap();
            receipt.is_some()
        })
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_the_layer_1_takes_back_are_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    let l1 = rollup.layer1().url();
    let da = rollup.da_url();
    let other = verifier(rollup.network(), &dir.path().join("other"), &l1, &da).await;
    let l2 = sender(&node.url(), &["rich"]).await;
    let to = Address::repeat_byte(9);
    until("a safe head", || safe(node) >= 2).await;
    let paid = l2.send(key("rich").address(), &transfer(to, open(3))).await;
    let paid = paid.unwrap();
    let hash = hash_at(node, paid.block);
    let both = |number| safe(node) >= number && safe(&other) >= number;
    until("the safe heads", || both(paid.block)).await;
    noted(&rollup, paid.block).await;
    let batches = rollup.batches();
    let covers = |batch: &&Sent| (batch.first..=batch.last).contains(&paid.block);
    let gone = batches.recent.iter().find(covers).unwrap().clone();

    // It was safe for both, and then it is not there any more.
    take_back(rollup.layer1(), gone.l1_block);
    until("the way back", || {
        node.status().heads().resets > 0 && other.status().heads().resets > 0
    })
    .await;
    assert!(!is_there(&l1, &gone).await);
    until("the batcher", || rollup.batches().lost > 0).await;
    let goal = paid.block + 10;
    until("the safe heads again", || both(goal)).await;
    noted(&rollup, goal).await;
    // The payment is where it was: its origin is below what was taken back.
    assert_eq!(hash_at(node, paid.block), hash);
    for number in 0..=goal {
        assert_eq!(hash_at(&other, number), hash_at(node, number), "{number}");
    }
    let balance = |node: &openledger_node::rollup::roles::Layer2| node.chain().balance(to).unwrap();
    assert_eq!(balance(node), U256::from(open(3).get()));

    // What the layer 1 has now covers every block; what is below the batch that went, once.
    let mut there = Vec::new();
    for batch in &rollup.batches().recent {
        if is_there(&l1, batch).await {
            there.push((batch.first, batch.last));
        }
    }
    for number in 1..=goal {
        let count = there
            .iter()
            .filter(|(a, b)| (*a..=*b).contains(&number))
            .count();
        assert!(count >= 1, "block {number} in no batch: {there:?}");
        assert!(number >= gone.first || count == 1, "{number}: {there:?}");
    }
    other.stop().await;

    // And whoever comes now knows nothing of it.
    let network = choices().find(&l1, key("deployer").address(), 0).await;
    let late = verifier(&network.unwrap(), &dir.path().join("late"), &l1, &da).await;
    until("the newcomer", || safe(&late) >= goal).await;
    assert_eq!(hash_at(&late, goal), hash_at(node, goal));
    assert_eq!(late.status().heads().resets, 0);
    assert_eq!(balance(&late), U256::from(open(3).get()));
    late.stop().await;
    rollup.stop().await;
}

/// The layer 1 at `url` through a door that takes note of the numbers of the blocks that go out.
async fn counted(url: String) -> (String, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::<Mutex<Vec<u64>>>::default();
    let noted = Arc::clone(&seen);
    let agent = ureq::Agent::new_with_defaults();
    let answer = move |body: Bytes| {
        let (agent, url, noted) = (agent.clone(), url.clone(), Arc::clone(&noted));
        let asked = tokio::task::spawn_blocking(move || {
            let request = agent.post(&url).content_type("application/json");
            let mut answer = request.send(&body[..]).unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            let question: Value = serde_json::from_slice(&body).unwrap();
            // Blocks with their transactions: labels are asked for without.
            if question["params"][1] == Value::Bool(true) {
                let answer: Value = serde_json::from_str(&text).unwrap();
                let number = answer["result"]["number"].as_str().map(|hex| &hex[2..]);
                let number = number.map(|hex| u64::from_str_radix(hex, 16).unwrap());
                noted.lock().unwrap().extend(number);
            }
            text
        });
        async move { asked.await.unwrap() }
    };
    let router = axum::Router::new().fallback(axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), seen)
}

/// Origin of the safe head that derivation in `home` goes on from, as the node at `l2` knows it.
async fn kept_origin(home: &Path, l2: String) -> u64 {
    let kept = std::fs::read(home.join("derived.json")).unwrap();
    let kept: Vec<Checkpoint> = serde_json::from_slice(&kept).unwrap();
    let number = format!("{:#x}", kept.last().unwrap().safe.number);
    let asked = tokio::task::spawn_blocking(move || {
        let output: Option<Value> = Rpc::new(l2)
            .ask("optimism_outputAtBlock", serde_json::json!([number]))
            .unwrap();
        output.unwrap()["blockRef"]["l1origin"]["number"].as_u64()
    });
    asked.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_goes_on_where_it_stood() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    let (l1, seen) = counted(rollup.layer1().url()).await;
    let da = rollup.da_url();
    let home = dir.path().join("verifier");
    let genesis = rollup.network().rollup.l1_genesis().number;
    let first = verifier(rollup.network(), &home, &l1, &da).await;
    until("some way", || {
        let (heads, batches) = (first.status().heads(), rollup.batches());
        let second = batches.recent.get(1).map(|batch| batch.l1_block);
        second.is_some_and(|block| heads.derived_from.number > block)
    })
    .await;
    first.stop().await;
    let read = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(
        read.iter().min(),
        Some(&genesis),
        "it began at the beginning"
    );
    let stood = kept_origin(&home, node.url()).await;
    assert!(stood > genesis + 2, "{stood}");

    let again = verifier(rollup.network(), &home, &l1, &da).await;
    let head = safe(node);
    until("what is new", || safe(&again) > head).await;
    assert_eq!(hash_at(&again, head), hash_at(node, head));
    again.stop().await;
    let read = std::mem::take(&mut *seen.lock().unwrap());
    let lowest = *read.iter().min().unwrap();
    assert!(lowest >= stood, "it stood at {stood} and read {read:?}");

    // While it is away, the layer 1 takes back what it stood on.
    let batch = rollup.batches().recent.back().unwrap().clone();
    let resets = node.status().heads().resets;
    // Above every block that there is: whoever has it safe has derived it from the new layer 1.
    let goal = node.chain().head().unwrap().number + 4;
    take_back(rollup.layer1(), batch.l1_block - 1);
    until("the sequencer", || node.status().heads().resets > resets).await;
    until("its safe head", || safe(node) >= goal).await;
    let last = verifier(rollup.network(), &home, &l1, &da).await;
    until("the verifier", || safe(&last) >= goal).await;
    for number in 0..=goal {
        assert_eq!(hash_at(&last, number), hash_at(node, number), "{number}");
    }
    assert_eq!(last.status().heads().trouble, None);
    last.stop().await;
    let read = std::mem::take(&mut *seen.lock().unwrap());
    assert!(
        !read.contains(&genesis),
        "an older place was good enough: {read:?}"
    );
    rollup.stop().await;
}
