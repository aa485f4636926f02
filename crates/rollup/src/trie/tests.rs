#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use alloy_primitives::{B256, keccak256};
use alloy_trie::{HashBuilder, proof::verify_proof};
use proptest::prelude::*;
use std::sync::Mutex;

/// The tables in memory: what the disk store would hold after each commit.
#[derive(Default)]
struct Table {
    stored: Mutex<BTreeMap<Nibbles, (Vec<u8>, u64)>>,
    flat: Mutex<BTreeMap<B256, Vec<u8>>>,
}

impl Table {
    fn apply(&self, changes: NodeChanges, content: &BTreeMap<B256, Vec<u8>>) {
        self.flat.lock().unwrap().clone_from(content);
        let mut stored = self.stored.lock().unwrap();
        for (path, change) in changes {
            match change {
                NodeChange::Stored { rlp, leaves } => {
                    stored.insert(path, (rlp, leaves));
                }
                NodeChange::Derived { over_stored, .. } => {
                    if over_stored {
                        stored.remove(&path);
                    }
                }
                NodeChange::Gone => {
                    stored.remove(&path);
                }
            }
        }
    }
}

impl NodeSource for Table {
    fn node(&self, _: Option<B256>, path: &Nibbles, _: B256) -> Result<Option<Found>> {
        if let Some((rlp, leaves)) = self.stored.lock().unwrap().get(path).cloned() {
            return Ok(Some(Found::Node { rlp, leaves }));
        }
        let flat = self.flat.lock().unwrap();
        let below = flat
            .iter()
            .filter(|(key, _)| Nibbles::unpack(*key).starts_with(path));
        let leaves: Vec<_> = below.map(|(key, value)| (*key, value.clone())).collect();
        let few = !leaves.is_empty() && leaves.len() as u64 <= DERIVED;
        Ok(few.then_some(Found::Leaves(leaves)))
    }
}

/// The oracle: alloy-trie's hash builder over the sorted content.
fn rebuild(content: &BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in content {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Keys share long prefixes with probability, so that extensions split and collapse often.
fn key() -> impl Strategy<Value = B256> {
    prop_oneof![
        (0u8..6, 0u8..6, 0u8..3).prop_map(|(a, b, c)| {
            let mut key = [0u8; 32];
            (key[0], key[15], key[31]) = (a << 4, b, c);
            B256::from(key)
        }),
        (0u16..400).prop_map(|i| keccak256(i.to_be_bytes())),
    ]
}

/// Values from one byte (embedded leaves under deep paths) to longer than a hash; empty = remove.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => (1u8..127).prop_map(|b| vec![b]),
        3 => proptest::collection::vec(any::<u8>(), 20..80),
    ]
}

#[derive(Debug, Clone)]
enum Between {
    Nothing,
    Reload,
    Prune,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        2 => Just(Between::Nothing),
        1 => Just(Between::Reload),
        1 => Just(Between::Prune)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After every batch of sets and removes, whatever part of the trie is in memory: the root is
    /// alloy-trie's, the node table holds one trie and nothing else, every value is found again,
    /// and proofs of present and absent keys verify.
    #[test]
    fn agrees_with_alloy_trie(
        blocks in proptest::collection::vec(
            (proptest::collection::vec((key(), value()), 0..40), any::<bool>(), between()), 1..12),
        probe in proptest::collection::vec(key(), 8),
    ) {
        let table = Table::default();
        let mut trie = Trie::new(None, EMPTY_ROOT_HASH);
        let mut content = BTreeMap::new();
        for (clock, (writes, at_once, between)) in (1u32..).zip(blocks) {
            trie.set_clock(clock);
            let writes = if at_once {
                let last: BTreeMap<_, _> = writes.into_iter().collect();
                let (gone, set): (Vec<_>, Vec<_>) =
                    last.into_iter().partition(|(_, value)| value.is_empty());
                let mut entries = set.clone();
                trie.set_all(&table, &mut entries, |value, _| Ok(value.clone())).unwrap();
                content.extend(set);
                gone
            } else {
                writes
            };
            for (key, value) in writes {
                trie.set(&table, key, value.clone()).unwrap();
                if value.is_empty() {
                    content.remove(&key);
                } else {
                    content.insert(key, value);
                }
            }
            let (root, changes) = trie.commit();
            table.apply(changes, &content);
            prop_assert_eq!(root, rebuild(&content));

            // The table holds exactly the nodes of a freshly written trie.
            let mut fresh = Trie::new(None, EMPTY_ROOT_HASH);
            for (key, value) in &content {
                fresh.set(&Table::default(), *key, value.clone()).unwrap();
            }
            let expected = Table::default();
            expected.apply(fresh.commit().1, &content);
            let nodes = |table: &Table| table.stored.lock().unwrap().clone();
            prop_assert_eq!(nodes(&table), nodes(&expected));
            for (path, (_, leaves)) in nodes(&table) {
                let below = content.keys().filter(|key| Nibbles::unpack(*key).starts_with(&path));
                prop_assert_eq!(leaves, below.count() as u64, "{:?}", path);
            }

            match between {
                Between::Nothing => {}
                Between::Reload => trie.reset(root),
                Between::Prune => { trie.prune(clock); }
            }
            for key in probe.iter().chain(content.keys().take(8)) {
                prop_assert_eq!(trie.get(&table, *key).unwrap(), content.get(key).cloned());
                let (value, proof) = trie.proof(&table, *key).unwrap();
                prop_assert_eq!(&value, &content.get(key).cloned());
                if !content.is_empty() {
                    verify_proof(root, Nibbles::unpack(key), value, &proof).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_swapped_node_is_reported_not_used() {
    let table = Table::default();
    let mut trie = Trie::new(None, EMPTY_ROOT_HASH);
    let content = (0u8..32).map(|i| (keccak256([i]), vec![i; 40]));
    let content: BTreeMap<_, _> = content.collect();
    for (key, value) in &content {
        trie.set(&table, *key, value.clone()).unwrap();
    }
    let (root, changes) = trie.commit();
    table.apply(changes, &content);
    let path = *table
        .stored
        .lock()
        .unwrap()
        .keys()
        .find(|p| p.len() == 1)
        .unwrap();
    let swapped = (vec![0xc0], 32);
    table.stored.lock().unwrap().insert(path, swapped);
    trie.reset(root);
    let errors = (0u8..32)
        .filter(|i| trie.get(&table, keccak256([*i])).is_err())
        .count();
    assert!(errors > 0);
    table.stored.lock().unwrap().remove(&path);
    trie.reset(root);
    let error = (0u8..32)
        .find_map(|i| trie.get(&table, keccak256([i])).err())
        .unwrap();
    assert!(error.to_string().contains("missing node"), "{error}");
}
