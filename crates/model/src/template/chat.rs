//! The template of a model, its own or the built-in one, as tokens.

use std::path::Path;
use std::sync::Arc;

use super::{Jinja, Role, Template, marks};
use crate::tokenizer::Tokenizer;
use crate::{Config, Error};

/// How conversations become the tokens of a prompt and of the answer after it, for tuning and for
/// serving alike. Cheap to clone.
///
/// The prompt is tokenized on its own and the answer after it, see [`super`].
#[derive(Clone, Debug)]
pub enum ChatTemplate {
    /// Question and answer in plain words.
    BuiltIn(Template),
    /// What the model was tuned with.
    Jinja(Arc<Jinja>),
}

impl From<Template> for ChatTemplate {
    fn from(template: Template) -> Self {
        Self::BuiltIn(template)
    }
}

impl From<&Template> for ChatTemplate {
    fn from(template: &Template) -> Self {
        Self::BuiltIn(template.clone())
    }
}

impl From<&Self> for ChatTemplate {
    fn from(template: &Self) -> Self {
        template.clone()
    }
}

impl ChatTemplate {
    /// The template of the model in `directory`: the one of [`super::FILE`], else the model's own
    /// Jinja template, else the built-in one that fits the tokenizer.
    ///
    /// # Errors
    /// When a template is there but cannot be used, with its file and the reason.
    pub fn of_model(directory: &Path, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let own = if directory.is_file() {
            Jinja::of_gguf(directory, tokenizer)?
        } else if let Some(template) = Template::load(directory)? {
            return Ok(Self::BuiltIn(template));
        } else {
            Jinja::load(directory, tokenizer)?
        };
        Ok(own.map_or_else(
            || Self::BuiltIn(Template::for_tokenizer(tokenizer)),
            |jinja| Self::Jinja(Arc::new(jinja)),
        ))
    }

    /// Text of the conversation, ready for the next answer, as people may read it.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the model's template refuses the conversation or fails.
    pub fn text(&self, turns: &[(Role, &str)]) -> Result<String, Error> {
        match self {
            Self::BuiltIn(template) => Ok(template.conversation(turns.iter().copied())),
            Self::Jinja(jinja) => Ok(marks::remove(&jinja.render(turns, true)?)),
        }
    }

    /// Tokens of the conversation, ready for the next answer; the one that begins a text is among
    /// them where there is one (`config.bos`, or what a Jinja template writes). What the turns say
    /// never becomes a special token.
    ///
    /// # Errors
    /// As [`ChatTemplate::text`].
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        config: &Config,
        turns: &[(Role, &str)],
    ) -> Result<Vec<u32>, Error> {
        match self {
            Self::BuiltIn(template) => {
                let mut tokens: Vec<u32> = config.bos.into_iter().collect();
                let text = template.conversation(turns.iter().copied());
                if !text.is_empty() {
                    tokens.extend(tokenizer.encode(&text));
                }
                Ok(tokens)
            }
            Self::Jinja(jinja) => Ok(tokenizer.encode_rendered(&jinja.render(turns, true)?, false)),
        }
    }

    /// Tokens of `answer` as it follows the prompt of `turns`, the one that ends it included.
    ///
    /// # Errors
    /// As [`ChatTemplate::text`]; also if a Jinja template writes the answered conversation
    /// differently from its prompt.
    pub fn answer(
        &self,
        tokenizer: &Tokenizer,
        config: &Config,
        turns: &[(Role, &str)],
        answer: &str,
    ) -> Result<Vec<u32>, Error> {
        let (mut tokens, ended) = match self {
            Self::BuiltIn(template) => (template.answer_tokens(tokenizer, answer), false),
            Self::Jinja(jinja) => (jinja.answer(tokenizer, turns, answer)?, jinja.end.is_some()),
        };
        if !ended {
            tokens.extend(config.eos.first());
        }
        Ok(tokens)
    }

    /// White space that an answer begins with and that is not shown.
    pub fn lead(&self) -> &str {
        match self {
            Self::BuiltIn(template) => &template.lead,
            Self::Jinja(jinja) => &jinja.lead,
        }
    }

    /// The token with which a Jinja template ends an answer. Serving must stop at it, even where
    /// the model's files do not name it among the ends.
    pub fn end(&self) -> Option<u32> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Jinja(jinja) => jinja.end,
        }
    }
}

#[cfg(test)]
mod tests;
