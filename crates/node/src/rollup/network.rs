//! What a rollup network is: its contracts on the layer 1, `rollup.json` and `genesis.json`.
//!
//! All of it follows from the layer 1: the addresses from the deployer, the rest from the block in
//! which the system configuration was created. So a verifier of the dev network needs no file.
//!
//! What op-node has no word for, the committee whose certificates of data availability count, is in
//! a file of its own, `da.json`: op-node refuses a `rollup.json` with a field that it does not know.
//! The committee is not on the layer 1. It comes with the network's files, as the genesis does; that
//! of the dev network follows from a seed that everybody has.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use alloy_genesis::{ChainConfig as GenesisConfig, Genesis, GenesisAccount};
use openledger_chain::layer1::{Layer1, Layer1Settings};
use openledger_chain::predeploys::{self, Layer2Owners, Predeploy};
use openledger_chain::{HttpNode, MemoryOutbox, Node as _, Replacement, Sender, SenderConfig};
use openledger_derivation::{
    BlockId, Challenging, Commitments, Parameters, RollupConfig, SystemConfig,
};
use openledger_primitives::{Address, B256, U256, Wei, keccak256};
use openledger_rollup::{
    block::output_root,
    genesis::{GenesisBlock, jovian_extra_data},
    spec::ChainSpec,
};
use openledger_store::write_atomic;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::rpc::Rpc;
use crate::{Error, Result};

/// Gas of a block on either layer.
pub(crate) const GAS_LIMIT: u64 = 60_000_000;
/// Names of the files.
const FILES: [&str; 4] = ["l1.json", "rollup.json", "genesis.json", "da.json"];

/// `da.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certification {
    /// Digest of the committee whose certificates count; without it none does.
    committee: Option<B256>,
}

/// The upgrade transactions of Karst, for a network that gets it after its genesis.
const KARST_UPGRADE: &str = "karst_nut_bundle.json";

/// What the owner of a new network chooses.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Chain id of the layer 2.
    pub l2_chain_id: u64,
    /// Seconds between its blocks.
    pub block_time: u64,
    /// L1 blocks in which the batches of an epoch must arrive.
    pub seq_window_size: u64,
    /// The contracts' settings.
    pub settings: Layer1Settings,
    /// Who has OPEN at the start.
    pub allocations: BTreeMap<Address, Wei>,
    /// Names minters and owns what can be set on L2.
    pub governor: Address,
    /// Where L2's fees can be sent to.
    pub treasury: Address,
    /// Digest of the committee whose certificates of data availability count, see [`Network`].
    pub committee: Option<B256>,
    /// Whether batches are committed to by their hash alone. Then whoever cannot get one can demand
    /// it on the layer 1, and no certificate counts.
    pub hashes: bool,
}

/// A rollup network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Contracts on the layer 1.
    pub layer1: Layer1,
    /// `rollup.json`.
    pub rollup: RollupConfig,
    /// `genesis.json`.
    pub genesis: Genesis,
    /// `da.json`: digest of the committee whose certificates of data availability count, as
    /// `openledger da` prints it. Without one no certificate of our own servers counts, but digests
    /// and what an eigenda-proxy vouches for do.
    pub committee: Option<B256>,
}

impl Choices {
    /// The inbox of a chain, as the OP Stack derives it: version byte 0x00 and 19 bytes of a hash
    /// (specs, "System configuration", batch inbox).
    #[must_use]
    pub fn batch_inbox(l2_chain_id: u64) -> Address {
        let hash = keccak256(B256::from(U256::from(l2_chain_id)));
        let mut inbox = [0; 20];
        inbox[1..].copy_from_slice(&hash[..19]);
        inbox.into()
    }

    fn allocated(&self) -> Result<Wei> {
        let mut sum = Wei::ZERO;
        for amount in self.allocations.values() {
            sum = sum.checked_add(*amount)?;
        }
        Ok(sum)
    }

    /// The genesis of L2 on top of the L1 block with `timestamp`.
    ///
    /// # Errors
    /// When more than the supply is allocated.
    pub fn genesis(&self, layer1: &Layer1, timestamp: u64) -> Result<Genesis> {
        let owners = Layer2Owners {
            bridge: layer1.open_bridge,
            governor: self.governor,
            treasury: self.treasury,
        };
        let mut alloc = contracts(&predeploys::layer2(&owners, self.allocated()?)?);
        for (account, amount) in &self.allocations {
            alloc.entry(*account).or_default().balance += U256::from(amount.get());
        }
        let mut config = GenesisConfig {
            chain_id: self.l2_chain_id,
            ..GenesisConfig::default()
        };
        let optimism = serde_json::json!({
            "eip1559Elasticity": 6, "eip1559Denominator": 50, "eip1559DenominatorCanyon": 250,
        });
        config.extra_fields.insert("optimism".into(), optimism);
        config.extra_fields.insert("bedrockBlock".into(), 0.into());
        for fork in [
            "regolithTime",
            "canyonTime",
            "ecotoneTime",
            "fjordTime",
            "graniteTime",
            "holoceneTime",
            "isthmusTime",
            "jovianTime",
        ] {
            config.extra_fields.insert(fork.into(), 0.into());
        }
        post_merge(&mut config);
        Ok(Genesis {
            config,
            timestamp,
            gas_limit: self.settings.gas_limit,
            base_fee_per_gas: Some(self.settings.min_base_fee.max(1).into()),
            extra_data: jovian_extra_data(),
            alloc,
            ..Genesis::default()
        })
    }

    /// Everything that follows from the L1 block in which the rollup starts.
    ///
    /// # Errors
    /// When the genesis is impossible.
    pub fn network(&self, layer1: Layer1, start: BlockId, timestamp: u64) -> Result<Network> {
        let (challenge, resolve) = self.settings.data_windows;
        if self.hashes && challenge.saturating_add(resolve) >= self.seq_window_size {
            return Err(Error::Conflict(format!(
                "data can be demanded for {challenge} blocks of the layer 1 and shown for {resolve} \
                 more: a batch that is left out could not be sent again within the {} that it has",
                self.seq_window_size
            )));
        }
        let genesis = self.genesis(&layer1, timestamp)?;
        let spec = ChainSpec::of_genesis(&genesis);
        let block = GenesisBlock::new(&spec, &genesis)?.header;
        let settings = &self.settings;
        let parameters = Parameters {
            l1_chain_id: layer1.chain_id,
            l2_chain_id: self.l2_chain_id,
            l1_genesis: start,
            l2_genesis: BlockId {
                number: 0,
                hash: block.hash(),
            },
            l2_time: timestamp,
            system_config: SystemConfig {
                batcher: settings.batcher,
                base_fee_scalar: settings.base_fee_scalar,
                blob_base_fee_scalar: settings.blob_base_fee_scalar,
                gas_limit: settings.gas_limit,
                eip_1559_params: eip_1559_params(settings.eip_1559).into(),
                operator_fee_scalar: 0,
                operator_fee_constant: 0,
                min_base_fee: settings.min_base_fee,
                da_footprint_gas_scalar: settings.da_footprint_gas_scalar,
            },
            block_time: self.block_time,
            seq_window_size: self.seq_window_size,
            batch_inbox: settings.batch_inbox,
            deposit_contract: layer1.portal,
            system_config_contract: layer1.system_config,
            alt_da: if self.hashes {
                Commitments::Keccak(Challenging {
                    contract: layer1.data_availability_challenge,
                    challenge_window: settings.data_windows.0,
                    resolve_window: settings.data_windows.1,
                })
            } else {
                Commitments::Generic
            },
        };
        Ok(Network {
            layer1,
            rollup: RollupConfig::new(&parameters)?,
            genesis,
            committee: self.committee,
        })
    }

    /// The network whose contracts `deployer` created from nonce `first_nonce` on, read from the
    /// layer 1.
    ///
    /// # Errors
    /// When the contracts are not there.
    pub async fn find(&self, l1: &str, deployer: Address, first_nonce: u64) -> Result<Network> {
        let node = HttpNode::new(l1)?;
        let layer1 = Layer1::expected(node.chain_id().await?, deployer, first_nonce);
        if node.code(layer1.system_config).await?.is_empty() {
            return Err(Error::not_found(
                "SystemConfig of the rollup on the layer 1 at",
                layer1.system_config,
            ));
        }
        let start = layer1.start_block(&node).await?;
        self.at_block(layer1, l1, start).await
    }

    async fn at_block(&self, layer1: Layer1, l1: &str, number: u64) -> Result<Network> {
        let url = l1.to_owned();
        let header = tokio::task::spawn_blocking(move || Rpc::new(url).header(number)).await??;
        let header = header.ok_or_else(|| Error::not_found("layer 1 block", number))?;
        let start = BlockId {
            number,
            hash: header.hash,
        };
        self.network(layer1, start, header.timestamp)
    }

    /// Deploys the contracts from `sender`'s `deployer`, or completes a deployment that was
    /// interrupted.
    ///
    /// # Errors
    /// When the layer 1 does not answer, or the deployer's nonce was used for something else.
    pub async fn deploy(
        &self,
        sender: &Sender,
        l1: &str,
        deployer: Address,
        first_nonce: u64,
    ) -> Result<Network> {
        let settings = &self.settings;
        let (layer1, start) = Layer1::begin(sender, deployer, first_nonce, settings).await?;
        let network = self.at_block(layer1, l1, start).await?;
        let anchor = network.genesis_output_root()?;
        let allocated = self.allocated()?;
        layer1
            .finish(sender, deployer, first_nonce, settings, anchor, allocated)
            .await?;
        Ok(network)
    }
}

impl Network {
    /// The output root of the genesis block, where claims start.
    ///
    /// # Errors
    /// When the genesis is impossible.
    pub fn genesis_output_root(&self) -> Result<B256> {
        let spec = ChainSpec::of_genesis(&self.genesis);
        let header = GenesisBlock::new(&spec, &self.genesis)?.header;
        output_root(&header).ok_or_else(|| Error::not_found("output root of block", header.hash()))
    }

    /// Reads the four files from a directory, and the upgrade transactions of Karst where they are.
    ///
    /// # Errors
    /// When one is missing or does not parse; the message names it.
    pub fn load(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| Error::File {
                action: "read",
                path,
                source,
            })
        };
        let parsed = |name: &str, error: serde_json::Error| Error::File {
            action: "understand",
            path: dir.join(name),
            source: error.into(),
        };
        let [l1, rollup, genesis, da] = FILES;
        let certification: Certification =
            serde_json::from_str(&read(da)?).map_err(|e| parsed(da, e))?;
        let mut network = Self {
            layer1: serde_json::from_str(&read(l1)?).map_err(|e| parsed(l1, e))?,
            rollup: RollupConfig::from_json(&read(rollup)?)?,
            genesis: serde_json::from_str(&read(genesis)?).map_err(|e| parsed(genesis, e))?,
            committee: certification.committee,
        };
        if dir.join(KARST_UPGRADE).exists() {
            let bundle = read(KARST_UPGRADE)?;
            network.rollup = network.rollup.with_karst_upgrade(&bundle)?;
        }
        let (engine, derivation) = (
            ChainSpec::of_genesis(&network.genesis).karst_time(),
            network.rollup.karst_time(),
        );
        if engine != derivation {
            let reason = format!("karstTime {engine:?}, but karst_time {derivation:?} in {rollup}");
            return Err(parsed(genesis, serde::de::Error::custom(reason)));
        }
        Ok(network)
    }

    /// Writes the four files, each at once or not at all.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let files = [
            format!("{:#}", serde_json::json!(self.layer1)),
            self.rollup.to_json(),
            format!("{:#}", serde_json::json!(self.genesis)),
            format!(
                "{:#}",
                serde_json::json!(Certification {
                    committee: self.committee
                })
            ),
        ];
        for (name, content) in FILES.iter().zip(files) {
            write_atomic(&dir.join(name), format!("{content}\n").as_bytes())?;
        }
        Ok(())
    }
}

/// The genesis of a layer 1 for development: Ethereum's system contracts, and coins for accounts.
pub(crate) fn layer1_genesis(chain_id: u64, accounts: &[(Address, Wei)]) -> Genesis {
    let mut alloc = contracts(&predeploys::layer1());
    for (account, amount) in accounts {
        alloc.entry(*account).or_default().balance += U256::from(amount.get());
    }
    let mut config = GenesisConfig {
        chain_id,
        ..GenesisConfig::default()
    };
    post_merge(&mut config);
    Genesis {
        config,
        gas_limit: GAS_LIMIT,
        alloc,
        ..Genesis::default()
    }
}

/// Every fork of Ethereum up to Prague from the first block on.
fn post_merge(config: &mut GenesisConfig) {
    for block in [
        &mut config.homestead_block,
        &mut config.eip150_block,
        &mut config.eip155_block,
        &mut config.eip158_block,
        &mut config.byzantium_block,
        &mut config.constantinople_block,
        &mut config.petersburg_block,
        &mut config.istanbul_block,
        &mut config.berlin_block,
        &mut config.london_block,
        &mut config.merge_netsplit_block,
    ] {
        *block = Some(0);
    }
    for time in [
        &mut config.shanghai_time,
        &mut config.cancun_time,
        &mut config.prague_time,
    ] {
        *time = Some(0);
    }
    config.terminal_total_difficulty = Some(U256::ZERO);
    config.terminal_total_difficulty_passed = true;
}

fn contracts(predeploys: &[Predeploy]) -> BTreeMap<Address, GenesisAccount> {
    let account = |predeploy: &Predeploy| GenesisAccount {
        balance: U256::from(predeploy.balance.get()),
        code: Some(predeploy.code.clone()),
        nonce: Some(1),
        storage: Some(predeploy.storage.iter().copied().collect()),
        ..GenesisAccount::default()
    };
    predeploys.iter().map(|p| (p.address, account(p))).collect()
}

fn eip_1559_params((denominator, elasticity): (u32, u32)) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&denominator.to_be_bytes());
    bytes[4..].copy_from_slice(&elasticity.to_be_bytes());
    bytes
}

/// A sender to the layer 1 that pays what `replacement` allows, whose outbox does not outlive it.
///
/// # Errors
/// When the layer 1 does not answer.
pub async fn layer1_sender(
    l1: &str,
    signer: super::roles::Signer,
    replacement: Replacement,
) -> Result<Sender> {
    let node = Arc::new(HttpNode::new(l1)?);
    let config = SenderConfig {
        poll: Duration::from_millis(200),
        replacement: Some(replacement),
        ..SenderConfig::default()
    };
    Ok(Sender::new(node, [signer], Arc::new(MemoryOutbox::default()), config).await?)
}
