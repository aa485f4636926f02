//! Moments in 8 bits (Dettmers, Lewis, Shleifer & Zettlemoyer, "8-bit Optimizers via Block-wise
//! Quantization", ICLR 2022).
//!
//! Every block of 256 values has its own scale, the largest magnitude in it, and every value is the
//! nearest of 256 numbers of the paper's dynamic tree (section 1.3; the tables are those of
//! bitsandbytes' `create_dynamic_map`): seven decades, ten times coarser from one to the next
//! smaller. The update is computed in f32 from the dequantised moments and only then are they
//! rounded again, so a step differs from `AdamW`'s only by what the moments had lost before.
//!
//! One deviation: a second moment above zero never becomes zero. The update divides by its root,
//! and a block with one large and many small gradients would otherwise divide small first moments
//! by epsilon.

use std::sync::LazyLock;

use super::{Factors, take};

/// Values that share a scale.
pub(super) const QUANTUM: usize = 256;

/// A quantised vector: codes, and a scale for every block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantised {
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
}

impl Quantised {
    pub(super) fn zeros(values: usize, scales: usize) -> Self {
        // Whatever number a code stands for, a scale of zero makes it zero.
        Self {
            codes: vec![0; values],
            scales: vec![0.0; scales],
        }
    }

    pub(super) fn parts(&mut self) -> Parts<'_> {
        Parts {
            codes: &mut self.codes,
            scales: &mut self.scales,
        }
    }
}

/// A part of a quantised vector, to change.
pub(super) struct Parts<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f32],
}

impl<'a> Parts<'a> {
    /// Cuts off the first values and scales.
    pub(super) fn take(&mut self, values: usize, scales: usize) -> Self {
        Parts {
            codes: take(&mut self.codes, values),
            scales: take(&mut self.scales, scales),
        }
    }

    fn blocks(self) -> impl Iterator<Item = (&'a mut [u8], &'a mut f32)> {
        self.codes.chunks_mut(QUANTUM).zip(self.scales)
    }
}

/// The 256 numbers of a code, ascending, and the middles between them.
struct Table {
    values: [f32; 256],
    /// `middles[i]` separates code `i` from code `i + 1`; the last is infinite.
    middles: [f32; 256],
}

impl Table {
    /// Seven decades below 1: the decade ending at `10^-e` is cut into `2^(6-e)` equal parts (twice
    /// as many without a sign), and the codes are the parts' middles. Zero and one complete them.
    fn new(signed: bool) -> Self {
        const DECADES: [f64; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
        let mut numbers = vec![0.0, 1.0];
        for (index, decade) in DECADES.into_iter().enumerate() {
            let parts = 1 << (index + usize::from(!signed));
            for part in 0..parts {
                let middle = 0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts);
                numbers.push(decade * middle);
                if signed {
                    numbers.push(-decade * middle);
                }
            }
        }
        numbers.sort_by(f64::total_cmp);
        let mut table = Self {
            values: [0.0; 256],
            middles: [f32::INFINITY; 256],
        };
        for (value, number) in table.values.iter_mut().zip(numbers) {
            *value = number as f32;
        }
        for index in 0..255 {
            table.middles[index] = 0.5 * (table.values[index] + table.values[index + 1]);
        }
        table
    }

    /// The code nearest to `x`: how many middles lie below it, by halving without branches.
    #[inline(always)]
    fn code(&self, x: f32) -> u8 {
        let mut below = 0;
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            below += step * usize::from(self.middles[below + step - 1] < x);
        }
        below as u8
    }
}

static SIGNED: LazyLock<Table> = LazyLock::new(|| Table::new(true));
static UNSIGNED: LazyLock<Table> = LazyLock::new(|| Table::new(false));

/// One update of the values of a segment.
pub(super) fn update(
    factors: &Factors,
    parameters: &mut [f32],
    gradients: &[f32],
    first: Parts<'_>,
    second: Parts<'_>,
) {
    let (signed, unsigned) = (&*SIGNED, &*UNSIGNED);
    let values = parameters
        .chunks_mut(QUANTUM)
        .zip(gradients.chunks(QUANTUM));
    for (((p, g), (m_codes, m_scale)), (v_codes, v_scale)) in
        values.zip(first.blocks()).zip(second.blocks())
    {
        let (mut m, mut v) = ([0.0f32; QUANTUM], [0.0f32; QUANTUM]);
        let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
        let (mut m_largest, mut v_largest) = (0.0f32, 0.0f32);
        for index in 0..p.len() {
            m[index] = signed.values[usize::from(m_codes[index])] * *m_scale;
            v[index] = unsigned.values[usize::from(v_codes[index])] * *v_scale;
            factors.apply(&mut p[index], &mut m[index], &mut v[index], g[index]);
            m_largest = m_largest.max(m[index].abs());
            v_largest = v_largest.max(v[index]);
        }
        (*m_scale, *v_scale) = (m_largest, v_largest);
        let (m_inverse, v_inverse) = (inverse(m_largest), inverse(v_largest));
        for index in 0..p.len() {
            m_codes[index] = signed.code(m[index] * m_inverse);
            let code = unsigned.code(v[index] * v_inverse);
            v_codes[index] = code.max(u8::from(v[index] > 0.0));
        }
    }
}

/// `1 / largest`, or 0 for a block of zeros.
fn inverse(largest: f32) -> f32 {
    let inverse = 1.0 / largest;
    if inverse.is_finite() { inverse } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the tests compare bits on purpose")]
    use super::super::{AdamW, Moments, Optimizer, Step, segments, update};
    use super::*;

    /// bitsandbytes' `create_dynamic_map`, written as there.
    fn dynamic_map(signed: bool) -> Vec<f32> {
        let mut data = Vec::new();
        for i in 0..7i32 {
            let items = if signed { 1 << i } else { 1 << (i + 1) } + 1;
            let boundaries: Vec<f64> = (0..items)
                .map(|k| 0.1 + 0.9 * f64::from(k) / f64::from(items - 1))
                .collect();
            for pair in boundaries.windows(2) {
                let mean = 10f64.powi(i - 6) * (pair[0] + pair[1]) / 2.0;
                data.push(mean as f32);
                if signed {
                    data.push(-mean as f32);
                }
            }
        }
        data.extend([0.0, 1.0]);
        data.sort_by(f32::total_cmp);
        data
    }

    #[test]
    fn the_codes_are_those_of_the_dynamic_map() {
        for (table, signed) in [(&*SIGNED, true), (&*UNSIGNED, false)] {
            let map = dynamic_map(signed);
            assert_eq!(map.len(), 256);
            for (ours, theirs) in table.values.iter().zip(&map) {
                assert!(
                    (ours - theirs).abs() <= 1e-7 * theirs.abs(),
                    "{ours} {theirs}"
                );
            }
            // Every number finds its own code, and any other its nearest.
            for (code, value) in table.values.iter().enumerate() {
                assert_eq!(usize::from(table.code(*value)), code);
            }
            for k in 0..20_000 {
                let x =
                    (k as f32 / 19_999.0).powi(3) * if k % 2 == 0 && signed { -1.0 } else { 1.0 };
                let found = (table.values[usize::from(table.code(x))] - x).abs();
                let best = map.iter().map(|v| (v - x).abs()).fold(f32::MAX, f32::min);
                assert!(found <= best * 1.001 + 1e-12, "{x}: {found} {best}");
            }
        }
    }

    /// The paper's loop in f64: dequantise, update, take the block's largest, quantise to the
    /// nearest number.
    struct Reference {
        p: Vec<f64>,
        m: Vec<f64>,
        v: Vec<f64>,
    }

    impl Reference {
        fn step(&mut self, settings: &AdamW, rate: f64, t: i32, g: &[f32]) {
            for i in 0..g.len() {
                let g = f64::from(g[i]);
                self.m[i] = settings.beta1 * self.m[i] + (1.0 - settings.beta1) * g;
                self.v[i] = settings.beta2 * self.v[i] + (1.0 - settings.beta2) * g * g;
                let m_hat = self.m[i] / (1.0 - settings.beta1.powi(t));
                let v_hat = self.v[i] / (1.0 - settings.beta2.powi(t));
                self.p[i] -= rate * m_hat / (v_hat.sqrt() + settings.epsilon);
            }
            let round = |values: &mut [f64], signed| {
                let map = dynamic_map(signed);
                for block in values.chunks_mut(256) {
                    let largest = block.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
                    for x in block {
                        let scaled = *x / largest;
                        let nearest = map
                            .iter()
                            .map(|code| f64::from(*code))
                            .filter(|code| signed || *code > 0.0)
                            .min_by(|a, b| (a - scaled).abs().total_cmp(&(b - scaled).abs()));
                        *x = nearest.expect("256 codes") * largest;
                    }
                }
            };
            round(&mut self.m, true);
            round(&mut self.v, false);
        }
    }

    fn gradients(count: usize, step: usize) -> Vec<f32> {
        (0..count)
            .map(|i| {
                let x = ((i * 7919 + step * 104_729) % 1009) as f32 / 1009.0 - 0.49;
                x * x * x * (1.0 + (i % 13) as f32)
            })
            .collect()
    }

    #[test]
    fn follows_the_paper_over_many_steps_and_partial_blocks() {
        let settings = AdamW::default();
        // Two tensors; the second has a block of 44 values.
        let layout: [(usize, &[usize]); 2] = [(0, &[2, 256]), (512, &[3, 100])];
        let segments = segments(layout);
        let count = 812;
        let start: Vec<f32> = (0..count).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
        let mut parameters = start.clone();
        let mut moments = Moments::zeros(Optimizer::Adamw8bit, count, &segments);
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut tensors = [0..512, 512..812].map(|range: std::ops::Range<usize>| {
            let zeros = vec![0.0; range.len()];
            let p = wide(&start[range.clone()]);
            (
                range,
                Reference {
                    p,
                    m: zeros.clone(),
                    v: zeros,
                },
            )
        });
        let mut exact = parameters.clone();
        let mut full = Moments::zeros(Optimizer::Adamw, count, &segments);
        for step in 1..=40u16 {
            let g = gradients(count, usize::from(step));
            let at = Step {
                number: u64::from(step),
                learning_rate: 0.01,
                scale: 1.0,
            };
            update(&settings, &segments, &mut parameters, &g, &mut moments, at);
            update(&settings, &segments, &mut exact, &g, &mut full, at);
            for (range, reference) in &mut tensors {
                reference.step(&settings, 0.01, i32::from(step), &g[range.clone()]);
            }
        }
        // A value at the middle between two codes may round either way in f32 and f64, so a few
        // values may part from the reference; they may not go far.
        let mut apart = 0;
        for (range, reference) in &tensors {
            for (ours, theirs) in parameters[range.clone()].iter().zip(&reference.p) {
                let difference = (f64::from(*ours) - theirs).abs();
                apart += usize::from(difference > 1e-5);
                assert!(difference < 1e-2, "{ours} {theirs}");
            }
        }
        assert!(apart < count / 20, "{apart} values parted");
        // And it stays near AdamW with f32 moments: 40 steps of 0.01 moved values by up to 0.4.
        let moved: f32 = exact.iter().zip(&start).map(|(a, b)| (a - b).abs()).sum();
        let off: f32 = exact
            .iter()
            .zip(&parameters)
            .map(|(a, b)| (a - b).abs())
            .sum();
        assert!(off < 0.05 * moved, "{off} of {moved}");
    }

    #[test]
    fn small_second_moments_do_not_vanish() {
        let settings = AdamW::default();
        let layout: [(usize, &[usize]); 1] = [(0, &[1, 256])];
        let segments = segments(layout);
        let mut parameters = vec![0.0f32; 256];
        let mut moments = Moments::zeros(Optimizer::Adamw8bit, 256, &segments);
        let mut g = vec![1e-5f32; 256];
        g[0] = 1.0;
        for number in 1..=20 {
            let at = Step {
                number,
                learning_rate: 0.01,
                scale: 1.0,
            };
            update(&settings, &segments, &mut parameters, &g, &mut moments, at);
        }
        // Divided by epsilon alone, one step would be 0.01 * 1e-6 / 1e-8 = 1.
        assert!(parameters.iter().all(|p| p.abs() <= 0.21), "{parameters:?}");
    }
}
