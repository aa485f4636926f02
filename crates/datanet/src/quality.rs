//! Rules against text that teaches nothing. Conservative: a rule fires on what nobody would defend.
//!
//! The families are those of Gopher (Rae et al. 2021, A.1), C4 (Raffel et al. 2020, 2.2) and
//! `FineWeb` (Penedo et al. 2024, 3.5), with thresholds loosened until real short rows (shell
//! commands, children's stories with refrains) pass.

use std::collections::HashSet;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::letters::letter_cost;
use crate::policy::Policy;
use crate::reason::{Evidence, Reason};

/// Advertising phrases with their weights. One phrase alone may stand in an honest row.
const SPAM: &[(&str, u64)] = &[
    ("100% free", 1),
    ("act now", 1),
    ("as seen on tv", 2),
    ("best price", 1),
    ("buy followers", 3),
    ("buy now", 1),
    ("buy viagra", 3),
    ("cash bonus", 2),
    ("cheap pills", 3),
    ("claim your prize", 3),
    ("click here", 1),
    ("click the link below", 2),
    ("congratulations you won", 3),
    ("double your money", 3),
    ("dm me", 1),
    ("earn money from home", 3),
    ("free gift", 1),
    ("free money", 2),
    ("get rich", 2),
    ("guaranteed profit", 3),
    ("guaranteed returns", 2),
    ("hot singles", 3),
    ("limited time offer", 2),
    ("lose weight fast", 3),
    ("make money fast", 3),
    ("no credit check", 2),
    ("online casino", 2),
    ("order now", 1),
    ("promo code", 1),
    ("risk-free", 1),
    ("send crypto", 2),
    ("sign up bonus", 2),
    ("subscribe to my channel", 2),
    ("whatsapp me", 2),
    ("work from home and earn", 3),
    ("you have been selected", 2),
];

static PHRASES: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(SPAM.iter().map(|(phrase, _)| phrase))
        .expect("a short constant list of phrases fits an automaton")
});

/// The first quality rule that `content` breaks. `pair` says that it is a prompt with an answer.
pub(crate) fn judge(content: &str, pair: bool, policy: &Policy) -> Option<(Reason, Evidence)> {
    let letters = content.chars().filter(|c| c.is_alphanumeric()).count() as u64;
    let fewest = if pair {
        policy.min_letters_pair
    } else {
        policy.min_letters_text
    };
    let measure = |value, limit| Evidence::Measure { value, limit };
    if letters < fewest {
        return Some((Reason::TooShort, measure(letters, fewest)));
    }
    if let Some((start, end)) = long_run(content, policy.max_run) {
        return Some((Reason::Repetitive, Evidence::Bytes { start, end }));
    }
    let visible = content
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .count() as u64;
    let share = letters * 10_000 / visible.max(1);
    if visible >= policy.min_visible_symbols && share < policy.min_letters_bps {
        return Some((Reason::SymbolHeavy, measure(share, policy.min_letters_bps)));
    }
    if let Some(share) = repeated_lines(content, policy) {
        return Some((
            Reason::Repetitive,
            measure(share, policy.max_repeated_lines_bps),
        ));
    }
    if let Some(share) = distinct_trigrams(content, policy) {
        return Some((
            Reason::Repetitive,
            measure(share, policy.min_distinct_trigrams_bps),
        ));
    }
    if let Some(cost) = gibberish(content, policy) {
        return Some((Reason::Gibberish, measure(cost, policy.max_letter_cost)));
    }
    let weight = spam_weight(content);
    (weight >= policy.spam_weight).then(|| (Reason::Spam, measure(weight, policy.spam_weight)))
}

/// Byte range of the first run of one letter or digit that is longer than `limit` characters.
fn long_run(content: &str, limit: u64) -> Option<(u64, u64)> {
    let mut run = (0, '\0', 0u64);
    for (at, character) in content.char_indices() {
        if character != run.1 {
            run = (at, character, 0);
        }
        run.2 += 1;
        // Zeros pad numbers, and `0xffff..` is a number too.
        let number = character == '0' || content[..run.0].ends_with("0x");
        if run.2 > limit && character.is_alphanumeric() && !number {
            return Some((run.0 as u64, (at + character.len_utf8()) as u64));
        }
    }
    None
}

/// Share of lines that repeat an earlier one, if above the limit.
fn repeated_lines(content: &str, policy: &Policy) -> Option<u64> {
    let lines: Vec<&str> = content
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let distinct: HashSet<&str> = lines.iter().copied().collect();
    let total = lines.len() as u64;
    let share = (total - distinct.len() as u64) * 10_000 / total.max(1);
    (total >= policy.min_lines_repetition && share > policy.max_repeated_lines_bps).then_some(share)
}

/// Share of different word trigrams, if below the limit.
fn distinct_trigrams(content: &str, policy: &Policy) -> Option<u64> {
    let words: Vec<&str> = content
        .split(|c: char| c.is_whitespace() || c == crate::ingest::JOIN)
        .filter(|word| !word.is_empty())
        .collect();
    if (words.len() as u64) < policy.min_words_repetition.max(3) {
        return None;
    }
    let distinct: HashSet<&[&str]> = words.windows(3).collect();
    let share = distinct.len() as u64 * 10_000 / (words.len() as u64 - 2);
    (share < policy.min_distinct_trigrams_bps).then_some(share)
}

/// Mean letter cost (hundredths of 1/16 bit), if the letters look like none of English's.
///
/// Other languages written with ASCII letters stay below the limit; texts with other letters are
/// not judged at all.
fn gibberish(content: &str, policy: &Policy) -> Option<u64> {
    if content.chars().any(|c| c.is_alphabetic() && !c.is_ascii()) {
        return None;
    }
    let cost = letter_cost(content);
    let mean = cost.sixteenths * 100 / cost.pairs.max(1);
    (cost.pairs >= policy.min_letter_pairs && mean > policy.max_letter_cost).then_some(mean)
}

/// Weights of the different phrases found, and 1 more where there is a link beside them.
fn spam_weight(content: &str) -> u64 {
    let found: HashSet<usize> = PHRASES
        .find_iter(content)
        .map(|found| found.pattern().as_usize())
        .collect();
    let phrases: u64 = found.iter().map(|&at| SPAM[at].1).sum();
    let link = content.contains("http://") || content.contains("https://");
    phrases + u64::from(phrases > 0 && link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, expected: Option<Reason>) {
        let verdict = judge(content, true, &Policy::default());
        assert_eq!(verdict.map(|(reason, _)| reason), expected, "{content:?}");
    }

    #[test]
    fn honest_rows_pass() {
        check("List files\u{1f}ls -la", None);
        check("Start KRDC\u{1f}krdc", None);
        check(
            "Zeichne einen Kreis auf das Blatt Papier und male ihn blau an",
            None,
        );
        check(
            "W Szczebrzeszynie chrz\u{105}szcz brzmi w trzcinie i Szczebrzeszyn z tego s\u{142}ynie",
            None,
        );
        check(
            "Print hex\u{1f}0x0000000000000000000000000000000000000000",
            None,
        );
        check(
            "If a page says click here, hover over the link first.",
            None,
        );
        check(
            "Run, run, run! said the fox. Run, run, run! said the hen. They ran over the hill and did not stop until night.",
            None,
        );
    }

    #[test]
    fn what_teaches_nothing_does_not() {
        check("ok\u{1f}no", Some(Reason::TooShort));
        check(
            "asdf qwer zxcv hjkl uiop sdfg wert\u{1f}xcvb hjkl vbnm rtyu",
            Some(Reason::Gibberish),
        );
        check(
            "what is it\u{1f}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            Some(Reason::Repetitive),
        );
        check(&"good data ".repeat(30), Some(Reason::Repetitive));
        check(&"buy\nthe\n".repeat(9), Some(Reason::Repetitive));
        check(
            "a#$%^&*()_+{}|:<>?~`-=[]\\;',./!@#$%^&b12345678",
            Some(Reason::SymbolHeavy),
        );
        check(
            "Click here https://win.example to claim your prize",
            Some(Reason::Spam),
        );
        check(
            "Guaranteed profit for everyone who joins this channel",
            Some(Reason::Spam),
        );
    }
}
