//! The sender: order, at most once, recovery.

use std::sync::Arc;

use futures::future::try_join_all;
use openledger_chain::{Call, Error, MemoryOutbox, Node, Outbox, Sender};
use openledger_primitives::Wei;

use crate::support::{CONFIG, NAMES, address, chain_and_sender, wallet};

fn gift(wei: u128) -> Call {
    Call::new(address("nobody"), vec![]).with_value(Wei::new(wei))
}

#[tokio::test]
async fn concurrent_sends_share_one_nonce_line() {
    let (chain, sender) = chain_and_sender().await;
    let calls: Vec<Call> = (1..=20).map(gift).collect();
    let receipts = try_join_all(calls.iter().map(|c| sender.send(address("alice"), c))).await;
    assert_eq!(receipts.unwrap().len(), 20);
    assert_eq!(chain.nonce(address("alice"), true).await.unwrap(), 20);
    assert_eq!(
        chain.balance(address("nobody"), None).await.unwrap(),
        Wei::new(210)
    );
    let receipts = sender.send_all(address("bob"), &calls).await.unwrap();
    assert!(
        receipts
            .windows(2)
            .all(|pair| pair[0].block < pair[1].block)
    );
}

#[tokio::test]
async fn a_key_sends_once_even_across_a_restart() {
    let (chain, _) = chain_and_sender().await;
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    for _ in 0..3 {
        let sender = Sender::new(chain.clone(), NAMES.map(wallet), outbox.clone(), CONFIG)
            .await
            .unwrap();
        let call = gift(5);
        let twice = [
            sender.send_once("gift", address("alice"), &call),
            sender.send_once("gift", address("alice"), &call),
        ];
        let receipts = try_join_all(twice).await.unwrap();
        assert_eq!(receipts[0], receipts[1]);
    }
    assert_eq!(
        chain.balance(address("nobody"), None).await.unwrap(),
        Wei::new(5)
    );
}

#[tokio::test]
async fn a_swallowed_transaction_is_submitted_again() {
    let (chain, sender) = chain_and_sender().await;
    chain.lose(2);
    sender
        .send_once("gift", address("alice"), &gift(5))
        .await
        .unwrap();
    assert_eq!(
        chain.balance(address("nobody"), None).await.unwrap(),
        Wei::new(5)
    );
}

#[tokio::test]
async fn a_stolen_nonce_loses_nothing_and_doubles_nothing() {
    let (chain, _) = chain_and_sender().await;
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let hasty = openledger_chain::SenderConfig {
        timeout: std::time::Duration::ZERO,
        ..CONFIG
    };
    let first = Sender::new(chain.clone(), NAMES.map(wallet), outbox.clone(), hasty)
        .await
        .unwrap();
    chain.lose(1);
    let lost = first.send_once("gift", address("alice"), &gift(5)).await;
    assert!(matches!(lost, Err(Error::NotMined { .. })), "{lost:?}");
    // Another program uses the same key.
    let thief = Sender::new(
        chain.clone(),
        NAMES.map(wallet),
        Arc::new(MemoryOutbox::default()),
        CONFIG,
    )
    .await
    .unwrap();
    thief.send(address("alice"), &gift(1)).await.unwrap();
    // What was lost is signed anew with the next nonce, once.
    let second = Sender::new(chain.clone(), NAMES.map(wallet), outbox, CONFIG)
        .await
        .unwrap();
    for _ in 0..2 {
        second
            .send_once("gift", address("alice"), &gift(5))
            .await
            .unwrap();
    }
    assert_eq!(chain.nonce(address("alice"), true).await.unwrap(), 2);
    assert_eq!(
        chain.balance(address("nobody"), None).await.unwrap(),
        Wei::new(6)
    );
}

#[tokio::test]
async fn refusals_use_no_nonce() {
    let (chain, sender) = chain_and_sender().await;
    let stranger = sender.send(address("stranger"), &gift(1)).await;
    assert!(matches!(stranger, Err(Error::NoSigner(_))));
    let poor = sender
        .send(address("alice"), &gift(Wei::OPEN.get() * 5_000))
        .await;
    assert!(matches!(poor, Err(Error::Refused { .. })), "{poor:?}");
    assert_eq!(chain.nonce(address("alice"), true).await.unwrap(), 0);
}
