//! A node behind an HTTP JSON-RPC URL.

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::{Decodable2718, EIP4844_TX_TYPE_ID};
use alloy_network::{
    AnyNetwork, AnyTransactionReceipt, Network, ReceiptResponse, TransactionBuilder,
};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_provider::{
    Provider, RootProvider,
    transport::{RpcError, TransportErrorKind},
};
use alloy_rpc_types_eth::{BlockNumberOrTag, BlockOverrides, Filter, Log, TransactionRequest};
use futures::FutureExt;
use futures::future::BoxFuture;
use openledger_primitives::Wei;
use serde_json::Value;

use crate::Error;
use crate::error::revert_reason;
use crate::node::{Call, Fees, Head, Node, Receipt, wei};

/// A node over HTTP. Deposit transactions of the OP Stack and other unknown types in its answers
/// are no obstacle.
#[derive(Clone, Debug)]
pub struct HttpNode {
    provider: RootProvider<AnyNetwork>,
}

impl HttpNode {
    /// A node at `url`, for example `http://127.0.0.1:8545`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(url: &str) -> Result<Self, Error> {
        let parsed = url.parse().map_err(|e| Error::Url {
            url: url.to_owned(),
            reason: format!("{e}"),
        })?;
        Ok(Self {
            provider: RootProvider::new_http(parsed),
        })
    }

    /// Any method, with positional parameters; its answer as it came.
    ///
    /// # Errors
    /// [`Error::Node`] when the node does not answer, [`Error::Refused`] with its reason when it
    /// will not.
    pub async fn request(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let answer = self.provider.raw_request(method.into(), params);
        answer.await.map_err(failure(method))
    }
}

/// A JSON-RPC error as ours; a revert keeps its decoded reason.
fn failure(method: &'static str) -> impl FnOnce(RpcError<TransportErrorKind>) -> Error {
    move |error| {
        let payload = error.as_error_resp();
        if let Some(data) = payload.and_then(|p| p.as_revert_data()) {
            return Error::Reverted {
                reason: revert_reason(&data),
            };
        }
        match payload {
            Some(p) if p.message.contains("revert") => Error::Reverted {
                reason: p.message.to_string(),
            },
            Some(p) => Error::Refused {
                method,
                message: format!("{} (code {})", p.message, p.code),
            },
            None => Error::Node {
                method,
                message: error.to_string(),
            },
        }
    }
}

fn request(from: Option<Address>, call: &Call) -> TransactionRequest {
    TransactionRequest {
        from,
        to: Some(call.to.map_or(TxKind::Create, TxKind::Call)),
        value: Some(call.value.into()),
        gas: call.gas,
        ..TransactionRequest::default()
    }
    .with_input(call.data.clone())
}

/// What the sender paid. An endpoint that names absurd prices gets an absurd sum, never a small one.
fn fee(receipt: &AnyTransactionReceipt) -> Wei {
    let paid = |gas: u64, price: u128| u128::from(gas).saturating_mul(price);
    let blobs = receipt.blob_gas_used().zip(receipt.blob_gas_price());
    let blobs = blobs.map_or(0, |(gas, price)| paid(gas, price));
    let gas = paid(receipt.gas_used(), receipt.effective_gas_price());
    Wei::new(gas.saturating_add(blobs))
}

impl Node for HttpNode {
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        async {
            self.provider
                .get_chain_id()
                .await
                .map_err(failure("eth_chainId"))
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        const METHOD: &str = "eth_getBlockByNumber";
        async {
            let block = self
                .provider
                .get_block_by_number(BlockNumberOrTag::Latest)
                .await
                .map_err(failure(METHOD))?
                .ok_or_else(|| Error::Node {
                    method: METHOD,
                    message: "no latest block".to_owned(),
                })?;
            Ok(Head {
                number: block.header.number,
                timestamp: block.header.timestamp,
            })
        }
        .boxed()
    }

    fn nonce(&self, account: Address, pending: bool) -> BoxFuture<'_, Result<u64, Error>> {
        async move {
            let count = self.provider.get_transaction_count(account);
            let count = if pending {
                count.pending()
            } else {
                count.latest()
            };
            count.await.map_err(failure("eth_getTransactionCount"))
        }
        .boxed()
    }

    fn balance(&self, account: Address, at: Option<u64>) -> BoxFuture<'_, Result<Wei, Error>> {
        const METHOD: &str = "eth_getBalance";
        async move {
            let balance = self.provider.get_balance(account);
            let balance = match at {
                Some(block) => balance.number(block),
                None => balance.latest(),
            };
            wei(METHOD, balance.await.map_err(failure(METHOD))?)
        }
        .boxed()
    }

    fn code(&self, account: Address) -> BoxFuture<'_, Result<Bytes, Error>> {
        async move {
            self.provider
                .get_code_at(account)
                .await
                .map_err(failure("eth_getCode"))
        }
        .boxed()
    }

    fn call<'a>(
        &'a self,
        from: Option<Address>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        async move {
            self.provider
                .call(request(from, call).into())
                .await
                .map_err(failure("eth_call"))
        }
        .boxed()
    }

    fn estimate<'a>(&'a self, from: Address, call: &'a Call) -> BoxFuture<'a, Result<u64, Error>> {
        const METHOD: &str = "eth_estimateGas";
        /// JSON-RPC: the node does not know the parameter.
        const INVALID_PARAMS: i64 = -32602;
        async move {
            let transaction: <AnyNetwork as Network>::TransactionRequest =
                request(Some(from), call).into();
            let head = self.head().await?;
            let next = BlockOverrides::default()
                .with_number(U256::from(head.number.saturating_add(1)))
                .with_time(head.timestamp.saturating_add(1));
            let ask = || self.provider.estimate_gas(transaction.clone());
            match ask().with_block_overrides(next).await {
                Err(e) if e.as_error_resp().is_some_and(|p| p.code == INVALID_PARAMS) => {
                    ask().await.map_err(failure(METHOD))
                }
                answer => answer.map_err(failure(METHOD)),
            }
        }
        .boxed()
    }

    fn fees(&self) -> BoxFuture<'_, Result<Fees, Error>> {
        async {
            let price = self
                .provider
                .get_gas_price()
                .await
                .map_err(failure("eth_gasPrice"))?;
            let tip = self
                .provider
                .get_max_priority_fee_per_gas()
                .await
                .map_err(failure("eth_maxPriorityFeePerGas"))?;
            // The base fee rises by at most an eighth a block, so the double lasts six full blocks.
            Ok(Fees {
                max_fee: price.saturating_mul(2).saturating_add(tip),
                max_priority_fee: tip,
            })
        }
        .boxed()
    }

    fn blob_fee(&self) -> BoxFuture<'_, Result<u128, Error>> {
        async {
            let fee = self.provider.get_blob_base_fee().await;
            fee.map_err(failure("eth_blobBaseFee"))
        }
        .boxed()
    }

    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, Error>> {
        async move {
            let hash = hash_of(&raw);
            match self.provider.send_raw_transaction(&raw).await {
                Ok(_) => Ok(hash),
                Err(e)
                    if e.as_error_resp()
                        .is_some_and(|p| p.message.contains("already known")) =>
                {
                    Ok(hash)
                }
                Err(e) => Err(failure("eth_sendRawTransaction")(e)),
            }
        }
        .boxed()
    }

    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<Receipt>, Error>> {
        async move {
            let receipt = self
                .provider
                .get_transaction_receipt(tx)
                .await
                .map_err(failure("eth_getTransactionReceipt"))?;
            Ok(receipt.and_then(|r| {
                Some(Receipt {
                    tx,
                    block: r.block_number()?,
                    success: r.status(),
                    gas_used: r.gas_used(),
                    fee: fee(&r),
                    created: r.contract_address(),
                    logs: r.inner.inner.logs().to_vec(),
                })
            }))
        }
        .boxed()
    }

    fn logs<'a>(
        &'a self,
        addresses: &'a [Address],
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<Log>, Error>> {
        async move {
            let filter = Filter::new()
                .address(addresses.to_vec())
                .from_block(from)
                .to_block(to);
            self.provider
                .get_logs(&filter)
                .await
                .map_err(failure("eth_getLogs"))
        }
        .boxed()
    }
}

/// The hash of a transaction; blobs are not in it.
fn hash_of(raw: &Bytes) -> B256 {
    let whole = || alloy_primitives::keccak256(raw);
    match raw.first() {
        Some(&EIP4844_TX_TYPE_ID) => {
            TxEnvelope::decode_2718_exact(raw).map_or_else(|_| whole(), |tx| *tx.tx_hash())
        }
        _ => whole(),
    }
}
