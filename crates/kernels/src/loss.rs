//! Softmax and cross-entropy over rows of logits.

use crate::isa::kernel;
use crate::math::{exp, ln};
use crate::rows::{LANES, fold, fold_max, larger};

/// `x = e^(x * scale - max)` in place, with the maximum of the scaled row; returns the maximum
/// and the sum over the sixteen-lane tree.
#[inline(always)]
fn exponentiate(x: &mut [f32], scale: f32) -> (f32, f32) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    // The unfinished chunk is padded with numbers that neither win the maximum nor change the
    // sum, whose lanes are never negative.
    let mut last = [f32::NEG_INFINITY; LANES];
    for l in 0..rest.len() {
        last[l] = rest[l] * scale;
    }
    let mut lanes = last;
    for chunk in chunks.iter_mut() {
        for l in 0..LANES {
            chunk[l] *= scale;
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    let max = fold_max(lanes);
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for l in 0..LANES {
            chunk[l] = exp(chunk[l] - max);
            sums[l] += chunk[l];
        }
    }
    for l in 0..rest.len() {
        rest[l] = exp(last[l] - max);
        sums[l] += rest[l];
    }
    (max, fold(sums))
}

/// Softmax of `x * scale` in place: `e^(x * scale - max) * (1 / sum)`.
#[inline(always)]
pub(crate) fn softmax(x: &mut [f32], scale: f32) {
    let (_, sum) = exponentiate(x, scale);
    let inverse = 1.0 / sum;
    for i in 0..x.len() {
        x[i] *= inverse;
    }
}

kernel! {
    /// Softmax of one row, in place.
    pub fn softmax(x: &mut [f32]) {
        softmax(x, 1.0);
    }
}

kernel! {
    /// Natural logarithm of the sum of `e^x` over a row, in `f64`.
    pub fn log_sum_exp(x: &[f32], scratch: &mut Vec<f32>) -> f64 {
        scratch.clear();
        scratch.extend_from_slice(x);
        let (max, sum) = exponentiate(scratch, 1.0);
        f64::from(max) + ln(f64::from(sum))
    }
}

kernel! {
    /// Cross-entropy of each row of `logits [n, vocab]` against `targets [n]`; returns the sum
    /// in nats, rows in order, in `f64`.
    ///
    /// Turns the logits into their gradient `(softmax - one_hot) * factor`.
    ///
    /// # Panics
    /// When a target is not below `vocab`.
    pub fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[u32], factor: f32) -> f64 {
        let mut total = 0.0;
        for t in 0..targets.len() {
            let row = &mut logits[t * vocab..][..vocab];
            let target = targets[t] as usize;
            let at_target = f64::from(row[target]);
            let (max, sum) = exponentiate(row, 1.0);
            total += (f64::from(max) - at_target) + ln(f64::from(sum));
            let inverse = 1.0 / sum;
            let hit = (row[target] * inverse - 1.0) * factor;
            for i in 0..vocab {
                row[i] = (row[i] * inverse) * factor;
            }
            row[target] = hit;
        }
        total
    }
}
