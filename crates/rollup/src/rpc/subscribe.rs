//! `eth_subscribe` over WebSocket: `newHeads`, `logs`, `newPendingTransactions`, and
//! `newFlashblocks` with what the sequencer has executed of the block that is still open.

use super::{Context, convert, error::invalid_params, methods::Args};
use crate::{engine::ChainEvent, logs, preconfirm::SubBlock};
use alloy_primitives::{B256, Bytes, U64};
use alloy_rpc_types_eth::Filter;
use jsonrpsee::{
    PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink,
    core::RegisterMethodError,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, context, _| async move {
            let mut args = Args::of(&params);
            let topic = match args.next::<String>() {
                Ok(kind) if kind == "newHeads" => Ok(Topic::Heads),
                Ok(kind) if kind == "logs" => args
                    .optional::<Filter>()
                    .map(|f| Topic::Logs(Box::new(f.unwrap_or_default()))),
                Ok(kind) if kind == "newFlashblocks" => Ok(Topic::SubBlocks),
                Ok(kind) if kind == "newPendingTransactions" => args
                    .optional::<bool>()
                    .map(|full| Topic::Transactions(full.unwrap_or_default())),
                Ok(kind) => Err(invalid_params(format!(
                    "no \"{kind}\" subscription in eth namespace"
                ))),
                Err(error) => Err(error),
            };
            match topic {
                Ok(Topic::SubBlocks) => {
                    let told = context.chain.subscribe_sub_blocks();
                    relay(pending, told, |sub| Some(flashblock(&sub))).await;
                }
                Ok(Topic::Transactions(full)) => {
                    let pool = context.chain.pool();
                    let object = |hash| {
                        // One that is gone already is not told.
                        let tx = pool.get(hash)?;
                        serde_json::to_value(convert::pending(&tx)).ok()
                    };
                    let value = |hash: B256| {
                        if full {
                            object(hash)
                        } else {
                            Some(json!(hash))
                        }
                    };
                    relay(pending, pool.subscribe(), value).await;
                }
                Ok(topic) => follow(pending, topic, context).await,
                Err(error) => pending.reject(error).await,
            }
        },
    )?;
    Ok(())
}

enum Topic {
    Heads,
    Logs(Box<Filter>),
    SubBlocks,
    /// What the pool admits: hashes, or whole transactions.
    Transactions(bool),
}

/// Sends what is told from now on, in the form that `value` gives it.
async fn relay<T: Clone>(
    pending: PendingSubscriptionSink,
    mut told: Receiver<T>,
    value: impl Fn(T) -> Option<Value>,
) {
    let Ok(sink) = pending.accept().await else {
        return;
    };
    loop {
        let news = tokio::select! {
            () = sink.closed() => return,
            news = told.recv() => news,
        };
        // A client that cannot keep up is cut off, as below.
        let Ok(news) = news else { return };
        if let Some(value) = value(news)
            && !send(&sink, &value).await
        {
            return;
        }
    }
}

/// A sub-block in the words of Flashblocks: what is known of the block, and what is new in it.
fn flashblock(sub: &SubBlock) -> Value {
    let open = &sub.open;
    let transactions: Vec<&Bytes> = sub.transactions.iter().map(|tx| &tx.encoded).collect();
    let receipts = sub
        .transactions
        .iter()
        .zip(&sub.receipts)
        .map(|(tx, receipt)| {
            json!({
                "transactionHash": tx.hash(),
                "status": U64::from(u64::from(receipt.status())),
                "cumulativeGasUsed": U64::from(receipt.cumulative_gas_used()),
                "logs": receipt.logs(),
            })
        });
    json!({
        "index": sub.index,
        "base": {
            "blockNumber": U64::from(open.number),
            "parentHash": open.parent_hash,
            "timestamp": U64::from(open.inputs.timestamp),
            "baseFeePerGas": U64::from(open.base_fee),
            "gasLimit": U64::from(open.inputs.gas_limit),
        },
        "diff": {
            "firstTransaction": U64::from(sub.first),
            "transactions": transactions,
            "receipts": receipts.collect::<Vec<_>>(),
        },
    })
}

async fn follow(pending: PendingSubscriptionSink, topic: Topic, context: Arc<Context>) {
    // Before accepting, so that no block after the client's confirmation is missed.
    let mut events = context.chain.subscribe();
    let Ok(sink) = pending.accept().await else {
        return;
    };
    loop {
        tokio::select! {
            () = sink.closed() => return,
            open = forward(&mut events, &sink, &topic) => if !open { return },
        }
    }
}

/// Forwards one event; false when the subscription is over.
async fn forward(
    events: &mut Receiver<ChainEvent>,
    sink: &SubscriptionSink,
    topic: &Topic,
) -> bool {
    let event = match events.recv().await {
        Ok(event) => event,
        // A client that cannot keep up is cut off; silence would look like "nothing happened".
        Err(RecvError::Lagged(missed)) => {
            tracing::debug!(missed, "subscriber too slow");
            return false;
        }
        Err(RecvError::Closed) => return false,
    };
    let (executed, removed) = match &event {
        ChainEvent::Committed(executed) => (executed, false),
        ChainEvent::Reverted(executed) => (executed, true),
    };
    match topic {
        // Followed by `relay`.
        Topic::SubBlocks | Topic::Transactions(_) => false,
        Topic::Heads if removed => true,
        Topic::Heads => send(sink, &convert::header(&executed.block.header, None)).await,
        Topic::Logs(filter) => {
            for log in logs::matching(executed, filter, removed) {
                if !send(sink, &log).await {
                    return false;
                }
            }
            true
        }
    }
}

async fn send(sink: &SubscriptionSink, value: &(impl Serialize + Sync)) -> bool {
    let Ok(json) = serde_json::value::to_raw_value(value) else {
        return false;
    };
    sink.send(SubscriptionMessage::from(json)).await.is_ok()
}
