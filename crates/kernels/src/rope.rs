//! Rotary position embedding (Su et al. 2021), in the half-split layout of the Hugging Face
//! Llama code: element `j` turns with element `j + head_dim / 2`.

use crate::isa::kernel;
use crate::math::{exp64, ln, sin_cos};

/// Cosines and sines of all positions, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RopeTable {
    /// Angles `position * theta^(-2j / head_dim)`; the frequency and the angle are rounded to
    /// `f32` as the reference code does, the sine and cosine are taken in `f64`.
    #[must_use]
    pub fn new(positions: usize, head_dim: usize, theta: f32) -> Self {
        let half = head_dim / 2;
        let log_theta = ln(f64::from(theta));
        let frequencies: Vec<f32> = (0..half)
            .map(|j| exp64(-log_theta * (2 * j) as f64 / head_dim as f64) as f32)
            .collect();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..positions {
            for frequency in &frequencies {
                let (s, c) = sin_cos(f64::from(position as f32 * frequency));
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        Self { cos, sin, half }
    }

    /// How many positions the table covers.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

kernel! {
    /// Turns `heads` heads at the start of each row of `x` (rows `stride` apart); row `i` is at
    /// position `first + i`. `inverse` turns back, which is also the backward.
    ///
    /// # Panics
    /// When a row or a position is out of range.
    pub fn rope(
        x: &mut [f32], stride: usize, rows: usize, heads: usize, table: &RopeTable, first: usize,
        inverse: bool,
    ) {
        let half = table.half;
        for i in 0..rows {
            let cos = &table.cos[(first + i) * half..][..half];
            let sin = &table.sin[(first + i) * half..][..half];
            let row = &mut x[i * stride..][..heads * 2 * half];
            for head in 0..heads {
                let (low, high) = row[head * 2 * half..][..2 * half].split_at_mut(half);
                for j in 0..half {
                    let s = if inverse { -sin[j] } else { sin[j] };
                    let (a, b) = (low[j], high[j]);
                    low[j] = a.mul_add(cos[j], -(b * s));
                    high[j] = b.mul_add(cos[j], a * s);
                }
            }
        }
    }
}
