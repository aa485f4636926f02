//! The genesis block: a pure function of the `genesis.json` description.

use crate::{
    error::{Error, Result},
    kv::{MemoryStore, Store},
    spec::{ChainSpec, genesis_karst_time},
    state::{AccountChange, AccountFields, StateChanges, StateTrie, TrieChanges},
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Sealable, Sealed};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B64, B256, Bytes, KECCAK256_EMPTY, address, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use op_alloy_consensus::L2_TO_L1_MESSAGE_PASSER_ADDRESS;
use std::collections::BTreeMap;

/// Receiver of priority fees on OP Stack chains.
pub const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");
/// Receiver of base fees.
pub const BASE_FEE_VAULT: Address = address!("4200000000000000000000000000000000000019");
/// Receiver of L1 data fees.
pub const L1_FEE_VAULT: Address = address!("420000000000000000000000000000000000001A");
/// Receiver of operator fees (Isthmus).
pub const OPERATOR_FEE_VAULT: Address = address!("420000000000000000000000000000000000001b");

/// Base fee of the genesis block where the description gives none: 1 gwei.
const DEFAULT_BASE_FEE: u64 = 1_000_000_000;

/// A genesis block with the state it commits to.
#[derive(Debug, Clone)]
pub struct GenesisBlock {
    /// The sealed header.
    pub header: Sealed<Header>,
    /// The allocated accounts.
    pub changes: StateChanges,
    /// Their tries.
    pub tries: TrieChanges,
}

impl GenesisBlock {
    /// Computes the block. Same description, same hash: no clock, no randomness. Where the
    /// description has no extra data, that is [`jovian_extra_data`], or with earlier rules what they
    /// ask for.
    ///
    /// # Errors
    /// When the chain id or `karstTime` differs from the rules', or the header fields are out of range.
    pub fn new(spec: &ChainSpec, genesis: &Genesis) -> Result<Self> {
        if genesis.config.chain_id != spec.chain_id {
            return Err(Error::Genesis(format!(
                "chain id {} in the description, {} in the rules",
                genesis.config.chain_id, spec.chain_id
            )));
        }
        let karst = genesis_karst_time(genesis);
        if karst != spec.karst_time() {
            return Err(Error::Genesis(format!(
                "karstTime {karst:?} in the description, {:?} in the rules",
                spec.karst_time()
            )));
        }
        if genesis.number.unwrap_or_default() != 0 {
            return Err(Error::Genesis(
                "a genesis block above number 0 is not supported".into(),
            ));
        }
        let changes = allocation(genesis);
        let empty = MemoryStore::default().snapshot()?;
        let mut trie = StateTrie::new(EMPTY_ROOT_HASH);
        let tries = trie.apply(&*empty, &changes)?;

        let timestamp = genesis.timestamp;
        let message_passer = keccak256(L2_TO_L1_MESSAGE_PASSER_ADDRESS);
        let message_passer_root = trie
            .account(&*empty, message_passer)?
            .map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        let base_fee = match genesis.base_fee_per_gas {
            None => DEFAULT_BASE_FEE,
            Some(fee) => u64::try_from(fee)
                .map_err(|_| Error::Genesis(format!("base fee {fee} exceeds 64 bits")))?,
        };
        let extra_data = if !genesis.extra_data.is_empty() {
            genesis.extra_data.clone()
        } else if spec.is_jovian(timestamp) {
            jovian_extra_data()
        } else {
            spec.extra_data(timestamp, Some(B64::ZERO), Some(0))?
        };
        let isthmus = spec.is_isthmus(timestamp);
        let header = Header {
            parent_hash: genesis.parent_hash.unwrap_or_default(),
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: genesis.coinbase,
            state_root: tries.root,
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            difficulty: genesis.difficulty,
            gas_limit: genesis.gas_limit,
            timestamp,
            extra_data,
            mix_hash: genesis.mix_hash,
            nonce: genesis.nonce.to_be_bytes().into(),
            base_fee_per_gas: Some(base_fee),
            withdrawals_root: Some(if isthmus && !spec.is_ethereum() {
                message_passer_root
            } else {
                EMPTY_ROOT_HASH
            }),
            blob_gas_used: Some(genesis.blob_gas_used.unwrap_or_default()),
            excess_blob_gas: Some(genesis.excess_blob_gas.unwrap_or_default()),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: isthmus.then_some(EMPTY_REQUESTS_HASH),
            ..Default::default()
        };
        // Reject fee parameters that would only fail when the first block is built.
        spec.next_base_fee(&header)?;
        Ok(Self {
            header: header.seal_slow(),
            changes,
            tries,
        })
    }
}

/// The extra data of a genesis block with Jovian: version 1, denominator 50, elasticity 6, no
/// minimum base fee. op-reth puts just that there, whatever the description says, and op-geth what
/// the description says; so descriptions should say it. It decides the base fee of block 1 alone.
#[must_use]
pub fn jovian_extra_data() -> Bytes {
    Bytes::from_static(&[1, 0, 0, 0, 50, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn allocation(genesis: &Genesis) -> StateChanges {
    let mut changes = StateChanges::default();
    for (address, account) in &genesis.alloc {
        let code_hash = match account.non_empty_code() {
            None => KECCAK256_EMPTY,
            Some(code) => {
                let hash = keccak256(code);
                changes.codes.insert(hash, code.clone());
                hash
            }
        };
        let storage: BTreeMap<_, _> = account
            .storage
            .iter()
            .flatten()
            .filter(|(_, value)| !value.is_zero())
            .map(|(slot, value)| (keccak256(slot), (*value).into()))
            .collect();
        let nonce = account.nonce.unwrap_or_default();
        let fields = AccountFields {
            nonce,
            balance: account.balance,
            code_hash,
        };
        changes.accounts.insert(
            keccak256(address),
            AccountChange {
                fields: Some(fields),
                wiped: false,
                storage,
            },
        );
    }
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use alloy_eips::eip1559::BaseFeeParams;
    use alloy_genesis::GenesisAccount;
    use alloy_primitives::U256;
    use alloy_trie::root::state_root_unhashed;
    use alloy_trie::{TrieAccount, root::storage_root_unhashed};
    use op_alloy_consensus::encode_jovian_extra_data;

    fn genesis() -> Genesis {
        let mut genesis = Genesis {
            gas_limit: 60_000_000,
            ..Default::default()
        };
        genesis.config.chain_id = 7;
        let slot = (B256::with_last_byte(1), B256::with_last_byte(2));
        genesis.alloc.insert(
            Address::with_last_byte(1),
            GenesisAccount::default().with_balance(U256::from(5)),
        );
        genesis.alloc.insert(
            L2_TO_L1_MESSAGE_PASSER_ADDRESS,
            GenesisAccount::default()
                .with_code(Some(Bytes::from_static(&[0])))
                .with_storage(Some([slot].into())),
        );
        genesis
    }

    #[test]
    fn roots_match_alloy_trie_and_the_hash_is_deterministic() {
        let spec = ChainSpec::jovian_at_genesis(7);
        let block = GenesisBlock::new(&spec, &genesis()).unwrap();
        let storage_root = storage_root_unhashed([(B256::with_last_byte(1), U256::from(2))]);
        let root = state_root_unhashed([
            (
                Address::with_last_byte(1),
                TrieAccount {
                    balance: U256::from(5),
                    ..Default::default()
                },
            ),
            (
                L2_TO_L1_MESSAGE_PASSER_ADDRESS,
                TrieAccount {
                    storage_root,
                    code_hash: keccak256([0]),
                    ..Default::default()
                },
            ),
        ]);
        assert_eq!(block.header.state_root, root);
        assert_eq!(block.header.withdrawals_root, Some(storage_root));
        let extra_data = encode_jovian_extra_data(B64::ZERO, BaseFeeParams::optimism(), 0);
        assert_eq!(block.header.extra_data, extra_data.unwrap());
        let again = GenesisBlock::new(&spec, &genesis()).unwrap();
        assert_eq!(again.header.hash(), block.header.hash());
    }

    #[test]
    fn a_foreign_chain_id_or_bad_fee_parameters_are_refused() {
        let error = GenesisBlock::new(&ChainSpec::jovian_at_genesis(8), &genesis()).unwrap_err();
        assert!(error.to_string().contains("chain id 7"), "{error}");
        let bad = Genesis {
            extra_data: Bytes::from_static(&[1, 2]),
            ..genesis()
        };
        assert!(GenesisBlock::new(&ChainSpec::jovian_at_genesis(7), &bad).is_err());
    }
}
