//! The gradient of a batch outside a run, for measurements and studies.

use openledger_model::{Adapter, Arithmetic, Base, Example};

use crate::gradients::Accumulator;
use crate::recipe::check_mode;
use crate::subject::Adapted;
use crate::{Error, Recipe};

/// Gradients of batches, computed as the steps of a run compute them: same packs, same threads,
/// same bits. The buffers outlive a call.
pub struct BatchGradients<'a, A: Arithmetic> {
    subject: Adapted<'a, A>,
    accumulator: Accumulator,
}

impl<A: Arithmetic> std::fmt::Debug for BatchGradients<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchGradients")
            .field("base", &self.subject.base.config)
            .finish_non_exhaustive()
    }
}

impl<'a, A: Arithmetic> BatchGradients<'a, A> {
    /// Buffers for the batches of `recipe`, an adapter of its shape and the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Recipe`] for settings out of range, or a base of the other arithmetic.
    pub fn new(base: &'a Base<A>, adapter: Adapter, recipe: &Recipe) -> Result<Self, Error> {
        recipe.validate(&base.config)?;
        check_mode::<A>(recipe.arithmetic)?;
        let parameters = adapter.params().len();
        let rows = recipe.rows_per_step();
        Ok(Self {
            accumulator: Accumulator::new(parameters, rows, recipe.packing()),
            subject: Adapted {
                base,
                adapter,
                seed: 0,
            },
        })
    }

    /// Mean loss of `batch`, in nats a target token, and its gradient, in the order of
    /// [`Adapter::layout`].
    ///
    /// # Errors
    /// [`Error::Model`] for a row without a target, too long, with an unknown token, or whose loss
    /// is not finite.
    pub fn run(&mut self, batch: &[&Example]) -> Result<(f64, &[f32]), Error> {
        let (loss, gradient) = self.accumulator.run(&self.subject, batch, 1)?;
        Ok((loss.mean(), gradient))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use openledger_model::{Workspace, lora_gradients};

    use super::*;
    use crate::testing;

    #[test]
    fn a_batch_has_the_mean_of_its_rows_gradients() {
        let dataset = testing::dataset();
        let base = Base::random(testing::config(), 3);
        let mut recipe = Recipe::default();
        recipe.lora.rank = 4;
        let mut adapter =
            Adapter::new(&base.config, recipe.adapter(&base.config).unwrap(), 1).unwrap();
        adapter.params_mut().iter_mut().for_each(|x| *x += 0.01);
        let rows: Vec<&Example> = dataset.train().map(|row| &row.example).take(5).collect();

        let targets: usize = rows.iter().map(|row| row.targets()).sum();
        let mut expected = vec![0.0_f64; adapter.params().len()];
        let mut one = vec![0.0; expected.len()];
        for row in &rows {
            lora_gradients(&base, &adapter, row, &mut one, &mut Workspace::new()).unwrap();
            let share = row.targets() as f64 / targets as f64;
            for (sum, x) in expected.iter_mut().zip(&one) {
                *sum += share * f64::from(*x);
            }
        }
        let mut batch = BatchGradients::new(&base, adapter, &recipe).unwrap();
        let (loss, found) = batch.run(&rows).unwrap();
        assert!(loss > 1.0, "{loss}");
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut found.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b));
        let whole = norm(&mut expected.iter().copied());
        assert!(whole > 0.0 && apart < 1e-5 * whole, "{apart} of {whole}");
    }

    #[test]
    fn a_base_of_the_other_arithmetic_is_refused() {
        let base = Base::random(testing::config(), 3);
        let mut recipe = Recipe::default();
        recipe.lora.rank = 4;
        recipe.arithmetic = crate::Mode::Fast;
        let adapter = Adapter::new(&base.config, recipe.adapter(&base.config).unwrap(), 1).unwrap();
        assert!(BatchGradients::new(&base, adapter, &recipe).is_err());
    }
}
