//! What a run will need, said before it starts.

use std::path::Path;
use std::time::Instant;

use openledger_model::{
    Adapter, Arithmetic, Base, Config, Exact, Example, Fast, Target, Workspace,
};

use crate::gradients::Accumulator;
use crate::recipe::check_mode;
use crate::subject::{Adapted, Place, Subject, Whole};
use crate::{Dataset, Error, Method, Mode, Recipe};

/// Most rows of logits that exist at once.
const LOGITS_ROWS: usize = 512;

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
    let (parameters, held, seconds_a_token) = match recipe.method {
        Method::Full => {
            // The weights as the optimizer changes them, beside those that products read.
            let subject = Whole::new(base.clone());
            let parameters = subject.parameters().len();
            (parameters, 4 * parameters, timed(&subject, &pack)?)
        }
        Method::Lora | Method::Dora | Method::Qlora => {
            let subject = Adapted {
                base,
                adapter: Adapter::for_base(base, recipe.adapter(config)?, recipe.seed)?,
                seed: recipe.seed,
            };
            // As the optimizer changes them, and packed for products.
            let parameters = subject.parameters().len();
            (parameters, 8 * parameters, timed(&subject, &pack)?)
        }
    };
    let steps = recipe.steps(dataset.len());
    let passes = steps as f64 / recipe.steps_per_epoch(dataset.len()) as f64;
    let tokens = (dataset.tokens() as f64 * passes) as u64;
    let threads = rayon::current_num_threads().min(recipe.rows_per_step());
    let longest = pack.iter().map(|row| row.tokens.len()).sum::<usize>();
    let state = recipe.optimizer.bytes(parameters as u64)
        + Accumulator::bytes(parameters, recipe.rows_per_step());
    Ok(Estimate {
        steps,
        tokens,
        parameters: parameters as u64,
        memory_bytes: (base.bytes() + held) as u64
            + state
            + (threads * 4 * activations(config, recipe, longest)) as u64,
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

/// Floats of one thread's workspace for a pack of `rows` tokens.
fn activations(c: &Config, recipe: &Recipe, rows: usize) -> usize {
    let inner = Target::ALL.len() * recipe.lora.rank;
    let block = c.qkv_width() + c.q_width() + 2 * c.mlp + c.hidden + c.heads + 2 + inner;
    let kept = if recipe.gradient_checkpointing {
        1
    } else {
        c.layers
    };
    let streams = (c.layers + 1) * c.hidden;
    let back = c.qkv_width() + c.q_width() + 3 * c.mlp + 2 * c.hidden;
    let scratch = 2 * c.hidden + c.mlp;
    // The output projection goes over some rows at a time.
    let logits = rows.min(LOGITS_ROWS) * c.vocab;
    rows * (kept * block + streams + back + scratch) + logits
}
