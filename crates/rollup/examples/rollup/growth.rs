//! How a chain on disk grows: blocks of deposits, so that no signature is in the way. Each makes an
//! account, so that chain and state grow together, or they all go to the same accounts, so that the
//! history of the state grows and the state does not.

use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B64, B256, Bytes, TxKind, U256, keccak256};
use op_alloy_consensus::TxDeposit;
use openledger_rollup::Chain;
use openledger_rollup::derived::Derived;
use openledger_rollup::engine::PayloadAttributes;
use openledger_rollup::genesis::SEQUENCER_FEE_VAULT;
use serde_json::{Value, json};

use crate::{Fallible, GAS_LIMIT, config, genesis};

/// Points of the measurement.
const PARTS: u64 = 10;

/// Deposit `n`, to one of `accounts`.
fn deposit(n: u64, accounts: u64) -> Bytes {
    let to = keccak256((n % accounts).to_be_bytes());
    let deposit = TxDeposit {
        source_hash: keccak256(n.to_be_bytes()),
        from: Address::repeat_byte(1),
        to: TxKind::Call(Address::from_word(to)),
        mint: 1,
        value: U256::from(1),
        gas_limit: 21_000,
        is_system_transaction: false,
        input: Bytes::new(),
    };
    deposit.encoded_2718().into()
}

/// What grows.
pub(crate) struct Growth {
    pub(crate) blocks: u64,
    /// Deposits of each block.
    pub(crate) transactions: u64,
    /// To how many accounts the deposits go, in turn.
    pub(crate) accounts: u64,
    /// Whether each block is finalized, as its history must be to be pruned.
    pub(crate) finalized: bool,
    /// For how many blocks state is kept.
    pub(crate) history: Option<NonZeroU64>,
}

pub(crate) fn measure(dir: &Path, growth: &Growth) -> Fallible<Value> {
    let Growth {
        blocks,
        transactions,
        accounts,
        finalized,
        history,
    } = *growth;
    let mut config = config(genesis(1)?, Some(dir));
    config.sequencer = None;
    config.state_history = history;
    let chain = Chain::open(config)?;
    let handle = chain.handle();
    let mut points = Vec::new();
    let mut spent = Duration::ZERO;
    for number in 1..=blocks {
        let head = handle.head()?;
        let first = (number - 1) * transactions;
        let attributes = PayloadAttributes {
            timestamp: head.timestamp + 2,
            prev_randao: head.hash(),
            suggested_fee_recipient: SEQUENCER_FEE_VAULT,
            parent_beacon_block_root: Some(B256::ZERO),
            transactions: (first..first + transactions)
                .map(|n| deposit(n, accounts))
                .collect(),
            no_tx_pool: true,
            gas_limit: GAS_LIMIT,
            eip_1559_params: Some(B64::ZERO),
            min_base_fee: Some(0),
        };
        let begun = Instant::now();
        let made = handle.derive(head.hash(), &attributes)?;
        let Derived::Built { block, .. } = made else {
            return Err(format!("block {number}: {made:?}").into());
        };
        if finalized {
            handle.finalize(block.hash())?;
        }
        spent += begun.elapsed();
        if block.transactions.len() as u64 != transactions {
            return Err(format!("block {number} has {}", block.transactions.len()).into());
        }
        let part = (blocks / PARTS).max(1);
        if number % part == 0 {
            let file = std::fs::metadata(dir.join("chain.redb"))?;
            let count = part * transactions;
            let point = json!({
                "blocks": number,
                "accounts": (number * transactions).min(accounts),
                "transactions_per_second": count as f64 / spent.as_secs_f64(),
                "disk_mib": (file.blocks() * 512) as f64 / f64::from(1 << 20),
                "memory_mib": resident_mib()?,
            });
            eprintln!("{point}");
            points.push(point);
            spent = Duration::ZERO;
        }
    }
    Ok(json!({ "transactions_of_a_block": transactions, "points": points }))
}

fn resident_mib() -> Fallible<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("VmRSS in /proc/self/status")?.parse::<f64>()? / 1024.0)
}
