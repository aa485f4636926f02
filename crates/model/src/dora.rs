//! The magnitudes of `DoRA` (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024).
//!
//! An adapted linear computes `y = m / |V| * (V x)` by output, with `V = W + s B A`. As the paper
//! (section 4.3) and PEFT do, the gradient takes `|V|` for a constant: it is computed again from
//! the weights before every step, once, and not in every product.

use openledger_kernels::Isa;

use crate::arithmetic::Arithmetic;
use crate::base::Base;
use crate::lora::{Adapter, Group};

/// What every output of the adapted linears is multiplied by, and what that depends on.
#[derive(Clone, Debug)]
pub(crate) struct Gains {
    /// `m / |V|`, and 1 for linears without an adapter: block by block, group by group.
    factors: Vec<f32>,
    /// `1 / |V|`, and 0 for linears without an adapter.
    inverse_norms: Vec<f32>,
    /// First output of each group in a block, and their number.
    starts: [usize; Group::ALL.len() + 1],
}

impl Gains {
    /// Of an adapter over a base. `O(outputs inputs rank)`.
    fn new<A: Arithmetic>(adapter: &Adapter, base: &Base<A>) -> Self {
        let mut starts = [0; Group::ALL.len() + 1];
        for group in Group::ALL {
            starts[group as usize + 1] = starts[group as usize] + adapter.group(group).columns;
        }
        let outputs = base.config.layers * starts[Group::ALL.len()];
        let mut gains = Self {
            factors: vec![1.0; outputs],
            inverse_norms: vec![0.0; outputs],
            starts,
        };
        for layer in 0..base.config.layers {
            let params = adapter.block_params(layer);
            for group in Group::ALL {
                let start = gains.range(layer, group).start;
                row_norms(adapter, base, (layer, group), |member, output, norm| {
                    let at = start + member.column + output;
                    // A row of zeros has no direction, and its product is zero whatever the factor.
                    let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
                    gains.factors[at] = params[member.magnitude + output] * inverse;
                    gains.inverse_norms[at] = inverse;
                });
            }
        }
        gains
    }

    fn range(&self, layer: usize, group: Group) -> std::ops::Range<usize> {
        let block = layer * self.starts[Group::ALL.len()];
        block + self.starts[group as usize]..block + self.starts[group as usize + 1]
    }

    /// Factors of a group's outputs.
    pub(crate) fn factors(&self, layer: usize, group: Group) -> &[f32] {
        &self.factors[self.range(layer, group)]
    }

    /// `1 / |V|` of a group's outputs.
    pub(crate) fn inverse_norms(&self, layer: usize, group: Group) -> &[f32] {
        &self.inverse_norms[self.range(layer, group)]
    }
}

/// Calls `each` with the length of every row of `W + s B A` of the group's targets.
fn row_norms<A: Arithmetic>(
    adapter: &Adapter,
    base: &Base<A>,
    (layer, group): (usize, Group),
    mut each: impl FnMut(&crate::lora::Member, usize, f32),
) {
    let (isa, at, rank) = (Isa::best(), adapter.group(group), adapter.config.rank);
    let (params, scale) = (adapter.block_params(layer), adapter.scale());
    let block = base.block(layer);
    let matrix = match group {
        Group::Attention => &block.qkv,
        Group::Output => &block.o,
        Group::Gated => &block.gate_up,
        Group::Down => &block.down,
    };
    let mut row = vec![0.0; at.input];
    for (index, member) in at.members.iter().enumerate() {
        let a = &params[at.a + index * rank * at.input..][..rank * at.input];
        let b = &params[member.b..][..member.output * rank];
        for (output, b) in b.chunks_exact(rank).enumerate() {
            A::row(matrix, member.column + output, &mut row);
            for (b, a) in b.iter().zip(a.chunks_exact(at.input)) {
                isa.add_scaled(&mut row, scale * b, a);
            }
            each(member, output, isa.dot(&row, &row).sqrt());
        }
    }
}

impl Adapter {
    /// Factors over this base, computed once; `None` for a plain adapter.
    pub(crate) fn gains<A: Arithmetic>(&self, base: &Base<A>) -> Option<&Gains> {
        let slot = &self.gains[A::storage(base.format())];
        self.config
            .dora
            .then(|| slot.get_or_init(|| Gains::new(self, base)))
    }

    /// Sets the magnitudes to the lengths that the rows have.
    pub(crate) fn start_magnitudes<A: Arithmetic>(&mut self, base: &Base<A>) {
        let mut lengths = Vec::new();
        for layer in 0..base.config.layers {
            for group in Group::ALL {
                let start = self.block_at(layer);
                row_norms(self, base, (layer, group), |member, output, norm| {
                    lengths.push((start + member.magnitude + output, norm));
                });
            }
        }
        let params = self.params_mut();
        for (at, length) in lengths {
            params[at] = length;
        }
    }

    /// Adds the gradients of a group's magnitudes to `grads`, the adapter's whole flat vector:
    /// `dm = dy . z / |V|` over the rows, where `z` are the outputs before the magnitudes.
    pub(crate) fn magnitude_gradients(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        gains: &Gains,
        dy: &[f32],
        outputs: &[f32],
        grads: &mut [f32],
    ) {
        let at = self.group(group);
        let mut sums = vec![0.0; at.columns];
        isa.dot_columns(dy, outputs, &mut sums);
        let inverse_norms = gains.inverse_norms(layer, group);
        for member in &at.members {
            let columns = member.column..member.column + member.output;
            let to = &mut grads[self.block_at(layer) + member.magnitude..][..member.output];
            for (to, (sum, inverse)) in to
                .iter_mut()
                .zip(sums[columns.clone()].iter().zip(&inverse_norms[columns]))
            {
                *to += sum * inverse;
            }
        }
    }
}
