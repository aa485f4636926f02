//! Models and adapters in the files of other programs: a base with an adapter folded in, as a
//! Hugging Face folder or as GGUF, and the adapter alone as GGUF. ([`Adapter::save_peft`] writes
//! it for PEFT.)
//!
//! A model is read, changed and written one tensor at a time, so that the peak of memory is one
//! matrix, whatever the model's size. Every file is written beside its target and renamed.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::{Slot, Tensors};
use crate::gguf::{self, Gguf};
use crate::tensors::{self, Dtype};
use crate::{Adapter, Config, Encoding, Error, Tokenizer, files, template};

/// What an export has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Number of tensors.
    pub tensors: usize,
    /// What somebody who uses the files should know.
    pub notes: Vec<String>,
}

/// The tensors of a base with an adapter folded in.
struct Merged<'a> {
    base: Box<dyn Tensors>,
    adapter: Option<&'a Adapter>,
}

impl Tensors for Merged<'_> {
    fn read(&mut self, slot: &Slot, out: &mut [f32]) -> Result<(), Error> {
        self.base.read(slot, out)?;
        if let Some(adapter) = self.adapter {
            adapter.fold(&slot.0, out);
            if let Some(index) = out.iter().position(|x| !x.is_finite()) {
                return Err(Error::Range {
                    tensor: slot.0.clone(),
                    index,
                    value: out[index],
                    format: "any format",
                });
            }
        }
        Ok(())
    }
}

impl Adapter {
    /// Adds what this adapter adds to the linear whose weight is called `name` in
    /// [`crate::Base::layout`] to `weight [out, in]`: `scale B A`, and brings the rows of the sum to
    /// the lengths that `DoRA` learned. Other tensors stay.
    pub fn fold(&self, name: &str, weight: &mut [f32]) {
        let Some(module) = name.strip_suffix(".weight") else {
            return;
        };
        let module = format!("base_model.model.{module}");
        let layout = self.layout();
        let find = |part: &str| {
            let wanted = format!("{module}.{part}");
            let slot = layout.iter().find(|(name, _, _)| *name == wanted);
            slot.map(|(_, at, shape)| &self.params()[*at..at + shape.iter().product::<usize>()])
        };
        let (Some(a), Some(b)) = (find("lora_A.weight"), find("lora_B.weight")) else {
            return;
        };
        let (rank, scale) = (self.config.rank, self.scale());
        let width = a.len() / rank;
        for (row, b) in weight.chunks_exact_mut(width).zip(b.chunks_exact(rank)) {
            for (a, b) in a.chunks_exact(width).zip(b) {
                let factor = scale * b;
                for (w, a) in row.iter_mut().zip(a) {
                    *w += factor * a;
                }
            }
        }
        let lengths = find("lora_magnitude_vector").unwrap_or_default();
        for (row, length) in weight.chunks_exact_mut(width).zip(lengths) {
            let norm = row
                .iter()
                .map(|w| f64::from(*w).powi(2))
                .sum::<f64>()
                .sqrt();
            let factor = if norm > 0.0 {
                f64::from(*length) / norm
            } else {
                0.0
            };
            row.iter_mut()
                .for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
    }

    /// Saves the adapter alone as a GGUF file that llama.cpp applies to its base model.
    ///
    /// # Errors
    /// When the file cannot be written, a number does not fit into `encoding`, or the adapter has
    /// magnitudes (`DoRA`), which this format has no place for.
    pub fn save_gguf(&self, path: &Path, name: &str, encoding: Encoding) -> Result<Written, Error> {
        if self.config.dora {
            return Err(Error::Setting {
                field: "dora",
                value: "true".into(),
                expected: "false in a GGUF adapter, which has no magnitudes; export the merged model",
            });
        }
        let tensors = gguf::save_adapter(path, self, name, encoding)?;
        Ok(Written {
            files: vec![path.to_path_buf()],
            tensors,
            notes: Vec::new(),
        })
    }
}

/// A base model that is going to be exported: a Hugging Face folder or a GGUF file.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    config: Config,
    tokenizer: Option<Tokenizer>,
    chat_template: Option<String>,
}

impl Source {
    /// Reads everything of the base at `path` but its weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is not supported. A folder without a
    /// `tokenizer.json` is a model without a tokenizer.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (config, tokenizer, chat_template) = if Gguf::is(path) {
            let file = Gguf::open(path)?;
            let template = file.chat_template()?.map(str::to_owned);
            let tokenizer = file.has_tokenizer().then(|| file.tokenizer()).transpose()?;
            (file.config()?, tokenizer, template)
        } else {
            let present = path.join("tokenizer.json").exists();
            let tokenizer = present.then(|| Tokenizer::load(path)).transpose()?;
            (Config::load(path)?, tokenizer, chat_template(path)?)
        };
        Ok(Self {
            path: path.to_path_buf(),
            config,
            tokenizer,
            chat_template,
        })
    }

    /// Shape of the model, for which adapters are loaded.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn merged<'a>(&self, adapter: Option<&'a Adapter>) -> Result<Merged<'a>, Error> {
        if let Some(adapter) = adapter {
            adapter.check_base(&self.config)?;
        }
        Ok(Merged {
            base: tensors::open(&self.path)?.1,
            adapter,
        })
    }

    /// Writes the model with `adapter` folded in as a folder for [`crate::Base::load`] and the
    /// Python `transformers` library, with its tokenizer and chat template.
    ///
    /// # Errors
    /// When the base cannot be read, the adapter was made for another one, a file cannot be
    /// written, or a number does not fit into `dtype`.
    pub fn save_folder(
        &self,
        adapter: Option<&Adapter>,
        dtype: Dtype,
        folder: &Path,
    ) -> Result<Written, Error> {
        files::create_directory(folder)?;
        let mut merged = self.merged(adapter)?;
        let mut written = Written {
            tensors: tensors::save_model(folder, &self.config, dtype, &mut merged)?,
            ..Written::default()
        };
        for name in ["model.safetensors", "generation_config.json", "config.json"] {
            written.files.push(folder.join(name));
        }
        let mut add = |name: &str, bytes: &[u8]| {
            written.files.push(folder.join(name));
            files::write(&folder.join(name), bytes)
        };
        if self.path.is_dir() {
            // As they are, so that nothing of them is lost.
            for name in SIDE_FILES {
                let from = self.path.join(name);
                if from.exists() {
                    add(name, &files::read(&from)?)?;
                }
            }
            return Ok(written);
        }
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.save(folder)?;
            for name in ["tokenizer.json", "tokenizer_config.json"] {
                written.files.push(folder.join(name));
            }
        }
        if let Some(template) = &self.chat_template {
            let path = folder.join(CHAT_TEMPLATE);
            files::write(&path, template.as_bytes())?;
            written.files.push(path);
        }
        Ok(written)
    }

    /// Writes the model with `adapter` folded in as one GGUF file called `name` inside.
    ///
    /// # Errors
    /// As [`Source::save_folder`], and [`Error::Inexpressible`] when llama.cpp would compute
    /// something else from such a file.
    pub fn save_gguf(
        &self,
        adapter: Option<&Adapter>,
        encoding: Encoding,
        name: &str,
        path: &Path,
    ) -> Result<Written, Error> {
        let mut merged = self.merged(adapter)?;
        let json = self.tokenizer.as_ref().map(Tokenizer::to_json);
        let json = json.and_then(|text| serde_json::from_str(&text).ok());
        let labels = gguf::Labels {
            name,
            tokenizer: json.as_ref(),
            chat_template: self.chat_template.as_deref(),
        };
        let (tensors, notes) = gguf::model(path, &self.config, &labels, encoding, &mut merged)?;
        Ok(Written {
            files: vec![path.to_path_buf()],
            tensors,
            notes,
        })
    }
}

const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// What stands beside the weights of a folder and belongs to them.
const SIDE_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
    template::FILE,
];

/// The chat template of a folder: its own file, or a field of the tokenizer's configuration.
fn chat_template(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join(CHAT_TEMPLATE);
    if path.exists() {
        return Ok(Some(String::from_utf8_lossy(&files::read(&path)?).into()));
    }
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let json = files::read_json(&path)?;
    Ok(json
        .get("chat_template")
        .and_then(Value::as_str)
        .map(str::to_owned))
}
