//! One decoder block: norm, attention, norm, gated linear unit, each added to the residual.
//!
//! The residual stream is the start of the output projections' chains: `x + W y` is one chain of
//! fused multiply-adds that begins at `x`, and an adapter's product continues it.

use std::ops::Range;

use openledger_kernels::{Isa, Lhs, Packed, Store};

use crate::base::{Base, BlockAt};
use crate::lora::{Adapter, Target};
use crate::workspace::Activations;

/// Consecutive rows that use one adapter.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) adapter: Option<&'a Adapter>,
}

/// One product's input and where its output goes.
struct Linear<'a> {
    layer: usize,
    weight: &'a Packed,
    x: &'a [f32],
    rows: usize,
    /// Targets that share the input, with the column where each one's output starts.
    targets: &'a [(Target, usize)],
}

impl Linear<'_> {
    fn run(
        &self,
        isa: Isa,
        segments: &[Segment<'_>],
        y: &mut [f32],
        store: Store,
        inner: &mut [openledger_kernels::Buffer; 7],
    ) {
        let (k, n) = (self.weight.depth(), self.weight.columns());
        isa.gemm(
            self.rows,
            n,
            k,
            Lhs::rows(self.x, k),
            self.weight.rhs(),
            y,
            n,
            store,
        );
        for segment in segments {
            let Some(adapter) = segment.adapter else {
                continue;
            };
            let Range { start, end } = segment.rows;
            let rank = adapter.config.rank;
            for &(target, column) in self.targets {
                let inner = inner[target as usize].first(end * rank);
                adapter.forward(
                    isa,
                    (self.layer, target),
                    end - start,
                    &self.x[start * k..],
                    (&mut y[start * n + column..], n),
                    &mut inner[start * rank..],
                );
            }
        }
    }
}

/// Runs block `layer` from `input [rows, hidden]` to `output`; `attend` turns the raw
/// `qkv` rows (to be rotated in place) into the attended rows.
#[allow(clippy::too_many_arguments, reason = "one block's tensors")]
pub(crate) fn forward(
    isa: Isa,
    base: &Base,
    layer: usize,
    rows: usize,
    segments: &[Segment<'_>],
    input: &[f32],
    acts: &mut Activations,
    output: &mut [f32],
    attend: impl FnOnce(&mut [f32], &mut [f32]),
) {
    let c = &base.config;
    let (at, packed) = (BlockAt::new(c, layer), base.packed(layer));
    let Activations {
        norm1,
        inverse1,
        qkv,
        attended,
        middle,
        norm2,
        inverse2,
        gate_up,
        gated,
        inner,
    } = acts;

    isa.rms_norm(
        input,
        base.slice(at.norm1, c.hidden),
        c.norm_eps,
        norm1,
        inverse1,
    );
    let projections = [
        (Target::Q, 0),
        (Target::K, c.q_width()),
        (Target::V, c.q_width() + c.kv_width()),
    ];
    Linear {
        layer,
        weight: &packed.qkv,
        x: norm1,
        rows,
        targets: &projections,
    }
    .run(isa, segments, qkv, Store::Overwrite, inner);
    attend(qkv, attended);
    middle.copy_from_slice(input);
    Linear {
        layer,
        weight: &packed.o,
        x: attended,
        rows,
        targets: &[(Target::O, 0)],
    }
    .run(isa, segments, middle, Store::Accumulate, inner);

    isa.rms_norm(
        middle,
        base.slice(at.norm2, c.hidden),
        c.norm_eps,
        norm2,
        inverse2,
    );
    let halves = [(Target::Gate, 0), (Target::Up, c.mlp)];
    Linear {
        layer,
        weight: &packed.gate_up,
        x: norm2,
        rows,
        targets: &halves,
    }
    .run(isa, segments, gate_up, Store::Overwrite, inner);
    isa.silu_gate(gate_up, c.mlp, gated);
    output.copy_from_slice(middle);
    Linear {
        layer,
        weight: &packed.down,
        x: gated,
        rows,
        targets: &[(Target::Down, 0)],
    }
    .run(isa, segments, output, Store::Accumulate, inner);
}
