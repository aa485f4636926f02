//! What this crate needs of an Ethereum node, and nothing more.

use std::sync::Arc;

use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::Log;
use futures::future::BoxFuture;
use openledger_primitives::Wei;

use crate::Error;

/// A transaction before it has a nonce and a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Receiver; `None` creates a contract.
    pub to: Option<Address>,
    /// Coins to send.
    pub value: Wei,
    /// Calldata, or creation code.
    pub data: Bytes,
    /// Gas limit; `None` asks the node. Give it when the call depends on transactions that are not
    /// mined yet, because the node would estimate without them.
    pub gas: Option<u64>,
    /// Blobs that go with it (EIP-4844), with their commitments and proofs. Such a call needs a
    /// receiver and its own gas limit.
    pub blobs: Option<Arc<BlobTransactionSidecarEip7594>>,
}

impl Call {
    /// A call of a contract without coins.
    pub fn new(to: Address, data: impl Into<Bytes>) -> Self {
        Self {
            to: Some(to),
            data: data.into(),
            ..Self::default()
        }
    }

    /// The same call with coins.
    #[must_use]
    pub const fn with_value(mut self, value: Wei) -> Self {
        self.value = value;
        self
    }

    /// The same call with a gas limit.
    #[must_use]
    pub const fn with_gas(mut self, gas: u64) -> Self {
        self.gas = Some(gas);
        self
    }
}

/// The newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number.
    pub number: u64,
    /// Unix seconds.
    pub timestamp: u64,
}

/// EIP-1559 fees, wei a gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Ceiling of base fee plus tip.
    pub max_fee: u128,
    /// Tip.
    pub max_priority_fee: u128,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Transaction hash.
    pub tx: B256,
    /// Block that holds it.
    pub block: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What its sender paid for that, and for its blobs; on L2 not what the layer 1 takes.
    pub fee: Wei,
    /// Contract it created.
    pub created: Option<Address>,
    /// Its logs.
    pub logs: Vec<Log>,
}

/// An Ethereum node: over HTTP ([`HttpNode`](crate::HttpNode)), in the same process, or the
/// in-memory chain of the tests.
///
/// All futures are boxed, so that users hold an `Arc<dyn Node>` and stay free of a type parameter.
pub trait Node: Send + Sync {
    /// The chain id.
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// The newest block.
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>>;

    /// Number of transactions `account` has sent; `pending` counts those in the mempool.
    fn nonce(&self, account: Address, pending: bool) -> BoxFuture<'_, Result<u64, Error>>;

    /// Coins of `account` after block `at` (`None`: the newest).
    fn balance(&self, account: Address, at: Option<u64>) -> BoxFuture<'_, Result<Wei, Error>>;

    /// Code at `account`; empty for a wallet.
    fn code(&self, account: Address) -> BoxFuture<'_, Result<Bytes, Error>>;

    /// Runs a call on the newest state without a transaction. A revert is
    /// [`Error::Reverted`] with the decoded reason.
    fn call<'a>(
        &'a self,
        from: Option<Address>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Bytes, Error>>;

    /// Gas that the call needs in the next block, where it would run: contracts look at the block
    /// number and the time. A revert is [`Error::Reverted`].
    fn estimate<'a>(&'a self, from: Address, call: &'a Call) -> BoxFuture<'a, Result<u64, Error>>;

    /// Fees with which a transaction is mined soon.
    fn fees(&self) -> BoxFuture<'_, Result<Fees, Error>>;

    /// What a unit of blob gas costs now, wei.
    ///
    /// By default an [`Error::Refused`]: a chain without blobs.
    fn blob_fee(&self) -> BoxFuture<'_, Result<u128, Error>> {
        Box::pin(std::future::ready(Err(Error::Refused {
            method: "eth_blobBaseFee",
            message: "this chain has no blobs".to_owned(),
        })))
    }

    /// Puts a signed transaction (EIP-2718 bytes, with its blobs as EIP-4844 has it) into the
    /// mempool; gives its hash. Submitting it
    /// again is not an error.
    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, Error>>;

    /// The receipt, once mined.
    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<Receipt>, Error>>;

    /// Logs of `addresses` in blocks `from..=to`, in chain order.
    fn logs<'a>(
        &'a self,
        addresses: &'a [Address],
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<Log>, Error>>;
}

/// An amount that the EVM gives in 256 bits; no more than 10^27 wei exist, so it always fits.
pub(crate) fn wei(method: &'static str, value: U256) -> Result<Wei, Error> {
    Wei::try_from(value).map_err(|_| Error::Node {
        method,
        message: format!("{value} wei do not fit 128 bits"),
    })
}
