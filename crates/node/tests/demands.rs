//! A network whose batches are behind hashes: what a batcher keeps to itself can be demanded on the
//! layer 1, and does not stop the chain.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;

use common::{
    CHANNEL, L1, choices, hash_at, key, keys, noted, safe, sender, start_as, until, verifier,
};
use openledger_chain::layer1::Layer1Settings;
use openledger_chain::{Call, Replacement};
use openledger_derivation::inbox_commitment;
use openledger_node::rollup::batching::{BatcherConfig, Batches};
use openledger_node::rollup::layer1::DevLayer1;
use openledger_node::rollup::network::{Choices, Network, layer1_sender};
use openledger_node::rollup::roles::{
    DevKeys, EngineApi, Layer2, Layer2Config, Server, Worker, start_batcher, start_da,
};
use openledger_node::rollup::{Clock, Demand, SequencerConfig, Wei};
use openledger_primitives::Bytes;

/// Blocks of the layer 1 in which data can be demanded, and then shown.
const WINDOWS: (u64, u64) = (8, 4);

fn by_hash() -> (Choices, DevKeys) {
    let base = choices();
    let settings = Layer1Settings {
        data_windows: WINDOWS,
        ..base.settings
    };
    let choices = Choices {
        settings,
        committee: None,
        hashes: true,
        ..base
    };
    let keys = DevKeys {
        operators: None,
        ..keys()
    };
    (choices, keys)
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A data server that has nothing.
async fn empty(dir: &Path) -> Server {
    start_da(local(), dir, Clock::system(), None, None)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_demanded_is_shown_and_what_nobody_has_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (choices, keys) = by_hash();
    let rollup = start_as(&dir.path().join("dev"), &choices, &keys, CHANNEL).await;
    let (node, l1) = (rollup.layer2(), rollup.layer1().url());
    let network = rollup.network().clone();
    noted(&rollup, 1).await;
    let batch = rollup.batches().recent[0].clone();
    let at = network.layer1;
    let demanding = sender(&l1, &["deployer"]).await;
    let deployer = key("deployer").address();
    let demand = async |l1_block, commitment| {
        let demand = Demand {
            l1_block,
            commitment,
        };
        let call = at.demand(&**demanding.node(), &demand).await.unwrap();
        assert!(call.value > Wei::ZERO);
        demanding.send(deployer, &call).await.unwrap()
    };
    // The batcher shows its first batch, so that a verifier whose server has nothing reads it, and
    // waits for the next.
    demand(batch.l1_block, batch.commitment.clone().unwrap()).await;
    until("the data", || rollup.batches().shown == 1).await;
    let nothing = empty(&dir.path().join("nothing")).await;
    let blind = verifier(&network, &dir.path().join("blind"), &l1, &nothing.url()).await;
    until("the batch that was shown", || safe(&blind) >= batch.last).await;
    assert_eq!(hash_at(&blind, batch.last), hash_at(node, batch.last));
    let told = || blind.status().heads().trouble;
    until("a batch that was not", || {
        told().is_some_and(|why| why.contains("it can be demanded up to layer 1 block"))
    })
    .await;
    blind.stop().await;

    // The worst batcher: it commits to what nobody has.
    let batcher = key("batcher").address();
    let hash = [&[0][..], &[0xab; 32]].concat();
    let call = Call::new(network.rollup.batch_inbox(), inbox_commitment(&hash));
    let held = loop {
        let forger = sender(&l1, &["batcher"]).await;
        // The real one uses the same account; whoever comes second tries again.
        match forger.send(batcher, &call).await {
            Ok(receipt) => break receipt.block,
            Err(error) => assert!(rollup.batches().count < 100, "{error}"),
        }
    };
    let told = || node.status().heads().trouble;
    until("the chain to stand still", || {
        told().is_some_and(|why| why.contains(&format!("layer 1 block {held}")))
    })
    .await;
    let stood = node.chain().labels().unwrap().safe;
    let demanded = demand(held, Bytes::from(hash)).await.block;
    until("the chain to go on", || safe(node) > stood + 1).await;
    let l1_head = rollup.layer1().handle().head().unwrap().number;
    assert!(l1_head >= demanded + WINDOWS.1, "{l1_head}");
    assert_eq!(rollup.batches().shown, 1);
    rollup.stop().await;
}

/// The roles of which the batcher can be stopped alone.
struct Roles {
    layer1: DevLayer1,
    da: Server,
    network: Network,
    sequencer: Layer2,
}

impl Roles {
    async fn start(dir: &Path) -> Self {
        let (choices, keys) = by_hash();
        let rich = Wei::new(10_000 * Wei::OPEN.get());
        let accounts = [&keys.deployer, &keys.batcher, &keys.guardian];
        let accounts = accounts.map(|key| (key.address(), rich));
        let layer1 = DevLayer1::start(&dir.join("l1"), local(), L1, &accounts).await;
        let layer1 = layer1.unwrap();
        let l1 = layer1.url();
        let da = empty(&dir.join("da")).await;
        let deployer = keys.deployer.address();
        let sender = layer1_sender(&l1, keys.deployer, Replacement::default()).await;
        let network = choices.deploy(&sender.unwrap(), &l1, deployer, 0).await;
        let network = network.unwrap();
        let config = Layer2Config {
            dir: dir.join("chain"),
            rpc: local(),
            l1,
            beacon: None,
            da: Some(da.url()),
            sequencer: Some(SequencerConfig::default()),
            state_history: Some(NonZeroU64::MIN),
            clock: layer1.clock(),
            engine: EngineApi::default(),
        };
        let sequencer = Layer2::start(&network, config).await.unwrap();
        Self {
            layer1,
            da,
            network,
            sequencer,
        }
    }

    async fn batcher(&self) -> Worker<Batches> {
        let (l1, l2) = (self.layer1.url(), self.sequencer.url());
        let config = BatcherConfig {
            max_channel_duration: CHANNEL,
            ..BatcherConfig::default()
        };
        let da = Some(self.da.url());
        start_batcher(&self.network, &l1, &l2, da, key("batcher"), config)
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_what_is_not_shown_goes_back_too_and_the_batch_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let roles = Roles::start(dir.path()).await;
    let node = &roles.sequencer;
    let l1 = roles.layer1.url();
    let (da, home) = (roles.da.url(), dir.path().join("verifier"));
    let other = verifier(&roles.network, &home, &l1, &da).await;
    let batcher = roles.batcher().await;
    until("batches", || batcher.done().recent.len() >= 2).await;
    let done = batcher.stop().await;
    let last = done.recent.back().unwrap().clone();
    let before = last.first - 1;
    until("both safe heads", || {
        safe(node) >= last.last && safe(&other) >= last.last
    })
    .await;
    let hashes: Vec<_> = (0..=last.last).map(|n| hash_at(node, n)).collect();

    // Nobody shows the last batch, though both have it.
    let deployer = key("deployer").address();
    let demanding = sender(&l1, &["deployer"]).await;
    let demand = Demand {
        l1_block: last.l1_block,
        commitment: last.commitment.unwrap(),
    };
    let call = roles.network.layer1.demand(&**demanding.node(), &demand);
    let call = call.await.unwrap();
    demanding.send(deployer, &call).await.unwrap();
    until("both to go back", || {
        safe(node) == before && safe(&other) == before
    })
    .await;
    assert!(node.status().heads().resets > 0);
    // The sequencer's blocks stay, so nothing is lost once they are batched again.
    assert_eq!(hash_at(node, last.last), hashes.last().copied().unwrap());
    let batcher = roles.batcher().await;
    until("both safe heads", || {
        safe(node) >= last.last && safe(&other) >= last.last
    })
    .await;
    for (number, hash) in (0..).zip(hashes) {
        assert_eq!(hash_at(node, number), hash, "block {number}");
        assert_eq!(hash_at(&other, number), hash, "block {number}");
    }
    until("finality", || {
        other.chain().labels().unwrap().finalized >= before
    })
    .await;
    batcher.stop().await;
    other.stop().await;
    roles.sequencer.stop().await;
    roles.da.shutdown().await;
    roles.layer1.stop().await;
}
