//! The backward of one block.

use std::ops::Range;

use openledger_kernels::{Buffer, Isa, Lhs, Rhs, Store};

use super::{Gradients, Member, Wanted, rotate};
use crate::arithmetic::Arithmetic;
use crate::attention::{self, Sequence};
use crate::base::{Base, BlockAt, Norm};
use crate::dropout::Masks;
use crate::lora::Group;
use crate::workspace::{Activations, Back, Scratch, Side};

/// The backward of one block.
pub(super) struct Pass<'p, 'm, 'w, 'a, 'b, A: Arithmetic> {
    pub(super) isa: Isa,
    pub(super) base: &'p Base<A>,
    pub(super) layer: usize,
    pub(super) rows: usize,
    pub(super) members: &'p [Member<'m>],
    pub(super) masks: Option<&'p Masks>,
    pub(super) wanted: &'p mut Wanted<'w, 'a, 'b>,
}

/// A linear in a backward pass.
struct Linear<'a, M> {
    matrix: &'a M,
    group: Group,
    /// Offset of the matrix in the flat weights.
    at: usize,
    /// The forward's input.
    x: &'a [f32],
    /// What the forward saved of the adapter.
    inner: &'a [f32],
    /// Gradient of the output.
    dy: &'a [f32],
}

impl<A: Arithmetic> Pass<'_, '_, '_, '_, '_, A> {
    /// Takes the gradient of the block's output, `back.stream`, to that of its input, and adds to
    /// the gradients that are wanted.
    pub(super) fn block(
        &mut self,
        input: &[f32],
        acts: &Activations,
        scratch: &mut Scratch,
        back: &mut Back,
        tiles: &mut attention::Tiles,
    ) {
        let (base, isa) = (self.base, self.isa);
        let (c, block) = (&base.config, base.block(self.layer));
        let at = BlockAt::new(c, self.layer);
        scratch.resize(c, self.rows);
        let Scratch {
            norm: x,
            gated: g,
            side,
        } = scratch;
        let Back {
            stream,
            norm,
            inverse,
            gated,
            gate_up,
            attended,
            qkv,
            branch,
        } = back;
        let (eps, activation) = (c.norm_eps, c.features.activation.into());

        isa.gate(activation, &acts.gate_up, c.mlp, g);
        let post = block.post2.as_ref().map(|norm| (at.post2, norm));
        let saved = (&acts.branch2, &acts.post_inverse2);
        let down = Linear {
            matrix: &block.down,
            group: Group::Down,
            at: at.down,
            x: g,
            inner: &acts.inner[Group::Down as usize],
            dy: self.branch(post, saved, stream, branch),
        };
        self.linear(&down, Some(gated), side);
        isa.gate_backward(activation, gated, &acts.gate_up, c.mlp, gate_up);
        isa.rms_norm(&acts.middle, &block.norm2.factors, eps, x, inverse);
        let up = Linear {
            matrix: &block.gate_up,
            group: Group::Gated,
            at: at.gate_up,
            x,
            inner: &acts.inner[Group::Gated as usize],
            dy: gate_up,
        };
        self.linear(&up, Some(norm), side);
        let (x2, s2) = (&acts.middle, &acts.inverse2);
        self.norm(at.norm2, &block.norm2, norm, x2, s2, stream);

        let post = block.post1.as_ref().map(|norm| (at.post1, norm));
        let saved = (&acts.branch1, &acts.post_inverse1);
        let o = Linear {
            matrix: &block.o,
            group: Group::Output,
            at: at.o,
            x: &acts.attended,
            inner: &acts.inner[Group::Output as usize],
            dy: self.branch(post, saved, stream, branch),
        };
        self.linear(&o, Some(attended), side);
        self.attention(acts, attended, qkv, tiles);
        if let Some(norms) = &block.head_norms {
            self.head_norms(&at, norms, acts, qkv);
        }
        if let Wanted::Full(grads) = self.wanted
            && block.qkv_bias.is_some()
        {
            isa.add_rows(qkv, &mut grads[at.qkv_bias..at.q_norm]);
        }
        // Below the first block there is only the embedding, which LoRA leaves alone.
        let last = self.layer == 0 && matches!(self.wanted, Wanted::Lora(..));
        isa.rms_norm(input, &block.norm1.factors, eps, x, inverse);
        let attention = Linear {
            matrix: &block.qkv,
            group: Group::Attention,
            at: at.qkv,
            x,
            inner: &acts.inner[Group::Attention as usize],
            dy: qkv,
        };
        let dx = if last { None } else { Some(&mut *norm) };
        self.linear(&attention, dx, side);
        if !last {
            self.norm(at.norm1, &block.norm1, norm, input, &acts.inverse1, stream);
        }
    }

    /// Gradient of what a half of the block adds to the residual stream: that of the stream, taken
    /// back through the half's own norm, if it has one, into `branch`.
    fn branch<'s>(
        &mut self,
        post: Option<(usize, &Norm)>,
        (x, inverse): (&Buffer, &Buffer),
        stream: &'s [f32],
        branch: &'s mut [f32],
    ) -> &'s [f32] {
        let Some((at, norm)) = post else {
            return stream;
        };
        branch.fill(0.0);
        self.norm(at, norm, stream, x, inverse, branch);
        branch
    }

    /// Takes the gradient of normed query and key heads back to what they were before.
    fn head_norms(
        &mut self,
        at: &BlockAt,
        [query, key]: &[Norm; 2],
        acts: &Activations,
        d_qkv: &mut [f32],
    ) {
        let c = &self.base.config;
        let (stride, q, width) = (c.qkv_width(), c.q_width(), c.q_width() + c.kv_width());
        let [query_inverse, key_inverse] = &acts.head_inverse;
        for (column, heads, norm, inverse, at) in [
            (0, c.heads, query, query_inverse, at.q_norm),
            (q, c.kv_heads, key, key_inverse, at.k_norm),
        ] {
            let d_weight: &mut [f32] = match self.wanted {
                Wanted::Full(grads) => &mut grads[at..at + c.head_dim],
                Wanted::Lora(..) | Wanted::Nothing => &mut [],
            };
            self.isa.rms_norm_heads_backward(
                &mut d_qkv[column..],
                stride,
                &acts.raw[column..],
                width,
                self.rows,
                heads,
                &norm.factors,
                inverse,
                d_weight,
            );
        }
    }

    /// Backward of a linear `[n, k]`: `dx = dy W` plus the adapters' part, and the gradients that
    /// are wanted.
    fn linear(&mut self, linear: &Linear<'_, A::Matrix>, dx: Option<&mut Buffer>, side: &mut Side) {
        let (isa, rows) = (self.isa, self.rows);
        let (n, k) = A::shape(linear.matrix);
        let (dy, x) = (&linear.dy[..rows * n], &linear.x[..rows * k]);
        let back = |dy: &[f32], dx: &mut Buffer| {
            A::project_back(isa, rows, dy, n, linear.matrix, dx, k, Store::Overwrite);
        };
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::Full(grads) => {
                if let Some(dx) = dx {
                    back(dy, dx);
                }
                let (dy, x) = (Lhs::transposed(dy, n), Rhs::rows(x, k));
                let grads = &mut grads[linear.at..linear.at + n * k];
                A::product(isa, n, k, rows, dy, x, grads, k, Store::Accumulate);
            }
            Wanted::Lora(adapter, grads) => {
                let at = (self.layer, linear.group);
                let width = adapter.inner_width(linear.group);
                let Side {
                    inner,
                    outputs,
                    d_outputs,
                    dropped,
                    d_dropped,
                } = side;
                let gains = adapter.gains(self.base);
                let dy = match gains {
                    None => dy,
                    Some(gains) => {
                        // The outputs are not kept: the residual stream and the rotation took them.
                        let outputs = outputs.first(rows * n);
                        let matrix = linear.matrix;
                        A::project(isa, rows, x, k, matrix, 0..n, outputs, n, Store::Overwrite);
                        adapter.expand::<A>(isa, at, rows, linear.inner, (&mut *outputs, n));
                        each(grads, self.members, rows, |rows, grads| {
                            let part = rows.start * n..rows.end * n;
                            let (dy, outputs) = (&dy[part.clone()], &outputs[part]);
                            adapter.magnitude_gradients(isa, at, gains, dy, outputs, grads);
                        });
                        let d_outputs = d_outputs.first(rows * n);
                        let factors = gains.factors(at.0, at.1);
                        isa.multiply_rows(dy, factors, d_outputs, Store::Overwrite);
                        d_outputs
                    }
                };
                let d_inner = inner.first(rows * width);
                adapter.expand_back::<A>(isa, at, rows, (dy, n), d_inner);
                if let Some(dx) = dx {
                    back(dy, dx);
                    match self.masks {
                        None => {
                            let add = Store::Accumulate;
                            adapter.shrink_back::<A>(isa, at, rows, d_inner, dx, add);
                        }
                        Some(masks) if width > 0 => {
                            let (d, over) = (d_dropped.first(rows * k), Store::Overwrite);
                            adapter.shrink_back::<A>(isa, at, rows, d_inner, d, over);
                            masks.back(at, k, d, dx);
                        }
                        Some(_) => {}
                    }
                }
                let x = match self.masks {
                    None => x,
                    Some(masks) => {
                        let dropped = dropped.first(rows * k);
                        masks.apply(at, k, x, dropped);
                        dropped
                    }
                };
                each(grads, self.members, rows, |rows, grads| {
                    adapter.gradients::<A>(
                        isa,
                        at,
                        rows.len(),
                        &x[rows.start * k..],
                        &linear.inner[rows.start * width..],
                        (&dy[rows.start * n..], n),
                        &d_inner[rows.start * width..],
                        grads,
                    );
                });
            }
        }
    }

    fn norm(
        &mut self,
        at: usize,
        norm: &Norm,
        dy: &[f32],
        x: &[f32],
        inverse: &[f32],
        dx: &mut [f32],
    ) {
        let d_weight: &mut [f32] = match self.wanted {
            Wanted::Full(grads) => &mut grads[at..at + norm.factors.len()],
            Wanted::Lora(..) | Wanted::Nothing => &mut [],
        };
        self.isa
            .rms_norm_backward(dy, x, &norm.factors, inverse, dx, d_weight);
    }

    /// Overwrites `d_qkv` with the gradient of the unrotated queries and keys, and of the values.
    fn attention(
        &self,
        acts: &Activations,
        d_attended: &[f32],
        d_qkv: &mut [f32],
        tiles: &mut attention::Tiles,
    ) {
        let (base, isa) = (self.base, self.isa);
        let c = &base.config;
        for Member { rows, .. } in self.members {
            let (start, end) = (rows.start * c.qkv_width(), rows.end * c.qkv_width());
            let sequence = Sequence {
                isa,
                c,
                layer: self.layer,
                qkv: &acts.qkv[start..end],
            };
            let out = rows.start * c.q_width()..rows.end * c.q_width();
            let log_sums = &acts.log_sums[rows.start * c.heads..rows.end * c.heads];
            let (attended, d_attended) = (&acts.attended[out.clone()], &d_attended[out]);
            let d_qkv = &mut d_qkv[start..end];
            A::attend_back(sequence, attended, log_sums, d_attended, d_qkv, tiles);
            rotate(base, isa, self.layer, d_qkv, rows.len(), true);
        }
    }
}

/// Calls `one` with all rows and the sum, or with each example's rows and gradient.
fn each(
    grads: &mut Gradients<'_, '_>,
    members: &[Member<'_>],
    rows: usize,
    mut one: impl FnMut(Range<usize>, &mut [f32]),
) {
    match grads {
        Gradients::Sum(sum) => one(0..rows, sum),
        Gradients::Each(each) => {
            for (member, grads) in members.iter().zip(each.iter_mut()) {
                one(member.rows.clone(), grads);
            }
        }
    }
}
