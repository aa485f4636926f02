//! What a model's files say, read from descriptions and headers alone: shape, stored tensors,
//! memory once loaded, and everything that keeps it from being loaded, not only the first thing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openledger_kernels::{Format, PANEL};

use crate::arithmetic::{Arithmetic, Fast};
use crate::base;
use crate::template::ChatTemplate;
use crate::tensors::{self, EMBEDDING, HEAD, add_ends};
use crate::{Config, Error, Gguf, Tokenizer, files};

/// The findings.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The shape; where parts of the configuration are not supported, as if they were not there.
    /// `None` where nothing can be said.
    pub config: Option<Config>,
    /// What the weight files hold; `None` where there are none.
    pub stored: Option<Stored>,
    /// Tokens of the tokenizer.
    pub tokens: Option<usize>,
    /// How conversations are written.
    pub template: Option<ChatTemplate>,
    /// Why the model cannot be loaded; empty if it can, as far as headers tell.
    pub problems: Vec<Error>,
}

/// Tensors as files hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Weight files.
    pub files: usize,
    /// Tensors.
    pub tensors: usize,
    /// Bytes of the files' values.
    pub bytes: u64,
    /// Values by the name of their number format, such as `BF16`.
    pub values: BTreeMap<String, u64>,
}

/// Reads the descriptions and headers in a folder in the Hugging Face layout. Weights are not
/// read; whether they are finite shows when they are.
///
/// Where the folder has no weight files at all, `stored` is `None` and that is not a problem by
/// itself: a description may be fetched before its weights.
///
/// A path that is a file is taken for a GGUF file.
pub fn inspect(directory: &Path) -> Inspection {
    let mut found = Inspection::default();
    let (config, mut problems) = if directory.is_file() {
        gguf_file(directory, &mut found)
    } else {
        configuration(directory)
    };
    let sound = problems.is_empty();
    if let Some(config) = config {
        if !directory.is_file() {
            match weights(directory, sound.then_some(&config), &mut problems) {
                Ok(stored) => found.stored = stored,
                Err(error) => problems.push(error),
            }
        }
        found.config = Some(config);
    }
    match Tokenizer::load(directory) {
        Err(error) => problems.push(error),
        Ok(tokenizer) => {
            found.tokens = Some(tokenizer.len());
            if let Some(config) = found.config.as_ref().filter(|_| sound) {
                problems.extend(tokenizer.check_model(config).err());
            }
            match ChatTemplate::of_model(directory, &tokenizer) {
                Ok(template) => found.template = Some(template),
                Err(error) => problems.push(error),
            }
        }
    }
    // Shape, tokenizer and template of a GGUF file come from the same fields.
    let mut said = BTreeSet::new();
    problems.retain(|problem| said.insert(problem.to_string()));
    found.problems = problems;
    found
}

/// The shape of a GGUF file, what its header says of the tensors, and why it cannot be read.
fn gguf_file(path: &Path, found: &mut Inspection) -> (Option<Config>, Vec<Error>) {
    let file = match Gguf::open(path) {
        Ok(file) => file,
        Err(error) => return (None, vec![error]),
    };
    found.stored = Some(file.stored());
    let mut problems = file.unread();
    match file.config() {
        Err(error) => {
            problems.push(error);
            (None, problems)
        }
        Ok(config) => {
            problems.extend(file.model(&config).err());
            (Some(config), problems)
        }
    }
}

/// The shape, and every field that is not supported: each is left out in turn until the rest can
/// be read.
fn configuration(directory: &Path) -> (Option<Config>, Vec<Error>) {
    let path = directory.join("config.json");
    let mut json = match files::read_json(&path) {
        Ok(json) => json,
        Err(error) => return (None, vec![error]),
    };
    let mut problems = Vec::new();
    loop {
        let error = match Config::from_json(&json, path.clone()) {
            Ok(mut config) => {
                let generation = directory.join("generation_config.json");
                if generation.exists() {
                    match files::read_json(&generation) {
                        Ok(generation) => add_ends(&mut config, &generation),
                        Err(error) => problems.push(error),
                    }
                }
                return (Some(config), problems);
            }
            Err(error) => error,
        };
        let removed = match &error {
            Error::Unsupported { field, .. } if field != "model_type" => {
                json.as_object_mut().and_then(|map| map.remove(field))
            }
            _ => None,
        };
        problems.push(error);
        if removed.is_none() {
            return (None, problems);
        }
    }
}

/// What the weight files hold. Where the shape is known, every tensor that does not fit it is a
/// problem.
fn weights(
    directory: &Path,
    config: Option<&Config>,
    problems: &mut Vec<Error>,
) -> Result<Option<Stored>, Error> {
    let paths = tensors::weight_files(directory)?;
    if !paths.iter().any(|path| path.exists()) {
        return Ok(None);
    }
    let mut missing: BTreeMap<String, Vec<usize>> = config
        .map(base::layout)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, _, shape)| (name, shape))
        .collect();
    let known = missing.clone();
    let mut stored = Stored::default();
    let mut all_read = true;
    for path in paths {
        let metadata = match tensors::open_header(&path) {
            Ok((_, metadata, _)) => metadata,
            Err(error) => {
                problems.push(error);
                all_read = false;
                continue;
            }
        };
        stored.files += 1;
        stored.bytes += metadata.data_len() as u64;
        let sorted: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
        for (name, info) in sorted {
            stored.tensors += 1;
            let values = info.shape.iter().product::<usize>() as u64;
            let dtype = format!("{:?}", info.dtype);
            if !matches!(dtype.as_str(), "F32" | "F16" | "BF16") {
                problems.push(Error::Dtype {
                    path: path.clone(),
                    tensor: name.clone(),
                    dtype: dtype.clone(),
                });
            }
            *stored.values.entry(dtype).or_default() += values;
            let Some(config) = config else { continue };
            if name.ends_with("rotary_emb.inv_freq") {
                continue;
            }
            let tied = config.tie_embeddings && name == HEAD;
            let own = if tied { EMBEDDING } else { &name };
            match known.get(own) {
                None => problems.push(Error::UnknownTensor {
                    path: path.clone(),
                    tensor: name.clone(),
                    shape: info.shape.clone(),
                }),
                Some(expected) => {
                    let shape = tensors::check_shape(&path, &name, &info.shape, expected);
                    problems.extend(shape.err());
                    missing.remove(own);
                }
            }
        }
    }
    // What a file that cannot be read holds is not known to be missing.
    if all_read {
        problems.extend(missing.into_iter().map(|(tensor, expected)| {
            let path = directory.to_path_buf();
            Error::MissingTensor {
                path,
                tensor,
                expected,
            }
        }));
    }
    Ok(Some(stored))
}

/// Bytes of a loaded model of this shape, as [`Base::bytes`](crate::Base::bytes) counts them:
/// with fast arithmetic in a format, or with exact arithmetic.
#[must_use]
pub fn loaded_bytes(c: &Config, format: Option<Format>) -> usize {
    // Exact matrices have a second copy, packed for products.
    let matrix = |format: Option<Format>, outputs: usize, inputs: usize| match format {
        Some(format) => format.bytes(outputs, inputs),
        None => 2 * outputs * inputs * size_of::<f32>(),
    };
    let block = matrix(format, c.qkv_width(), c.hidden)
        + matrix(format, c.hidden, c.q_width())
        + matrix(format, 2 * c.mlp, c.hidden)
        + matrix(format, c.hidden, c.mlp);
    let outer = format.map(Fast::head_format);
    let table = match (c.tie_embeddings, outer) {
        (true, _) => 0,
        (false, Some(outer)) => outer.bytes(c.vocab, c.hidden),
        (false, None) => c.vocab * c.hidden * size_of::<f32>(),
    };
    let vectors: usize = base::layout(c)
        .iter()
        .filter(|(_, _, shape)| shape.len() == 1)
        .map(|(_, _, shape)| shape[0])
        .sum();
    c.layers * block + matrix(outer, c.vocab, c.hidden) + table + vectors * size_of::<f32>()
}

/// Bytes of keys and values of one token in a long sequence, as
/// [`KvCache::bytes`](crate::KvCache::bytes) counts them: bf16 in fast arithmetic, which has
/// formats, `f32` in exact arithmetic, which has none.
#[must_use]
pub fn cache_bytes_per_token(c: &Config, format: Option<Format>) -> usize {
    let head = match format {
        None => 2 * c.head_dim * size_of::<f32>(),
        // Keys in pairs, values in whole panels.
        Some(_) => 2 * (c.head_dim.next_multiple_of(2) + c.head_dim.next_multiple_of(PANEL)),
    };
    c.layers * c.kv_heads * head
}
