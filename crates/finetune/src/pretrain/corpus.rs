//! The corpus of a pre-training run: documents by source, held-out documents, windows of tokens
//! and the order in which they are drawn.
//!
//! Windows never cross documents: each is one example of its own length, so no token attends to
//! another document and nothing is padded. A document longer than the context becomes several
//! windows that overlap by one token, so every token but the first is predicted exactly once.

use std::path::Path;

use openledger_model::template::Template;
use openledger_model::{Example, Tokenizer};
use openledger_primitives::keccak256;

use super::recipe::{PretrainRecipe, Source};
use crate::data::fill;
use crate::{Error, order};

/// One document as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Text(String),
    Answer { prompt: String, answer: String },
}

impl Document {
    /// The document as one string under `template`.
    pub(crate) fn text(&self, template: &Template) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Answer { prompt, answer } => {
                format!("{}{}{answer}", template.prompt(prompt), template.lead)
            }
        }
    }

    fn tokens(&self, tokenizer: &Tokenizer, template: &Template, ends: (u32, u32)) -> Vec<u32> {
        let mut tokens = vec![ends.0];
        match self {
            Self::Text(text) => tokens.extend(tokenizer.encode(text)),
            Self::Answer { prompt, answer } => {
                tokens.extend(tokenizer.encode(&template.prompt(prompt)));
                tokens.extend(template.answer_tokens(tokenizer, answer));
            }
        }
        tokens.push(ends.1);
        tokens
    }
}

/// Reads the documents of one source, in file order.
pub(crate) fn documents(source: &Source, corpora: &Path) -> Result<Vec<Document>, Error> {
    let path = corpora.join(&source.file);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    if path
        .extension()
        .is_none_or(|extension| extension != "jsonl")
    {
        return Ok(text
            .split("<|endoftext|>")
            .map(str::trim)
            .filter(|document| !document.is_empty())
            .map(|document| Document::Text(document.to_owned()))
            .collect());
    }
    let mut documents = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let fail = |reason: String| Error::CorpusLine {
            path: path.clone(),
            line: index + 1,
            reason,
        };
        let row: serde_json::Value =
            serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        let fill = |pattern: &str| fill(pattern, &row).map_err(&fail);
        documents.push(match (&source.text, &source.prompt, &source.answer) {
            (_, Some(prompt), Some(answer)) => Document::Answer {
                prompt: fill(prompt)?,
                answer: fill(answer)?,
            },
            (Some(text), ..) => Document::Text(fill(text)?),
            _ => return Err(fail("its source names neither `text` nor `prompt`".into())),
        });
    }
    Ok(documents)
}

/// One source as windows of tokens.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) train: Vec<Example>,
    pub(crate) eval: Vec<Example>,
}

/// Whether document `index` of source `name` is held out.
fn held_out(seed: u64, name: &str, index: usize, fraction: f64) -> bool {
    let mut key = seed.to_be_bytes().to_vec();
    key.extend_from_slice(&(index as u64).to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    let hash = keccak256(key);
    let draw = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(draw) < fraction * f64::from(u32::MAX)
}

/// Cuts the documents of one source. A source of few, long documents (books) holds out windows
/// instead of documents.
pub(crate) fn windows(
    recipe: &PretrainRecipe,
    name: &str,
    documents: &[Document],
    tokenizer: &Tokenizer,
    template: &Template,
) -> Windows {
    let context = recipe.model.context;
    let by_document = documents.len() as f64 * recipe.eval_fraction >= 8.0;
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    let mut number = 0;
    for (index, document) in documents.iter().enumerate() {
        let tokens = document.tokens(tokenizer, template, (0, 1));
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = tokens.len().min(start + context);
            let window = Example {
                tokens: tokens[start..end].to_vec(),
                loss_from: 1,
            };
            let unit = if by_document { index } else { number };
            if held_out(recipe.seed, name, unit, recipe.eval_fraction) {
                eval.push(window);
            } else {
                train.push(window);
            }
            number += 1;
            start = end - 1;
        }
    }
    Windows { train, eval }
}

/// The batches of a whole run as (source, window): the source that is furthest behind its share is
/// drawn from next, each source passes through its windows in a new seeded order every time.
pub(crate) fn schedule(recipe: &PretrainRecipe, sources: &[Windows]) -> Vec<Vec<(usize, usize)>> {
    struct Cursor {
        order: Vec<usize>,
        next: usize,
        pass: u64,
        drawn: f64,
    }
    let mut cursors: Vec<Cursor> = sources
        .iter()
        .map(|_| Cursor {
            order: Vec::new(),
            next: 0,
            pass: 0,
            drawn: 0.0,
        })
        .collect();
    let mut batches = Vec::new();
    let (mut batch, mut in_batch, mut total) = (Vec::new(), 0, 0);
    while total < recipe.tokens {
        let behind = |index: usize| cursors[index].drawn / recipe.sources[index].weight;
        let source = (0..sources.len())
            .filter(|&index| !sources[index].train.is_empty())
            .min_by(|&a, &b| behind(a).total_cmp(&behind(b)));
        let Some(source) = source else { break };
        let cursor = &mut cursors[source];
        if cursor.next == cursor.order.len() {
            cursor.order = (0..sources[source].train.len()).collect();
            let stream = (source as u64) << 32 | cursor.pass;
            order::shuffle(&mut cursor.order, recipe.seed, stream);
            cursor.next = 0;
            cursor.pass += 1;
        }
        let window = cursor.order[cursor.next];
        cursor.next += 1;
        let tokens = sources[source].train[window].tokens.len();
        cursor.drawn += tokens as f64;
        batch.push((source, window));
        in_batch += tokens;
        total += tokens as u64;
        if in_batch >= recipe.batch_tokens {
            batches.push(std::mem::take(&mut batch));
            in_batch = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_held_out_share_is_near_the_asked_one() {
        let count = (0..20_000)
            .filter(|&i| held_out(3, "eips", i, 0.02))
            .count();
        assert!((300..500).contains(&count), "{count}");
    }
}
