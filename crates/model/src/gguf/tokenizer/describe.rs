//! A `tokenizer.json` as metadata of a GGUF file.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::super::metadata::Value;
use super::{
    BYTE, CONTROL, CUTS, Cut, DIGITS, GPT2, KINDS, MERGES, MODEL, NORMAL, PRE, Piece, SCORES,
    SPACE, SPACE_PREFIX, TOKENS, UNKNOWN, UNUSED, USER_DEFINED, merges, padding,
};
use crate::{Config, Error};

/// A `tokenizer.json` as metadata of a model of this shape.
///
/// # Errors
/// [`Error::Inexpressible`] when llama.cpp would cut or merge in another way.
pub(in super::super) fn describe(
    json: &Json,
    config: &Config,
) -> Result<Vec<(String, Value)>, Error> {
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(cannot("the tokenizer's model", &model["type"], "\"BPE\""));
    }
    let empty = |field: &str| model[field].as_str().is_none_or(str::is_empty);
    if !empty("continuing_subword_prefix") || !empty("end_of_word_suffix") {
        return Err(cannot(
            "the tokenizer's model",
            model,
            "BPE without affixes",
        ));
    }
    let (mut texts, mut kinds) = tokens(json, config)?;
    let pairs: Vec<[String; 2]> = model["merges"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(pair)
        .collect();
    let mut described = if model["byte_fallback"] == true {
        for (text, kind) in texts.iter().zip(&mut kinds) {
            if *kind == NORMAL && is_byte(text) {
                *kind = BYTE;
            }
        }
        let scores = scores(&texts, &kinds, &pairs)?;
        let prefix = space_prefix(json)?;
        vec![
            (MODEL.to_owned(), "llama".into()),
            (PRE.to_owned(), "default".into()),
            (SCORES.to_owned(), Value::Floats(scores)),
            (SPACE_PREFIX.to_owned(), prefix.into()),
        ]
    } else {
        let merges = pairs.iter().map(|[l, r]| format!("{l} {r}")).collect();
        vec![
            (MODEL.to_owned(), "gpt2".into()),
            (PRE.to_owned(), cut_of(json)?.names[0].into()),
            (MERGES.to_owned(), Value::Texts(merges)),
        ]
    };
    for token in texts.len()..config.vocab {
        texts.push(padding(token));
        kinds.push(UNUSED);
    }
    described.push((TOKENS.to_owned(), Value::Texts(texts)));
    described.push((KINDS.to_owned(), Value::Integers(kinds)));
    Ok(described)
}

fn cannot(field: &'static str, value: &Json, expected: &str) -> Error {
    Error::Inexpressible {
        field,
        value: value.to_string().chars().take(200).collect(),
        format: "GGUF",
        expected: expected.to_owned(),
    }
}

/// Texts and kinds of all tokens, by number.
fn tokens(json: &Json, config: &Config) -> Result<(Vec<String>, Vec<i64>), Error> {
    let mut entries: Vec<(usize, &str, i64)> = Vec::new();
    let number = |value: &Json| value.as_u64().and_then(|id| usize::try_from(id).ok());
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        entries.extend(number(id).map(|id| (id, text.as_str(), NORMAL)));
    }
    let unknown = json["model"]["unk_token"].as_str();
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        let kind = match token["special"] == true {
            true if unknown == Some(text) => UNKNOWN,
            true => CONTROL,
            false => USER_DEFINED,
        };
        entries.extend(number(&token["id"]).map(|id| (id, text, kind)));
    }
    let size = entries.iter().map(|(id, _, _)| id + 1).max().unwrap_or(0);
    if size > config.vocab {
        return Err(Error::Vocabulary {
            tokenizer: size,
            model: config.vocab,
        });
    }
    let mut texts: Vec<String> = (0..size).map(padding).collect();
    let mut kinds = vec![UNUSED; size];
    for (id, text, kind) in entries {
        text.clone_into(&mut texts[id]);
        kinds[id] = kind;
    }
    Ok((texts, kinds))
}

/// A merge, in either form that files have.
fn pair(merge: &Json) -> Option<[String; 2]> {
    let (left, right) = match merge {
        Json::String(text) => text.split_once(' ')?,
        Json::Array(list) => (list.first()?.as_str()?, list.get(1)?.as_str()?),
        _ => return None,
    };
    Some([left.to_owned(), right.to_owned()])
}

fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

/// Scores that make llama.cpp merge in the order of `pairs`: minus the rank of the first merge
/// that makes a token. It merges whatever two tokens make a third, so that the file's merges must
/// be all there are, and those of one token must not be apart.
fn scores(texts: &[String], kinds: &[i64], pairs: &[[String; 2]]) -> Result<Vec<f32>, Error> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut rank = 0;
    let mut last = None;
    for [left, right] in pairs {
        let whole = format!("{left}{right}");
        if last.as_ref() != Some(&whole) {
            first.entry(whole.clone()).or_insert(rank);
            rank += 1;
            last = Some(whole);
        }
    }
    // Below all others: a character is no merge.
    let lowest = -(rank as f32) - 1.0;
    let score = |text: &str| first.get(text).map_or(lowest, |rank| -(*rank as f32));
    let scores: Vec<f32> = texts
        .iter()
        .zip(kinds)
        .map(|(text, kind)| if *kind == NORMAL { score(text) } else { 0.0 })
        .collect();
    let pieces: Vec<Piece<'_>> = texts
        .iter()
        .enumerate()
        .filter(|(token, _)| kinds[*token] == NORMAL)
        .map(|(token, text)| Piece {
            token,
            text,
            score: scores[token],
        })
        .collect();
    let rank_of = |[left, right]: &[String; 2]| first.get(&format!("{left}{right}")).copied();
    let implied: HashMap<[String; 2], Option<usize>> = merges(&pieces)
        .into_iter()
        .map(|pair| (pair.clone(), rank_of(&pair)))
        .collect();
    let same = implied.len() == pairs.len()
        && pairs.iter().all(|pair| implied.contains_key(pair))
        // One rank for each run of merges: none came back later.
        && first.len() == rank;
    if same {
        Ok(scores)
    } else {
        let found = json!(format!("{} merges", pairs.len()));
        let expected = format!(
            "the {} merges that follow from its tokens, those of one token together",
            implied.len()
        );
        Err(cannot("the tokenizer's list of merges", &found, &expected))
    }
}

/// Whether a space is put before the text, of a `SentencePiece` tokenizer that replaces spaces.
fn space_prefix(json: &Json) -> Result<bool, Error> {
    let normalizer = &json["normalizer"];
    let parts = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default(),
        Some(_) => vec![normalizer.clone()],
        None => Vec::new(),
    };
    let is_replace = |part: &Json| {
        part["type"] == "Replace" && part["pattern"]["String"] == " " && part["content"] == SPACE
    };
    let is_prepend = |part: &Json| part["type"] == "Prepend" && part["prepend"] == SPACE;
    let cut = &json["pre_tokenizer"];
    match parts.as_slice() {
        [prepend, replace] if is_prepend(prepend) && is_replace(replace) && cut.is_null() => {
            Ok(true)
        }
        [replace] if is_replace(replace) && (cut.is_null() || cuts_nothing(cut)) => Ok(false),
        [] if cut["type"] == "Metaspace" && cut["split"] == false => {
            Ok(cut["prepend_scheme"] != "never")
        }
        _ => Err(cannot(
            "the tokenizer's normalizer",
            normalizer,
            "spaces replaced by U+2581 and one put before the text",
        )),
    }
}

/// Gemma's cut at spaces, of which there are none left.
fn cuts_nothing(cut: &Json) -> bool {
    cut["type"] == "Split" && cut["pattern"]["String"] == " "
}

/// The rule of a byte-level tokenizer.
fn cut_of(json: &Json) -> Result<&'static Cut, Error> {
    let composed = match json["normalizer"]["type"].as_str() {
        None => Some(false),
        Some("NFC") => Some(true),
        Some(_) => None,
    };
    let whole = json["model"]["ignore_merges"] == true;
    let rules = rules(&json["pre_tokenizer"]);
    let known = CUTS.iter().find(|cut| {
        composed == Some(cut.composed)
            && whole == cut.whole
            && rules.as_ref().is_some_and(|rules| rules == cut.rules)
    });
    known.ok_or_else(|| {
        let names: Vec<&str> = CUTS.iter().map(|cut| cut.names[0]).collect();
        let expected = format!("those of {}", names.join(", "));
        cannot("the tokenizer's rule", &json["pre_tokenizer"], &expected)
    })
}

/// The patterns that a byte-level pre-tokenizer cuts by, one after another.
fn rules(part: &Json) -> Option<Vec<String>> {
    match part["type"].as_str()? {
        "Sequence" => {
            let parts = part["pretokenizers"].as_array()?;
            let rules: Option<Vec<_>> = parts.iter().map(rules).collect();
            Some(rules?.concat())
        }
        "ByteLevel" if part["add_prefix_space"] != true => Some(if part["use_regex"] == false {
            Vec::new()
        } else {
            vec![GPT2.to_owned()]
        }),
        "Digits" if part["individual_digits"] == true => Some(vec![DIGITS.to_owned()]),
        "Split" => {
            // Keeping matches apart, or dropping what is between them, where nothing is.
            let isolated = part["behavior"] == "Isolated" && part["invert"] != true;
            let removed = part["behavior"] == "Removed" && part["invert"] == true;
            let rule = part["pattern"]["Regex"].as_str()?;
            (isolated || removed).then(|| vec![rule.to_owned()])
        }
        _ => None,
    }
}
