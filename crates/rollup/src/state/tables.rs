//! Writing a block's state into the flat tables, and taking it back.

use super::{
    AccountChange, AccountLeaf, StateChanges, TrieChanges, decode_account, decode_value,
    encode_value,
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

fn put_nodes(batch: &mut Batch, owner: Option<B256>, nodes: &NodeChanges) {
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

fn slot_key(hashed: &B256, slot: &B256) -> Vec<u8> {
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
fn storage_writes(
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

fn delete_nodes(batch: &mut Batch, before: &dyn Snapshot, hashed: &B256) -> Result<()> {
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

/// Puts back the row that block `number` wrote over, if there was one.
fn restore(
    batch: &mut Batch,
    now: &dyn Snapshot,
    (table, history): (Table, Table),
    key: Vec<u8>,
    number: u64,
) -> Result<()> {
    match now.get(history, &at_block(&key, number))? {
        Some(row) => batch.put(table, key, row),
        None => batch.delete(table, key),
    }
    Ok(())
}

/// The changes that take block `number`'s state back, as if they were a block's own: applied to
/// the tries they give the parent's root. Also removes the block's history from the tables.
///
/// # Errors
/// When the snapshot cannot be read or the history is damaged.
pub fn unwind(batch: &mut Batch, now: &dyn Snapshot, number: u64) -> Result<StateChanges> {
    let changes = reverse(now, number)?;
    ChangedKeys::read(now, number)?.delete_history(batch, number);
    Ok(changes)
}

/// Deletes the history of the blocks after `from` and up to `until`, oldest first, in which case
/// the state can be read, and unwound to, from the block on whose number is returned. Ends early,
/// after a whole block, once that is more than `keys` rows; but two blocks are done in any case, so
/// that a call for each new block catches up.
///
/// # Errors
/// When the snapshot cannot be read or the history is damaged.
pub(crate) fn prune_history(
    batch: &mut Batch,
    now: &dyn Snapshot,
    (from, until): (u64, u64),
    keys: usize,
) -> Result<u64> {
    let mut deleted = 0;
    for number in from + 1..=until {
        if number > from + 2 && deleted > keys {
            return Ok(number - 1);
        }
        let index = ChangedKeys::read(now, number)?;
        deleted += index.accounts.len() + index.slots.len();
        index.delete_history(batch, number);
    }
    Ok(until.max(from))
}

/// Writes the reversed changes of the unwound block `number` into the flat tables and the node
/// table.
///
/// # Errors
/// When the snapshot cannot be read.
pub(crate) fn rewind_tables(
    batch: &mut Batch,
    now: &dyn Snapshot,
    number: u64,
    changes: &StateChanges,
    tries: &TrieChanges,
) -> Result<()> {
    let accounts = (Table::Accounts, Table::AccountHistory);
    let slots = (Table::Storage, Table::StorageHistory);
    for (hashed, change) in &changes.accounts {
        for slot in storage_writes(now, hashed, change)?.into_keys() {
            restore(batch, now, slots, slot_key(hashed, &slot), number)?;
        }
        if change.fields.is_none() {
            delete_nodes(batch, now, hashed)?;
        }
        restore(batch, now, accounts, hashed.to_vec(), number)?;
    }
    put_nodes(batch, None, &tries.account_nodes);
    for (owner, nodes) in &tries.storage_nodes {
        put_nodes(batch, Some(*owner), nodes);
    }
    Ok(())
}

/// What turns the state after block `number` into the state before it.
///
/// # Errors
/// When the snapshot cannot be read or the history is damaged.
fn reverse(now: &dyn Snapshot, number: u64) -> Result<StateChanges> {
    let index = ChangedKeys::read(now, number)?;
    let missing = || Error::corrupt("history", format_args!("block {number}"));
    let mut changes = StateChanges::default();
    for hashed in &index.accounts {
        let old = now.get(Table::AccountHistory, &at_block(hashed.as_slice(), number))?;
        let fields = match old {
            None => None,
            Some(row) => {
                let account = account(&row)?;
                Some(super::AccountFields {
                    nonce: account.nonce,
                    balance: account.balance,
                    code_hash: account.code_hash,
                })
            }
        };
        let change = AccountChange {
            fields,
            wiped: false,
            storage: BTreeMap::new(),
        };
        changes.accounts.insert(*hashed, change);
    }
    for (hashed, slot) in &index.slots {
        let key = at_block(&slot_key(hashed, slot), number);
        let value = match now.get(Table::StorageHistory, &key)? {
            None => Default::default(),
            Some(row) => decode_value(split(&row)?.1)?,
        };
        // A changed slot changes the storage root, so its account is in the index.
        let change = changes.accounts.get_mut(hashed).ok_or_else(missing)?;
        change.storage.insert(*slot, value);
    }
    Ok(changes)
}

/// What turns the state after block `head` into the state after the earlier block `target`.
///
/// # Errors
/// When the snapshot cannot be read or the history is damaged.
pub fn reverse_to(now: &dyn Snapshot, head: u64, target: u64) -> Result<StateChanges> {
    let mut all = StateChanges::default();
    for number in (target + 1..=head).rev() {
        for (hashed, change) in reverse(now, number)?.accounts {
            match all.accounts.get_mut(&hashed) {
                // The earlier block's old values are the older ones: they win.
                Some(later) => {
                    later.fields = change.fields;
                    later.storage.extend(change.storage);
                }
                None => {
                    all.accounts.insert(hashed, change);
                }
            }
        }
    }
    Ok(all)
}

/// The keys a block changed.
#[derive(Debug, Default)]
struct ChangedKeys {
    accounts: Vec<B256>,
    slots: Vec<(B256, B256)>,
}

impl ChangedKeys {
    /// Count of accounts (u32, big-endian), then 32 bytes per account, then 64 per slot.
    fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.accounts.len()).expect("a block's gas bounds its accounts");
        let mut out = count.to_be_bytes().to_vec();
        out.extend(self.accounts.iter().flat_map(|a| a.0));
        out.extend(self.slots.iter().flat_map(|(a, s)| [a.0, s.0].concat()));
        out
    }

    /// Deletes what block `number`, whose keys these are, wrote over, and the keys.
    fn delete_history(&self, batch: &mut Batch, number: u64) {
        for hashed in &self.accounts {
            batch.delete(Table::AccountHistory, at_block(hashed.as_slice(), number));
        }
        for (hashed, slot) in &self.slots {
            let key = at_block(&slot_key(hashed, slot), number);
            batch.delete(Table::StorageHistory, key);
        }
        batch.delete(Table::Changes, number.to_be_bytes());
    }

    fn read(snapshot: &dyn Snapshot, number: u64) -> Result<Self> {
        let bytes = snapshot
            .get(Table::Changes, &number.to_be_bytes())?
            .ok_or_else(|| Error::corrupt("history", format_args!("no changes of {number}")))?;
        let bad = || Error::corrupt("history", format_args!("changes of {number}"));
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        let accounts = usize::try_from(u32::from_be_bytes(*count)).map_err(|_| bad())? * 32;
        let (accounts, slots) = rest.split_at_checked(accounts).ok_or_else(bad)?;
        if !slots.len().is_multiple_of(64) {
            return Err(bad());
        }
        Ok(Self {
            accounts: accounts.chunks_exact(32).map(B256::from_slice).collect(),
            slots: slots
                .chunks_exact(64)
                .map(|s| (B256::from_slice(&s[..32]), B256::from_slice(&s[32..])))
                .collect(),
        })
    }
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
