//! One whole loop on chain, and the money story told back from its logs.

use openledger_chain::money::Flow;
use openledger_chain::{Event, FeeSplit, VersionRef, money, signing};
use openledger_primitives::records::{
    Adapter, DatasetVersion, ReasonCount, TrainingRun, Voucher, cumulative_leaf,
};
use openledger_primitives::{B256, DEV_CHAIN_ID, RECORD_VERSION, Record, Wei, keccak256, merkle};

use crate::support::{Network, Twist, address, open, parameters, wallet};

fn version(datanet: u64, number: u64, parent: B256) -> DatasetVersion {
    DatasetVersion {
        version: RECORD_VERSION,
        chainId: DEV_CHAIN_ID,
        datanet,
        number,
        parent,
        rowsRoot: keccak256("rows"),
        clustersRoot: keccak256("clusters"),
        policyHash: keccak256("policy"),
        accepted: 2,
        rejected: vec![
            ReasonCount {
                reason: "exact-duplicate".to_owned(),
                count: 3,
            },
            ReasonCount {
                reason: "personal-data, of a rather long kind".to_owned(),
                count: 4,
            },
        ],
    }
}

fn run(datasets: Vec<B256>) -> TrainingRun {
    TrainingRun {
        version: RECORD_VERSION,
        chainId: DEV_CHAIN_ID,
        base: keccak256("base"),
        tokenizer: keccak256("tokenizer"),
        datasets,
        recipe: keccak256("recipe"),
        codeVersion: "0.1.0".to_owned(),
        checkpoints: vec![keccak256("1"), keccak256("2")],
        metrics: keccak256("metrics"),
        mode: 0,
    }
}

fn adapter(run: B256) -> Adapter {
    Adapter {
        version: RECORD_VERSION,
        chainId: DEV_CHAIN_ID,
        run,
        weights: keccak256("weights"),
        config: keccak256("config"),
        sketchRoot: keccak256("sketches"),
        indexRoot: keccak256("index"),
        evalLossBeforeMicro: 2_000_000,
        evalLossAfterMicro: 1_500_000,
        mode: 0,
        priceIn: 10,
        priceOut: 20,
        owner: address("alice"),
    }
}

#[tokio::test]
async fn the_loop_and_its_money() {
    let network = Network::start().await;
    let (at, reader) = (network.at, &network.reader);
    let p = parameters();
    let (treasury, settler, payer) = (address("treasury"), address("settler"), address("payer"));
    let before = network.balance(treasury).await;

    // Data.
    let datanet = network.datanet("alice").await;
    let batch = network
        .anchor("alice", datanet, &["a", "b"], &Twist::default())
        .await;
    network.pass_window().await;
    network.ok("bob", &at.finalise_batch(batch.id)).await;
    let first = version(datanet, 1, B256::ZERO);
    let skipped = network
        .refused(
            "alice",
            &at.publish_version(&version(datanet, 2, B256::ZERO)),
        )
        .await;
    assert!(skipped.contains("number"));
    network.ok("alice", &at.publish_version(&first)).await;
    assert_eq!(
        reader.version_digest(datanet, 1).await.unwrap(),
        first.digest()
    );
    let orphan = network
        .refused(
            "alice",
            &at.publish_version(&version(datanet, 2, B256::ZERO)),
        )
        .await;
    assert!(orphan.contains("parent"));
    network
        .ok(
            "alice",
            &at.publish_version(&version(datanet, 2, first.digest())),
        )
        .await;

    // Model.
    let fee = Wei::new(p.registrationFee);
    let base = at.register_base(
        keccak256("base"),
        keccak256("tokenizer"),
        "file://base",
        fee,
    );
    network.ok("bob", &base).await;
    let id = reader.model_id(keccak256("base")).await.unwrap().unwrap();
    let refs = [VersionRef { datanet, number: 1 }];
    let run = run(vec![first.digest()]);
    let adapter = adapter(run.digest());
    let split = FeeSplit::of(&p);
    let register = |a: &Adapter| at.register_adapter(id, a, &run, &refs, &split, fee);
    assert!(
        network
            .refused("bob", &register(&adapter))
            .await
            .contains("adapter.owner")
    );
    let stray = Adapter {
        run: keccak256("other"),
        ..adapter.clone()
    };
    assert!(
        network
            .refused("alice", &register(&stray))
            .await
            .contains("adapter.run")
    );
    network.ok("alice", &register(&adapter)).await;
    assert!(
        network
            .refused("alice", &register(&adapter))
            .await
            .starts_with("AlreadyRegistered")
    );
    let model = reader.model_id(adapter.digest()).await.unwrap().unwrap();
    let registered = reader.adapter(model).await.unwrap();
    assert_eq!(
        (registered.base, registered.run, registered.split),
        (id, run.digest(), split)
    );

    // Inference: deposit, voucher, epoch, finality, claims.
    network.ok("settler", &at.bond(Wei::OPEN)).await;
    network.ok("payer", &at.deposit(open(3))).await;
    network.ok("bob", &at.deposit_for(payer, open(2))).await;
    let spent = open(1).get();
    let payers = merkle::Tree::from_data([cumulative_leaf(payer, spent)]);
    let commons = reader.commons(datanet).await.unwrap();
    let shares = [
        (address("carol"), spent / 10 * 4),
        (settler, spent / 10 * 3),
        (commons, spent / 10 * 2),
        (treasury, spent / 10),
    ];
    let earners = merkle::Tree::from_data(shares.map(|(a, c)| cumulative_leaf(a, c)));
    let s = network
        .settlement(payers.root(), earners.root(), Wei::new(spent))
        .await;
    network.ok("settler", &at.post(&s)).await;

    // A demand for the voucher is answered with what the payer signed.
    let bond = Wei::new(Wei::OPEN.get() / 100);
    network
        .ok("bob", &at.demand_voucher(1, payer, spent, 0, &[], bond))
        .await;
    let voucher = Voucher {
        payer,
        settler,
        maxCumulative: spent,
        nonce: 1,
        deadline: 9,
    };
    let domain = at.settlement_domain();
    let forged = signing::sign(&wallet("bob"), &voucher, &domain).unwrap();
    let forged = network
        .refused("settler", &at.answer_demand(1, &voucher, &forged))
        .await;
    assert!(forged.contains("signature"), "{forged}");
    let signature = signing::sign(&wallet("payer"), &voucher, &domain).unwrap();
    network
        .ok("settler", &at.answer_demand(1, &voucher, &signature))
        .await;

    assert!(
        network
            .refused("bob", &at.finalise_epoch())
            .await
            .starts_with("WindowOpen")
    );
    assert_eq!(
        network.refused("bob", &at.claim(commons, 1, 0, &[])).await,
        "NothingFinal"
    );
    network.pass_window().await;
    network.ok("bob", &at.finalise_epoch()).await;
    let lines: Vec<_> = (0..4u64)
        .zip(shares)
        .map(|(i, (a, c))| (a, c, i, earners.proof(i.try_into().unwrap()).unwrap()))
        .collect();
    let receipt = network.ok("bob", &at.claim_many(&lines)).await;
    assert_eq!(receipt.logs.len(), 4);
    assert_eq!(
        network.balance(address("carol")).await,
        Wei::new(spent / 10 * 4)
    );
    assert_eq!(network.balance(commons).await, Wei::new(spent / 10 * 2));
    let fees = Wei::total([fee, fee, Wei::new(p.datanetFee), Wei::new(spent / 10)]).unwrap();
    let after = network.balance(treasury).await;
    assert_eq!(after.checked_sub(before).unwrap(), fees);
    network
        .ok(
            "administrator",
            &at.release_commons(commons, address("dave"), Wei::new(5)),
        )
        .await;
    let reason = network
        .refused(
            "alice",
            &at.release_commons(commons, address("dave"), Wei::new(5)),
        )
        .await;
    assert!(reason.starts_with("Unauthorised"));

    // The payer leaves with the rest.
    network.ok("payer", &at.request_exit()).await;
    assert!(
        network
            .refused("payer", &at.exit(spent, 0, &[]))
            .await
            .starts_with("ExitTooEarly")
    );
    network.chain.pass(20);
    network.chain.mine();
    network.ok("payer", &at.exit(spent, 0, &[])).await;
    assert_eq!(
        reader.payer(payer).await.unwrap().balance(),
        Wei::new(spent)
    );
    network.ok("settler", &at.withdraw(settler)).await;

    // The story, from the logs alone.
    let events = network.events().await;
    let ledger = money::recompute(&events).unwrap();
    ledger.verify(reader, u64::MAX).await.unwrap();
    assert_eq!(
        ledger.flow().unwrap(),
        Flow {
            deposited: open(5),
            withdrawn: open(4),
            claimed: open(1),
            ..Flow::default()
        }
    );
    assert_eq!(ledger.model_fees, fee.mul_u64(2).unwrap());
    assert_eq!(ledger.epochs[&1].digest, s.digest());
    let totals = reader.totals().await.unwrap();
    assert_eq!(
        (totals.deposits, totals.exits, totals.claims),
        (open(5), open(4), open(1))
    );

    let digests: Vec<B256> = events
        .iter()
        .filter_map(|e| match &e.event {
            Event::AdapterRegistered(a) => Some(a.digest),
            Event::EpochPosted(e) => Some(e.digest),
            Event::VersionPublished(v) if v.number == 1 => Some(v.digest),
            _ => None,
        })
        .collect();
    assert_eq!(digests, [first.digest(), adapter.digest(), s.digest()]);

    let sentences: Vec<String> = events.iter().map(|e| e.event.to_string()).collect();
    for expected in [
        format!(
            "{} anchored batch 1 with 2 contributions (20 bytes) in Datanet 1, bonded with 0.002 OPEN",
            address("alice")
        ),
        "Datanet 1 sealed version 1 with 2 rows accepted and 7 rejected".to_owned(),
        format!("{settler} posted epoch 1 with 3 answers and fees of 1 OPEN"),
        format!(
            "{} was paid 0.4 OPEN from epoch 1, 0.4 OPEN in all",
            address("carol")
        ),
        format!("{payer} took back 4 OPEN of its deposit, having spent 1 OPEN"),
    ] {
        assert!(
            sentences.contains(&expected),
            "{expected}\nin {sentences:#?}"
        );
    }
}

#[tokio::test]
async fn faulty_epochs_are_withdrawn_and_posted_anew() {
    let network = Network::start().await;
    let at = network.at;
    let payer = address("payer");
    network.ok("settler", &at.bond(open(2))).await;
    network.ok("payer", &at.deposit(open(1))).await;
    network.ok("alice", &at.deposit(open(5))).await;

    // More debited than the payer has.
    let overdraft = open(2).get();
    let root = merkle::Tree::from_data([cumulative_leaf(payer, overdraft)]).root();
    let s = network.settlement(root, keccak256("e"), open(2)).await;
    network.ok("settler", &at.post(&s)).await;
    network
        .ok("bob", &at.challenge_overdraft(1, payer, overdraft, 0, &[]))
        .await;
    assert_eq!(network.reader.open_epoch().await.unwrap(), 1);

    // Nobody shows a voucher.
    let debit = open(1).get();
    let root = merkle::Tree::from_data([cumulative_leaf(payer, debit)]).root();
    let s = network.settlement(root, keccak256("e"), open(1)).await;
    network.ok("settler", &at.post(&s)).await;
    let sequence = network.reader.posting(1).await.unwrap().sequence;
    let fine = network
        .refused("bob", &at.challenge_overdraft(1, payer, debit, 0, &[]))
        .await;
    assert!(fine.starts_with("NoOverdraft"));
    let bond = Wei::new(Wei::OPEN.get() / 100);
    network
        .ok("bob", &at.demand_voucher(1, payer, debit, 0, &[], bond))
        .await;
    network.pass_window().await;
    assert!(
        network
            .refused("bob", &at.finalise_epoch())
            .await
            .starts_with("WindowOpen")
    );
    network
        .ok("bob", &at.close_demand(sequence, 1, payer))
        .await;
    assert_eq!(network.reader.open_epoch().await.unwrap(), 1);
    // The settler's bond is used up by two faults.
    assert!(
        network
            .refused("settler", &at.post(&s))
            .await
            .starts_with("BondTooLow")
    );

    network.ok("settler", &at.bond(open(1))).await;
    network.ok("settler", &at.post(&s)).await;
    network.ok("guardian", &at.disable_epoch(1)).await;
    network.ok("settler", &at.post(&s)).await;
    network.pass_window().await;
    assert!(
        network
            .refused("guardian", &at.disable_epoch(1))
            .await
            .starts_with("WindowClosed")
    );
    network.ok("bob", &at.finalise_epoch()).await;
    let before = network.balance(address("carol")).await;
    network.ok("bob", &at.withdraw(address("carol"))).await;
    let won = network
        .balance(address("carol"))
        .await
        .checked_sub(before)
        .unwrap();
    assert_eq!(won, open(1).checked_add(bond).unwrap());

    let ledger = money::recompute(&network.events().await).unwrap();
    ledger.verify(&network.reader, u64::MAX).await.unwrap();
    assert_eq!(ledger.burned, open(1));
    assert_eq!(ledger.flow().unwrap().claimable, open(1));
}
