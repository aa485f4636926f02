//! Frames: pieces of channels, as they lie in inbox data.
//!
//! Spec: derivation, "Frame format"; Holocene derivation, "Frame queue".

use crate::inbox::FRAMES_VERSION;
use alloc::{collections::VecDeque, vec::Vec};
use alloy_primitives::Bytes;

/// Names a channel; the batcher draws it at random.
pub type ChannelId = [u8; 16];

/// Bytes of a frame beside its data: channel, number, length, last.
pub const FRAME_OVERHEAD: usize = 16 + 2 + 4 + 1;

/// Longest data of a frame.
pub const MAX_FRAME_DATA: usize = 1_000_000;

/// A piece of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) channel: ChannelId,
    pub(crate) number: u16,
    pub(crate) data: Bytes,
    pub(crate) is_last: bool,
}

impl Frame {
    /// Bytes of the frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FRAME_OVERHEAD + self.data.len());
        out.extend_from_slice(&self.channel);
        out.extend_from_slice(&self.number.to_be_bytes());
        let length = u32::try_from(self.data.len()).expect("a frame has up to a million bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.data);
        out.push(self.is_last.into());
        out
    }
}

/// The frames of inbox data: all of them, or none if one cannot be read.
pub(crate) fn parse(data: &Bytes) -> Option<VecDeque<Frame>> {
    if *data.first()? != FRAMES_VERSION || data.len() == 1 {
        return None;
    }
    let mut frames = VecDeque::new();
    let mut at = 1;
    while at < data.len() {
        let head = data.get(at..at + 22)?;
        let length = u32::from_be_bytes([head[18], head[19], head[20], head[21]]);
        let length = usize::try_from(length).ok()?;
        if length > MAX_FRAME_DATA {
            return None;
        }
        let end = at + 22 + length;
        let is_last = match data.get(end)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        frames.push_back(Frame {
            channel: *head.first_chunk()?,
            number: u16::from_be_bytes([head[16], head[17]]),
            data: data.slice(at + 22..end),
            is_last,
        });
        at = end + 1;
    }
    Some(frames)
}

/// Drops frames that cannot belong to a channel whose frames come in order.
pub(crate) fn prune(frames: VecDeque<Frame>) -> VecDeque<Frame> {
    let mut kept: Vec<Frame> = Vec::with_capacity(frames.len());
    for next in frames {
        while let Some(current) = kept.last() {
            if current.channel == next.channel || next.number != 0 || current.is_last {
                break;
            }
            // A first frame ends the channel before it that was not closed.
            kept.pop();
        }
        let fits = kept.last().is_none_or(|current| {
            if current.channel == next.channel {
                !current.is_last && next.number == current.number.wrapping_add(1)
            } else {
                next.number == 0
            }
        });
        if fits {
            kept.push(next);
        }
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(channel: u8, number: u16, is_last: bool) -> Frame {
        Frame {
            channel: [channel; 16],
            number,
            data: vec![channel].into(),
            is_last,
        }
    }

    fn check(input: &[(u8, u16, bool)], expected: &[(u8, u16, bool)]) {
        let frames = |list: &[(u8, u16, bool)]| list.iter().map(|f| frame(f.0, f.1, f.2)).collect();
        let expected: VecDeque<Frame> = frames(expected);
        assert_eq!(prune(frames(input)), expected, "{input:?}");
    }

    #[test]
    fn frames_out_of_order_are_dropped() {
        check(
            &[(1, 0, false), (1, 1, true)],
            &[(1, 0, false), (1, 1, true)],
        );
        check(
            &[(1, 0, false), (1, 2, false), (1, 1, true)],
            &[(1, 0, false), (1, 1, true)],
        );
        check(&[(1, 0, true), (1, 1, false)], &[(1, 0, true)]);
        check(
            &[(1, 0, false), (1, 1, false), (2, 0, true)],
            &[(2, 0, true)],
        );
        check(
            &[(1, 0, true), (2, 1, false), (2, 0, true)],
            &[(1, 0, true), (2, 0, true)],
        );
        check(
            &[(1, 0, false), (1, 0, false), (1, 1, true)],
            &[(1, 0, false), (1, 1, true)],
        );
        check(
            &[(1, 5, false), (1, 6, true)],
            &[(1, 5, false), (1, 6, true)],
        );
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire(
            list in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<bool>()), 1..9),
        ) {
            let frames: VecDeque<_> = list.iter().map(|f| frame(f.0, f.1, f.2)).collect();
            let mut data = vec![FRAMES_VERSION];
            for frame in &frames {
                data.extend(frame.encode());
            }
            prop_assert_eq!(parse(&data.clone().into()), Some(frames));
            data.pop();
            prop_assert_eq!(parse(&data.into()), None);
        }

        #[test]
        fn foreign_bytes_do_not_panic(mut data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = data.first_mut() {
                *first = FRAMES_VERSION;
            }
            if let Some(high) = data.get_mut(19..22) {
                high[0] = 0;
                high[1] = 0;
            }
            if let Some(frames) = parse(&data.into()) {
                prune(frames);
            }
        }
    }
}
