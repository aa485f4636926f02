//! The codes of the quantised formats: what they mean, how they are chosen, where they lie.
//!
//! A row of 32 pairs (one output each, two inputs) takes 16 words as [`Format::Int8`]: the two
//! codes of output `j` are bytes `2j` and `2j + 1`. As [`Format::Nf4`] it takes 8 words, four for
//! outputs 0 to 15 and four for 16 to 31: of these, byte `2i + parity` holds output `i` in its low
//! half and output `i + 8` in its high half, so that a vector of bytes unfolds into two vectors
//! that a conversion to bf16 joins in order.

use crate::pairs::{PANEL, pair};
use crate::weight::{Format, GROUP};

/// The values of the 4-bit `NormalFloat` (Dettmers et al. 2023, appendix E): quantiles of a normal
/// distribution, scaled to -1 .. 1, with an exact zero.
pub(crate) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Chooses codes and scales for one output, lane `lane` of a zeroed panel.
pub(crate) fn pack(
    format: Format,
    row: &[f32],
    lane: usize,
    codes: &mut [u32],
    scales: &mut [f32],
) {
    for (group, values) in row.chunks(GROUP).enumerate() {
        let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let scale = if format == Format::Int8 {
            largest / 127.0
        } else {
            largest
        };
        scales[group * PANEL + lane] = scale;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (i, x) in values.iter().enumerate() {
            let input = group * GROUP + i;
            let codes = &mut codes[input / 2 * format.row_words()..];
            if format == Format::Int8 {
                let byte = 2 * lane + input % 2;
                let code = (x * inverse).round().clamp(-127.0, 127.0) as i8;
                codes[byte / 4] |= u32::from(code.cast_unsigned()) << (8 * (byte % 4));
            } else {
                let (word, shift) = nf4_place(lane, input % 2);
                codes[word] |= nearest(x * inverse) << shift;
            }
        }
    }
}

/// The code of the nearest value.
fn nearest(x: f32) -> u32 {
    let above = NF4
        .windows(2)
        .filter(|two| x > f32::midpoint(two[0], two[1]))
        .count();
    above as u32
}

/// Word and bit of an NF4 code in its row.
fn nf4_place(lane: usize, parity: usize) -> (usize, usize) {
    let byte = lane / 16 * 16 + 2 * (lane % 8) + parity;
    (byte / 4, 8 * (byte % 4) + if lane % 16 < 8 { 0 } else { 4 })
}

/// The pair of an output in a row of int8 codes.
#[inline(always)]
pub(crate) fn int8(row: &[u32], scales: &[f32], lane: usize) -> u32 {
    let two = row[lane / 2] >> (16 * (lane % 2));
    let value = |code: u32| f32::from((code as u8).cast_signed()) * scales[lane];
    pair(value(two), value(two >> 8))
}

/// The pair of an output in a row of NF4 codes.
#[inline(always)]
pub(crate) fn nf4(row: &[u32], scales: &[f32], lane: usize) -> u32 {
    let value = |parity: usize| {
        let (word, shift) = nf4_place(lane, parity);
        NF4[(row[word] >> shift & 15) as usize] * scales[lane]
    };
    pair(value(0), value(1))
}
