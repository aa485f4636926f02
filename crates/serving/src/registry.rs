//! The adapters of an engine: many registered, as many resident as the memory bound allows.
//!
//! An adapter's identity is the content root of its weights file. The same root names it in
//! receipts and on chain and keys the scheduler's fairness, so new weights under an old name can
//! never be mistaken for the old ones. Replacing a name makes a new generation; requests in flight
//! keep the one they began with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openledger_model::{Adapter, Config};
use openledger_primitives::{B256, merkle};

use crate::Error;

/// Resident weights of one generation.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) name: String,
    pub(crate) weights: B256,
    pub(crate) adapter: Adapter,
}

/// A registered adapter, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// The name requests use.
    pub name: String,
    /// Where its files are.
    pub directory: PathBuf,
    /// Content root of `adapter_model.safetensors`.
    pub weights: B256,
    /// Content root of `adapter_config.json`.
    pub config: B256,
    /// Counts up, over all adapters, with each registration of new weights.
    pub generation: u64,
    /// Rank of the update.
    pub rank: usize,
    /// Bytes of its weights in memory.
    pub bytes: usize,
    /// Whether they are in memory now.
    pub resident: bool,
}

#[derive(Debug)]
struct Entry {
    info: AdapterInfo,
    resident: Option<Arc<Resident>>,
    used: u64,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<String, Entry>,
    generation: u64,
    clock: u64,
    loads: u64,
    evictions: u64,
    load_seconds: f64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AdapterStats {
    /// Adapters registered.
    pub registered: usize,
    /// Adapters in memory.
    pub resident: usize,
    /// Bytes of their weights.
    pub bytes: usize,
    /// Loads from disk.
    pub loads: u64,
    /// Adapters put out of memory to make room.
    pub evictions: u64,
    /// Seconds spent loading.
    pub load_seconds: f64,
}

/// The adapters one engine knows. All methods can be called from any thread while it serves.
#[derive(Debug)]
pub struct Adapters {
    config: Config,
    limit: usize,
    table: Mutex<Table>,
}

/// Memory of an adapter: its parameters and their packed copies.
fn memory(adapter: &Adapter) -> usize {
    2 * adapter.bytes()
}

fn read(directory: &Path) -> Result<(B256, B256), Error> {
    let root = |name: &str| -> Result<B256, Error> {
        let bytes = openledger_store::read(&directory.join(name))?;
        Ok(merkle::chunk_root(&bytes))
    };
    Ok((
        root("adapter_model.safetensors")?,
        root("adapter_config.json")?,
    ))
}

impl Adapters {
    pub(crate) fn new(config: Config, limit: usize) -> Self {
        Self {
            config,
            limit,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that holds the lock leaves the table half changed, so a panic elsewhere does
        // not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the PEFT adapter in `directory` under `name` and loads it once, so that a bad
    /// file is refused now and not at the first request. Loading what is already registered
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if `name` serves other weights; [`Error::Model`] or [`Error::Store`] if
    /// the files are missing, damaged or made for another base.
    pub fn load(&self, name: &str, directory: &Path) -> Result<AdapterInfo, Error> {
        self.register(name, directory, false)
    }

    /// As [`Adapters::load`], but new weights take the place of old ones of the same name.
    ///
    /// # Errors
    /// As [`Adapters::load`], less [`Error::NameTaken`].
    pub fn replace(&self, name: &str, directory: &Path) -> Result<AdapterInfo, Error> {
        self.register(name, directory, true)
    }

    fn register(&self, name: &str, directory: &Path, replace: bool) -> Result<AdapterInfo, Error> {
        if name.is_empty() || name.len() > 200 {
            return Err(Error::parameter("model", name, "a name of 1 to 200 bytes"));
        }
        let begun = Instant::now();
        let (weights, config) = read(directory)?;
        if let Some(entry) = self.table().entries.get(name) {
            if entry.info.weights == weights && entry.info.config == config {
                return Ok(entry.info.clone());
            }
            if !replace {
                return Err(Error::NameTaken {
                    name: name.to_owned(),
                    current: entry.info.weights,
                    offered: weights,
                });
            }
        }
        // Not under the lock: other requests go on while the file is read.
        let adapter = Adapter::load_peft(directory, &self.config)?;
        let mut table = self.table();
        table.generation += 1;
        table.clock += 1;
        table.loads += 1;
        table.load_seconds += begun.elapsed().as_secs_f64();
        let info = AdapterInfo {
            name: name.to_owned(),
            directory: directory.to_owned(),
            weights,
            config,
            generation: table.generation,
            rank: adapter.config.rank,
            bytes: memory(&adapter),
            resident: true,
        };
        let entry = Entry {
            resident: Some(Arc::new(Resident {
                name: name.to_owned(),
                weights,
                adapter,
            })),
            info: info.clone(),
            used: table.clock,
        };
        table.entries.insert(name.to_owned(), entry);
        evict(&mut table, self.limit, name);
        Ok(info)
    }

    /// Forgets `name`. Requests in flight finish with its weights.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it is not registered.
    pub fn unload(&self, name: &str) -> Result<(), Error> {
        match self.table().entries.remove(name) {
            Some(_) => Ok(()),
            None => Err(unknown(name)),
        }
    }

    /// All registered adapters by name.
    pub fn list(&self) -> Vec<AdapterInfo> {
        let table = self.table();
        table.entries.values().map(describe).collect()
    }

    /// One registered adapter.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it is not registered.
    pub fn get(&self, name: &str) -> Result<AdapterInfo, Error> {
        let table = self.table();
        table
            .entries
            .get(name)
            .map(describe)
            .ok_or_else(|| unknown(name))
    }

    /// Counters.
    pub fn stats(&self) -> AdapterStats {
        let table = self.table();
        let resident = || table.entries.values().filter(|e| e.resident.is_some());
        AdapterStats {
            registered: table.entries.len(),
            resident: resident().count(),
            bytes: resident().map(|entry| entry.info.bytes).sum(),
            loads: table.loads,
            evictions: table.evictions,
            load_seconds: table.load_seconds,
        }
    }

    /// The weights behind `name`, read back from disk if they had been put out of memory.
    pub(crate) fn acquire(&self, name: &str) -> Result<Arc<Resident>, Error> {
        let (directory, expected, config) = {
            let mut table = self.table();
            table.clock += 1;
            let clock = table.clock;
            let entry = table.entries.get_mut(name).ok_or_else(|| unknown(name))?;
            entry.used = clock;
            if let Some(resident) = &entry.resident {
                return Ok(Arc::clone(resident));
            }
            let info = &entry.info;
            (info.directory.clone(), info.weights, info.config)
        };
        let begun = Instant::now();
        let (weights, found_config) = read(&directory)?;
        if (weights, found_config) != (expected, config) {
            return Err(Error::AdapterChanged {
                path: directory,
                expected,
                found: weights,
            });
        }
        let resident = Arc::new(Resident {
            name: name.to_owned(),
            weights,
            adapter: Adapter::load_peft(&directory, &self.config)?,
        });
        let mut table = self.table();
        table.loads += 1;
        table.load_seconds += begun.elapsed().as_secs_f64();
        if let Some(entry) = table.entries.get_mut(name)
            && entry.info.weights == weights
        {
            entry.resident = Some(Arc::clone(&resident));
            evict(&mut table, self.limit, name);
        }
        Ok(resident)
    }
}

fn unknown(name: &str) -> Error {
    Error::UnknownModel {
        name: name.to_owned(),
    }
}

fn describe(entry: &Entry) -> AdapterInfo {
    AdapterInfo {
        resident: entry.resident.is_some(),
        ..entry.info.clone()
    }
}

/// Puts least recently used adapters out of memory until the rest fits; never `keep`, and never
/// one that a request uses (its weights would stay in memory anyway).
fn evict(table: &mut Table, limit: usize, keep: &str) {
    let idle = |entry: &Entry| {
        entry
            .resident
            .as_ref()
            .is_some_and(|resident| Arc::strong_count(resident) == 1)
    };
    loop {
        let held: usize = table
            .entries
            .values()
            .filter(|entry| entry.resident.is_some())
            .map(|entry| entry.info.bytes)
            .sum();
        if held <= limit {
            return;
        }
        let oldest = table
            .entries
            .iter_mut()
            .filter(|(name, entry)| name.as_str() != keep && idle(entry))
            .min_by_key(|(_, entry)| entry.used);
        let Some((_, entry)) = oldest else { return };
        entry.resident = None;
        table.evictions += 1;
    }
}
