//! Personal data and secrets of a fixed form, found by pattern and confirmed by checksum or rule.
//!
//! Only classes that a machine can confirm are judged here (design notes: named-entity models cost
//! a thousand times more and confirm nothing). What documentation uses as a stand-in passes:
//! `user@example.com`, toll-free numbers, keys without entropy such as `ghp_xxxx`.

use std::sync::LazyLock;

use openledger_suffix_index::log2_fixed;
use regex::Regex;

use crate::reason::{Evidence, Reason};

type Finder = fn(&str) -> Option<(usize, usize)>;

/// What a class needs at the least; most rows lack it and skip the pattern.
#[derive(Clone, Copy, Debug)]
enum Needs {
    /// So many digits.
    Digits(usize),
    /// A run of so many letters, digits and `+ / _ -`.
    Run(usize),
    /// An at sign.
    At,
    /// So many bytes.
    Bytes(usize),
}

const FINDERS: [(Reason, Needs, Finder); 8] = [
    (Reason::PrivateKey, Needs::Bytes(64), private_key),
    (Reason::SeedPhrase, Needs::Bytes(48), seed_phrase),
    (Reason::ApiKey, Needs::Run(16), api_key),
    (Reason::PaymentCard, Needs::Digits(13), payment_card),
    (Reason::Iban, Needs::Digits(4), iban),
    (
        Reason::SocialSecurityNumber,
        Needs::Digits(9),
        social_security_number,
    ),
    (Reason::EmailAddress, Needs::At, email_address),
    (Reason::PhoneNumber, Needs::Digits(9), phone_number),
];

/// The first class of sensitive text in `content`, and where it stands.
pub(crate) fn judge(content: &str) -> Option<(Reason, Evidence)> {
    let (mut digits, mut at, mut run, mut longest) = (0, false, 0, 0);
    for byte in content.bytes() {
        digits += usize::from(byte.is_ascii_digit());
        at |= byte == b'@';
        let joined = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-');
        run = if joined { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    FINDERS.iter().find_map(|&(reason, needs, find)| {
        let possible = match needs {
            Needs::Digits(least) => digits >= least,
            Needs::Run(least) => longest >= least,
            Needs::At => at,
            Needs::Bytes(least) => content.len() >= least,
        };
        let (start, end) = possible.then(|| find(content)).flatten()?;
        let (start, end) = (start as u64, end as u64);
        Some((reason, Evidence::Bytes { start, end }))
    })
}

/// A compiled pattern. Digits and word borders are the ASCII ones: what follows counts bytes, and
/// Unicode borders would cost the fast matcher.
macro_rules! pattern {
    ($pattern:expr) => {{
        static PATTERN: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("a constant pattern, tested below"));
        &*PATTERN
    }};
}

/// Whether the characters around `start..end` are not of the kind that would continue the match.
fn stands_alone(text: &str, start: usize, end: usize, part: fn(char) -> bool) -> bool {
    !text[..start].chars().next_back().is_some_and(part)
        && !text[end..].chars().next().is_some_and(part)
}

/// Mailboxes that belong to a role or a program wherever they are.
const ROLES: &[&str] = &[
    "admin",
    "contact",
    "git",
    "hello",
    "info",
    "mail",
    "no-reply",
    "noreply",
    "postmaster",
    "root",
    "support",
    "webmaster",
];

/// Whether documentation wrote the address in place of a person's: a plain word at a domain that
/// is reserved for examples (RFC 2606, RFC 6761), or such a domain's own spelling of "any".
fn stand_in(mailbox: &str, domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    let labels: Vec<&str> = domain.split('.').collect();
    let reserved = labels
        .iter()
        .any(|label| matches!(*label, "example" | "domain" | "yourdomain"))
        || matches!(
            labels.last(),
            Some(&("test" | "invalid" | "localhost" | "local"))
        );
    let word = mailbox
        .bytes()
        .all(|b| b.is_ascii_alphabetic() || b == b'_');
    let numbered = mailbox.trim_end_matches(|c: char| c.is_ascii_digit());
    reserved && (word || (numbered.len() + 1 == mailbox.len() && !numbered.contains(['.', '-'])))
}

fn email_address(text: &str) -> Option<(usize, usize)> {
    pattern!(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}")
        .find_iter(text)
        .find(|found| {
            let (mailbox, domain) = found.as_str().split_once('@').unwrap_or_default();
            let role = ROLES.contains(&mailbox.to_ascii_lowercase().as_str());
            // `git@host:path` and `user@host:path` name a machine, not a person.
            let remote = text[found.end()..].starts_with([':', '/']);
            // `package@1.2.3.tgz` and `image@sha256` are versions.
            let version = domain.starts_with(|c: char| c.is_ascii_digit());
            !role && !remote && !version && !stand_in(mailbox, domain)
        })
        .map(|found| (found.start(), found.end()))
}

fn phone_number(text: &str) -> Option<(usize, usize)> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '+' | '-' | '_' | '/' | '=');
    let international = pattern!(r"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}");
    let american =
        pattern!(r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}");
    let found = international
        .find_iter(text)
        .filter(|found| (9..=15).contains(&digits(found.as_str()).len()))
        // Grouped as people write numbers; a bare run of digits is a sum or an offset.
        .filter(|found| found.as_str().contains([' ', '-', '(']))
        .find(|found| stands_alone(text, found.start(), found.end(), part))
        .or_else(|| {
            american
                .find_iter(text)
                .filter(|found| !toll_free(&digits(found.as_str())))
                .find(|found| stands_alone(text, found.start(), found.end(), part))
        })?;
    Some((found.start(), found.end()))
}

/// North American numbers that belong to services.
fn toll_free(digits: &[u8]) -> bool {
    matches!(digits, [8, 0 | 2..=8, x, ..] if digits[1] == *x) || digits.starts_with(&[9, 0, 0])
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(u8::is_ascii_digit)
        .map(|b| b - b'0')
        .collect()
}

fn payment_card(text: &str) -> Option<(usize, usize)> {
    pattern!(r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}|[0-9]{13,19}")
        .find_iter(text)
        .filter(|found| {
            let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            stands_alone(text, found.start(), found.end(), |c| c.is_alphanumeric())
                // A full stop may end the sentence, but decimals and ids go on after it.
                && !text[found.end()..].chars().nth(1).is_some_and(|c| c.is_ascii_digit()
                    && text[found.end()..].starts_with(part))
        })
        .find(|found| {
            let digits = digits(found.as_str());
            issued(&digits) && luhn(&digits)
        })
        .map(|found| (found.start(), found.end()))
}

/// Whether an issuer uses numbers of this prefix and length (ISO/IEC 7812).
fn issued(digits: &[u8]) -> bool {
    let prefix = digits[..4]
        .iter()
        .fold(0u32, |n, &digit| n * 10 + u32::from(digit));
    match digits.len() {
        13 | 19 => prefix / 1000 == 4,
        14 => matches!(prefix / 100, 36 | 38) || matches!(prefix / 10, 300..=305),
        15 => matches!(prefix / 100, 34 | 37),
        16 => {
            prefix / 1000 == 4
                || matches!(prefix / 100, 51..=55 | 65)
                || matches!(prefix, 2221..=2720 | 6011 | 3528..=3589)
        }
        _ => false,
    }
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| match (at % 2, u32::from(digit) * 2) {
            (0, _) => u32::from(digit),
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn iban(text: &str) -> Option<(usize, usize)> {
    pattern!(r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?-u:\b)")
        .find_iter(text)
        .find(|found| iban_checksum(found.as_str()))
        .map(|found| (found.start(), found.end()))
}

/// ISO 13616: the first four characters moved to the end, letters as 10 to 35, modulo 97 is 1.
fn iban_checksum(text: &str) -> bool {
    let characters: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    if !(15..=34).contains(&characters.len()) {
        return false;
    }
    let remainder = characters[4..]
        .iter()
        .chain(&characters[..4])
        .fold(0u32, |rest, &c| match c {
            b'0'..=b'9' => (rest * 10 + u32::from(c - b'0')) % 97,
            _ => (rest * 100 + u32::from(c.to_ascii_uppercase() - b'A') + 10) % 97,
        });
    remainder == 1
}

fn social_security_number(text: &str) -> Option<(usize, usize)> {
    let part = |c: char| c.is_alphanumeric() || c == '-';
    pattern!(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")
        .find_iter(text)
        .filter(|found| stands_alone(text, found.start(), found.end(), part))
        .find(|found| {
            // Areas, groups and serials that are never issued (SSA POMS RM 10201.035).
            let (area, group, serial) = (
                &found.as_str()[..3],
                &found.as_str()[4..6],
                &found.as_str()[7..],
            );
            area != "000"
                && area != "666"
                && !area.starts_with('9')
                && group != "00"
                && serial != "0000"
        })
        .map(|found| (found.start(), found.end()))
}

fn private_key(text: &str) -> Option<(usize, usize)> {
    if !pattern!(r"(?i)private|priv[_-]?key|secret").is_match(text) {
        return None;
    }
    let block =
        pattern!(r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[ \n][A-Za-z0-9+/=:, \n\t-]{64,}");
    let named = pattern!(
        r"(?i)(?-u:\b)(?:private[ _-]?key|priv[_-]?key|secret[ _-]?key)(?-u:\b)[^\n]{0,24}?(?-u:\b)(?:0x)?([0-9a-f]{64})(?-u:\b)"
    );
    let found = block.find(text).or_else(|| {
        named
            .captures_iter(text)
            .filter_map(|captures| captures.get(1))
            .find(|key| entropy(key.as_str()) >= 2_500)
    })?;
    Some((found.start(), found.end()))
}

fn api_key(text: &str) -> Option<(usize, usize)> {
    let known = pattern!(
        r"(?-u:\b)(?:A(?:KIA|SIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{16,}|AIza[0-9A-Za-z_-]{35}|sk_live_[0-9A-Za-z]{16,}|sk-[A-Za-z0-9_-]{32,}|hf_[A-Za-z0-9]{30,}|eyJ[A-Za-z0-9_-]{12,}\.eyJ[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{16,})"
    );
    let named = pattern!(
        r#"(?i)(?-u:\b)(?:api[_-]?key|secret|access[_-]?token|auth[_-]?token|password|passwd)["']?[ \n]*[:=][ \n]*["']?([A-Za-z0-9+/_-]{24,})"#
    );
    let found = known
        .find_iter(text)
        .find(|found| entropy(found.as_str()) >= 3_000 && !found.as_str().contains("EXAMPLE"))
        .or_else(|| {
            named
                .captures_iter(text)
                .filter_map(|captures| captures.get(1))
                .find(|key| entropy(key.as_str()) >= 3_800 && mixed(key.as_str()))
        })?;
    Some((found.start(), found.end()))
}

/// Digits and letters of both cases: what generators emit and words do not.
fn mixed(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Entropy of the character distribution, milli-bits a character (Shannon 1948), in integers.
fn entropy(text: &str) -> u64 {
    let mut counts = [0u64; 256];
    text.bytes().for_each(|b| counts[usize::from(b)] += 1);
    let total = text.len() as u64;
    let bits: u128 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| u128::from(count) * u128::from(log2_fixed(total) - log2_fixed(count)))
        .sum();
    u64::try_from((bits * 1_000 / u128::from(total.max(1))) >> 32)
        .expect("at most eight bits a character")
}

fn seed_phrase(text: &str) -> Option<(usize, usize)> {
    // BIP-39 words have three to eight letters and come in dozens; the words before the colon say
    // that they are a secret and not a sentence.
    let captures = pattern!(
        r"(?i)(?-u:\b)(?:seed phrase|mnemonic|recovery phrase|secret phrase|recovery words)(?-u:\b)[^:\n]{0,40}:[ \n]*((?-i:[a-z]{3,8}[ ,]+){11,23}(?-i:[a-z]{3,8}))(?-u:\b)"
    )
    .captures(text)?;
    let words = captures.get(1)?;
    Some((words.start(), words.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(Reason, &str)>) {
        let found = judge(text).map(|(reason, evidence)| match evidence {
            Evidence::Bytes { start, end } => (reason, &text[start as usize..end as usize]),
            other => panic!("{other:?}"),
        });
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn personal_data_is_found() {
        check(
            "write to billing-desk-7@example.com today",
            Some((Reason::EmailAddress, "billing-desk-7@example.com")),
        );
        check(
            "call (415) 555-0142 now",
            Some((Reason::PhoneNumber, "(415) 555-0142")),
        );
        check(
            "call +44 20 7946 0958.",
            Some((Reason::PhoneNumber, "+44 20 7946 0958")),
        );
        check(
            "card 4111 1111 1111 1111, thanks",
            Some((Reason::PaymentCard, "4111 1111 1111 1111")),
        );
        check(
            "card 378282246310005.",
            Some((Reason::PaymentCard, "378282246310005")),
        );
        check(
            "pay DE89 3704 0044 0532 0130 00 please",
            Some((Reason::Iban, "DE89 3704 0044 0532 0130 00")),
        );
        check(
            "pay GB82WEST12345698765432",
            Some((Reason::Iban, "GB82WEST12345698765432")),
        );
        check(
            "SSN 123-45-6789",
            Some((Reason::SocialSecurityNumber, "123-45-6789")),
        );
    }

    #[test]
    fn secrets_are_found() {
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n",
            "MIIEvQIBADANBgkq".repeat(6)
        );
        assert_eq!(
            judge(&pem).map(|(reason, _)| reason),
            Some(Reason::PrivateKey)
        );
        let key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
        check(
            &format!("my private key is 0x{key}"),
            Some((Reason::PrivateKey, key)),
        );
        check(
            "token ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            Some((Reason::ApiKey, "ghp_16C7e42F292c6912E7710c838347Ae178B4a")),
        );
        check(
            "api_key = \"Zk3v9QpL7xTq2WmB8sRy4NdU\"",
            Some((Reason::ApiKey, "Zk3v9QpL7xTq2WmB8sRy4NdU")),
        );
        let words =
            "abandon ability able about above absent absorb abstract absurd abuse access accident";
        check(
            &format!("my seed phrase: {words}"),
            Some((Reason::SeedPhrase, words)),
        );
    }

    #[test]
    fn stand_ins_and_look_alikes_pass() {
        for text in [
            "curl --user user@example.com:password https://example.com",
            "mail to_user@example.com and alias1@example.org",
            "git clone git@github.com:owner/project.git",
            "scp file.txt alex@host.example.com:/srv",
            "npm install left-pad@1.3.0.tgz",
            "call 1-800-273-8255 or 888-555-0100",
            "card 4111 1111 1111 1112",
            "the wei value 1000000000000000000",
            "timestamp 1700000000000 and 4532015112830366000.25",
            "on 2024-01-15, range 000-12-3456 and 123-00-4567",
            "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "AKIAIOSFODNN7EXAMPLE",
            "--password=<password>",
            "password: correct-horse-battery-staple-and-more",
            "-----BEGIN RSA PRIVATE KEY-----",
            "the hash 0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318",
            "a seed phrase is a list of words that restores a wallet when the device is lost",
            "DE89 3704 0044 0532 0130 01",
            "+1 and +2 make 3; UTC+02:00",
            // Digits of other scripts are no numbers of these kinds (and no panic).
            "\u{664}\u{661}\u{661}\u{661} \u{661}\u{661}\u{661}\u{661} \u{661}\u{661}\u{661}\u{661} \u{661}\u{661}\u{661}\u{661}",
            "\u{661}\u{662}\u{663}-\u{664}\u{665}-\u{666}\u{667}\u{668}\u{669} and 1234567890123",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn entropy_is_shannons() {
        assert_eq!(entropy("aaaa"), 0);
        assert_eq!(entropy("abab"), 1_000);
        assert_eq!(entropy("abcdefgh"), 3_000);
    }
}
