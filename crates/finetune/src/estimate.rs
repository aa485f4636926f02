//! What a run will need, said before it starts.

use std::path::Path;
use std::time::Instant;

use openledger_model::inspect::loaded_bytes;
use openledger_model::{
    Adapter, Arithmetic, Base, Config, Exact, Example, Fast, Workspace, parameter_count,
};

use crate::gradients::Accumulator;
use crate::recipe::check_mode;
use crate::subject::{Adapted, Place, Subject, Whole};
use crate::{Dataset, Error, Method, Mode, Recipe};

/// Logits that the model holds at once, in floats.
const LOGITS: usize = 1 << 22;

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

/// Checks the recipe and estimates the run, with the base in the form that the run computes with:
/// memory from the shapes, time from one pack of rows that is trained on twice and forgotten.
///
/// # Errors
/// As [`crate::train`] for settings out of range; failures of the model.
pub fn estimate<A: Arithmetic>(
    base: &Base<A>,
    dataset: &Dataset,
    recipe: &Recipe,
) -> Result<Estimate, Error> {
    let config = &base.config;
    recipe.validate(config)?;
    check_mode::<A>(recipe.arithmetic)?;
    let pack = one_pack(dataset, recipe)?;
    let seconds_a_token = match recipe.method {
        Method::Full => timed(&Whole::new(base.clone()), &pack)?,
        Method::Lora | Method::Dora | Method::Qlora => {
            let subject = Adapted {
                base,
                adapter: Adapter::for_base(base, recipe.adapter(config)?, recipe.seed)?,
                seed: recipe.seed,
            };
            timed(&subject, &pack)?
        }
    };
    let steps = recipe.steps(dataset.len());
    let passes = steps as f64 / recipe.steps_per_epoch(dataset.len()) as f64;
    let tokens = (dataset.tokens() as f64 * passes) as u64;
    let threads = rayon::current_num_threads().min(recipe.rows_per_step());
    let longest = pack[0].tokens.len();
    Ok(Estimate {
        steps,
        tokens,
        parameters: trained_parameters(config, recipe),
        memory_bytes: memory(config, recipe, longest),
        seconds: seconds_a_token * tokens as f64 / threads as f64,
        truncated: dataset.truncated(),
    })
}

/// Loads the base in `model_dir` in the form that `recipe` asks for, and estimates the run.
///
/// # Errors
/// As [`estimate`], and when the base cannot be loaded.
pub fn estimate_from(
    model_dir: &Path,
    dataset: &Dataset,
    recipe: &Recipe,
) -> Result<Estimate, Error> {
    match recipe.arithmetic {
        Mode::Exact => estimate(&Base::<Exact>::load(model_dir)?, dataset, recipe),
        Mode::Fast => {
            let base = Base::<Fast>::load_as(model_dir, recipe.format())?;
            estimate(&base, dataset, recipe)
        }
    }
}

/// Rows that a run would compute together, the longest among them.
fn one_pack<'a>(dataset: &'a Dataset, recipe: &Recipe) -> Result<Vec<&'a Example>, Error> {
    let rows = dataset.examples().len();
    let longest = dataset.train().max_by_key(|row| row.example.tokens.len());
    let longest = &longest.ok_or(Error::NoRows { rows, eval: rows })?.example;
    let mut pack = vec![longest];
    let mut tokens = longest.tokens.len();
    let limit = recipe.packing().tokens;
    let others = dataset.train().map(|row| &row.example);
    for row in others.take(recipe.rows_per_step()) {
        tokens += row.tokens.len();
        if tokens > limit || pack.len() == recipe.rows_per_step() {
            break;
        }
        pack.push(row);
    }
    Ok(pack)
}

/// Seconds a token of one thread.
fn timed(subject: &impl Subject, pack: &[&Example]) -> Result<f64, Error> {
    let mut gradients = vec![0.0; subject.parameters().len()];
    let mut workspace = Workspace::default();
    let place = Place { step: 0, row: 0 };
    let tokens: usize = pack.iter().map(|row| row.tokens.len()).sum();
    // The first pass fills buffers; the second is what every later one costs.
    let mut seconds = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        subject.add(pack, place, 1.0, &mut gradients, &mut workspace)?;
        seconds = begun.elapsed().as_secs_f64();
    }
    Ok(seconds / tokens as f64)
}

/// Values that `recipe` trains on a base of this shape.
pub fn trained_parameters(base: &Config, recipe: &Recipe) -> u64 {
    let dora = recipe.method == Method::Dora;
    let targets = recipe.lora.targets(base).unwrap_or_default();
    let adapter: usize = targets
        .into_iter()
        .map(|target| target.widths(base))
        .map(|(input, output)| (input + output) * recipe.lora.rank + usize::from(dora) * output)
        .sum();
    match recipe.method {
        Method::Full => parameter_count(base) as u64,
        Method::Lora | Method::Dora | Method::Qlora => (adapter * base.layers) as u64,
    }
}

/// Bytes of memory that training takes at its peak, the base included, on rows of at most
/// `longest` tokens and this machine's number of threads.
pub fn memory(base: &Config, recipe: &Recipe, longest: usize) -> u64 {
    let format = match recipe.arithmetic {
        Mode::Exact => None,
        Mode::Fast => Some(recipe.format()),
    };
    let parameters = trained_parameters(base, recipe);
    let rows = recipe.rows_per_step();
    let threads = rayon::current_num_threads().min(rows.max(1));
    let tokens = match recipe.packing {
        true => longest.max(recipe.pack_tokens),
        false => longest,
    };
    let block = 8 * base.hidden + 4 * base.mlp;
    let activations = match recipe.gradient_checkpointing {
        true => tokens * (base.layers * base.hidden + block),
        false => tokens * base.layers * block,
    };
    let logits = 2 * (tokens * base.vocab).min(LOGITS.max(base.vocab));
    loaded_bytes(base, format) as u64
        + 4 * parameters
        + recipe.optimizer.bytes(parameters)
        + Accumulator::bytes(parameters as usize, rows)
        + 4 * (threads * (activations + logits)) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::optimizer::Optimizer;
    use crate::testing;

    #[test]
    fn an_adapter_has_as_many_values_as_foretold() {
        let base = testing::config();
        let mut recipe = Recipe::default();
        recipe.lora.rank = 4;
        recipe.lora.targets = vec!["q_proj".into(), "down_proj".into()];
        let adapter = Adapter::new(&base, recipe.adapter(&base).unwrap(), 1).unwrap();
        let values = adapter.params().len() as u64;
        assert_eq!(trained_parameters(&base, &recipe), values);
        recipe.method = Method::Full;
        let model = Base::random(base.clone(), 1);
        let values = model.params().len() as u64;
        assert_eq!(trained_parameters(&base, &recipe), values);
    }

    #[test]
    fn less_is_needed_for_less() {
        let base = testing::config();
        let least = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe {
                arithmetic: Mode::Fast,
                ..Recipe::default()
            };
            recipe.lora.rank = 4;
            change(&mut recipe);
            memory(&base, &recipe, 64)
        };
        let lora = least(|_| {});
        assert!(least(|r| r.method = Method::Qlora) < lora);
        assert!(least(|r| r.method = Method::Full) > lora);
        assert!(least(|r| r.arithmetic = Mode::Exact) > lora);
        assert!(least(|r| r.optimizer = Optimizer::Adamw8bit) < lora);
        assert!(least(|r| r.gradient_checkpointing = true) < lora);
        assert!(least(|r| r.packing = false) < lora);
    }
}
