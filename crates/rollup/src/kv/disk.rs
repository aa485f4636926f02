//! The disk store: redb, one file, one writer, copy-on-write B+trees.

use super::{Batch, Snapshot, Store, Table, Visitor};
use crate::error::{Error, Result};
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition,
};
use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};

type Bytes = &'static [u8];

const fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table.name())
}

fn db(error: impl fmt::Display) -> Error {
    Error::Database(error.to_string())
}

/// A [`Store`] in one redb file. A commit is durable (fsync) before it returns.
pub struct DiskStore {
    db: Database,
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").finish_non_exhaustive()
    }
}

impl DiskStore {
    /// Opens or creates `chain.redb` in `dir`, creating the directory.
    ///
    /// # Errors
    /// When the directory cannot be made, or the file is locked by another process or damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| Error::DataDir {
            path: dir.to_path_buf(),
            source,
        })?;
        let path = dir.join("chain.redb");
        let db = Database::builder()
            // Half for reads, half for dirty pages; the working set of a dev chain fits.
            .set_cache_size(128 << 20)
            .create(&path)
            .map_err(|e| Error::Database(format!("{}: {e}", path.display())))?;
        let store = Self { db };
        store.create_tables()?;
        Ok(store)
    }

    /// Makes every table exist, so that readers need no "table missing" case.
    fn create_tables(&self) -> Result<()> {
        let tx = self.db.begin_write().map_err(db)?;
        for table in Table::ALL {
            tx.open_table(definition(table)).map_err(db)?;
        }
        tx.commit().map_err(db)
    }
}

impl Store for DiskStore {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        let tx = self.db.begin_read().map_err(db)?;
        Ok(Arc::new(DiskSnapshot {
            tx,
            tables: Default::default(),
        }))
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let mut tx = self.db.begin_write().map_err(db)?;
        tx.set_durability(Durability::Immediate).map_err(db)?;
        for (table, writes) in batch.into_sorted() {
            let mut open = tx.open_table(definition(table)).map_err(db)?;
            for (key, value) in writes {
                match value {
                    Some(value) => open.insert(key.as_slice(), value.as_slice()).map(drop),
                    None => open.remove(key.as_slice()).map(drop),
                }
                .map_err(db)?;
            }
        }
        tx.commit().map_err(db)
    }
}

struct DiskSnapshot {
    tx: ReadTransaction,
    // Opening a table is a B-tree lookup by name; a snapshot pays it once per table it touches.
    tables: [OnceLock<ReadOnlyTable<Bytes, Bytes>>; Table::ALL.len()],
}

impl fmt::Debug for DiskSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSnapshot").finish_non_exhaustive()
    }
}

impl DiskSnapshot {
    fn table(&self, table: Table) -> Result<&ReadOnlyTable<Bytes, Bytes>> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.tx.open_table(definition(table)).map_err(db)?;
        Ok(cell.get_or_init(|| open))
    }
}

impl Snapshot for DiskSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .table(table)?
            .get(key)
            .map_err(db)?
            .map(|v| v.value().to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        for entry in self.table(table)?.range::<&[u8]>(from..to).map_err(db)? {
            let (key, value) = entry.map_err(db)?;
            if visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
