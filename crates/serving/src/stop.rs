//! Stop strings across tokens: text is shown only once it cannot be part of one.

/// The text of one answer on its way out.
#[derive(Debug)]
pub(crate) struct StopFilter {
    stops: Vec<String>,
    /// Everything decoded, up to the stop string once one was found.
    text: String,
    /// Bytes of `text` already handed out.
    shown: usize,
    stopped: bool,
}

impl StopFilter {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            text: String::new(),
            shown: 0,
            stopped: false,
        }
    }

    /// Adds decoded text; returns what can be shown.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.text.push_str(piece);
        // A stop string can begin no earlier than what has not been shown.
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.text[self.shown..].find(stop.as_str()))
            .min();
        if let Some(at) = found {
            self.text.truncate(self.shown + at);
            self.stopped = true;
            return self.show(self.text.len());
        }
        self.show(self.text.len() - self.held())
    }

    /// Bytes at the end that might begin a stop string.
    fn held(&self) -> usize {
        let open = &self.text[self.shown..];
        self.stops
            .iter()
            .flat_map(|stop| {
                stop.char_indices()
                    .map(|(length, _)| &stop[..length])
                    .filter(|prefix| open.ends_with(prefix))
                    .map(str::len)
            })
            .max()
            .unwrap_or(0)
    }

    fn show(&mut self, until: usize) -> String {
        let piece = self.text[self.shown..until].to_owned();
        self.shown = until;
        piece
    }

    /// Whether a stop string was found.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, at the end of the answer.
    pub(crate) fn tail(&mut self) -> String {
        self.show(self.text.len())
    }

    /// Bytes of text so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The whole text.
    pub(crate) fn take_text(&mut self) -> String {
        self.shown = 0;
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool, String) {
        let mut filter = StopFilter::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let shown = pieces.iter().map(|piece| filter.push(piece)).collect();
        let stopped = filter.stopped();
        let tail = filter.tail();
        (shown, stopped, tail)
    }

    #[test]
    fn a_stop_string_across_three_tokens_is_never_shown() {
        let (shown, stopped, tail) = run(&["\n\nQ:"], &["yes", "\n", "\n", "Q: no", "more"]);
        assert_eq!(shown, ["yes", "", "", "", ""]);
        assert!(stopped);
        assert_eq!(tail, "");
    }

    #[test]
    fn a_false_start_is_released() {
        let (shown, stopped, tail) = run(&["END"], &["the E", "N", "d", " E"]);
        assert_eq!(shown, ["the ", "", "ENd", " "]);
        assert!(!stopped);
        assert_eq!(tail, "E");
    }

    #[test]
    fn the_earliest_stop_wins() {
        let (shown, ..) = run(&["c", "b"], &["abc"]);
        assert_eq!(shown, ["a"]);
    }

    proptest! {
        #[test]
        fn streaming_equals_cutting_the_whole(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{1,3}", 0..4),
            cuts in proptest::collection::vec(0usize..24, 0..6),
        ) {
            let mut bounds: Vec<usize> = cuts
                .into_iter()
                .filter(|&cut| text.is_char_boundary(cut) && cut <= text.len())
                .chain([0, text.len()])
                .collect();
            bounds.sort_unstable();
            let mut filter = StopFilter::new(stops.clone());
            let mut out = String::new();
            for pair in bounds.windows(2) {
                out.push_str(&filter.push(&text[pair[0]..pair[1]]));
                if filter.stopped() {
                    break;
                }
            }
            out.push_str(&filter.tail());
            // The stream stops at the stop string that is complete first, so cut there.
            let expected = (0..=text.len())
                .filter(|&end| text.is_char_boundary(end))
                .find_map(|end| {
                    stops.iter().filter_map(|s| text[..end].find(s.as_str())).min()
                })
                .map_or(text.as_str(), |at| &text[..at]);
            // A token may bring several stop strings at once; then the earliest begins the cut.
            let earliest = stops.iter().filter_map(|s| text.find(s.as_str())).min();
            prop_assert!(
                out == expected || earliest.is_some_and(|at| out == text[..at]),
                "{out:?} {expected:?}"
            );
        }
    }
}
