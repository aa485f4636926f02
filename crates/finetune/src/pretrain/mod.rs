//! Pre-training of a small base model from text: tokenizer, corpus, full-parameter `AdamW`,
//! held-out bits a byte, and the files of a Hugging Face model directory.
//!
//! The run is a pure function of recipe and corpus files, like a tuning run (see [`crate::train`]):
//! same bits for any thread count, and a resumed run ends where an undisturbed one does. In fast
//! arithmetic that holds on machines of one instruction set; in exact arithmetic on all of them.

mod corpus;
mod recipe;

use std::path::Path;

use openledger_model::template::{self, Template};
use openledger_model::{Arithmetic, Base, Exact, Example, Fast, Tokenizer, random_params};
use openledger_primitives::keccak256;
use openledger_store::write_atomic;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Identity;
use crate::gradients::{Packing, evaluate};
use crate::metrics::StepMetrics;
use crate::session::{Plan, Session};
use crate::subject::{Subject, Whole};
use crate::{Control, Ending, Error, Mode, chart};
use corpus::{Document, Windows};

pub use recipe::{PretrainRecipe, Shape, Source};

/// Held-out windows of each source used for the curve.
const CURVE_WINDOWS: usize = 6;

/// How well the finished model predicts the held-out part of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceScore {
    /// The source's name.
    pub source: String,
    /// Tokens of the source that can be trained on.
    pub train_tokens: u64,
    /// Held-out tokens evaluated.
    pub eval_tokens: u64,
    /// Bytes of text that these tokens stand for.
    pub eval_bytes: u64,
    /// Mean loss, nats a token.
    pub nats_per_token: f64,
    /// Bits a byte of text: comparable across tokenizers.
    pub bits_per_byte: f64,
}

/// The outcome of [`pretrain`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pretrained {
    /// How the run ended.
    pub ending: Ending,
    /// Steps done.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Values trained.
    pub parameters: u64,
    /// Loss of the first step, nats a token.
    pub loss_first: f64,
    /// Smoothed loss after the last step.
    pub loss_last: f64,
    /// Held-out scores by source.
    pub scores: Vec<SourceScore>,
}

/// Pre-trains a base model after `recipe` on the files under `corpora` and writes it into
/// `out_dir`: weights (bf16), tokenizer, template, configuration, `loss.csv`, `loss.svg` and
/// `evaluation.json`. Checkpoints and the full curve go to `run_dir`; the same call resumes there.
///
/// # Errors
/// [`Error::Recipe`] for settings out of range, [`Error::CorpusLine`] for rows that lack a column,
/// [`Error::OtherRun`] if `run_dir` belongs to another run, [`Error::Diverged`] if the loss is not
/// finite, and failures of files or of the model.
pub fn pretrain(
    recipe: &PretrainRecipe,
    corpora: &Path,
    run_dir: &Path,
    out_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<Pretrained, Error> {
    recipe.validate()?;
    for directory in [run_dir, out_dir] {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    }
    let documents = recipe
        .sources
        .iter()
        .map(|source| corpus::documents(source, corpora, recipe.piece_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let template = Template::leading_space();
    if !out_dir.join("tokenizer.json").exists() {
        let texts = sample(recipe, &documents, &template);
        let tokenizer = Tokenizer::train(texts.into_iter(), recipe.vocab)?;
        if tokenizer.len() != recipe.vocab {
            let expected = format!("the text yields only {} tokens", tokenizer.len());
            return Err(Error::recipe("vocab", recipe.vocab, expected));
        }
        tokenizer.save(out_dir)?;
    }
    write_atomic(&out_dir.join(template::FILE), &template.canonical_bytes())?;
    let tokenizer = Tokenizer::load(out_dir)?;
    let view = (&tokenizer, &template, recipe.model.context);
    let windows = cut(recipe, &documents, view);
    let documents = (windows.as_slice(), &tokenizer);
    match recipe.arithmetic {
        Mode::Exact => run::<Exact>(recipe, documents, run_dir, out_dir, progress),
        Mode::Fast => run::<Fast>(recipe, documents, run_dir, out_dir, progress),
    }
}

fn run<A: Arithmetic>(
    recipe: &PretrainRecipe,
    (windows, tokenizer): (&[Windows], &Tokenizer),
    run_dir: &Path,
    out_dir: &Path,
    progress: &mut dyn FnMut(&StepMetrics) -> Control,
) -> Result<Pretrained, Error> {
    let mut run = Run::<A>::start(recipe, windows, run_dir, out_dir)?;
    let ending = run.steps(progress)?;
    run.finish(ending, tokenizer, out_dir)
}

/// Scores the base in `base_dir`, whatever made it, on the text that `recipe` holds out of the files
/// under `corpora`: the same bytes for every base, each read with its own tokenizer, template and
/// context.
///
/// # Errors
/// As [`pretrain`] for the recipe and the files; failures of the model's files.
pub fn evaluate_base(
    recipe: &PretrainRecipe,
    corpora: &Path,
    base_dir: &Path,
) -> Result<Vec<SourceScore>, Error> {
    recipe.validate()?;
    let (base, tokenizer) = (Base::load(base_dir)?, Tokenizer::load(base_dir)?);
    let template = Template::load(base_dir)?.unwrap_or_else(|| Template::for_tokenizer(&tokenizer));
    let documents = recipe
        .sources
        .iter()
        .map(|source| corpus::documents(source, corpora, recipe.piece_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let windows = cut(
        recipe,
        &documents,
        (&tokenizer, &template, base.config.context),
    );
    scores(recipe, base, &tokenizer, &windows)
}

/// Every source's documents as windows of tokens.
fn cut(
    recipe: &PretrainRecipe,
    documents: &[Vec<Document>],
    view: (&Tokenizer, &Template, usize),
) -> Vec<Windows> {
    recipe
        .sources
        .iter()
        .zip(documents)
        .map(|(source, documents)| corpus::windows(recipe, source, documents, view))
        .collect()
}

/// Text for the tokenizer: documents of every source that are not held out, by weight, up to the
/// recipe's bytes.
fn sample(
    recipe: &PretrainRecipe,
    documents: &[Vec<Document>],
    template: &Template,
) -> Vec<String> {
    let total: f64 = recipe.sources.iter().map(|source| source.weight).sum();
    let mut texts = Vec::new();
    for (source, documents) in recipe.sources.iter().zip(documents) {
        let share = (recipe.tokenizer_bytes as f64 * source.weight / total) as usize;
        let mut order: Vec<usize> = (0..documents.len())
            .filter(|&index| !recipe.holds_out(source, index))
            .collect();
        crate::order::shuffle(&mut order, recipe.seed, u64::MAX);
        let mut taken = 0;
        for index in order {
            let mut text = documents[index].text(template);
            if taken + text.len() > share {
                let mut end = (share - taken).min(text.len());
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
            }
            taken += text.len();
            texts.push(text);
            if taken >= share {
                break;
            }
        }
    }
    texts
}

struct Run<'a, A: Arithmetic> {
    recipe: &'a PretrainRecipe,
    windows: &'a [Windows],
    batches: Vec<Vec<(usize, usize)>>,
    session: Session<'a, Whole<A>>,
}

impl<'a, A: Arithmetic> Run<'a, A> {
    fn start(
        recipe: &'a PretrainRecipe,
        windows: &'a [Windows],
        run_dir: &'a Path,
        out_dir: &Path,
    ) -> Result<Self, Error> {
        let batches = corpus::schedule(recipe, windows);
        let path = out_dir.join("tokenizer.json");
        let mut data = std::fs::read(&path).map_err(Error::io(&path))?;
        for (source, window) in batches.iter().flatten() {
            let tokens = &windows[*source].train[*window].tokens;
            data.extend_from_slice(openledger_primitives::records::digest_u32(tokens).as_slice());
        }
        let identity = Identity {
            recipe: recipe.digest(),
            data: keccak256(data),
            probe: 0,
        };
        let total = batches.len() as u64;
        let plan = Plan {
            schedule: recipe.schedule(total),
            epoch: total as f64,
            optimizer: recipe.optimizer,
            adamw: recipe.adamw,
            muon: recipe.muon,
            rows: batches.iter().map(Vec::len).max().unwrap_or(1),
            // Nobody asks for the gradient of one document, so a pack's rows are summed by the
            // products themselves, in either arithmetic.
            packing: Packing {
                exact: false,
                tokens: recipe.pack_tokens,
                checkpointing: false,
            },
            clip: recipe.clip,
            checkpoint_every: recipe.checkpoint_every,
            eval_every: recipe.eval_every,
            early_stopping: None,
        };
        let config = recipe.config();
        let subject = Whole::start(random_params(&config, recipe.seed), config)?;
        let session = Session::open(subject, plan, run_dir, identity, |_| Ok(None))?;
        Ok(Self {
            recipe,
            windows,
            batches,
            session,
        })
    }

    fn steps(
        &mut self,
        progress: &mut dyn FnMut(&StepMetrics) -> Control,
    ) -> Result<Ending, Error> {
        let (windows, batches) = (self.windows, &self.batches);
        let mut batch = |done: u64| {
            let rows = batches[done as usize].iter();
            rows.map(|&(source, window)| &windows[source].train[window])
                .collect()
        };
        let evaluate = |subject: &Whole<A>| evaluate_mix(subject, windows);
        self.session.steps(&mut batch, &evaluate, progress)
    }

    fn finish(
        mut self,
        ending: Ending,
        tokenizer: &Tokenizer,
        out_dir: &Path,
    ) -> Result<Pretrained, Error> {
        self.session.settle(ending)?;
        let (curve, state) = (self.session.curve(), &self.session.state);
        let base = &self.session.subject.base;
        let mut outcome = Pretrained {
            ending,
            steps: state.step,
            tokens: state.tokens,
            parameters: self.session.subject.parameters().len() as u64,
            loss_first: curve.first().map_or(0.0, |step| step.loss),
            loss_last: state.smoothed.unwrap_or_default(),
            scores: Vec::new(),
        };
        if ending == Ending::Paused {
            return Ok(outcome);
        }
        base.save(out_dir, openledger_model::Dtype::Bf16)?;
        // What is scored is what was written: the weights rounded to bf16, and in exact
        // arithmetic, so that the figures do not depend on the machine.
        outcome.scores = scores(self.recipe, Base::load(out_dir)?, tokenizer, self.windows)?;
        for (name, bytes) in [
            ("loss.csv", chart::csv(curve).into_bytes()),
            (
                "loss.svg",
                chart::loss_svg("Pre-training loss", curve).into_bytes(),
            ),
            ("evaluation.json", pretty(&outcome)),
        ] {
            write_atomic(&out_dir.join(name), &bytes)?;
        }
        Ok(outcome)
    }
}

/// Mean loss over a few held-out windows of every source.
fn evaluate_mix(subject: &impl Subject, windows: &[Windows]) -> Result<Option<f64>, Error> {
    let windows: Vec<&Example> = windows
        .iter()
        .flat_map(|source| source.eval.iter().take(CURVE_WINDOWS))
        .collect();
    let total = evaluate(&windows, |example, workspace| {
        subject.loss(example, workspace)
    })?;
    Ok((total.targets > 0).then(|| total.mean()))
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain values serialise");
    bytes.push(b'\n');
    bytes
}

/// Loss of all held-out windows, by source.
fn scores(
    recipe: &PretrainRecipe,
    base: Base,
    tokenizer: &Tokenizer,
    windows: &[Windows],
) -> Result<Vec<SourceScore>, Error> {
    let subject = Whole::new(base);
    let mut scores = Vec::new();
    for (source, windows) in recipe.sources.iter().zip(windows) {
        let held: Vec<&Example> = windows.eval.iter().collect();
        let total = evaluate(&held, |example, workspace| subject.loss(example, workspace))?;
        let bytes: usize = held
            .iter()
            .flat_map(|window| &window.tokens[window.loss_from..])
            .map(|&token| tokenizer.token_bytes(token).len())
            .sum();
        scores.push(SourceScore {
            source: source.name.clone(),
            train_tokens: windows
                .train
                .iter()
                .map(|window| window.tokens.len() as u64)
                .sum(),
            eval_tokens: total.targets,
            eval_bytes: bytes as u64,
            nats_per_token: total.mean(),
            bits_per_byte: total.nats / std::f64::consts::LN_2 / bytes.max(1) as f64,
        });
    }
    Ok(scores)
}
