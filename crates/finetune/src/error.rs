//! What can go wrong while a dataset is prepared or a model is trained.

use std::path::{Path, PathBuf};

use crate::data::Flaw;

/// Flaws of a file's rows; printed as the first few and a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaws(pub Vec<Flaw>);

impl std::fmt::Display for Flaws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 3;
        for (index, flaw) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}line {}: {}", flaw.line, flaw.reason)?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

use openledger_primitives::B256;

/// Every failure of this crate. Messages name the row, file or setting and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No row was given, or none is left after the split.
    #[error("no row to train on: {rows} rows were given and {eval} of them are held out")]
    NoRows {
        /// Rows given.
        rows: usize,
        /// Rows kept for evaluation.
        eval: usize,
    },
    /// A file holds no row.
    #[error("{path} holds no row")]
    NoRowsIn {
        /// The file.
        path: PathBuf,
    },
    /// Rows of a file do not hold what is asked for.
    #[error("{path}: {} of {of} rows cannot be used: {flaws}", flaws.0.len())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Rows read.
        of: usize,
        /// What is wrong, line by line.
        flaws: Flaws,
    },
    /// Columns are not named in a way that makes rows.
    #[error("the columns do not make rows: {reason}")]
    Columns {
        /// What is wrong.
        reason: String,
    },
    /// A row produces no token whose loss counts.
    #[error(
        "row {row} has no target token: it is empty and the model defines no end-of-text token"
    )]
    EmptyRow {
        /// The row's index.
        row: u32,
    },
    /// The model's chat template does not make prompt and answer of a row.
    #[error("row {row}: {source}")]
    Template {
        /// The row's index.
        row: u32,
        /// What the template said.
        source: openledger_model::Error,
    },
    /// A setting of a recipe is out of range.
    #[error("recipe setting `{setting}` is {value}: {expected}")]
    Recipe {
        /// The setting's name as written in the recipe.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A setting of a recipe file is out of range.
    #[error("{path}, line {line}: {setting}")]
    RecipeLine {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// The setting and what is allowed: an [`Error::Recipe`].
        setting: Box<Self>,
    },
    /// Settings laid over a recipe do not make one.
    #[error("the settings do not fit: {reason}")]
    Settings {
        /// What is unknown or has the wrong kind of value.
        reason: String,
    },
    /// A recipe or state file does not parse.
    #[error("{path} cannot be read as {what}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The parser's message, with its line.
        reason: String,
    },
    /// A line of a corpus file does not hold what its source entry names.
    #[error("{path}, line {line}: {reason}")]
    CorpusLine {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A corpus is not the one that its recipe names.
    #[error(
        "{path} has the digest {found}, but the recipe was made for {expected}: fetch the revision that the recipe's attribution names, or drop `digest` to train on this text"
    )]
    Corpus {
        /// The file or folder.
        path: PathBuf,
        /// Digest in the recipe.
        expected: B256,
        /// Digest of what was read.
        found: B256,
    },
    /// The run directory belongs to another run.
    #[error(
        "{path} holds a checkpoint of another run ({field} differs); use an empty directory to start afresh"
    )]
    OtherRun {
        /// The checkpoint file.
        path: PathBuf,
        /// Which part of the run's identity differs.
        field: &'static str,
    },
    /// Another process trains in the directory.
    #[error("another process trains in {path}; watch it, pause it, or wait for it")]
    Running {
        /// The run's directory.
        path: PathBuf,
    },
    /// Nobody trains in the directory.
    #[error("no process trains in {path}")]
    NotRunning {
        /// The run's directory.
        path: PathBuf,
    },
    /// A checkpoint file is damaged.
    #[error("checkpoint {path} is damaged: {reason}; delete it to resume from the one before")]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The loss left the finite numbers before the first checkpoint.
    #[error(
        "training diverged at step {step} (loss {loss}) before the first checkpoint; lower the learning rate of {learning_rate}"
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Loss of that step, nats a token.
        loss: f64,
        /// Learning rate of that step.
        learning_rate: f64,
    },
    /// The model refused the input or its files.
    #[error(transparent)]
    Model(#[from] openledger_model::Error),
    /// The store refused a write.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's message.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Binds an input/output failure to the path it happened at.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Binds a refusal of the chat template to the row it is about.
    pub(crate) fn template(row: u32) -> impl Fn(openledger_model::Error) -> Self {
        move |source| Self::Template { row, source }
    }

    /// A refused recipe setting.
    pub(crate) fn recipe(
        setting: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Recipe {
            setting,
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// Adds file and line to a refused setting that `text`, the content of `path`, gives.
    pub(crate) fn in_file(self, path: &Path, text: &str) -> Self {
        let Self::Recipe { setting, .. } = &self else {
            return self;
        };
        let names = |line: &str| {
            let rest = line.trim_start().strip_prefix(setting);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        match text.lines().position(names) {
            None => self,
            Some(index) => Self::RecipeLine {
                path: path.to_owned(),
                line: index + 1,
                setting: Box::new(self),
            },
        }
    }
}
