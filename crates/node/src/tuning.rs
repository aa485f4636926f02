//! Tuning runs: a queue, one worker, and everything that turns a trained adapter into a model
//! that is registered, attributable and served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use openledger_finetune::rundir::RunDir;
use openledger_finetune::{
    Control, Dataset, Ending, Estimate, Lineage, Method, Mode, Preset, Recipe, Row, StepMetrics,
    estimate, train,
};
use openledger_model::Base;
use openledger_primitives::{RECORD_VERSION, Record as _, Wei, merkle, records};

use crate::curve::{Journal, point};
use crate::machine::free_memory;
use crate::state::{ModelDoc, RunDoc, RunStatus, collection};
use crate::view::{LossPoint, PresetView, RunView};
use crate::wallets::Role;
use crate::{Error, Node, Result};

/// Price of a prompt token on the dev network: a millionth of an OPEN.
pub(crate) const PRICE_IN: Wei = Wei::new(1_000_000_000_000);
/// Price of an output token on the dev network.
pub(crate) const PRICE_OUT: Wei = Wei::new(2_000_000_000_000);
/// Runs that may wait at once.
const QUEUE: usize = 64;

/// What a page may do to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAction {
    /// Save a checkpoint and let the next run go first.
    Pause,
    /// Go on from the last checkpoint.
    Resume,
    /// End here and keep the adapter as it is.
    Stop,
}

/// A tuning run to be started.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct RunRequest {
    /// Datanet to learn; its newest version is taken.
    pub datanet: u64,
    /// `quick`, `standard` or `thorough`.
    pub preset: String,
    /// Name of the model to be.
    pub name: String,
    /// Settings over the preset, as an object of recipe fields ([`Recipe::with`]).
    #[serde(default)]
    pub settings: serde_json::Value,
}

/// The runs that wait or are running.
#[derive(Debug)]
pub(crate) struct Runs {
    queue: mpsc::SyncSender<String>,
    live: Mutex<BTreeMap<String, Arc<Live>>>,
}

/// What the worker and the pages share about a run.
#[derive(Debug, Default)]
struct Live {
    control: AtomicU8,
    last: Mutex<Option<StepMetrics>>,
}

const CONTINUE: u8 = 0;
const PAUSE: u8 = 1;
const STOP: u8 = 2;

impl Runs {
    /// The queue and the end that the worker takes runs from.
    pub(crate) fn new() -> (Self, mpsc::Receiver<String>) {
        let (queue, jobs) = mpsc::sync_channel(QUEUE);
        (
            Self {
                queue,
                live: Mutex::default(),
            },
            jobs,
        )
    }

    fn live(&self, id: &str) -> Arc<Live> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(live.entry(id.to_owned()).or_default())
    }

    fn enqueue(&self, id: &str) -> Result<()> {
        self.live(id).control.store(CONTINUE, Ordering::Relaxed);
        self.queue.try_send(id.to_owned()).map_err(|_| Error::Busy)
    }

    /// Lets a waiting worker look whether the node stops.
    pub(crate) fn wake(&self) {
        let _ = self.queue.try_send(String::new());
    }

    /// Asks every running job to save and return.
    pub(crate) fn pause_all(&self) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for run in live.values() {
            run.control.store(PAUSE, Ordering::Relaxed);
        }
    }
}

impl Node {
    /// Queues a tuning run and returns its id. The run is estimated first, by training one row.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown preset, settings that do not fit, or a name that is taken
    /// or not a model name, [`Error::NotFound`] for an unknown Datanet, [`Error::Conflict`] if the
    /// run does not fit into memory, [`Error::Busy`] if too many runs wait.
    pub fn start_run(&self, request: &RunRequest) -> Result<String> {
        let RunRequest {
            datanet,
            preset,
            name,
            settings,
        } = request;
        check_name(name)?;
        let datanet = self.datanet_doc(*datanet)?;
        let version = datanet.versions.last().map_or(0, |version| version.number);
        let taken = self
            .catalogue()
            .get::<ModelDoc>(collection::MODELS, name)?
            .is_some();
        let runs = self.catalogue().list::<RunDoc>(collection::RUNS)?;
        if taken || runs.iter().any(|(_, run)| run.model == *name) {
            return Err(Error::invalid(
                "name",
                format!("a model {name:?} exists; choose another"),
            ));
        }
        let probe = RunDoc::probe(datanet.id, version, preset, settings);
        let (dataset, recipe) = self.materials(&probe)?;
        let needs = needs(&self.base().base, &dataset, &recipe)?.memory_bytes;
        if let Some(free) = free_memory().filter(|free| needs > *free) {
            let (needs, free) = (needs.div_ceil(1_000_000), free / 1_000_000);
            return Err(Error::Conflict(format!(
                "the run needs about {needs} MB of memory and {free} MB are free; choose a smaller \
                 rank or batch, or close something first"
            )));
        }
        let id = format!("run-{}", runs.len() + 1);
        let doc = RunDoc {
            id: id.clone(),
            model: name.clone(),
            base: self.base().name.clone(),
            datanet: datanet.id,
            version,
            preset: preset.clone(),
            settings: settings.clone(),
            status: RunStatus::Queued,
            message: "waiting for its turn".into(),
            step: 0,
            steps: 0,
            recipe: serde_json::Value::Null,
            loss_first: 0.0,
            loss_last: 0.0,
            eval_before: 0.0,
            eval_after: 0.0,
            digest: None,
        };
        self.save_run(&doc)?;
        self.runs_queue().enqueue(&id)?;
        Ok(id)
    }

    /// Pauses, resumes or stops a run.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown run, [`Error::Conflict`] if its state does not allow it.
    pub fn control_run(&self, id: &str, action: RunAction) -> Result<()> {
        let mut run = self
            .run_doc(id)?
            .ok_or_else(|| Error::not_found("run", id))?;
        let live = self.runs_queue().live(id);
        match (action, run.status) {
            (RunAction::Pause, RunStatus::Running) => {
                live.control.store(PAUSE, Ordering::Relaxed);
            }
            (RunAction::Stop, RunStatus::Running) => live.control.store(STOP, Ordering::Relaxed),
            (RunAction::Stop, RunStatus::Paused) => {
                // Its adapter is in the checkpoint: it goes on for one step and ends.
                run.status = RunStatus::Queued;
                run.message = "ending with what it has learned".into();
                self.save_run(&run)?;
                self.runs_queue().enqueue(id)?;
                live.control.store(STOP, Ordering::Relaxed);
            }
            (RunAction::Stop, RunStatus::Queued) => {
                run.status = RunStatus::Cancelled;
                run.message = "cancelled before it was done".into();
                self.save_run(&run)?;
            }
            (RunAction::Resume, RunStatus::Paused) => {
                run.status = RunStatus::Queued;
                run.message = "waiting for its turn".into();
                self.save_run(&run)?;
                self.runs_queue().enqueue(id)?;
            }
            (_, status) => {
                let status = status.name();
                return Err(Error::Conflict(format!("the run {id} is {status}")));
            }
        }
        Ok(())
    }

    /// Puts runs that an earlier process left unfinished back into the queue.
    pub(crate) fn requeue_runs(&self) -> Result<()> {
        for (id, run) in self.catalogue().list::<RunDoc>(collection::RUNS)? {
            let unfinished = matches!(run.status, RunStatus::Queued | RunStatus::Running);
            if unfinished && run.base == self.base().name {
                self.runs_queue().enqueue(&id)?;
            }
        }
        Ok(())
    }

    /// The worker: takes runs one by one until the node stops.
    pub(crate) fn tune_forever(&self, jobs: &mpsc::Receiver<String>) {
        while let Ok(id) = jobs.recv() {
            if self.stopping() {
                return;
            }
            let Ok(Some(mut run)) = self.run_doc(&id) else {
                continue;
            };
            if run.status == RunStatus::Cancelled {
                continue;
            }
            if let Err(error) = self.tune(&mut run) {
                if self.stopping() {
                    return;
                }
                tracing::error!(run = id, %error, "tuning failed");
                run.status = RunStatus::Failed;
                run.message = error.to_string();
                if let Err(error) = self.save_run(&run) {
                    tracing::error!(run = id, %error, "cannot record the failure");
                }
            }
        }
    }

    fn tune(&self, run: &mut RunDoc) -> Result<()> {
        let base = self.base().clone();
        let (dataset, recipe) = self.materials(run)?;
        let estimate = needs(&base.base, &dataset, &recipe)?;
        run.status = RunStatus::Running;
        run.steps = estimate.steps;
        run.message = estimate.words();
        run.recipe = serde_json::to_value(&recipe).unwrap_or_default();
        self.save_run(run)?;
        self.stage("tuning", run.message.clone(), 0, run.steps);

        let live = self.runs_queue().live(&run.id);
        let dir = self.run_dir(&run.id);
        let held = RunDir::hold(&dir)?;
        let mut journal = Journal::new(
            self.catalogue().clone(),
            &run.id,
            dir.join(openledger_finetune::METRICS_FILE),
        );
        let mut lost = Ok(());
        let (node, id) = (self.clone(), run.id.clone());
        let mut progress = |step: &StepMetrics| {
            if let Err(error) = journal.record(step) {
                // A curve that cannot be kept ends the run where it can go on.
                lost = Err(error);
                return Control::Pause;
            }
            node.notices().publish(format!("run:{id}"), &point(step));
            node.stage(
                "tuning",
                format!(
                    "loss {:.3}, {:.0} tokens/s, {:.0} s left",
                    step.smoothed, step.tokens_per_second, step.eta_seconds
                ),
                step.step,
                step.steps,
            );
            *live.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(step.clone());
            match live.control.load(Ordering::Relaxed) {
                PAUSE => Control::Pause,
                STOP => Control::Stop,
                _ => held.asked(),
            }
        };
        let trained = match recipe.arithmetic {
            Mode::Exact => train(&base.base, &dataset, &recipe, &dir, &mut progress),
            Mode::Fast => {
                let fast = base.base.to_fast(recipe.format());
                train(&fast, &dataset, &recipe, &dir, &mut progress)
            }
        };
        journal.flush()?;
        lost?;
        let trained = trained?;
        let summary = &trained.summary;
        run.step = summary.steps;
        run.loss_first = summary.loss_first;
        run.loss_last = summary.loss_last;
        run.eval_before = summary.eval_before.unwrap_or_default();
        run.eval_after = summary.eval_after.unwrap_or_default();
        run.message = match summary.ending {
            Ending::Completed => "all steps done".into(),
            Ending::Stopped => format!("stopped at step {}; the adapter is kept", summary.steps),
            Ending::StoppedEarly => format!(
                "stopped early at step {}: the held-out loss no longer fell; the best adapter is kept",
                summary.steps
            ),
            Ending::Diverged => format!(
                "the loss diverged; the adapter is that of step {}, the last good checkpoint",
                summary.steps
            ),
            Ending::Paused => {
                // A node that is stopping leaves the run to be resumed by the next one.
                if !self.stopping() {
                    run.status = RunStatus::Paused;
                    run.message = format!("paused at step {}", summary.steps);
                }
                return self.save_run(run);
            }
        };

        self.stage(
            "tuning",
            "sketching the gradients of every row",
            0,
            dataset.len() as u64,
        );
        let artefacts = self.build_artefacts(&run.id, &trained.adapter, &dataset)?;
        let version = self.version_doc(run.datanet, run.version)?;
        let training_run = summary.record(Lineage {
            chain_id: self.chain_id(),
            base: base.weights_root,
            tokenizer: base.tokenizer_root,
            datasets: vec![version.digest],
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let root_of = |name: &str| -> Result<_> {
            Ok(merkle::chunk_root(&openledger_store::read(
                &trained.adapter_dir.join(name),
            )?))
        };
        let owner = self.wallets().address(Role::ModelOwner);
        let adapter = records::Adapter {
            version: RECORD_VERSION,
            chainId: self.chain_id(),
            run: training_run.digest(),
            weights: root_of("adapter_model.safetensors")?,
            config: root_of("adapter_config.json")?,
            sketchRoot: artefacts.sketch_root,
            indexRoot: artefacts.index_root,
            evalLossBeforeMicro: micro(run.eval_before),
            evalLossAfterMicro: micro(run.eval_after),
            mode: training_run.mode,
            priceIn: PRICE_IN.get(),
            priceOut: PRICE_OUT.get(),
            owner,
        };
        self.stage(
            "tuning",
            "registering the adapter on the chain",
            run.steps,
            run.steps,
        );
        let registered = self.block_on(self.contracts().register_adapter(
            self.wallets(),
            &base,
            &adapter,
            &training_run,
            (run.datanet, run.version),
        ))?;
        run.digest = Some(training_run.digest());
        run.status = RunStatus::Succeeded;
        let model = ModelDoc {
            name: run.model.clone(),
            parent: Some(base.name.clone()),
            owner,
            registry_id: Some(registered.id),
            digest: adapter.digest(),
            weights: adapter.weights,
            parameters: trained.adapter.params().len() as u64,
            facts: adapter_facts(&recipe, &dataset, run),
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            run: Some(run.id.clone()),
            datanet: Some((run.datanet, run.version)),
            train_rows: Some(artefacts.train_rows),
            tx: Some(registered.tx),
        };
        self.load_adapter(&model)?;
        self.catalogue().write(|tx| {
            tx.put_record(&training_run)?;
            tx.put_record(&adapter)?;
            tx.put(collection::MODELS, &model.name, &model)?;
            tx.put(collection::RUNS, &run.id, &*run)
        })?;
        self.notices().publish(
            format!("run:{}", run.id),
            &serde_json::json!({"status": "succeeded"}),
        );
        Ok(())
    }

    /// The rows of the run's version as examples, with the held-out ones split off.
    pub(crate) fn dataset_of(&self, run: &RunDoc) -> Result<Dataset> {
        let recipe = Recipe::default().with(&run.settings).map_err(settings)?;
        let base = self.base();
        let rows: Vec<Row> = self
            .version_rows(run.datanet, run.version)?
            .iter()
            .enumerate()
            .map(|(index, row)| Row::new(index as u32, row.prompt.clone(), row.text.clone()))
            .collect();
        Ok(Dataset::from_rows(
            &rows,
            &base.tokenizer,
            &base.base.config,
            recipe.context,
            &base.template,
        )?
        .split(recipe.eval_fraction, recipe.eval_seed)?)
    }

    /// What a run trains on, and how.
    fn materials(&self, run: &RunDoc) -> Result<(Dataset, Recipe)> {
        let preset = Preset::parse(&run.preset).ok_or_else(|| {
            let preset = &run.preset;
            Error::invalid(
                "preset",
                format!("{preset:?} is not quick, standard or thorough"),
            )
        })?;
        let dataset = self.dataset_of(run)?;
        let config = &self.base().base.config;
        let recipe = Recipe::preset(preset, config, &dataset)
            .with(&run.settings)
            .map_err(settings)?;
        recipe.validate(config).map_err(settings)?;
        if recipe.method == Method::Full {
            let adapters = "a model that is served beside others and attributed is an adapter: \
                            choose lora, dora or qlora";
            return Err(Error::invalid("settings", adapters));
        }
        Ok((dataset, recipe))
    }

    /// Waits until a run has succeeded.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it fails or is cancelled or paused, [`Error::NotFound`] for an
    /// unknown run.
    pub async fn wait_for_run(&self, id: &str) -> Result<()> {
        let topic = format!("run:{id}");
        let mut live = self.notices().follow();
        loop {
            let run = self
                .run_doc(id)?
                .ok_or_else(|| Error::not_found("run", id))?;
            match run.status {
                RunStatus::Succeeded => return Ok(()),
                RunStatus::Failed | RunStatus::Cancelled | RunStatus::Paused => {
                    let status = run.status.name();
                    return Err(Error::Conflict(format!(
                        "the run {id} {status}: {}",
                        run.message
                    )));
                }
                RunStatus::Queued | RunStatus::Running => {}
            }
            // Any notice about the run is a reason to look again.
            loop {
                match live.recv().await {
                    Ok(notice) if notice.topic == topic => break,
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                    Err(_) => return Err(Error::ShuttingDown),
                }
            }
        }
    }

    fn save_run(&self, run: &RunDoc) -> Result<()> {
        self.catalogue()
            .write(|tx| tx.put(collection::RUNS, &run.id, run))?;
        let status = serde_json::json!({"status": run.status.name(), "message": run.message});
        self.notices().publish(format!("run:{}", run.id), &status);
        Ok(())
    }

    pub(crate) fn run_doc(&self, id: &str) -> Result<Option<RunDoc>> {
        Ok(self.catalogue().get(collection::RUNS, id)?)
    }

    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.data_dir().join("runs").join(id)
    }

    /// All runs without their curves, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn runs(&self) -> Result<Vec<RunView>> {
        let mut runs = self.catalogue().list::<RunDoc>(collection::RUNS)?;
        runs.sort_by_key(|(id, _)| {
            std::cmp::Reverse(id.trim_start_matches("run-").parse::<u64>().ok())
        });
        Ok(runs
            .into_iter()
            .map(|(_, run)| self.run_view(&run, Vec::new()))
            .collect())
    }

    /// A run with its curve.
    ///
    /// # Errors
    /// If the store or the curve cannot be read.
    pub fn run(&self, id: &str) -> Result<Option<RunView>> {
        let Some(run) = self.run_doc(id)? else {
            return Ok(None);
        };
        let points = self.run_points(id, 0, usize::MAX)?;
        Ok(Some(self.run_view(&run, points)))
    }

    /// Status and message of a run, and whether more steps can come.
    pub(crate) fn run_status(&self, id: &str) -> Result<Option<(&'static str, String, bool)>> {
        Ok(self.run_doc(id)?.map(|run| {
            let live = matches!(run.status, RunStatus::Queued | RunStatus::Running);
            (run.status.name(), run.message, live)
        }))
    }

    fn run_view(&self, run: &RunDoc, points: Vec<LossPoint>) -> RunView {
        let live = self.runs_queue().live(&run.id);
        let last = live
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let running = run.status == RunStatus::Running;
        RunView {
            id: run.id.clone(),
            status: run.status.name().to_owned(),
            message: run.message.clone(),
            model: run.model.clone(),
            base: run.base.clone(),
            datanet: run.datanet,
            preset: run.preset.clone(),
            step: last
                .as_ref()
                .filter(|_| running)
                .map_or(run.step, |step| step.step),
            steps: run.steps,
            eta_seconds: last.filter(|_| running).map(|step| step.eta_seconds),
            points,
            recipe: flatten(&run.recipe),
            digest: run.digest,
        }
    }

    /// What each preset would take on a Datanet, with `settings` over it ([`RunRequest`]).
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown Datanet, [`Error::Invalid`] for settings that do not fit.
    pub fn presets(&self, datanet: u64, settings: &serde_json::Value) -> Result<Vec<PresetView>> {
        let datanet = self.datanet_doc(datanet)?;
        let version = datanet.versions.last().map_or(0, |version| version.number);
        [
            ("quick", "a first look"),
            ("standard", "the default"),
            ("thorough", "learns the rows by heart"),
        ]
        .into_iter()
        .map(|(name, about)| {
            let probe = RunDoc::probe(datanet.id, version, name, settings);
            let (dataset, recipe) = self.materials(&probe)?;
            let Estimate {
                steps,
                seconds,
                memory_bytes,
                ..
            } = needs(&self.base().base, &dataset, &recipe)?;
            let (name, about) = (name.to_owned(), about.to_owned());
            Ok(PresetView {
                name,
                about,
                steps,
                seconds,
                memory_bytes,
                free_bytes: free_memory(),
            })
        })
        .collect()
    }
}

/// What a run takes, asked of the base in the form that it computes with.
fn needs(base: &Base, dataset: &Dataset, recipe: &Recipe) -> Result<Estimate> {
    Ok(match recipe.arithmetic {
        Mode::Exact => estimate(base, dataset, recipe)?,
        Mode::Fast => estimate(&base.to_fast(recipe.format()), dataset, recipe)?,
    })
}

impl RunDoc {
    /// A run that exists only to ask what it would take.
    fn probe(datanet: u64, version: u64, preset: &str, settings: &serde_json::Value) -> Self {
        Self {
            id: String::new(),
            model: String::new(),
            base: String::new(),
            datanet,
            version,
            preset: preset.to_owned(),
            settings: settings.clone(),
            status: RunStatus::Queued,
            message: String::new(),
            step: 0,
            steps: 0,
            recipe: serde_json::Value::Null,
            loss_first: 0.0,
            loss_last: 0.0,
            eval_before: 0.0,
            eval_after: 0.0,
            digest: None,
        }
    }
}

/// Model names travel in URLs and JSON.
fn check_name(name: &str) -> Result<()> {
    let fine = (3..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if fine {
        Ok(())
    } else {
        let rule = "3 to 64 of a-z, 0-9, '-', '_' and '.'";
        Err(Error::invalid(
            "name",
            format!("{name:?} is not a model name: use {rule}"),
        ))
    }
}

/// What the engine says about settings, as the API's answer about that field.
fn settings(error: openledger_finetune::Error) -> Error {
    Error::invalid("settings", error.to_string())
}

fn micro(nats: f64) -> u64 {
    (nats.max(0.0) * 1e6).round() as u64
}

fn adapter_facts(recipe: &Recipe, dataset: &Dataset, run: &RunDoc) -> Vec<(String, String)> {
    [
        ("kind", "LoRA adapter (PEFT format)".to_owned()),
        ("rank", recipe.lora.rank.to_string()),
        ("alpha", recipe.lora.alpha.to_string()),
        ("training rows", dataset.len().to_string()),
        ("held-out rows", dataset.eval().len().to_string()),
        ("steps", run.step.to_string()),
        (
            "evaluation loss before",
            format!("{:.3} nats a token", run.eval_before),
        ),
        (
            "evaluation loss after",
            format!("{:.3} nats a token", run.eval_after),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A recipe as name and value, nested names joined by dots.
fn flatten(value: &serde_json::Value) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if prefix.is_empty() {
                        name.clone()
                    } else {
                        format!("{prefix}.{name}")
                    };
                    walk(&name, value, out);
                }
            }
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => out.push((prefix.to_owned(), text.clone())),
            other => out.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}
