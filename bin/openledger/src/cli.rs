//! Commands and their flags.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A network that pays people when their data shapes an AI's answer.
///
/// Without a command this is `openledger dev`: a whole network on this machine, offline. It takes
/// a sample Datanet from contribution to paid wallets once, live, and then stays up.
#[derive(Debug, Parser)]
#[command(name = "openledger", version, arg_required_else_help = false)]
pub(crate) struct Cli {
    /// Log as JSON lines on stderr instead of text.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole network on this machine and run the loop once.
    Dev(DevArgs),
    /// Tune a model on a file of rows, or look after a tuning run.
    Train(Box<TrainArgs>),
    /// Pre-train a small base model from plain text, as the bundled one was.
    Pretrain(PretrainArgs),
    /// Look at base models, and take tuned ones to other programs.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Show or recompute whose data shaped an answer.
    #[command(subcommand)]
    Attribution(AttributionCommand),
    /// Recompute the network's money from the chain alone.
    #[command(subcommand)]
    Settlement(SettlementCommand),
    /// Take blocks out of a chain, and execute them again without it.
    #[command(subcommand)]
    Chain(ChainCommand),
    /// Found a rollup network on a layer 1.
    #[command(subcommand)]
    L1(L1Command),
    /// Make the blocks of a network.
    Sequencer(SequencerArgs),
    /// Derive a network from its layer 1 and its data alone, and hold the sequencer to it.
    Verifier(VerifierArgs),
    /// Send a sequencer's blocks to data availability and to the layer 1.
    Batcher(BatcherArgs),
    /// Claim on the layer 1 what a node derived, and defend it.
    Proposer(ProposerArgs),
    /// Contradict wrong claims on the layer 1.
    Challenger(ChallengerArgs),
    /// Keep payloads for a network, with the routes of eigenda-proxy.
    Da(DaArgs),
}

impl Default for Command {
    fn default() -> Self {
        Self::Dev(DevArgs::default())
    }
}

/// Flags of `openledger dev`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevArgs {
    /// Where the chain, the Datanets and the models are kept. The same directory resumes where it
    /// stopped. Default: `openledger/dev` below `$XDG_DATA_HOME` or `~/.local/share`.
    #[arg(long, value_name = "DIR", env = "OPENLEDGER_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Contributions, one JSON object a line. Default: the bundled sample Datanet.
    #[arg(
        long,
        value_name = "FILE.jsonl",
        requires = "text",
        requires = "contributor"
    )]
    pub(crate) datanet: Option<PathBuf>,
    /// Column with the text; two columns make prompt and answer.
    #[arg(long, value_name = "COL[,COL..]", value_delimiter = ',')]
    pub(crate) text: Vec<String>,
    /// Column with the contributor's name.
    #[arg(long, value_name = "COL")]
    pub(crate) contributor: Option<String>,
    /// Use the first N rows only.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Base model: a folder in Hugging Face format, a GGUF file, or a name on the hub such as
    /// `org/model@revision`. Default: the bundled one.
    #[arg(long, value_name = "PATH|NAME")]
    pub(crate) base: Option<String>,
    /// Stop after the loop instead of staying up.
    #[arg(long)]
    pub(crate) exit_after_loop: bool,
    /// Print the loop's summary as one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Port of the Ethereum JSON-RPC; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    pub(crate) rpc_port: u16,
    /// Port of the layer 1's JSON-RPC; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8544)]
    pub(crate) l1_port: u16,
    /// Port of the data availability server; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 3100)]
    pub(crate) da_port: u16,
    /// Port of the API and the pages; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// Address to listen on. The dev network's keys are public: keep it on this machine.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) listen: IpAddr,
}

impl Default for DevArgs {
    fn default() -> Self {
        Self {
            data_dir: None,
            datanet: None,
            text: Vec::new(),
            contributor: None,
            limit: None,
            base: None,
            exit_after_loop: false,
            json: false,
            rpc_port: 8545,
            l1_port: 8544,
            da_port: 3100,
            http_port: 8080,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// Flags of `openledger train`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("job").required(true).args(["data", "watch", "pause", "stop"])))]
pub(crate) struct TrainArgs {
    /// What is tuned: a folder in Hugging Face format, a GGUF file, or a name on the hub such as
    /// `org/model@revision`. Default: the bundled base.
    #[arg(long, value_name = "PATH|NAME")]
    pub(crate) base: Option<String>,
    /// Rows to learn: a JSONL or parquet file, or a folder of them.
    #[arg(long, value_name = "FILE|DIR", requires = "out")]
    pub(crate) data: Option<PathBuf>,
    /// Column with the text; two columns make question and answer, of which the answer is learned.
    /// `{a}: {b}` joins columns. Default: conversations in the column `messages`.
    #[arg(long, value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) text: Vec<String>,
    /// All settings from a TOML file.
    #[arg(long, value_name = "FILE.toml", conflicts_with = "preset")]
    pub(crate) recipe: Option<PathBuf>,
    /// Settings sized to the rows: how long the run may take.
    #[arg(long, default_value = "standard", value_parser = ["quick", "standard", "thorough"])]
    pub(crate) preset: String,
    /// What is trained: an adapter (lora, dora), an adapter over a base in 4 or 8 bits (qlora), or
    /// all weights (full).
    #[arg(long, value_parser = ["lora", "dora", "qlora", "full"])]
    pub(crate) method: Option<String>,
    /// exact: the same bits on every machine, as attribution needs. fast: bf16 products.
    #[arg(long, value_parser = ["fast", "exact"])]
    pub(crate) arithmetic: Option<String>,
    /// One setting, over recipe and preset: `lora.rank=8`, `length={"steps": 100}`. Repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Most memory that the run may take, such as 2GB. Default: what is free.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Where the run is kept: checkpoints, curve and the finished adapter. The same command
    /// resumes what it finds there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the plan and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print plan, steps and outcome as JSON objects, one a line, on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Follow a run of another process, live or finished, until it ends: its directory, or the id
    /// of a run of the dev network.
    #[arg(long, value_name = "DIR|RUN", conflicts_with = "out")]
    pub(crate) watch: Option<PathBuf>,
    /// Save a checkpoint of a running run and end its process.
    #[arg(long, value_name = "DIR|RUN", conflicts_with = "out")]
    pub(crate) pause: Option<PathBuf>,
    /// End a running run and keep the adapter as it is.
    #[arg(long, value_name = "DIR|RUN", conflicts_with = "out")]
    pub(crate) stop: Option<PathBuf>,
}

impl TrainArgs {
    /// Everything that goes over recipe and preset, as `key=value`.
    pub(crate) fn settings(&self) -> Vec<String> {
        let named = [("method", &self.method), ("arithmetic", &self.arithmetic)];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")));
        named.chain(self.set.iter().cloned()).collect()
    }
}

/// A number of bytes with a decimal unit: `512MB`, `2GB`, `1048576`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(format!("{other} is not B, KB, MB or GB")),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as 512MB or 2GB")?;
    number.checked_mul(unit).ok_or_else(|| "too large".into())
}

/// Flags of `openledger pretrain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PretrainArgs {
    /// The recipe: shape, sources and their weights, steps, seed (TOML; see
    /// bundled/base/recipe.toml).
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) recipe: PathBuf,
    /// Directory that the recipe's source paths are relative to.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) corpora: PathBuf,
    /// Where the model is written; an interrupted run in it is resumed.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Train nothing: print the held-out bits a byte of the base in --out, whatever made it.
    #[arg(long)]
    pub(crate) evaluate: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Print shape, parameters, memory for serving and tuning, and whatever keeps a model from
    /// being used. Reads headers, not weights; fails if the model cannot be used.
    Inspect(InspectArgs),
    /// Write an adapter, or a base model with an adapter folded in, for PEFT, transformers or
    /// llama.cpp. Old files stay as they are until the new ones are complete.
    Export(ExportArgs),
}

/// Flags of `openledger model inspect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectArgs {
    /// A folder in Hugging Face format, a name on the hub such as `org/model@revision` (of which
    /// everything but the weights is fetched), or `openledger-base`, the bundled one.
    #[arg(value_name = "PATH|NAME")]
    pub(crate) model: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `openledger model export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// The base model: a folder in Hugging Face format or a GGUF file. Default: the bundled one.
    #[arg(long, value_name = "PATH")]
    pub(crate) base: Option<String>,
    /// The adapter, such as `adapter` in the folder of a run. Default: none; the base is written
    /// as it is.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// peft, gguf-adapter: the adapter alone. safetensors, gguf: the base with the adapter folded
    /// in.
    #[arg(long, value_parser = ["peft", "safetensors", "gguf", "gguf-adapter"])]
    pub(crate) format: String,
    /// How numbers are stored; f32 loses nothing. `q8_0` (8.5 bits) is for GGUF only.
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "bf16", "q8_0"])]
    pub(crate) dtype: String,
    /// A folder for peft and safetensors, a file for gguf and gguf-adapter.
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttributionCommand {
    /// Print the report of a completion as JSON.
    Show(CompletionArgs),
    /// Recompute a completion's report from the base, the adapter, the rows and the receipt, and
    /// compare every number.
    Verify(CompletionArgs),
}

/// A completion of a stopped or running node.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Completion id, as in the answer's `id`.
    pub(crate) id: String,
    /// Data directory of the node, which must not be running.
    #[arg(long, value_name = "DIR", env = "OPENLEDGER_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettlementCommand {
    /// Follow every event of our contracts and check that what came in equals what was paid, is
    /// held, or was burned. Needs nothing but a JSON-RPC.
    Audit(AuditArgs),
}

/// Flags of `openledger settlement audit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AuditArgs {
    /// JSON-RPC of the chain.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) rpc: String,
    /// Print the ledger as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Write a block with its witness: every trie node, code and header that executing it reads.
    Witness(WitnessArgs),
    /// Execute one block again from its witness alone and print the hash that comes out. Nothing in
    /// the file has to be believed: each part is known by its hash, and a wrong or missing part
    /// makes another hash or an error.
    Replay(ReplayArgs),
    /// Write blocks for another execution client, such as op-reth.
    Export(ExportBlocksArgs),
}

/// Flags of `openledger chain witness`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WitnessArgs {
    /// The block.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) block: u64,
    /// JSON-RPC of the chain.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) rpc: String,
    /// Where to write; default: stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Flags of `openledger chain replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// What `openledger chain witness` wrote.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness: PathBuf,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `openledger chain export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportBlocksArgs {
    /// One `engine_newPayloadV4` request a line, in order: what an op-reth takes block for block.
    #[arg(long, required = true)]
    pub(crate) engine_payloads: bool,
    /// The first block.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) from: u64,
    /// The last block; default: the chain's.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to: Option<u64>,
    /// JSON-RPC of the chain.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) rpc: String,
    /// Where to write; default: stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum L1Command {
    /// Deploy a network's contracts and write rollup.json and genesis.json, as op-node and op-reth
    /// read them, with l1.json and da.json, which hold what is ours. A run that was interrupted is
    /// completed by running it again.
    Deploy(Box<DeployArgs>),
    /// Demand on the layer 1 the data behind a batch that nobody gives you, with a bond. A verifier
    /// names commitment and block when it cannot get one. What is not shown there in time, every node
    /// leaves out, and the bond can be taken back (`unlockBond`, `withdraw`).
    Demand(DemandArgs),
}

/// Flags of `openledger l1 demand`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemandArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// File with the private key of who pays the bond, 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The commitment: a zero byte and a hash, 66 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    pub(crate) commitment: String,
    /// Block of the layer 1 with the commitment.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) l1_block: u64,
    /// Print transaction, block, bond (wei), and the block up to which it can be shown, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `openledger l1 deploy`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeployArgs {
    /// JSON-RPC of the layer 1.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8544")]
    pub(crate) l1: String,
    /// File with the deployer's private key, 64 hexadecimal digits. The account must be fresh: the
    /// addresses follow from its nonce. It receives the whole supply of OPEN on the layer 1.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Chain id of the new layer 2.
    #[arg(long, value_name = "ID")]
    pub(crate) chain_id: u64,
    /// Owner of what can be set.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: String,
    /// Decides what no proof decides yet, and can pause withdrawals for a year.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) guardian: String,
    /// Whose transactions to the inbox are batches.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) batcher: String,
    /// Who has OPEN on the layer 2 at the start; it is moved to escrow on the layer 1. Repeatable.
    #[arg(long, value_name = "ADDRESS=OPEN")]
    pub(crate) allocate: Vec<String>,
    /// Seconds between blocks of the layer 2.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) block_time: u64,
    /// Committee whose certificates of data availability count, as `openledger da` prints it.
    /// Default: none, for an eigenda-proxy or a server without certificates.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) committee: Option<String>,
    /// Commit to batches by their hash alone. Then whoever cannot get one can demand it on the layer
    /// 1, see `openledger l1 demand`, and no certificates count.
    #[arg(long, conflicts_with = "committee")]
    pub(crate) hashes: bool,
    /// Where the files are written.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Print the addresses as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which network, and where its layer 1 is.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    /// JSON-RPC of the layer 1.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8544")]
    pub(crate) l1: String,
    /// Directory with rollup.json, genesis.json, l1.json and da.json. Default: the dev network,
    /// whose files follow from its layer 1.
    #[arg(long, value_name = "DIR")]
    pub(crate) network: Option<PathBuf>,
}

/// Flags of the Engine API, on either side of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Serve the Engine API here, so that an op-node can drive this chain.
    #[arg(long, value_name = "IP:PORT", requires = "jwt_secret")]
    pub(crate) engine: Option<std::net::SocketAddr>,
    /// Engine API of another execution client, such as op-reth, that makes and checks every block,
    /// too.
    #[arg(long, value_name = "URL", requires = "jwt_secret")]
    pub(crate) execution_client: Option<String>,
    /// File with the secret of the Engine API: 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_secret: Option<PathBuf>,
}

/// What a node of the layer 2 keeps of the past.
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Keep the state of this many blocks before the head, and take that of older ones away once
    /// they are final; default: keep all. Calls, traces and proofs at older blocks are refused then.
    /// Blocks, receipts and logs of any age stay. From 1024 on nothing is lost to withdrawals, whose
    /// proofs reach no further back in any case. The file of a chain does not shrink; what is taken
    /// away makes room in it.
    #[arg(long, value_name = "BLOCKS")]
    pub(crate) state_history: Option<NonZeroU64>,
}

/// Flags of `openledger sequencer`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SequencerArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// HTTP API of the layer 1's consensus layer, where blobs are. Needed once a batch is in one.
    #[arg(long, value_name = "URL")]
    pub(crate) l1_beacon: Option<String>,
    /// Data availability server, ours or an eigenda-proxy.
    #[arg(long, value_name = "URL")]
    pub(crate) da: Option<String>,
    /// Where the chain is kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address of its JSON-RPC.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8545")]
    pub(crate) rpc: std::net::SocketAddr,
    /// Milliseconds between sub-blocks; 0 for none.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub(crate) sub_block: u64,
    #[command(flatten)]
    pub(crate) history: HistoryArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Address of `/health` and `/metrics` (Prometheus); default: none.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
}

/// Flags of `openledger verifier`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifierArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// HTTP API of the layer 1's consensus layer, where blobs are. Needed once a batch is in one.
    #[arg(long, value_name = "URL")]
    pub(crate) l1_beacon: Option<String>,
    /// Data availability server, ours or an eigenda-proxy.
    #[arg(long, value_name = "URL")]
    pub(crate) da: Option<String>,
    /// Where the chain is kept; may be empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address of its JSON-RPC.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9545")]
    pub(crate) rpc: std::net::SocketAddr,
    /// Stop once everything that is on the layer 1 now is derived, and print the head.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print the head as JSON, with --once.
    #[arg(long, requires = "once")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) history: HistoryArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Address of `/health` and `/metrics` (Prometheus); default: none.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
}

/// Flags of `openledger batcher`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BatcherArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Data availability server; without it data goes to the layer 1 itself, as calldata or with
    /// --blobs in blobs.
    #[arg(long, value_name = "URL")]
    pub(crate) da: Option<String>,
    /// JSON-RPC of the sequencer.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    pub(crate) l2: String,
    /// File with the batcher's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The longest that a block waits for its batch, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) max_channel_duration: u64,
    /// Address of `/health` and `/metrics` (Prometheus); default: none.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// Send what data availability does not take in blobs, and in calldata only if those are refused.
    #[arg(long)]
    pub(crate) blobs: bool,
    /// How long data availability may be out of order before data goes to the layer 1 itself,
    /// seconds. One that says 503 is not waited for.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) fail_over_after: u64,
    /// The most to pay for a unit of gas on the layer 1. Transactions that are not mined are
    /// replaced by ones that pay more, up to this.
    #[arg(long, value_name = "GWEI", default_value_t = 500)]
    pub(crate) max_fee: u64,
}

/// Flags of `openledger proposer`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProposerArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// JSON-RPC of a node that is believed: run your own verifier.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9545")]
    pub(crate) l2: String,
    /// File with the proposer's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Blocks between two claims.
    #[arg(long, value_name = "BLOCKS", default_value_t = 1_800)]
    pub(crate) interval: u64,
    /// Address of `/health` and `/metrics` (Prometheus); default: none.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
}

/// Flags of `openledger challenger`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChallengerArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// JSON-RPC of a node that is believed: run your own verifier.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9545")]
    pub(crate) l2: String,
    /// File with the challenger's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Decide about single blocks, too: the key is the guardian's.
    #[arg(long)]
    pub(crate) guardian: bool,
    /// Address of `/health` and `/metrics` (Prometheus); default: none.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
}

/// Flags of `openledger da`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DaArgs {
    /// Where payloads are kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:3100")]
    pub(crate) listen: std::net::SocketAddr,
    /// JSON-RPC of the layer 1. With it payloads get certificates, signed as of its newest block by
    /// operators whose keys are in the directory; without it, digests.
    #[arg(long, value_name = "URL")]
    pub(crate) l1: Option<String>,
    /// Days that a payload is kept.
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    pub(crate) retention: u64,
}

/// Logs go to stderr, warnings and worse unless `RUST_LOG` says otherwise.
pub(crate) fn init_logging(cli: &Cli) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if cli.log_json {
        builder.json().init();
    } else {
        builder.compact().init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(size("7"), Ok(7));
        assert!(size("2 lots").is_err() && size("GB").is_err());
        assert!(size("99999999999GB").is_err());
    }

    #[test]
    fn the_engine_api_needs_a_secret_on_either_side() {
        let parse = |role: &str, more: &[&str]| {
            let words = [&["openledger", role, "--data-dir", "x"], more].concat();
            Cli::try_parse_from(words)
        };
        for role in ["sequencer", "verifier"] {
            for flag in [
                ["--engine", "127.0.0.1:8551"],
                ["--execution-client", "http://127.0.0.1:8551"],
            ] {
                let refused = parse(role, &flag).unwrap_err().to_string();
                assert!(refused.contains("--jwt-secret"), "{refused}");
                let secret = [flag[0], flag[1], "--jwt-secret", "file"];
                assert!(parse(role, &secret).is_ok(), "{role} {flag:?}");
            }
            assert!(parse(role, &["--engine", "8551", "--jwt-secret", "file"]).is_err());
        }
    }

    #[test]
    fn no_command_is_dev_with_the_same_defaults() {
        let bare = Cli::parse_from(["openledger"]);
        assert!(bare.command.is_none());
        let Some(Command::Dev(dev)) = Cli::parse_from(["openledger", "dev"]).command else {
            unreachable!("dev was asked for");
        };
        assert_eq!(format!("{dev:?}"), format!("{:?}", DevArgs::default()));
    }
}
