//! Trie nodes in memory: decoding, encoding, hashing, dropping.

use super::{DERIVED, Found, NodeChange, NodeSource, Walk, reference};
use crate::error::{Error, Result};
use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use alloy_primitives::B256;
use alloy_rlp::{Decodable, EMPTY_STRING_CODE, Encodable, Header};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles,
    nodes::{ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode},
};

/// An edge to a child.
#[derive(Debug, Default)]
pub(super) enum Link {
    /// No child.
    #[default]
    Empty,
    /// A stored node that is not in memory.
    Hash(B256),
    /// A node in memory.
    Node {
        node: Box<Node>,
        /// The node's reference in its parent; `None` while something below changed. It is here,
        /// and not in the node, so that encoding the parent reads one piece of memory, not sixteen.
        memo: Option<RlpNode>,
    },
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    /// Leaves below, or `u64::MAX` where the source does not know.
    pub(super) leaves: u64,
    /// Block clock of the last visit.
    pub(super) touched: u32,
}

/// What became of nodes, each path once, in the order of paths.
pub(super) type Sealed = Vec<(Nibbles, NodeChange)>;

#[derive(Debug)]
pub(super) enum Body {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: Link },
    Branch(Box<[Link; 16]>),
}

impl Link {
    pub(super) fn from_root(root: B256) -> Self {
        if root == EMPTY_ROOT_HASH {
            Self::Empty
        } else {
            Self::Hash(root)
        }
    }

    pub(super) fn node(body: Body, leaves: u64, touched: u32) -> Self {
        let node = Node {
            body,
            leaves,
            touched,
        };
        Self::Node {
            node: Box::new(node),
            memo: None,
        }
    }

    pub(super) fn leaf(key: Nibbles, value: Vec<u8>, touched: u32) -> Self {
        Self::node(Body::Leaf { key, value }, 1, touched)
    }

    pub(super) fn extension(key: Nibbles, child: Self, leaves: u64, touched: u32) -> Self {
        Self::node(Body::Extension { key, child }, leaves, touched)
    }

    /// The subtree at `path` with these leaves, sealed.
    pub(super) fn grown(path: &Nibbles, leaves: Vec<(B256, Vec<u8>)>, touched: u32) -> Self {
        let mut link = Self::Empty;
        let mut walk = Walk {
            source: &Nothing,
            owner: None,
            clock: touched,
            removed: &mut BTreeMap::new(),
        };
        for (key, value) in leaves {
            let rest = Nibbles::unpack(key).slice(path.len()..);
            walk.insert(&mut link, *path, rest, |_| Ok(value))
                .expect("all of it is in memory");
        }
        link.seal(*path, &mut Sealed::new());
        link
    }

    /// The hash that stands for this child in its parent, if one does.
    pub(super) fn hash(&self) -> Option<B256> {
        match self {
            Self::Empty => None,
            Self::Hash(hash) => Some(*hash),
            Self::Node { memo, .. } => memo.as_ref().and_then(RlpNode::as_hash),
        }
    }

    /// Leaves below a child that is in memory.
    const fn leaves(&self) -> u64 {
        match self {
            Self::Empty | Self::Hash(_) => 0,
            Self::Node { node, .. } => node.leaves,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Appends what stands in the parent for this child, whose node must be sealed: a hash, the
    /// encoding of a short node, or nothing at all as the empty string.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.push(EMPTY_STRING_CODE),
            Self::Hash(hash) => hash.encode(out),
            Self::Node { memo, .. } => out.extend_from_slice(sealed(memo)),
        }
    }

    /// Bytes of [`Link::encode`].
    fn length(&self) -> usize {
        match self {
            Self::Empty => 1,
            Self::Hash(hash) => hash.length(),
            Self::Node { memo, .. } => sealed(memo).len(),
        }
    }

    /// Computes missing references bottom-up and records the nodes to store.
    pub(super) fn seal(&mut self, path: Nibbles, sealed: &mut Sealed) {
        if let Self::Node { node, memo } = self
            && memo.is_none()
        {
            *memo = Some(node.seal(path, sealed));
        }
    }

    pub(super) fn prune(&mut self, clock: u32) -> usize {
        let Self::Node { node, memo } = self else {
            return 0;
        };
        // Embedded nodes have no stored form of their own, they go with their parent.
        if node.touched < clock
            && let Some(hash) = memo.as_ref().and_then(RlpNode::as_hash)
        {
            *self = Self::Hash(hash);
            return 0;
        }
        1 + match &mut node.body {
            Body::Leaf { .. } => 0,
            Body::Extension { child, .. } => child.prune(clock),
            Body::Branch(children) => children.iter_mut().map(|c| c.prune(clock)).sum(),
        }
    }

    fn decode(rlp: &RlpNode, touched: u32) -> Result<Self> {
        Ok(match rlp.as_hash() {
            Some(hash) => Self::Hash(hash),
            None => Self::loaded(Node::decode(rlp, touched)?, rlp),
        })
    }

    /// A node in memory from its stored RLP.
    pub(super) fn stored(rlp: &[u8], leaves: u64, touched: u32) -> Result<Self> {
        let mut node = Node::decode(rlp, touched)?;
        if !matches!(node.body, Body::Leaf { .. }) {
            node.leaves = leaves;
        }
        Ok(Self::loaded(node, rlp))
    }

    fn loaded(node: Node, rlp: &[u8]) -> Self {
        Self::Node {
            node: Box::new(node),
            memo: Some(reference(rlp)),
        }
    }
}

/// Has no nodes, for tries that are wholly in memory.
struct Nothing;

impl NodeSource for Nothing {
    fn node(&self, _: Option<B256>, _: &Nibbles, _: B256) -> Result<Option<Found>> {
        Ok(None)
    }
}

/// The reference of a sealed node.
const fn sealed(memo: &Option<RlpNode>) -> &RlpNode {
    memo.as_ref()
        .expect("children are sealed before their parent")
}

impl Node {
    /// Decodes a node; children shorter than a hash are embedded and come along, and are the only
    /// ones whose leaves are counted.
    fn decode(rlp: &[u8], touched: u32) -> Result<Self> {
        let node = TrieNode::decode(&mut &rlp[..])
            .map_err(|e| Error::corrupt("trie node", format_args!("{e}: {rlp:02x?}")))?;
        let body = match node {
            TrieNode::EmptyRoot => return Err(Error::corrupt("trie node", "empty")),
            TrieNode::Leaf(leaf) => Body::Leaf {
                key: leaf.key,
                value: leaf.value,
            },
            TrieNode::Extension(ext) => Body::Extension {
                key: ext.key,
                child: Link::decode(&ext.child, touched)?,
            },
            TrieNode::Branch(branch) => {
                let mut children: Box<[Link; 16]> = Box::default();
                let mut stack = branch.stack.iter();
                for nibble in 0u8..16 {
                    if branch.state_mask.is_bit_set(nibble) {
                        let child = stack
                            .next()
                            .ok_or_else(|| Error::corrupt("trie node", "branch mask"))?;
                        children[usize::from(nibble)] = Link::decode(child, touched)?;
                    }
                }
                Body::Branch(children)
            }
        };
        let leaves = match &body {
            Body::Leaf { .. } => 1,
            Body::Extension { child, .. } => child.leaves(),
            Body::Branch(children) => children.iter().map(Link::leaves).sum(),
        };
        Ok(Self {
            body,
            leaves,
            touched,
        })
    }

    /// The node's RLP. Its children must be sealed.
    pub(super) fn rlp(&self) -> Vec<u8> {
        let size = match &self.body {
            Body::Leaf { .. } | Body::Extension { .. } => 128,
            // Sixteen hashes, the empty value and the header of the list.
            Body::Branch(_) => 16 * 33 + 1 + 3,
        };
        let mut out = Vec::with_capacity(size);
        match &self.body {
            Body::Leaf { key, value } => LeafNodeRef::new(key, value).encode(&mut out),
            Body::Extension { key, child } => {
                let mut reference = Vec::with_capacity(33);
                child.encode(&mut reference);
                ExtensionNodeRef::new(key, &reference).encode(&mut out);
            }
            Body::Branch(children) => {
                // What `BranchNodeRef` encodes, without a list of references on the way.
                let payload_length = children.iter().map(Link::length).sum::<usize>() + 1;
                let header = Header {
                    list: true,
                    payload_length,
                };
                header.encode(&mut out);
                for child in children.iter() {
                    child.encode(&mut out);
                }
                // No value.
                out.push(EMPTY_STRING_CODE);
            }
        }
        out
    }

    /// Seals the children, records the node and returns its reference.
    fn seal(&mut self, path: Nibbles, sealed: &mut Sealed) -> RlpNode {
        // Before those of its children, in the order of paths.
        let at = sealed.len();
        sealed.push((path, NodeChange::Gone));
        match &mut self.body {
            Body::Leaf { .. } => {}
            Body::Extension { key, child } => child.seal(path.join(key), sealed),
            Body::Branch(children) => {
                for (nibble, child) in (0u8..).zip(children.iter_mut()) {
                    let mut below = path;
                    below.push(nibble);
                    child.seal(below, sealed);
                }
            }
        }
        let rlp = self.rlp();
        let memo = reference(&rlp);
        // A node that became short enough to be embedded may have been stored before.
        if memo.is_hash() {
            sealed[at].1 = self.change(rlp);
        }
        memo
    }

    /// What it is to the node table, with `rlp` its encoding.
    pub(super) const fn change(&self, rlp: Vec<u8>) -> NodeChange {
        let leaves = self.leaves;
        if leaves > DERIVED {
            NodeChange::Stored { rlp, leaves }
        } else {
            let over_stored = false;
            NodeChange::Derived { rlp, over_stored }
        }
    }
}
