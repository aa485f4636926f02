//! Who taught an answer: spans cut into pieces that can be drawn, and one colour a contributor.

use openledger_node::view::{AttributionView, ScoredRowView, SourceView};
use openledger_primitives::Address;

/// Colours that everybody can tell apart (Okabe and Ito, "Color Universal Design"), without
/// black. Above seven contributors the pattern of the underline changes too.
const COLOURS: usize = 7;

/// The contributors of one answer in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Palette(Vec<Address>);

impl Palette {
    /// First those whose spans are paid, then all others that are shown.
    pub(crate) fn of(view: &AttributionView) -> Self {
        let mut palette = Self::default();
        let spans = |admissible: bool| {
            view.spans
                .iter()
                .filter(move |span| span.admissible == admissible)
                .filter_map(|span| span.sources.first())
        };
        let rows = view.rows.iter().map(|row| &row.source);
        let others = view.spans.iter().flat_map(|span| span.sources.iter());
        for source in spans(true).chain(rows).chain(spans(false)).chain(others) {
            palette.add(source);
        }
        palette
    }

    fn add(&mut self, source: &SourceView) {
        if self.index(source.address).is_none() {
            self.0.push(source.address);
        }
    }

    pub(crate) fn index(&self, address: Address) -> Option<usize> {
        self.0.iter().position(|known| *known == address)
    }

    /// Colour and pattern classes of a contributor.
    pub(crate) fn class(&self, address: Address) -> String {
        self.index(address).map_or_else(String::new, |at| {
            format!("s{} p{}", at % COLOURS, at / COLOURS % 3)
        })
    }

    /// The letter that goes with the colour: A, B, ... Z, AA, AB, ...
    pub(crate) fn letter(&self, address: Address) -> String {
        let Some(mut at) = self.index(address) else {
            return String::new();
        };
        let mut letters = Vec::new();
        loop {
            letters.push(char::from(b'A' + u8::try_from(at % 26).unwrap_or(0)));
            at /= 26;
            if at == 0 {
                break;
            }
            at -= 1;
        }
        letters.iter().rev().collect()
    }
}

/// A piece of the answer: the text between two neighbouring ends of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    /// Indices of the spans that cover it.
    pub(crate) spans: Vec<usize>,
    /// Spans that end here.
    pub(crate) ends: Vec<usize>,
    /// Spans that begin here.
    pub(crate) begins: Vec<usize>,
}

/// Cuts the answer at every span's ends. Span positions count characters; positions outside the
/// answer are moved to its end, so a bad position can hide a mark but never text.
pub(crate) fn pieces(view: &AttributionView) -> Vec<Piece<'_>> {
    let offsets: Vec<usize> = view
        .output
        .char_indices()
        .map(|(at, _)| at)
        .chain([view.output.len()])
        .collect();
    let last = offsets.len() - 1;
    let bounds: Vec<(usize, usize)> = view
        .spans
        .iter()
        .map(|span| (span.start_index.min(last), span.end_index.min(last)))
        .collect();
    let mut cuts: Vec<usize> = bounds
        .iter()
        .filter(|(start, end)| start < end)
        .flat_map(|&(start, end)| [start, end])
        .chain([0, last])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2)
        .map(|cut| {
            let covering = |&(_, &(start, end)): &(usize, &(usize, usize))| {
                start < end && start <= cut[0] && cut[1] <= end
            };
            let spans: Vec<usize> = bounds
                .iter()
                .enumerate()
                .filter(covering)
                .map(|(at, _)| at)
                .collect();
            Piece {
                text: &view.output[offsets[cut[0]]..offsets[cut[1]]],
                begins: spans
                    .iter()
                    .copied()
                    .filter(|&s| bounds[s].0 == cut[0])
                    .collect(),
                ends: spans
                    .iter()
                    .copied()
                    .filter(|&s| bounds[s].1 == cut[1])
                    .collect(),
                spans,
            }
        })
        .collect()
}

/// A training row that is shown for an answer, with why.
#[derive(Clone, Debug)]
pub(crate) struct Taught<'a> {
    pub(crate) source: &'a SourceView,
    /// Spans of the answer that stand in this row, and whether it is the one that is paid.
    pub(crate) spans: Vec<(usize, bool)>,
    /// Its gradient score, if it is among the highest.
    pub(crate) score: Option<&'a ScoredRowView>,
}

impl Taught<'_> {
    /// Whether the row has a passage in the answer or influence above the noise.
    pub(crate) fn counts(&self) -> bool {
        !self.spans.is_empty() || self.score.is_some_and(|score| score.above_floor)
    }
}

/// All rows shown for an answer: paid spans first, then by the size of the gradient's influence.
pub(crate) fn taught(view: &AttributionView) -> Vec<Taught<'_>> {
    let mut rows: Vec<Taught<'_>> = Vec::new();
    for (at, span) in view.spans.iter().enumerate() {
        for (rank, source) in span.sources.iter().enumerate() {
            find(&mut rows, source)
                .spans
                .push((at, rank == 0 && span.admissible));
        }
    }
    for row in &view.rows {
        find(&mut rows, &row.source).score = Some(row);
    }
    rows.sort_by_key(|row| {
        (
            !row.spans.iter().any(|(_, paid)| *paid),
            std::cmp::Reverse(row.score.map_or(0, |score| score.score.abs())),
        )
    });
    rows
}

fn find<'a, 'b>(rows: &'b mut Vec<Taught<'a>>, source: &'a SourceView) -> &'b mut Taught<'a> {
    let known = rows
        .iter()
        .position(|row| (row.source.datanet, row.source.row) == (source.datanet, source.row));
    let at = known.unwrap_or_else(|| {
        rows.push(Taught {
            source,
            spans: Vec::new(),
            score: None,
        });
        rows.len() - 1
    });
    &mut rows[at]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use openledger_node::view::SpanView;

    fn view(output: &str, spans: &[(usize, usize)]) -> AttributionView {
        let json = serde_json::json!({
            "id": "c", "object": "attribution", "status": "ready", "model": "m", "prompt": "",
            "output": output, "digest": null, "receipt": openledger_node::view::ReceiptView::default(),
            "spans": [], "rows": [], "rows_scored": 0, "floor": 0,
            "parameters": openledger_primitives::B256::ZERO, "shares": [], "epoch": null, "verify": "",
        });
        let mut view: AttributionView = serde_json::from_value(json).unwrap();
        view.spans = spans
            .iter()
            .map(|&(start_index, end_index)| SpanView {
                start_index,
                end_index,
                token_start: 0,
                token_end: 0,
                text: String::new(),
                occurrences: 1,
                surprisal_millibits: 0,
                admissible: true,
                sources: vec![],
            })
            .collect();
        view
    }

    fn check(output: &str, spans: &[(usize, usize)], expected: &[(&str, &[usize])]) {
        let view = view(output, spans);
        let pieces = pieces(&view);
        let got: Vec<(&str, &[usize])> = pieces
            .iter()
            .map(|p| (p.text, p.spans.as_slice()))
            .collect();
        assert_eq!(got, expected);
        let whole: String = pieces.iter().map(|p| p.text).collect();
        assert_eq!(whole, output, "no text is lost");
    }

    #[test]
    fn pieces_count_characters_and_overlap() {
        check("", &[], &[]);
        check("plain", &[], &[("plain", &[])]);
        check("añb→c", &[(1, 4)], &[("a", &[]), ("ñb→", &[0]), ("c", &[])]);
        check(
            "abcdef",
            &[(0, 4), (2, 6)],
            &[("ab", &[0]), ("cd", &[0, 1]), ("ef", &[1])],
        );
    }

    #[test]
    fn bad_positions_hide_no_text() {
        check("abc", &[(2, 99)], &[("ab", &[]), ("c", &[0])]);
        check("abc", &[(50, 99), (2, 1)], &[("abc", &[])]);
    }

    #[test]
    fn letters_go_on_after_z() {
        let palette = Palette((0..60u8).map(Address::repeat_byte).collect());
        for (n, letter) in [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA")] {
            assert_eq!(palette.letter(Address::repeat_byte(n)), letter);
        }
        assert_eq!(palette.class(Address::repeat_byte(8)), "s1 p1");
    }
}
