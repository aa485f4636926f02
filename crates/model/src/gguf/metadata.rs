//! The typed key-value pairs at the start of a GGUF file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Error;

/// A value. The widths of the file are not kept: a reader asks for a size or a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Flags(Vec<bool>),
    Texts(Vec<String>),
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Unsigned(value as u64)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl Value {
    /// For error messages: long ones by their length.
    fn describe(&self) -> String {
        match self {
            Self::Unsigned(x) => x.to_string(),
            Self::Signed(x) => x.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Flag(x) => x.to_string(),
            Self::Text(x) => format!("{:?}", x.chars().take(80).collect::<String>()),
            Self::Integers(x) => format!("{} integers", x.len()),
            Self::Floats(x) => format!("{} numbers", x.len()),
            Self::Flags(x) => format!("{} flags", x.len()),
            Self::Texts(x) => format!("{} strings", x.len()),
        }
    }
}

/// All pairs of a file, with the path that errors name.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(crate) fn unsupported(&self, key: &str, supported: impl Into<String>) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            field: key.to_owned(),
            value: self
                .get(key)
                .map_or_else(|| "missing".to_owned(), Value::describe),
            supported: supported.into(),
        }
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::MissingField {
            path: self.path.clone(),
            field: key.to_owned(),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.unsupported(key, "a string")),
        }
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        let value = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(value)) => usize::try_from(*value).ok(),
            Some(Value::Signed(value)) => usize::try_from(*value).ok(),
            Some(_) => None,
        };
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(self.unsupported(key, "one whole number")),
        }
    }

    pub(crate) fn needed_size(&self, key: &str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(Value::Unsigned(value)) => Ok(Some(*value as f32)),
            Some(Value::Signed(value)) => Ok(Some(*value as f32)),
            Some(_) => Err(self.unsupported(key, "one number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.unsupported(key, "true or false")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.unsupported(key, "a list of strings")),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Option<&[i64]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(list)) => Ok(Some(list)),
            Some(_) => Err(self.unsupported(key, "a list of whole numbers")),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Floats(list)) => Ok(Some(list)),
            Some(_) => Err(self.unsupported(key, "a list of numbers")),
        }
    }

    /// A token of the vocabulary.
    pub(crate) fn token(&self, key: &str) -> Result<Option<u32>, Error> {
        self.size(key)?
            .map(|token| u32::try_from(token).map_err(|_| self.unsupported(key, "a token")))
            .transpose()
    }
}
