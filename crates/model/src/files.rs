//! Reading and writing of files, with errors that name them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Error;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, Error> {
    serde_json::from_slice(&read(path)?).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })
}

/// A file being written beside its target. [`Replacement::commit`] renames it, so that readers
/// see the old file or the new one; dropped before that, it disappears.
#[derive(Debug)]
pub(crate) struct Replacement {
    target: PathBuf,
    beside: PathBuf,
    /// `None` once renamed.
    file: Option<BufWriter<File>>,
}

impl Replacement {
    pub(crate) fn create(target: &Path) -> Result<Self, Error> {
        let mut beside = target.as_os_str().to_owned();
        beside.push(".partial");
        let beside = PathBuf::from(beside);
        let file = File::create(&beside).map_err(|source| Error::Io {
            path: beside.clone(),
            source,
        })?;
        Ok(Self {
            target: target.to_path_buf(),
            beside,
            file: Some(BufWriter::new(file)),
        })
    }

    fn fail(&self, source: io::Error) -> Error {
        Error::Io {
            path: self.target.clone(),
            source,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let outcome = file.write_all(bytes);
        outcome.map_err(|source| self.fail(source))
    }

    pub(crate) fn commit(mut self) -> Result<(), Error> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let outcome = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.beside, &self.target));
        outcome.map_err(|source| {
            // The next attempt would overwrite it anyway.
            let _ = fs::remove_file(&self.beside);
            self.fail(source)
        })
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Writes a file whole, see [`Replacement`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = Replacement::create(path)?;
    file.write(bytes)?;
    file.commit()
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })?;
    text.push(b'\n');
    write(path, &text)
}

pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_given_up_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        write(&path, b"old").unwrap();
        let mut file = Replacement::create(&path).unwrap();
        file.write(b"half of the n").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        // The device that is always full stands where the new bytes would go.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        write(&path, b"old").unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join("weights.partial")).unwrap();
        let error = write(&path, b"new").unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
