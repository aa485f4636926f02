//! Checkpoints: one file holds everything a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a safetensors file with the tensors `parameters`, `first_moment` and
//! `second_moment` (all f32, flat) and the run's [`State`] as JSON in its metadata. Because the
//! row order is a pure function of seed and step, the step number is also the random state and the
//! data cursor. One file, written beside its place and renamed, is there whole or not at all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use openledger_primitives::{B256, merkle};
use openledger_store::write_atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::optimizer::Moments;

/// Checkpoints kept; older ones are deleted once a newer one is durable.
const KEPT: usize = 2;

/// What a run is: a checkpoint of another run is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Digest of the recipe.
    pub(crate) recipe: B256,
    /// Digest of the examples and their split.
    pub(crate) data: B256,
    /// Bits of the untouched base's loss on the first example: differs for other base weights.
    pub(crate) probe: u64,
}

/// Everything but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) identity: Identity,
    /// Steps done.
    pub(crate) step: u64,
    /// Tokens processed.
    pub(crate) tokens: u64,
    /// Smoothed loss after `step`.
    pub(crate) smoothed: Option<f64>,
    /// Mean loss over the held-out rows before training.
    pub(crate) eval_before: Option<f64>,
    /// Content roots of the parameters at every checkpoint so far, this one included.
    pub(crate) roots: Vec<B256>,
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) parameters: Vec<f32>,
    pub(crate) moments: Moments,
}

/// Little-endian bytes of `values`.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Content root of flat f32 parameters: the Merkle root over 1 KiB chunks of their little-endian
/// bytes.
pub(crate) fn parameters_root(parameters: &[f32]) -> B256 {
    merkle::chunk_root(&bytes_of(parameters))
}

fn file_name(step: u64) -> String {
    format!("checkpoint-{step:08}.safetensors")
}

/// Writes a checkpoint into `directory` and deletes all but the newest two.
pub(crate) fn save(
    directory: &Path,
    state: &State,
    parameters: &[f32],
    moments: &Moments,
) -> Result<(), Error> {
    let path = directory.join(file_name(state.step));
    let state = serde_json::to_string(state).expect("the state holds finite numbers and digests");
    let damaged = |reason: safetensors::SafeTensorError| Error::Checkpoint {
        path: path.clone(),
        reason: reason.to_string(),
    };
    let parts = [
        ("parameters", bytes_of(parameters)),
        ("first_moment", bytes_of(&moments.first)),
        ("second_moment", bytes_of(&moments.second)),
    ];
    let views = parts
        .iter()
        .map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?;
            Ok((*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(damaged)?;
    let metadata = HashMap::from([("state".to_owned(), state)]);
    let bytes = serialize(views, Some(metadata)).map_err(damaged)?;
    write_atomic(&path, &bytes)?;
    for old in list(directory)?.into_iter().rev().skip(KEPT) {
        std::fs::remove_file(&old).map_err(Error::io(&old))?;
    }
    Ok(())
}

/// Checkpoint files of `directory`, oldest first.
fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|n| n.starts_with("checkpoint-") && n.ends_with(".safetensors")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The newest checkpoint of `directory`, which must belong to the run `identity` and hold
/// `parameters` values.
pub(crate) fn latest(
    directory: &Path,
    identity: &Identity,
    parameters: usize,
) -> Result<Option<Checkpoint>, Error> {
    let Some(path) = list(directory)?.pop() else {
        return Ok(None);
    };
    let checkpoint = load(&path)?;
    let found = &checkpoint.state.identity;
    for (field, same) in [
        ("recipe", found.recipe == identity.recipe),
        ("dataset", found.data == identity.data),
        ("base model", found.probe == identity.probe),
        ("shape", checkpoint.parameters.len() == parameters),
    ] {
        if !same {
            return Err(Error::OtherRun { path, field });
        }
    }
    Ok(Some(checkpoint))
}

/// Reads one checkpoint file.
fn load(path: &Path) -> Result<Checkpoint, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let damaged = |reason: String| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    };
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let state = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("state"))
        .ok_or_else(|| damaged("it has no state".into()))?;
    let state = serde_json::from_str(state).map_err(|error| damaged(error.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let read = |name: &str| -> Result<Vec<f32>, Error> {
        let view = tensors
            .tensor(name)
            .map_err(|error| damaged(error.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("{name} is {:?}, not F32", view.dtype())));
        }
        Ok(view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    };
    let parameters = read("parameters")?;
    let moments = Moments {
        first: read("first_moment")?,
        second: read("second_moment")?,
    };
    if moments.first.len() != parameters.len() || moments.second.len() != parameters.len() {
        return Err(damaged(format!(
            "{} parameters but {} and {} moments",
            parameters.len(),
            moments.first.len(),
            moments.second.len()
        )));
    }
    Ok(Checkpoint {
        state,
        parameters,
        moments,
    })
}
