//! Karst, active from a block in the middle of the chain on.

mod common;

use alloy_primitives::{Address, Bytes, TxKind};
use common::{GENESIS_TIME, L2_TIME, Setup, World, random_transaction};
use kona_eips::eip2718::Encodable2718;
use kona_op_consensus::{TxDeposit, UpgradeDepositSource};
use openledger_derivation::{ChannelLimits, Error, Next, OriginChoice, RollupConfig, Step};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Block 4 is the first one at or after this time.
const KARST: u64 = GENESIS_TIME + 4 * L2_TIME - 1;

fn bundle() -> Value {
    json!({
        "metadata": { "version": "1.0.0" },
        "transactions": [
            {
                "intent": "Deploy Something",
                "from": Address::repeat_byte(1),
                "to": null,
                "data": "0x600055",
                "gasLimit": 580_000,
            },
            {
                "intent": "Upgrade Something",
                "from": Address::ZERO,
                "to": Address::repeat_byte(2),
                "data": "0x3659cfe6",
                "gasLimit": 77_000,
            },
        ],
    })
}

fn scheduled(time: u64, more: &[(&str, Value)]) -> (World, RollupConfig) {
    let world = World::new(Setup::default());
    let mut json: Value = serde_json::from_str(&world.config.to_json()).expect("JSON");
    json["karst_time"] = time.into();
    for (key, value) in more {
        json[*key] = value.clone();
    }
    let config = RollupConfig::from_json(&json.to_string()).expect("a config");
    (world, config)
}

fn world(more: &[(&str, Value)]) -> World {
    let (world, config) = scheduled(KARST, more);
    let config = config.with_karst_upgrade(&bundle().to_string());
    world.under(config.expect("a bundle"))
}

/// Blocks of six slots, batched and derived again.
fn round_trip(world: &mut World) {
    for _ in 0..6 {
        world.l1.push(Vec::new(), &[]);
        world.sequence_slot(5);
    }
    let mut queue = VecDeque::new();
    while world.unbatched < world.l2.blocks().len() {
        let channel = world.channel(ChannelLimits::default());
        queue.push_back(world.inline(&channel.frames));
    }
    common::include(world, queue, 1);
    let (mut pipeline, l2) = world.verifier();
    let last = World::derive(&mut pipeline, &l2).expect("no source fails");
    assert_eq!(last, Step::Idle);
    world.check(&l2, world.l2.blocks().len() - 1);
}

#[test]
fn the_first_block_has_the_upgrade_transactions_and_their_gas() {
    let mut world = world(&[]);
    round_trip(&mut world);
    let blocks = world.l2.blocks();
    let upgrade: Vec<Bytes> = [
        (
            "Karst 0: Deploy Something",
            Address::repeat_byte(1),
            TxKind::Create,
            580_000,
        ),
        (
            "Karst 1: Upgrade Something",
            Address::ZERO,
            Address::repeat_byte(2).into(),
            77_000,
        ),
    ]
    .into_iter()
    .zip([&[0x60u8, 0, 0x55][..], &[0x36, 0x59, 0xcf, 0xe6]])
    .map(|((intent, from, to, gas_limit), input)| {
        let source = UpgradeDepositSource {
            intent: intent.into(),
        };
        let deposit = TxDeposit {
            source_hash: source.source_hash(),
            from,
            to,
            gas_limit,
            input: input.to_vec().into(),
            ..Default::default()
        };
        deposit.encoded_2718().into()
    })
    .collect();
    for block in &blocks[1..] {
        let first = block.head.number == 4;
        assert_eq!(first, world.config.is_first_in_karst(block.head.timestamp));
        let upgraded = block.transactions.ends_with(&upgrade);
        assert_eq!(upgraded, first, "block {}", block.head.number);
        // What its children inherit is the limit without the upgrade's gas.
        assert_eq!(block.head.system_config.gas_limit, 30_000_000);
    }
    assert_eq!(blocks[4].transactions.len(), 3);
    assert!(blocks[5..].iter().any(|block| block.transactions.len() > 1));
}

#[test]
fn the_gas_of_the_upgrade_stays_where_the_chain_says_so() {
    let mut world = world(&[("keep_karst_upgrade_gas", true.into())]);
    round_trip(&mut world);
    for block in &world.l2.blocks()[1..] {
        let more = if block.head.number < 4 { 0 } else { 657_000 };
        assert_eq!(block.head.system_config.gas_limit, 30_000_000 + more);
    }
}

#[test]
fn transactions_of_users_in_the_first_block_are_dropped() {
    let mut world = world(&[]);
    world.l1.push(Vec::new(), &[]);
    for number in 1..=5 {
        let parent = world.l2.head();
        let Ok(OriginChoice::Build { origin, .. }) = world.builder.next_origin(&parent, 0) else {
            panic!("an origin");
        };
        let attributes = world.builder.next_attributes(&parent, origin);
        let mut attributes = attributes.expect("attributes");
        if number == 4 {
            assert!(attributes.no_tx_pool);
            let smuggled = random_transaction(&mut world.rng);
            attributes.transactions.push(smuggled);
        }
        world.l2.execute(&attributes);
    }
    let channel = world.channel(ChannelLimits::default());
    let transaction = world.inline(&channel.frames);
    common::include(&world, VecDeque::from([transaction]), 1);
    let (mut pipeline, l2) = world.verifier();
    let last = World::derive(&mut pipeline, &l2).expect("no source fails");
    assert_eq!(last, Step::Idle);
    assert_eq!(l2.head().number, 3);
}

#[test]
fn no_block_is_made_without_knowing_the_upgrade() {
    let (base, config) = scheduled(KARST, &[]);
    let mut world = base.under(config);
    for _ in 1..=3 {
        world.sequence(Vec::new());
    }
    let parent = world.l2.head();
    let origin = world.config.l1_genesis();
    let error = world
        .builder
        .next_attributes(&parent, origin)
        .expect_err("block 4");
    let timestamp = GENESIS_TIME + 4 * L2_TIME;
    assert_eq!(
        error,
        Error::UnknownUpgrade {
            fork: "Karst",
            timestamp
        }
    );
    assert_eq!(error.next(), Next::Stop);

    // From genesis on, there is no first block.
    let (base, config) = scheduled(GENESIS_TIME, &[]);
    let mut world = base.under(config);
    round_trip(&mut world);
    let (_, config) = scheduled(KARST, &[]);
    for bad in [
        "{}".to_owned(),
        bundle().to_string().replace("Deploy Something", ""),
        bundle()
            .to_string()
            .replace("580000", &u64::MAX.to_string()),
    ] {
        let error = config.with_karst_upgrade(&bad).expect_err("no bundle");
        assert!(matches!(error, Error::Config(_)), "{error}");
    }
    assert!(config.with_karst_upgrade(r#"{"transactions": []}"#).is_ok());
}
