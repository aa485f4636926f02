//! From lines to verdicts.
//!
//! Everything that looks at one line alone runs on all cores; what compares rows runs in line
//! order. So the verdicts do not depend on the number of threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use openledger_primitives::records::ReasonCount;
use openledger_primitives::{B256, merkle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::canonical::canonical;
use crate::duplicate::{Layers, Rows};
use crate::features::Features;
use crate::policy::Policy;
use crate::reader::{Columns, Line, Lines, Mapping, Refused, columns};
use crate::reason::{Evidence, Reason, Rejection};
use crate::{Error, quality, sensitive};

/// Stands between prompt and answer in a row's content; canonical text never holds it.
pub(crate) const JOIN: char = '\u{1f}';

/// Lines that are examined together; bounds memory and paces progress reports.
const BATCH_LINES: usize = 1_024;

/// Bytes of lines that are examined together.
const BATCH_BYTES: usize = 8 << 20;

/// A row of the Datanet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Index among the accepted rows of the Datanet, in commit order.
    pub row: u32,
    /// Line it came from, from 1.
    pub line: u64,
    /// Contributor's name.
    pub contributor: String,
    /// Canonical prompt, if the row is a prompt with its answer.
    pub prompt: Option<String>,
    /// Canonical answer, or the plain text.
    pub text: String,
    /// Field of knowledge, where the line gives one.
    pub label: Option<String>,
}

impl Row {
    /// The bytes that the contributor signs: the text, after the prompt and U+001F if there is one.
    pub fn content(&self) -> Vec<u8> {
        join(self.prompt.as_deref(), &self.text).into_bytes()
    }

    /// Merkle root over 1 KiB chunks of [`content`](Self::content).
    pub fn content_root(&self) -> B256 {
        merkle::chunk_root(&self.content())
    }
}

fn join(prompt: Option<&str>, text: &str) -> String {
    match prompt {
        Some(prompt) => format!("{prompt}{JOIN}{text}"),
        None => text.to_owned(),
    }
}

/// The verdict on every line of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingest {
    /// Index of the first accepted row: how many the Datanet had before.
    pub first_row: u32,
    /// Accepted rows, in line order.
    pub accepted: Vec<Row>,
    /// Lines turned away, in line order.
    pub rejected: Vec<Rejection>,
    /// Lines read.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Ingest {
    /// How many lines each reason turned away.
    pub fn counts(&self) -> BTreeMap<Reason, u64> {
        let mut counts = BTreeMap::new();
        for rejection in &self.rejected {
            *counts.entry(rejection.reason).or_default() += 1;
        }
        counts
    }

    /// The same as it stands in a dataset version: by reason code, in code order.
    pub fn reason_counts(&self) -> Vec<ReasonCount> {
        let mut counts: Vec<ReasonCount> = self
            .counts()
            .into_iter()
            .map(|(reason, count)| ReasonCount {
                reason: reason.code().into(),
                count,
            })
            .collect();
        counts.sort_by(|a, b| a.reason.cmp(&b.reason));
        counts
    }

    /// Contributors of accepted rows, each once, in name order.
    pub fn contributors(&self) -> Vec<&str> {
        let names: std::collections::BTreeSet<&str> = self
            .accepted
            .iter()
            .map(|row| row.contributor.as_str())
            .collect();
        names.into_iter().collect()
    }
}

/// How far an ingest has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lines judged.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Rows accepted so far.
    pub accepted: u64,
    /// Lines turned away so far.
    pub rejected: u64,
}

/// Judges all lines of `reader` for a new, empty Datanet.
///
/// # Errors
/// The mapping cannot work, or reading fails. A bad line is a [`Rejection`], never an error.
pub fn ingest(
    reader: impl BufRead,
    mapping: &Mapping,
    policy: &Policy,
    progress: &mut dyn FnMut(Progress),
) -> Result<Ingest, Error> {
    Ledger::new(policy.clone()).preview(reader, mapping, progress)
}

/// [`ingest`] of a file.
///
/// # Errors
/// The file cannot be opened or read, or the mapping cannot work.
pub fn ingest_file(
    path: &Path,
    mapping: &Mapping,
    policy: &Policy,
    progress: &mut dyn FnMut(Progress),
) -> Result<Ingest, Error> {
    let file = File::open(path).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })?;
    ingest(BufReader::new(file), mapping, policy, progress)
}

/// The accepted rows of a Datanet, as far as judging new ones needs them.
///
/// [`preview`](Self::preview) gives verdicts and changes nothing; [`commit`](Self::commit) makes
/// the accepted rows part of the ledger. Previewing and committing in parts gives the same rows as
/// one ingest of everything.
#[derive(Clone, Debug)]
pub struct Ledger {
    policy: Policy,
    rows: Rows,
}

impl Ledger {
    /// A ledger without rows.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            rows: Rows::default(),
        }
    }

    /// A ledger of rows that were accepted before, in their order; they are not judged again.
    ///
    /// # Errors
    /// The rows' indexes are not 0, 1, 2 and so on.
    pub fn restore(policy: Policy, rows: &[Row]) -> Result<Self, Error> {
        let mut ledger = Self::new(policy);
        ledger.append(rows)?;
        Ok(ledger)
    }

    /// Rows in the ledger.
    pub fn len(&self) -> u32 {
        self.rows.next()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The policy that verdicts follow.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The verdicts on all lines of `reader`, against the ledger's rows and each other.
    ///
    /// # Errors
    /// The mapping cannot work, reading fails, or the Datanet would pass 2^32 - 1 rows.
    pub fn preview(
        &self,
        reader: impl BufRead,
        mapping: &Mapping,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Ingest, Error> {
        mapping.check()?;
        let mut lines = Lines::new(reader, self.policy.max_line_bytes);
        let mut fresh = Rows::starting_at(self.len());
        let mut ingest = Ingest {
            first_row: self.len(),
            accepted: Vec::new(),
            rejected: Vec::new(),
            lines: 0,
            bytes: 0,
        };
        loop {
            let batch = next_batch(&mut lines, mapping, ingest.lines)?;
            if batch.is_empty() {
                return Ok(ingest);
            }
            let examined: Vec<Result<Candidate, Refused>> = batch
                .par_iter()
                .map(|line| examine(line, mapping, &self.policy))
                .collect();
            for (line, examined) in batch.iter().zip(examined) {
                self.settle(line.number, examined, &mut fresh, &mut ingest)?;
            }
            ingest.lines += batch.len() as u64;
            ingest.bytes = lines.consumed;
            progress(Progress {
                lines: ingest.lines,
                bytes: ingest.bytes,
                accepted: ingest.accepted.len() as u64,
                rejected: ingest.rejected.len() as u64,
            });
        }
    }

    /// Takes in the accepted rows of a preview.
    ///
    /// # Errors
    /// The ledger has changed since that preview.
    pub fn commit(&mut self, ingest: &Ingest) -> Result<(), Error> {
        if ingest.first_row != self.len() {
            return Err(Error::Stale {
                expected: ingest.first_row,
                found: self.len(),
            });
        }
        self.append(&ingest.accepted)
    }

    fn append(&mut self, rows: &[Row]) -> Result<(), Error> {
        for (row, expected) in rows.iter().zip(self.len()..) {
            if row.row != expected {
                return Err(Error::Stale {
                    expected: row.row,
                    found: expected,
                });
            }
        }
        let features: Vec<Features> = rows
            .par_iter()
            .map(|row| Features::of(&join(row.prompt.as_deref(), &row.text), &self.policy))
            .collect();
        for features in features {
            self.rows.add(features, &self.policy);
        }
        Ok(())
    }

    /// Compares one examined line with the rows before it and files its verdict.
    fn settle(
        &self,
        line: u64,
        examined: Result<Candidate, Refused>,
        fresh: &mut Rows,
        ingest: &mut Ingest,
    ) -> Result<(), Error> {
        let verdict = examined.and_then(|candidate| {
            let layers = Layers {
                base: &self.rows,
                fresh,
            };
            match layers.judge(&candidate.features, &self.policy) {
                None => Ok(candidate),
                Some((reason, evidence)) => Err((Some(candidate.contributor), reason, evidence)),
            }
        });
        match verdict {
            Ok(candidate) => {
                let row = fresh.next();
                if row == u32::MAX {
                    return Err(Error::TooManyRows);
                }
                fresh.add(candidate.features, &self.policy);
                ingest.accepted.push(Row {
                    row,
                    line,
                    contributor: candidate.contributor,
                    prompt: candidate.prompt,
                    text: candidate.text,
                    label: candidate.label,
                });
            }
            Err((contributor, reason, evidence)) => ingest.rejected.push(Rejection {
                line,
                contributor,
                reason,
                evidence,
            }),
        }
        Ok(())
    }
}

fn next_batch(
    lines: &mut Lines<impl BufRead>,
    mapping: &Mapping,
    before: u64,
) -> Result<Vec<Line>, Error> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let left = mapping
        .limit
        .map_or(u64::MAX, |limit| limit.saturating_sub(before));
    while (batch.len() as u64) < left.min(BATCH_LINES as u64) && bytes < BATCH_BYTES {
        let Some(line) = lines.next()? else {
            break;
        };
        bytes += line.bytes.as_ref().map_or(0, Vec::len);
        batch.push(line);
    }
    Ok(batch)
}

/// A line that is a good row by itself.
#[derive(Debug)]
struct Candidate {
    contributor: String,
    prompt: Option<String>,
    text: String,
    label: Option<String>,
    features: Features,
}

/// Every check that needs this line only.
fn examine(line: &Line, mapping: &Mapping, policy: &Policy) -> Result<Candidate, Refused> {
    let Columns {
        contributor,
        text,
        label,
    } = columns(line, mapping, policy)?;
    let contributor = contributor_name(&contributor, mapping, policy)?;
    let refuse = |reason, evidence| (Some(contributor.clone()), reason, evidence);
    let size: u64 = text.iter().map(|part| part.len() as u64).sum();
    if size > policy.max_row_bytes {
        let (value, limit) = (size, policy.max_row_bytes);
        return Err(refuse(
            Reason::RowTooLarge,
            Evidence::Measure { value, limit },
        ));
    }
    let mut parts = Vec::with_capacity(text.len());
    for (part, column) in text.iter().zip(&mapping.text) {
        let part = canonical(part).map_err(|flaw| {
            let evidence = Evidence::Character {
                column: column.clone(),
                code_point: flaw.character.into(),
                offset: flaw.offset as u64,
            };
            refuse(flaw.reason, evidence)
        })?;
        if part.trim().is_empty() {
            let evidence = Evidence::Column {
                name: column.clone(),
                found: "blank".into(),
            };
            return Err(refuse(Reason::EmptyText, evidence));
        }
        parts.push(part);
    }
    let text = parts.pop().expect("a checked mapping names a text column");
    let prompt = (!parts.is_empty()).then(|| parts.join("\n"));
    let content = join(prompt.as_deref(), &text);
    let verdict =
        sensitive::judge(&content).or_else(|| quality::judge(&content, prompt.is_some(), policy));
    if let Some((reason, evidence)) = verdict {
        return Err(refuse(reason, evidence));
    }
    let features = Features::of(&content, policy);
    Ok(Candidate {
        contributor,
        prompt,
        text,
        // A label is for display; one that is not plain text is dropped, not judged.
        label: label
            .and_then(|label| canonical(&label).ok())
            .filter(|label| !label.is_empty() && label.len() <= 64 && !label.contains('\n')),
        features,
    })
}

/// The contributor's canonical name: one line of plain text within the policy's bounds.
fn contributor_name(name: &str, mapping: &Mapping, policy: &Policy) -> Result<String, Refused> {
    let refused = |evidence| (None, Reason::BadContributor, evidence);
    let name = canonical(name).map_err(|flaw| {
        refused(Evidence::Character {
            column: mapping.contributor.clone(),
            code_point: flaw.character.into(),
            offset: flaw.offset as u64,
        })
    })?;
    let name = name.trim();
    if name.is_empty() || name.contains(['\n', '\t']) {
        return Err(refused(Evidence::Column {
            name: mapping.contributor.clone(),
            found: "blank".into(),
        }));
    }
    let (value, limit) = (name.len() as u64, policy.max_contributor_bytes);
    if value > limit {
        return Err(refused(Evidence::Measure { value, limit }));
    }
    Ok(name.to_owned())
}
