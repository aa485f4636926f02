//! Weights from and to safetensors files: base models, single or sharded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::SafeTensorError;
use safetensors::tensor::{Dtype as StoredDtype, Metadata, TensorInfo, TensorView};
use serde_json::Value;

use crate::arithmetic::Arithmetic;
use crate::base::{self, Flat, Slot, Tensors};
use crate::gguf::{Gguf, TensorType, encode};
use crate::{Base, Config, Error, files};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// Number format of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision; saving and loading keeps all bits.
    F32,
    /// The upper half of `f32`, rounded to nearest even.
    Bf16,
    /// IEEE half precision, up to 65504.
    F16,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn stored(self) -> StoredDtype {
        match self {
            Self::F32 => StoredDtype::F32,
            Self::Bf16 => StoredDtype::BF16,
            Self::F16 => StoredDtype::F16,
        }
    }

    fn encode(self, tensor: &str, values: &[f32]) -> Result<Vec<u8>, Error> {
        let kind = match self {
            Self::F32 => TensorType::F32,
            Self::Bf16 => TensorType::Bf16,
            Self::F16 => TensorType::F16,
        };
        encode(kind, tensor, values)
    }
}

/// Reads one tensor as `f32`, checking shape, format and finiteness.
pub(crate) fn read_into(
    path: &Path,
    name: &str,
    view: &TensorView<'_>,
    expected: &[usize],
    out: &mut [f32],
) -> Result<(), Error> {
    check_shape(path, name, view.shape(), expected)?;
    decode(path, name, view.dtype(), view.data(), out)
}

pub(crate) fn check_shape(
    path: &Path,
    name: &str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape {
        path: path.to_path_buf(),
        tensor: name.to_owned(),
        found: found.to_vec(),
        expected: expected.to_vec(),
    })
}

fn decode(
    path: &Path,
    name: &str,
    dtype: StoredDtype,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), Error> {
    match dtype {
        StoredDtype::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        StoredDtype::F16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f16::from_le_bytes(*b).to_f32();
            }
        }
        StoredDtype::BF16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = bf16::from_le_bytes(*b).to_f32();
            }
        }
        other => {
            return Err(Error::Dtype {
                path: path.to_path_buf(),
                tensor: name.to_owned(),
                dtype: format!("{other:?}"),
            });
        }
    }
    match out.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite {
            path: path.to_path_buf(),
            tensor: name.to_owned(),
            index,
        }),
    }
}

/// Parses a safetensors file that was read from `path`.
pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, Error> {
    SafeTensors::deserialize(bytes).map_err(|source| Error::Safetensors {
        path: path.to_path_buf(),
        source,
    })
}

/// All tensors by name, so that the first error does not depend on a hash.
pub(crate) fn sorted<'a>(file: &'a SafeTensors<'a>) -> Vec<(&'a str, TensorView<'a>)> {
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    tensors
}

/// Writes tensors that lie in one flat vector.
pub(crate) fn save(path: &Path, slots: &[Slot], flat: &[f32], dtype: Dtype) -> Result<(), Error> {
    save_from(path, slots, dtype, &mut Flat(flat))
}

/// Writes tensors that are read one at a time, in the order and with the header of the reference
/// implementation.
fn save_from(
    path: &Path,
    slots: &[Slot],
    dtype: Dtype,
    tensors: &mut impl Tensors,
) -> Result<(), Error> {
    let fail = |source| Error::Safetensors {
        path: path.to_path_buf(),
        source,
    };
    let mut slots: Vec<&Slot> = slots.iter().collect();
    slots.sort_by(|a, b| a.0.cmp(&b.0));
    let mut end = 0;
    let mut infos = Vec::with_capacity(slots.len());
    for (name, _, shape) in &slots {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.stored().bitsize() / 8;
        let info = TensorInfo {
            dtype: dtype.stored(),
            shape: shape.clone(),
            data_offsets: (start, end),
        };
        infos.push((name.clone(), info));
    }
    // Readers in the Python world ask for this note.
    let note = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(note), infos).map_err(fail)?;
    let mut header = serde_json::to_vec(&metadata).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = files::Replacement::create(path)?;
    file.write(&(header.len() as u64).to_le_bytes())?;
    file.write(&header)?;
    let mut values = Vec::new();
    for slot in slots {
        values.clear();
        values.resize(slot.2.iter().product(), 0.0);
        tensors.read(slot, &mut values)?;
        file.write(&dtype.encode(&slot.0, &values)?)?;
    }
    file.commit()
}

/// Writes a model whose tensors are read one at a time as a Hugging Face folder: weights, then
/// the configurations; returns the number of tensors.
pub(crate) fn save_model(
    directory: &Path,
    config: &Config,
    dtype: Dtype,
    tensors: &mut impl Tensors,
) -> Result<usize, Error> {
    files::create_directory(directory)?;
    let slots = base::layout(config);
    let json = config.to_hf(dtype.name());
    let generation = serde_json::json!({
        "bos_token_id": json["bos_token_id"],
        "eos_token_id": json["eos_token_id"],
    });
    save_from(&directory.join(SINGLE), &slots, dtype, tensors)?;
    files::write_json(&directory.join("generation_config.json"), &generation)?;
    files::write_json(&directory.join("config.json"), &json)?;
    Ok(slots.len())
}

/// The shape and the tensors of the model at `path`: a folder, or a GGUF file.
pub(crate) fn open(path: &Path) -> Result<(Config, Box<dyn Tensors>), Error> {
    if path.is_file() {
        let file = Gguf::open(path)?;
        let config = file.config()?;
        let tensors = file.model(&config)?;
        return Ok((config, Box::new(tensors)));
    }
    let config = Config::load(path)?;
    let tensors = Directory::open(path, &config)?;
    Ok((config, Box::new(tensors)))
}

impl Config {
    /// The shape of the model at `path`: a folder in the Hugging Face layout, with the end tokens
    /// of its `generation_config.json`, or a GGUF file.
    ///
    /// # Errors
    /// As [`Config::from_hf`] and [`Gguf::config`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        if path.is_file() {
            return Gguf::open(path)?.config();
        }
        let mut config = Self::from_hf(path)?;
        let generation = path.join("generation_config.json");
        if generation.exists() {
            add_ends(&mut config, &files::read_json(&generation)?);
        }
        Ok(config)
    }
}

/// The weight files of a directory: the single one, or those that the index names.
pub(crate) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = directory.join(INDEX);
    if !index.exists() {
        return Ok(vec![directory.join(SINGLE)]);
    }
    let json = files::read_json(&index)?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| Error::MissingField {
            path: index.clone(),
            field: "weight_map".to_owned(),
        })?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        match value.as_str() {
            // A file name only: an index must not reach outside its directory.
            Some(name) if Path::new(name).file_name().is_some_and(|f| f == name) => {
                names.insert(name);
            }
            _ => {
                return Err(Error::Unsupported {
                    path: index,
                    field: "weight_map".to_owned(),
                    value: value.to_string(),
                    supported: "names of files in the same directory".to_owned(),
                });
            }
        }
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// Opens a safetensors file and reads its header: the file, what it holds, and where the values
/// start.
pub(crate) fn open_header(path: &Path) -> Result<(File, Metadata, u64), Error> {
    let io = |source| Error::Io {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |source| Error::Safetensors {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length < 8 {
        return Err(damaged(SafeTensorError::HeaderTooSmall));
    }
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(io)?;
    let size = u64::from_le_bytes(size);
    if size > HEADER || size > length - 8 {
        return Err(damaged(SafeTensorError::InvalidHeaderLength));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|source| damaged(SafeTensorError::InvalidHeaderDeserialization(source)))?;
    let data = 8 + size;
    if metadata.data_len() as u64 != length - data {
        return Err(damaged(SafeTensorError::MetadataIncompleteBuffer));
    }
    Ok((file, metadata, data))
}

/// Where one stored tensor lies.
struct Entry {
    file: usize,
    dtype: StoredDtype,
    start: u64,
    bytes: usize,
}

/// The tensors of a model directory, read one at a time.
struct Directory {
    files: Vec<(PathBuf, File)>,
    entries: BTreeMap<String, Entry>,
    buffer: Vec<u8>,
}

/// Largest header of a safetensors file, as in the reference implementation.
const HEADER: u64 = 100_000_000;

impl Directory {
    /// Reads the headers, and checks that the files hold the tensors of `config`, no more and no
    /// less. A tied table may be stored under either of its two names, or both.
    fn open(directory: &Path, config: &Config) -> Result<Self, Error> {
        let mut found = Self {
            files: Vec::new(),
            entries: BTreeMap::new(),
            buffer: Vec::new(),
        };
        let known: BTreeMap<String, Vec<usize>> = base::layout(config)
            .into_iter()
            .map(|(name, _, shape)| (name, shape))
            .collect();
        for path in weight_files(directory)? {
            found.header(path, config, &known)?;
        }
        let missing = known
            .into_iter()
            .find(|(name, _)| !found.entries.contains_key(name));
        if let Some((tensor, expected)) = missing {
            let path = match found.files.as_slice() {
                [(one, _)] => one.clone(),
                _ => directory.to_path_buf(),
            };
            return Err(Error::MissingTensor {
                path,
                tensor,
                expected,
            });
        }
        Ok(found)
    }

    fn header(
        &mut self,
        path: PathBuf,
        config: &Config,
        known: &BTreeMap<String, Vec<usize>>,
    ) -> Result<(), Error> {
        let (file, metadata, data) = open_header(&path)?;
        let damaged = |source| Error::Safetensors {
            path: path.clone(),
            source,
        };
        let number = self.files.len();
        let sorted: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
        for (name, info) in sorted {
            if name.ends_with("rotary_emb.inv_freq") {
                continue;
            }
            let tied = config.tie_embeddings && name == HEAD;
            let own = if tied { EMBEDDING } else { &name };
            let Some(expected) = known.get(own) else {
                return Err(Error::UnknownTensor {
                    path,
                    tensor: name,
                    shape: info.shape.clone(),
                });
            };
            check_shape(&path, &name, &info.shape, expected)?;
            if tied && self.entries.contains_key(EMBEDDING) {
                continue;
            }
            let (first, end) = info.data_offsets;
            let bytes = expected.iter().product::<usize>() * info.dtype.bitsize() / 8;
            if end.checked_sub(first) != Some(bytes) || end > metadata.data_len() {
                return Err(damaged(SafeTensorError::InvalidOffset(name)));
            }
            let start = data + first as u64;
            let entry = Entry {
                file: number,
                dtype: info.dtype,
                start,
                bytes,
            };
            self.entries.insert(own.to_owned(), entry);
        }
        self.files.push((path, file));
        Ok(())
    }
}

impl Tensors for Directory {
    fn read(&mut self, (name, _, _): &Slot, out: &mut [f32]) -> Result<(), Error> {
        let entry = &self.entries[name];
        let (path, file) = &mut self.files[entry.file];
        self.buffer.resize(entry.bytes, 0);
        file.seek(SeekFrom::Start(entry.start))
            .and_then(|_| file.read_exact(&mut self.buffer))
            .map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })?;
        decode(path, name, entry.dtype, &self.buffer, out)
    }
}

impl<A: Arithmetic> Base<A> {
    /// Loads a model, storing its matrices as `format`: from a GGUF file (see [`Gguf`]), or from
    /// a directory in the Hugging Face layout:
    /// `config.json` and either `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names, in `F32`, `F16` or `BF16`.
    ///
    /// A model with tied embeddings may store the table under either of its two names. Tensors
    /// are read one at a time, so the peak of memory is the finished model and one linear.
    ///
    /// # Errors
    /// When a file is missing or damaged, the architecture is not supported, or a tensor is
    /// missing, unknown, of another shape than the configuration says, or not finite; the error
    /// names the file, the tensor and both shapes.
    pub fn load_as(path: &Path, format: A::Format) -> Result<Self, Error> {
        let (config, mut tensors) = open(path)?;
        Self::read(config, format, &mut tensors)
    }

    /// Saves in the layout that [`Base::load`] and the Python `transformers` library read:
    /// `config.json`, `generation_config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, directory: &Path, dtype: Dtype) -> Result<(), Error> {
        save_model(directory, &self.config, dtype, &mut Flat(&self.params()))?;
        Ok(())
    }
}

impl Base {
    /// Loads a model for exact arithmetic, see [`Base::load_as`].
    ///
    /// # Errors
    /// As [`Base::load_as`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_as(path, ())
    }
}

/// Instruction-tuned models name further end tokens beside the configuration.
pub(crate) fn add_ends(config: &mut Config, generation: &Value) {
    let eos = &generation["eos_token_id"];
    let list = eos
        .as_array()
        .map_or_else(|| vec![eos], |list| list.iter().collect());
    for token in list.into_iter().filter_map(Value::as_u64) {
        if let Ok(token) = u32::try_from(token)
            && (token as usize) < config.vocab
            && !config.eos.contains(&token)
        {
            config.eos.push(token);
        }
    }
}
