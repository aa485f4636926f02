//! Recipes: everything a tuning run depends on besides base and rows, with a digest, and presets
//! that scale it to the dataset so that a run stays within its time budget on two cores.

use std::path::Path;

use openledger_model::{Arithmetic, Config, Format, LoraConfig, Target};
use openledger_primitives::{B256, Mode, keccak256};
use serde::{Deserialize, Serialize};

use crate::dataset::LongRows;
use crate::optimizer::{AdamW, Optimizer};
use crate::schedule::{Decay, Schedule};
use crate::{Dataset, Error};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A low-rank update beside the frozen base (Hu et al., "LoRA", 2021).
    #[default]
    Lora,
    /// The same with a trained magnitude for every output (`DoRA`, Liu et al. 2024).
    Dora,
    /// The same as `lora` over a base in 4 or 8 bits (`QLoRA`, Dettmers et al. 2023).
    Qlora,
    /// All weights of the base.
    Full,
}

/// Refuses a base of another mode than `given`.
pub(crate) fn check_mode<A: Arithmetic>(given: Mode) -> Result<(), Error> {
    if u8::from(given) == A::MODE {
        return Ok(());
    }
    let expected = "the base was loaded for the other arithmetic";
    Err(Error::recipe("arithmetic", given, expected))
}

/// Storage of the frozen base under `qlora`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// 4-bit normal floats.
    #[default]
    Nf4,
    /// 8-bit integers.
    Int8,
}

/// When to end before the last step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Evaluations in a row that may pass without a better held-out loss, >= 1.
    pub patience: u32,
    /// Nats a token by which a loss must be lower to count as better, >= 0.
    #[serde(default)]
    pub min_delta: f64,
}

/// The low-rank update that is trained: `W + scale * B A`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank, 1 to the model's width.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`.
    pub alpha: f32,
    /// Divides `alpha` by the root of the rank instead (Kalajdzievski, "rsLoRA", 2023).
    pub rank_stabilized: bool,
    /// Share of the inputs of `A` that a step drops, in [0, 1). Attribution's gradients are always
    /// without it, and so are evaluations.
    pub dropout: f32,
    /// Linear layers that get an update, by their PEFT names.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            rank_stabilized: false,
            dropout: 0.0,
            targets: Target::ALL
                .iter()
                .map(|target| target.module().to_owned())
                .collect(),
        }
    }
}

impl Lora {
    /// The targets, as the linears of a model of this shape: where queries, keys and values, or
    /// gate and up, are one linear, that carries the update of any of its parts.
    pub(crate) fn targets(&self, base: &Config) -> Result<Vec<Target>, Error> {
        self.check_targets()?;
        let named = |parts: &[Target]| {
            let names = |target: &Target| self.targets.iter().any(|name| name == target.module());
            parts.iter().any(names)
        };
        let of = Target::of(base).iter().filter(|target| match target {
            Target::Qkv => named(&[Target::Qkv, Target::Q, Target::K, Target::V]),
            Target::GateUp => named(&[Target::GateUp, Target::Gate, Target::Up]),
            one => named(&[**one]),
        });
        let targets: Vec<Target> = of.copied().collect();
        if targets.is_empty() {
            let known: Vec<_> = Target::of(base).iter().map(|t| t.module()).collect();
            let expected = format!("one or more of {}, which this model has", known.join(", "));
            return Err(Error::recipe("targets", self.targets.join(","), expected));
        }
        Ok(targets)
    }

    fn check_targets(&self) -> Result<(), Error> {
        let known = || {
            let fused = [Target::Qkv, Target::GateUp];
            Target::ALL.into_iter().chain(fused).map(Target::module)
        };
        let expected = || format!("one or more of {}", known().collect::<Vec<_>>().join(", "));
        for (index, name) in self.targets.iter().enumerate() {
            if !known().any(|module| module == name) {
                return Err(Error::recipe("targets", self.targets.join(","), expected()));
            }
            if self.targets[..index].contains(name) {
                return Err(Error::recipe("targets", name, "named more than once"));
            }
        }
        match self.targets.is_empty() {
            true => Err(Error::recipe("targets", "", expected())),
            false => Ok(()),
        }
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

/// All settings of a tuning run.
///
/// ```
/// let recipe: openledger_finetune::Recipe =
///     toml::from_str("method = \"dora\"\nlearning_rate = 1e-3\n[lora]\nrank = 8\n")?;
/// assert_eq!(recipe.lora.rank, 8);
/// assert!(toml::from_str::<openledger_finetune::Recipe>("learning_rte = 1e-3").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What is trained.
    pub method: Method,
    /// How numbers are computed.
    pub arithmetic: Mode,
    /// Storage of the frozen base under `qlora`; the other methods do not read it.
    pub quantization: Quantization,
    /// The adapter's shape; `full` does not read it.
    pub lora: Lora,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Fraction of the steps spent warming up, in [0, 1).
    pub warmup: f64,
    /// Shape of the decay.
    pub decay: Decay,
    /// Last learning rate as a fraction of the peak, in [0, 1].
    pub floor: f64,
    /// How the optimizer keeps its moments.
    pub optimizer: Optimizer,
    /// Optimizer settings, of both forms.
    pub adamw: AdamW,
    /// Rows of a batch.
    pub batch: usize,
    /// Batches a step; the gradients of all their rows are averaged by target tokens.
    pub gradient_accumulation: usize,
    /// Whether short rows are computed together. No row sees another.
    pub packing: bool,
    /// Tokens of a pack; a longer row is a pack of its own.
    pub pack_tokens: usize,
    /// Whether a block's activations are computed again in the backward pass instead of kept: less
    /// memory, about a third more time, the same bits.
    pub gradient_checkpointing: bool,
    /// How long to train.
    pub length: Length,
    /// Ends the run when the held-out loss no longer falls, and keeps the best evaluation's
    /// weights, also of a run that is not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Largest gradient norm; larger gradients are scaled down to it. 0 = no clipping.
    pub clip: f64,
    /// Seed of the adapter's initial values and of the dropout.
    pub seed: u64,
    /// Seed of the row order.
    pub order_seed: u64,
    /// Fraction of the rows held out: they measure the loss and serve as decoys of attribution.
    pub eval_fraction: f64,
    /// Seed of the choice of held-out rows.
    pub eval_seed: u64,
    /// Tokens a row may have. 0 = the model's context.
    pub context: usize,
    /// What becomes of longer rows.
    pub long_rows: LongRows,
    /// Steps between checkpoints, >= 1.
    pub checkpoint_every: u64,
    /// Steps between evaluations on held-out rows; 0 = only before and after.
    pub eval_every: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            method: Method::default(),
            arithmetic: Mode::default(),
            quantization: Quantization::default(),
            lora: Lora::default(),
            learning_rate: 4e-3,
            warmup: 0.05,
            decay: Decay::Cosine,
            floor: 0.05,
            optimizer: Optimizer::default(),
            adamw: AdamW::default(),
            batch: 8,
            gradient_accumulation: 1,
            packing: true,
            pack_tokens: 512,
            gradient_checkpointing: false,
            length: Length::Epochs(4),
            early_stopping: None,
            clip: 1.0,
            seed: 1,
            order_seed: 1,
            eval_fraction: 0.08,
            eval_seed: 1,
            context: 0,
            long_rows: LongRows::default(),
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
    /// Floating-point operations a run may spend. A fixed number of operations, not a measured
    /// time, so that the same dataset gives the same recipe on every machine.
    const fn operations(self) -> f64 {
        match self {
            Self::Quick => 2.4e12,
            Self::Standard => 8e12,
            Self::Thorough => 32e12,
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
        rows.div_ceil(self.rows_per_step().max(1)) as u64
    }

    /// How fast arithmetic stores the base: quantised if it is frozen and the method says so.
    pub fn format(&self) -> Format {
        match (self.method, self.quantization) {
            (Method::Qlora, Quantization::Nf4) => Format::Nf4,
            (Method::Qlora, Quantization::Int8) => Format::Int8,
            (Method::Lora | Method::Dora | Method::Full, _) => Format::Bf16,
        }
    }

    /// Rows whose gradients make one step.
    pub fn rows_per_step(&self) -> usize {
        self.batch.saturating_mul(self.gradient_accumulation)
    }

    /// The learning-rate schedule over `total` steps.
    pub fn schedule(&self, total: u64) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: (self.warmup * total as f64).ceil() as u64,
            hold: 0,
            total,
            decay: self.decay,
            floor: self.floor,
        }
    }

    /// The adapter that this recipe trains on a base of this shape.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a target is unknown, named twice or missing.
    pub fn adapter(&self, base: &Config) -> Result<LoraConfig, Error> {
        Ok(LoraConfig {
            rank: self.lora.rank,
            alpha: self.lora.alpha,
            dropout: self.lora.dropout,
            targets: self.lora.targets(base)?,
            rank_stabilized: self.lora.rank_stabilized,
            dora: self.method == Method::Dora,
        })
    }

    /// Checks every setting against its range and against the base model.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the first setting that is out of range.
    pub fn validate(&self, base: &Config) -> Result<(), Error> {
        self.check()?;
        self.lora.targets(base)?;
        if self.lora.rank > base.hidden {
            let expected = format!("1 to the model's width of {}", base.hidden);
            return Err(Error::recipe("rank", self.lora.rank, expected));
        }
        if self.context > base.context {
            let expected = format!("2 to the model's context of {}, or 0 for it", base.context);
            return Err(Error::recipe("context", self.context, expected));
        }
        Ok(())
    }

    /// Checks every setting against its own range.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the first setting that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        self.lora.check_targets()?;
        self.adamw.validate()?;
        let lora = &self.lora;
        if !(lora.alpha > 0.0 && lora.alpha.is_finite()) {
            return Err(Error::recipe("alpha", lora.alpha, "must be above 0"));
        }
        if !(0.0..1.0).contains(&lora.dropout) {
            return Err(Error::recipe("dropout", lora.dropout, "must be in [0, 1)"));
        }
        if self.method == Method::Qlora && self.arithmetic == Mode::Exact {
            let expected =
                "`fast` for the method `qlora`: a base in 4 or 8 bits has no exact products";
            return Err(Error::recipe("arithmetic", "exact", expected));
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
            ("rank", lora.rank as u64),
            ("batch", self.batch as u64),
            ("gradient_accumulation", self.gradient_accumulation as u64),
            ("pack_tokens", self.pack_tokens as u64),
            ("checkpoint_every", self.checkpoint_every),
            ("length", self.steps(1)),
        ] {
            if value == 0 {
                return Err(Error::recipe(setting, value, "must be 1 or more"));
            }
        }
        if self.context == 1 {
            let expected = "2 or more, or 0 for the model's context";
            return Err(Error::recipe("context", self.context, expected));
        }
        if let Some(EarlyStopping {
            patience,
            min_delta,
        }) = self.early_stopping
        {
            if patience == 0 {
                return Err(Error::recipe("patience", patience, "must be 1 or more"));
            }
            if !(min_delta >= 0.0 && min_delta.is_finite()) {
                return Err(Error::recipe("min_delta", min_delta, "must be 0 or more"));
            }
            for (setting, missing) in [
                ("eval_every", self.eval_every == 0),
                ("eval_fraction", self.eval_fraction == 0.0),
            ] {
                if missing {
                    let expected = "must be above 0 for early stopping";
                    return Err(Error::recipe(setting, 0, expected));
                }
            }
        }
        Ok(())
    }

    /// Digest of the recipe: `keccak256("openledger recipe 2\n" ‖ JSON)`, where the JSON is this
    /// struct's fields in order of declaration, without spaces, numbers in their shortest form
    /// that reads back to the same value (docs/protocol/training.md).
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn digest(&self) -> B256 {
        let mut bytes = b"openledger recipe 2\n".to_vec();
        serde_json::to_writer(&mut bytes, self).expect("a recipe holds only finite plain values");
        keccak256(bytes)
    }

    /// Reads a TOML recipe and checks it. Where `method = "full"` leaves the learning rate out, it
    /// is 3e-4: what suits an adapter would destroy whole weights.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Parse`] with the line and the values that are allowed, or
    /// [`Error::RecipeLine`] for a setting out of range.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let parse = |error: toml::de::Error| Error::Parse {
            path: path.to_owned(),
            what: "a tuning recipe",
            reason: error.to_string(),
        };
        let mut recipe: Self = toml::from_str(&text).map_err(parse)?;
        let given: toml::Table = toml::from_str(&text).map_err(parse)?;
        if recipe.method == Method::Full && !given.contains_key("learning_rate") {
            recipe.learning_rate = FULL_LEARNING_RATE;
        }
        recipe.check().map_err(|error| error.in_file(path, &text))?;
        Ok(recipe)
    }
}

/// Learning rate of `full` where a recipe gives none.
const FULL_LEARNING_RATE: f64 = 3e-4;

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
            } else if let Some(flag) = field.as_bool() {
                *field = (!flag).into();
            } else if field.is_string() {
                *field = match key.as_str() {
                    "method" => "dora",
                    "arithmetic" => "fast",
                    "quantization" => "int8",
                    "optimizer" => "adamw_8bit",
                    "long_rows" => "split",
                    "decay" => "linear",
                    other => panic!("{other} is not tried"),
                }
                .into();
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
        check(|r| r.lora.dropout = 1.0, "dropout");
        check(|r| r.method = Method::Qlora, "arithmetic");
        check(|r| r.gradient_accumulation = 0, "gradient_accumulation");
        check(|r| r.pack_tokens = 0, "pack_tokens");
        check(|r| r.learning_rate = f64::NAN, "learning_rate");
        check(|r| r.eval_fraction = 1.0, "eval_fraction");
        check(|r| r.batch = 0, "batch");
        check(|r| r.length = Length::Steps(0), "length");
        check(|r| r.context = 1 << 20, "context");
        check(|r| r.adamw.beta2 = 1.0, "beta2");
    }
    #[test]
    fn a_bad_file_is_named_with_line_field_and_what_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        let check = |text: &str, words: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let message = Recipe::load(&path).unwrap_err().to_string();
            for word in words.iter().chain(&["recipe.toml"]) {
                assert!(message.contains(word), "{word}: {message}");
            }
        };
        check(
            "batch = 4\nmethod = \"lorra\"\n",
            &["line 2", "lorra", "`dora`", "`full`"],
        );
        check("[lora]\nrang = 4\n", &["line 2", "rang", "`rank`"]);
        check("batch = \"four\"\n", &["line 1", "four", "batch"]);
        check(
            "# a comment\nbatch = 4\n[lora]\nrank = 0\n",
            &["line 4", "`rank`", "1 or more"],
        );
        check(
            "eval_every = 0\n[early_stopping]\npatience = 2\n",
            &["line 1", "`eval_every`", "early stopping"],
        );
        std::fs::write(&path, "method = \"full\"\n").unwrap();
        let recipe = Recipe::load(&path).unwrap();
        assert!(recipe.learning_rate < 1e-3, "{}", recipe.learning_rate);
    }
}
