//! Certificates of the embedded server's operators: real cryptography, from one machine.
//!
//! ```text
//! header     commitment  G1, 64   KZG commitment to the encoded payload
//!            symbols     u32      of the encoded payload, a power of two
//!            length      u32      of the payload, in bytes
//!            digest      32       keccak256 of the payload
//!            reference   u64      block of the layer 1 as of which it was signed
//!            committee   32       digest of keys, stakes, threshold and setup
//! signers    u64                  bit i: operator i has signed
//! signature  G1, 64               sum of the signers' BLS signatures of the header
//! key        G2, 128              sum of the signers' keys
//! ```
//!
//! 344 bytes, big-endian, without any freedom: integers have one length, points one spelling.
//!
//! It has EigenDA's parts (KZG commitment over BN254, BLS in G1 with keys in G2, a quorum by
//! stake, a reference block) and leaves out what distance needs: no Reed-Solomon chunks and no
//! proof of the commitment's degree, since every operator has the whole payload, and no batching.
//! The sum of the keys could be computed from the committee and is there for a contract, for
//! which adding in G2 is expensive; here it is compared.
//!
//! **What a certificate is worth.** The operators live in one process and share one disk, and the
//! setup of the commitments is public (see [`Srs::development`]). So it proves that this server
//! stored the payload, not that anybody else can get it. What binds a payload to its certificate
//! is the digest that the operators signed; the commitment is checked too, by who has the setup.

mod committee;
mod kzg;
mod points;

use std::sync::Arc;

use ark_bn254::{Bn254, G1Affine, G2Affine};
use ark_ec::pairing::Pairing;
use ark_ff::Zero;
use openledger_primitives::{B256, keccak256};

pub use committee::{Committee, CommitteeError, MAX_OPERATORS, Operators};
pub use kzg::{DEVELOPMENT_SEED, MAX_SYMBOLS, Point, Srs};

use crate::{InvalidReason, MAX_PAYLOAD_LEN, encoding};
use kzg::{hash_to_g1, minus_g2};
use points::{G1_LEN, G2_LEN, read_g1, read_g2, write_g1, write_g2};

/// How many blocks of the layer 1 may lie between the one that a certificate refers to and the
/// one that includes it: EigenDA's number, two days of Ethereum.
pub const RECENCY_WINDOW: u64 = 14_400;

const HEADER_LEN: usize = G1_LEN + 4 + 4 + 32 + 8 + 32;

/// Bytes of a certificate.
pub const CERTIFICATE_LEN: usize = HEADER_LEN + 8 + G1_LEN + G2_LEN;

/// A certificate, decoded. That it decodes says nothing about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    header: Header,
    signers: u64,
    signature: G1Affine,
    key: G2Affine,
}

/// What the operators sign.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    commitment: Point,
    length: u32,
    digest: B256,
    reference_block: u64,
    committee: B256,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It does not have the length of a certificate.
    #[error("a certificate has {CERTIFICATE_LEN} bytes, not {length}")]
    Length {
        /// Its length.
        length: usize,
    },
    /// A point is not of its group, is infinity, or is not spelled canonically.
    #[error("its {part} is no point")]
    Point {
        /// Which.
        part: &'static str,
    },
    /// No payload has this length, or not this many symbols.
    #[error("no payload has {length} bytes in {symbols} symbols")]
    Size {
        /// Bytes of the payload.
        length: u32,
        /// Symbols of its encoding.
        symbols: u32,
    },
    /// Another committee signed it.
    #[error("it is of committee {found}, not {expected}")]
    Committee {
        /// The digest of the committee that counts.
        expected: B256,
        /// The digest in the certificate.
        found: B256,
    },
    /// A signer is not in the committee.
    #[error("a signer is not in the committee")]
    UnknownSigner,
    /// Those who signed have too little stake.
    #[error("signers have {signed} of {total} stake, which is below {threshold_percent} percent")]
    Stake {
        /// Stake of the signers.
        signed: u128,
        /// Stake of all.
        total: u128,
        /// What they would need.
        threshold_percent: u8,
    },
    /// The key in it is not the sum of the signers' keys.
    #[error("its key is not that of its signers")]
    Key,
    /// The signature is not of this header by these signers.
    #[error("its signature is not of its signers")]
    Signature,
    /// The layer 1 included it too late.
    #[error("it refers to block {reference_block} and came in block {l1_inclusion}, too late")]
    Stale {
        /// The block it refers to.
        reference_block: u64,
        /// The block it came in.
        l1_inclusion: u64,
    },
    /// The payload is not the one of the certificate, or can have none.
    #[error("the payload is not the certificate's: {reason}")]
    Payload {
        /// In which way.
        reason: &'static str,
    },
    /// The payload is the one that was signed, and what else was signed about it is wrong. Nothing
    /// that anybody sends makes such a certificate hold.
    #[error("its {part} is not that of its payload")]
    Contradiction {
        /// Length or commitment.
        part: &'static str,
    },
}

impl CertificateError {
    /// What it is called on the wire.
    #[must_use]
    pub fn reason(&self) -> InvalidReason {
        match self {
            Self::Length { .. } | Self::Point { .. } | Self::Size { .. } => {
                InvalidReason::Unparsable
            }
            Self::Stale { .. } => InvalidReason::Stale,
            Self::Committee { .. }
            | Self::UnknownSigner
            | Self::Stake { .. }
            | Self::Key
            | Self::Signature
            | Self::Payload { .. }
            | Self::Contradiction { .. } => InvalidReason::Unproven,
        }
    }
}

impl Header {
    fn new(
        srs: &Srs,
        payload: &[u8],
        reference_block: u64,
        committee: B256,
    ) -> Result<Self, CertificateError> {
        let reason = "it is empty or too long";
        let length = u32::try_from(payload.len()).unwrap_or(0);
        if length == 0 {
            return Err(CertificateError::Payload { reason });
        }
        let commitment = srs
            .commit(payload)
            .map_err(|_| CertificateError::Payload { reason })?;
        Ok(Self {
            commitment,
            length,
            digest: keccak256(payload),
            reference_block,
            committee,
        })
    }

    fn symbols(&self) -> u32 {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        u32::try_from(encoding::symbols(length)).unwrap_or(u32::MAX)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CERTIFICATE_LEN);
        bytes.extend_from_slice(&write_g1(&self.commitment.0));
        bytes.extend_from_slice(&self.symbols().to_be_bytes());
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.digest[..]);
        bytes.extend_from_slice(&self.reference_block.to_be_bytes());
        bytes.extend_from_slice(&self.committee[..]);
        bytes
    }

    /// The message that is signed.
    fn digest(&self) -> B256 {
        keccak256([&b"openledger certificate 1"[..], &self.encode()].concat())
    }
}

impl Certificate {
    /// The bytes that [`decode`](Self::decode) reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.encode();
        bytes.extend_from_slice(&self.signers.to_be_bytes());
        bytes.extend_from_slice(&write_g1(&self.signature));
        bytes.extend_from_slice(&write_g2(&self.key));
        bytes
    }

    /// Reads the one spelling of a certificate.
    ///
    /// # Errors
    /// [`CertificateError::Length`], [`CertificateError::Point`], [`CertificateError::Size`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let length = bytes.len();
        let mut rest = Some(bytes).filter(|bytes| bytes.len() == CERTIFICATE_LEN);
        let wrong = CertificateError::Length { length };
        let commitment = take::<G1_LEN>(&mut rest).ok_or(wrong.clone())?;
        let symbols = take::<4>(&mut rest).ok_or(wrong.clone())?;
        let length = take::<4>(&mut rest).ok_or(wrong.clone())?;
        let digest = take::<32>(&mut rest).ok_or(wrong.clone())?;
        let reference_block = take::<8>(&mut rest).ok_or(wrong.clone())?;
        let committee = take::<32>(&mut rest).ok_or(wrong.clone())?;
        let signers = take::<8>(&mut rest).ok_or(wrong.clone())?;
        let signature = take::<G1_LEN>(&mut rest).ok_or(wrong.clone())?;
        let key = take::<G2_LEN>(&mut rest).ok_or(wrong)?;

        let point = |part| move || CertificateError::Point { part };
        let header = Header {
            commitment: Point(read_g1(commitment).ok_or_else(point("commitment"))?),
            length: u32::from_be_bytes(*length),
            digest: B256::from(*digest),
            reference_block: u64::from_be_bytes(*reference_block),
            committee: B256::from(*committee),
        };
        let (length, symbols) = (header.length, u32::from_be_bytes(*symbols));
        let possible = usize::try_from(length).is_ok_and(|n| (1..=MAX_PAYLOAD_LEN).contains(&n));
        if !possible || header.symbols() != symbols {
            return Err(CertificateError::Size { length, symbols });
        }
        Ok(Self {
            header,
            signers: u64::from_be_bytes(*signers),
            signature: read_g1(signature).ok_or_else(point("signature"))?,
            key: read_g2(key).ok_or_else(point("key"))?,
        })
    }

    /// Whether enough of `committee` signed this. Two pairings.
    ///
    /// # Errors
    /// [`CertificateError`] for what is wrong.
    pub fn verify(&self, committee: &Committee) -> Result<(), CertificateError> {
        let (expected, found) = (committee.digest(), self.header.committee);
        if expected != found {
            return Err(CertificateError::Committee { expected, found });
        }
        if committee.aggregate_key(self.signers)? != self.key {
            return Err(CertificateError::Key);
        }
        let message = hash_to_g1(&self.header.digest().0);
        let product = Bn254::multi_pairing([message, self.signature], [self.key, minus_g2()]);
        if product.is_zero() {
            Ok(())
        } else {
            Err(CertificateError::Signature)
        }
    }

    /// Whether the layer 1 included it in time, in the block `l1_inclusion`.
    ///
    /// # Errors
    /// [`CertificateError::Stale`] if not.
    pub fn verify_recency(&self, l1_inclusion: u64) -> Result<(), CertificateError> {
        let reference_block = self.header.reference_block;
        if l1_inclusion > reference_block.saturating_add(RECENCY_WINDOW) {
            return Err(CertificateError::Stale {
                reference_block,
                l1_inclusion,
            });
        }
        Ok(())
    }

    /// Whether `payload` is the one it is about: by its digest and length, and with a setup by
    /// making the commitment again, which costs as much as making it.
    ///
    /// # Errors
    /// [`CertificateError::Payload`] for another payload, [`CertificateError::Contradiction`] for
    /// a certificate that is wrong about its own.
    pub fn verify_payload(
        &self,
        payload: &[u8],
        srs: Option<&Srs>,
    ) -> Result<(), CertificateError> {
        if keccak256(payload) != self.header.digest {
            let reason = "its digest is another";
            return Err(CertificateError::Payload { reason });
        }
        let wrong = |part| Err(CertificateError::Contradiction { part });
        if payload.len() != usize::try_from(self.header.length).unwrap_or(usize::MAX) {
            return wrong("length");
        }
        match srs.map(|srs| srs.commit(payload)) {
            None => Ok(()),
            Some(Ok(commitment)) if commitment == self.header.commitment => Ok(()),
            Some(_) => wrong("commitment"),
        }
    }

    /// Digest of the committee that it names: [`Committee::digest`].
    #[must_use]
    pub fn committee(&self) -> B256 {
        self.header.committee
    }

    /// The KZG commitment to the encoded payload.
    #[must_use]
    pub fn commitment(&self) -> Point {
        self.header.commitment
    }

    /// The keccak256 of the payload.
    #[must_use]
    pub fn payload_digest(&self) -> B256 {
        self.header.digest
    }

    /// The payload's length, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.header.length
    }

    /// The block of the layer 1 as of which it was signed.
    #[must_use]
    pub fn reference_block(&self) -> u64 {
        self.header.reference_block
    }

    /// The signers: bit i is operator i.
    #[must_use]
    pub fn signers(&self) -> u64 {
        self.signers
    }
}

fn take<'a, const N: usize>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8; N]> {
    let (taken, left) = (*rest)?.split_first_chunk()?;
    *rest = Some(left);
    Some(taken)
}

/// All that certificates are judged by.
#[derive(Clone, Debug)]
pub struct Verifier {
    committee: Committee,
    srs: Option<Arc<Srs>>,
}

impl Verifier {
    /// Judges by `committee`, and payloads by their digest.
    #[must_use]
    pub fn new(committee: Committee) -> Self {
        let srs = None;
        Self { committee, srs }
    }

    /// Judges payloads by their commitment as well. `None` if the committee uses another setup.
    #[must_use]
    pub fn with_setup(committee: Committee, srs: Arc<Srs>) -> Option<Self> {
        committee.uses(&srs).then_some(Self {
            committee,
            srs: Some(srs),
        })
    }

    /// The committee that counts.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Reads and judges a certificate, in EigenDA's order: form, age, signatures.
    ///
    /// # Errors
    /// [`CertificateError`] for the first thing that is wrong.
    pub fn verify(
        &self,
        certificate: &[u8],
        l1_inclusion: Option<u64>,
    ) -> Result<Certificate, CertificateError> {
        let certificate = Certificate::decode(certificate)?;
        if let Some(block) = l1_inclusion {
            certificate.verify_recency(block)?;
        }
        certificate.verify(&self.committee)?;
        Ok(certificate)
    }

    /// Whether `payload` is the certificate's.
    ///
    /// # Errors
    /// As [`Certificate::verify_payload`].
    pub fn verify_payload(
        &self,
        certificate: &Certificate,
        payload: &[u8],
    ) -> Result<(), CertificateError> {
        certificate.verify_payload(payload, self.srs.as_deref())
    }
}

#[cfg(test)]
mod tests;
