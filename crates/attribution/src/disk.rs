//! The sketch file: one header, three arrays, one checksum.
//!
//! ```text
//! "OLSK" | version u16 | dimensions u32 | seed u64 | fit_rows u32 | damping_ppm u32
//! | parameters u64 | rows u64 | decoys u64 | preconditioner [parameters] f32
//! | sketches [rows + decoys, dimensions] i8 | keccak256 of everything before
//! ```
//! Little-endian. Written atomically.

use std::path::Path;

use openledger_primitives::keccak256;

use crate::spec::VERSION;
use crate::{Error, RowSketches, SketchSpec};

const MAGIC: [u8; 4] = *b"OLSK";
const CHECKSUM: usize = 32;

/// Takes fields off the front of a file.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| format!("it ends {} bytes early", count - self.0.len()))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(bytes
            .try_into()
            .expect("take returns as many bytes as asked for"))
    }

    fn count(&mut self) -> Result<usize, String> {
        let count = u64::from_le_bytes(self.array()?);
        usize::try_from(count).map_err(|_| format!("a count of {count} is absurd"))
    }
}

impl RowSketches {
    /// Writes the sketches to `path`, replacing what is there in one step.
    ///
    /// # Errors
    /// [`Error::Store`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let mut file = Vec::with_capacity(96 + 4 * self.weights().len() + self.bytes().len());
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend(self.spec().dimensions.to_le_bytes());
        file.extend(self.spec().seed.to_le_bytes());
        file.extend(self.spec().fit_rows.to_le_bytes());
        file.extend(self.spec().damping_ppm.to_le_bytes());
        for count in [self.weights().len(), self.rows(), self.decoys()] {
            file.extend((count as u64).to_le_bytes());
        }
        file.extend(
            self.weights()
                .iter()
                .flat_map(|weight| weight.to_le_bytes()),
        );
        file.extend(self.bytes().iter().map(|byte| byte.cast_unsigned()));
        let checksum = keccak256(&file);
        file.extend(checksum);
        Ok(openledger_store::write_atomic(path, &file)?)
    }

    /// Reads sketches back.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file is not what [`Self::save`] wrote, [`Error::Store`] if it
    /// cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = openledger_store::read(path)?;
        Self::parse(&file).map_err(|reason| Error::Corrupt {
            path: path.to_path_buf(),
            reason,
        })
    }

    fn parse(file: &[u8]) -> Result<Self, String> {
        let mut reader = Reader(file);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err("it does not begin with OLSK".into());
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(format!(
                "it has version {version}, this program reads {VERSION}"
            ));
        }
        let body = file.len().saturating_sub(CHECKSUM);
        if keccak256(&file[..body]).as_slice() != &file[body..] {
            return Err("its checksum does not match its content".into());
        }
        let spec = SketchSpec {
            dimensions: u32::from_le_bytes(reader.array()?),
            seed: u64::from_le_bytes(reader.array()?),
            fit_rows: u32::from_le_bytes(reader.array()?),
            damping_ppm: u32::from_le_bytes(reader.array()?),
        };
        spec.validate().map_err(|error| error.to_string())?;
        let (parameters, rows, decoys) = (reader.count()?, reader.count()?, reader.count()?);
        let size = |count: usize, each: usize| {
            count
                .checked_mul(each)
                .ok_or_else(|| format!("a count of {count} is absurd"))
        };
        let weights: Vec<f32> = reader
            .take(size(parameters, 4)?)?
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes")))
            .collect();
        if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
            return Err(format!(
                "weight {at} of its preconditioner is not a finite number"
            ));
        }
        let sketches = size(rows.saturating_add(decoys), spec.dimensions as usize)?;
        let bytes = reader
            .take(sketches)?
            .iter()
            .map(|byte| byte.cast_signed())
            .collect();
        if reader.0.len() != CHECKSUM {
            return Err(format!("{} bytes follow its content", reader.0.len()));
        }
        Ok(Self::assemble(spec, weights, rows, bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sketches() -> RowSketches {
        let spec = SketchSpec {
            dimensions: 4,
            ..SketchSpec::default()
        };
        let bytes = vec![1, -2, 3, -4, 5, -6, 7, -128, 9, 10, 11, 127];
        RowSketches::assemble(spec, vec![1.5, 0.25], 2, bytes)
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.sketch");
        sketches().save(&path).unwrap();
        let found = RowSketches::open(&path).unwrap();
        assert_eq!(found, sketches());
        assert_eq!((found.rows(), found.decoys()), (2, 1));
        assert_eq!(found.row(1).unwrap(), [5, -6, 7, -128]);
        assert_eq!(found.row(2), None);
    }

    #[test]
    fn any_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.sketch");
        let check = |spoil: &dyn Fn(&mut Vec<u8>), expected: &str| {
            sketches().save(&path).unwrap();
            let mut file = std::fs::read(&path).unwrap();
            spoil(&mut file);
            openledger_store::write_atomic(&path, &file).unwrap();
            let error = RowSketches::open(&path).unwrap_err().to_string();
            assert!(error.contains("rows.sketch"), "{error}");
            assert!(
                error.contains(expected),
                "{error:?} does not say {expected:?}"
            );
        };
        check(&|file| file[0] = b'X', "does not begin with OLSK");
        check(&|file| file[4] = 9, "version 9, this program reads 1");
        check(&|file| file[60] ^= 1, "checksum");
        check(&|file| file.truncate(file.len() - 1), "checksum");
        check(&|file| file.truncate(3), "ends 1 bytes early");
        check(&|file| file.clear(), "ends 4 bytes early");
        let reseal = |file: &mut Vec<u8>| {
            file.truncate(file.len() - CHECKSUM);
            let checksum = keccak256(&*file);
            file.extend(checksum);
        };
        check(
            &|file| {
                file[34..42].fill(0xff);
                reseal(file);
            },
            "absurd",
        );
        check(
            &|file| {
                file[34] = 200;
                reseal(file);
            },
            "bytes early",
        );
        check(
            &|file| {
                file.insert(file.len() - CHECKSUM, 0);
                reseal(file);
            },
            "33 bytes follow",
        );
        assert!(matches!(
            RowSketches::open(&dir.path().join("none")),
            Err(Error::Store(openledger_store::Error::File { .. }))
        ));
    }
}
