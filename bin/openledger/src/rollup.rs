//! The roles of the rollup as commands.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_node::devnet;
use openledger_node::rollup::batching::BatcherConfig;
use openledger_node::rollup::network::{Choices, Network, layer1_sender};
use openledger_node::rollup::roles::{
    BlockNumber, Certificates, EngineApi, JwtSecret, Layer2, Layer2Config, Signer, start_batcher,
    start_challenger, start_da, start_proposer,
};
use openledger_node::rollup::rpc::Rpc;
use openledger_node::rollup::watch::{Watch, Watched};
use openledger_node::rollup::{
    Address, Bytes, Clock, Demand, Layer1Settings, Replacement, SequencerConfig, Wei,
};
use serde_json::json;

use crate::cli::{
    BatcherArgs, ChallengerArgs, DaArgs, DemandArgs, DeployArgs, EngineArgs, L1Command,
    NetworkArgs, ProposerArgs, SequencerArgs, VerifierArgs,
};
use crate::dev::interrupted;

/// Wei.
const GWEI: u128 = 1_000_000_000;
/// A year, in seconds.
const YEAR: u64 = 31_536_000;
/// Base fee of a new network, wei a gas at the least.
const MIN_BASE_FEE: u64 = 1_000_000;

fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(work)
}

/// A private key from its file.
fn key(file: &Path) -> Result<Signer> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the key in {}", file.display()))?;
    text.trim().parse().with_context(|| {
        format!(
            "{} holds no private key of 64 hexadecimal digits",
            file.display()
        )
    })
}

/// The Engine API as the flags describe it.
fn engine_api(args: EngineArgs) -> Result<EngineApi> {
    let secret = args.jwt_secret.map(|file| {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the secret in {}", file.display()))?;
        JwtSecret::from_hex(&text)
            .with_context(|| format!("{} holds no 64 hexadecimal digits", file.display()))
    });
    Ok(EngineApi {
        serve: args.engine,
        client: args.execution_client,
        secret: secret.transpose()?,
    })
}

async fn network(args: &NetworkArgs) -> Result<Network> {
    if let Some(dir) = &args.network {
        return Ok(Network::load(dir)?);
    }
    let choices = devnet::choices()?;
    choices
        .find(&args.l1, devnet::deployer()?, 0)
        .await
        .with_context(|| {
            format!(
                "the dev network is not on the layer 1 at {}; name another with --network DIR",
                args.l1
            )
        })
}

/// `openledger l1 ...`.
pub(crate) fn l1(command: L1Command) -> Result<()> {
    on_runtime(async {
        match command {
            L1Command::Deploy(args) => deploy(*args).await,
            L1Command::Demand(args) => demand(args).await,
        }
    })
}

/// `ADDRESS=OPEN`.
fn allocation(text: &str) -> Result<(Address, Wei)> {
    let (account, amount) = text
        .split_once('=')
        .with_context(|| format!("--allocate {text}: write it as ADDRESS=OPEN"))?;
    let account = account
        .parse()
        .with_context(|| format!("--allocate {text}: {account} is no address"))?;
    let whole: u128 = amount
        .parse()
        .with_context(|| format!("--allocate {text}: {amount} is no whole number of OPEN"))?;
    let wei = Wei::OPEN.get().checked_mul(whole);
    let wei = wei.with_context(|| format!("--allocate {text}: more than there is"))?;
    Ok((account, Wei::new(wei)))
}

async fn deploy(args: DeployArgs) -> Result<()> {
    let address = |flag: &str, text: &str| -> Result<Address> {
        text.parse()
            .with_context(|| format!("{flag} {text} is no address"))
    };
    let key = key(&args.key_file)?;
    let deployer = key.address();
    let owner = address("--owner", &args.owner)?;
    let batcher = address("--batcher", &args.batcher)?;
    let committee = args.committee.as_deref().map(|text| {
        text.parse()
            .with_context(|| format!("--committee {text} is no digest of 64 hexadecimal digits"))
    });
    let allocations = args.allocate.iter().map(|text| allocation(text));
    let now = Clock::system().now().as_secs();
    let choices = Choices {
        l2_chain_id: args.chain_id,
        block_time: args.block_time,
        seq_window_size: 3_600,
        settings: Layer1Settings {
            owner,
            treasury: deployer,
            guardian: address("--guardian", &args.guardian)?,
            guardian_sunset: now + YEAR,
            batcher,
            unsafe_block_signer: batcher,
            batch_inbox: Choices::batch_inbox(args.chain_id),
            gas_limit: 60_000_000,
            base_fee_scalar: 1_368,
            blob_base_fee_scalar: 810_949,
            eip_1559: (250, 6),
            min_base_fee: MIN_BASE_FEE,
            da_footprint_gas_scalar: 400,
            bond: Wei::new(Wei::OPEN.get() / 10),
            challenge_window: 7 * 24 * 3_600,
            clock: 3 * 24 * 3_600,
            decision_window: 3 * 24 * 3_600,
            proof_maturity_delay: 7 * 24 * 3_600,
            game_finality_delay: 24 * 3_600,
            data_windows: (1_200, 1_200),
            data_bond: Wei::new(Wei::OPEN.get() / 10),
        },
        allocations: allocations.collect::<Result<_>>()?,
        governor: owner,
        treasury: owner,
        committee: committee.transpose()?,
        hashes: args.hashes,
    };
    let sender = layer1_sender(&args.l1, key, Replacement::default()).await?;
    let network = choices
        .deploy(&sender, &args.l1, deployer, 0)
        .await
        .with_context(|| format!("cannot deploy to the layer 1 at {}", args.l1))?;
    network.save(&args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&network.layer1)?);
        return Ok(());
    }
    for (name, at) in network.layer1.contracts() {
        println!("{name:26} {at}");
    }
    println!(
        "l1.json, rollup.json, genesis.json and da.json are in {}",
        args.out.display()
    );
    Ok(())
}

async fn demand(args: DemandArgs) -> Result<()> {
    let network = network(&args.network).await?;
    let Some(rules) = network.rollup.challenging() else {
        bail!(
            "nothing can be demanded in this network: its commitments are no hashes, see \
             `openledger l1 deploy --hashes`"
        );
    };
    let commitment: Bytes = args
        .commitment
        .parse()
        .with_context(|| format!("--commitment {} is not hexadecimal", args.commitment))?;
    ensure!(
        commitment.len() == 33 && commitment[0] == 0,
        "--commitment {commitment} is no zero byte and a hash of 32 bytes"
    );
    let l1_block = args.l1_block;
    let demand = Demand {
        l1_block,
        commitment,
    };
    let key = key(&args.key_file)?;
    let account = key.address();
    let sender = layer1_sender(&args.network.l1, key, Replacement::default()).await?;
    let call = network.layer1.demand(&**sender.node(), &demand).await?;
    let bond = call.value;
    let receipt = sender.send(account, &call).await.with_context(|| {
        format!(
            "data of layer 1 block {l1_block} can be demanded once, up to block {}",
            l1_block.saturating_add(rules.challenge_window)
        )
    })?;
    let until = receipt.block.saturating_add(rules.resolve_window);
    if args.json {
        let line = json!({
            "transaction": receipt.tx, "l1Block": receipt.block, "bond": bond, "until": until,
        });
        println!("{line}");
    } else {
        println!(
            "demanded in layer 1 block {} by {} with a bond of {bond} wei; if the data is not shown \
             up to block {until}, every node leaves the batch out",
            receipt.block, receipt.tx
        );
    }
    Ok(())
}

/// `openledger sequencer`.
pub(crate) fn sequencer(args: SequencerArgs) -> Result<()> {
    on_runtime(async {
        let network = network(&args.network).await?;
        let sequencer = SequencerConfig {
            sub_block: args.sub_block,
            ..SequencerConfig::default()
        };
        let config = Layer2Config {
            dir: args.data_dir,
            rpc: args.rpc,
            l1: args.network.l1,
            beacon: args.l1_beacon,
            da: args.da,
            sequencer: Some(sequencer),
            state_history: args.history.state_history,
            clock: Clock::system(),
            engine: engine_api(args.engine)?,
        };
        let node = Layer2::start(&network, config).await?;
        eprintln!(
            "sequencer of chain {} at {}",
            network.genesis.config.chain_id,
            node.url()
        );
        let watch = watch(args.metrics, &node).await?;
        interrupted().await;
        drop(watch);
        node.stop().await;
        Ok(())
    })
}

/// `openledger verifier`.
pub(crate) fn verifier(args: VerifierArgs) -> Result<()> {
    on_runtime(async {
        let network = network(&args.network).await?;
        let l1 = args.network.l1.clone();
        let config = Layer2Config {
            dir: args.data_dir,
            rpc: args.rpc,
            l1: l1.clone(),
            beacon: args.l1_beacon,
            da: args.da,
            sequencer: None,
            state_history: args.history.state_history,
            clock: Clock::system(),
            engine: engine_api(args.engine)?,
        };
        let node = Layer2::start(&network, config).await?;
        if !args.once {
            eprintln!(
                "verifier of chain {} at {}",
                network.genesis.config.chain_id,
                node.url()
            );
        }
        let watch = watch(args.metrics, &node).await?;
        if !args.once {
            interrupted().await;
            drop(watch);
            node.stop().await;
            return Ok(());
        }
        let target = tokio::task::spawn_blocking(move || Rpc::new(l1).header("latest")).await??;
        let target = target.context("the layer 1 has no block")?.number;
        let outcome = tokio::select! {
            outcome = reach(&node, target, args.json) => outcome,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        };
        node.stop().await;
        outcome
    })
}

/// Waits until everything up to L1 block `target` is derived, and prints the head.
async fn reach(node: &Layer2, target: u64, json: bool) -> Result<()> {
    let begin = std::time::Instant::now();
    let bar = (!json).then(|| crate::progress::layer1(target));
    let mut stuck = None;
    loop {
        let heads = node.status().heads();
        if let Some(bar) = &bar {
            bar.set_position(heads.derived_from.number);
            bar.set_message(format!("L2 block {}", heads.safe.number));
        }
        if heads.derived_from.number >= target && heads.l1_head.number >= target {
            break;
        }
        match (heads.trouble, &stuck) {
            (None, _) => stuck = None,
            (Some(_), None) => stuck = Some(std::time::Instant::now()),
            (Some(trouble), Some(since)) => {
                ensure!(
                    since.elapsed() < Duration::from_secs(60),
                    "derivation stands still: {trouble}"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let heads = node.status().heads();
    let chain = node.chain();
    let Some(block) = chain.block(heads.safe.number)? else {
        bail!("block {} is missing", heads.safe.number);
    };
    let totals = chain.totals()?;
    let seconds = begin.elapsed().as_secs_f64();
    if json {
        let line = json!({
            "number": heads.safe.number,
            "hash": block.block.hash(),
            "stateRoot": block.block.header.state_root,
            "l1Block": heads.derived_from.number,
            "transactions": totals.transactions,
            "seconds": seconds,
        });
        println!("{line}");
    } else {
        println!(
            "block {} {} from L1 block {}, {} transactions, {seconds:.1} s",
            heads.safe.number,
            block.block.hash(),
            heads.derived_from.number,
            totals.transactions,
        );
    }
    Ok(())
}

/// `openledger batcher`.
pub(crate) fn batcher(args: BatcherArgs) -> Result<()> {
    on_runtime(async {
        let network = network(&args.network).await?;
        let config = BatcherConfig {
            max_channel_duration: Duration::from_secs(args.max_channel_duration),
            fail_over_after: Duration::from_secs(args.fail_over_after),
            blobs: args.blobs,
            replacement: Replacement {
                max_fee: u128::from(args.max_fee) * GWEI,
                ..Replacement::default()
            },
            ..BatcherConfig::default()
        };
        let key = key(&args.key_file)?;
        let l1 = &args.network.l1;
        let worker = start_batcher(&network, l1, &args.l2, args.da, key, config).await?;
        let watch = watch(args.metrics, &worker).await?;
        interrupted().await;
        drop(watch);
        report(&worker.stop().await)
    })
}

/// `openledger proposer`.
pub(crate) fn proposer(args: ProposerArgs) -> Result<()> {
    on_runtime(async {
        let network = network(&args.network).await?;
        let key = key(&args.key_file)?;
        let (at, l1) = (network.layer1, &args.network.l1);
        let worker = start_proposer(at, l1, &args.l2, key, args.interval, false).await?;
        let watch = watch(args.metrics, &worker).await?;
        interrupted().await;
        drop(watch);
        report(&worker.stop().await)
    })
}

/// `openledger challenger`.
pub(crate) fn challenger(args: ChallengerArgs) -> Result<()> {
    on_runtime(async {
        let network = network(&args.network).await?;
        let key = key(&args.key_file)?;
        let (at, l1) = (network.layer1, &args.network.l1);
        let worker = start_challenger(at, l1, &args.l2, key, args.guardian).await?;
        let watch = watch(args.metrics, &worker).await?;
        interrupted().await;
        drop(watch);
        report(&worker.stop().await)
    })
}

/// Serves health and metrics of a role, if there is an address for that.
async fn watch(address: Option<SocketAddr>, role: &impl Watched) -> Result<Option<Watch>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let watch = Watch::start(address, role).await?;
    eprintln!("health and metrics at {}", watch.url());
    Ok(Some(watch))
}

/// What a role did, as one JSON object.
fn report(done: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(done)?);
    Ok(())
}

/// Asks the layer 1 for its newest block, as often as it is called.
fn newest_block(l1: String) -> BlockNumber {
    let l1 = Rpc::new(l1);
    Arc::new(move || match l1.header("latest") {
        Ok(header) => header.map(|header| header.number),
        Err(error) => {
            tracing::warn!(%error, "no certificates without a block to refer to");
            None
        }
    })
}

/// `openledger da`.
pub(crate) fn da(args: DaArgs) -> Result<()> {
    on_runtime(async {
        let days = Duration::from_secs(args.retention.saturating_mul(86_400));
        let clock = Clock::system();
        let certificates = args.l1.map(|l1| Certificates::new(newest_block(l1)));
        let server = start_da(args.listen, &args.data_dir, clock, Some(days), certificates).await?;
        eprintln!("data availability at {}", server.url());
        if let Some(committee) = server.committee() {
            eprintln!("certificates of committee {}", committee.digest());
        }
        interrupted().await;
        server.shutdown().await;
        Ok(())
    })
}
