//! The faults that `ContributionAnchor` judges, end to end: signed, anchored, proven, slashed.

use openledger_chain::money;
use openledger_primitives::{Wei, keccak256, merkle};

use crate::support::{Network, Twist, address};

#[tokio::test]
async fn the_earlier_copy_wins() {
    let network = Network::start().await;
    let at = network.at;
    let datanet = network.datanet("alice").await;
    let honest = Twist::default();
    let first = network
        .anchor("alice", datanet, &["a", "b", "c"], &honest)
        .await;
    let second = network.anchor("bob", datanet, &["d", "b"], &honest).await;

    let (earlier, later) = (first.evidence(1), second.evidence(1));
    let opening = first.contents_tree().proof(1).unwrap();
    // Not the same content, not the right way round, not opened.
    let call = at.challenge_duplicate(
        &first.evidence(0),
        first.contents_tree().proof(0).unwrap(),
        &later,
    );
    assert_eq!(network.refused("payer", &call).await, "NotDuplicate");
    let back = second.contents_tree().proof(1).unwrap();
    let call = at.challenge_duplicate(&later, back, &earlier);
    assert_eq!(network.refused("payer", &call).await, "NotEarlier");
    let call = at.challenge_duplicate(&earlier, vec![], &later);
    assert!(
        network
            .refused("payer", &call)
            .await
            .starts_with("BadContentsProof")
    );

    let call = at.challenge_duplicate(&earlier, opening, &later);
    network.ok("payer", &call).await;
    assert!(network.reader.is_slashed(second.id, 1).await.unwrap());
    assert!(
        network
            .refused("payer", &call)
            .await
            .starts_with("AlreadySlashed")
    );
    let bond = network.reader.batch(second.id).await.unwrap().bond_per_leaf;
    let half = Wei::new(bond.get() / 2);
    assert_eq!(
        network
            .reader
            .contribution_bond(address("payer"))
            .await
            .unwrap(),
        (half, Wei::ZERO)
    );
    assert_eq!(
        network
            .reader
            .contribution_bond(address("bob"))
            .await
            .unwrap(),
        (bond, bond)
    );

    // What is left comes free after the window, and the challenger is paid.
    assert!(
        network
            .refused("bob", &at.finalise_batch(second.id))
            .await
            .starts_with("BatchOpen")
    );
    network.pass_window().await;
    network.ok("bob", &at.finalise_batch(second.id)).await;
    assert_eq!(
        network
            .reader
            .contribution_bond(address("bob"))
            .await
            .unwrap(),
        (bond, Wei::ZERO)
    );
    network
        .ok(
            "payer",
            &at.withdraw_contribution_bond(address("carol"), half),
        )
        .await;
    assert_eq!(network.balance(address("carol")).await, half);

    let ledger = money::recompute(&network.events().await).unwrap();
    ledger.verify(&network.reader, u64::MAX).await.unwrap();
    assert_eq!(ledger.burned, half);
}

/// A thief commits to noise early, anchors a stolen text under that old commitment, and accuses its
/// author. The contents proof stops him, and the broken commitment costs him his bond.
#[tokio::test]
async fn an_old_commitment_cannot_steal_priority() {
    let network = Network::start().await;
    let at = network.at;
    let datanet = network.datanet("alice").await;
    let stolen = merkle::chunk_root(b"poem");
    let twist = Twist {
        swap: Some((0, stolen)),
        ..Twist::default()
    };
    let thief = network
        .anchor("bob", datanet, &["noise", "x"], &twist)
        .await;
    let author = network
        .anchor("alice", datanet, &["poem"], &Twist::default())
        .await;

    let opening = thief.contents_tree().proof(0).unwrap();
    let call = at.challenge_duplicate(&thief.evidence(0), opening.clone(), &author.evidence(0));
    assert!(
        network
            .refused("bob", &call)
            .await
            .starts_with("BadContentsProof")
    );

    let committed = merkle::leaf(merkle::chunk_root(b"noise").as_slice());
    let call = at.challenge_commitment(&thief.evidence(0), committed, opening);
    network.ok("alice", &call).await;
    assert!(network.reader.is_slashed(thief.id, 0).await.unwrap());
    let honest = merkle::leaf(merkle::chunk_root(b"x").as_slice());
    let opening = thief.contents_tree().proof(1).unwrap();
    let call = at.challenge_commitment(&thief.evidence(1), honest, opening);
    assert_eq!(network.refused("alice", &call).await, "NoFault");
}

#[tokio::test]
async fn bad_signatures_and_wrong_context_are_slashed() {
    let network = Network::start().await;
    let at = network.at;
    let datanet = network.datanet("alice").await;
    let twist = Twist {
        forge: Some(1),
        misplace: Some(2),
        ..Twist::default()
    };
    let batch = network
        .anchor("bob", datanet, &["a", "b", "c"], &twist)
        .await;
    let good = network
        .refused("payer", &at.challenge_signature(&batch.evidence(0)))
        .await;
    assert_eq!(good, "NoFault");
    network
        .ok("payer", &at.challenge_signature(&batch.evidence(1)))
        .await;
    network
        .ok("payer", &at.challenge_signature(&batch.evidence(2)))
        .await;
    assert_eq!(network.reader.batch(batch.id).await.unwrap().slashed, 2);
    let sentences: Vec<String> = network
        .events()
        .await
        .iter()
        .map(|e| e.event.to_string())
        .collect();
    assert!(
        sentences.iter().any(|s| s.contains("has a bad signature")),
        "{sentences:#?}"
    );
    assert!(
        sentences
            .iter()
            .any(|s| s.contains("names another chain, Datanet or commit block"))
    );
}

#[tokio::test]
async fn anchoring_needs_commitment_bond_and_an_open_datanet() {
    let network = Network::start().await;
    let at = network.at;
    let datanet = network.datanet("alice").await;
    let batch = network
        .anchor("bob", datanet, &["a"], &Twist::default())
        .await;
    let again = network.refused("bob", &network.anchor_call(&batch)).await;
    assert!(again.starts_with("AlreadyAnchored"), "{again}");
    let unknown = at.anchor(
        datanet,
        keccak256("r"),
        keccak256("c"),
        1,
        1,
        keccak256("d"),
        keccak256("s"),
    );
    assert!(
        network
            .refused("bob", &unknown)
            .await
            .starts_with("NotCommitted")
    );
    let root = keccak256("c");
    let commitment =
        openledger_chain::Deployment::commitment(address("bob"), datanet, root, keccak256("s"));
    network.ok("bob", &at.commit(commitment)).await;
    assert!(
        network
            .refused("bob", &at.commit(commitment))
            .await
            .starts_with("AlreadyCommitted")
    );
    assert!(
        network
            .refused("bob", &unknown)
            .await
            .starts_with("BondTooLow")
    );
    network.ok("guardian", &at.set_paused(datanet, true)).await;
    assert!(network.refused("bob", &unknown).await.starts_with("Paused"));
    network.ok("alice", &at.set_paused(datanet, false)).await;
    assert!(
        network
            .refused("bob", &at.set_paused(datanet, true))
            .await
            .starts_with("NotCurator")
    );
}
