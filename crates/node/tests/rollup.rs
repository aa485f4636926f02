//! The rollup end to end, in one process and over real sockets: what the sequencer says ends up on
//! the layer 1, and whoever reads the layer 1 from nothing gets the same chain.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use alloy_eips::BlockId;
use common::{choices, hash_at, key, noted, open, safe, sender, start, transfer, until, verifier};
use openledger_chain::layer1::GameStatus;
use openledger_chain::predeploys::NATIVE_ASSET_LIQUIDITY;
use openledger_node::rollup::roles::start_proposer;
use openledger_node::rollup::rpc::Rpc;
use openledger_primitives::{Address, B256, Bytes, U256, keccak256};
use openledger_rollup::fees;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_with_nothing_reaches_the_sequencers_chain() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    let l2 = sender(&node.url(), &["rich"]).await;
    let rich = key("rich").address();
    let mut sent = Vec::new();
    for n in 0..5u8 {
        let to = Address::repeat_byte(n + 1);
        sent.push(l2.send(rich, &transfer(to, open(1))).await.unwrap());
    }
    let last = sent.last().unwrap().block;
    until("the safe head", || safe(node) >= last).await;
    until("a batch", || rollup.batches().bytes > 0).await;

    // From an empty directory, with nothing but the layer 1 and the data.
    let (l1, da) = (rollup.layer1().url(), rollup.da_url());
    let network = choices()
        .find(&l1, key("deployer").address(), 0)
        .await
        .unwrap();
    let other = verifier(&network, &dir.path().join("verifier"), &l1, &da).await;
    until("the verifier's head", || safe(&other) >= last).await;
    for number in 0..=last {
        assert_eq!(
            hash_at(&other, number),
            hash_at(node, number),
            "block {number}"
        );
    }
    let balance = other.chain().balance(Address::repeat_byte(5)).unwrap();
    assert_eq!(balance, U256::from(open(1).get()));
    // The first transaction of each block says where on the layer 1 it belongs.
    let status = other.status().heads();
    assert!(status.safe.l1_origin.number > network.rollup.l1_genesis().number);
    assert_eq!(status.trouble, None);
    until("finality", || {
        other.chain().labels().unwrap().finalized >= last
    })
    .await;
    // It keeps the state of final blocks no longer than it must, and tells what they were all the
    // same.
    let oldest = || other.chain().reader().unwrap().oldest_state().unwrap();
    until("a block after that", || oldest() >= last).await;
    for number in 1..last {
        let name = BlockId::number(number);
        assert!(other.chain().state(name).is_err(), "block {number}");
        let block = node.chain().block(number).unwrap().unwrap().block;
        let told = fees::l1_info_of(&block).unwrap();
        let state = node.chain().state(name).unwrap();
        let stored = fees::l1_info(node.chain().spec(), &block.header, &state).unwrap();
        assert_eq!(told, stored, "block {number}");
    }
    let (pruned, whole) = (Rpc::new(other.url()), Rpc::new(node.url()));
    tokio::task::spawn_blocking(move || {
        for number in 0..=last {
            let receipts = |rpc: &Rpc| -> Vec<Value> {
                let number = format!("{number:#x}");
                let asked = rpc.ask("eth_getBlockReceipts", json!([number]));
                asked.unwrap().unwrap()
            };
            let known = receipts(&pruned);
            assert_eq!(known, receipts(&whole), "block {number}");
            // All but deposits pay for their data.
            for receipt in known.iter().filter(|receipt| receipt["type"] != "0x7e") {
                assert!(receipt["l1Fee"].is_string(), "{receipt}");
            }
        }
        let refused = pruned.ask::<Value>("eth_getBalance", json!([Address::ZERO, "0x1"]));
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("state of block 1 is not available"),
            "{refused}"
        );
    })
    .await
    .unwrap();
    other.stop().await;
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_with_nothing_gets_open_from_the_layer_1() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(dir.path()).await;
    let node = rollup.layer2();
    let at = rollup.network().layer1;
    let l1 = sender(&rollup.layer1().url(), &["deployer"]).await;
    let deployer = key("deployer").address();
    let newcomer = key("newcomer").address();
    l1.send(deployer, &at.approve(open(50))).await.unwrap();
    l1.send(deployer, &at.deposit(newcomer, open(50)))
        .await
        .unwrap();
    let wealth = || node.chain().balance(newcomer).unwrap();
    until("the deposit", || wealth() == U256::from(open(50).get())).await;

    // It can pay for gas at once.
    let l2 = sender(&node.url(), &["newcomer"]).await;
    let to = Address::repeat_byte(0x77);
    l2.send(newcomer, &transfer(to, open(20))).await.unwrap();

    // Escrow = what is outside NativeAssetLiquidity.
    let escrowed = at.escrowed(&**l1.node()).await.unwrap();
    assert_eq!(escrowed, open(1_050));
    let idle = node.chain().balance(NATIVE_ASSET_LIQUIDITY).unwrap();
    let supply = openledger_chain::predeploys::SUPPLY;
    assert_eq!(U256::from(supply.get() - escrowed.get()), idle);
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let rich = key("rich").address();
    let first = {
        let rollup = start(dir.path()).await;
        let l2 = sender(&rollup.layer2().url(), &["rich"]).await;
        let sent = l2
            .send(rich, &transfer(Address::repeat_byte(1), open(1)))
            .await;
        // Stopped at once: what is not on the layer 1 yet is on disk.
        let hash = hash_at(rollup.layer2(), sent.as_ref().unwrap().block);
        rollup.stop().await;
        (sent.unwrap().block, hash)
    };
    let rollup = start(dir.path()).await;
    let node = rollup.layer2();
    assert_eq!(hash_at(node, first.0), first.1);
    let l2 = sender(&node.url(), &["rich"]).await;
    let second = l2
        .send(rich, &transfer(Address::repeat_byte(2), open(1)))
        .await;
    let second = second.unwrap().block;
    until("the safe head", || safe(node) >= second).await;
    assert_eq!(hash_at(node, first.0), first.1);
    // No block twice: batches follow each other.
    let mut next = None;
    for batch in &rollup.batches().recent {
        assert!(next.is_none_or(|next| batch.first == next), "{batch:?}");
        next = Some(batch.last + 1);
    }
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_proposer_loses_its_bond_and_an_honest_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(dir.path()).await;
    let node = rollup.layer2();
    let (l1_url, at) = (rollup.layer1().url(), rollup.network().layer1);
    // An honest claim, soon.
    let honest = start_proposer(at, &l1_url, &node.url(), key("rich"), 2, true)
        .await
        .unwrap();
    until("an honest claim", || honest.done().proposed > 0).await;
    honest.stop().await;
    // A lie about a block that exists.
    let liar = sender(&l1_url, &["deployer"]).await;
    let deployer = key("deployer").address();
    until("blocks", || safe(node) >= 12).await;
    let lie = B256::repeat_byte(0xbb);
    let anchor = openledger_chain::layer1::ANCHOR;
    let call = at.propose(&**liar.node(), lie, 12, anchor).await.unwrap();
    liar.send(deployer, &call).await.unwrap();
    let games = || {
        let node = liar.node();
        async move {
            let count = at.game_count(&**node).await.unwrap();
            let mut games = Vec::new();
            for index in 0..count {
                games.push(at.game(&**node, index).await.unwrap());
            }
            games
        }
    };
    let begin = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let found = loop {
        let games = games().await;
        let over = |root: bool| {
            games
                .iter()
                .any(|game| (game.root == lie) == root && game.status != GameStatus::InProgress)
        };
        if over(true) && over(false) {
            break games;
        }
        // The liar plays on, with roots of its own making.
        for game in games
            .iter()
            .filter(|game| game.root == lie && game.status == GameStatus::InProgress)
        {
            for index in 0..game.duels {
                let duel = game.duel(&**liar.node(), index).await.unwrap();
                if duel.phase == openledger_chain::layer1::Phase::Proposer {
                    let root = keccak256(duel.middle().to_be_bytes());
                    let _ = liar.send(deployer, &game.claim_midpoint(index, root)).await;
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{games:?}");
        tick.tick().await;
    };
    for game in found {
        let expected = if game.root == lie {
            GameStatus::ChallengerWins
        } else {
            GameStatus::DefenderWins
        };
        assert!(
            game.status == expected || game.status == GameStatus::InProgress,
            "{game:?}"
        );
    }
    assert!(rollup.challenges().challenged >= 1);
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_data_a_verifier_waits_and_then_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    until("the safe head", || safe(node) >= 3).await;
    noted(&rollup, 3).await;
    let first = rollup.batches().recent[0].l1_block;
    let l1 = rollup.layer1().url();
    let network = rollup.network().clone();
    let home = dir.path().join("verifier");
    // Nobody answers there.
    let blind = verifier(&network, &home, &l1, "http://127.0.0.1:9").await;
    until("trouble", || blind.status().heads().trouble.is_some()).await;
    assert_eq!(safe(&blind), 0);
    // The block with the batch is being read, and that is not to have read it.
    assert_eq!(blind.status().heads().derived_from.number, first - 1);
    blind.stop().await;
    let seeing = verifier(&network, &home, &l1, &rollup.da_url()).await;
    until("the verifier's head", || safe(&seeing) >= 3).await;
    assert_eq!(hash_at(&seeing, 3), hash_at(node, 3));
    seeing.stop().await;
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_executed_is_told_before_the_block_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(dir.path()).await;
    let node = rollup.layer2();
    let mut told = node.chain().subscribe_sub_blocks();
    let l2 = sender(&node.url(), &["rich"]).await;
    let rich = key("rich").address();
    let receipt = l2
        .send(rich, &transfer(Address::repeat_byte(1), open(1)))
        .await
        .unwrap();
    let begin = Instant::now();
    let sub = loop {
        let sub = told.recv().await.unwrap();
        if sub.transactions.iter().any(|tx| tx.hash() == receipt.tx) {
            break sub;
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
    };
    assert_eq!(sub.open.number, receipt.block);
    assert_eq!(sub.transactions.len(), sub.receipts.len());
    // The block that came of it has the same transaction at the same place.
    let block = node.chain().block(receipt.block).unwrap().unwrap();
    let index = sub.first
        + sub
            .transactions
            .iter()
            .position(|tx| tx.hash() == receipt.tx)
            .unwrap();
    assert_eq!(block.block.transactions[index].hash(), receipt.tx);
    let bytes: Vec<Bytes> = block
        .block
        .transactions
        .iter()
        .map(|tx| tx.encoded.clone())
        .collect();
    let told: Vec<Bytes> = sub
        .transactions
        .iter()
        .map(|tx| tx.encoded.clone())
        .collect();
    assert_eq!(bytes[sub.first..sub.first + told.len()], told[..]);
    rollup.stop().await;
}
