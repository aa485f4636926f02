//! The rollup: a chain whose truth is on a layer 1.
//!
//! ```text
//! sequencer ──blocks──> batcher ──payloads──> data availability
//!     │                    └──commitments──> inbox ─┐
//!  deposits <── portal                              │      layer 1
//!     │                                             v
//! verifier <──────────── derivation <────────── L1 blocks
//!     └── output roots ──> proposer ──> games <── challenger
//! ```
//!
//! Each role reads what the others say through a URL, whether they are in this process or on another
//! continent; so `openledger dev`, which runs them all, exercises the same paths.

pub mod availability;
pub mod batching;
pub mod blobs;
pub mod claims;
mod demands;
pub mod deriving;
pub mod layer1;
pub mod network;
mod progress;
pub mod roles;
pub mod rpc;
pub mod watch;

pub use openledger_chain::layer1::{Layer1, Layer1Settings};
pub use openledger_chain::{Demand, Replacement};
pub use openledger_primitives::{Address, Bytes, Wei};
pub use openledger_rollup::{Clock, SequencerConfig};

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A sum of fees, for whoever watches: at the end of the range it stays there.
pub(crate) const fn more(sum: Wei, fee: Wei) -> Wei {
    Wei::new(sum.get().saturating_add(fee.get()))
}

/// Tells threads to end.
#[derive(Debug, Default)]
pub struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Ends every wait.
    pub fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it is time to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not after it is set; whether it is.
    pub fn wait(&self, pause: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(set, pause, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
