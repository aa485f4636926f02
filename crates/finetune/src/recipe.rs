//! Recipes: every number a tuning run depends on, with a digest, and presets that scale them to
//! the dataset so that a run stays within its time budget on two cores.

use std::path::Path;

use openledger_model::{Config, LoraConfig, Target};
use openledger_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::optimizer::AdamW;
use crate::schedule::{Decay, Schedule};
use crate::{Dataset, Error};

/// The low-rank update that is trained (Hu et al., "LoRA", 2021): `W + alpha/rank * B A`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank, 1 to the model's width.
    pub rank: usize,
    /// Scale numerator; the update is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Dropout before `A`, in [0, 1). Only 0 is supported: with dropout the gradient that
    /// attribution recomputes would not be the one that trained the adapter.
    pub dropout: f32,
    /// Linear layers that get an update, by their PEFT names.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Target::ALL
                .iter()
                .map(|target| target.module().to_owned())
                .collect(),
        }
    }
}

impl Lora {
    /// The model crate's description of this update.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a target is unknown, named twice or missing.
    pub fn config(&self) -> Result<LoraConfig, Error> {
        let mut targets = Vec::with_capacity(self.targets.len());
        for target in Target::ALL {
            let name = target.module();
            match self.targets.iter().filter(|given| *given == name).count() {
                0 => {}
                1 => targets.push(target),
                _ => return Err(Error::recipe("targets", name, "named more than once")),
            }
        }
        if targets.is_empty() || targets.len() != self.targets.len() {
            let known = Target::ALL.map(Target::module);
            return Err(Error::recipe(
                "targets",
                self.targets.join(","),
                format!("one or more of {}", known.join(", ")),
            ));
        }
        Ok(LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            targets,
        })
    }
}

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Length {
    /// Passes over the training rows.
    Epochs(u32),
    /// Optimizer steps; the rows repeat as often as needed.
    Steps(u64),
}

/// All hyper-parameters of a LoRA tuning run.
///
/// ```
/// let recipe: openledger_finetune::Recipe =
///     toml::from_str("learning_rate = 1e-3\n[lora]\nrank = 8\n")?;
/// assert_eq!(recipe.lora.rank, 8);
/// assert!(toml::from_str::<openledger_finetune::Recipe>("learning_rte = 1e-3").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The adapter's shape.
    pub lora: Lora,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Fraction of the steps spent warming up, in [0, 1).
    pub warmup: f64,
    /// Shape of the decay.
    pub decay: Decay,
    /// Last learning rate as a fraction of the peak, in [0, 1].
    pub floor: f64,
    /// Optimizer settings.
    pub adamw: AdamW,
    /// Rows a step; their gradients are averaged by target tokens.
    pub batch: usize,
    /// How long to train.
    pub length: Length,
    /// Largest gradient norm; larger gradients are scaled down to it. 0 = no clipping.
    pub clip: f64,
    /// Seed of the adapter's initial values.
    pub seed: u64,
    /// Seed of the row order.
    pub order_seed: u64,
    /// Fraction of the rows held out: they measure the loss and serve as decoys of attribution.
    pub eval_fraction: f64,
    /// Seed of the choice of held-out rows.
    pub eval_seed: u64,
    /// Tokens a row may have; longer rows are cut. 0 = the model's context.
    pub context: usize,
    /// Steps between checkpoints, >= 1.
    pub checkpoint_every: u64,
    /// Steps between evaluations on held-out rows; 0 = only before and after.
    pub eval_every: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            lora: Lora::default(),
            learning_rate: 4e-3,
            warmup: 0.05,
            decay: Decay::Cosine,
            floor: 0.05,
            adamw: AdamW::default(),
            batch: 8,
            length: Length::Epochs(4),
            clip: 1.0,
            seed: 1,
            order_seed: 1,
            eval_fraction: 0.08,
            eval_seed: 1,
            context: 0,
            checkpoint_every: 50,
            eval_every: 100,
        }
    }
}

/// Named budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// A first look: about a third of `Standard`'s work.
    Quick,
    /// The default of the bundled loop.
    #[default]
    Standard,
    /// About four times `Standard`'s work.
    Thorough,
}

impl Preset {
    /// Floating-point operations a run may spend; `Standard` is about half a minute on two idle
    /// cores of a 2020s server CPU (measured: 49 CPU seconds on the bundled rows). A fixed number of operations, not a measured time, so that the same
    /// dataset gives the same recipe on every machine.
    const fn operations(self) -> f64 {
        match self {
            Self::Quick => 1.2e12,
            Self::Standard => 4e12,
            Self::Thorough => 16e12,
        }
    }

    const fn epochs(self) -> (u32, u32) {
        match self {
            Self::Quick => (1, 8),
            Self::Standard => (1, 26),
            Self::Thorough => (2, 80),
        }
    }

    /// Reads `quick`, `standard` or `thorough`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "quick" => Some(Self::Quick),
            "standard" => Some(Self::Standard),
            "thorough" => Some(Self::Thorough),
            _ => None,
        }
    }
}

impl Recipe {
    /// The recipe of `preset` for this dataset and base: as many passes as the preset's budget
    /// pays for, checkpoints and evaluations about twelve times a run.
    pub fn preset(preset: Preset, base: &Config, dataset: &Dataset) -> Self {
        let mut recipe = Self::default();
        let width = base.hidden;
        recipe.lora.rank = if width <= 256 { 32 } else { 16 };
        recipe.lora.alpha = 2.0 * recipe.lora.rank as f32;
        let tokens = dataset.tokens() as f64;
        let pass = tokens * operations_per_token(base, &recipe.lora);
        let (least, most) = preset.epochs();
        let epochs = (preset.operations() / pass.max(1.0)).round() as u32;
        recipe.length = Length::Epochs(epochs.clamp(least, most));
        recipe.batch = match dataset.len() {
            0..=1_000 => 8,
            1_001..=20_000 => 16,
            _ => 32,
        };
        let steps = recipe.steps(dataset.len());
        recipe.checkpoint_every = (steps / 12).max(1);
        recipe.eval_every = (steps / 12).max(1);
        recipe
    }

    /// Optimizer steps for `rows` training rows.
    pub fn steps(&self, rows: usize) -> u64 {
        match self.length {
            Length::Epochs(epochs) => u64::from(epochs) * self.steps_per_epoch(rows),
            Length::Steps(steps) => steps,
        }
    }

    /// Steps of one pass; the last step of a pass may hold fewer rows.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        rows.div_ceil(self.batch.max(1)) as u64
    }

    /// The learning-rate schedule over `total` steps.
    pub fn schedule(&self, total: u64) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: (self.warmup * total as f64).ceil() as u64,
            total,
            decay: self.decay,
            floor: self.floor,
        }
    }

    /// Checks every setting against its range and against the base model.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the first setting that is out of range.
    pub fn validate(&self, base: &Config) -> Result<(), Error> {
        self.lora.config()?;
        self.adamw.validate()?;
        if self.lora.rank == 0 || self.lora.rank > base.hidden {
            let expected = format!("1 to the model's width of {}", base.hidden);
            return Err(Error::recipe("rank", self.lora.rank, expected));
        }
        if !(self.lora.alpha > 0.0 && self.lora.alpha.is_finite()) {
            return Err(Error::recipe("alpha", self.lora.alpha, "must be above 0"));
        }
        if self.lora.dropout != 0.0 {
            let expected = "only 0 is supported, so that attribution can recompute the gradients";
            return Err(Error::recipe("dropout", self.lora.dropout, expected));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let expected = "must be above 0 and at most 1";
            return Err(Error::recipe("learning_rate", self.learning_rate, expected));
        }
        for (setting, value, open) in [
            ("warmup", self.warmup, true),
            ("floor", self.floor, false),
            ("eval_fraction", self.eval_fraction, true),
        ] {
            let inside = (0.0..=1.0).contains(&value) && !(open && value >= 1.0);
            if !inside {
                return Err(Error::recipe(setting, value, "must be between 0 and 1"));
            }
        }
        if !(self.clip >= 0.0 && self.clip.is_finite()) {
            return Err(Error::recipe("clip", self.clip, "must be 0 or more"));
        }
        for (setting, value) in [
            ("batch", self.batch as u64),
            ("checkpoint_every", self.checkpoint_every),
            ("length", self.steps(1)),
        ] {
            if value == 0 {
                return Err(Error::recipe(setting, value, "must be 1 or more"));
            }
        }
        if self.context == 1 || self.context > base.context {
            let expected = format!("2 to the model's context of {}, or 0 for it", base.context);
            return Err(Error::recipe("context", self.context, expected));
        }
        Ok(())
    }

    /// Digest of the recipe: `keccak256("openledger recipe 1\n" ‖ JSON)`, where the JSON is this
    /// struct's fields in order of declaration, without spaces, numbers in their shortest form
    /// that reads back to the same value (docs/protocol/training.md).
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn digest(&self) -> B256 {
        let mut bytes = b"openledger recipe 1\n".to_vec();
        serde_json::to_writer(&mut bytes, self).expect("a recipe holds only finite plain values");
        keccak256(bytes)
    }

    /// Reads a TOML recipe.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Parse`] with the file, line and field.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            what: "a tuning recipe",
            reason: error.to_string(),
        })
    }
}

/// Floating-point operations to train one token: forward and input gradient of the frozen
/// weights, forward and both gradients of the adapter's.
pub fn operations_per_token(base: &Config, lora: &Lora) -> f64 {
    let per_block: usize = Target::ALL
        .iter()
        .map(|target| target.widths(base))
        .map(|(input, output)| input * output)
        .sum();
    let frozen = per_block * base.layers + base.vocab * base.hidden;
    let trained: usize = Target::ALL
        .iter()
        .filter(|target| lora.targets.iter().any(|name| name == target.module()))
        .map(|target| target.widths(base))
        .map(|(input, output)| (input + output) * lora.rank * base.layers)
        .sum();
    4.0 * frozen as f64 + 6.0 * trained as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::testing;

    #[test]
    fn the_digest_covers_every_field() {
        let recipe = Recipe::default();
        let digest = recipe.digest();
        let value = serde_json::to_value(&recipe).unwrap();
        for key in value.as_object().unwrap().keys() {
            let mut changed = value.clone();
            let field = &mut changed[key];
            if let Some(number) = field.as_u64() {
                *field = (number + 1).into();
            } else if let Some(number) = field.as_f64() {
                *field = (number * 0.5 + 0.001).into();
            } else if key == "decay" {
                *field = "linear".into();
            } else if key == "length" {
                *field = serde_json::json!({"steps": 9});
            } else if key == "lora" {
                field["rank"] = 7.into();
            } else {
                field["beta1"] = 0.8.into();
            }
            let changed: Recipe = serde_json::from_value(changed).unwrap();
            assert_ne!(changed.digest(), digest, "{key}");
        }
    }

    #[test]
    fn toml_reads_back_to_the_same_digest() {
        let recipe = Recipe {
            length: Length::Steps(17),
            learning_rate: 0.1 + 0.2,
            ..Recipe::default()
        };
        let text = toml::to_string(&recipe).unwrap();
        let read: Recipe = toml::from_str(&text).unwrap();
        assert_eq!(read.digest(), recipe.digest());
    }

    #[test]
    fn bad_settings_are_named() {
        let base = testing::config();
        let check = |change: fn(&mut Recipe), word: &str| {
            let mut recipe = Recipe::default();
            recipe.lora.rank = 4;
            change(&mut recipe);
            let message = recipe.validate(&base).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        check(|r| r.lora.rank = 0, "rank");
        check(|r| r.lora.targets = vec!["lm_head".into()], "targets");
        check(|r| r.lora.targets.push("q_proj".into()), "targets");
        check(|r| r.lora.dropout = 0.1, "dropout");
        check(|r| r.learning_rate = f64::NAN, "learning_rate");
        check(|r| r.eval_fraction = 1.0, "eval_fraction");
        check(|r| r.batch = 0, "batch");
        check(|r| r.length = Length::Steps(0), "length");
        check(|r| r.context = 1 << 20, "context");
        check(|r| r.adamw.beta2 = 1.0, "beta2");
    }
}
