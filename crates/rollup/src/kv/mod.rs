//! The table layer: ordered byte tables, snapshots, and atomic batches.
//!
//! Everything above this module is written against [`Store`] and [`Snapshot`], so the same state
//! and executor code runs on the disk store, on memory (tests) and, later, on a preimage oracle.
//! Writers never read their own writes: a block is computed on a snapshot and lands as one
//! [`Batch`], which is what makes a crash leave the last committed block and nothing else.

mod disk;
mod memory;

pub use disk::DiskStore;
pub use memory::MemoryStore;

use crate::error::Result;
use std::{fmt::Debug, ops::ControlFlow, sync::Arc};

/// The tables of the chain. Keys are concatenations of fixed-width big-endian parts, so that byte
/// order is the order we want to scan in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// `name -> bytes`: format of the tables, head, safe and finalized numbers.
    Meta,
    /// `keccak(address) -> block that wrote it ++ rlp([nonce, balance, storage root, code hash])`:
    /// the state of the head. Root and hash are empty strings where there is no storage or code.
    Accounts,
    /// `keccak(address) ++ keccak(slot) -> block that wrote it ++ rlp(value)`: the storage of the
    /// head.
    Storage,
    /// `code hash -> code`.
    Code,
    /// `owner ++ path -> leaves below ++ rlp(node)`: nodes of the account trie and of every storage
    /// trie that have more leaves than are read from the tables above when the node is needed.
    TrieNodes,
    /// `keccak(address) ++ block -> the row of Accounts that the block wrote over`.
    AccountHistory,
    /// `keccak(address) ++ keccak(slot) ++ block -> the row of Storage that the block wrote over`.
    StorageHistory,
    /// `block -> keys changed in it`, the index that unwinding walks.
    Changes,
    /// `block -> hash ++ rlp(header)`.
    Headers,
    /// `block hash -> block`.
    Numbers,
    /// `block -> rlp([transaction])`.
    Bodies,
    /// `block -> sender ++ sender ++ ...`, one per transaction.
    Senders,
    /// `block -> rlp([receipt without its bloom])`.
    Receipts,
    /// `transaction hash -> block (40 bits) ++ index (24 bits)`.
    Transactions,
    /// `block -> transactions ++ gas`, totals from genesis up to and including the block.
    Totals,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 15] = [
        Self::Meta,
        Self::Accounts,
        Self::Storage,
        Self::Code,
        Self::TrieNodes,
        Self::AccountHistory,
        Self::StorageHistory,
        Self::Changes,
        Self::Headers,
        Self::Numbers,
        Self::Bodies,
        Self::Senders,
        Self::Receipts,
        Self::Transactions,
        Self::Totals,
    ];

    /// The name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Accounts => "accounts",
            Self::Storage => "storage",
            Self::Code => "code",
            Self::TrieNodes => "trie_nodes",
            Self::AccountHistory => "account_history",
            Self::StorageHistory => "storage_history",
            Self::Changes => "changes",
            Self::Headers => "headers",
            Self::Numbers => "numbers",
            Self::Bodies => "bodies",
            Self::Senders => "senders",
            Self::Receipts => "receipts",
            Self::Transactions => "transactions",
            Self::Totals => "totals",
        }
    }
}

/// A key with its new value, `None` to remove it.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// One atomic set of writes; later entries for the same key win.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    writes: [Vec<Write>; Table::ALL.len()],
}

impl Batch {
    /// Stores `value` under `key`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes[table as usize].push((key.into(), Some(value.into())));
    }

    /// Removes `key`; removing an absent key is not an error.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes[table as usize].push((key.into(), None));
    }

    /// Number of writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.iter().map(Vec::len).sum()
    }

    /// Whether nothing would be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.iter().all(Vec::is_empty)
    }

    /// The writes of each table there are any of, sorted by key (stable, so the last write of a key
    /// stays last).
    fn into_sorted(self) -> impl Iterator<Item = (Table, Vec<Write>)> {
        let tables = Table::ALL.into_iter().zip(self.writes);
        tables
            .filter(|(_, writes)| !writes.is_empty())
            .map(|(table, mut writes)| {
                writes.sort_by(|a, b| a.0.cmp(&b.0));
                (table, writes)
            })
    }
}

/// What a scan calls for every entry, in key order.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// A consistent view of all tables at one commit.
pub trait Snapshot: Debug + Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Visits entries with `from <= key < to` in order until the visitor breaks.
    ///
    /// # Errors
    /// When the store cannot be read, or what the visitor returns.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()>;

    /// The first entry with `from <= key < to`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn first(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut found = None;
        self.scan(table, from, to, &mut |k, v| {
            found = Some((k.to_vec(), v.to_vec()));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

/// A transactional key-value store with one writer and many snapshot readers.
pub trait Store: Debug + Send + Sync {
    /// A view of the last commit; it does not change while it lives.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>>;

    /// Applies a batch: after a crash either all of it is there or none.
    ///
    /// # Errors
    /// When the store cannot be written; then nothing was.
    fn commit(&self, batch: Batch) -> Result<()>;
}

/// The exclusive upper bound of all keys starting with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    // All bytes were 0xff: no finite prefix bounds it, a longer run of 0xff does for our key widths.
    vec![u8::MAX; prefix.len() + 65]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn exercise(store: &dyn Store) {
        let mut batch = Batch::default();
        batch.put(Table::Meta, *b"a", *b"1");
        batch.put(Table::Meta, *b"b", *b"2");
        batch.put(Table::Meta, *b"b", *b"3");
        batch.put(Table::Code, *b"b", *b"other table");
        store.commit(batch).unwrap();
        let before = store.snapshot().unwrap();

        let mut batch = Batch::default();
        batch.delete(Table::Meta, *b"a");
        batch.delete(Table::Meta, *b"absent");
        store.commit(batch).unwrap();

        assert_eq!(
            before.get(Table::Meta, b"a").unwrap().as_deref(),
            Some(&b"1"[..])
        );
        assert_eq!(
            before.get(Table::Meta, b"b").unwrap().as_deref(),
            Some(&b"3"[..])
        );
        let after = store.snapshot().unwrap();
        assert_eq!(after.get(Table::Meta, b"a").unwrap(), None);
        let first = after.first(Table::Meta, b"", b"z").unwrap().unwrap();
        assert_eq!(first, (b"b".to_vec(), b"3".to_vec()));
        assert_eq!(after.first(Table::Meta, b"c", b"z").unwrap(), None);
    }

    #[test]
    fn memory_and_disk_agree() {
        exercise(&MemoryStore::default());
        let dir = tempfile::tempdir().unwrap();
        exercise(&DiskStore::open(dir.path()).unwrap());
    }

    #[test]
    fn a_second_process_cannot_open_the_same_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DiskStore::open(dir.path()).unwrap();
        let error = DiskStore::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("database"), "{error}");
    }

    #[test]
    fn prefix_end_is_the_next_prefix() {
        assert_eq!(prefix_end(&[1, 2]), vec![1, 3]);
        assert_eq!(prefix_end(&[1, 0xff]), vec![2]);
        assert!(prefix_end(&[0xff]) > vec![0xff; 60]);
    }
}
