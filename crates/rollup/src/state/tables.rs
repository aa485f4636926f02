//! Writing a block's state into the flat tables, and taking it back.

use super::{AccountChange, AccountLeaf, StateChanges, TrieChanges, decode_value, encode_value};
use crate::{
    error::{Error, Result},
    kv::{Batch, Snapshot, Table, prefix_end},
    trie::{NodeChange, NodeChanges, NodeSource},
};
use alloy_primitives::B256;
use alloy_trie::{HashBuilder, Nibbles, nodes::LeafNodeRef};
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
    fn node(&self, owner: Option<B256>, path: &Nibbles, _: B256) -> Result<Option<Vec<u8>>> {
        match self.get(Table::TrieNodes, &node_key(owner, path))? {
            Some(inner) => Ok(Some(inner)),
            None => leaf(self, owner, path),
        }
    }
}

/// The leaf at `path`: the one entry of the flat tables whose key begins with it.
fn leaf<S: Snapshot + ?Sized>(
    snapshot: &S,
    owner: Option<B256>,
    path: &Nibbles,
) -> Result<Option<Vec<u8>>> {
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
    let found = snapshot.first(table, &from, &to)?;
    Ok(found.map(|(key, value)| {
        let rest = Nibbles::unpack(&key[owner.len()..]).slice(path.len()..);
        alloy_rlp::encode(LeafNodeRef::new(&rest, &value))
    }))
}

fn put_nodes(batch: &mut Batch, owner: Option<B256>, nodes: &NodeChanges) {
    for (path, change) in nodes {
        match change {
            NodeChange::Inner(rlp) => {
                batch.put(Table::TrieNodes, node_key(owner, path), rlp.as_slice());
            }
            NodeChange::Leaf {
                over_inner: false, ..
            } => {}
            NodeChange::Leaf { .. } | NodeChange::Gone => {
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
/// and historical reads need. `before` is the snapshot the block was executed on.
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
            let old = before.get(Table::Storage, &key)?.unwrap_or_default();
            let new = if value.is_zero() {
                Vec::new()
            } else {
                encode_value(value)
            };
            if old == new {
                continue;
            }
            batch.put(Table::StorageHistory, at_block(&key, number), old);
            put_or_delete(batch, Table::Storage, key, new);
            index.slots.push((*hashed, slot));
        }
        if change.wiped || change.fields.is_none() {
            delete_nodes(batch, before, hashed)?;
        }
        if leaf.before != leaf.after {
            batch.put(
                Table::AccountHistory,
                at_block(hashed.as_slice(), number),
                leaf.before.as_slice(),
            );
            put_or_delete(batch, Table::Accounts, hashed.to_vec(), leaf.after.clone());
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

fn put_or_delete(batch: &mut Batch, table: Table, key: Vec<u8>, value: Vec<u8>) {
    if value.is_empty() {
        batch.delete(table, key);
    } else {
        batch.put(table, key, value);
    }
}

/// The changes that take block `number`'s state back, as if they were a block's own: applied to
/// the tries they give the parent's root. Also removes the block's history from the tables.
///
/// # Errors
/// When the snapshot cannot be read or the history is damaged.
pub fn unwind(batch: &mut Batch, now: &dyn Snapshot, number: u64) -> Result<StateChanges> {
    let changes = reverse(now, number)?;
    let index = ChangedKeys::read(now, number)?;
    for hashed in index.accounts {
        batch.delete(Table::AccountHistory, at_block(hashed.as_slice(), number));
    }
    for (hashed, slot) in index.slots {
        batch.delete(
            Table::StorageHistory,
            at_block(&slot_key(&hashed, &slot), number),
        );
    }
    batch.delete(Table::Changes, number.to_be_bytes());
    Ok(changes)
}

/// Writes the reversed changes of an unwound block into the flat tables and the node table.
///
/// # Errors
/// When the snapshot cannot be read.
pub(crate) fn rewind_tables(
    batch: &mut Batch,
    now: &dyn Snapshot,
    changes: &StateChanges,
    tries: &TrieChanges,
) -> Result<()> {
    for (hashed, change) in &changes.accounts {
        for (slot, value) in storage_writes(now, hashed, change)? {
            let new = if value.is_zero() {
                Vec::new()
            } else {
                encode_value(value)
            };
            put_or_delete(batch, Table::Storage, slot_key(hashed, &slot), new);
        }
        if change.fields.is_none() {
            delete_nodes(batch, now, hashed)?;
        }
        let leaf = leaf_of(tries, hashed)?;
        put_or_delete(batch, Table::Accounts, hashed.to_vec(), leaf.after.clone());
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
        let old = now
            .get(Table::AccountHistory, &at_block(hashed.as_slice(), number))?
            .ok_or_else(missing)?;
        let fields = if old.is_empty() {
            None
        } else {
            let account = super::decode_account(&old)?;
            Some(super::AccountFields {
                nonce: account.nonce,
                balance: account.balance,
                code_hash: account.code_hash,
            })
        };
        let change = AccountChange {
            fields,
            wiped: false,
            storage: BTreeMap::new(),
        };
        changes.accounts.insert(*hashed, change);
    }
    for (hashed, slot) in &index.slots {
        let old = now
            .get(
                Table::StorageHistory,
                &at_block(&slot_key(hashed, slot), number),
            )?
            .ok_or_else(missing)?;
        let value = if old.is_empty() {
            Default::default()
        } else {
            decode_value(&old)?
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
    snapshot.scan(Table::Accounts, &[], &end, &mut |key, leaf| {
        let account = super::decode_account(leaf)?;
        let mut storage = HashBuilder::default();
        snapshot.scan(Table::Storage, key, &prefix_end(key), &mut |slot, value| {
            storage.add_leaf(Nibbles::unpack(&slot[32..]), value);
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
        accounts.add_leaf(Nibbles::unpack(key), leaf);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(accounts.root())
}
