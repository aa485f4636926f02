//! Walking over RLP without decoding what is only copied.

use alloc::vec::Vec;
use alloy_rlp::{Buf, BufMut, Header};

/// One item, still encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    /// Header and payload.
    pub(crate) raw: &'a [u8],
    /// What is inside.
    pub(crate) payload: &'a [u8],
    /// Whether `payload` is a sequence of items.
    pub(crate) list: bool,
}

/// Takes the next item off the front. `None` for an end, a wrong length or a non-canonical header.
pub(crate) fn item<'a>(input: &mut &'a [u8]) -> Option<Item<'a>> {
    let start = *input;
    let mut rest = *input;
    let header = Header::decode(&mut rest).ok()?;
    let payload = rest.get(..header.payload_length)?;
    rest.advance(header.payload_length);
    let raw = start.get(..start.len() - rest.len())?;
    *input = rest;
    Some(Item {
        raw,
        payload,
        list: header.list,
    })
}

/// All items of the one list that `input` is.
pub(crate) fn list(input: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut rest = input;
    let outer = item(&mut rest)?;
    if !outer.list || !rest.is_empty() {
        return None;
    }
    outer.items()
}

impl<'a> Item<'a> {
    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        if !self.list {
            return None;
        }
        let mut rest = self.payload;
        let mut items = Vec::new();
        while !rest.is_empty() {
            items.push(item(&mut rest)?);
        }
        Some(items)
    }

    /// The bytes of a string.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        (!self.list).then_some(self.payload)
    }

    /// A string of exactly `N` bytes.
    pub(crate) fn fixed<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }

    /// Big-endian bytes of an integer of at most `max` bytes, without leading zeros.
    pub(crate) fn integer(&self, max: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes()?;
        (bytes.len() <= max && bytes.first() != Some(&0)).then_some(bytes)
    }

    /// An integer that fits in 64 bits.
    pub(crate) fn u64(&self) -> Option<u64> {
        Some(
            self.integer(8)?
                .iter()
                .fold(0, |acc, b| acc << 8 | u64::from(*b)),
        )
    }

    /// An integer of up to 256 bits, as 32 bytes.
    pub(crate) fn u256(&self) -> Option<[u8; 32]> {
        let bytes = self.integer(32)?;
        let mut word = [0; 32];
        word[32 - bytes.len()..].copy_from_slice(bytes);
        Some(word)
    }
}

/// Writes the header of a list whose items take `payload_length` bytes.
pub(crate) fn list_header(payload_length: usize, out: &mut dyn BufMut) {
    Header {
        list: true,
        payload_length,
    }
    .encode(out);
}

/// Big-endian bytes without leading zeros, which is how RLP writes integers.
pub(crate) fn trimmed(word: &[u8]) -> &[u8] {
    let zeros = word.iter().take_while(|b| **b == 0).count();
    &word[zeros..]
}
