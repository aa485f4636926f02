//! `rollup.json`, as op-node reads it.

use crate::{
    error::{Error, Result},
    l1::L1Header,
    system::{SystemConfig, fee_scalars},
    types::BlockId,
    upgrade::Upgrade,
};
use alloc::{
    borrow::ToOwned, collections::BTreeMap, format, string::String, string::ToString, sync::Arc,
    vec::Vec,
};
use alloy_primitives::{Address, B64, B256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Drift of L2 time over its origin's, from Fjord on.
pub const MAX_SEQUENCER_DRIFT: u64 = 1800;

/// L1 blocks that a channel may take, from Granite on.
pub const CHANNEL_TIMEOUT: u64 = 50;

/// Decompressed bytes of a channel that are read, from Fjord on.
pub const MAX_RLP_BYTES_PER_CHANNEL: usize = 100_000_000;

/// Forks that this program knows; all of them are active from genesis on.
const FORKS: [&str; 8] = [
    "regolith_time",
    "canyon_time",
    "delta_time",
    "ecotone_time",
    "fjord_time",
    "granite_time",
    "holocene_time",
    "isthmus_time",
];

/// Keys that end like a fork's and are none, or are read by themselves.
const NO_FORKS: [&str; 4] = [
    "block_time",
    "jovian_time",
    "karst_time",
    "pectra_blob_schedule_time",
];

/// EIP-4844 (Cancun) update fraction of the blob base fee.
const CANCUN_FRACTION: u64 = 3_338_477;

/// EIP-7691 (Prague) update fraction of the blob base fee.
const PRAGUE_FRACTION: u64 = 5_007_716;

/// Blob-parameter-only forks of public layer 1s: chain, from when, update fraction.
const BLOB_SCHEDULE: [(u64, u64, u64); 4] = [
    (1, 1_767_747_671, 11_684_671),
    (1, 1_765_290_071, 8_346_193),
    (11_155_111, 1_761_607_008, 11_684_671),
    (11_155_111, 1_761_017_184, 8_346_193),
];

/// The types of commitment in `rollup.json`.
const GENERIC: &str = "GenericCommitment";
const KECCAK: &str = "KeccakCommitment";

/// Alternative data availability, as `rollup.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AltDa {
    /// `GenericCommitment` or `KeccakCommitment`.
    #[serde(rename = "da_commitment_type", default)]
    pub commitment_type: Option<String>,
    /// The challenge contract; unused with generic commitments.
    #[serde(
        rename = "da_challenge_contract_address",
        alias = "da_challenge_address",
        default
    )]
    pub challenge_contract: Option<Address>,
    /// L1 blocks in which a commitment can be challenged.
    #[serde(rename = "da_challenge_window", default)]
    pub challenge_window: Option<u64>,
    /// L1 blocks in which a challenge can be answered.
    #[serde(rename = "da_resolve_window", default)]
    pub resolve_window: Option<u64>,
}

/// How data behind keccak256 commitments can be demanded on the layer 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenging {
    /// The `DataAvailabilityChallenge` contract.
    pub contract: Address,
    /// L1 blocks after a commitment's own in which its data can be demanded.
    pub challenge_window: u64,
    /// L1 blocks after the demand in which the data can be shown.
    pub resolve_window: u64,
}

impl Challenging {
    /// The L1 block after which nothing can change any more about a commitment in `block`.
    #[must_use]
    pub const fn settled(&self, block: u64) -> u64 {
        block
            .saturating_add(self.challenge_window)
            .saturating_add(self.resolve_window)
    }
}

/// What may be in the inbox in place of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitments {
    /// Nothing.
    None,
    /// Commitments that the data availability layer answers for.
    Generic,
    /// Hashes, whose data can be demanded.
    Keccak(Challenging),
}

impl AltDa {
    /// The rules of demands; none with generic commitments.
    fn challenging(&self) -> Result<Option<Challenging>> {
        if self.commitment_type.as_deref() != Some(KECCAK) {
            return Ok(None);
        }
        let contract = self.challenge_contract.filter(|at| !at.is_zero());
        let missing = |field| Error::Config(format!("alt_da: {KECCAK} without {field}"));
        Ok(Some(Challenging {
            contract: contract.ok_or_else(|| missing("da_challenge_contract_address"))?,
            challenge_window: self
                .challenge_window
                .ok_or_else(|| missing("da_challenge_window"))?,
            resolve_window: self
                .resolve_window
                .ok_or_else(|| missing("da_resolve_window"))?,
        }))
    }
}

/// What a new chain chooses; [`RollupConfig::new`] writes `rollup.json` from it, with every fork up
/// to Jovian active at genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Chain id of the layer 1.
    pub l1_chain_id: u64,
    /// Chain id of the layer 2.
    pub l2_chain_id: u64,
    /// The layer 1 block from which on the chain is derived.
    pub l1_genesis: BlockId,
    /// The genesis block.
    pub l2_genesis: BlockId,
    /// Its timestamp.
    pub l2_time: u64,
    /// The system config at genesis.
    pub system_config: SystemConfig,
    /// Seconds between blocks.
    pub block_time: u64,
    /// L1 blocks after which an epoch without batches is filled with empty blocks.
    pub seq_window_size: u64,
    /// Where batches are sent.
    pub batch_inbox: Address,
    /// The `OptimismPortal`.
    pub deposit_contract: Address,
    /// The `SystemConfig` contract.
    pub system_config_contract: Address,
    /// What may be in the inbox in place of data.
    pub alt_da: Commitments,
}

/// The rollup configuration.
///
/// What op-node has and this program does not use stays in [`RollupConfig::to_json`].
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct RollupConfig(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    json: Value,
    parsed: Parsed,
    system_config: SystemConfig,
    jovian: bool,
    challenging: Option<Challenging>,
    karst: Option<u64>,
    karst_upgrade: Option<Upgrade>,
    /// Forks that this program does not know, by activation.
    unknown: Vec<(u64, String)>,
}

#[derive(Debug, Deserialize)]
struct Parsed {
    genesis: Genesis,
    block_time: u64,
    seq_window_size: u64,
    l1_chain_id: u64,
    l2_chain_id: u64,
    batch_inbox_address: Address,
    deposit_contract_address: Address,
    l1_system_config_address: Address,
    #[serde(default)]
    alt_da: Option<AltDa>,
    #[serde(default)]
    granite_channel_timeout: Option<u64>,
    #[serde(default)]
    keep_karst_upgrade_gas: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Genesis {
    l1: BlockId,
    l2: BlockId,
    l2_time: u64,
    system_config: GenesisSystemConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenesisSystemConfig {
    #[serde(alias = "batcherAddress")]
    batcher_addr: Address,
    scalar: B256,
    gas_limit: u64,
    #[serde(default)]
    eip1559_params: B64,
    #[serde(default)]
    operator_fee_params: B256,
    #[serde(default)]
    min_base_fee: u64,
    #[serde(default)]
    da_footprint_gas_scalar: u16,
}

impl GenesisSystemConfig {
    fn read(&self) -> Result<SystemConfig> {
        let (base_fee_scalar, blob_base_fee_scalar) = fee_scalars(&self.scalar)
            .ok_or_else(|| Error::Config(format!("fee scalar {} of no version", self.scalar)))?;
        let operator = self.operator_fee_params;
        let mut constant = [0; 8];
        constant.copy_from_slice(&operator[24..]);
        Ok(SystemConfig {
            batcher: self.batcher_addr,
            base_fee_scalar,
            blob_base_fee_scalar,
            gas_limit: self.gas_limit,
            eip_1559_params: self.eip1559_params,
            operator_fee_scalar: u32::from_be_bytes([
                operator[20],
                operator[21],
                operator[22],
                operator[23],
            ]),
            operator_fee_constant: u64::from_be_bytes(constant),
            min_base_fee: self.min_base_fee,
            da_footprint_gas_scalar: self.da_footprint_gas_scalar,
        })
    }
}

impl RollupConfig {
    /// Reads `rollup.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for something that is no rollup configuration, and for chains on which a
    /// fork up to Isthmus is missing at genesis or Jovian comes after it: their activation blocks
    /// carry upgrade transactions that are not here.
    pub fn from_json(json: &str) -> Result<Self> {
        let json = serde_json::from_str(json).map_err(|e| Error::Config(e.to_string()))?;
        Self::from_value(json, None)
    }

    /// The same chain with the upgrade transactions of its first block in Karst, which a chain that
    /// has Karst from genesis on has not.
    ///
    /// `bundle` is a JSON file as in `op-core/nuts/bundles` of the Optimism monorepo, where that of
    /// Optimism's own predeploys is. A chain with other predeploys has another bundle, or an empty
    /// one: `{"transactions": []}`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for something that is no bundle.
    pub fn with_karst_upgrade(&self, bundle: &str) -> Result<Self> {
        let upgrade = Upgrade::from_json("Karst", bundle)?;
        Self::from_value(self.0.json.clone(), Some(upgrade))
    }

    fn from_value(json: Value, karst_upgrade: Option<Upgrade>) -> Result<Self> {
        let parsed = Parsed::deserialize(&json).map_err(|e| Error::Config(e.to_string()))?;
        let system_config = parsed.genesis.system_config.read()?;
        let at = |key: &str| parsed.rest.get(key).and_then(Value::as_u64);
        let genesis = parsed.genesis.l2_time;
        if parsed.block_time == 0 {
            return Err(Error::Config("block_time is zero".into()));
        }
        if at("isthmus_time").is_none_or(|t| t > genesis)
            || FORKS
                .iter()
                .any(|fork| at(fork).is_some_and(|t| t > genesis))
        {
            return Err(Error::Config(
                "a fork up to Isthmus is not active at genesis".into(),
            ));
        }
        let jovian = match at("jovian_time") {
            None => false,
            Some(t) if t <= genesis => true,
            Some(t) => {
                return Err(Error::Config(format!(
                    "jovian_time {t} is after genesis {genesis}"
                )));
            }
        };
        let karst = at("karst_time");
        if karst.is_some() && !jovian {
            return Err(Error::Config("karst_time without jovian_time".into()));
        }
        let challenging = parsed.alt_da.as_ref().map(AltDa::challenging).transpose()?;
        let mut unknown: Vec<_> = parsed
            .rest
            .iter()
            .filter(|(key, _)| key.ends_with("_time"))
            .filter(|(key, _)| !FORKS.contains(&key.as_str()) && !NO_FORKS.contains(&key.as_str()))
            .filter_map(|(key, value)| Some((value.as_u64()?, key.clone())))
            .collect();
        unknown.sort();
        Ok(Self(Arc::new(Inner {
            json,
            parsed,
            system_config,
            jovian,
            challenging: challenging.flatten(),
            karst,
            karst_upgrade,
            unknown,
        })))
    }

    /// The configuration of a new chain.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a block time of zero.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let Parameters {
            system_config: system,
            ..
        } = parameters;
        let mut scalar = [0; 32];
        scalar[0] = 1;
        scalar[24..28].copy_from_slice(&system.blob_base_fee_scalar.to_be_bytes());
        scalar[28..].copy_from_slice(&system.base_fee_scalar.to_be_bytes());
        let mut operator = [0; 32];
        operator[20..24].copy_from_slice(&system.operator_fee_scalar.to_be_bytes());
        operator[24..].copy_from_slice(&system.operator_fee_constant.to_be_bytes());
        let mut json = json!({
            "genesis": {
                "l1": parameters.l1_genesis,
                "l2": parameters.l2_genesis,
                "l2_time": parameters.l2_time,
                "system_config": {
                    "batcherAddr": system.batcher,
                    "overhead": B256::ZERO,
                    "scalar": B256::from(scalar),
                    "gasLimit": system.gas_limit,
                    "eip1559Params": system.eip_1559_params,
                    "operatorFeeParams": B256::from(operator),
                    "minBaseFee": system.min_base_fee,
                    "daFootprintGasScalar": system.da_footprint_gas_scalar,
                },
            },
            "block_time": parameters.block_time,
            "max_sequencer_drift": MAX_SEQUENCER_DRIFT,
            "seq_window_size": parameters.seq_window_size,
            "channel_timeout": CHANNEL_TIMEOUT,
            "l1_chain_id": parameters.l1_chain_id,
            "l2_chain_id": parameters.l2_chain_id,
            "batch_inbox_address": parameters.batch_inbox,
            "deposit_contract_address": parameters.deposit_contract,
            "l1_system_config_address": parameters.system_config_contract,
            "protocol_versions_address": Address::ZERO,
            "jovian_time": 0,
            "chain_op_config": {
                "eip1559Elasticity": 6,
                "eip1559Denominator": 50,
                "eip1559DenominatorCanyon": 250,
            },
        });
        let object = json.as_object_mut().map_or_else(Map::new, core::mem::take);
        let mut object = object;
        object.extend(FORKS.map(|fork| (fork.to_owned(), Value::from(0))));
        let (kind, rules) = match parameters.alt_da {
            Commitments::None => (None, None),
            Commitments::Generic => (Some(GENERIC), None),
            Commitments::Keccak(rules) => (Some(KECCAK), Some(rules)),
        };
        if let Some(kind) = kind {
            object.insert(
                "alt_da".into(),
                json!({
                    "da_commitment_type": kind,
                    "da_challenge_contract_address": rules.map_or(Address::ZERO, |r| r.contract),
                    "da_challenge_window": rules.map_or(1, |r| r.challenge_window),
                    "da_resolve_window": rules.map_or(1, |r| r.resolve_window),
                }),
            );
        }
        Self::from_value(Value::Object(object), None)
    }

    /// The JSON it was read from, fields that are not used here included.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.0.json)
    }

    /// Chain id of the layer 1.
    #[must_use]
    pub fn l1_chain_id(&self) -> u64 {
        self.0.parsed.l1_chain_id
    }

    /// Chain id of the layer 2.
    #[must_use]
    pub fn l2_chain_id(&self) -> u64 {
        self.0.parsed.l2_chain_id
    }

    /// Seconds between layer 2 blocks.
    #[must_use]
    pub fn block_time(&self) -> u64 {
        self.0.parsed.block_time
    }

    /// The layer 1 block from which on the chain is derived.
    #[must_use]
    pub fn l1_genesis(&self) -> BlockId {
        self.0.parsed.genesis.l1
    }

    /// The layer 2 genesis block.
    #[must_use]
    pub fn l2_genesis(&self) -> BlockId {
        self.0.parsed.genesis.l2
    }

    /// Timestamp of the layer 2 genesis block.
    #[must_use]
    pub fn l2_genesis_time(&self) -> u64 {
        self.0.parsed.genesis.l2_time
    }

    /// The system config at genesis.
    #[must_use]
    pub fn genesis_system_config(&self) -> SystemConfig {
        self.0.system_config
    }

    /// L1 blocks in which the batches of an epoch must arrive.
    #[must_use]
    pub fn seq_window_size(&self) -> u64 {
        self.0.parsed.seq_window_size
    }

    /// Seconds by which a block with transactions may be ahead of its L1 origin. A constant since
    /// Fjord, whatever `max_sequencer_drift` says.
    #[must_use]
    pub const fn max_sequencer_drift(&self) -> u64 {
        MAX_SEQUENCER_DRIFT
    }

    /// L1 blocks between the first and the last frame of a channel. A constant since Granite,
    /// whatever `channel_timeout` says.
    #[must_use]
    pub fn channel_timeout(&self) -> u64 {
        self.0
            .parsed
            .granite_channel_timeout
            .unwrap_or(CHANNEL_TIMEOUT)
    }

    /// Where batches are sent.
    #[must_use]
    pub fn batch_inbox(&self) -> Address {
        self.0.parsed.batch_inbox_address
    }

    /// The `OptimismPortal`.
    #[must_use]
    pub fn deposit_contract(&self) -> Address {
        self.0.parsed.deposit_contract_address
    }

    /// The `SystemConfig` contract.
    #[must_use]
    pub fn system_config_contract(&self) -> Address {
        self.0.parsed.l1_system_config_address
    }

    /// Alternative data availability, if the inbox may hold commitments.
    #[must_use]
    pub fn alt_da(&self) -> Option<&AltDa> {
        self.0.parsed.alt_da.as_ref()
    }

    /// How data can be demanded on the layer 1, if commitments are hashes.
    #[must_use]
    pub fn challenging(&self) -> Option<Challenging> {
        self.0.challenging
    }

    /// Whether Jovian is active (from genesis on, or never).
    #[must_use]
    pub fn is_jovian(&self) -> bool {
        self.0.jovian
    }

    /// When Karst becomes active, Unix seconds; `None` for never.
    #[must_use]
    pub fn karst_time(&self) -> Option<u64> {
        self.0.karst
    }

    /// Whether a block at `timestamp` is the first one in Karst. It has no transactions of users
    /// but deposits.
    #[must_use]
    pub fn is_first_in_karst(&self, timestamp: u64) -> bool {
        let before = timestamp.saturating_sub(self.block_time());
        timestamp > self.l2_genesis_time()
            && self.0.karst.is_some_and(|t| before < t && t <= timestamp)
    }

    /// The upgrade transactions of the block at `timestamp`, if it is the first of a fork.
    pub(crate) fn upgrade(&self, timestamp: u64) -> Result<Option<&Upgrade>> {
        if !self.is_first_in_karst(timestamp) {
            return Ok(None);
        }
        let fork = "Karst";
        let missing = Error::UnknownUpgrade { fork, timestamp };
        self.0.karst_upgrade.as_ref().map(Some).ok_or(missing)
    }

    /// Gas of the block at `timestamp` that its successors do not have. (Some public chains kept
    /// it, by an error that became a rule: `keep_karst_upgrade_gas`.)
    pub(crate) fn passing_gas(&self, timestamp: u64) -> Result<u64> {
        let upgrade = self.upgrade(timestamp)?;
        Ok(upgrade
            .filter(|_| !self.0.parsed.keep_karst_upgrade_gas)
            .map_or(0, |upgrade| upgrade.gas))
    }

    /// The time of a layer 2 block.
    #[must_use]
    pub fn timestamp_of(&self, number: u64) -> u64 {
        let blocks = number.saturating_sub(self.l2_genesis().number);
        self.l2_genesis_time()
            .saturating_add(blocks.saturating_mul(self.block_time()))
    }

    /// Refuses times in forks that are not known here.
    pub(crate) fn check_fork(&self, timestamp: u64) -> Result<()> {
        match self.0.unknown.first() {
            Some((from, fork)) if timestamp >= *from => Err(Error::UnknownFork {
                fork: fork.clone(),
                timestamp,
            }),
            _ => Ok(()),
        }
    }

    /// Update fraction of the blob base fee at an L1 block.
    ///
    /// On a public layer 1 that of its schedule (EIP-7892); on any other that of Prague, once its
    /// headers are of Prague, and that of Cancun before.
    pub(crate) fn blob_fraction(&self, header: &L1Header) -> u64 {
        let at = header.block.timestamp;
        BLOB_SCHEDULE
            .iter()
            .find(|(chain, from, _)| *chain == self.l1_chain_id() && at >= *from)
            .map_or(
                if header.is_prague {
                    PRAGUE_FRACTION
                } else {
                    CANCUN_FRACTION
                },
                |entry| entry.2,
            )
    }
}
