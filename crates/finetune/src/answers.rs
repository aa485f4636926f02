//! Answers of a model to questions it was not tuned on, scored against what was expected, and the
//! baseline that a tuned model has to be compared with: looking up the most similar question.

use std::collections::{BTreeMap, HashMap};

use openledger_model::{Adapter, Arithmetic, Base, KvCache, Lane, Workspace, step, top};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Questions answered in one batch.
const LANES: usize = 32;

/// How close answers come to the expected ones, as means over the questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Questions scored.
    pub questions: u64,
    /// Share of answers equal to the expected one, runs of white space counted as one space.
    pub exact: f64,
    /// Share of answers that begin with the same word, `sudo` left out: for commands, the program.
    pub program: f64,
    /// `1 - distance / longer length`, with Levenshtein's distance over characters.
    pub similarity: f64,
}

impl Scores {
    /// Scores pairs of (answer, expected answer).
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sum = Self::default();
        for (answer, expected) in pairs {
            let (answer, expected) = (words(answer), words(expected));
            sum.questions += 1;
            sum.exact += f64::from(answer == expected);
            sum.program += f64::from(program(&answer) == program(&expected));
            sum.similarity += similarity(&answer.join(" "), &expected.join(" "));
        }
        let count = sum.questions.max(1) as f64;
        Self {
            questions: sum.questions,
            exact: sum.exact / count,
            program: sum.program / count,
            similarity: sum.similarity / count,
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn program<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().find(|word| **word != "sudo").copied()
}

/// One minus the share of the longer text that has to be changed.
fn similarity(one: &str, other: &str) -> f64 {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let longer = one.len().max(other.len());
    if longer == 0 {
        return 1.0;
    }
    // Row by row of the table of prefixes (Wagner & Fischer 1974).
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    1.0 - row[other.len()] as f64 / longer as f64
}

/// Greedy answers of at most `limit` tokens to `prompts` (tokens, the beginning-of-text token
/// included), without the end-of-text token.
///
/// # Errors
/// Failures of the model, such as a prompt longer than the context.
pub fn greedy<A: Arithmetic>(
    base: &Base<A>,
    adapter: Option<&Adapter>,
    prompts: &[Vec<u32>],
    limit: usize,
) -> Result<Vec<Vec<u32>>, Error> {
    let context = base.config.context;
    let mut workspace = Workspace::default();
    let mut answers = vec![Vec::new(); prompts.len()];
    for (batch, out) in prompts.chunks(LANES).zip(answers.chunks_mut(LANES)) {
        let mut caches: Vec<_> = batch
            .iter()
            .map(|_| KvCache::new(&base.config, context))
            .collect();
        let mut next: Vec<Option<Vec<u32>>> = batch.iter().cloned().map(Some).collect();
        while next.iter().any(Option::is_some) {
            let mut lanes: Vec<Lane<'_, A>> = next
                .iter()
                .zip(&mut caches)
                .filter_map(|(tokens, cache)| {
                    Some(Lane {
                        tokens: tokens.as_deref()?,
                        cache,
                        adapter,
                        all_logits: false,
                    })
                })
                .collect();
            let mut outputs = step(base, &mut lanes, &mut workspace)?.into_iter();
            for ((next, out), prompt) in next.iter_mut().zip(&mut *out).zip(batch) {
                let Some(logits) = next.as_ref().and_then(|_| outputs.next()) else {
                    continue;
                };
                let best = top(&logits.logits, 1)[0].0;
                let ended = base.config.eos.contains(&best);
                if !ended {
                    out.push(best);
                }
                let full = out.len() == limit || prompt.len() + out.len() == context;
                *next = (!ended && !full).then(|| vec![best]);
            }
        }
    }
    Ok(answers)
}

/// Finds the question most like another one: cosine of term-frequency vectors weighted by inverse
/// document frequency, over lower-case words.
#[derive(Debug)]
pub struct Nearest {
    /// Questions that hold a word, each with the word's share of the question's unit vector.
    postings: HashMap<String, Vec<(usize, f64)>>,
    questions: usize,
}

impl Nearest {
    /// An index of `questions`.
    pub fn new<'a>(questions: impl IntoIterator<Item = &'a str>) -> Self {
        let counted: Vec<_> = questions.into_iter().map(counts).collect();
        let mut index = Self {
            postings: HashMap::new(),
            questions: counted.len(),
        };
        for word in counted.iter().flat_map(BTreeMap::keys) {
            index
                .postings
                .entry(word.clone())
                .or_default()
                .push((0, 0.0));
        }
        // With the number of holders known, every weight is too.
        let weighted: Vec<_> = counted
            .into_iter()
            .map(|counts| index.unit(counts))
            .collect();
        index.postings.clear();
        for (question, words) in weighted.into_iter().enumerate() {
            for (word, weight) in words {
                index
                    .postings
                    .entry(word)
                    .or_default()
                    .push((question, weight));
            }
        }
        index
    }

    /// Number of the question most like `question`, the first of equals; `None` when no word is
    /// shared.
    pub fn find(&self, question: &str) -> Option<usize> {
        let mut cosines = vec![0.0; self.questions];
        for (word, weight) in self.unit(counts(question)) {
            for (holder, other) in self.postings.get(&word).into_iter().flatten() {
                cosines[*holder] += weight * other;
            }
        }
        let mut best = None;
        let mut highest = 0.0;
        for (index, cosine) in cosines.into_iter().enumerate() {
            if cosine > highest {
                (best, highest) = (Some(index), cosine);
            }
        }
        best
    }

    /// The unit vector of a question, by word.
    fn unit(&self, counts: BTreeMap<String, f64>) -> Vec<(String, f64)> {
        let weight = |(word, count): (String, f64)| {
            let holders = self.postings.get(&word).map_or(0, Vec::len);
            let rarity = ((1 + self.questions) as f64 / (1 + holders) as f64).ln() + 1.0;
            (word, count * rarity)
        };
        let mut weights: Vec<_> = counts.into_iter().map(weight).collect();
        let norm = weights.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
        for (_, weight) in &mut weights {
            *weight /= norm;
        }
        weights
    }
}

/// How often each word occurs, in a fixed order so that sums of weights have fixed bits.
fn counts(text: &str) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            *counts.entry(word.to_lowercase()).or_default() += 1.0;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_scored_by_words_program_and_distance() {
        let scores = Scores::of([
            ("tar  -xf <file> ", "tar -xf <file>"),
            ("sudo tar -c", "tar -xf"),
            ("", "ls"),
            ("abc", "axc"),
        ]);
        assert_eq!(scores.questions, 4);
        assert!((scores.exact - 0.25).abs() < 1e-12);
        assert!((scores.program - 0.5).abs() < 1e-12);
        // 1, then 7 changes in 11 characters, then everything, then one of three.
        let expected = (1.0 + 4.0 / 11.0 + 0.0 + 2.0 / 3.0) / 4.0;
        assert!((scores.similarity - expected).abs() < 1e-12, "{scores:?}");
    }

    #[test]
    fn the_nearest_question_shares_the_rarest_words() {
        let index = Nearest::new(["List all files", "List all users", "Delete all files"]);
        assert_eq!(index.find("show the users"), Some(1));
        assert_eq!(index.find("List files"), Some(0));
        assert_eq!(index.find("delete!"), Some(2));
        assert_eq!(index.find("nothing alike"), None);
    }

    #[test]
    fn an_answer_does_not_depend_on_its_batch() {
        let base = Base::random(crate::testing::config(), 5);
        let prompts: Vec<Vec<u32>> = (0..40).map(|n| vec![0, 2 + n % 7, 3 + n % 5]).collect();
        let together = greedy(&base, None, &prompts, 6);
        let together = together.expect("the prompts fit");
        for (prompt, answer) in prompts.iter().zip(&together) {
            let alone = greedy(&base, None, std::slice::from_ref(prompt), 6);
            let alone = alone.expect("the prompt fits");
            assert_eq!(alone, std::slice::from_ref(answer));
            assert!(answer.len() <= 6);
        }
    }
}
