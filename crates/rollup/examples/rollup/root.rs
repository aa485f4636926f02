//! State roots: what the trie in memory hashes again, against building all of it anew.

use alloy_primitives::{B256, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use openledger_rollup::kv::{Batch, MemoryStore, Store};
use openledger_rollup::state::{self, AccountChange, AccountFields, StateChanges, StateTrie};
use serde_json::{Value, json};

use crate::{Fallible, timed};

/// Blocks whose median counts.
const BLOCKS: u64 = 9;

/// Times that alloy-trie builds all of it; the median counts.
const REBUILDS: usize = 3;

/// Accounts written at once while the state is made.
const CHUNK: u64 = 100_000;

fn change(balance: u64) -> AccountChange {
    AccountChange {
        fields: Some(AccountFields {
            nonce: 1,
            balance: U256::from(balance),
            code_hash: KECCAK256_EMPTY,
        }),
        wiped: false,
        storage: Default::default(),
    }
}

fn key(account: u64) -> B256 {
    keccak256(account.to_be_bytes())
}

pub(crate) fn measure(accounts: u64, updates: u64) -> Fallible<Value> {
    let store = MemoryStore::default();
    let mut trie = StateTrie::new(EMPTY_ROOT_HASH);
    let mut balances = std::collections::BTreeMap::new();
    let mut number = 0;
    for first in (0..accounts).step_by(CHUNK as usize) {
        let mut changes = StateChanges::default();
        for account in first..accounts.min(first + CHUNK) {
            changes.accounts.insert(key(account), change(account + 1));
            balances.insert(key(account), account + 1);
        }
        number += 1;
        apply(&store, &mut trie, number, &changes)?;
    }

    let mut seconds = Vec::new();
    let mut root = B256::ZERO;
    for block in 0..BLOCKS {
        let mut changes = StateChanges::default();
        for update in 0..updates {
            // Any account, by a hash, so that every block walks other paths.
            let drawn = keccak256((block * updates + update).to_le_bytes());
            let account = u64::from_be_bytes(drawn[..8].try_into()?) % accounts;
            let balance = accounts + block * updates + update;
            changes.accounts.insert(key(account), change(balance));
            balances.insert(key(account), balance);
        }
        number += 1;
        let snapshot = store.snapshot()?;
        let (spent, tries) = timed(|| Ok(trie.apply(&*snapshot, &changes)?))?;
        seconds.push(spent.as_secs_f64());
        root = tries.root;
        let mut batch = Batch::default();
        state::append(&mut batch, &*snapshot, number, &changes, &tries)?;
        drop(snapshot);
        store.commit(batch)?;
    }
    let rebuild = || -> Fallible<B256> {
        let mut builder = HashBuilder::default();
        for (key, balance) in &balances {
            let account =
                TrieAccount::new(1, U256::from(*balance), EMPTY_ROOT_HASH, KECCAK256_EMPTY);
            builder.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(account));
        }
        Ok(builder.root())
    };
    let mut rebuild_seconds = Vec::new();
    for _ in 0..REBUILDS {
        let (spent, rebuilt) = timed(rebuild)?;
        if rebuilt != root {
            return Err(format!("alloy-trie has {rebuilt}, we have {root}").into());
        }
        rebuild_seconds.push(spent.as_secs_f64());
    }
    Ok(json!({
        "accounts": accounts,
        "updates": updates,
        "seconds": median(&mut seconds),
        "rebuild_seconds": median(&mut rebuild_seconds),
    }))
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn apply(
    store: &MemoryStore,
    trie: &mut StateTrie,
    number: u64,
    changes: &StateChanges,
) -> Fallible<()> {
    let snapshot = store.snapshot()?;
    let tries = trie.apply(&*snapshot, changes)?;
    let mut batch = Batch::default();
    state::append(&mut batch, &*snapshot, number, changes, &tries)?;
    // The store in memory copies what a snapshot still holds.
    drop(snapshot);
    store.commit(batch)?;
    Ok(())
}
