//! The pieces of work, each through the functions that tuning, attribution and serving call.

use std::path::Path;

use openledger_finetune::{
    BatchGradients, Control, Dataset, Length, Lora, Mode, Recipe, Row, operations_per_token,
    train_from,
};
use openledger_model::template::Template;
use openledger_model::{
    Adapter, Arithmetic, Base, Config, Exact, Example, Fast, Format, Gradients, KvCache, Lane,
    Loss, Tokenizer, Workspace, lora_gradients_pack, step,
};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::{Fallible, Outcome, Settings, Work};

/// Logits of the last token that a reply repeats.
const SHOWN: usize = 32;

pub(crate) fn prepare(verb: &str, settings: &Settings<'_>) -> Fallible<Work> {
    match (verb, settings.or("mode", "fast")) {
        ("gradients", "fast") => gradients::<Fast>(Format::Bf16, Mode::Fast, settings),
        ("gradients", "exact") => gradients::<Exact>((), Mode::Exact, settings),
        ("each", "fast") => each(settings),
        ("prefill", "fast") => prefill(settings),
        ("decode", "fast") => decode(settings),
        (verb, mode) => Err(format!("no work `{verb}` in mode `{mode}`").into()),
    }
}

/// Lives as long as the process, which is started for a handful of lines.
fn load<A: Arithmetic>(format: A::Format, settings: &Settings<'_>) -> Fallible<&'static Base<A>> {
    let directory = Path::new(settings.text("dir")?);
    Ok(Box::leak(Box::new(Base::load_as(directory, format)?)))
}

fn format(settings: &Settings<'_>) -> Fallible<Format> {
    match settings.or("format", "bf16") {
        "bf16" => Ok(Format::Bf16),
        "int8" => Ok(Format::Int8),
        other => Err(format!("format={other} is neither bf16 nor int8").into()),
    }
}

/// The token that every side has at this place.
fn token(c: &Config, row: usize, position: usize) -> u32 {
    ((row * 7919 + position * 104_729 + 17) % c.vocab) as u32
}

fn tokens(c: &Config, row: usize, length: usize) -> Vec<u32> {
    (0..length)
        .map(|position| token(c, row, position))
        .collect()
}

/// Rows of `length` inputs, each with a target.
fn examples(c: &Config, settings: &Settings<'_>) -> Fallible<(Vec<Example>, usize)> {
    let (batch, length) = (settings.number("batch")?, settings.number("length")?);
    let rows = (0..batch).map(|row| Example {
        tokens: tokens(c, row, length + 1),
        loss_from: 1,
    });
    Ok((rows.collect(), batch * length))
}

/// Operations of a training pass: those of the matrices, and causal attention, whose backward is
/// twice its forward.
fn training_operations(c: &Config, recipe: &Recipe, settings: &Settings<'_>) -> Fallible<f64> {
    let (batch, length) = (settings.number("batch")?, settings.number("length")?);
    let matrices = (batch * length) as f64 * operations_per_token(c, &recipe.lora);
    Ok(matrices + 3.0 * batch as f64 * attention_operations(c, 0, length))
}

/// Scores and their sums of values, for `new` tokens after `held` ones.
fn attention_operations(c: &Config, held: usize, new: usize) -> f64 {
    let pairs = new as f64 * (held as f64 + (new + 1) as f64 / 2.0);
    4.0 * (c.layers * c.q_width()) as f64 * pairs
}

/// Operations of all matrices but the head for `rows` tokens, and of the head for `heads` of them.
fn forward_operations(c: &Config, rows: usize, heads: usize) -> f64 {
    let bare = Lora {
        targets: Vec::new(),
        ..Lora::default()
    };
    let head = 2.0 * (c.vocab * c.hidden) as f64;
    let blocks = operations_per_token(c, &bare) / 2.0 - head;
    rows as f64 * blocks + heads as f64 * head
}

/// Rank 16 on all seven linears, alpha 32.
fn recipe(mode: Mode, rows: usize) -> Recipe {
    Recipe {
        arithmetic: mode,
        batch: rows,
        ..Recipe::default()
    }
}

fn gradients<A: Arithmetic>(
    format: A::Format,
    mode: Mode,
    settings: &Settings<'_>,
) -> Fallible<Work> {
    let base = load::<A>(format, settings)?;
    let (rows, tokens) = examples(&base.config, settings)?;
    let recipe = recipe(mode, rows.len());
    let operations = training_operations(&base.config, &recipe, settings)?;
    let adapter = Adapter::new(&base.config, recipe.adapter(&base.config)?, 1)?;
    let mut batch = BatchGradients::new(base, adapter, &recipe)?;
    Ok(Box::new(move || {
        let rows: Vec<&Example> = rows.iter().collect();
        let (loss, _) = batch.run(&rows)?;
        Ok(Outcome {
            tokens,
            check: vec![loss],
            operations,
            bytes: None,
        })
    }))
}

/// A gradient for every example: packs of as many neighbours as there are threads' shares.
fn each(settings: &Settings<'_>) -> Fallible<Work> {
    let base = load::<Fast>(Format::Bf16, settings)?;
    let (rows, tokens) = examples(&base.config, settings)?;
    let recipe = recipe(Mode::Fast, rows.len());
    let operations = training_operations(&base.config, &recipe, settings)?;
    let adapter = Adapter::new(&base.config, recipe.adapter(&base.config)?, 1)?;
    let mut gradients = vec![vec![0.0; adapter.params().len()]; rows.len()];
    let share = rows.len().div_ceil(rayon::current_num_threads());
    let mut spaces = vec![Workspace::new(); rows.len().div_ceil(share)];
    Ok(Box::new(move || {
        let losses: Vec<_> = rows
            .par_chunks(share)
            .zip(gradients.par_chunks_mut(share))
            .zip(&mut spaces)
            .map(|((rows, gradients), workspace)| {
                let rows: Vec<&Example> = rows.iter().collect();
                let mut each: Vec<&mut [f32]> =
                    gradients.iter_mut().map(Vec::as_mut_slice).collect();
                let each = Gradients::Each(&mut each);
                lora_gradients_pack(base, &adapter, &rows, None, each, workspace)
            })
            .collect();
        let mut check = Vec::new();
        for losses in losses {
            check.extend(losses?.iter().map(Loss::mean));
        }
        Ok(Outcome {
            tokens,
            check,
            operations,
            bytes: None,
        })
    }))
}

fn prefill(settings: &Settings<'_>) -> Fallible<Work> {
    let base = load::<Fast>(format(settings)?, settings)?;
    let prompt = tokens(&base.config, 0, settings.number("length")?);
    let mut cache = KvCache::new(&base.config, prompt.len());
    let mut workspace = Workspace::new();
    Ok(Box::new(move || {
        cache.truncate(0);
        let lane = Lane {
            tokens: &prompt,
            cache: &mut cache,
            adapter: None,
            all_logits: false,
        };
        let logits = step(base, &mut [lane], &mut workspace)?.remove(0).logits;
        let (c, length) = (&base.config, prompt.len());
        Ok(Outcome {
            tokens: length,
            check: shown(&logits),
            operations: forward_operations(c, length, 1) + attention_operations(c, 0, length),
            bytes: None,
        })
    }))
}

fn decode(settings: &Settings<'_>) -> Fallible<Work> {
    let base = load::<Fast>(format(settings)?, settings)?;
    let (lanes, held) = (settings.number("lanes")?, settings.number("held")?);
    let steps = settings.number("steps")?;
    let c = &base.config;
    let mut workspace = Workspace::new();
    let mut caches: Vec<KvCache<Fast>> = Vec::with_capacity(lanes);
    for row in 0..lanes {
        let mut cache = KvCache::new(c, held + steps);
        let lane = Lane {
            tokens: &tokens(c, row, held),
            cache: &mut cache,
            adapter: None,
            all_logits: false,
        };
        step(base, &mut [lane], &mut workspace)?;
        caches.push(cache);
    }
    Ok(Box::new(move || {
        caches.iter_mut().for_each(|cache| cache.truncate(held));
        let (mut check, mut operations, mut bytes) = (Vec::new(), 0.0, 0.0);
        for position in held..held + steps {
            let next: Vec<u32> = (0..lanes).map(|row| token(c, row, position)).collect();
            let mut batch: Vec<Lane<'_, Fast>> = caches
                .iter_mut()
                .zip(&next)
                .map(|(cache, token)| Lane {
                    tokens: std::slice::from_ref(token),
                    cache,
                    adapter: None,
                    all_logits: false,
                })
                .collect();
            check = shown(&step(base, &mut batch, &mut workspace)?[0].logits);
            operations += forward_operations(c, lanes, lanes);
            operations += lanes as f64 * attention_operations(c, position, 1);
            // Keys and values are held in bf16.
            let held = 4 * lanes * (position + 1) * c.kv_width() * c.layers;
            bytes += (base.bytes() + held) as f64;
        }
        Ok(Outcome {
            tokens: lanes * steps,
            check,
            operations,
            bytes: Some(bytes),
        })
    }))
}

fn shown(logits: &[f32]) -> Vec<f64> {
    logits.iter().take(SHOWN).map(|x| f64::from(*x)).collect()
}

/// Four steps of a run as `openledger train` makes them, loading included.
pub(crate) fn memory(settings: &Settings<'_>) -> Fallible<Value> {
    let model = Path::new(settings.text("dir")?);
    let (batch, length) = (settings.number("batch")?, settings.number("length")?);
    let recipe = Recipe {
        gradient_checkpointing: settings.text("checkpointing")? == "on",
        length: Length::Steps(4),
        eval_fraction: 0.0,
        eval_every: 0,
        checkpoint_every: 4,
        context: length + 1,
        ..recipe(Mode::Fast, batch)
    };
    let text = "Every row has an owner, a licence and a price. ";
    let tokenizer = Tokenizer::train(std::iter::repeat_n(text, 50), 300)?;
    let rows: Vec<Row> = (0..batch as u32)
        .map(|id| Row::new(id, None, text.repeat(length)))
        .collect();
    let config = Config::from_hf(model)?;
    let template = Template::for_tokenizer(&tokenizer);
    let dataset = Dataset::from_rows(&rows, &tokenizer, &config, recipe.context, &template)?;
    assert_eq!(
        dataset.tokens(),
        (batch * (length + 1)) as u64,
        "rows are cut to the length"
    );
    let run = tempfile::tempdir()?;
    let mut losses = Vec::new();
    train_from(model, &dataset, &recipe, run.path(), &mut |step| {
        losses.push(step.loss);
        Control::Continue
    })?;
    Ok(json!({ "peak": peak_memory()?, "losses": losses }))
}

/// Most resident memory of this process so far, in MiB.
fn peak_memory() -> Fallible<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: f64 = kibibytes
        .ok_or("the system tells no VmHWM")?
        .trim()
        .parse()?;
    Ok(kibibytes / 1024.0)
}
