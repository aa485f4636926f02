//! Bytes under their own digest.

use std::fs;
use std::path::{Path, PathBuf};

use openledger_primitives::{B256, keccak256};

use crate::{Error, Result, files};

/// A directory of blobs, each named by the keccak256 of its content.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// The blobs below `root`, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::File`] if the directory cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|source| Error::File {
            action: "create",
            path: root.clone(),
            source,
        })?;
        Ok(Self { root })
    }

    /// Stores `bytes` durably and returns their digest. Storing the same bytes again is free.
    ///
    /// # Errors
    /// [`Error::File`] if the blob cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<B256> {
        let digest = keccak256(bytes);
        let path = self.path(&digest);
        if !path.exists() {
            files::write_atomic(&path, bytes)?;
        }
        Ok(digest)
    }

    /// The blob with this digest, checked against it, or `None`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::CorruptBlob`] if the disk changed it.
    pub fn get(&self, digest: &B256) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&path)?;
        let found = keccak256(&bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(Error::CorruptBlob { path, found })
        }
    }

    /// Where the blob with this digest is, or would be.
    pub fn path(&self, digest: &B256) -> PathBuf {
        // One level of 256 directories keeps each of them small up to millions of blobs.
        let name = format!("{digest:x}");
        self.root.join(&name[..2]).join(name)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn finds_only_what_was_put_and_notices_decay() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert_eq!(blobs.get(&B256::ZERO).unwrap(), None);
        let digest = blobs.put(b"text").unwrap();
        assert_eq!(blobs.put(b"text").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap().unwrap(), b"text");

        files::write_atomic(&blobs.path(&digest), b"texT").unwrap();
        assert!(matches!(blobs.get(&digest), Err(Error::CorruptBlob { .. })));
    }
}
