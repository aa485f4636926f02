//! A layer 1, a layer 2 and a data availability layer in memory, whose hashes and roots are real.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test takes what it needs"
)]

mod sources;
mod transactions;

pub use sources::*;
pub use transactions::*;

use alloy_consensus::{
    Eip658Value, Header, Receipt, SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702,
    TxEnvelope, TxLegacy, proofs::ordered_trie_root_with_encoder,
};
use alloy_eips::{
    Encodable2718,
    eip2930::{AccessList, AccessListItem},
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{
    Address, B64, B256, Bloom, Bytes, Log, LogData, Signature, TxKind, U256, address, keccak256,
    logs_bloom,
};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use openledger_derivation::{
    Attributes, AttributesBuilder, BlockData, BlockId, CONFIG_UPDATE_TOPIC, ChannelError,
    ChannelLimits, ChannelOut, ClosedChannel, Commitments, DEPOSIT_TOPIC, DaError,
    DataAvailability, Error, L1, L1Block, L2, L2Block, L2Head, OriginChoice, Parameters, Pipeline,
    RollupConfig, SourceError, Step, SystemConfig, inbox_commitment, inbox_frames,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

pub const L1_CHAIN: u64 = 900;
pub const L2_CHAIN: u64 = 901;
pub const INBOX: Address = address!("0xff00000000000000000000000000000000000901");
pub const PORTAL: Address = address!("0x0000000000000000000000000000000000000b0b");
pub const SYSTEM: Address = address!("0x0000000000000000000000000000000000005c5c");
pub const GENESIS_TIME: u64 = 1_700_000_000;
pub const L1_TIME: u64 = 12;
pub const L2_TIME: u64 = 2;

pub fn batcher() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0xb7)).expect("a valid key")
}

pub fn stranger() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x57)).expect("a valid key")
}

#[derive(Debug, Clone)]
pub struct Built {
    pub head: L2Head,
    pub header: Bytes,
    pub transactions: Vec<Bytes>,
}

/// A layer 2 that executes nothing: a block is its attributes.
#[derive(Debug)]
pub struct MemL2 {
    config: RollupConfig,
    blocks: Mutex<Vec<Built>>,
    pub offline: Mutex<bool>,
}

fn l2_genesis(jovian: bool) -> Header {
    Header {
        timestamp: GENESIS_TIME,
        gas_limit: 30_000_000,
        extra_data: vec![0; if jovian { 17 } else { 9 }].into(),
        ..Default::default()
    }
}

impl MemL2 {
    pub fn new(config: RollupConfig) -> Arc<Self> {
        let header = rlp(&l2_genesis(config.is_jovian()));
        let head = config.head_of(&header, None).expect("genesis");
        let genesis = Built {
            head,
            header,
            transactions: Vec::new(),
        };
        Arc::new(Self {
            config,
            blocks: vec![genesis].into(),
            offline: false.into(),
        })
    }

    pub fn blocks(&self) -> Vec<Built> {
        self.blocks.lock().expect("no test panics with it").clone()
    }

    pub fn head(&self) -> L2Head {
        self.blocks
            .lock()
            .expect("no test panics with it")
            .last()
            .expect("genesis")
            .head
    }

    pub fn rewind(&self, head: &L2Head) {
        let mut blocks = self.blocks.lock().expect("no test panics with it");
        blocks.truncate(head.number as usize + 1);
        assert_eq!(
            blocks.last().expect("genesis").head,
            *head,
            "a head of ours"
        );
    }

    /// Puts a block on its parent, which must be the head.
    pub fn execute(&self, attributes: &Attributes) -> L2Head {
        let mut extra = vec![u8::from(attributes.min_base_fee.is_some())];
        extra.extend_from_slice(attributes.eip_1559_params.as_slice());
        extra.extend(
            attributes
                .min_base_fee
                .iter()
                .flat_map(|fee| fee.to_be_bytes()),
        );
        let header = rlp(&Header {
            parent_hash: attributes.parent.hash,
            number: attributes.parent.number + 1,
            timestamp: attributes.timestamp,
            gas_limit: attributes.gas_limit,
            mix_hash: attributes.prev_randao,
            beneficiary: attributes.fee_recipient,
            parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
            base_fee_per_gas: Some(1),
            withdrawals_root: Some(B256::ZERO),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            transactions_root: ordered_trie_root_with_encoder(
                &attributes.transactions,
                |tx, out| {
                    out.extend_from_slice(tx);
                },
            ),
            extra_data: extra.into(),
            ..Default::default()
        });
        let first = attributes.transactions.first().map(|tx| &tx[..]);
        let head = self
            .config
            .head_of(&header, first)
            .expect("a block of this chain");
        let mut blocks = self.blocks.lock().expect("no test panics with it");
        assert_eq!(blocks.last().expect("genesis").head, attributes.parent);
        let transactions = attributes.transactions.clone();
        blocks.push(Built {
            head,
            header,
            transactions,
        });
        head
    }
}

impl L2 for MemL2 {
    fn block(&self, number: u64) -> Result<L2Block, SourceError> {
        if *self.offline.lock().expect("no test panics with it") {
            return Err(SourceError::Unavailable("offline".into()));
        }
        let blocks = self.blocks.lock().expect("no test panics with it");
        let block = blocks.get(number as usize).ok_or(SourceError::NotFound)?;
        Ok(L2Block {
            header: block.header.clone(),
            first_transaction: block.transactions.first().cloned(),
        })
    }
}

pub type Verifier = Pipeline<Arc<MemL1>, Arc<MemDa>, Arc<MemL2>>;

/// A chain with its sequencer and batcher.
#[derive(Debug)]
pub struct World {
    pub config: RollupConfig,
    pub l1: Arc<MemL1>,
    pub da: Arc<MemDa>,
    /// The sequencer's chain.
    pub l2: Arc<MemL2>,
    pub builder: AttributesBuilder<Arc<MemL1>>,
    pub rng: ChaCha8Rng,
    nonce: u64,
    /// The next block to be batched.
    pub unbatched: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub seed: u64,
    pub window: u64,
    pub jovian: bool,
    pub alt_da: Commitments,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            window: 100,
            jovian: true,
            alt_da: Commitments::Generic,
        }
    }
}

pub fn config(setup: Setup, l1_genesis: BlockId) -> RollupConfig {
    let header = rlp(&l2_genesis(setup.jovian));
    let config = RollupConfig::new(&Parameters {
        l1_chain_id: L1_CHAIN,
        l2_chain_id: L2_CHAIN,
        l1_genesis,
        l2_genesis: BlockId {
            number: 0,
            hash: keccak256(&header),
        },
        l2_time: GENESIS_TIME,
        system_config: SystemConfig {
            batcher: batcher().address(),
            base_fee_scalar: 1368,
            blob_base_fee_scalar: 810_949,
            gas_limit: 30_000_000,
            eip_1559_params: B64::from(250u64 << 32 | 6),
            operator_fee_scalar: 11,
            operator_fee_constant: 12,
            min_base_fee: 0,
            da_footprint_gas_scalar: 0,
        },
        block_time: L2_TIME,
        seq_window_size: setup.window,
        batch_inbox: INBOX,
        deposit_contract: PORTAL,
        system_config_contract: SYSTEM,
        alt_da: setup.alt_da,
    })
    .expect("a valid config");
    if setup.jovian {
        return config;
    }
    let mut json: serde_json::Value = serde_json::from_str(&config.to_json()).expect("JSON");
    json.as_object_mut()
        .expect("an object")
        .remove("jovian_time");
    RollupConfig::from_json(&json.to_string()).expect("a valid config")
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let l1 = MemL1::genesis();
        let genesis = BlockId {
            number: 0,
            hash: l1.block(0).hash,
        };
        let config = config(setup, genesis);
        Self {
            l2: MemL2::new(config.clone()),
            builder: AttributesBuilder::new(config.clone(), l1.clone()),
            da: Arc::default(),
            rng: ChaCha8Rng::seed_from_u64(setup.seed),
            l1,
            config,
            nonce: 0,
            unbatched: 1,
        }
    }

    /// The same world under another rollup configuration.
    pub fn under(mut self, config: RollupConfig) -> Self {
        self.l2 = MemL2::new(config.clone());
        self.builder = AttributesBuilder::new(config.clone(), self.l1.clone());
        self.config = config;
        self
    }

    /// An empty chain on the same layer 1, and the pipeline for it.
    pub fn verifier(&self) -> (Verifier, Arc<MemL2>) {
        let l2 = MemL2::new(self.config.clone());
        (self.pipeline(&l2), l2)
    }

    /// A new pipeline for a chain.
    pub fn pipeline(&self, l2: &Arc<MemL2>) -> Verifier {
        Pipeline::new(
            self.config.clone(),
            self.l1.clone(),
            self.da.clone(),
            l2.clone(),
        )
    }

    /// Makes one L2 block.
    pub fn sequence(&mut self, user: Vec<Bytes>) -> L2Head {
        let parent = self.l2.head();
        let choice = self.builder.next_origin(&parent, 0).expect("an origin");
        let OriginChoice::Build { origin, no_tx_pool } = choice else {
            panic!("{choice:?}")
        };
        let mut attributes = self
            .builder
            .next_attributes(&parent, origin)
            .expect("attributes");
        let first = self.config.is_first_in_karst(attributes.timestamp);
        assert_eq!(attributes.no_tx_pool, no_tx_pool || first);
        if !attributes.no_tx_pool {
            attributes.transactions.extend(user);
        }
        self.l2.execute(&attributes)
    }

    /// Makes L2 blocks until L2 time is that of the next L1 block, with up to `max` transactions
    /// each.
    pub fn sequence_slot(&mut self, max: usize) {
        let end = GENESIS_TIME + L1_TIME * (self.l1.head() + 1);
        while self.l2.head().timestamp + L2_TIME < end {
            let count = (self.rng.next_u32() as usize) % (max + 1);
            let user = (0..count)
                .map(|_| random_transaction(&mut self.rng))
                .collect();
            self.sequence(user);
        }
    }

    /// Puts blocks that are not batched yet into one channel.
    pub fn channel(&mut self, limits: ChannelLimits) -> ClosedChannel {
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let mut channel = ChannelOut::new(self.config.clone(), limits, id);
        for block in self.l2.blocks().iter().skip(self.unbatched) {
            match channel.add_block(&block_data(block)) {
                Ok(()) => self.unbatched += 1,
                Err(ChannelError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        channel.close().expect("it fits")
    }

    /// A transaction of the batcher.
    pub fn inbox(&mut self, data: Bytes) -> Bytes {
        self.nonce += 1;
        signed(&batcher(), self.nonce, INBOX, data)
    }

    pub fn inline(&mut self, frames: &[Bytes]) -> Bytes {
        self.inbox(inbox_frames(frames))
    }

    pub fn committed(&mut self, frames: &[Bytes]) -> Bytes {
        let commitment = self.da.put(inbox_frames(frames));
        self.inbox(inbox_commitment(&commitment))
    }

    /// Derives everything there is, and returns the last step.
    pub fn derive(pipeline: &mut Verifier, l2: &MemL2) -> Result<Step, Error> {
        loop {
            match pipeline.step(&l2.head())? {
                Step::Attributes(attributes) => {
                    l2.execute(&attributes);
                }
                Step::Advanced(_) => {}
                step => return Ok(step),
            }
        }
    }

    /// Checks that a chain is the sequencer's, as far as it goes.
    pub fn check(&self, l2: &MemL2, blocks: usize) {
        let (ours, theirs) = (self.l2.blocks(), l2.blocks());
        assert_eq!(theirs.len(), blocks + 1, "blocks derived");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(
                ours.transactions, theirs.transactions,
                "block {}",
                ours.head.number
            );
            assert_eq!(ours.head, theirs.head);
        }
    }
}

pub fn block_data(block: &Built) -> BlockData<'_> {
    BlockData {
        parent_hash: block.head.parent_hash,
        timestamp: block.head.timestamp,
        l1_origin: block.head.l1_origin,
        sequence_number: block.head.sequence_number,
        transactions: &block.transactions,
    }
}

/// Spreads transactions over L1 blocks, a few in each.
pub fn include(world: &World, mut queue: VecDeque<Bytes>, per_block: usize) {
    while !queue.is_empty() {
        let count = per_block.min(queue.len());
        world.l1.push(queue.drain(..count).collect(), &[]);
    }
}
