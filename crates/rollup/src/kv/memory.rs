//! The memory store: copy-on-write maps, for tests and for replay without a disk.

use super::{Batch, Snapshot, Store, Table, Visitor};
use crate::error::Result;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A [`Store`] in memory. Snapshots share tables until the next write to them.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: RwLock<[Arc<Map>; Table::ALL.len()]>,
}

#[derive(Debug)]
struct MemorySnapshot {
    tables: [Arc<Map>; Table::ALL.len()],
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        let tables = self
            .tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Arc::new(MemorySnapshot { tables }))
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for (table, writes) in batch.into_sorted() {
            let map = Arc::make_mut(&mut tables[table as usize]);
            for (key, value) in writes {
                match value {
                    Some(value) => map.insert(key, value),
                    None => map.remove(&key),
                };
            }
        }
        Ok(())
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.tables[table as usize].get(key).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.tables[table as usize].range::<[u8], _>((
            std::ops::Bound::Included(from),
            std::ops::Bound::Excluded(to),
        )) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
