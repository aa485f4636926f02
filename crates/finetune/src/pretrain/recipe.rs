//! Recipes of pre-training: the model's shape, the corpus mix and the optimizer, in one TOML file.

use std::path::{Path, PathBuf};

use openledger_model::Config;
use openledger_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::Mode;
use crate::optimizer::{AdamW, Muon, Optimizer};
use crate::schedule::{Decay, Schedule};

/// Shape of the model (Llama architecture, tied embeddings).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Key/value heads; they divide `heads`.
    pub kv_heads: usize,
    /// Width of the gated MLP.
    pub mlp: usize,
    /// Longest sequence, tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
}

/// One corpus of the mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Short name.
    pub name: String,
    /// File under the corpora directory: `.jsonl` (one object a line), Markdown or a folder of it
    /// (one row a section, columns `title`, `section`, `text`), or plain text whose documents are
    /// separated by `<|endoftext|>`.
    pub file: PathBuf,
    /// Keccak-256 of the file's bytes (of a folder's files one after another, by path): another
    /// text is refused, since it would make another model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<B256>,
    /// Share of the tokens, relative to the other sources; > 0.
    pub weight: f64,
    /// Plain text of a row, with `{column}` placeholders. For plain-text files leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Question of a row, with placeholders; needs `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Answer of a row, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Fraction of the documents held out, where the recipe's own would leave too few. Sources of
    /// one file name the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_fraction: Option<f64>,
    /// Licence of the text.
    pub licence: String,
    /// Where it comes from and whom to credit.
    pub attribution: String,
}

/// Everything a pre-training run depends on besides the corpus files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    /// Seed of the initial weights, the held-out documents and the order.
    pub seed: u64,
    /// Vocabulary size of the byte-level BPE, its 256 bytes and 2 special tokens included.
    pub vocab: usize,
    /// Bytes of text the tokenizer is trained on, drawn from the sources by weight.
    pub tokenizer_bytes: usize,
    /// Tokens to train on.
    pub tokens: u64,
    /// Tokens a step.
    pub batch_tokens: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Fraction of the steps spent warming up.
    pub warmup: f64,
    /// Fraction of the steps spent at the peak after the warm-up.
    #[serde(default)]
    pub hold: f64,
    /// Shape of the decay.
    pub decay: Decay,
    /// Last learning rate as a fraction of the peak.
    pub floor: f64,
    /// Largest gradient norm.
    pub clip: f64,
    /// Longest document of a plain-text source, bytes: longer ones are cut into pieces at the ends
    /// of paragraphs, and each piece is a document.
    pub piece_bytes: usize,
    /// Fraction of each file's documents that is held out.
    pub eval_fraction: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// How numbers are computed.
    #[serde(default)]
    pub arithmetic: Mode,
    /// Most tokens of documents that are computed together; a longer one is computed alone.
    #[serde(default = "pack_tokens")]
    pub pack_tokens: usize,
    /// How the optimizer keeps its moments.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Shape of the model.
    pub model: Shape,
    /// Settings of `AdamW`, which trains what [`Muon`] does not.
    pub adamw: AdamW,
    /// Trains the matrices inside the blocks, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon: Option<Muon>,
    /// The corpus mix.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

fn pack_tokens() -> usize {
    512
}

impl PretrainRecipe {
    /// Reads a TOML recipe and checks it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Parse`] with line and field, or [`Error::Recipe`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let recipe: Self = toml::from_str(&text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            what: "a pre-training recipe",
            reason: error.to_string(),
        })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the first setting that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        self.adamw.validate()?;
        if let Some(muon) = &self.muon {
            muon.validate()?;
            if self.optimizer != Optimizer::Adamw {
                let expected = "must be `adamw` beside [muon], whose momenta are f32";
                return Err(Error::recipe("optimizer", "adamw_8bit", expected));
            }
        }
        let shape = &self.model;
        if self.vocab < 260 {
            let expected = "must be 260 or more: 256 bytes, 2 special tokens and some merges";
            return Err(Error::recipe("vocab", self.vocab, expected));
        }
        if shape.heads == 0 || !shape.hidden.is_multiple_of(2 * shape.heads) {
            let expected = format!("must divide hidden = {} into even parts", shape.hidden);
            return Err(Error::recipe("heads", shape.heads, expected));
        }
        if shape.kv_heads == 0 || !shape.heads.is_multiple_of(shape.kv_heads) {
            let expected = format!("must divide heads = {}", shape.heads);
            return Err(Error::recipe("kv_heads", shape.kv_heads, expected));
        }
        for (setting, value) in [
            ("layers", shape.layers),
            ("mlp", shape.mlp),
            ("batch_tokens", self.batch_tokens),
            ("piece_bytes", self.piece_bytes),
            ("checkpoint_every", self.checkpoint_every as usize),
            ("tokens", self.tokens as usize),
        ] {
            if value == 0 {
                return Err(Error::recipe(setting, value, "must be 1 or more"));
            }
        }
        if shape.context < 8 {
            return Err(Error::recipe("context", shape.context, "must be 8 or more"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let expected = "must be above 0 and at most 1";
            return Err(Error::recipe("learning_rate", self.learning_rate, expected));
        }
        for (setting, value) in [
            ("warmup", self.warmup),
            ("hold", self.hold),
            ("floor", self.floor),
            ("eval_fraction", self.eval_fraction),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::recipe(setting, value, "must be in [0, 1)"));
            }
        }
        if self.sources.is_empty() {
            return Err(Error::recipe("source", 0, "one or more sources"));
        }
        for source in &self.sources {
            if !(source.weight > 0.0 && source.weight.is_finite()) {
                return Err(Error::recipe("weight", source.weight, "must be above 0"));
            }
            let fraction = source.eval_fraction.unwrap_or(self.eval_fraction);
            if !(0.0..1.0).contains(&fraction) {
                return Err(Error::recipe(
                    "eval_fraction",
                    fraction,
                    "must be in [0, 1)",
                ));
            }
            let family = |other: &&Source| other.file == source.file;
            if self
                .sources
                .iter()
                .filter(family)
                .any(|other| other.eval_fraction != source.eval_fraction)
            {
                let expected = "sources of one file hold out the same part of it";
                return Err(Error::recipe("eval_fraction", fraction, expected));
            }
            if source.prompt.is_some() != source.answer.is_some() {
                let expected = "`prompt` and `answer` come together";
                return Err(Error::recipe("source", &source.name, expected));
            }
        }
        Ok(())
    }

    /// The model's configuration; token 0 begins a document, token 1 ends it.
    pub fn config(&self) -> Config {
        let shape = &self.model;
        Config {
            hidden: shape.hidden,
            layers: shape.layers,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.hidden / shape.heads,
            mlp: shape.mlp,
            vocab: self.vocab,
            context: shape.context,
            rope_theta: shape.rope_theta,
            norm_eps: 1e-5,
            tie_embeddings: true,
            bos: Some(0),
            eos: vec![1],
            features: openledger_model::Features::default(),
        }
    }

    /// The learning-rate schedule over `total` steps.
    pub fn schedule(&self, total: u64) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: (self.warmup * total as f64).round() as u64,
            hold: (self.hold * total as f64).round() as u64,
            total,
            decay: self.decay,
            floor: self.floor,
        }
    }

    /// Digest: `keccak256("openledger pretrain recipe 2\n" ‖ JSON)`.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn digest(&self) -> B256 {
        let mut bytes = b"openledger pretrain recipe 2\n".to_vec();
        serde_json::to_writer(&mut bytes, self).expect("a recipe holds only finite plain values");
        keccak256(bytes)
    }
}
