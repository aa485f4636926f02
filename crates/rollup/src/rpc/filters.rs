//! Polling filters: `eth_newFilter`, `eth_newBlockFilter`, `eth_newPendingTransactionFilter` and what
//! reads them.
//!
//! A filter remembers up to which block it was read. After a revert it goes on from the fork point
//! of what it has seen; logs of removed blocks are reported to subscribers only.

use super::{
    Context, Shared,
    error::{RpcResult, server},
    methods::{answer, method},
};
use crate::chain::ChainHandle;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{B256, U64};
use alloy_rpc_types_eth::{Filter, FilterBlockOption};
use jsonrpsee::{RpcModule, core::RegisterMethodError};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

/// Filters in all; the one unused for longest makes room.
const MAX_FILTERS: usize = 1_024;
/// Filters that nobody asked for this long go, as in geth.
const IDLE: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Clone)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
    Transactions,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    /// What the pool admitted and was not reported, for [`Kind::Transactions`].
    arrivals: Option<Receiver<B256>>,
    /// First block that was not reported.
    next: u64,
    used: Instant,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    last_id: u64,
}

/// The filters of all clients.
#[derive(Debug, Default)]
pub(super) struct Filters(Mutex<Table>);

impl Filters {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, kind: Kind, next: u64, arrivals: Option<Receiver<B256>>) -> U64 {
        let mut table = self.lock();
        table.entries.retain(|_, e| e.used.elapsed() < IDLE);
        if table.entries.len() >= MAX_FILTERS {
            let oldest = table
                .entries
                .iter()
                .min_by_key(|(_, e)| e.used)
                .map(|(id, _)| *id);
            oldest.map(|id| table.entries.remove(&id));
        }
        table.last_id += 1;
        let id = table.last_id;
        table.entries.insert(
            id,
            Entry {
                kind,
                arrivals,
                next,
                used: Instant::now(),
            },
        );
        U64::from(id)
    }

    fn get(&self, id: U64) -> RpcResult<(Kind, u64)> {
        let mut table = self.lock();
        let entry = table
            .entries
            .get_mut(&id.to::<u64>())
            .ok_or_else(|| server("filter not found"))?;
        entry.used = Instant::now();
        Ok((entry.kind.clone(), entry.next))
    }

    /// What the pool has admitted since the last call. Of more than the pool's backlog, the oldest
    /// are lost.
    fn arrivals(&self, id: U64) -> Vec<B256> {
        let mut table = self.lock();
        let entry = table.entries.get_mut(&id.to::<u64>());
        let Some(arrivals) = entry.and_then(|entry| entry.arrivals.as_mut()) else {
            return Vec::new();
        };
        let mut hashes = Vec::new();
        loop {
            match arrivals.try_recv() {
                Ok(hash) => hashes.push(hash),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return hashes,
            }
        }
    }

    fn advance(&self, id: U64, next: u64) {
        if let Some(entry) = self.lock().entries.get_mut(&id.to::<u64>()) {
            entry.next = next;
        }
    }
}

fn next_block(chain: &ChainHandle) -> RpcResult<u64> {
    Ok(chain.labels()?.head + 1)
}

/// The filter restricted to `from..=to`; `None` when its own range ends before.
fn narrowed(filter: &Filter, from: u64, to: u64) -> Option<Filter> {
    let number = |tag: Option<BlockNumberOrTag>| tag.and_then(|t| t.as_number());
    let (mut first, mut last) = (from, to);
    if let FilterBlockOption::Range {
        from_block,
        to_block,
    } = &filter.block_option
    {
        first = number(*from_block).map_or(first, |n| n.max(first));
        last = number(*to_block).map_or(last, |n| n.min(last));
    }
    (first <= last).then(|| filter.clone().from_block(first).to_block(last))
}

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_newFilter", |cx, args| {
        let filter: Filter = args.next()?;
        cx.filters
            .add(Kind::Logs(Box::new(filter)), next_block(&cx.chain)?, None)
    });
    method!(module, "eth_newBlockFilter", |cx, args| {
        cx.filters.add(Kind::Blocks, next_block(&cx.chain)?, None)
    });
    method!(module, "eth_newPendingTransactionFilter", |cx, args| {
        let arrivals = cx.chain.pool().subscribe();
        cx.filters.add(Kind::Transactions, 0, Some(arrivals))
    });
    method!(module, "eth_uninstallFilter", |cx, args| {
        let id: U64 = args.next()?;
        cx.filters.lock().entries.remove(&id.to::<u64>()).is_some()
    });
    method!(module, "eth_getFilterLogs", |cx, args| {
        let (kind, _) = cx.filters.get(args.next()?)?;
        match kind {
            Kind::Logs(filter) => cx.chain.logs(&filter)?,
            Kind::Blocks | Kind::Transactions => return Err(server("filter not found")),
        }
    });
    method!(module, "eth_getFilterChanges", |cx, args| {
        let id: U64 = args.next()?;
        let (kind, next) = cx.filters.get(id)?;
        let reader = cx.chain.reader()?;
        let head = reader.labels()?.head;
        let next = next.min(head + 1);
        let changes = match kind {
            Kind::Transactions => json!(cx.filters.arrivals(id)),
            Kind::Blocks => {
                let mut hashes = Vec::new();
                for number in next..=head {
                    hashes.extend(reader.header(number)?.map(|h| h.hash()));
                }
                json!(hashes)
            }
            Kind::Logs(filter) => match narrowed(&filter, next, head) {
                Some(filter) if next <= head => json!(cx.chain.logs(&filter)?),
                _ => json!([]),
            },
        };
        cx.filters.advance(id, head + 1);
        changes
    });
    Ok(())
}
