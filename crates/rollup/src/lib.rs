//! rollup
pub mod block;
pub mod engine;
pub mod error;
pub mod exec;
pub mod fees;
pub mod genesis;
pub mod kv;
pub mod pool;
pub mod reader;
pub mod spec;
pub mod state;
pub mod trie;
