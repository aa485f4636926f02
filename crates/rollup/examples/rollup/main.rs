//! Our side, and the client of both sides, of `cargo xtask bench rollup`. Every command prints one
//! JSON object.
//!
//! | command | what |
//! |---|---|
//! | `genesis SENDERS FILE` | writes a `genesis.json` that this node and anvil both start from |
//! | `serve FILE DIR [live]` | a node over it on disk; prints `port`, ends when stdin does; `live`: blocks of two seconds with sub-blocks, as on a chain derived from a layer 1 |
//! | `prepare URL SENDERS` | deploys the protocol's contracts and gives every sender wrapped OPEN |
//! | `submit URL SENDERS TRANSACTIONS MIX` | signs `transfers`, `erc20` or `settlement` transactions (the latter two after `prepare`), then times them from the first byte sent until the state has them all |
//! | `mine URL SENDERS TRANSACTIONS` | fills the pool of anvil with transfers, then times one `evm_mine` |
//! | `execute SENDERS TRANSACTIONS` | one block of transfers, senders known: executed, hashed and kept in memory; then the same on disk |
//! | `latency URL SENDERS RATE SECONDS` | sends RATE transfers a second, one by one; times each until a sub-block or, where there are none, a block tells of it |
//! | `growth DIR BLOCKS TRANSACTIONS` | a chain on disk of BLOCKS blocks with deposits that each make an account: their rate, and the disk, at ten points |
//! | `history DIR BLOCKS TRANSACTIONS ACCOUNTS KEPT` | the same with deposits to the same ACCOUNTS in turn, and the state of KEPT blocks kept, 0 for all |
//! | `root ACCOUNTS UPDATES` | state roots of blocks that touch UPDATES of ACCOUNTS accounts, and the same root built anew by alloy-trie |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "replies to the program that asks, and tells people how far it is"
)]

mod client;
mod growth;
mod latency;
mod mix;
mod root;

use std::error::Error;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B64, B256, U256};
use growth::Growth;
use mix::Mix;
use openledger_chain::predeploys::{self, Layer2Owners};
use openledger_primitives::Wei;
use openledger_rollup::block::Block;
use openledger_rollup::engine::PayloadAttributes;
use openledger_rollup::genesis::SEQUENCER_FEE_VAULT;
use openledger_rollup::pool::PoolConfig;
use openledger_rollup::{
    AttributesSource, Chain, ChainConfig, Clock, RpcConfig, SequencerConfig, serve,
};
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
            std::fs::write(file, serde_json::to_vec(&genesis(senders.parse()?)?)?)?;
            json!({})
        }
        ["serve", file, dir] => return serve_until_told(file.as_ref(), dir.as_ref(), false),
        ["serve", file, dir, "live"] => {
            return serve_until_told(file.as_ref(), dir.as_ref(), true);
        }
        ["prepare", url, senders] => {
            tokio::runtime::Runtime::new()?.block_on(mix::prepare(url, senders.parse()?))?;
            json!({})
        }
        ["submit", url, senders, count, name] => {
            client::submit(url, &Mix::named(name)?, senders.parse()?, count.parse()?)?
        }
        ["mine", url, senders, count] => {
            client::submit_and_mine(url, senders.parse()?, count.parse()?)?
        }
        ["latency", url, senders, rate, seconds] => {
            latency::measure(url, senders.parse()?, rate.parse()?, seconds.parse()?)?
        }
        ["execute", senders, count] => execute(senders.parse()?, count.parse()?)?,
        ["growth", dir, blocks, count] => {
            let (blocks, transactions) = (blocks.parse()?, count.parse()?);
            let growth = Growth {
                blocks,
                transactions,
                accounts: u64::MAX,
                finalized: false,
                history: None,
            };
            growth::measure(dir.as_ref(), &growth)?
        }
        ["history", dir, blocks, count, accounts, kept] => {
            let growth = Growth {
                blocks: blocks.parse()?,
                transactions: count.parse()?,
                accounts: accounts.parse()?,
                finalized: true,
                history: NonZeroU64::new(kept.parse()?),
            };
            growth::measure(dir.as_ref(), &growth)?
        }
        ["root", accounts, updates] => root::measure(accounts.parse()?, updates.parse()?)?,
        _ => return Err("see the table at the top of this example".into()),
    };
    println!("{reply}");
    Ok(())
}

/// Senders with plenty of coins, in a form that anvil's `--init` reads as well.
fn genesis(senders: usize) -> Fallible<Genesis> {
    let mut genesis = Genesis {
        gas_limit: GAS_LIMIT,
        base_fee_per_gas: Some(1_000_000_000),
        ..Default::default()
    };
    genesis.config.chain_id = CHAIN_ID;
    let wallets = mix::senders(senders).into_iter().chain([mix::deployer()?]);
    for wallet in wallets {
        let coins = U256::from(10).pow(U256::from(24));
        let account = GenesisAccount::default().with_balance(coins);
        genesis.alloc.insert(wallet.address(), account);
    }
    let owners = Layer2Owners {
        bridge: Address::ZERO,
        governor: Address::ZERO,
        treasury: Address::ZERO,
    };
    let predeploys = predeploys::layer2(&owners, Wei::ZERO)?;
    for wrapped in predeploys.into_iter().filter(|p| p.address == mix::WRAPPED) {
        let account = GenesisAccount::default().with_code(Some(wrapped.code));
        genesis.alloc.insert(wrapped.address, account);
    }
    Ok(genesis)
}

/// What the blocks of a `live` node begin with: nothing, every two seconds.
#[derive(Debug)]
struct NoDeposits;

impl AttributesSource for NoDeposits {
    fn next(&self, head: &Block) -> openledger_rollup::Result<PayloadAttributes> {
        Ok(PayloadAttributes {
            timestamp: head.header.timestamp + 2,
            prev_randao: head.hash(),
            suggested_fee_recipient: SEQUENCER_FEE_VAULT,
            parent_beacon_block_root: Some(B256::ZERO),
            transactions: Vec::new(),
            no_tx_pool: false,
            gas_limit: GAS_LIMIT,
            eip_1559_params: Some(B64::ZERO),
            min_base_fee: Some(0),
        })
    }
}

fn config(genesis: Genesis, dir: Option<&Path>) -> ChainConfig {
    let mut config = ChainConfig::new(dir.map(Path::to_owned), genesis);
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

fn serve_until_told(file: &Path, dir: &Path, live: bool) -> Fallible<()> {
    let mut genesis: Genesis = serde_json::from_slice(&std::fs::read(file)?)?;
    if live {
        // The first slot begins now.
        genesis.timestamp = Clock::system().now().as_secs();
    }
    let mut config = config(genesis, Some(dir));
    if live {
        config.attributes = Some(Arc::new(NoDeposits));
    }
    let chain = Chain::open(config)?;
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

/// One block of transfers whose senders were recovered at admission: in memory, then on disk.
fn execute(senders: usize, count: usize) -> Fallible<Value> {
    let transfers = mix::sign(&Mix::Transfers, senders, count)?;
    let run = |dir: Option<&Path>| -> Fallible<(Duration, u64)> {
        let mut config = config(genesis(senders)?, dir);
        config.sequencer = None;
        let chain = Chain::open(config)?;
        let handle = chain.handle();
        for raw in &transfers {
            handle.send_raw(raw.clone())?;
        }
        let (spent, block) = timed(|| Ok(handle.make_block()?))?;
        if block.transactions.len() != count {
            return Err(format!("{} of {count} got in", block.transactions.len()).into());
        }
        Ok((spent, block.header.gas_used))
    };
    let dir = tempfile::tempdir()?;
    let (memory, gas) = run(None)?;
    let (disk, _) = run(Some(dir.path()))?;
    Ok(json!({
        "seconds": memory.as_secs_f64(),
        "disk_seconds": disk.as_secs_f64(),
        "transactions": count,
        "gas": gas,
    }))
}

/// Seconds that `work` takes, and what it gives.
fn timed<T>(work: impl FnOnce() -> Fallible<T>) -> Fallible<(Duration, T)> {
    let begun = Instant::now();
    let result = work()?;
    Ok((begun.elapsed(), result))
}
