//! Rows of a Datanet as training examples: template, tokens, truncation and the held-out split.

use openledger_model::template::Template;
use openledger_model::{Config, Example, Tokenizer};
use openledger_primitives::{B256, keccak256, records};

use crate::Error;

/// One accepted row of a dataset version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index among the accepted rows, in commit order.
    pub id: u32,
    /// The question, or `None` for plain text.
    pub prompt: Option<String>,
    /// The answer, or the text itself.
    pub text: String,
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
    /// Renders and tokenizes `rows` for `base`. A row longer than `context` tokens (0 = the base's
    /// context) keeps its beginning: its answer is cut first, down to half the context, then the
    /// prompt loses tokens at its front.
    ///
    /// All rows are for training until [`Dataset::split`] holds some out.
    ///
    /// # Errors
    /// [`Error::NoRows`] without rows, [`Error::EmptyRow`] for a row without a target token.
    pub fn from_rows(
        rows: &[Row],
        tokenizer: &Tokenizer,
        base: &Config,
        context: usize,
        template: &Template,
    ) -> Result<Self, Error> {
        let context = if context == 0 {
            base.context
        } else {
            context.min(base.context)
        };
        let examples = rows
            .iter()
            .map(|row| example(row, tokenizer, base, context, template))
            .collect::<Result<Vec<_>, _>>()?;
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
    /// depends on its index alone, so it cannot be steered by its text.
    ///
    /// # Errors
    /// [`Error::NoRows`] if no row is left to train on.
    pub fn split(mut self, fraction: f64, seed: u64) -> Result<Self, Error> {
        let rows = self.examples.len();
        let mut count = (fraction * rows as f64).round() as usize;
        if fraction > 0.0 && rows > 1 {
            count = count.max(1);
        }
        if count >= rows {
            return Err(Error::NoRows { rows, eval: count });
        }
        let mut ranked: Vec<(B256, usize)> = self
            .examples
            .iter()
            .enumerate()
            .map(|(index, example)| {
                let mut key = [0u8; 12];
                key[..8].copy_from_slice(&seed.to_be_bytes());
                key[8..].copy_from_slice(&example.row.to_be_bytes());
                (keccak256(key), index)
            })
            .collect();
        ranked.sort_unstable();
        self.eval = ranked[..count].iter().map(|(_, index)| *index).collect();
        self.train = ranked[count..].iter().map(|(_, index)| *index).collect();
        self.eval.sort_unstable();
        self.train.sort_unstable();
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

    /// Rows that were cut to the context.
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

/// One row as tokens: `[bos] prompt lead+answer [eos]`, prompt and answer tokenized apart.
fn example(
    row: &Row,
    tokenizer: &Tokenizer,
    base: &Config,
    context: usize,
    template: &Template,
) -> Result<RowExample, Error> {
    let mut head: Vec<u32> = base.bos.into_iter().collect();
    let kept = head.len();
    let mut body = match &row.prompt {
        Some(prompt) => {
            head.extend(tokenizer.encode(&template.prompt(prompt)));
            template.answer_tokens(tokenizer, &row.text)
        }
        None => tokenizer.encode(&row.text),
    };
    body.extend(base.eos.first());
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
        return Err(Error::EmptyRow { row: row.id });
    }
    Ok(RowExample {
        row: row.id,
        truncated: full > context,
        example: Example { tokens, loss_from },
    })
}
