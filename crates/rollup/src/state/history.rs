//! The history of the state: taking blocks back, and pruning.

use super::{
    AccountChange, AccountFields, StateChanges, TrieChanges, decode_value,
    tables::{account, at_block, delete_nodes, put_nodes, slot_key, split, storage_writes},
};
use crate::{
    error::{Error, Result},
    kv::{Batch, Snapshot, Table},
};
use alloy_primitives::B256;
use std::collections::BTreeMap;

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
        deleted += 1 + index.accounts.len() + index.slots.len();
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
                Some(AccountFields {
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
pub(super) struct ChangedKeys {
    pub(super) accounts: Vec<B256>,
    pub(super) slots: Vec<(B256, B256)>,
}

impl ChangedKeys {
    /// Count of accounts (u32, big-endian), then 32 bytes per account, then 64 per slot.
    pub(super) fn encode(&self) -> Vec<u8> {
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
