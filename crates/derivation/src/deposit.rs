//! Deposit transactions: type `0x7e`, derived and never signed.
//!
//! Spec: deposits.

use crate::{
    error::{Error, Result},
    rlp::{self, trimmed},
};
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, Bytes, Log, U256, b256, keccak256};
use alloy_rlp::Encodable;

/// EIP-2718 type of a deposit.
pub const DEPOSIT_TYPE: u8 = 0x7e;

/// Topic of `TransactionDeposited(address,address,uint256,bytes)`.
pub const DEPOSIT_TOPIC: B256 =
    b256!("0xb3813568d9991fc951961fcb4c784893574240a28925604d09fc577c55bb7c32");

/// What a deposit's source hash stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Index of the log in its L1 block.
    User(u64),
    /// Sequence number of the L2 block.
    L1Info(u64),
    /// What an upgrade transaction is for; it comes from no L1 block.
    Upgrade(&'a str),
}

impl Source<'_> {
    /// Spec: deposits, "Source hash computation".
    pub(crate) fn hash(self, l1_block: B256) -> B256 {
        let of_block =
            |number| keccak256([l1_block, B256::from(U256::from::<u64>(number))].concat());
        let (domain, id) = match self {
            Self::User(index) => (0, of_block(index)),
            Self::L1Info(sequence) => (1, of_block(sequence)),
            Self::Upgrade(intent) => (2, keccak256(intent)),
        };
        keccak256([B256::from(U256::from(domain)), id].concat())
    }
}

/// A deposit transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deposit {
    pub(crate) source_hash: B256,
    pub(crate) from: Address,
    /// `None` creates a contract.
    pub(crate) to: Option<Address>,
    pub(crate) mint: U256,
    pub(crate) value: U256,
    pub(crate) gas: u64,
    pub(crate) data: Bytes,
}

impl Deposit {
    /// EIP-2718 bytes. The flag of system transactions is false since Regolith.
    pub(crate) fn encode(&self) -> Bytes {
        let to = self.to.as_ref().map_or(&[][..], |to| to.as_slice());
        let body = [
            self.source_hash.length(),
            self.from.length(),
            to.length(),
            self.mint.length(),
            self.value.length(),
            self.gas.length(),
            false.length(),
            self.data.length(),
        ];
        let body = body.iter().sum();
        let mut out = Vec::with_capacity(body + 6);
        out.push(DEPOSIT_TYPE);
        rlp::list_header(body, &mut out);
        self.source_hash.encode(&mut out);
        self.from.encode(&mut out);
        to.encode(&mut out);
        self.mint.encode(&mut out);
        self.value.encode(&mut out);
        self.gas.encode(&mut out);
        false.encode(&mut out);
        self.data.encode(&mut out);
        out.into()
    }

    /// Calldata of a deposit given as EIP-2718 bytes.
    pub(crate) fn calldata(encoded: &[u8]) -> Option<&[u8]> {
        let (&DEPOSIT_TYPE, body) = encoded.split_first()? else {
            return None;
        };
        let fields = rlp::list(body)?;
        if fields.len() != 8 {
            return None;
        }
        fields[7].bytes()
    }
}

/// The deposit that a log of the portal asks for, as EIP-2718 bytes.
pub(crate) fn from_log(log: &Log, block: B256, index: u64) -> Result<Bytes> {
    read(log, Source::User(index).hash(block))
        .map(|deposit| deposit.encode())
        .map_err(|reason| Error::BadDeposit {
            block,
            index,
            reason,
        })
}

/// Spec: deposits, "User-deposited transactions".
fn read(log: &Log, source_hash: B256) -> Result<Deposit, &'static str> {
    let [_, from, to, version] = log.data.topics() else {
        return Err("not four topics");
    };
    if !version.is_zero() {
        return Err("unknown version");
    }
    let opaque = opaque(&log.data.data)?;
    // mint (32) ++ value (32) ++ gas (8) ++ creation (1) ++ data, tightly packed.
    let (Some(mint), Some(value), Some(gas), Some(creation), Some(data)) = (
        opaque.get(..32),
        opaque.get(32..64),
        opaque.get(64..72),
        opaque.get(72),
        opaque.get(73..),
    ) else {
        return Err("opaque data too short");
    };
    Ok(Deposit {
        source_hash,
        from: address(from)?,
        to: if *creation == 0 {
            Some(address(to)?)
        } else {
            None
        },
        mint: U256::from_be_slice(mint),
        value: U256::from_be_slice(value),
        gas: gas.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)),
        data: Bytes::copy_from_slice(data),
    })
}

fn address(topic: &B256) -> Result<Address, &'static str> {
    if topic[..12].iter().any(|b| *b != 0) {
        return Err("address above 160 bits");
    }
    Ok(Address::from_slice(&topic[12..]))
}

/// The one `bytes` argument of the event.
fn opaque(data: &[u8]) -> Result<&[u8], &'static str> {
    if !data.len().is_multiple_of(32) {
        return Err("data is not whole words");
    }
    let (Some(offset), Some(length), Some(rest)) =
        (data.get(..32), data.get(32..64), data.get(64..))
    else {
        return Err("data too short");
    };
    if trimmed(offset) != [32] {
        return Err("offset is not 32");
    }
    let length = trimmed(length);
    if length.len() > 8 {
        return Err("length above 64 bits");
    }
    let length = length.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
    let length = usize::try_from(length).map_err(|_| "length above the address space")?;
    if length > rest.len() || rest.len() - length >= 32 {
        return Err("length does not fit the data");
    }
    Ok(&rest[..length])
}
