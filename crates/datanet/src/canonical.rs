//! One byte form for one text, and no text that hides something.
//!
//! A contributor signs the root of these bytes, so two people who write the same words must get
//! the same root, and what a reviewer sees must be all there is. Normalisation is limited to what
//! no reader notices (Unicode NFC, newlines, spaces, trailing white space); anything that would
//! need guessing is refused instead of repaired. The order of checks follows Unicode TR 36 and
//! TR 39 (invisible and reordering characters) and Boucher and Anderson, *Trojan Source* (2021).

use unicode_normalization::UnicodeNormalization;

use crate::reason::Reason;

/// A character that canonical text cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What kind of character it is.
    pub reason: Reason,
    /// The character.
    pub character: char,
    /// Characters before it, after newline normalisation and NFC.
    pub offset: usize,
}

/// The canonical form of `text`: NFC, `\n` newlines, plain spaces, no trailing white space on any
/// line, no blank lines around it. Applying it again changes nothing.
///
/// # Errors
/// The text holds a character that hides, reorders or damages it.
pub fn canonical(text: &str) -> Result<String, Flaw> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\r' => {
                characters.next_if_eq(&'\n');
                '\n'
            }
            '\u{0b}' | '\u{0c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => ' ',
            other => other,
        });
    }
    let composed: String = plain.nfc().collect();
    refuse_hidden(&composed)?;
    let mut lines = composed.split('\n').map(str::trim_end);
    let mut out = String::with_capacity(composed.len());
    // Blank lines are held back until a line follows them; at the start they are dropped.
    let mut blank = 0;
    for line in &mut lines {
        if line.is_empty() {
            blank += usize::from(!out.is_empty());
            continue;
        }
        if !out.is_empty() {
            out.extend(std::iter::repeat_n('\n', blank + 1));
        }
        blank = 0;
        out.push_str(line);
    }
    Ok(out)
}

fn refuse_hidden(text: &str) -> Result<(), Flaw> {
    let mut before = None;
    let mut characters = text.chars().enumerate().peekable();
    while let Some((offset, character)) = characters.next() {
        let after = characters.peek().map(|&(_, next)| next);
        if let Some(reason) = flaw(before, character, after) {
            return Err(Flaw {
                reason,
                character,
                offset,
            });
        }
        before = Some(character);
    }
    Ok(())
}

fn flaw(before: Option<char>, character: char, after: Option<char>) -> Option<Reason> {
    let foreign = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !c.is_whitespace());
    match character {
        '\n' | '\t' | ' '..='~' => None,
        _ if character.is_control() => Some(Reason::ControlCharacter),
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(Reason::BidiControl)
        }
        '\u{e0000}'..='\u{e007f}' => Some(Reason::TagCharacter),
        // Joiners shape Indic and Persian words and emoji; between Latin letters they only hide.
        '\u{200c}' | '\u{200d}' if foreign(before) && foreign(after) => None,
        // A variation selector picks the look of one symbol; keycaps put it after an ASCII one.
        '\u{fe00}'..='\u{fe0f}'
            if foreign(before) && !before.is_some_and(is_selector)
                || before.is_some_and(|c| c.is_ascii_digit() || c == '#' || c == '*') =>
        {
            None
        }
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0080}'..='\u{e0fff}' => Some(Reason::InvisibleCharacter),
        '\u{fffd}' => Some(Reason::BrokenEncoding),
        '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}' => {
            Some(Reason::PrivateCharacter)
        }
        _ if u32::from(character) & 0xfffe == 0xfffe => Some(Reason::PrivateCharacter),
        _ => None,
    }
}

fn is_selector(character: char) -> bool {
    ('\u{fe00}'..='\u{fe0f}').contains(&character)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(canonical(input).unwrap(), expected, "{input:?}");
    }

    fn refuse(input: &str, reason: Reason, offset: usize) {
        let flaw = canonical(input).unwrap_err();
        assert_eq!((flaw.reason, flaw.offset), (reason, offset), "{input:?}");
    }

    #[test]
    fn invisible_differences_vanish() {
        check("a\r\nb\rc\u{2028}d", "a\nb\nc\nd");
        check("e\u{301}te\u{301}", "\u{e9}t\u{e9}");
        check("\u{feff}\n\n  code\n\n\nend  \t\n\n", "  code\n\n\nend");
        check("10\u{a0}000\u{202f}km", "10 000 km");
        check(" \t\n ", "");
        check("", "");
    }

    #[test]
    fn scripts_and_emoji_that_need_joiners_keep_them() {
        check(
            "\u{646}\u{645}\u{6cc}\u{200c}\u{62f}\u{627}\u{646}\u{645}",
            "\u{646}\u{645}\u{6cc}\u{200c}\u{62f}\u{627}\u{646}\u{645}",
        );
        check("\u{1f469}\u{200d}\u{1f4bb}", "\u{1f469}\u{200d}\u{1f4bb}");
        check(
            "1\u{fe0f}\u{20e3} \u{2764}\u{fe0f}",
            "1\u{fe0f}\u{20e3} \u{2764}\u{fe0f}",
        );
    }

    #[test]
    fn hidden_content_is_refused_where_it_stands() {
        refuse("a\u{7}b", Reason::ControlCharacter, 1);
        refuse("pay \u{202e}lived", Reason::BidiControl, 4);
        refuse("x\u{e0041}", Reason::TagCharacter, 1);
        refuse("pass\u{200b}word", Reason::InvisibleCharacter, 4);
        refuse("pass\u{200d}word", Reason::InvisibleCharacter, 4);
        refuse("a\u{fe0f}", Reason::InvisibleCharacter, 1);
        refuse("\u{2764}\u{fe0f}\u{fe0f}", Reason::InvisibleCharacter, 2);
        refuse("\u{feff}\u{feff}x", Reason::InvisibleCharacter, 0);
        refuse("\u{e001}", Reason::PrivateCharacter, 0);
        refuse("\u{1ffff}", Reason::PrivateCharacter, 0);
        refuse("caf\u{fffd}", Reason::BrokenEncoding, 3);
    }

    proptest! {
        #[test]
        fn canonicalising_twice_changes_nothing(text: String) {
            if let Ok(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once), Ok(once));
            }
        }

        #[test]
        fn ordinary_text_is_never_refused(text in "[a-zA-Z0-9\\p{Latin}\\p{Greek}\\p{Han} .,;:!?\n\t'\"()-]*") {
            let once = canonical(&text).unwrap();
            prop_assert_eq!(canonical(&once), Ok(once));
        }
    }
}
