//! Both sides agree on every encoding: records, signatures, leaves and proofs.

use openledger_chain::bindings::{ContributionAnchor, InferenceSettlement};
use openledger_chain::{Evidence, Reader, signing};
use openledger_primitives::records::{Contribution, Parameters, Voucher, cumulative_leaf};
use openledger_primitives::{Address, B256, Record, Wei, keccak256, merkle};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::support::{Network, address, parameters};

fn contribution() -> impl Strategy<Value = Contribution> {
    (
        (any::<u16>(), any::<u64>(), any::<u64>(), any::<[u8; 20]>()),
        (
            any::<[u8; 32]>(),
            any::<u64>(),
            ".{0,70}",
            any::<u64>(),
            any::<u64>(),
        ),
    )
        .prop_map(
            |((version, chain, datanet, who), (content, size, licence, nonce, block))| {
                Contribution {
                    version,
                    chainId: chain,
                    datanet,
                    contributor: Address::from(who),
                    contentRoot: B256::from(content),
                    size,
                    licence,
                    nonce,
                    commitBlock: block,
                }
            },
        )
}

async fn agree(reader: &Reader, c: &Contribution, v: &Voucher, signature: &[u8]) {
    let at = reader.deployment;
    // The same ABI type under two Rust names.
    let (cc, vv) = (
        ContributionAnchor::Contribution {
            version: c.version,
            chainId: c.chainId,
            datanet: c.datanet,
            contributor: c.contributor,
            contentRoot: c.contentRoot,
            size: c.size,
            licence: c.licence.clone(),
            nonce: c.nonce,
            commitBlock: c.commitBlock,
        },
        InferenceSettlement::Voucher {
            payer: v.payer,
            settler: v.settler,
            maxCumulative: v.maxCumulative,
            nonce: v.nonce,
            deadline: v.deadline,
        },
    );
    let call = ContributionAnchor::contributionHashCall {
        contribution: cc.clone(),
    };
    let hash = reader.ask(at.anchor, &call).await.unwrap();
    assert_eq!(hash, signing::hash(c, &at.contribution_domain()));
    let call = InferenceSettlement::voucherHashCall { voucher: vv };
    let hash = reader.ask(at.settlement, &call).await.unwrap();
    assert_eq!(hash, signing::hash(v, &at.settlement_domain()));
    let call = ContributionAnchor::leafOfCall {
        contribution: cc,
        signature: signature.to_vec().into(),
    };
    assert_eq!(
        reader.ask(at.anchor, &call).await.unwrap(),
        Evidence::leaf(c, signature)
    );
}

#[test]
fn hashes_and_leaves_agree() {
    let runtime = Runtime::new().unwrap();
    let network = runtime.block_on(Network::start());
    let voucher = (
        any::<[u8; 20]>(),
        any::<[u8; 20]>(),
        any::<u128>(),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(payer, settler, max, nonce, deadline)| Voucher {
            payer: payer.into(),
            settler: settler.into(),
            maxCumulative: max,
            nonce,
            deadline,
        });
    let input = (
        contribution(),
        voucher,
        proptest::collection::vec(any::<u8>(), 0..100),
    );
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |((c, v, s) in input)| {
        runtime.block_on(agree(&network.reader, &c, &v, &s));
    });
}

#[test]
fn proofs_of_any_tree_are_accepted_and_only_they() {
    let runtime = Runtime::new().unwrap();
    let network = runtime.block_on(Network::start());
    let at = network.at;
    runtime.block_on(async {
        network.ok("settler", &at.bond(Wei::OPEN)).await;
        network.ok("payer", &at.deposit(Wei::OPEN)).await;
    });
    let mut total = 0u128;
    for count in [1usize, 2, 3, 5, 8, 33] {
        let step = u128::try_from(count).unwrap();
        total += step * step;
        // The earner at position i has earned `total - (count - 1 - i)` in this tree; only one of
        // them claims, so claims stay below the fees.
        let lines: Vec<(Address, u128)> = (0..count)
            .map(|i| (address(&format!("{count}/{i}")), step))
            .collect();
        let tree = merkle::Tree::from_data(lines.iter().map(|(a, c)| cumulative_leaf(*a, *c)));
        runtime.block_on(async {
            let fees = Wei::new(step * step);
            let s = network
                .settlement(keccak256("payers"), tree.root(), fees)
                .await;
            network.ok("settler", &at.post(&s)).await;
            network.pass_window().await;
            network.ok("alice", &at.finalise_epoch()).await;
            for (index, (earner, cumulative)) in lines.iter().enumerate() {
                let proof = tree.proof(index).unwrap();
                let position = u64::try_from(index).unwrap();
                let claim = |e, c, i, p: &[B256]| at.claim(e, c, i, p);
                let wrong = [
                    claim(*earner, *cumulative + 1, position, &proof),
                    claim(*earner, *cumulative, position + 1, &proof),
                    claim(*earner, *cumulative, position + (1 << proof.len()), &proof),
                    claim(address("alice"), *cumulative, position, &proof),
                ];
                for call in wrong {
                    assert_eq!(network.refused("bob", &call).await, "BadProof");
                }
                network
                    .ok("bob", &claim(*earner, *cumulative, position, &proof))
                    .await;
                assert_eq!(network.balance(*earner).await, Wei::new(*cumulative));
                let again = network
                    .refused("bob", &claim(*earner, *cumulative, position, &proof))
                    .await;
                assert!(again.starts_with("AlreadyClaimed"));
            }
        });
    }
    runtime.block_on(async {
        assert_eq!(
            network.reader.totals().await.unwrap().claims,
            Wei::new(total)
        );
    });
}

#[test]
fn parameters_keep_their_digest() {
    let runtime = Runtime::new().unwrap();
    let network = runtime.block_on(Network::start());
    runtime.block_on(async {
        let p = Parameters {
            minSpanTokens: 9,
            dustFloor: 77,
            ..parameters()
        };
        network
            .ok("administrator", &network.at.set_parameters(&p))
            .await;
        assert_eq!(network.reader.parameters_at(5).await.unwrap(), p);
        let events = network.events().await;
        let digest = events.iter().rev().find_map(|e| match &e.event {
            openledger_chain::Event::ParametersSet(set) => Some(set.digest),
            _ => None,
        });
        assert_eq!(digest, Some(p.digest()));
    });
}
