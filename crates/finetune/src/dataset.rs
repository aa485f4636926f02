//! Rows of a Datanet as training examples: template, tokens, truncation and the held-out split.

use std::collections::BTreeSet;

use openledger_model::template::{ChatTemplate, Role};
use openledger_model::{Config, Example, Tokenizer};
use openledger_primitives::{B256, keccak256, records};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What becomes of a row that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongRows {
    /// It is cut to one example: the answer loses its end, down to half the context, then the
    /// prompt its beginning. Cut rows are counted.
    #[default]
    Truncate,
    /// It becomes several examples, each a window of the context, so that every answer token (of
    /// plain text: every token but the first) is learned exactly once. A window begins with the
    /// last token of the one before it.
    Split,
}

/// One row, before it is tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its index among the accepted rows of a dataset version, in commit order, or in its file.
    pub id: u32,
    /// What it holds.
    pub content: Content,
}

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Plain text, learned from the second token on.
    Text(String),
    /// A question, and the answer that is learned.
    Answer {
        /// The question.
        prompt: String,
        /// The answer.
        answer: String,
    },
    /// Turns of a conversation; every turn of the assistant is learned after the turns before it.
    Conversation(Vec<Turn>),
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Row {
    /// A row of plain text, or of a question and its answer.
    pub fn new(id: u32, prompt: Option<String>, text: String) -> Self {
        let content = match prompt {
            None => Content::Text(text),
            Some(prompt) => Content::Answer {
                prompt,
                answer: text,
            },
        };
        Self { id, content }
    }
}

/// A row as tokens.
#[derive(Clone, Debug)]
pub struct RowExample {
    /// Index of the row among the accepted rows.
    pub row: u32,
    /// Its tokens; the loss counts from the first answer token (plain text: from the second
    /// token, since the first has nothing before it).
    pub example: Example,
    /// Whether the row was longer than the context and was cut.
    pub truncated: bool,
}

/// All accepted rows as examples, split into rows to train on and rows held out.
///
/// Every accepted row has an example, the held-out ones too: attribution scores the former as
/// candidates and the latter as decoys that cannot have influenced the model.
#[derive(Clone, Debug)]
pub struct Dataset {
    examples: Vec<RowExample>,
    train: Vec<usize>,
    eval: Vec<usize>,
    context: usize,
}

impl Dataset {
    /// Renders and tokenizes `rows` for `base`: one example a row, or one for every answer of a
    /// conversation. A row longer than `context` tokens (0 = the base's
    /// context) keeps its beginning: its answer is cut first, down to half the context, then the
    /// prompt loses tokens at its front.
    ///
    /// All rows are for training until [`Dataset::split`] holds some out.
    ///
    /// # Errors
    /// [`Error::NoRows`] without rows, [`Error::EmptyRow`] for a row without a target token,
    /// [`Error::Template`] for one that the model's chat template refuses.
    pub fn from_rows(
        rows: &[Row],
        tokenizer: &Tokenizer,
        base: &Config,
        context: usize,
        template: impl Into<ChatTemplate>,
    ) -> Result<Self, Error> {
        Self::with_long_rows(rows, tokenizer, base, context, template, LongRows::Truncate)
    }

    /// As [`Dataset::from_rows`], with a choice of what becomes of rows longer than the context.
    ///
    /// # Errors
    /// As [`Dataset::from_rows`].
    pub fn with_long_rows(
        rows: &[Row],
        tokenizer: &Tokenizer,
        base: &Config,
        context: usize,
        template: impl Into<ChatTemplate>,
        long_rows: LongRows,
    ) -> Result<Self, Error> {
        let template = template.into();
        let context = if context == 0 {
            base.context
        } else {
            context.min(base.context)
        };
        let mut examples = Vec::with_capacity(rows.len());
        for row in rows {
            for tokens in Tokens::of(row, tokenizer, base, &template)? {
                match long_rows {
                    LongRows::Truncate => examples.push(tokens.truncated(row.id, context)?),
                    LongRows::Split => examples.extend(tokens.windows(row.id, context)?),
                }
            }
        }
        if examples.is_empty() {
            return Err(Error::NoRows { rows: 0, eval: 0 });
        }
        Ok(Self {
            train: (0..examples.len()).collect(),
            eval: Vec::new(),
            examples,
            context,
        })
    }

    /// Holds out `fraction` of the rows, at least one when the fraction is above zero and there
    /// are two rows or more: those with the smallest `keccak256(seed ‖ row)`. The choice of a row
    /// depends on its index alone, so it cannot be steered by its text; the windows of a split row
    /// stay together.
    ///
    /// # Errors
    /// [`Error::NoRows`] if no row is left to train on.
    pub fn split(mut self, fraction: f64, seed: u64) -> Result<Self, Error> {
        let ids: BTreeSet<u32> = self.examples.iter().map(|example| example.row).collect();
        let rows = ids.len();
        let mut count = (fraction * rows as f64).round() as usize;
        if fraction > 0.0 && rows > 1 {
            count = count.max(1);
        }
        if count >= rows {
            return Err(Error::NoRows { rows, eval: count });
        }
        let mut ranked: Vec<(B256, u32)> = ids
            .into_iter()
            .map(|row| {
                let mut key = [0u8; 12];
                key[..8].copy_from_slice(&seed.to_be_bytes());
                key[8..].copy_from_slice(&row.to_be_bytes());
                (keccak256(key), row)
            })
            .collect();
        ranked.sort_unstable();
        let held_out: BTreeSet<u32> = ranked[..count].iter().map(|(_, row)| *row).collect();
        (self.eval, self.train) =
            (0..self.examples.len()).partition(|&i| held_out.contains(&self.examples[i].row));
        Ok(self)
    }

    /// Every accepted row, in the order given.
    pub fn examples(&self) -> &[RowExample] {
        &self.examples
    }

    /// Rows to train on.
    pub fn train(&self) -> impl ExactSizeIterator<Item = &RowExample> {
        self.train.iter().map(|&index| &self.examples[index])
    }

    /// Rows held out.
    pub fn eval(&self) -> impl ExactSizeIterator<Item = &RowExample> {
        self.eval.iter().map(|&index| &self.examples[index])
    }

    /// Number of rows to train on.
    pub fn len(&self) -> usize {
        self.train.len()
    }

    /// Whether there is no row to train on.
    pub fn is_empty(&self) -> bool {
        self.train.is_empty()
    }

    /// The `index`-th row to train on.
    pub(crate) fn training(&self, index: usize) -> &Example {
        &self.examples[self.train[index]].example
    }

    /// Tokens of the rows to train on.
    pub fn tokens(&self) -> u64 {
        self.train()
            .map(|row| row.example.tokens.len() as u64)
            .sum()
    }

    /// Rows that lost tokens because they were longer than the context.
    pub fn truncated(&self) -> usize {
        self.examples.iter().filter(|row| row.truncated).count()
    }

    /// Tokens a row may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Digest of what is trained on and what is held out: keccak256 over, for every row in order,
    /// row index, 1 if held out else 0, first target and token count as u32 little-endian, then
    /// the digest of its tokens (docs/protocol/training.md).
    pub fn digest(&self) -> B256 {
        let mut bytes = b"openledger dataset 1\n".to_vec();
        let mut held_out = vec![0u32; self.examples.len()];
        for &index in &self.eval {
            held_out[index] = 1;
        }
        for (row, held_out) in self.examples.iter().zip(held_out) {
            for number in [
                row.row,
                held_out,
                row.example.loss_from as u32,
                row.example.tokens.len() as u32,
            ] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(records::digest_u32(&row.example.tokens).as_slice());
        }
        keccak256(bytes)
    }
}

/// One example as tokens: `[bos] prompt answer [end]`, prompt and answer tokenized apart.
struct Tokens {
    head: Vec<u32>,
    body: Vec<u32>,
    /// Tokens of the head that stay whatever is cut: the beginning-of-text token.
    kept: usize,
}

impl Tokens {
    /// One example of a row, or one for every answer of a conversation.
    fn of(
        row: &Row,
        tokenizer: &Tokenizer,
        base: &Config,
        template: &ChatTemplate,
    ) -> Result<Vec<Self>, Error> {
        let asked = |turns: &[(Role, &str)], answer: &str| {
            let refused = Error::template(row.id);
            let head = template.prompt(tokenizer, base, turns).map_err(&refused)?;
            let body = template.answer(tokenizer, base, turns, answer);
            Ok(Self {
                kept: usize::from(base.bos.is_some() && head.first().copied() == base.bos),
                head,
                body: body.map_err(&refused)?,
            })
        };
        match &row.content {
            Content::Text(text) => {
                let mut body = tokenizer.encode(text);
                body.extend(base.eos.first());
                let head: Vec<u32> = base.bos.into_iter().collect();
                let kept = head.len();
                Ok(vec![Self { head, body, kept }])
            }
            Content::Answer { prompt, answer } => Ok(vec![asked(&[(Role::User, prompt)], answer)?]),
            Content::Conversation(turns) => {
                let all: Vec<(Role, &str)> = turns
                    .iter()
                    .map(|turn| (turn.role, turn.content.as_str()))
                    .collect();
                all.iter()
                    .enumerate()
                    .filter(|(_, (role, _))| *role == Role::Assistant)
                    .map(|(index, (_, answer))| asked(&all[..index], answer))
                    .collect()
            }
        }
    }

    fn truncated(self, row: u32, context: usize) -> Result<RowExample, Error> {
        let Self {
            mut head,
            mut body,
            kept,
        } = self;
        let full = head.len() + body.len();
        if full > context {
            let for_body = context.saturating_sub(head.len()).max(context / 2);
            body.truncate(for_body);
            let surplus = (head.len() + body.len()).saturating_sub(context);
            head.drain(kept..(kept + surplus).min(head.len()));
        }
        // Position 0 has nothing before it to be predicted from.
        let loss_from = head.len().max(1);
        let mut tokens = head;
        tokens.extend(body);
        tokens.truncate(context);
        if loss_from >= tokens.len() {
            return Err(Error::EmptyRow { row });
        }
        Ok(RowExample {
            row,
            truncated: full > context,
            example: Example { tokens, loss_from },
        })
    }

    fn windows(self, row: u32, context: usize) -> Result<Vec<RowExample>, Error> {
        let mut first_target = self.head.len().max(1);
        let mut tokens = self.head;
        tokens.extend(self.body);
        if first_target >= tokens.len() {
            return Err(Error::EmptyRow { row });
        }
        // A prompt that leaves no room for an answer gives up its beginning, as when truncating.
        let room = context / 2;
        let truncated = tokens.len() > context && first_target > room.max(self.kept);
        if truncated {
            let surplus = first_target - room.max(self.kept);
            tokens.drain(self.kept..self.kept + surplus);
            first_target -= surplus;
        }
        let mut windows = Vec::new();
        let mut start = 0;
        loop {
            let end = tokens.len().min(start + context);
            windows.push(RowExample {
                row,
                truncated: truncated && windows.is_empty(),
                example: Example {
                    tokens: tokens[start..end].to_vec(),
                    loss_from: first_target.saturating_sub(start).max(1),
                },
            });
            if end == tokens.len() {
                return Ok(windows);
            }
            start = end - 1;
        }
    }
}
