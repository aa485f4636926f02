//! Writing a block's state into the flat tables.

use super::{
    AccountChange, AccountLeaf, StateChanges, TrieChanges, decode_account, encode_value,
    history::ChangedKeys,
};
use crate::{
    error::{Error, Result},
    kv::{Batch, Snapshot, Table, prefix_end},
    trie::{DERIVED, Found, NodeChange, NodeChanges, NodeSource},
};
use alloy_primitives::{B256, Bytes, KECCAK256_EMPTY, U256};
use alloy_rlp::{Decodable, RlpDecodable, RlpEncodable};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use std::{collections::BTreeMap, ops::ControlFlow};

/// Key of a trie node: a tag byte and the owner keep the account trie apart from storage tries,
/// one byte per nibble keeps paths in order.
pub(super) fn node_key(owner: Option<B256>, path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 32 + path.len());
    match owner {
        None => key.push(0),
        Some(owner) => {
            key.push(1);
            key.extend_from_slice(owner.as_slice());
        }
    }
    key.extend(path.to_vec());
    key
}

impl NodeSource for dyn Snapshot + '_ {
    fn node(&self, owner: Option<B256>, path: &Nibbles, _: B256) -> Result<Option<Found>> {
        let Some(row) = self.get(Table::TrieNodes, &node_key(owner, path))? else {
            return leaves(self, owner, path);
        };
        let (leaves, rlp) = split(&row)?;
        Ok(Some(Found::Node {
            rlp: rlp.to_vec(),
            leaves,
        }))
    }
}

/// The leaves of a subtree that is not stored: the entries of the flat tables whose keys begin with
/// its path. `None` if there are none, or more than such a subtree has.
fn leaves<S: Snapshot + ?Sized>(
    snapshot: &S,
    owner: Option<B256>,
    path: &Nibbles,
) -> Result<Option<Found>> {
    let (table, owner) = match &owner {
        None => (Table::Accounts, &[][..]),
        Some(owner) => (Table::Storage, owner.as_slice()),
    };
    // Half a byte at the end of the path: from its first key on, to the end of its last.
    let from = [owner, &path.pack()].concat();
    let mut last = path.pack();
    if let (1, Some(byte)) = (path.len() % 2, last.last_mut()) {
        *byte |= 0x0f;
    }
    let to = prefix_end(&[owner, &last].concat());
    let mut leaves = Vec::new();
    let mut many = false;
    snapshot.scan(table, &from, &to, &mut |key, row| {
        many = leaves.len() as u64 == DERIVED;
        if many {
            return Ok(ControlFlow::Break(()));
        }
        let value = match table {
            Table::Accounts => alloy_rlp::encode(account(row)?),
            _ => split(row)?.1.to_vec(),
        };
        leaves.push((B256::from_slice(&key[owner.len()..]), value));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((!many && !leaves.is_empty()).then_some(Found::Leaves(leaves)))
}

/// The number that a row begins with, and the rest: of accounts, slots and their history the block
/// that wrote the value, and the value; of nodes the leaves below, and the node.
pub(super) fn split(row: &[u8]) -> Result<(u64, &[u8])> {
    let (number, rest) = row
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::corrupt("row", format_args!("{row:02x?}")))?;
    Ok((u64::from_be_bytes(*number), rest))
}

/// The other way round.
fn join(number: u64, rest: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), rest].concat()
}

/// An account in its row. Most have neither storage nor code, and 64 bytes of hashes say so in the
/// trie; here the empty string does, as in the snapshots of geth.
#[derive(RlpEncodable, RlpDecodable)]
struct Slim {
    nonce: u64,
    balance: U256,
    storage_root: Bytes,
    code_hash: Bytes,
}

/// The account in a row of [`Table::Accounts`].
///
/// # Errors
/// When it is no such row.
pub fn account(row: &[u8]) -> Result<TrieAccount> {
    let bad =
        |e: &dyn std::fmt::Display| Error::corrupt("account", format_args!("{e}: {row:02x?}"));
    let slim = Slim::decode(&mut split(row)?.1).map_err(|e| bad(&e))?;
    let hash = |bytes: &[u8], empty| match bytes {
        [] => Ok(empty),
        _ => B256::try_from(bytes).map_err(|e| bad(&e)),
    };
    Ok(TrieAccount {
        nonce: slim.nonce,
        balance: slim.balance,
        storage_root: hash(&slim.storage_root, EMPTY_ROOT_HASH)?,
        code_hash: hash(&slim.code_hash, KECCAK256_EMPTY)?,
    })
}

/// What follows the number in the row of an account, from its trie leaf; nothing for none.
fn slim(leaf: &[u8]) -> Result<Vec<u8>> {
    if leaf.is_empty() {
        return Ok(Vec::new());
    }
    let account = decode_account(leaf)?;
    let bytes = |hash: B256, empty| match hash == empty {
        true => Bytes::new(),
        false => hash.into(),
    };
    Ok(alloy_rlp::encode(Slim {
        nonce: account.nonce,
        balance: account.balance,
        storage_root: bytes(account.storage_root, EMPTY_ROOT_HASH),
        code_hash: bytes(account.code_hash, KECCAK256_EMPTY),
    }))
}

pub(super) fn put_nodes(batch: &mut Batch, owner: Option<B256>, nodes: &NodeChanges) {
    for (path, change) in nodes {
        match change {
            NodeChange::Stored { rlp, leaves } => {
                batch.put(Table::TrieNodes, node_key(owner, path), join(*leaves, rlp));
            }
            NodeChange::Derived {
                over_stored: false, ..
            } => {}
            NodeChange::Derived { .. } | NodeChange::Gone => {
                batch.delete(Table::TrieNodes, node_key(owner, path));
            }
        }
    }
}

pub(super) fn slot_key(hashed: &B256, slot: &B256) -> Vec<u8> {
    [hashed.as_slice(), slot.as_slice()].concat()
}

pub(super) fn at_block(key: &[u8], block: u64) -> Vec<u8> {
    [key, &block.to_be_bytes()].concat()
}

/// Writes block `number`'s state: flat tables, trie nodes, code, and the old values that unwinding
/// and historical reads need. Where there was nothing before, nothing is kept: that follows from
/// the block that every value names as its own. `before` is the snapshot the block was executed on.
///
/// # Errors
/// When the snapshot cannot be read.
pub fn append(
    batch: &mut Batch,
    before: &dyn Snapshot,
    number: u64,
    changes: &StateChanges,
    tries: &TrieChanges,
) -> Result<()> {
    let mut index = ChangedKeys::default();
    for (hashed, change) in &changes.accounts {
        let leaf = leaf_of(tries, hashed)?;
        for (slot, value) in storage_writes(before, hashed, change)? {
            let key = slot_key(hashed, &slot);
            let old = before.get(Table::Storage, &key)?;
            let new = encode_value(value);
            let same = match &old {
                Some(row) => split(row)?.1 == new,
                None => new.is_empty(),
            };
            if same {
                continue;
            }
            if let Some(row) = old {
                batch.put(Table::StorageHistory, at_block(&key, number), row);
            }
            put_or_delete(batch, Table::Storage, key, number, &new);
            index.slots.push((*hashed, slot));
        }
        if change.wiped || change.fields.is_none() {
            delete_nodes(batch, before, hashed)?;
        }
        if leaf.before != leaf.after {
            if !leaf.before.is_empty() {
                let row = before.get(Table::Accounts, hashed.as_slice())?;
                let row = row.ok_or_else(|| Error::corrupt("accounts", hashed))?;
                batch.put(
                    Table::AccountHistory,
                    at_block(hashed.as_slice(), number),
                    row,
                );
            }
            put_account(batch, hashed, number, &leaf.after)?;
            index.accounts.push(*hashed);
        }
    }
    for (hash, code) in &changes.codes {
        batch.put(Table::Code, hash.as_slice(), code.as_ref());
    }
    put_nodes(batch, None, &tries.account_nodes);
    for (owner, nodes) in &tries.storage_nodes {
        put_nodes(batch, Some(*owner), nodes);
    }
    batch.put(Table::Changes, number.to_be_bytes(), index.encode());
    Ok(())
}

fn leaf_of<'a>(tries: &'a TrieChanges, hashed: &B256) -> Result<&'a AccountLeaf> {
    let leaf = tries.accounts.get(hashed);
    leaf.ok_or_else(|| Error::corrupt("tries", format_args!("changed account {hashed}")))
}

/// The slots a change writes: its own, and zero for everything else the account had when wiped.
pub(super) fn storage_writes(
    before: &dyn Snapshot,
    hashed: &B256,
    change: &AccountChange,
) -> Result<BTreeMap<B256, alloy_primitives::U256>> {
    let mut writes = BTreeMap::new();
    if change.wiped || change.fields.is_none() {
        before.scan(
            Table::Storage,
            hashed.as_slice(),
            &prefix_end(hashed.as_slice()),
            &mut |key, _| {
                writes.insert(B256::from_slice(&key[32..]), alloy_primitives::U256::ZERO);
                Ok(ControlFlow::Continue(()))
            },
        )?;
    }
    writes.extend(change.storage.iter().map(|(slot, value)| (*slot, *value)));
    Ok(writes)
}

pub(super) fn delete_nodes(batch: &mut Batch, before: &dyn Snapshot, hashed: &B256) -> Result<()> {
    let prefix = node_key(Some(*hashed), &Nibbles::new());
    before.scan(
        Table::TrieNodes,
        &prefix,
        &prefix_end(&prefix),
        &mut |key, _| {
            batch.delete(Table::TrieNodes, key);
            Ok(ControlFlow::Continue(()))
        },
    )
}

/// Writes a value of block `number`; an empty one is none.
fn put_or_delete(batch: &mut Batch, table: Table, key: Vec<u8>, number: u64, value: &[u8]) {
    if value.is_empty() {
        batch.delete(table, key);
    } else {
        batch.put(table, key, join(number, value));
    }
}

/// Writes what block `number` made of an account, given as its trie leaf; an empty one is none.
pub(crate) fn put_account(
    batch: &mut Batch,
    hashed: &B256,
    number: u64,
    leaf: &[u8],
) -> Result<()> {
    put_or_delete(
        batch,
        Table::Accounts,
        hashed.to_vec(),
        number,
        &slim(leaf)?,
    );
    Ok(())
}

/// Recomputes the state root from the flat tables alone, by one ordered scan through alloy-trie's
/// hash builder; also checks every account's storage root. Memory is bounded by the tries' depth.
/// This is the independent check of what the incremental trie maintains.
///
/// # Errors
/// When the snapshot cannot be read, or a stored storage root is wrong.
pub fn recompute_root(snapshot: &dyn Snapshot) -> Result<B256> {
    let end = vec![u8::MAX; 65];
    let mut accounts = HashBuilder::default();
    snapshot.scan(Table::Accounts, &[], &end, &mut |key, row| {
        let account = account(row)?;
        let mut storage = HashBuilder::default();
        snapshot.scan(Table::Storage, key, &prefix_end(key), &mut |slot, row| {
            storage.add_leaf(Nibbles::unpack(&slot[32..]), split(row)?.1);
            Ok(ControlFlow::Continue(()))
        })?;
        let root = storage.root();
        if root != account.storage_root {
            let hashed = B256::from_slice(key);
            return Err(Error::corrupt(
                "storage root",
                format_args!(
                    "{hashed}: stored {}, recomputed {root}",
                    account.storage_root
                ),
            ));
        }
        accounts.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(account));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(accounts.root())
}
