//! Blocks to frames: what the batcher sends.
//!
//! Spec: batcher; derivation, "Channel format".

use crate::{
    batch::{
        SingularBatch,
        span::{BlockFacts, SpanWriter},
        tx::Columns,
    },
    config::{MAX_RLP_BYTES_PER_CHANNEL, RollupConfig},
    decompress::BROTLI,
    deposit::DEPOSIT_TYPE,
    frame::{ChannelId, FRAME_OVERHEAD, Frame, MAX_FRAME_DATA},
    inbox::{COMMITMENT_VERSION, FRAMES_VERSION},
    types::BlockId,
};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Encodable;
use brotli::enc::BrotliEncoderParams;

/// Frames that a channel can have: they are numbered in 16 bits.
const MAX_FRAMES: usize = 1 << 16;

/// How large a channel becomes, and how hard it is squeezed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Bytes of a frame, its 23 bytes of overhead included.
    pub max_frame_bytes: usize,
    /// Compressed bytes at which the channel takes no more blocks. Estimated from above, so the
    /// result is a little smaller; only a single block larger than this exceeds it.
    pub target_bytes: usize,
    /// Blocks at which the channel takes no more.
    pub max_blocks: usize,
    /// Brotli quality, 0 to 11. 10 takes ten times as long as 9, for 1.4 % fewer bytes
    /// (`examples/da_bytes.rs`); see [`ChannelOut::set_quality`] for when there is no time for it.
    pub quality: u8,
}

impl Default for ChannelLimits {
    /// Frames of 120 kB, which fit an L1 transaction; channels of ten of them; quality 10.
    fn default() -> Self {
        Self {
            max_frame_bytes: 120_000,
            target_bytes: 1_200_000,
            max_blocks: 100_000,
            quality: 10,
        }
    }
}

/// A layer 2 block as the batcher sees it.
#[derive(Debug, Clone, Copy)]
pub struct BlockData<'a> {
    /// Hash of the block below.
    pub parent_hash: B256,
    /// Its time.
    pub timestamp: u64,
    /// Its epoch.
    pub l1_origin: BlockId,
    /// Its place in the epoch.
    pub sequence_number: u64,
    /// EIP-2718 bytes of all transactions. Deposits are left out: the layer 1 says them.
    pub transactions: &'a [Bytes],
}

/// Why a block was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The channel has reached a limit: close it, and put the block into the next one.
    #[error("channel is full")]
    Full,
    /// The block alone is more than a channel can hold, so it cannot be derived by anybody.
    #[error("block of {bytes} bytes is more than a channel can hold")]
    BlockTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The limits leave no room for data in a frame, or make more frames than can be numbered.
    #[error("{bytes} bytes do not fit frames of {max_frame_bytes} bytes")]
    TooManyFrames {
        /// Compressed bytes.
        bytes: usize,
        /// The limit.
        max_frame_bytes: usize,
    },
}

/// A channel being filled with blocks, in order.
///
/// Blocks go into span batches. A block that a span cannot hold so that the same bytes come out
/// again (a transaction of another chain id or an unknown type) goes into a singular batch, so
/// that nothing stops the batcher.
#[derive(Debug)]
pub struct ChannelOut {
    config: RollupConfig,
    limits: ChannelLimits,
    id: ChannelId,
    /// Finished batches, each an RLP string.
    rlp: Vec<u8>,
    span: SpanWriter,
    blocks: usize,
    transactions: usize,
    /// Bytes before compression, and after it, when last measured.
    measured: (usize, usize),
}

impl ChannelOut {
    /// An empty channel. `id` must be random: two open channels with one id are a mess.
    #[must_use]
    pub fn new(config: RollupConfig, limits: ChannelLimits, id: ChannelId) -> Self {
        Self {
            config,
            limits,
            id,
            rlp: Vec::new(),
            span: SpanWriter::default(),
            blocks: 0,
            transactions: 0,
            measured: (0, 0),
        }
    }

    /// Blocks that are in.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.blocks
    }

    /// Transactions that are in, without deposits.
    #[must_use]
    pub const fn transactions(&self) -> usize {
        self.transactions
    }

    /// Bytes before compression.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.rlp.len()
            + if self.span.is_empty() {
                0
            } else {
                self.span.size() + 9
            }
    }

    /// Compressed bytes so far, never too few.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        self.measured.1 + (self.raw_bytes().saturating_sub(self.measured.0))
    }

    /// Adds the next block.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Full`], and the channel is as before; [`ChannelError::BlockTooLarge`].
    pub fn add_block(&mut self, block: &BlockData<'_>) -> Result<(), ChannelError> {
        if self.blocks >= self.limits.max_blocks {
            return Err(ChannelError::Full);
        }
        let transactions: Vec<&Bytes> = block
            .transactions
            .iter()
            .filter(|tx| tx.first() != Some(&DEPOSIT_TYPE))
            .collect();
        // No encoding takes more than this.
        let bytes = 256 + transactions.iter().map(|tx| tx.len() + 16).sum::<usize>();
        if bytes > MAX_RLP_BYTES_PER_CHANNEL {
            return Err(ChannelError::BlockTooLarge { bytes });
        }
        if self.raw_bytes() + bytes > MAX_RLP_BYTES_PER_CHANNEL {
            return Err(ChannelError::Full);
        }
        if self.blocks > 0 && self.estimated_bytes() + bytes > self.limits.target_bytes {
            self.measure();
            if self.estimated_bytes() + bytes > self.limits.target_bytes {
                return Err(ChannelError::Full);
            }
        }
        let facts = BlockFacts {
            parent_hash: &block.parent_hash,
            timestamp: block.timestamp,
            epoch: block.l1_origin.number,
            epoch_hash: &block.l1_origin.hash,
            advances: block.sequence_number == 0,
        };
        let chain = self.config.l2_chain_id();
        let columns: Option<Vec<Columns>> = transactions
            .iter()
            .map(|tx| Columns::of(tx, chain))
            .collect();
        if let Some(columns) = columns {
            if !self
                .span
                .fits(&facts, columns.len(), self.config.block_time())
            {
                self.finish_span();
            }
            self.span.push(&facts, &columns);
        } else {
            self.finish_span();
            let batch = SingularBatch {
                parent_hash: block.parent_hash,
                epoch: block.l1_origin,
                timestamp: block.timestamp,
                transactions: transactions.iter().copied().cloned().collect(),
            };
            batch.encode()[..].encode(&mut self.rlp);
        }
        self.blocks += 1;
        self.transactions += transactions.len();
        Ok(())
    }

    fn finish_span(&mut self) {
        if !self.span.is_empty() {
            let span = core::mem::take(&mut self.span);
            span.encode(self.config.l2_genesis_time())[..].encode(&mut self.rlp);
        }
    }

    /// Compresses quickly what is there, which is no smaller than the real compression.
    fn measure(&mut self) {
        // Not for less than a quarter more than last time, so that the cost stays linear.
        let raw = self.raw_bytes();
        if raw < self.measured.0 + self.measured.0 / 4 {
            return;
        }
        let mut data = self.rlp.clone();
        if !self.span.is_empty() {
            data.extend(self.span.encode(self.config.l2_genesis_time()));
        }
        self.measured = (raw, compress(&data, self.limits.quality.min(2)).len());
    }

    /// Squeezes the channel with another brotli quality than its limits say.
    pub const fn set_quality(&mut self, quality: u8) {
        self.limits.quality = quality;
    }

    /// Compresses the channel and cuts it into frames of at most
    /// [`ChannelLimits::max_frame_bytes`], to be sent in order. An empty channel has none.
    ///
    /// # Errors
    ///
    /// [`ChannelError::TooManyFrames`].
    pub fn close(mut self) -> Result<ClosedChannel, ChannelError> {
        self.finish_span();
        let raw_bytes = self.rlp.len();
        let data: Bytes = if self.rlp.is_empty() {
            Bytes::new()
        } else {
            compress(&self.rlp, self.limits.quality).into()
        };
        let max_frame_bytes = self.limits.max_frame_bytes;
        let room = max_frame_bytes
            .saturating_sub(FRAME_OVERHEAD)
            .min(MAX_FRAME_DATA);
        let count = data
            .len()
            .checked_div(room)
            .map_or(usize::MAX, |_| data.len().div_ceil(room));
        if count > MAX_FRAMES {
            return Err(ChannelError::TooManyFrames {
                bytes: data.len(),
                max_frame_bytes,
            });
        }
        let frames = (0..count)
            .map(|i| {
                let end = data.len().min((i + 1) * room);
                let frame = Frame {
                    channel: self.id,
                    number: u16::try_from(i).unwrap_or(u16::MAX),
                    data: data.slice(i * room..end),
                    is_last: i + 1 == count,
                };
                frame.encode().into()
            })
            .collect();
        Ok(ClosedChannel {
            id: self.id,
            frames,
            blocks: self.blocks,
            transactions: self.transactions,
            raw_bytes,
            compressed_bytes: data.len(),
        })
    }
}

/// A channel, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedChannel {
    /// Its name.
    pub id: ChannelId,
    /// Its frames, in order.
    pub frames: Vec<Bytes>,
    /// Blocks in it.
    pub blocks: usize,
    /// Transactions in it, without deposits.
    pub transactions: usize,
    /// Bytes before compression.
    pub raw_bytes: usize,
    /// Bytes of all frames together, without their overhead.
    pub compressed_bytes: usize,
}

/// Inbox data that holds frames: what goes into calldata, a blob, or behind a commitment.
#[must_use]
pub fn inbox_frames<'a>(frames: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = vec![FRAMES_VERSION];
    frames
        .into_iter()
        .for_each(|frame| out.extend_from_slice(frame));
    out.into()
}

/// Inbox data that holds a commitment (its type byte first) to such data.
#[must_use]
pub fn inbox_commitment(commitment: &[u8]) -> Bytes {
    [&[COMMITMENT_VERSION], commitment].concat().into()
}

/// First byte and brotli stream.
fn compress(data: &[u8], quality: u8) -> Vec<u8> {
    let params = BrotliEncoderParams {
        quality: quality.min(11).into(),
        lgwin: 22,
        size_hint: data.len(),
        ..BrotliEncoderParams::default()
    };
    let mut out = vec![BROTLI];
    brotli::BrotliCompress(&mut &*data, &mut out, &params)
        .expect("reading from and writing to memory does not fail");
    out
}
