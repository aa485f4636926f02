//! Commands that recompute what the node claims.

use anyhow::{Context as _, Result, bail};
use openledger_node::{Node, NodeConfig};

use crate::cli::{AttributionCommand, AuditArgs, CompletionArgs, SettlementCommand};
use crate::dev;

/// `openledger attribution ...`.
pub(crate) fn attribution(command: AttributionCommand) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(async {
        match command {
            AttributionCommand::Show(args) => {
                let node = offline(&args).await?;
                let view = node.attribution(&args.id)?;
                node.shutdown().await;
                let view = view.with_context(|| format!("there is no completion {}", args.id))?;
                println!("{}", serde_json::to_string_pretty(&view)?);
                Ok(())
            }
            AttributionCommand::Verify(args) => {
                let node = offline(&args).await?;
                let outcome = node.verify_attribution(&args.id).await;
                node.shutdown().await;
                let checked = outcome.with_context(|| format!("{} does not hold", args.id))?;
                for line in checked {
                    println!("ok  {line}");
                }
                println!("every number of {} was recomputed", args.id);
                Ok(())
            }
        }
    })
}

/// A node on free ports over a data directory that no other node uses.
async fn offline(args: &CompletionArgs) -> Result<Node> {
    let data_dir = dev::data_dir(args.data_dir.clone())?;
    anyhow::ensure!(
        data_dir.is_dir(),
        "{} is not a data directory of a node; give --data-dir DIR",
        data_dir.display()
    );
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let base = Node::base_of(&data_dir)?;
    let node = Node::open(NodeConfig {
        data_dir,
        rpc: local,
        l1: local,
        da: local,
        http: local,
        base,
    })
    .await?;
    Ok(node)
}

/// `openledger settlement ...`.
pub(crate) fn settlement(command: SettlementCommand) -> Result<()> {
    let SettlementCommand::Audit(AuditArgs { rpc, json }) = command;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let audit = runtime
        .block_on(openledger_node::audit(&rpc))
        .with_context(|| format!("cannot audit the chain at {rpc}"))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&audit)?);
    } else {
        print!("{audit}");
    }
    if !audit.balanced {
        bail!("the chain's ledger does not balance");
    }
    Ok(())
}
