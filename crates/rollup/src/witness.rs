//! Re-executing one block from its witness alone.
//!
//! A witness is every trie node, code and ancestor's header that execution and the new state root
//! read, each known by its hash: nothing in it has to be believed, and nothing is missing if the
//! header comes out. [`Preimages`] is the whole of what [`replay`] sees of the world, which is the
//! shape of a fault-proof program's preimage oracle. The same function makes witnesses, over a
//! source that writes down what it is asked for ([`record`]), and checks them.

#[cfg(feature = "std")]
mod record;

#[cfg(feature = "std")]
pub use record::record;

use crate::{
    block::{Block, Transaction},
    error::{Error, Result},
    exec::{BlockInputs, BodyRoots, NoCandidates, execute, seal},
    spec::ChainSpec,
    state::{StateTrie, code_or_empty},
    trie::{Found, NodeSource},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    sync::Arc,
    vec::Vec,
};
use alloy_consensus::{Header, Sealable, Sealed};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use core::{cell::RefCell, fmt};
use op_alloy_consensus::L2_TO_L1_MESSAGE_PASSER_ADDRESS;
use revm::{DatabaseRef, bytecode::Bytecode, state::AccountInfo};

/// What a block's execution reads of the world, by keccak256.
pub trait Preimages: NodeSource {
    /// Code of a contract.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn code(&self, hash: B256) -> Result<Option<Bytes>>;

    /// RLP of a header.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn header(&self, hash: B256) -> Result<Option<Bytes>>;
}

/// The preimages of one block, in the form of `debug_executionWitness` of geth and reth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Witness {
    /// Trie nodes.
    pub state: Vec<Bytes>,
    /// Codes.
    pub codes: Vec<Bytes>,
    /// Addresses and slots that were read; replaying does not need them.
    #[cfg_attr(feature = "std", serde(default))]
    pub keys: Vec<Bytes>,
    /// Headers, the parent's among them.
    pub headers: Vec<Bytes>,
}

impl Witness {
    /// Number of preimages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.len() + self.codes.len() + self.headers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A block with its witness: what `openledger chain replay` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "std",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct BlockWitness {
    /// Which chain's rules apply ([`ChainSpec::of_chain`]).
    pub chain_id: u64,
    /// When Karst becomes active on a chain of our own.
    #[cfg_attr(
        feature = "std",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub karst_time: Option<u64>,
    /// Whether the chain runs by Ethereum's rules.
    #[cfg_attr(
        feature = "std",
        serde(default, skip_serializing_if = "core::ops::Not::not")
    )]
    pub ethereum: bool,
    /// RLP of the block, as `debug_getRawBlock` gives it.
    pub block: Bytes,
    /// The preimages.
    pub witness: Witness,
}

impl BlockWitness {
    /// Executes the block again and returns the header that comes out, with the one that the block
    /// claims. They have the same hash if and only if the block is right.
    ///
    /// # Errors
    /// When the block does not decode, breaks a rule, or a preimage is missing.
    pub fn replay(&self) -> Result<(Sealed<Header>, Sealed<Header>)> {
        let block = Block::decode_rlp(&self.block)?;
        let spec = match (self.ethereum, self.karst_time) {
            (true, _) => ChainSpec::ethereum(self.chain_id),
            (false, None) => ChainSpec::of_chain(self.chain_id),
            (false, karst) => ChainSpec::with_karst(self.chain_id, karst),
        };
        let preimages = Index::of(&self.witness);
        let parent = preimages.header(block.header.parent_hash)?;
        let parent = parent.ok_or_else(|| missing("header", block.header.parent_hash))?;
        let parent = decode_header(&parent)?.seal_slow();
        let inputs = BlockInputs::of(&block.header);
        let header = replay(&spec, &parent, &inputs, &block.transactions, &preimages)?;
        Ok((header, block.header))
    }
}

fn missing(what: &'static str, hash: B256) -> Error {
    Error::Unknown {
        what,
        id: hash.to_string(),
    }
}

fn decode_header(mut rlp: &[u8]) -> Result<Header> {
    Header::decode(&mut rlp).map_err(|e| Error::corrupt("header", e))
}

/// A witness by hash.
#[derive(Debug)]
struct Index<'a>(BTreeMap<B256, &'a Bytes>);

impl<'a> Index<'a> {
    fn of(witness: &'a Witness) -> Self {
        let Witness {
            state,
            codes,
            headers,
            ..
        } = witness;
        let all = state.iter().chain(codes).chain(headers);
        Self(all.map(|bytes| (keccak256(bytes), bytes)).collect())
    }

    fn get(&self, hash: B256) -> Option<Bytes> {
        self.0.get(&hash).map(|bytes| (*bytes).clone())
    }
}

impl NodeSource for Index<'_> {
    fn node(&self, _: Option<B256>, _: &Nibbles, hash: B256) -> Result<Option<Found>> {
        Ok(self.get(hash).map(|bytes| Found::alone(bytes.to_vec())))
    }
}

impl Preimages for Index<'_> {
    fn code(&self, hash: B256) -> Result<Option<Bytes>> {
        Ok(self.get(hash))
    }

    fn header(&self, hash: B256) -> Result<Option<Bytes>> {
        Ok(self.get(hash))
    }
}

/// The parent's state, read through its tries.
struct ParentState<'a, P> {
    preimages: &'a P,
    trie: &'a RefCell<StateTrie>,
    parent: &'a Sealed<Header>,
    /// Addresses and slots that were read.
    keys: &'a RefCell<BTreeSet<Bytes>>,
}

impl<P> fmt::Debug for ParentState<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParentState({})", self.parent.hash())
    }
}

impl<P> ParentState<'_, P> {
    fn read(&self, key: &[u8]) {
        self.keys.borrow_mut().insert(Bytes::copy_from_slice(key));
    }
}

impl<P: Preimages> DatabaseRef for ParentState<'_, P> {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>> {
        self.read(address.as_slice());
        let mut trie = self.trie.borrow_mut();
        let account = trie.account(self.preimages, keccak256(address))?;
        Ok(account.map(|a| AccountInfo {
            balance: a.balance,
            nonce: a.nonce,
            code_hash: a.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode> {
        if code_or_empty(hash).is_none() || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        let code = self.preimages.code(hash)?;
        let code = code.ok_or_else(|| missing("code", hash))?;
        Bytecode::new_raw_checked(code).map_err(|e| Error::corrupt("code", e))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256> {
        let slot = slot.to_be_bytes::<32>();
        self.read(&slot);
        let mut trie = self.trie.borrow_mut();
        trie.storage(self.preimages, keccak256(address), keccak256(slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256> {
        let (mut at, mut hash) = (self.parent.number, self.parent.hash());
        while at > number {
            let header = self.preimages.header(hash)?;
            let header = header.ok_or_else(|| missing("header", hash))?;
            (at, hash) = (at - 1, decode_header(&header)?.parent_hash);
        }
        Ok(hash)
    }
}

/// Executes a block on the state of `parent`, which is read from `preimages` alone, and returns its
/// header.
///
/// # Errors
/// When the block breaks a rule or a preimage is missing.
pub fn replay<P: Preimages>(
    spec: &ChainSpec,
    parent: &Sealed<Header>,
    inputs: &BlockInputs,
    transactions: &[Arc<Transaction>],
    preimages: &P,
) -> Result<Sealed<Header>> {
    let keys = RefCell::default();
    reexecute(spec, parent, inputs, transactions, preimages, &keys)
}

fn reexecute<P: Preimages>(
    spec: &ChainSpec,
    parent: &Sealed<Header>,
    inputs: &BlockInputs,
    transactions: &[Arc<Transaction>],
    preimages: &P,
    keys: &RefCell<BTreeSet<Bytes>>,
) -> Result<Sealed<Header>> {
    let trie = RefCell::new(StateTrie::new(parent.state_root));
    let state = ParentState {
        preimages,
        trie: &trie,
        parent,
        keys,
    };
    let hash = parent.hash();
    let none = &mut NoCandidates;
    let result = execute(spec, parent, hash, inputs, state, transactions, none)?;
    let mut trie = trie.into_inner();
    let root = trie.apply(preimages, &result.changes)?.root;
    let passer = if spec.is_isthmus(inputs.timestamp) {
        let passer = keccak256(L2_TO_L1_MESSAGE_PASSER_ADDRESS);
        let account = trie.account(preimages, passer)?;
        account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root)
    } else {
        EMPTY_ROOT_HASH
    };
    let body = BodyRoots::of(&result);
    let header = seal(spec, parent, inputs, &result, &body, root, passer)?;
    Ok(header.seal_slow())
}
