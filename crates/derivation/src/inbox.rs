//! The data that the batcher left in one layer 1 block.
//!
//! Spec: derivation, "L1 retrieval"; alt-DA mode.

use crate::{
    blob,
    challenge::{self, Challenges, MAX_SHOWN_BYTES, Standing},
    config::RollupConfig,
    error::{DaError, Error, Result},
    l1::{L1, L1Header, Reader},
    types::L1Block,
};
use alloc::{collections::VecDeque, format, string::String, sync::Arc, vec::Vec};
use alloy_consensus::{Transaction, TxEnvelope, Typed2718, transaction::SignerRecoverable};
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use tracing::warn;

/// First byte of inbox data that holds frames.
pub const FRAMES_VERSION: u8 = 0;

/// First byte of inbox data that holds a commitment to such data.
pub const COMMITMENT_VERSION: u8 = 1;

/// Type byte of a commitment that is a keccak256 hash.
const KECCAK_COMMITMENT: u8 = 0;

/// Type byte of a commitment that only the data availability layer understands.
const GENERIC_COMMITMENT: u8 = 1;

/// Where the data behind commitments is.
pub trait DataAvailability {
    /// The data behind a commitment, given from its type byte on (`0x00` keccak256, `0x01` generic),
    /// that was included in the L1 block with number `l1_inclusion`.
    ///
    /// A generic commitment is never opened by derivation: that the answer belongs to it is the
    /// implementation's word. A keccak256 commitment is checked.
    ///
    /// # Errors
    ///
    /// [`DaError::Unavailable`] makes derivation wait, [`DaError::Invalid`] makes it go on without
    /// the data.
    fn get(&self, commitment: &[u8], l1_inclusion: u64) -> Result<Bytes, DaError>;
}

impl<T: DataAvailability + ?Sized> DataAvailability for Arc<T> {
    fn get(&self, commitment: &[u8], l1_inclusion: u64) -> Result<Bytes, DaError> {
        (**self).get(commitment, l1_inclusion)
    }
}

/// No data availability layer, for a chain without one.
impl DataAvailability for () {
    fn get(&self, _commitment: &[u8], _l1_inclusion: u64) -> Result<Bytes, DaError> {
        Err(DaError::Unavailable("no data availability layer".into()))
    }
}

/// The data of one block that is not read yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    block: L1Block,
    data: VecDeque<Bytes>,
}

/// The layer 2's transactions of type 4 do not count as batches (Isthmus), nor do types to come.
const MAX_TYPE: u8 = 3;

enum Found {
    Data(Bytes),
    Blob(B256),
}

impl Inbox {
    /// Reads the transactions of the batcher, and their blobs.
    pub(crate) fn open<S: L1>(
        l1: &Reader<S>,
        config: &RollupConfig,
        header: &L1Header,
        batcher: Address,
    ) -> Result<Self> {
        let mut found = Vec::new();
        for raw in l1.transactions(header)? {
            // Types that are not known here are not read either.
            let Ok(transaction) = TxEnvelope::decode_2718_exact(&raw) else {
                continue;
            };
            if transaction.to() != Some(config.batch_inbox()) || transaction.ty() > MAX_TYPE {
                continue;
            }
            match transaction.recover_signer() {
                Ok(sender) if sender == batcher => {}
                Ok(sender) => {
                    warn!(%sender, block = header.block.number, "inbox data of somebody else");
                    continue;
                }
                Err(_) => continue,
            }
            match transaction.blob_versioned_hashes() {
                Some(hashes) => found.extend(hashes.iter().copied().map(Found::Blob)),
                None => found.push(Found::Data(transaction.input().clone())),
            }
        }
        let hashes: Vec<B256> = found
            .iter()
            .filter_map(|found| match found {
                Found::Blob(hash) => Some(*hash),
                Found::Data(_) => None,
            })
            .collect();
        let mut blobs = VecDeque::new();
        if !hashes.is_empty() {
            blobs.extend(
                l1.source
                    .blobs(&header.block, &hashes)
                    .map_err(|source| Error::L1 {
                        what: "blobs",
                        source,
                    })?,
            );
            if blobs.len() != hashes.len() {
                return Err(Error::Malformed {
                    what: "list of blobs",
                });
            }
        }
        let mut data = VecDeque::new();
        for found in found {
            match found {
                Found::Data(bytes) => data.push_back(bytes),
                Found::Blob(hash) => match blobs
                    .pop_front()
                    .as_deref()
                    .and_then(|blob| blob::decode(blob))
                {
                    Some(bytes) => data.push_back(bytes.into()),
                    None => warn!(%hash, block = header.block.number, "blob of no known encoding"),
                },
            }
        }
        Ok(Self {
            block: header.block,
            data,
        })
    }

    /// The next frames, out of the inbox or from behind a commitment in it. What cannot be got now
    /// stays the next.
    pub(crate) fn next<S: L1, D: DataAvailability>(
        &mut self,
        config: &RollupConfig,
        l1: &mut Reader<S>,
        da: &D,
        challenges: &mut Option<Challenges>,
    ) -> Result<Option<Bytes>> {
        while let Some(data) = self.data.front() {
            let frames = match data.split_first() {
                Some((&COMMITMENT_VERSION, commitment)) if config.alt_da().is_some() => {
                    self.fetch(l1, da, commitment, challenges)?
                }
                _ => Some(data.clone()),
            };
            self.data.pop_front();
            if frames.is_some() {
                return Ok(frames);
            }
        }
        Ok(None)
    }

    fn fetch<S: L1, D: DataAvailability>(
        &self,
        l1: &mut Reader<S>,
        da: &D,
        commitment: &[u8],
        challenges: &mut Option<Challenges>,
    ) -> Result<Option<Bytes>> {
        let block = self.block.number;
        let unavailable = |reason| Error::DataUnavailable {
            block: self.block.id(),
            commitment: Bytes::copy_from_slice(commitment),
            reason,
        };
        let hash = match commitment.split_first() {
            Some((&KECCAK_COMMITMENT, hash)) if hash.len() == 32 => B256::from_slice(hash),
            Some((&GENERIC_COMMITMENT, _)) if challenges.is_none() => {
                return match da.get(commitment, block) {
                    Ok(data) => Ok(Some(data)),
                    Err(DaError::Unavailable(reason)) => Err(unavailable(reason)),
                    Err(DaError::Invalid(reason)) => {
                        warn!(block, reason, "invalid commitment dropped");
                        Ok(None)
                    }
                };
            }
            _ => {
                warn!(block, "commitment of no type that counts here");
                return Ok(None);
            }
        };
        let standing = match challenges {
            Some(challenges) => Some(challenges.standing(l1, (block, hash))?),
            None => None,
        };
        let got = |reason: String| {
            let ways = match standing {
                None | Some(Standing::Shown(..) | Standing::Lost) => String::new(),
                Some(Standing::Open(until)) => {
                    format!("; it can be demanded up to layer 1 block {until}")
                }
                Some(Standing::Demanded(until)) => {
                    format!("; it was demanded and can be shown up to layer 1 block {until}")
                }
            };
            unavailable(reason + &ways)
        };
        let data = match standing {
            Some(Standing::Lost) => {
                warn!(block, %hash, "data that was demanded and not shown is left out");
                return Ok(None);
            }
            Some(Standing::Shown(at, index)) => challenge::data(l1, (at, index))?,
            _ => match da.get(commitment, block) {
                Ok(data) if keccak256(&data) != hash => {
                    return Err(got("the answer does not hash to the commitment".into()));
                }
                Ok(data) => data,
                // A hash is never invalid.
                Err(DaError::Unavailable(reason) | DaError::Invalid(reason)) => {
                    return Err(got(reason));
                }
            },
        };
        if let Some(challenges) = challenges {
            if data.len() > MAX_SHOWN_BYTES {
                warn!(block, %hash, "data that could not be shown on the layer 1 is left out");
                return Ok(None);
            }
            challenges.used(block, hash);
        }
        Ok(Some(data))
    }
}
