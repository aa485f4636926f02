//! The composition root: one process that plays every role of the network.
//!
//! [`Node::open`] brings up the chain, the contracts, the base model, the serving engine and the
//! workers on one data directory; [`Node::run_loop`] takes a file of contributions to paid wallets;
//! [`api::router`] offers the same steps over HTTP. The services below never import each other:
//! they meet here, through the eight records.
//!
//! ```text
//! ingest ──> tuning ──> inference ──> attributor ──> epochs
//!    │          │           │             │            │
//!    └──────────┴── state (catalogue, blobs) ──────────┤
//!                    contracts (outbox, at most once) ─┘
//! ```
//!
//! The one hard decision: **every step is written so that it can be run again**. A step stores
//! what it is about to do before it does it, names each transaction after its intention, and asks
//! the chain what is already there. So there is no recovery code: a restart simply runs the steps
//! again (docs/operations/dev.md).

mod answer;
pub mod api;
mod attributor;
mod audit;
mod base_model;
pub mod blocks;
mod cache;
mod clock;
mod contracts;
mod curve;
mod datanets;
mod dev;
pub mod devnet;
mod epochs;
mod error;
mod explorer;
mod inference;
mod ingest;
mod layers;
mod machine;
mod models;
mod node;
mod notice;
mod payment;
pub mod rollup;
mod state;
pub mod summary;
mod tuning;
pub mod view;
mod wallets;

pub use audit::{Audit, audit};
pub use base_model::{BUNDLED_BASE, unpack_bundled_base};
pub use dev::{LoopInput, LoopSpec, parts_sum_to_fees};
pub use error::{Error, Result};
pub use inference::{
    Completion, CompletionEvent, CompletionRequest, CompletionStream, Message, Payment, Prompt,
    Sampling, TokenLogprob,
};
pub use ingest::Contributor;
pub use machine::free_memory;
pub use node::{Node, NodeConfig};
pub use notice::{Notice, Notices};
pub use tuning::{RunAction, RunRequest};
