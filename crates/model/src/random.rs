//! Seeded random numbers with the same bits on every machine.

use openledger_kernels::math::{ln, sin_cos};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The `stream`-th independent stream of a seed.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha12Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha12Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// Uniform in `[0, 1)` with 53 bits.
pub(crate) fn uniform(rng: &mut ChaCha12Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Fills with normal numbers of this standard deviation (Box and Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha12Rng, deviation: f64, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        let radius = (-2.0 * ln(1.0 - uniform(rng))).sqrt() * deviation;
        let (sin, cos) = sin_cos(std::f64::consts::TAU * uniform(rng));
        for (x, turn) in pair.iter_mut().zip([cos, sin]) {
            *x = (radius * turn) as f32;
        }
    }
}
