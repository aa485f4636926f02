//! Rules about Rust sources: where `unsafe` may live, and what the pure crates may not touch.

use super::Finding;

/// The only places that may hold `unsafe` (see ARCHITECTURE.md).
const UNSAFE_HOMES: [&str; 2] = ["crates/kernels/", "crates/suffix-index/src/mmap.rs"];

/// Crates where the same input must give the same bytes: no I/O, clock, float or randomness.
const PURE: [&str; 2] = ["crates/primitives/src/", "crates/settlement/src/"];

/// Words that a pure crate may not contain outside comments, strings and tests.
const IMPURE: [&str; 14] = [
    "f32",
    "f64",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::time",
    "std::thread",
    "SystemTime",
    "Instant",
    "HashMap",
    "rand",
    "getrandom",
];

/// The functions that write a temporary file and rename it.
const ATOMIC_WRITERS: [&str; 1] = ["xtask/src/environment.rs"];

fn is_test(path: &str) -> bool {
    ["/tests/", "/benches/", "/examples/"]
        .iter()
        .any(|part| path.contains(part))
        || path.ends_with("/tests.rs")
        || path.starts_with("fuzz/")
}

/// Checks one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let code = without_tests(&without_comments_and_strings(text));
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if has_word(line, "unsafe") && !UNSAFE_HOMES.iter().any(|home| path.starts_with(home)) {
            findings.push(Finding::error(
                path,
                index + 1,
                format!(
                    "`unsafe` may live only in {}; move it there",
                    UNSAFE_HOMES.join(" and ")
                ),
            ));
        }
        if has_word(line, "fs::write") && !ATOMIC_WRITERS.contains(&path) && !is_test(path) {
            findings.push(Finding::error(
                path,
                index + 1,
                "`fs::write` leaves half a file after a crash: write a temporary file and rename it",
            ));
        }
        if PURE.iter().any(|home| path.starts_with(home)) {
            for word in IMPURE.iter().filter(|word| has_word(line, word)) {
                findings.push(Finding::error(
                    path,
                    index + 1,
                    format!("`{word}` in a pure crate: same input must give the same bytes"),
                ));
            }
        }
    }
    findings
}

/// `word` with no identifier character on either side.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(part) && !line[start + word.len()..].starts_with(part)
    })
}

/// Blanks comments, strings and character literals, keeping every line break, so that the rules
/// below read code only. A hand-written scanner: Rust's lexical rules needed here fit in a page.
pub(super) fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        if end > at {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|&b| if b == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out)
        .expect("whole comments and literals were replaced, the rest is as it was")
}

/// The end of the comment or literal that starts at `at`, or `at` when none does.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let find = |from: usize, wanted: &[u8]| {
        rest[from..]
            .windows(wanted.len())
            .position(|w| w == wanted)
            .map_or(bytes.len(), |p| at + from + p + wanted.len())
    };
    if rest.starts_with(b"//") {
        // The line break itself stays code.
        return rest
            .iter()
            .position(|&b| b == b'\n')
            .map_or(bytes.len(), |p| at + p);
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut i) = (0_usize, 0);
        while i < rest.len() {
            if rest[i..].starts_with(b"/*") {
                depth += 1;
                i += 2;
            } else if rest[i..].starts_with(b"*/") {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return at + i;
                }
            } else {
                i += 1;
            }
        }
        return bytes.len();
    }
    let starts_word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if starts_word {
        let prefix = rest
            .iter()
            .take_while(|b| matches!(b, b'b' | b'c' | b'r'))
            .count();
        if prefix > 0 && prefix <= 2 && rest[prefix - 1] == b'r' {
            let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
            if rest.get(prefix + hashes) == Some(&b'"') {
                let mut close = vec![b'"'];
                close.resize(hashes + 1, b'#');
                return find(prefix + hashes + 1, &close);
            }
        }
    }
    if rest[0] == b'"' {
        let mut i = 1;
        while i < rest.len() && rest[i] != b'"' {
            i += if rest[i] == b'\\' { 2 } else { 1 };
        }
        return (at + i + 1).min(bytes.len());
    }
    if rest[0] == b'\'' {
        return after_character(rest).map_or(at, |length| at + length);
    }
    at
}

/// Length of the character literal at the front, `None` for a lifetime.
fn after_character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest[3..].iter().position(|&b| b == b'\'')?;
        return Some(3 + close + 1);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
    let valid = match &text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[1..=error.valid_up_to()]).ok()?,
    };
    let mut characters = valid.char_indices();
    characters.next()?;
    let (second, quote) = characters.next()?;
    (quote == '\'').then_some(1 + second + 1)
}

/// Blanks every `#[cfg(test)] mod ... { ... }`, keeping line breaks. Expects code without
/// comments and strings, so that braces match.
pub(super) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let body = &rest[start..];
        let item = body[MARK.len()..].trim_start();
        let is_module = item.starts_with("mod ") || item.starts_with("pub(crate) mod ");
        let end = match (body.find('{'), body.find(';')) {
            (Some(open), semicolon) if is_module && semicolon.is_none_or(|s| open < s) => {
                open + block_length(&body[open..])
            }
            _ => MARK.len(),
        };
        out.extend(body[..end].chars().filter(|&c| c == '\n'));
        rest = &body[end..];
    }
    out.push_str(rest);
    out
}

fn block_length(from_brace: &str) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in from_brace.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    from_brace.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"unsafe // {\"; // unsafe\n/* unsafe /* nested */ */ let b = 'u';\n\
                    let c = r#\"unsafe \" \"#; fn d<'unsafe_>() {} let e = '\\''; let f = b\"unsafe\";";
        let code = without_comments_and_strings(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(!has_word(&code, "unsafe"), "{code}");
        for kept in [
            "let a =", "let b =", "let c =", "'unsafe_", "let e =", "let f =",
        ] {
            assert!(code.contains(kept), "{kept} lost from {code}");
        }
    }

    #[test]
    fn characters_beyond_ascii_do_not_confuse_the_scanner() {
        let code =
            without_comments_and_strings("let a = 'é'; let b = \"→ unsafe\"; let c = '→'; x()");
        assert!(code.contains("x()") && !code.contains("unsafe"), "{code}");
    }

    #[test]
    fn unsafe_outside_its_homes_is_found_with_its_line() {
        let text = "fn a() {}\nfn b() { unsafe { c() } }\n";
        assert_eq!(
            messages("crates/kernels/src/gemm.rs", text),
            Vec::<String>::new()
        );
        let found = messages("crates/model/src/lib.rs", text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("error: crates/model/src/lib.rs:2:"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn the_lint_name_is_not_the_keyword() {
        assert!(messages("crates/model/src/lib.rs", "#![deny(unsafe_code)]").is_empty());
    }

    #[test]
    fn a_pure_crate_holds_no_float_except_in_tests() {
        let text =
            "pub fn a() -> u64 { 1 }\n#[cfg(test)]\nmod tests {\n  fn b() -> f64 { 1.0 }\n}\n";
        assert!(messages("crates/settlement/src/lib.rs", text).is_empty());
        let found = messages(
            "crates/settlement/src/lib.rs",
            "pub fn a(x: f64) -> f64 { x }\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(messages("crates/model/src/lib.rs", "pub fn a(x: f64) -> f64 { x }\n").is_empty());
    }

    #[test]
    fn writing_in_place_is_refused_outside_tests() {
        let text = "fn a() { std::fs::write(p, t); }\n";
        assert_eq!(messages("crates/node/src/lib.rs", text).len(), 1);
        assert!(messages("crates/node/tests/a.rs", text).is_empty());
        assert!(
            messages(
                "crates/node/src/lib.rs",
                "fn a() { fs::write_atomic(p, t); }"
            )
            .is_empty()
        );
    }

    #[test]
    fn code_after_a_test_module_is_still_read() {
        let text = "#[cfg(test)]\nmod tests { fn a() { if true { } } }\nfn b() { unsafe {} }\n";
        assert_eq!(check("crates/node/src/lib.rs", text)[0].line, 3);
        let file_module = "#[cfg(test)]\nmod tests;\nfn b() { unsafe {} }\n";
        assert_eq!(check("crates/node/src/lib.rs", file_module)[0].line, 3);
    }
}
