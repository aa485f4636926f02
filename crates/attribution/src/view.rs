//! What a reader is shown: `GET /v1/attributions/{id}`.
//!
//! The node fills in names, wallets and, once the epoch is settled, amounts; everything else comes
//! from the attribution. A field that is not known yet is `null`, never invented.

use openledger_model::Decoder;
use openledger_primitives::{Address, B256, Record, Wei, records::Parameters};
use serde::{Deserialize, Serialize};

use crate::{Attribution, span_method};

/// Who stands behind a training row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Name under which the contributor is known.
    pub contributor: String,
    /// Wallet that is paid.
    pub wallet: Address,
    /// Digest of the contribution's record.
    pub contribution: B256,
    /// Beginning of the row's text, if the Datanet's policy lets it be shown.
    pub excerpt: Option<String>,
}

/// An attribution for a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Id of the completion.
    pub id: String,
    /// Always `attribution`.
    pub object: String,
    /// Always `ready`; the node answers 202 before.
    pub status: String,
    /// Digest of the receipt.
    pub receipt: B256,
    /// Digest of the report.
    pub report: B256,
    /// How the answer was attributed.
    pub methods: Vec<Method>,
    /// What had to be passed to count.
    pub threshold: Thresholds,
    /// The answer's text; the ranges of the spans point into it.
    pub text: String,
    /// Parts of the answer that stand in a training row.
    pub spans: Vec<SpanView>,
    /// The rows that spans were found in, most surprisal first.
    pub sources: Vec<SourceView>,
    /// Rows whose gradients pulled towards the answer, strongest first.
    pub helpful: Vec<ScoreView>,
    /// Rows whose gradients pulled away from it, strongest first.
    pub harmful: Vec<ScoreView>,
    /// Training rows scored.
    pub rows_scored: usize,
    /// Command that recomputes all of it.
    pub verify: String,
}

/// A method and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// `span` or `gradient`.
    pub name: String,
    /// Its id in the report.
    pub id: B256,
}

/// The thresholds that were applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Shortest span, tokens.
    pub min_span_tokens: u16,
    /// Least unigram surprisal of a span, milli-bits.
    pub min_span_millibits: u32,
    /// Share of the decoys that score at most `noise_floor`, basis points.
    pub noise_quantile_bps: u16,
    /// Noise floor of this answer, score units. Settlement applies that of the epoch's net scores.
    pub noise_floor: i32,
    /// Decoys scored.
    pub decoys: usize,
    /// A cosine of one in score units.
    pub score_one: i32,
}

/// A part of the answer that stands in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanView {
    /// Output tokens, end excluded.
    pub tokens: [u32; 2],
    /// UTF-8 bytes of the text, end excluded.
    pub bytes: [usize; 2],
    /// Unicode scalar values of the text, end excluded.
    pub chars: [usize; 2],
    /// The text itself.
    pub text: String,
    /// The earliest row that holds it.
    pub row: u32,
    /// Tokens of that row, end excluded.
    pub row_tokens: [u32; 2],
    /// Occurrences in all rows.
    pub occurrences: u32,
    /// Unigram surprisal over the rows, milli-bits.
    pub millibits: u64,
    /// Output tokens that pay this span: the others belong to a longer one.
    pub paid_tokens: u32,
    /// Who wrote it.
    pub source: Source,
}

/// A row that spans pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// First-committed row of the cluster.
    pub row: u32,
    /// Who wrote it.
    pub source: Source,
    /// Surprisal won, milli-bits.
    pub millibits: u64,
    /// Part of the span channel's budget, millionths.
    pub share_ppm: u64,
    /// Wei paid for this answer's spans; `null` before the epoch is settled.
    pub amount: Option<Wei>,
}

/// A row and its score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreView {
    /// The row.
    pub row: u32,
    /// Its score, units of 2^-20.
    pub score: i32,
    /// Whether the score passes this answer's noise floor.
    pub above_noise: bool,
    /// Who wrote it.
    pub source: Source,
}

/// What the node knows and an attribution does not.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Id of the completion.
    pub id: &'a str,
    /// Chain id of the report.
    pub chain_id: u64,
    /// Parameters in force.
    pub parameters: &'a Parameters,
    /// A decoder at the start of the answer.
    pub decoder: &'a Decoder,
    /// Rows listed on each side of the scores.
    pub top: usize,
    /// Who stands behind a row.
    pub source: &'a dyn Fn(u32) -> Source,
    /// Wei that the span channel paid a cluster for this answer, once known.
    pub amount: &'a dyn Fn(u32) -> Option<Wei>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("top", &self.top)
            .finish_non_exhaustive()
    }
}

impl Attribution {
    /// The view of this attribution of an answer with the tokens `output`.
    pub fn view(&self, output: &[u32], context: &Context<'_>) -> View {
        let (text, ends) = decode(output, context.decoder);
        let mut order: Vec<u32> = (0u32..).take(self.rows).collect();
        order.sort_by_key(|&row| (std::cmp::Reverse(self.scores[row as usize]), row));
        let scored = |row: u32| {
            let score = self.scores[row as usize];
            let above_noise = score > self.noise_floor;
            ScoreView {
                row,
                score,
                above_noise,
                source: (context.source)(row),
            }
        };
        let side = |rows: &mut dyn Iterator<Item = u32>, wanted: &dyn Fn(i32) -> bool| {
            rows.take(context.top)
                .take_while(|&row| wanted(self.scores[row as usize]))
                .map(scored)
                .collect::<Vec<_>>()
        };
        View {
            id: context.id.into(),
            object: "attribution".into(),
            status: "ready".into(),
            receipt: self.receipt,
            report: self.record(context.chain_id).digest(),
            methods: self.methods.iter().map(|&id| method(id)).collect(),
            threshold: Thresholds {
                min_span_tokens: context.parameters.minSpanTokens,
                min_span_millibits: context.parameters.minSpanMillibits,
                noise_quantile_bps: context.parameters.noiseQuantileBps,
                noise_floor: self.noise_floor,
                decoys: self.decoy_scores().len(),
                score_one: 1 << 20,
            },
            spans: self.span_views(&text, &ends, context),
            sources: self.source_views(context),
            helpful: side(&mut order.iter().copied(), &|score| score > 0),
            harmful: side(&mut order.iter().rev().copied(), &|score| score < 0),
            rows_scored: self.rows,
            verify: format!("openledger attribution verify {}", context.id),
            text,
        }
    }

    fn span_views(&self, text: &str, ends: &[usize], context: &Context<'_>) -> Vec<SpanView> {
        // Byte where token `t` begins; a character of several tokens belongs to its last one.
        let byte = |t: usize| if t == 0 { 0 } else { ends[t - 1] };
        let views = self.spans.iter().enumerate().map(|(at, span)| {
            let range = span.range();
            let bytes = [byte(range.start), byte(range.end)];
            let chars = bytes.map(|byte| text[..byte].chars().count());
            let paid = self
                .cover
                .iter()
                .filter(|&&cover| cover == Some(at))
                .count();
            SpanView {
                tokens: [span.start, span.start + span.len],
                bytes,
                chars,
                text: text[bytes[0]..bytes[1]].into(),
                row: span.row,
                row_tokens: [span.offset, span.offset + span.len],
                occurrences: span.occurrences,
                millibits: span.millibits,
                paid_tokens: paid as u32,
                source: (context.source)(span.row),
            }
        });
        views.collect()
    }

    fn source_views(&self, context: &Context<'_>) -> Vec<SourceView> {
        let mut views: Vec<SourceView> = self
            .shares
            .iter()
            .map(|share| SourceView {
                row: share.cluster,
                source: (context.source)(share.cluster),
                millibits: share.millibits,
                share_ppm: share.millibits * 1_000_000 / self.total_millibits.max(1),
                amount: (context.amount)(share.cluster),
            })
            .collect();
        views.sort_by_key(|view| (std::cmp::Reverse(view.millibits), view.row));
        views
    }
}

fn method(id: B256) -> Method {
    let name = if id == span_method() {
        "span"
    } else {
        "gradient"
    };
    Method {
        name: name.into(),
        id,
    }
}

/// The text of the tokens, and the byte where each token ends.
fn decode(tokens: &[u32], decoder: &Decoder) -> (String, Vec<usize>) {
    let mut decoder = decoder.clone();
    let mut text = String::new();
    let mut ends = Vec::with_capacity(tokens.len());
    for &token in tokens {
        text.push_str(&decoder.push(token));
        ends.push(text.len());
    }
    text.push_str(&decoder.finish());
    if let Some(last) = ends.last_mut() {
        *last = text.len();
    }
    (text, ends)
}
