//! Fuzz targets, one for each kind of foreign bytes: `cargo xtask fuzz` runs them.
//!
//! A target hands bytes to what parses them and asks for nothing but an answer: an error is fine,
//! a panic, an endless loop or memory without bound is not. Where an answer has a form of its own
//! (a transaction's encoding), the target also says what must hold for it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use openledger_derivation::{BlockId, Commitments, Parameters, RollupConfig};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // In memory where the system has such a folder: a target writes its file at every run.
    let shared = Path::new("/dev/shm");
    let folder = match shared.is_dir() {
        true => tempfile::tempdir_in(shared),
        false => tempfile::tempdir(),
    };
    match folder {
        Ok(folder) => folder,
        Err(error) => panic!("a temporary folder: {error}"),
    }
});

/// Writes `bytes` to the file `name` of this process's temporary folder.
///
/// # Panics
/// When it cannot be written.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(name);
    if let Err(error) = std::fs::write(&path, bytes) {
        panic!("{}: {error}", path.display());
    }
    path
}

/// The folder of [`file()`].
#[must_use]
pub fn folder() -> &'static Path {
    FOLDER.path()
}

/// The configuration of a rollup, for what reads batches.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn rollup_config() -> RollupConfig {
    let config = RollupConfig::new(&Parameters {
        l1_chain_id: 900,
        l2_chain_id: 901,
        l1_genesis: BlockId::default(),
        l2_genesis: BlockId::default(),
        l2_time: 1_700_000_000,
        system_config: Default::default(),
        block_time: 2,
        seq_window_size: 100,
        batch_inbox: Default::default(),
        deposit_contract: Default::default(),
        system_config_contract: Default::default(),
        alt_da: Commitments::Generic,
    });
    match config {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}
