//! One decoder block: norm, attention, norm, gated linear unit, each added to the residual.
//!
//! The residual stream is the start of the output projections' chains: `x + W y` is one chain of
//! fused multiply-adds that begins at `x`, and an adapter's product continues it.

use std::ops::Range;

use openledger_kernels::{Buffer, Isa, Lhs, Packed, Store};

use crate::base::{Base, BlockAt};
use crate::lora::{Adapter, Group};
use crate::workspace::Activations;

/// Consecutive rows that use one adapter.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) adapter: Option<&'a Adapter>,
}

/// One product's input, weight and adapters.
struct Linear<'a> {
    isa: Isa,
    layer: usize,
    group: Group,
    weight: &'a Packed,
    x: &'a [f32],
    rows: usize,
    segments: &'a [Segment<'a>],
}

impl Linear<'_> {
    /// `inner` keeps the adapter's inner activations of the last segment, which is all rows when
    /// gradients are wanted.
    fn run(&self, y: &mut [f32], store: Store, inner: &mut Buffer) {
        let (isa, k, n) = (self.isa, self.weight.depth(), self.weight.columns());
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
        for segment in self.segments {
            let Some(adapter) = segment.adapter else {
                continue;
            };
            let Range { start, end } = segment.rows;
            let rows = end - start;
            adapter.forward(
                isa,
                (self.layer, self.group),
                rows,
                &self.x[start * k..],
                (&mut y[start * n..], n),
                inner.first(rows * adapter.inner_width(self.group)),
            );
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
    let linear = |group, weight, x| Linear {
        isa,
        layer,
        group,
        weight,
        x,
        rows,
        segments,
    };
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
        inner: [inner_qkv, inner_o, inner_gate_up, inner_down],
    } = acts;

    isa.rms_norm(
        input,
        base.slice(at.norm1, c.hidden),
        c.norm_eps,
        norm1,
        inverse1,
    );
    linear(Group::Attention, &packed.qkv, norm1).run(qkv, Store::Overwrite, inner_qkv);
    attend(qkv, attended);
    middle.copy_from_slice(input);
    linear(Group::Output, &packed.o, attended).run(middle, Store::Accumulate, inner_o);

    isa.rms_norm(
        middle,
        base.slice(at.norm2, c.hidden),
        c.norm_eps,
        norm2,
        inverse2,
    );
    linear(Group::Gated, &packed.gate_up, norm2).run(gate_up, Store::Overwrite, inner_gate_up);
    isa.silu_gate(gate_up, c.mlp, gated);
    output.copy_from_slice(middle);
    linear(Group::Down, &packed.down, gated).run(output, Store::Accumulate, inner_down);
}
