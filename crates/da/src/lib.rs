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
//! URL, and its [`certificate`]s have EigenDA's parts, so that the code which checks them is
//! exercised. It gives availability **from one machine**: EigenDA's interface, and none of
//! EigenDA's security.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use openledger_da::certificate::{Srs, Verifier};
//! use openledger_da::server::{Certificates, ServerConfig, serve};
//! use openledger_da::{ClientConfig, DaClient, HttpClient};
//!
//! let dir = tempfile::tempdir()?;
//! let runtime = tokio::runtime::Runtime::new()?;
//! let clock = Arc::new(|| 1_700_000_000); // the node's
//! let mut config = ServerConfig::new("127.0.0.1:0".parse()?, dir.path(), clock);
//! config.certificates = Some(Certificates::new(Arc::new(|| Some(7)))); // the head of the layer 1
//! let server = runtime.block_on(serve(config))?;
//!
//! let mut config = ClientConfig::new(server.url());
//! // A node compares the digest of the committee with the one its rollup wrote down.
//! let committee = server.committee().ok_or("no certificates")?.clone();
//! let srs = Arc::new(Srs::development(None));
//! config.verifier = Verifier::with_setup(committee, srs).map(Arc::new);
//! let client = HttpClient::new(config);
//! let commitment = client.put(b"a batch")?;
//! assert_eq!(client.get_included(&commitment, Some(8))?, b"a batch"[..]);
//! runtime.block_on(server.shutdown());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod certificate;
mod client;
pub mod commitment;
pub mod encoding;
pub mod server;
mod vault;

pub use client::{ClientConfig, CommitmentMode, DaClient, DaError, HttpClient, InvalidReason};
pub use commitment::{CertificateKind, Certified, Commitment, DecodeError, MAX_COMMITMENT_LEN};
pub use server::{ServerConfig, ServerError};

/// The most bytes of a payload: what EigenDA's largest blob of 2^19 symbols (16 MiB) holds beside
/// its header, 31 bytes in each symbol.
pub const MAX_PAYLOAD_LEN: usize = ((1 << 19) - 1) * 31;
