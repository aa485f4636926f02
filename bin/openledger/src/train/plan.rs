//! What a run will do and need, said before it starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indicatif::{HumanBytes, HumanCount};
use openledger_finetune::data::{self, Columns};
use openledger_finetune::{Dataset, Preset, Recipe, Row, estimate_from};
use openledger_model::template::ChatTemplate;
use openledger_model::{Config, Tokenizer, parameter_count};
use serde::Serialize;

use super::settings;
use crate::cli::TrainArgs;
use crate::model;

/// Everything that a run takes.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Folder or file of the base model.
    pub(super) base: PathBuf,
    pub(super) dataset: Dataset,
    pub(super) recipe: Recipe,
    pub(super) plan: Plan,
}

/// A run before it starts.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    /// Folder name of the base model.
    pub(super) base: String,
    base_parameters: u64,
    context: usize,
    /// Name of the file or folder with the rows.
    pub(super) data: String,
    rows: usize,
    held_out: usize,
    /// Tokens of one pass.
    tokens: u64,
    /// Rows longer than the context, of which only the beginning is learned.
    cut_rows: usize,
    recipe: Recipe,
    steps: u64,
    trained_parameters: u64,
    memory_bytes: u64,
    /// What the run may take: what was allowed, or what is free.
    memory_limit_bytes: Option<u64>,
    seconds: f64,
}

/// Reads base, rows and recipe, and estimates the run.
pub(super) fn prepare(args: &TrainArgs) -> Result<Prepared> {
    let found = model::find(args.base.as_deref(), model::Parts::All)?;
    let folder = found.folder;
    let config = Config::load(&folder)
        .with_context(|| format!("cannot use {} as a base model", folder.display()))?;
    let tokenizer = Tokenizer::load(&folder)?;
    tokenizer.check_model(&config)?;
    let template = ChatTemplate::of_model(&folder, &tokenizer)?;

    let given = args.data.as_deref().context("--data is missing")?;
    let rows = rows(given, &args.text)?;
    let recipe = match &args.recipe {
        Some(file) => Recipe::load(file)?,
        None => Recipe::default(),
    };
    // The rows are cut and split as the settings say, then a preset is sized to them.
    let settings = settings::parse(&args.settings())?;
    let recipe = recipe.with(&settings)?;
    let dataset = Dataset::from_rows(&rows, &tokenizer, &config, recipe.context, &template)?
        .split(recipe.eval_fraction, recipe.eval_seed)?;
    let recipe = match (&args.recipe, Preset::parse(&args.preset)) {
        (Some(_), _) => recipe,
        (None, Some(preset)) => Recipe::preset(preset, &config, &dataset).with(&settings)?,
        (None, None) => bail!("{:?} is not quick, standard or thorough", args.preset),
    };
    let needs = estimate_from(&folder, &dataset, &recipe)
        .with_context(|| format!("cannot use {} as a base model", folder.display()))?;
    let plan = Plan {
        base: found.name,
        base_parameters: parameter_count(&config) as u64,
        context: dataset.context(),
        data: name(given),
        rows: dataset.examples().len(),
        held_out: dataset.eval().len(),
        tokens: dataset.tokens(),
        cut_rows: needs.truncated,
        recipe: recipe.clone(),
        steps: needs.steps,
        trained_parameters: needs.parameters,
        memory_bytes: needs.memory_bytes,
        memory_limit_bytes: args.memory.or_else(openledger_node::free_memory),
        seconds: needs.seconds,
    };
    Ok(Prepared {
        base: folder,
        dataset,
        recipe,
        plan,
    })
}

/// The rows of a file, or of every file of a folder in the order of their names.
fn rows(given: &Path, columns: &[String]) -> Result<Vec<Row>> {
    let columns = Columns::parse(columns)?;
    let files = if given.is_dir() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(given)
            .with_context(|| format!("cannot list {}", given.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("jsonl" | "parquet"))
            })
            .collect();
        files.sort();
        if files.is_empty() {
            bail!("{} holds no .jsonl and no .parquet file", given.display());
        }
        files
    } else {
        vec![given.to_owned()]
    };
    let mut rows = Vec::new();
    for file in files {
        let read = data::read(&file, &columns, usize::MAX)?.strict()?;
        rows.extend(read);
    }
    // A row is known by its number among all files.
    for (id, row) in (0..).zip(&mut rows) {
        row.id = id;
    }
    Ok(rows)
}

fn name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name()
        .unwrap_or(full.as_os_str())
        .to_string_lossy()
        .into_owned()
}

impl Plan {
    /// Refuses a run that does not fit into memory.
    pub(super) fn fits(&self) -> Result<()> {
        match self.memory_limit_bytes {
            Some(limit) if self.memory_bytes > limit => bail!(
                "the run needs about {} of memory and may take {}; use a smaller batch, rank or \
                 context (--set batch=1), keep the base in 4 bits (--method qlora), or close \
                 something first",
                HumanBytes(self.memory_bytes),
                HumanBytes(limit)
            ),
            _ => Ok(()),
        }
    }

    /// The plan for people, or as a JSON line.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            super::print_event("plan", serde_json::to_value(self)?);
            return Ok(());
        }
        let line = |name: &str, text: String| println!("{name:>12}  {text}");
        line(
            "base",
            format!(
                "{}, {} parameters",
                self.base,
                HumanCount(self.base_parameters)
            ),
        );
        line(
            "data",
            format!(
                "{}: {} rows to learn, {} held out; {} tokens a pass",
                self.data,
                HumanCount((self.rows - self.held_out) as u64),
                HumanCount(self.held_out as u64),
                HumanCount(self.tokens)
            ),
        );
        if self.cut_rows > 0 {
            line(
                "",
                format!(
                    "{} rows are longer than {} tokens and keep only their beginning",
                    HumanCount(self.cut_rows as u64),
                    HumanCount(self.context as u64)
                ),
            );
        }
        line(
            "recipe",
            format!(
                "{} steps of {} rows train {} values (rank {}, learning rate {:.1e})",
                HumanCount(self.steps),
                self.recipe.batch,
                HumanCount(self.trained_parameters),
                self.recipe.lora.rank,
                self.recipe.learning_rate
            ),
        );
        let free = self.memory_limit_bytes.map_or(String::new(), |limit| {
            format!(" of the {} it may take", HumanBytes(limit))
        });
        line(
            "needs",
            format!(
                "about {} of memory{free}, about {} on this machine",
                HumanBytes(self.memory_bytes),
                duration(self.seconds)
            ),
        );
        Ok(())
    }
}

/// Seconds in words: `40 s`, `3 min`, `2.5 h`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}
