//! The number formats of tensors in GGUF files, as ggml defines them in `ggml-common.h` and
//! `ggml-quants.c`.

use std::fmt;

use half::{bf16, f16};

use crate::Error;

/// Formats that are read.
pub(crate) const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q4_K and Q6_K";

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Bf16,
    /// Blocks of 32: a scale, and 8 bits a number.
    Q8_0,
    /// Blocks of 256 in eight groups, each with a scale and a minimum of 6 bits; 4 bits a number.
    Q4K,
    /// Blocks of 256 in sixteen groups, each with a scale of 8 bits; 6 bits a number.
    Q6K,
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self.number()))
    }
}

/// How ggml calls a format.
pub(crate) fn name(number: u32) -> String {
    const NAMES: [&str; 40] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
        "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "", "", "", "TQ1_0",
        "TQ2_0", "", "", "", "MXFP4",
    ];
    match NAMES.get(number as usize) {
        Some(name) if !name.is_empty() => (*name).to_owned(),
        _ => format!("type {number}"),
    }
}

impl TensorType {
    pub(crate) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Numbers and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a tensor, unless its rows do not divide into blocks or the number overflows.
    pub(crate) fn bytes(self, shape: &[usize]) -> Option<usize> {
        let (numbers, bytes) = self.block();
        if !shape.last()?.is_multiple_of(numbers) {
            return None;
        }
        let size = shape
            .iter()
            .try_fold(1_usize, |all, n| all.checked_mul(*n))?;
        (size / numbers).checked_mul(bytes)
    }

    /// Numbers of a whole tensor; `bytes` and `out` are as long as [`TensorType::bytes`] says.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            Self::F16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = f16::from_le_bytes(*b).to_f32();
                }
            }
            Self::Bf16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = bf16::from_le_bytes(*b).to_f32();
                }
            }
            Self::Q8_0 => {
                let blocks = bytes.as_chunks::<34>().0;
                for (block, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
                    decode_q8_0(block, out);
                }
            }
            Self::Q4K => {
                let blocks = bytes.as_chunks::<144>().0;
                for (block, out) in blocks.iter().zip(out.as_chunks_mut::<256>().0) {
                    decode_q4_k(block, out);
                }
            }
            Self::Q6K => {
                let blocks = bytes.as_chunks::<210>().0;
                for (block, out) in blocks.iter().zip(out.as_chunks_mut::<256>().0) {
                    decode_q6_k(block, out);
                }
            }
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (x, q) in out.iter_mut().zip(&block[2..]) {
        *x = scale * f32::from(q.cast_signed());
    }
}

fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let packed = &block[4..16];
    // Scale and minimum of a group, 6 bits each; those of the later four are in two pieces.
    let group = |g: usize| {
        let (s, m) = if g < 4 {
            (packed[g] & 63, packed[g + 4] & 63)
        } else {
            let (low, high) = (packed[g + 4], [packed[g - 4], packed[g]]);
            (
                (low & 15) | ((high[0] >> 6) << 4),
                (low >> 4) | ((high[1] >> 6) << 4),
            )
        };
        (scale * f32::from(s), minimum * f32::from(m))
    };
    // Two groups share 32 bytes: the lower and the upper halves of all of them.
    for (pair, (out, bytes)) in out
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(block[16..].as_chunks::<32>().0)
        .enumerate()
    {
        let (low, high) = out.split_at_mut(32);
        let (scale, minimum) = group(2 * pair);
        for (x, q) in low.iter_mut().zip(bytes) {
            *x = scale * f32::from(q & 15) - minimum;
        }
        let (scale, minimum) = group(2 * pair + 1);
        for (x, q) in high.iter_mut().zip(bytes) {
            *x = scale * f32::from(q >> 4) - minimum;
        }
    }
}

fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (lows, highs) = (&lows[64 * half..][..64], &highs[32 * half..][..32]);
        let scales = &scales[8 * half..][..8];
        for (index, x) in out.iter_mut().enumerate() {
            let (quarter, at) = (index / 32, index % 32);
            // Quarters 0 and 1 are lower halves of bytes, 2 and 3 the upper ones of the same.
            let low = lows[32 * (quarter % 2) + at] >> (4 * (quarter / 2)) & 15;
            let high = highs[at] >> (2 * quarter) & 3;
            let q = i16::from(low | high << 4) - 32;
            *x = scale * f32::from(scales[index / 16].cast_signed()) * f32::from(q);
        }
    }
}

/// Formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE single precision: nothing is lost.
    F32,
    /// IEEE half precision, up to 65504.
    F16,
    /// The upper half of `f32`, rounded to nearest even.
    Bf16,
    /// 8 bits and a scale for each 32 numbers of a row; 8.5 bits a number.
    Q8_0,
}

impl Encoding {
    /// Number of the format of a whole file, `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }

    /// The format of one tensor: vectors stay F32, and what does not divide into blocks is F16,
    /// as in llama.cpp's own converter.
    pub(crate) fn of_tensor(self, shape: &[usize]) -> TensorType {
        if shape.len() == 1 {
            return TensorType::F32;
        }
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::Bf16,
            Self::Q8_0 if TensorType::Q8_0.bytes(shape).is_some() => TensorType::Q8_0,
            Self::Q8_0 => TensorType::F16,
        }
    }
}

/// Bytes of a tensor in a format that is written.
pub(crate) fn encode(kind: TensorType, tensor: &str, values: &[f32]) -> Result<Vec<u8>, Error> {
    let range = |format, limit: f32| match values.iter().position(|x| x.abs() > limit) {
        None => Ok(()),
        Some(index) => Err(Error::Range {
            tensor: tensor.to_owned(),
            index,
            value: values[index],
            format,
        }),
    };
    Ok(match kind {
        TensorType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorType::F16 => {
            range("F16", f16::MAX.to_f32())?;
            let half = |x: &f32| f16::from_f32(*x).to_le_bytes();
            values.iter().flat_map(half).collect()
        }
        TensorType::Bf16 => {
            range("BF16", bf16::MAX.to_f32())?;
            let half = |x: &f32| bf16::from_f32(*x).to_le_bytes();
            values.iter().flat_map(half).collect()
        }
        TensorType::Q8_0 => {
            // The scale is a half-precision number.
            range("Q8_0", 127.0 * f16::MAX.to_f32())?;
            let blocks = values.as_chunks::<32>().0;
            blocks.iter().flat_map(encode_q8_0).collect()
        }
        TensorType::Q4K | TensorType::Q6K => {
            return Err(Error::Inexpressible {
                field: "the tensor format",
                value: kind.to_string(),
                format: "this writer",
                expected: "F32, F16, BF16 and Q8_0".to_owned(),
            });
        }
    })
}

/// As ggml does it: the scale is the largest magnitude over 127, quotients are rounded half away
/// from zero by the scale before that is rounded to half precision.
fn encode_q8_0(values: &[f32; 32]) -> [u8; 34] {
    let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (b, x) in block[2..].iter_mut().zip(values) {
        *b = ((x * inverse).round() as i8).cast_unsigned();
    }
    block
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sizes_do_not_overflow_and_rows_divide_into_blocks() {
        assert_eq!(TensorType::Q4K.bytes(&[3, 512]), Some(3 * 2 * 144));
        assert_eq!(TensorType::Q4K.bytes(&[512, 3]), None);
        assert_eq!(TensorType::F32.bytes(&[usize::MAX, 2]), None);
        assert_eq!(TensorType::F32.bytes(&[usize::MAX / 2]), None);
        assert_eq!(TensorType::F32.bytes(&[]), None);
    }

    #[test]
    fn eight_bits_are_within_half_a_step() {
        let values: Vec<f32> = (0..64)
            .map(|i| ((i * 37 % 61) as f32 - 30.0) * 0.07)
            .collect();
        let bytes = encode(TensorType::Q8_0, "t", &values).unwrap();
        assert_eq!(bytes.len(), TensorType::Q8_0.bytes(&[2, 32]).unwrap());
        let mut again = vec![0.0; 64];
        TensorType::Q8_0.decode(&bytes, &mut again);
        for (x, y) in values.iter().zip(&again) {
            // Half a step, and what the scale lost as a half-precision number.
            assert!((x - y).abs() <= 2.1 / 127.0 * 0.5 + 2.1 * 5e-4, "{x} {y}");
        }
        // Rounding what is already rounded changes nothing but the scale's last bits.
        let twice = encode(TensorType::Q8_0, "t", &again).unwrap();
        let mut last = vec![0.0; 64];
        TensorType::Q8_0.decode(&twice, &mut last);
        for (x, y) in again.iter().zip(&last) {
            assert!((x - y).abs() <= 2e-3 * x.abs(), "{x} {y}");
        }
        assert!(
            encode(TensorType::Q8_0, "t", &[0.0; 32])
                .unwrap()
                .iter()
                .all(|b| *b == 0)
        );
    }

    #[test]
    fn what_half_precision_cannot_hold_is_refused() {
        let error = encode(TensorType::F16, "w", &[1.0, -7e4]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`w`") && text.contains("element 1"), "{text}");
        assert!(encode(TensorType::Bf16, "w", &[1.0, -7e4]).is_ok());
    }
}
