//! Reading accounts, code and storage at the head or at an earlier block.

use super::{
    AccountChange, StateChanges, code_or_empty, decode_value,
    tables::{self, at_block, split},
};
use crate::{
    error::{Error, Result},
    kv::{Snapshot, Table},
};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use revm::{DatabaseRef, bytecode::Bytecode, state::AccountInfo};
use std::sync::Arc;

/// The state after one block, on one snapshot of the tables.
///
/// A read is one lookup where the value was written by then. Otherwise it is the oldest value that
/// a *later* block wrote over, if that was written by then; if not, there was none.
#[derive(Debug, Clone)]
pub struct View {
    snapshot: Arc<dyn Snapshot>,
    at: Option<u64>,
    /// What has changed since.
    changes: Option<Arc<StateChanges>>,
}

impl View {
    /// The state at the snapshot's head.
    #[must_use]
    pub const fn latest(snapshot: Arc<dyn Snapshot>) -> Self {
        Self {
            snapshot,
            at: None,
            changes: None,
        }
    }

    /// The state after block `number`, which must not be above the snapshot's head.
    #[must_use]
    pub const fn at(snapshot: Arc<dyn Snapshot>, number: u64) -> Self {
        Self {
            snapshot,
            at: Some(number),
            changes: None,
        }
    }

    /// This state with changes that are in no table: those of a block that is still open. The
    /// storage roots of accounts stay what they were.
    #[must_use]
    pub fn with(mut self, changes: Arc<StateChanges>) -> Self {
        self.changes = Some(changes);
        self
    }

    fn change(&self, hashed: B256) -> Option<&AccountChange> {
        self.changes.as_ref()?.accounts.get(&hashed)
    }

    /// The snapshot this reads from.
    #[must_use]
    pub fn snapshot(&self) -> &dyn Snapshot {
        &*self.snapshot
    }

    fn row(&self, current: Table, history: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut row = self.snapshot.get(current, key)?;
        if let Some(at) = self.at {
            let by_then = |row: &Option<Vec<u8>>| -> Result<bool> {
                row.as_ref()
                    .map_or(Ok(false), |row| Ok(split(row)?.0 <= at))
            };
            if !by_then(&row)? {
                let (from, to) = (at_block(key, at + 1), at_block(key, u64::MAX));
                row = self
                    .snapshot
                    .first(history, &from, &to)?
                    .map(|(_, row)| row);
                if !by_then(&row)? {
                    return Ok(None);
                }
            }
        }
        Ok(row)
    }

    /// The account, with its storage root.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn account(&self, address: Address) -> Result<Option<TrieAccount>> {
        let hashed = keccak256(address);
        let stored = self
            .row(Table::Accounts, Table::AccountHistory, hashed.as_slice())?
            .map(|row| tables::account(&row))
            .transpose()?;
        let Some(change) = self.change(hashed) else {
            return Ok(stored);
        };
        Ok(change.fields.map(|fields| TrieAccount {
            nonce: fields.nonce,
            balance: fields.balance,
            code_hash: fields.code_hash,
            storage_root: stored.map_or(EMPTY_ROOT_HASH, |account| account.storage_root),
        }))
    }

    /// The balance in wei, zero for an absent account.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn balance(&self, address: Address) -> Result<U256> {
        Ok(self.account(address)?.map_or(U256::ZERO, |a| a.balance))
    }

    /// The nonce, zero for an absent account.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn nonce(&self, address: Address) -> Result<u64> {
        Ok(self.account(address)?.map_or(0, |a| a.nonce))
    }

    /// The code, empty for an account without.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn code(&self, address: Address) -> Result<Bytes> {
        let hash = self
            .account(address)?
            .and_then(|a| code_or_empty(a.code_hash));
        hash.map_or_else(|| Ok(Bytes::new()), |hash| self.code_by_hash(hash))
    }

    fn code_by_hash(&self, hash: B256) -> Result<Bytes> {
        if code_or_empty(hash).is_none() || hash.is_zero() {
            return Ok(Bytes::new());
        }
        let new = self.changes.as_ref().and_then(|c| c.codes.get(&hash));
        if let Some(code) = new {
            return Ok(code.clone());
        }
        let code = self.snapshot.get(Table::Code, hash.as_slice())?;
        code.map(Bytes::from)
            .ok_or_else(|| Error::corrupt("code", hash))
    }

    /// A storage value.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn storage_at(&self, address: Address, slot: U256) -> Result<U256> {
        let (owner, slot) = (keccak256(address), keccak256(slot.to_be_bytes::<32>()));
        if let Some(change) = self.change(owner) {
            match change.storage.get(&slot) {
                Some(value) => return Ok(*value),
                None if change.wiped => return Ok(U256::ZERO),
                None => {}
            }
        }
        let key = [owner.0, slot.0].concat();
        self.row(Table::Storage, Table::StorageHistory, &key)?
            .map_or(Ok(U256::ZERO), |row| decode_value(split(&row)?.1))
    }

    fn hash_of(&self, number: u64) -> Result<B256> {
        let header = self.snapshot.get(Table::Headers, &number.to_be_bytes())?;
        Ok(header
            .and_then(|h| h.get(..32).map(B256::from_slice))
            .unwrap_or_default())
    }
}

impl DatabaseRef for View {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>> {
        Ok(self.account(address)?.map(|a| AccountInfo {
            balance: a.balance,
            nonce: a.nonce,
            code_hash: a.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode> {
        Bytecode::new_raw_checked(self.code_by_hash(code_hash)?)
            .map_err(|e| Error::corrupt("code", e))
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256> {
        self.storage_at(address, index)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256> {
        self.hash_of(number)
    }
}
