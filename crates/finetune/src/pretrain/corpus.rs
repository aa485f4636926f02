//! The corpus of a pre-training run: documents by source, held-out documents, windows of tokens
//! and the order in which they are drawn.
//!
//! Windows never cross documents: each is one example of its own length, so no token attends to
//! another document and nothing is padded. A document longer than the context becomes several
//! windows that overlap by one token, so every token but the first is predicted exactly once.
//!
//! The hard decision: **what is held out is text, not tokens.** A document is held out by its file
//! and number alone, before any tokenizer sees it, so two bases with other vocabularies and
//! contexts are scored on the same bytes, and a file that feeds two sources (as text and as
//! questions) holds out the same rows in both.

use std::path::{Path, PathBuf};

use openledger_model::template::Template;
use openledger_model::{Example, Tokenizer};
use openledger_primitives::keccak256;
use rayon::prelude::*;
use serde_json::Value;

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

/// Reads the documents of one source, in the order of its file, or of the paths of its folder.
pub(crate) fn documents(
    source: &Source,
    corpora: &Path,
    piece_bytes: usize,
) -> Result<Vec<Document>, Error> {
    let root = corpora.join(&source.file);
    let mut bytes = Vec::new();
    let mut documents = Vec::new();
    for path in files(&root)? {
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        bytes.extend_from_slice(text.as_bytes());
        let rows = match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => text.lines().map(serde_json::from_str).collect(),
            Some("md") => sections(&text).into_iter().map(Ok).collect(),
            _ => {
                let parts = text
                    .split("<|endoftext|>")
                    .flat_map(|part| pieces(part, piece_bytes));
                documents.extend(parts.map(|part| Document::Text(part.to_owned())));
                continue;
            }
        };
        add_rows(source, &path, rows, &mut documents)?;
    }
    let found = keccak256(bytes);
    match source.digest {
        Some(expected) if expected != found => Err(Error::Corpus {
            path: root,
            expected,
            found,
        }),
        _ => Ok(documents),
    }
}

/// The file itself, or every Markdown file below a folder, by path.
fn files(root: &Path) -> Result<Vec<PathBuf>, Error> {
    if !root.is_dir() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
        let path = entry.map_err(Error::io(root))?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    let below = found.iter().map(|path| files(path));
    Ok(below.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Fills the source's patterns with every row of one file.
fn add_rows(
    source: &Source,
    path: &Path,
    rows: Vec<Result<Value, serde_json::Error>>,
    documents: &mut Vec<Document>,
) -> Result<(), Error> {
    for (index, row) in rows.into_iter().enumerate() {
        let fail = |reason: String| Error::CorpusLine {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        let row = row.map_err(|error| fail(error.to_string()))?;
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
    Ok(())
}

/// A Markdown text as rows of `title` (its first heading), `section` (the heading above the text)
/// and `text`. Lines that begin with `#` inside a code block are text.
fn sections(markdown: &str) -> Vec<Value> {
    let mut parts: Vec<(String, String)> = vec![(String::new(), String::new())];
    let mut code = false;
    for line in markdown.lines() {
        code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if !code && heading.len() < line.len() && heading.starts_with(' ') {
            parts.push((heading.trim().to_owned(), String::new()));
        } else if let Some((_, text)) = parts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    let title = parts
        .get(1)
        .map(|(title, _)| title.clone())
        .unwrap_or_default();
    parts
        .iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(section, text)| {
            serde_json::json!({"title": title, "section": section, "text": text.trim()})
        })
        .collect()
}

/// Cuts a long text into pieces of at most `bytes`, each ending where a paragraph does, or failing
/// that a line or a word.
fn pieces(text: &str, bytes: usize) -> Vec<&str> {
    let mut rest = text.trim();
    let mut pieces = Vec::new();
    while rest.len() > bytes {
        let limit = rest.floor_char_boundary(bytes);
        let end = ["\n\n", "\n", " "]
            .iter()
            .find_map(|mark| rest[..limit].rfind(mark).filter(|&end| end > 0))
            .unwrap_or(limit);
        pieces.push(rest[..end].trim_end());
        rest = rest[end..].trim_start();
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// One source as windows of tokens.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) train: Vec<Example>,
    pub(crate) eval: Vec<Example>,
}

/// Whether document `index` of the file called `name` is held out.
fn held_out(seed: u64, name: &str, index: usize, fraction: f64) -> bool {
    let mut key = seed.to_be_bytes().to_vec();
    key.extend_from_slice(&(index as u64).to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    let hash = keccak256(key);
    let draw = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(draw) < fraction * f64::from(u32::MAX)
}

impl PretrainRecipe {
    /// Whether row or document `index` (from 0, in file order) of `source` is held out from
    /// pre-training: tuning and evaluation that use the same rows can keep to the split.
    pub fn holds_out(&self, source: &Source, index: usize) -> bool {
        let name = source
            .file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let fraction = source.eval_fraction.unwrap_or(self.eval_fraction);
        held_out(self.seed, &name, index, fraction)
    }
}

/// Cuts the documents of one source into windows of at most `context` tokens.
pub(crate) fn windows(
    recipe: &PretrainRecipe,
    source: &Source,
    documents: &[Document],
    (tokenizer, template, context): (&Tokenizer, &Template, usize),
) -> Windows {
    let tokenized: Vec<Vec<u32>> = documents
        .par_iter()
        .map(|document| document.tokens(tokenizer, template, (0, 1)))
        .collect();
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    for (index, tokens) in tokenized.iter().enumerate() {
        let windows = if recipe.holds_out(source, index) {
            &mut eval
        } else {
            &mut train
        };
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = tokens.len().min(start + context);
            windows.push(Example {
                tokens: tokens[start..end].to_vec(),
                loss_from: 1,
            });
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
    fn a_text_is_cut_at_paragraphs_and_nothing_is_lost() {
        let text = "one two\n\nthree four five\nsix\n\nsevenéeight";
        let cut = pieces(text, 16);
        assert_eq!(cut, ["one two", "three four five", "six", "sevenéeight"]);
        assert!(cut.iter().all(|piece| piece.len() <= 16));
        assert_eq!(pieces("ééééé", 3), ["é"; 5]);
        assert!(pieces(" \n ", 3).is_empty());
    }

    #[test]
    fn markdown_is_cut_at_headings_outside_code() {
        let rows = sections("# Book\nintro\n## Use\n```sh\n# a comment\nrun\n```\n## Empty\n\n");
        let row = |section: &str, text: &str| serde_json::json!({"title": "Book", "section": section, "text": text});
        assert_eq!(
            rows,
            [
                row("Book", "intro"),
                row("Use", "```sh\n# a comment\nrun\n```")
            ]
        );
    }

    #[test]
    fn the_held_out_share_is_near_the_asked_one() {
        let count = (0..20_000)
            .filter(|&i| held_out(3, "eips", i, 0.02))
            .count();
        assert!((300..500).contains(&count), "{count}");
    }
}
