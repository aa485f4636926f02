//! Making the witness of a stored block.

use super::{Preimages, Witness, reexecute};
use crate::{
    error::{Error, Result},
    exec::BlockInputs,
    kv::{Snapshot, Table},
    reader::ChainReader,
    spec::ChainSpec,
    state::{StateTrie, TrieChanges, reverse_to},
    trie::{Found, NodeSource},
};
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The stored chain as a source of preimages that remembers what it gave.
struct Recorder<'a> {
    reader: &'a ChainReader,
    snapshot: &'a dyn Snapshot,
    /// Where the parent's tries differ from the stored ones, which are the head's.
    parent: TrieChanges,
    nodes: Mutex<BTreeMap<B256, Bytes>>,
    codes: Mutex<BTreeMap<B256, Bytes>>,
    headers: Mutex<BTreeMap<B256, Bytes>>,
}

fn keep(map: &Mutex<BTreeMap<B256, Bytes>>, hash: B256, bytes: Bytes) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.insert(hash, bytes);
}

impl NodeSource for Recorder<'_> {
    fn node(&self, owner: Option<B256>, path: &Nibbles, hash: B256) -> Result<Option<Found>> {
        let changed = match owner {
            None => Some(&self.parent.account_nodes),
            Some(owner) => self.parent.storage_nodes.get(&owner),
        };
        let rlp = match changed.and_then(|nodes| nodes.get(path)) {
            Some(change) => change.rlp().cloned(),
            None => {
                let found = self.snapshot.node(owner, path, hash)?;
                found.and_then(|found| found.rlp(path))
            }
        };
        Ok(rlp.map(|rlp| {
            keep(&self.nodes, hash, Bytes::copy_from_slice(&rlp));
            Found::alone(rlp)
        }))
    }
}

impl Preimages for Recorder<'_> {
    fn code(&self, hash: B256) -> Result<Option<Bytes>> {
        let code = self.snapshot.get(Table::Code, hash.as_slice())?;
        let code = code.map(Bytes::from);
        if let Some(code) = &code {
            keep(&self.codes, hash, code.clone());
        }
        Ok(code)
    }

    fn header(&self, hash: B256) -> Result<Option<Bytes>> {
        let Some(number) = self.reader.number_of(hash)? else {
            return Ok(None);
        };
        let header = self.reader.header(number)?;
        let rlp = header.map(|header| Bytes::from(alloy_rlp::encode(header.inner())));
        if let Some(rlp) = &rlp {
            keep(&self.headers, hash, rlp.clone());
        }
        Ok(rlp)
    }
}

/// Makes the witness of the stored block `number` by executing it again on its parent's state. The
/// parent's tries are the head's with everything since undone in memory, so the cost grows with the
/// distance to the head.
///
/// # Errors
/// When there is no such block, it is the genesis block, or the store cannot be read;
/// [`Error::Corrupt`] if the block does not come out as it is stored.
pub fn record(spec: &ChainSpec, reader: &ChainReader, number: u64) -> Result<Witness> {
    let unknown = |number: u64| Error::Unknown {
        what: "block",
        id: number.to_string(),
    };
    let block = reader.block(number)?.ok_or_else(|| unknown(number))?;
    let Some(before) = number.checked_sub(1) else {
        return Err(Error::InvalidBlock(
            "the genesis block is given, not executed: it has no witness".into(),
        ));
    };
    let parent = reader.header(before)?.ok_or_else(|| unknown(before))?;
    let snapshot = &**reader.snapshot();
    let head = reader.head()?;
    let undone = reverse_to(snapshot, head.number, before)?;
    let recorder = Recorder {
        reader,
        snapshot,
        parent: StateTrie::new(head.state_root).apply(snapshot, &undone)?,
        nodes: Mutex::default(),
        codes: Mutex::default(),
        headers: Mutex::default(),
    };
    // Whoever replays begins by looking the parent up.
    recorder.header(parent.hash())?;
    let keys = std::cell::RefCell::default();
    let inputs = BlockInputs::of(&block.header);
    let transactions = &block.transactions;
    let header = reexecute(spec, &parent, &inputs, transactions, &recorder, &keys)?;
    if header.hash() != block.hash() {
        let what = format_args!("block {number} executes to {}", header.hash());
        return Err(Error::corrupt("block", what));
    }
    let values = |map: Mutex<BTreeMap<B256, Bytes>>| {
        map.into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into_values()
            .collect()
    };
    Ok(Witness {
        state: values(recorder.nodes),
        codes: values(recorder.codes),
        keys: keys.into_inner().into_iter().collect(),
        headers: values(recorder.headers),
    })
}
