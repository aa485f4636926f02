//! Gradients of a batch: examples in parallel, summed in a fixed order.
//!
//! Floating-point addition does not associate, so a sum that follows the scheduler has other bits
//! on every run. Here every example's gradient is computed alone into its own buffer and the
//! buffers are added to the sum one after another in batch order, each element on its own. The
//! result is the left fold over the batch whatever the number of threads or buffers.

use openledger_model::{Example, Loss, Workspace};
use rayon::prelude::*;

use crate::Error;
use crate::subject::Subject;

/// Examples whose gradients are held at once. More only costs memory: the sum does not change.
pub(crate) const BUFFERS: usize = 8;

/// Elements one task adds up.
const BLOCK: usize = 8192;

struct Slot {
    gradients: Vec<f32>,
    workspace: Workspace,
    loss: Option<Result<Loss, openledger_model::Error>>,
}

/// Reusable buffers for batches of gradients over `parameters` values.
pub(crate) struct Accumulator {
    slots: Vec<Slot>,
    sum: Vec<f32>,
}

/// Loss over the target tokens of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchLoss {
    pub(crate) nats: f64,
    pub(crate) targets: u64,
    pub(crate) tokens: u64,
}

impl BatchLoss {
    /// Mean loss, nats a target token.
    pub(crate) fn mean(&self) -> f64 {
        self.nats / self.targets.max(1) as f64
    }
}

impl Accumulator {
    pub(crate) fn new(parameters: usize, batch: usize) -> Self {
        let slots = (0..BUFFERS.min(batch.max(1)))
            .map(|_| Slot {
                gradients: vec![0.0; parameters],
                workspace: Workspace::default(),
                loss: None,
            })
            .collect();
        Self {
            slots,
            sum: vec![0.0; parameters],
        }
    }

    /// Bytes held for `parameters` values, the workspaces not counted.
    pub(crate) fn bytes(parameters: usize, batch: usize) -> u64 {
        (BUFFERS.min(batch) as u64 + 1) * parameters as u64 * 4
    }

    /// Gradient of the mean loss over all target tokens of `batch`.
    pub(crate) fn run(
        &mut self,
        subject: &impl Subject,
        batch: &[&Example],
    ) -> Result<(BatchLoss, &[f32]), Error> {
        let mut total = BatchLoss::default();
        let targets: usize = batch
            .iter()
            .map(|example| example.tokens.len() - example.loss_from)
            .sum();
        self.sum.fill(0.0);
        for wave in batch.chunks(self.slots.len()) {
            self.slots
                .par_iter_mut()
                .zip(wave.par_iter())
                .for_each(|(slot, example)| {
                    let (gradients, workspace) = (&mut slot.gradients, &mut slot.workspace);
                    slot.loss = Some(subject.gradients(example, gradients, workspace));
                });
            let mut weights = Vec::with_capacity(wave.len());
            for (slot, example) in self.slots.iter_mut().zip(wave) {
                let loss = slot
                    .loss
                    .take()
                    .expect("the wave above filled every slot")?;
                total.nats += loss.sum;
                total.targets += u64::from(loss.tokens);
                total.tokens += example.tokens.len() as u64;
                weights.push((f64::from(loss.tokens) / targets as f64) as f32);
            }
            let slots = &self.slots[..wave.len()];
            self.sum
                .par_chunks_mut(BLOCK)
                .enumerate()
                .for_each(|(block, sum)| {
                    let start = block * BLOCK;
                    for (slot, weight) in slots.iter().zip(&weights) {
                        let gradients = &slot.gradients[start..start + sum.len()];
                        for (sum, gradient) in sum.iter_mut().zip(gradients) {
                            *sum += weight * gradient;
                        }
                    }
                });
        }
        Ok((total, &self.sum))
    }
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
        let loss = loss?;
        total.nats += loss.sum;
        total.targets += u64::from(loss.tokens);
        total.tokens += example.tokens.len() as u64;
    }
    Ok(total)
}
