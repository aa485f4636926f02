//! What is sent: transfers, ERC-20 transfers, or what the users of the protocol send.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use op_alloy_consensus::OpTxEnvelope;
use openledger_chain::{
    Call, Deployment, Genesis, HttpNode, MemoryOutbox, Sender, SenderConfig, deploy,
};
use openledger_primitives::Wei;
use std::sync::Arc;

use crate::{CHAIN_ID, Fallible};

/// Where OP Stack chains have their wrapped coin, an ERC-20.
pub(crate) const WRAPPED: Address = address!("4200000000000000000000000000000000000006");

/// Kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// The native coin to accounts that do not exist yet.
    Transfers,
    /// Wrapped OPEN to holders that do not exist yet.
    Erc20,
    /// In turn a payer's deposit for inference and the commitment of a contribution: what users
    /// send. What operators send is a few transactions an epoch.
    Settlement {
        settlement: Address,
        anchor: Address,
    },
}

impl Mix {
    /// A mix by its name; the contracts are where [`prepare`] puts them.
    pub(crate) fn named(name: &str) -> Fallible<Self> {
        Ok(match name {
            "transfers" => Self::Transfers,
            "erc20" => Self::Erc20,
            "settlement" => {
                let at = Deployment::expected(CHAIN_ID, deployer()?.address(), 0);
                Self::Settlement {
                    settlement: at.settlement,
                    anchor: at.anchor,
                }
            }
            _ => return Err(format!("no mix is called {name}").into()),
        })
    }

    /// The first nonce of every sender: [`prepare`] used those before.
    pub(crate) const fn first_nonce(&self) -> u64 {
        match self {
            Self::Transfers => 0,
            Self::Erc20 | Self::Settlement { .. } => 1,
        }
    }

    /// The target, value, data and gas limit of the `n`th transaction.
    fn call(&self, n: usize) -> (Address, U256, Bytes, u64) {
        let receiver = Address::from_slice(&keccak256(format!("receiver {n}"))[12..]);
        let amount = U256::from(n + 1);
        match self {
            Self::Transfers => (receiver, amount, Bytes::new(), 21_000),
            Self::Erc20 => {
                let words = [receiver.into_word(), B256::from(amount)];
                let data = calldata("transfer(address,uint256)", &words);
                (WRAPPED, U256::ZERO, data, 80_000)
            }
            Self::Settlement { settlement, .. } if n.is_multiple_of(2) => {
                (*settlement, amount, calldata("deposit()", &[]), 150_000)
            }
            Self::Settlement { anchor, .. } => {
                let words = [keccak256(format!("contribution {n}"))];
                let data = calldata("commit(bytes32)", &words);
                (*anchor, U256::ZERO, data, 100_000)
            }
        }
    }
}

fn calldata(signature: &str, words: &[B256]) -> Bytes {
    let selector = &keccak256(signature)[..4];
    [selector, words.concat().as_slice()].concat().into()
}

/// Wallets whose keys are hashes.
pub(crate) fn senders(count: usize) -> Vec<PrivateKeySigner> {
    (0..count)
        .filter_map(|n| PrivateKeySigner::from_bytes(&keccak256(format!("sender {n}"))).ok())
        .collect()
}

/// Who deploys the contracts.
pub(crate) fn deployer() -> Fallible<PrivateKeySigner> {
    Ok(PrivateKeySigner::from_bytes(&keccak256("deployer"))?)
}

/// `count` signed transactions, round after round of all senders.
pub(crate) fn sign(mix: &Mix, senders: usize, count: usize) -> Fallible<Vec<Bytes>> {
    let wallets = self::senders(senders);
    let sign = |n: usize| -> Fallible<Bytes> {
        let (to, value, input, gas_limit) = mix.call(n);
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: mix.first_nonce() + (n / wallets.len()) as u64,
            gas_limit,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: to.into(),
            value,
            input,
            ..TxEip1559::default()
        };
        let signature = wallets[n % wallets.len()].sign_hash_sync(&tx.signature_hash())?;
        let envelope = OpTxEnvelope::from(tx.into_signed(signature));
        Ok(envelope.encoded_2718().into())
    };
    (0..count).map(sign).collect()
}

/// Deploys the protocol's contracts on the node at `url` and gives every sender wrapped OPEN.
pub(crate) async fn prepare(url: &str, senders: usize) -> Fallible<()> {
    let node = Arc::new(HttpNode::new(url)?);
    let wallets = self::senders(senders);
    let (deployer, accounts) = (deployer()?, wallets.iter().map(|wallet| wallet.address()));
    let (first, accounts) = (deployer.address(), accounts.collect::<Vec<_>>());
    let signers = wallets.into_iter().chain([deployer]);
    let outbox = Arc::new(MemoryOutbox::default());
    let sender = Sender::new(node, signers, outbox, SenderConfig::default()).await?;
    let genesis = Genesis::dev(first, first, &[first], first);
    deploy(&sender, first, 0, &genesis).await?;
    let wrap = Call {
        to: Some(WRAPPED),
        value: Wei::new(10_u128.pow(21)),
        data: calldata("deposit()", &[]),
        ..Call::default()
    };
    let wrapped = accounts.iter().map(|account| sender.send(*account, &wrap));
    futures::future::try_join_all(wrapped).await?;
    Ok(())
}
