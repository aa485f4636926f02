//! What a run will need, said before it starts.

use std::time::Instant;

use openledger_model::{Adapter, Base, Workspace, lora_gradients};

use crate::gradients::Accumulator;
use crate::recipe::operations_per_token;
use crate::{Dataset, Error, Recipe};

/// Memory, work and time of a run, before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens that will be processed.
    pub tokens: u64,
    /// Values that will be trained.
    pub parameters: u64,
    /// Bytes of memory at the peak, the base model included.
    pub memory_bytes: u64,
    /// Wall seconds, from one timed example on this machine and its number of threads.
    pub seconds: f64,
    /// Rows that will be cut to the context.
    pub truncated: usize,
}

impl Estimate {
    /// One paragraph for people.
    pub fn words(&self) -> String {
        let mut text = format!(
            "{} steps over {} tokens train {} values; about {} on this machine, with about {} MB of memory.",
            self.steps,
            self.tokens,
            self.parameters,
            duration(self.seconds),
            self.memory_bytes.div_ceil(1_000_000),
        );
        if self.truncated > 0 {
            text.push_str(&format!(
                " {} rows are longer than the context and keep only their beginning.",
                self.truncated
            ));
        }
        text
    }
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(1.0) as u64;
    match whole {
        0..=90 => format!("{whole} s"),
        91..=5400 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Checks the recipe and estimates the run by training one row once, without keeping the result.
///
/// # Errors
/// As [`crate::train`] for settings out of range; failures of the model.
pub fn estimate(base: &Base, dataset: &Dataset, recipe: &Recipe) -> Result<Estimate, Error> {
    recipe.validate(&base.config)?;
    let adapter = Adapter::new(&base.config, recipe.lora.config()?, recipe.seed)?;
    let parameters = adapter.params().len();
    let sample = dataset
        .train()
        .max_by_key(|row| row.example.tokens.len())
        .ok_or(Error::NoRows {
            rows: dataset.examples().len(),
            eval: dataset.examples().len(),
        })?;
    let longest = sample.example.tokens.len();
    let mut gradients = vec![0.0; parameters];
    let mut workspace = Workspace::default();
    // The first pass fills buffers; the second is what every later one costs.
    let mut seconds = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        lora_gradients(
            base,
            &adapter,
            &sample.example,
            &mut gradients,
            &mut workspace,
        )?;
        seconds = begun.elapsed().as_secs_f64();
    }
    let steps = recipe.steps(dataset.len());
    let per_pass = dataset.tokens() as f64;
    let passes = steps as f64 / recipe.steps_per_epoch(dataset.len()) as f64;
    let tokens = (per_pass * passes) as u64;
    let threads = rayon::current_num_threads().min(recipe.rows_per_step()) as f64;
    let base_values = operations_per_token(&base.config, &no_targets()) / 4.0;
    let activations = longest
        * (base.config.layers * (8 * base.config.hidden + 4 * base.config.mlp)
            + 2 * base.config.vocab);
    Ok(Estimate {
        steps,
        tokens,
        parameters: parameters as u64,
        memory_bytes: base_values as u64 * 4
            + Accumulator::bytes(parameters, recipe.rows_per_step())
            + parameters as u64 * 12
            + activations as u64 * 4 * threads as u64,
        seconds: seconds * tokens as f64 / longest as f64 / threads,
        truncated: dataset.truncated(),
    })
}

fn no_targets() -> crate::recipe::Lora {
    crate::recipe::Lora {
        targets: Vec::new(),
        ..crate::recipe::Lora::default()
    }
}
