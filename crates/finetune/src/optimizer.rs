//! `AdamW` with decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay
//! Regularization", ICLR 2019, algorithm 2), on one flat parameter vector.
//!
//! Everything is elementwise except the gradient's norm, which is summed over fixed blocks of
//! [`BLOCK`] values in `f64` and then over the blocks in order, so a step has the same bits for any
//! number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Values one task handles; also the unit of the norm's fixed summation order.
const BLOCK: usize = 4096;

/// The optimizer's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment; > 0.
    pub epsilon: f64,
    /// Decoupled weight decay a step, times the learning rate; >= 0. Only matrices decay.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl AdamW {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the setting that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        for (setting, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::recipe(setting, value, "must be in [0, 1)"));
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::recipe("epsilon", self.epsilon, "must be above 0"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Error::recipe(
                "weight_decay",
                self.weight_decay,
                "must be 0 or more",
            ));
        }
        Ok(())
    }
}

/// First and second moments of every parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Moments {
    /// Zero moments for `parameters` values.
    pub(crate) fn zeros(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
        }
    }
}

/// A part of the flat vector and whether its values decay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) decays: bool,
}

/// Cuts tensors into blocks, in order of their place; only tensors with two or more dimensions decay (norm gains do not).
pub(crate) fn segments<'a>(layout: impl IntoIterator<Item = (usize, &'a [usize])>) -> Vec<Segment> {
    let mut blocks = Vec::new();
    for (offset, shape) in layout {
        let end = offset + shape.iter().product::<usize>();
        let mut start = offset;
        while start < end {
            let stop = end.min(start + BLOCK);
            blocks.push(Segment {
                start,
                end: stop,
                decays: shape.len() > 1,
            });
            start = stop;
        }
    }
    blocks.sort_unstable_by_key(|block| block.start);
    blocks
}

/// Euclidean norm of `values`, in a fixed summation order.
pub(crate) fn norm(values: &[f32]) -> f64 {
    let blocks: Vec<f64> = values
        .par_chunks(BLOCK)
        .map(|block| block.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    blocks.iter().sum::<f64>().sqrt()
}

/// `base` to the power `exponent` by squaring: plain products, so the same bits everywhere
/// (`f64::powi` promises none).
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) learning_rate: f64,
    /// Multiplies the gradients first: how clipping is applied.
    pub(crate) scale: f64,
}

/// One update of `parameters` by `gradients`.
pub(crate) fn update(
    settings: &AdamW,
    segments: &[Segment],
    parameters: &mut [f32],
    gradients: &[f32],
    moments: &mut Moments,
    step: Step,
) {
    let Step {
        number,
        learning_rate,
        scale,
    } = step;
    let beta1 = settings.beta1 as f32;
    let beta2 = settings.beta2 as f32;
    let step_size = (learning_rate / (1.0 - power(settings.beta1, number))) as f32;
    let second_scale = (1.0 / (1.0 - power(settings.beta2, number))) as f32;
    let epsilon = settings.epsilon as f32;
    let decay = (1.0 - learning_rate * settings.weight_decay) as f32;
    let scale = scale as f32;

    // The segments are disjoint and ordered, so the four vectors can be cut along them and every
    // piece updated on its own.
    let mut pieces = Vec::with_capacity(segments.len());
    let (mut p, mut m, mut v) = (
        parameters,
        moments.first.as_mut_slice(),
        moments.second.as_mut_slice(),
    );
    let mut at = 0;
    for segment in segments {
        let (_, rest_p) = p.split_at_mut(segment.start - at);
        let (_, rest_m) = m.split_at_mut(segment.start - at);
        let (_, rest_v) = v.split_at_mut(segment.start - at);
        let length = segment.end - segment.start;
        let (piece_p, rest_p) = rest_p.split_at_mut(length);
        let (piece_m, rest_m) = rest_m.split_at_mut(length);
        let (piece_v, rest_v) = rest_v.split_at_mut(length);
        let piece_g = &gradients[segment.start..segment.end];
        pieces.push((piece_p, piece_m, piece_v, piece_g, segment.decays));
        (p, m, v) = (rest_p, rest_m, rest_v);
        at = segment.end;
    }
    pieces.into_par_iter().for_each(|(p, m, v, g, decays)| {
        let decay = if decays { decay } else { 1.0 };
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p = *p * decay - step_size * *m / ((*v * second_scale).sqrt() + epsilon);
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the tests compare bits on purpose")]
    use super::*;

    /// The textbook loop in f64, one value at a time.
    fn reference(settings: &AdamW, start: f64, gradients: &[f64], rate: f64) -> f64 {
        let (mut p, mut m, mut v) = (start, 0.0, 0.0);
        for (index, g) in gradients.iter().enumerate() {
            let t = i32::try_from(index + 1).expect("short list");
            m = settings.beta1 * m + (1.0 - settings.beta1) * g;
            v = settings.beta2 * v + (1.0 - settings.beta2) * g * g;
            let m_hat = m / (1.0 - settings.beta1.powi(t));
            let v_hat = v / (1.0 - settings.beta2.powi(t));
            p = p * (1.0 - rate * settings.weight_decay)
                - rate * m_hat / (v_hat.sqrt() + settings.epsilon);
        }
        p
    }

    #[test]
    fn follows_the_paper_and_spares_vectors_from_decay() {
        let settings = AdamW {
            weight_decay: 0.1,
            ..AdamW::default()
        };
        let layout: [(usize, &[usize]); 2] = [(0, &[1, 1]), (1, &[1])];
        let segments = segments(layout);
        let mut parameters = vec![0.5f32, 0.5];
        let mut moments = Moments::zeros(2);
        let gradients = [0.3, -0.2, 0.05, 0.4, -0.7];
        for (index, g) in gradients.iter().enumerate() {
            let step = index as u64 + 1;
            let g = [*g as f32, *g as f32];
            update(
                &settings,
                &segments,
                &mut parameters,
                &g,
                &mut moments,
                Step {
                    number: step,
                    learning_rate: 0.01,
                    scale: 1.0,
                },
            );
        }
        let decayed = reference(&settings, 0.5, &gradients, 0.01);
        let plain = reference(&AdamW::default(), 0.5, &gradients, 0.01);
        assert!((f64::from(parameters[0]) - decayed).abs() < 1e-6);
        assert!((f64::from(parameters[1]) - plain).abs() < 1e-6);
        assert!(decayed < plain);
    }

    #[test]
    fn the_norm_does_not_depend_on_the_thread_count() {
        let values: Vec<f32> = (0..50_001)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-3)
            .collect();
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a small pool starts")
        };
        let one = pool(1).install(|| norm(&values));
        let four = pool(4).install(|| norm(&values));
        assert_eq!(one.to_bits(), four.to_bits());
    }

    #[test]
    fn power_matches_repeated_products() {
        assert_eq!(power(0.9, 0), 1.0);
        assert!((power(0.9, 10) - 0.9f64.powi(10)).abs() < 1e-15);
    }
}
