//! Numbers, times and names as people read them.
//!
//! Everything here is for display only: the exact value always stays one hover or one JSON link
//! away.

use openledger_primitives::{Address, Wei};

/// An amount of OPEN, split so that a page can print it exactly or aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Whole OPEN with thousands separated, the point and the decimals up to the last that counts.
    pub(crate) digits: String,
    /// Zeros (and a missing point) that fill the column up to nine decimals.
    pub(crate) padding: String,
}

/// Nine decimals (10^-9 OPEN) are enough to tell rows apart; more would only be noise.
const DECIMALS: usize = 9;

/// `amount` for a column of amounts: nine decimals, cut (never rounded up).
///
/// A positive amount below 10^-9 OPEN would show as zero, which would be false, so it shows as
/// `<0.000000001`.
pub(crate) fn amount(amount: Wei) -> Amount {
    let exact = amount.open();
    let (whole, decimals) = exact.split_once('.').unwrap_or((&exact, ""));
    let cut = &decimals[..decimals.len().min(DECIMALS)];
    let cut = cut.trim_end_matches('0');
    if cut.is_empty() && whole == "0" && !amount.is_zero() {
        return Amount {
            digits: "<0.000000001".to_owned(),
            padding: String::new(),
        };
    }
    let whole = grouped(whole);
    let zeros = "0".repeat(DECIMALS - cut.len());
    if cut.is_empty() {
        Amount {
            digits: whole,
            padding: format!(".{zeros}"),
        }
    } else {
        Amount {
            digits: format!("{whole}.{cut}"),
            padding: zeros,
        }
    }
}

/// `amount` inside a sentence: at least two and at most four significant decimals, cut.
pub(crate) fn amount_short(amount: Wei) -> String {
    let exact = amount.open();
    let (whole, decimals) = exact.split_once('.').unwrap_or((&exact, ""));
    let leading = decimals.bytes().take_while(|b| *b == b'0').count();
    let keep = if whole == "0" { leading + 4 } else { 4 };
    let cut = decimals[..decimals.len().min(keep)].trim_end_matches('0');
    if cut.is_empty() {
        grouped(whole)
    } else {
        format!("{}.{cut}", grouped(whole))
    }
}

/// `digits` with a thin space every three, from the right.
fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A count with its thousands separated: `29 496`.
pub(crate) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// A parameter count: `656K`, `1.2M`, `7.0B`.
pub(crate) fn parameters(n: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", n / unit, (n % unit) * 10 / unit);
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}K", n / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", tenths(1_000_000)),
        _ => format!("{}B", tenths(1_000_000_000)),
    }
}

/// A size in memory: `812 MB`, `1.4 GB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{} KB", n / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", n / 1_000_000),
        _ => format!(
            "{}.{} GB",
            n / 1_000_000_000,
            n % 1_000_000_000 / 100_000_000
        ),
    }
}

/// A duration in words, rounded to what matters: `45 s`, `2 min 10 s`, `1 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above: finite and not negative; `as` saturates"
    )]
    let total = seconds.round() as u64;
    match total {
        0 => "under a second".to_owned(),
        1..60 => format!("{total} s"),
        60..3_600 if total.is_multiple_of(60) => format!("{} min", total / 60),
        60..3_600 => format!("{} min {} s", total / 60, total % 60),
        _ => format!("{} h {} min", total / 3_600, total % 3_600 / 60),
    }
}

/// A measured quantity as a whole number with its thousands separated.
pub(crate) fn rounded(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "–".to_owned();
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above: finite and not negative; `as` saturates"
    )]
    count(value.round() as u64)
}

/// How long ago `then` was, both in Unix seconds.
pub(crate) fn ago(now: u64, then: u64) -> String {
    let past = now.saturating_sub(then);
    match past {
        0..5 => "just now".to_owned(),
        5..60 => format!("{past} s ago"),
        60..3_600 => format!("{} min ago", past / 60),
        3_600..86_400 => format!("{} h ago", past / 3_600),
        86_400..172_800 => "yesterday".to_owned(),
        _ => format!("{} days ago", past / 86_400),
    }
}

/// Unix seconds as ISO 8601 in UTC.
pub(crate) fn iso(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Civil date from a day count: H. Hinnant, "chrono-compatible low-level date algorithms".
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3_600,
        rest % 3_600 / 60,
        rest % 60
    )
}

/// `0x1234…abcd`.
pub(crate) fn short_address(address: Address) -> String {
    shorten(&address.to_checksum(None))
}

/// The first six and last four characters of a long hex string.
pub(crate) fn shorten(hex: &str) -> String {
    if hex.len() <= 13 || !hex.is_ascii() {
        return hex.to_owned();
    }
    format!("{}…{}", &hex[..6], &hex[hex.len() - 4..])
}

/// `text`, cut after `limit` characters at a word's end.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return text.to_owned();
    };
    let head = &text[..end];
    let word = head.rfind(char::is_whitespace).filter(|at| *at > end / 2);
    format!("{}…", head[..word.unwrap_or(end)].trim_end())
}

/// A share: `1234` basis points are `12.34 %`.
pub(crate) fn percent(bps: u64) -> String {
    match bps % 100 {
        0 => format!("{} %", bps / 100),
        rest => format!("{}.{rest:02} %", bps / 100),
    }
}

/// `part` of `whole` in basis points, 0 of nothing.
pub(crate) fn share_bps(part: Wei, whole: Wei) -> u64 {
    part.mul_div(10_000, whole.get())
        .ok()
        .and_then(|share| u64::try_from(share.get()).ok())
        .unwrap_or(0)
}

/// A gradient score (units of 2^-20 of a cosine) as a signed decimal.
pub(crate) fn cosine(score: i64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "scores are below 2^21")]
    let value = score as f64 / f64::from(1u32 << 20);
    format!("{value:+.4}").replace('-', "\u{2212}")
}

/// One path segment of a URL, percent-encoded (RFC 3986, everything but unreserved characters).
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `1 row`, `2 rows`.
pub(crate) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A phrase with a capital letter and a full stop.
pub(crate) fn sentence(phrase: &str) -> String {
    let phrase = phrase.trim().trim_end_matches('.');
    let mut letters = phrase.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), letters.as_str())
    })
}

/// A code such as a reason or a role in words.
pub(crate) fn reason(code: &str) -> String {
    let words = code.replace(['_', '-', '.'], " ");
    let mut letters = words.chars();
    let words: String = letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    });
    let acronyms = [
        ("Api ", "API "),
        ("Iban", "IBAN"),
        (" json", " JSON"),
        (" utf8", " UTF-8"),
    ];
    acronyms
        .iter()
        .fold(words, |words, (from, to)| words.replace(from, to))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn amounts_align_and_never_overstate() {
        let check = |wei: u128, digits: &str, padding: &str| {
            let shown = amount(Wei::new(wei));
            assert_eq!(
                (shown.digits.as_str(), shown.padding.as_str()),
                (digits, padding)
            );
        };
        check(0, "0", ".000000000");
        check(1, "<0.000000001", "");
        check(1_500_000_000_000_000_000, "1.5", "00000000");
        check(1_234_567_999_999_999, "0.001234567", "");
        check(
            10u128.pow(27),
            "1\u{202f}000\u{202f}000\u{202f}000",
            ".000000000",
        );
        assert_eq!(amount_short(Wei::new(4_213_555_000_000_000)), "0.004213");
        assert_eq!(amount_short(Wei::OPEN), "1");
    }

    #[test]
    fn dates_match_the_calendar() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(iso(1_795_231_799), "2026-11-21T03:29:59Z");
    }

    #[test]
    fn durations_and_ages_in_words() {
        assert_eq!(duration(0.2), "under a second");
        assert_eq!(duration(130.0), "2 min 10 s");
        assert_eq!(duration(f64::NAN), "unknown");
        assert_eq!(ago(100, 100), "just now");
        assert_eq!(ago(100, 200), "just now");
        assert_eq!(ago(90_000, 0), "yesterday");
    }

    #[test]
    fn cuts_at_characters_and_words() {
        assert_eq!(cut("naïve question about π", 15), "naïve question…");
        assert_eq!(cut("ππππ", 2), "ππ…");
        assert_eq!(cut("short", 80), "short");
        assert_eq!(shorten("ππ"), "ππ");
    }

    #[test]
    fn path_segments_cannot_break_out() {
        assert_eq!(segment("ft:base:a/b?c#d"), "ft%3Abase%3Aa%2Fb%3Fc%23d");
        assert_eq!(segment("Ada Lovelace"), "Ada%20Lovelace");
    }

    #[test]
    fn scores_and_shares() {
        assert_eq!(cosine(1 << 19), "+0.5000");
        assert_eq!(cosine(-(1 << 18)), "\u{2212}0.2500");
        assert_eq!(percent(1234), "12.34 %");
        assert_eq!(share_bps(Wei::new(1), Wei::ZERO), 0);
        assert_eq!(share_bps(Wei::new(1), Wei::new(4)), 2500);
    }

    #[test]
    fn reason_codes_read_as_words() {
        assert_eq!(reason("exact-duplicate"), "Exact duplicate");
        assert_eq!(reason("invalid-utf8"), "Invalid UTF-8");
        assert_eq!(reason("api-key"), "API key");
        assert_eq!(reason(""), "");
    }
}
