//! Looking into what a batcher sent, without deriving anything from it: whether the blocks belong
//! to the chain is not asked.

use crate::{
    batch::Batch,
    channel::{Assembler, ChannelReader},
    config::RollupConfig,
    frame,
};
use alloc::{boxed::Box, vec::Vec};
use alloy_primitives::Bytes;

/// A block as a batch describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchedBlock {
    /// Number of its L1 origin.
    pub epoch: u64,
    /// Seconds since the epoch.
    pub timestamp: u64,
    /// EIP-2718 bytes of its transactions, deposits excluded.
    pub transactions: Vec<Bytes>,
}

/// The blocks of the channels that the frames of one piece of inbox data begin and complete. What
/// cannot be read is left out, as derivation does.
pub fn blocks_in_frames<'a>(
    config: &'a RollupConfig,
    data: &Bytes,
) -> impl Iterator<Item = BatchedBlock> + 'a {
    let mut assembler = Assembler::default();
    let frames = frame::prune(frame::parse(data).unwrap_or_default());
    frames
        .into_iter()
        .filter_map(move |frame| assembler.add(&frame, 0))
        .flat_map(move |channel| {
            let mut reader = ChannelReader::new(&channel);
            core::iter::from_fn(move || reader.next(config))
        })
        .flat_map(blocks)
}

/// The blocks of one batch, version byte first; `None` where it cannot be read.
#[must_use]
pub fn blocks_in_batch(
    config: &RollupConfig,
    batch: &[u8],
) -> Option<impl Iterator<Item = BatchedBlock> + use<>> {
    Batch::decode(batch, config).map(blocks)
}

fn blocks(batch: Batch) -> Box<dyn Iterator<Item = BatchedBlock>> {
    match batch {
        Batch::Singular(batch) => Box::new(core::iter::once(BatchedBlock {
            epoch: batch.epoch.number,
            timestamp: batch.timestamp,
            transactions: batch.transactions,
        })),
        Batch::Span(span) => Box::new(span.blocks().map(|block| BatchedBlock {
            epoch: block.epoch,
            timestamp: block.timestamp,
            transactions: block.transactions,
        })),
    }
}
