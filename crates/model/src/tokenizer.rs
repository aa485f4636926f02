//! Text to tokens and back, on the Hugging Face `tokenizers` library and its file format.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

use crate::{Config, Error, Gguf, files};

mod rendered;

use rendered::Rendered;

const FILE: &str = "tokenizer.json";

/// Text of the first special token that [`Tokenizer::train`] makes, token 0.
const BOS: &str = "<|begin_of_text|>";
/// Text of the second one, token 1.
const EOS: &str = "<|end_of_text|>";

/// A tokenizer, immutable and cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    whole: tokenizers::Tokenizer,
    /// The same without the normalizer that puts a space before the text, where it has one.
    bare: Option<tokenizers::Tokenizer>,
    /// The same for texts of chat templates, made when the first one comes.
    rendered: OnceLock<Rendered>,
    /// Bytes of every token; `None` for special tokens and gaps.
    bytes: Vec<Option<Vec<u8>>>,
    special: HashMap<String, u32>,
    /// Whether decoding drops one space at the start.
    strip: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.len())
    }
}

impl Tokenizer {
    /// Loads `tokenizer.json` from a directory, the file itself, or the tokenizer in a GGUF file.
    ///
    /// # Errors
    /// When the file is missing, damaged, or decodes in a way that has no bytes per token.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let path = if path.is_dir() {
            path.join(FILE)
        } else {
            path.to_path_buf()
        };
        if Gguf::is(&path) {
            return Gguf::open(&path)?.tokenizer();
        }
        Self::parse(&files::read(&path)?, path)
    }

    /// A tokenizer from the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse(bytes, PathBuf::from(FILE))
    }

    fn parse(bytes: &[u8], path: PathBuf) -> Result<Self, Error> {
        let json: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&json, path)
    }

    pub(crate) fn from_json(json: &Value, path: PathBuf) -> Result<Self, Error> {
        let open = |json: &Value| {
            let fail = |message: String| Error::Tokenizer {
                path: path.clone(),
                message,
            };
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string())
                .map_err(|e| fail(e.to_string()))?;
            // Special tokens are inserted by callers that mean them; the same characters inside
            // a text are only text.
            tokenizer.set_encode_special_tokens(true);
            tokenizer.with_padding(None);
            tokenizer
                .with_truncation(None)
                .map_err(|e| fail(e.to_string()))?;
            // A vocabulary without a way to say "unknown" fails on the first odd character;
            // better now than inside `encode`.
            tokenizer
                .encode("\u{10ffff} probe", false)
                .map_err(|e| fail(format!("cannot encode every character: {e}")))?;
            Ok(tokenizer)
        };
        let whole = open(json)?;
        let bare = without_prefix(json).map(|json| open(&json)).transpose()?;

        let decoder = Decoding::of(&json["decoder"]).ok_or_else(|| Error::Unsupported {
            path: path.clone(),
            field: "decoder".to_owned(),
            value: json["decoder"].to_string(),
            supported: "byte-level, metaspace and byte-fallback decoders".to_owned(),
        })?;
        let mut bytes = Vec::new();
        for (text, id) in whole.get_vocab(true) {
            let id = id as usize;
            if bytes.len() <= id {
                bytes.resize(id + 1, None);
            }
            bytes[id] = Some(decoder.bytes(&text));
        }
        let mut special = HashMap::new();
        for (id, token) in whole.get_added_tokens_decoder() {
            if token.special {
                bytes[id as usize] = None;
                special.insert(token.content, id);
            } else {
                bytes[id as usize] = Some(token.content.into_bytes());
            }
        }
        let strip = decoder.strip;
        Ok(Self {
            shared: Arc::new(Shared {
                whole,
                bare,
                rendered: OnceLock::new(),
                bytes,
                special,
                strip,
            }),
        })
    }

    /// Trains a byte-level byte-pair vocabulary of `vocab` tokens on `texts` (Sennrich et al.
    /// 2016; bytes as in GPT-2). Token 0 begins a text, token 1 ends it. Few texts may not hold
    /// enough repeated pairs; the vocabulary is smaller then.
    ///
    /// # Errors
    /// When `vocab` cannot hold the 256 bytes and the two special tokens, or the library fails.
    pub fn train<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab: usize,
    ) -> Result<Self, Error> {
        if vocab < 258 {
            return Err(Error::Setting {
                field: "vocab",
                value: vocab.to_string(),
                expected: "at least 258: all bytes and two special tokens",
            });
        }
        let path = PathBuf::from("training");
        let fail = |e: tokenizers::Error| Error::Tokenizer {
            path: path.clone(),
            message: e.to_string(),
        };
        let byte_level = ByteLevel::new(false, true, true);
        let mut tokenizer = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<NormalizerWrapper>)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(Some(byte_level))
            .with_decoder(Some(byte_level))
            .build()
            .map_err(fail)?;
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab)
            .min_frequency(2)
            .special_tokens([BOS, EOS].map(|text| AddedToken::from(text, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        tokenizer.train(&mut trainer, texts).map_err(fail)?;
        let json = tokenizer.to_string(false).map_err(fail)?;
        Self::parse(json.as_bytes(), path.clone())
    }

    /// Saves `tokenizer.json`, and the small files beside it that the Python `transformers`
    /// library reads.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::create_directory(directory)?;
        files::write(&directory.join(FILE), self.to_json().as_bytes())?;
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
        });
        if let (Some(_), Some(_)) = (self.special(BOS), self.special(EOS)) {
            config["bos_token"] = BOS.into();
            config["eos_token"] = EOS.into();
        }
        files::write_json(&directory.join("tokenizer_config.json"), &config)
    }

    /// The tokenizer as the text of a `tokenizer.json`; its digest identifies the tokenizer.
    ///
    /// # Panics
    /// Never: what was read from this format can be written in it.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.shared
            .whole
            .to_string(true)
            .expect("what was parsed from JSON can be written as JSON")
    }

    /// Number of tokens, one more than the highest.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.bytes.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.bytes.is_empty()
    }

    /// Checks that every token has an embedding in a model of this shape.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] with both sizes.
    pub fn check_model(&self, config: &Config) -> Result<(), Error> {
        if self.len() <= config.vocab {
            Ok(())
        } else {
            Err(Error::Vocabulary {
                tokenizer: self.len(),
                model: config.vocab,
            })
        }
    }

    /// The special token with this text.
    #[must_use]
    pub fn special(&self, text: &str) -> Option<u32> {
        self.shared.special.get(text).copied()
    }

    /// The token that begins a text, in tokenizers made by [`Tokenizer::train`].
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special(BOS)
    }

    /// The token that ends a text, in tokenizers made by [`Tokenizer::train`].
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special(EOS)
    }

    /// Tokens of a text, without any special token: `<|...|>` in the text stays plain text.
    ///
    /// # Panics
    /// Never for a tokenizer that loaded: loading tries the one way in which encoding can fail.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with_offsets(text).0
    }

    /// Tokens of a text that continues another one: no space is put before it, where the
    /// tokenizer puts one before a text's first word.
    ///
    /// # Panics
    /// As [`Tokenizer::encode`].
    #[must_use]
    pub fn encode_continuation(&self, text: &str) -> Vec<u32> {
        encode(
            self.shared.bare.as_ref().unwrap_or(&self.shared.whole),
            text,
        )
        .0
    }

    /// Tokens of a text, and where each one's bytes start and end in it.
    ///
    /// # Panics
    /// As [`Tokenizer::encode`].
    #[must_use]
    pub fn encode_with_offsets(&self, text: &str) -> (Vec<u32>, Vec<(usize, usize)>) {
        encode(&self.shared.whole, text)
    }

    /// Bytes that a token stands for; empty for special and unknown tokens.
    #[must_use]
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.shared
            .bytes
            .get(token as usize)
            .and_then(Option::as_deref)
            .unwrap_or_default()
    }

    /// Text of the tokens, special ones left out; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text = String::new();
        for token in tokens {
            text.push_str(&decoder.push(*token));
        }
        text.push_str(&decoder.finish());
        text
    }

    /// A streaming decoder of a whole text.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder {
            tokenizer: self.clone(),
            pending: Vec::new(),
            strip: self.shared.strip,
        }
    }

    /// A streaming decoder of the continuation of a text: keeps a space at its start.
    #[must_use]
    pub fn continuation_decoder(&self) -> Decoder {
        Decoder {
            strip: false,
            ..self.decoder()
        }
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> (Vec<u32>, Vec<(usize, usize)>) {
    let encoding = tokenizer
        .encode(text, false)
        .expect("loading tried a character outside the vocabulary");
    (encoding.get_ids().to_vec(), encoding.get_offsets().to_vec())
}

/// Turns tokens into text as they come, never half a character.
#[derive(Clone, Debug)]
pub struct Decoder {
    tokenizer: Tokenizer,
    /// Bytes of an unfinished character.
    pending: Vec<u8>,
    strip: bool,
}

impl Decoder {
    /// Adds a token; returns the text that is now certain, often the token's own.
    pub fn push(&mut self, token: u32) -> String {
        let mut bytes = self.tokenizer.token_bytes(token);
        if self.strip && !bytes.is_empty() {
            self.strip = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            let error = match std::str::from_utf8(&self.pending) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.pending.clear();
                    return text;
                }
                Err(error) => error,
            };
            let good = error.valid_up_to();
            text.push_str(&String::from_utf8_lossy(&self.pending[..good]));
            // No length: the bytes may still become a character.
            let Some(bad) = error.error_len() else {
                self.pending.drain(..good);
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.drain(..good + bad);
        }
    }

    /// Ends the text; returns U+FFFD for a character that was never finished.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// A copy of the tokenizer whose normalizer or pre-tokenizer adds no space before the text, if
/// it does add one.
fn without_prefix(json: &Value) -> Option<Value> {
    fn strip(part: &mut Value) -> bool {
        match part["type"].as_str() {
            Some("Sequence") => {
                let mut changed = false;
                for list in ["normalizers", "pretokenizers"] {
                    if let Some(list) = part[list].as_array_mut() {
                        let before = list.len();
                        list.retain(|p| p["type"] != "Prepend");
                        changed |= list.len() < before;
                        for part in list {
                            changed |= strip(part);
                        }
                    }
                }
                changed
            }
            Some("Prepend") => {
                *part = Value::Null;
                true
            }
            Some("Metaspace") if part["prepend_scheme"] != "never" => {
                part["prepend_scheme"] = "never".into();
                true
            }
            Some("ByteLevel") if part["add_prefix_space"] == true => {
                part["add_prefix_space"] = false.into();
                true
            }
            _ => false,
        }
    }
    let mut json = json.clone();
    let changed = [
        strip(&mut json["normalizer"]),
        strip(&mut json["pre_tokenizer"]),
    ];
    changed.contains(&true).then_some(json)
}

/// How a token's text becomes bytes.
#[derive(Default)]
struct Decoding {
    byte_level: Option<HashMap<char, u8>>,
    space: Option<String>,
    byte_fallback: bool,
    strip: bool,
}

impl Decoding {
    fn of(decoder: &Value) -> Option<Self> {
        let mut decoding = Self::default();
        let parts = match decoder["type"].as_str() {
            None => Vec::new(),
            Some("Sequence") => decoder["decoders"].as_array()?.iter().collect(),
            Some(_) => vec![decoder],
        };
        for part in parts {
            match part["type"].as_str()? {
                "ByteLevel" => decoding.byte_level = Some(byte_characters()),
                "Metaspace" => {
                    decoding.space = Some(part["replacement"].as_str()?.to_owned());
                    decoding.strip = part["prepend_scheme"] != "never";
                }
                "Replace" if part["content"] == " " => {
                    decoding.space = Some(part["pattern"]["String"].as_str()?.to_owned());
                }
                "ByteFallback" => decoding.byte_fallback = true,
                "Fuse" => {}
                "Strip" if part["content"] == " " && part["stop"] == 0 => {
                    decoding.strip = part["start"].as_u64()? > 0;
                }
                _ => return None,
            }
        }
        Some(decoding)
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        if let Some(map) = &self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(|c| map.get(&c).copied()).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if self.byte_fallback
            && let Some(hex) = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'))
            && let Ok(byte) = u8::from_str_radix(hex, 16)
        {
            return vec![byte];
        }
        match &self.space {
            Some(space) => token.replace(space.as_str(), " ").into_bytes(),
            None => token.as_bytes().to_vec(),
        }
    }
}

/// GPT-2's printable stand-ins for the 256 bytes: printable Latin-1 stands for itself, the other
/// bytes follow from U+0100 on.
fn byte_characters() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut map = HashMap::new();
    let mut next = 0x100;
    for byte in 0..=u8::MAX {
        let character = if printable(byte) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        map.insert(character, byte);
    }
    map
}
