//! Dropout of the inputs of adapters, as a pure function of where in a run a value is.
//!
//! A mask depends on seed, step, row of the step, block and group of linears, never on what was
//! drawn before: the backward draws the forward's mask again instead of keeping it, packs and
//! threads do not show, and a resumed run drops what an undisturbed one would. Linears that read the
//! same input share its mask (in PEFT each draws its own).

use std::ops::Range;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::lora::Group;

/// Where in a training run a pack of examples is: what dropout draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
    /// Index of the pack's first example among the step's rows.
    pub row: u64,
}

/// The masks of one pack.
#[derive(Clone, Debug)]
pub(crate) struct Masks {
    at: Dropout,
    /// A 16-bit draw below this drops its value.
    threshold: u16,
    /// Factor on what is kept.
    kept: f32,
    /// Rows of each example of the pack.
    examples: Vec<Range<usize>>,
}

impl Masks {
    /// Masks that drop this share, in [0, 1), to 16 bits; `None` if that is nothing.
    pub(crate) fn new(at: Dropout, share: f32, examples: Vec<Range<usize>>) -> Option<Self> {
        let threshold = (f64::from(share) * 65536.0).round().min(65535.0) as u16;
        (threshold > 0).then(|| Self {
            at,
            threshold,
            kept: (65536.0 / (65536.0 - f64::from(threshold))) as f32,
            examples,
        })
    }

    /// `out [rows, width]` is `x` with its dropped values at zero and the others scaled up.
    pub(crate) fn apply(&self, at: (usize, Group), width: usize, x: &[f32], out: &mut [f32]) {
        self.each(at, width, |index, factor| out[index] = x[index] * factor);
    }

    /// Adds to `dx` what the gradient `d` of a masked input is to the input.
    pub(crate) fn back(&self, at: (usize, Group), width: usize, d: &[f32], dx: &mut [f32]) {
        self.each(at, width, |index, factor| dx[index] += d[index] * factor);
    }

    /// Calls `each` with every index of `[rows, width]` and its factor.
    fn each(&self, (layer, group): (usize, Group), width: usize, mut each: impl FnMut(usize, f32)) {
        let place = layer as u64 * Group::ALL.len() as u64 + group as u64;
        let mut draws = vec![0_u8; 2 * width];
        for (example, rows) in self.examples.iter().enumerate() {
            let Dropout { seed, step, row } = self.at;
            let mut key = [0; 32];
            for (part, value) in [seed, step, row + example as u64, place].iter().enumerate() {
                key[8 * part..][..8].copy_from_slice(&value.to_le_bytes());
            }
            let mut stream = ChaCha12Rng::from_seed(key);
            for row in rows.clone() {
                stream.fill_bytes(&mut draws);
                for (column, draw) in draws.chunks_exact(2).enumerate() {
                    let dropped = u16::from_le_bytes([draw[0], draw[1]]) < self.threshold;
                    let factor = if dropped { 0.0 } else { self.kept };
                    each(row * width + column, factor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "the rows of one example")]
    use super::*;

    const AT: Dropout = Dropout {
        seed: 7,
        step: 3,
        row: 0,
    };

    fn mask(at: Dropout, place: (usize, Group), rows: Vec<Range<usize>>) -> Vec<f32> {
        let masks = Masks::new(at, 0.25, rows).expect("a quarter is something");
        let mut out = vec![0.0; 64 * 50];
        masks.apply(place, 50, &[1.0; 64 * 50], &mut out);
        out
    }

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        let mask = mask(AT, (0, Group::Down), vec![0..64]);
        let dropped = mask.iter().filter(|x| **x == 0.0).count() as f64 / mask.len() as f64;
        assert!((dropped - 0.25).abs() < 0.03, "{dropped}");
        let mean = mask.iter().map(|x| f64::from(*x)).sum::<f64>() / mask.len() as f64;
        assert!((mean - 1.0).abs() < 0.04, "{mean}");
    }

    #[test]
    fn depends_on_the_place_and_not_on_the_pack() {
        let place = (1, Group::Gated);
        let one = mask(AT, place, vec![0..40, 40..64]);
        let alone = mask(Dropout { row: 1, ..AT }, place, vec![0..24]);
        assert_eq!(one[40 * 50..], alone[..24 * 50]);
        assert_ne!(
            one,
            mask(Dropout { step: 4, ..AT }, place, vec![0..40, 40..64])
        );
        assert_ne!(
            one,
            mask(Dropout { seed: 8, ..AT }, place, vec![0..40, 40..64])
        );
        assert_ne!(one, mask(AT, (2, Group::Gated), vec![0..40, 40..64]));
        assert_ne!(one, mask(AT, (1, Group::Output), vec![0..40, 40..64]));
    }

    #[test]
    fn nothing_is_dropped_where_nothing_is_asked() {
        assert!(Masks::new(AT, 0.0, vec![0..1]).is_none());
    }
}
