//! Seeded orders. An order is a pure function of (seed, stream), so the "random state" of a
//! training run is nothing but its step number, and a resumed run draws the same rows.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The generator of one numbered stream of `seed`.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

/// A number below `bound` (> 0) without modulo bias (Lemire, "Fast random integer generation in an
/// interval", 2019).
pub(crate) fn below(generator: &mut ChaCha8Rng, bound: u64) -> u64 {
    loop {
        let wide = u128::from(generator.next_u64()) * u128::from(bound);
        let low = wide as u64;
        if low >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}

/// Fisher-Yates permutation of `items` by stream `number` of `seed`.
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64, number: u64) {
    let mut generator = stream(seed, number);
    for last in (1..items.len()).rev() {
        let other = below(&mut generator, last as u64 + 1) as usize;
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_permutation_that_repeats() {
        let draw = |number| {
            let mut items: Vec<u32> = (0..1000).collect();
            shuffle(&mut items, 7, number);
            items
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut sorted = draw(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut generator = stream(1, 0);
        for bound in 1..200 {
            assert!(below(&mut generator, bound) < bound);
        }
    }
}
