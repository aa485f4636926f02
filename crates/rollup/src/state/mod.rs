//! World state: what a block changed, the tries over it, and its flat tables.
//!
//! The flat tables are keyed by hashed address and hashed slot, as the tries are: execution pays
//! one keccak256 per first touch, and in return one copy of the state serves execution, proofs and
//! recomputing the root by a single ordered scan.

#[cfg(feature = "std")]
mod history;
mod overlay;
#[cfg(feature = "std")]
mod tables;
#[cfg(feature = "std")]
mod view;

#[cfg(feature = "std")]
pub(crate) use history::{prune_history, rewind_tables};
#[cfg(feature = "std")]
pub use history::{reverse_to, unwind};
pub use overlay::Overlay;
#[cfg(all(test, feature = "std"))]
pub(crate) use tables::put_account;
#[cfg(feature = "std")]
pub use tables::{account, append, recompute_root};
#[cfg(feature = "std")]
pub use view::View;

use crate::{
    error::{Error, Result},
    trie::{NodeChanges, NodeSource, Trie},
};
use alloc::{collections::BTreeMap, vec::Vec};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256, map::HashMap};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use revm::database::BundleState;

/// The account fields that execution changes; the storage root follows from the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFields {
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// keccak256 of the code.
    pub code_hash: B256,
}

/// What happened to one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountChange {
    /// The fields afterwards; `None` when the account is gone.
    pub fields: Option<AccountFields>,
    /// Whether the storage was cleared before `storage` was written.
    pub wiped: bool,
    /// `keccak(slot) -> value afterwards`, zero for cleared slots.
    pub storage: BTreeMap<B256, U256>,
}

/// What a block changed, by hashed address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// Changed accounts.
    pub accounts: BTreeMap<B256, AccountChange>,
    /// New code by its hash.
    pub codes: BTreeMap<B256, Bytes>,
}

impl StateChanges {
    /// Takes the net changes out of revm's bundle.
    #[must_use]
    pub fn from_bundle(bundle: &BundleState) -> Self {
        let mut changes = Self::default();
        for (address, account) in &bundle.state {
            if account.status.is_not_modified() {
                continue;
            }
            let wiped = account.was_destroyed();
            let storage = account
                .storage
                .iter()
                .filter(|(_, slot)| wiped || slot.is_changed())
                .map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), value.present_value))
                .collect::<BTreeMap<_, _>>();
            if storage.is_empty() && !wiped && !account.is_info_changed() {
                continue;
            }
            let fields = account.info.as_ref().map(|info| AccountFields {
                nonce: info.nonce,
                balance: info.balance,
                code_hash: info.code_hash,
            });
            changes.accounts.insert(
                keccak256(address),
                AccountChange {
                    fields,
                    wiped,
                    storage,
                },
            );
        }
        for (hash, code) in &bundle.contracts {
            if !code.is_empty() {
                changes.codes.insert(*hash, code.original_bytes());
            }
        }
        changes
    }
}

/// The trie nodes and accounts that follow from [`StateChanges`].
#[derive(Debug, Clone, Default)]
pub struct TrieChanges {
    /// State root afterwards.
    pub root: B256,
    /// The accounts of [`StateChanges`] as trie leaves.
    pub accounts: BTreeMap<B256, AccountLeaf>,
    /// Account-trie nodes.
    pub account_nodes: NodeChanges,
    /// Storage-trie nodes by hashed address.
    pub storage_nodes: BTreeMap<B256, NodeChanges>,
}

/// RLP of an account before and after a change, each empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountLeaf {
    /// Before.
    pub before: Vec<u8>,
    /// After.
    pub after: Vec<u8>,
}

/// A changed account on its way into the trie.
struct Entering {
    fields: AccountFields,
    /// `None` where the storage is as it was.
    storage_root: Option<B256>,
    leaf: AccountLeaf,
}

impl Entering {
    /// The leaf's value after `old`.
    fn encode(&mut self, old: Option<&[u8]>) -> Result<Vec<u8>> {
        let storage_root = match (self.storage_root, old) {
            (Some(root), _) => root,
            (None, Some(old)) => decode_account(old)?.storage_root,
            (None, None) => EMPTY_ROOT_HASH,
        };
        let AccountFields {
            nonce,
            balance,
            code_hash,
        } = self.fields;
        let account = TrieAccount::new(nonce, balance, storage_root, code_hash);
        self.leaf.before = old.unwrap_or_default().to_vec();
        self.leaf.after = alloy_rlp::encode(account);
        Ok(self.leaf.after.clone())
    }
}

/// The account trie and the storage tries in use.
#[derive(Debug)]
pub struct StateTrie {
    accounts: Trie,
    storages: HashMap<B256, (Trie, u32)>,
    clock: u32,
}

impl StateTrie {
    /// A trie over the stored state with root `root`.
    #[must_use]
    pub fn new(root: B256) -> Self {
        Self {
            accounts: Trie::new(None, root),
            storages: HashMap::default(),
            clock: 0,
        }
    }

    /// Forgets what is in memory and continues from the stored `root`: after a block was
    /// discarded, or the stored state was unwound.
    pub fn reset(&mut self, root: B256) {
        *self = Self {
            clock: self.clock,
            ..Self::new(root)
        };
        self.accounts.set_clock(self.clock);
    }

    /// Applies a block's changes on top of everything applied before and hashes.
    ///
    /// # Errors
    /// When a node cannot be read; the trie must then be [`StateTrie::reset`].
    pub fn apply<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        changes: &StateChanges,
    ) -> Result<TrieChanges> {
        self.clock += 1;
        self.accounts.set_clock(self.clock);
        let mut out = TrieChanges::default();
        let mut leaves = Vec::with_capacity(changes.accounts.len());
        let mut gone = Vec::new();
        for (hashed, change) in &changes.accounts {
            let Some(fields) = change.fields else {
                // The caller clears the stored nodes of a wiped account by its key prefix.
                self.storages.remove(hashed);
                gone.push(*hashed);
                continue;
            };
            let storage_root = if change.wiped || !change.storage.is_empty() {
                Some(self.apply_storage(source, *hashed, change, &mut out.storage_nodes)?)
            } else {
                None
            };
            leaves.push((
                *hashed,
                Entering {
                    fields,
                    storage_root,
                    leaf: AccountLeaf::default(),
                },
            ));
        }
        self.accounts
            .set_all(source, &mut leaves, Entering::encode)?;
        // Last: what is new may keep a branch that would otherwise fall together, which takes its
        // other child; a witness need not have that.
        let leaves = leaves
            .into_iter()
            .map(|(hashed, entering)| (hashed, entering.leaf));
        out.accounts = leaves.collect();
        for hashed in gone {
            let leaf = AccountLeaf {
                before: self.accounts.get(source, hashed)?.unwrap_or_default(),
                after: Vec::new(),
            };
            self.accounts.set(source, hashed, Vec::new())?;
            out.accounts.insert(hashed, leaf);
        }
        (out.root, out.account_nodes) = self.accounts.commit();
        Ok(out)
    }

    /// The storage root of an account after its slots changed.
    fn apply_storage<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        hashed: B256,
        change: &AccountChange,
        nodes: &mut BTreeMap<B256, NodeChanges>,
    ) -> Result<B256> {
        let before = match self.account(source, hashed)? {
            Some(account) if !change.wiped => account.storage_root,
            _ => EMPTY_ROOT_HASH,
        };
        if change.wiped {
            self.storages.remove(&hashed);
        }
        if change.storage.is_empty() {
            return Ok(before);
        }
        let clock = self.clock;
        let (trie, touched) = self
            .storages
            .entry(hashed)
            .or_insert_with(|| (Trie::new(Some(hashed), before), clock));
        *touched = clock;
        trie.set_clock(clock);
        let (cleared, mut written): (Vec<_>, Vec<_>) = change
            .storage
            .iter()
            .map(|(slot, value)| (*slot, *value))
            .partition(|(_, value)| value.is_zero());
        trie.set_all(source, &mut written, |value, _| {
            Ok(alloy_rlp::encode(*value))
        })?;
        // Last, as for accounts.
        for (slot, _) in cleared {
            trie.set(source, slot, Vec::new())?;
        }
        let (root, changed) = trie.commit();
        nodes.insert(hashed, changed);
        Ok(root)
    }

    /// The account at `hashed` as the trie has it.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub fn account<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        hashed: B256,
    ) -> Result<Option<TrieAccount>> {
        self.accounts
            .get(source, hashed)?
            .map(|leaf| decode_account(&leaf))
            .transpose()
    }

    /// A storage value as the trie has it.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub fn storage<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        hashed: B256,
        slot: B256,
    ) -> Result<U256> {
        let Some(trie) = self.storage_trie(source, hashed)? else {
            return Ok(U256::ZERO);
        };
        trie.get(source, slot)?
            .map_or(Ok(U256::ZERO), |leaf| decode_value(&leaf))
    }

    /// Proves an account and some of its slots (EIP-1186).
    ///
    /// # Errors
    /// When a node cannot be read.
    pub fn proof<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        address: Address,
        slots: &[B256],
    ) -> Result<AccountProof> {
        let hashed = keccak256(address);
        let (leaf, nodes) = self.accounts.proof(source, hashed)?;
        let account = leaf.map(|leaf| decode_account(&leaf)).transpose()?;
        let mut storage = Vec::with_capacity(slots.len());
        for slot in slots {
            storage.push(match self.storage_trie(source, hashed)? {
                Some(trie) => {
                    let (leaf, nodes) = trie.proof(source, keccak256(slot))?;
                    (
                        leaf.map_or(Ok(U256::ZERO), |leaf| decode_value(&leaf))?,
                        nodes,
                    )
                }
                None => (U256::ZERO, Vec::new()),
            });
        }
        Ok(AccountProof {
            account,
            nodes,
            storage,
        })
    }

    fn storage_trie<S: NodeSource + ?Sized>(
        &mut self,
        source: &S,
        hashed: B256,
    ) -> Result<Option<&mut Trie>> {
        if !self.storages.contains_key(&hashed) {
            let Some(account) = self.account(source, hashed)? else {
                return Ok(None);
            };
            let trie = Trie::new(Some(hashed), account.storage_root);
            self.storages.insert(hashed, (trie, self.clock));
        }
        Ok(self.storages.get_mut(&hashed).map(|(trie, _)| trie))
    }

    /// Bounds memory: when more than `keep` nodes are loaded, drops what the last `age` blocks did
    /// not touch, and where those alone touched more, what half as many did not, and so on. Only
    /// call when everything applied is stored. Walks the loaded nodes, so do it now and then, not
    /// for every block. Returns the number of nodes that stay.
    pub fn prune(&mut self, age: u32, keep: usize) -> usize {
        let mut loaded = self.drop_before(0);
        let mut age = age;
        while loaded > keep {
            loaded = self.drop_before((self.clock + 1).saturating_sub(age));
            if age == 0 {
                break;
            }
            age /= 2;
        }
        loaded
    }

    /// Drops nodes last touched before `cutoff`, and returns how many stay.
    fn drop_before(&mut self, cutoff: u32) -> usize {
        let mut loaded = self.accounts.prune(cutoff);
        self.storages.retain(|_, (trie, touched)| {
            let stay = *touched >= cutoff;
            if stay {
                loaded += trie.prune(cutoff);
            }
            stay
        });
        loaded
    }
}

/// A Merkle proof of an account and some slots.
#[derive(Debug, Clone)]
pub struct AccountProof {
    /// The account, `None` when the proof shows its absence.
    pub account: Option<TrieAccount>,
    /// Encoded account-trie nodes from the root down.
    pub nodes: Vec<Bytes>,
    /// Value and encoded storage-trie nodes of each slot asked for.
    pub storage: Vec<(U256, Vec<Bytes>)>,
}

/// An account as it is before anything happened to it.
pub(crate) const fn code_or_empty(hash: B256) -> Option<B256> {
    if hash.const_eq(&KECCAK256_EMPTY) {
        None
    } else {
        Some(hash)
    }
}

pub(crate) fn decode_account(mut leaf: &[u8]) -> Result<TrieAccount> {
    TrieAccount::decode(&mut leaf).map_err(|e| Error::corrupt("account", e))
}

pub(crate) fn decode_value(mut leaf: &[u8]) -> Result<U256> {
    U256::decode(&mut leaf).map_err(|e| Error::corrupt("storage value", e))
}

/// The trie leaf of a storage value; nothing for zero, which is not in the trie.
#[cfg(feature = "std")]
pub(crate) fn encode_value(value: U256) -> Vec<u8> {
    if value.is_zero() {
        Vec::new()
    } else {
        alloy_rlp::encode(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kv::{Batch, MemoryStore, Snapshot, Store, Table};
    use proptest::prelude::*;
    use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

    type Block = Vec<(u8, Option<u64>, bool, Vec<(u8, u8)>)>;

    /// Accounts that come, go, are wiped and come back, with a few slots each.
    fn blocks() -> impl Strategy<Value = Vec<Block>> {
        let slots = proptest::collection::vec((0u8..12, 0u8..3), 0..6);
        let change = (
            0u8..8,
            proptest::option::weighted(0.8, 0u64..3),
            any::<bool>(),
            slots,
        );
        proptest::collection::vec(proptest::collection::vec(change, 0..5), 1..12)
    }

    fn changes(block: &Block) -> StateChanges {
        let mut changes = StateChanges::default();
        for (account, nonce, wiped, slots) in block {
            let fields = nonce.map(|nonce| AccountFields {
                nonce,
                balance: U256::from(1),
                code_hash: KECCAK256_EMPTY,
            });
            let storage = match fields {
                None => BTreeMap::new(),
                Some(_) => slots
                    .iter()
                    .map(|(s, v)| {
                        (
                            keccak256(U256::from(*s).to_be_bytes::<32>()),
                            U256::from(*v),
                        )
                    })
                    .collect(),
            };
            let change = AccountChange {
                fields,
                wiped: *wiped || fields.is_none(),
                storage,
            };
            changes
                .accounts
                .insert(keccak256(Address::with_last_byte(*account)), change);
        }
        changes
    }

    /// Nonces, and slots that are not zero, of accounts.
    type Model = BTreeMap<u8, (u64, BTreeMap<u8, u8>)>;

    fn follow(model: &mut Model, block: &Block) {
        // Of an account that is there twice the last change counts.
        let last: BTreeMap<_, _> = block.iter().map(|change| (change.0, change)).collect();
        for (account, (_, nonce, wiped, slots)) in last {
            let Some(nonce) = nonce else {
                model.remove(&account);
                continue;
            };
            let (now, storage) = model.entry(account).or_default();
            *now = *nonce;
            if *wiped {
                storage.clear();
            }
            storage.extend(slots.iter().copied());
            storage.retain(|_, value| *value != 0);
        }
    }

    /// The blocks that there is history of.
    fn history(snapshot: &dyn Snapshot) -> BTreeSet<u64> {
        let mut blocks = BTreeSet::new();
        for table in [Table::AccountHistory, Table::StorageHistory, Table::Changes] {
            let all = (&[][..], &[u8::MAX; 80][..]);
            let mut see = |key: &[u8], _: &[u8]| {
                let number = key.last_chunk().unwrap();
                blocks.insert(u64::from_be_bytes(*number));
                Ok(ControlFlow::Continue(()))
            };
            snapshot.scan(table, all.0, all.1, &mut see).unwrap();
        }
        blocks
    }

    fn holds(view: &View, model: &Model) -> bool {
        (0u8..8).all(|account| {
            let address = Address::with_last_byte(account);
            let (nonce, storage) = match model.get(&account) {
                Some((nonce, storage)) => (Some(*nonce), storage),
                None => (None, &BTreeMap::new()),
            };
            let slot = |slot| view.storage_at(address, U256::from(slot)).unwrap();
            view.account(address).unwrap().map(|a| a.nonce) == nonce
                && (0u8..12).all(|s| slot(s) == U256::from(storage.get(&s).copied().unwrap_or(0)))
        })
    }

    proptest! {
        /// Whatever is dropped from memory between blocks, the incremental root is the rebuilt
        /// one; and reversing all blocks at once, or one by one, leads back to the empty state. The
        /// state after every block is what a plain map has, also when later blocks were taken back,
        /// and from a block on also when the history up to it was pruned.
        #[test]
        fn roots_survive_pruning_and_reversal(
            blocks in blocks(),
            age in 0u32..3,
            keep in 0usize..30,
            oldest in 0u64..12,
            keys in 0usize..8,
        ) {
            let store = MemoryStore::default();
            let mut trie = StateTrie::new(EMPTY_ROOT_HASH);
            let mut roots = vec![EMPTY_ROOT_HASH];
            let mut models = vec![Model::new()];
            for (number, block) in (1u64..).zip(&blocks) {
                let (snapshot, changes) = (store.snapshot().unwrap(), changes(block));
                let tries = trie.apply(&*snapshot, &changes).unwrap();
                let mut batch = Batch::default();
                append(&mut batch, &*snapshot, number, &changes, &tries).unwrap();
                store.commit(batch).unwrap();
                let loaded = trie.prune(age, keep);
                prop_assert!(loaded <= keep, "{} of at most {} nodes stay", loaded, keep);
                prop_assert_eq!(recompute_root(&*store.snapshot().unwrap()).unwrap(), tries.root);
                roots.push(tries.root);
                let mut model = models.last().unwrap().clone();
                follow(&mut model, block);
                models.push(model);
            }
            let head = u64::try_from(blocks.len()).unwrap();
            let snapshot = store.snapshot().unwrap();
            for (target, root) in (0u64..).zip(&roots) {
                let back = reverse_to(&*snapshot, head, target).unwrap();
                let mut fresh = StateTrie::new(*roots.last().unwrap());
                prop_assert_eq!(fresh.apply(&*snapshot, &back).unwrap().root, *root);
            }
            let all_hold = |(oldest, head): (u64, u64)| {
                let snapshot = store.snapshot().unwrap();
                let models = (0..=head).zip(&models).skip_while(|(n, _)| *n < oldest);
                holds(&View::latest(Arc::clone(&snapshot)), models.clone().last().unwrap().1)
                    && models.into_iter().all(|(n, model)| holds(&View::at(Arc::clone(&snapshot), n), model))
            };
            prop_assert!(all_hold((0, head)));
            let oldest = oldest.min(head);
            let mut pruned = 0;
            while pruned < oldest {
                let snapshot = store.snapshot().unwrap();
                let mut batch = Batch::default();
                let to = prune_history(&mut batch, &*snapshot, (pruned, oldest), keys).unwrap();
                prop_assert!(to >= oldest.min(pruned + 2), "{} after {}", to, pruned);
                prop_assert!(batch.len() <= keys.max(5 * 13 * 2 + 2) + 5 * 13 + 12, "{} rows", batch.len());
                store.commit(batch).unwrap();
                pruned = to;
            }
            let first = history(&*store.snapshot().unwrap()).first().copied();
            prop_assert!(first.is_none_or(|first| first > oldest), "history of {:?}", first);
            prop_assert!(all_hold((oldest, head)), "pruned up to block {}", oldest);
            for number in (oldest + 1..=head).rev() {
                let root = roots[usize::try_from(number - 1).unwrap()];
                let snapshot = store.snapshot().unwrap();
                let mut batch = Batch::default();
                let back = unwind(&mut batch, &*snapshot, number).unwrap();
                let tries = trie.apply(&*snapshot, &back).unwrap();
                rewind_tables(&mut batch, &*snapshot, number, &back, &tries).unwrap();
                store.commit(batch).unwrap();
                prop_assert_eq!(tries.root, root);
                prop_assert_eq!(recompute_root(&*store.snapshot().unwrap()).unwrap(), root);
                prop_assert!(all_hold((oldest, number - 1)), "after block {} was taken back", number);
            }
            prop_assert!(history(&*store.snapshot().unwrap()).is_empty());
        }
    }
}
