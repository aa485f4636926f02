//! What the conformance tests share: numbers, comparisons of bits, finite differences.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use openledger_kernels::Isa;

/// Reproducible numbers in -1 to 1, from a seed.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Runs on every instruction set and returns the one result they share.
#[track_caller]
pub fn on_all(run: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let want = run(Isa::PORTABLE);
    for isa in Isa::available() {
        assert_eq!(bits(&run(isa)), bits(&want), "{}", isa.name());
    }
    want
}

/// Central difference of `f` at `x` along coordinate `i`.
fn slope(x: &[f32], i: usize, mut f: impl FnMut(&[f32]) -> f64) -> f64 {
    let step = 1e-2;
    let mut at = |delta: f32| {
        let mut moved = x.to_vec();
        moved[i] += delta;
        (f(&moved), moved[i])
    };
    let ((high, a), (low, b)) = (at(step), at(-step));
    (high - low) / f64::from(a - b)
}

#[track_caller]
pub fn check_gradient(x: &[f32], gradient: &[f32], mut f: impl FnMut(&[f32]) -> f64) {
    for (i, want) in gradient.iter().enumerate() {
        let found = slope(x, i, &mut f);
        let want = f64::from(*want);
        assert!(
            (found - want).abs() < 2e-3 + 2e-2 * want.abs(),
            "{i}: slope {found}, got {want}"
        );
    }
}

/// `sum of x_i w_i`, a scalar function whose gradient with respect to `x` is `w`.
pub fn weigh(x: &[f32], w: &[f32]) -> f64 {
    x.iter()
        .zip(w)
        .map(|(x, w)| f64::from(*x) * f64::from(*w))
        .sum()
}
