//! The thresholds that verdicts depend on, and their hash.

use openledger_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// What a Datanet turns away. Integers only, so that a verdict is the same everywhere.
///
/// The `version` names the code behind the numbers (patterns, phrase list, letter table, hash
/// functions): whoever changes one of those raises it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Version of the rules.
    pub version: u16,
    /// Longest line that is read, bytes.
    pub max_line_bytes: u64,
    /// Longest canonical content of a row, bytes.
    pub max_row_bytes: u64,
    /// Longest contributor name, bytes.
    pub max_contributor_bytes: u64,
    /// Fewest letters and digits of a plain-text row.
    pub min_letters_text: u64,
    /// Fewest letters and digits of prompt and answer together.
    pub min_letters_pair: u64,
    /// Mean letter cost above which words are gibberish, hundredths of 1/16 bit.
    pub max_letter_cost: u64,
    /// Fewest letter pairs for that test.
    pub min_letter_pairs: u64,
    /// Longest run of one letter or digit.
    pub max_run: u64,
    /// Least share of different word trigrams, basis points.
    pub min_distinct_trigrams_bps: u64,
    /// Fewest words for that test.
    pub min_words_repetition: u64,
    /// Largest share of lines that repeat an earlier line, basis points.
    pub max_repeated_lines_bps: u64,
    /// Fewest lines for that test.
    pub min_lines_repetition: u64,
    /// Least share of letters and digits among visible characters, basis points.
    pub min_letters_bps: u64,
    /// Fewest visible characters for that test.
    pub min_visible_symbols: u64,
    /// Weight of advertising phrases at which a row is spam.
    pub spam_weight: u64,
    /// Rows of fewer words are compared by character 5-grams, others by word 5-grams.
    pub short_words: u64,
    /// Jaccard similarity from which a short row is a near duplicate, basis points.
    pub near_short_bps: u64,
    /// Jaccard similarity from which a longer row is a near duplicate, basis points.
    pub near_long_bps: u64,
    /// Bands of the min-hash index.
    pub bands: u64,
    /// Hashes in a band.
    pub band_rows: u64,
    /// Rows that one band bucket keeps; the earliest stay.
    pub bucket: u64,
    /// Fewest words of a row that is tested for pasted text.
    pub min_words_contained: u64,
    /// One of so many 8-word fingerprints is kept.
    pub fingerprint_sample: u64,
    /// A fingerprint in more rows than this is boilerplate and proves nothing.
    pub boilerplate_rows: u64,
    /// Share of words that stand in earlier rows from which a row is a copy, basis points.
    pub contained_bps: u64,
    /// Seed of all hash functions.
    pub seed: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: 1,
            max_line_bytes: 1 << 20,
            max_row_bytes: 1 << 16,
            max_contributor_bytes: 128,
            min_letters_text: 16,
            min_letters_pair: 5,
            max_letter_cost: 8_800,
            min_letter_pairs: 24,
            max_run: 40,
            min_distinct_trigrams_bps: 2_500,
            min_words_repetition: 16,
            max_repeated_lines_bps: 7_000,
            min_lines_repetition: 6,
            min_letters_bps: 3_000,
            min_visible_symbols: 24,
            spam_weight: 3,
            short_words: 64,
            near_short_bps: 8_500,
            near_long_bps: 7_000,
            bands: 14,
            band_rows: 8,
            bucket: 64,
            min_words_contained: 32,
            fingerprint_sample: 4,
            boilerplate_rows: 8,
            contained_bps: 6_000,
            seed: 20,
        }
    }
}

impl Policy {
    /// The `policyHash` of a dataset version: keccak256 of the policy as compact JSON, fields in
    /// declaration order.
    pub fn hash(&self) -> B256 {
        keccak256(self.canonical_json())
    }

    /// The bytes that [`hash`](Self::hash) digests.
    #[allow(
        clippy::missing_panics_doc,
        reason = "serialising a struct of integers cannot fail"
    )]
    pub fn canonical_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of integers is always JSON")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_hash_binds_every_field_and_survives_a_round_trip() {
        let policy = Policy::default();
        let json: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&policy.canonical_json()).unwrap();
        for (name, value) in &json {
            let mut other = json.clone();
            other[name] = (value.as_u64().unwrap() + 1).into();
            let other: Policy = serde_json::from_value(other.into()).unwrap();
            assert_ne!(other.hash(), policy.hash(), "{name}");
        }
        let back: Policy = serde_json::from_slice(&policy.canonical_json()).unwrap();
        assert_eq!(back.hash(), policy.hash());
    }
}
