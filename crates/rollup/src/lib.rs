//! rollup
pub mod block;
pub mod call;
pub mod chain;
pub mod engine;
pub mod error;
pub mod exec;
pub mod fees;
pub mod genesis;
pub mod kv;
pub mod logs;
pub mod pool;
pub mod reader;
pub mod sequencer;
pub mod spec;
pub mod rpc;
pub mod state;
pub mod trie;

pub use chain::{Chain, ChainConfig, ChainHandle, Included};
pub use error::{Error, Result};
pub use rpc::{RpcConfig, RpcServer, serve};
pub use sequencer::{Clock, SequencerConfig};
