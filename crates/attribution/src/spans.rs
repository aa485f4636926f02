//! Which output tokens stand word for word in whose row.

use openledger_primitives::records::Parameters;
use openledger_suffix_index::{Index, Span};
use serde::{Deserialize, Serialize};

/// A run of output tokens that also stands in a training row and is long and rare enough to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidSpan {
    /// First output token.
    pub start: u32,
    /// Tokens.
    pub len: u32,
    /// The earliest row that holds it.
    pub row: u32,
    /// Token offset of its first occurrence in that row.
    pub offset: u32,
    /// Occurrences in all rows.
    pub occurrences: u32,
    /// Unigram surprisal of its tokens over the rows, milli-bits.
    pub millibits: u64,
}

impl PaidSpan {
    /// The output tokens that it covers.
    pub const fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }

    fn new(span: &Span, millibits: u64) -> Self {
        Self {
            start: span.start,
            len: span.len,
            row: span.first_doc,
            offset: span.first_pos,
            occurrences: span.count,
            millibits,
        }
    }
}

/// The maximal spans of `output` that are admissible: at least `minSpanTokens` tokens and at least
/// `minSpanMillibits` of unigram surprisal over the rows, so boilerplate is not paid. By start.
pub fn admissible(index: &Index, output: &[u32], parameters: &Parameters) -> Vec<PaidSpan> {
    let spans = index.maximal_spans(output, parameters.minSpanTokens.into());
    spans
        .iter()
        .map(|span| PaidSpan::new(span, index.surprisal_of(&output[span.range()])))
        .filter(|span| span.millibits >= parameters.minSpanMillibits.into())
        .collect()
}

/// For each of `tokens` output tokens, the span (by position in `spans`) that covers it: the
/// longest one, among equals the one that was committed first, among those the first in the output.
pub fn cover(tokens: usize, spans: &[PaidSpan]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&i| {
        let span = &spans[i];
        (
            std::cmp::Reverse(span.len),
            span.row,
            span.offset,
            span.start,
        )
    });
    let mut cover = vec![None; tokens];
    for i in order {
        for slot in cover.get_mut(spans[i].range()).into_iter().flatten() {
            slot.get_or_insert(i);
        }
    }
    cover
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn span(start: u32, len: u32, row: u32) -> PaidSpan {
        PaidSpan {
            start,
            len,
            row,
            offset: 0,
            occurrences: 1,
            millibits: 50_000,
        }
    }

    #[test]
    fn longest_wins_then_earliest_row() {
        let spans = [span(0, 4, 9), span(2, 6, 5), span(6, 4, 1), span(9, 6, 2)];
        let rows: Vec<Option<u32>> = cover(16, &spans)
            .into_iter()
            .map(|i| i.map(|i| spans[i].row))
            .collect();
        let expected = [9, 9, 5, 5, 5, 5, 5, 5, 1, 2, 2, 2, 2, 2, 2].map(Some);
        assert_eq!(rows[..15], expected);
        assert_eq!(rows[15], None);
    }

    #[test]
    fn short_and_common_runs_are_not_paid() {
        let rare: Vec<u32> = (100..120).collect();
        let common = vec![7u32; 500];
        let index = Index::build(&[&common, &rare, &rare[3..]], 200).unwrap();
        let output = [&[7; 30], &rare[..8], &[7, 7], &rare[10..14]].concat();
        let parameters = Parameters {
            minSpanMillibits: 20_000,
            ..Parameters::default()
        };
        let spans = admissible(&index, &output, &parameters);
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert_eq!((spans[0].start, spans[0].len, spans[0].row), (30, 8, 1));
        let strict = Parameters {
            minSpanTokens: 9,
            ..parameters
        };
        assert!(admissible(&index, &output, &strict).is_empty());
    }

    proptest! {
        /// Brute force: every token is owned by the best span over it.
        #[test]
        fn cover_is_the_best_span_over_each_token(
            spans in proptest::collection::vec((0u32..20, 1u32..9, 0u32..5), 0..12),
        ) {
            let spans: Vec<PaidSpan> = spans.into_iter().map(|(s, l, r)| span(s, l, r)).collect();
            for (token, found) in cover(30, &spans).into_iter().enumerate() {
                let best = (0..spans.len())
                    .filter(|&i| spans[i].range().contains(&token))
                    .min_by_key(|&i| (u32::MAX - spans[i].len, spans[i].row, spans[i].start));
                prop_assert_eq!(found.map(|i| &spans[i]), best.map(|i| &spans[i]));
            }
        }
    }
}
