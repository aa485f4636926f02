#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    exec::{Candidates, Skip},
    kv::{Batch, MemoryStore, Store},
    spec::ChainSpec,
    state::{View, put_account},
};
use alloy_consensus::{Header, SignableTransaction, TxEip1559, TxLegacy, transaction::Recovered};
use alloy_eips::Encodable2718;
use alloy_primitives::{Bytes, KECCAK256_EMPTY, Signature, TxKind, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use op_alloy_consensus::{OpTxEnvelope, TxDeposit};

const ETHER: u128 = 1_000_000_000_000_000_000;
const GWEI: u128 = 1_000_000_000;

/// A head with balances and nonces, and a pool over it.
struct Bench {
    pool: Arc<Pool>,
    spec: ChainSpec,
    head: Header,
    store: MemoryStore,
    start: Instant,
}

impl Bench {
    fn new(config: PoolConfig) -> Self {
        Self {
            pool: Arc::new(Pool::new(config)),
            spec: ChainSpec::jovian_at_genesis(1),
            head: Header {
                gas_limit: 30_000_000,
                timestamp: 1,
                ..Default::default()
            },
            store: MemoryStore::default(),
            start: Instant::now(),
        }
    }

    fn fund(&self, sender: u8, nonce: u64, balance: u128) {
        let account =
            TrieAccount::new(nonce, U256::from(balance), EMPTY_ROOT_HASH, KECCAK256_EMPTY);
        let key = keccak256(Address::repeat_byte(sender));
        let mut batch = Batch::default();
        put_account(&mut batch, &key, 0, &alloy_rlp::encode(account)).unwrap();
        self.store.commit(batch).unwrap();
    }

    fn add_at(&self, tx: Transaction, now: Instant) -> Result<B256, PoolError> {
        let state = View::latest(self.store.snapshot().unwrap());
        let epoch = self.pool.epoch();
        let admission = Admission {
            spec: &self.spec,
            head: &self.head,
            state: &state,
            l1: None,
            epoch,
        };
        self.pool
            .add(&Arc::new(tx), &admission, now)
            .map(|hash| hash.expect("no block between"))
    }

    fn add(&self, tx: Transaction) -> Result<B256, PoolError> {
        self.add_at(tx, self.start)
    }

    /// Senders and nonces in the order a block takes them.
    fn order(&self, base_fee: u64) -> Vec<(u8, u64)> {
        let mut best = self.pool.best(base_fee);
        std::iter::from_fn(|| best.next())
            .map(|tx| (tx.sender()[0], tx.envelope().nonce()))
            .collect()
    }
}

fn wrap(envelope: OpTxEnvelope, sender: u8) -> Transaction {
    let encoded: Bytes = envelope.encoded_2718().into();
    let sender = Address::repeat_byte(sender);
    Transaction {
        inner: Recovered::new_unchecked(envelope, sender),
        encoded,
    }
}

/// A transfer; the signature is not checked after recovery, so any will do.
fn tx(sender: u8, nonce: u64, max_fee: u128, tip: u128) -> Transaction {
    let tx = TxEip1559 {
        chain_id: 1,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: max_fee,
        max_priority_fee_per_gas: tip,
        // Keeps hashes of different senders apart.
        to: TxKind::Call(Address::repeat_byte(sender)),
        ..Default::default()
    };
    wrap(tx.into_signed(Signature::test_signature()).into(), sender)
}

#[test]
fn orders_by_tip_then_arrival_within_nonce_order() {
    let bench = Bench::new(PoolConfig::default());
    for sender in 1..=3 {
        bench.fund(sender, 0, ETHER);
    }
    bench.add(tx(1, 0, 10 * GWEI, GWEI)).unwrap();
    bench.add(tx(1, 1, 90 * GWEI, 9 * GWEI)).unwrap();
    bench.add(tx(2, 0, 20 * GWEI, 2 * GWEI)).unwrap();
    bench.add(tx(3, 0, 20 * GWEI, 2 * GWEI)).unwrap();
    assert_eq!(bench.order(1), [(2, 0), (3, 0), (1, 0), (1, 1)]);
    // At a base fee of 9.5 gwei sender 1's first transaction has a tip of 0.5 gwei left; above its
    // cap it cannot go, and what follows it neither.
    assert_eq!(bench.order(9_500_000_000), [(2, 0), (3, 0), (1, 0), (1, 1)]);
    assert_eq!(bench.order(10_500_000_000), [(2, 0), (3, 0)]);
}

#[test]
fn holds_back_gaps_and_counts_only_what_can_run() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 5, ETHER);
    let sender = Address::repeat_byte(1);
    bench.add(tx(1, 7, GWEI, 1)).unwrap();
    assert_eq!(bench.pool.pending_nonce(sender), None);
    assert!(!bench.pool.has_executable(1));
    bench.add(tx(1, 5, GWEI, 1)).unwrap();
    assert_eq!(bench.pool.pending_nonce(sender), Some(6));
    assert_eq!(bench.pool.status().queued, 1);
    bench.add(tx(1, 6, GWEI, 1)).unwrap();
    assert_eq!(bench.pool.pending_nonce(sender), Some(8));
    assert_eq!(bench.order(1), [(1, 5), (1, 6), (1, 7)]);
    let low = PoolError::NonceTooLow {
        address: sender,
        tx: 4,
        state: 5,
    };
    assert_eq!(bench.add(tx(1, 4, GWEI, 1)).unwrap_err(), low);
    assert!(matches!(
        bench.add(tx(1, 1 << 20, GWEI, 1)),
        Err(PoolError::NonceTooHigh { .. })
    ));
}

#[test]
fn replacement_needs_ten_percent_on_both_fees() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 0, ETHER);
    let first = tx(1, 0, 100, 100);
    let old = bench.add(first.clone()).unwrap();
    assert_eq!(bench.add(first).unwrap_err(), PoolError::AlreadyKnown);
    for (fee, tip) in [(109, 100), (200, 109), (109, 109), (100, 50)] {
        assert_eq!(
            bench.add(tx(1, 0, fee, tip)).unwrap_err(),
            PoolError::Underpriced
        );
    }
    let new = bench.add(tx(1, 0, 110, 110)).unwrap();
    assert!(bench.pool.get(old).is_none() && bench.pool.get(new).is_some());
    assert_eq!(bench.pool.status().pending, 1);
}

#[test]
fn the_balance_must_cover_everything_pending() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 0, 21_000 * 250);
    bench.add(tx(1, 0, 100, 1)).unwrap();
    bench.add(tx(1, 1, 100, 1)).unwrap();
    let error = bench.add(tx(1, 2, 100, 1)).unwrap_err();
    let (have, want) = (U256::from(21_000 * 250), U256::from(21_000 * 300));
    let address = Address::repeat_byte(1);
    assert_eq!(
        error,
        PoolError::InsufficientFunds {
            address,
            have,
            want
        }
    );
    // Replacing does not count the replaced one twice.
    bench.add(tx(1, 1, 150, 2)).unwrap();
}

#[test]
fn limits_hold_and_the_cheapest_tail_makes_room() {
    let config = PoolConfig {
        max_transactions: 4,
        max_per_sender: 2,
        ..Default::default()
    };
    let bench = Bench::new(config);
    for sender in 1..=5 {
        bench.fund(sender, 0, ETHER);
    }
    bench.add(tx(1, 0, 10, 1)).unwrap();
    bench.add(tx(1, 1, 50, 1)).unwrap();
    assert_eq!(
        bench.add(tx(1, 2, 99, 1)).unwrap_err(),
        PoolError::SenderLimit { limit: 2 }
    );
    bench.add(tx(2, 0, 20, 1)).unwrap();
    bench.add(tx(3, 0, 30, 1)).unwrap();
    // Sender 1's first pays least but carries another; sender 2's is the cheapest last one.
    assert_eq!(bench.add(tx(4, 0, 20, 1)).unwrap_err(), PoolError::Full);
    bench.add(tx(4, 0, 21, 1)).unwrap();
    let senders: Vec<_> = bench.order(0).iter().map(|(sender, _)| *sender).collect();
    assert_eq!(senders, [1, 1, 3, 4]);

    let size = tx(1, 0, 10, 1).encoded.len();
    let bench = Bench::new(PoolConfig {
        max_bytes: 2 * size + 1,
        ..Default::default()
    });
    for sender in 1..=3 {
        bench.fund(sender, 0, ETHER);
    }
    bench.add(tx(1, 0, 10, 1)).unwrap();
    bench.add(tx(2, 0, 11, 1)).unwrap();
    bench.add(tx(3, 0, 12, 1)).unwrap();
    assert_eq!(bench.pool.status().bytes, 2 * size);
    assert_eq!(bench.order(0).len(), 2);
}

#[test]
fn follows_the_chain_and_forgets_the_old() {
    let bench = Bench::new(PoolConfig {
        lifetime_seconds: 10,
        ..Default::default()
    });
    bench.fund(1, 0, ETHER);
    bench.fund(2, 0, ETHER);
    let after = |seconds| bench.start + Duration::from_secs(seconds);
    for nonce in 0..3 {
        bench.add(tx(1, nonce, GWEI, 1)).unwrap();
    }
    bench.add_at(tx(2, 0, GWEI, 1), after(5)).unwrap();
    bench.pool.advance([(Address::repeat_byte(1), 2)], after(6));
    assert_eq!(bench.order(1), [(1, 2), (2, 0)]);
    bench.pool.advance([], after(10));
    assert_eq!(bench.order(1), [(2, 0)]);
    bench.pool.advance([], after(15));
    assert_eq!(bench.pool.status(), PoolStatus::default());
}

#[test]
fn a_check_against_a_stale_state_is_not_used() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 5, ETHER);
    let state = View::latest(bench.store.snapshot().unwrap());
    let epoch = bench.pool.epoch();
    let admission = Admission {
        spec: &bench.spec,
        head: &bench.head,
        state: &state,
        l1: None,
        epoch,
    };
    bench
        .pool
        .advance([(Address::repeat_byte(1), 6)], bench.start);
    let tx = Arc::new(tx(1, 6, GWEI, 1));
    assert_eq!(bench.pool.add(&tx, &admission, bench.start), Ok(None));
    assert_eq!(bench.pool.status(), PoolStatus::default());
}

#[test]
fn a_skipped_transaction_ends_its_senders_run() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 0, ETHER);
    bench.fund(2, 0, ETHER);
    bench.add(tx(1, 0, 9 * GWEI, 9)).unwrap();
    bench.add(tx(1, 1, 9 * GWEI, 9)).unwrap();
    bench.add(tx(2, 0, 9 * GWEI, 1)).unwrap();
    let mut best = bench.pool.best(1);
    let first = best.next().unwrap();
    best.skipped(&first, Skip::Invalid("no funds".into()));
    assert_eq!(best.next().unwrap().sender(), Address::repeat_byte(2));
    assert!(best.next().is_none());
    assert!(bench.pool.get(first.hash()).is_none());
    let mut best = bench.pool.best(1);
    let first = best.next().unwrap();
    best.skipped(&first, Skip::NoRoom);
    assert!(bench.pool.get(first.hash()).is_some());
}

#[test]
fn refuses_what_users_may_not_send() {
    let bench = Bench::new(PoolConfig::default());
    bench.fund(1, 0, ETHER);
    let deposit = OpTxEnvelope::from(TxDeposit {
        gas_limit: 21_000,
        ..Default::default()
    });
    assert_eq!(bench.add(wrap(deposit, 1)).unwrap_err(), PoolError::Type);
    let legacy = TxLegacy {
        gas_limit: 21_000,
        gas_price: 1,
        ..Default::default()
    };
    let unprotected = legacy.into_signed(Signature::test_signature());
    assert_eq!(
        bench.add(wrap(unprotected.into(), 1)).unwrap_err(),
        PoolError::Unprotected
    );
    let create = |size: usize, gas_limit| {
        let tx = TxEip1559 {
            chain_id: 1,
            gas_limit,
            max_fee_per_gas: 1,
            to: TxKind::Create,
            input: vec![1; size].into(),
            ..Default::default()
        };
        wrap(tx.into_signed(Signature::test_signature()).into(), 1)
    };
    assert!(matches!(
        bench.add(create(49_153, 30_000_000)),
        Err(PoolError::InitCode { .. })
    ));
    assert!(matches!(
        bench.add(create(1_000, 60_000)),
        Err(PoolError::IntrinsicGas { .. })
    ));
    let config = PoolConfig {
        min_priority_fee: 5,
        ..Default::default()
    };
    let bench = Bench::new(config);
    bench.fund(1, 0, ETHER);
    assert_eq!(
        bench.add(tx(1, 0, 10, 4)).unwrap_err(),
        PoolError::TipTooLow { have: 4, want: 5 }
    );
}

/// A pool that is full of what came while a block was canonical takes that block's transactions
/// back, without which nothing that is waiting could run, and what is new waits for room as before.
#[test]
fn what_comes_back_from_a_reverted_block_has_room_of_its_own() {
    let size = tx(1, 0, GWEI, 1).encoded.len();
    let bench = Bench::new(PoolConfig {
        max_transactions: 3,
        max_bytes: 4 * size,
        max_per_sender: 2,
        ..PoolConfig::default()
    });
    for sender in 1..=4 {
        bench.fund(sender, 1, ETHER);
    }
    for (sender, nonce) in [(1, 1), (1, 2), (2, 1)] {
        bench.add(tx(sender, nonce, GWEI, 1)).unwrap();
    }
    let back = |sender, nonce| {
        let tx = Arc::new(tx(sender, nonce, GWEI, 1));
        bench.pool.reinsert(&tx, 0, U256::from(ETHER), bench.start);
        bench.pool.get(tx.hash()).is_some()
    };
    assert!(back(1, 0) && back(2, 0) && back(3, 0));
    let order = bench.order(1);
    assert_eq!(order.len(), 6);
    for sender in 1..=3 {
        let nonces = order.iter().filter(|(s, _)| *s == sender);
        let nonces: Vec<_> = nonces.map(|(_, nonce)| *nonce).collect();
        assert_eq!(nonces, [0, 1, 2][..[3, 2, 1][usize::from(sender) - 1]]);
    }
    assert_eq!(bench.add(tx(4, 1, GWEI, 1)), Err(PoolError::Full));
    // Better paying: one of the new goes for it, although sender 3 has none of those.
    bench.add(tx(4, 1, 2 * GWEI, 1)).unwrap();
    assert_eq!(bench.pool.status().pending, 6);
    // Its own room has an end, too.
    assert!(back(4, 0) && !back(5, 0));
    // In a block again: gone, with the room that they took.
    let next = (1..=4).map(|sender| (Address::repeat_byte(sender), 1));
    bench.pool.advance(next, bench.start);
    assert_eq!(bench.pool.status().pending, 3);
    assert!(back(5, 0));
    assert_eq!(bench.add(tx(3, 1, GWEI, 1)), Err(PoolError::Full));
}
