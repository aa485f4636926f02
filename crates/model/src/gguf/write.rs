//! GGUF files being written: version 3, little-endian, tensors aligned to 32 bytes.

use std::path::Path;

use super::format::{self, Encoding, TensorType};
use super::header::{ALIGNMENT, MAGIC};
use super::metadata::Value;
use super::{config, names, tokenizer};
use crate::base::{self, Slot, Tensors};
use crate::files::Replacement;
use crate::{Adapter, Config, Error};

/// A tensor that is going to be written.
struct Planned {
    name: String,
    shape: Vec<usize>,
    kind: TensorType,
    bytes: usize,
}

/// The start of a file: metadata and the list of tensors.
struct Plan {
    pairs: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

impl Plan {
    fn add(&mut self, name: String, shape: &[usize], kind: TensorType) -> Result<(), Error> {
        let bytes = kind.bytes(shape).ok_or_else(|| Error::Inexpressible {
            field: "the shape of a tensor",
            value: format!("{shape:?} ({name})"),
            format: "GGUF",
            expected: format!("rows that divide into blocks of {kind}"),
        })?;
        self.tensors.push(Planned {
            name,
            shape: shape.to_vec(),
            kind,
            bytes,
        });
        Ok(())
    }

    /// Everything before the data.
    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut start = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for size in tensor.shape.iter().rev() {
                out.extend((*size as u64).to_le_bytes());
            }
            out.extend(tensor.kind.number().to_le_bytes());
            out.extend(start.to_le_bytes());
            start = (start + tensor.bytes as u64).next_multiple_of(ALIGNMENT);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out
    }

    /// Writes the file; `read` gives one tensor after another.
    fn write(
        self,
        path: &Path,
        mut read: impl FnMut(usize, &mut [f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut file = Replacement::create(path)?;
        file.write(&self.header())?;
        let mut values = Vec::new();
        for (index, tensor) in self.tensors.iter().enumerate() {
            values.clear();
            values.resize(tensor.shape.iter().product(), 0.0);
            read(index, &mut values)?;
            let mut bytes = format::encode(tensor.kind, &tensor.name, &values)?;
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
            file.write(&bytes)?;
        }
        file.commit()
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Numbers have the widths that llama.cpp insists on: 32 bits.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut list = |kind: u32, count: usize| {
        out.extend(9_u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Value::Unsigned(x) => match u32::try_from(*x) {
            Ok(x) => {
                out.extend(4_u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Err(_) => {
                out.extend(10_u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
        },
        Value::Signed(x) => {
            out.extend(11_u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Value::Float(x) => {
            out.extend(6_u32.to_le_bytes());
            out.extend((*x as f32).to_le_bytes());
        }
        Value::Flag(x) => {
            out.extend(7_u32.to_le_bytes());
            out.push((*x).into());
        }
        Value::Text(x) => {
            out.extend(8_u32.to_le_bytes());
            put_text(out, x);
        }
        Value::Integers(x) => {
            list(5, x.len());
            out.extend(x.iter().flat_map(|x| (*x as i32).to_le_bytes()));
        }
        Value::Floats(x) => {
            list(6, x.len());
            out.extend(x.iter().flat_map(|x| x.to_le_bytes()));
        }
        Value::Flags(x) => {
            list(7, x.len());
            out.extend(x.iter().map(|x| u8::from(*x)));
        }
        Value::Texts(x) => {
            list(8, x.len());
            x.iter().for_each(|x| put_text(out, x));
        }
    }
}

/// What a model's file says beside its weights.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    /// `general.name`.
    pub(crate) name: &'a str,
    /// The tokenizer as a `tokenizer.json`, if the model has one.
    pub(crate) tokenizer: Option<&'a serde_json::Value>,
    /// The chat template, if the model has one.
    pub(crate) chat_template: Option<&'a str>,
}

/// Writes a model from its tensors, which are read one at a time; returns the number of tensors,
/// and what a reader of the file should know.
pub(crate) fn model(
    path: &Path,
    c: &Config,
    labels: &Labels<'_>,
    encoding: Encoding,
    tensors: &mut impl Tensors,
) -> Result<(usize, Vec<String>), Error> {
    let described = config::describe(c)?;
    let mut notes = described.notes;
    let architecture = names::architecture(c.features.architecture);
    let mut plan = Plan {
        pairs: vec![
            ("general.architecture".to_owned(), architecture.into()),
            ("general.type".to_owned(), "model".into()),
            ("general.name".to_owned(), labels.name.into()),
            ("general.file_type".to_owned(), encoding.file_type().into()),
            ("general.quantization_version".to_owned(), 2_u32.into()),
        ],
        tensors: Vec::new(),
    };
    plan.pairs.extend(described.pairs);
    match labels.tokenizer {
        Some(json) => plan.pairs.extend(tokenizer::describe(json, c)?),
        None => {
            let none = ("tokenizer.ggml.model".to_owned(), "no_vocab".into());
            plan.pairs.push(none);
            notes.push("the base has no tokenizer.json, so the file holds no vocabulary".into());
        }
    }
    if let Some(template) = labels.chat_template {
        let key = "tokenizer.chat_template".to_owned();
        plan.pairs.push((key, template.into()));
    }
    let mut sources: Vec<Option<Slot>> = Vec::new();
    let mut halves = 0;
    for slot in base::layout(c) {
        let kind = encoding.of_tensor(&slot.2);
        halves += usize::from(encoding == Encoding::Q8_0 && kind == TensorType::F16);
        plan.add(names::tensor(c, &slot.0), &slot.2, kind)?;
        sources.push(Some(slot));
    }
    if halves > 0 {
        notes.push(format!(
            "{halves} matrices have rows that do not divide by 32; they are stored as F16"
        ));
    }
    let divisors = described.divisors.unwrap_or_default();
    if !divisors.is_empty() {
        let (name, shape) = (config::ROPE_FACTORS.to_owned(), [divisors.len()]);
        plan.add(name, &shape, TensorType::F32)?;
        sources.push(None);
    }
    let count = plan.tensors.len();
    plan.write(path, |index, values| {
        let Some(slot) = &sources[index] else {
            values.copy_from_slice(&divisors);
            return Ok(());
        };
        tensors.read(slot, values)?;
        let width = if slot.2.len() == 1 { 1 } else { slot.2[1] };
        names::Change::of(c, &slot.0, width).apply(values);
        Ok(())
    })?;
    Ok((count, notes))
}

/// Writes an adapter as llama.cpp's `convert_lora_to_gguf.py` does; returns the number of tensors.
pub(crate) fn save_adapter(
    path: &Path,
    adapter: &Adapter,
    name: &str,
    encoding: Encoding,
) -> Result<usize, Error> {
    let c = &adapter.base;
    let rank = adapter.config.rank;
    // There the factor is `alpha / rank`, whatever ours was made from.
    let alpha = adapter.scale() * rank as f32;
    let architecture = names::architecture(c.features.architecture);
    let mut plan = Plan {
        pairs: vec![
            ("general.architecture".to_owned(), architecture.into()),
            ("general.type".to_owned(), "adapter".into()),
            ("general.name".to_owned(), name.into()),
            ("general.file_type".to_owned(), encoding.file_type().into()),
            ("general.quantization_version".to_owned(), 2_u32.into()),
            ("adapter.type".to_owned(), "lora".into()),
            ("adapter.lora.alpha".to_owned(), alpha.into()),
        ],
        tensors: Vec::new(),
    };
    let slots = adapter.layout();
    for (name, _, shape) in &slots {
        let kind = encoding.of_tensor(shape);
        plan.add(adapter_tensor(c, name), shape, kind)?;
    }
    let count = plan.tensors.len();
    plan.write(path, |index, values| {
        let (name, at, _) = &slots[index];
        values.copy_from_slice(&adapter.params()[*at..*at + values.len()]);
        if name.ends_with(".lora_B.weight") {
            names::Change::of(c, name, rank).apply(values);
        }
        Ok(())
    })?;
    Ok(count)
}

/// Name of an adapter's matrix in a GGUF file, from PEFT's.
fn adapter_tensor(c: &Config, name: &str) -> String {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    for (ours, theirs) in [(".lora_A.weight", ".lora_a"), (".lora_B.weight", ".lora_b")] {
        if let Some(module) = name.strip_suffix(ours) {
            return names::tensor(c, &format!("{module}.weight")) + theirs;
        }
    }
    name.to_owned()
}
