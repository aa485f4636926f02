//! Adapters in the file format of the Python PEFT library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lora::{Adapter, LoraConfig, Target};
use crate::tensors::{self, Dtype};
use crate::{Config, Error, files};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Fields that change nothing about what the adapter computes.
const NEUTRAL: [&str; 12] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "revision",
    "runtime_config",
    "task_type",
    "target_modules",
    "exclude_modules",
    "r",
    "lora_alpha",
];

impl Adapter {
    /// Loads `adapter_config.json` and `adapter_model.safetensors` for a base of shape `base`.
    ///
    /// Rank-stabilised scaling and `DoRA` are honoured. Everything else that would change the result
    /// (saved modules, biases, rank patterns, ...) is refused.
    ///
    /// # Errors
    /// When a file is missing or damaged, a field is unsupported, or a tensor is missing,
    /// unknown, of the wrong shape or not finite.
    pub fn load_peft(directory: &Path, base: &Config) -> Result<Self, Error> {
        let path = directory.join(CONFIG);
        let json = files::read_json(&path)?;
        let mut config = read_config(&json, &path)?;

        let path = directory.join(WEIGHTS);
        let bytes = files::read(&path)?;
        let file = tensors::parse(&path, &bytes)?;
        // Which linears carry an adapter is what the file holds: `target_modules` may be a
        // pattern. A linear that only some blocks adapt shows as a missing tensor below.
        config.targets = Target::of(base)
            .iter()
            .copied()
            .filter(|target| {
                let part = format!(".{}.lora_", target.path());
                file.names().iter().any(|name| name.contains(&part))
            })
            .collect();
        let mut adapter = Self::zeros(base, config)?;
        let mut open: BTreeMap<_, _> = adapter
            .layout()
            .into_iter()
            .map(|(name, at, shape)| (name, (at, shape)))
            .collect();
        let params = adapter.params_mut();
        for (name, view) in tensors::sorted(&file) {
            let Some((at, shape)) = open.remove(name) else {
                return Err(Error::UnknownTensor {
                    path,
                    tensor: name.to_owned(),
                    shape: view.shape().to_vec(),
                });
            };
            let size: usize = shape.iter().product();
            tensors::read_into(&path, name, &view, &shape, &mut params[at..at + size])?;
        }
        match open.pop_first() {
            None => Ok(adapter),
            Some((tensor, (_, expected))) => Err(Error::MissingTensor {
                path,
                tensor,
                expected,
            }),
        }
    }

    /// Saves `adapter_config.json` and `adapter_model.safetensors` (`F32`), naming
    /// `base_model_name` as the base.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_peft(&self, directory: &Path, base_model_name: &str) -> Result<(), Error> {
        files::create_directory(directory)?;
        let modules: Vec<&str> = self.config.targets.iter().map(|t| t.module()).collect();
        let alpha = self.config.alpha;
        let whole = alpha as i64;
        #[allow(clippy::float_cmp, reason = "asks whether the number is whole")]
        let alpha = if whole as f32 == alpha {
            json!(whole)
        } else {
            json!(alpha)
        };
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model_name,
            "inference_mode": true,
            "r": self.config.rank,
            "lora_alpha": alpha,
            "lora_dropout": self.config.dropout,
            "target_modules": modules,
            "use_rslora": self.config.rank_stabilized,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_dora": self.config.dora,
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
            "rank_pattern": {},
            "alpha_pattern": {},
        });
        tensors::save(
            &directory.join(WEIGHTS),
            &self.layout(),
            self.params(),
            Dtype::F32,
        )?;
        files::write_json(&directory.join(CONFIG), &config)
    }
}

fn read_config(json: &Value, path: &Path) -> Result<LoraConfig, Error> {
    let unsupported = |field: &str, supported: &str| Error::Unsupported {
        path: PathBuf::from(path),
        field: field.to_owned(),
        value: json[field].to_string(),
        supported: supported.to_owned(),
    };
    let Some(fields) = json.as_object() else {
        return Err(Error::MissingField {
            path: path.to_path_buf(),
            field: "peft_type".into(),
        });
    };
    let (mut rank_stabilized, mut dora) = (false, false);
    for (field, value) in fields {
        let field = field.as_str();
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
        };
        match field {
            _ if empty || NEUTRAL.contains(&field) => {}
            "peft_type" if value == "LORA" => {}
            "peft_type" => return Err(unsupported(field, "\"LORA\"")),
            "bias" if value == "none" => {}
            "bias" => return Err(unsupported(field, "\"none\"")),
            "use_rslora" => rank_stabilized = true,
            "use_dora" => dora = true,
            // How `A` and `B` started; these ways leave the base weights alone.
            "init_lora_weights" if value == &Value::Bool(true) => {}
            "init_lora_weights" if value == "gaussian" || value == "orthogonal" => {}
            "init_lora_weights" => return Err(unsupported(field, "true or \"gaussian\"")),
            // Settings of extensions that are themselves off.
            "megatron_core" | "layers_pattern" => {}
            "qalora_group_size" | "arrow_config" if json["use_qalora"] != true => {}
            _ => {
                return Err(unsupported(
                    field,
                    "LoRA and DoRA, where it is absent, null or false",
                ));
            }
        }
    }
    let missing = |field: &str| Error::MissingField {
        path: path.to_path_buf(),
        field: field.into(),
    };
    let rank = json.get("r").ok_or_else(|| missing("r"))?;
    let alpha = json
        .get("lora_alpha")
        .ok_or_else(|| missing("lora_alpha"))?;
    let config = LoraConfig {
        rank: rank
            .as_u64()
            .and_then(|r| usize::try_from(r).ok())
            .ok_or_else(|| unsupported("r", "a whole number"))?,
        alpha: alpha
            .as_f64()
            .ok_or_else(|| unsupported("lora_alpha", "a number"))? as f32,
        dropout: json
            .get("lora_dropout")
            .and_then(Value::as_f64)
            .unwrap_or(0.0) as f32,
        targets: Vec::new(),
        rank_stabilized,
        dora,
    };
    Ok(config)
}
