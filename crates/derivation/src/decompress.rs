//! What is inside a compressed channel.
//!
//! Spec: derivation, "Channel format"; Fjord, "Brotli channel compression".

use alloc::{boxed::Box, vec, vec::Vec};
use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, SliceWrapperMut,
};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use tracing::warn;

/// First byte of a channel that is compressed with brotli. (Zlib has its own first byte.)
pub(crate) const BROTLI: u8 = 1;

/// Bytes that are decompressed at a time.
const PIECE: usize = 1 << 16;

/// Decompresses a channel up to `limit` bytes, and up to where it is damaged. `None` for a compression
/// that is not known.
pub(crate) fn decompress(channel: &[u8], limit: usize) -> Option<Vec<u8>> {
    let (&first, body) = channel.split_first()?;
    match first {
        BROTLI => Some(brotli(body, limit, PIECE)),
        first if matches!(first & 0x0f, 8 | 15) => Some(
            decompress_to_vec_zlib_with_limit(channel, limit).unwrap_or_else(|error| {
                warn!(%error, "channel is damaged");
                error.output
            }),
        ),
        first => {
            warn!(first, "channel of no known compression");
            None
        }
    }
}

/// Decompresses `piece` bytes at a time; what comes out does not depend on how many.
fn brotli(body: &[u8], limit: usize, piece: usize) -> Vec<u8> {
    let mut state = BrotliState::new_strict(Heap, Heap, Heap);
    let (mut left, mut read) = (body.len(), 0);
    let mut piece = vec![0; piece.min(limit)];
    let mut out = Vec::new();
    let mut total = 0;
    loop {
        let (mut room, mut filled) = (piece.len().min(limit - out.len()), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            body,
            &mut room,
            &mut filled,
            &mut piece,
            &mut total,
            &mut state,
        );
        out.extend_from_slice(&piece[..filled]);
        match result {
            BrotliResult::NeedsMoreOutput if out.len() < limit => {}
            // The input is at its end, and what is decoded may not all have had room.
            BrotliResult::NeedsMoreInput if room == 0 && out.len() < limit => {}
            BrotliResult::ResultSuccess | BrotliResult::NeedsMoreOutput => return out,
            // What was read before stays.
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => {
                warn!(?result, "channel is damaged");
                return out;
            }
        }
    }
}

/// The decoder's memory.
struct Heap;

struct Cells<T>(Box<[T]>);

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Clone + Default> Allocator<T> for Heap {
    type AllocatedMemory = Cells<T>;

    fn alloc_cell(&mut self, len: usize) -> Cells<T> {
        Cells(vec![T::default(); len].into_boxed_slice())
    }

    fn free_cell(&mut self, _: Cells<T>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bomb_is_cut_off() {
        let zeros = vec![0; 1 << 20];
        let mut bomb = vec![BROTLI];
        let mut encoder = brotli::CompressorWriter::new(&mut bomb, 4096, 5, 22);
        std::io::Write::write_all(&mut encoder, &zeros).expect("memory takes it");
        drop(encoder);
        assert_eq!(decompress(&bomb, 1000).map(|out| out.len()), Some(1000));
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&zeros, 6);
        assert_eq!(decompress(&bomb, 1000).map(|out| out.len()), Some(1000));
        assert_eq!(decompress(&bomb, 1 << 20), Some(zeros));
    }

    fn squeezed(data: &[u8]) -> Vec<u8> {
        let mut out = vec![BROTLI];
        let params = brotli::enc::BrotliEncoderParams {
            quality: 5,
            ..Default::default()
        };
        brotli::BrotliCompress(&mut &*data, &mut out, &params).expect("memory takes it");
        out
    }

    proptest! {
        /// Whole, cut off or damaged: the same bytes whatever the piece, up to the limit, and those that
        /// kona reads, which forgets some of a stream that ends too soon while its buffer is full.
        #[test]
        fn a_stream_is_read_as_by_kona(
            words in proptest::collection::vec(any::<u16>(), 0..6),
            repeat in 1usize..40_000,
            limit in 0usize..300_000,
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            piece in 1usize..2_000,
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let data: Vec<u8> = words.iter().cycle().take(words.len() * repeat)
                .zip(0u32..)
                .flat_map(|(word, n)| [word.to_be_bytes()[0], (n / 100) as u8])
                .collect();
            let mut channel = squeezed(&data);
            if let Some((at, byte)) = damage {
                let at = 1 + at.index(channel.len() - 1);
                channel[at] ^= byte;
            }
            if let Some(cut) = cut {
                channel.truncate(cut.index(channel.len()).max(1));
            }
            let whole = decompress(&channel, 100_000_000).expect("brotli");
            let read = brotli(&channel[1..], limit, piece);
            let expected = &whole[..limit.min(whole.len())];
            prop_assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
            let theirs = kona_protocol::decompress_brotli(&channel[1..], 100_000_000)
                .expect("no more than that");
            let same = whole.len() == theirs.len() || cut.is_some() || damage.is_some();
            prop_assert!(same, "{} and {} bytes", whole.len(), theirs.len());
            prop_assert!(whole.starts_with(&theirs));
        }
    }
}
