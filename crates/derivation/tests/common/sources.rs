//! The layer 1 and the data availability layer.

use super::*;
use alloy_primitives::hex;
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

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

pub fn rlp(header: &Header) -> Bytes {
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
    /// Where the data is instead, a file for each commitment.
    files: OnceLock<PathBuf>,
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

impl MemDa {
    /// Puts all data into files of `dir`, to be read from there.
    pub fn move_to(&self, dir: &Path) {
        let mut map = self.data.lock().expect("no test panics with it");
        for (commitment, data) in std::mem::take(&mut *map) {
            let data = data.expect("there is data to move");
            std::fs::write(dir.join(hex::encode(commitment)), data).expect("a folder to write to");
        }
        self.files.set(dir.to_owned()).expect("it moves once");
    }
}

impl DataAvailability for MemDa {
    fn get(&self, commitment: &[u8], _l1_inclusion: u64) -> Result<Bytes, DaError> {
        if let Some(dir) = self.files.get() {
            let file = std::fs::read(dir.join(hex::encode(commitment)));
            let unavailable = |error: std::io::Error| DaError::Unavailable(error.to_string());
            return file.map(Bytes::from).map_err(unavailable);
        }
        let map = self.data.lock().expect("no test panics with it");
        map.get(commitment)
            .cloned()
            .unwrap_or_else(|| Err(DaError::Unavailable("never stored".into())))
    }
}
