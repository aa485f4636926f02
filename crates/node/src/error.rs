//! What can go wrong in a node.

use openledger_primitives::Wei;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a node. The API turns each into a status, see [`crate::api`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Dev keys were asked for on a chain with real money.
    #[error("dev keys are refused on chain {chain_id}: anyone can derive them")]
    DevKeysElsewhere {
        /// The chain.
        chain_id: u64,
    },
    /// A private key is not usable.
    #[error("cannot use a private key: {0}")]
    Key(String),
    /// A request's field cannot be used.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {id:?}")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// There is no such model.
    #[error("the model {name:?} does not exist here; GET /v1/models lists those that do")]
    UnknownModel {
        /// Its name.
        name: String,
    },
    /// Prompt and answer do not fit.
    #[error(
        "the prompt has {prompt} tokens and {max_tokens} may follow, but the model's context holds \
         {context}; shorten the prompt or lower max_tokens"
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most tokens of the answer.
        max_tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// Nobody who pays.
    #[error("{0}")]
    Unauthorized(String),
    /// The voucher cannot be used.
    #[error("voucher refused: {message}")]
    BadVoucher {
        /// Machine-readable code.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The payer cannot cover the request.
    #[error(
        "payment required: this request may cost {needed} wei and the payer has {available} wei \
         left; deposit OPEN in InferenceSettlement or sign a higher voucher"
    )]
    PaymentRequired {
        /// Most that the request can cost.
        needed: Wei,
        /// What is left.
        available: Wei,
    },
    /// The queue is full.
    #[error("the queue is full; try again in a second")]
    Busy,
    /// The request does not fit the present state.
    #[error("{0}")]
    Conflict(String),
    /// An address is taken.
    #[error("cannot listen on {address}: {source}; stop what listens there or choose another port")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Another node uses the data directory.
    #[error("{path} is in use by another openledger process; stop it or choose another --data-dir")]
    DataDirInUse {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
    /// The Datanet failed.
    #[error(transparent)]
    Datanet(#[from] openledger_datanet::Error),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] openledger_model::Error),
    /// Tuning failed.
    #[error(transparent)]
    Finetune(#[from] openledger_finetune::Error),
    /// Serving failed.
    #[error(transparent)]
    Serving(openledger_serving::Error),
    /// Attribution failed.
    #[error(transparent)]
    Attribution(#[from] openledger_attribution::Error),
    /// The suffix index failed.
    #[error(transparent)]
    SuffixIndex(#[from] openledger_suffix_index::Error),
    /// Settlement refused.
    #[error(transparent)]
    Settlement(#[from] openledger_settlement::Error),
    /// The chain failed.
    #[error(transparent)]
    Rollup(#[from] openledger_rollup::Error),
    /// Derivation failed.
    #[error("derivation: {0}")]
    Derivation(#[from] openledger_derivation::Error),
    /// The layer 1, or a node of L2, did not answer.
    #[error(transparent)]
    Rpc(#[from] crate::rollup::rpc::RpcError),
    /// A contract call failed.
    #[error(transparent)]
    Chain(#[from] openledger_chain::Error),
    /// An amount went out of range.
    #[error(transparent)]
    Amount(#[from] openledger_primitives::AmountError),
    /// A file could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// A background task died.
    #[error("a background task failed: {0}")]
    Task(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.into(),
        }
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            what,
            id: id.to_string(),
        }
    }

    /// The amounts behind a refused payment, for tests and clients.
    pub const fn payment_required(&self) -> Option<(Wei, Wei)> {
        match self {
            Self::PaymentRequired { needed, available } => Some((*needed, *available)),
            _ => None,
        }
    }
}

impl From<openledger_serving::Error> for Error {
    fn from(error: openledger_serving::Error) -> Self {
        use openledger_serving::Error as Serving;
        match error {
            Serving::Busy { .. } => Self::Busy,
            Serving::UnknownModel { name } => Self::UnknownModel { name },
            Serving::ContextLength {
                prompt,
                max_tokens,
                context,
            } => Self::ContextLength {
                prompt,
                max_tokens,
                context,
            },
            Serving::Parameter {
                parameter,
                value,
                expected,
            } => Self::Invalid {
                field: parameter.to_owned(),
                message: format!("{value}: {expected}"),
            },
            Serving::Stopped => Self::ShuttingDown,
            other => Self::Serving(other),
        }
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(error.to_string())
    }
}
