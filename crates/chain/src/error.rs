//! What can go wrong between here and the chain.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{Panic, Revert, SolError, SolInterface, decode_revert_reason};
use openledger_primitives::Wei;

use crate::bindings::{
    AccessManager, CommonsVault, ContributionAnchor, DatanetRegistry, DisputeGameFactory,
    InferenceSettlement, ModelRegistry, OpenBridge, OptimismPortal, OutputGame, ProtocolParameters,
};

/// An error of the chain client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node could not be asked, or its answer not be understood.
    #[error("node: {method}: {message}")]
    Node {
        /// JSON-RPC method, or what stands for it.
        method: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The node answered with an error of its own: asking again will not help.
    #[error("node refuses {method}: {message}")]
    Refused {
        /// JSON-RPC method, or what stands for it.
        method: &'static str,
        /// The node's words.
        message: String,
    },
    /// The node's URL is not one.
    #[error("not a URL: {url:?}: {reason}; expected for example http://127.0.0.1:8545")]
    Url {
        /// What was given.
        url: String,
        /// The parser's words.
        reason: String,
    },
    /// The call would revert; nothing was sent.
    #[error("the contract refuses: {reason}")]
    Reverted {
        /// The custom error with its arguments, or the revert string.
        reason: String,
    },
    /// The transaction was mined and reverted.
    #[error("transaction {hash} failed: {reason}")]
    Failed {
        /// The transaction.
        hash: B256,
        /// The custom error with its arguments, where it could be found out.
        reason: String,
    },
    /// The transaction was sent and not mined in time; it may still be mined.
    #[error(
        "transaction {hash} was not mined within {seconds} s; send_once with the same key waits for it again"
    )]
    NotMined {
        /// The transaction.
        hash: B256,
        /// How long was waited.
        seconds: u64,
    },
    /// No key for this account.
    #[error("no key for account {0}")]
    NoSigner(Address),
    /// A signature could not be made.
    #[error("signing failed: {0}")]
    Signing(String),
    /// A signature does not hold: malformed, high s (EIP-2), or another signer.
    #[error("bad signature: {0}")]
    BadSignature(String),
    /// The outbox could not be read or written.
    #[error("outbox: {context}")]
    Outbox {
        /// File and operation.
        context: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An outbox entry is not a signed transaction of ours.
    #[error("outbox entry {key:?} is not a signed transaction: {reason}")]
    BadOutboxEntry {
        /// The entry's key.
        key: String,
        /// The decoder's words.
        reason: String,
    },
    /// The deployer's account cannot give the contracts their expected addresses.
    #[error(
        "deployer {deployer} has nonce {nonce}, but {contract} must be created at nonce {expected}; use a fresh deployer key"
    )]
    DeployerNonce {
        /// The deployer.
        deployer: Address,
        /// Its nonce.
        nonce: u64,
        /// Next contract to create.
        contract: &'static str,
        /// The nonce it needs.
        expected: u64,
    },
    /// What the contract answered is not what its ABI says.
    #[error("unexpected answer of {contract} to {function}: {reason}")]
    Answer {
        /// Contract's name.
        contract: &'static str,
        /// Function's name.
        function: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// A log of one of our contracts that this version does not know.
    #[error("unknown log of {address} with topic {topic:?} in transaction {tx:?}")]
    UnknownLog {
        /// Emitting contract.
        address: Address,
        /// First topic.
        topic: Option<B256>,
        /// Transaction.
        tx: Option<B256>,
    },
    /// Amounts in the logs do not add up.
    #[error("ledger: {0}")]
    Ledger(String),
    /// A contract holds another amount than its logs say.
    #[error("{contract} holds {actual} wei, its logs say {expected} wei")]
    Imbalance {
        /// Contract's name.
        contract: &'static str,
        /// By the logs.
        expected: Wei,
        /// By the state.
        actual: Wei,
    },
}

/// The custom error, revert string or panic in a revert's data, in words.
///
/// Custom errors are shown with their arguments, `WrongFee(WrongFee { expected: 5, sent: 4 })`.
pub fn revert_reason(data: &Bytes) -> String {
    macro_rules! try_errors {
        ($($contract:ident :: $errors:ident),* $(,)?) => {$(
            if let Ok(error) = $contract::$errors::abi_decode(data) {
                return short(&format!("{error:?}"));
            }
        )*};
    }
    try_errors!(
        InferenceSettlement::InferenceSettlementErrors,
        ContributionAnchor::ContributionAnchorErrors,
        DatanetRegistry::DatanetRegistryErrors,
        ModelRegistry::ModelRegistryErrors,
        ProtocolParameters::ProtocolParametersErrors,
        CommonsVault::CommonsVaultErrors,
        AccessManager::AccessManagerErrors,
        OptimismPortal::OptimismPortalErrors,
        OutputGame::OutputGameErrors,
        DisputeGameFactory::DisputeGameFactoryErrors,
        OpenBridge::OpenBridgeErrors,
    );
    if data.is_empty() {
        return "reverted without a reason".to_owned();
    }
    // `decode_revert_reason` alone would take any valid UTF-8 for a reason.
    if Revert::abi_decode(data).is_ok() || Panic::abi_decode(data).is_ok() {
        return decode_revert_reason(data).unwrap_or_default();
    }
    format!("reverted with {data}")
}

/// `Name(Name { .. })`, as the derived Debug prints it, without the repetition.
fn short(debug: &str) -> String {
    debug
        .split_once('(')
        .and_then(|(name, rest)| Some((name, rest.strip_suffix(')')?)))
        .filter(|(name, rest)| rest.starts_with(name))
        .map_or_else(|| debug.to_owned(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    #[test]
    fn reasons_are_readable() {
        let custom = DatanetRegistry::WrongFee {
            expected: U256::from(5),
            sent: U256::from(4),
        };
        assert_eq!(
            revert_reason(&custom.abi_encode().into()),
            "WrongFee { expected: 5, sent: 4 }"
        );
        let text = Revert::from("no".to_owned()).abi_encode();
        assert!(revert_reason(&text.into()).contains("no"));
        assert_eq!(revert_reason(&Bytes::new()), "reverted without a reason");
        assert_eq!(
            revert_reason(&Bytes::from_static(&[1, 2, 3, 4, 5])),
            "reverted with 0x0102030405"
        );
    }
}
