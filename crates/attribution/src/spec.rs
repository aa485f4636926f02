//! What a sketch is: dimensions, seed and preconditioning, as one committed record.

use alloy_sol_types::SolValue;
use openledger_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How gradients become sketches. Two parties with the same specification, model and rows compute
/// the same bytes; its digest is part of the method id in every report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchSpec {
    /// Dimensions, and bytes, of a sketch: a power of two.
    pub dimensions: u32,
    /// Seed of the projection.
    pub seed: u64,
    /// Rows that the preconditioner is fitted on, spread evenly over the training rows.
    pub fit_rows: u32,
    /// Damping of the preconditioner, in millionths of the mean squared gradient.
    pub damping_ppm: u32,
}

/// Version of the arithmetic below the specification; part of its digest.
pub(crate) const VERSION: u16 = 1;

impl Default for SketchSpec {
    fn default() -> Self {
        Self {
            dimensions: 2048,
            seed: 0x4f50_454e,
            fit_rows: 64,
            damping_ppm: 10_000,
        }
    }
}

impl SketchSpec {
    /// `keccak256(abi.encode(version, dimensions, seed, fitRows, dampingPpm))`.
    pub fn digest(&self) -> B256 {
        let Self {
            dimensions,
            seed,
            fit_rows,
            damping_ppm,
        } = *self;
        keccak256((VERSION, dimensions, seed, fit_rows, damping_ppm).abi_encode())
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Spec`] if a field is zero, or the dimensions are no power of two (the rotation needs
    /// one) or exceed 2^16 (an int8 dot product could leave 32 bits).
    pub fn validate(&self) -> Result<(), Error> {
        if !self.dimensions.is_power_of_two() || self.dimensions > 1 << 16 {
            return Err(Error::Spec(
                "dimensions must be a power of two up to 65,536",
            ));
        }
        if self.fit_rows == 0 {
            return Err(Error::Spec(
                "the preconditioner needs at least one row to be fitted on",
            ));
        }
        if self.damping_ppm == 0 {
            return Err(Error::Spec(
                "damping must be positive, or unused parameters divide by 0",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_field_changes_the_digest() {
        let spec = SketchSpec::default();
        let others = [
            SketchSpec {
                dimensions: 1024,
                ..spec
            },
            SketchSpec { seed: 1, ..spec },
            SketchSpec {
                fit_rows: 1,
                ..spec
            },
            SketchSpec {
                damping_ppm: 1,
                ..spec
            },
        ];
        assert!(others.iter().all(|other| other.digest() != spec.digest()));
        spec.validate().unwrap();
        assert!(
            SketchSpec {
                dimensions: 0,
                ..spec
            }
            .validate()
            .is_err()
        );
        assert!(
            SketchSpec {
                fit_rows: 0,
                ..spec
            }
            .validate()
            .is_err()
        );
        assert!(
            SketchSpec {
                damping_ppm: 0,
                ..spec
            }
            .validate()
            .is_err()
        );
    }
}
