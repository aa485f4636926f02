//! Data in EIP-4844 blobs.
//!
//! Spec: derivation, "Blob encoding". A blob is 4096 field elements of 32 bytes, whose top two
//! bits must be zero. Groups of four carry 127 bytes: 31 in the low bytes of each, and three in
//! the four times six bits that are left at the top. The first four bytes of all are the version
//! (0) and the length.

use alloc::{vec, vec::Vec};

/// Bytes of a blob.
const BLOB: usize = 131_072;
/// Bytes of a field element.
const ELEMENT: usize = 32;
/// Field elements of a group.
const GROUP: usize = 4;
/// Bytes that a group carries.
const CARRIED: usize = GROUP * (ELEMENT - 1) + 3;
/// Version and length.
const HEADER: usize = 4;

/// Most bytes that one blob carries.
pub const MAX_BLOB_DATA: usize = BLOB / (GROUP * ELEMENT) * CARRIED - HEADER;

/// The data inside a blob, `None` if it is not encoded so.
pub(crate) fn decode(blob: &[u8]) -> Option<Vec<u8>> {
    if blob.len() != BLOB {
        return None;
    }
    let mut out = Vec::with_capacity(MAX_BLOB_DATA + HEADER);
    for group in blob.chunks_exact(GROUP * ELEMENT) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| group[i * ELEMENT]);
        if (a | b | c | d) & 0b1100_0000 != 0 {
            return None;
        }
        let spare = [
            (a & 0b0011_1111) | ((b & 0b0011_0000) << 2),
            (b & 0b0000_1111) | ((d & 0b0000_1111) << 4),
            (c & 0b0011_1111) | ((d & 0b0011_0000) << 2),
        ];
        for i in 0..GROUP {
            out.extend_from_slice(&group[i * ELEMENT + 1..(i + 1) * ELEMENT]);
            if let Some(byte) = spare.get(i) {
                out.push(*byte);
            }
        }
    }
    let length = u32::from_be_bytes([0, out[1], out[2], out[3]]);
    let length = usize::try_from(length).ok()?;
    // The rest must be zero.
    if out[0] != 0 || length > MAX_BLOB_DATA || out[HEADER + length..].iter().any(|b| *b != 0) {
        return None;
    }
    out.drain(..HEADER);
    out.truncate(length);
    Some(out)
}

/// The blob around up to [`MAX_BLOB_DATA`] bytes, `None` for more.
#[must_use]
pub fn encode_blob(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() > MAX_BLOB_DATA {
        return None;
    }
    let length = u32::try_from(data.len()).ok()?.to_be_bytes();
    let mut flat = vec![0, length[1], length[2], length[3]];
    flat.extend_from_slice(data);
    flat.resize(MAX_BLOB_DATA + HEADER, 0);
    let mut blob = vec![0; BLOB];
    for (bytes, group) in flat
        .chunks_exact(CARRIED)
        .zip(blob.chunks_exact_mut(GROUP * ELEMENT))
    {
        for i in 0..GROUP {
            group[i * ELEMENT + 1..(i + 1) * ELEMENT]
                .copy_from_slice(&bytes[i * ELEMENT..i * ELEMENT + 31]);
        }
        let [x, y, z] = [31, 63, 95].map(|at| bytes[at]);
        group[0] = x & 0b0011_1111;
        group[ELEMENT] = (y & 0b0000_1111) | ((x & 0b1100_0000) >> 2);
        group[2 * ELEMENT] = z & 0b0011_1111;
        group[3 * ELEMENT] = ((z & 0b1100_0000) >> 2) | ((y & 0b1111_0000) >> 4);
    }
    Some(blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_blob_holds_what_was_put_in(
            data in proptest::collection::vec(any::<u8>(), 0..5000),
            tail in any::<bool>(),
        ) {
            let mut data = data;
            if tail {
                data.resize(MAX_BLOB_DATA, 0xff);
            }
            let blob = encode_blob(&data).expect("it fits");
            prop_assert!(blob.chunks(32).all(|element| element[0] < 0x40));
            prop_assert_eq!(decode(&blob), Some(data));
        }
    }

    #[test]
    fn foreign_encodings_are_refused() {
        let blob = encode_blob(b"data").expect("it fits");
        for (at, byte) in [(0, 0x40), (1, 1), (2, 0xff), (40, 1)] {
            let mut other = blob.clone();
            other[at] = byte;
            assert_eq!(decode(&other), None, "byte {at}");
        }
        assert_eq!(decode(&blob[1..]), None);
        assert_eq!(encode_blob(&vec![0; MAX_BLOB_DATA + 1]), None);
    }
}
