//! Real OP Sepolia blocks reproduce their hashes through our executor and our trie.
//!
//! The blocks (Holocene; 10 to 48 transactions, up to 24 Mgas, deposits included) come with the
//! `kona-executor` 0.4.0 crate: each archive holds the parent header, the payload, the expected
//! hash, and every trie node, code and header that execution needs, in a `RocksDB` directory. Cargo
//! downloads the crate, nothing of it is compiled: `cargo info` unpacks it into the registry.
#![allow(clippy::unwrap_used, reason = "tests")]

mod rocks;

use alloy_consensus::{Header, Sealable};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_op_hardforks::OpChainHardforks;
use alloy_primitives::{Address, B64, B256, Bytes, KECCAK256_EMPTY, U64, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use openledger_rollup::{
    Error, Result,
    block::Transaction,
    exec::{BlockInputs, NoCandidates, execute, seal},
    spec::ChainSpec,
    state::StateTrie,
    trie::NodeSource,
};
use revm::{DatabaseRef, bytecode::Bytecode, state::AccountInfo};
use serde::Deserialize;
use std::{
    cell::RefCell,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

const FETCH: &str = "cargo info --registry crates-io kona-executor@0.4.0";

/// The archives, or a failure that says how to get them.
fn archives() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"),
        PathBuf::from,
    );
    let sources = home.join("registry").join("src");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&sources)
        .into_iter()
        .flatten()
        .flatten()
        .map(|registry| registry.path().join("kona-executor-0.4.0").join("testdata"))
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().ends_with(".tar.gz"))
        .collect();
    found.sort();
    assert!(
        !found.is_empty(),
        "the OP Sepolia blocks are not under {}; fetch them with:\n    {FETCH}",
        sources.display()
    );
    found
}

#[derive(Deserialize)]
struct Fixture {
    parent_header: Header,
    executing_payload: Payload,
    expected_block_hash: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    timestamp: U64,
    prev_randao: B256,
    suggested_fee_recipient: Address,
    parent_beacon_block_root: B256,
    transactions: Vec<Bytes>,
    gas_limit: U64,
    eip1559_params: B64,
}

/// Preimages by hash, with the tries that open over them.
struct Witness {
    preimages: HashMap<B256, Vec<u8>>,
    trie: RefCell<StateTrie>,
    parent: (u64, B256),
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Witness({})", self.preimages.len())
    }
}

/// Nodes come by hash, whatever their path.
struct Nodes<'a>(&'a HashMap<B256, Vec<u8>>);

impl NodeSource for Nodes<'_> {
    fn node(&self, _: Option<B256>, _: &Nibbles, hash: B256) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&hash).cloned())
    }
}

impl Witness {
    fn preimage(&self, hash: B256) -> Result<&[u8]> {
        let missing = || Error::Unknown {
            what: "preimage",
            id: hash.to_string(),
        };
        self.preimages
            .get(&hash)
            .map(Vec::as_slice)
            .ok_or_else(missing)
    }
}

impl DatabaseRef for Witness {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>> {
        let nodes = Nodes(&self.preimages);
        let account = self.trie.borrow_mut().account(&nodes, keccak256(address))?;
        Ok(account.map(|a| AccountInfo {
            balance: a.balance,
            nonce: a.nonce,
            code_hash: a.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        Ok(Bytecode::new_raw(self.preimage(hash)?.to_vec().into()))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256> {
        let slot = keccak256(slot.to_be_bytes::<32>());
        let nodes = Nodes(&self.preimages);
        self.trie
            .borrow_mut()
            .storage(&nodes, keccak256(address), slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256> {
        let (mut at, mut hash) = self.parent;
        while at > number {
            let header = Header::decode(&mut self.preimage(hash)?).unwrap();
            (at, hash) = (at - 1, header.parent_hash);
        }
        Ok(hash)
    }
}

/// Reads an archive (plain tar despite its name) into the fixture and the preimages.
fn read(archive: &Path) -> (Fixture, HashMap<B256, Vec<u8>>) {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let (mut fixture, mut preimages) = (None, HashMap::new());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("._") {
            continue; // macOS attributes
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let mut keep = |key: &[u8], value: &[u8]| {
            assert_eq!(
                keccak256(value).as_slice(),
                key,
                "{name}: a preimage of another hash"
            );
            preimages.insert(B256::from_slice(key), value.to_vec());
        };
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => fixture = Some(serde_json::from_slice(&bytes).unwrap()),
            Some("log") => rocks::read_log(&bytes, &mut keep),
            Some("sst") => rocks::read_table(&bytes, &mut keep),
            _ => {}
        }
    }
    (fixture.unwrap(), preimages)
}

#[test]
fn all_blocks_reproduce_their_hashes() {
    let archives = archives();
    assert_eq!(archives.len(), 8, "{archives:?}");
    let spec = ChainSpec::new(
        11_155_420,
        BaseFeeParams::optimism_sepolia_canyon(),
        OpChainHardforks::op_sepolia(),
    );
    for archive in archives {
        let (fixture, preimages) = read(&archive);
        let (parent, payload) = (fixture.parent_header, fixture.executing_payload);
        let parent_hash = parent.hash_slow();
        let timestamp = payload.timestamp.to::<u64>();
        let inputs = BlockInputs {
            timestamp,
            beneficiary: payload.suggested_fee_recipient,
            prev_randao: payload.prev_randao,
            gas_limit: payload.gas_limit.to::<u64>(),
            parent_beacon_block_root: Some(payload.parent_beacon_block_root),
            extra_data: spec
                .extra_data(timestamp, Some(payload.eip1559_params), None)
                .unwrap(),
        };
        let transactions: Vec<_> = payload
            .transactions
            .into_iter()
            .map(|bytes| Arc::new(Transaction::decode(bytes).unwrap()))
            .collect();
        assert!(transactions[0].is_deposit());
        let witness = Witness {
            preimages,
            trie: RefCell::new(StateTrie::new(parent.state_root)),
            parent: (parent.number, parent_hash),
        };
        let result = execute(
            &spec,
            &parent,
            parent_hash,
            &inputs,
            &witness,
            &transactions,
            &mut NoCandidates,
        )
        .unwrap();
        let tries = witness
            .trie
            .borrow_mut()
            .apply(&Nodes(&witness.preimages), &result.changes)
            .unwrap();
        let header = seal(
            &spec,
            &parent,
            parent_hash,
            &inputs,
            &result,
            tries.root,
            EMPTY_ROOT_HASH,
        )
        .unwrap()
        .seal_slow();
        assert_eq!(
            header.hash(),
            fixture.expected_block_hash,
            "{archive:?}: {header:#?}"
        );
    }
}
