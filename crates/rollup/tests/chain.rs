//! The chain through its public handle: conservation, history, reverts, reorganisations,
//! deposits, restarts and the sequencer's timing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use alloy_consensus::{Sealable, SignableTransaction, Transaction as _, TxEip7702};
use alloy_eips::{BlockId, Encodable2718, eip7702::Authorization};
use alloy_primitives::{Address, B64, B256, Bytes, TxKind, U256};
use alloy_signer::SignerSync;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use common::*;
use op_alloy_consensus::{OpTxEnvelope, TxDeposit};
use openledger_rollup::{
    Chain, ChainHandle, Clock, Error, SequencerConfig,
    block::{Block, Transaction},
    engine::{ChainEvent, ForkChoice, PayloadAttributes, PayloadStatus},
    genesis::{BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT, SEQUENCER_FEE_VAULT},
    kv::{MemoryStore, Snapshot, Store, Table, prefix_end},
    state::{AccountChange, AccountFields, StateChanges, StateTrie, account, recompute_root},
    trie::{NodeChange, NodeChanges},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, num::NonZeroU64, ops::ControlFlow, sync::Arc, time::Duration};

/// All entries of a table under a prefix.
fn entries(snapshot: &dyn Snapshot, table: Table, prefix: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    snapshot
        .scan(table, prefix, &prefix_end(prefix), &mut |k, v| {
            all.insert(k.to_vec(), v.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    all
}

fn accounts(handle: &ChainHandle) -> BTreeMap<Vec<u8>, TrieAccount> {
    let reader = handle.reader().unwrap();
    entries(&**reader.snapshot(), Table::Accounts, &[])
        .into_iter()
        .map(|(k, row)| (k, account(&row).unwrap()))
        .collect()
}

fn supply(handle: &ChainHandle) -> U256 {
    accounts(handle)
        .values()
        .fold(U256::ZERO, |sum, a| sum + a.balance)
}

/// The head's header matches the flat tables by an independent rebuild, and the stored trie nodes
/// are exactly those of a trie written from scratch.
fn audit(handle: &ChainHandle) {
    let reader = handle.reader().unwrap();
    let snapshot = &**reader.snapshot();
    let head = reader.head().unwrap();
    assert_eq!(
        recompute_root(snapshot).unwrap(),
        head.state_root,
        "block {}",
        head.number
    );

    let mut changes = StateChanges::default();
    for (key, account) in accounts(handle) {
        let storage = entries(snapshot, Table::Storage, &key)
            .into_iter()
            .map(|(k, v)| {
                (
                    B256::from_slice(&k[32..]),
                    alloy_rlp::decode_exact(&v[8..]).unwrap(),
                )
            })
            .collect();
        let fields = AccountFields {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
        };
        let change = AccountChange {
            fields: Some(fields),
            wiped: false,
            storage,
        };
        changes.accounts.insert(B256::from_slice(&key), change);
    }
    let empty = MemoryStore::default().snapshot().unwrap();
    let tries = StateTrie::new(EMPTY_ROOT_HASH)
        .apply(&*empty, &changes)
        .unwrap();
    let stored = |change: &&NodeChange| matches!(change, NodeChange::Stored { .. });
    let count = |nodes: &NodeChanges| nodes.values().filter(stored).count();
    let expected =
        count(&tries.account_nodes) + tries.storage_nodes.values().map(count).sum::<usize>();
    assert_eq!(
        entries(snapshot, Table::TrieNodes, &[0]).len(),
        count(&tries.account_nodes)
    );
    assert_eq!(
        entries(snapshot, Table::TrieNodes, &[0]).len()
            + entries(snapshot, Table::TrieNodes, &[1]).len(),
        expected
    );
}

fn nothing(head: B256) -> ForkChoice {
    ForkChoice {
        head,
        safe: B256::ZERO,
        finalized: B256::ZERO,
    }
}

fn attributes(handle: &ChainHandle, transactions: Vec<Bytes>) -> PayloadAttributes {
    let head = handle.head().unwrap();
    PayloadAttributes {
        timestamp: head.timestamp + 2,
        prev_randao: B256::ZERO,
        suggested_fee_recipient: SEQUENCER_FEE_VAULT,
        parent_beacon_block_root: Some(B256::ZERO),
        transactions,
        no_tx_pool: true,
        gas_limit: head.gas_limit,
        eip_1559_params: Some(B64::ZERO),
        min_base_fee: Some(0),
    }
}

/// Builds a block on the head through the engine, without making it the head.
fn build(
    handle: &ChainHandle,
    attributes: PayloadAttributes,
) -> openledger_rollup::Result<Arc<Block>> {
    let engine = handle.engine();
    let outcome = engine.fork_choice_updated(nothing(handle.head()?.hash()), Some(attributes))?;
    engine.get_payload(outcome.payload.unwrap())
}

fn make_head(handle: &ChainHandle, hash: B256) -> PayloadStatus {
    handle
        .engine()
        .fork_choice_updated(nothing(hash), None)
        .unwrap()
        .status
}

#[test]
fn balances_are_conserved_and_fees_reach_their_vaults() {
    let (_chain, handle) = open(genesis());
    let before = supply(&handle);
    let (mut base_fees, mut tips) = (U256::ZERO, U256::ZERO);
    for block in 0..5u64 {
        for n in 0..10u8 {
            let to = wallet((n + 1) % 10).address();
            let from = wallet(n);
            handle
                .send_raw(transfer(&from, 2 * block, to, 1 + u128::from(n)))
                .unwrap();
            let store = create(&from, 2 * block + 1, &deploying(&STORE_AND_LOG));
            handle.send_raw(store).unwrap();
        }
        let made = handle.make_block().unwrap();
        assert_eq!(made.transactions.len(), 20);
        let used = U256::from(made.header.gas_used);
        base_fees += used * U256::from(made.header.base_fee_per_gas.unwrap());
        tips += used * U256::from(1_000_000_000u64);
        assert_eq!(supply(&handle), before);
    }
    assert_eq!(handle.balance(BASE_FEE_VAULT).unwrap(), base_fees);
    assert_eq!(handle.balance(SEQUENCER_FEE_VAULT).unwrap(), tips);
    assert_eq!(handle.balance(L1_FEE_VAULT).unwrap(), U256::ZERO);
    assert_eq!(handle.balance(OPERATOR_FEE_VAULT).unwrap(), U256::ZERO);
    let totals = handle.totals().unwrap();
    assert_eq!(totals.transactions, 100);
    let sum: u128 = handle
        .recent(None, 100)
        .unwrap()
        .iter()
        .map(|b| u128::from(b.block.header.gas_used))
        .sum();
    assert_eq!(totals.gas_used, sum);
    audit(&handle);
}

#[test]
fn deposits_mint_run_first_and_fail_without_spoiling_the_block() {
    let (_chain, handle) = open(genesis());
    let target = Address::repeat_byte(0x77);
    let deposit = |mint: u128, value: u128, to: TxKind, input: Vec<u8>| {
        OpTxEnvelope::from(TxDeposit {
            source_hash: B256::repeat_byte(u8::try_from(mint).unwrap()),
            from: Address::repeat_byte(0xd0),
            to,
            mint,
            value: U256::from(value),
            gas_limit: 1_000_000,
            is_system_transaction: false,
            input: input.into(),
        })
    };
    let before = supply(&handle);
    let forced = [
        deposit(100, 60, target.into(), vec![]),
        // More than it has: fails, but the mint stands and the nonce counts.
        deposit(5, 1_000, target.into(), vec![]),
        deposit(0, 0, TxKind::Create, deploying(&reverting())),
    ];
    let forced: Vec<Bytes> = forced.iter().map(|tx| tx.encoded_2718().into()).collect();
    let block = build(&handle, attributes(&handle, forced)).unwrap();
    assert_eq!(make_head(&handle, block.hash()), PayloadStatus::Valid);

    let executed = handle.block(1).unwrap().unwrap();
    let status: Vec<_> = executed.receipts.iter().map(|r| r.status()).collect();
    assert_eq!(status, [true, false, true]);
    let nonces: Vec<_> = executed
        .receipts
        .iter()
        .map(|r| r.deposit_nonce())
        .collect();
    assert_eq!(nonces, [Some(0), Some(1), Some(2)]);
    assert!(
        executed
            .receipts
            .iter()
            .all(|r| r.deposit_receipt_version() == Some(1))
    );
    assert_eq!(handle.balance(target).unwrap(), U256::from(60));
    assert_eq!(
        handle.balance(Address::repeat_byte(0xd0)).unwrap(),
        U256::from(45)
    );
    // Deposits pay no fee; only what was minted is new.
    assert_eq!(supply(&handle), before + U256::from(105));
    let created = Address::repeat_byte(0xd0).create(2);
    assert!(
        !handle
            .state(BlockId::latest())
            .unwrap()
            .code(created)
            .unwrap()
            .is_empty()
    );
    audit(&handle);
}

#[test]
fn headers_carry_what_isthmus_and_jovian_ask_for() {
    let (_chain, handle) = open(genesis());
    let block = handle.make_block().unwrap();
    let header = block.header.inner();
    assert_eq!(header.withdrawals_root, Some(EMPTY_ROOT_HASH));
    assert_eq!(
        header.requests_hash,
        Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH)
    );
    assert_eq!(
        (header.blob_gas_used, header.excess_blob_gas),
        (Some(0), Some(0))
    );
    assert_eq!(
        header.extra_data[..],
        [1, 0, 0, 0, 250, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(header.hash_slow(), block.hash());
    assert_eq!(header.parent_hash, handle.genesis().hash());
}

#[test]
fn earlier_states_stay_readable() {
    let (_chain, handle) = open(genesis());
    let from = wallet(0);
    let contract = from.address().create(0);
    handle
        .send_raw(create(&from, 0, &deploying(&STORE_AND_LOG)))
        .unwrap();
    handle.make_block().unwrap();
    // Slot 1 takes 10, 20, .., is cleared at block 4, and set again.
    let values = [10, 20, 0, 40, 40, 60];
    for (nonce, value) in (1..).zip(values) {
        handle
            .send_raw(call(&from, nonce, contract, &words(1, value)))
            .unwrap();
        handle.make_block().unwrap();
    }
    for (number, value) in (2..).zip(values) {
        let state = handle.state(BlockId::number(number)).unwrap();
        assert_eq!(
            state.storage_at(contract, U256::from(1)).unwrap(),
            U256::from(value)
        );
        assert_eq!(state.nonce(from.address()).unwrap(), number);
    }
    assert_eq!(
        handle
            .state(BlockId::number(0))
            .unwrap()
            .code(contract)
            .unwrap(),
        Bytes::new()
    );
    assert!(handle.state(BlockId::number(99)).is_err());
    audit(&handle);
}

#[test]
fn history_that_is_final_and_old_is_pruned() {
    let mut config = manual(None, genesis());
    config.state_history = NonZeroU64::new(3);
    // Nothing is final until that is said.
    config.sequencer = Some(SequencerConfig {
        finality_lag: None,
        ..SequencerConfig::default()
    });
    config.clock = Clock::new(|| Duration::from_secs(GENESIS_TIME));
    let chain = Chain::open(config).unwrap();
    let handle = chain.handle();
    let reader = || handle.reader().unwrap();
    let to = Address::repeat_byte(7);
    let next = || {
        let nonce = handle.pending_nonce(wallet(0).address()).unwrap();
        let raw = transfer(&wallet(0), nonce, to, 1);
        handle.send_raw(raw).unwrap();
        handle.make_block().unwrap()
    };
    let blocks: Vec<_> = (1..=10).map(|_| next()).collect();
    assert_eq!(reader().oldest_state().unwrap(), 0, "nothing is final");
    let finalize = |number: usize| {
        let hash = blocks[number - 1].hash();
        let wanted = ForkChoice {
            head: handle.head().unwrap().hash(),
            safe: hash,
            finalized: hash,
        };
        let outcome = handle.engine().fork_choice_updated(wanted, None);
        assert_eq!(outcome.unwrap().status, PayloadStatus::Valid);
    };
    finalize(5);
    next();
    assert_eq!(
        reader().oldest_state().unwrap(),
        5,
        "not above the final block"
    );
    finalize(10);
    next();
    assert_eq!(reader().oldest_state().unwrap(), 9, "three before the head");

    let refused = |error: Error| {
        let message = error.to_string();
        assert_eq!(message, "state of block 8 is not available, oldest is 9");
    };
    let balance = |n| {
        handle
            .state(BlockId::number(n))
            .map(|s| s.balance(to).unwrap())
    };
    for number in 9..=12 {
        assert_eq!(balance(number).unwrap(), U256::from(number));
        assert!(handle.proof(to, &[], BlockId::number(number)).is_ok());
    }
    refused(balance(8).unwrap_err());
    refused(handle.proof(to, &[], BlockId::number(8)).unwrap_err());
    assert!(handle.witness(BlockId::number(10)).is_ok());
    refused(handle.witness(BlockId::number(9)).unwrap_err());
    // What happened stays, only what was there does not.
    let old = handle.block(2).unwrap().unwrap();
    assert_eq!(old.block, blocks[1]);
    let included = handle.included(old.block.transactions[0].hash()).unwrap();
    assert_eq!(included.unwrap().gas_used(), 21_000);

    // Back to the oldest state, not further, and nothing is half taken back.
    let to_pruned = ForkChoice::head_only(blocks[7].hash());
    refused(
        handle
            .engine()
            .fork_choice_updated(to_pruned, None)
            .unwrap_err(),
    );
    assert_eq!(handle.head().unwrap().number, 12);
    audit(&handle);
    assert_eq!(make_head(&handle, blocks[8].hash()), PayloadStatus::Valid);
    assert_eq!(balance(9).unwrap(), U256::from(9));
    audit(&handle);
}

#[test]
fn the_longer_branch_wins_and_can_lose_again() {
    let (_a, ours) = open(genesis());
    let (_b, theirs) = open(genesis());
    let contract = wallet(0).address().create(0);
    let mut events = ours.subscribe();
    let mut own = Vec::new();
    for (handle, count, salt) in [(&ours, 3u64, 1u64), (&theirs, 5, 100)] {
        handle
            .send_raw(create(&wallet(0), 0, &deploying(&STORE_AND_LOG)))
            .unwrap();
        for nonce in 1..=count {
            handle
                .send_raw(call(
                    &wallet(0),
                    nonce,
                    contract,
                    &words(nonce, nonce * salt),
                ))
                .unwrap();
            let to = Address::repeat_byte(u8::try_from(nonce + salt).unwrap());
            handle
                .send_raw(transfer(&wallet(1), nonce - 1, to, 5))
                .unwrap();
            let block = handle.make_block().unwrap();
            if salt == 1 {
                own.push(block);
            }
        }
    }
    let branch: Vec<_> = (1..=5)
        .map(|n| theirs.block(n).unwrap().unwrap().block)
        .collect();
    let status = |block: &Arc<Block>| ours.engine().new_payload(Arc::clone(block)).unwrap();
    // The last one first: its parent is not known.
    assert_eq!(status(&branch[4]), PayloadStatus::Syncing);
    assert_eq!(make_head(&ours, branch[4].hash()), PayloadStatus::Syncing);
    for block in &branch[..4] {
        assert_eq!(status(block), PayloadStatus::Accepted);
    }
    assert_eq!(make_head(&ours, branch[4].hash()), PayloadStatus::Valid);
    assert_eq!(ours.head().unwrap(), theirs.head().unwrap());
    assert_eq!(accounts(&ours), accounts(&theirs));
    assert_eq!(ours.totals().unwrap(), theirs.totals().unwrap());
    audit(&ours);

    let seen: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| match event {
            ChainEvent::Committed(b) => (b.block.number(), true),
            ChainEvent::Reverted(b) => (b.block.number(), false),
        })
        .collect();
    let expected: Vec<_> = [
        (1, true),
        (2, true),
        (3, true),
        (3, false),
        (2, false),
        (1, false),
    ]
    .into_iter()
    .chain((1..=5).map(|n| (n, true)))
    .collect();
    assert_eq!(seen, expected);

    // Back to our own three blocks, then one of them, then the genesis block.
    assert_eq!(make_head(&ours, own[2].hash()), PayloadStatus::Valid);
    assert_eq!(ours.head().unwrap().hash(), own[2].hash());
    assert!(
        ours.included(branch[0].transactions[1].hash())
            .unwrap()
            .is_none()
    );
    audit(&ours);
    assert_eq!(make_head(&ours, own[0].hash()), PayloadStatus::Valid);
    audit(&ours);
    assert_eq!(
        make_head(&ours, ours.genesis().hash()),
        PayloadStatus::Valid
    );
    assert_eq!(supply(&ours), U256::from(10_000 * ETHER));
    audit(&ours);
    // What was reverted is pending again and gets into the next block.
    let block = ours.make_block().unwrap();
    assert!(
        block.transactions.len() >= 2,
        "{}",
        block.transactions.len()
    );
    audit(&ours);
}

#[test]
fn wrong_blocks_are_refused_with_the_field_that_is_wrong() {
    let (_chain, handle) = open(genesis());
    handle
        .send_raw(transfer(&wallet(0), 0, wallet(1).address(), 1))
        .unwrap();
    let good = handle.make_block().unwrap();
    assert_eq!(
        make_head(&handle, handle.genesis().hash()),
        PayloadStatus::Valid
    );

    let tampered = |change: &dyn Fn(&mut alloy_consensus::Header)| {
        let mut header = good.header.inner().clone();
        change(&mut header);
        let block = Block {
            header: header.seal_slow(),
            transactions: good.transactions.clone(),
        };
        handle.engine().new_payload(Arc::new(block)).unwrap()
    };
    let check = |status: PayloadStatus, words: &str| match status {
        PayloadStatus::Invalid { reason } => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    };
    check(tampered(&|h| h.state_root = B256::ZERO), "state_root");
    check(tampered(&|h| h.receipts_root = B256::ZERO), "receipts_root");
    check(
        tampered(&|h| h.transactions_root = B256::ZERO),
        "transactions_root",
    );
    check(tampered(&|h| h.gas_used += 1), "gas_used");
    check(
        tampered(&|h| h.base_fee_per_gas = Some(1)),
        "base_fee_per_gas",
    );
    check(
        tampered(&|h| h.withdrawals_root = Some(B256::ZERO)),
        "withdrawals_root",
    );
    check(tampered(&|h| h.timestamp = GENESIS_TIME), "timestamp");
    check(tampered(&|h| h.number = 7), "number");
    check(tampered(&|h| h.extra_data = Bytes::new()), "extra data");
    check(tampered(&|h| h.gas_limit = 20_000), "gas limit");
    let mut unsealed = good.header.inner().clone();
    unsealed.gas_used = 0;
    let block = Block {
        header: alloy_consensus::Sealed::new_unchecked(unsealed, good.hash()),
        transactions: good.transactions.clone(),
    };
    check(
        handle.engine().new_payload(Arc::new(block)).unwrap(),
        "hash",
    );
    // None of that left a trace.
    assert_eq!(
        handle.engine().new_payload(Arc::clone(&good)).unwrap(),
        PayloadStatus::Valid
    );
    assert_eq!(make_head(&handle, good.hash()), PayloadStatus::Valid);
    audit(&handle);
}

#[test]
fn a_bad_block_in_a_branch_leaves_the_old_head() {
    let (_a, ours) = open(genesis());
    let (_b, theirs) = open(genesis());
    ours.send_raw(transfer(&wallet(1), 0, wallet(2).address(), 9))
        .unwrap();
    let head = ours.make_block().unwrap();
    theirs.make_block().unwrap();
    theirs
        .send_raw(transfer(&wallet(0), 0, wallet(1).address(), 1))
        .unwrap();
    theirs.make_block().unwrap();
    let first = theirs.block(1).unwrap().unwrap().block;
    let second = theirs.block(2).unwrap().unwrap().block;
    let mut header = second.header.inner().clone();
    header.state_root = B256::repeat_byte(1);
    let bad = Block {
        header: header.seal_slow(),
        transactions: second.transactions.clone(),
    };
    let bad = Arc::new(bad);
    ours.engine().new_payload(first).unwrap();
    assert_eq!(
        ours.engine().new_payload(Arc::clone(&bad)).unwrap(),
        PayloadStatus::Accepted
    );
    assert!(matches!(
        make_head(&ours, bad.hash()),
        PayloadStatus::Invalid { .. }
    ));
    assert_eq!(ours.head().unwrap().hash(), head.hash());
    audit(&ours);
}

#[test]
fn attributes_and_labels_are_checked() {
    let (_chain, handle) = open(genesis());
    let engine = handle.engine();
    let late = PayloadAttributes {
        timestamp: GENESIS_TIME,
        ..attributes(&handle, vec![])
    };
    assert!(matches!(
        build(&handle, late),
        Err(Error::InvalidAttributes(_))
    ));
    let lacking = PayloadAttributes {
        min_base_fee: None,
        ..attributes(&handle, vec![])
    };
    assert!(matches!(
        build(&handle, lacking),
        Err(Error::InvalidAttributes(_))
    ));
    let bad = attributes(&handle, vec![Bytes::from_static(&[1])]);
    assert!(matches!(
        build(&handle, bad),
        Err(Error::InvalidTransaction(_))
    ));
    let poor = attributes(&handle, vec![transfer(&wallet(99), 0, Address::ZERO, 1)]);
    assert!(matches!(build(&handle, poor), Err(Error::InvalidBlock(_))));
    let unknown = ForkChoice {
        safe: B256::repeat_byte(3),
        ..nothing(handle.genesis().hash())
    };
    assert!(engine.fork_choice_updated(unknown, None).is_err());
    handle.make_block().unwrap();
    let labels = handle.labels().unwrap();
    assert_eq!((labels.head, labels.safe, labels.finalized), (1, 1, 1));
}

#[test]
fn tables_of_another_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = || Some(dir.path().to_path_buf());
    Chain::open(manual(path(), genesis())).unwrap().shutdown();
    let store = openledger_rollup::kv::DiskStore::open(dir.path()).unwrap();
    let mut batch = openledger_rollup::kv::Batch::default();
    batch.delete(Table::Meta, *b"format");
    store.commit(batch).unwrap();
    drop(store);
    let error = Chain::open(manual(path(), genesis())).unwrap_err();
    assert!(matches!(error, Error::Format { found: 1, .. }), "{error}");
}

#[test]
fn a_restart_resumes_and_a_foreign_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = || Some(dir.path().to_path_buf());
    let chain = Chain::open(manual(path(), genesis())).unwrap();
    let handle = chain.handle();
    handle
        .send_raw(transfer(&wallet(0), 0, wallet(1).address(), 7))
        .unwrap();
    let head = handle.make_block().unwrap();
    let error = Chain::open(manual(path(), genesis())).unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error}");
    chain.shutdown();
    drop(handle);

    let mut other = genesis();
    other.timestamp += 1;
    let error = Chain::open(manual(path(), other)).unwrap_err();
    assert!(matches!(error, Error::GenesisMismatch { .. }), "{error}");
    let chain = Chain::open(manual(path(), genesis())).unwrap();
    let handle = chain.handle();
    assert_eq!(handle.head().unwrap().hash(), head.hash());
    assert_eq!(handle.pending_nonce(wallet(0).address()).unwrap(), 1);
    handle
        .send_raw(transfer(&wallet(0), 1, wallet(1).address(), 7))
        .unwrap();
    assert_eq!(handle.make_block().unwrap().transactions.len(), 1);
    audit(&handle);
}

#[test]
fn the_sequencer_works_at_once_and_timestamps_rise() {
    let clock = TestClock::new();
    let mut config = manual(None, genesis());
    config.clock = clock.clock();
    config.sequencer = Some(SequencerConfig {
        max_lead: 10,
        empty_blocks: false,
        ..Default::default()
    });
    let chain = Chain::open(config).unwrap();
    let handle = chain.handle();
    let mut events = handle.subscribe();
    // The clock stands still: six blocks in the same second, each a second later by its header.
    for nonce in 0..6 {
        handle
            .send_raw(transfer(&wallet(0), nonce, wallet(1).address(), 1))
            .unwrap();
        let ChainEvent::Committed(made) = events.blocking_recv().unwrap() else {
            panic!()
        };
        assert_eq!(made.block.transactions[0].envelope().nonce(), nonce);
        assert_eq!(made.block.header.timestamp, GENESIS_TIME + 1 + nonce);
    }
    clock.advance(100);
    handle
        .send_raw(transfer(&wallet(0), 6, wallet(1).address(), 1))
        .unwrap();
    let ChainEvent::Committed(made) = events.blocking_recv().unwrap() else {
        panic!()
    };
    assert_eq!(made.block.header.timestamp, GENESIS_TIME + 100);
    chain.shutdown();
    assert_eq!(handle.head().unwrap().number, 7);
}

#[test]
fn transactions_sent_while_blocks_are_made_all_get_in() {
    let mut config = manual(None, genesis());
    config.sequencer = Some(SequencerConfig {
        max_lead: 1_000_000,
        empty_blocks: false,
        ..Default::default()
    });
    let chain = Chain::open(config).unwrap();
    let handle = chain.handle();
    let mut events = handle.subscribe();
    let (senders, each) = (4u8, 60u64);
    std::thread::scope(|scope| {
        for n in 0..senders {
            let handle = handle.clone();
            scope.spawn(move || {
                for nonce in 0..each {
                    handle
                        .send_raw(transfer(&wallet(n), nonce, wallet(9).address(), 1))
                        .unwrap();
                }
            });
        }
    });
    while handle.totals().unwrap().transactions < u64::from(senders) * each {
        events.blocking_recv().unwrap();
    }
    chain.shutdown();
    for n in 0..senders {
        assert_eq!(handle.pending_nonce(wallet(n).address()).unwrap(), each);
    }
    assert_eq!(handle.pool_status(), Default::default());
    audit(&handle);
}

#[test]
fn a_delegated_account_runs_code_and_its_nonces_are_followed() {
    let (_chain, handle) = open(genesis());
    let (sponsor, account) = (wallet(0), wallet(1));
    let contract = sponsor.address().create(0);
    handle
        .send_raw(create(&sponsor, 0, &deploying(&STORE_AND_LOG)))
        .unwrap();
    handle.make_block().unwrap();
    // The account has a transaction waiting; its authorisation uses up the same nonce.
    handle
        .send_raw(transfer(&account, 1, wallet(2).address(), 1))
        .unwrap();
    let authorization = Authorization {
        chain_id: U256::from(CHAIN_ID),
        address: contract,
        nonce: 0,
    };
    let signature = account
        .sign_hash_sync(&authorization.signature_hash())
        .unwrap();
    let tx = TxEip7702 {
        chain_id: CHAIN_ID,
        nonce: 1,
        gas_limit: 500_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: account.address(),
        value: U256::ZERO,
        access_list: Default::default(),
        authorization_list: vec![authorization.into_signed(signature)],
        input: words(3, 33).into(),
    };
    let signature = sponsor.sign_hash_sync(&tx.signature_hash()).unwrap();
    let raw = OpTxEnvelope::from(tx.into_signed(signature)).encoded_2718();
    handle.send_raw(raw.into()).unwrap();
    handle.make_block().unwrap();
    let state = handle.state(BlockId::latest()).unwrap();
    assert!(
        state
            .code(account.address())
            .unwrap()
            .starts_with(&[0xef, 0x01, 0x00])
    );
    assert_eq!(
        state.storage_at(account.address(), U256::from(3)).unwrap(),
        U256::from(33)
    );
    // The waiting transaction became executable because the pool saw the nonce move.
    assert_eq!(handle.pool_status().pending, 1);
    assert_eq!(handle.make_block().unwrap().transactions.len(), 1);
    audit(&handle);
}

#[test]
fn a_full_block_leaves_the_rest_for_the_next() {
    let mut small = genesis();
    small.gas_limit = 100_000;
    let (_chain, handle) = open(small);
    for n in 0..10u8 {
        handle
            .send_raw(transfer(&wallet(n), 0, wallet(0).address(), 1))
            .unwrap();
    }
    let sizes: Vec<_> = (0..4)
        .map(|_| handle.make_block().unwrap().transactions.len())
        .collect();
    assert_eq!(sizes, [4, 4, 2, 0]);
    // 84,000 of 100,000 gas is far above the target of a sixth: the base fee rose twice.
    let fee = |n| {
        handle
            .block(n)
            .unwrap()
            .unwrap()
            .block
            .header
            .base_fee_per_gas
            .unwrap()
    };
    assert!(fee(1) < fee(2) && fee(2) < fee(3));
}

#[derive(Debug, Clone)]
enum Step {
    Store(u8, u64, u64),
    Create(u8),
    /// A contract that is created and destroys itself in the same transaction.
    Ephemeral(u8),
    Send(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u8..4, 0u64..12, 0u64..4).prop_map(|(w, s, v)| Step::Store(w, s, v)),
        1 => (0u8..4).prop_map(Step::Create),
        1 => (0u8..4).prop_map(Step::Ephemeral),
        2 => (0u8..4, 100u8..110).prop_map(|(w, to)| Step::Send(w, to)),
    ]
}

proptest! {
    /// Whatever bytes arrive, decoding ends in a transaction or an error, and what decodes is
    /// spelled in its only way.
    #[test]
    fn arbitrary_bytes_do_not_break_decoding(
        prefix in prop_oneof![Just(vec![]), any::<u8>().prop_map(|t| vec![t])],
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..200, at in 0usize..200, flip in any::<u8>(),
    ) {
        let _ = Transaction::decode([prefix, noise].concat().into());
        let mut real = transfer(&wallet(0), 3, Address::repeat_byte(1), 5).to_vec();
        real.truncate(real.len().saturating_sub(cut % 8));
        let at = at % real.len();
        real[at] ^= flip;
        if let Ok(tx) = Transaction::decode(real.clone().into()) {
            prop_assert_eq!(tx.envelope().encoded_2718(), real);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Random blocks, then as many of them taken back: every state on the way back is the state
    /// that was there on the way forth, bit for bit, and building on it again gives valid blocks.
    #[test]
    fn unwinding_restores_every_state(
        blocks in proptest::collection::vec(proptest::collection::vec(step(), 0..8), 1..8),
        keep in 0usize..4,
    ) {
        let (_chain, handle) = open(genesis());
        let mut nonces = [0u64; 4];
        let contract = wallet(0).address().create(0);
        handle.send_raw(create(&wallet(0), 0, &deploying(&STORE_AND_LOG))).unwrap();
        nonces[0] = 1;
        let mut states = vec![(handle.genesis().hash(), accounts(&handle))];
        for steps in blocks {
            for step in steps {
                let (w, to, input, value) = match step {
                    Step::Store(w, slot, value) => (w, contract.into(), words(slot, value), 0),
                    Step::Create(w) => (w, TxKind::Create, deploying(&STORE_AND_LOG), 0),
                    // SSTORE(1, 1), CALLER, SELFDESTRUCT
                    Step::Ephemeral(w) => (w, TxKind::Create, vec![0x60, 1, 0x60, 1, 0x55, 0x33, 0xff], 5),
                    Step::Send(w, to) => (w, Address::repeat_byte(to).into(), vec![], 3),
                };
                let nonce = &mut nonces[usize::from(w)];
                let raw = sign(&wallet(w), request(*nonce, to, value, input.into()));
                handle.send_raw(raw).unwrap();
                *nonce += 1;
            }
            let block = handle.make_block().unwrap();
            states.push((block.hash(), accounts(&handle)));
            audit(&handle);
        }
        while states.len() > keep + 1 {
            states.pop();
            let (hash, expected) = states.last().unwrap();
            prop_assert_eq!(make_head(&handle, *hash), PayloadStatus::Valid);
            prop_assert_eq!(&accounts(&handle), expected);
            audit(&handle);
        }
        handle.make_block().unwrap();
        audit(&handle);
    }
}
