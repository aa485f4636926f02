//! `AdamW` with decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay
//! Regularization", ICLR 2019, algorithm 2), on one flat parameter vector, with its moments as f32
//! or in 8 bits ([`Optimizer`]).
//!
//! The small-memory choice is 8-bit Adam rather than Adafactor (Shazeer & Stern 2018): it is the
//! same update with the same settings, so a recipe changes one word and its learning rate still
//! fits, and it saves the same share whatever the shape of a tensor, while factored moments save
//! little on the thin matrices of an adapter.
//!
//! Everything is elementwise except the gradient's norm, which is summed over fixed blocks of
//! [`BLOCK`] values in `f64` and then over the blocks in order, so a step has the same bits for any
//! number of threads.

mod blockwise;
pub(crate) mod muon;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use blockwise::QUANTUM;
pub(crate) use blockwise::Quantised;
pub use muon::Muon;

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

/// How the moments of the optimizer are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Two f32 a parameter: 8 bytes.
    #[default]
    Adamw,
    /// Two codes of 8 bits a parameter and a scale for every 256 of them: 2.03 bytes
    /// (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022).
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
}

impl Optimizer {
    /// Bytes of the moments of `parameters` values.
    pub const fn bytes(self, parameters: u64) -> u64 {
        match self {
            Self::Adamw => 8 * parameters,
            Self::Adamw8bit => 2 * (parameters + 4 * parameters.div_ceil(QUANTUM as u64)),
        }
    }
}

/// First and second moments of every parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Moments {
    Full { first: Vec<f32>, second: Vec<f32> },
    Blockwise { first: Quantised, second: Quantised },
}

impl Moments {
    /// Zero moments for `parameters` values, of which those in `segments` are updated here.
    pub(crate) fn zeros(kind: Optimizer, parameters: usize, segments: &[Segment]) -> Self {
        match kind {
            Optimizer::Adamw => Self::Full {
                first: vec![0.0; parameters],
                second: vec![0.0; parameters],
            },
            Optimizer::Adamw8bit => {
                let scales = segments.iter().map(Segment::quanta).sum();
                Self::Blockwise {
                    first: Quantised::zeros(parameters, scales),
                    second: Quantised::zeros(parameters, scales),
                }
            }
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

impl Segment {
    fn len(&self) -> usize {
        self.end - self.start
    }

    /// Blocks of 8-bit moments with a scale of their own; no block crosses a tensor.
    fn quanta(&self) -> usize {
        self.len().div_ceil(QUANTUM)
    }
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

/// The numbers of one update as f32, bias corrections folded in.
#[derive(Clone, Copy, Debug)]
struct Factors {
    beta1: f32,
    beta2: f32,
    /// Learning rate over `1 - beta1^t`.
    step_size: f32,
    /// `1 / (1 - beta2^t)`.
    second_scale: f32,
    epsilon: f32,
    /// `1 - learning rate * weight decay`.
    decay: f32,
    /// On the gradients: how clipping is applied.
    scale: f32,
}

impl Factors {
    fn new(settings: &AdamW, step: Step) -> Self {
        let Step {
            number,
            learning_rate,
            scale,
        } = step;
        Self {
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            step_size: (learning_rate / (1.0 - power(settings.beta1, number))) as f32,
            second_scale: (1.0 / (1.0 - power(settings.beta2, number))) as f32,
            epsilon: settings.epsilon as f32,
            decay: (1.0 - learning_rate * settings.weight_decay) as f32,
            scale: scale as f32,
        }
    }

    /// One value.
    #[inline(always)]
    fn apply(&self, p: &mut f32, m: &mut f32, v: &mut f32, g: f32) {
        let g = g * self.scale;
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
        *p = *p * self.decay
            - self.step_size * *m / ((*v * self.second_scale).sqrt() + self.epsilon);
    }
}

/// The place in a vector that was cut up to `at`, where `segment` begins: what lies between is
/// another optimizer's.
fn gap(at: &mut usize, segment: &Segment) -> usize {
    let gap = segment.start - *at;
    *at = segment.end;
    gap
}

/// Cuts the first `count` items off `rest`.
fn take<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(count);
    *rest = tail;
    head
}

/// One update of the values in `segments`, which are in order and leave the others alone.
pub(crate) fn update(
    settings: &AdamW,
    segments: &[Segment],
    parameters: &mut [f32],
    gradients: &[f32],
    moments: &mut Moments,
    step: Step,
) {
    let factors = Factors::new(settings, step);
    // Vectors (norm gains, magnitudes) do not decay.
    let factors = |segment: &Segment| Factors {
        decay: if segment.decays { factors.decay } else { 1.0 },
        ..factors
    };
    let (mut p, mut at) = (parameters, 0);
    match moments {
        Moments::Full { first, second } => {
            let (mut m, mut v) = (first.as_mut_slice(), second.as_mut_slice());
            let pieces: Vec<_> = segments
                .iter()
                .map(|segment| {
                    let (length, gap) = (segment.len(), gap(&mut at, segment));
                    take(&mut p, gap);
                    take(&mut m, gap);
                    take(&mut v, gap);
                    (
                        segment,
                        take(&mut p, length),
                        take(&mut m, length),
                        take(&mut v, length),
                    )
                })
                .collect();
            pieces.into_par_iter().for_each(|(segment, p, m, v)| {
                let factors = factors(segment);
                let g = &gradients[segment.start..segment.end];
                for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    factors.apply(p, m, v, *g);
                }
            });
        }
        Moments::Blockwise { first, second } => {
            let (mut m, mut v) = (first.parts(), second.parts());
            let pieces: Vec<_> = segments
                .iter()
                .map(|segment| {
                    let (length, quanta) = (segment.len(), segment.quanta());
                    let gap = gap(&mut at, segment);
                    take(&mut p, gap);
                    m.take(gap, 0);
                    v.take(gap, 0);
                    (
                        segment,
                        take(&mut p, length),
                        m.take(length, quanta),
                        v.take(length, quanta),
                    )
                })
                .collect();
            pieces.into_par_iter().for_each(|(segment, p, m, v)| {
                let g = &gradients[segment.start..segment.end];
                blockwise::update(&factors(segment), p, g, m, v);
            });
        }
    }
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
        let mut moments = Moments::zeros(Optimizer::Adamw, 2, &segments);
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
    fn values_between_segments_are_left_alone() {
        for kind in [Optimizer::Adamw, Optimizer::Adamw8bit] {
            let layout: [(usize, &[usize]); 2] = [(300, &[2, 150]), (900, &[40])];
            let segments = segments(layout);
            let mut parameters = vec![1.0f32; 1000];
            let mut moments = Moments::zeros(kind, 1000, &segments);
            let gradients: Vec<f32> = (0..1000).map(|i| (i % 7) as f32 - 3.0).collect();
            for number in 1..=3 {
                let step = Step {
                    number,
                    learning_rate: 0.1,
                    scale: 1.0,
                };
                let settings = AdamW::default();
                update(
                    &settings,
                    &segments,
                    &mut parameters,
                    &gradients,
                    &mut moments,
                    step,
                );
            }
            for (index, (value, gradient)) in parameters.iter().zip(&gradients).enumerate() {
                let inside = (300..600).contains(&index) || (900..940).contains(&index);
                let moved = if inside {
                    -0.3 * gradient.signum()
                } else {
                    0.0
                };
                let moved = if *gradient == 0.0 { 0.0 } else { moved };
                assert!(
                    (value - 1.0 - moved).abs() < 1e-2,
                    "{kind:?} {index}: {value}"
                );
            }
        }
    }

    #[test]
    fn power_matches_repeated_products() {
        assert_eq!(power(0.9, 0), 1.0);
        assert!((power(0.9, 10) - 0.9f64.powi(10)).abs() < 1e-15);
    }
}
