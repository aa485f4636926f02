//! Certificates of data availability in use: batches carry them, and whoever derives the chain
//! judges them by the committee that the network names.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    CHANNEL, OPERATORS, choices, hash_at, key, keys, noted, safe, sender, start, start_as, until,
    verifier,
};
use openledger_chain::Call;
use openledger_da::certificate::{Certificate, Operators, RECENCY_WINDOW, Srs};
use openledger_da::{CertificateKind, Commitment, DaError};
use openledger_derivation::{DaError as Derived, DataAvailability as _, inbox_commitment};
use openledger_node::rollup::Clock;
use openledger_node::rollup::availability::{Availability, seeded, seeded_committee};
use openledger_node::rollup::network::{Choices, Network};
use openledger_node::rollup::roles::{DevKeys, start_da};
use openledger_primitives::Bytes;

/// The certificate in a commitment.
fn certificate(commitment: &[u8]) -> Certificate {
    match Commitment::decode(commitment).unwrap() {
        Commitment::Certificate(certified) => {
            assert_eq!(certified.kind(), CertificateKind::Development);
            Certificate::decode(certified.bytes()).unwrap()
        }
        Commitment::Keccak(digest) => panic!("a digest: {digest}"),
    }
}

fn commitment(bytes: Vec<u8>) -> Bytes {
    let commitment = Commitment::certificate(CertificateKind::Development, bytes.into());
    commitment.unwrap().encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_of_another_committee_takes_no_batch() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    until("the safe head", || safe(node) >= 5).await;
    noted(&rollup, 5).await;
    let batches = rollup.batches();
    assert_eq!(batches.fail_overs, 0);
    let batch = batches.recent.front().unwrap();
    let first = certificate(batch.commitment.as_ref().unwrap());
    assert_eq!(Some(first.committee()), choices().committee);
    // Signed as of a block that was there, and not long before.
    assert!(first.reference_block() < batch.l1_block);
    assert!(first.reference_block() + 10 > batch.l1_block);

    // The network's files say whose certificates count.
    let files = Network::load(&dir.path().join("dev/network")).unwrap();
    assert_eq!(files.committee, choices().committee);
    let (l1, da) = (rollup.layer1().url(), rollup.da_url());
    let good = verifier(&files, &dir.path().join("good"), &l1, &da).await;
    until("the verifier's head", || safe(&good) >= 5).await;
    assert_eq!(hash_at(&good, 5), hash_at(node, 5));
    assert_eq!(good.status().heads().trouble, None);
    good.stop().await;

    // To others the batches are nothing: neither blocks nor something to wait for.
    let other = Some(seeded_committee("others").unwrap());
    for (name, committee) in [("other", other), ("none", None)] {
        let network = Network {
            committee,
            ..files.clone()
        };
        let node = verifier(&network, &dir.path().join(name), &l1, &da).await;
        let beyond = batch.l1_block + 1;
        until("the end of the layer 1", || {
            node.status().heads().derived_from.number >= beyond
        })
        .await;
        assert_eq!(safe(&node), 0, "{name}");
        assert_eq!(node.status().heads().trouble, None, "{name}");
        node.stop().await;
    }
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_certificates_are_dropped_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start(&dir.path().join("dev")).await;
    let node = rollup.layer2();
    noted(&rollup, 1).await;
    let batch = rollup.batches().recent[0].clone();
    let sound = certificate(batch.commitment.as_ref().unwrap()).encode();

    // By operators of the forger's own; by the right ones, about another payload; by two of four;
    // and what is no certificate at all. Nobody has a payload for any of them.
    let srs = Srs::development(None);
    let forgers = Operators::from_seed("forgers", 4, 67, &srs).unwrap();
    let foreign = forgers.certify(&srs, b"forged", batch.l1_block).unwrap();
    let mut other_digest = sound.clone();
    other_digest[75] ^= 1;
    let mut two_signers = sound.clone();
    two_signers[151] = 0b0011;
    let forged = [
        foreign.encode(),
        other_digest,
        two_signers,
        sound[..100].to_vec(),
    ];
    // The worst case: the batcher itself sends them.
    let batcher = key("batcher").address();
    let inbox = rollup.network().rollup.batch_inbox();
    let mut last = 0;
    for bytes in forged {
        let call = Call::new(inbox, inbox_commitment(&commitment(bytes)));
        // The real one uses the same account; whoever comes second tries again.
        last = loop {
            let forger = sender(&rollup.layer1().url(), &["batcher"]).await;
            match forger.send(batcher, &call).await {
                Ok(receipt) => break receipt.block,
                Err(error) => assert!(rollup.batches().count < 100, "{error}"),
            }
        };
    }
    until("what comes after them", || {
        let newest = rollup.batches().recent.back().unwrap().clone();
        newest.l1_block > last && safe(node) >= newest.last
    })
    .await;
    let head = safe(node);
    let (l1, da) = (rollup.layer1().url(), rollup.da_url());
    let home = dir.path().join("verifier");
    let other = verifier(rollup.network(), &home, &l1, &da).await;
    until("the verifier's head", || safe(&other) >= head).await;
    assert_eq!(hash_at(&other, head), hash_at(node, head));
    assert_eq!(other.status().heads().trouble, None);
    other.stop().await;
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_do_without_operators() {
    let dir = tempfile::tempdir().unwrap();
    let choices = Choices {
        committee: None,
        ..choices()
    };
    let keys = DevKeys {
        operators: None,
        ..keys()
    };
    let rollup = start_as(&dir.path().join("dev"), &choices, &keys, CHANNEL).await;
    until("the safe head", || safe(rollup.layer2()) >= 3).await;
    noted(&rollup, 1).await;
    let batch = rollup.batches().recent[0].clone();
    let commitment = Commitment::decode(batch.commitment.as_ref().unwrap()).unwrap();
    assert!(matches!(commitment, Commitment::Keccak(_)));
    let (l1, da) = (rollup.layer1().url(), rollup.da_url());
    let home = dir.path().join("verifier");
    let other = verifier(rollup.network(), &home, &l1, &da).await;
    until("the verifier's head", || safe(&other) >= 3).await;
    assert_eq!(hash_at(&other, 3), hash_at(rollup.layer2(), 3));
    other.stop().await;
    rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_dropped_and_what_is_missing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let head = Arc::new(AtomicU64::new(70));
    let known = Arc::clone(&head);
    let block = Arc::new(move || Some(known.load(Ordering::SeqCst)));
    let certificates = Some(seeded(OPERATORS, block));
    let server = start_da(local, dir.path(), Clock::system(), None, certificates);
    let server = server.await.unwrap();
    let home = dir.path().join("plain");
    let plain = start_da(local, &home, Clock::system(), None, None);
    let plain = plain.await.unwrap();
    let (url, plain_url) = (server.url(), plain.url());
    let asked = tokio::task::spawn_blocking(move || {
        let committee = seeded_committee(OPERATORS).unwrap();
        let at = |url: &str| Availability::at(Some(url.to_owned()), Some(committee));
        let da = at(&url);
        let put = da.put(b"payload").unwrap().unwrap().encode();
        assert_eq!(certificate(&put).reference_block(), 70);
        let last = 70 + RECENCY_WINDOW;
        assert_eq!(da.get(&put, last).unwrap(), b"payload"[..]);
        assert!(matches!(da.get(&put, last + 1), Err(Derived::Invalid(_))));

        // Nobody is there, somebody else is, or the payload is not: waiting is all that is left.
        for (url, told) in [
            ("http://127.0.0.1:9", "unavailable"),
            (plain_url.as_str(), "makes no certificates"),
        ] {
            match at(url).get(&put, 71) {
                Err(Derived::Unavailable(why)) => assert!(why.contains(told), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        let srs = Srs::development(None);
        let operators = Operators::from_seed(OPERATORS, 4, 67, &srs).unwrap();
        let withheld = operators.certify(&srs, b"withheld", 70).unwrap();
        let withheld = da.get(&commitment(withheld.encode()), 71);
        assert!(matches!(withheld, Err(Derived::Unavailable(_))));

        // What the network could not read is not posted.
        let refused =
            |da: Availability| matches!(da.put(b"x"), Some(Err(DaError::Rejected { .. })));
        assert!(refused(at(&plain_url)));
        assert!(refused(Availability::at(Some(url.clone()), None)));
        let other = Some(seeded_committee("others").unwrap());
        assert!(refused(Availability::at(Some(url), other)));
    });
    asked.await.unwrap();
    server.shutdown().await;
    plain.shutdown().await;
}
