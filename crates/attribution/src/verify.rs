//! Recomputing somebody else's report, down to the first thing that differs.

use openledger_model::{KvCache, Lane, Workspace, step, surprisal_millibits};
use openledger_primitives::{
    B256, Mode, Record,
    records::{AttributionReport, InferenceReceipt, digest_u32},
};

use crate::{Attribution, Attributor, Error};

/// What a report is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The operator's receipt.
    pub receipt: &'a InferenceReceipt,
    /// Tokens of the prompt.
    pub prompt: &'a [u32],
    /// Tokens of the answer.
    pub output: &'a [u32],
    /// Surprisals of the answer's tokens, milli-bits.
    pub surprisals: &'a [u32],
    /// `sketchRoot` of the adapter's record.
    pub sketch_root: B256,
}

/// Why a report does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Numbers of another arithmetic mode cannot be checked bit for bit.
    #[error("the {what} names arithmetic mode {found}; only exact numbers (0) can be recomputed")]
    Mode {
        /// Receipt or report.
        what: &'static str,
        /// The mode in it.
        found: u8,
    },
    /// The evidence is not what the receipt commits to.
    #[error("the {what} given hash to {found}, the receipt commits to {expected}")]
    Evidence {
        /// Which list.
        what: &'static str,
        /// Digest in the receipt.
        expected: B256,
        /// Digest of the list.
        found: B256,
    },
    /// The model gives an output token another probability.
    #[error("output token {position}: surprisal {claimed} millibits claimed, {found} recomputed")]
    Surprisal {
        /// Position in the output.
        position: usize,
        /// In the receipt.
        claimed: u32,
        /// Recomputed.
        found: u32,
    },
    /// The rows do not give the sketches that the adapter's record commits to.
    #[error("the rows' sketches have root {found}, the adapter's record says {expected}")]
    SketchRoot {
        /// In the record.
        expected: B256,
        /// Recomputed.
        found: B256,
    },
    /// The query sketch differs.
    #[error("query sketch: dimension {dimension} is {claimed} in the report, {found} recomputed")]
    QuerySketch {
        /// First dimension that differs.
        dimension: usize,
        /// In the report; `None` if the sketch ends before.
        claimed: Opt<i8>,
        /// Recomputed.
        found: Opt<i8>,
    },
    /// A row's score differs.
    #[error("row {row}: score {claimed} in the report, {found} recomputed")]
    Score {
        /// The row; decoys count on after the rows.
        row: usize,
        /// In the report.
        claimed: Opt<i32>,
        /// Recomputed.
        found: Opt<i32>,
    },
    /// A span, its order or its owner differs.
    #[error("span {index} of the report is not what the index gives")]
    Span {
        /// Position in the list of spans.
        index: usize,
    },
    /// A cluster's share differs.
    #[error("share {index} of the report is not what spans and surprisals give")]
    Share {
        /// Position in the list of shares.
        index: usize,
    },
    /// Something else in the report differs.
    #[error("the report's {0} differ from the recomputed ones")]
    Field(&'static str),
    /// The record does not commit to the report's content.
    #[error("the record has digest {claimed}, its content gives {found}")]
    Record {
        /// Of the record.
        claimed: B256,
        /// Of a record made from the content.
        found: B256,
    },
    /// It could not be recomputed at all.
    #[error(transparent)]
    Attribution(Box<Error>),
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        Self::Attribution(Box::new(error))
    }
}

/// A value that may be missing, shown as `nothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt<T>(pub Option<T>);

impl<T: std::fmt::Display> std::fmt::Display for Opt<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

/// Recomputes the report of one answer and compares it with the one claimed.
///
/// `attributor` holds the verifier's own copies: the base, the adapter, sketches built from the
/// rows with [`crate::RowSketches::build`] and an index over them. Every number of the report is
/// recomputed in the exact arithmetic mode, so equality is equality of bytes; a receipt or report
/// of another mode is refused.
///
/// # Errors
/// The first [`Mismatch`], in the order in which the report depends on things.
pub fn verify(
    attributor: &Attributor<'_>,
    evidence: &Evidence<'_>,
    claimed: &Attribution,
    record: &AttributionReport,
) -> Result<(), Mismatch> {
    let modes = [("receipt", evidence.receipt.mode), ("report", record.mode)];
    for (what, found) in modes {
        if !Mode::is_exact(found) {
            return Err(Mismatch::Mode { what, found });
        }
    }
    check_evidence(evidence)?;
    check_surprisals(attributor, evidence)?;
    let (expected, found) = (evidence.sketch_root, attributor.sketches.root());
    if expected != found {
        return Err(Mismatch::SketchRoot { expected, found });
    }
    let recomputed = attributor.attribute(
        evidence.receipt,
        evidence.prompt,
        evidence.output,
        evidence.surprisals,
    )?;
    compare(claimed, &recomputed)?;
    let found = recomputed.record(record.chainId).digest();
    let claimed = record.digest();
    if claimed != found {
        return Err(Mismatch::Record { claimed, found });
    }
    Ok(())
}

fn check_evidence(evidence: &Evidence<'_>) -> Result<(), Mismatch> {
    let receipt = evidence.receipt;
    for (what, expected, list) in [
        ("prompt tokens", receipt.promptDigest, evidence.prompt),
        ("output tokens", receipt.outputDigest, evidence.output),
        ("surprisals", receipt.surprisals, evidence.surprisals),
    ] {
        let found = digest_u32(list);
        if expected != found {
            return Err(Mismatch::Evidence {
                what,
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// Runs the answer through the model again and compares each token's surprisal.
fn check_surprisals(attributor: &Attributor<'_>, evidence: &Evidence<'_>) -> Result<(), Mismatch> {
    let (prompt, output) = (evidence.prompt, evidence.output);
    if output.is_empty() || prompt.is_empty() {
        return Ok(());
    }
    let tokens = [prompt, output].concat();
    let inputs = &tokens[..tokens.len() - 1];
    let mut cache = KvCache::new(&attributor.base.config, inputs.len());
    let lane = Lane {
        tokens: inputs,
        cache: &mut cache,
        adapter: Some(attributor.adapter),
        all_logits: true,
    };
    let outputs = step(attributor.base, &mut [lane], &mut Workspace::new()).map_err(|source| {
        Error::Query {
            prompt: prompt.len(),
            output: output.len(),
            source: Box::new(source),
        }
    })?;
    let vocab = attributor.base.config.vocab;
    let logits = outputs.iter().flat_map(|lane| lane.logits.chunks(vocab));
    let steps = logits
        .skip(prompt.len() - 1)
        .zip(output)
        .zip(evidence.surprisals);
    for (position, ((logits, &token), &claimed)) in steps.enumerate() {
        let found = surprisal_millibits(logits, token);
        if claimed != found {
            return Err(Mismatch::Surprisal {
                position,
                claimed,
                found,
            });
        }
    }
    Ok(())
}

/// Position of the first difference, and both values there.
fn difference<T: Copy + PartialEq>(a: &[T], b: &[T]) -> Option<(usize, Opt<T>, Opt<T>)> {
    let at = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i))?;
    Some((at, Opt(a.get(at).copied()), Opt(b.get(at).copied())))
}

fn compare(claimed: &Attribution, found: &Attribution) -> Result<(), Mismatch> {
    if claimed.receipt != found.receipt {
        return Err(Mismatch::Field("receipt"));
    }
    if claimed.parameters != found.parameters {
        return Err(Mismatch::Field("parameters"));
    }
    if claimed.methods != found.methods {
        return Err(Mismatch::Field("methods"));
    }
    if let Some((dimension, claimed, found)) = difference(&claimed.query, &found.query) {
        return Err(Mismatch::QuerySketch {
            dimension,
            claimed,
            found,
        });
    }
    if let Some((row, claimed, found)) = difference(&claimed.scores, &found.scores) {
        return Err(Mismatch::Score {
            row,
            claimed,
            found,
        });
    }
    let longest = claimed.spans.len().max(found.spans.len());
    if let Some(index) = (0..longest).find(|&i| claimed.spans.get(i) != found.spans.get(i)) {
        return Err(Mismatch::Span { index });
    }
    if let Some((index, ..)) = difference(&claimed.shares, &found.shares) {
        return Err(Mismatch::Share { index });
    }
    if claimed != found {
        return Err(Mismatch::Field("covers, totals or noise floor"));
    }
    Ok(())
}
