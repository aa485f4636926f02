//! The W1-S world of the attribution benchmark: a small tuned model with its rows, 40 queries, and
//! the losses of retrained models on 48 halves and 28 nine-tenths of the rows.

use std::error::Error;
use std::path::{Path, PathBuf};

use openledger_attribution::lds;
use openledger_model::{Adapter, Base, Example};
use serde::Deserialize;

/// Rows kept, then the queries' losses after retraining on them.
pub(crate) struct Retrained {
    subsets: Vec<Vec<bool>>,
    losses: Vec<Vec<f64>>,
}

/// The frozen export.
pub(crate) struct World {
    pub(crate) base: Base,
    pub(crate) adapter: Adapter,
    pub(crate) rows: Vec<Example>,
    pub(crate) queries: Vec<Example>,
    pub(crate) decoys: Vec<Example>,
    halves: Retrained,
    tenths: Retrained,
    directory: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    ids: Vec<u32>,
    len: usize,
    target: Option<usize>,
}

/// Where the export lies: beside the repository.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/bench/attribution/w1s")
}

impl World {
    pub(crate) fn load(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let scratch = tempfile::tempdir()?;
        let put = |name: &str, content: &[u8]| std::fs::write(scratch.path().join(name), content);
        put("config.json", CONFIG.as_bytes())?;
        put(
            "model.safetensors",
            &std::fs::read(directory.join("base.safetensors"))?,
        )?;
        put("adapter_config.json", ADAPTER.as_bytes())?;
        put(
            "adapter_model.safetensors",
            &std::fs::read(directory.join("lora_final.safetensors"))?,
        )?;
        let base = Base::load(scratch.path())?;
        let adapter = Adapter::load_peft(scratch.path(), &base.config)?;
        let retrained = |subsets: &str, losses: &str, queries| -> Result<_, Box<dyn Error>> {
            let subsets: Vec<Vec<bool>> = npy(&directory.join(subsets))?
                .into_iter()
                .map(|row| row.into_iter().map(|kept| kept != 0.0).collect())
                .collect();
            let losses = npy(&directory.join(losses))?
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            let losses = losses
                .chunks(queries)
                .take(subsets.len())
                .map(<[f64]>::to_vec)
                .collect();
            Ok(Retrained { subsets, losses })
        };
        let queries = examples(&directory.join("query.jsonl"))?;
        Ok(Self {
            rows: examples(&directory.join("train.jsonl"))?,
            decoys: examples(&directory.join("valid.jsonl"))?,
            halves: retrained("subsets.npy", "retrain_loss.npy", queries.len())?,
            tenths: retrained("drop10_subsets.npy", "drop10_loss.npy", queries.len())?,
            directory: directory.to_path_buf(),
            base,
            adapter,
            queries,
        })
    }

    /// LDS with half of the rows dropped, and with a tenth of them dropped.
    pub(crate) fn lds(&self, scores: &[Vec<f64>]) -> [f64; 2] {
        [&self.halves, &self.tenths].map(|r| lds(scores, &r.subsets, &r.losses))
    }

    /// The stored scores of a peer.
    pub(crate) fn peer(&self, name: &str) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
        npy(&self.directory.join(format!("score_{name}.npy")))
    }
}

/// A query asks for one token, its object; a row is learnt whole, without its padding.
fn examples(path: &Path) -> Result<Vec<Example>, Box<dyn Error>> {
    let mut examples = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let Line {
            mut ids,
            len,
            target,
        } = serde_json::from_str(line)?;
        ids.truncate(target.map_or(len, |target| target + 1));
        examples.push(Example {
            tokens: ids,
            loss_from: target.unwrap_or(1),
        });
    }
    Ok(examples)
}

/// A `NumPy` array as rows of its last dimension; the types that the export uses.
fn npy(path: &Path) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    let file = std::fs::read(path)?;
    let fail = |what: &str| format!("{}: {what}", path.display());
    if file.get(..8) != Some(b"\x93NUMPY\x01\x00") {
        return Err(fail("not a NumPy file of version 1").into());
    }
    let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let (header, body) = file[10..]
        .split_at_checked(length)
        .ok_or_else(|| fail("cut short"))?;
    let header = std::str::from_utf8(header)?;
    if !header.contains("'fortran_order': False") {
        return Err(fail("not in row order").into());
    }
    let shape = header
        .split(['(', ')'])
        .nth(1)
        .ok_or_else(|| fail("no shape"))?;
    let width = shape.split(',').map(str::trim).rfind(|n| !n.is_empty());
    let width: usize = width.ok_or_else(|| fail("no shape"))?.parse()?;
    let values: Vec<f64> = if header.contains("'|u1'") {
        body.iter().map(|&byte| f64::from(byte)).collect()
    } else if header.contains("'<f4'") {
        let items = body.as_chunks::<4>().0.iter();
        items
            .map(|&bytes| f64::from(f32::from_le_bytes(bytes)))
            .collect()
    } else if header.contains("'<f8'") {
        body.as_chunks::<8>()
            .0
            .iter()
            .map(|&bytes| f64::from_le_bytes(bytes))
            .collect()
    } else {
        return Err(fail("neither u1, f4 nor f8").into());
    };
    Ok(values.chunks(width).map(<[f64]>::to_vec).collect())
}

const CONFIG: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 4, "head_dim": 16, "vocab_size": 512, "max_position_embeddings": 20,
  "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
  "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"
}"#;

const ADAPTER: &str = r#"{
  "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0,
  "bias": "none", "base_model_name_or_path": "w1s",
  "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
}"#;
