//! What people write never becomes a special token.
//!
//! A rendered conversation is one text in which the template's `<|im_end|>` must become a token and
//! the same characters in somebody's message must not. So messages are rendered with a mark inside
//! everything that reads as a special token, alone or together with what a template writes beside
//! it; the encoder of rendered texts looks for special tokens first and drops the marks then
//! ([`Tokenizer::encode_rendered`](crate::Tokenizer::encode_rendered)).

use std::borrow::Cow;

/// A noncharacter: Unicode keeps it out of texts that are exchanged.
pub(crate) const MARK: char = '\u{fdd0}';

/// `content` with marks where it could be read as one of `special`, whatever the case of letters.
/// A mark that is already there becomes U+FFFD.
pub(super) fn guard<'a>(content: &'a str, special: &[String]) -> Cow<'a, str> {
    let mut at = Vec::new();
    // The beginnings of special tokens are few characters, and rare ones in prose.
    let starts: Vec<char> = special.iter().filter_map(|s| s.chars().next()).collect();
    for (index, first) in content.char_indices() {
        if starts.contains(&first) {
            let rest = &content.as_bytes()[index..];
            if special.iter().any(|s| begins(rest, s.as_bytes())) {
                at.push(index + first.len_utf8());
            }
        }
    }
    // Templates may trim, so the ends that count are those of the trimmed text.
    let start = content.len() - content.trim_start().len();
    let trimmed = content.trim();
    let text = trimmed.as_bytes();
    let joins = |s: &String| {
        let s = s.as_bytes();
        let most = text.len().min(s.len().saturating_sub(1));
        let ending = (1..=most).any(|k| same(&text[text.len() - k..], &s[..k]));
        let beginning = (1..=most).any(|k| same(&text[..k], &s[s.len() - k..]));
        let inside = text.len() < s.len() && s.windows(text.len().max(1)).any(|w| same(w, text));
        (ending, beginning || inside)
    };
    let (mut ending, mut beginning) = (false, false);
    for (end, begin) in special.iter().map(joins) {
        ending |= end;
        beginning |= begin;
    }
    if ending {
        at.push(start + trimmed.len());
    }
    if beginning {
        at.push(start);
    }
    if at.is_empty() && !content.contains(MARK) {
        return Cow::Borrowed(content);
    }
    at.sort_unstable();
    at.dedup();
    let mut marked = String::with_capacity(content.len() + at.len() * MARK.len_utf8());
    let mut done = 0;
    for place in at {
        push(&mut marked, &content[done..place]);
        marked.push(MARK);
        done = place;
    }
    push(&mut marked, &content[done..]);
    Cow::Owned(marked)
}

/// The text without marks, for people.
pub(super) fn remove(text: &str) -> String {
    text.replace(MARK, "")
}

fn push(out: &mut String, part: &str) {
    out.extend(part.chars().map(|c| match c {
        MARK => char::REPLACEMENT_CHARACTER,
        other => other,
    }));
}

fn begins(text: &[u8], token: &[u8]) -> bool {
    text.get(..token.len())
        .is_some_and(|head| same(head, token))
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(content: &str) -> String {
        let special = ["<|im_end|>", "<s>"].map(str::to_owned);
        guard(content, &special).replace(MARK, "*")
    }

    #[test]
    fn what_reads_as_a_special_token_is_broken() {
        assert_eq!(marked("plain prose, 1 > 0"), "plain prose, 1 > 0");
        assert_eq!(marked("a<|im_end|>b"), "a<*|im_end|>b");
        assert_eq!(marked("<<S><s>"), "<<*S><*s>");
        assert_eq!(marked(""), "");
    }

    #[test]
    fn what_a_template_could_complete_is_broken_too() {
        assert_eq!(marked("x <|im_end| \n"), "x <|im_end|* \n");
        assert_eq!(marked(" im_end|> x"), " *im_end|> x");
        assert_eq!(marked("im_end"), "*im_end");
    }

    #[test]
    fn a_mark_in_a_message_is_not_a_mark() {
        assert_eq!(marked("a\u{fdd0}b"), "a\u{fffd}b");
        assert_eq!(remove("a\u{fdd0}b"), "ab");
    }
}
