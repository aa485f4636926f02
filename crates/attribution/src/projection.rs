//! From a gradient of millions of numbers to a few kilobytes, keeping inner products.
//!
//! A sparse sign projection (Charikar et al. 2002, "count sketch"; Weinberger et al. 2009): parameter
//! `i` is added, with a sign, to one of `k` sums. Inner products are kept in expectation, with a
//! standard error near `|a| |b| / sqrt(k)`. The sign and the sum of each parameter come from a
//! counter-based hash, so there is no matrix to store and none to agree on.
//!
//! The sums of one gradient can be very uneven: a few parameters often hold much of it. Rounding to
//! eight bits would clip those sums, so they are rotated first, by random signs and a Walsh-Hadamard
//! transform (Ailon and Chazelle 2006). A rotation keeps inner products and spreads every peak over
//! all dimensions.
//!
//! Everything is IEEE 754 addition, multiplication, division and square root in a fixed order, so
//! the bytes are equal on every machine.

/// Bits of a value's range: rows are scaled to a root mean square of 32, so that four deviations
/// still fit in an `i8`.
pub(crate) const RMS: f64 = 32.0;

/// Output `index` of the `SplitMix64` generator seeded with `seed` (Steele et al. 2014).
pub(crate) const fn splitmix64(seed: u64, index: u64) -> u64 {
    let state = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where each parameter goes: `[parameters]`, sum number times two plus one if negated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Projection {
    slots: Vec<u32>,
    /// Sign of each sum before the rotation: `[dimensions]`.
    signs: Vec<f64>,
}

impl Projection {
    /// Parameter `i` hashes to `h = splitmix64(seed, i)`: the upper 32 bits, scaled to the
    /// dimensions, choose the sum; bit 0 the sign. Sum `j` is negated before the rotation if bit 0
    /// of `splitmix64(!seed, j)` is set.
    pub(crate) fn new(seed: u64, dimensions: u32, parameters: usize) -> Self {
        let slots = (0..parameters as u64)
            .map(|i| {
                let hash = splitmix64(seed, i);
                let sum = ((hash >> 32) * u64::from(dimensions)) >> 32;
                (sum as u32) << 1 | (hash & 1) as u32
            })
            .collect();
        let negated = |j| splitmix64(!seed, j) & 1 == 1;
        let signs = (0..u64::from(dimensions)).map(|j| if negated(j) { -1.0 } else { 1.0 });
        Self {
            slots,
            signs: signs.collect(),
        }
    }

    /// Adds up `gradient[i] * weights[i]` in parameter order into `sums` (`[dimensions]`), then
    /// rotates them. The result is `sqrt(dimensions)` times too long; [`quantise`] normalises.
    pub(crate) fn project(&self, gradient: &[f32], weights: &[f32], sums: &mut [f64]) {
        sums.fill(0.0);
        for ((&slot, &g), &w) in self.slots.iter().zip(gradient).zip(weights) {
            // Exact: the product of two f32 fits in an f64.
            let value = f64::from(g) * f64::from(w);
            let sum = &mut sums[(slot >> 1) as usize];
            if slot & 1 == 0 {
                *sum += value;
            } else {
                *sum -= value;
            }
        }
        sums.iter_mut()
            .zip(&self.signs)
            .for_each(|(sum, sign)| *sum *= sign);
        walsh_hadamard(sums);
    }

    pub(crate) const fn dimensions(&self) -> usize {
        self.signs.len()
    }

    pub(crate) fn parameters(&self) -> usize {
        self.slots.len()
    }
}

/// The unnormalised Walsh-Hadamard transform in place, for a power of two of values: butterflies
/// `(a + b, a - b)` at distances 1, 2, 4, ...
fn walsh_hadamard(values: &mut [f64]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// `clamp(round(sums * 32 * sqrt(k) / |sums|), -127, 127)`; all zero for the zero vector. Ties
/// round away from zero.
pub(crate) fn quantise(sums: &[f64], out: &mut [i8]) {
    let norm = sums.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
    // Also catches a norm that is not a number.
    if !(norm > 0.0 && norm.is_finite()) {
        out.fill(0);
        return;
    }
    let scale = RMS * (sums.len() as f64).sqrt() / norm;
    for (byte, &x) in out.iter_mut().zip(sums) {
        *byte = (x * scale).round().clamp(-127.0, 127.0) as i8;
    }
}

/// The exact inner product of two sketches of at most 2^16 dimensions.
///
/// Sixteen sums of pairs are what the compiler turns into multiply-add instructions: 1.6 times the
/// speed of one sum. The result is the same integer.
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let product = |x: i8, y: i8| i32::from(x) * i32::from(y);
    let mut sums = [0i32; 16];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += product(x[lane], y[lane]) + product(x[lane + 16], y[lane + 16]);
        }
    }
    let rest: i32 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&x, &y)| product(x, y))
        .sum();
    sums.iter().sum::<i32>() + rest
}

/// A dot product of sketches of `dimensions` as a fixed-point cosine in units of 2^-20: both
/// vectors have a squared norm of about `32^2 * dimensions`, so the score is
/// `trunc(dot * 2^20 / (32^2 * dimensions))`.
pub fn score(dot: i32, dimensions: usize) -> i32 {
    let scaled = i64::from(dot) * 1024 / (dimensions.max(1) as i64);
    scaled.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generator_matches_its_reference() {
        // First outputs of SplitMix64 with seed 1234567, as published with the algorithm.
        let reference = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (i, expected) in reference.into_iter().enumerate() {
            assert_eq!(splitmix64(1_234_567, i as u64), expected);
        }
    }

    /// Guards the exact definition, computed apart in Python: a change is a new sketch version.
    #[test]
    fn known_sketch() {
        let projection = Projection::new(7, 8, 12);
        let gradient: Vec<f32> = (1..=12u8).map(f32::from).collect();
        let (mut sums, mut bytes) = ([0.0; 8], [0; 8]);
        projection.project(&gradient, &[1.0; 12], &mut sums);
        quantise(&sums, &mut bytes);
        assert_eq!(
            sums.map(|sum| sum as i32),
            [-52, 10, -4, -6, -14, -12, -26, 32]
        );
        assert_eq!(bytes, [-67, 13, -5, -8, -18, -16, -34, 41]);
        assert_eq!(score(dot(&bytes, &bytes), 8), 1044992);
    }

    /// One parameter that holds everything neither clips nor vanishes.
    #[test]
    fn a_peak_is_spread() {
        let projection = Projection::new(3, 64, 100);
        let mut gradient = vec![0.0; 100];
        gradient[17] = -9.0;
        let (mut sums, mut bytes) = ([0.0; 64], [0; 64]);
        projection.project(&gradient, &[1.0; 100], &mut sums);
        quantise(&sums, &mut bytes);
        assert!(bytes.iter().all(|byte| byte.abs() == 32), "{bytes:?}");
        assert_eq!(score(dot(&bytes, &bytes), 64), 1 << 20);
    }

    #[test]
    fn nothing_has_an_empty_sketch() {
        let mut bytes = [1; 3];
        quantise(&[0.0; 3], &mut bytes);
        assert_eq!(bytes, [0; 3]);
        quantise(&[f64::NAN, 1.0, 1.0], &mut bytes);
        assert_eq!(bytes, [0; 3]);
    }

    #[test]
    fn extreme_dot_products_fit() {
        let low = vec![-128i8; 1 << 16];
        assert_eq!(dot(&low, &low), 1 << 30);
    }

    proptest! {
        #[test]
        fn dot_is_exact(pairs in proptest::collection::vec(any::<(i8, i8)>(), 0..300)) {
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let wide: i64 = a.iter().zip(&b).map(|(&x, &y)| i64::from(x) * i64::from(y)).sum();
            prop_assert_eq!(i64::from(dot(&a, &b)), wide);
        }

        /// A cosine survives projection and rounding within a few standard errors.
        #[test]
        fn cosines_survive(seed: u64, mix in -1.0f32..1.0) {
            const N: usize = 4_000;
            const K: usize = 1_024;
            let noise = |salt: u64| -> Vec<f32> {
                (0..N as u64)
                    .map(|i| (splitmix64(salt, i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
                    .collect()
            };
            let (a, n) = (noise(1), noise(2));
            let b: Vec<f32> = a.iter().zip(&n).map(|(a, n)| mix * a + (1.0 - mix.abs()) * n).collect();
            let inner = |x: &[f32], y: &[f32]| -> f64 {
                x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
            };
            let cosine = inner(&a, &b) / (inner(&a, &a) * inner(&b, &b)).sqrt();
            let projection = Projection::new(seed, K as u32, N);
            let sketch = |x: &[f32]| {
                let (mut sums, mut bytes) = (vec![0.0; K], vec![0; K]);
                projection.project(x, &vec![1.0; N], &mut sums);
                quantise(&sums, &mut bytes);
                bytes
            };
            let found = f64::from(score(dot(&sketch(&a), &sketch(&b)), K)) / f64::from(1 << 20);
            prop_assert!((found - cosine).abs() < 5.0 / (K as f64).sqrt(), "{} {}", found, cosine);
        }
    }
}
