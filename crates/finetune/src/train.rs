//! Tuning on the rows of a dataset: what a run is, its order of rows and its outcome.

use std::path::{Path, PathBuf};
use std::time::Instant;

use openledger_model::{
    Adapter, Arithmetic, Base, Dtype, Exact, Example, Fast, Loss, Workspace, loss,
};
use openledger_primitives::{B256, RECORD_VERSION, records};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Best, Identity};
use crate::gradients::{Packing, evaluate};
use crate::metrics::{self, StepMetrics};
use crate::recipe::check_mode;
use crate::session::{Plan, Session};
use crate::subject::{Adapted, Subject, Whole};
use crate::{Dataset, Error, Method, Mode, Recipe, order};

/// Subdirectory of a run that holds the finished PEFT adapter.
pub const ADAPTER_DIR: &str = "adapter";
/// Subdirectory of a run that holds the finished model of the method `full`.
pub const MODEL_DIR: &str = "model";
/// File of a run that holds its curve, one [`StepMetrics`] a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
pub(crate) const SUMMARY_FILE: &str = "summary.json";

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
    /// The held-out loss no longer fell; the adapter is that of the best evaluation.
    StoppedEarly,
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
    /// How its numbers were computed.
    pub arithmetic: Mode,
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
    /// The best evaluation, where the recipe asks for early stopping; its weights are kept.
    #[serde(default)]
    pub best: Option<Best>,
    /// Content roots of the parameters at every checkpoint, oldest first; the last one is of the
    /// parameters that were kept.
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
    fn save(&self, run_dir: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).expect("a summary is finite numbers");
        openledger_store::write_atomic(&run_dir.join(SUMMARY_FILE), &json)?;
        Ok(())
    }

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
            mode: self.arithmetic.into(),
        }
    }
}

/// The outcome of [`train_whole`].
#[derive(Debug)]
pub struct TrainedWhole<A: Arithmetic> {
    /// The model with its new weights.
    pub base: Base<A>,
    /// Directory of the Hugging Face model; written unless the run was paused.
    pub model_dir: PathBuf,
    /// The numbers.
    pub summary: Summary,
    /// The curve.
    pub curve: Vec<StepMetrics>,
}

/// Tunes an adapter for `base` on `dataset` and writes it as PEFT files into
/// `run_dir/adapter`. Calls `progress` after every step.
///
/// If `run_dir` holds a checkpoint of the same run it goes on from there; if it holds the finished
/// run, that is returned and nothing is computed.
///
/// # Errors
/// [`Error::Recipe`] for settings out of range or a base of the other arithmetic,
/// [`Error::OtherRun`] if `run_dir` belongs to another run, [`Error::Diverged`] if the loss is not
/// finite before the first checkpoint, and failures of files or of the model.
pub fn train<A: Arithmetic>(
    base: &Base<A>,
    dataset: &Dataset,
    recipe: &Recipe,
    run_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<Trained, Error> {
    if recipe.method == Method::Full {
        let expected = "`train` makes adapters; `train_whole` trains whole models";
        return Err(Error::recipe("method", "full", expected));
    }
    let started = Instant::now();
    let identity = prepare(base, dataset, recipe, run_dir)?;
    let adapter_dir = run_dir.join(ADAPTER_DIR);
    if let Some((summary, curve)) = finished(&identity, run_dir)? {
        return Ok(Trained {
            adapter: Adapter::load_peft(&adapter_dir, &base.config)?,
            adapter_dir,
            summary,
            curve,
        });
    }
    let adapter = Adapter::for_base(base, recipe.adapter(&base.config)?, recipe.seed)?;
    let subject = Adapted {
        base,
        adapter,
        seed: recipe.seed,
    };
    let mut run = Run::start(subject, dataset, recipe, run_dir, identity)?;
    let ending = run.steps(progress)?;
    let (subject, summary, curve) = run.finish(ending, started)?;
    if ending != Ending::Paused {
        std::fs::create_dir_all(&adapter_dir).map_err(Error::io(&adapter_dir))?;
        subject.adapter.save_peft(&adapter_dir, "base")?;
        // The summary is written last: where it stands, everything else does.
        summary.save(run_dir)?;
    }
    Ok(Trained {
        adapter: subject.adapter,
        adapter_dir,
        summary,
        curve,
    })
}

/// Trains all weights of `base` on `dataset` and writes the model into `run_dir/model`: f32 from
/// exact arithmetic, bf16 (which is what it computed with) from fast. The tokenizer stays where it
/// is. Otherwise as [`train`].
///
/// # Errors
/// As [`train`].
pub fn train_whole<A: Arithmetic>(
    base: Base<A>,
    dataset: &Dataset,
    recipe: &Recipe,
    run_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<TrainedWhole<A>, Error> {
    if recipe.method != Method::Full {
        let expected = "`train_whole` is for the method `full`; `train` makes adapters";
        return Err(Error::recipe(
            "method",
            format!("{:?}", recipe.method),
            expected,
        ));
    }
    let started = Instant::now();
    let identity = prepare(&base, dataset, recipe, run_dir)?;
    let model_dir = run_dir.join(MODEL_DIR);
    if let Some((summary, curve)) = finished(&identity, run_dir)? {
        return Ok(TrainedWhole {
            base: Base::load_as(&model_dir, A::FINEST)?,
            model_dir,
            summary,
            curve,
        });
    }
    let mut run = Run::start(Whole::new(base), dataset, recipe, run_dir, identity)?;
    let ending = run.steps(progress)?;
    let (subject, summary, curve) = run.finish(ending, started)?;
    if ending != Ending::Paused {
        let dtype = match recipe.arithmetic {
            Mode::Exact => Dtype::F32,
            Mode::Fast => Dtype::Bf16,
        };
        subject.base.save(&model_dir, dtype)?;
        summary.save(run_dir)?;
    }
    Ok(TrainedWhole {
        base: subject.base,
        model_dir,
        summary,
        curve,
    })
}

/// Loads the base in `model_dir` in the form that `recipe` asks for and trains, whatever the
/// method; the result lies in `run_dir`.
///
/// # Errors
/// As [`train`], and when the base cannot be loaded.
pub fn train_from(
    model_dir: &Path,
    dataset: &Dataset,
    recipe: &Recipe,
    run_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<Summary, Error> {
    fn run<A: Arithmetic>(
        base: Base<A>,
        dataset: &Dataset,
        recipe: &Recipe,
        run_dir: &Path,
        progress: &mut dyn FnMut(&StepMetrics) -> Control,
    ) -> Result<Summary, Error> {
        Ok(match recipe.method {
            Method::Full => train_whole(base, dataset, recipe, run_dir, progress)?.summary,
            _ => train(&base, dataset, recipe, run_dir, progress)?.summary,
        })
    }
    match recipe.arithmetic {
        Mode::Exact => {
            let base = Base::<Exact>::load(model_dir)?;
            run(base, dataset, recipe, run_dir, progress)
        }
        Mode::Fast => {
            let base = Base::<Fast>::load_as(model_dir, recipe.format())?;
            run(base, dataset, recipe, run_dir, progress)
        }
    }
}

/// Checks what belongs together, makes the directory and says which run this is.
fn prepare<A: Arithmetic>(
    base: &Base<A>,
    dataset: &Dataset,
    recipe: &Recipe,
    run_dir: &Path,
) -> Result<Identity, Error> {
    recipe.validate(&base.config)?;
    check_mode::<A>(recipe.arithmetic)?;
    if dataset.is_empty() {
        let rows = dataset.examples().len();
        return Err(Error::NoRows { rows, eval: rows });
    }
    std::fs::create_dir_all(run_dir).map_err(Error::io(run_dir))?;
    let first = &dataset.examples()[0].example;
    let probe = loss(base, None, first, &mut Workspace::default())?;
    Ok(Identity {
        recipe: recipe.digest(),
        data: dataset.digest(),
        probe: probe.sum.to_bits(),
    })
}

/// Summary and curve of a run that ended in an earlier process.
fn finished(
    identity: &Identity,
    run_dir: &Path,
) -> Result<Option<(Summary, Vec<StepMetrics>)>, Error> {
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
    Ok(Some((summary, metrics::load(&run_dir.join(METRICS_FILE))?)))
}

impl Recipe {
    pub(crate) fn packing(&self) -> Packing {
        Packing {
            exact: self.arithmetic == Mode::Exact,
            tokens: if self.packing { self.pack_tokens } else { 0 },
            checkpointing: self.gradient_checkpointing,
        }
    }

    fn plan(&self, rows: usize) -> Plan {
        Plan {
            schedule: self.schedule(self.steps(rows)),
            epoch: self.steps_per_epoch(rows) as f64,
            optimizer: self.optimizer,
            adamw: self.adamw,
            muon: None,
            rows: self.rows_per_step(),
            packing: self.packing(),
            clip: self.clip,
            checkpoint_every: self.checkpoint_every,
            eval_every: self.eval_every,
            early_stopping: self.early_stopping,
        }
    }
}

/// A run over the rows of a dataset.
struct Run<'a, S> {
    dataset: &'a Dataset,
    recipe: &'a Recipe,
    session: Session<'a, S>,
}

impl<'a, S: Subject> Run<'a, S> {
    fn start(
        subject: S,
        dataset: &'a Dataset,
        recipe: &'a Recipe,
        run_dir: &'a Path,
        identity: Identity,
    ) -> Result<Self, Error> {
        let plan = recipe.plan(dataset.len());
        let session = Session::open(subject, plan, run_dir, identity, |subject| {
            held_out_loss(dataset, usize::MAX, |example, workspace| {
                subject.loss_before(example, workspace)
            })
        })?;
        Ok(Self {
            dataset,
            recipe,
            session,
        })
    }

    /// Runs the remaining steps.
    fn steps(
        &mut self,
        progress: &mut dyn FnMut(&StepMetrics) -> Control,
    ) -> Result<Ending, Error> {
        let dataset = self.dataset;
        let mut epoch = Epoch::new(dataset.len(), self.recipe);
        let mut batch = |done| {
            let rows = epoch.batch(done).iter();
            rows.map(|&index| dataset.training(index)).collect()
        };
        let evaluate = |subject: &S| {
            held_out_loss(dataset, CURVE_ROWS, |example, workspace| {
                subject.loss(example, workspace)
            })
        };
        self.session.steps(&mut batch, &evaluate, progress)
    }

    fn finish(
        mut self,
        ending: Ending,
        started: Instant,
    ) -> Result<(S, Summary, Vec<StepMetrics>), Error> {
        self.session.settle(ending)?;
        let eval_after = match ending {
            Ending::Paused => None,
            _ => {
                let subject = &self.session.subject;
                held_out_loss(self.dataset, usize::MAX, |example, workspace| {
                    subject.loss(example, workspace)
                })?
            }
        };
        let curve = self.session.curve().to_vec();
        let losses: Vec<f64> = curve.iter().map(|step| step.loss).collect();
        let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
        let state = self.session.state;
        let summary = Summary {
            ending,
            arithmetic: self.recipe.arithmetic,
            steps: state.step,
            tokens: state.tokens,
            loss_first: losses.first().copied().unwrap_or_default(),
            loss_last: tail.iter().sum::<f64>() / tail.len().max(1) as f64,
            eval_before: state.eval_before,
            eval_after,
            best: state.best,
            checkpoints: state.roots,
            metrics: metrics::digest(&curve),
            recipe: state.identity.recipe,
            dataset: state.identity.data,
            seconds: started.elapsed().as_secs_f64(),
            identity: state.identity,
        };
        Ok((self.session.subject, summary, curve))
    }
}

/// Mean loss over at most `limit` held-out rows.
fn held_out_loss<F>(dataset: &Dataset, limit: usize, one: F) -> Result<Option<f64>, Error>
where
    F: Fn(&Example, &mut Workspace) -> Result<Loss, openledger_model::Error> + Sync,
{
    let rows = dataset.eval().take(limit).map(|row| &row.example);
    let total = evaluate(&rows.collect::<Vec<_>>(), one)?;
    Ok((total.targets > 0).then(|| total.mean()))
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
            batch: recipe.rows_per_step(),
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
        let adapter = recipe.adapter(&base.config).unwrap();
        let subject = Adapted {
            base: &base,
            adapter: Adapter::new(&base.config, adapter, 1).unwrap(),
            seed: 1,
        };
        let mut run = Run::start(subject, &dataset, &recipe, dir.path(), identity).unwrap();
        let ending = run.steps(&mut |step| match step.step {
            5 => Control::Pause,
            _ => Control::Continue,
        });
        assert_eq!(ending.unwrap(), Ending::Paused);
        let good = run.session.subject.parameters().to_vec();
        run.session.subject.change(|values| values[3] = f32::NAN);
        let ending = run.steps(&mut |_| Control::Continue).unwrap();
        assert_eq!((ending, run.session.state.step), (Ending::Diverged, 5));
        assert_eq!(run.session.subject.parameters(), good);
        let (subject, summary, _) = run.finish(ending, Instant::now()).unwrap();
        assert_eq!(summary.steps, 5);
        assert_eq!(subject.parameters(), good);
    }
}
