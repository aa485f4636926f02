//! `web3_`, `net_`, `txpool_` and most of `eth_`.

use super::{
    Context, Shared, convert,
    error::{self, RpcResult, failure, invalid_params, not_included, output, server},
};
use crate::{
    block::ExecutedBlock,
    call::Overrides,
    chain::{ChainHandle, included},
    error::Error,
};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_rpc_types_eth::{
    AccessListResult, BlockOverrides, EIP1186AccountProofResponse, EIP1186StorageProof, Filter,
    Index, TransactionRequest, simulate::SimulatePayload, state::StateOverride,
};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    types::{Params, params::ParamsSequence},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Default and longest wait of `eth_sendRawTransactionSync`.
const SYNC_WAIT: Duration = Duration::from_secs(20);
const SYNC_WAIT_MAX: Duration = Duration::from_secs(60);

/// Positional parameters.
pub(super) struct Args<'a>(ParamsSequence<'a>);

impl<'a> Args<'a> {
    pub(super) fn of(params: &'a Params<'_>) -> Self {
        Self(params.sequence())
    }

    /// A required parameter.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> RpcResult<T> {
        let value: Value = self
            .0
            .next()
            .map_err(|_| invalid_params("missing value for required argument"))?;
        serde_json::from_value(value).map_err(|e| invalid_params(format!("invalid argument: {e}")))
    }

    /// A parameter that may be left out or null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self) -> RpcResult<Option<T>> {
        let value: Option<Value> = self
            .0
            .optional_next()
            .map_err(|e| invalid_params(e.message().to_owned()))?;
        value
            .filter(|v| !v.is_null())
            .map(serde_json::from_value)
            .transpose()
            .map_err(|e| invalid_params(format!("invalid argument: {e}")))
    }

    /// A block id, `latest` when left out.
    fn block(&mut self) -> RpcResult<BlockId> {
        Ok(self.optional()?.unwrap_or_default())
    }
}

/// Runs a method's body on its parameters.
pub(super) fn answer<T: Serialize>(
    context: &Context,
    params: &Params<'_>,
    body: impl FnOnce(&Context, &mut Args<'_>) -> RpcResult<T>,
) -> RpcResult<Value> {
    let value = body(context, &mut Args::of(params))?;
    serde_json::to_value(value).map_err(|e| server(e.to_string()))
}

/// Registers a method on the blocking pool; the body may use `?` and gives something serialisable.
macro_rules! method {
    ($module:ident, $name:literal, |$cx:ident, $args:ident| $body:expr) => {
        $module.register_blocking_method($name, |params, context: Shared, _| {
            #[allow(unused_variables, reason = "not every method has parameters")]
            answer(&context, &params, |$cx, $args| Ok($body))
        })?
    };
}
pub(super) use method;

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "web3_clientVersion", |_cx, args| concat!(
        "openledger/",
        env!("CARGO_PKG_VERSION")
    ));
    method!(module, "web3_sha3", |_cx, args| keccak256(
        args.next::<Bytes>()?
    ));
    method!(module, "net_version", |cx, args| cx
        .chain
        .chain_id()
        .to_string());
    method!(module, "net_listening", |_cx, args| true);
    method!(module, "net_peerCount", |_cx, args| U64::ZERO);
    method!(module, "eth_chainId", |cx, args| U64::from(
        cx.chain.chain_id()
    ));
    method!(module, "eth_syncing", |_cx, args| false);
    method!(module, "eth_accounts", |_cx, args| Vec::<Address>::new());
    method!(module, "eth_blockNumber", |cx, args| U64::from(
        cx.chain.labels()?.head
    ));
    method!(module, "txpool_status", |cx, args| {
        let status = cx.chain.pool_status();
        json!({ "pending": U64::from(status.pending), "queued": U64::from(status.queued) })
    });
    blocks(module)?;
    state(module)?;
    transactions(module)?;
    calls(module)
}

/// A block by an id that may not exist.
fn find(chain: &ChainHandle, id: BlockId) -> RpcResult<Option<ExecutedBlock>> {
    if id.is_pending()
        && let Some(open) = chain.pending()
    {
        return Ok(Some(Arc::unwrap_or_clone(open)));
    }
    let reader = chain.reader()?;
    match chain.resolve(&reader, id) {
        Ok(number) => Ok(reader.executed(number)?),
        Err(Error::Unknown { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn blocks(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_getBlockByNumber", |cx, args| {
        let tag: BlockNumberOrTag = args.next()?;
        let full = args.optional()?.unwrap_or(false);
        find(&cx.chain, tag.into())?.map(|b| convert::block(&b, full))
    });
    method!(module, "eth_getBlockByHash", |cx, args| {
        let hash: B256 = args.next()?;
        let full = args.optional()?.unwrap_or(false);
        find(&cx.chain, hash.into())?.map(|b| convert::block(&b, full))
    });
    method!(module, "eth_getHeaderByNumber", |cx, args| {
        let tag: BlockNumberOrTag = args.next()?;
        find(&cx.chain, tag.into())?.map(|b| convert::header(&b.block.header, None))
    });
    method!(module, "eth_getHeaderByHash", |cx, args| {
        let hash: B256 = args.next()?;
        find(&cx.chain, hash.into())?.map(|b| convert::header(&b.block.header, None))
    });
    method!(module, "eth_getBlockReceipts", |cx, args| {
        let id: BlockId = args.next()?;
        let reader = cx.chain.reader()?;
        match find(&cx.chain, id)? {
            None => None,
            Some(block) => Some(convert::receipts(cx.chain.spec(), &reader, &block)?),
        }
    });
    method!(
        module,
        "eth_getBlockTransactionCountByNumber",
        |cx, args| {
            let tag: BlockNumberOrTag = args.next()?;
            find(&cx.chain, tag.into())?.map(|b| U64::from(b.block.transactions.len()))
        }
    );
    method!(module, "eth_getBlockTransactionCountByHash", |cx, args| {
        let hash: B256 = args.next()?;
        find(&cx.chain, hash.into())?.map(|b| U64::from(b.block.transactions.len()))
    });
    method!(module, "eth_getUncleCountByBlockNumber", |cx, args| {
        let tag: BlockNumberOrTag = args.next()?;
        find(&cx.chain, tag.into())?.map(|_| U64::ZERO)
    });
    method!(module, "eth_getUncleCountByBlockHash", |cx, args| {
        let hash: B256 = args.next()?;
        find(&cx.chain, hash.into())?.map(|_| U64::ZERO)
    });
    method!(module, "eth_getLogs", |cx, args| {
        let filter: Filter = args.next()?;
        cx.chain.logs(&filter)?
    });
    Ok(())
}

fn state(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_getBalance", |cx, args| {
        let address: Address = args.next()?;
        cx.chain.state(args.block()?)?.balance(address)?
    });
    method!(module, "eth_getCode", |cx, args| {
        let address: Address = args.next()?;
        cx.chain.state(args.block()?)?.code(address)?
    });
    method!(module, "eth_getStorageAt", |cx, args| {
        let address: Address = args.next()?;
        let slot: U256 = args.next()?;
        B256::from(cx.chain.state(args.block()?)?.storage_at(address, slot)?)
    });
    method!(module, "eth_getTransactionCount", |cx, args| {
        let address: Address = args.next()?;
        let id = args.block()?;
        U64::from(if id.is_pending() {
            cx.chain.pending_nonce(address)?
        } else {
            cx.chain.state(id)?.nonce(address)?
        })
    });
    method!(module, "eth_getProof", |cx, args| {
        let address: Address = args.next()?;
        let slots: Vec<U256> = args.next()?;
        if slots.len() > 1_024 {
            return Err(invalid_params("too many keys"));
        }
        let keys: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
        let proof = cx.chain.proof(address, &keys, args.block()?)?;
        let account = proof.account.unwrap_or_default();
        EIP1186AccountProofResponse {
            address,
            balance: account.balance,
            code_hash: proof.account.map_or(KECCAK_EMPTY, |a| a.code_hash),
            nonce: account.nonce,
            storage_hash: proof.account.map_or(EMPTY_ROOT_HASH, |a| a.storage_root),
            account_proof: proof.nodes,
            storage_proof: keys
                .iter()
                .zip(proof.storage)
                .map(|(key, (value, proof))| EIP1186StorageProof {
                    key: (*key).into(),
                    value,
                    proof,
                })
                .collect(),
        }
    });
    Ok(())
}

fn transactions(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    // Not on the blocking pool: admission takes some forty microseconds, less than handing each
    // transaction of a batch to another thread and back.
    module.register_method("eth_sendRawTransaction", |params, context, _| {
        answer(context, &params, |cx, args| {
            Ok(cx.chain.send_raw(args.next()?)?)
        })
    })?;
    module.register_async_method(
        "eth_sendRawTransactionSync",
        |params, context, _| async move {
            let mut args = Args::of(&params);
            let raw: Bytes = args.next()?;
            let wait = args
                .optional::<u64>()?
                .map_or(SYNC_WAIT, |ms| Duration::from_millis(ms).min(SYNC_WAIT_MAX));
            let chain = &context.chain;
            // Recovering the sender takes tens of microseconds: no reason to leave this thread.
            let hash = chain.send_raw(raw)?;
            let included = tokio::time::timeout(wait, chain.wait_included(hash))
                .await
                .map_err(|_| not_included(hash, wait))??;
            convert::receipt_of(chain.spec(), &chain.reader()?, &included)
        },
    )?;
    method!(module, "eth_getTransactionByHash", |cx, args| {
        let hash: B256 = args.next()?;
        match cx.chain.included(hash)? {
            Some(found) => Some(convert::transaction(&found.block, found.index)),
            None => cx.chain.pool().get(hash).map(|tx| convert::pending(&tx)),
        }
    });
    method!(module, "eth_getRawTransactionByHash", |cx, args| {
        let hash: B256 = args.next()?;
        match cx.chain.included(hash)? {
            Some(found) => Some(found.transaction().encoded.clone()),
            None => cx.chain.pool().get(hash).map(|tx| tx.encoded.clone()),
        }
    });
    method!(
        module,
        "eth_getTransactionByBlockNumberAndIndex",
        |cx, args| {
            let tag: BlockNumberOrTag = args.next()?;
            let index: Index = args.next()?;
            find(&cx.chain, tag.into())?
                .filter(|b| index.0 < b.block.transactions.len())
                .map(|b| convert::transaction(&b, index.0))
        }
    );
    method!(
        module,
        "eth_getTransactionByBlockHashAndIndex",
        |cx, args| {
            let hash: B256 = args.next()?;
            let index: Index = args.next()?;
            find(&cx.chain, hash.into())?
                .filter(|b| index.0 < b.block.transactions.len())
                .map(|b| convert::transaction(&b, index.0))
        }
    );
    method!(module, "eth_getTransactionReceipt", |cx, args| {
        let hash: B256 = args.next()?;
        let reader = cx.chain.reader()?;
        match included(&reader, hash)? {
            None => None,
            Some(found) => convert::receipt_of(cx.chain.spec(), &reader, &found)?,
        }
    });
    Ok(())
}

fn overrides(args: &mut Args<'_>) -> RpcResult<Overrides> {
    let state = args.optional::<StateOverride>()?;
    let block = args.optional::<BlockOverrides>()?.map(Box::new);
    Ok(Overrides { state, block })
}

fn calls(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_call", |cx, args| {
        let request: TransactionRequest = args.next()?;
        let id = args.block()?;
        output(cx.chain.call(request, id, overrides(args)?)?)?
    });
    method!(module, "eth_simulateV1", |cx, args| {
        let request: SimulatePayload = args.next()?;
        let full = request.return_full_transactions;
        let blocks = cx.chain.simulate(args.block()?, request)?;
        let blocks = blocks.iter().map(|block| convert::simulated(block, full));
        blocks.collect::<Vec<_>>()
    });
    method!(module, "eth_estimateGas", |cx, args| {
        let request: TransactionRequest = args.next()?;
        let id = args.block()?;
        let overrides = overrides(args)?;
        let estimate = cx
            .chain
            .with_context(id, |c| c.estimate_gas(request, overrides))?;
        U64::from(estimate.map_err(|outcome| failure(&outcome))?)
    });
    method!(module, "eth_createAccessList", |cx, args| {
        let request: TransactionRequest = args.next()?;
        let id = args.block()?;
        let overrides = overrides(args)?;
        let (access_list, outcome) = cx
            .chain
            .with_context(id, |c| c.access_list(request, overrides))?;
        let gas_used = U256::from(outcome.gas_used());
        let error = error::output(outcome).err().map(|e| e.message().to_owned());
        AccessListResult {
            access_list,
            gas_used,
            error,
        }
    });
    Ok(())
}
