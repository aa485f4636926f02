//! Rows from files: JSONL and parquet, columns picked by name or pattern.
//!
//! Nothing is dropped in silence. A row that does not hold what the columns ask for is a [`Flaw`]
//! with its line; [`Read::strict`] refuses a file that has any, [`Read::rows`] goes on without them.

mod parquet;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use openledger_model::template::Role;
use serde_json::Value;

use crate::dataset::{Content, Row, Turn};
use crate::{Error, Flaws};

/// Which columns of a file make a row.
///
/// A column is named (`question`) or written as a pattern that may join several (`{title}:
/// {body}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Plain text.
    Text(String),
    /// A question and its answer.
    Answer {
        /// The question.
        prompt: String,
        /// The answer: what is learned.
        answer: String,
    },
    /// A list of `{role, content}` objects; the assistant's turns are learned.
    Messages(String),
}

impl Columns {
    /// One name or pattern is plain text, two are question and answer; a single column called
    /// `messages` or `conversations` is a conversation. Without any, `messages`.
    ///
    /// # Errors
    /// [`Error::Columns`] for three or more, or an open brace.
    pub fn parse(given: &[String]) -> Result<Self, Error> {
        let fail = |reason: String| Err(Error::Columns { reason });
        for pattern in given {
            if let Err(reason) = placeholders(pattern) {
                return fail(reason);
            }
        }
        match given {
            [] => Ok(Self::Messages("messages".into())),
            [one] if one == "messages" || one == "conversations" => Ok(Self::Messages(one.clone())),
            [text] => Ok(Self::Text(text.clone())),
            [prompt, answer] => Ok(Self::Answer {
                prompt: prompt.clone(),
                answer: answer.clone(),
            }),
            more => fail(format!(
                "{} columns are named: one makes plain text, two make question and answer",
                more.len()
            )),
        }
    }

    /// The columns that are read.
    fn names(&self) -> Vec<String> {
        let patterns = match self {
            Self::Text(text) => vec![text],
            Self::Answer { prompt, answer } => vec![prompt, answer],
            Self::Messages(column) => return vec![column.clone()],
        };
        let mut names = Vec::new();
        for pattern in patterns {
            match placeholders(pattern) {
                Ok(found) if !found.is_empty() => names.extend(found),
                _ => names.push(pattern.clone()),
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// The row's content, or what is wrong with it.
    fn content(&self, row: &Value) -> Result<Content, String> {
        let text = |pattern: &str| {
            let text = if pattern.contains('{') {
                fill(pattern, row)?
            } else {
                column(pattern, row)?
            };
            match text.trim().is_empty() {
                true => Err(format!("`{pattern}` is empty")),
                false => Ok(text),
            }
        };
        match self {
            Self::Text(pattern) => Ok(Content::Text(text(pattern)?)),
            Self::Answer { prompt, answer } => Ok(Content::Answer {
                prompt: text(prompt)?,
                answer: text(answer)?,
            }),
            Self::Messages(column) => turns(column, row).map(Content::Conversation),
        }
    }
}

/// Columns named by the braces of a pattern.
fn placeholders(pattern: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{pattern}` has an open brace"))?;
        names.push(name.to_owned());
        rest = after;
    }
    Ok(names)
}

/// Replaces `{column}` by the row's value; null is empty.
pub(crate) fn fill(pattern: &str, row: &Value) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{pattern}` has an open brace"))?;
        text.push_str(before);
        text.push_str(&column(name, row)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// A row's value as text.
fn column(name: &str, row: &Value) -> Result<String, String> {
    match row.get(name) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(Value::Number(value)) => Ok(value.to_string()),
        Some(Value::Null) => Ok(String::new()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("column `{name}` is not text or a number"))
        }
        None => Err(match row.as_object() {
            Some(fields) if !fields.is_empty() => {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("no column `{name}`; there are {}", known.join(", "))
            }
            Some(_) => format!("no column `{name}`; the row is empty"),
            None => "not a JSON object".to_owned(),
        }),
    }
}

/// A conversation: `[{"role": "user", "content": "..."}, ...]`.
fn turns(name: &str, row: &Value) -> Result<Vec<Turn>, String> {
    let list = match row.get(name) {
        Some(Value::Array(list)) => list,
        Some(_) => return Err(format!("column `{name}` is not a list of messages")),
        None => return column(name, row).map(|_| Vec::new()),
    };
    let mut turns = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let at = format!("message {} of `{name}`", index + 1);
        let role = match message.get("role").and_then(Value::as_str) {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some(other) => {
                let known = "system, user and assistant are known";
                return Err(format!("{at} has the role {other:?}; {known}"));
            }
            None => return Err(format!("{at} has no `role`")),
        };
        let content = message.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| format!("{at} has no text in `content`"))?;
        turns.push(Turn {
            role,
            content: content.to_owned(),
        });
    }
    match turns.iter().any(|turn| turn.role == Role::Assistant) {
        true => Ok(turns),
        false => Err(format!(
            "`{name}` holds no answer: no turn of the assistant"
        )),
    }
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Line from 1; in a parquet file the row's number.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Read {
    path: PathBuf,
    rows: Vec<Row>,
    flaws: Vec<Flaw>,
}

impl Read {
    /// The usable rows; their ids count the lines of the file from 0.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that cannot be used, in order.
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// All rows of a file without flaws.
    ///
    /// # Errors
    /// [`Error::Rows`] with count, lines and reasons, if there are flaws.
    pub fn strict(self) -> Result<Vec<Row>, Error> {
        if self.flaws.is_empty() {
            return Ok(self.rows);
        }
        Err(Error::Rows {
            path: self.path,
            of: self.rows.len() + self.flaws.len(),
            flaws: Flaws(self.flaws),
        })
    }
}

/// Reads the rows of a `.jsonl` or `.parquet` file, at most `limit`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`] if the file cannot be read at all, [`Error::NoRowsIn`] if it
/// holds no row, and [`Error::Rows`] if it has rows but none is usable.
pub fn read(path: &Path, columns: &Columns, limit: usize) -> Result<Read, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let mut read = Read {
        path: path.to_owned(),
        rows: Vec::new(),
        flaws: Vec::new(),
    };
    let mut take = |line: usize, row: Result<Value, String>| {
        match row.and_then(|row| columns.content(&row)) {
            Ok(content) => read.rows.push(Row {
                id: (line - 1) as u32,
                content,
            }),
            Err(reason) => read.flaws.push(Flaw { line, reason }),
        }
        read.rows.len() < limit
    };
    match extension {
        Some("jsonl" | "ndjson" | "json") => json_lines(path, &mut take)?,
        Some("parquet") => parquet::rows(path, &columns.names(), &mut take)?,
        _ => {
            return Err(Error::Parse {
                path: path.to_owned(),
                what: "rows",
                reason: "its name must end in .jsonl or .parquet".into(),
            });
        }
    }
    match (read.rows.is_empty(), read.flaws.is_empty()) {
        (true, true) => Err(Error::NoRowsIn { path: read.path }),
        (true, false) => read.strict().map(|_| unreachable!("it has flaws")),
        (false, _) => Ok(read),
    }
}

/// Gives every line that is not blank to `take`, until that says no.
fn json_lines(
    path: &Path,
    take: &mut dyn FnMut(usize, Result<Value, String>) -> bool,
) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                take(index + 1, Err("not UTF-8".into()));
                continue;
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line).map_err(|error| format!("not JSON: {error}"));
        if !take(index + 1, row) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
