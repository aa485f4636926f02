//! Binary Merkle trees over keccak256, with proofs that a contract checks.
//!
//! Rules (docs/protocol/records.md): a leaf is `keccak256(0x00 ‖ data)`, a node is
//! `keccak256(0x01 ‖ left ‖ right)`, the leaves are padded with zero words to a power of two, and
//! positions matter: a proof says *where* a leaf stands, not only that it does. The prefixes keep
//! a node from being passed off as a leaf. The tree without leaves has the zero root.

use alloy_primitives::{B256, Keccak256, keccak256};

/// Bytes of text that one leaf of a [`chunk_root`] covers.
pub const CHUNK_BYTES: usize = 1024;

/// The leaf of `data`: `keccak256(0x00 ‖ data)`.
pub fn leaf(data: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([0x00]);
    hasher.update(data);
    hasher.finalize()
}

/// The parent of two nodes: `keccak256(0x01 ‖ left ‖ right)`.
pub fn node(left: B256, right: B256) -> B256 {
    let mut bytes = [0x01; 65];
    bytes[1..33].copy_from_slice(left.as_slice());
    bytes[33..].copy_from_slice(right.as_slice());
    keccak256(bytes)
}

/// A Merkle tree with all its levels in memory: 64 bytes a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// From the padded leaves up to the root; the last level has one node.
    levels: Vec<Vec<B256>>,
    leaves: usize,
}

impl Tree {
    /// The tree over `leaves` (made with [`leaf`]), in O(n) hashes.
    pub fn from_leaves(mut leaves: Vec<B256>) -> Self {
        let count = leaves.len();
        leaves.resize(count.next_power_of_two(), B256::ZERO);
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let level = below
                .chunks_exact(2)
                .map(|pair| node(pair[0], pair[1]))
                .collect();
            levels.push(level);
        }
        Self {
            levels,
            leaves: count,
        }
    }

    /// The tree whose leaves hold `data`, one item each.
    pub fn from_data<T: AsRef<[u8]>>(data: impl IntoIterator<Item = T>) -> Self {
        Self::from_leaves(data.into_iter().map(|item| leaf(item.as_ref())).collect())
    }

    /// The root; zero for a tree without leaves.
    pub fn root(&self) -> B256 {
        self.levels
            .last()
            .and_then(|top| top.first())
            .copied()
            .unwrap_or_default()
    }

    /// Number of leaves, padding not counted.
    pub const fn len(&self) -> usize {
        self.leaves
    }

    /// Whether there is no leaf.
    pub const fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// The siblings from leaf `index` up to the root, or `None` if there is no such leaf.
    pub fn proof(&self, index: usize) -> Option<Vec<B256>> {
        if index >= self.leaves {
            return None;
        }
        let mut position = index;
        let mut siblings = Vec::with_capacity(self.levels.len());
        for level in self.levels.iter().filter(|level| level.len() > 1) {
            siblings.push(*level.get(position ^ 1)?);
            position >>= 1;
        }
        Some(siblings)
    }
}

/// Whether `leaf` stands at `index` of the tree with this `root`.
pub fn verify(root: B256, leaf: B256, index: u64, proof: &[B256]) -> bool {
    let mut position = index;
    let mut hash = leaf;
    for sibling in proof {
        hash = if position & 1 == 0 {
            node(hash, *sibling)
        } else {
            node(*sibling, hash)
        };
        position >>= 1;
    }
    // A position beyond the tree would alias a lower one.
    position == 0 && hash == root
}

/// The Merkle root over 1 KiB chunks of `bytes`: the content root of texts, weights and blobs.
///
/// Any chunk can later be shown to belong to the content without revealing the rest.
pub fn chunk_root(bytes: &[u8]) -> B256 {
    Tree::from_data(bytes.chunks(CHUNK_BYTES)).root()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "tests"
    )]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_roots() {
        assert_eq!(Tree::from_leaves(vec![]).root(), B256::ZERO);
        let (a, b, c) = (leaf(b"a"), leaf(b"b"), leaf(b"c"));
        assert_eq!(Tree::from_leaves(vec![a]).root(), a);
        assert_eq!(
            Tree::from_leaves(vec![a, b, c]).root(),
            node(node(a, b), node(c, B256::ZERO))
        );
    }

    #[test]
    fn content_is_bound_to_its_length() {
        assert_ne!(chunk_root(&[0; 1024]), chunk_root(&[0; 1025]));
        assert_ne!(chunk_root(&[]), chunk_root(&[0]));
    }

    proptest! {
        #[test]
        fn proofs_hold_at_their_place_only(n in 1usize..70, at in 0usize..70, other in 0u64..200) {
            prop_assume!(at < n);
            let leaves: Vec<_> = (0..n).map(|i| leaf(&[i as u8])).collect();
            let tree = Tree::from_leaves(leaves.clone());
            let proof = tree.proof(at).unwrap();
            prop_assert!(verify(tree.root(), leaves[at], at as u64, &proof));
            if other != at as u64 {
                prop_assert!(!verify(tree.root(), leaves[at], other, &proof));
            }
            let neighbour = leaf(&[200]);
            prop_assert!(!verify(tree.root(), neighbour, at as u64, &proof));
            prop_assert!(tree.proof(n).is_none());
        }
    }
}
