//! Data availability as derivation and batcher use it.

use std::sync::{Arc, OnceLock};

use openledger_da::certificate::{Certificate, Operators, Srs, Verifier};
use openledger_da::server::{BlockNumber, Certificates};
use openledger_da::{
    CertificateKind, ClientConfig, Commitment, DaClient, DaError, HttpClient, InvalidReason,
};
use openledger_derivation::DataAvailability;
use openledger_primitives::{B256, Bytes};

use crate::{Error, Result};

/// A data availability server, or none: then commitments in the inbox stall the chain, as nobody
/// can say what they stand for.
///
/// Certificates of our own servers' operators are judged here, by the committee that the network
/// names: its digest is part of the network, the committee itself is asked of the server and must
/// have that digest. In a network that names none no such certificate counts. Digests are compared
/// with the payload; certificates of EigenDA are the word of the proxy at the URL.
#[derive(Clone)]
pub struct Availability(Arc<Inner>);

struct Inner {
    url: Option<String>,
    /// Digest of the committee that counts.
    committee: Option<B256>,
    client: Option<HttpClient>,
    /// The client that judges certificates, once the server has shown the committee.
    judging: OnceLock<HttpClient>,
}

impl std::fmt::Debug for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Availability({:?})", self.0.url)
    }
}

impl Availability {
    /// The server at `url`, ours or an eigenda-proxy, in a network with the committee of this
    /// digest. Nothing is sent yet.
    #[must_use]
    pub fn at(url: Option<String>, committee: Option<B256>) -> Self {
        let client = url
            .as_ref()
            .map(|url| HttpClient::new(ClientConfig::new(url)));
        Self(Arc::new(Inner {
            url,
            committee,
            client,
            judging: OnceLock::new(),
        }))
    }

    /// Stores a payload. `None` without a server.
    #[must_use]
    pub fn put(&self, payload: &[u8]) -> Option<Result<Commitment, DaError>> {
        let client = self.0.client.as_ref()?;
        if let Some(committee) = self.0.committee {
            return Some(
                self.0
                    .judging(client, committee)
                    .and_then(|client| client.put(payload)),
            );
        }
        let refused = DaError::Rejected {
            status: None,
            message: "the server certifies by a committee, and the network names none".into(),
        };
        Some(match client.put(payload) {
            Ok(commitment) if ours(&commitment).is_some() => Err(refused),
            other => other,
        })
    }
}

/// The certificate in a commitment, if our own servers' operators made it.
fn ours(commitment: &Commitment) -> Option<&[u8]> {
    match commitment {
        Commitment::Certificate(certified) if certified.kind() == CertificateKind::Development => {
            Some(certified.bytes())
        }
        _ => None,
    }
}

fn unproven(message: String) -> DaError {
    DaError::Invalid {
        reason: InvalidReason::Unproven,
        message,
    }
}

impl Inner {
    fn client(&self) -> Result<&HttpClient, DaError> {
        self.client.as_ref().ok_or_else(|| DaError::Unavailable {
            message: "no data availability server is given (--da URL)".into(),
        })
    }

    /// The client with the committee whose digest is `expected`.
    fn judging(&self, client: &HttpClient, expected: B256) -> Result<&HttpClient, DaError> {
        if let Some(judging) = self.judging.get() {
            return Ok(judging);
        }
        let rejected = |message: String| DaError::Rejected {
            status: None,
            message,
        };
        let committee = client.committee()?.ok_or_else(|| {
            rejected(format!(
                "{} makes no certificates, and the network's committee is {expected}",
                client.url()
            ))
        })?;
        let found = committee.digest();
        if found != expected {
            return Err(rejected(format!(
                "{} has committee {found}, and the network's is {expected}",
                client.url()
            )));
        }
        let srs = Arc::new(Srs::development(None));
        let verifier = Verifier::with_setup(committee, srs);
        let verifier = verifier.ok_or_else(|| {
            rejected(format!(
                "committee {expected} makes its commitments with a setup that is not known here"
            ))
        })?;
        let mut config = ClientConfig::new(client.url());
        config.verifier = Some(Arc::new(verifier));
        Ok(self.judging.get_or_init(|| HttpClient::new(config)))
    }

    fn fetch(&self, commitment: &[u8], l1_inclusion: u64) -> Result<Bytes, DaError> {
        let commitment = Commitment::decode(commitment).map_err(|error| DaError::Invalid {
            reason: InvalidReason::Unparsable,
            message: error.to_string(),
        })?;
        let Some(certificate) = ours(&commitment) else {
            let client = self.client()?;
            return client.get_included(&commitment, Some(l1_inclusion));
        };
        // What can be said without the server is said without it.
        let certificate = Certificate::decode(certificate).map_err(|error| DaError::Invalid {
            reason: error.reason(),
            message: error.to_string(),
        })?;
        let found = certificate.committee();
        let Some(expected) = self.committee else {
            return Err(unproven("the network names no committee".into()));
        };
        if found != expected {
            return Err(unproven(format!(
                "it is of committee {found}, and the network's is {expected}"
            )));
        }
        let client = self.judging(self.client()?, expected)?;
        client.get_included(&commitment, Some(l1_inclusion))
    }
}

impl DataAvailability for Availability {
    fn get(
        &self,
        commitment: &[u8],
        l1_inclusion: u64,
    ) -> Result<Bytes, openledger_derivation::DaError> {
        use openledger_derivation::DaError as Derived;
        let fetched = self.0.fetch(commitment, l1_inclusion);
        fetched.map_err(|error| match error {
            DaError::Invalid { .. } => Derived::Invalid(error.to_string()),
            _ => Derived::Unavailable(error.to_string()),
        })
    }
}

/// How a server for development certifies: by operators whose keys follow from `seed`.
#[must_use]
pub fn seeded(seed: &str, reference_block: BlockNumber) -> Certificates {
    Certificates {
        seed: Some(seed.to_owned()),
        ..Certificates::new(reference_block)
    }
}

/// Digest of the committee of [`seeded`] operators.
///
/// # Errors
/// Never; the number of operators is a constant.
pub fn seeded_committee(seed: &str) -> Result<B256> {
    let Certificates {
        operators,
        threshold_percent,
        ..
    } = Certificates::new(Arc::new(|| None));
    let srs = Srs::development(None);
    let operators = Operators::from_seed(seed, operators, threshold_percent, &srs);
    let operators = operators.map_err(|error| Error::Conflict(error.to_string()))?;
    Ok(operators.committee().digest())
}
