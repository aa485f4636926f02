//! Whole-file reads and writes that are atomic and durable.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::{Error, Result};

/// Replaces `path` with `bytes`: readers, and a restart after a crash, see the old content or the
/// new, never a mixture. Creates the directories above it.
///
/// # Errors
/// [`Error::File`] if a directory or file cannot be created, written or renamed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |action| {
        move |source| Error::File {
            action,
            path: path.to_path_buf(),
            source,
        }
    };
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(fail("create the directory of"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".write-")
        .tempfile_in(dir)
        .map_err(fail("create a temporary file beside"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.as_file().sync_all().map_err(fail("sync"))?;
    file.persist(path)
        .map_err(|error| fail("replace")(error.error))?;
    // The rename itself is durable only once the directory is.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(fail("sync the directory of"))
}

/// The content of `path`.
///
/// # Errors
/// [`Error::File`] if it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/file");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.contains("no/such/file"), "{error}");
    }
}
