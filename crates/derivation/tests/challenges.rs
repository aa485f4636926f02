//! Commitments that are hashes: what is demanded on the layer 1 must be shown there, or every node
//! leaves it out.

mod common;

use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, address, keccak256};
use common::{MemDa, MemL2, Setup, Verifier, World, signed, stranger};
use openledger_derivation::{
    Challenging, ChannelLimits, Commitments, DaError, Error, L2Head, MAX_SHOWN_BYTES, Next,
    Pipeline, RollupConfig, Step, inbox_commitment, inbox_frames,
};
use proptest::prelude::*;
use std::sync::Arc;

const CONTRACT: Address = address!("0x00000000000000000000000000000000000dac00");
const RULES: Challenging = Challenging {
    contract: CONTRACT,
    challenge_window: 4,
    resolve_window: 3,
};
const LIMITS: ChannelLimits = ChannelLimits {
    max_frame_bytes: 1500,
    target_bytes: 1_000_000,
    max_blocks: 1000,
    quality: 5,
};

/// A commitment in a block of the layer 1.
#[derive(Debug, Clone)]
struct Posted {
    block: u64,
    data: Bytes,
}

impl Posted {
    fn commitment(&self) -> Vec<u8> {
        [&[0], keccak256(&self.data).as_slice()].concat()
    }

    /// The contract's event.
    fn event(&self, status: u8) -> Log {
        let commitment = self.commitment();
        let mut data = [U256::from(64), U256::from(status), U256::from(33)]
            .map(|word| word.to_be_bytes::<32>())
            .concat();
        data.extend(&commitment);
        data.resize(data.len().next_multiple_of(32), 0);
        let topic = keccak256("ChallengeStatusChanged(uint256,bytes,uint8)");
        let block = B256::from(U256::from(self.block));
        Log {
            address: CONTRACT,
            data: LogData::new_unchecked(vec![topic, block], data.into()),
        }
    }

    /// A transaction that shows `data` as what is behind the commitment.
    fn showing(&self, data: &[u8]) -> Bytes {
        let mut input = keccak256("resolve(uint256,bytes,bytes)")[..4].to_vec();
        let commitment = self.commitment();
        for word in [self.block, 96, 96 + 96, 33] {
            input.extend(U256::from(word).to_be_bytes::<32>());
        }
        input.extend(&commitment);
        input.resize(4 + 96 + 96, 0);
        input.extend(U256::from(data.len()).to_be_bytes::<32>());
        input.extend(data);
        input.resize(4 + (input.len() - 4).next_multiple_of(32), 0);
        signed(&stranger(), self.block, CONTRACT, input.into())
    }
}

fn world() -> World {
    under(RULES, 12)
}

/// A world with these rules and this sequencing window.
fn under(rules: Challenging, window: u64) -> World {
    let mut world = World::new(Setup {
        window,
        alt_da: Commitments::Keccak(rules),
        ..Setup::default()
    });
    slots(&mut world, 3);
    world
}

/// Empty blocks on the layer 1, and blocks that follow them on the layer 2.
fn slots(world: &mut World, count: usize) {
    for _ in 0..count {
        world.l1.push(Vec::new(), &[]);
        world.sequence_slot(3);
    }
}

/// Commits to everything that is not batched yet, in one block.
fn post(world: &mut World) -> Posted {
    let data = inbox_frames(&world.channel(LIMITS).frames);
    let mut posted = Posted { block: 0, data };
    let tx = world.inbox(inbox_commitment(&posted.commitment()));
    world.da.set(&posted.commitment(), Ok(posted.data.clone()));
    posted.block = world.l1.push(vec![tx], &[]).number;
    posted
}

fn demand(world: &World, posted: &Posted) {
    world.l1.push(Vec::new(), &[vec![posted.event(1)]]);
}

fn show(world: &World, posted: &Posted, data: &[u8]) {
    world
        .l1
        .push(vec![posted.showing(data)], &[vec![posted.event(2)]]);
}

/// Derives what there is, going back where that is said; what made it go back.
fn follow(pipeline: &mut Verifier, l2: &MemL2) -> Result<Vec<Error>, Error> {
    let mut reasons = Vec::new();
    loop {
        match World::derive(pipeline, l2)? {
            Step::Reset { safe, reason } => {
                l2.rewind(&safe);
                reasons.push(reason);
                assert!(reasons.len() < 20, "no end of it: {reasons:?}");
            }
            Step::Idle => return Ok(reasons),
            step => panic!("{step:?}"),
        }
    }
}

/// A pipeline from genesis whose server has nothing.
fn blind(world: &World) -> (Verifier, Arc<MemL2>) {
    let l2 = MemL2::new(world.config.clone());
    let da = Arc::<MemDa>::default();
    let (config, l1) = (world.config.clone(), Arc::clone(&world.l1));
    (Pipeline::new(config, l1, da, Arc::clone(&l2)), l2)
}

fn heads(l2: &MemL2) -> Vec<L2Head> {
    l2.blocks().iter().map(|block| block.head).collect()
}

fn height(world: &World) -> usize {
    world.l2.blocks().len() - 1
}

#[test]
fn what_nobody_demands_counts_and_is_waited_for() {
    let mut world = world();
    let posted = post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    let (mut pipeline, l2) = blind(&world);
    let told = |error: Error| {
        assert_eq!(error.next(), Next::Retry);
        error.to_string()
    };
    let message = told(follow(&mut pipeline, &l2).expect_err("no data"));
    let until = posted.block + RULES.challenge_window;
    assert!(
        message.ends_with(&format!("it can be demanded up to layer 1 block {until}")),
        "{message}"
    );
    demand(&world, &posted);
    let message = told(follow(&mut pipeline, &l2).expect_err("no data"));
    let until = posted.block + 1 + RULES.resolve_window;
    assert!(
        message.ends_with(&format!("can be shown up to layer 1 block {until}")),
        "{message}"
    );
}

#[test]
fn what_is_shown_on_the_layer_1_needs_no_server() {
    let mut world = world();
    let posted = post(&mut world);
    demand(&world, &posted);
    let (mut pipeline, l2) = blind(&world);
    assert!(follow(&mut pipeline, &l2).is_err());
    world.l1.push(Vec::new(), &[]);
    // Data that is something else is no answer, whatever the log says.
    show(&world, &posted, b"something else");
    assert!(follow(&mut pipeline, &l2).is_err());
    // In the last block of the window.
    show(&world, &posted, &posted.data);
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
}

#[test]
fn what_is_not_shown_is_left_out_by_those_who_have_it_too() {
    let mut world = world();
    let kept = post(&mut world);
    slots(&mut world, 1);
    let before = height(&world);
    slots(&mut world, 1);
    let lost = post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    demand(&world, &lost);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    // Shown a block too late.
    world.l1.push(Vec::new(), &[]);
    show(&world, &lost, &lost.data);
    let reasons = follow(&mut pipeline, &l2).expect("a source for everything that counts");
    let expected = Error::NotShown {
        block: lost.block,
        hash: keccak256(&lost.data),
    };
    assert_eq!(reasons, [expected]);
    assert!(l2.head().number < u64::try_from(before).expect("a height"));
    assert!(l2.head().number > 0, "the batch before counts");
    // The batcher sends it again, and this time nobody demands it.
    world.unbatched = l2.blocks().len();
    post(&mut world);
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    // From nothing, without the data that was left out.
    world
        .da
        .set(&lost.commitment(), Err(DaError::Unavailable("gone".into())));
    let (mut fresh, other) = world.verifier();
    assert_eq!(follow(&mut fresh, &other), Ok(Vec::new()));
    assert_eq!(heads(&other), heads(&l2));
    assert!(kept.block < lost.block);
}

#[test]
fn demands_for_what_is_not_there_change_nothing() {
    let mut world = world();
    let posted = post(&mut world);
    let elsewhere = Posted {
        block: posted.block + 1,
        ..posted.clone()
    };
    let other = Posted {
        block: posted.block,
        data: b"never committed to".as_slice().into(),
    };
    let mut foreign = posted.event(1);
    foreign.address = stranger().address();
    let mut generic = posted.event(1);
    let mut data = generic.data.data.to_vec();
    data[96] = 1;
    generic.data = LogData::new_unchecked(generic.data.topics().to_vec(), data.into());
    let mut cut = posted.event(1);
    let data = cut.data.data.slice(..70);
    cut.data = LogData::new_unchecked(cut.data.topics().to_vec(), data);
    let logs = vec![
        elsewhere.event(1),
        other.event(1),
        posted.event(3),
        foreign,
        generic,
        cut,
    ];
    world.l1.push(Vec::new(), &[logs]);
    for _ in 0..10 {
        world.l1.push(Vec::new(), &[]);
    }
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
}

/// Everything that is on the layer 1, by a pipeline that was not there before.
fn fresh(world: &World) -> Vec<L2Head> {
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    heads(&l2)
}

#[test]
fn a_reorg_at_the_end_forgets_no_demand() {
    // Longer than a channel may take, which is how far a pipeline reads back from its head.
    let rules = Challenging {
        challenge_window: 80,
        ..RULES
    };
    let mut world = under(rules, 200);
    post(&mut world);
    slots(&mut world, 2);
    let lost = post(&mut world);
    for _ in 0..33 {
        slots(&mut world, 1);
        post(&mut world);
    }
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    world.l1.pop(1);
    world.l1.push(Vec::new(), &[]);
    let reasons = follow(&mut pipeline, &l2).expect("no source fails");
    assert!(
        matches!(reasons[..], [Error::Reorged { .. }]),
        "{reasons:?}"
    );
    demand(&world, &lost);
    for _ in 0..5 {
        world.l1.push(Vec::new(), &[]);
    }
    let reasons = follow(&mut pipeline, &l2).expect("no source fails");
    assert!(
        matches!(reasons[..], [Error::NotShown { .. }]),
        "{reasons:?}"
    );
    assert_eq!(heads(&l2), fresh(&world));
    assert!(l2.blocks().len() < height(&world));
}

#[test]
fn a_reorg_of_what_came_after_a_batch_is_one_of_the_batch() {
    let mut world = world();
    post(&mut world);
    slots(&mut world, 9);
    let posted = post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    demand(&world, &posted);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    world.l1.push(Vec::new(), &[]);
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    assert!(l2.blocks().len() <= height(&world), "left out");
    // In the block that comes instead of the last, it is shown after all.
    world.l1.pop(1);
    show(&world, &posted, &posted.data);
    follow(&mut pipeline, &l2).expect("no source fails");
    world.check(&l2, height(&world));
    // And not shown again.
    world.l1.pop(1);
    world.l1.push(Vec::new(), &[]);
    follow(&mut pipeline, &l2).expect("no source fails");
    assert_eq!(heads(&l2), fresh(&world));
    assert!(l2.blocks().len() <= height(&world), "left out");
}

#[test]
fn a_demand_that_the_layer_1_takes_back_is_none() {
    let mut world = world();
    let posted = post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    demand(&world, &posted);
    for _ in 0..3 {
        world.l1.push(Vec::new(), &[]);
    }
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    assert_eq!(l2.head().number, 0, "left out");
    world.l1.pop(4);
    for _ in 0..4 {
        world.l1.push(Vec::new(), &[]);
    }
    let reasons = follow(&mut pipeline, &l2).expect("no source fails");
    assert!(
        matches!(reasons[..], [Error::Reorged { .. }]),
        "{reasons:?}"
    );
    world.check(&l2, height(&world));
}

#[test]
fn a_restart_forgets_no_demand() {
    let mut world = world();
    post(&mut world);
    slots(&mut world, 8);
    let posted = post(&mut world);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    demand(&world, &posted);
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    world.check(&l2, height(&world));
    // Nothing that may still be lost is behind the place to go on from.
    let checkpoint = *pipeline.checkpoint().expect("more than a window");
    assert!(RULES.settled(checkpoint.l1.number) <= world.l1.head());
    let mut pipeline = world.pipeline(&l2);
    pipeline.resume(&checkpoint);
    l2.rewind(&l2.blocks()[checkpoint.safe.number as usize].head);
    for _ in 0..3 {
        world.l1.push(Vec::new(), &[]);
    }
    follow(&mut pipeline, &l2).expect("a source for everything that counts");
    let (mut fresh, other) = world.verifier();
    follow(&mut fresh, &other).expect("a source for everything that counts");
    assert_eq!(heads(&l2), heads(&other));
    assert!(l2.blocks().len() - 1 < height(&world), "it was left out");
}

#[test]
fn data_that_cannot_be_shown_does_not_count() {
    let mut world = world();
    // Frames and something behind them that is too much.
    let mut data = inbox_frames(&world.channel(LIMITS).frames).to_vec();
    data.resize(MAX_SHOWN_BYTES + 1, 0);
    let posted = Posted {
        block: 0,
        data: data.into(),
    };
    let generic = world.da.put(b"behind a certificate".as_slice().into());
    let txs = vec![
        world.inbox(inbox_commitment(&posted.commitment())),
        world.inbox(inbox_commitment(&generic)),
    ];
    world.da.set(&posted.commitment(), Ok(posted.data));
    world.l1.push(txs, &[]);
    let (mut pipeline, l2) = world.verifier();
    assert_eq!(follow(&mut pipeline, &l2), Ok(Vec::new()));
    assert_eq!(l2.head().number, 0);
}

#[test]
fn the_rules_are_in_rollup_json() {
    let world = world();
    assert_eq!(world.config.challenging(), Some(RULES));
    let json = world.config.to_json();
    let read = RollupConfig::from_json(&json).expect("what was written");
    assert_eq!(read.challenging(), Some(RULES));
    let without = json.replace(&CONTRACT.to_string(), &Address::ZERO.to_string());
    let without = without.replace(
        &CONTRACT.to_string().to_lowercase(),
        &Address::ZERO.to_string(),
    );
    let error = RollupConfig::from_json(&without).expect_err("no contract");
    assert!(
        error.to_string().contains("da_challenge_contract_address"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever followed the layer 1 all the time, with all data, comes to the chain of whoever reads
    /// it at the end; and whoever has only what was shown comes to a part of it, never to another.
    #[test]
    fn all_come_to_the_same_chain(
        fates in proptest::collection::vec((any::<bool>(), 0u64..6, proptest::option::of(0u64..5)), 1..6),
    ) {
        let mut world = world();
        let (mut live, l2) = world.verifier();
        let mut due: Vec<(u64, Posted, bool)> = Vec::new();
        let mut fates = fates.into_iter();
        let mut left = 30;
        while left > 0 {
            left -= 1;
            if let Some((demanded, after, shown)) = fates.next() {
                slots(&mut world, 1);
                let posted = post(&mut world);
                if demanded {
                    let at = posted.block + 1 + after.min(RULES.challenge_window - 1);
                    due.push((at, posted.clone(), false));
                    due.extend(shown.map(|after| (at + 1 + after, posted, true)));
                }
            }
            let next = world.l1.head() + 1;
            let mut logs = Vec::new();
            let mut txs = Vec::new();
            for (_, posted, shown) in due.extract_if(.., |(at, ..)| *at <= next) {
                if shown {
                    txs.push(posted.showing(&posted.data));
                    logs.push(vec![posted.event(2)]);
                } else {
                    txs.push(signed(&stranger(), 0, CONTRACT, Bytes::new()));
                    logs.push(vec![posted.event(1)]);
                }
            }
            world.l1.push(txs, &logs);
            world.sequence_slot(2);
            follow(&mut live, &l2).expect("all data is there");
        }
        let (mut fresh, other) = world.verifier();
        prop_assert_eq!(follow(&mut fresh, &other), Ok(Vec::new()));
        prop_assert_eq!(heads(&l2), heads(&other));
        let (mut blind, some) = blind(&world);
        let _ = follow(&mut blind, &some);
        let (some, all) = (heads(&some), heads(&other));
        prop_assert_eq!(&some[..], &all[..some.len()]);
    }

    /// The same while the layer 1 takes back up to six blocks at a time, with the batches, demands and
    /// answers in them.
    #[test]
    fn all_come_to_the_same_chain_through_reorgs(
        steps in proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), 1usize..7), 1..25),
        long in any::<bool>(),
    ) {
        let rules = match long {
            true => Challenging { challenge_window: 60, ..RULES },
            false => RULES,
        };
        let mut world = under(rules, 300);
        slots(&mut world, 5);
        let floor = world.l1.head();
        // Channels of what there is, so that reorgs touch batches and no origins.
        let limits = ChannelLimits { target_bytes: 900, ..LIMITS };
        let mut channels = Vec::new();
        while world.unbatched <= height(&world) {
            channels.push(inbox_frames(&world.channel(limits).frames));
        }
        prop_assert!(channels.len() > 3, "{}", channels.len());
        let (mut live, l2) = world.verifier();
        let mut posted: Vec<Posted> = Vec::new();
        let mut highest = floor;
        for (kind, which, count) in steps {
            let pick = (!posted.is_empty()).then(|| which.get(&posted).clone());
            match (kind, pick) {
                (0 | 1, _) if posted.len() < channels.len() => {
                    let data = channels[posted.len()].clone();
                    let mut new = Posted { block: 0, data };
                    world.da.set(&new.commitment(), Ok(new.data.clone()));
                    let tx = world.inbox(inbox_commitment(&new.commitment()));
                    new.block = world.l1.push(vec![tx], &[]).number;
                    posted.push(new);
                }
                (2, Some(posted)) => demand(&world, &posted),
                (3, Some(posted)) => show(&world, &posted, &posted.data),
                (4, _) => {
                    let left = world.l1.head().saturating_sub(count as u64).max(floor);
                    world.l1.pop((world.l1.head() - left) as usize);
                    posted.retain(|posted| posted.block <= left);
                    world.l1.push(Vec::new(), &[]);
                }
                _ => for _ in 0..count {
                    world.l1.push(Vec::new(), &[]);
                },
            }
            highest = highest.max(world.l1.head());
            // What is shorter than before may only be late.
            if let Err(error) = follow(&mut live, &l2) {
                prop_assert_eq!(error.next(), Next::Retry, "{}", error);
            }
        }
        while world.l1.head() <= highest {
            world.l1.push(Vec::new(), &[]);
        }
        follow(&mut live, &l2).expect("all data is there");
        prop_assert_eq!(heads(&l2), fresh(&world));
    }
}
