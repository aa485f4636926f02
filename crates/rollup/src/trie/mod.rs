//! A Merkle-Patricia trie that stays in memory between blocks.
//!
//! Nodes are loaded from a [`NodeSource`] when a path first needs them and keep their encoded
//! reference (`memo`), so a block re-hashes only the paths it changed. Nodes are stored **by path**,
//! not by hash: an overwritten node replaces its predecessor, so the table holds exactly one trie
//! and needs no garbage collection. The price is that the in-memory trie must always be the
//! successor of what is stored; [`Trie::reset`] drops it when a block is discarded. Subtrees of at
//! most [`DERIVED`] leaves are not stored at all: they follow from the flat tables, which have the
//! values already. Nearly all nodes that a block changes are in such subtrees, and each would be a
//! page of the node table of its own.
//!
//! Yellow paper, appendix D. Keys are 32-byte hashes, so no key is a prefix of another and branch
//! nodes never carry a value.

mod node;
#[cfg(feature = "std")]
mod parallel;

use crate::error::{Error, Result};
use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, nodes::RlpNode};
use node::{Body, Link, Node, Sealed};

/// Leaves up to which a subtree is built from the flat tables when it is needed, and not stored.
pub const DERIVED: u64 = if cfg!(test) { 3 } else { 16 };

/// Where trie nodes come from: the tables, or a witness keyed by hash.
pub trait NodeSource: Sync {
    /// The node at `path` of the trie of `owner` (`None` = the account trie, otherwise the hashed
    /// address of the account whose storage it is). `hash` is the keccak256 of its RLP, which the
    /// trie checks.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn node(&self, owner: Option<B256>, path: &Nibbles, hash: B256) -> Result<Option<Found>>;
}

/// What a [`NodeSource`] has for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The node alone.
    Node {
        /// Its RLP.
        rlp: Vec<u8>,
        /// Leaves below it. A source that does not know gives `u64::MAX`; then what becomes of the
        /// nodes is not told right, but their hashes are.
        leaves: u64,
    },
    /// The keys and values of all leaves below it, in order.
    Leaves(Vec<(B256, Vec<u8>)>),
}

impl Found {
    /// A node of a source that has nodes by their hashes and knows nothing else of them.
    #[must_use]
    pub const fn alone(rlp: Vec<u8>) -> Self {
        let leaves = u64::MAX;
        Self::Node { rlp, leaves }
    }

    /// The RLP of the node at `path`; `None` where there are no leaves.
    #[must_use]
    pub fn rlp(self, path: &Nibbles) -> Option<Vec<u8>> {
        match self {
            Self::Node { rlp, .. } => Some(rlp),
            Self::Leaves(leaves) => match Link::grown(path, leaves, 0) {
                Link::Node { node, .. } => Some(node.rlp()),
                Link::Empty | Link::Hash(_) => None,
            },
        }
    }
}

/// What became of the node at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// A node over more than [`DERIVED`] leaves, to be stored.
    Stored {
        /// Its RLP.
        rlp: Vec<u8>,
        /// Leaves below it.
        leaves: u64,
    },
    /// A node that follows from the flat tables.
    Derived {
        /// Its RLP.
        rlp: Vec<u8>,
        /// Whether a stored node may have been there before.
        over_stored: bool,
    },
    /// No node, or one that is embedded in its parent.
    Gone,
}

impl NodeChange {
    /// The node's RLP, if there is a node.
    #[must_use]
    pub fn rlp(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Stored { rlp, .. } | Self::Derived { rlp, .. } => Some(rlp),
            Self::Gone => None,
        }
    }
}

/// What became of nodes, by path.
pub type NodeChanges = BTreeMap<Nibbles, NodeChange>;

/// One trie: the account trie or the storage trie of one account.
#[derive(Debug)]
pub struct Trie {
    owner: Option<B256>,
    root: Link,
    /// Paths where a node vanished since the last [`Trie::commit`], made room for another, or has
    /// too few leaves to stay stored, and whether nothing is known to have come there.
    removed: BTreeMap<Nibbles, bool>,
    /// Nodes hashed since then; those of them that changed again are hashed again.
    sealed: Sealed,
    clock: u32,
}

/// What every recursive step needs besides the node it works on.
struct Walk<'a, S: ?Sized> {
    source: &'a S,
    owner: Option<B256>,
    clock: u32,
    removed: &'a mut BTreeMap<Nibbles, bool>,
}

impl Trie {
    /// A trie whose stored root hash is `root`; nothing is loaded yet.
    #[must_use]
    pub fn new(owner: Option<B256>, root: B256) -> Self {
        Self {
            owner,
            root: Link::from_root(root),
            removed: BTreeMap::new(),
            sealed: Sealed::new(),
            clock: 0,
        }
    }

    /// Forgets everything that is in memory and starts again from the stored `root`.
    pub fn reset(&mut self, root: B256) {
        self.root = Link::from_root(root);
        self.removed.clear();
        self.sealed.clear();
    }

    /// Marks the nodes touched from now on with `clock`, which [`Trie::prune`] compares.
    pub const fn set_clock(&mut self, clock: u32) {
        self.clock = clock;
    }

    /// Drops loaded nodes last touched before `clock`. Only call when everything is stored.
    /// Returns the number of nodes that stay.
    pub fn prune(&mut self, clock: u32) -> usize {
        self.root.prune(clock)
    }

    fn walk<'a, S: NodeSource + ?Sized>(
        &'a mut self,
        source: &'a S,
    ) -> (&'a mut Link, Walk<'a, S>) {
        let Self {
            owner,
            root,
            removed,
            clock,
            sealed: _,
        } = self;
        (
            root,
            Walk {
                source,
                owner: *owner,
                clock: *clock,
                removed,
            },
        )
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// When a node on the path cannot be read or is corrupt.
    pub fn get<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        key: B256,
    ) -> Result<Option<Vec<u8>>> {
        let (root, walk) = self.walk(source);
        walk.get(root, Nibbles::unpack(key))
    }

    /// Sets `key` to `value`; an empty value removes the key.
    ///
    /// # Errors
    /// When a node on the path cannot be read or is corrupt.
    pub fn set<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        key: B256,
        value: Vec<u8>,
    ) -> Result<()> {
        let (root, mut walk) = self.walk(source);
        let key = Nibbles::unpack(key);
        if value.is_empty() {
            walk.remove(root, Nibbles::new(), key)?;
        } else {
            walk.insert(root, Nibbles::new(), key, |_| Ok(value))?;
        }
        Ok(())
    }

    /// Sets each key of `entries` to what `value` makes of its item and the old value. Keys are in
    /// order and each there once; no new value is empty. Where there are many, all cores share the
    /// work, and hash what they changed as well.
    ///
    /// # Errors
    /// When a node on a path cannot be read or is corrupt, or what `value` returns.
    pub fn set_all<S, T>(
        &mut self,
        source: &S,
        entries: &mut [(B256, T)],
        value: impl Fn(&mut T, Option<&[u8]>) -> Result<Vec<u8>> + Sync,
    ) -> Result<()>
    where
        S: NodeSource + ?Sized,
        T: Send,
    {
        #[cfg(feature = "std")]
        if self.set_in_parallel(source, entries, &value)? {
            return Ok(());
        }
        let (root, mut walk) = self.walk(source);
        for (key, item) in entries {
            walk.insert(root, Nibbles::new(), Nibbles::unpack(*key), |old| {
                value(item, old)
            })?;
        }
        Ok(())
    }

    /// Hashes what changed and returns the root with the nodes to store and remove.
    pub fn commit(&mut self) -> (B256, NodeChanges) {
        let mut sealed = core::mem::take(&mut self.sealed);
        let removed = core::mem::take(&mut self.removed);
        let vacant = removed.iter().filter(|(_, vacant)| **vacant);
        sealed.extend(vacant.map(|(path, _)| (*path, NodeChange::Gone)));
        let dirty = matches!(self.root, Link::Node { memo: None, .. });
        self.root.seal(Nibbles::new(), &mut sealed);
        // Of a path that is there more than once the last counts.
        let mut changes: NodeChanges = sealed.into_iter().collect();
        let root = match &self.root {
            Link::Empty => {
                changes.insert(Nibbles::new(), NodeChange::Gone);
                EMPTY_ROOT_HASH
            }
            Link::Hash(hash) => *hash,
            Link::Node { node, .. } => {
                let rlp = node.rlp();
                let hash = keccak256(&rlp);
                if dirty {
                    // The root is referenced by hash from the header or the account even when its
                    // encoding is shorter than a hash.
                    changes.insert(Nibbles::new(), node.change(rlp));
                }
                hash
            }
        };
        for path in removed.keys() {
            if let Some(NodeChange::Derived { over_stored, .. }) = changes.get_mut(path) {
                *over_stored = true;
            }
        }
        (root, changes)
    }

    /// The Merkle proof of `key` (EIP-1186): the encoded nodes from the root down; with it the
    /// value, or `None` when the proof shows that the key is absent. Call after [`Trie::commit`].
    ///
    /// # Errors
    /// When a node on the path cannot be read or is corrupt.
    pub fn proof<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        key: B256,
    ) -> Result<(Option<Vec<u8>>, Vec<Bytes>)> {
        let key = Nibbles::unpack(key);
        let (mut link, walk) = self.walk(source);
        let mut nodes = Vec::new();
        let mut depth = 0;
        loop {
            let Some((node, _)) = walk.resolve(link, &key.slice(..depth))? else {
                return Ok((None, nodes));
            };
            let rlp = node.rlp();
            if depth == 0 || rlp.len() >= B256::len_bytes() {
                nodes.push(rlp.into());
            }
            let rest = key.slice(depth..);
            match &mut node.body {
                Body::Leaf { key, value } => {
                    return Ok(((*key == rest).then(|| value.clone()), nodes));
                }
                Body::Extension { key, child } => {
                    if !rest.starts_with(key) {
                        return Ok((None, nodes));
                    }
                    depth += key.len();
                    link = child;
                }
                Body::Branch(children) => {
                    link = &mut children[usize::from(key.get_unchecked(depth))];
                    depth += 1;
                }
            }
        }
    }
}

impl<S: NodeSource + ?Sized> Walk<'_, S> {
    /// The node behind `link` with its reference, loaded if needed. `None` for an empty link.
    fn resolve<'n>(
        &self,
        link: &'n mut Link,
        path: &Nibbles,
    ) -> Result<Option<(&'n mut Node, &'n mut Option<RlpNode>)>> {
        if let Link::Hash(hash) = *link {
            let at = || format!("{path:?} of {:?}, hash {hash}", self.owner);
            let found = self
                .source
                .node(self.owner, path, hash)?
                .ok_or_else(|| Error::corrupt("trie", format_args!("missing node {}", at())))?;
            let wrong = || Error::corrupt("trie", format_args!("wrong node {}", at()));
            *link = match found {
                Found::Node { rlp, .. } if keccak256(&rlp) != hash => return Err(wrong()),
                Found::Node { rlp, leaves } => Link::stored(&rlp, leaves, self.clock)?,
                Found::Leaves(leaves) => {
                    let grown = Link::grown(path, leaves, self.clock);
                    if grown.hash() != Some(hash) {
                        return Err(wrong());
                    }
                    grown
                }
            };
        }
        Ok(match link {
            Link::Empty | Link::Hash(_) => None,
            Link::Node { node, memo } => {
                node.touched = self.clock;
                Some((&mut **node, memo))
            }
        })
    }

    fn get(&self, mut link: &mut Link, key: Nibbles) -> Result<Option<Vec<u8>>> {
        let mut depth = 0;
        loop {
            let Some((node, _)) = self.resolve(link, &key.slice(..depth))? else {
                return Ok(None);
            };
            let rest = key.slice(depth..);
            match &mut node.body {
                Body::Leaf { key, value } => return Ok((*key == rest).then(|| value.clone())),
                Body::Extension { key, child } => {
                    if !rest.starts_with(key) {
                        return Ok(None);
                    }
                    depth += key.len();
                    link = child;
                }
                Body::Branch(children) => {
                    link = &mut children[usize::from(key.get_unchecked(depth))];
                    depth += 1;
                }
            }
        }
    }

    /// Inserts what `value` makes of the old value below `link`, whose path is `path`; `rest` is
    /// what remains of the key. Every node that appears or moves is dirty, every path that was
    /// occupied stays occupied, and no subtree loses leaves, so insertion leaves no stored node
    /// behind.
    fn insert(
        &mut self,
        link: &mut Link,
        path: Nibbles,
        rest: Nibbles,
        value: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>>,
    ) -> Result<Grown> {
        let clock = self.clock;
        let Some((node, memo)) = self.resolve(link, &path)? else {
            *link = Link::leaf(rest, value(None)?, clock);
            return Ok(Grown::Leaf);
        };
        let grown = match &mut node.body {
            Body::Leaf { key, value: old } => {
                let common = key.common_prefix_length(&rest);
                if common == key.len() {
                    let value = value(Some(old))?;
                    let changed = *old != value;
                    *old = value;
                    if changed { Grown::Value } else { Grown::Not }
                } else {
                    let value = value(None)?;
                    let old_leaf = Link::leaf(key.slice(common + 1..), core::mem::take(old), clock);
                    let new_leaf = Link::leaf(rest.slice(common + 1..), value, clock);
                    let (at_old, at_new) = (key.get_unchecked(common), rest.get_unchecked(common));
                    *link = fork(
                        rest.slice(..common),
                        (at_old, old_leaf),
                        (at_new, new_leaf),
                        node.leaves.saturating_add(1),
                        clock,
                    );
                    return Ok(Grown::Leaf);
                }
            }
            Body::Extension { key, child } => {
                let common = key.common_prefix_length(&rest);
                if common == key.len() {
                    let below = path.join(key);
                    self.insert(child, below, rest.slice(common..), value)?
                } else {
                    let value = value(None)?;
                    let tail = key.slice(common + 1..);
                    let child = core::mem::replace(child, Link::Empty);
                    let old = if tail.is_empty() {
                        child
                    } else {
                        Link::extension(tail, child, node.leaves, clock)
                    };
                    let new = Link::leaf(rest.slice(common + 1..), value, clock);
                    let (at_old, at_new) = (key.get_unchecked(common), rest.get_unchecked(common));
                    let leaves = node.leaves.saturating_add(1);
                    *link = fork(
                        rest.slice(..common),
                        (at_old, old),
                        (at_new, new),
                        leaves,
                        clock,
                    );
                    return Ok(Grown::Leaf);
                }
            }
            Body::Branch(children) => {
                let nibble = rest.get_unchecked(0);
                let mut below = path;
                below.push(nibble);
                self.insert(
                    &mut children[usize::from(nibble)],
                    below,
                    rest.slice(1..),
                    value,
                )?
            }
        };
        if grown != Grown::Not {
            *memo = None;
        }
        if grown == Grown::Leaf {
            node.leaves = node.leaves.saturating_add(1);
        }
        Ok(grown)
    }

    /// Removes below `link`; afterwards `link` is in canonical form (no branch with one child, no
    /// extension over a leaf or an extension). Returns whether anything changed.
    fn remove(&mut self, link: &mut Link, path: Nibbles, rest: Nibbles) -> Result<bool> {
        let Some((node, memo)) = self.resolve(link, &path)? else {
            return Ok(false);
        };
        match &mut node.body {
            Body::Leaf { key, .. } => {
                if *key != rest {
                    return Ok(false);
                }
                self.removed.insert(path, true);
                *link = Link::Empty;
                return Ok(true);
            }
            Body::Extension { key, child } => {
                if !rest.starts_with(key) {
                    return Ok(false);
                }
                let below = path.join(key);
                if !self.remove(child, below, rest.slice(key.len()..))? {
                    return Ok(false);
                }
                let (prefix, child) = (*key, core::mem::replace(child, Link::Empty));
                *link = self.prepend(prefix, child, below)?;
                self.removed.insert(path, true);
            }
            Body::Branch(children) => {
                let nibble = rest.get_unchecked(0);
                let mut below = path;
                below.push(nibble);
                if !self.remove(&mut children[usize::from(nibble)], below, rest.slice(1..))? {
                    return Ok(false);
                }
                let mut left = (0u8..16).filter(|i| !children[usize::from(*i)].is_empty());
                let (first, more) = (left.next(), left.next());
                match (first, more) {
                    (Some(only), None) => {
                        let child =
                            core::mem::replace(&mut children[usize::from(only)], Link::Empty);
                        let mut below = path;
                        below.push(only);
                        *link = self.prepend(Nibbles::from_nibbles([only]), child, below)?;
                        self.removed.insert(path, true);
                    }
                    (Some(_), Some(_)) => {
                        *memo = None;
                        if node.leaves != u64::MAX {
                            node.leaves -= 1;
                        }
                        if node.leaves == DERIVED {
                            self.removed.entry(path).or_insert(false);
                        }
                    }
                    (None, _) => {
                        return Err(Error::corrupt(
                            "trie",
                            format_args!("branch {path:?} had one child"),
                        ));
                    }
                }
            }
        }
        Ok(true)
    }

    /// `prefix` in front of `child` (which sits at `below`): merges into a leaf or an extension,
    /// puts an extension over a branch.
    fn prepend(&mut self, prefix: Nibbles, mut child: Link, below: Nibbles) -> Result<Link> {
        let clock = self.clock;
        let Some((node, _)) = self.resolve(&mut child, &below)? else {
            return Err(Error::corrupt(
                "trie",
                format_args!("empty child at {below:?}"),
            ));
        };
        let merged = match &mut node.body {
            Body::Leaf { key, value } => {
                Link::leaf(prefix.join(key), core::mem::take(value), clock)
            }
            Body::Extension { key, child } => Link::extension(
                prefix.join(key),
                core::mem::replace(child, Link::Empty),
                node.leaves,
                clock,
            ),
            Body::Branch(_) => {
                let leaves = node.leaves;
                return Ok(Link::extension(prefix, child, leaves, clock));
            }
        };
        self.removed.insert(below, true);
        Ok(merged)
    }
}

/// What setting a key did to a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grown {
    /// Nothing: it had that value.
    Not,
    /// A leaf has another value.
    Value,
    /// There is one more leaf.
    Leaf,
}

/// A branch over two children with `leaves` in all, under an extension when they share a `prefix`.
fn fork(prefix: Nibbles, a: (u8, Link), b: (u8, Link), leaves: u64, clock: u32) -> Link {
    let mut children: Box<[Link; 16]> = Box::default();
    children[usize::from(a.0)] = a.1;
    children[usize::from(b.0)] = b.1;
    let branch = Link::node(Body::Branch(children), leaves, clock);
    if prefix.is_empty() {
        branch
    } else {
        Link::extension(prefix, branch, leaves, clock)
    }
}

/// A hash-referencing child or an embedded one, as [`RlpNode`] bytes.
fn reference(rlp: &[u8]) -> RlpNode {
    RlpNode::from_rlp(rlp)
}

#[cfg(test)]
mod tests;
