//! Deployment: expected addresses, resumable, and nobody keeps more rights than meant.

use std::sync::Arc;

use openledger_chain::{Deployment, Error, MemoryOutbox, Node, Sender, deploy};
use openledger_primitives::DEV_CHAIN_ID;
use openledger_primitives::records::Parameters;

use crate::support::{
    CONFIG, NAMES, Network, address, chain_and_sender, genesis, parameters, wallet,
};

#[tokio::test]
async fn same_addresses_and_nothing_twice() {
    let network = Network::start().await;
    assert_eq!(
        network.at,
        Deployment::expected(DEV_CHAIN_ID, address("deployer"), 0)
    );
    for (name, address) in network.at.contracts() {
        assert!(
            !network.chain.code(address).await.unwrap().is_empty(),
            "{name}"
        );
    }
    let nonce = network
        .chain
        .nonce(address("deployer"), true)
        .await
        .unwrap();
    // A second run from a process without memory of the first.
    let outbox = Arc::new(MemoryOutbox::default());
    let sender = Sender::new(network.chain.clone(), NAMES.map(wallet), outbox, CONFIG)
        .await
        .unwrap();
    let again = deploy(&sender, address("deployer"), 0, &genesis())
        .await
        .unwrap();
    assert_eq!(again, network.at);
    assert_eq!(
        network
            .chain
            .nonce(address("deployer"), true)
            .await
            .unwrap(),
        nonce
    );
    assert_eq!(network.reader.parameters().await.unwrap(), parameters());
}

#[tokio::test]
async fn lost_transactions_are_sent_again() {
    let (chain, sender) = chain_and_sender().await;
    chain.lose(3);
    let at = deploy(&sender, address("deployer"), 0, &genesis())
        .await
        .unwrap();
    assert_eq!(
        at,
        Deployment::expected(DEV_CHAIN_ID, address("deployer"), 0)
    );
    assert_eq!(chain.nonce(address("deployer"), true).await.unwrap(), 7);
}

#[tokio::test]
async fn a_used_deployer_is_refused() {
    let (_chain, sender) = chain_and_sender().await;
    let idle = openledger_chain::Call::new(address("alice"), vec![]);
    for _ in 0..2 {
        sender.send(address("deployer"), &idle).await.unwrap();
    }
    let result = deploy(&sender, address("deployer"), 0, &genesis()).await;
    assert!(
        matches!(
            result,
            Err(Error::DeployerNonce {
                nonce: 2,
                expected: 0,
                ..
            })
        ),
        "{result:?}"
    );
    deploy(&sender, address("deployer"), 2, &genesis())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_deployer_keeps_no_rights() {
    let network = Network::start().await;
    let set = network.at.set_parameters(&Parameters {
        dustFloor: 7,
        ..parameters()
    });
    for name in ["deployer", "settler", "guardian", "alice"] {
        let reason = network.refused(name, &set).await;
        assert!(
            reason.contains("AccessManagedUnauthorized"),
            "{name}: {reason}"
        );
    }
    network.ok("administrator", &set).await;
    assert_eq!(network.reader.parameters_at(1).await.unwrap().dustFloor, 0);
    assert_eq!(network.reader.parameters_at(2).await.unwrap().dustFloor, 7);
    let disable = network.at.disable_epoch(1);
    assert!(
        network
            .refused("settler", &disable)
            .await
            .contains("AccessManagedUnauthorized")
    );
}
