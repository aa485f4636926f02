//! Full load for a long time, with everything that goes wrong in the middle.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use openledger_node::rollup::SequencerConfig;
use openledger_node::rollup::availability::seeded;
use openledger_node::rollup::batching::BatcherConfig;
use openledger_node::rollup::layer1::DevLayer1;
use openledger_node::rollup::network::layer1_sender;
use openledger_node::rollup::roles::{
    EngineApi, Layer2, Layer2Config, Server, start_batcher, start_da,
};
use openledger_primitives::Wei;
use serde_json::{Value, json};

use crate::common::{CHANNEL, L1, OPERATORS, hash_at, key, verifier};
use crate::load;

/// Transfers signed at once.
const ROUND: usize = 2_000;

/// Seconds between the samples that are reported; memory is looked at every second.
const SAMPLED: u64 = 10;

/// Longest wait for everybody to have everything, once the load is over.
const LIMIT: Duration = Duration::from_secs(600);

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn data(at: SocketAddr, dir: &Path, layer1: &DevLayer1) -> Server {
    let handle = layer1.handle();
    let head = move || handle.head().ok().map(|head| head.number);
    let certificates = Some(seeded(OPERATORS, Arc::new(head)));
    let dir = dir.join("da");
    start_da(at, &dir, layer1.clock(), None, certificates)
        .await
        .unwrap()
}

/// Resident memory of this process, MiB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The layer 1 takes its last two blocks back.
fn take_back(layer1: &DevLayer1) {
    let chain = layer1.handle();
    let hash = |number| chain.block(number).unwrap().unwrap().block.hash();
    // A block that comes in between moves the labels; then once more.
    let mut outcome = Ok(());
    for _ in 0..5 {
        let labels = chain.labels().unwrap();
        outcome = chain.go_back(hash(labels.head - 2), hash(labels.safe));
        if outcome.is_ok() {
            return;
        }
    }
    outcome.unwrap();
}

pub(crate) async fn run(dir: &Path, seconds: u64) -> Value {
    let choices = load::network();
    let rich = Wei::new(10_000 * Wei::OPEN.get());
    let accounts = ["deployer", "batcher"].map(|name| (key(name).address(), rich));
    let layer1 = DevLayer1::start(&dir.join("l1"), any(), L1, &accounts)
        .await
        .unwrap();
    let l1 = layer1.url();
    let mut da = Some(data(any(), dir, &layer1).await);
    let da_addr = da.as_ref().unwrap().address();
    let da_url = da.as_ref().unwrap().url();
    let deployer = key("deployer");
    let sender = layer1_sender(&l1, deployer.clone(), Default::default())
        .await
        .unwrap();
    let network = choices
        .deploy(&sender, &l1, deployer.address(), 0)
        .await
        .unwrap();
    let config = Layer2Config {
        dir: dir.join("chain"),
        rpc: any(),
        l1: l1.clone(),
        beacon: None,
        da: Some(da_url.clone()),
        sequencer: Some(SequencerConfig::default()),
        state_history: None,
        clock: layer1.clock(),
        engine: EngineApi::default(),
    };
    let node = Layer2::start(&network, config).await.unwrap();
    let other = verifier(&network, &dir.join("other"), &l1, &da_url).await;
    let batching = BatcherConfig {
        max_channel_duration: CHANNEL,
        fail_over_after: Duration::from_secs(3_600),
        ..BatcherConfig::default()
    };
    let batch = async || {
        let da = Some(da_url.clone());
        start_batcher(&network, &l1, &node.url(), da, key("batcher"), batching)
            .await
            .unwrap()
    };
    let mut batcher = Some(batch().await);

    let (over, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (url, chain) = (node.url(), node.chain());
    let (done, counter) = (Arc::clone(&over), Arc::clone(&sent));
    let sending = tokio::task::spawn_blocking(move || {
        let (agent, wallets) = (ureq::agent(), load::wallets());
        while !done.load(Ordering::Acquire) {
            let from = counter.load(Ordering::Acquire);
            let raw = load::transfers(&wallets, from, from + ROUND);
            load::send(&agent, &url, &chain, &raw);
            counter.store(from + ROUND, Ordering::Release);
        }
    });

    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (mut samples, mut memories) = (Vec::new(), Vec::new());
    let mut events = Vec::new();
    for second in 0..seconds {
        tick.tick().await;
        let part = second * 10 / seconds;
        let first = second == 0 || (second - 1) * 10 / seconds != part;
        let note = |events: &mut Vec<Value>, what: &str| {
            eprintln!("{second} s: {what}");
            events.push(json!({ "second": second, "what": what }));
        };
        match (part, first) {
            (2, true) => {
                note(&mut events, "the batcher is stopped and started");
                batcher.take().unwrap().stop().await;
                batcher = Some(batch().await);
            }
            (4, true) => {
                note(&mut events, "the layer 1 takes two blocks back");
                take_back(&layer1);
            }
            (6, true) => {
                note(&mut events, "data availability goes away");
                da.take().unwrap().shutdown().await;
            }
            (7, true) => {
                note(&mut events, "data availability is back");
                da = Some(data(da_addr, dir, &layer1).await);
            }
            _ => {}
        }
        memories.push(memory());
        if second % SAMPLED != 0 {
            continue;
        }
        let labels = node.chain().labels().unwrap();
        samples.push(json!({
            "second": second,
            "sent": sent.load(Ordering::Acquire),
            "head": labels.head,
            "safe": labels.safe,
            "verifier_safe": other.chain().labels().unwrap().safe,
            "memory_mib": memories.last(),
        }));
    }
    over.store(true, Ordering::Release);
    sending.await.unwrap();
    let loaded = begun.elapsed().as_secs_f64();
    let sent = sent.load(Ordering::Acquire);
    let all = || {
        let chain = node.chain();
        let nonces = load::wallets().into_iter().map(|wallet| {
            chain
                .state(Default::default())
                .unwrap()
                .nonce(wallet.address())
                .unwrap()
        });
        nonces.sum::<u64>() == sent as u64
    };
    while !all() {
        assert!(
            begun.elapsed().as_secs_f64() < loaded + LIMIT.as_secs_f64(),
            "transfers are missing"
        );
        tick.tick().await;
    }
    let head = node.chain().labels().unwrap().head;
    let safe = |node: &Layer2| node.chain().labels().unwrap().safe;
    while safe(&node) < head || safe(&other) < head {
        assert!(
            begun.elapsed().as_secs_f64() < loaded + LIMIT.as_secs_f64(),
            "block {head} is not safe"
        );
        tick.tick().await;
    }
    for number in 0..=head {
        assert_eq!(
            hash_at(&other, number),
            hash_at(&node, number),
            "block {number}"
        );
    }
    let peak = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (before, after) = memories.split_at(memories.len() / 2);
    let report = json!({
        "seconds": loaded,
        "settled_seconds": begun.elapsed().as_secs_f64() - loaded,
        "transactions": sent,
        "transactions_per_second": sent as f64 / loaded,
        "blocks": head,
        "memory_mib": { "first_half": peak(before), "second_half": peak(after) },
        "resets": { "sequencer": node.status().heads().resets, "verifier": other.status().heads().resets },
        "events": events,
        "samples": samples,
    });
    batcher.take().unwrap().stop().await;
    other.stop().await;
    node.stop().await;
    da.take().unwrap().shutdown().await;
    layer1.stop().await;
    report
}
