//! Errors as geth words and numbers them.

use crate::{
    call::{CallOutcome, revert_reason},
    error::Error,
    simulate::Refusal,
};
use alloy_primitives::Bytes;
use jsonrpsee::types::ErrorObjectOwned;

pub(super) type RpcResult<T> = Result<T, ErrorObjectOwned>;

/// The server error code of geth for everything that has no code of its own.
const SERVER_ERROR: i32 = -32000;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL: i32 = -32603;
/// geth's code for a revert; the data is the revert data.
const REVERTED: i32 = 3;

pub(super) fn server(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER_ERROR, message, None::<()>)
}

pub(super) fn invalid_params(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, message, None::<()>)
}

/// EIP-7966: accepted, but not included in time.
pub(super) fn not_included(
    hash: alloy_primitives::B256,
    waited: std::time::Duration,
) -> ErrorObjectOwned {
    let message = format!(
        "The transaction was added to the mempool but wasn't processed in {}ms.",
        waited.as_millis()
    );
    ErrorObjectOwned::owned(4, message, Some(hash))
}

impl From<Refusal> for ErrorObjectOwned {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            Some(code) => Self::owned(code, refusal.error.to_string(), None::<()>),
            None => refusal.error.into(),
        }
    }
}

impl From<Error> for ErrorObjectOwned {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown { what: "block", .. } => server("header not found"),
            Error::Database(_) | Error::Corrupt { .. } => {
                tracing::error!(%error, "request failed");
                Self::owned(INTERNAL, "internal error", None::<()>)
            }
            other => server(other.to_string()),
        }
    }
}

/// The return data of a call, or its failure as an error.
pub(super) fn output(outcome: CallOutcome) -> RpcResult<Bytes> {
    match outcome {
        CallOutcome::Success { output, .. } => Ok(output),
        failed => Err(failure(&failed)),
    }
}

pub(super) fn failure(outcome: &CallOutcome) -> ErrorObjectOwned {
    match outcome {
        CallOutcome::Revert { output, .. } => {
            let message = match revert_reason(output) {
                Some(reason) => format!("execution reverted: {reason}"),
                None => "execution reverted".to_owned(),
            };
            ErrorObjectOwned::owned(REVERTED, message, Some(output))
        }
        CallOutcome::Halt {
            out_of_gas: true, ..
        } => server("out of gas"),
        CallOutcome::Halt { reason, .. } => server(format!("execution halted: {reason}")),
        CallOutcome::Success { .. } => server("no failure"),
    }
}
