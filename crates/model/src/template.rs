//! Templates of questions and answers: the one place that says how a question becomes prompt text,
//! used by tuning and by serving alike, so that a tuned model is asked the way it was taught.
//!
//! The hard decision: **the prompt is always tokenized on its own**, and the answer after it on its
//! own. A tokenizer may merge across the seam of `prompt + answer`, and then a served prompt (which
//! has no answer yet) would end in other tokens than every training example. Where words carry a
//! leading space the seam stands before the space (`lead = " "`); where they carry a trailing one
//! it stands after it and `prompt_suffix` ends with the space ([`Template::for_tokenizer`]).
//!
//! A model that comes with a chat template of its own is asked by that one ([`Jinja`]);
//! [`ChatTemplate`] is either.

mod chat;
mod jinja;
mod marks;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::tokenizer::Tokenizer;

pub use chat::ChatTemplate;
pub use jinja::Jinja;
pub(crate) use marks::MARK;

/// File name of a template beside a model's or an adapter's weights.
pub const FILE: &str = "openledger_template.json";

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that precede the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in files and templates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// How questions and answers are written as text.
///
/// A prompt is `prompt_prefix + question + prompt_suffix`; the answer follows as
/// `lead + answer`, closed by the end-of-text token. A conversation is its turns joined by
/// `separator`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Version of this format: 1.
    pub version: u16,
    /// Before the question.
    pub prompt_prefix: String,
    /// After the question.
    pub prompt_suffix: String,
    /// Between the prompt and the first character of an answer or of plain text.
    pub lead: String,
    /// Between two turns of a conversation.
    pub separator: String,
}

impl Template {
    /// The template for tokenizers whose words carry a leading space (GPT-2, Llama 3, Qwen).
    pub fn leading_space() -> Self {
        Self {
            version: 1,
            prompt_prefix: "Question: ".into(),
            prompt_suffix: "\nAnswer:".into(),
            lead: " ".into(),
            separator: "\n\n".into(),
        }
    }

    /// The template for tokenizers whose words carry a trailing space.
    pub fn trailing_space() -> Self {
        Self {
            prompt_suffix: "\nAnswer: ".into(),
            lead: String::new(),
            ..Self::leading_space()
        }
    }

    /// The built-in template that fits where `tokenizer` puts the spaces.
    pub fn for_tokenizer(tokenizer: &Tokenizer) -> Self {
        let probe = tokenizer.encode("and then they saw that there was a little house in the big");
        let (mut leading, mut trailing) = (0, 0);
        for token in probe {
            let bytes = tokenizer.token_bytes(token);
            if bytes.len() > 1 {
                leading += usize::from(bytes.first() == Some(&b' '));
                trailing += usize::from(bytes.last() == Some(&b' '));
            }
        }
        if trailing > leading {
            Self::trailing_space()
        } else {
            Self::leading_space()
        }
    }

    /// The template stored in `directory`, or `None` if it holds none.
    ///
    /// # Errors
    /// [`Error`] if the file is there but does not parse.
    pub fn load(directory: &Path) -> Result<Option<Self>, Error> {
        // A GGUF file has no files beside it that are known to be its own.
        if directory.is_file() {
            return Ok(None);
        }
        let path = directory.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Json { path, source })
    }

    /// Text of the prompt that asks `question`.
    pub fn prompt(&self, question: &str) -> String {
        format!("{}{question}{}", self.prompt_prefix, self.prompt_suffix)
    }

    /// Text of a conversation, ready for the next answer. A system turn stands before everything
    /// as it is; an assistant turn closes the question before it.
    pub fn conversation<'a>(&self, turns: impl IntoIterator<Item = (Role, &'a str)>) -> String {
        let mut text = String::new();
        let mut open = false;
        for (role, content) in turns {
            let answers = open && role == Role::Assistant;
            if !text.is_empty() && !answers {
                text.push_str(&self.separator);
            }
            match role {
                Role::System => text.push_str(content),
                Role::User => {
                    text.push_str(&self.prompt(content));
                    open = true;
                    continue;
                }
                Role::Assistant => {
                    text.push_str(&self.lead);
                    text.push_str(content);
                }
            }
            open = false;
        }
        text
    }

    /// Tokens of the answer `text`, as they follow the prompt.
    pub fn answer_tokens(&self, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode_continuation(&format!("{}{text}", self.lead))
    }

    /// The bytes that identify the template: its JSON, fields in order of declaration, no spaces.
    ///
    /// # Panics
    /// Never: strings and a number always serialise.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and a number always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_of_one_question_is_its_prompt() {
        for template in [Template::leading_space(), Template::trailing_space()] {
            let question = "What is a Datanet?";
            assert_eq!(
                template.conversation([(Role::User, question)]),
                template.prompt(question)
            );
        }
    }

    #[test]
    fn turns_are_joined() {
        let text = Template::leading_space().conversation([
            (Role::System, "Be brief."),
            (Role::User, "One?"),
            (Role::Assistant, "1"),
            (Role::User, "Two?"),
        ]);
        assert_eq!(
            text,
            "Be brief.\n\nQuestion: One?\nAnswer: 1\n\nQuestion: Two?\nAnswer:"
        );
    }

    #[test]
    fn the_bytes_change_with_every_field() {
        let one = Template::leading_space();
        let two = Template::trailing_space();
        assert_ne!(one.canonical_bytes(), two.canonical_bytes());
        let read: Template =
            serde_json::from_slice(&one.canonical_bytes()).expect("what it wrote it reads");
        assert_eq!(read, one);
    }
}
