//! Setting many keys with all cores: the children of the root are tries of their own.

use super::{
    Grown, NodeSource, Trie, Walk,
    node::{Body, Link, Sealed},
};
use crate::error::Result;
use alloy_primitives::B256;
use alloy_trie::Nibbles;
use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{LazyLock, Mutex, PoisonError},
    thread,
};

/// Keys below which starting a thread costs more than it saves (some 50 us); tests share few.
const WORTH_IT: usize = if cfg!(test) { 8 } else { 256 };

/// Asked once: the answer takes reading files.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// What lies below one child of the root: its nibble, itself, and the keys to set in it.
type Share<'a, T> = (u8, &'a mut Link, &'a mut [(B256, T)]);

impl Trie {
    /// Sets the keys and hashes everything below the root. False when that is not worth it, or the
    /// root has no children: then nothing has happened.
    pub(super) fn set_in_parallel<S, T>(
        &mut self,
        source: &S,
        mut entries: &mut [(B256, T)],
        value: &(impl Fn(&mut T, Option<&[u8]>) -> Result<Vec<u8>> + Sync),
    ) -> Result<bool>
    where
        S: NodeSource + ?Sized,
        T: Send,
    {
        if entries.len() < WORTH_IT || *CORES < 2 {
            return Ok(false);
        }
        let clock = self.clock;
        let owner = self.owner;
        let (root, walk) = self.walk(source);
        let Some((node, memo)) = walk.resolve(root, &Nibbles::new())? else {
            return Ok(false);
        };
        let Body::Branch(children) = &mut node.body else {
            return Ok(false);
        };
        *memo = None;
        let mut shares: Vec<Share<'_, T>> = Vec::with_capacity(16);
        for (nibble, child) in (0u8..).zip(children.iter_mut()) {
            let count = entries.partition_point(|(key, _)| key[0] >> 4 <= nibble);
            let (mine, others) = entries.split_at_mut(count);
            entries = others;
            if !mine.is_empty() {
                shares.push((nibble, child, mine));
            }
        }
        let shares = Mutex::new(shares);
        let take = || {
            let mut left = shares.lock().unwrap_or_else(PoisonError::into_inner);
            left.pop()
        };
        let work = || -> Result<Vec<Part>> {
            let mut done = Vec::new();
            while let Some(share) = take() {
                done.push(set(source, owner, clock, share, value)?);
            }
            Ok(done)
        };
        let mut parts = thread::scope(|scope| -> Result<_> {
            let others: Vec<_> = (1..*CORES).map(|_| scope.spawn(work)).collect();
            let mut parts = work()?;
            for other in others {
                match other.join() {
                    Ok(part) => parts.extend(part?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(parts)
        })?;
        parts.sort_unstable_by_key(|part| part.nibble);
        let more = parts.iter().map(|part| part.more).sum();
        node.leaves = node.leaves.saturating_add(more);
        for (path, change) in parts.into_iter().flat_map(|part| part.sealed) {
            if let Some(vacant) = self.removed.get_mut(&path) {
                *vacant = false;
            }
            self.sealed.push((path, change));
        }
        Ok(true)
    }
}

/// What became of one child of the root.
struct Part {
    nibble: u8,
    sealed: Sealed,
    /// Leaves that it has more than before.
    more: u64,
}

/// Sets the keys below one child of the root and hashes it.
fn set<S: NodeSource + ?Sized, T>(
    source: &S,
    owner: Option<B256>,
    clock: u32,
    (nibble, child, entries): Share<'_, T>,
    value: &impl Fn(&mut T, Option<&[u8]>) -> Result<Vec<u8>>,
) -> Result<Part> {
    // Stays empty: setting removes no node.
    let mut removed = BTreeMap::new();
    let mut walk = Walk {
        source,
        owner,
        clock,
        removed: &mut removed,
    };
    let path = Nibbles::from_nibbles([nibble]);
    let mut more = 0;
    for (key, item) in entries {
        let rest = Nibbles::unpack(*key).slice(1..);
        let grown = walk.insert(child, path, rest, |old| value(item, old))?;
        more += u64::from(grown == Grown::Leaf);
    }
    let mut sealed = Sealed::new();
    child.seal(path, &mut sealed);
    Ok(Part {
        nibble,
        sealed,
        more,
    })
}
