//! State tests in the format of `revm-statetest-types` (Ethereum's `GeneralStateTests` and the
//! `state_tests` of the execution-spec tests) on the block executor, by Ethereum's rules.
//!
//! `OPENLEDGER_STATE_TESTS=DIR` names a folder of them, and `--no-capture` shows the counts; without it
//! only the fixture beside this file runs. A case passes if the state root and the hash of the logs
//! afterwards are those that it says. What the executor does not have is counted as skipped: other
//! forks than Prague, and blobs.
//!
//! The format is read here and not by that crate, which would turn on `serde_json/preserve_order`
//! for everything that the tests of this workspace are built with.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, one of which counts"
)]

use alloy_consensus::{Header, SignableTransaction, TxEip1559, TxEip2930, TxLegacy};
use alloy_eips::{Encodable2718, eip2930::AccessList};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_trie::{
    TrieAccount,
    root::{state_root_unhashed, storage_root_unhashed},
};
use op_alloy_consensus::OpTxEnvelope;
use openledger_rollup::{
    Chain, ChainConfig, Error,
    block::Transaction,
    exec::{BlockInputs, NoCandidates, execute},
    spec::ChainSpec,
    state::{StateTrie, View},
};
use revm::{DatabaseRef, bytecode::Bytecode, state::AccountInfo};
use serde::{Deserialize, Deserializer};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The fork that [`ChainSpec::ethereum`] has.
const FORK: &str = "Prague";

const FIXTURE: &str = include_str!("store.json");

#[derive(Debug, Clone, Deserialize)]
struct Unit {
    env: Env,
    pre: BTreeMap<Address, Account>,
    post: BTreeMap<String, Vec<Case>>,
    transaction: Parts,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_gas_limit: U256,
    current_number: U256,
    current_timestamp: U256,
    current_base_fee: Option<U256>,
    current_random: Option<B256>,
    current_excess_blob_gas: Option<U256>,
}

#[derive(Debug, Clone, Deserialize)]
struct Account {
    balance: U256,
    code: Bytes,
    nonce: U256,
    storage: BTreeMap<U256, U256>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    expect_exception: Option<String>,
    indexes: Indexes,
    hash: B256,
    logs: B256,
    txbytes: Option<Bytes>,
    #[serde(default)]
    post_state: BTreeMap<Address, Account>,
}

#[derive(Debug, Clone, Deserialize)]
struct Indexes {
    data: usize,
    gas: usize,
    value: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    data: Vec<Bytes>,
    gas_limit: Vec<U256>,
    value: Vec<U256>,
    nonce: U256,
    #[serde(default, deserialize_with = "maybe_empty")]
    to: Option<Address>,
    secret_key: Option<B256>,
    gas_price: Option<U256>,
    max_fee_per_gas: Option<U256>,
    max_priority_fee_per_gas: Option<U256>,
    #[serde(default)]
    access_lists: Vec<Option<AccessList>>,
    max_fee_per_blob_gas: Option<U256>,
    authorization_list: Option<serde_json::Value>,
}

/// A creation has an empty string for its receiver.
fn maybe_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped(&'static str),
    Failed(String),
}

/// The state before, with the block hashes that state tests have: those of the numbers' digits.
#[derive(Debug)]
struct Before(View);

impl DatabaseRef for Before {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Error> {
        self.0.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Error> {
        self.0.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Error> {
        self.0.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Error> {
        Ok(keccak256(number.to_string()))
    }
}

impl Unit {
    fn genesis(&self) -> Genesis {
        let mut genesis = Genesis {
            gas_limit: 30_000_000,
            ..Genesis::default()
        };
        genesis.config.chain_id = 1;
        for (address, account) in &self.pre {
            let storage = account.storage.iter();
            let storage = storage.map(|(slot, value)| ((*slot).into(), (*value).into()));
            let allocated = GenesisAccount::default()
                .with_nonce(Some(account.nonce.to()))
                .with_balance(account.balance)
                .with_code(Some(account.code.clone()))
                .with_storage(Some(storage.collect()));
            genesis.alloc.insert(*address, allocated);
        }
        genesis
    }

    /// The signed transaction of a case, as the test gives it or made of its parts.
    fn transaction(&self, case: &Case) -> Result<Bytes, &'static str> {
        if let Some(bytes) = &case.txbytes {
            return match bytes.first() {
                Some(3) => Err("blobs"),
                _ => Ok(bytes.clone()),
            };
        }
        let (parts, at) = (&self.transaction, &case.indexes);
        if parts.max_fee_per_blob_gas.is_some() {
            return Err("blobs");
        }
        if parts.authorization_list.is_some() {
            return Err("authorizations without txbytes");
        }
        let key = parts.secret_key.ok_or("neither txbytes nor a key")?;
        let signer = PrivateKeySigner::from_bytes(&key).map_err(|_| "no private key")?;
        let to = parts.to.map_or(TxKind::Create, TxKind::Call);
        let (input, value) = (parts.data[at.data].clone(), parts.value[at.value]);
        let gas_limit = parts.gas_limit[at.gas].saturating_to();
        let nonce = parts.nonce.saturating_to();
        let fee = |fee: Option<U256>| fee.unwrap_or_default().saturating_to::<u128>();
        let access_list = parts.access_lists.get(at.data).cloned().flatten();
        let signed = |hash| signer.sign_hash_sync(&hash).map_err(|_| "signing");
        let envelope: OpTxEnvelope = if parts.max_fee_per_gas.is_some() {
            let tx = TxEip1559 {
                chain_id: 1,
                nonce,
                gas_limit,
                max_fee_per_gas: fee(parts.max_fee_per_gas),
                max_priority_fee_per_gas: fee(parts.max_priority_fee_per_gas),
                to,
                value,
                access_list: access_list.unwrap_or_default(),
                input,
            };
            let signature = signed(tx.signature_hash())?;
            tx.into_signed(signature).into()
        } else if let Some(access_list) = access_list {
            let tx = TxEip2930 {
                chain_id: 1,
                nonce,
                gas_price: fee(parts.gas_price),
                gas_limit,
                to,
                value,
                access_list,
                input,
            };
            let signature = signed(tx.signature_hash())?;
            tx.into_signed(signature).into()
        } else {
            let tx = TxLegacy {
                chain_id: Some(1),
                nonce,
                gas_price: fee(parts.gas_price),
                gas_limit,
                to,
                value,
                input,
            };
            let signature = signed(tx.signature_hash())?;
            tx.into_signed(signature).into()
        };
        Ok(envelope.encoded_2718().into())
    }

    /// Runs one case on the state before.
    fn run(&self, case: &Case, chain: &Chain) -> Outcome {
        let env = &self.env;
        if env
            .current_excess_blob_gas
            .is_some_and(|gas| !gas.is_zero())
        {
            return Outcome::Skipped("an excess of blobs");
        }
        let (Ok(number), Ok(timestamp), Ok(gas_limit)) = (
            u64::try_from(env.current_number),
            u64::try_from(env.current_timestamp),
            u64::try_from(env.current_gas_limit),
        ) else {
            return Outcome::Skipped("more than 64 bits in the header");
        };
        let (Some(parent_number), Some(parent_time)) =
            (number.checked_sub(1), timestamp.checked_sub(1))
        else {
            return Outcome::Skipped("a block without a parent");
        };
        let raw = match self.transaction(case) {
            Ok(raw) => raw,
            Err(why) => return Outcome::Skipped(why),
        };
        // Half full, so that the base fee stays.
        let parent = Header {
            number: parent_number,
            timestamp: parent_time,
            gas_limit,
            gas_used: gas_limit / 2,
            base_fee_per_gas: Some(env.current_base_fee.unwrap_or(U256::from(10)).to()),
            ..Header::default()
        };
        let inputs = BlockInputs {
            timestamp,
            beneficiary: env.current_coinbase,
            prev_randao: env.current_random.unwrap_or_default(),
            gas_limit,
            parent_beacon_block_root: Some(B256::ZERO),
            extra_data: Bytes::new(),
        };
        let handle = chain.handle();
        let reader = handle.reader().unwrap();
        let before = handle.genesis().state_root;
        let spec = ChainSpec::ethereum(1);
        let done = Transaction::decode(raw).and_then(|tx| {
            let (state, hash) = (Before(reader.state(0)?), parent.hash_slow());
            let (txs, none) = ([Arc::new(tx)], &mut NoCandidates);
            execute(&spec, &parent, hash, &inputs, state, &txs, none)
        });
        let (root, logs) = match done {
            Ok(done) => {
                let mut trie = StateTrie::new(before);
                let tries = trie.apply(&**reader.snapshot(), &done.changes).unwrap();
                (tries.root, done.receipts[0].logs().to_vec())
            }
            Err(error @ (Error::InvalidBlock(_) | Error::InvalidTransaction(_))) => {
                if case.expect_exception.is_none() {
                    return Outcome::Failed(format!("refused: {error}"));
                }
                (before, Vec::new())
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        if case.expect_exception.is_some() && root != before {
            return Outcome::Failed(format!("ran, instead of {:?}", case.expect_exception));
        }
        let logs = keccak256(alloy_rlp::encode(&logs));
        match (root == case.hash, logs == case.logs) {
            (true, true) => Outcome::Passed,
            (false, _) => Outcome::Failed(format!("state root {root} instead of {}", case.hash)),
            (_, false) => Outcome::Failed(format!("hash of logs {logs} instead of {}", case.logs)),
        }
    }

    /// Runs all cases.
    fn all(&self) -> Vec<(String, Outcome)> {
        let mut config = ChainConfig::new(None, self.genesis());
        config.spec = ChainSpec::ethereum(1);
        config.sequencer = None;
        let chain = Chain::open(config).unwrap();
        let mut outcomes = Vec::new();
        for (fork, cases) in &self.post {
            for (index, case) in cases.iter().enumerate() {
                let outcome = match fork == FORK {
                    true => self.run(case, &chain),
                    false => Outcome::Skipped("another fork"),
                };
                outcomes.push((format!("{fork}/{index}"), outcome));
            }
        }
        outcomes
    }
}

fn read(json: &str) -> BTreeMap<String, Unit> {
    serde_json::from_str(json).unwrap()
}

fn fixture() -> Unit {
    read(FIXTURE).remove("store").unwrap()
}

/// The JSON files in a folder and those below it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
}

#[test]
fn the_fixture_passes() {
    let outcomes = fixture().all();
    let passed = |at: &str| (format!("Prague/{at}"), Outcome::Passed);
    let skipped = ("Cancun/0".to_owned(), Outcome::Skipped("another fork"));
    assert_eq!(outcomes, [skipped, passed("0"), passed("1")]);
}

/// The root that the fixture asks for is that of the accounts that it lists, by another trie.
#[test]
fn the_fixture_asks_for_the_root_of_the_state_it_shows() {
    let unit = fixture();
    let case = &unit.post[FORK][0];
    let accounts = case.post_state.iter().map(|(address, account)| {
        let slots = account.storage.iter().map(|(k, v)| (B256::from(*k), *v));
        let account = TrieAccount {
            nonce: account.nonce.to(),
            balance: account.balance,
            storage_root: storage_root_unhashed(slots),
            code_hash: keccak256(&account.code),
        };
        (*address, account)
    });
    assert_eq!(state_root_unhashed(accounts), case.hash);
}

#[test]
fn a_wrong_expectation_fails() {
    let failure = |change: &dyn Fn(&mut Case)| {
        let mut unit = fixture();
        change(&mut unit.post.get_mut(FORK).unwrap()[0]);
        match &unit.all()[1].1 {
            Outcome::Failed(why) => why.clone(),
            other => panic!("{other:?}"),
        }
    };
    let other = B256::repeat_byte(1);
    assert!(failure(&|case| case.hash = other).contains("state root"));
    assert!(failure(&|case| case.logs = other).contains("hash of logs"));
    let exception = Some("TransactionException.NONCE_MISMATCH".to_owned());
    assert!(failure(&|case| case.expect_exception = exception.clone()).contains("ran"));
    // A transaction that cannot run, where none was expected not to.
    assert!(failure(&|case| case.indexes.gas = 1).contains("refused"));
}

#[test]
fn a_folder_of_state_tests_if_one_is_given() {
    let Some(folder) = std::env::var_os("OPENLEDGER_STATE_TESTS") else {
        println!("no folder: OPENLEDGER_STATE_TESTS is not set");
        return;
    };
    let mut paths = Vec::new();
    files(Path::new(&folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no JSON in {}", folder.display());
    let (mut passed, mut skipped, mut failed) = (0, BTreeMap::new(), Vec::new());
    for path in paths {
        let json = std::fs::read_to_string(&path).unwrap();
        let units: BTreeMap<String, Unit> = match serde_json::from_str(&json) {
            Ok(units) => units,
            Err(error) => {
                failed.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        for (name, unit) in units {
            for (case, outcome) in unit.all() {
                match outcome {
                    Outcome::Passed => passed += 1,
                    Outcome::Skipped(why) => *skipped.entry(why).or_insert(0) += 1,
                    Outcome::Failed(why) => {
                        failed.push(format!("{} {name} {case}: {why}", path.display()));
                    }
                }
            }
        }
    }
    println!(
        "passed {passed}, skipped {skipped:?}, failed {}",
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed > 0, "nothing was run");
}
