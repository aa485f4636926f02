//! The layer 2 in this process: an OP Stack chain with OPEN as its native coin.
//!
//! ```text
//! wallet -> rpc -> pool -> sequencer -> engine (trait) -> exec -> state -> kv
//!                                          `- embedded, or op-reth by Engine API
//! ```
//!
//! The hard choice in here is the state ([`state`], [`trie`]): execution reads flat tables, the
//! state root comes from tries that stay in memory between blocks and re-hash only what a block
//! touched, and both land in **one** store transaction per block together with the values they
//! replaced. So a crash leaves the last committed block, any earlier state can be read, and any
//! block can be taken back. The price is a copy of each value that was written over.
//!
//! Execution is `op-revm` through `alloy-op-evm`, with every fork up to Jovian active at genesis and
//! Karst from a time on that `karstTime` of the genesis gives;
//! real OP Sepolia blocks reproduce their hashes through it (`tests/op_sepolia`). [`exec`],
//! [`trie`] and [`state`] do no I/O and read no clock: they see the world through the traits
//! [`trie::NodeSource`] and `revm::DatabaseRef`, which is what lets the same code replay a block
//! from a witness ([`witness`]).
//!
//! Without the feature `std` there are the executor, the tries and the replay alone, for a
//! fault-proof machine; `cargo xtask test --only bare` compiles them for one.
//!
//! A chain is derived from a layer 1 where its blocks begin with what an [`AttributesSource`] says,
//! and [`ChainHandle::derive`] makes the safe head of what the layer 1 says. Who reads the layer 1 is
//! not here: batches and derivation are in `openledger-derivation`, the roles in `openledger-node`.
//!
//! # Example
//!
//! ```
//! use alloy_genesis::Genesis;
//! use openledger_rollup::{Chain, ChainConfig};
//!
//! let mut genesis = Genesis { gas_limit: 60_000_000, ..Default::default() };
//! genesis.config.chain_id = 7;
//! let mut config = ChainConfig::new(None, genesis); // in memory
//! config.sequencer = None; // blocks by hand
//! let chain = Chain::open(config)?;
//! let block = chain.handle().make_block()?;
//! assert_eq!(chain.handle().head()?.hash(), block.hash());
//! # Ok::<(), openledger_rollup::Error>(())
//! ```

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod block;
#[cfg(feature = "std")]
pub mod call;
#[cfg(feature = "std")]
pub mod chain;
#[cfg(feature = "std")]
pub mod derived;
#[cfg(feature = "std")]
pub mod engine;
pub mod error;
mod ethereum;
mod evm;
pub mod exec;
#[cfg(feature = "std")]
pub mod fees;
#[cfg(feature = "std")]
pub mod genesis;
#[cfg(feature = "std")]
pub mod kv;
#[cfg(feature = "std")]
pub mod logs;
#[cfg(feature = "std")]
pub mod pool;
#[cfg(feature = "std")]
pub mod preconfirm;
#[cfg(feature = "std")]
pub mod reader;
#[cfg(feature = "std")]
pub mod rpc;
#[cfg(feature = "std")]
pub mod sequencer;
#[cfg(feature = "std")]
pub mod simulate;
pub mod spec;
pub mod state;
#[cfg(feature = "std")]
pub mod trace;
pub mod trie;
pub mod witness;

pub use error::{Error, Result};
#[cfg(feature = "std")]
pub use {
    chain::{Chain, ChainConfig, ChainHandle, Included},
    rpc::{RpcConfig, RpcServer, serve},
    sequencer::{AttributesSource, Clock, SequencerConfig},
};
