//! The client side of the contracts: deploying them, sending transactions, reading their state and
//! telling the money story from their logs.
//!
//! ```text
//! Deployment ── calls ──> Call ──> Sender ──> Node (HTTP JSON-RPC, or in-process)
//!      └───── Reader <──────────────────────────┤
//!             Follower ──> Event (an English sentence each) ──> money::Ledger
//! ```
//!
//! Three decisions carry the crate:
//! - **The ABI is committed, not compiled.** [`bindings`] come from `contracts/abi`, so a Rust build
//!   needs neither node nor a Solidity compiler; `npm --prefix contracts run check` proves that the
//!   files are what the sources compile to.
//! - **A transaction is signed once.** [`Sender::send_once`] writes the signed bytes to an
//!   [`Outbox`] before anything leaves the process. After a crash the same bytes are sent again; the
//!   nonce inside makes a second execution impossible, and only a transaction whose nonce another
//!   one has used is ever replaced.
//! - **Money is what the chain says.** [`money::Ledger`] is rebuilt from logs alone and must agree
//!   with the contracts' balances to the wei.
//!
//! ```
//! use openledger_chain::Deployment;
//! use openledger_primitives::{Address, merkle};
//!
//! // Addresses follow from the deployer, so everyone can compute them before the chain exists.
//! let deployment = Deployment::expected(901_337, Address::repeat_byte(1), 0);
//! let call = deployment.claim(Address::repeat_byte(2), 5, 0, &[merkle::leaf(b"sibling")]);
//! assert_eq!(call.to, Some(deployment.settlement));
//! ```

pub mod bindings;
mod calls;
mod data_challenge;
mod deploy;
mod deployment;
mod error;
mod event;
#[cfg(feature = "test-utils")]
pub mod evm;
mod follower;
mod http;
pub mod layer1;
pub mod money;
mod node;
mod outbox;
pub mod predeploys;
mod reader;
mod replace;
mod sender;
mod sentence;
pub mod signing;
mod version;

pub use calls::{ClaimLine, Evidence, FeeSplit, VersionRef};
pub use data_challenge::Demand;
pub use deploy::{Genesis, deploy};
pub use deployment::{Deployment, Role};
pub use error::{Error, revert_reason};
pub use event::{Decoder, Event, Located};
pub use follower::Follower;
pub use http::HttpNode;
pub use node::{Call, Fees, Head, Node, Receipt};
pub use outbox::{FileOutbox, MemoryOutbox, Outbox};
pub use reader::{BatchInfo, PayerInfo, PostingInfo, Reader, Totals};
pub use replace::Replacement;
pub use sender::{Sender, SenderConfig};
