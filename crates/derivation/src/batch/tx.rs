//! A transaction in the columns of a span batch, and back.
//!
//! The columns hold what repeats or does not compress; the rest ("data") is an RLP list that is
//! copied, not decoded. What cannot be written in columns so that the very same bytes come back is
//! refused by [`Columns::of`], and travels in a singular batch.

use crate::rlp::{self, Item, list_header, trimmed};
use alloc::vec::Vec;
use alloy_primitives::U256;
use alloy_rlp::Encodable;

/// Longest integer that is let through where the specification knows no limit.
const ANY_LENGTH: usize = usize::MAX;

/// EIP-2718 type, legacy as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Legacy,
    Eip2930,
    Eip1559,
    Eip7702,
}

impl Kind {
    const fn of(first: u8) -> Option<Self> {
        Some(match first {
            1 => Self::Eip2930,
            2 => Self::Eip1559,
            4 => Self::Eip7702,
            0xc0.. => Self::Legacy,
            _ => return None,
        })
    }

    const fn byte(self) -> Option<u8> {
        match self {
            Self::Legacy => None,
            Self::Eip2930 => Some(1),
            Self::Eip1559 => Some(2),
            Self::Eip7702 => Some(4),
        }
    }

    /// Prices: one for gas, or the tip and the most.
    const fn prices(self) -> usize {
        match self {
            Self::Legacy | Self::Eip2930 => 1,
            Self::Eip1559 | Self::Eip7702 => 2,
        }
    }

    /// Lists after the calldata: accesses, authorisations.
    const fn lists(self) -> usize {
        match self {
            Self::Legacy => 0,
            Self::Eip2930 | Self::Eip1559 => 1,
            Self::Eip7702 => 2,
        }
    }
}

/// One transaction, cut into the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) kind: Kind,
    pub(crate) nonce: u64,
    pub(crate) gas: u64,
    /// `None` creates a contract.
    pub(crate) to: Option<[u8; 20]>,
    pub(crate) y_parity: bool,
    pub(crate) r: [u8; 32],
    pub(crate) s: [u8; 32],
    /// EIP-155, which only legacy transactions lack.
    pub(crate) protected: bool,
    /// Type byte and list of the rest.
    pub(crate) data: Vec<u8>,
}

/// `v` of a protected legacy signature with even parity.
fn protected_v(chain_id: u64) -> U256 {
    U256::from(chain_id) * U256::from(2) + U256::from(35)
}

impl Columns {
    /// Cuts up an EIP-2718 transaction of this chain. `None` for what the columns cannot hold.
    pub(crate) fn of(transaction: &[u8], chain_id: u64) -> Option<Self> {
        let columns = Self::cut(transaction, chain_id)?;
        let mut back = Vec::with_capacity(transaction.len());
        let rest = Rest::parse(&mut columns.data.as_slice())?;
        columns.head().join(&rest, chain_id, &mut back)?;
        (back == transaction).then_some(columns)
    }

    fn cut(transaction: &[u8], chain_id: u64) -> Option<Self> {
        let kind = Kind::of(*transaction.first()?)?;
        let body = if kind == Kind::Legacy {
            transaction
        } else {
            &transaction[1..]
        };
        let items = rlp::list(body)?;
        let mut fields = items.iter();
        if kind != Kind::Legacy && fields.next()?.u64()? != chain_id {
            return None;
        }
        let nonce = fields.next()?.u64()?;
        let prices: Vec<&Item<'_>> = fields.by_ref().take(kind.prices()).collect();
        let gas = fields.next()?.u64()?;
        let to = fields.next()?.bytes()?;
        let to = if to.is_empty() {
            None
        } else {
            Some(to.try_into().ok()?)
        };
        // Value, calldata and lists; only the prices stand in between.
        let value = fields.next()?;
        let tail: Vec<&Item<'_>> = fields.by_ref().take(1 + kind.lists()).collect();
        let v = U256::from_be_bytes(fields.next()?.u256()?);
        let (r, s) = (fields.next()?.u256()?, fields.next()?.u256()?);
        if fields.next().is_some() {
            return None;
        }
        let (protected, parity) = match kind {
            Kind::Legacy if v == U256::from(27) || v == U256::from(28) => {
                (false, v - U256::from(27))
            }
            Kind::Legacy => (true, v.checked_sub(protected_v(chain_id))?),
            Kind::Eip2930 | Kind::Eip1559 | Kind::Eip7702 => (true, v),
        };
        if parity > U256::ONE {
            return None;
        }
        let parts = || {
            core::iter::once(&value)
                .chain(&prices)
                .chain(&tail)
                .map(|item| item.raw)
        };
        let length = parts().map(<[u8]>::len).sum();
        let mut data = Vec::with_capacity(length + 6);
        data.extend(kind.byte());
        list_header(length, &mut data);
        parts().for_each(|raw| data.extend_from_slice(raw));
        Some(Self {
            kind,
            nonce,
            gas,
            to,
            y_parity: !parity.is_zero(),
            r,
            s,
            protected,
            data,
        })
    }

    const fn head(&self) -> Head<'_> {
        Head {
            nonce: self.nonce,
            gas: self.gas,
            to: self.to.as_ref(),
            y_parity: self.y_parity,
            r: &self.r,
            s: &self.s,
            protected: self.protected,
        }
    }
}

/// The columns of a transaction beside its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) nonce: u64,
    pub(crate) gas: u64,
    pub(crate) to: Option<&'a [u8; 20]>,
    pub(crate) y_parity: bool,
    pub(crate) r: &'a [u8; 32],
    pub(crate) s: &'a [u8; 32],
    pub(crate) protected: bool,
}

/// The data of a transaction, still encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest<'a> {
    pub(crate) kind: Kind,
    value: &'a [u8],
    prices: &'a [u8],
    /// Calldata and lists.
    tail: &'a [u8],
}

impl<'a> Rest<'a> {
    /// Takes the data of one transaction off the front, and checks that its fields are what they
    /// must be.
    pub(crate) fn parse(input: &mut &'a [u8]) -> Option<Self> {
        let kind = Kind::of(*input.first()?)?;
        if kind != Kind::Legacy {
            *input = &input[1..];
        }
        let list = rlp::item(input)?;
        if !list.list {
            return None;
        }
        let mut rest = list.payload;
        // Amounts have no upper limit but in EIP-7702, which came with 256-bit integers.
        let limit = if kind == Kind::Eip7702 {
            32
        } else {
            ANY_LENGTH
        };
        let value = rlp::item(&mut rest)?;
        value.integer(limit)?;
        let after_value = rest;
        for _ in 0..kind.prices() {
            rlp::item(&mut rest)?.integer(limit)?;
        }
        let tail = rest;
        let prices = &after_value[..after_value.len() - tail.len()];
        rlp::item(&mut rest)?.bytes()?;
        if kind.lists() > 0 {
            access_list(&rlp::item(&mut rest)?)?;
        }
        if kind.lists() > 1 {
            authorization_list(&rlp::item(&mut rest)?)?;
        }
        rest.is_empty().then_some(Self {
            kind,
            value: value.raw,
            prices,
            tail,
        })
    }
}

/// EIP-2930: list of (address, list of keys).
fn access_list(list: &Item<'_>) -> Option<()> {
    for entry in list.items()? {
        let [address, keys] = <[Item<'_>; 2]>::try_from(entry.items()?).ok()?;
        address.fixed::<20>()?;
        for key in keys.items()? {
            key.fixed::<32>()?;
        }
    }
    Some(())
}

/// EIP-7702: list of (chain, address, nonce, parity, r, s).
fn authorization_list(list: &Item<'_>) -> Option<()> {
    for entry in list.items()? {
        let [chain, address, nonce, parity, r, s] =
            <[Item<'_>; 6]>::try_from(entry.items()?).ok()?;
        chain.integer(32)?;
        address.fixed::<20>()?;
        nonce.integer(8)?;
        parity.integer(1)?;
        r.integer(32)?;
        s.integer(32)?;
    }
    Some(())
}

impl Head<'_> {
    /// Appends the EIP-2718 bytes of the transaction.
    pub(crate) fn join(&self, rest: &Rest<'_>, chain_id: u64, out: &mut Vec<u8>) -> Option<()> {
        let to = self.to.map_or(&[][..], |to| &to[..]);
        if rest.kind == Kind::Eip7702 && to.is_empty() {
            return None;
        }
        let (r, s) = (trimmed(self.r), trimmed(self.s));
        let v = match (rest.kind, self.protected) {
            (Kind::Legacy, false) => U256::from(27),
            (Kind::Legacy, true) => protected_v(chain_id),
            (Kind::Eip2930 | Kind::Eip1559 | Kind::Eip7702, _) => U256::ZERO,
        } + U256::from(self.y_parity);
        let chain = rest.kind.byte().map(|_| chain_id);
        let length = chain.map_or(0, |id| id.length())
            + self.nonce.length()
            + rest.prices.len()
            + self.gas.length()
            + to.length()
            + rest.value.len()
            + rest.tail.len()
            + v.length()
            + r.length()
            + s.length();
        out.extend(rest.kind.byte());
        list_header(length, out);
        if let Some(id) = chain {
            id.encode(out);
        }
        self.nonce.encode(out);
        out.extend_from_slice(rest.prices);
        self.gas.encode(out);
        to.encode(out);
        out.extend_from_slice(rest.value);
        out.extend_from_slice(rest.tail);
        v.encode(out);
        r.encode(out);
        s.encode(out);
        Some(())
    }
}
