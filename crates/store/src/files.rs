//! Whole-file reads and writes that are atomic and durable.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Replaces `path` with `bytes`: readers, and a restart after a crash, see the old content or the
/// new, never a mixture. Creates the directories above it.
///
/// # Errors
/// [`Error::File`] if a directory or file cannot be created, written or renamed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`] for content that is never in memory as a whole: `write` puts it into a
/// buffered file. If it fails, `path` keeps its old content.
///
/// # Errors
/// As [`write_atomic`], and with what `write` returns.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
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
    let file = tempfile::Builder::new()
        .prefix(".write-")
        .tempfile_in(dir)
        .map_err(fail("create a temporary file beside"))?;
    let mut file = BufWriter::new(file);
    write(&mut file).map_err(fail("write"))?;
    let file = file
        .into_inner()
        .map_err(|error| fail("write")(error.into_error()))?;
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
    fn a_full_disk_leaves_the_old_content_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomic(&path, b"one").unwrap();
        let error = write_atomic_with(&path, |file| {
            file.write_all(b"the beginning of two")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("cannot write"), "{message}");
        assert_eq!(read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.contains("no/such/file"), "{error}");
    }
}
