//! Derivation's inputs behind a hash of each layer: for a machine that has preimages and nothing else.
//!
//! What derivation reads of a layer follows from its newest block: headers by their parents, lists of
//! transactions and receipts by their roots, and data behind a keccak256 commitment by that. So
//! [`Witnessed`] is a source for the whole pipeline. What stands behind a certificate follows from no
//! hash, and blobs from none that is keccak256: those it does not have.

use crate::{
    error::{DaError, SourceError},
    inbox::DataAvailability,
    l1::L1,
    pipeline::{L2, L2Block},
    rlp,
};
use alloc::{collections::BTreeMap, format, string::ToString, vec::Vec};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, HashBuilder, Nibbles,
    nodes::{RlpNode, TrieNode},
    proof::ProofRetainer,
};
use core::cell::RefCell;

/// Nibbles of the longest key of a list: an index of 64 bits, as RLP.
const LONGEST_KEY: usize = 18;

/// Bytes by their keccak256.
pub trait Preimages {
    /// The bytes with this hash. They are hashed again by whoever asks.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when they are not there.
    fn preimage(&self, hash: B256) -> Result<Bytes, SourceError>;
}

impl Preimages for BTreeMap<B256, Bytes> {
    fn preimage(&self, hash: B256) -> Result<Bytes, SourceError> {
        let missing = || SourceError::Unavailable(format!("no preimage of {hash}"));
        self.get(&hash).cloned().ok_or_else(missing)
    }
}

/// A layer up to a block, read by preimages: a layer 1, a layer 2, or data behind hashes.
#[derive(Debug)]
pub struct Witnessed<P> {
    preimages: P,
    head: B256,
    /// Hashes by number, from the head down as far as anybody asked.
    numbers: RefCell<BTreeMap<u64, B256>>,
}

fn malformed(what: &str, hash: B256) -> SourceError {
    SourceError::Unavailable(format!("{hash} is no {what}"))
}

/// What is needed of a header, of either layer.
struct Header {
    number: u64,
    parent: B256,
    transactions: B256,
    receipts: B256,
}

impl Header {
    fn decode(raw: &[u8]) -> Option<Self> {
        let fields = rlp::list(raw)?;
        let hash = |i: usize| fields.get(i)?.fixed().map(B256::from);
        Some(Self {
            number: fields.get(8)?.u64()?,
            parent: hash(0)?,
            transactions: hash(4)?,
            receipts: hash(5)?,
        })
    }
}

impl<P: Preimages> Witnessed<P> {
    /// The layer whose newest block has the hash `head`. Of data alone there is none: zero.
    pub const fn new(preimages: P, head: B256) -> Self {
        Self {
            preimages,
            head,
            numbers: RefCell::new(BTreeMap::new()),
        }
    }

    fn get(&self, hash: B256) -> Result<Bytes, SourceError> {
        let bytes = self.preimages.preimage(hash)?;
        if keccak256(&bytes) == hash {
            return Ok(bytes);
        }
        Err(malformed("hash of its preimage", hash))
    }

    fn header(&self, hash: B256) -> Result<(Bytes, Header), SourceError> {
        let raw = self.get(hash)?;
        let header = Header::decode(&raw).ok_or_else(|| malformed("header", hash))?;
        Ok((raw, header))
    }

    /// The hash of the block at a height, `None` above the head.
    fn hash_at(&self, number: u64) -> Result<Option<B256>, SourceError> {
        let mut numbers = self.numbers.borrow_mut();
        if numbers.is_empty() {
            numbers.insert(self.header(self.head)?.1.number, self.head);
        }
        let Some((&at, &hash)) = numbers.range(number..).next() else {
            return Ok(None);
        };
        let (mut at, mut hash) = (at, hash);
        while at > number {
            hash = self.header(hash)?.1.parent;
            at -= 1;
            numbers.insert(at, hash);
        }
        Ok(Some(hash))
    }

    /// The list with this root, in order.
    fn list(&self, root: B256) -> Result<Vec<Bytes>, SourceError> {
        let mut items = BTreeMap::new();
        if root != EMPTY_ROOT_HASH {
            self.collect(&self.get(root)?, Nibbles::new(), &mut items)
                .ok_or_else(|| malformed("node of a list", root))??;
        }
        Ok(items.into_values().collect())
    }

    /// Adds what is under a node to `items`. `None` for a node that is none of a list's.
    fn collect(
        &self,
        mut node: &[u8],
        path: Nibbles,
        items: &mut BTreeMap<u64, Bytes>,
    ) -> Option<Result<(), SourceError>> {
        if path.len() > LONGEST_KEY {
            return None;
        }
        let mut below = |child: &RlpNode, path: Nibbles| match child.as_hash() {
            Some(hash) => match self.get(hash) {
                Ok(node) => self.collect(&node, path, items),
                Err(error) => Some(Err(error)),
            },
            None => self.collect(child.as_slice(), path, items),
        };
        match TrieNode::decode(&mut node).ok()? {
            TrieNode::EmptyRoot => None,
            TrieNode::Leaf(leaf) => {
                let path = path.join(&leaf.key);
                let key = path.len().is_multiple_of(2).then(|| path.pack())?;
                let mut rest = &key[..];
                let index = u64::decode(&mut rest).ok()?;
                items.insert(index, leaf.value.into());
                rest.is_empty().then_some(Ok(()))
            }
            TrieNode::Extension(extension) => below(&extension.child, path.join(&extension.key)),
            TrieNode::Branch(branch) => {
                let mut children = branch.stack.iter();
                for nibble in (0..16).filter(|nibble| branch.state_mask.is_bit_set(*nibble)) {
                    let mut path = path;
                    path.push(nibble);
                    if let Err(error) = below(children.next()?, path)? {
                        return Some(Err(error));
                    }
                }
                Some(Ok(()))
            }
        }
    }
}

impl<P: Preimages> L1 for Witnessed<P> {
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError> {
        let hash = self.hash_at(number)?;
        hash.map(|hash| self.get(hash)).transpose()
    }

    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError> {
        self.get(hash)
    }

    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        self.list(self.header(block)?.1.transactions)
    }

    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        self.list(self.header(block)?.1.receipts)
    }
}

impl<P: Preimages> L2 for Witnessed<P> {
    fn block(&self, number: u64) -> Result<L2Block, SourceError> {
        let hash = self.hash_at(number)?.ok_or(SourceError::NotFound)?;
        let (raw, header) = self.header(hash)?;
        let transactions = self.list(header.transactions)?;
        Ok(L2Block {
            header: raw,
            first_transaction: transactions.into_iter().next(),
        })
    }
}

impl<P: Preimages> DataAvailability for Witnessed<P> {
    fn get(&self, commitment: &[u8], _l1_inclusion: u64) -> Result<Bytes, DaError> {
        let unavailable = |reason| DaError::Unavailable(reason);
        match commitment.split_first() {
            Some((0, hash)) if hash.len() == 32 => Self::get(self, B256::from_slice(hash))
                .map_err(|error| unavailable(error.to_string())),
            _ => Err(unavailable("a certificate is the hash of nothing".into())),
        }
    }
}

/// The nodes of the trie that a list of transactions or receipts has its root of: what
/// [`Witnessed`] needs to read it. In time the square of the number of items.
#[must_use]
pub fn list_nodes(items: &[Bytes]) -> Vec<Bytes> {
    let keyed = (0u64..).zip(items);
    let keyed: BTreeMap<Nibbles, &Bytes> = keyed
        .map(|(index, item)| (Nibbles::unpack(alloy_rlp::encode(index)), item))
        .collect();
    let retainer = ProofRetainer::new(keyed.keys().copied().collect());
    let mut builder = HashBuilder::default().with_proof_retainer(retainer);
    for (key, item) in &keyed {
        builder.add_leaf(*key, item);
    }
    builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// A source, with the preimages of all that it answered.
#[derive(Debug)]
pub struct Recorder<S> {
    source: S,
    kept: RefCell<BTreeMap<B256, Bytes>>,
}

impl<S> Recorder<S> {
    /// A recorder of `source`.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            kept: RefCell::new(BTreeMap::new()),
        }
    }

    /// What was recorded, by keccak256. Headers are there from the first that was asked for by number
    /// on up to the last.
    pub fn preimages(&self) -> BTreeMap<B256, Bytes> {
        self.kept.borrow().clone()
    }

    fn keep(&self, bytes: &Bytes) {
        let mut kept = self.kept.borrow_mut();
        kept.insert(keccak256(bytes), bytes.clone());
    }
}

impl<S: L1> L1 for Recorder<S> {
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError> {
        let header = self.source.header_by_number(number)?;
        header.iter().for_each(|header| self.keep(header));
        Ok(header)
    }

    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError> {
        let header = self.source.header_by_hash(hash)?;
        self.keep(&header);
        Ok(header)
    }

    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        let items = self.source.transactions(block)?;
        list_nodes(&items).iter().for_each(|node| self.keep(node));
        Ok(items)
    }

    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        let items = self.source.receipts(block)?;
        list_nodes(&items).iter().for_each(|node| self.keep(node));
        Ok(items)
    }
}

impl<S: DataAvailability> DataAvailability for Recorder<S> {
    fn get(&self, commitment: &[u8], l1_inclusion: u64) -> Result<Bytes, DaError> {
        let data = self.source.get(commitment, l1_inclusion)?;
        self.keep(&data);
        Ok(data)
    }
}
