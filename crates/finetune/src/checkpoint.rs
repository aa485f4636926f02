//! Checkpoints: one file holds everything a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a safetensors file with the flat parameters, the optimizer's moments in the form
//! it keeps them, and the run's [`State`] as JSON in its metadata. Because the order of rows and
//! the dropout are pure functions of seed and step, the step number is also the random state and
//! the data cursor. A file is written beside its place and renamed: it is there whole or not at
//! all, and a full disk leaves the one before.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use openledger_primitives::{B256, merkle};
use openledger_store::write_atomic_with;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::optimizer::{Moments, Optimizer, Quantised};

/// Checkpoints kept; older ones are deleted once a newer one is durable.
const KEPT: usize = 2;

const CHECKPOINT: &str = "checkpoint";
const BEST: &str = "best";

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

/// The best evaluation of a run that stops early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was measured.
    pub step: u64,
    /// Mean loss over the held-out rows, nats a target token.
    pub loss: f64,
    /// Evaluations since then, none of them better.
    pub since: u32,
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
    /// The best evaluation so far, where the recipe asks for it.
    #[serde(default)]
    pub(crate) best: Option<Best>,
    /// Content roots of the parameters at every checkpoint so far, this one included.
    pub(crate) roots: Vec<B256>,
}

impl State {
    /// Before the first step.
    pub(crate) fn new(identity: Identity, eval_before: Option<f64>) -> Self {
        Self {
            identity,
            step: 0,
            tokens: 0,
            smoothed: None,
            eval_before,
            best: None,
            roots: Vec::new(),
        }
    }
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) parameters: Vec<f32>,
    pub(crate) moments: Moments,
}

/// Content root of flat f32 parameters: the Merkle root over 1 KiB chunks of their little-endian
/// bytes.
pub(crate) fn parameters_root(parameters: &[f32]) -> B256 {
    let chunks = parameters.chunks(merkle::CHUNK_BYTES / 4);
    let bytes = |chunk: &[f32]| -> Vec<u8> { chunk.iter().flat_map(|x| x.to_le_bytes()).collect() };
    merkle::Tree::from_data(chunks.map(bytes)).root()
}

fn path_of(directory: &Path, kind: &str, step: u64) -> PathBuf {
    directory.join(format!("{kind}-{step:08}.safetensors"))
}

/// A flat tensor of a file.
enum Part<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

impl Part<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(codes) => codes.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(*values),
            Self::U8(codes) => codes.len(),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::U8(_) => Dtype::U8,
        }
    }

    fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::F32(values) => values
                .iter()
                .try_for_each(|value| file.write_all(&value.to_le_bytes())),
            Self::U8(codes) => file.write_all(codes),
        }
    }
}

/// Writes a safetensors file value by value: what is saved is never copied as a whole.
fn write(path: &Path, state: &State, parts: &[(&str, Part<'_>)]) -> Result<(), Error> {
    let state = serde_json::to_string(state).expect("the state holds finite numbers and digests");
    let mut header = BTreeMap::from([("__metadata__", serde_json::json!({ "state": state }))]);
    let mut start = 0;
    for (name, part) in parts {
        let end = start + part.bytes();
        let place = serde_json::json!({
            "dtype": part.dtype(),
            "shape": [part.len()],
            "data_offsets": [start, end],
        });
        header.insert(name, place);
        start = end;
    }
    let mut header = serde_json::to_vec(&header).expect("names and numbers always serialise");
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        parts.iter().try_for_each(|(_, part)| part.write(file))
    })?;
    Ok(())
}

/// Writes a checkpoint into `directory` and deletes all but the newest two, and the weights of
/// evaluations that are no longer the best.
pub(crate) fn save(
    directory: &Path,
    state: &State,
    parameters: &[f32],
    moments: &Moments,
) -> Result<(), Error> {
    let mut parts = vec![("parameters", Part::F32(parameters))];
    match moments {
        Moments::Full { first, second } => parts.extend([
            ("first_moment", Part::F32(first)),
            ("second_moment", Part::F32(second)),
        ]),
        Moments::Blockwise { first, second } => parts.extend([
            ("first_codes", Part::U8(&first.codes)),
            ("second_codes", Part::U8(&second.codes)),
            ("first_scales", Part::F32(&first.scales)),
            ("second_scales", Part::F32(&second.scales)),
        ]),
    }
    // Largest alignment first, so that every tensor starts at a multiple of its element's size.
    parts.sort_by_key(|(_, part)| part.dtype() == Dtype::U8);
    write(&path_of(directory, CHECKPOINT, state.step), state, &parts)?;
    let old = list(directory, CHECKPOINT)?.into_iter().rev().skip(KEPT);
    let best = state.best.map(|best| path_of(directory, BEST, best.step));
    let beaten = list(directory, BEST)?
        .into_iter()
        .filter(|path| best.as_ref() != Some(path));
    for path in old.chain(beaten) {
        std::fs::remove_file(&path).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Writes the weights of the best evaluation so far. Those of the one before stay until a
/// checkpoint no longer names them: a run that is killed goes on from there.
pub(crate) fn save_best(directory: &Path, state: &State, parameters: &[f32]) -> Result<(), Error> {
    let path = path_of(directory, BEST, state.step);
    write(&path, state, &[("parameters", Part::F32(parameters))])
}

/// The weights of the best evaluation, which `state` names.
pub(crate) fn best(directory: &Path, best: &Best) -> Result<Vec<f32>, Error> {
    let path = path_of(directory, BEST, best.step);
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    File::parse(&path, &bytes)?.f32("parameters")
}

/// Files of a kind in `directory`, oldest first.
fn list(directory: &Path, kind: &str) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let fits = |name: &str| {
            let rest = name.strip_prefix(kind);
            rest.is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".safetensors"))
        };
        if name.is_some_and(fits) {
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
    let Some(path) = list(directory, CHECKPOINT)?.pop() else {
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

/// A parsed file.
struct File<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> File<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        match SafeTensors::deserialize(bytes) {
            Ok(tensors) => Ok(Self { path, tensors }),
            Err(error) => Err(Self::damaged(path, error)),
        }
    }

    fn damaged(path: &Path, reason: impl ToString) -> Error {
        Error::Checkpoint {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Result<&[u8], Error> {
        let fail = |reason: String| Self::damaged(self.path, reason);
        let view = self.tensors.tensor(name);
        let view = view.map_err(|error| fail(error.to_string()))?;
        if view.dtype() == dtype {
            Ok(view.data())
        } else {
            Err(fail(format!("{name} is {:?}, not {dtype:?}", view.dtype())))
        }
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        let (values, _) = self.bytes(name, Dtype::F32)?.as_chunks::<4>();
        Ok(values.iter().map(|x| f32::from_le_bytes(*x)).collect())
    }

    fn quantised(&self, moment: &str) -> Result<Quantised, Error> {
        Ok(Quantised {
            codes: self.bytes(&format!("{moment}_codes"), Dtype::U8)?.to_vec(),
            scales: self.f32(&format!("{moment}_scales"))?,
        })
    }
}

/// Reads one checkpoint file.
fn load(path: &Path) -> Result<Checkpoint, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let file = File::parse(path, &bytes)?;
    let damaged = |reason: String| File::damaged(path, reason);
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let state = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("state"))
        .ok_or_else(|| damaged("its metadata has no state".into()))?;
    let state: State =
        serde_json::from_str(state).map_err(|error| damaged(format!("state: {error}")))?;
    let parameters = file.f32("parameters")?;
    let whole = file.tensors.names().contains(&"first_moment");
    let kind = if whole {
        Optimizer::Adamw
    } else {
        Optimizer::Adamw8bit
    };
    let moments = match kind {
        Optimizer::Adamw => Moments::Full {
            first: file.f32("first_moment")?,
            second: file.f32("second_moment")?,
        },
        Optimizer::Adamw8bit => Moments::Blockwise {
            first: file.quantised("first")?,
            second: file.quantised("second")?,
        },
    };
    let (first, second) = match &moments {
        Moments::Full { first, second } => (first.len(), second.len()),
        Moments::Blockwise { first, second } => (first.codes.len(), second.codes.len()),
    };
    if first != parameters.len() || second != parameters.len() {
        return Err(damaged(format!(
            "{} parameters but {first} and {second} moments",
            parameters.len(),
        )));
    }
    Ok(Checkpoint {
        state,
        parameters,
        moments,
    })
}
