//! Tokenizers in the metadata of GGUF files, from and to the `tokenizer.json` of Hugging Face.
//!
//! Two kinds are read. `gpt2` is byte-level BPE: tokens, merges, and the name of a rule that cuts
//! the text beforehand. `llama` is `SentencePiece` BPE: tokens with scores, where the pair whose
//! union scores highest is merged first; the merges follow from the scores.

mod describe;

pub(super) use describe::describe;

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::metadata::Metadata;
use crate::Error;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// `SentencePiece`'s stand-in for a space.
const SPACE: &str = "\u{2581}";
/// Longest token whose splits are looked at, in bytes; `SentencePiece` makes none of a tenth of it.
const LONGEST_PIECE: usize = 1024;

/// GPT-2's rule.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The rule of Llama 3, with up to three digits together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The rule of Qwen 2 and 3, with every digit alone.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The rule of Mistral's Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The rule of GPT-4o, which Phi-4-mini has too.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// A cut at every digit, before the rule that follows.
const DIGITS: &str = r"\p{N}";

/// How byte-level text is cut before merging, by the names that llama.cpp has for it.
struct Cut {
    /// The first is the one that is written.
    names: &'static [&'static str],
    rules: &'static [&'static str],
    /// Whether a piece that is a token is taken whole, whatever the merges.
    whole: bool,
    /// Whether characters are composed first (Unicode NFC).
    composed: bool,
    /// Whether texts start with the first token unless the file says otherwise.
    starts: bool,
}

const PLAIN: Cut = Cut {
    names: &[],
    rules: &[GPT2],
    whole: false,
    composed: false,
    starts: false,
};

const CUTS: [Cut; 7] = [
    Cut {
        names: &[
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "trillion",
        ],
        ..PLAIN
    },
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2"],
        rules: &[LLAMA3],
        whole: true,
        starts: true,
        ..PLAIN
    },
    Cut {
        names: &["dbrx", "smaug-bpe"],
        rules: &[LLAMA3],
        ..PLAIN
    },
    Cut {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        rules: &[QWEN2],
        composed: true,
        ..PLAIN
    },
    Cut {
        names: &["smollm", "starcoder", "refact", "codeshell", "minerva-7b"],
        rules: &[DIGITS, GPT2],
        ..PLAIN
    },
    Cut {
        names: &["tekken"],
        rules: &[TEKKEN],
        whole: true,
        starts: true,
        ..PLAIN
    },
    Cut {
        names: &["gpt-4o"],
        rules: &[GPT4O],
        ..PLAIN
    },
];

fn cut(m: &Metadata) -> Result<&'static Cut, Error> {
    let found = m.text(PRE)?.ok_or_else(|| m.missing(PRE))?;
    let known = CUTS.iter().find(|cut| cut.names.contains(&found));
    known.ok_or_else(|| {
        let names: Vec<&str> = CUTS.iter().flat_map(|cut| cut.names).copied().collect();
        m.unsupported(PRE, names.join(", "))
    })
}

/// Whether the tokenizer is of `SentencePiece`'s kind, and whether its texts start with a token
/// where the file does not say.
pub(super) fn conventions(m: &Metadata) -> Result<(bool, bool), Error> {
    Ok(match m.text(MODEL)? {
        Some("llama") => (true, true),
        Some("gpt2") => (false, cut(m)?.starts),
        _ => (false, false),
    })
}

/// Whether there is a vocabulary at all; llama.cpp has two names for none.
pub(super) fn present(m: &Metadata) -> bool {
    !matches!(m.text(MODEL), Ok(None | Some("no_vocab" | "none")))
}

/// The tokenizer as a `tokenizer.json`.
pub(super) fn read(m: &Metadata) -> Result<Json, Error> {
    let kind = m.text(MODEL)?.ok_or_else(|| m.missing(MODEL))?;
    if kind != "gpt2" && kind != "llama" {
        return Err(m.unsupported(MODEL, "\"gpt2\" and \"llama\""));
    }
    let texts = m.texts(TOKENS)?.ok_or_else(|| m.missing(TOKENS))?;
    let kinds = m.integers(KINDS)?.unwrap_or_default();
    if !kinds.is_empty() && kinds.len() < texts.len() {
        return Err(m.unsupported(KINDS, "one entry for each token"));
    }
    let kind_of = |token: usize| kinds.get(token).copied().unwrap_or(NORMAL);
    // What pads the vocabulary to the model's size stands for no text.
    let padding = |token: usize| kind_of(token) == UNUSED && texts[token] == padding(token);
    let count = (0..texts.len()).rev().find(|token| !padding(*token));
    let texts = &texts[..count.map_or(0, |last| last + 1)];

    let mut vocab = Map::new();
    let mut added = Vec::new();
    let mut unknown = None;
    for (token, text) in texts.iter().enumerate() {
        let name = if text.is_empty() {
            format!("[EMPTY_{token}]")
        } else {
            text.clone()
        };
        let kind = kind_of(token);
        if matches!(kind, UNKNOWN | CONTROL | USER_DEFINED) {
            added.push(json!({
                "id": token,
                "content": name,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": kind != USER_DEFINED,
            }));
        }
        if kind == UNKNOWN {
            unknown = Some(name.clone());
        }
        if vocab.insert(name, token.into()).is_some() {
            let supported = format!("{text:?} once, not twice");
            return Err(m.unsupported(TOKENS, supported));
        }
    }
    let mut json = if kind == "gpt2" {
        byte_level(m)?
    } else {
        let scores = m.floats(SCORES)?.ok_or_else(|| m.missing(SCORES))?;
        if scores.len() < texts.len() {
            return Err(m.unsupported(SCORES, "one entry for each token"));
        }
        let merged =
            |token: usize| !matches!(kind_of(token), UNKNOWN | CONTROL | USER_DEFINED | BYTE);
        let pieces: Vec<Piece<'_>> = texts
            .iter()
            .zip(scores)
            .enumerate()
            .filter(|(token, _)| merged(*token))
            .map(|(token, (text, score))| Piece {
                token,
                text,
                score: *score,
            })
            .collect();
        if let Some(long) = pieces.iter().find(|p| p.text.len() > LONGEST_PIECE) {
            let supported = format!("tokens of up to {LONGEST_PIECE} bytes, not {}", long.token);
            return Err(m.unsupported(TOKENS, supported));
        }
        let prefix = m.flag(SPACE_PREFIX)?.unwrap_or(true);
        sentence_piece(&merges(&pieces), unknown, prefix)
    };
    json["version"] = "1.0".into();
    json["model"]["vocab"] = vocab.into();
    json["added_tokens"] = added.into();
    Ok(json)
}

fn padding(token: usize) -> String {
    format!("[PAD{token}]")
}

fn byte_level(m: &Metadata) -> Result<Json, Error> {
    let cut = cut(m)?;
    let merges = m.texts(MERGES)?.ok_or_else(|| m.missing(MERGES))?;
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        // A token may start with what looks like a space, never with one.
        match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                pairs.push(json!([left, right]));
            }
            _ => return Err(m.unsupported(MERGES, format!("two tokens, not {merge:?}"))),
        }
    }
    let mut parts: Vec<Json> = cut.rules.iter().map(|rule| split(rule)).collect();
    parts.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    }));
    Ok(json!({
        "normalizer": cut.composed.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        },
        "model": {
            "type": "BPE",
            "byte_fallback": false,
            "fuse_unk": false,
            "ignore_merges": cut.whole,
            "merges": pairs,
        },
    }))
}

fn split(rule: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": false})
}

/// A token that other tokens may be merged to.
struct Piece<'a> {
    token: usize,
    text: &'a str,
    score: f32,
}

/// All pairs of tokens whose union is a token, best first.
fn merges(pieces: &[Piece<'_>]) -> Vec<[String; 2]> {
    let known: HashMap<&str, usize> = pieces.iter().map(|p| (p.text, p.token)).collect();
    let mut order: Vec<&Piece<'_>> = pieces.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token)));
    let mut merges = Vec::new();
    for piece in order {
        let first = merges.len();
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(l), Some(r)) = (known.get(left), known.get(right)) {
                merges.push((*l, *r, [left.to_owned(), right.to_owned()]));
            }
        }
        merges[first..].sort_by_key(|(l, r, _)| (*l, *r));
    }
    merges.into_iter().map(|(_, _, pair)| pair).collect()
}

fn sentence_piece(merges: &[[String; 2]], unknown: Option<String>, prefix: bool) -> Json {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "byte_fallback": true,
            "fuse_unk": true,
            "ignore_merges": false,
            "merges": merges,
        },
    })
}
