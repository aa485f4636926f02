//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): momentum
//! whose direction is made orthogonal before each step, for the matrices inside the blocks.
//!
//! The update is scaled so that its typical entry is that of an `AdamW` step of the same rate (Liu
//! et al., "Muon is Scalable for LLM Training", 2025, equation 4); embeddings, head and norms stay
//! with `AdamW`.

use openledger_model::{Arithmetic, Isa, Slot, orthogonalize};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Typical entry of an `AdamW` update, in learning rates.
const TYPICAL: f64 = 0.2;

/// Settings of Muon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Muon {
    /// Peak learning rate; follows the recipe's schedule.
    pub learning_rate: f64,
    /// Decay of the momentum, in [0, 1).
    pub momentum: f64,
    /// Decoupled weight decay a step, times the learning rate; >= 0.
    pub weight_decay: f64,
}

impl Muon {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the setting that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let expected = "must be above 0 and at most 1";
            return Err(Error::recipe(
                "muon.learning_rate",
                self.learning_rate,
                expected,
            ));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::recipe(
                "muon.momentum",
                self.momentum,
                "must be in [0, 1)",
            ));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            let expected = "must be 0 or more";
            return Err(Error::recipe(
                "muon.weight_decay",
                self.weight_decay,
                expected,
            ));
        }
        Ok(())
    }
}

/// Whether Muon trains this tensor: a matrix inside a block.
pub(crate) fn trains((name, _, shape): &Slot) -> bool {
    shape.len() == 2 && name.contains(".layers.")
}

/// One update of the tensors of `layout` that [`trains`] names. `momenta` are the running sums of
/// gradients; `rate` is the learning rate of this step and `scale` multiplies the gradients first.
pub(crate) fn update<A: Arithmetic>(
    settings: &Muon,
    layout: &[Slot],
    weights: &mut [f32],
    gradients: &[f32],
    momenta: &mut [f32],
    (rate, scale): (f64, f64),
) {
    let (momentum, scale) = (settings.momentum as f32, scale as f32);
    let decay = (1.0 - rate * settings.weight_decay) as f32;
    let isa = Isa::best();
    let mut pieces = Vec::new();
    let (mut weights, mut momenta, mut end) = (weights, momenta, 0);
    for slot in layout {
        let (_, start, shape) = slot;
        let size: usize = shape.iter().product();
        let (piece, rest) = weights.split_at_mut(start - end).1.split_at_mut(size);
        weights = rest;
        let (sum, rest) = momenta.split_at_mut(start - end).1.split_at_mut(size);
        momenta = rest;
        end = start + size;
        if let (true, [rows, columns]) = (trains(slot), shape.as_slice()) {
            pieces.push((piece, sum, &gradients[*start..end], *rows, *columns));
        }
    }
    pieces
        .into_par_iter()
        .for_each(|(weights, sum, gradients, rows, columns)| {
            // Nesterov's form: the momentum after this step's own gradient, and that gradient.
            let mut direction: Vec<f32> = sum
                .iter_mut()
                .zip(gradients)
                .map(|(sum, gradient)| {
                    let gradient = gradient * scale;
                    *sum = momentum * *sum + gradient;
                    momentum * *sum + gradient
                })
                .collect();
            orthogonalize::<A>(isa, &mut direction, rows, columns);
            let step = (rate * TYPICAL * (rows.max(columns) as f64).sqrt()) as f32;
            for (weight, direction) in weights.iter_mut().zip(&direction) {
                *weight = *weight * decay - step * direction;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_model::Exact;

    #[test]
    fn steps_against_the_gradient_by_about_the_rate_and_leaves_others_alone() {
        let slot = |name: &str, start, shape: &[usize]| (name.to_owned(), start, shape.to_vec());
        let layout = [
            slot("model.embed_tokens.weight", 0, &[3, 4]),
            slot("model.layers.0.mlp.up_proj.weight", 12, &[8, 4]),
            slot("model.norm.weight", 44, &[4]),
        ];
        let settings = Muon {
            learning_rate: 0.01,
            momentum: 0.9,
            weight_decay: 0.0,
        };
        let gradients: Vec<f32> = (0..48)
            .map(|i| ((i * 29 % 17) as f32 - 8.0) * 1e-3)
            .collect();
        let (mut weights, mut momenta) = (vec![0.0; 48], vec![0.0; 48]);
        update::<Exact>(
            &settings,
            &layout,
            &mut weights,
            &gradients,
            &mut momenta,
            (0.01, 1.0),
        );
        assert!(
            weights[..12]
                .iter()
                .chain(&weights[44..])
                .all(|&w| w == 0.0)
        );
        assert!(
            momenta[..12]
                .iter()
                .chain(&momenta[44..])
                .all(|&m| m == 0.0)
        );
        let along: f32 = weights[12..44]
            .iter()
            .zip(&gradients[12..44])
            .map(|(w, g)| w * g)
            .sum();
        assert!(along < 0.0);
        let square: f32 = weights[12..44].iter().map(|w| w * w).sum();
        let typical = (square / 32.0).sqrt();
        // Four of eight possible directions, each about one long: entries of sqrt(4 / 32), times
        // 0.2 sqrt(8) rates.
        assert!((0.0014..0.0027).contains(&typical), "{typical}");
    }
}
