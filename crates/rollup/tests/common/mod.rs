//! A chain with funded wallets and a hand-driven clock, and ways to sign.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests; each test binary uses a part of this"
)]

pub(crate) mod node;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use op_alloy_consensus::OpTxEnvelope;
use openledger_rollup::{Chain, ChainConfig, ChainHandle, Clock};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const CHAIN_ID: u64 = 4_242;
pub(crate) const GENESIS_TIME: u64 = 1_700_000_000;
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;

/// The n-th wallet; its key is a hash, so it is the same in every run.
pub(crate) fn wallet(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256([b'w', n])).unwrap()
}

/// Ten wallets with 1,000 coins each.
pub(crate) fn genesis() -> Genesis {
    let mut genesis = Genesis {
        gas_limit: 60_000_000,
        timestamp: GENESIS_TIME,
        ..Default::default()
    };
    genesis.config.chain_id = CHAIN_ID;
    for n in 0..10 {
        let account = GenesisAccount::default().with_balance(U256::from(1_000 * ETHER));
        genesis.alloc.insert(wallet(n).address(), account);
    }
    genesis
}

/// A clock that only moves when told.
#[derive(Clone)]
pub(crate) struct TestClock(pub(crate) Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(GENESIS_TIME)))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Clock::new(move || Duration::from_secs(time.load(Ordering::SeqCst)))
    }
}

/// A configuration without sequencer loop: blocks are made by `make_block`.
pub(crate) fn manual(data_dir: Option<PathBuf>, genesis: Genesis) -> ChainConfig {
    let mut config = ChainConfig::new(data_dir, genesis);
    config.sequencer = None;
    config.clock = TestClock::new().clock();
    config
}

pub(crate) fn open(genesis: Genesis) -> (Chain, ChainHandle) {
    let chain = Chain::open(manual(None, genesis)).unwrap();
    let handle = chain.handle();
    (chain, handle)
}

/// An EIP-1559 transaction with generous fees, to be adjusted.
pub(crate) fn request(nonce: u64, to: TxKind, value: u128, input: Bytes) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: if input.is_empty() { 21_000 } else { 2_000_000 },
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        value: U256::from(value),
        access_list: Default::default(),
        input,
    }
}

pub(crate) fn sign(signer: &PrivateKeySigner, tx: TxEip1559) -> Bytes {
    let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
    OpTxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into()
}

pub(crate) fn transfer(from: &PrivateKeySigner, nonce: u64, to: Address, value: u128) -> Bytes {
    sign(from, request(nonce, to.into(), value, Bytes::new()))
}

pub(crate) fn create(from: &PrivateKeySigner, nonce: u64, init_code: &[u8]) -> Bytes {
    sign(
        from,
        request(nonce, TxKind::Create, 0, init_code.to_vec().into()),
    )
}

pub(crate) fn call(from: &PrivateKeySigner, nonce: u64, to: Address, input: &[u8]) -> Bytes {
    sign(from, request(nonce, to.into(), 0, input.to_vec().into()))
}

/// Init code that deploys `runtime` (at most 255 bytes).
pub(crate) fn deploying(runtime: &[u8]) -> Vec<u8> {
    let len = u8::try_from(runtime.len()).unwrap();
    // PUSH1 len, PUSH1 12, PUSH1 0, CODECOPY, PUSH1 len, PUSH1 0, RETURN, (pad to 12)
    let mut code = vec![0x60, len, 0x60, 12, 0x60, 0, 0x39, 0x60, len, 0x60, 0, 0xf3];
    code.extend_from_slice(runtime);
    code
}

/// Stores calldata word 1 at slot calldata word 0 and emits LOG1 with topic = the slot and data =
/// the value.
pub(crate) const STORE_AND_LOG: [u8; 18] = [
    0x60, 0x20, 0x35, // PUSH1 32, CALLDATALOAD        value
    0x80, // DUP1
    0x5f, 0x52, // PUSH0, MSTORE                       mem[0] = value
    0x5f, 0x35, // PUSH0, CALLDATALOAD                 slot
    0x80, 0x91, // DUP1, SWAP2                         slot, value below
    0x90, // SWAP1
    0x55, // SSTORE                                    storage[slot] = value
    0x60, 0x20, 0x5f, 0xa1, // PUSH1 32, PUSH0, LOG1   topic slot, data mem[0..32]
    0x00, 0x00, // STOP
];

/// Reverts with `Error("no")`.
pub(crate) fn reverting() -> Vec<u8> {
    let mut data = keccak256("Error(string)")[..4].to_vec();
    data.extend(B256::with_last_byte(0x20));
    data.extend(B256::with_last_byte(2));
    data.extend_from_slice(b"no");
    data.extend([0; 30]);
    let len = u8::try_from(data.len()).unwrap();
    // PUSH1 len, PUSH1 11, PUSH0, CODECOPY, PUSH1 len, PUSH0, REVERT, (pad) data
    let mut code = vec![0x60, len, 0x60, 11, 0x5f, 0x39, 0x60, len, 0x5f, 0xfd, 0x00];
    code.extend(data);
    code
}

/// Calldata of two words.
pub(crate) fn words(a: u64, b: u64) -> Vec<u8> {
    [
        U256::from(a).to_be_bytes::<32>(),
        U256::from(b).to_be_bytes::<32>(),
    ]
    .concat()
}
