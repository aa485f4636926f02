//! A layer 1, a layer 2 and a data availability layer in memory, whose hashes and roots are real.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test takes what it needs"
)]

use alloy_consensus::{
    Eip658Value, Header, Receipt, SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxEnvelope,
    TxLegacy, proofs::ordered_trie_root_with_encoder,
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
    ChannelLimits, ChannelOut, ClosedChannel, DEPOSIT_TOPIC, DaError, DataAvailability, Error, L1,
    L1Block, L2, L2Block, L2Head, OriginChoice, Parameters, Pipeline, RollupConfig, SourceError,
    Step, SystemConfig, inbox_commitment, inbox_frames,
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

/// What a source does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    Header,
    Transactions,
    MissingTransaction,
    Receipts,
    Offline,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub hash: B256,
    pub header: Bytes,
    pub timestamp: u64,
    pub transactions: Vec<Bytes>,
    pub receipts: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Chain {
    canonical: Vec<B256>,
    blocks: HashMap<B256, Block>,
    blobs: HashMap<B256, Bytes>,
    lie: Option<Lie>,
    receipts_read: usize,
}

#[derive(Debug, Default)]
pub struct MemL1(Mutex<Chain>);

fn rlp(header: &Header) -> Bytes {
    alloy_rlp::encode(header).into()
}

impl MemL1 {
    pub fn genesis() -> Arc<Self> {
        let l1 = Arc::new(Self::default());
        l1.push(Vec::new(), &[]);
        l1
    }

    /// Appends a block; each list of logs is a receipt.
    pub fn push(&self, transactions: Vec<Bytes>, logs: &[Vec<Log>]) -> BlockId {
        let mut chain = self.0.lock().expect("no test panics with it");
        let number = chain.canonical.len() as u64;
        let receipts: Vec<Bytes> = logs
            .iter()
            .map(|logs| {
                let receipt = Receipt {
                    status: Eip658Value::Eip658(true),
                    cumulative_gas_used: 21_000,
                    logs: logs.clone(),
                }
                .with_bloom();
                let mut out = vec![2];
                alloy_rlp::Encodable::encode(&receipt, &mut out);
                out.into()
            })
            .collect();
        let raw = |item: &Bytes, out: &mut Vec<u8>| out.extend_from_slice(item);
        let header = Header {
            parent_hash: chain.canonical.last().copied().unwrap_or_default(),
            number,
            timestamp: GENESIS_TIME + L1_TIME * number,
            transactions_root: ordered_trie_root_with_encoder(&transactions, raw),
            receipts_root: ordered_trie_root_with_encoder(&receipts, raw),
            logs_bloom: logs
                .iter()
                .fold(Bloom::ZERO, |acc, logs| acc | logs_bloom(logs)),
            mix_hash: keccak256(number.to_be_bytes()),
            base_fee_per_gas: Some(7 + number),
            withdrawals_root: Some(B256::ZERO),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(number * 1_000_000),
            parent_beacon_block_root: Some(keccak256([number as u8])),
            requests_hash: Some(B256::ZERO),
            // Two chains of the same blocks differ.
            extra_data: vec![chain.blocks.len() as u8].into(),
            ..Default::default()
        };
        let header = rlp(&header);
        let hash = keccak256(&header);
        let timestamp = GENESIS_TIME + L1_TIME * number;
        chain.canonical.push(hash);
        chain.blocks.insert(
            hash,
            Block {
                hash,
                header,
                timestamp,
                transactions,
                receipts,
            },
        );
        BlockId { number, hash }
    }

    /// Takes the last blocks off the chain; they can still be read by hash.
    pub fn pop(&self, count: usize) {
        let mut chain = self.0.lock().expect("no test panics with it");
        let left = chain.canonical.len() - count;
        chain.canonical.truncate(left);
    }

    pub fn head(&self) -> u64 {
        self.0
            .lock()
            .expect("no test panics with it")
            .canonical
            .len() as u64
            - 1
    }

    pub fn block(&self, number: u64) -> Block {
        let chain = self.0.lock().expect("no test panics with it");
        chain.blocks[&chain.canonical[number as usize]].clone()
    }

    pub fn lie(&self, lie: Option<Lie>) {
        self.0.lock().expect("no test panics with it").lie = lie;
    }

    pub fn receipts_read(&self) -> usize {
        self.0.lock().expect("no test panics with it").receipts_read
    }

    pub fn add_blob(&self, hash: B256, blob: Vec<u8>) {
        self.0
            .lock()
            .expect("no test panics with it")
            .blobs
            .insert(hash, blob.into());
    }

    fn get<T>(
        &self,
        f: impl FnOnce(&mut Chain, Option<Lie>) -> Option<T>,
    ) -> Result<T, SourceError> {
        let mut chain = self.0.lock().expect("no test panics with it");
        let lie = chain.lie;
        if lie == Some(Lie::Offline) {
            return Err(SourceError::Unavailable("offline".into()));
        }
        f(&mut chain, lie).ok_or(SourceError::NotFound)
    }
}

fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes.into()
}

impl L1 for MemL1 {
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError> {
        self.get(|chain, _| {
            let hash = chain.canonical.get(number as usize);
            Some(hash.map(|hash| chain.blocks[hash].header.clone()))
        })
    }

    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError> {
        self.get(|chain, lie| {
            let header = &chain.blocks.get(&hash)?.header;
            Some(if lie == Some(Lie::Header) {
                flip(header)
            } else {
                header.clone()
            })
        })
    }

    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        self.get(|chain, lie| {
            let mut list = chain.blocks.get(&block)?.transactions.clone();
            match lie {
                Some(Lie::Transactions) => list.iter_mut().for_each(|tx| *tx = flip(tx)),
                Some(Lie::MissingTransaction) => drop(list.pop()),
                _ => {}
            }
            Some(list)
        })
    }

    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        self.get(|chain, lie| {
            chain.receipts_read += 1;
            let mut list = chain.blocks.get(&block)?.receipts.clone();
            if lie == Some(Lie::Receipts) {
                list.iter_mut().for_each(|receipt| *receipt = flip(receipt));
            }
            Some(list)
        })
    }

    fn blobs(&self, _block: &L1Block, hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
        self.get(|chain, _| {
            hashes
                .iter()
                .map(|hash| chain.blobs.get(hash).cloned())
                .collect()
        })
    }
}

/// Data behind generic commitments, which are numbers here.
#[derive(Debug, Default)]
pub struct MemDa {
    data: Mutex<BTreeMap<Vec<u8>, Result<Bytes, DaError>>>,
}

impl MemDa {
    pub fn put(&self, data: Bytes) -> Vec<u8> {
        let mut map = self.data.lock().expect("no test panics with it");
        let commitment = [&[1, 0, 3][..], keccak256(&data).as_slice()].concat();
        map.insert(commitment.clone(), Ok(data));
        commitment
    }

    /// Replaces what is behind a commitment, and returns what was.
    pub fn set(
        &self,
        commitment: &[u8],
        answer: Result<Bytes, DaError>,
    ) -> Option<Result<Bytes, DaError>> {
        let mut map = self.data.lock().expect("no test panics with it");
        map.insert(commitment.to_vec(), answer)
    }
}

impl DataAvailability for MemDa {
    fn get(&self, commitment: &[u8]) -> Result<Bytes, DaError> {
        let map = self.data.lock().expect("no test panics with it");
        map.get(commitment)
            .cloned()
            .unwrap_or_else(|| Err(DaError::Unavailable("never stored".into())))
    }
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
            transactions_root: keccak256(attributes.transactions.concat()),
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
    pub alt_da: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            window: 100,
            jovian: true,
            alt_da: true,
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

    /// An empty chain on the same layer 1, and the pipeline for it.
    pub fn verifier(&self) -> (Verifier, Arc<MemL2>) {
        let l2 = MemL2::new(self.config.clone());
        let pipeline = Pipeline::new(
            self.config.clone(),
            self.l1.clone(),
            self.da.clone(),
            l2.clone(),
        );
        (pipeline, l2)
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
        assert_eq!(attributes.no_tx_pool, no_tx_pool);
        if !no_tx_pool {
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

pub fn signed(signer: &PrivateKeySigner, nonce: u64, to: Address, input: Bytes) -> Bytes {
    let tx = TxEip1559 {
        chain_id: L1_CHAIN,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        input,
        ..Default::default()
    };
    let signature = signer
        .sign_hash_sync(&tx.signature_hash())
        .expect("signing");
    TxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into()
}

fn word(rng: &mut ChaCha8Rng) -> B256 {
    let mut word = B256::ZERO;
    rng.fill_bytes(word.as_mut_slice());
    // Some have leading zeros, which integers lose.
    let zeros = (rng.next_u32() % 40) as usize;
    if zeros < 31 && rng.next_u32().is_multiple_of(4) {
        word[..zeros].fill(0);
    }
    word
}

fn number(rng: &mut ChaCha8Rng) -> u64 {
    rng.next_u64() >> (rng.next_u32() % 64)
}

fn signature(rng: &mut ChaCha8Rng) -> Signature {
    Signature::new(
        word(rng).into(),
        word(rng).into(),
        rng.next_u32().is_multiple_of(2),
    )
}

/// A transaction of any type that the layer 2 knows. Its signature is nobody's.
pub fn random_transaction(rng: &mut ChaCha8Rng) -> Bytes {
    let mut input = vec![0; (rng.next_u32() % 80) as usize];
    rng.fill_bytes(&mut input);
    let input = Bytes::from(input);
    let to = match rng.next_u32() % 5 {
        0 => TxKind::Create,
        _ => TxKind::Call(Address::from_word(word(rng))),
    };
    let value = U256::from_be_bytes(word(rng).0);
    let access_list = AccessList(
        (0..rng.next_u32() % 3)
            .map(|_| AccessListItem {
                address: Address::from_word(word(rng)),
                storage_keys: (0..rng.next_u32() % 3).map(|_| word(rng)).collect(),
            })
            .collect(),
    );
    let (nonce, gas_limit) = (number(rng), number(rng));
    let (low, high) = (u128::from(number(rng)), u128::from(number(rng)));
    let kind = rng.next_u32() % 5;
    let signature = signature(rng);
    let envelope: TxEnvelope = match kind {
        0 | 1 => TxLegacy {
            chain_id: (kind == 0).then_some(L2_CHAIN),
            nonce,
            gas_price: low,
            gas_limit,
            to,
            value,
            input,
        }
        .into_signed(signature)
        .into(),
        2 => TxEip2930 {
            chain_id: L2_CHAIN,
            nonce,
            gas_price: low,
            gas_limit,
            to,
            value,
            access_list,
            input,
        }
        .into_signed(signature)
        .into(),
        3 => TxEip1559 {
            chain_id: L2_CHAIN,
            nonce,
            gas_limit,
            max_fee_per_gas: high,
            max_priority_fee_per_gas: low,
            to,
            value,
            access_list,
            input,
        }
        .into_signed(signature)
        .into(),
        _ => TxEip7702 {
            chain_id: L2_CHAIN,
            nonce,
            gas_limit,
            max_fee_per_gas: high,
            max_priority_fee_per_gas: low,
            to: Address::from_word(word(rng)),
            value,
            access_list,
            authorization_list: (0..1 + rng.next_u32() % 3)
                .map(|i| {
                    SignedAuthorization::new_unchecked(
                        Authorization {
                            chain_id: U256::from(i * L2_CHAIN as u32),
                            address: Address::from_word(word(rng)),
                            nonce: number(rng),
                        },
                        (rng.next_u32() % 2) as u8,
                        word(rng).into(),
                        word(rng).into(),
                    )
                })
                .collect(),
            input,
        }
        .into_signed(signature)
        .into(),
    };
    envelope.encoded_2718().into()
}

/// The log of a deposit.
pub fn deposit_log(from: Address, to: Address, opaque: &[u8]) -> Log {
    let mut data = vec![0; 64];
    data[31] = 32;
    data[56..64].copy_from_slice(&(opaque.len() as u64).to_be_bytes());
    data.extend_from_slice(opaque);
    data.resize(data.len().next_multiple_of(32), 0);
    let topics = vec![DEPOSIT_TOPIC, from.into_word(), to.into_word(), B256::ZERO];
    Log {
        address: PORTAL,
        data: LogData::new_unchecked(topics, data.into()),
    }
}

/// What a deposit says, tightly packed.
pub fn opaque(mint: u128, value: u128, gas: u64, creation: bool, data: &[u8]) -> Vec<u8> {
    let mut out = U256::from(mint).to_be_bytes_vec();
    out.extend(U256::from(value).to_be_bytes_vec());
    out.extend_from_slice(&gas.to_be_bytes());
    out.push(creation.into());
    out.extend_from_slice(data);
    out
}

/// The log of a config update of one or more words.
pub fn config_log(kind: u8, words: &[U256]) -> Log {
    let mut data = U256::from(32).to_be_bytes_vec();
    data.extend(U256::from(32 * words.len()).to_be_bytes_vec());
    words
        .iter()
        .for_each(|word| data.extend(word.to_be_bytes_vec()));
    let topics = vec![CONFIG_UPDATE_TOPIC, B256::ZERO, B256::with_last_byte(kind)];
    Log {
        address: SYSTEM,
        data: LogData::new_unchecked(topics, data.into()),
    }
}

/// Spreads transactions over L1 blocks, a few in each.
pub fn include(world: &World, mut queue: VecDeque<Bytes>, per_block: usize) {
    while !queue.is_empty() {
        let count = per_block.min(queue.len());
        world.l1.push(queue.drain(..count).collect(), &[]);
    }
}

/// Transactions of a block of [`World::sequence_mix`].
pub const MIX_BLOCK: usize = 50;

impl World {
    /// Blocks of transfers, half native and half ERC-20, among 200 senders and 1000 receivers.
    pub fn sequence_mix(&mut self, transactions: usize) {
        let mut nonces = vec![0u64; 200];
        let receivers: Vec<Address> = (0..1000u32)
            .map(|i| Address::from_word(keccak256(i.to_be_bytes())))
            .collect();
        let token = Address::repeat_byte(0x70);
        let mut left = transactions;
        while left > 0 {
            if self.l2.head().timestamp + L2_TIME >= GENESIS_TIME + L1_TIME * (self.l1.head() + 1) {
                self.l1.push(Vec::new(), &[]);
            }
            let count = left.min(MIX_BLOCK);
            left -= count;
            let user = (0..count)
                .map(|i| {
                    let rng = &mut self.rng;
                    let sender = (rng.next_u32() % 200) as usize;
                    let nonce = nonces[sender];
                    nonces[sender] += 1;
                    let receiver = receivers[(rng.next_u32() % 1000) as usize];
                    let amount =
                        U256::from(rng.next_u64() % 1_000_000) * U256::from(10).pow(U256::from(12));
                    let (gas_limit, to, value, input) = if i % 2 == 0 {
                        (21_000, receiver, amount, Bytes::new())
                    } else {
                        let mut input = vec![0xa9, 0x05, 0x9c, 0xbb];
                        input.extend(receiver.into_word());
                        input.extend(amount.to_be_bytes::<32>());
                        (65_000, token, U256::ZERO, input.into())
                    };
                    let mut bytes = [0; 64];
                    rng.fill_bytes(&mut bytes);
                    // The upper half of s is not used, so one bit of it is none.
                    bytes[32] &= 0x7f;
                    let signature = Signature::new(
                        U256::from_be_slice(&bytes[..32]),
                        U256::from_be_slice(&bytes[32..]),
                        rng.next_u32().is_multiple_of(2),
                    );
                    let tx = TxEip1559 {
                        chain_id: L2_CHAIN,
                        nonce,
                        gas_limit,
                        max_fee_per_gas: 2_000_000_000,
                        max_priority_fee_per_gas: 1_000_000,
                        to: TxKind::Call(to),
                        value,
                        input,
                        ..Default::default()
                    };
                    TxEnvelope::from(tx.into_signed(signature))
                        .encoded_2718()
                        .into()
                })
                .collect();
            self.sequence(user);
        }
    }
}
