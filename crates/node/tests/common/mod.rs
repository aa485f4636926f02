//! A rollup network as the tests of the roles start it, and what they ask of it.
#![allow(dead_code, reason = "each test takes a part of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_signer_local::PrivateKeySigner;
use openledger_chain::{Call, HttpNode, MemoryOutbox, Sender, SenderConfig};
use openledger_node::rollup::availability::seeded_committee;
use openledger_node::rollup::batching::BatcherConfig;
use openledger_node::rollup::network::{Choices, Network};
use openledger_node::rollup::roles::{
    DevKeys, DevPorts, DevRollup, EngineApi, Layer2, Layer2Config,
};
use openledger_node::rollup::{Clock, Layer1Settings, SequencerConfig};
use openledger_primitives::{Address, B256, Wei, keccak256};

pub(crate) const L1: u64 = 901_000;
pub(crate) const L2: u64 = 901_001;
/// What the keys of the operators of data availability follow from.
pub(crate) const OPERATORS: &str = "operators";

/// How long a block waits for its batch.
pub(crate) const CHANNEL: Duration = Duration::from_secs(2);

pub(crate) fn key(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(name)).unwrap()
}

pub(crate) fn open(amount: u128) -> Wei {
    Wei::new(amount * Wei::OPEN.get())
}

pub(crate) fn choices() -> Choices {
    Choices {
        l2_chain_id: L2,
        block_time: 1,
        seq_window_size: 200,
        settings: Layer1Settings {
            owner: key("owner").address(),
            treasury: key("deployer").address(),
            guardian: key("guardian").address(),
            guardian_sunset: 4_102_444_800,
            batcher: key("batcher").address(),
            unsafe_block_signer: key("batcher").address(),
            batch_inbox: Choices::batch_inbox(L2),
            gas_limit: 30_000_000,
            base_fee_scalar: 1_368,
            blob_base_fee_scalar: 810_949,
            eip_1559: (250, 6),
            min_base_fee: 1_000,
            da_footprint_gas_scalar: 10,
            bond: Wei::new(Wei::OPEN.get() / 100),
            challenge_window: 20,
            clock: 60,
            decision_window: 60,
            proof_maturity_delay: 4,
            game_finality_delay: 2,
            data_windows: (10, 10),
            data_bond: Wei::new(Wei::OPEN.get() / 100),
        },
        allocations: BTreeMap::from([(key("rich").address(), open(1_000))]),
        governor: key("owner").address(),
        treasury: key("owner").address(),
        committee: Some(seeded_committee(OPERATORS).unwrap()),
        hashes: false,
    }
}

pub(crate) fn keys() -> DevKeys {
    DevKeys {
        deployer: key("deployer"),
        batcher: key("batcher"),
        proposer: key("proposer"),
        guardian: key("guardian"),
        operators: Some(OPERATORS.to_owned()),
    }
}

/// All of it, with a batch every two seconds.
pub(crate) async fn start(dir: &Path) -> DevRollup {
    start_as(dir, &choices(), &keys(), CHANNEL).await
}

/// As [`start`], of another network, with a batch every `channel`.
pub(crate) async fn start_as(
    dir: &Path,
    choices: &Choices,
    keys: &DevKeys,
    channel: Duration,
) -> DevRollup {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let ports = DevPorts {
        l2: local,
        l1: local,
        da: local,
    };
    let batcher = BatcherConfig {
        max_channel_duration: channel,
        ..BatcherConfig::default()
    };
    let sequencer = SequencerConfig::default();
    DevRollup::start(dir, ports, L1, choices, keys, sequencer, batcher)
        .await
        .unwrap()
}

/// A verifier that keeps as little of the past as it can: whatever needs more shows.
pub(crate) async fn verifier(network: &Network, dir: &Path, l1: &str, da: &str) -> Layer2 {
    let config = Layer2Config {
        dir: dir.to_path_buf(),
        rpc: SocketAddr::from(([127, 0, 0, 1], 0)),
        l1: l1.to_owned(),
        beacon: None,
        da: Some(da.to_owned()),
        sequencer: None,
        state_history: Some(NonZeroU64::MIN),
        clock: Clock::system(),
        engine: EngineApi::default(),
    };
    Layer2::start(network, config).await.unwrap()
}

pub(crate) async fn sender(url: &str, names: &[&str]) -> Sender {
    let node = std::sync::Arc::new(HttpNode::new(url).unwrap());
    let outbox = std::sync::Arc::new(MemoryOutbox::default());
    let signers = names.iter().map(|name| key(name));
    Sender::new(node, signers, outbox, SenderConfig::default())
        .await
        .unwrap()
}

/// Waits for something that must come, and says what it was if it does not.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while !holds() {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "{what} did not come"
        );
        tick.tick().await;
    }
}

/// Waits until the batcher has noted a batch with block `number` or one above. Its block may be safe
/// a moment before that.
pub(crate) async fn noted(rollup: &DevRollup, number: u64) {
    let last = || rollup.batches().recent.back().map(|batch| batch.last);
    until("a batch", || last().is_some_and(|last| last >= number)).await;
}

pub(crate) fn safe(node: &Layer2) -> u64 {
    node.chain().labels().unwrap().safe
}

pub(crate) fn hash_at(node: &Layer2, number: u64) -> Option<B256> {
    let block = node.chain().block(number).unwrap();
    block.map(|block| block.block.hash())
}

pub(crate) fn transfer(to: Address, amount: Wei) -> Call {
    Call {
        to: Some(to),
        value: amount,
        ..Call::default()
    }
}
