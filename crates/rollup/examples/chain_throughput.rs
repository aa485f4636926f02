//! How fast the chain takes transfers, and how the state root scales. Prints, decides nothing:
//! `cargo run --profile profiling -p openledger-rollup --example chain_throughput`.
#![allow(clippy::print_stdout, reason = "an example talks to its terminal")]

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles};
use op_alloy_consensus::OpTxEnvelope;
use openledger_rollup::{
    Chain, ChainConfig, Result,
    trie::{Found, NodeSource, Trie},
};
use std::{collections::BTreeMap, error::Error, time::Instant};

const CHAIN_ID: u64 = 4_242;
const SENDERS: u64 = 200;
const EACH: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    transfers()?;
    for accounts in [10_000, 100_000, 1_000_000] {
        roots(accounts)?;
    }
    Ok(())
}

fn transfers() -> Result<(), Box<dyn Error>> {
    let mut genesis = Genesis {
        gas_limit: 1_000_000_000,
        ..Default::default()
    };
    genesis.config.chain_id = CHAIN_ID;
    let wallets = (0..SENDERS)
        .map(|n| PrivateKeySigner::from_bytes(&keccak256(n.to_be_bytes())))
        .collect::<Result<Vec<_>, _>>()?;
    for wallet in &wallets {
        let coins = U256::from(1_000_000_000_000_000_000_000u128);
        genesis.alloc.insert(
            wallet.address(),
            GenesisAccount::default().with_balance(coins),
        );
    }
    let mut raw = Vec::new();
    for nonce in 0..EACH {
        for wallet in &wallets {
            raw.push(transfer(wallet, nonce)?);
        }
    }
    let dir = tempfile::tempdir()?;
    let mut config = ChainConfig::new(Some(dir.path().into()), genesis);
    config.sequencer = None;
    let chain = Chain::open(config)?;
    let handle = chain.handle();
    let count = raw.len();

    let start = Instant::now();
    for tx in raw {
        handle.send_raw(tx)?;
    }
    let admitted = start.elapsed();
    let start = Instant::now();
    let mut blocks = 0;
    while handle.totals()?.transactions < count as u64 {
        handle.make_block()?;
        blocks += 1;
    }
    let made = start.elapsed();
    let per = |time: std::time::Duration| count as f64 / time.as_secs_f64();
    println!(
        "{count} transfers: admission (decode, recover, check) {:.0} tx/s",
        per(admitted)
    );
    println!(
        "  execution, root, commit with fsync in {blocks} block(s): {:.0} tx/s",
        per(made)
    );
    Ok(())
}

fn transfer(wallet: &PrivateKeySigner, nonce: u64) -> Result<Bytes, Box<dyn Error>> {
    let to = Address::from_word(keccak256(
        [wallet.address().as_slice(), &[nonce as u8]].concat(),
    ));
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: to.into(),
        value: U256::from(1),
        ..Default::default()
    };
    let signature = wallet.sign_hash_sync(&tx.signature_hash())?;
    Ok(OpTxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into())
}

/// Nothing is ever reloaded here.
struct NoNodes;

impl NodeSource for NoNodes {
    fn node(&self, _: Option<B256>, _: &Nibbles, _: B256) -> Result<Option<Found>> {
        Ok(None)
    }
}

fn roots(accounts: u64) -> Result<(), Box<dyn Error>> {
    let key = |n: u64| keccak256(n.to_be_bytes());
    let mut content = BTreeMap::new();
    let mut trie = Trie::new(None, EMPTY_ROOT_HASH);
    for n in 0..accounts {
        content.insert(key(n), vec![1; 70]);
        trie.set(&NoNodes, key(n), vec![1; 70])?;
    }
    trie.commit();
    let start = Instant::now();
    for i in 0..1_000 {
        let n = i * (accounts / 1_000);
        content.insert(key(n), vec![2; 70]);
        trie.set(&NoNodes, key(n), vec![2; 70])?;
    }
    let (root, _) = trie.commit();
    let ours = start.elapsed();
    let start = Instant::now();
    let mut builder = HashBuilder::default();
    for (key, value) in &content {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    assert_eq!(builder.root(), root);
    let rebuild = start.elapsed();
    println!("1,000 updates in {accounts} accounts: {ours:.1?}; alloy-trie rebuild {rebuild:.1?}");
    Ok(())
}
