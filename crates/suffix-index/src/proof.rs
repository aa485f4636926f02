//! One root for text and suffix array, and proofs against it.
//!
//! The text is committed as token ids (`u32`, [`END`] after each document) in chunks of 256, the
//! suffix array and the document starts likewise: 1 KiB a leaf, which is
//! [`merkle::chunk_root`]. The root binds the three with their lengths:
//!
//! ```text
//! root = keccak256(abi.encode(uint16 version, uint64 text, uint64 documents,
//!                             bytes32 textRoot, bytes32 suffixesRoot, bytes32 documentsRoot))
//! ```
//!
//! What it proves, and what it leaves to a challenge:
//! - [`Occurrence`](OccurrenceProof): these tokens stand at this position. Whoever claims "first
//!   seen in row r" is refuted by an occurrence proof of an earlier position.
//! - [`AbsenceProof`]: the pattern stands nowhere, *given that the array is sorted*: two adjacent
//!   ranks whose suffixes are smaller and greater than it. With the pattern one token longer than a
//!   span it proves the span maximal.
//! - A wrong array is itself refutable: two adjacent ranks out of order ([`DisorderProof`]).

use std::cmp::Ordering;

use alloy_sol_types::SolValue;
use openledger_primitives::merkle::{self, Tree};
use openledger_primitives::{B256, keccak256};

use crate::{Error, Index};

/// Stands after each document in the committed text; smaller than every token in suffix order.
pub const END: u32 = u32::MAX;

/// Numbers that one leaf holds.
pub const CHUNK: usize = merkle::CHUNK_BYTES / 4;

/// Layout version of the commitment.
pub const VERSION: u16 = 1;

/// What the root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// Tokens and separators.
    pub text: u64,
    /// Documents.
    pub documents: u64,
    /// Root over the token ids.
    pub text_root: B256,
    /// Root over the suffix array.
    pub suffixes_root: B256,
    /// Root over the starts of the documents, and the end of the last.
    pub documents_root: B256,
}

impl Commitment {
    /// The `indexRoot` of an adapter's record.
    pub fn root(&self) -> B256 {
        keccak256(
            (
                VERSION,
                self.text,
                self.documents,
                self.text_root,
                self.suffixes_root,
                self.documents_root,
            )
                .abi_encode(),
        )
    }
}

/// Some numbers of a committed list, with the way up to its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the chunk: it starts at number `index * 256` of the list.
    pub index: u64,
    /// Its numbers; fewer than 256 only at the end of the list.
    pub numbers: Vec<u32>,
    /// Siblings up to the root.
    pub path: Vec<B256>,
}

/// A slice of a committed list: the chunks that cover it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Adjacent chunks, in order.
    pub chunks: Vec<Chunk>,
}

/// Proof that a pattern stands at a position of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccurrenceProof {
    /// Position in the committed text.
    pub position: u64,
    /// The chunks around it.
    pub text: Slice,
}

/// A rank of the suffix array and the beginning of its suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffix {
    /// Rank.
    pub rank: u64,
    /// The entry of the array at that rank.
    pub entry: Slice,
    /// The tokens from there on, as many as the comparison needs.
    pub text: Slice,
}

/// Proof that a pattern stands nowhere: the suffixes between which it would stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsenceProof {
    /// The greatest suffix below the pattern; none if the pattern is below all.
    pub below: Option<Suffix>,
    /// The smallest suffix above the pattern; none if the pattern is above all.
    pub above: Option<Suffix>,
}

/// Proof that an array is not a suffix array: two adjacent ranks in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisorderProof {
    /// The suffix with the lower rank.
    pub first: Suffix,
    /// The suffix right after it, which is not greater.
    pub second: Suffix,
}

/// The committed lists of one index with their trees, ready to prove.
#[derive(Debug)]
pub struct Prover<'a> {
    index: &'a Index,
    text: List,
    suffixes: List,
    commitment: Commitment,
}

#[derive(Debug)]
struct List {
    numbers: Vec<u32>,
    tree: Tree,
}

impl List {
    fn new(numbers: Vec<u32>) -> Self {
        let tree = Tree::from_data(numbers.chunks(CHUNK).map(bytes));
        Self { numbers, tree }
    }

    /// Numbers `from..to` (at least one, within the list).
    fn slice(&self, from: usize, to: usize) -> Slice {
        let chunks = (from / CHUNK..to.div_ceil(CHUNK))
            .map(|index| Chunk {
                index: index as u64,
                numbers: self.numbers[index * CHUNK..self.numbers.len().min((index + 1) * CHUNK)]
                    .to_vec(),
                path: self
                    .tree
                    .proof(index)
                    .expect("the chunk lies within the list"),
            })
            .collect();
        Slice { chunks }
    }
}

impl Index {
    /// Commits to the index: hashes 8 bytes a token.
    pub fn prover(&self) -> Prover<'_> {
        let text = List::new(
            self.text
                .iter()
                .map(|&code| match code.checked_sub(1) {
                    Some(at) => self.ids[usize::from(at)],
                    None => END,
                })
                .collect(),
        );
        let suffixes = List::new(self.suffixes.clone());
        let commitment = Commitment {
            text: self.text.len() as u64,
            documents: self.documents() as u64,
            text_root: text.tree.root(),
            suffixes_root: suffixes.tree.root(),
            documents_root: Tree::from_data(self.documents.chunks(CHUNK).map(bytes)).root(),
        };
        Prover {
            index: self,
            text,
            suffixes,
            commitment,
        }
    }

    /// The authenticated root: [`Commitment::root`].
    pub fn root(&self) -> B256 {
        self.prover().commitment.root()
    }
}

impl Prover<'_> {
    /// What the root is made of.
    pub const fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    /// Proves that `len` tokens of document `doc` from `pos` on are what they are.
    ///
    /// # Errors
    /// There is no such place.
    pub fn occurrence(&self, doc: u32, pos: u32, len: u32) -> Result<OccurrenceProof, Error> {
        let missing = || Error::Unprovable("there is no such place in the documents");
        let start = *self.index.documents.get(doc as usize).ok_or_else(missing)?;
        let end = *self
            .index
            .documents
            .get(doc as usize + 1)
            .ok_or_else(missing)?;
        let from = u64::from(start) + u64::from(pos);
        let to = from + u64::from(len);
        if len == 0 || to >= u64::from(end) {
            return Err(missing());
        }
        Ok(OccurrenceProof {
            position: from,
            text: self.text.slice(from as usize, to as usize),
        })
    }

    /// Proves that `pattern` stands nowhere.
    ///
    /// # Errors
    /// The pattern is empty, or it does stand somewhere.
    pub fn absence(&self, pattern: &[u32]) -> Result<AbsenceProof, Error> {
        if pattern.is_empty() || pattern.contains(&END) {
            return Err(Error::Unprovable("the pattern must be tokens"));
        }
        let place = self.index.suffixes.partition_point(|&at| {
            order(&self.text.numbers[at as usize..], pattern) == Ordering::Less
        });
        let above = self.suffix(place, pattern.len());
        if let Some(&at) = self.index.suffixes.get(place)
            && order(&self.text.numbers[at as usize..], pattern) == Ordering::Equal
        {
            return Err(Error::Unprovable("the pattern stands in a document"));
        }
        Ok(AbsenceProof {
            below: place
                .checked_sub(1)
                .and_then(|rank| self.suffix(rank, pattern.len())),
            above,
        })
    }

    /// Proves that ranks `rank` and `rank + 1` are in the wrong order.
    ///
    /// # Errors
    /// They are in order, or there are no such ranks.
    pub fn disorder(&self, rank: usize) -> Result<DisorderProof, Error> {
        let fail = || Error::Unprovable("these ranks are in order");
        let at = |rank: usize| self.index.suffixes.get(rank).copied().ok_or_else(fail);
        let (a, b) = (at(rank)?, at(rank + 1)?);
        let (first, second) = (
            &self.text.numbers[a as usize..],
            &self.text.numbers[b as usize..],
        );
        if adjacent_order(first, second, a.cmp(&b)) == Some(Ordering::Less) {
            return Err(fail());
        }
        let shared = first
            .iter()
            .zip(second)
            .take_while(|(x, y)| x == y && **x != END)
            .count();
        let both = self
            .suffix(rank, shared + 1)
            .zip(self.suffix(rank + 1, shared + 1));
        let (first, second) = both.ok_or_else(fail)?;
        Ok(DisorderProof { first, second })
    }

    fn suffix(&self, rank: usize, len: usize) -> Option<Suffix> {
        let at = *self.index.suffixes.get(rank)? as usize;
        let to = (at + len).min(self.text.numbers.len());
        Some(Suffix {
            rank: rank as u64,
            entry: self.suffixes.slice(rank, rank + 1),
            text: self.text.slice(at, to),
        })
    }
}

impl Slice {
    /// The proved numbers `from..to` (cut at the end of a list of `len`), or `None` if the chunks
    /// do not cover them or do not belong to `root`.
    fn numbers(&self, root: B256, len: u64, from: u64, to: u64) -> Option<Vec<u32>> {
        let to = to.min(len);
        let first = self.chunks.first()?.index;
        let mut all = Vec::new();
        for (offset, chunk) in (0u64..).zip(&self.chunks) {
            let start = chunk.index.checked_mul(CHUNK as u64)?;
            let expected = len.checked_sub(start)?.min(CHUNK as u64);
            let belongs = chunk.index == first.checked_add(offset)?
                && chunk.numbers.len() as u64 == expected
                && chunk.path.len() == depth(len)
                && merkle::verify(
                    root,
                    merkle::leaf(&bytes(&chunk.numbers)),
                    chunk.index,
                    &chunk.path,
                );
            if !belongs {
                return None;
            }
            all.extend_from_slice(&chunk.numbers);
        }
        let base = first * CHUNK as u64;
        let from = usize::try_from(from.checked_sub(base)?).ok()?;
        let to = usize::try_from(to.checked_sub(base)?).ok()?;
        all.get(from..to).map(<[u32]>::to_vec)
    }
}

impl Commitment {
    /// Checks that `pattern` stands at the proof's position.
    pub fn verify_occurrence(&self, pattern: &[u32], proof: &OccurrenceProof) -> bool {
        let Some(to) = proof.position.checked_add(pattern.len() as u64) else {
            return false;
        };
        !pattern.is_empty()
            && !pattern.contains(&END)
            && proof
                .text
                .numbers(self.text_root, self.text, proof.position, to)
                .is_some_and(|tokens| tokens == pattern)
    }

    /// Checks that `pattern` stands nowhere, given a sorted array.
    pub fn verify_absence(&self, pattern: &[u32], proof: &AbsenceProof) -> bool {
        if pattern.is_empty() || pattern.contains(&END) {
            return false;
        }
        let len = pattern.len() as u64;
        let compared = |suffix: &Suffix| {
            self.suffix_tokens(suffix, len)
                .map(|(tokens, _)| order(&tokens, pattern))
        };
        match (&proof.below, &proof.above) {
            (None, None) => self.text == 0,
            (Some(below), None) => {
                below.rank.checked_add(1) == Some(self.text)
                    && compared(below) == Some(Ordering::Less)
            }
            (None, Some(above)) => above.rank == 0 && compared(above) == Some(Ordering::Greater),
            (Some(below), Some(above)) => {
                below.rank.checked_add(1) == Some(above.rank)
                    && compared(below) == Some(Ordering::Less)
                    && compared(above) == Some(Ordering::Greater)
            }
        }
    }

    /// Checks that the two adjacent ranks are in the wrong order: the array is refuted.
    pub fn verify_disorder(&self, proof: &DisorderProof) -> bool {
        let len = |suffix: &Suffix| suffix.text.chunks.len() as u64 * CHUNK as u64;
        let first = self.suffix_tokens(&proof.first, len(&proof.first));
        let second = self.suffix_tokens(&proof.second, len(&proof.second));
        let (Some((first, a)), Some((second, b))) = (first, second) else {
            return false;
        };
        proof.first.rank.checked_add(1) == Some(proof.second.rank)
            && matches!(
                adjacent_order(&first, &second, a.cmp(&b)),
                Some(Ordering::Equal | Ordering::Greater)
            )
    }

    /// Up to `len` proved tokens of a suffix and its position.
    fn suffix_tokens(&self, suffix: &Suffix, len: u64) -> Option<(Vec<u32>, u64)> {
        let to = suffix.rank.checked_add(1)?;
        let entry = suffix
            .entry
            .numbers(self.suffixes_root, self.text, suffix.rank, to)?;
        let at = u64::from(*entry.first()?);
        // The chunks may start before the suffix; never ask for more than they cover.
        let first = suffix
            .text
            .chunks
            .first()?
            .index
            .checked_mul(CHUNK as u64)?;
        let covered = first.checked_add(suffix.text.chunks.len() as u64 * CHUNK as u64)?;
        let to = at.checked_add(len)?.min(covered);
        let tokens = suffix
            .text
            .numbers(self.text_root, self.text, at, to.max(at))?;
        Some((tokens, at))
    }
}

/// Order of a suffix against a pattern without separators; `Equal` when it starts with it.
fn order(suffix: &[u32], pattern: &[u32]) -> Ordering {
    for (at, token) in pattern.iter().enumerate() {
        // A suffix that ends before the pattern does is smaller, and so is a document's end.
        match suffix.get(at) {
            None | Some(&END) => return Ordering::Less,
            Some(have) => match have.cmp(token) {
                Ordering::Equal => {}
                other => return other,
            },
        }
    }
    Ordering::Equal
}

/// Order of two suffixes, as far as the tokens tell; separators order by position.
fn adjacent_order(first: &[u32], second: &[u32], positions: Ordering) -> Option<Ordering> {
    for (a, b) in first.iter().zip(second) {
        match (*a, *b) {
            (END, END) => return Some(positions),
            (END, _) => return Some(Ordering::Less),
            (_, END) => return Some(Ordering::Greater),
            (a, b) if a != b => return Some(a.cmp(&b)),
            _ => {}
        }
    }
    // Only the same position gives two suffixes that never differ.
    (positions == Ordering::Equal).then_some(Ordering::Equal)
}

/// Depth of the tree over a list of `len` numbers.
fn depth(len: u64) -> usize {
    len.div_ceil(CHUNK as u64).next_power_of_two().ilog2() as usize
}

fn bytes(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}
