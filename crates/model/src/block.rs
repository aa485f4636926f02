//! One decoder block: norm, attention, norm, gated linear unit, each added to the residual.
//!
//! The residual stream is the start of the output projections' chains: `x + W y` is one chain of
//! fused multiply-adds that begins at `x`, and an adapter's product continues it. Where the family
//! has a norm before the residual sum (Gemma), the chain begins at zero and the sum comes after it.

use std::ops::Range;

use openledger_kernels::{Buffer, Isa, Store};
use rayon::prelude::*;

use crate::Config;
use crate::arithmetic::Arithmetic;
use crate::base::{Base, Norm};
use crate::dropout::Masks;
use crate::lora::{Adapter, Group};
use crate::workspace::{Activations, Scratch, Side};

/// Consecutive rows that use one adapter.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) adapter: Option<&'a Adapter>,
}

/// Rows of several sequences on their way through the blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) isa: Isa,
    /// Threads of the current pool that products may use.
    pub(crate) threads: usize,
    pub(crate) count: usize,
    pub(crate) segments: &'a [Segment<'a>],
    /// What a training step drops of the adapters' inputs.
    pub(crate) masks: Option<&'a Masks>,
}

/// Fewer rows than this are not worth another thread.
const ROWS_PER_THREAD: usize = 32;

/// Columns of a panel: where a product may be cut.
const PANEL: usize = openledger_kernels::PANEL;

/// `y [m, outputs]` is or gains `x W^T`, over `threads` threads of the current pool: many rows are
/// split by rows, few by outputs so that each weight is read once. No split changes a bit.
pub(crate) fn project<A: Arithmetic>(
    isa: Isa,
    threads: usize,
    m: usize,
    x: &[f32],
    matrix: &A::Matrix,
    y: &mut [f32],
    store: Store,
) {
    let (n, k) = A::shape(matrix);
    let (x, y) = (&x[..m * k], &mut y[..m * n]);
    if threads == 1 || n < 2 * PANEL {
        A::project(isa, m, x, k, matrix, 0..n, y, n, store);
    } else if m >= threads * ROWS_PER_THREAD {
        let rows = m.div_ceil(threads);
        y.par_chunks_mut(rows * n)
            .zip(x.par_chunks(rows * k))
            .for_each(|(y, x)| A::project(isa, x.len() / k, x, k, matrix, 0..n, y, n, store));
    } else {
        let width = n.div_ceil(threads).next_multiple_of(PANEL);
        let parts: Vec<Vec<f32>> = (0..n.div_ceil(width))
            .into_par_iter()
            .map(|part| {
                let outputs = part * width..n.min((part + 1) * width);
                let mut own = vec![0.0; m * outputs.len()];
                if store == Store::Accumulate {
                    for (own, y) in own.chunks_exact_mut(outputs.len()).zip(y.chunks_exact(n)) {
                        own.copy_from_slice(&y[outputs.clone()]);
                    }
                }
                let stride = outputs.len();
                A::project(isa, m, x, k, matrix, outputs, &mut own, stride, store);
                own
            })
            .collect();
        for (part, own) in parts.iter().enumerate() {
            let first = part * width;
            let stride = own.len() / m;
            for (own, y) in own.chunks_exact(stride).zip(y.chunks_exact_mut(n)) {
                y[first..first + stride].copy_from_slice(own);
            }
        }
    }
}

impl Rows<'_> {
    /// A linear with its adapters. `inner` keeps the adapter's inner activations of the last
    /// segment, which is all rows when gradients are wanted.
    ///
    /// Outputs of `DoRA` are scaled before they meet what `y` holds, so its rows are a product of
    /// their own; all others are one.
    #[allow(clippy::too_many_arguments, reason = "one linear's tensors")]
    fn linear<A: Arithmetic>(
        &self,
        base: &Base<A>,
        at: (usize, Group),
        x: &[f32],
        matrix: &A::Matrix,
        y: &mut [f32],
        store: Store,
        inner: &mut Buffer,
        side: &mut Side,
    ) {
        let (isa, threads) = (self.isa, self.threads);
        let (n, k) = A::shape(matrix);
        let gains = |segment: &Segment<'_>| segment.adapter.is_some_and(|a| a.config.dora);
        for run in self
            .segments
            .chunk_by(|one, next| !gains(one) && !gains(next))
        {
            let (start, end) = (run[0].rows.start, run[run.len() - 1].rows.end);
            if !gains(&run[0]) {
                let (x, y) = (&x[start * k..], &mut y[start * n..]);
                project::<A>(isa, threads, end - start, x, matrix, y, store);
            }
        }
        for segment in self.segments {
            let Some(adapter) = segment.adapter else {
                continue;
            };
            let Range { start, end } = segment.rows;
            let rows = end - start;
            let (x, y) = (&x[start * k..end * k], &mut y[start * n..end * n]);
            let inner = inner.first(rows * adapter.inner_width(at.1));
            let input = match self.masks {
                Some(masks) => {
                    let dropped = side.dropped.first(rows * k);
                    masks.apply(at, k, x, dropped);
                    dropped
                }
                None => x,
            };
            adapter.shrink::<A>(isa, at, rows, input, inner);
            match adapter.gains(base) {
                None => adapter.expand::<A>(isa, at, rows, inner, (y, n)),
                Some(gains) => {
                    let outputs = side.outputs.first(rows * n);
                    project::<A>(isa, threads, rows, x, matrix, outputs, Store::Overwrite);
                    adapter.expand::<A>(isa, at, rows, inner, (outputs, n));
                    isa.multiply_rows(outputs, gains.factors(at.0, at.1), y, store);
                }
            }
        }
    }

    /// `output = input + x W^T` with adapters; with a norm of its own (and buffers for its input
    /// and factors) the product is normed before it is added.
    #[allow(clippy::too_many_arguments, reason = "one half of a block")]
    fn residual<A: Arithmetic>(
        &self,
        base: &Base<A>,
        at: (usize, Group),
        x: &[f32],
        matrix: &A::Matrix,
        input: &[f32],
        output: &mut [f32],
        inner: &mut Buffer,
        side: &mut Side,
        post: Option<(&Norm, &mut Buffer, &mut Buffer)>,
    ) {
        let Some((norm, branch, inverse)) = post else {
            output.copy_from_slice(input);
            let add = Store::Accumulate;
            return self.linear(base, at, x, matrix, output, add, inner, side);
        };
        let over = Store::Overwrite;
        self.linear(base, at, x, matrix, branch, over, inner, side);
        let eps = base.config.norm_eps;
        self.isa
            .rms_norm(branch, &norm.factors, eps, output, inverse);
        self.isa.add(output, input);
    }

    /// Runs block `layer` from `input [count, hidden]` to `output`; `attend` turns the raw `qkv`
    /// rows (to be rotated in place) into the attended rows and their log-sums.
    #[allow(clippy::too_many_arguments, reason = "one block's tensors")]
    pub(crate) fn forward<A: Arithmetic>(
        &self,
        base: &Base<A>,
        layer: usize,
        input: &[f32],
        acts: &mut Activations,
        scratch: &mut Scratch,
        output: &mut [f32],
        attend: impl FnOnce(&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let (c, isa, block) = (&base.config, self.isa, base.block(layer));
        acts.resize(c, self.count);
        scratch.resize(c, self.count);
        let Activations {
            inverse1,
            raw,
            head_inverse,
            qkv,
            attended,
            log_sums,
            branch1,
            post_inverse1,
            middle,
            inverse2,
            gate_up,
            branch2,
            post_inverse2,
            inner: [inner_qkv, inner_o, inner_gate_up, inner_down],
        } = acts;
        let Scratch { norm, gated, side } = scratch;
        let eps = c.norm_eps;

        isa.rms_norm(input, &block.norm1.factors, eps, norm, inverse1);
        let store = match &block.qkv_bias {
            None => Store::Overwrite,
            Some(bias) => {
                isa.fill_rows(qkv, bias);
                Store::Accumulate
            }
        };
        let at = (layer, Group::Attention);
        self.linear(base, at, norm, &block.qkv, qkv, store, inner_qkv, side);
        if let Some(norms) = &block.head_norms {
            normalise_heads(isa, c, norms, qkv, raw, head_inverse);
        }
        attend(qkv, attended, log_sums);
        let at = (layer, Group::Output);
        let post = block
            .post1
            .as_ref()
            .map(|norm| (norm, branch1, post_inverse1));
        self.residual(
            base, at, attended, &block.o, input, middle, inner_o, side, post,
        );

        isa.rms_norm(middle, &block.norm2.factors, eps, norm, inverse2);
        let (at, over) = ((layer, Group::Gated), Store::Overwrite);
        let matrix = &block.gate_up;
        self.linear(base, at, norm, matrix, gate_up, over, inner_gate_up, side);
        isa.gate(c.features.activation.into(), gate_up, c.mlp, gated);
        let at = (layer, Group::Down);
        let post = block
            .post2
            .as_ref()
            .map(|norm| (norm, branch2, post_inverse2));
        let matrix = &block.down;
        self.residual(
            base, at, gated, matrix, middle, output, inner_down, side, post,
        );
    }
}

/// Norms the query heads and the key heads of `qkv` in place, keeping them in `raw` as they were.
fn normalise_heads(
    isa: Isa,
    c: &Config,
    [query, key]: &[Norm; 2],
    qkv: &mut [f32],
    raw: &mut [f32],
    [query_inverse, key_inverse]: &mut [Buffer; 2],
) {
    let (stride, width, q) = (c.qkv_width(), c.q_width() + c.kv_width(), c.q_width());
    let rows = qkv.len() / stride;
    for (row, kept) in qkv.chunks_exact(stride).zip(raw.chunks_exact_mut(width)) {
        kept.copy_from_slice(&row[..width]);
    }
    let (w, inverse) = (&query.factors, query_inverse);
    isa.rms_norm_heads(qkv, stride, rows, c.heads, w, c.norm_eps, inverse);
    let (w, inverse, keys) = (&key.factors, key_inverse, &mut qkv[q..]);
    isa.rms_norm_heads(keys, stride, rows, c.kv_heads, w, c.norm_eps, inverse);
}
