//! A layer 1 in this process, for development: Ethereum's rules on our engine.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use openledger_primitives::{Address, Wei};
use openledger_rollup::rpc::{self, RpcConfig, RpcServer};
use openledger_rollup::spec::ChainSpec;
use openledger_rollup::{Chain, ChainConfig, ChainHandle, Clock, SequencerConfig};

use super::network::layer1_genesis;
use crate::Result;

/// Seconds between blocks of the dev layer 1.
pub const BLOCK_TIME: u64 = 2;
/// Blocks that finality stays behind the head.
const FINALITY: u64 = 8;

/// A running layer 1.
#[derive(Debug)]
pub struct DevLayer1 {
    chain: Chain,
    rpc: RpcServer,
    clock: Clock,
}

impl DevLayer1 {
    /// Opens or creates the chain in `dir` and serves its JSON-RPC on `addr`.
    ///
    /// Its clock stands still while it is off: blocks of L2 come in fixed steps from those before,
    /// so that a day off would have to be filled with empty ones.
    ///
    /// # Errors
    /// When the directory or the address cannot be used.
    pub async fn start(
        dir: &Path,
        addr: SocketAddr,
        chain_id: u64,
        accounts: &[(Address, Wei)],
    ) -> Result<Self> {
        let genesis = layer1_genesis(chain_id, accounts);
        let mut config = ChainConfig::new(Some(dir.to_path_buf()), genesis);
        config.spec = ChainSpec::ethereum(chain_id);
        config.sequencer = None;
        let last = Chain::open(config.clone())?.handle().head()?.timestamp;
        let clock = resumed(last);
        config.clock = clock.clone();
        config.sequencer = Some(SequencerConfig {
            block_time: BLOCK_TIME,
            eager: false,
            finality_lag: Some(FINALITY),
            ..SequencerConfig::default()
        });
        let chain = Chain::open(config)?;
        let rpc = rpc::serve(chain.handle(), addr, RpcConfig::default()).await?;
        Ok(Self { chain, rpc, clock })
    }

    /// Its JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.rpc.addr())
    }

    /// The chain itself.
    #[must_use]
    pub fn handle(&self) -> ChainHandle {
        self.chain.handle()
    }

    /// Its clock, for the layer 2 on top of it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Stops serving and making blocks.
    pub async fn stop(self) {
        self.rpc.stop().await;
        self.chain.shutdown();
    }
}

/// A clock that goes on where a chain stopped whose last block is of `last`; the machine's for a
/// chain without blocks.
fn resumed(last: u64) -> Clock {
    let begin = if last == 0 {
        Clock::system().now()
    } else {
        // L2 may be one of its blocks ahead of L1's head.
        Duration::from_secs(last + BLOCK_TIME)
    };
    let started = Instant::now();
    Clock::new(move || begin + started.elapsed())
}
