//! Finding event logs: header blooms narrow the range, receipts decide.

use crate::{
    block::ExecutedBlock,
    error::{Error, Result},
    reader::ChainReader,
};
use alloy_rpc_types_eth::{Filter, Log};

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Blocks in a range.
    pub max_blocks: u64,
    /// Logs in an answer.
    pub max_logs: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_blocks: 100_000,
            max_logs: 20_000,
        }
    }
}

/// The logs of blocks `from..=to` that match.
///
/// # Errors
/// When the range or the answer is larger than the limits, or the store cannot be read.
pub fn find(
    reader: &ChainReader,
    filter: &Filter,
    from: u64,
    to: u64,
    limits: LogLimits,
) -> Result<Vec<Log>> {
    if from > to {
        return Err(Error::InvalidTransaction(
            "invalid block range params".into(),
        ));
    }
    if to - from >= limits.max_blocks {
        return Err(Error::InvalidTransaction(format!(
            "query exceeds max block range {}",
            limits.max_blocks
        )));
    }
    let mut found = Vec::new();
    for number in from..=to {
        let Some(header) = reader.header(number)? else {
            break;
        };
        if header.logs_bloom.is_zero() || !filter.matches_bloom(header.logs_bloom) {
            continue;
        }
        let Some(executed) = reader.executed(number)? else {
            break;
        };
        found.extend(matching(&executed, filter, false));
        if found.len() > limits.max_logs {
            return Err(Error::InvalidTransaction(format!(
                "query returned more than {} results",
                limits.max_logs
            )));
        }
    }
    Ok(found)
}

/// The logs of one block that match; `removed` marks those of a block that is no longer canonical.
#[must_use]
pub fn matching(executed: &ExecutedBlock, filter: &Filter, removed: bool) -> Vec<Log> {
    of_block(executed, removed)
        .filter(|log| filter.matches(&log.inner))
        .collect()
}

/// All logs of a block with their positions.
pub fn of_block(executed: &ExecutedBlock, removed: bool) -> impl Iterator<Item = Log> + '_ {
    let block = &executed.block;
    let (hash, header) = (block.hash(), block.header.inner());
    let mut log_index = 0u64;
    (0u64..)
        .zip(block.transactions.iter().zip(&executed.receipts))
        .flat_map(move |(index, (tx, receipt))| {
            let first = log_index;
            log_index += u64::try_from(receipt.logs().len()).unwrap_or(u64::MAX);
            let transaction = tx.hash();
            (first..)
                .zip(receipt.logs())
                .map(move |(log_index, log)| Log {
                    inner: log.clone(),
                    block_hash: Some(hash),
                    block_number: Some(header.number),
                    block_timestamp: Some(header.timestamp),
                    transaction_hash: Some(transaction),
                    transaction_index: Some(index),
                    log_index: Some(log_index),
                    removed,
                })
        })
}
