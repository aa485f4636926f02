//! GGUF, the file format of llama.cpp: a model, or an adapter, in one file.
//!
//! [`Gguf`] reads versions 1 to 3 with tensors in F32, F16, BF16, `Q8_0`, `Q4_K` and `Q6_K`, as a base
//! model of every family of this crate ([`crate::Base::load_as`] takes the path of such a file
//! where it takes a folder); the writing side is in [`crate::export`]. Nothing of a file is
//! believed before it is compared with the file's length and with limits of ours.

mod config;
mod format;
mod header;
mod metadata;
mod names;
mod tokenizer;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

pub use format::Encoding;
pub(crate) use format::{TensorType, encode};
pub(crate) use write::{Labels, model, save_adapter};

use crate::base::{self, Slot, Tensors};
use crate::inspect::Stored;
use crate::{Config, Error, Tokenizer};
use header::{Entry, Header};
use metadata::Metadata;

/// An open GGUF file whose metadata have been read.
#[derive(Debug)]
pub struct Gguf {
    header: Header,
    file: File,
}

impl Gguf {
    /// Whether the file at `path` starts like a GGUF file.
    #[must_use]
    pub fn is(path: &Path) -> bool {
        let mut start = [0; 4];
        path.is_file()
            && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
            && start == header::MAGIC
    }

    /// Opens a file and reads everything but its tensors.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or claims more than it can hold.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let header = Header::parse(BufReader::new(&file), length, path)?;
        Ok(Self { header, file })
    }

    fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Number of tensors.
    fn tensors(&self) -> usize {
        self.header.tensors.len()
    }

    /// Shape of a tensor, outermost dimension first.
    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.header.tensors.get(name)?.shape)
    }

    /// The model's own chat template, in the Jinja language.
    ///
    /// # Errors
    /// When it is not a string.
    pub fn chat_template(&self) -> Result<Option<&str>, Error> {
        self.metadata().text("tokenizer.chat_template")
    }

    /// What the tensors are, from the header alone.
    pub(crate) fn stored(&self) -> Stored {
        let mut stored = Stored {
            files: 1,
            tensors: self.header.tensors.len(),
            ..Stored::default()
        };
        for entry in self.header.tensors.values() {
            let values: usize = entry.shape.iter().product();
            *stored.values.entry(format::name(entry.kind)).or_default() += values as u64;
            let bytes = TensorType::of(entry.kind).and_then(|kind| kind.bytes(&entry.shape));
            stored.bytes += bytes.unwrap_or_default() as u64;
        }
        stored
    }

    /// Whether the file holds a vocabulary.
    pub(crate) fn has_tokenizer(&self) -> bool {
        tokenizer::present(self.metadata())
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When there is none, or one of a kind that is not read; the error names the key, its value
    /// and what is supported.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let path = self.metadata().path.clone();
        Tokenizer::from_json(&tokenizer::read(self.metadata())?, path)
    }

    /// Where a tensor lies, and its format.
    fn entry(&self, name: &str) -> Result<(&Entry, TensorType), Error> {
        let path = || self.metadata().path.clone();
        let Some(entry) = self.header.tensors.get(name) else {
            return Err(Error::MissingTensor {
                path: path(),
                tensor: name.to_owned(),
                expected: Vec::new(),
            });
        };
        let kind = TensorType::of(entry.kind).ok_or_else(|| Error::TensorType {
            path: path(),
            tensor: name.to_owned(),
            found: format::name(entry.kind),
            supported: format::SUPPORTED,
        })?;
        Ok((entry, kind))
    }

    /// The tensors in formats that are not read.
    pub(crate) fn unread(&self) -> Vec<Error> {
        let names = self.header.tensors.keys();
        names.filter_map(|name| self.entry(name).err()).collect()
    }

    /// Reads a tensor of as many numbers as `out` holds.
    fn read(&self, name: &str, out: &mut [f32]) -> Result<(), Error> {
        let (entry, kind) = self.entry(name)?;
        let path = || self.metadata().path.clone();
        let size = entry.shape.iter().product::<usize>();
        // The header has checked that the format has a size in this shape.
        let Some(bytes) = kind.bytes(&entry.shape).filter(|_| size == out.len()) else {
            return Err(Error::Shape {
                path: path(),
                tensor: name.to_owned(),
                found: entry.shape.clone(),
                expected: vec![out.len()],
            });
        };
        let mut buffer = vec![0; bytes];
        let mut file = &self.file;
        let outcome = file
            .seek(SeekFrom::Start(entry.start))
            .and_then(|_| file.read_exact(&mut buffer));
        outcome.map_err(|source: io::Error| Error::Io {
            path: path(),
            source,
        })?;
        kind.decode(&buffer, out);
        match out.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::NotFinite {
                path: path(),
                tensor: name.to_owned(),
                index,
            }),
        }
    }

    /// The tensors of `config`, checked to be all there in the right shapes, and no others.
    pub(crate) fn model(self, config: &Config) -> Result<Model, Error> {
        let path = || self.metadata().path.clone();
        let mut known = BTreeMap::new();
        for (name, _, shape) in base::layout(config) {
            let stored = names::tensor(config, &name);
            let Some(found) = self.shape(&stored) else {
                return Err(Error::MissingTensor {
                    path: path(),
                    tensor: stored,
                    expected: shape,
                });
            };
            if found != shape {
                return Err(Error::Shape {
                    path: path(),
                    tensor: stored,
                    found: found.to_vec(),
                    expected: shape,
                });
            }
            self.entry(&stored)?;
            known.insert(stored, ());
        }
        // The divisors of frequencies are part of the configuration; the tables of older files
        // follow from it.
        let derived = |name: &str| {
            name == config::ROPE_FACTORS
                || name.ends_with(".attn_rot_embd.weight")
                || name.ends_with("rope_freqs.weight")
        };
        let mut names = self.header.tensors.iter();
        match names.find(|(name, _)| !known.contains_key(*name) && !derived(name)) {
            None => {}
            Some((name, entry)) => {
                return Err(Error::UnknownTensor {
                    path: path(),
                    tensor: name.clone(),
                    shape: entry.shape.clone(),
                });
            }
        }
        Ok(Model {
            file: self,
            config: config.clone(),
        })
    }
}

/// The tensors of a model in a GGUF file, under the names and in the order of Hugging Face files.
#[derive(Debug)]
pub(crate) struct Model {
    file: Gguf,
    config: Config,
}

impl Tensors for Model {
    fn read(&mut self, (name, _, shape): &Slot, out: &mut [f32]) -> Result<(), Error> {
        let stored = names::tensor(&self.config, name);
        self.file.read(&stored, out)?;
        let width = if shape.len() == 1 { 1 } else { shape[1] };
        names::Change::of(&self.config, name, width).undo(out);
        Ok(())
    }
}
