//! Differential test: the contract, executed in an EVM from its committed bytecode, pays exactly
//! the credits that this crate computes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use common::any_epoch;
use openledger_chain::evm::TestChain;
use openledger_chain::{
    Call, Deployment, Error, Genesis, MemoryOutbox, Node, Reader, Sender, SenderConfig, deploy,
};
use openledger_primitives::{Address, DEV_CHAIN_ID, Wei, keccak256};
use openledger_settlement::{EpochInput, EpochOutput, close_epoch};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The contracts on an empty chain, with one wallet that may do everything.
struct Network {
    chain: Arc<TestChain>,
    sender: Sender,
    wallet: Address,
    at: Deployment,
    reader: Reader,
}

impl Network {
    async fn start() -> Self {
        let signer = PrivateKeySigner::from_bytes(&keccak256("settler")).unwrap();
        let wallet = signer.address();
        let chain = Arc::new(TestChain::new(DEV_CHAIN_ID));
        chain.fund(wallet, Wei::OPEN.mul_u64(1_000).unwrap());
        let node: Arc<dyn Node> = chain.clone();
        let outbox = Arc::new(MemoryOutbox::default());
        let config = SenderConfig {
            poll: Duration::ZERO,
            ..SenderConfig::default()
        };
        let sender = Sender::new(node.clone(), [signer], outbox, config)
            .await
            .unwrap();
        let genesis = Genesis::dev(wallet, common::TREASURY, &[wallet], wallet);
        let at = deploy(&sender, wallet, 0, &genesis).await.unwrap();
        let network = Self {
            chain,
            sender,
            wallet,
            at,
            reader: Reader::new(node, at),
        };
        network.send(&at.bond(genesis.settler_bond)).await.unwrap();
        network
    }

    async fn send(&self, call: &Call) -> Result<(), Error> {
        self.sender.send(self.wallet, call).await.map(drop)
    }

    async fn balance(&self, account: Address) -> Wei {
        self.chain.balance(account, None).await.unwrap()
    }

    /// Deposits what the epoch costs each payer, posts it and lets its window pass.
    async fn settle(&self, output: &EpochOutput) {
        for (&payer, &debit) in output.debits.iter().filter(|(_, debit)| !debit.is_zero()) {
            self.send(&self.at.deposit_for(payer, debit)).await.unwrap();
        }
        self.send(&self.at.post(&output.settlement)).await.unwrap();
        self.chain.pass(60);
        self.chain.mine();
        self.send(&self.at.finalise_epoch()).await.unwrap();
    }
}

/// Random epochs in a row, as a node would close them.
fn epochs(count: usize) -> Vec<EpochInput> {
    let mut runner = TestRunner::deterministic();
    let random = any_epoch().prop_filter("an epoch with answers", |e| !e.inferences.is_empty());
    (0..count)
        .map(|_| {
            let mut input = random.new_tree(&mut runner).unwrap().current();
            // The chain judges by the parameters that it has.
            input.parameters.dustFloor = 0;
            input
        })
        .collect()
}

#[test]
fn contract_pays_the_credits() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let network = Network::start().await;
        let mut paid = BTreeMap::<Address, Wei>::new();
        let mut last: Option<EpochOutput> = None;
        for (number, mut input) in (1..).zip(epochs(5)) {
            input.epoch = number;
            if let Some(last) = &last {
                input.payers = last.payers.clone();
                input.earners = last.earners.clone();
            }
            let output = close_epoch(&input).unwrap();
            network.settle(&output).await;

            // Every third earner claims later: cumulative lines lose nothing by waiting.
            for proof in output
                .earners
                .proofs()
                .filter(|p| number == 5 || p.index % 3 != number % 3)
            {
                let (earner, total) = (proof.account, proof.cumulative);
                let before = paid.get(&earner).copied().unwrap_or_default();
                let claim = |wei: Wei| {
                    network
                        .at
                        .claim(earner, wei.get(), proof.index, &proof.siblings)
                };
                let greedy = total.checked_add(Wei::new(1)).unwrap();
                assert!(
                    network.send(&claim(greedy)).await.is_err(),
                    "paid a wei too much"
                );
                if total > before {
                    network.send(&claim(total)).await.unwrap();
                    paid.insert(earner, total);
                }
                assert!(network.send(&claim(total)).await.is_err(), "paid twice");
                assert_eq!(network.balance(earner).await, total);
                assert_eq!(network.reader.claimed(earner).await.unwrap(), total);
            }
            last = Some(output);
        }
        let last = last.unwrap();
        let totals = network.reader.totals().await.unwrap();
        assert_eq!(totals.final_fees, last.payers.total().unwrap());
        assert_eq!(totals.claims, last.earners.total().unwrap());
        assert_eq!(totals.claims, totals.deposits, "in = out, on the chain");
        assert!(last.earners.len() > 8, "the epochs exercise many earners");
    });
}
