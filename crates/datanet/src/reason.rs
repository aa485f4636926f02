//! Why a line was turned away, in a form that a program and a person can check.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal),+ $(,)?) => {
        /// Why a line is not part of the Datanet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name),+
        }

        impl Reason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable code that records and pages carry.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }
        }
    };
}

reasons! {
    /// The line is longer than the policy reads.
    LineTooLong = "line-too-long",
    /// The line is not UTF-8.
    InvalidUtf8 = "invalid-utf8",
    /// The line is blank.
    EmptyLine = "empty-line",
    /// The line is not JSON.
    MalformedJson = "malformed-json",
    /// The line is JSON, but no object.
    NotAnObject = "not-an-object",
    /// A mapped column is absent or null.
    MissingColumn = "missing-column",
    /// A mapped column is not a string.
    WrongType = "wrong-type",
    /// The contributor's name is empty, too long or not plain text.
    BadContributor = "bad-contributor",
    /// The row's text is longer than the policy allows.
    RowTooLarge = "row-too-large",
    /// Control characters other than newline and tab.
    ControlCharacter = "control-character",
    /// Characters that reorder the text around them.
    BidiControl = "bidi-control",
    /// Unicode tag characters, which carry hidden text.
    TagCharacter = "tag-character",
    /// Zero-width and other invisible characters.
    InvisibleCharacter = "invisible-character",
    /// Private-use characters and noncharacters, which mean nothing to others.
    PrivateCharacter = "private-character",
    /// The replacement character: the text was damaged before it came here.
    BrokenEncoding = "broken-encoding",
    /// Nothing is left of the text.
    EmptyText = "empty-text",
    /// An e-mail address.
    EmailAddress = "email-address",
    /// A telephone number.
    PhoneNumber = "phone-number",
    /// A payment card number with a valid check digit.
    PaymentCard = "payment-card",
    /// A bank account number with a valid checksum.
    Iban = "iban",
    /// A United States social security number.
    SocialSecurityNumber = "social-security-number",
    /// A private key.
    PrivateKey = "private-key",
    /// A key or token of a service.
    ApiKey = "api-key",
    /// A wallet's recovery words.
    SeedPhrase = "seed-phrase",
    /// Too few letters and digits to teach anything.
    TooShort = "too-short",
    /// Letters that form no words.
    Gibberish = "gibberish",
    /// The same lines, words or characters again and again.
    Repetitive = "repetitive",
    /// Mostly symbols.
    SymbolHeavy = "symbol-heavy",
    /// Advertising phrases.
    Spam = "spam",
    /// Equal to an earlier row but for case and white space.
    ExactDuplicate = "exact-duplicate",
    /// Nearly equal to an earlier row.
    NearDuplicate = "near-duplicate",
    /// Mostly pasted from earlier rows.
    ContainedCopy = "contained-copy",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What shows that the reason holds. It points into the row and never repeats sensitive text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// The reason says it all.
    None,
    /// First byte of the line that is wrong.
    Byte {
        /// Offset in the line.
        offset: u64,
    },
    /// What the JSON parser said.
    Syntax {
        /// Its message.
        message: String,
    },
    /// A column and what it holds instead of text.
    Column {
        /// Column name.
        name: String,
        /// JSON type found: `absent`, `null`, `number`, `boolean`, `array` or `object`.
        found: String,
    },
    /// A character that the canonical text cannot hold.
    Character {
        /// Column name.
        column: String,
        /// Unicode code point.
        code_point: u32,
        /// Characters before it, after newline normalisation and NFC.
        offset: u64,
    },
    /// A part of the canonical content, in bytes (see [`Row::content`](crate::Row::content)).
    Bytes {
        /// First byte.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// A measured value against the policy's limit.
    Measure {
        /// What was measured.
        value: u64,
        /// The limit it broke.
        limit: u64,
    },
    /// The earlier row that this one copies.
    Winner {
        /// Index of the accepted row.
        row: u32,
        /// How equal: Jaccard similarity, or covered share; basis points.
        similarity_bps: u16,
    },
    /// The earlier row that most of this one is pasted from.
    Pasted {
        /// Index of the accepted row that covers most.
        row: u32,
        /// Share of this row's words that stand in earlier rows, basis points.
        covered_bps: u16,
        /// First word of the longest pasted run, in this row.
        start: u32,
        /// Words in that run.
        words: u32,
        /// Where the run starts in the earlier row, in words.
        source: u32,
    },
}

/// A line that is not part of the Datanet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Line number, from 1.
    pub line: u64,
    /// Who sent it, where the line says so.
    pub contributor: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What shows it.
    pub evidence: Evidence,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_what_serde_writes() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(seen.insert(code));
            assert!(
                code.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert_eq!(
                serde_json::to_string(reason).unwrap(),
                format!("\"{code}\"")
            );
        }
    }
}
