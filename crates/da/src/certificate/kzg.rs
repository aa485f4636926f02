//! Commitments to polynomials (Kate, Zaverucha and Goldberg 2010) over BN254.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup, VariableBaseMSM};
use ark_ff::{Field, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use openledger_primitives::keccak256;

use super::points::{G1_LEN, integer, read_g1_trusted, write_g1};
use crate::encoding::{self, EncodingError, SYMBOL_LEN};

/// The seed of the development setup. It is public, as is therefore the secret that a setup must
/// not have: see [`Srs::development`].
pub const DEVELOPMENT_SEED: &str = "openledger development srs, 1: this is no secret";

/// The most symbols of a blob: EigenDA's 16 MiB.
pub const MAX_SYMBOLS: usize = 1 << 19;

/// Points are made for at least so many symbols.
const LEAST_SYMBOLS: usize = 1 << 12;

/// A structured reference string: the powers of a secret as points, which is what commitments are
/// made with.
///
/// Points are made when a payload first needs them, in powers of two, and kept in a file if there
/// is a folder for it.
pub struct Srs {
    seed: String,
    points: RwLock<Arc<Vec<G1Affine>>>,
    file: Option<PathBuf>,
}

impl Srs {
    /// The setup for development, from [`DEVELOPMENT_SEED`].
    ///
    /// **Whoever knows the seed can forge**: they can make payloads with the same commitment as
    /// another one. That is everybody, so nothing here rests on this commitment alone; a
    /// certificate also holds the payload's keccak256. The setup is here so that the code that
    /// makes and checks commitments is the real one.
    ///
    /// With a folder, points are read from and written to a file in it.
    #[must_use]
    pub fn development(folder: Option<&Path>) -> Self {
        Self::from_seed(DEVELOPMENT_SEED, folder)
    }

    /// As [`development`](Self::development), from another seed. No more secret than the seed.
    #[must_use]
    pub fn from_seed(seed: &str, folder: Option<&Path>) -> Self {
        Self {
            seed: seed.to_owned(),
            points: RwLock::default(),
            file: folder.map(|folder| folder.join("srs.bin")),
        }
    }

    /// The secret as a point of G2: names the setup.
    pub(super) fn tau_g2(&self) -> G2Affine {
        (G2Projective::generator() * self.tau()).into_affine()
    }

    /// The commitment to `payload`.
    ///
    /// As EigenDA's clients do, the encoded payload is read as the *values* of a polynomial at
    /// the roots of unity; the blob that operators hold is its coefficients, and the commitment
    /// is to these. One multi-scalar multiplication, `O(n / log n)` additions of points.
    ///
    /// # Errors
    /// [`EncodingError::TooLong`].
    pub fn commit(&self, payload: &[u8]) -> Result<Point, EncodingError> {
        let coefficients = coefficients(payload)?;
        let points = self.points(coefficients.len());
        Ok(Point(multiply(&points, &coefficients)))
    }

    /// At least `count` powers.
    fn points(&self, count: usize) -> Arc<Vec<G1Affine>> {
        let known = self.points.read().unwrap_or_else(PoisonError::into_inner);
        let points = known.clone();
        drop(known);
        if points.len() >= count {
            return points;
        }
        // Held while points are made: whoever needs them too must wait anyway.
        let mut known = self.points.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < count {
            *known = Arc::new(self.grow(count.max(LEAST_SYMBOLS).next_power_of_two()));
        }
        known.clone()
    }

    fn grow(&self, count: usize) -> Vec<G1Affine> {
        let from_file = self.file.as_deref().and_then(|file| self.load(file));
        if let Some(points) = from_file.filter(|points| points.len() >= count) {
            return points;
        }
        let begun = std::time::Instant::now();
        let tau = self.tau();
        let table = BatchMulPreprocessing::new(G1Projective::generator(), count);
        let parts = in_parts(count, |part| {
            let mut power = tau.pow([part.start as u64]);
            let powers: Vec<Fr> = part
                .map(|_| {
                    let this = power;
                    power *= tau;
                    this
                })
                .collect();
            table.batch_mul(&powers)
        });
        let points = parts.concat();
        tracing::debug!(count, elapsed = ?begun.elapsed(), "points of the setup are made");
        if let Some(file) = &self.file
            && let Err(error) = self.save(file, &points)
        {
            tracing::warn!(%error, "the points of the setup are not kept");
        }
        points
    }

    /// `keccak256(seed | rest of the file) | points`. What does not hash to its name is made anew,
    /// so a point in the file needs no other check.
    fn save(&self, file: &Path, points: &[G1Affine]) -> Result<(), openledger_store::Error> {
        let bytes: Vec<u8> = points.iter().flat_map(write_g1).collect();
        let checksum = self.checksum(&bytes);
        openledger_store::write_atomic_with(file, |to| {
            to.write_all(&checksum)?;
            to.write_all(&bytes)
        })
    }

    fn load(&self, file: &Path) -> Option<Vec<G1Affine>> {
        let bytes = openledger_store::read(file).ok()?;
        let (checksum, bytes) = bytes.split_first_chunk::<32>()?;
        if *checksum != self.checksum(bytes) {
            tracing::warn!(file = %file.display(), "the file of the setup is not sound");
            return None;
        }
        let (points, []) = bytes.as_chunks::<G1_LEN>() else {
            return None;
        };
        points.iter().map(read_g1_trusted).collect()
    }

    fn checksum(&self, bytes: &[u8]) -> [u8; 32] {
        let points = keccak256(bytes);
        keccak256([keccak256(&self.seed).0, points.0].concat()).0
    }

    /// The secret: 512 bits from the seed, reduced.
    fn tau(&self) -> Fr {
        let half = |n: u8| keccak256([&[n], self.seed.as_bytes()].concat()).0;
        Fr::from_be_bytes_mod_order(&[half(0), half(1)].concat())
    }

    /// What [`commit`](Self::commit) must return, by way of the secret.
    #[cfg(test)]
    pub(super) fn commit_by_secret(&self, payload: &[u8]) -> Point {
        let tau = self.tau();
        let coefficients = coefficients(payload).expect("a short payload");
        let value = coefficients
            .iter()
            .rev()
            .fold(Fr::from(0u64), |value, coefficient| {
                value * tau + coefficient
            });
        Point((G1Projective::generator() * value).into_affine())
    }
}

impl fmt::Debug for Srs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Srs")
            .field("seed", &self.seed)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A point of G1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point(pub(super) G1Affine);

impl Point {
    /// Its coordinates, big-endian, as the EVM's precompiles take them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; G1_LEN] {
        write_g1(&self.0)
    }
}

/// The blob of `payload`: the coefficients of the polynomial with its symbols as values.
fn coefficients(payload: &[u8]) -> Result<Vec<Fr>, EncodingError> {
    let encoded = encoding::encode(payload)?;
    let mut values: Vec<Fr> = encoded
        .chunks_exact(SYMBOL_LEN)
        // The guard byte keeps every symbol below the modulus.
        .map(|symbol| Fr::from(integer(symbol)))
        .collect();
    let length = values.len();
    let domain = Radix2EvaluationDomain::<Fr>::new(length).ok_or(EncodingError::TooLong {
        length: payload.len(),
    })?;
    domain.ifft_in_place(&mut values);
    Ok(values)
}

/// The sum of the points, each times its scalar.
fn multiply(points: &[G1Affine], scalars: &[Fr]) -> G1Affine {
    let parts = in_parts(scalars.len(), |part| {
        G1Projective::msm_unchecked(&points[part.clone()], &scalars[part])
    });
    parts.into_iter().sum::<G1Projective>().into_affine()
}

/// Work on `0..count` in one part for each processor.
fn in_parts<T: Send>(count: usize, work: impl Fn(std::ops::Range<usize>) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let length = count.div_ceil(threads).max(512);
    let parts = (0..count)
        .step_by(length)
        .map(|start| start..count.min(start + length));
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        running
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// The message's point: the first x from the digest on that has a point, as EigenDA does.
pub(super) fn hash_to_g1(digest: &[u8; 32]) -> G1Affine {
    use ark_bn254::Fq;
    let mut x = Fq::from_be_bytes_mod_order(digest);
    loop {
        if let Some(y) = (x.square() * x + Fq::from(3u64)).sqrt() {
            return G1Affine::new_unchecked(x, y);
        }
        x += Fq::ONE;
    }
}

/// The generator of G2, negated: what a signature is paired with.
pub(super) fn minus_g2() -> G2Affine {
    -G2Affine::generator()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ark_bn254::Fq;
    use ark_ff::FftField;

    use super::*;

    #[test]
    fn roots_of_unity_are_eigendas() {
        // encoding/constants.go of Layr-Labs/eigenda, for 4 and for 2^28 values.
        let fr = |text: &str| text.parse::<Fr>().unwrap();
        let fourth =
            "21888242871839275217838484774961031246007050428528088939761107053157389710902";
        assert_eq!(Fr::get_root_of_unity(4).unwrap(), fr(fourth));
        let last = "19103219067921713944291392827692070036145651957329286315305642004821462161904";
        assert_eq!(Fr::TWO_ADIC_ROOT_OF_UNITY, fr(last));
    }

    #[test]
    fn a_blobs_values_are_the_encoded_payload() {
        let payload = [7; 200];
        let coefficients = coefficients(&payload).unwrap();
        let encoded = encoding::encode(&payload).unwrap();
        let root = Fr::get_root_of_unity(8).unwrap();
        for (i, symbol) in encoded.chunks(SYMBOL_LEN).enumerate() {
            let x = root.pow([i as u64]);
            let value = coefficients
                .iter()
                .rev()
                .fold(Fr::from(0u64), |v, c| v * x + c);
            assert_eq!(value, Fr::from_be_bytes_mod_order(symbol));
        }
    }

    #[test]
    fn commitments_are_the_polynomial_at_the_secret() {
        let srs = Srs::development(None);
        let other = Srs::from_seed("another", None);
        for length in [1, 31, 32, 1000, 130_000] {
            let payload: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0]).collect();
            let commitment = srs.commit(&payload).unwrap();
            assert_eq!(commitment, srs.commit_by_secret(&payload), "{length}");
            assert_ne!(commitment, other.commit_by_secret(&payload));
        }
    }

    #[test]
    fn points_are_kept_in_a_file_that_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let srs = Srs::development(Some(dir.path()));
        let commitment = srs.commit(b"payload").unwrap();
        let file = dir.path().join("srs.bin");
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes.len(), 32 + LEAST_SYMBOLS * G1_LEN);
        assert!(srs.load(&file).unwrap().len() == LEAST_SYMBOLS);
        assert!(Srs::from_seed("another", None).load(&file).is_none());

        let mut broken = bytes.clone();
        broken[5000] ^= 1;
        std::fs::write(&file, broken).unwrap();
        let srs = Srs::development(Some(dir.path()));
        assert!(srs.load(&file).is_none());
        assert_eq!(srs.commit(b"payload").unwrap(), commitment);
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "made anew");
    }

    #[test]
    fn messages_have_points_on_the_curve() {
        for i in 0..50u8 {
            let digest = keccak256([i]).0;
            let point = hash_to_g1(&digest);
            assert!(point.is_on_curve());
        }
        assert!(hash_to_g1(&[0xff; 32]).is_on_curve());
        // x = 0: 3 is no square modulo p; x = 1: y^2 = 4.
        let point = hash_to_g1(&[0; 32]);
        assert_eq!(point.x, Fq::ONE);
        assert_eq!(point.y.square(), Fq::from(4u64));
    }
}
