//! A diagonal preconditioner: directions in which every row pulls say little about one row.
//!
//! The influence of a row on an answer is an inner product of gradients under the inverse curvature
//! of the loss. The cheapest curvature that helps is the one that Adam divides by: the mean squared
//! gradient `v` of each parameter. Under the metric `1 / sqrt(v)` each side is weighted by
//! `v^(-1/4)`. On the W1-S benchmark this lifts the rank correlation with retraining (LDS, 10 % of
//! the rows dropped) of exact gradients from 0.776 to 0.804, whether it is fitted on 64 rows or on
//! all 480 (docs/protocol/attribution.md).

use openledger_model::{Adapter, Base, Example, Workspace, lora_gradients};
use rayon::prelude::*;

use crate::{Error, SketchSpec};

/// Gradients that are held at once while fitting; bounds memory, leaves the bits alone.
const CHUNK: usize = 16;

/// Parameters that one task folds; leaves the bits alone too.
const STRIPE: usize = 4096;

/// The rows that the preconditioner is fitted on: `fit_rows` of them, evenly spread.
pub(crate) fn sample(rows: usize, fit_rows: u32) -> Vec<usize> {
    let count = rows.min(fit_rows as usize);
    (0..count).map(|i| i * rows / count).collect()
}

/// `(v + damping * mean(v))^(-1/4)` for each parameter: `[parameters]`.
///
/// `v` is summed in row order for every parameter, whatever the number of threads.
pub(crate) fn fit(
    base: &Base,
    adapter: &Adapter,
    rows: &[Example],
    spec: &SketchSpec,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<f32>, Error> {
    let parameters = adapter.params().len();
    let chosen = sample(rows.len(), spec.fit_rows);
    let mut squares = vec![0.0f64; parameters];
    let mut gradients = vec![vec![0.0f32; parameters]; CHUNK.min(chosen.len())];
    for chunk in chosen.chunks(CHUNK) {
        gradients.par_iter_mut().zip(chunk).try_for_each_init(
            Workspace::new,
            |ws, (gradient, &row)| {
                lora_gradients(base, adapter, &rows[row], gradient, ws).map_err(|source| {
                    Error::Row {
                        row,
                        source: Box::new(source),
                    }
                })?;
                done();
                Ok::<_, Error>(())
            },
        )?;
        squares
            .par_chunks_mut(STRIPE)
            .enumerate()
            .for_each(|(stripe, sums)| {
                let from = stripe * STRIPE;
                for gradient in &gradients[..chunk.len()] {
                    for (sum, &g) in sums.iter_mut().zip(&gradient[from..]) {
                        *sum += f64::from(g) * f64::from(g);
                    }
                }
            });
    }
    Ok(weights(&squares, chosen.len(), spec.damping_ppm))
}

fn weights(squares: &[f64], rows: usize, damping_ppm: u32) -> Vec<f32> {
    let rows = rows.max(1) as f64;
    let mean = squares.iter().fold(0.0, |sum, v| sum + v) / rows / squares.len().max(1) as f64;
    if mean.is_nan() || mean <= 0.0 {
        return vec![1.0; squares.len()];
    }
    let damping = mean * f64::from(damping_ppm) / 1e6;
    squares
        .iter()
        .map(|v| (1.0 / (v / rows + damping).sqrt().sqrt()) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_even_and_complete() {
        assert_eq!(sample(3, 512), [0, 1, 2]);
        assert_eq!(sample(10, 4), [0, 2, 5, 7]);
        assert!(sample(0, 4).is_empty());
    }

    #[test]
    fn loud_parameters_weigh_less() {
        let w = weights(&[16.0, 1.0, 0.0], 1, 10_000);
        assert!(w[0] < w[1] && w[1] < w[2] && w[2].is_finite(), "{w:?}");
        assert!((w[1] / w[0] - 2.0).abs() < 0.05, "fourth root of 16: {w:?}");
        assert_eq!(weights(&[0.0; 3], 4, 1), [1.0; 3]);
    }
}
