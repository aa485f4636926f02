//! Gradients of a batch: packs of rows in parallel, summed in a fixed order.
//!
//! Floating-point addition does not associate, so a sum that follows the scheduler has other bits
//! on every run. Here what is summed, and in which order, depends on the batch alone:
//!
//! - In exact arithmetic every row's gradient is computed into a buffer of its own, and the buffers
//!   are added one after another in batch order. Rows that share a pack have the bits they would
//!   have alone, so packing does not show.
//! - In fast arithmetic a pack's rows are summed by the products themselves, and the packs' sums
//!   are added in order. The packs are cut by the recipe and the rows' lengths.
//!
//! Either way the number of threads or buffers changes nothing.

use std::sync::{Mutex, PoisonError};

use openledger_model::{Example, Loss, Workspace};
use rayon::prelude::*;

use crate::Error;
use crate::subject::{Place, Subject};

/// Gradients held at once where they are small; the sum does not depend on it.
const BUFFERS: usize = 8;
/// Values from which on there is one gradient for every thread and no more.
const LARGE: usize = 1 << 24;
/// Elements one task adds up.
const BLOCK: usize = 8192;
/// Tokens below which a pack is not cut further to give more threads work.
const SMALL_PACK: usize = 128;
/// Packs that a step has at least, where its rows allow.
const PACKS: usize = 4;

/// How rows are computed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Whether every row has a gradient of its own.
    pub(crate) exact: bool,
    /// Most tokens of a pack of several rows; 0 = every row alone.
    pub(crate) tokens: usize,
    /// Whether activations are computed again in the backward pass.
    pub(crate) checkpointing: bool,
}

impl Packing {
    /// Cuts `batch` into packs of neighbours: ranges of indices.
    fn cut(&self, batch: &[&Example]) -> Vec<std::ops::Range<usize>> {
        let total: usize = batch.iter().map(|row| row.tokens.len()).sum();
        let limit = self.tokens.min((total / PACKS).max(SMALL_PACK));
        let mut packs: Vec<std::ops::Range<usize>> = Vec::new();
        let mut tokens = 0;
        for (index, row) in batch.iter().enumerate() {
            tokens += row.tokens.len();
            match packs.last_mut() {
                Some(pack) if tokens <= limit => pack.end = index + 1,
                _ => {
                    packs.push(index..index + 1);
                    tokens = row.tokens.len();
                }
            }
        }
        packs
    }
}

/// Reusable buffers for batches of gradients.
pub(crate) struct Accumulator {
    packing: Packing,
    slots: Vec<Vec<f32>>,
    sum: Vec<f32>,
    /// Of threads that have nothing to do; as many as ever ran at once.
    idle: Mutex<Vec<Workspace>>,
}

/// Loss over the target tokens of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchLoss {
    pub(crate) nats: f64,
    pub(crate) targets: u64,
    pub(crate) tokens: u64,
}

impl BatchLoss {
    fn add(&mut self, loss: &Loss, example: &Example) {
        self.nats += loss.sum;
        self.targets += u64::from(loss.tokens);
        self.tokens += example.tokens.len() as u64;
    }

    /// Mean loss, nats a target token.
    pub(crate) fn mean(&self) -> f64 {
        self.nats / self.targets.max(1) as f64
    }
}

/// Gradients held at once for `parameters` values and at most `rows` rows a step.
fn slots(parameters: usize, rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    let most = match parameters < LARGE {
        true => threads.max(BUFFERS),
        false => threads,
    };
    most.min(rows.max(1))
}

type Losses = Result<Vec<Loss>, openledger_model::Error>;

impl Accumulator {
    pub(crate) fn new(parameters: usize, rows: usize, packing: Packing) -> Self {
        Self {
            packing,
            slots: vec![vec![0.0; parameters]; slots(parameters, rows)],
            sum: vec![0.0; parameters],
            idle: Mutex::default(),
        }
    }

    /// Bytes held for `parameters` values, the workspaces not counted.
    pub(crate) fn bytes(parameters: usize, rows: usize) -> u64 {
        (slots(parameters, rows) as u64 + 1) * parameters as u64 * 4
    }

    /// Gradient of the mean loss over all target tokens of `batch`, the rows of step `step`.
    pub(crate) fn run(
        &mut self,
        subject: &impl Subject,
        batch: &[&Example],
        step: u64,
    ) -> Result<(BatchLoss, &[f32]), Error> {
        self.sum.fill(0.0);
        let mut total = BatchLoss::default();
        let targets: usize = batch.iter().map(|row| row.targets()).sum();
        let place = |row: usize| Place {
            step,
            row: row as u64,
        };
        if self.packing.exact {
            let (mut done, size) = (0, self.slots.len());
            for wave in batch.chunks(size) {
                let packs = self.packing.cut(wave);
                let mut rest = self.slots.as_mut_slice();
                let mut jobs = Vec::with_capacity(packs.len());
                for pack in packs {
                    let (own, others) = rest.split_at_mut(pack.len());
                    rest = others;
                    jobs.push((pack, own));
                }
                let (idle, packing) = (&self.idle, &self.packing);
                let losses: Vec<Losses> = jobs
                    .into_par_iter()
                    .map(|(pack, gradients)| {
                        let mut each: Vec<&mut [f32]> =
                            gradients.iter_mut().map(Vec::as_mut_slice).collect();
                        let place = place(done + pack.start);
                        borrowed(idle, packing, |workspace| {
                            subject.each(&wave[pack], place, &mut each, workspace)
                        })
                    })
                    .collect();
                let mut weights = Vec::with_capacity(wave.len());
                for losses in losses {
                    for loss in losses? {
                        total.add(&loss, wave[weights.len()]);
                        weights.push((f64::from(loss.tokens) / targets as f64) as f32);
                    }
                }
                fold(&mut self.sum, &self.slots, &weights);
                done += wave.len();
            }
        } else {
            let per_target = (1.0 / targets as f64) as f32;
            for wave in self.packing.cut(batch).chunks(self.slots.len()) {
                let (idle, packing) = (&self.idle, &self.packing);
                let losses: Vec<Losses> = self
                    .slots
                    .par_iter_mut()
                    .zip(wave)
                    .map(|(gradients, pack)| {
                        gradients.fill(0.0);
                        let (rows, place) = (&batch[pack.clone()], place(pack.start));
                        borrowed(idle, packing, |workspace| {
                            subject.add(rows, place, per_target, gradients, workspace)
                        })
                    })
                    .collect();
                for (losses, pack) in losses.into_iter().zip(wave) {
                    for (loss, row) in losses?.iter().zip(&batch[pack.clone()]) {
                        total.add(loss, row);
                    }
                }
                fold(&mut self.sum, &self.slots, &vec![1.0; wave.len()]);
            }
        }
        Ok((total, &self.sum))
    }
}

/// Lends an idle workspace, or a new one.
fn borrowed<T>(
    idle: &Mutex<Vec<Workspace>>,
    packing: &Packing,
    work: impl FnOnce(&mut Workspace) -> T,
) -> T {
    let shelf = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = shelf().pop();
    let mut workspace = taken.unwrap_or_default();
    workspace.checkpointing = packing.checkpointing;
    let result = work(&mut workspace);
    shelf().push(workspace);
    result
}

/// Adds the first gradients, times their weights, to `sum`, one after another.
fn fold(sum: &mut [f32], gradients: &[Vec<f32>], weights: &[f32]) {
    sum.par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, sum)| {
            let start = block * BLOCK;
            for (gradients, weight) in gradients.iter().zip(weights) {
                let gradients = &gradients[start..start + sum.len()];
                for (sum, gradient) in sum.iter_mut().zip(gradients) {
                    *sum += weight * gradient;
                }
            }
        });
}

/// Summed loss of `examples`, evaluated in parallel and added up in order.
pub(crate) fn evaluate<F>(examples: &[&Example], one: F) -> Result<BatchLoss, Error>
where
    F: Fn(&Example, &mut Workspace) -> Result<Loss, openledger_model::Error> + Sync,
{
    let losses: Vec<_> = examples
        .par_iter()
        .map_init(Workspace::default, |workspace, example| {
            one(example, workspace)
        })
        .collect();
    let mut total = BatchLoss::default();
    for (loss, example) in losses.into_iter().zip(examples) {
        total.add(&loss?, example);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_hold_neighbours_up_to_the_limit() {
        let rows: Vec<Example> = [100, 100, 300, 600, 40, 40, 40, 1000, 10]
            .map(|length| Example {
                tokens: vec![0; length],
                loss_from: 1,
            })
            .to_vec();
        let rows: Vec<&Example> = rows.iter().collect();
        let cut = |tokens| {
            let packing = Packing {
                exact: false,
                tokens,
                checkpointing: false,
            };
            packing.cut(&rows)
        };
        assert_eq!(cut(512), [0..3, 3..4, 4..7, 7..8, 8..9]);
        assert_eq!(cut(0).len(), rows.len());
        // A quarter of all tokens, so that four threads have work.
        assert_eq!(cut(4096), [0..3, 3..4, 4..7, 7..8, 8..9]);
    }
}
