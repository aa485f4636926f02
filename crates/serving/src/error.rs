//! Why a request, an adapter or a receipt is refused.

use std::path::PathBuf;

use openledger_primitives::{AmountError, B256};

/// Every failure of this crate. A gateway maps them to its own status codes: the variant says what
/// kind of failure it is, the message what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full; try again later.
    #[error("{queued} requests are waiting and the queue holds no more than {limit}; retry later")]
    Busy {
        /// Requests waiting.
        queued: usize,
        /// The queue's bound.
        limit: usize,
    },
    /// No adapter of this name is registered. Never answered by the base instead.
    #[error("no model named `{name}` is served here")]
    UnknownModel {
        /// The name asked for.
        name: String,
    },
    /// The name is taken by other weights.
    #[error("`{name}` already serves weights {current}, not {offered}; unload or replace it")]
    NameTaken {
        /// The adapter's name.
        name: String,
        /// Weights root it serves now.
        current: B256,
        /// Weights root in the directory offered.
        offered: B256,
    },
    /// The files of a registered adapter are no longer the ones that were registered.
    #[error("{path} holds weights {found} but {expected} were registered; load it again")]
    AdapterChanged {
        /// The adapter's directory.
        path: PathBuf,
        /// Weights root registered.
        expected: B256,
        /// Weights root found now.
        found: B256,
    },
    /// Prompt and answer do not fit the model's context.
    #[error(
        "{prompt} prompt tokens and {max_tokens} answer tokens do not fit the context of {context}"
    )]
    ContextLength {
        /// Prompt tokens.
        prompt: usize,
        /// Answer tokens asked for.
        max_tokens: usize,
        /// The model's context.
        context: usize,
    },
    /// A request that could never be admitted.
    #[error("the request needs {needed} bytes of cache; this engine holds {limit}")]
    TooLarge {
        /// Bytes needed.
        needed: u64,
        /// The engine's bound.
        limit: u64,
    },
    /// A parameter of the request is out of range.
    #[error("`{parameter}` is {value}: {expected}")]
    Parameter {
        /// Name as in the API.
        parameter: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// A step of the model failed; all answers in it are lost.
    #[error("the model failed: {0}")]
    Step(String),
    /// The model refused its input or its files.
    #[error(transparent)]
    Model(#[from] openledger_model::Error),
    /// A fee left the range of amounts.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// The signer refused.
    #[error("the receipt could not be signed: {0}")]
    Signer(String),
    /// The store failed; the answer must not be acknowledged.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
}

impl Error {
    /// An out-of-range parameter.
    pub(crate) fn parameter(
        parameter: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Parameter {
            parameter,
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}
