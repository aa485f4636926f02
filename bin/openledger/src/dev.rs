//! `openledger dev`: the network, the loop, the pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use openledger_node::{LoopInput, LoopSpec, Node, NodeConfig};

use crate::cli::DevArgs;
use crate::model;
use crate::progress::{Bars, Spinner};
use crate::table;

/// How often a network that stays up settles what was answered since.
const SETTLE_EVERY: Duration = Duration::from_secs(60);

/// Runs until the loop is done (with `--exit-after-loop`) or until Ctrl-C.
pub(crate) fn run(args: DevArgs) -> Result<()> {
    let base = match &args.base {
        Some(given) => Some(model::find(Some(given), model::Parts::All)?.folder),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(serve(args, base))
}

async fn serve(args: DevArgs, base: Option<PathBuf>) -> Result<()> {
    let data_dir = data_dir(args.data_dir.clone())?;
    let node = Node::open(NodeConfig {
        data_dir: data_dir.clone(),
        rpc: SocketAddr::new(args.listen, args.rpc_port),
        l1: SocketAddr::new(args.listen, args.l1_port),
        da: SocketAddr::new(args.listen, args.da_port),
        http: SocketAddr::new(args.listen, args.http_port),
        base,
    });
    if !args.json {
        eprintln!("OpenLedger dev network in {}", data_dir.display());
    }
    let spinner = (!args.json)
        .then(|| Spinner::start("starting", "base model, both layers and their contracts"));
    let node = node.await;
    drop(spinner);
    let node = node.with_context(|| format!("cannot start in {}", data_dir.display()))?;
    let outcome = with_node(&node, args).await;
    // Whatever happened, leave the stores closed in order.
    node.shutdown().await;
    outcome
}

async fn with_node(node: &Node, args: DevArgs) -> Result<()> {
    let pages = openledger_studio::router(node.clone());
    let api = openledger_node::api::router(node.clone());
    let server = node
        .serve_http(api.merge(pages))
        .context("cannot serve the pages")?;
    let spec = LoopSpec {
        input: input(&args)?,
    };
    if !args.json {
        eprintln!("pages and API  {}", node.http_url());
        eprintln!("JSON-RPC       {}", node.rpc_url());
        eprintln!("layer 1        {}", node.l1_url());
        eprintln!("availability   {}", node.da_url());
    }
    let bars = (!args.json).then(|| Bars::follow(node));
    let summary = tokio::select! {
        summary = node.run_loop(&spec) => summary.context("the loop stopped")?,
        () = interrupted() => {
            eprintln!("stopping; the same --data-dir goes on from here");
            return Ok(());
        }
    };
    drop(bars);
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        table::print(node, &summary)?;
    }
    if args.exit_after_loop {
        return Ok(());
    }
    if !args.json {
        println!();
        println!("The network stays up until Ctrl-C:");
        println!("  pages and API   {}", node.http_url());
        println!(
            "  JSON-RPC        {}   (chain id {})",
            node.rpc_url(),
            summary.chain.id
        );
        println!("  API key         {}", summary.dev.api_key);
    }
    tokio::select! {
        () = interrupted() => {}
        () = node.settle_every(SETTLE_EVERY) => {}
        ended = server => ended.context("the HTTP server stopped")?.context("the HTTP server failed")?,
    }
    Ok(())
}

/// Ctrl-C, or SIGTERM where there is one.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn input(args: &DevArgs) -> Result<Option<LoopInput>> {
    let Some(file) = &args.datanet else {
        anyhow::ensure!(
            args.text.is_empty() && args.contributor.is_none(),
            "--text and --contributor name columns of a --datanet FILE.jsonl; give that too"
        );
        return Ok(args.limit.map(|limit| LoopInput::bundled(Some(limit))));
    };
    let file = file
        .canonicalize()
        .with_context(|| format!("cannot open the Datanet {}", file.display()))?;
    let contributor = args
        .contributor
        .clone()
        .context("--contributor COL is missing")?;
    Ok(Some(LoopInput {
        file: Some(file),
        text: args.text.clone(),
        contributor,
        limit: args.limit,
    }))
}

/// The directory asked for, or the user's own.
pub(crate) fn data_dir(asked: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        return Ok(dir);
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("neither HOME nor XDG_DATA_HOME is set; give --data-dir DIR")?;
    Ok(base.join("openledger").join("dev"))
}
