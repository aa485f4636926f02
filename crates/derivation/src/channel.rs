//! Frames to channels, channels to batches.
//!
//! Spec: Holocene derivation, "Channel assembler" and "Channel reader".

use crate::{
    batch::Batch,
    config::{MAX_RLP_BYTES_PER_CHANNEL, RollupConfig},
    decompress::decompress,
    frame::{ChannelId, Frame},
    rlp,
};
use alloc::vec::Vec;
use alloy_primitives::hex;
use tracing::{debug, warn};

/// What a frame counts for beside its data, against the size limit of its channel.
const FRAME_WEIGHT: usize = 200;

/// The channel that frames are being added to.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    id: ChannelId,
    opened_at: u64,
    next: u32,
    size: usize,
    data: Vec<u8>,
}

impl Assembler {
    /// Forgets a channel that took too long. `origin` is the number of the current L1 block.
    pub(crate) fn expire(&mut self, config: &RollupConfig, origin: u64) {
        if let Some(open) = &self.open
            && open.opened_at.saturating_add(config.channel_timeout()) < origin
        {
            warn!(
                channel = hex::encode(open.id),
                opened_at = open.opened_at,
                "channel timed out"
            );
            self.open = None;
        }
    }

    /// Adds a frame; returns the compressed channel if it was the last one.
    pub(crate) fn add(&mut self, frame: &Frame, origin: u64) -> Option<Vec<u8>> {
        if frame.number == 0 {
            self.open = Some(Open {
                id: frame.channel,
                opened_at: origin,
                next: 0,
                size: 0,
                data: Vec::new(),
            });
        }
        let open = self.open.as_mut()?;
        if open.id != frame.channel || open.next != u32::from(frame.number) {
            debug!(
                channel = hex::encode(frame.channel),
                frame.number, "frame out of order"
            );
            return None;
        }
        open.next += 1;
        open.size += frame.data.len() + FRAME_WEIGHT;
        if open.size > MAX_RLP_BYTES_PER_CHANNEL {
            warn!(channel = hex::encode(open.id), "channel too large");
            self.open = None;
            return None;
        }
        open.data.extend_from_slice(&frame.data);
        if frame.is_last {
            self.open.take().map(|open| open.data)
        } else {
            None
        }
    }

    /// The L1 block with the first frame of the channel that is not complete.
    pub(crate) fn opened_at(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.opened_at)
    }

    /// Forgets the channel.
    pub(crate) fn clear(&mut self) {
        self.open = None;
    }
}

/// A channel being read.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    data: Vec<u8>,
    at: usize,
}

impl ChannelReader {
    /// Decompresses a channel: up to the limit, and up to where it is damaged.
    pub(crate) fn new(channel: &[u8]) -> Self {
        Self {
            data: decompress(channel, MAX_RLP_BYTES_PER_CHANNEL).unwrap_or_default(),
            at: 0,
        }
    }

    /// The next batch; `None` at the end and from the first one that cannot be read on.
    pub(crate) fn next(&mut self, config: &RollupConfig) -> Option<Batch> {
        let mut rest = self.data.get(self.at..)?;
        let batch = rlp::item(&mut rest)
            .and_then(|item| item.bytes())
            .and_then(|b| Batch::decode(b, config));
        if batch.is_none() && !rest.is_empty() {
            warn!(
                at = self.at,
                of = self.data.len(),
                "channel holds something else than batches"
            );
        }
        self.at = if batch.is_some() {
            self.data.len() - rest.len()
        } else {
            self.data.len()
        };
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: u8, number: u16, is_last: bool) -> Frame {
        Frame {
            channel: [channel; 16],
            number,
            data: vec![channel; 3].into(),
            is_last,
        }
    }

    #[test]
    fn frames_come_in_order_or_not_at_all() {
        let mut assembler = Assembler::default();
        assert_eq!(
            assembler.add(&frame(1, 1, true), 5),
            None,
            "no channel is open"
        );
        assert_eq!(assembler.add(&frame(1, 0, false), 5), None);
        assert_eq!(
            assembler.add(&frame(1, 2, true), 5),
            None,
            "frame 1 is missing"
        );
        assert_eq!(
            assembler.add(&frame(2, 1, true), 5),
            None,
            "another channel"
        );
        assert_eq!(assembler.add(&frame(1, 1, true), 5), Some(vec![1; 6]));
        assert_eq!(assembler.add(&frame(1, 2, true), 5), None, "closed");
    }

    #[test]
    fn a_first_frame_opens_a_channel_anew() {
        let mut assembler = Assembler::default();
        assembler.add(&frame(1, 0, false), 5);
        assembler.add(&frame(2, 0, false), 5);
        assert_eq!(assembler.add(&frame(1, 1, true), 5), None);
        assert_eq!(assembler.add(&frame(2, 1, true), 5), Some(vec![2; 6]));
    }
}
