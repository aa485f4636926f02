//! Payloads on the disk, each for a while.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use openledger_primitives::B256;
use openledger_store::{Blobs, Error};

/// Payloads by digest, in one folder of [`Blobs`] per span of time.
///
/// A folder is named after the second in which it was begun, and takes what is put until the next
/// one begins. So *when* a payload was put needs no record of its own that could be lost or
/// disagree, and deleting what is old is deleting whole folders: those whose **successor** began
/// longer ago than the retention. A payload that is put again lands in the newest folder again,
/// which renews it.
#[derive(Debug)]
pub(crate) struct Vault {
    root: PathBuf,
    /// Oldest first.
    folders: RwLock<Vec<Folder>>,
    /// Puts and sweeps take turns.
    turn: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Folder {
    begun: u64,
    blobs: Blobs,
}

impl Vault {
    /// The payloads below `root`, which is created if it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(|source| fail("create", root, source))?;
        let mut folders = Vec::new();
        for entry in fs::read_dir(root).map_err(|source| fail("list", root, source))? {
            let entry = entry.map_err(|source| fail("list", root, source))?;
            let name = entry.file_name();
            if let Some(begun) = name.to_str().and_then(|name| name.parse().ok()) {
                let blobs = Blobs::open(entry.path())?;
                folders.push(Folder { begun, blobs });
            }
        }
        folders.sort_by_key(|folder| folder.begun);
        Ok(Self {
            root: root.to_owned(),
            folders: RwLock::new(folders),
            turn: Mutex::new(()),
        })
    }

    /// Stores `payload` at second `now` durably. A folder takes payloads for `span` seconds.
    pub(crate) fn put(&self, payload: &[u8], now: u64, span: u64) -> Result<B256, Error> {
        let _turn = self.turn();
        let blobs = self.newest(now, span)?;
        let digest = blobs.put(payload)?;
        // The store syncs the blob's own directory; that this one is below it must last as well.
        sync(blobs.root())?;
        Ok(digest)
    }

    /// The payload with this digest, if it is here.
    pub(crate) fn get(&self, digest: &B256) -> Result<Option<Vec<u8>>, Error> {
        let mut corrupt = None;
        for folder in self.folders().into_iter().rev() {
            match folder.blobs.get(digest) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                // A sweep may take a folder while it is read; an older copy may be whole.
                Err(Error::File { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => corrupt = Some(error),
            }
        }
        corrupt.map_or(Ok(None), Err)
    }

    /// Deletes what was put before `now - retention`, a folder at a time, and says how many
    /// folders went. What is younger stays.
    pub(crate) fn sweep(&self, now: u64, span: u64, retention: u64) -> Result<usize, Error> {
        let _turn = self.turn();
        // The last folder's end is only known once it has a successor.
        if !self.folders().is_empty() {
            self.newest(now, span)?;
        }
        let folders = self.folders();
        let old = folders
            .windows(2)
            .take_while(|pair| pair[1].begun.saturating_add(retention) < now)
            .count();
        let mut known = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        known.drain(..old);
        drop(known);
        for folder in &folders[..old] {
            let path = folder.blobs.root();
            fs::remove_dir_all(path).map_err(|source| fail("remove", path, source))?;
        }
        Ok(old)
    }

    /// The folder for a payload put at `now`. Only for who has the turn.
    fn newest(&self, now: u64, span: u64) -> Result<Blobs, Error> {
        // A clock that goes backwards finds the newest folder still good.
        if let Some(folder) = self.folders().pop()
            && now < folder.begun.saturating_add(span)
        {
            return Ok(folder.blobs);
        }
        let blobs = Blobs::open(self.root.join(now.to_string()))?;
        sync(&self.root)?;
        let folder = Folder {
            begun: now,
            blobs: blobs.clone(),
        };
        self.folders
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(folder);
        Ok(blobs)
    }

    fn folders(&self) -> Vec<Folder> {
        self.folders
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| fail("sync", directory, source))
}

fn fail(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_old_goes_and_what_is_put_again_stays() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        let old = vault.put(b"old", 100, 10).unwrap();
        let again = vault.put(b"again", 105, 10).unwrap();
        assert_eq!(
            vault.sweep(1000, 10, 50).unwrap(),
            0,
            "its end was unknown until now"
        );
        vault.put(b"again", 1005, 10).unwrap();
        drop(vault);

        let vault = Vault::open(dir.path()).unwrap();
        assert_eq!(vault.get(&old).unwrap().unwrap(), b"old");
        assert_eq!(vault.sweep(1050, 10, 50).unwrap(), 0);
        assert_eq!(vault.sweep(1051, 10, 50).unwrap(), 1);
        assert_eq!(vault.get(&old).unwrap(), None);
        assert_eq!(vault.get(&again).unwrap().unwrap(), b"again");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "the folder of 1000 and the one of now");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn nothing_younger_than_the_retention_is_lost(steps in proptest::collection::vec((0u64..40, any::<bool>(), 0u8..6), 1..30)) {
            let dir = tempfile::tempdir().unwrap();
            let mut vault = Vault::open(dir.path()).unwrap();
            let (mut now, mut put) = (1_000, std::collections::BTreeMap::new());
            for (later, reopen, byte) in steps {
                now += later;
                if reopen {
                    vault = Vault::open(dir.path()).unwrap();
                }
                put.insert(vault.put(&[byte], now, 7).unwrap(), now);
                vault.sweep(now, 7, 60).unwrap();
                for (digest, at) in &put {
                    if at + 60 >= now {
                        prop_assert!(vault.get(digest).unwrap().is_some());
                    }
                    if at + 60 + 2 * 40 < now {
                        prop_assert!(vault.get(digest).unwrap().is_none());
                    }
                }
            }
        }
    }
}
