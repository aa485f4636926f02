//! Documents, records and append-only logs in one transactional file.

use std::path::Path;
use std::sync::Arc;

use openledger_primitives::{B256, Record};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Reopening, Result};

/// `(collection, key) -> JSON`.
const DOCUMENTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("documents");
/// `digest -> ABI encoding`.
const RECORDS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("records");
/// `(log, sequence) -> JSON`.
const LOGS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("logs");

/// The catalogue of one node. Cheap to clone; all clones share one database.
///
/// Reads see the last committed state and never wait. Writes are one at a time, and
/// [`Catalogue::write`] returns after its transaction is on disk.
#[derive(Clone, Debug)]
pub struct Catalogue {
    db: Arc<Reopening>,
}

/// An open write transaction; nothing of it is visible before it commits.
pub struct Transaction {
    tx: WriteTransaction,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl Catalogue {
    /// Opens the catalogue in the file `path`, creating it if it is missing.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::Database`] if the file is
    /// damaged or unreadable.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|source| Error::File {
                action: "create the directory of",
                path: path.to_path_buf(),
                source,
            })?;
        }
        let file = path.to_path_buf();
        Self::new(move || Database::create(&file)).map_err(|error| match error {
            Error::Database(error) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => {
                Error::InUse {
                    path: path.to_path_buf(),
                }
            }
            other => other,
        })
    }

    fn new(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self> {
        let db = Arc::new(Reopening::new(open).map_err(database)?);
        let catalogue = Self { db };
        // Reads of a fresh catalogue find empty tables instead of missing ones.
        catalogue.write(|tx| {
            tx.tx.open_table(DOCUMENTS).map_err(database)?;
            tx.tx.open_table(RECORDS).map_err(database)?;
            tx.tx.open_table(LOGS).map_err(database)?;
            Ok(())
        })?;
        Ok(catalogue)
    }

    /// Runs `body` in one transaction: committed durably if it returns `Ok`, undone otherwise.
    ///
    /// # Errors
    /// Whatever `body` returns, or [`Error::Database`] if the commit fails.
    pub fn write<T>(&self, body: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
        let db = self.db.database().map_err(database)?;
        let written = transact(&db, body);
        drop(db);
        if let Err(Error::Database(_)) = written {
            self.db.reopen();
        }
        written
    }

    /// A view of the last commit.
    fn read(&self) -> Result<ReadTransaction> {
        let db = self.db.database().map_err(database)?;
        db.begin_read().map_err(database)
    }

    /// The document `key` of `collection`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, collection: &str, key: &str) -> Result<Option<T>> {
        let tx = self.read()?;
        let table = tx.open_table(DOCUMENTS).map_err(database)?;
        table
            .get((collection, key))
            .map_err(database)?
            .map(|bytes| parse(collection, key, bytes.value()))
            .transpose()
    }

    /// All documents of `collection` with their keys, in key order.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is not a `T`.
    pub fn list<T: DeserializeOwned>(&self, collection: &str) -> Result<Vec<(String, T)>> {
        let tx = self.read()?;
        let table = tx.open_table(DOCUMENTS).map_err(database)?;
        let mut found = Vec::new();
        for entry in table.range((collection, "")..).map_err(database)? {
            let (key, bytes) = entry.map_err(database)?;
            let (in_collection, key) = key.value();
            if in_collection != collection {
                break;
            }
            found.push((key.to_owned(), parse(collection, key, bytes.value())?));
        }
        Ok(found)
    }

    /// The record with this digest.
    ///
    /// # Errors
    /// [`Error::Record`] if the stored bytes are not an `R`.
    pub fn record<R: Record>(&self, digest: &B256) -> Result<Option<R>> {
        let tx = self.read()?;
        let table = tx.open_table(RECORDS).map_err(database)?;
        table
            .get(digest.0)
            .map_err(database)?
            .map(|bytes| {
                R::decode(bytes.value()).map_err(|error| Error::Record {
                    digest: *digest,
                    reason: error.to_string(),
                })
            })
            .transpose()
    }

    /// Entries `from..` of `log` with their sequence numbers, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is not a `T`.
    pub fn tail<T: DeserializeOwned>(
        &self,
        log: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, T)>> {
        let tx = self.read()?;
        let table = tx.open_table(LOGS).map_err(database)?;
        let mut found = Vec::new();
        for entry in table
            .range((log, from)..=(log, u64::MAX))
            .map_err(database)?
            .take(limit)
        {
            let (key, bytes) = entry.map_err(database)?;
            let sequence = key.value().1;
            found.push((sequence, parse(log, &sequence.to_string(), bytes.value())?));
        }
        Ok(found)
    }

    /// The last `limit` entries of `log`, newest first.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is not a `T`.
    pub fn latest<T: DeserializeOwned>(&self, log: &str, limit: usize) -> Result<Vec<(u64, T)>> {
        let tx = self.read()?;
        let table = tx.open_table(LOGS).map_err(database)?;
        let mut found = Vec::new();
        for entry in table
            .range((log, 0)..=(log, u64::MAX))
            .map_err(database)?
            .rev()
            .take(limit)
        {
            let (key, bytes) = entry.map_err(database)?;
            let sequence = key.value().1;
            found.push((sequence, parse(log, &sequence.to_string(), bytes.value())?));
        }
        Ok(found)
    }

    /// Number of entries ever appended to `log`.
    ///
    /// # Errors
    /// [`Error::Database`] if the file cannot be read.
    pub fn len(&self, log: &str) -> Result<u64> {
        let tx = self.read()?;
        next_sequence(&tx.open_table(LOGS).map_err(database)?, log)
    }

    /// Whether the catalogue holds nothing at all.
    ///
    /// # Errors
    /// [`Error::Database`] if the file cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        let tx = self.read()?;
        Ok(tx
            .open_table(DOCUMENTS)
            .map_err(database)?
            .is_empty()
            .map_err(database)?
            && tx
                .open_table(RECORDS)
                .map_err(database)?
                .is_empty()
                .map_err(database)?
            && tx
                .open_table(LOGS)
                .map_err(database)?
                .is_empty()
                .map_err(database)?)
    }
}

fn transact<T>(db: &Database, body: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
    let mut tx = Transaction {
        tx: db.begin_write().map_err(database)?,
    };
    let value = body(&mut tx)?;
    tx.tx.commit().map_err(database)?;
    Ok(value)
}

impl Transaction {
    /// Sets the document `key` of `collection`.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Shape`] if `value` has no JSON form.
    pub fn put<T: Serialize + ?Sized>(
        &mut self,
        collection: &str,
        key: &str,
        value: &T,
    ) -> Result<()> {
        let bytes = render(collection, key, value)?;
        let mut table = self.tx.open_table(DOCUMENTS).map_err(database)?;
        table
            .insert((collection, key), bytes.as_slice())
            .map_err(database)?;
        Ok(())
    }

    /// The document `key` of `collection` as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, collection: &str, key: &str) -> Result<Option<T>> {
        let table = self.tx.open_table(DOCUMENTS).map_err(database)?;
        table
            .get((collection, key))
            .map_err(database)?
            .map(|bytes| parse(collection, key, bytes.value()))
            .transpose()
    }

    /// Removes the document `key` of `collection`, if it is there.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remove(&mut self, collection: &str, key: &str) -> Result<()> {
        let mut table = self.tx.open_table(DOCUMENTS).map_err(database)?;
        table.remove((collection, key)).map_err(database)?;
        Ok(())
    }

    /// Stores `record` under its digest, which is returned.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn put_record<R: Record>(&mut self, record: &R) -> Result<B256> {
        let digest = record.digest();
        let mut table = self.tx.open_table(RECORDS).map_err(database)?;
        table
            .insert(digest.0, record.encode().as_slice())
            .map_err(database)?;
        Ok(digest)
    }

    /// Appends `value` to `log` and returns its sequence number: 0, 1, 2, ... without gaps.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Shape`] if `value` has no JSON form.
    pub fn append<T: Serialize + ?Sized>(&mut self, log: &str, value: &T) -> Result<u64> {
        let mut table = self.tx.open_table(LOGS).map_err(database)?;
        let sequence = next_sequence(&table, log)?;
        let bytes = render(log, &sequence.to_string(), value)?;
        table
            .insert((log, sequence), bytes.as_slice())
            .map_err(database)?;
        Ok(sequence)
    }

    /// Sets entry `sequence` of `log`, which may be there already: for logs whose entries have a
    /// number of their own and can be written again.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Shape`] if `value` has no JSON form.
    pub fn set<T: Serialize + ?Sized>(
        &mut self,
        log: &str,
        sequence: u64,
        value: &T,
    ) -> Result<()> {
        let bytes = render(log, &sequence.to_string(), value)?;
        let mut table = self.tx.open_table(LOGS).map_err(database)?;
        table
            .insert((log, sequence), bytes.as_slice())
            .map_err(database)?;
        Ok(())
    }

    /// Removes the entries `from..` of `log`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn cut(&mut self, log: &str, from: u64) -> Result<()> {
        let mut table = self.tx.open_table(LOGS).map_err(database)?;
        table
            .retain_in((log, from)..=(log, u64::MAX), |_, _| false)
            .map_err(database)
    }
}

fn next_sequence(
    table: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    log: &str,
) -> Result<u64> {
    let last = table
        .range((log, 0)..=(log, u64::MAX))
        .map_err(database)?
        .next_back();
    Ok(match last {
        None => 0,
        Some(entry) => entry.map_err(database)?.0.value().1 + 1,
    })
}

fn render<T: Serialize + ?Sized>(collection: &str, key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| shape(collection, key, source))
}

fn parse<T: DeserializeOwned>(collection: &str, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| shape(collection, key, source))
}

fn shape(collection: &str, key: &str, source: serde_json::Error) -> Error {
    Error::Shape {
        collection: collection.to_owned(),
        key: key.to_owned(),
        source,
    }
}

fn database(error: impl Into<redb::Error>) -> Error {
    Error::Database(Box::new(error.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use openledger_primitives::records::Claim;
    use redb::{StorageBackend, backends::FileBackend};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    fn fresh() -> (tempfile::TempDir, Catalogue) {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&dir.path().join("c.redb")).unwrap();
        (dir, catalogue)
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let (_dir, catalogue) = fresh();
        let outcome: Result<()> = catalogue.write(|tx| {
            tx.put("stage", "ingest", &1)?;
            tx.append("log", "entry")?;
            Err(Error::Aborted("no".into()))
        });
        assert!(matches!(outcome, Err(Error::Aborted(_))));
        assert!(catalogue.is_empty().unwrap());
    }

    #[test]
    fn logs_count_from_zero_without_gaps_and_do_not_mix() {
        let (_dir, catalogue) = fresh();
        for n in 0..5u64 {
            let sequence = catalogue.write(|tx| tx.append("a", &(n * 10))).unwrap();
            assert_eq!(sequence, n);
            catalogue.write(|tx| tx.append("ab", &n)).unwrap();
        }
        assert_eq!(
            catalogue.tail::<u64>("a", 3, 10).unwrap(),
            [(3, 30), (4, 40)]
        );
        assert_eq!(catalogue.latest::<u64>("a", 2).unwrap(), [(4, 40), (3, 30)]);
        assert_eq!(catalogue.len("a").unwrap(), 5);
        assert_eq!(catalogue.len("none").unwrap(), 0);
    }

    #[test]
    fn a_log_can_be_cut_back_and_written_again() {
        let (_dir, catalogue) = fresh();
        let fill = |from: u64, to: u64, log: &str| {
            let steps = (from..to).map(|n| (n, n * 2));
            catalogue
                .write(|tx| {
                    steps
                        .into_iter()
                        .try_for_each(|(n, value)| tx.set(log, n, &value))
                })
                .unwrap();
        };
        fill(0, 6, "run");
        fill(0, 6, "run-1");
        catalogue.write(|tx| tx.cut("run", 3)).unwrap();
        assert_eq!(catalogue.len("run").unwrap(), 3);
        fill(2, 5, "run");
        let values = catalogue.tail::<u64>("run", 1, 9).unwrap();
        assert_eq!(values, [(1, 2), (2, 4), (3, 6), (4, 8)]);
        assert_eq!(catalogue.len("run-1").unwrap(), 6, "another log");
    }

    #[test]
    fn collections_do_not_mix() {
        let (_dir, catalogue) = fresh();
        catalogue
            .write(|tx| {
                tx.put("a", "y", &1)?;
                tx.put("a", "x", &2)?;
                tx.put("b", "x", &3)
            })
            .unwrap();
        assert_eq!(
            catalogue.list::<i32>("a").unwrap(),
            [("x".into(), 2), ("y".into(), 1)]
        );
        assert_eq!(catalogue.get::<i32>("b", "x").unwrap(), Some(3));
        let wrong = catalogue.get::<String>("b", "x").unwrap_err().to_string();
        assert!(wrong.contains("b/x"), "{wrong}");
    }

    #[test]
    fn records_come_back_by_digest_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.redb");
        let claim = Claim {
            cumulative: 9,
            ..Default::default()
        };
        let digest = {
            let catalogue = Catalogue::open(&path).unwrap();
            catalogue.write(|tx| tx.put_record(&claim)).unwrap()
        };
        let catalogue = Catalogue::open(&path).unwrap();
        assert_eq!(catalogue.record::<Claim>(&digest).unwrap(), Some(claim));
        assert_eq!(catalogue.record::<Claim>(&B256::ZERO).unwrap(), None);
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let (dir, _catalogue) = fresh();
        let error = Catalogue::open(&dir.path().join("c.redb")).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }

    /// A file whose writes fail while its disk is full.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> std::io::Result<()> {
            if self.full.load(SeqCst) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> std::io::Result<u64> {
            self.file.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.file.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.room()?;
            self.file.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.room()?;
            self.file.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.room()?;
            self.file.write(offset, data)
        }
        fn close(&self) -> std::io::Result<()> {
            self.file.close()
        }
    }

    /// A full disk costs the write that met it: what was there is there, and with room again the
    /// next one goes through, without a restart.
    #[test]
    fn a_full_disk_is_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.redb");
        let full = Arc::new(AtomicBool::new(false));
        let disk = Arc::clone(&full);
        let catalogue = Catalogue::new(move || {
            let mut options = std::fs::File::options();
            options.read(true).write(true).create(true).truncate(false);
            let file = FileBackend::new(options.open(&path).unwrap())?;
            let full = Arc::clone(&disk);
            Database::builder().create_with_backend(Disk { file, full })
        })
        .unwrap();
        let put = |n: u64| catalogue.write(|tx| tx.put("stage", "n", &n));
        for n in 0..10 {
            put(n).unwrap();
            full.store(true, SeqCst);
            let failed = put(100);
            assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
            full.store(false, SeqCst);
            catalogue.db.reopen();
            assert_eq!(catalogue.get("stage", "n").unwrap(), Some(n));
        }
    }
}
