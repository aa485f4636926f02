//! Building the array and asking it questions.

use std::cmp::Ordering;
use std::ops::Range;

use libsais::SuffixArrayConstruction;

use crate::Error;
use crate::minimum::Minima;
use crate::surprisal::millibits;

/// Code of a document's end.
pub(crate) const SEPARATOR: u16 = 0;

/// Positions are 31 bits wide in the suffix sorter.
const MAX_LEN: usize = i32::MAX as usize;

/// A suffix array over the tokens of documents in commit order.
#[derive(Clone, Debug)]
pub struct Index {
    /// Size of the vocabulary that ids come from.
    pub(crate) vocab: u32,
    /// Token id of each code, ascending; code `c` has `ids[c - 1]`.
    pub(crate) ids: Vec<u32>,
    /// Codes of all documents, each followed by a separator.
    pub(crate) text: Vec<u16>,
    /// Start of each document in `text`, then the length of `text`.
    pub(crate) documents: Vec<u32>,
    /// Positions of `text` in the order of their suffixes.
    pub(crate) suffixes: Vec<u32>,
    /// Code of each token id, 0 if it does not occur: `[vocab]`.
    codes: Vec<u16>,
    /// First rank of each code's suffixes, then the number of ranks: `[ids + 2]`.
    buckets: Vec<u32>,
    minima: Minima,
}

/// A maximal match of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// First token of the query that matches.
    pub start: u32,
    /// Tokens that match.
    pub len: u32,
    /// Occurrences in all documents.
    pub count: u32,
    /// The earliest document that holds the span.
    pub first_doc: u32,
    /// Token offset of its first occurrence in that document.
    pub first_pos: u32,
    /// First rank of the suffixes that start with the span; they are `count` in a row.
    pub first_rank: u32,
}

impl Span {
    /// The query positions that the span covers.
    pub const fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// One place where a span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// Document number.
    pub doc: u32,
    /// Token offset in the document.
    pub pos: u32,
}

impl Index {
    /// Builds the index of `docs` (token ids below `vocab`), which stand in commit order.
    ///
    /// Linear time; peak memory 6 bytes a token beside the input.
    ///
    /// # Errors
    /// An id out of range, more than 65,535 different ids, or more than 2^31 - 1 tokens.
    pub fn build(docs: &[&[u32]], vocab: u32) -> Result<Self, Error> {
        let mut tokens = docs.len();
        let mut present = vec![false; vocab as usize];
        for (document, doc) in docs.iter().enumerate() {
            tokens = tokens.saturating_add(doc.len());
            for (position, &token) in doc.iter().enumerate() {
                *present
                    .get_mut(token as usize)
                    .ok_or(Error::TokenOutOfRange {
                        document,
                        position,
                        token,
                        vocab,
                    })? = true;
            }
        }
        if tokens > MAX_LEN {
            return Err(Error::TooLarge { tokens });
        }
        let ids: Vec<u32> = (0..vocab).filter(|&id| present[id as usize]).collect();
        let codes = codes(&ids, vocab)?;
        let mut text = Vec::with_capacity(tokens);
        let mut documents = Vec::with_capacity(docs.len() + 1);
        for doc in docs {
            documents.push(text.len() as u32);
            text.extend(doc.iter().map(|&token| codes[token as usize]));
            text.push(SEPARATOR);
        }
        documents.push(text.len() as u32);
        let suffixes = sort(&text)?;
        Ok(Self::assemble(vocab, ids, codes, text, documents, suffixes))
    }

    /// Puts an index together from its stored parts.
    pub(crate) fn assemble(
        vocab: u32,
        ids: Vec<u32>,
        codes: Vec<u16>,
        text: Vec<u16>,
        documents: Vec<u32>,
        suffixes: Vec<u32>,
    ) -> Self {
        let mut buckets = vec![0u32; ids.len() + 2];
        for &code in &text {
            buckets[usize::from(code) + 1] += 1;
        }
        for code in 1..buckets.len() {
            buckets[code] += buckets[code - 1];
        }
        let minima = Minima::of(&suffixes);
        Self {
            vocab,
            ids,
            text,
            documents,
            suffixes,
            codes,
            buckets,
            minima,
        }
    }

    /// Number of documents.
    pub const fn documents(&self) -> usize {
        self.documents.len() - 1
    }

    /// Number of tokens, separators not counted.
    pub const fn tokens(&self) -> usize {
        self.text.len() - self.documents()
    }

    /// Size of the vocabulary that the ids come from.
    pub const fn vocab(&self) -> u32 {
        self.vocab
    }

    /// The token ids of document `doc`, or `None` if there is no such document.
    pub fn document(&self, doc: usize) -> Option<Vec<u32>> {
        let end = *self.documents.get(doc + 1)? as usize;
        let codes = &self.text[self.documents[doc] as usize..end - 1];
        Some(
            codes
                .iter()
                .map(|&code| self.ids[usize::from(code) - 1])
                .collect(),
        )
    }

    /// How often `token` occurs.
    pub fn unigram(&self, token: u32) -> u32 {
        match self.code(token) {
            SEPARATOR => 0,
            code => {
                let bucket = self.bucket(code);
                (bucket.end - bucket.start) as u32
            }
        }
    }

    /// Surprisal of `token` under the documents' unigram distribution, milli-bits, rounded.
    ///
    /// A token that does not occur counts as if it occurred half a time.
    pub fn surprisal(&self, token: u32) -> u32 {
        millibits(u64::from(self.unigram(token)), self.tokens() as u64)
    }

    /// Sum of the tokens' surprisals, milli-bits.
    pub fn surprisal_of(&self, tokens: &[u32]) -> u64 {
        tokens
            .iter()
            .map(|&token| u64::from(self.surprisal(token)))
            .sum()
    }

    /// How often `pattern` occurs inside documents; every position for the empty pattern.
    pub fn count(&self, pattern: &[u32]) -> usize {
        self.ranks(pattern).len()
    }

    /// All maximal matches of at least `min_len` tokens, by start.
    ///
    /// A match is maximal when no match of the query contains it. For each query position the
    /// longest match is found by one binary search among the suffixes that begin with its token,
    /// O(log n + length) on ordinary text; positions that cannot start a new maximal span are
    /// skipped.
    pub fn maximal_spans(&self, query: &[u32], min_len: usize) -> Vec<Span> {
        let query: Vec<u16> = query.iter().map(|&token| self.code(token)).collect();
        let mut spans = Vec::new();
        // End of the last maximal match: a match that does not reach further lies inside it.
        let mut reached = 0usize;
        // First position from `start` on whose token does not occur in any document.
        let mut limit = 0usize;
        for start in 0..query.len() {
            if limit <= start {
                limit = query[start..]
                    .iter()
                    .position(|&code| code == SEPARATOR)
                    .map_or(query.len(), |at| start + at);
            }
            let needed = min_len.max(1).max((reached + 1).saturating_sub(start));
            if start + needed > limit {
                continue;
            }
            let pattern = &query[start..limit];
            let (len, _) = self.longest(pattern);
            if len < needed {
                continue;
            }
            reached = start + len;
            let ranks = self.interval(&pattern[..len]);
            let first = self.minima.query(&self.suffixes, ranks.start, ranks.end);
            let at = self.locate(first);
            spans.push(Span {
                start: start as u32,
                len: len as u32,
                count: ranks.len() as u32,
                first_doc: at.doc,
                first_pos: at.pos,
                first_rank: ranks.start as u32,
            });
        }
        spans
    }

    /// The earliest `cap` occurrences of a span, earliest first.
    pub fn occurrences(&self, span: &Span, cap: usize) -> Vec<Occurrence> {
        let from = span.first_rank as usize;
        let Some(ranks) = self.suffixes.get(from..from + span.count as usize) else {
            return Vec::new();
        };
        let mut positions = ranks.to_vec();
        if cap < positions.len() {
            positions.select_nth_unstable(cap);
            positions.truncate(cap);
        }
        positions.sort_unstable();
        positions
            .into_iter()
            .map(|position| self.locate(position))
            .collect()
    }

    /// The document and offset of a position of the concatenated text.
    pub(crate) fn locate(&self, position: u32) -> Occurrence {
        let doc = self.documents.partition_point(|&start| start <= position) - 1;
        Occurrence {
            doc: doc as u32,
            pos: position - self.documents[doc],
        }
    }

    /// The ranks whose suffixes start with `pattern`.
    pub(crate) fn ranks(&self, pattern: &[u32]) -> Range<usize> {
        let codes: Vec<u16> = pattern.iter().map(|&token| self.code(token)).collect();
        if codes.contains(&SEPARATOR) {
            return 0..0;
        }
        self.interval(&codes)
    }

    fn code(&self, token: u32) -> u16 {
        self.codes.get(token as usize).copied().unwrap_or(SEPARATOR)
    }

    fn bucket(&self, code: u16) -> Range<usize> {
        let code = usize::from(code);
        self.buckets[code] as usize..self.buckets[code + 1] as usize
    }

    /// Length and rank of the longest match of a prefix of `pattern` (no separators in it).
    ///
    /// Binary search for the pattern's place among the suffixes, never comparing again the tokens
    /// that both bounds share with it (Manber and Myers 1990, section 2). The best match is one
    /// of the two suffixes around that place, and both were looked at.
    fn longest(&self, pattern: &[u16]) -> (usize, usize) {
        let Range {
            start: mut low,
            end: mut high,
        } = self.bucket(pattern[0]);
        if low == high {
            return (0, 0);
        }
        let mut best = (1, low);
        let (mut low_match, mut high_match) = (1, 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let (shared, order) = self.compare(middle, pattern, low_match.min(high_match));
            if shared > best.0 {
                best = (shared, middle);
            }
            match order {
                Ordering::Less => (low, low_match) = (middle + 1, shared),
                Ordering::Greater => (high, high_match) = (middle, shared),
                Ordering::Equal => return best,
            }
        }
        best
    }

    /// Ranks of the suffixes that start with `pattern` (no separators in it).
    fn interval(&self, pattern: &[u16]) -> Range<usize> {
        let Some(&first) = pattern.first() else {
            return 0..self.suffixes.len();
        };
        let bucket = self.bucket(first);
        let start = self.bound(bucket.clone(), pattern, |order| order == Ordering::Less);
        let end = self.bound(start..bucket.end, pattern, |order| {
            order != Ordering::Greater
        });
        start..end
    }

    /// First rank of `ranks` for which `before` no longer holds of suffix against pattern.
    fn bound(
        &self,
        ranks: Range<usize>,
        pattern: &[u16],
        before: impl Fn(Ordering) -> bool,
    ) -> usize {
        let Range {
            start: mut low,
            end: mut high,
        } = ranks;
        let (mut low_match, mut high_match) = (1, 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let (shared, order) = self.compare(middle, pattern, low_match.min(high_match));
            if before(order) {
                (low, low_match) = (middle + 1, shared);
            } else {
                (high, high_match) = (middle, shared);
            }
        }
        low
    }

    /// Compares the suffix of `rank` with `pattern`; their first `skip` tokens are known equal.
    ///
    /// Returns how many tokens they share, and `Equal` when the suffix starts with the pattern.
    fn compare(&self, rank: usize, pattern: &[u16], skip: usize) -> (usize, Ordering) {
        let suffix = &self.text[self.suffixes[rank] as usize..];
        let mut shared = skip;
        // Every document ends with a separator, which no pattern holds, so the suffix never
        // runs out before the pattern has differed from it.
        while shared < pattern.len() {
            match suffix[shared].cmp(&pattern[shared]) {
                Ordering::Equal => shared += 1,
                order => return (shared, order),
            }
        }
        (shared, Ordering::Equal)
    }
}

/// The code of each id of the vocabulary.
pub(crate) fn codes(ids: &[u32], vocab: u32) -> Result<Vec<u16>, Error> {
    let mut codes = vec![SEPARATOR; vocab as usize];
    for (code, &id) in (1usize..).zip(ids) {
        codes[id as usize] = u16::try_from(code).map_err(|_| Error::AlphabetTooLarge {
            distinct: ids.len(),
        })?;
    }
    Ok(codes)
}

/// The generalised suffix array of separator-terminated documents.
///
/// The sorter takes no empty documents. They add one suffix each, their separator, and those of all
/// documents rank first in document order; so the rest is sorted without them.
fn sort(text: &[u16]) -> Result<Vec<u32>, Error> {
    let is_empty = |at: usize| text[at] == SEPARATOR && (at == 0 || text[at - 1] == SEPARATOR);
    if !(0..text.len()).any(is_empty) {
        return sort_full(text);
    }
    let kept: Vec<usize> = (0..text.len()).filter(|&at| !is_empty(at)).collect();
    let compact: Vec<u16> = kept.iter().map(|&at| text[at]).collect();
    let separators = (0..text.len()).filter(|&at| text[at] == SEPARATOR);
    let rest = sort_full(&compact)?;
    Ok(separators
        .map(|at| at as u32)
        .chain(
            rest.into_iter()
                .map(|at| kept[at as usize] as u32)
                .filter(|&at| text[at as usize] != SEPARATOR),
        )
        .collect())
}

/// The same where no document is empty.
fn sort_full(text: &[u16]) -> Result<Vec<u32>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let sorted = SuffixArrayConstruction::for_text(text)
        .in_owned_buffer32()
        .single_threaded()
        .generalized_suffix_array()
        .run()
        .map_err(|error| Error::Sort(error.to_string()))?
        .into_vec();
    // Same size, so the conversion reuses the allocation.
    Ok(sorted.into_iter().map(i32::cast_unsigned).collect())
}
