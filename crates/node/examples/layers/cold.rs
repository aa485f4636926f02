//! A verifier from nothing against the sequencer.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{CHANNEL, hash_at, key, keys, start_as, verifier};
use crate::load;

pub(crate) async fn measure(dir: &Path, count: usize) -> Value {
    let raw = load::transfers(&load::wallets(), 0, count);
    let choices = load::network();
    let rollup = start_as(&dir.join("dev"), &choices, &keys(), CHANNEL).await;
    let node = rollup.layer2();
    let chain = node.chain();
    let mut tick = tokio::time::interval(Duration::from_millis(5));

    let begun = Instant::now();
    let (url, handle) = (node.url(), chain.clone());
    let sending = tokio::task::spawn_blocking(move || {
        load::send(&ureq::agent(), &url, &handle, &raw);
    });
    sending.await.unwrap();
    let last = load::receiver(count - 1);
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
    let deployer = key("deployer").address();
    let network = choices.find(&l1, deployer, 0).await.unwrap();
    let cold = verifier(&network, &dir.join("verifier"), &l1, &da).await;
    while cold.chain().labels().unwrap().safe < head {
        tick.tick().await;
    }
    let verifier_seconds = begun.elapsed().as_secs_f64();
    let hash = hash_at(&cold, head);
    assert_eq!(hash, hash_at(node, head));
    let done = rollup.batches();
    let report = json!({
        "transactions": count,
        "blocks": head,
        "hash": hash,
        "sequencer_seconds": sequencer_seconds,
        "verifier_seconds": verifier_seconds,
        "batches": done.count,
        "batch_bytes": done.bytes,
    });
    cold.stop().await;
    rollup.stop().await;
    report
}
