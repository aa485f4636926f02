//! The directory of a run between processes: who trains in it, and what others ask of them.
//!
//! One process holds a run's directory at a time, by an operating-system lock that ends with the
//! process however it ends; so a directory without a holder is paused, finished or was killed, and
//! never "running" for ever. Others read what the holder appends ([`crate::metrics::Follow`]) and
//! leave it a word in the file `control`.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openledger_store::write_atomic;

use crate::train::SUMMARY_FILE;
use crate::{Control, Error, METRICS_FILE, Summary};

const LOCK_FILE: &str = "lock";
const CONTROL_FILE: &str = "control";
/// Tries to take a directory, and the time between two.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(10);

/// A run's directory, held by this process until it is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Takes the directory `path`, creating it if it is missing, and forgets what was asked of an
    /// earlier holder.
    ///
    /// # Errors
    /// [`Error::Running`] if another process trains in it, [`Error::Io`].
    pub fn hold(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let file = path.join(LOCK_FILE);
        let lock = File::create(&file).map_err(Error::io(&file))?;
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Somebody who only looks ([`running`]) is gone again in no time.
                Err(TryLockError::WouldBlock) if tries < LOOKS => {
                    tries += 1;
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Running {
                        path: path.to_owned(),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(Error::io(file)(source)),
            }
        }
        let control = path.join(CONTROL_FILE);
        match std::fs::remove_file(&control) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(control)(error));
            }
            _ => {}
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// What other processes want since this one took the directory.
    pub fn asked(&self) -> Control {
        match std::fs::read(self.path.join(CONTROL_FILE)).as_deref() {
            Ok(b"pause") => Control::Pause,
            Ok(b"stop") => Control::Stop,
            _ => Control::Continue,
        }
    }
}

/// Whether a process trains in `path` now.
///
/// # Errors
/// [`Error::Io`].
pub fn running(path: &Path) -> Result<bool, Error> {
    let file = path.join(LOCK_FILE);
    let lock = match File::open(&file) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::io(file)(source)),
    };
    // Shared, so that two who look do not take each other for the holder.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(Error::io(file)(source)),
    }
}

/// Asks the process that trains in `path` to pause or to stop after its present step.
///
/// # Errors
/// [`Error::NotRunning`] if nobody trains there, [`Error::Store`] if the word cannot be left.
pub fn ask(path: &Path, control: Control) -> Result<(), Error> {
    if !running(path)? {
        return Err(Error::NotRunning {
            path: path.to_owned(),
        });
    }
    let word: &[u8] = match control {
        Control::Continue => b"",
        Control::Pause => b"pause",
        Control::Stop => b"stop",
    };
    Ok(write_atomic(&path.join(CONTROL_FILE), word)?)
}

/// Whether `path` holds a run, begun or finished.
pub fn is_run(path: &Path) -> bool {
    [LOCK_FILE, METRICS_FILE, SUMMARY_FILE]
        .iter()
        .any(|name| path.join(name).is_file())
}

/// The numbers of the run that ended in `path`, `None` if none has ended there.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`].
pub fn summary(path: &Path) -> Result<Option<Summary>, Error> {
    let path = path.join(SUMMARY_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(path)(source)),
    };
    let summary = serde_json::from_slice(&bytes).map_err(|error| Error::Parse {
        path,
        what: "the summary of a run",
        reason: error.to_string(),
    })?;
    Ok(Some(summary))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_holder_at_a_time_who_hears_what_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        assert!(!is_run(&path) && !running(&path).unwrap());
        let error = ask(&path, Control::Pause).unwrap_err();
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");

        let held = RunDir::hold(&path).unwrap();
        assert!(is_run(&path) && running(&path).unwrap());
        let error = RunDir::hold(&path).unwrap_err();
        assert!(matches!(error, Error::Running { .. }), "{error}");
        assert_eq!(held.asked(), Control::Continue);
        for control in [Control::Pause, Control::Stop] {
            ask(&path, control).unwrap();
            assert_eq!(held.asked(), control);
        }

        drop(held);
        assert!(!running(&path).unwrap());
        // What the last holder was asked is not asked of the next.
        let held = RunDir::hold(&path).unwrap();
        assert_eq!(held.asked(), Control::Continue);
        assert_eq!(summary(&path).unwrap(), None);
    }
}
