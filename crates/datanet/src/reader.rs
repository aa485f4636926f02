//! Lines, JSON and columns, each with bounds.

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;
use crate::policy::Policy;
use crate::reason::{Evidence, Reason};

/// Which columns of a line mean what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Text columns: one is plain text; of several the last is the answer and the others, joined
    /// by newlines, are the prompt.
    pub text: Vec<String>,
    /// Column with the contributor's name.
    pub contributor: String,
    /// Column with the row's field of knowledge; a line may lack it.
    pub label: Option<String>,
    /// Lines to read; all if `None`.
    pub limit: Option<u64>,
}

impl Mapping {
    /// A mapping of these columns, with labels from a column `field` where there is one.
    pub fn new<T: Into<String>>(
        text: impl IntoIterator<Item = T>,
        contributor: impl Into<String>,
    ) -> Self {
        Self {
            text: text.into_iter().map(Into::into).collect(),
            contributor: contributor.into(),
            label: Some("field".into()),
            limit: None,
        }
    }

    /// The same, reading at most `lines` lines.
    #[must_use]
    pub const fn limited(mut self, lines: Option<u64>) -> Self {
        self.limit = lines;
        self
    }

    /// Whether rows have a prompt.
    pub const fn is_pair(&self) -> bool {
        self.text.len() > 1
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.text.is_empty() {
            return Err(Error::Mapping("name at least one text column"));
        }
        if self
            .text
            .iter()
            .chain([&self.contributor])
            .any(String::is_empty)
        {
            return Err(Error::Mapping("a column name is empty"));
        }
        let twice = |(at, name): (usize, &String)| self.text[..at].contains(name);
        if self.text.iter().enumerate().any(twice) {
            return Err(Error::Mapping("a text column is named twice"));
        }
        Ok(())
    }
}

/// The mapped columns of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) contributor: String,
    /// Values of the text columns, in mapping order.
    pub(crate) text: Vec<String>,
    pub(crate) label: Option<String>,
}

/// Why a line gave no columns; the contributor where it was readable.
pub(crate) type Refused = (Option<String>, Reason, Evidence);

/// One line as read.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// Its bytes without the newline, or its length if it was too long to keep.
    pub(crate) bytes: Result<Vec<u8>, u64>,
}

/// Splits a reader into lines of bounded memory.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    limit: u64,
    number: u64,
    /// Bytes read so far.
    pub(crate) consumed: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) const fn new(reader: R, limit: u64) -> Self {
        Self {
            reader,
            limit,
            number: 0,
            consumed: 0,
        }
    }

    /// The next line, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Error> {
        let mut bytes = Vec::new();
        let mut length = 0u64;
        let mut any = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::Read {
                        line: self.number,
                        source,
                    });
                }
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let newline = available.iter().position(|&byte| byte == b'\n');
            let part = &available[..newline.unwrap_or(available.len())];
            length += part.len() as u64;
            if length <= self.limit {
                bytes.extend_from_slice(part);
            }
            let used = part.len() + usize::from(newline.is_some());
            self.reader.consume(used);
            self.consumed += used as u64;
            if newline.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Line {
            number: self.number,
            bytes: if length <= self.limit {
                Ok(bytes)
            } else {
                Err(length)
            },
        }))
    }
}

/// The mapped columns of a line.
pub(crate) fn columns(line: &Line, mapping: &Mapping, policy: &Policy) -> Result<Columns, Refused> {
    let bytes = line.bytes.as_ref().map_err(|&length| {
        let (value, limit) = (length, policy.max_line_bytes);
        (
            None,
            Reason::LineTooLong,
            Evidence::Measure { value, limit },
        )
    })?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to() as u64;
        (None, Reason::InvalidUtf8, Evidence::Byte { offset })
    })?;
    // A byte order mark may open the file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err((None, Reason::EmptyLine, Evidence::None));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        (None, Reason::MalformedJson, Evidence::Syntax { message })
    })?;
    let Value::Object(mut object) = value else {
        return Err((None, Reason::NotAnObject, Evidence::None));
    };
    let contributor = take(&mut object, &mapping.contributor)
        .map_err(|(reason, evidence)| (None, reason, evidence))?;
    let mut values = Vec::with_capacity(mapping.text.len());
    for name in &mapping.text {
        // The contributor's name may also be part of the text.
        let value = if *name == mapping.contributor {
            Ok(contributor.clone())
        } else {
            take(&mut object, name)
        };
        values.push(
            value.map_err(|(reason, evidence)| (Some(contributor.clone()), reason, evidence))?,
        );
    }
    let label = mapping
        .label
        .as_ref()
        .and_then(|name| object.get(name)?.as_str().map(str::to_owned));
    Ok(Columns {
        contributor,
        text: values,
        label,
    })
}

fn take(object: &mut Map<String, Value>, name: &str) -> Result<String, (Reason, Evidence)> {
    let (reason, found) = match object.get_mut(name) {
        Some(Value::String(text)) => return Ok(std::mem::take(text)),
        None => (Reason::MissingColumn, "absent"),
        Some(Value::Null) => (Reason::MissingColumn, "null"),
        Some(Value::Bool(_)) => (Reason::WrongType, "boolean"),
        Some(Value::Number(_)) => (Reason::WrongType, "number"),
        Some(Value::Array(_)) => (Reason::WrongType, "array"),
        Some(Value::Object(_)) => (Reason::WrongType, "object"),
    };
    Err((
        reason,
        Evidence::Column {
            name: name.into(),
            found: found.into(),
        },
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn lines(bytes: &[u8], buffer: usize, limit: u64) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, bytes), limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.bytes));
        }
        assert_eq!(lines.consumed, bytes.len() as u64);
        all
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        let expected = vec![
            (1, Ok(b"a".to_vec())),
            (2, Ok(vec![])),
            (3, Ok(b"b".to_vec())),
        ];
        assert_eq!(lines(b"a\n\nb", 2, 9), expected);
        assert_eq!(lines(b"a\n\nb\n", 2, 9), expected);
        assert!(lines(b"", 2, 9).is_empty());
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_buffer(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            buffer in 1usize..50,
        ) {
            let mut expected: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            let expected: Vec<_> = (1..)
                .zip(expected.iter().map(|line| match line.len() {
                    0..=20 => Ok(line.to_vec()),
                    long => Err(long as u64),
                }))
                .collect();
            prop_assert_eq!(lines(&bytes, buffer, 20), expected);
        }
    }

    #[test]
    fn mappings_that_cannot_work_are_errors() {
        let none: [&str; 0] = [];
        assert!(Mapping::new(none, "who").check().is_err());
        assert!(Mapping::new(["a", "a"], "who").check().is_err());
        assert!(Mapping::new(["a", ""], "who").check().is_err());
        assert!(Mapping::new(["a", "who"], "who").check().is_ok());
    }
}
