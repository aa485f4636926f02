//! The index file: header, arrays, checksum.
//!
//! ```text
//! "OLSUFIDX" | u32 version | u32 vocab | u64 ids | u64 documents | u64 text
//! ids: u32 each | document starts: u32 each | text: u16 each | suffixes: u32 each
//! keccak256 of everything before
//! ```
//! All numbers little-endian. Written to a temporary file beside the target, synced and renamed,
//! so a reader sees the old index or the new one and nothing between.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use openledger_primitives::keccak256;

use crate::index::{self, SEPARATOR};
use crate::{Error, Index};

const MAGIC: &[u8; 8] = b"OLSUFIDX";
const VERSION: u32 = 1;
const HEADER: usize = 40;
const CHECKSUM: usize = 32;

impl Index {
    /// Writes the index to `path`, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes();
        let fail = |action| {
            move |source| Error::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            // The rename itself must survive a crash too.
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => File::open(".")?.sync_all(),
            }
        };
        write().map_err(fail("write"))
    }

    /// Reads an index that [`save`](Self::save) wrote, and checks its checksum and its shape.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was written by another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|reason| Error::Corrupt {
            path: path.to_owned(),
            reason,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 6 * self.text.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.vocab.to_le_bytes());
        for count in [self.ids.len(), self.documents.len(), self.text.len()] {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        for value in self.ids.iter().chain(&self.documents) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in &self.text {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in &self.suffixes {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let checksum = keccak256(&bytes);
        bytes.extend_from_slice(checksum.as_slice());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(MAGIC) {
            return Err("it does not begin with the index mark".into());
        }
        if bytes.len() < HEADER + CHECKSUM {
            return Err(format!("it ends after {} bytes", bytes.len()));
        }
        let version = u32::from_le_bytes(array(&bytes[8..12]));
        if version != VERSION {
            return Err(format!(
                "its format is version {version}, this program reads {VERSION}; build it again"
            ));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if keccak256(content).as_slice() != checksum {
            return Err("the checksum does not match its content".into());
        }
        let vocab = u32::from_le_bytes(array(&content[12..16]));
        let count = |at: usize| u64::from_le_bytes(array(&content[at..at + 8]));
        let (ids, documents, text) = (count(16), count(24), count(32));
        let expected = 4 * u128::from(ids) + 4 * u128::from(documents) + 6 * u128::from(text);
        if expected != (content.len() - HEADER) as u128 {
            return Err(format!(
                "its header promises {expected} bytes of arrays, {} follow",
                content.len() - HEADER
            ));
        }
        let mut rest = &content[HEADER..];
        let mut take = |len: u64| {
            // The lengths add up to what is there, so each fits memory.
            let (part, tail) = rest.split_at(len as usize);
            rest = tail;
            part
        };
        let ids = words(take(4 * ids));
        let documents = words(take(4 * documents));
        let text: Vec<u16> = take(2 * text)
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes(array(pair)))
            .collect();
        let suffixes = words(rest);
        check(vocab, &ids, &documents, &text, &suffixes)?;
        let codes = index::codes(&ids, vocab).map_err(|error| error.to_string())?;
        Ok(Self::assemble(vocab, ids, codes, text, documents, suffixes))
    }
}

/// The shape that queries rely on, so that a damaged file can never make them panic.
fn check(
    vocab: u32,
    ids: &[u32],
    documents: &[u32],
    text: &[u16],
    suffixes: &[u32],
) -> Result<(), String> {
    if !ids.is_sorted_by(|a, b| a < b) || ids.last().is_some_and(|&id| id >= vocab) {
        return Err("its token ids are not ascending ids of its vocabulary".into());
    }
    if text.iter().any(|&code| usize::from(code) > ids.len()) {
        return Err("its text holds codes that it does not define".into());
    }
    let ends = text
        .iter()
        .enumerate()
        .filter(|&(_, &code)| code == SEPARATOR)
        .map(|(at, _)| at as u32 + 1);
    if !documents.iter().copied().eq(std::iter::once(0).chain(ends))
        || documents.last().map(|&end| end as usize) != Some(text.len())
    {
        return Err("its document starts do not match its separators".into());
    }
    if suffixes.iter().any(|&at| at as usize >= text.len()) {
        return Err("its suffix array points outside its text".into());
    }
    Ok(())
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(array(word)))
        .collect()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cuts exactly N bytes")
}
