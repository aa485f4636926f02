//! Encoding of rendered conversations, in which special tokens are meant where a template wrote
//! them.

use serde_json::{Value, json};

use super::{Tokenizer, encode, without_prefix};
use crate::template::MARK;

/// Tokenizers that read special tokens in the text, and drop the marks of [`crate::template`]
/// after having looked for them.
pub(super) struct Rendered {
    whole: tokenizers::Tokenizer,
    /// As in [`super::Shared`].
    bare: Option<tokenizers::Tokenizer>,
}

impl Rendered {
    fn of(tokenizer: &tokenizers::Tokenizer) -> tokenizers::Result<Self> {
        let mut json: Value = serde_json::from_str(&tokenizer.to_string(false)?)?;
        // A token that is looked for in normalised text would be found behind a mark.
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            if token["special"] == true {
                token["normalized"] = false.into();
            }
        }
        let bare = without_prefix(&json).map(read).transpose()?;
        Ok(Self {
            whole: read(json)?,
            bare,
        })
    }
}

fn read(mut json: Value) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut steps = vec![json!({
        "type": "Replace", "pattern": {"String": MARK.to_string()}, "content": "",
    })];
    match json["normalizer"].take() {
        Value::Null => {}
        own => steps.push(own),
    }
    json["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string())?;
    tokenizer.set_encode_special_tokens(false);
    Ok(tokenizer)
}

impl Tokenizer {
    /// Tokens of a text that a chat template rendered: special tokens in it become tokens, unless
    /// a mark breaks them. As a `continuation`, no space is put before the text
    /// ([`Tokenizer::encode_continuation`]).
    ///
    /// The first call makes further copies of the vocabulary.
    pub(crate) fn encode_rendered(&self, text: &str, continuation: bool) -> Vec<u32> {
        let rendered = self.shared.rendered.get_or_init(|| {
            Rendered::of(&self.shared.whole).expect("what was read and written once reads again")
        });
        let tokenizer = match &rendered.bare {
            Some(bare) if continuation => bare,
            _ => &rendered.whole,
        };
        encode(tokenizer, text).0
    }

    /// Texts of all special tokens, in the order of their bytes.
    pub(crate) fn special_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.shared.special.keys().cloned().collect();
        texts.sort_unstable();
        texts
    }

    /// Whether a token is a special one.
    pub(crate) fn is_special(&self, token: u32) -> bool {
        self.shared
            .special
            .values()
            .any(|special| *special == token)
    }
}
