//! What the inbox of the layer 1 holds in place of data.

use std::fmt;
use std::str::FromStr;

use openledger_primitives::{B256, Bytes, keccak256};

/// The most bytes a commitment may have. Its hex must fit into the path of a URL, which common
/// HTTP implementations end at 65,534 characters.
pub const MAX_COMMITMENT_LEN: usize = 32_000;

const KECCAK: u8 = 0x00;
const GENERIC: u8 = 0x01;

/// A commitment to a payload: the bytes that follow the version byte `0x01` in a transaction to
/// the inbox.
///
/// ```text
/// keccak       00 | keccak256(payload), 32 bytes
/// certificate  01 | layer | version | certificate
/// ```
///
/// Decoding is strict and part of the derivation rules: bytes that do not decode commit to
/// nothing, for every node alike, so derivation drops them without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Commitment {
    /// The digest of the payload. It says what the data is, and nothing about who has it.
    Keccak(B256),
    /// A certificate that somebody has the payload.
    Certificate(Certified),
}

/// A certificate's kind and its bytes, at least one and within [`MAX_COMMITMENT_LEN`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certified {
    kind: CertificateKind,
    bytes: Bytes,
}

/// Whose certificate it is, and in which version.
///
/// Our own certificates differ from EigenDA's in both bytes, the layer and the version, so that
/// neither a proxy that skips the layer byte nor a commitment in the standard mode (which has
/// none) can confuse them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// EigenDA V1.
    EigenDaV1,
    /// EigenDA V2, second version of the certificate.
    EigenDaV2,
    /// EigenDA V2, third version of the certificate.
    EigenDaV3,
    /// EigenDA V2, fourth version of the certificate.
    EigenDaV4,
    /// A certificate of the embedded server's operators: [`crate::certificate::Certificate`].
    Development,
}

impl CertificateKind {
    const ALL: [Self; 5] = [
        Self::EigenDaV1,
        Self::EigenDaV2,
        Self::EigenDaV3,
        Self::EigenDaV4,
        Self::Development,
    ];

    /// The byte that names the layer: `0x00` for EigenDA, `0x6f` for ours.
    #[must_use]
    pub fn layer(self) -> u8 {
        match self {
            Self::EigenDaV1 | Self::EigenDaV2 | Self::EigenDaV3 | Self::EigenDaV4 => 0x00,
            Self::Development => 0x6f,
        }
    }

    /// The byte that names the version.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::EigenDaV1 => 0x00,
            Self::EigenDaV2 => 0x01,
            Self::EigenDaV3 => 0x02,
            Self::EigenDaV4 => 0x03,
            Self::Development => 0x81,
        }
    }
}

impl Certified {
    /// The certificate `bytes` of this kind.
    ///
    /// # Errors
    /// [`DecodeError::Empty`] and [`DecodeError::TooLong`].
    pub fn new(kind: CertificateKind, bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        let length = bytes.len().saturating_add(3);
        if length > MAX_COMMITMENT_LEN {
            return Err(DecodeError::TooLong { length });
        }
        Ok(Self { kind, bytes })
    }

    /// Whose certificate it is.
    #[must_use]
    pub fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// The certificate itself.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Commitment {
    /// The digest of `payload` as a commitment.
    #[must_use]
    pub fn keccak(payload: &[u8]) -> Self {
        Self::Keccak(keccak256(payload))
    }

    /// The certificate `bytes` as a commitment.
    ///
    /// # Errors
    /// [`DecodeError::Empty`] and [`DecodeError::TooLong`].
    pub fn certificate(kind: CertificateKind, bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(Self::Certificate(Certified::new(kind, bytes)?))
    }

    /// Reads the one spelling of a commitment.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_COMMITMENT_LEN {
            let length = bytes.len();
            return Err(DecodeError::TooLong { length });
        }
        match bytes {
            [] | [GENERIC] | [GENERIC, _] => Err(DecodeError::Empty),
            [KECCAK, digest @ ..] => {
                let digest = B256::try_from(digest).map_err(|_| DecodeError::DigestLength {
                    length: digest.len(),
                })?;
                Ok(Self::Keccak(digest))
            }
            [GENERIC, layer, version, certificate @ ..] => {
                let (layer, version) = (*layer, *version);
                let kind = CertificateKind::ALL
                    .into_iter()
                    .find(|kind| (kind.layer(), kind.version()) == (layer, version))
                    .ok_or(DecodeError::Kind { layer, version })?;
                Self::certificate(kind, Bytes::copy_from_slice(certificate))
            }
            [kind, ..] => Err(DecodeError::Form { byte: *kind }),
        }
    }

    /// The bytes that [`decode`](Self::decode) reads.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Keccak(digest) => [&[KECCAK], &digest[..]].concat().into(),
            Self::Certificate(Certified { kind, bytes }) => {
                [&[GENERIC, kind.layer(), kind.version()], &bytes[..]]
                    .concat()
                    .into()
            }
        }
    }

    /// Reads a commitment of eigenda-proxy's standard mode: `version | certificate`.
    ///
    /// # Errors
    /// [`DecodeError`] for all other bytes.
    pub fn decode_standard(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [version, certificate @ ..] = bytes else {
            return Err(DecodeError::Empty);
        };
        let kind = CertificateKind::ALL
            .into_iter()
            .find(|kind| kind.version() == *version)
            .ok_or(DecodeError::Version { version: *version })?;
        Self::certificate(kind, Bytes::copy_from_slice(certificate))
    }

    /// The bytes that [`decode_standard`](Self::decode_standard) reads. A digest has none.
    #[must_use]
    pub fn encode_standard(&self) -> Option<Bytes> {
        match self {
            Self::Keccak(_) => None,
            Self::Certificate(Certified { kind, bytes }) => {
                Some([&[kind.version()], &bytes[..]].concat().into())
            }
        }
    }
}

/// As `0x` and lower-case hex.
impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.encode())
    }
}

/// From hex, with or without `0x`.
impl FromStr for Commitment {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::decode(&from_hex(text)?)
    }
}

/// Bytes from hex, with or without `0x`, within the length of a commitment.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>, DecodeError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 2 * MAX_COMMITMENT_LEN {
        let length = digits.len() / 2;
        return Err(DecodeError::TooLong { length });
    }
    // `hex` takes a second prefix, which would be a second spelling.
    if digits.starts_with("0x") {
        return Err(DecodeError::Hex);
    }
    alloy_primitives::hex::decode(digits).map_err(|_| DecodeError::Hex)
}

/// Why bytes are no commitment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before the data that it is about.
    #[error("the commitment ends early")]
    Empty,
    /// It is longer than any commitment.
    #[error("the commitment has {length} bytes; the limit is {MAX_COMMITMENT_LEN}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// The first byte is neither of the two forms.
    #[error("there is no commitment of form 0x{byte:02x}")]
    Form {
        /// The first byte.
        byte: u8,
    },
    /// A digest is not 32 bytes.
    #[error("a digest has 32 bytes, not {length}")]
    DigestLength {
        /// The bytes after the first one.
        length: usize,
    },
    /// Nobody here knows such certificates.
    #[error("there is no certificate of layer 0x{layer:02x} and version 0x{version:02x}")]
    Kind {
        /// The byte of the layer.
        layer: u8,
        /// The byte of the version.
        version: u8,
    },
    /// Nobody here knows such certificates in the standard mode.
    #[error("there is no certificate of version 0x{version:02x}")]
    Version {
        /// The byte of the version.
        version: u8,
    },
    /// The text is not hex.
    #[error("the commitment is not hex")]
    Hex,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = CertificateKind> {
        proptest::sample::select(CertificateKind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn every_commitment_has_one_spelling(kind in kinds(), bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            let digest = Commitment::keccak(&bytes);
            prop_assert_eq!(&Commitment::decode(&digest.encode()).unwrap(), &digest);
            prop_assert_eq!(digest.encode_standard(), None);
            let commitment = Commitment::certificate(kind, bytes.into()).unwrap();
            prop_assert_eq!(&Commitment::decode(&commitment.encode()).unwrap(), &commitment);
            prop_assert_eq!(&commitment.to_string().parse::<Commitment>().unwrap(), &commitment);
            let standard = commitment.encode_standard().unwrap();
            prop_assert_eq!(Commitment::decode_standard(&standard).unwrap(), commitment);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(form in 0u8..3, layer in prop_oneof![Just(0u8), Just(0x6f), any::<u8>()], rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&[form, layer], &rest[..]].concat();
            if let Ok(commitment) = Commitment::decode(&bytes) {
                prop_assert_eq!(&commitment.encode()[..], &bytes[..]);
            }
            if let Ok(commitment) = Commitment::decode_standard(&rest) {
                prop_assert_eq!(&commitment.encode_standard().unwrap()[..], &rest[..]);
            }
        }
    }

    #[test]
    fn the_two_forms_as_bytes() {
        let digest = Commitment::keccak(b"");
        assert_eq!(
            digest.to_string(),
            "0x00c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
        let certificate = |kind| Commitment::certificate(kind, vec![0xab].into()).unwrap();
        assert_eq!(
            certificate(CertificateKind::EigenDaV4).to_string(),
            "0x010003ab"
        );
        assert_eq!(
            certificate(CertificateKind::Development).to_string(),
            "0x016f81ab"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let decode = |text: &str| text.parse::<Commitment>().unwrap_err();
        assert_eq!(decode(""), DecodeError::Empty);
        assert_eq!(decode("01"), DecodeError::Empty);
        assert_eq!(decode("0x0100"), DecodeError::Empty);
        assert_eq!(decode("0x010003"), DecodeError::Empty);
        assert_eq!(decode("0x00"), DecodeError::DigestLength { length: 0 });
        let long = format!("00{}", "11".repeat(33));
        assert_eq!(decode(&long), DecodeError::DigestLength { length: 33 });
        assert_eq!(decode("02ff"), DecodeError::Form { byte: 2 });
        let kind = |layer, version| DecodeError::Kind { layer, version };
        assert_eq!(decode("010004ff"), kind(0, 4), "a version of the future");
        assert_eq!(
            decode("010081ff"),
            kind(0, 0x81),
            "ours is no version of EigenDA"
        );
        assert_eq!(
            decode("016f03ff"),
            kind(0x6f, 3),
            "and EigenDA's is none of ours"
        );
        assert_eq!(decode("0x0x00"), DecodeError::Hex);
        assert_eq!(decode("0g"), DecodeError::Hex);
        let long = vec![1; MAX_COMMITMENT_LEN + 1];
        let length = long.len();
        assert_eq!(
            Commitment::decode(&long),
            Err(DecodeError::TooLong { length })
        );
        let bytes = Bytes::from(vec![1; MAX_COMMITMENT_LEN - 2]);
        assert!(Commitment::certificate(CertificateKind::EigenDaV4, bytes.clone()).is_err());
        let most = Commitment::certificate(CertificateKind::EigenDaV4, bytes.slice(1..));
        assert_eq!(most.unwrap().encode().len(), MAX_COMMITMENT_LEN);
    }
}
