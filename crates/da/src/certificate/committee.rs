//! Who signs, with what weight.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ark_bn254::{Fr, G1Projective, G2Affine, G2Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{PrimeField, Zero};
use openledger_primitives::{B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

use super::kzg::{Srs, hash_to_g1};
use super::points::{G2_LEN, integer, read_g2, write_g2};
use super::{Certificate, CertificateError, Header};

/// The most operators: what fits the bits of a certificate.
pub const MAX_OPERATORS: usize = 64;

/// The public side of the operators: keys, stakes, the share of the stake that must sign, and the
/// setup that commitments are made with.
///
/// Its [`digest`](Self::digest) covers all of that, and every certificate names it, so a rollup
/// that writes down the digest cannot be shown another committee. The keys come without proofs of
/// possession: all of them belong to one process, which needs no rogue key to deceive itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Description", into = "Description")]
pub struct Committee {
    operators: Vec<Operator>,
    threshold_percent: u8,
    setup: G2Affine,
    digest: B256,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Operator {
    key: G2Affine,
    stake: u64,
}

/// A committee as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    operators: Vec<OperatorDescription>,
    threshold_percent: u8,
    setup: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorDescription {
    public_key: Bytes,
    stake: u64,
}

/// Why there is no such committee.
#[derive(Debug, thiserror::Error)]
pub enum CommitteeError {
    /// It has no operator, or more than there can be.
    #[error("a committee has 1 to {MAX_OPERATORS} operators, not {count}")]
    Count {
        /// How many it has.
        count: usize,
    },
    /// The threshold is no percentage that means anything.
    #[error("a threshold is 1 to 100 percent, not {percent}")]
    Threshold {
        /// What it is.
        percent: u8,
    },
    /// A key or the setup is no point of the group, or no finite one.
    #[error("{what} is no point of G2")]
    Point {
        /// Which.
        what: String,
    },
    /// An operator is there twice, or has no stake.
    #[error("operator {index} has no stake, or the key of another one")]
    Operator {
        /// Which, from 0.
        index: usize,
    },
    /// The file of the secret keys can be read by others.
    #[error("{path} can be read by others; make it private with chmod 600")]
    NotPrivate {
        /// The file.
        path: std::path::PathBuf,
    },
    /// The file of the secret keys holds something else.
    #[error("{path} does not hold secret keys, one per line in hex")]
    Secrets {
        /// The file.
        path: std::path::PathBuf,
    },
    /// The file of the secret keys, or the system's randomness, cannot be used.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
}

impl Committee {
    fn new(
        operators: Vec<Operator>,
        threshold_percent: u8,
        setup: G2Affine,
    ) -> Result<Self, CommitteeError> {
        let count = operators.len();
        if !(1..=MAX_OPERATORS).contains(&count) {
            return Err(CommitteeError::Count { count });
        }
        if !(1..=100).contains(&threshold_percent) {
            let percent = threshold_percent;
            return Err(CommitteeError::Threshold { percent });
        }
        for (index, operator) in operators.iter().enumerate() {
            let before = operators[..index].iter();
            if operator.stake == 0 || before.map(|o| o.key).any(|key| key == operator.key) {
                return Err(CommitteeError::Operator { index });
            }
        }
        let mut bytes = b"openledger committee 1".to_vec();
        bytes.push(threshold_percent);
        bytes.extend_from_slice(&write_g2(&setup));
        for operator in &operators {
            bytes.extend_from_slice(&write_g2(&operator.key));
            bytes.extend_from_slice(&operator.stake.to_be_bytes());
        }
        Ok(Self {
            operators,
            threshold_percent,
            setup,
            digest: keccak256(bytes),
        })
    }

    /// Names the committee: keys, stakes, threshold and setup.
    #[must_use]
    pub fn digest(&self) -> B256 {
        self.digest
    }

    /// How many operators there are.
    #[must_use]
    pub fn operators(&self) -> usize {
        self.operators.len()
    }

    /// The share of the stake that must sign, in percent.
    #[must_use]
    pub fn threshold_percent(&self) -> u8 {
        self.threshold_percent
    }

    /// Whether commitments are made with this setup.
    #[must_use]
    pub fn uses(&self, srs: &Srs) -> bool {
        self.setup == srs.tau_g2()
    }

    /// The sum of the signers' keys, if they are operators and have stake enough.
    pub(super) fn aggregate_key(&self, signers: u64) -> Result<G2Affine, CertificateError> {
        if u32::try_from(self.operators()).is_ok_and(|n| signers.checked_shr(n).unwrap_or(0) != 0) {
            return Err(CertificateError::UnknownSigner);
        }
        let total: u128 = self.operators.iter().map(|o| u128::from(o.stake)).sum();
        let mut signed = 0u128;
        let mut key = G2Projective::zero();
        for (i, operator) in self.operators.iter().enumerate() {
            if signers >> i & 1 == 1 {
                signed += u128::from(operator.stake);
                key += operator.key;
            }
        }
        if signed * 100 < total * u128::from(self.threshold_percent) {
            return Err(CertificateError::Stake {
                signed,
                total,
                threshold_percent: self.threshold_percent,
            });
        }
        Ok(key.into_affine())
    }
}

impl TryFrom<Description> for Committee {
    type Error = CommitteeError;

    fn try_from(description: Description) -> Result<Self, CommitteeError> {
        let count = description.operators.len();
        if count > MAX_OPERATORS {
            return Err(CommitteeError::Count { count });
        }
        let point = |bytes: &Bytes, what: String| {
            let bytes = <&[u8; G2_LEN]>::try_from(&bytes[..]).ok();
            bytes
                .and_then(read_g2)
                .ok_or(CommitteeError::Point { what })
        };
        let mut operators = Vec::with_capacity(count);
        for (index, operator) in description.operators.iter().enumerate() {
            let key = point(&operator.public_key, format!("the key of operator {index}"))?;
            let stake = operator.stake;
            operators.push(Operator { key, stake });
        }
        let setup = point(&description.setup, "the setup".into())?;
        Self::new(operators, description.threshold_percent, setup)
    }
}

impl From<Committee> for Description {
    fn from(committee: Committee) -> Self {
        let operators = committee.operators.iter().map(|o| OperatorDescription {
            public_key: write_g2(&o.key).into(),
            stake: o.stake,
        });
        Self {
            operators: operators.collect(),
            threshold_percent: committee.threshold_percent,
            setup: write_g2(&committee.setup).into(),
        }
    }
}

/// The secret side: operators that live in this process and sign for each other.
///
/// They stand for machines that each hold a part of the blob. Here they all hold the same copy on
/// the same disk, so their signatures say *this server stored it* and no more.
pub struct Operators {
    secrets: Vec<Fr>,
    committee: Committee,
}

impl Operators {
    /// The operators whose keys are in `file`; made by chance, `count` of them, if there is no
    /// such file. Each has one unit of stake. The file is readable by its owner alone.
    ///
    /// # Errors
    /// [`CommitteeError`] if there is no committee in the file or none of this size, or if others
    /// may read the file.
    pub fn open(
        file: &Path,
        count: usize,
        threshold_percent: u8,
        srs: &Srs,
    ) -> Result<Self, CommitteeError> {
        if !file.exists() {
            if !(1..=MAX_OPERATORS).contains(&count) {
                return Err(CommitteeError::Count { count });
            }
            let mut text = String::new();
            for _ in 0..count {
                let secret = random()?;
                text.push_str(&alloy_primitives::hex::encode(secret));
                text.push('\n');
            }
            // The temporary file behind this is made with mode 600.
            openledger_store::write_atomic(file, text.as_bytes())?;
        }
        check_private(file)?;
        let secrets = openledger_store::read(file)?;
        let secrets = std::str::from_utf8(&secrets)
            .ok()
            .and_then(|text| text.lines().map(secret).collect::<Option<Vec<Fr>>>());
        let secrets = secrets.ok_or_else(|| CommitteeError::Secrets {
            path: file.to_owned(),
        })?;
        Self::from_secrets(secrets, threshold_percent, srs)
    }

    /// `count` operators whose keys follow from `seed`, for development: no more secret than that.
    ///
    /// # Errors
    /// [`CommitteeError`] if there is no committee of this size or threshold.
    pub fn from_seed(
        seed: &str,
        count: usize,
        threshold_percent: u8,
        srs: &Srs,
    ) -> Result<Self, CommitteeError> {
        if !(1..=MAX_OPERATORS).contains(&count) {
            return Err(CommitteeError::Count { count });
        }
        let secrets = (0..count).map(|index| {
            let digest = keccak256(format!("{seed} {index}"));
            Fr::from_be_bytes_mod_order(digest.as_slice())
        });
        Self::from_secrets(secrets.collect(), threshold_percent, srs)
    }

    pub(super) fn from_secrets(
        secrets: Vec<Fr>,
        threshold_percent: u8,
        srs: &Srs,
    ) -> Result<Self, CommitteeError> {
        let operators = secrets.iter().map(|secret| Operator {
            key: (G2Projective::generator() * secret).into_affine(),
            stake: 1,
        });
        let committee = Committee::new(operators.collect(), threshold_percent, srs.tau_g2())?;
        Ok(Self { secrets, committee })
    }

    /// The public side.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// The certificate that all operators have `payload`, as of the block `reference_block` of
    /// the layer 1. The caller has stored it.
    ///
    /// # Errors
    /// [`CertificateError::Payload`] if it is empty or too long.
    pub fn certify(
        &self,
        srs: &Srs,
        payload: &[u8],
        reference_block: u64,
    ) -> Result<Certificate, CertificateError> {
        let header = Header::new(srs, payload, reference_block, self.committee.digest())?;
        let all = u64::MAX >> (MAX_OPERATORS - self.secrets.len());
        Ok(self.sign(header, all))
    }

    /// What comes of the signatures of `signers`, enough or not.
    pub(super) fn sign(&self, header: Header, signers: u64) -> Certificate {
        let message = hash_to_g1(&header.digest().0);
        let mut signature = G1Projective::zero();
        let mut key = G2Projective::zero();
        for (i, secret) in self.secrets.iter().enumerate() {
            if signers >> i & 1 == 1 {
                signature += message * secret;
                key += G2Projective::generator() * secret;
            }
        }
        Certificate {
            header,
            signers,
            signature: signature.into_affine(),
            key: key.into_affine(),
        }
    }
}

/// Without the secrets.
impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operators")
            .field("committee", &self.committee.digest())
            .finish_non_exhaustive()
    }
}

/// 64 bytes of the system's randomness, reduced.
fn random() -> Result<[u8; 32], openledger_store::Error> {
    use ark_ff::BigInteger as _;
    let path = Path::new("/dev/urandom");
    loop {
        let mut bytes = [0; 64];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(|source| openledger_store::Error::File {
                action: "read",
                path: path.to_owned(),
                source,
            })?;
        let secret = Fr::from_be_bytes_mod_order(&bytes);
        let secret = secret.into_bigint().to_bytes_be();
        match <[u8; 32]>::try_from(&secret[..]) {
            Ok(secret) if secret != [0; 32] => return Ok(secret),
            _ => {}
        }
    }
}

fn secret(line: &str) -> Option<Fr> {
    let bytes: [u8; 32] = alloy_primitives::hex::decode_to_array(line).ok()?;
    Fr::from_bigint(integer(&bytes)).filter(|secret| !secret.is_zero())
}

#[cfg(unix)]
fn check_private(file: &Path) -> Result<(), CommitteeError> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = file.to_owned();
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            Err(CommitteeError::NotPrivate { path })
        }
        Ok(_) => Ok(()),
        Err(source) => Err(CommitteeError::Store(openledger_store::Error::File {
            action: "read",
            path,
            source,
        })),
    }
}

#[cfg(not(unix))]
fn check_private(_: &Path) -> Result<(), CommitteeError> {
    Ok(())
}
