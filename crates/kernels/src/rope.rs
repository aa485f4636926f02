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

/// Frequencies `theta^(-2j / head_dim)` of the pairs `j`, rounded to `f32` as the reference code
/// does; angles are position times frequency.
#[must_use]
pub fn frequencies(head_dim: usize, theta: f32) -> Vec<f32> {
    let log_theta = ln(f64::from(theta));
    (0..head_dim / 2)
        .map(|j| exp64(-log_theta * (2 * j) as f64 / head_dim as f64) as f32)
        .collect()
}

/// Linear scaling (Chen et al. 2023): all frequencies divided by `factor`.
pub fn scale_linear(frequencies: &mut [f32], factor: f32) {
    for f in frequencies {
        *f /= factor;
    }
}

/// The scaling of Llama 3.1: wavelengths above `context / low` are stretched by `factor`, those
/// below `context / high` are kept, and between them the two frequencies are blended.
pub fn scale_llama3(frequencies: &mut [f32], factor: f32, low: f32, high: f32, context: usize) {
    let context = context as f32;
    for f in frequencies {
        let wavelength = std::f32::consts::TAU / *f;
        if wavelength > context / low {
            *f /= factor;
        } else if wavelength >= context / high {
            let kept = (context / wavelength - low) / (high - low);
            *f = (1.0 - kept) * *f / factor + kept * *f;
        }
    }
}

/// The parameters of `YaRN` (Peng et al. 2023).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f32,
    /// Turns in the original context above which a pair keeps its frequency.
    pub beta_fast: f32,
    /// Turns below which its frequency is divided.
    pub beta_slow: f32,
    /// Context of the first training.
    pub original_context: usize,
}

impl Yarn {
    /// The scaled frequencies (section 3.2 of the paper, with the ramp's ends rounded outwards
    /// as the reference code does by default).
    #[must_use]
    pub fn frequencies(self, head_dim: usize, theta: f32) -> Vec<f32> {
        // The pair that turns `turns` times within the original context.
        let pair = |turns: f32| {
            let length = self.original_context as f64 / (f64::from(turns) * std::f64::consts::TAU);
            head_dim as f64 * ln(length) / (2.0 * ln(f64::from(theta)))
        };
        let low = pair(self.beta_fast).floor().max(0.0);
        let high = pair(self.beta_slow).ceil().min(head_dim as f64 - 1.0);
        // The reference code's guard against a ramp of no length.
        let high = if high > low { high } else { low + 0.001 };
        let (low, length) = (low as f32, (high - low) as f32);
        let mut frequencies = frequencies(head_dim, theta);
        for (j, f) in frequencies.iter_mut().enumerate() {
            let ramp = ((j as f32 - low) / length).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            *f = (*f / self.factor) * (1.0 - kept) + *f * kept;
        }
        frequencies
    }

    /// The factor on cosine and sine that the paper recommends: `0.1 ln(factor) + 1`, 1 for
    /// factors up to 1.
    #[must_use]
    pub fn attention_factor(self) -> f32 {
        if self.factor <= 1.0 {
            1.0
        } else {
            (0.1 * ln(f64::from(self.factor)) + 1.0) as f32
        }
    }
}

impl RopeTable {
    /// Unscaled rotation: [`frequencies`] and an attention factor of 1.
    #[must_use]
    pub fn new(positions: usize, head_dim: usize, theta: f32) -> Self {
        Self::from_frequencies(positions, &frequencies(head_dim, theta), 1.0)
    }

    /// Angles `position * frequency`, rounded to `f32`; their sines and cosines are taken in
    /// `f64`, rounded and multiplied by `attention_factor`.
    #[must_use]
    pub fn from_frequencies(positions: usize, frequencies: &[f32], attention_factor: f32) -> Self {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..positions {
            for frequency in frequencies {
                let (s, c) = sin_cos(f64::from(position as f32 * frequency));
                cos.push(c as f32 * attention_factor);
                sin.push(s as f32 * attention_factor);
            }
        }
        Self {
            cos,
            sin,
            half: frequencies.len(),
        }
    }

    /// How many positions the table covers.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

kernel! {
    /// Turns `heads` heads at the start of each row of `x` (rows `stride` apart); row `i` is at
    /// position `first + i`. `inverse` multiplies by the transpose: it is the backward, and
    /// turns back where the attention factor is 1.
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
