//! Blobs of the layer 1 (EIP-4844): committing to them, and getting them back.
//!
//! A blob is on the layer 1 by its hash alone; the bytes are on its consensus layer, for some weeks.
//! Whoever gives them is not believed: bytes count if their KZG commitment has the hash.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use alloy_eips::eip4844::{Blob, kzg_to_versioned_hash};
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use c_kzg::ethereum_kzg_settings;
use openledger_derivation::{L1Block, SourceError};
use openledger_primitives::{B256, Bytes};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Blobs that a transaction can carry (EIP-7594).
pub(crate) const MAX_BLOBS: usize = 6;
/// Longest answer that is read: all blobs of a block, as hexadecimal digits, have room.
const MAX_ANSWER: u64 = 64 << 20;
/// Blobs of an answer that are looked at, more than a block can have.
const MAX_LOOKED_AT: usize = 128;
/// Patience for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tables that c-kzg computes ahead: none. A batcher makes a few proofs a minute.
const PRECOMPUTE: u64 = 0;

/// The sidecar of a transaction with these blobs: commitments, and the proofs of each cell.
///
/// # Errors
/// When one is no blob.
pub fn sidecar(blobs: &[Vec<u8>]) -> Result<BlobTransactionSidecarEip7594> {
    let settings = ethereum_kzg_settings(PRECOMPUTE);
    let failed = |error: c_kzg::Error| Error::Conflict(format!("KZG: {error}"));
    let mut sidecar = BlobTransactionSidecarEip7594::default();
    for bytes in blobs {
        let blob = c_kzg::Blob::from_bytes(bytes).map_err(failed)?;
        let commitment = settings.blob_to_kzg_commitment(&blob).map_err(failed)?;
        let (_, proofs) = settings
            .compute_cells_and_kzg_proofs(&blob)
            .map_err(failed)?;
        sidecar.blobs.push(Blob::from_slice(bytes));
        sidecar
            .commitments
            .push(commitment.to_bytes().into_inner().into());
        for proof in proofs.iter() {
            sidecar
                .cell_proofs
                .push(proof.to_bytes().into_inner().into());
        }
    }
    Ok(sidecar)
}

/// The versioned hash of a blob; `None` if the bytes are no blob.
fn versioned_hash(bytes: &[u8]) -> Option<B256> {
    let blob = c_kzg::Blob::from_bytes(bytes).ok()?;
    let commitment = ethereum_kzg_settings(PRECOMPUTE)
        .blob_to_kzg_commitment(&blob)
        .ok()?;
    Some(kzg_to_versioned_hash(commitment.to_bytes().as_slice()))
}

/// The consensus layer's HTTP API.
///
/// Names blocks by their slot where the server has a specification
/// (`/eth/v1/config/spec`), and by the execution layer's number where it has none, as anvil does.
#[derive(Debug)]
pub struct Beacon {
    agent: ureq::Agent,
    url: String,
    /// Genesis and seconds of a slot; `None` where blocks are named by their number.
    slots: OnceLock<Option<(u64, u64)>>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Genesis {
    genesis_time: String,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "SECONDS_PER_SLOT")]
    seconds_per_slot: String,
}

#[derive(Deserialize)]
struct Sidecar {
    blob: Bytes,
}

impl Beacon {
    /// A client of `url`. Nothing is sent yet.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            agent: super::rpc::agent(TIMEOUT),
            url: url.trim_end_matches('/').to_owned(),
            slots: OnceLock::new(),
        }
    }

    /// The blobs of `block` with these versioned hashes, in their order.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`]: not reachable, not (or no longer) there, or other bytes than
    /// those with the hashes. All of it may be better later, or elsewhere; none of it lets
    /// derivation go on without the data.
    pub fn blobs(&self, block: &L1Block, hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
        let id = self.name(block)?;
        let asked: Vec<String> = hashes.iter().map(B256::to_string).collect();
        let path = format!(
            "/eth/v1/beacon/blobs/{id}?versioned_hashes={}",
            asked.join(",")
        );
        // Newer servers have the first, older ones the second.
        let given = match self.get::<Vec<Bytes>>(&path)? {
            Some(blobs) => blobs,
            None => {
                let path = format!("/eth/v1/beacon/blob_sidecars/{id}");
                let sidecars = self.get::<Vec<Sidecar>>(&path)?.unwrap_or_default();
                sidecars.into_iter().map(|sidecar| sidecar.blob).collect()
            }
        };
        let count = given.len();
        let known: HashMap<B256, Bytes> = given
            .into_iter()
            .take(MAX_LOOKED_AT)
            .filter_map(|blob| Some((versioned_hash(&blob)?, blob)))
            .collect();
        let found = hashes.iter().map(|hash| {
            known.get(hash).cloned().ok_or_else(|| {
                SourceError::Unavailable(format!(
                    "{}: blob {hash} of block {} is not among the {count} given",
                    self.url, block.number
                ))
            })
        });
        found.collect()
    }

    fn name(&self, block: &L1Block) -> Result<String, SourceError> {
        let slots = match self.slots.get() {
            Some(slots) => *slots,
            None => {
                let slots = self.ask_slots()?;
                *self.slots.get_or_init(|| slots)
            }
        };
        let Some((genesis, seconds)) = slots else {
            return Ok(block.number.to_string());
        };
        let since = block.timestamp.checked_sub(genesis);
        let slot = since.and_then(|since| since.checked_div(seconds));
        let slot = slot.ok_or_else(|| {
            let time = block.timestamp;
            self.failed(&format!(
                "no slot at {time}: genesis {genesis}, {seconds} s a slot"
            ))
        })?;
        Ok(slot.to_string())
    }

    fn ask_slots(&self) -> Result<Option<(u64, u64)>, SourceError> {
        let Some(spec) = self.get::<Spec>("/eth/v1/config/spec")? else {
            return Ok(None);
        };
        let genesis = self.get::<Genesis>("/eth/v1/beacon/genesis")?;
        let genesis = genesis.ok_or_else(|| self.failed(&"no genesis"))?;
        let number = |text: &str| text.parse().map_err(|_| self.failed(&"no number"));
        Ok(Some((
            number(&genesis.genesis_time)?,
            number(&spec.seconds_per_slot)?,
        )))
    }

    /// `None` where the server has no such thing.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, SourceError> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("accept", "application/json")
            .call()
            .map_err(|e| self.failed(&e))?;
        match answer.status().as_u16() {
            200 => {}
            404 | 405 | 410 | 501 => return Ok(None),
            status => return Err(self.failed(&format!("HTTP {status}"))),
        }
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|e| self.failed(&e))?;
        let answer: Answer<T> = serde_json::from_slice(&bytes).map_err(|e| self.failed(&e))?;
        Ok(Some(answer.data))
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> SourceError {
        SourceError::Unavailable(format!("{}: {reason}", self.url))
    }
}
