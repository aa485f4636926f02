//! Our side, and the client of both sides, of `cargo xtask bench rollup`. Every command prints one
//! JSON object.
//!
//! | command | what |
//! |---|---|
//! | `genesis SENDERS FILE` | writes a `genesis.json` that this node and anvil both start from |
//! | `serve FILE DIR` | a node over it on disk; prints `port`, ends when stdin does |
//! | `submit URL SENDERS TRANSACTIONS [mine]` | signs transfers, then times them from the first byte sent until the state has them all; with `mine` it times one `evm_mine` apart |
//! | `execute SENDERS TRANSACTIONS` | one block of transfers, senders known: executed, hashed, on disk |
//! | `root ACCOUNTS UPDATES` | state roots of blocks that touch UPDATES of ACCOUNTS accounts, and the same root built anew by alloy-trie |
#![allow(clippy::print_stdout, reason = "replies to the program that asks")]

mod client;
mod root;

use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::U256;
use openledger_rollup::pool::PoolConfig;
use openledger_rollup::{Chain, ChainConfig, RpcConfig, SequencerConfig, serve};
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Chain id that both sides take.
const CHAIN_ID: u64 = 4_243;

/// Gas of a block: room for 47,000 transfers.
const GAS_LIMIT: u64 = 1_000_000_000;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let reply = match words.as_slice() {
        ["genesis", senders, file] => {
            std::fs::write(file, serde_json::to_vec(&genesis(senders.parse()?))?)?;
            json!({})
        }
        ["serve", file, dir] => return serve_until_told(file.as_ref(), dir.as_ref()),
        ["submit", url, senders, count] => client::submit(url, senders.parse()?, count.parse()?)?,
        ["submit", url, senders, count, "mine"] => {
            client::submit_and_mine(url, senders.parse()?, count.parse()?)?
        }
        ["execute", senders, count] => execute(senders.parse()?, count.parse()?)?,
        ["root", accounts, updates] => root::measure(accounts.parse()?, updates.parse()?)?,
        _ => return Err("see the table at the top of this example".into()),
    };
    println!("{reply}");
    Ok(())
}

/// Senders with plenty of coins, in a form that anvil's `--init` reads as well.
fn genesis(senders: usize) -> Genesis {
    let mut genesis = Genesis {
        gas_limit: GAS_LIMIT,
        base_fee_per_gas: Some(1_000_000_000),
        ..Default::default()
    };
    genesis.config.chain_id = CHAIN_ID;
    for sender in client::senders(senders) {
        let coins = U256::from(10).pow(U256::from(24));
        let account = GenesisAccount::default().with_balance(coins);
        genesis.alloc.insert(sender.address(), account);
    }
    genesis
}

fn config(genesis: Genesis, dir: &Path) -> ChainConfig {
    let mut config = ChainConfig::new(Some(dir.to_owned()), genesis);
    config.pool = PoolConfig {
        max_transactions: 1_000_000,
        max_bytes: 1 << 30,
        max_per_sender: 100_000,
        ..PoolConfig::default()
    };
    config.sequencer = Some(SequencerConfig {
        // Blocks as soon as there is something to put into them.
        max_lead: 1_000_000,
        empty_blocks: false,
        ..SequencerConfig::default()
    });
    config
}

fn serve_until_told(file: &Path, dir: &Path) -> Fallible<()> {
    let genesis: Genesis = serde_json::from_slice(&std::fs::read(file)?)?;
    let chain = Chain::open(config(genesis, dir))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let limits = RpcConfig {
        max_request_bytes: 64 << 20,
        ..RpcConfig::default()
    };
    let server = runtime.block_on(serve(chain.handle(), ([127, 0, 0, 1], 0).into(), limits))?;
    println!("{}", json!({ "port": server.addr().port() }));
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(server.stop());
    Ok(())
}

/// One block of transfers whose senders were recovered at admission.
fn execute(senders: usize, count: usize) -> Fallible<Value> {
    let dir = tempfile::tempdir()?;
    let mut config = config(genesis(senders), dir.path());
    config.sequencer = None;
    let chain = Chain::open(config)?;
    let handle = chain.handle();
    let transfers = client::transfers(senders, count)?;
    let begun = Instant::now();
    for raw in transfers {
        handle.send_raw(raw)?;
    }
    let admitted = begun.elapsed();
    let begun = Instant::now();
    let block = handle.make_block()?;
    let seconds = begun.elapsed();
    if block.transactions.len() != count {
        return Err(format!("{} of {count} got in", block.transactions.len()).into());
    }
    Ok(json!({
        "seconds": seconds.as_secs_f64(),
        "admission_seconds": admitted.as_secs_f64(),
        "transactions": count,
        "gas": block.header.gas_used,
    }))
}

/// Seconds that `work` takes, and what it gives.
fn timed<T>(work: impl FnOnce() -> Fallible<T>) -> Fallible<(Duration, T)> {
    let begun = Instant::now();
    let result = work()?;
    Ok((begun.elapsed(), result))
}
