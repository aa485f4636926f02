//! Data availability: where the batches of the layer 2 are, and how anybody gets them back.
//!
//! ```text
//! batcher  --payload-->  DaClient::put --HTTP--> server (ours, or eigenda-proxy)
//!          <-commitment-     |                     '- vault: payloads on the disk
//!    '-- 0x01 ++ commitment --> inbox on the layer 1 --> derivation: DaClient::get
//! ```
//!
//! The hard choice in here is what an error *is*. A node that drops a commitment because its
//! server was down derives another chain than its neighbours, and one that waits for a commitment
//! that nobody can ever open derives none. So [`DaError`] is sorted by what to do next, and only
//! what is true for everybody and for ever is [`DaError::Invalid`].
//!
//! The [`server`] speaks the routes of eigenda-proxy, so that changing to EigenDA is changing a
//! URL. It gives availability **from one machine**: it has EigenDA's interface and none of
//! EigenDA's security.

mod client;
pub mod commitment;
pub mod server;
mod vault;

pub use client::{ClientConfig, CommitmentMode, DaClient, DaError, HttpClient, InvalidReason};
pub use commitment::{CertificateKind, Certified, Commitment, DecodeError, MAX_COMMITMENT_LEN};
pub use server::{ServerConfig, ServerError};

/// The most bytes of a payload: what EigenDA's largest blob of 2^19 symbols (16 MiB) holds beside
/// its header, 31 bytes in each symbol.
pub const MAX_PAYLOAD_LEN: usize = ((1 << 19) - 1) * 31;
