//! A block's changes on top of the state that it is executed on.
//!
//! revm's `State` keeps, for every account, what each transaction changed and how to take it back.
//! A block here is kept or dropped as a whole, so what was read, next to what it is now, is enough:
//! its differences are the block's [`StateChanges`]. Executing transfers takes two thirds of the
//! time that it takes with `State`, which the tests hold this against.

use super::{AccountChange, AccountFields, StateChanges, code_or_empty};
use crate::error::{Error, Result};
use alloc::{collections::BTreeMap, vec::Vec};
use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, HashMap, hash_map},
};
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    bytecode::Bytecode,
    state::{Account, AccountInfo},
};

/// A value as it was read, and as it is now.
#[derive(Debug, Clone, Copy)]
struct Slot {
    before: U256,
    now: U256,
}

/// An account as it was read, and as it is now.
#[derive(Debug)]
struct Entry {
    before: Option<AccountInfo>,
    now: Option<AccountInfo>,
    /// Whether the storage was cleared, so that slots which are not here are zero.
    wiped: bool,
    /// Whether the account was created in this block, so that it had no storage.
    created: bool,
    slots: HashMap<U256, Slot>,
}

/// A state that remembers what is done to it, over a `base` that stays as it is.
#[derive(Debug)]
pub struct Overlay<DB> {
    base: DB,
    accounts: AddressMap<Entry>,
    codes: B256Map<Bytecode>,
    /// An account that was changed without having been read.
    unread: Option<Address>,
}

impl<DB: DatabaseRef<Error = Error>> Overlay<DB> {
    /// Nothing changed yet.
    pub fn new(base: DB) -> Self {
        Self {
            base,
            accounts: AddressMap::default(),
            codes: B256Map::default(),
            unread: None,
        }
    }

    /// What is different from the base.
    ///
    /// # Errors
    /// When an account was changed that was never read: its difference is not known.
    pub fn into_changes(self) -> Result<StateChanges> {
        if let Some(address) = self.unread {
            return Err(Error::corrupt(
                "execution",
                format_args!("{address} was changed without being read"),
            ));
        }
        let mut codes = BTreeMap::new();
        let mut accounts: Vec<_> = self
            .accounts
            .into_iter()
            .filter_map(|(address, entry)| {
                let wiped = entry.wiped;
                let storage: BTreeMap<B256, U256> = entry
                    .slots
                    .iter()
                    .filter(|(_, slot)| wiped || slot.now != slot.before)
                    .map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), value.now))
                    .collect();
                if storage.is_empty() && !wiped && entry.now == entry.before {
                    return None;
                }
                let fields = entry.now.as_ref().map(|info| AccountFields {
                    nonce: info.nonce,
                    balance: info.balance,
                    code_hash: info.code_hash,
                });
                let old = entry.before.map_or(KECCAK256_EMPTY, |info| info.code_hash);
                if let Some(hash) = entry.now.map(|info| info.code_hash)
                    && hash != old
                    && code_or_empty(hash).is_some()
                    && let Some(code) = self.codes.get(&hash)
                {
                    codes.insert(hash, code.original_bytes());
                }
                let change = AccountChange {
                    fields,
                    wiped,
                    storage,
                };
                Some((keccak256(address), change))
            })
            .collect();
        accounts.sort_unstable_by_key(|(hashed, _)| *hashed);
        Ok(StateChanges {
            accounts: accounts.into_iter().collect(),
            codes,
        })
    }
}

/// The account at `address`, read where it was not before.
fn entry<'a, DB: DatabaseRef<Error = Error>>(
    accounts: &'a mut AddressMap<Entry>,
    base: &DB,
    address: Address,
) -> Result<&'a mut Entry> {
    match accounts.entry(address) {
        hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        hash_map::Entry::Vacant(place) => {
            let info = base.basic_ref(address)?;
            Ok(place.insert(Entry {
                before: info.clone(),
                now: info,
                wiped: false,
                created: false,
                slots: HashMap::default(),
            }))
        }
    }
}

impl<DB: DatabaseRef<Error = Error>> Database for Overlay<DB> {
    type Error = Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>> {
        Ok(entry(&mut self.accounts, &self.base, address)?.now.clone())
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode> {
        match self.codes.entry(hash) {
            hash_map::Entry::Occupied(code) => Ok(code.get().clone()),
            hash_map::Entry::Vacant(place) => {
                Ok(place.insert(self.base.code_by_hash_ref(hash)?).clone())
            }
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256> {
        let entry = entry(&mut self.accounts, &self.base, address)?;
        if let Some(slot) = entry.slots.get(&slot) {
            return Ok(slot.now);
        }
        if entry.wiped || entry.created || entry.now.is_none() {
            return Ok(U256::ZERO);
        }
        let value = self.base.storage_ref(address, slot)?;
        let read = Slot {
            before: value,
            now: value,
        };
        entry.slots.insert(slot, read);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256> {
        self.base.block_hash_ref(number)
    }
}

impl<DB: DatabaseRef<Error = Error>> DatabaseCommit for Overlay<DB> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        self.commit_iter(&mut changes.into_iter());
    }

    fn commit_iter(&mut self, changes: &mut dyn Iterator<Item = (Address, Account)>) {
        for (address, account) in changes.filter(|(_, account)| account.is_touched()) {
            let Some(entry) = self.accounts.get_mut(&address) else {
                self.unread = Some(address);
                continue;
            };
            // Destroyed (only in the transaction that created it, EIP-6780), or touched and empty
            // (EIP-161): gone, with its storage.
            let empty = account.is_empty() && !account.is_created();
            if account.is_selfdestructed() || empty {
                entry.now = None;
                entry.wiped |= entry.before.is_some();
                entry.slots.clear();
                continue;
            }
            if account.is_created() {
                entry.created = true;
                entry.slots.clear();
            }
            let hash = account.info.code_hash;
            if let Some(code) = &account.info.code
                && code_or_empty(hash).is_some()
            {
                self.codes.entry(hash).or_insert_with(|| code.clone());
            }
            entry.now = Some(account.info);
            for (key, slot) in account.storage {
                if slot.present_value != slot.original_value {
                    let known = entry.slots.entry(key).or_insert(Slot {
                        before: slot.original_value,
                        now: slot.original_value,
                    });
                    known.now = slot.present_value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use alloy_primitives::Bytes;
    use proptest::prelude::*;
    use revm::{
        database::{State, states::bundle_state::BundleRetention},
        state::{AccountStatus, EvmStorageSlot},
    };

    /// Accounts 0 to 3 have coins, 2 and 3 code and storage as well, 4 is empty and there, the
    /// others are not.
    #[derive(Debug)]
    struct Base;

    fn code(n: u8) -> Bytecode {
        Bytecode::new_legacy(Bytes::from(vec![n; 3]))
    }

    fn address(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    impl DatabaseRef for Base {
        type Error = Error;

        fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>> {
            Ok(match address[0] {
                n @ 0..4 => Some(AccountInfo {
                    balance: U256::from(100),
                    nonce: 1,
                    code_hash: if n >= 2 {
                        code(n).hash_slow()
                    } else {
                        KECCAK256_EMPTY
                    },
                    ..AccountInfo::default()
                }),
                4 => Some(AccountInfo::default()),
                _ => None,
            })
        }

        fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode> {
            let mut known = (2..4).map(code);
            Ok(known.find(|code| code.hash_slow() == hash).unwrap())
        }

        fn storage_ref(&self, address: Address, index: U256) -> Result<U256> {
            let there = (2..4).contains(&address[0]) && index < U256::from(3);
            Ok(if there { U256::from(7) } else { U256::ZERO })
        }

        fn block_hash_ref(&self, number: u64) -> Result<B256> {
            Ok(B256::with_last_byte(number as u8))
        }
    }

    /// What a transaction does to an account.
    #[derive(Debug, Clone)]
    enum Deed {
        Read,
        Touch,
        Pay(u8),
        Empty,
        Store(Vec<(u8, u8)>),
        Create {
            code: u8,
            slots: Vec<(u8, u8)>,
            destroyed: bool,
        },
        Delegate(u8),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let slots = || proptest::collection::vec((0u8..5, 0u8..3), 0..4);
        prop_oneof![
            Just(Deed::Read),
            Just(Deed::Touch),
            (1u8..9).prop_map(Deed::Pay),
            Just(Deed::Empty),
            slots().prop_map(Deed::Store),
            (10u8..14, slots(), any::<bool>()).prop_map(|(code, slots, destroyed)| {
                Deed::Create {
                    code,
                    slots,
                    destroyed,
                }
            }),
            (20u8..23).prop_map(Deed::Delegate),
        ]
    }

    /// The account after a deed, as the EVM gives it: made of what `db` says.
    fn done<DB: Database<Error: core::fmt::Debug>>(
        db: &mut DB,
        who: Address,
        deed: &Deed,
    ) -> Account {
        let before = db.basic(who).unwrap();
        let mut account = match before {
            Some(info) => Account::from(info),
            None => Account::new_not_existing(0),
        };
        let mut slots: &[(u8, u8)] = &[];
        match deed {
            Deed::Read => return account,
            Deed::Touch => {}
            Deed::Pay(amount) => account.info.balance += U256::from(*amount),
            Deed::Empty => {
                if account.info.code_hash == KECCAK256_EMPTY {
                    account.info = AccountInfo::default();
                }
            }
            Deed::Store(writes) => {
                // Only contracts have storage.
                if account.info.code_hash != KECCAK256_EMPTY {
                    slots = writes;
                }
            }
            Deed::Create {
                code: n,
                slots: writes,
                destroyed,
            } => {
                if account.info.code_hash != KECCAK256_EMPTY || account.info.nonce > 0 {
                    return account;
                }
                account.status |= AccountStatus::Created;
                account.info.nonce = 1;
                account.info.set_code(code(*n));
                slots = writes;
                if *destroyed {
                    account.status |= AccountStatus::SelfDestructed;
                }
            }
            Deed::Delegate(n) => {
                if account.info.code_hash == KECCAK256_EMPTY {
                    account.info.nonce += 1;
                    account.info.set_code(code(*n));
                }
            }
        }
        account.mark_touch();
        for (slot, value) in slots {
            let slot = U256::from(*slot);
            let original = if account.is_created() {
                U256::ZERO
            } else {
                db.storage(who, slot).unwrap()
            };
            let mut entry = EvmStorageSlot::new(original, 0);
            entry.present_value = U256::from(*value);
            account.storage.insert(slot, entry);
        }
        account
    }

    /// Without what changes nothing: slots written back, and removing what was not there.
    fn essence(mut changes: StateChanges) -> StateChanges {
        let there: BTreeMap<B256, u8> = (0..5).map(|n| (keccak256(address(n)), n)).collect();
        changes.accounts.retain(|hashed, change| {
            if change.wiped {
                change.storage.retain(|_, value| !value.is_zero());
            }
            let known = there.get(hashed);
            // Nothing is cleared where there was nothing.
            change.wiped &= known.is_some();
            known.is_some() || change.fields.is_some()
        });
        changes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever transactions do, reads in between and the changes at the end are those of
        /// revm's own `State`.
        #[test]
        fn agrees_with_revm(
            block in proptest::collection::vec(
                proptest::collection::btree_map(0u8..8, deed(), 1..5), 1..8),
        ) {
            let mut state = State::builder().with_database_ref(Base).with_bundle_update().build();
            let mut overlay = Overlay::new(Base);
            for transaction in &block {
                let mut changes = AddressMap::default();
                let mut same = AddressMap::default();
                for (n, deed) in transaction {
                    let who = address(*n);
                    changes.insert(who, done(&mut state, who, deed));
                    same.insert(who, done(&mut overlay, who, deed));
                }
                prop_assert_eq!(&changes, &same);
                state.commit(changes);
                overlay.commit(same);
                for n in 0..8 {
                    let (a, b) = (state.basic(address(n)).unwrap(), overlay.basic(address(n)).unwrap());
                    prop_assert_eq!(&a, &b, "account {}", n);
                    if a.is_some_and(|info| info.code_hash != KECCAK256_EMPTY) {
                        for slot in (0..5).map(U256::from) {
                            let (a, b) = (state.storage(address(n), slot), overlay.storage(address(n), slot));
                            prop_assert_eq!(a.unwrap(), b.unwrap());
                        }
                    }
                }
            }
            state.merge_transitions(BundleRetention::PlainState);
            let expected = StateChanges::from_bundle(&state.take_bundle());
            prop_assert_eq!(essence(overlay.into_changes().unwrap()), essence(expected));
        }
    }

    #[test]
    fn a_change_without_a_read_is_an_error() {
        let mut overlay = Overlay::new(Base);
        let mut account = Account::from(AccountInfo::default());
        account.info.nonce = 1;
        account.mark_touch();
        overlay.commit([(address(1), account)].into_iter().collect());
        let error = overlay.into_changes().unwrap_err().to_string();
        assert!(error.contains("without being read"), "{error}");
    }
}
