//! What can go wrong while a dataset is prepared or a model is trained.

use std::path::PathBuf;

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
    /// A row produces no token whose loss counts.
    #[error(
        "row {row} has no target token: it is empty and the model defines no end-of-text token"
    )]
    EmptyRow {
        /// The row's index.
        row: u32,
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
}
