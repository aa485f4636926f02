//! `openledger model inspect`: what a model is and needs, without its weights being read.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use indicatif::{HumanBytes, HumanCount};
use openledger_finetune::{Method, Mode, Recipe, memory, trained_parameters};
use openledger_model::inspect::{self, Stored};
use openledger_model::template::ChatTemplate;
use openledger_model::{Config, Format, RopeScaling, Target, parameter_count};
use serde::Serialize;

use super::{Parts, find};
use crate::cli::InspectArgs;
use crate::table;

/// Longest row that tuning is estimated for, in tokens.
const ROW: usize = 512;
/// Problems shown on a terminal; `--json` has all.
const SHOWN: usize = 20;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Summary {
    name: String,
    folder: String,
    usable: bool,
    /// Why it cannot be used.
    problems: Vec<String>,
    shape: Option<Shape>,
    weights: Option<Weights>,
    tokens: Option<usize>,
    /// `model`: its own chat template; `built-in`: question and answer.
    template: Option<&'static str>,
    serving: Vec<Serving>,
    tuning: Vec<Tuning>,
}

#[derive(Debug, Serialize)]
struct Shape {
    architecture: &'static str,
    parameters: usize,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    mlp: usize,
    vocabulary: usize,
    context: usize,
    /// Layers that see a window only, and its length in tokens.
    windowed_layers: usize,
    window: Option<usize>,
    rope_theta: f32,
    rope_scaling: RopeScaling,
    tied_embeddings: bool,
    bos: Option<u32>,
    eos: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Weights {
    files: usize,
    tensors: usize,
    bytes: u64,
    /// Values by stored format.
    values: BTreeMap<String, u64>,
}

/// Memory while serving.
#[derive(Debug, Serialize)]
struct Serving {
    format: &'static str,
    weights_bytes: usize,
    /// Keys and values of a token of an answer or its prompt.
    cache_bytes_per_token: usize,
    /// Both, for one sequence that fills the context.
    full_context_bytes: usize,
}

/// Memory while tuning with the default recipe.
#[derive(Debug, Serialize)]
struct Tuning {
    method: &'static str,
    arithmetic: &'static str,
    base: &'static str,
    trained_parameters: u64,
    memory_bytes: u64,
}

/// Prints what there is to say about a model; an error if it cannot be used.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let found = find(Some(&args.model), Parts::Description)?;
    let read = inspect::inspect(&found.folder);
    let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    let usable = problems.is_empty();
    let sound = read.config.as_ref().filter(|_| usable);
    let summary = Summary {
        name: found.name,
        folder: found.folder.display().to_string(),
        usable,
        shape: read.config.as_ref().map(Shape::of),
        weights: read.stored.map(Weights::of),
        tokens: read.tokens,
        template: read.template.map(|template| match template {
            ChatTemplate::BuiltIn(_) => "built-in",
            ChatTemplate::Jinja(_) => "model",
        }),
        serving: sound.map(serving).unwrap_or_default(),
        tuning: sound.map(tuning).unwrap_or_default(),
        problems,
    };
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        summary.print();
    }
    match summary.problems.len() {
        0 => Ok(()),
        count => bail!("{} cannot be used here: {count} problems", summary.name),
    }
}

impl Shape {
    fn of(c: &Config) -> Self {
        let windows = c.features.windows.iter().flatten();
        Self {
            architecture: c.features.architecture.model_type(),
            parameters: parameter_count(c),
            layers: c.layers,
            hidden: c.hidden,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            mlp: c.mlp,
            vocabulary: c.vocab,
            context: c.context,
            windowed_layers: windows.clone().count(),
            window: windows.copied().next(),
            rope_theta: c.rope_theta,
            rope_scaling: c.features.rope_scaling,
            tied_embeddings: c.tie_embeddings,
            bos: c.bos,
            eos: c.eos.clone(),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let tied = if self.tied_embeddings { ", tied" } else { "" };
        let mut rows = vec![
            ("architecture", self.architecture.to_owned()),
            ("parameters", HumanCount(self.parameters as u64).to_string()),
            ("layers", self.layers.to_string()),
            ("width", format!("{}, gated unit {}", self.hidden, self.mlp)),
            (
                "heads",
                format!(
                    "{} of {}, {} for keys and values",
                    self.heads, self.head_dim, self.kv_heads
                ),
            ),
            (
                "vocabulary",
                format!("{}{tied}", HumanCount(self.vocabulary as u64)),
            ),
            (
                "context",
                format!("{} tokens", HumanCount(self.context as u64)),
            ),
        ];
        if let Some(window) = self.window {
            let layers = format!("{window} tokens in {} layers", self.windowed_layers);
            rows.push(("window", layers));
        }
        let scaling = match self.rope_scaling {
            RopeScaling::None => String::new(),
            RopeScaling::Linear { factor } => format!(", linear by {factor}"),
            RopeScaling::Llama3 { factor, .. } => format!(", llama3 by {factor}"),
            RopeScaling::Yarn { factor, .. } => format!(", yarn by {factor}"),
        };
        rows.push(("rotary base", format!("{}{scaling}", self.rope_theta)));
        let ends: Vec<String> = self.eos.iter().map(u32::to_string).collect();
        let begins = self.bos.map_or("none".to_owned(), |bos| bos.to_string());
        rows.push((
            "tokens",
            format!("begins with {begins}, ends with {}", ends.join(" or ")),
        ));
        rows
    }
}

impl Weights {
    fn of(stored: Stored) -> Self {
        Self {
            files: stored.files,
            tensors: stored.tensors,
            bytes: stored.bytes,
            values: stored.values,
        }
    }
}

fn serving(c: &Config) -> Vec<Serving> {
    [
        ("bf16", Some(Format::Bf16)),
        ("int8", Some(Format::Int8)),
        ("nf4", Some(Format::Nf4)),
        ("exact", None),
    ]
    .map(|(name, format)| {
        let weights_bytes = inspect::loaded_bytes(c, format);
        let cache_bytes_per_token = inspect::cache_bytes_per_token(c, format);
        Serving {
            format: name,
            weights_bytes,
            cache_bytes_per_token,
            full_context_bytes: weights_bytes + c.context * cache_bytes_per_token,
        }
    })
    .into()
}

fn tuning(c: &Config) -> Vec<Tuning> {
    let mut recipe = Recipe::default();
    let targets = Target::of(c).iter();
    recipe.lora.targets = targets.map(|target| target.module().to_owned()).collect();
    recipe.lora.rank = recipe.lora.rank.min(c.hidden);
    [
        ("lora", Method::Lora, Mode::Fast, "bf16"),
        ("lora", Method::Lora, Mode::Exact, "f32"),
        ("dora", Method::Dora, Mode::Fast, "bf16"),
        ("qlora", Method::Qlora, Mode::Fast, "nf4"),
        ("full", Method::Full, Mode::Fast, "bf16"),
    ]
    .map(|(name, method, arithmetic, base)| {
        recipe.method = method;
        recipe.arithmetic = arithmetic;
        Tuning {
            method: name,
            arithmetic: match arithmetic {
                Mode::Exact => "exact",
                Mode::Fast => "fast",
            },
            base,
            trained_parameters: trained_parameters(c, &recipe),
            memory_bytes: memory(c, &recipe, ROW.min(c.context)),
        }
    })
    .into()
}

impl Summary {
    fn print(&self) {
        let mut facts = table::new(&["model", &self.name]);
        for (name, value) in self.shape.iter().flat_map(Shape::rows) {
            facts.add_row(vec![name, &value]);
        }
        if let Some(tokens) = self.tokens {
            let tokens = format!("{} tokens", HumanCount(tokens as u64));
            facts.add_row(vec!["tokenizer", &tokens]);
        }
        let template = match self.template {
            Some("model") => "the model's own",
            Some(_) => "question and answer (the model has none)",
            None => "unknown",
        };
        facts.add_row(vec!["chat template", template]);
        let weights = match &self.weights {
            Some(weights) => weights.words(),
            None => "not here, so not checked".to_owned(),
        };
        facts.add_row(vec!["weights", &weights]);
        println!("{facts}");
        if !self.serving.is_empty() {
            println!("\nMemory for serving");
            println!("{}", self.serving_table());
            println!("\nMemory for tuning, batches of 8 rows of at most {ROW} tokens");
            println!("{}", self.tuning_table());
        }
        if !self.usable {
            println!("\nCannot be used here:");
        }
        for problem in self.problems.iter().take(SHOWN) {
            println!("- {problem}");
        }
        if self.problems.len() > SHOWN {
            println!("- and {} more (--json)", self.problems.len() - SHOWN);
        }
    }

    fn serving_table(&self) -> comfy_table::Table {
        let mut out = table::new(&["weights as", "weights", "a token", "with a full context"]);
        let bytes = |count: usize| HumanBytes(count as u64).to_string();
        for row in &self.serving {
            out.add_row(vec![
                row.format.to_owned(),
                bytes(row.weights_bytes),
                bytes(row.cache_bytes_per_token),
                bytes(row.full_context_bytes),
            ]);
        }
        table::right_align(&mut out, &[1, 2, 3]);
        out
    }

    fn tuning_table(&self) -> comfy_table::Table {
        let mut out = table::new(&["method", "arithmetic", "base", "trained values", "memory"]);
        for row in &self.tuning {
            out.add_row(vec![
                row.method.to_owned(),
                row.arithmetic.to_owned(),
                row.base.to_owned(),
                HumanCount(row.trained_parameters).to_string(),
                HumanBytes(row.memory_bytes).to_string(),
            ]);
        }
        table::right_align(&mut out, &[3, 4]);
        out
    }
}

impl Weights {
    fn words(&self) -> String {
        let values: Vec<String> = self
            .values
            .iter()
            .map(|(format, count)| format!("{} {format}", HumanCount(*count)))
            .collect();
        format!(
            "{} tensors in {} files, {}: {}",
            self.tensors,
            self.files,
            HumanBytes(self.bytes),
            values.join(", ")
        )
    }
}
