//! LoRA tuning: the loop, its checkpoints and its outcome.
//!
//! The one hard decision: **a run is a pure function of (base, dataset, recipe)**. Rows are drawn
//! by seed and step, gradients are summed in batch order, the optimizer is elementwise; so the
//! curve and the adapter have the same bits for any number of threads, and a run that was killed
//! and resumed ends in the adapter that the undisturbed run would have written.

use std::path::{Path, PathBuf};
use std::time::Instant;

use openledger_model::{Adapter, Base, Example, Workspace, lora_gradients, loss};
use openledger_primitives::{B256, RECORD_VERSION, records};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Checkpoint, Identity, State};
use crate::gradients::{Accumulator, evaluate};
use crate::metrics::{self, MetricsLog, Pace, StepMetrics};
use crate::optimizer::{self, Moments, Segment};
use crate::schedule::Schedule;
use crate::{Dataset, Error, Recipe, order};

/// Subdirectory of a run that holds the finished PEFT adapter.
pub const ADAPTER_DIR: &str = "adapter";
/// File of a run that holds its curve, one [`StepMetrics`] a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
const SUMMARY_FILE: &str = "summary.json";

/// Held-out rows used for the curve; before and after the run all of them are used.
const CURVE_ROWS: usize = 48;

/// What the caller wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Save a checkpoint and return; the same call resumes later.
    Pause,
    /// End here and keep the adapter as it is.
    Stop,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All steps were done.
    Completed,
    /// The caller stopped it; the adapter is kept.
    Stopped,
    /// The caller paused it; nothing is finished.
    Paused,
    /// The loss diverged; the adapter is that of the last good checkpoint.
    Diverged,
}

/// Numbers of a run that outlive the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    identity: Identity,
    /// How the run ended.
    pub ending: Ending,
    /// Steps whose update is in the adapter.
    pub steps: u64,
    /// Tokens processed.
    pub tokens: u64,
    /// Loss of the first step, nats a target token.
    pub loss_first: f64,
    /// Mean loss of the last tenth of the steps, nats a target token.
    pub loss_last: f64,
    /// Mean loss over the held-out rows before the run; `None` without held-out rows.
    pub eval_before: Option<f64>,
    /// Mean loss over the held-out rows after the run.
    pub eval_after: Option<f64>,
    /// Content roots of the parameters at every checkpoint, oldest first.
    pub checkpoints: Vec<B256>,
    /// Digest of the curve.
    pub metrics: B256,
    /// Digest of the recipe.
    pub recipe: B256,
    /// Digest of the dataset's examples and split.
    pub dataset: B256,
    /// Wall seconds this process spent in the run; a resumed run counts only its last part.
    pub seconds: f64,
}

/// The outcome of [`train`].
#[derive(Debug)]
pub struct Trained {
    /// The adapter.
    pub adapter: Adapter,
    /// Directory of the PEFT files; written unless the run was paused.
    pub adapter_dir: PathBuf,
    /// The numbers.
    pub summary: Summary,
    /// The curve.
    pub curve: Vec<StepMetrics>,
}

/// What a training record names besides the run itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Chain id.
    pub chain_id: u64,
    /// Weights root of the base model.
    pub base: B256,
    /// Content root of the tokenizer file.
    pub tokenizer: B256,
    /// Digests of the dataset versions.
    pub datasets: Vec<B256>,
    /// Version of the code.
    pub code_version: String,
}

impl Summary {
    /// The record of this run.
    pub fn record(&self, lineage: Lineage) -> records::TrainingRun {
        records::TrainingRun {
            version: RECORD_VERSION,
            chainId: lineage.chain_id,
            base: lineage.base,
            tokenizer: lineage.tokenizer,
            datasets: lineage.datasets,
            recipe: self.recipe,
            codeVersion: lineage.code_version,
            checkpoints: self.checkpoints.clone(),
            metrics: self.metrics,
        }
    }
}

/// Tunes an adapter for `base` on `dataset` and writes it as PEFT files into
/// `run_dir/adapter`. Calls `progress` after every step.
///
/// If `run_dir` holds a checkpoint of the same run it goes on from there; if it holds the finished
/// run, that is returned and nothing is computed.
///
/// # Errors
/// [`Error::Recipe`] for settings out of range, [`Error::OtherRun`] if `run_dir` belongs to another
/// run, [`Error::Diverged`] if the loss is not finite before the first checkpoint, and failures of
/// files or of the model.
pub fn train(
    base: &Base,
    dataset: &Dataset,
    recipe: &Recipe,
    run_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<Trained, Error> {
    recipe.validate(&base.config)?;
    if dataset.is_empty() {
        let rows = dataset.examples().len();
        return Err(Error::NoRows { rows, eval: rows });
    }
    std::fs::create_dir_all(run_dir).map_err(Error::io(run_dir))?;
    let identity = Identity {
        recipe: recipe.digest(),
        data: dataset.digest(),
        probe: probe(base, dataset)?,
    };
    if let Some(trained) = finished(base, &identity, run_dir)? {
        return Ok(trained);
    }
    let mut run = Run::start(base, dataset, recipe, run_dir, identity)?;
    let ending = run.steps(progress)?;
    run.finish(ending)
}

/// Bits of the base's loss on the first row.
fn probe(base: &Base, dataset: &Dataset) -> Result<u64, Error> {
    let first = &dataset.examples()[0].example;
    Ok(loss(base, None, first, &mut Workspace::default())?
        .sum
        .to_bits())
}

/// The outcome of a run that ended in an earlier process.
fn finished(base: &Base, identity: &Identity, run_dir: &Path) -> Result<Option<Trained>, Error> {
    let path = run_dir.join(SUMMARY_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(path)(source)),
    };
    let summary: Summary = serde_json::from_slice(&bytes).map_err(|error| Error::Parse {
        path: path.clone(),
        what: "the summary of a run",
        reason: error.to_string(),
    })?;
    if summary.identity != *identity {
        return Err(Error::OtherRun {
            path,
            field: "recipe, dataset or base model",
        });
    }
    let adapter_dir = run_dir.join(ADAPTER_DIR);
    Ok(Some(Trained {
        adapter: Adapter::load_peft(&adapter_dir, &base.config)?,
        adapter_dir,
        summary,
        curve: metrics::load(&run_dir.join(METRICS_FILE))?,
    }))
}

/// A run in progress.
struct Run<'a> {
    base: &'a Base,
    dataset: &'a Dataset,
    recipe: &'a Recipe,
    run_dir: &'a Path,
    schedule: Schedule,
    segments: Vec<Segment>,
    adapter: Adapter,
    moments: Moments,
    state: State,
    log: MetricsLog,
    started: Instant,
}

impl<'a> Run<'a> {
    fn start(
        base: &'a Base,
        dataset: &'a Dataset,
        recipe: &'a Recipe,
        run_dir: &'a Path,
        identity: Identity,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let mut adapter = Adapter::new(&base.config, recipe.lora.config()?, recipe.seed)?;
        let parameters = adapter.params().len();
        let layout = adapter.layout();
        let segments = optimizer::segments(
            layout
                .iter()
                .map(|(_, offset, shape)| (*offset, shape.as_slice())),
        );
        let found = checkpoint::latest(run_dir, &identity, parameters)?;
        let (moments, state) = match found {
            Some(Checkpoint {
                state,
                parameters,
                moments,
            }) => {
                adapter.params_mut().copy_from_slice(&parameters);
                tracing::info!(step = state.step, "resuming from a checkpoint");
                (moments, state)
            }
            None => {
                let rows: Vec<&Example> = dataset.eval().map(|row| &row.example).collect();
                let before = evaluate(&rows, |example, workspace| {
                    loss(base, None, example, workspace)
                })?;
                let state = State {
                    identity,
                    step: 0,
                    tokens: 0,
                    smoothed: None,
                    eval_before: (before.targets > 0).then(|| before.mean()),
                    roots: Vec::new(),
                };
                (Moments::zeros(parameters), state)
            }
        };
        let log = MetricsLog::open(&run_dir.join(METRICS_FILE), state.step)?;
        let steps = recipe.steps(dataset.len());
        Ok(Self {
            base,
            dataset,
            recipe,
            run_dir,
            schedule: recipe.schedule(steps),
            segments,
            adapter,
            moments,
            state,
            log,
            started,
        })
    }

    /// Runs the remaining steps.
    fn steps(
        &mut self,
        progress: &mut dyn FnMut(&StepMetrics) -> Control,
    ) -> Result<Ending, Error> {
        let parameters = self.adapter.params().len();
        let mut accumulator = Accumulator::new(parameters, self.recipe.batch);
        let mut pace = Pace::default();
        let mut epoch = Epoch::new(self.dataset.len(), self.recipe);
        while self.state.step < self.schedule.total {
            let begun = Instant::now();
            let step = self.state.step + 1;
            let batch: Vec<&Example> = epoch
                .batch(self.state.step)
                .iter()
                .map(|&index| self.dataset.training(index))
                .collect();
            let (base, adapter) = (self.base, &self.adapter);
            let learning_rate = self.schedule.rate(step);
            let ran = accumulator.run(&batch, |example, gradients, workspace| {
                lora_gradients(base, adapter, example, gradients, workspace)
            });
            let (batch_loss, gradients) = match ran {
                Err(Error::Model(openledger_model::Error::Diverged { .. })) => {
                    return self.fall_back(step, f64::NAN, learning_rate);
                }
                other => other?,
            };
            let loss = batch_loss.mean();
            let norm = optimizer::norm(gradients);
            let smoothed = metrics::smooth(self.state.smoothed, loss);
            if diverged(loss, norm, smoothed, self.log.curve()) {
                return self.fall_back(step, loss, learning_rate);
            }
            let scale = if self.recipe.clip > 0.0 && norm > self.recipe.clip {
                self.recipe.clip / norm
            } else {
                1.0
            };
            optimizer::update(
                &self.recipe.adamw,
                &self.segments,
                self.adapter.params_mut(),
                gradients,
                &mut self.moments,
                optimizer::Step {
                    number: step,
                    learning_rate,
                    scale,
                },
            );
            self.state.step = step;
            self.state.tokens += batch_loss.tokens;
            self.state.smoothed = Some(smoothed);
            let measured = step.is_multiple_of(self.recipe.eval_every);
            let eval_loss = if measured {
                self.evaluate(CURVE_ROWS)?
            } else {
                None
            };
            pace.record(begun.elapsed().as_secs_f64(), batch_loss.tokens);
            let metrics = StepMetrics {
                step,
                steps: self.schedule.total,
                epoch: step as f64 / self.recipe.steps_per_epoch(self.dataset.len()) as f64,
                loss,
                smoothed,
                eval_loss,
                perplexity: loss.exp(),
                learning_rate,
                gradient_norm: norm,
                tokens: self.state.tokens,
                tokens_per_second: pace.tokens_per_second(),
                eta_seconds: pace.eta(self.schedule.total - step),
            };
            let control = progress(&metrics);
            self.log.append(metrics)?;
            let due =
                step.is_multiple_of(self.recipe.checkpoint_every) || step == self.schedule.total;
            if due {
                self.state
                    .roots
                    .push(checkpoint::parameters_root(self.adapter.params()));
            }
            if due || control != Control::Continue {
                self.save()?;
            }
            match control {
                Control::Continue => {}
                Control::Pause => return Ok(Ending::Paused),
                Control::Stop => return Ok(Ending::Stopped),
            }
        }
        Ok(Ending::Completed)
    }

    fn save(&self) -> Result<(), Error> {
        self.log.sync()?;
        checkpoint::save(
            self.run_dir,
            &self.state,
            self.adapter.params(),
            &self.moments,
        )
    }

    /// Mean loss over at most `limit` held-out rows.
    fn evaluate(&self, limit: usize) -> Result<Option<f64>, Error> {
        let rows: Vec<&Example> = self
            .dataset
            .eval()
            .take(limit)
            .map(|row| &row.example)
            .collect();
        let total = evaluate(&rows, |example, workspace| {
            loss(self.base, Some(&self.adapter), example, workspace)
        })?;
        Ok((total.targets > 0).then(|| total.mean()))
    }

    /// After a divergence: the parameters of the newest checkpoint, if there is one.
    fn fall_back(&mut self, step: u64, loss: f64, learning_rate: f64) -> Result<Ending, Error> {
        let parameters = self.adapter.params().len();
        let good = checkpoint::latest(self.run_dir, &self.state.identity, parameters)?;
        let Some(good) = good else {
            return Err(Error::Diverged {
                step,
                loss,
                learning_rate,
            });
        };
        tracing::warn!(step, loss, kept = good.state.step, "training diverged");
        self.adapter.params_mut().copy_from_slice(&good.parameters);
        self.state = good.state;
        Ok(Ending::Diverged)
    }

    fn finish(mut self, ending: Ending) -> Result<Trained, Error> {
        if ending == Ending::Stopped {
            let root = checkpoint::parameters_root(self.adapter.params());
            if self.state.roots.last() != Some(&root) {
                self.state.roots.push(root);
            }
        }
        let adapter_dir = self.run_dir.join(ADAPTER_DIR);
        let eval_after = if ending == Ending::Paused {
            None
        } else {
            self.evaluate(usize::MAX)?
        };
        let curve = self.log.into_curve();
        let losses: Vec<f64> = curve.iter().map(|step| step.loss).collect();
        let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
        let summary = Summary {
            ending,
            steps: self.state.step,
            tokens: self.state.tokens,
            loss_first: losses.first().copied().unwrap_or_default(),
            loss_last: tail.iter().sum::<f64>() / tail.len().max(1) as f64,
            eval_before: self.state.eval_before,
            eval_after,
            checkpoints: self.state.roots,
            metrics: metrics::digest(&curve),
            recipe: self.state.identity.recipe,
            dataset: self.state.identity.data,
            seconds: self.started.elapsed().as_secs_f64(),
            identity: self.state.identity,
        };
        if ending != Ending::Paused {
            std::fs::create_dir_all(&adapter_dir).map_err(Error::io(&adapter_dir))?;
            self.adapter.save_peft(&adapter_dir, "base")?;
            // The summary is written last: where it stands, everything else does.
            let json = serde_json::to_vec_pretty(&summary).expect("a summary is finite numbers");
            openledger_store::write_atomic(&self.run_dir.join(SUMMARY_FILE), &json)?;
        }
        Ok(Trained {
            adapter: self.adapter,
            adapter_dir,
            summary,
            curve,
        })
    }
}

/// Whether to give up: a loss or gradient that is not finite, or a smoothed loss far above where
/// the run began.
fn diverged(loss: f64, norm: f64, smoothed: f64, curve: &[StepMetrics]) -> bool {
    let first = curve.first().map_or(loss, |step| step.loss);
    !loss.is_finite() || !norm.is_finite() || smoothed > 1.5 * first + 0.5
}

/// The order of the rows, pass by pass.
struct Epoch {
    rows: usize,
    batch: usize,
    steps: u64,
    seed: u64,
    number: Option<u64>,
    order: Vec<usize>,
}

impl Epoch {
    fn new(rows: usize, recipe: &Recipe) -> Self {
        Self {
            rows,
            batch: recipe.batch,
            steps: recipe.steps_per_epoch(rows),
            seed: recipe.order_seed,
            number: None,
            order: Vec::new(),
        }
    }

    /// Rows of the step after `done` steps.
    fn batch(&mut self, done: u64) -> &[usize] {
        let number = done / self.steps;
        if self.number != Some(number) {
            self.order = (0..self.rows).collect();
            order::shuffle(&mut self.order, self.seed, number);
            self.number = Some(number);
        }
        let start = (done % self.steps) as usize * self.batch;
        &self.order[start..self.rows.min(start + self.batch)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{Length, testing};

    #[test]
    fn divergence_keeps_the_last_good_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let (base, dataset) = (Base::random(testing::config(), 1), testing::dataset());
        let mut recipe = Recipe {
            length: Length::Steps(10),
            checkpoint_every: 2,
            ..Recipe::default()
        };
        recipe.lora.rank = 2;
        let identity = Identity {
            recipe: recipe.digest(),
            data: dataset.digest(),
            probe: 0,
        };
        let mut run = Run::start(&base, &dataset, &recipe, dir.path(), identity).unwrap();
        let mut good = Vec::new();
        let ending = run.steps(&mut |step| match step.step {
            5 => Control::Pause,
            _ => Control::Continue,
        });
        assert_eq!(ending.unwrap(), Ending::Paused);
        good.extend_from_slice(run.adapter.params());
        run.adapter.params_mut()[3] = f32::NAN;
        let ending = run.steps(&mut |_| Control::Continue).unwrap();
        assert_eq!((ending, run.state.step), (Ending::Diverged, 5));
        assert_eq!(run.adapter.params(), good);
        let trained = run.finish(ending).unwrap();
        assert_eq!(trained.summary.steps, 5);
        assert!(
            trained
                .adapter_dir
                .join("adapter_model.safetensors")
                .exists()
        );
    }

    #[test]
    fn a_loss_far_above_the_start_counts_as_diverged() {
        let curve = testing::curve(3);
        assert!(!diverged(5.0, 1.0, 7.9, &curve));
        assert!(diverged(5.0, 1.0, 8.1, &curve));
        assert!(diverged(f64::NAN, 1.0, 5.0, &curve));
        assert!(diverged(5.0, f64::INFINITY, 5.0, &curve));
    }
}
