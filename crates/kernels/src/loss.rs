//! Softmax and cross-entropy over rows of logits.

use crate::isa::kernel;
use crate::math::{exp, ln};
use crate::rows;

/// `e^(x - max)` in place; returns the maximum and the sum.
#[inline(always)]
pub(crate) fn exponentiate(x: &mut [f32]) -> (f32, f32) {
    let max = rows::max(x);
    for x in x.iter_mut() {
        *x = exp(*x - max);
    }
    (max, rows::sum(x))
}

/// Softmax in place: `e^(x - max) * (1 / sum)`.
#[inline(always)]
pub(crate) fn softmax(x: &mut [f32]) {
    let (_, sum) = exponentiate(x);
    let inverse = 1.0 / sum;
    for x in x.iter_mut() {
        *x *= inverse;
    }
}

kernel! {
    /// Softmax of one row, in place.
    pub fn softmax(x: &mut [f32]) {
        softmax(x);
    }
}

kernel! {
    /// Natural logarithm of the sum of `e^x` over a row, in `f64`.
    pub fn log_sum_exp(x: &[f32], scratch: &mut Vec<f32>) -> f64 {
        scratch.clear();
        scratch.extend_from_slice(x);
        let (max, sum) = exponentiate(scratch);
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
        for (row, target) in logits.chunks_exact_mut(vocab).zip(targets) {
            let target = *target as usize;
            let at_target = f64::from(row[target]);
            let (max, sum) = exponentiate(row);
            total += (f64::from(max) - at_target) + ln(f64::from(sum));
            let inverse = 1.0 / sum;
            let hit = (row[target] * inverse - 1.0) * factor;
            for x in row.iter_mut() {
                *x = (*x * inverse) * factor;
            }
            row[target] = hit;
        }
        total
    }
}
