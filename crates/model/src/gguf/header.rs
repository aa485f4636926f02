//! Everything in a GGUF file before the tensors' bytes: a bounded parser. The format is described
//! in the ggml project's documentation.
//!
//! Each count and length of the file is compared with the bytes that are left in it, and with a
//! limit of ours, before anything of that size is made.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::format::TensorType;
use super::metadata::{Metadata, Value};
use crate::Error;

/// The first four bytes.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// Bytes of metadata and tensor list; the largest vocabularies known need a tenth of it.
const HEADER_LIMIT: u64 = 1 << 27;
/// Elements of all arrays together.
const ELEMENT_LIMIT: u64 = 1 << 23;
/// Pairs, and tensors.
const ENTRY_LIMIT: u64 = 1 << 16;
/// Dimensions of a tensor, as in ggml.
const MAX_DIMENSIONS: u32 = 4;
/// Where tensors start unless the file says otherwise.
pub(crate) const ALIGNMENT: u64 = 32;

/// The parsed start of a file.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: BTreeMap<String, Entry>,
}

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Outermost dimension first, as everywhere in this crate; GGUF has them reversed.
    pub(crate) shape: Vec<usize>,
    /// Number of the stored format.
    pub(crate) kind: u32,
    /// First byte in the file.
    pub(crate) start: u64,
}

/// Widths of counts and lengths: 32 bits in version 1, 64 later.
#[derive(Clone, Copy, PartialEq)]
enum Width {
    Narrow,
    Wide,
}

struct Parser<'a, R> {
    reader: R,
    /// Bytes that the file still has.
    left: u64,
    /// Bytes that the header may still have.
    allowed: u64,
    /// Elements that arrays may still have.
    elements: u64,
    width: Width,
    path: &'a Path,
}

impl Header {
    /// Parses a file of `length` bytes.
    pub(crate) fn parse(reader: impl Read, length: u64, path: &Path) -> Result<Self, Error> {
        let mut parser = Parser {
            reader,
            left: length,
            allowed: HEADER_LIMIT,
            elements: ELEMENT_LIMIT,
            width: Width::Wide,
            path,
        };
        if parser.bytes()? != MAGIC {
            return Err(parser.damaged("it does not start with `GGUF`"));
        }
        let version = parser.u32()?;
        match version {
            1 => parser.width = Width::Narrow,
            2 | 3 => {}
            _ if version.swap_bytes() <= 3 => {
                return Err(parser.damaged("it is big-endian; little-endian files are read"));
            }
            _ => {
                let message = format!("it has version {version}; versions 1 to 3 are read");
                return Err(parser.damaged(&message));
            }
        }
        let tensor_count = parser.count("tensors")?;
        let pair_count = parser.count("pairs")?;
        let mut values = BTreeMap::new();
        for _ in 0..pair_count {
            let key = parser.string("a key")?;
            let value = parser.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(parser.damaged(&format!("it has `{key}` twice")));
            }
        }
        let metadata = Metadata {
            path: path.to_path_buf(),
            values,
        };
        let alignment = match metadata.size("general.alignment")? {
            None => ALIGNMENT,
            Some(size) if size.is_power_of_two() && size <= 1 << 16 => size as u64,
            Some(_) => {
                return Err(metadata.unsupported("general.alignment", "a power of two to 65536"));
            }
        };
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = parser.string("a tensor's name")?;
            let entry = parser.entry(&name, alignment)?;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(parser.damaged(&format!("it has the tensor `{name}` twice")));
            }
        }
        let data = (length - parser.left).next_multiple_of(alignment);
        for (name, entry) in &mut tensors {
            let cut = || Error::Gguf {
                path: path.to_path_buf(),
                message: format!("the tensor `{name}` reaches beyond the end; fetch it again"),
            };
            entry.start = entry.start.checked_add(data).ok_or_else(cut)?;
            // A format that is not known has no size; reading such a tensor is refused later.
            let Some(kind) = TensorType::of(entry.kind) else {
                continue;
            };
            let bytes = kind.bytes(&entry.shape).ok_or_else(|| Error::Gguf {
                path: path.to_path_buf(),
                message: format!(
                    "the tensor `{name}` of shape {:?} does not divide into blocks of {kind}",
                    entry.shape
                ),
            })?;
            let end = entry.start.checked_add(bytes as u64);
            if end.is_none_or(|end| end > length) {
                return Err(cut());
            }
        }
        Ok(Self { metadata, tensors })
    }
}

impl<R: Read> Parser<'_, R> {
    fn damaged(&self, message: &str) -> Error {
        Error::Gguf {
            path: self.path.to_path_buf(),
            message: message.to_owned(),
        }
    }

    /// Checks that the file has `size` more bytes, and that the header may have them.
    fn reserve(&mut self, size: u64) -> Result<(), Error> {
        if size > self.left {
            return Err(self.damaged("it ends too early; fetch it again"));
        }
        if size > self.allowed {
            let message = format!("its metadata exceeds {HEADER_LIMIT} bytes");
            return Err(self.damaged(&message));
        }
        self.left -= size;
        self.allowed -= size;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let outcome = self.reader.read_exact(bytes);
        outcome.map_err(|source| Error::Io {
            path: self.path.to_path_buf(),
            source,
        })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.reserve(N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn length(&mut self) -> Result<u64, Error> {
        match self.width {
            Width::Narrow => Ok(self.u32()?.into()),
            Width::Wide => Ok(u64::from_le_bytes(self.bytes()?)),
        }
    }

    fn count(&mut self, what: &str) -> Result<u64, Error> {
        let count = self.length()?;
        if count > ENTRY_LIMIT {
            let message = format!("it claims {count} {what}; at most {ENTRY_LIMIT} are read");
            return Err(self.damaged(&message));
        }
        Ok(count)
    }

    fn string(&mut self, what: &str) -> Result<String, Error> {
        let length = self.length()?;
        self.reserve(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(&format!("{what} is not UTF-8")))
    }

    fn value(&mut self, key: &str) -> Result<Value, Error> {
        let kind = self.u32()?;
        if kind != 9 {
            return self.scalar(kind, key);
        }
        let (kind, count) = (self.u32()?, self.length()?);
        if count > self.elements || count > self.left {
            let message = format!("`{key}` claims {count} elements");
            return Err(self.damaged(&message));
        }
        self.elements -= count;
        // Grows as elements come, so that a claim alone takes no memory.
        Ok(match kind {
            0..=5 | 10 | 11 => {
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(match self.scalar(kind, key)? {
                        Value::Signed(x) => x,
                        Value::Unsigned(x) => i64::try_from(x)
                            .map_err(|_| self.damaged(&format!("`{key}` overflows")))?,
                        _ => return Err(self.damaged(&format!("`{key}` is no list of integers"))),
                    });
                }
                Value::Integers(list)
            }
            6 | 12 => {
                let mut list = Vec::new();
                for _ in 0..count {
                    if let Value::Float(x) = self.scalar(kind, key)? {
                        list.push(x as f32);
                    }
                }
                Value::Floats(list)
            }
            7 => {
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.scalar(kind, key)? == Value::Flag(true));
                }
                Value::Flags(list)
            }
            8 => {
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.string(key)?);
                }
                Value::Texts(list)
            }
            _ => return Err(self.damaged(&format!("`{key}` is a list of type {kind}"))),
        })
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, Error> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.bytes()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Flag(self.bytes::<1>()? != [0]),
            8 => Value::Text(self.string(key)?),
            10 => Value::Unsigned(u64::from_le_bytes(self.bytes()?)),
            11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            _ => return Err(self.damaged(&format!("`{key}` is of type {kind}"))),
        })
    }

    /// A line of the tensor list, its offset still relative to the data.
    fn entry(&mut self, name: &str, alignment: u64) -> Result<Entry, Error> {
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            let message = format!("the tensor `{name}` has {dimensions} dimensions");
            return Err(self.damaged(&message));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = usize::try_from(self.length()?)
                .ok()
                .filter(|size| *size > 0);
            shape.push(size.ok_or_else(|| {
                self.damaged(&format!("the tensor `{name}` has a dimension of no size"))
            })?);
        }
        shape.reverse();
        let kind = self.u32()?;
        let start = u64::from_le_bytes(self.bytes()?);
        if !start.is_multiple_of(alignment) {
            let message = format!("the tensor `{name}` starts at {start}, which is not aligned");
            return Err(self.damaged(&message));
        }
        Ok(Entry { shape, kind, start })
    }
}
