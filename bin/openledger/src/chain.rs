//! `openledger chain ...`: blocks outside of the chain they come from.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use openledger_node::blocks::{BlockWitness, block_witness, engine_payload, last_block};
use serde_json::json;

use crate::cli::{ChainCommand, ExportBlocksArgs, ReplayArgs, WitnessArgs};
use crate::progress;

pub(crate) fn run(command: ChainCommand) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    match command {
        ChainCommand::Witness(args) => runtime.block_on(witness(&args)),
        ChainCommand::Replay(args) => replay(&args),
        ChainCommand::Export(args) => runtime.block_on(export(&args)),
    }
}

async fn witness(args: &WitnessArgs) -> Result<()> {
    let witness = block_witness(&args.rpc, args.block)
        .await
        .with_context(|| format!("no witness of block {} from {}", args.block, args.rpc))?;
    let mut out = Output::open(args.out.as_deref())?;
    out.line(&serde_json::to_string(&witness)?)?;
    out.finish()
}

fn replay(args: &ReplayArgs) -> Result<()> {
    let path = &args.witness;
    let file = || format!("the witness in {}", path.display());
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", file()))?;
    let witness: BlockWitness =
        serde_json::from_slice(&text).with_context(|| format!("cannot parse {}", file()))?;
    let (found, claimed) = witness.replay().with_context(file)?;
    let agrees = found.hash() == claimed.hash();
    if args.json {
        let outcome = json!({
            "chain_id": witness.chain_id,
            "block": claimed.number,
            "hash": found.hash(),
            "claimed": claimed.hash(),
            "state_root": found.state_root,
            "gas_used": found.gas_used,
            "preimages": witness.witness.len(),
            "agrees": agrees,
        });
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("block {} of chain {}", claimed.number, witness.chain_id);
        println!("executed from {} preimages alone", witness.witness.len());
        println!("state root {}", found.state_root);
        println!("hash       {}", found.hash());
        println!("claimed    {}", claimed.hash());
    }
    if !agrees {
        bail!("the block does not execute to the header that it has");
    }
    Ok(())
}

async fn export(args: &ExportBlocksArgs) -> Result<()> {
    let last = match args.to {
        Some(last) => last,
        None => last_block(&args.rpc)
            .await
            .with_context(|| format!("{} does not tell its last block", args.rpc))?,
    };
    ensure!(
        args.from <= last,
        "there is nothing from block {} to block {last}",
        args.from
    );
    let mut out = Output::open(args.out.as_deref())?;
    let bar = progress::blocks(last - args.from + 1);
    for number in args.from..=last {
        let payload = engine_payload(&args.rpc, number)
            .await
            .with_context(|| format!("no block {number} from {}", args.rpc))?;
        out.line(&payload.to_string())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    out.finish()
}

/// A file that appears whole or not at all, or stdout.
enum Output<'a> {
    File(BufWriter<File>, &'a Path),
    Stdout,
}

impl<'a> Output<'a> {
    fn open(path: Option<&'a Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::Stdout);
        };
        let file = File::create(partial(path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::File(BufWriter::new(file), path))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        match self {
            Self::File(file, path) => {
                writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))
            }
            Self::Stdout => writeln!(std::io::stdout(), "{text}").context("cannot write to stdout"),
        }
    }

    fn finish(self) -> Result<()> {
        let Self::File(file, path) = self else {
            return Ok(());
        };
        let written = || format!("cannot write {}", path.display());
        let file = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .with_context(written)?;
        file.sync_all().with_context(written)?;
        std::fs::rename(partial(path), path).with_context(written)
    }
}

fn partial(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
