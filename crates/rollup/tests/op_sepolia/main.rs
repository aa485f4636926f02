//! Real OP Sepolia blocks reproduce their hashes from their witnesses, through our executor and our
//! trie.
//!
//! The blocks (Holocene; 10 to 48 transactions, up to 24 Mgas, deposits included) come with the
//! `kona-executor` 0.4.0 crate: each archive holds the parent header, the payload, the expected
//! hash, and every trie node, code and header that execution needs, in a `RocksDB` directory. Cargo
//! downloads the crate, nothing of it is compiled: `cargo info` unpacks it into the registry.
#![allow(clippy::unwrap_used, reason = "tests")]

mod rocks;

use alloy_consensus::{Header, Sealable};
use alloy_primitives::{Address, B64, B256, Bytes, U64, keccak256};
use alloy_trie::Nibbles;
use openledger_rollup::{
    Result,
    block::Transaction,
    exec::BlockInputs,
    spec::ChainSpec,
    trie::{Found, NodeSource},
    witness::{Preimages, replay},
};
use serde::Deserialize;
use std::{
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

/// Preimages by hash.
struct Archive(HashMap<B256, Vec<u8>>);

impl NodeSource for Archive {
    fn node(&self, _: Option<B256>, _: &Nibbles, hash: B256) -> Result<Option<Found>> {
        Ok(self.0.get(&hash).cloned().map(Found::alone))
    }
}

impl Preimages for Archive {
    fn code(&self, hash: B256) -> Result<Option<Bytes>> {
        Ok(self.0.get(&hash).cloned().map(Bytes::from))
    }

    fn header(&self, hash: B256) -> Result<Option<Bytes>> {
        self.code(hash)
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
    let spec = ChainSpec::of_chain(11_155_420);
    for archive in archives {
        let (fixture, preimages) = read(&archive);
        let (parent, payload) = (fixture.parent_header, fixture.executing_payload);
        let parent = parent.seal_slow();
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
        let preimages = Archive(preimages);
        let header = replay(&spec, &parent, &inputs, &transactions, &preimages).unwrap();
        assert_eq!(
            header.hash(),
            fixture.expected_block_hash,
            "{archive:?}: {header:#?}"
        );
    }
}
