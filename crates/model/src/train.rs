//! Loss and hand-written gradients of one example.

use openledger_kernels::{
    AttentionBackward, AttentionForward, Buffer, Isa, Lhs, Packed, Rhs, Scores, Store,
};

use crate::base::{self, Base, BlockAt};
use crate::block::{self, Segment};
use crate::lora::{Adapter, Group};
use crate::workspace::{Activations, Back, Workspace};
use crate::{Config, Error};

/// Rows of logits computed at once; bounds memory, leaves the bits alone.
const HEAD_ROWS: usize = 64;

/// A token sequence to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The whole sequence.
    pub tokens: Vec<u32>,
    /// First position whose token counts as a target; position 0 is never predicted, so 0 and 1
    /// mean the same.
    pub loss_from: usize,
}

impl Example {
    /// Number of target tokens.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.tokens.len().saturating_sub(self.loss_from.max(1))
    }
}

/// Cross-entropy of one example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Sum over the target tokens, in nats.
    pub sum: f64,
    /// Number of target tokens.
    pub tokens: u32,
}

impl Loss {
    /// Nats per target token.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.tokens)
    }
}

/// What a backward pass produces.
enum Wanted<'a> {
    Nothing,
    Lora(&'a Adapter, &'a mut [f32]),
    Full(&'a mut [f32]),
}

/// Cross-entropy of one example, forward only.
///
/// # Errors
/// When the example has no target, is too long, holds an unknown token, the adapter does not fit
/// or the loss is not finite.
pub fn loss(
    base: &Base,
    adapter: Option<&Adapter>,
    example: &Example,
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    run(base, adapter, example, Wanted::Nothing, ws)
}

/// Forward and backward of one example: overwrites `grads` (in the order of
/// [`Adapter::layout`]) with the gradient of the mean loss over its target tokens.
///
/// Single-threaded; the bits depend on the arguments only.
///
/// # Errors
/// As [`loss`], and when `grads` has another length than the adapter's parameters.
pub fn lora_gradients(
    base: &Base,
    adapter: &Adapter,
    example: &Example,
    grads: &mut [f32],
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    check_length(grads, adapter.params().len())?;
    run(
        base,
        Some(adapter),
        example,
        Wanted::Lora(adapter, grads),
        ws,
    )
}

/// Forward and backward of one example for pre-training: overwrites `grads` (in the order of
/// [`Base::layout`]) with the gradient of the mean loss over its target tokens.
///
/// # Errors
/// As [`loss`], and when `grads` has another length than the weights.
pub fn full_gradients(
    base: &Base,
    example: &Example,
    grads: &mut [f32],
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    check_length(grads, base.params().len())?;
    run(base, None, example, Wanted::Full(grads), ws)
}

fn check_length(grads: &[f32], expected: usize) -> Result<(), Error> {
    if grads.len() == expected {
        Ok(())
    } else {
        Err(Error::GradientLength {
            found: grads.len(),
            expected,
        })
    }
}

pub(crate) fn check_tokens(tokens: &[u32], vocab: usize) -> Result<(), Error> {
    match tokens.iter().position(|t| *t as usize >= vocab) {
        None => Ok(()),
        Some(position) => Err(Error::Token {
            token: tokens[position],
            position,
            vocab,
        }),
    }
}

fn run(
    base: &Base,
    adapter: Option<&Adapter>,
    example: &Example,
    mut wanted: Wanted<'_>,
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    let c = &base.config;
    let targets = example.targets();
    if targets == 0 {
        let (tokens, loss_from) = (example.tokens.len(), example.loss_from);
        return Err(Error::NoTarget { tokens, loss_from });
    }
    let rows = example.tokens.len() - 1;
    if rows > c.context {
        return Err(Error::Length {
            length: rows,
            limit: c.context,
        });
    }
    check_tokens(&example.tokens, c.vocab)?;
    if let Some(adapter) = adapter {
        adapter.check_base(c)?;
    }
    forward(base, adapter, &example.tokens[..rows], ws);
    let sum = head(base, example, &mut wanted, ws);
    if !sum.is_finite() {
        return Err(Error::Diverged { what: "the loss" });
    }
    match wanted {
        Wanted::Nothing => {}
        Wanted::Lora(..) | Wanted::Full(_) => {
            backward(base, &example.tokens[..rows], &mut wanted, ws);
        }
    }
    Ok(Loss {
        sum,
        tokens: targets as u32,
    })
}

/// Runs all blocks over one sequence and keeps every activation.
fn forward(base: &Base, adapter: Option<&Adapter>, tokens: &[u32], ws: &mut Workspace) {
    let (c, isa, rows) = (&base.config, ws.isa, tokens.len());
    ws.stream.resize_with(c.layers + 1, Buffer::default);
    ws.blocks.resize_with(c.layers, Activations::default);
    for stream in &mut ws.stream {
        stream.resize(rows * c.hidden);
    }
    isa.gather(base.embedding(), c.hidden, tokens, &mut ws.stream[0]);
    let segments = [Segment {
        rows: 0..rows,
        adapter,
    }];
    for layer in 0..c.layers {
        let acts = &mut ws.blocks[layer];
        acts.resize(c, rows);
        let (before, after) = ws.stream.split_at_mut(layer + 1);
        let (keys, scratch) = (&mut ws.back.keys, &mut ws.attention);
        block::forward(
            isa,
            base,
            layer,
            rows,
            &segments,
            &before[layer],
            acts,
            &mut after[0],
            |qkv, attended| {
                rotate(isa, base, qkv, rows, false);
                attend(isa, c, qkv, rows, attended, keys, scratch);
            },
        );
    }
}

/// Rotates queries and keys (side by side) of a sequence that starts at position 0.
fn rotate(isa: Isa, base: &Base, qkv: &mut [f32], rows: usize, inverse: bool) {
    let c = &base.config;
    isa.rope(
        qkv,
        c.qkv_width(),
        rows,
        c.heads + c.kv_heads,
        &base.rope,
        0,
        inverse,
    );
}

fn attend(
    isa: Isa,
    c: &Config,
    qkv: &[f32],
    rows: usize,
    attended: &mut [f32],
    keys: &mut Packed,
    scratch: &mut Buffer,
) {
    let (hd, stride, group) = (c.head_dim, c.qkv_width(), c.heads / c.kv_heads);
    for kv in 0..c.kv_heads {
        let key_at = c.q_width() + kv * hd;
        keys.fill_transposed(&qkv[key_at..], stride, rows, hd);
        for head in kv * group..(kv + 1) * group {
            let job = AttentionForward {
                queries: &qkv[head * hd..],
                query_stride: stride,
                rows,
                head_dim: hd,
                keys: keys.rhs(),
                values: &qkv[key_at + c.kv_width()..],
                value_stride: stride,
                visible: 1,
                grow: 1,
                scores: Scores::plain(hd),
            };
            isa.attention(&job, &mut attended[head * hd..], c.q_width(), scratch);
        }
    }
}

/// Final norm, output projection and loss; leaves the gradient of the residual stream in
/// `ws.back.stream` unless nothing is wanted.
fn head(base: &Base, example: &Example, wanted: &mut Wanted<'_>, ws: &mut Workspace) -> f64 {
    let (c, isa) = (&base.config, ws.isa);
    let rows = example.tokens.len() - 1;
    let first = example.loss_from.max(1) - 1;
    let count = rows - first;
    let factor = 1.0 / count as f32;
    let stream = &ws.stream[c.layers][first * c.hidden..];
    let hidden = ws.head.hidden.first(count * c.hidden);
    let inverse = ws.head.inverse.first(count);
    isa.rms_norm(stream, base.final_norm(), c.norm_eps, hidden, inverse);
    let back = !matches!(wanted, Wanted::Nothing);
    if back {
        ws.back.norm.resize(count * c.hidden);
        ws.back.stream.resize(rows * c.hidden);
        ws.back.stream.fill(0.0);
    }
    if let Wanted::Full(grads) = wanted {
        grads.fill(0.0);
    }

    let mut sum = 0.0;
    for from in (0..count).step_by(HEAD_ROWS) {
        let n = HEAD_ROWS.min(count - from);
        let hidden = &hidden[from * c.hidden..][..n * c.hidden];
        let logits = ws.head.logits.first(n * c.vocab);
        let x = Lhs::rows(hidden, c.hidden);
        let weight = base.packed_head().rhs();
        isa.gemm(
            n,
            c.vocab,
            c.hidden,
            x,
            weight,
            logits,
            c.vocab,
            Store::Overwrite,
        );
        let targets = &example.tokens[first + from + 1..][..n];
        sum += isa.cross_entropy(logits, c.vocab, targets, factor);
        if back {
            isa.gemm(
                n,
                c.hidden,
                c.vocab,
                Lhs::rows(logits, c.vocab),
                Rhs::rows(base.head_rows(), c.hidden),
                &mut ws.back.norm[from * c.hidden..],
                c.hidden,
                Store::Overwrite,
            );
        }
        if let Wanted::Full(grads) = wanted {
            isa.gemm(
                c.vocab,
                c.hidden,
                n,
                Lhs::transposed(logits, c.vocab),
                Rhs::rows(hidden, c.hidden),
                &mut grads[base::head_at(c)..],
                c.hidden,
                Store::Accumulate,
            );
        }
    }
    if back {
        let at = base::final_norm_at(c);
        let d_weight: &mut [f32] = match wanted {
            Wanted::Full(grads) => &mut grads[at..at + c.hidden],
            Wanted::Lora(..) | Wanted::Nothing => &mut [],
        };
        let d_stream = &mut ws.back.stream[first * c.hidden..];
        isa.rms_norm_backward(
            &ws.back.norm,
            stream,
            base.final_norm(),
            inverse,
            d_stream,
            d_weight,
        );
    }
    sum
}

/// All blocks in reverse, and the embedding.
fn backward(base: &Base, tokens: &[u32], wanted: &mut Wanted<'_>, ws: &mut Workspace) {
    let (c, isa, rows) = (&base.config, ws.isa, tokens.len());
    let Workspace {
        stream,
        blocks,
        back,
        attention,
        inner,
        ..
    } = ws;
    back.gated.resize(rows * c.mlp);
    back.gate_up.resize(rows * 2 * c.mlp);
    back.attended.resize(rows * c.q_width());
    back.qkv.resize(rows * c.qkv_width());
    back.norm.resize(rows * c.hidden);
    for layer in (0..c.layers).rev() {
        let mut pass = Pass {
            isa,
            base,
            layer,
            rows,
            wanted,
            inner,
        };
        pass.block(&stream[layer], &blocks[layer], back, attention);
    }
    if let Wanted::Full(grads) = wanted {
        let table = &mut grads[..c.vocab * c.hidden];
        isa.scatter_add(&back.stream, c.hidden, tokens, table);
    }
}

/// The backward of one block.
struct Pass<'a, 'b> {
    isa: Isa,
    base: &'a Base,
    layer: usize,
    rows: usize,
    wanted: &'a mut Wanted<'b>,
    inner: &'a mut Buffer,
}

impl Pass<'_, '_> {
    fn block(&mut self, input: &[f32], acts: &Activations, back: &mut Back, scratch: &mut Buffer) {
        let (c, isa) = (&self.base.config, self.isa);
        let at = BlockAt::new(c, self.layer);
        let (hidden, q) = (c.hidden, c.q_width());

        let Back {
            stream,
            norm,
            gated,
            gate_up,
            attended,
            qkv,
            keys,
            values,
        } = back;
        self.linear(
            at.down,
            hidden,
            c.mlp,
            Group::Down,
            stream,
            (&acts.gated, acts),
            Some(gated),
        );
        isa.silu_gate_backward(gated, &acts.gate_up, c.mlp, gate_up);
        self.linear(
            at.gate_up,
            2 * c.mlp,
            hidden,
            Group::Gated,
            gate_up,
            (&acts.norm2, acts),
            Some(norm),
        );
        self.norm(at.norm2, norm, &acts.middle, &acts.inverse2, stream);

        self.linear(
            at.o,
            hidden,
            q,
            Group::Output,
            stream,
            (&acts.attended, acts),
            Some(attended),
        );
        self.attention(&acts.qkv, attended, qkv, (keys, values), scratch);
        rotate(isa, self.base, qkv, self.rows, true);
        // Below the first block there is only the embedding, which LoRA leaves alone.
        let last = self.layer == 0 && matches!(self.wanted, Wanted::Lora(..));
        let d_norm = if last { None } else { Some(&mut *norm) };
        let width = c.qkv_width();
        self.linear(
            at.qkv,
            width,
            hidden,
            Group::Attention,
            qkv,
            (&acts.norm1, acts),
            d_norm,
        );
        if !last {
            self.norm(at.norm1, norm, input, &acts.inverse1, stream);
        }
    }

    /// Backward of one packed linear `[n, k]` at `at`: `dx = dy W` plus the adapters' part, and
    /// the gradients that are wanted.
    #[allow(clippy::too_many_arguments, reason = "one linear's tensors")]
    fn linear(
        &mut self,
        at: usize,
        n: usize,
        k: usize,
        group: Group,
        dy: &[f32],
        (x, acts): (&[f32], &Activations),
        mut dx: Option<&mut Buffer>,
    ) {
        let (isa, rows) = (self.isa, self.rows);
        if let Some(dx) = dx.as_deref_mut() {
            let weight = Rhs::rows(self.base.slice(at, n * k), k);
            isa.gemm(
                rows,
                k,
                n,
                Lhs::rows(dy, n),
                weight,
                dx,
                k,
                Store::Overwrite,
            );
        }
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::Full(grads) => {
                let (dy, x) = (Lhs::transposed(dy, n), Rhs::rows(x, k));
                let grads = &mut grads[at..at + n * k];
                isa.gemm(n, k, rows, dy, x, grads, k, Store::Overwrite);
            }
            Wanted::Lora(adapter, grads) => {
                let d_inner = self.inner.first(rows * adapter.inner_width(group));
                adapter.backward(
                    isa,
                    (self.layer, group),
                    rows,
                    x,
                    &acts.inner[group as usize],
                    (dy, n),
                    dx.map(|dx| &mut **dx),
                    grads,
                    d_inner,
                );
            }
        }
    }

    fn norm(&mut self, at: usize, dy: &[f32], x: &[f32], inverse: &[f32], dx: &mut [f32]) {
        let hidden = self.base.config.hidden;
        let weight = self.base.slice(at, hidden);
        let d_weight: &mut [f32] = match self.wanted {
            Wanted::Full(grads) => &mut grads[at..at + hidden],
            Wanted::Lora(..) | Wanted::Nothing => &mut [],
        };
        self.isa
            .rms_norm_backward(dy, x, weight, inverse, dx, d_weight);
    }

    fn attention(
        &self,
        qkv: &[f32],
        d_attended: &[f32],
        d_qkv: &mut [f32],
        (keys, values): (&mut Packed, &mut Packed),
        scratch: &mut Buffer,
    ) {
        let (c, rows) = (&self.base.config, self.rows);
        let (hd, stride, group) = (c.head_dim, c.qkv_width(), c.heads / c.kv_heads);
        for row in d_qkv.chunks_exact_mut(stride) {
            row[c.q_width()..].fill(0.0);
        }
        for kv in 0..c.kv_heads {
            let key_at = c.q_width() + kv * hd;
            let value_at = key_at + c.kv_width();
            keys.fill_transposed(&qkv[key_at..], stride, rows, hd);
            values.fill_transposed(&qkv[value_at..], stride, rows, hd);
            for head in kv * group..(kv + 1) * group {
                let job = AttentionBackward {
                    qkv,
                    stride,
                    query_at: head * hd,
                    key_at,
                    value_at,
                    rows,
                    head_dim: hd,
                    keys,
                    values,
                    scores: Scores::plain(hd),
                };
                let d_out = &d_attended[head * hd..];
                self.isa
                    .attention_backward(&job, d_out, c.q_width(), d_qkv, scratch);
            }
        }
    }
}
