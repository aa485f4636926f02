//! Chat templates in Jinja, as Hugging Face models carry them, rendered the way `transformers`
//! renders them.
//!
//! A template is somebody else's program: its length, its steps (and with them its memory) and its
//! depth are bounded, and it sees nothing but the conversation. It has no clock either
//! (`strftime_now` is undefined, and templates that ask fall back to their fixed date), so a
//! conversation is always the same tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value as Json;

use super::{Role, marks};
use crate::tokenizer::Tokenizer;
use crate::{Error, Gguf, files};

const FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
/// Name of the template in its environment, and of the one that is taken from several.
const NAME: &str = "default";

/// Longest template, in bytes; the longest published ones have about 30 000.
const LONGEST: usize = 256 << 10;
/// Steps that a rendering may take.
const FUEL: u64 = 2_000_000;
/// Depth of nesting, macros included.
const DEPTH: usize = 100;

/// Variables that hold the texts of special tokens.
const TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
];

/// A compiled template.
#[derive(Debug)]
pub struct Jinja {
    environment: Environment<'static>,
    /// Where it came from.
    path: PathBuf,
    tokens: BTreeMap<String, Value>,
    /// Texts that messages must not smuggle in as tokens.
    special: Vec<String>,
    /// White space between a prompt and its answer.
    pub(super) lead: String,
    /// The token that ends an answer.
    pub(super) end: Option<u32>,
}

/// What `raise_exception` says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Jinja {
    /// The chat template of a model: `chat_template.jinja`, or `chat_template` in
    /// `tokenizer_config.json`, of several the one called `default`; `None` if there is none.
    ///
    /// # Errors
    /// When a file is damaged, the template is too long, does not compile, or refuses a question
    /// and its answer.
    pub fn load(directory: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let config = optional(&directory.join(CONFIG))?;
        let file = directory.join(FILE);
        let (path, source) = if file.exists() {
            (file.clone(), text(&file)?)
        } else {
            let path = directory.join(CONFIG);
            match chosen(&config["chat_template"], &path)? {
                Some(source) => (path, source),
                None => return Ok(None),
            }
        };
        let map = optional(&directory.join(MAP))?;
        let tokens = TOKENS.into_iter().filter_map(|name| {
            let text = content(&config[name]).or_else(|| content(&map[name]))?;
            Some((name.to_owned(), Value::from(text)))
        });
        Self::new(path, source, tokens.collect(), tokenizer).map(Some)
    }

    /// The template inside a GGUF file, if it has one.
    ///
    /// # Errors
    /// As [`Jinja::load`].
    pub(super) fn of_gguf(path: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let file = Gguf::open(path)?;
        let Some(source) = file.chat_template()? else {
            return Ok(None);
        };
        let config = file.config()?;
        let text = |token: u32| {
            let bytes = tokenizer.token_bytes(token).to_vec();
            String::from_utf8(bytes).ok().map(Value::from)
        };
        let ends = [
            ("bos_token", config.bos),
            ("eos_token", config.eos.first().copied()),
        ];
        let tokens = ends
            .into_iter()
            .filter_map(|(name, token)| Some((name.to_owned(), text(token?)?)))
            .collect();
        let source = source.to_owned();
        Self::new(path.to_path_buf(), source, tokens, tokenizer).map(Some)
    }

    fn new(
        path: PathBuf,
        source: String,
        tokens: BTreeMap<String, Value>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        let mut jinja = Self {
            environment: environment(source).map_err(|message| Error::ChatTemplate {
                path: path.clone(),
                message,
            })?,
            path,
            tokens,
            special: tokenizer.special_texts(),
            lead: String::new(),
            end: None,
        };
        jinja.probe(tokenizer)?;
        Ok(jinja)
    }

    /// Learns from a question and its answer what stands before and after an answer.
    fn probe(&mut self, tokenizer: &Tokenizer) -> Result<(), Error> {
        const ANSWER: &str = "answer";
        let (user, assistant) = ((Role::User, "question"), (Role::Assistant, ANSWER));
        let prompt = self.render(&[user], true)?;
        let whole = self.render(&[user, assistant], false)?;
        let Some((before, after)) = whole
            .strip_prefix(prompt.as_str())
            .and_then(|rest| rest.split_once(ANSWER))
        else {
            return Ok(());
        };
        if before.trim().is_empty() {
            self.lead = before.to_owned();
        }
        let after = tokenizer.encode_rendered(after, true);
        self.end = after.into_iter().find(|token| tokenizer.is_special(*token));
        Ok(())
    }

    /// The conversation as text with marks; `generate` opens the next answer.
    pub(super) fn render(&self, turns: &[(Role, &str)], generate: bool) -> Result<String, Error> {
        let messages = turns.iter().map(|(role, content)| {
            let content = marks::guard(content, &self.special).into_owned();
            let fields = [("role", role.name().to_owned()), ("content", content)];
            Value::from(BTreeMap::from(
                fields.map(|(name, text)| (name, Value::from(text))),
            ))
        });
        let mut context = self.tokens.clone();
        context.insert("messages".into(), messages.collect());
        context.insert("add_generation_prompt".into(), generate.into());
        // Templates ask whether these are none, not whether they are defined.
        context.insert("tools".into(), ().into());
        context.insert("documents".into(), ().into());
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from(context)))
            .map_err(|error| self.error(&failure(&error)))
    }

    /// What the template writes for `answer` after the prompt, up to and including the end of the
    /// turn.
    pub(super) fn answer(
        &self,
        tokenizer: &Tokenizer,
        turns: &[(Role, &str)],
        answer: &str,
    ) -> Result<Vec<u32>, Error> {
        let prompt = self.render(turns, true)?;
        let mut all = turns.to_vec();
        all.push((Role::Assistant, answer));
        let whole = self.render(&all, false)?;
        let rest = whole.strip_prefix(prompt.as_str()).ok_or_else(|| {
            self.error(
                "writes an answered conversation differently from the prompt that asks for the \
                 answer, so the answer cannot be learned after the prompt; put a template that \
                 does not as `chat_template.jinja` into the folder",
            )
        })?;
        let mut tokens = tokenizer.encode_rendered(rest, true);
        if let Some(end) = self.end {
            let last = tokens.iter().position(|token| *token == end);
            let last = last
                .ok_or_else(|| self.error("does not end this answer with its end-of-turn token"))?;
            tokens.truncate(last + 1);
        }
        Ok(tokens)
    }

    fn error(&self, message: &str) -> Error {
        Error::ChatTemplate {
            path: self.path.clone(),
            message: message.to_owned(),
        }
    }
}

/// The message of a failed rendering.
fn failure(error: &minijinja::Error) -> String {
    let source = std::error::Error::source(error);
    if let Some(Raised(message)) = source.and_then(|source| source.downcast_ref()) {
        return format!("refuses this conversation: {message}");
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("takes more than {FUEL} steps");
    }
    format!("fails: {error}")
}

/// The template in the environment of `transformers`, or why it does not compile.
fn environment(source: String) -> Result<Environment<'static>, String> {
    if source.len() > LONGEST {
        return Err(format!(
            "has {} bytes; at most {LONGEST} are read",
            source.len()
        ));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.add_function("raise_exception", |message: String| {
        let error = minijinja::Error::new(ErrorKind::InvalidOperation, message.clone());
        Err::<Value, _>(error.with_source(Raised(message)))
    });
    environment
        .add_template_owned(NAME, without_generation_tags(&source))
        .map_err(|error| format!("does not compile: {error}"))?;
    Ok(environment)
}

/// The tags that frame what an assistant said (`{% generation %}`) say nothing about the text.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else {
            break;
        };
        out.push_str(before);
        out.push_str("{%");
        match inside.trim_matches(|c: char| c.is_whitespace() || "-+".contains(c)) {
            "generation" => out.push_str(&inside.replace("generation", "if true")),
            "endgeneration" => out.push_str(&inside.replace("endgeneration", "endif")),
            _ => out.push_str(inside),
        }
        out.push_str("%}");
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The one template of `chat_template`, which may be a list of named ones.
fn chosen(value: &Json, path: &Path) -> Result<Option<String>, Error> {
    let error = |message: &str| Error::ChatTemplate {
        path: path.to_path_buf(),
        message: message.to_owned(),
    };
    match value {
        Json::Null => Ok(None),
        Json::String(source) => Ok(Some(source.clone())),
        Json::Array(list) => list
            .iter()
            .find(|named| named["name"] == NAME)
            .and_then(|named| named["template"].as_str())
            .map(|source| Some(source.to_owned()))
            .ok_or_else(|| error("is a list without one called `default`")),
        _ => Err(error("is neither a text nor a list of named texts")),
    }
}

/// The text of a special token, which is a string or an object with one.
fn content(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

fn optional(path: &Path) -> Result<Json, Error> {
    if path.exists() {
        files::read_json(path)
    } else {
        Ok(Json::Null)
    }
}

fn text(path: &Path) -> Result<String, Error> {
    String::from_utf8(files::read(path)?).map_err(|error| Error::ChatTemplate {
        path: path.to_path_buf(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_keep_their_dashes() {
        assert_eq!(
            without_generation_tags("{%- generation -%} {{ a }}{% endgeneration %}{% if b %}{%"),
            "{%- if true -%} {{ a }}{% endif %}{% if b %}{%"
        );
    }
}
