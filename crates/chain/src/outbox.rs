//! Where signed transactions wait, so that a crash can neither lose nor double one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{Bytes, hex, keccak256};

use crate::Error;

/// Signed transactions by the caller's key ("claims of epoch 7, part 2").
///
/// `put` must be durable when it returns.
pub trait Outbox: Send + Sync {
    /// The signed transaction under `key`.
    ///
    /// # Errors
    /// [`Error::Outbox`].
    fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// Stores a signed transaction. An existing entry is replaced.
    ///
    /// # Errors
    /// [`Error::Outbox`].
    fn put(&self, key: &str, raw: &Bytes) -> Result<(), Error>;

    /// Forgets an entry whose transaction is mined and recorded elsewhere.
    ///
    /// # Errors
    /// [`Error::Outbox`].
    fn remove(&self, key: &str) -> Result<(), Error>;
}

/// An outbox that dies with the process: for tests and for read-mostly tools.
#[derive(Debug, Default)]
pub struct MemoryOutbox(Mutex<BTreeMap<String, Bytes>>);

impl Outbox for MemoryOutbox {
    fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    fn put(&self, key: &str, raw: &Bytes) -> Result<(), Error> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.to_owned(), raw.clone());
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<(), Error> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        Ok(())
    }
}

/// An outbox of one file a transaction, named by the key's hash.
#[derive(Debug)]
pub struct FileOutbox {
    folder: PathBuf,
}

impl FileOutbox {
    /// An outbox in `folder`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::Outbox`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(fault(&folder, "create"))?;
        Ok(Self { folder })
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(hex::encode(keccak256(key)))
    }
}

fn fault(path: &Path, what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let context = format!("{what} {}", path.display());
    move |source| Error::Outbox { context, source }
}

impl Outbox for FileOutbox {
    fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let file = self.file(key);
        match fs::read(&file) {
            Ok(raw) => Ok(Some(raw.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fault(&file, "read")(e)),
        }
    }

    fn put(&self, key: &str, raw: &Bytes) -> Result<(), Error> {
        let file = self.file(key);
        // Written beside and renamed: a crash leaves the old entry or the new one, never half.
        let draft = file.with_extension("new");
        let write = || {
            let mut out = File::create(&draft)?;
            out.write_all(raw)?;
            out.sync_all()?;
            fs::rename(&draft, &file)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(fault(&file, "write"))
    }

    fn remove(&self, key: &str) -> Result<(), Error> {
        let file = self.file(key);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(fault(&file, "remove")(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn entries_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let raw = Bytes::from_static(b"signed");
        {
            let outbox = FileOutbox::open(folder.path().join("outbox")).unwrap();
            assert_eq!(outbox.get("a/b").unwrap(), None);
            outbox.put("a/b", &raw).unwrap();
        }
        let outbox = FileOutbox::open(folder.path().join("outbox")).unwrap();
        assert_eq!(outbox.get("a/b").unwrap(), Some(raw));
        outbox.remove("a/b").unwrap();
        outbox.remove("a/b").unwrap();
        assert_eq!(outbox.get("a/b").unwrap(), None);
    }
}
