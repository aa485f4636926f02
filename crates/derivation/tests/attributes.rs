//! Attributes: the L1 attributes deposit, user deposits, the system config and the origin.

mod common;

use alloy_primitives::{Address, B64, B256, Bytes, Log, LogData, TxKind, U256, hex, keccak256};
use common::{GENESIS_TIME, L1_TIME, Setup, World, config_log, deposit_log, opaque};
use kona_eips::eip2718::Encodable2718;
use kona_op_consensus::{L1InfoDepositSource, TxDeposit, UserDepositSource};
use openledger_derivation::{
    BlockId, ConfigUpdate, Error, FEE_RECIPIENT, L2Head, Next, OriginChoice, RollupConfig,
    SystemConfig,
};
use proptest::prelude::*;

const DEPOSITOR: Address = Address::new(hex!("deaddeaddeaddeaddeaddeaddeaddeaddead0001"));
const L1_BLOCK: Address = Address::new(hex!("4200000000000000000000000000000000000015"));

fn origin(choice: OriginChoice) -> BlockId {
    let OriginChoice::Build { origin, .. } = choice else {
        panic!("{choice:?}")
    };
    origin
}

/// The first block of the epoch of L1 block 1, which has these logs.
fn first_block(setup: Setup, logs: &[Vec<Log>]) -> (World, L2Head) {
    let mut world = World::new(setup);
    world.sequence_slot(0);
    world.l1.push(Vec::new(), logs);
    let parent = world.l2.head();
    (world, parent)
}

#[test]
fn jovian_calldata_is_what_the_specification_says() {
    let update = config_log(7, &[U256::from(0x1234)]);
    let (mut world, parent) = first_block(Setup::default(), &[vec![update]]);
    let id = origin(world.builder.next_origin(&parent, 0).expect("an origin"));
    let attributes = world
        .builder
        .next_attributes(&parent, id)
        .expect("attributes");

    // Written down by hand, column by column.
    let mut calldata = keccak256("setL1BlockValuesJovian()")[..4].to_vec();
    assert_eq!(calldata, hex!("3db6be2b"));
    calldata.extend(1368u32.to_be_bytes());
    calldata.extend(810_949u32.to_be_bytes());
    calldata.extend(0u64.to_be_bytes());
    calldata.extend((GENESIS_TIME + L1_TIME).to_be_bytes());
    calldata.extend(1u64.to_be_bytes());
    calldata.extend(U256::from(8).to_be_bytes_vec());
    // e^(1 000 000 / 5 007 716) = 1.2 wei
    calldata.extend(U256::from(1).to_be_bytes_vec());
    calldata.extend(world.l1.block(1).hash);
    calldata.extend([0; 12]);
    calldata.extend(common::batcher().address());
    calldata.extend(11u32.to_be_bytes());
    calldata.extend(12u64.to_be_bytes());
    calldata.extend(0x1234u16.to_be_bytes());
    assert_eq!(calldata.len(), 178);
    let deposit = TxDeposit {
        source_hash: L1InfoDepositSource::new(world.l1.block(1).hash, 0).source_hash(),
        from: DEPOSITOR,
        to: TxKind::Call(L1_BLOCK),
        gas_limit: 1_000_000,
        input: calldata.into(),
        ..Default::default()
    };
    assert_eq!(
        attributes.transactions,
        [Bytes::from(deposit.encoded_2718())]
    );
    assert_eq!(attributes.timestamp, GENESIS_TIME + L1_TIME);
    assert_eq!(attributes.prev_randao, keccak256(1u64.to_be_bytes()));
    assert_eq!(attributes.parent_beacon_block_root, keccak256([1]));
    assert_eq!(attributes.fee_recipient, FEE_RECIPIENT);
    assert_eq!(attributes.min_base_fee, Some(0));
    assert_eq!(attributes.eip_1559_params, B64::from(250u64 << 32 | 6));

    // The next of the epoch: number 1, and the same values, read back from the block.
    let head = world.l2.execute(&attributes);
    assert_eq!(head.system_config.da_footprint_gas_scalar, 0x1234);
    let next = world
        .builder
        .next_attributes(&head, id)
        .expect("attributes");
    let last = deposit.input.len() - 1;
    assert_eq!(next.sequence_number, 1);
    assert_ne!(next.transactions, attributes.transactions);
    assert_eq!(deposit.input[last], 0x34);
}

#[test]
fn an_unset_footprint_scalar_is_400_and_the_blob_fee_follows_prague() {
    let mut world = World::new(Setup::default());
    for _ in 0..40 {
        world.l1.push(Vec::new(), &[]);
        world.sequence_slot(0);
    }
    let blocks = world.l2.blocks();
    let last = &blocks.last().expect("blocks").transactions[0];
    assert_eq!(last[last.len() - 2..], 400u16.to_be_bytes());
    // Excess of 40 000 000 in L1 block 40: e^(40 000 000 / 5 007 716) = 2 944.4.
    let fee = 2944u64.to_be_bytes();
    let at = last.len() - 178 + 68 + 24;
    assert_eq!(last[at..at + 8], fee, "{}", hex::encode(last));
}

proptest! {
    #[test]
    fn deposits_are_those_of_an_independent_encoder(
        list in proptest::collection::vec(
            (
                any::<[u8; 20]>(),
                any::<[u8; 20]>(),
                any::<u128>(),
                any::<u128>(),
                any::<u64>(),
                any::<bool>(),
                proptest::collection::vec(any::<u8>(), 0..100),
                any::<bool>(),
            ),
            0..6,
        ),
    ) {
        let mut logs = Vec::new();
        let mut expected = Vec::new();
        let mut index = 0;
        for (from, to, mint, value, gas, creation, data, noise) in list {
            let (from, to) = (Address::new(from), Address::new(to));
            let log = deposit_log(from, to, &opaque(mint, value, gas, creation, &data));
            let mut receipt = Vec::new();
            if noise {
                // Another contract's log counts in the index, and for nothing else.
                receipt.push(Log { address: to, data: log.data.clone() });
                index += 1;
            }
            receipt.push(log);
            logs.push(receipt);
            expected.push((index, TxDeposit {
                from,
                to: if creation { TxKind::Create } else { TxKind::Call(to) },
                mint,
                value: U256::from(value),
                gas_limit: gas,
                input: data.into(),
                ..Default::default()
            }));
            index += 1;
        }
        let (mut world, parent) = first_block(Setup::default(), &logs);
        let id = origin(world.builder.next_origin(&parent, 0).expect("an origin"));
        let attributes = world.builder.next_attributes(&parent, id).expect("attributes");
        let expected: Vec<Bytes> = expected
            .into_iter()
            .map(|(index, mut deposit)| {
                deposit.source_hash = UserDepositSource::new(id.hash, index).source_hash();
                deposit.encoded_2718().into()
            })
            .collect();
        prop_assert_eq!(&attributes.transactions[1..], &expected[..]);
        prop_assert!(attributes.deposits_only().transactions == attributes.transactions);
    }
}

/// The system config of the first block of an epoch whose L1 block has this log.
fn updated(log: Log) -> Result<SystemConfig, Error> {
    let (mut world, parent) = first_block(Setup::default(), &[vec![log]]);
    let id = origin(world.builder.next_origin(&parent, 0)?);
    let attributes = world.builder.next_attributes(&parent, id)?;
    Ok(world.l2.execute(&attributes).system_config)
}

#[test]
fn every_config_update_arrives() {
    let (world, _) = first_block(Setup::default(), &[]);
    let before = world.config.genesis_system_config();
    let after = SystemConfig {
        da_footprint_gas_scalar: 400,
        ..before
    };
    let scalar = |version: u8, blob: u32, base: u32| {
        let mut word = [0; 32];
        word[0] = version;
        word[24..28].copy_from_slice(&blob.to_be_bytes());
        word[28..].copy_from_slice(&base.to_be_bytes());
        U256::from_be_bytes(word)
    };
    let check = |kind: u8, words: &[U256], change: &dyn Fn(&mut SystemConfig)| {
        let mut expected = after;
        change(&mut expected);
        assert_eq!(
            updated(config_log(kind, words)),
            Ok(expected),
            "type {kind}"
        );
    };
    let batcher = Address::repeat_byte(0xba);
    check(0, &[batcher.into_word().into()], &|c| c.batcher = batcher);
    check(1, &[U256::ZERO, scalar(1, 7, 8)], &|c| {
        c.blob_base_fee_scalar = 7;
        c.base_fee_scalar = 8;
    });
    check(1, &[U256::from(9), scalar(0, 0, 8)], &|c| {
        c.blob_base_fee_scalar = 0;
        c.base_fee_scalar = 8;
    });
    check(1, &[U256::ZERO, scalar(2, 7, 8)], &|_| {});
    check(1, &[U256::ZERO, scalar(0, 7, 8)], &|_| {});
    check(2, &[U256::from(77_000_000)], &|c| c.gas_limit = 77_000_000);
    check(3, &[batcher.into_word().into()], &|_| {});
    check(4, &[U256::from(5u64 << 32 | 3)], &|c| {
        c.eip_1559_params = B64::from(5u64 << 32 | 3)
    });
    check(5, &[U256::from(3) << 64 | U256::from(4)], &|c| {
        c.operator_fee_scalar = 3;
        c.operator_fee_constant = 4;
    });
    check(6, &[U256::from(123_456)], &|c| c.min_base_fee = 123_456);
    check(7, &[U256::from(4321)], &|c| {
        c.da_footprint_gas_scalar = 4321
    });
}

#[test]
fn config_updates_that_cannot_be_read_stop_everything() {
    let mut version = config_log(2, &[U256::ONE]);
    version.data = LogData::new_unchecked(
        [
            &version.topics()[..1],
            &[B256::ZERO.map(|_| 1)],
            &version.topics()[2..],
        ]
        .concat(),
        version.data.data,
    );
    let mut short = config_log(2, &[U256::ONE]);
    short.data.data = short.data.data.slice(..95);
    for log in [
        config_log(8, &[U256::ONE]),
        config_log(0, &[U256::MAX]),
        config_log(1, &[U256::ONE]),
        config_log(2, &[U256::ONE, U256::ONE]),
        config_log(2, &[U256::MAX]),
        config_log(5, &[U256::MAX]),
        config_log(7, &[U256::from(65_536)]),
        version,
        short,
    ] {
        let error = updated(log).expect_err("nothing that can be read");
        assert!(matches!(error, Error::BadConfigUpdate { .. }), "{error}");
        assert_eq!(error.next(), Next::Stop);
    }
    let log = config_log(2, &[U256::from(5)]);
    assert_eq!(
        ConfigUpdate::from_log(&log, B256::ZERO, 0),
        Ok(ConfigUpdate::GasLimit(5))
    );
}

trait MapBytes {
    fn map(self, f: impl Fn(u8) -> u8) -> B256;
}

impl MapBytes for B256 {
    fn map(self, f: impl Fn(u8) -> u8) -> B256 {
        Self::from(self.0.map(f))
    }
}

#[test]
fn a_deposit_that_cannot_be_read_stops_everything() {
    let good = deposit_log(
        common::INBOX,
        common::INBOX,
        &opaque(1, 2, 3, false, &[1; 20]),
    );
    let changed = |at: usize, byte: u8| {
        let mut data = good.data.data.to_vec();
        data[at] = byte;
        Log {
            address: good.address,
            data: LogData::new_unchecked(good.topics().to_vec(), data.into()),
        }
    };
    let topics = |count: usize, last: B256| {
        let mut topics = good.topics()[..count].to_vec();
        topics[count - 1] = last;
        Log {
            address: good.address,
            data: LogData::new_unchecked(topics, good.data.data.clone()),
        }
    };
    for log in [
        deposit_log(common::INBOX, common::INBOX, &[0; 72]),
        changed(31, 33),
        changed(63, 64),
        changed(63, 200),
        changed(56, 255),
        topics(3, B256::ZERO),
        topics(4, B256::ZERO.map(|_| 1)),
        topics(4, B256::with_last_byte(1)),
    ] {
        let (mut world, parent) = first_block(Setup::default(), &[vec![log]]);
        let id = origin(world.builder.next_origin(&parent, 0).expect("an origin"));
        let error = world
            .builder
            .next_attributes(&parent, id)
            .expect_err("no deposit");
        assert!(matches!(error, Error::BadDeposit { .. }), "{error}");
        assert_eq!(error.next(), Next::Stop);
    }
}

#[test]
fn the_origin_moves_on_as_soon_as_it_may() {
    let mut world = World::new(Setup::default());
    let genesis = world.config.l1_genesis();
    let head = world.l2.head();
    let build = |origin, no_tx_pool| Ok(OriginChoice::Build { origin, no_tx_pool });
    assert_eq!(world.builder.next_origin(&head, 0), build(genesis, false));
    let one = world.l1.push(Vec::new(), &[]);
    assert_eq!(
        world.builder.next_origin(&head, 0),
        build(genesis, false),
        "L2 time is too low"
    );
    for _ in 0..5 {
        world.sequence(Vec::new());
    }
    let head = world.l2.head();
    assert_eq!(head.timestamp, GENESIS_TIME + 10);
    assert_eq!(world.builder.next_origin(&head, 0), build(one, false));
    assert_eq!(
        world.builder.next_origin(&head, 1),
        build(genesis, false),
        "not confirmed"
    );
    world.l1.push(Vec::new(), &[]);
    assert_eq!(world.builder.next_origin(&head, 1), build(one, false));
    // Not the one after the next.
    let two = BlockId {
        number: 2,
        hash: world.l1.block(2).hash,
    };
    let error = world
        .builder
        .next_attributes(&head, two)
        .expect_err("skips an origin");
    assert!(matches!(error, Error::BadOrigin { .. }) && error.next() == Next::Reset);
}

#[test]
fn l2_time_that_runs_away_makes_empty_blocks_or_none() {
    let mut world = World::new(Setup::default());
    while world.l2.head().timestamp < GENESIS_TIME + 1800 {
        world.sequence(Vec::new());
    }
    let head = world.l2.head();
    assert_eq!(world.builder.next_origin(&head, 0), Ok(OriginChoice::Wait));
    let genesis = world.config.l1_genesis();
    assert!(
        world
            .builder
            .next_attributes(&head, genesis)
            .expect("attributes")
            .no_tx_pool
    );
    let one = world.l1.push(Vec::new(), &[]);
    let choice = world.builder.next_origin(&head, 9);
    assert_eq!(
        choice,
        Ok(OriginChoice::Build {
            origin: one,
            no_tx_pool: false
        }),
        "1802 - 12"
    );
    let mut late = head;
    late.timestamp += 12;
    let choice = world.builder.next_origin(&late, 9);
    assert_eq!(
        choice,
        Ok(OriginChoice::Build {
            origin: one,
            no_tx_pool: true
        })
    );
}

#[test]
fn a_reorged_origin_is_seen() {
    let mut world = World::new(Setup::default());
    world.l1.push(Vec::new(), &[]);
    world.sequence_slot(0);
    let head = world.l2.head();
    assert_eq!(head.l1_origin.number, 1);
    world.l1.pop(1);
    world.l1.push(Vec::new(), &[]);
    let error = world.builder.next_origin(&head, 0).expect_err("a reorg");
    assert!(matches!(error, Error::Reorged { .. }) && error.next() == Next::Reset);
}

#[test]
fn rollup_json_keeps_what_is_not_used() {
    let world = World::new(Setup::default());
    let mut json: serde_json::Value = serde_json::from_str(&world.config.to_json()).expect("JSON");
    json["something_new"] = serde_json::json!({ "a": [1, 2] });
    json["lagoon_time"] = (GENESIS_TIME + 4).into();
    let config = RollupConfig::from_json(&json.to_string()).expect("a config");
    let back: serde_json::Value = serde_json::from_str(&config.to_json()).expect("JSON");
    assert_eq!(back, json);
    assert_eq!(
        config.genesis_system_config(),
        world.config.genesis_system_config()
    );
    assert_eq!(
        config.alt_da().and_then(|da| da.commitment_type.as_deref()),
        Some("GenericCommitment")
    );
    assert_eq!(config.timestamp_of(3), GENESIS_TIME + 6);

    // A fork that is not known is no obstacle until it comes.
    let mut builder =
        openledger_derivation::AttributesBuilder::new(config.clone(), world.l1.clone());
    let head = world.l2.head();
    let genesis = config.l1_genesis();
    assert!(builder.next_attributes(&head, genesis).is_ok());
    let mut later = head;
    later.timestamp += 2;
    let error = builder
        .next_attributes(&later, genesis)
        .expect_err("in Lagoon");
    assert_eq!(
        error,
        Error::UnknownFork {
            fork: "lagoon_time".into(),
            timestamp: GENESIS_TIME + 4
        }
    );
    assert_eq!(error.next(), Next::Stop);
}

#[test]
fn chains_with_older_rules_are_refused() {
    let world = World::new(Setup::default());
    let json: serde_json::Value = serde_json::from_str(&world.config.to_json()).expect("JSON");
    for (key, value) in [
        ("isthmus_time", serde_json::Value::Null),
        ("isthmus_time", (GENESIS_TIME + 1).into()),
        ("holocene_time", (GENESIS_TIME + 1).into()),
        ("jovian_time", (GENESIS_TIME + 1).into()),
        ("block_time", 0.into()),
        ("genesis", 0.into()),
    ] {
        let mut json = json.clone();
        json[key] = value;
        let error = RollupConfig::from_json(&json.to_string()).expect_err("refused");
        assert!(matches!(error, Error::Config(_)), "{key}: {error}");
    }
    assert!(RollupConfig::from_json("{").is_err());
}

#[test]
fn a_head_is_a_block_of_this_chain_or_none() {
    let mut world = World::new(Setup::default());
    world.sequence(Vec::new());
    let blocks = world.l2.blocks();
    let (genesis, one) = (&blocks[0], &blocks[1]);
    let head_of = |header: &[u8], tx: Option<&[u8]>| world.config.head_of(header, tx);
    assert_eq!(
        head_of(&one.header, Some(&one.transactions[0])),
        Ok(one.head)
    );
    assert_eq!(head_of(&genesis.header, None), Ok(genesis.head));
    let mut tx = one.transactions[0].to_vec();
    for bad in [
        None,
        Some(&[][..]),
        Some(&[0x7e][..]),
        Some(&tx[1..]),
        Some(&tx[..tx.len() - 1]),
    ] {
        assert!(head_of(&one.header, bad).is_err(), "{bad:?}");
    }
    let at = tx.len() - 178;
    tx[at] ^= 1;
    assert!(head_of(&one.header, Some(&tx)).is_err(), "another selector");
    assert!(head_of(b"no header", None).is_err());
    let mut other = genesis.header.to_vec();
    let last = other.len() - 1;
    other[last] ^= 1;
    assert!(head_of(&other, None).is_err(), "another genesis");
}
