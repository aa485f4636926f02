//! How far derivation had come, kept over a restart.
//!
//! The newest checkpoints are in one file beside the chain. It is a shortcut and no more: what it
//! says is compared with both layers, and without it derivation searches its place.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use openledger_derivation::Checkpoint;
use openledger_store::write_atomic;

use crate::Result;

/// Name of the file.
const FILE: &str = "derived.json";
/// L1 blocks that are kept: deeper reorgs are rare, and only slow.
const KEPT: usize = 64;
/// L1 blocks after which the file is written although there are more to read.
const EVERY: usize = 32;

/// The newest checkpoints, oldest first.
#[derive(Debug)]
pub(crate) struct Progress {
    file: PathBuf,
    kept: VecDeque<Checkpoint>,
    unsaved: usize,
}

impl Progress {
    /// What is kept in `dir`. A file that cannot be read is as good as none.
    pub(crate) fn open(dir: &Path) -> Self {
        let file = dir.join(FILE);
        let kept = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %file.display(), "not understood, and not needed");
                VecDeque::new()
            }),
            Err(_) => VecDeque::new(),
        };
        Self {
            file,
            kept,
            unsaved: 0,
        }
    }

    /// The newest checkpoint that is still true; those after it are forgotten.
    ///
    /// # Errors
    /// What `is_true` reports; then nothing is forgotten.
    pub(crate) fn newest(
        &mut self,
        mut is_true: impl FnMut(&Checkpoint) -> Result<bool>,
    ) -> Result<Option<Checkpoint>> {
        let mut found = None;
        for (index, checkpoint) in self.kept.iter().enumerate().rev() {
            if is_true(checkpoint)? {
                found = Some((index, *checkpoint));
                break;
            }
        }
        self.kept
            .truncate(found.map_or(0, |(index, _)| index.saturating_add(1)));
        Ok(found.map(|(_, checkpoint)| checkpoint))
    }

    /// Takes note of a checkpoint, and writes now and then.
    pub(crate) fn note(&mut self, checkpoint: &Checkpoint) {
        if self.kept.back() == Some(checkpoint) {
            return;
        }
        // After a reorg the same heights come again.
        while self
            .kept
            .back()
            .is_some_and(|last| last.l1.number >= checkpoint.l1.number)
        {
            self.kept.pop_back();
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(*checkpoint);
        self.unsaved = self.unsaved.saturating_add(1);
        if self.unsaved >= EVERY {
            self.save();
        }
    }

    /// Writes what is new. A failure costs time at the next start, and nothing else.
    pub(crate) fn save(&mut self) {
        if self.unsaved == 0 {
            return;
        }
        self.unsaved = 0;
        let written = serde_json::to_vec(&self.kept)
            .map_err(|error| error.to_string())
            .and_then(|bytes| write_atomic(&self.file, &bytes).map_err(|e| e.to_string()));
        if let Err(error) = written {
            tracing::warn!(error, file = %self.file.display(), "progress is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use openledger_derivation::BlockId;
    use openledger_primitives::B256;

    fn at(number: u64, fork: u8) -> Checkpoint {
        let block = |number| BlockId {
            number,
            hash: B256::repeat_byte(fork),
        };
        Checkpoint {
            l1: block(number),
            safe: block(2 * number),
            read_from: number + 1,
        }
    }

    #[test]
    fn the_newest_true_one_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut progress = Progress::open(dir.path());
        assert_eq!(progress.newest(|_| Ok(true)).unwrap(), None);
        for number in 0..100 {
            progress.note(&at(number, 1));
        }
        progress.save();
        let mut again = Progress::open(dir.path());
        assert_eq!(again.kept.len(), KEPT);
        assert_eq!(again.newest(|_| Ok(true)).unwrap(), Some(at(99, 1)));
        // A question without an answer changes nothing.
        assert!(again.newest(|_| Err(crate::Error::ShuttingDown)).is_err());
        let found = again.newest(|c| Ok(c.l1.number <= 90)).unwrap();
        assert_eq!(found, Some(at(90, 1)));
        // Another layer 1 from there on takes the place of the old one.
        again.note(&at(91, 2));
        again.note(&at(90, 2));
        assert_eq!(again.newest(|_| Ok(true)).unwrap(), Some(at(90, 2)));
        assert_eq!(
            again.newest(|c| Ok(c.l1.hash == at(0, 1).l1.hash)).unwrap(),
            Some(at(89, 1))
        );
        again.note(&at(90, 3));
        again.save();
        let mut last = Progress::open(dir.path());
        assert_eq!(last.newest(|_| Ok(true)).unwrap(), Some(at(90, 3)));
    }

    #[test]
    fn a_damaged_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "[", "{}", "[{\"l1\":1}]", "\u{0}\u{0}"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let mut progress = Progress::open(dir.path());
            assert_eq!(progress.newest(|_| Ok(true)).unwrap(), None);
            progress.note(&at(1, 1));
            progress.save();
            assert_eq!(Progress::open(dir.path()).kept.len(), 1);
        }
    }
}
