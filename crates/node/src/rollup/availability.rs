//! Data availability as derivation and batcher use it.

use std::sync::Arc;

use openledger_da::{ClientConfig, Commitment, DaClient, DaError, HttpClient};
use openledger_derivation::DataAvailability;
use openledger_primitives::Bytes;

/// A data availability server, or none: then commitments in the inbox stall the chain, as nobody
/// can say what they stand for.
#[derive(Clone)]
pub struct Availability {
    url: Option<String>,
    client: Option<Arc<dyn DaClient>>,
}

impl std::fmt::Debug for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Availability({:?})", self.url)
    }
}

impl Availability {
    /// The server at `url`, ours or an eigenda-proxy.
    #[must_use]
    pub fn at(url: Option<String>) -> Self {
        let client = url
            .as_ref()
            .map(|url| Arc::new(HttpClient::new(ClientConfig::new(url))) as Arc<dyn DaClient>);
        Self { url, client }
    }

    /// Stores a payload. `None` without a server.
    pub(crate) fn put(&self, payload: &[u8]) -> Option<Result<Commitment, DaError>> {
        self.client.as_ref().map(|client| client.put(payload))
    }
}

impl DataAvailability for Availability {
    fn get(&self, commitment: &[u8]) -> Result<Bytes, openledger_derivation::DaError> {
        use openledger_derivation::DaError as Derived;
        let Some(client) = &self.client else {
            let text = "no data availability server is given (--da URL)";
            return Err(Derived::Unavailable(text.into()));
        };
        let commitment =
            Commitment::decode(commitment).map_err(|e| Derived::Invalid(e.to_string()))?;
        client.get(&commitment).map_err(|error| match error {
            DaError::Invalid { .. } => Derived::Invalid(error.to_string()),
            _ => Derived::Unavailable(error.to_string()),
        })
    }
}
