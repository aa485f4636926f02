//! Payloads as EigenDA's operators see them: field elements of BN254.
//!
//! ```text
//! 00 | 00 | length, u32 big-endian | 26 zeros        the header: guard, version 0
//! 00 | 31 bytes of the payload                       a guard keeps each below the modulus
//! ...
//! 00 | the rest, zeros
//! zeros, up to a power of two symbols
//! ```
//!
//! A payload has one encoding, and [`decode`] takes no other: each zero is checked. So whoever
//! has the symbols has the payload, and the other way round.

use crate::MAX_PAYLOAD_LEN;

/// Bytes of a symbol.
pub const SYMBOL_LEN: usize = 32;

/// Bytes of the payload in a symbol, behind its guard.
const CHUNK_LEN: usize = SYMBOL_LEN - 1;

/// Why there is no payload in a blob, or no blob for a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// The payload is too long for any blob.
    #[error("a payload has at most {MAX_PAYLOAD_LEN} bytes, not {length}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// The blob is not a power of two symbols.
    #[error("a blob of {length} bytes is not a power of two symbols")]
    Length {
        /// Its length, in bytes.
        length: usize,
    },
    /// A byte is not zero where it must be.
    #[error("byte {at} is not zero")]
    NotZero {
        /// Where it is.
        at: usize,
    },
    /// The encoding has a version that is not known here.
    #[error("there is no encoding of version {version}")]
    Version {
        /// The version.
        version: u8,
    },
    /// The header names a length for which the blob is too short, or larger than it need be.
    #[error("a payload of {length} bytes does not have a blob of {symbols} symbols")]
    Mismatch {
        /// The payload's length according to the header, in bytes.
        length: usize,
        /// The blob's length, in symbols.
        symbols: usize,
    },
}

/// How many symbols the blob of a payload has: a power of two.
#[must_use]
pub fn symbols(payload_len: usize) -> usize {
    (1 + payload_len.div_ceil(CHUNK_LEN)).next_power_of_two()
}

/// The blob of `payload`.
///
/// # Errors
/// [`EncodingError::TooLong`].
pub fn encode(payload: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let length = payload.len();
    let too_long = EncodingError::TooLong { length };
    if length > MAX_PAYLOAD_LEN {
        return Err(too_long);
    }
    let mut blob = vec![0; symbols(length) * SYMBOL_LEN];
    let announced = u32::try_from(length).map_err(|_| too_long)?;
    blob[2..6].copy_from_slice(&announced.to_be_bytes());
    let (header_and_rest, chunks) = (blob.chunks_exact_mut(SYMBOL_LEN), payload.chunks(CHUNK_LEN));
    for (symbol, chunk) in header_and_rest.skip(1).zip(chunks) {
        symbol[1..=chunk.len()].copy_from_slice(chunk);
    }
    Ok(blob)
}

/// The payload of `blob`.
///
/// EigenDA's decoder also takes a blob with more zeros than it needs; this one does not, since
/// nobody here makes such blobs.
///
/// # Errors
/// [`EncodingError`] for all that [`encode`] does not return.
pub fn decode(blob: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let length = blob.len();
    let symbols = length / SYMBOL_LEN;
    if !length.is_multiple_of(SYMBOL_LEN) || !symbols.is_power_of_two() {
        return Err(EncodingError::Length { length });
    }
    let (header, body) = blob.split_at(SYMBOL_LEN);
    let version = header[1];
    if version != 0 {
        return Err(EncodingError::Version { version });
    }
    let zero = |at: usize| match blob[at] {
        0 => Ok(()),
        _ => Err(EncodingError::NotZero { at }),
    };
    zero(0)?;
    (6..SYMBOL_LEN).try_for_each(zero)?;
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD_LEN {
        return Err(EncodingError::TooLong { length });
    }
    if self::symbols(length) != symbols {
        return Err(EncodingError::Mismatch { length, symbols });
    }
    (1..symbols).try_for_each(|symbol| zero(symbol * SYMBOL_LEN))?;
    let mut payload = Vec::with_capacity(symbols * CHUNK_LEN);
    for symbol in body.chunks_exact(SYMBOL_LEN) {
        payload.extend_from_slice(&symbol[1..]);
    }
    if let Some(at) = payload[length..].iter().position(|byte| *byte != 0) {
        let at = length + at;
        let at = SYMBOL_LEN * (1 + at / CHUNK_LEN) + 1 + at % CHUNK_LEN;
        return Err(EncodingError::NotZero { at });
    }
    payload.truncate(length);
    Ok(payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_of_a_blob() {
        let payload: Vec<u8> = (1..=32).collect();
        let blob = encode(&payload).unwrap();
        assert_eq!(blob.len(), 4 * SYMBOL_LEN);
        assert_eq!(blob[..7], [0, 0, 0, 0, 0, 32, 0]);
        assert_eq!(blob[32..35], [0, 1, 2]);
        assert_eq!(blob[63..67], [31, 0, 32, 0]);
        for (length, expected) in [(0, 1), (1, 2), (31, 2), (32, 4), (93, 4), (94, 8)] {
            assert_eq!(symbols(length), expected, "{length}");
        }
        assert_eq!(symbols(MAX_PAYLOAD_LEN), 1 << 19);
        assert!(encode(&vec![0; MAX_PAYLOAD_LEN + 1]).is_err());
    }

    #[test]
    fn other_blobs_hold_no_payload() {
        for length in [0, 31, 33, 96] {
            assert_eq!(
                decode(&vec![0; length]),
                Err(EncodingError::Length { length })
            );
        }
        let larger = [encode(b"a").unwrap(), vec![0; 64]].concat();
        assert!(matches!(
            decode(&larger),
            Err(EncodingError::Mismatch { .. })
        ));
        let mut long = encode(b"a").unwrap();
        long[2] = 0xff;
        assert!(matches!(decode(&long), Err(EncodingError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn a_payload_has_one_blob(payload in proptest::collection::vec(any::<u8>(), 0..700), at in any::<usize>(), flip in 1u8..) {
            let mut blob = encode(&payload).unwrap();
            prop_assert_eq!(&decode(&blob).unwrap(), &payload);
            let at = at % blob.len();
            blob[at] ^= flip;
            if let Ok(other) = decode(&blob) {
                prop_assert_ne!(&other, &payload);
                prop_assert_eq!(encode(&other).unwrap(), blob);
            }
        }
    }
}
