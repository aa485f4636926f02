//! Loss and hand-written gradients of examples.
//!
//! Several examples can go through the blocks as one pack: their rows lie one under another, so
//! that products are tall, while positions, attention and losses stay those of each example. In
//! a product every row is its own chains, so an example has the same bits alone and in a pack.

mod backward;

use std::ops::Range;

use openledger_kernels::{Buffer, Isa, Lhs, Rhs, Store};

use crate::arithmetic::Arithmetic;
use crate::attention::{self, Sequence};
use crate::base::{self, Base};
use crate::block::{Rows, Segment};
use crate::dropout::Masks;
use crate::lora::Adapter;
use crate::workspace::{Activations, Workspace};
use crate::{Config, Error};

/// Floats of logits held at once; bounds memory, leaves the bits alone.
const LOGITS: usize = 1 << 22;

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

/// Where gradients go.
#[derive(Debug)]
pub enum Gradients<'a, 'b> {
    /// Added up over all examples, onto what is there.
    Sum(&'a mut [f32]),
    /// One vector an example, overwritten.
    Each(&'a mut [&'b mut [f32]]),
}

/// What a backward pass produces.
enum Wanted<'w, 'a, 'b> {
    Nothing,
    Lora(&'w Adapter, Gradients<'a, 'b>),
    Full(&'a mut [f32]),
}

/// Cross-entropy of one example, forward only.
///
/// # Errors
/// When the example has no target, is too long, holds an unknown token, the adapter does not fit
/// or the loss is not finite.
pub fn loss<A: Arithmetic>(
    base: &Base<A>,
    adapter: Option<&Adapter>,
    example: &Example,
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    let losses = run(base, adapter, &[example], None, Wanted::Nothing, ws)?;
    Ok(losses[0])
}

/// Forward and backward of one example: overwrites `grads` (in the order of
/// [`Adapter::layout`]) with the gradient of the mean loss over its target tokens.
///
/// Single-threaded; the bits depend on the arguments only.
///
/// # Errors
/// As [`loss`], and when `grads` has another length than the adapter's parameters.
pub fn lora_gradients<A: Arithmetic>(
    base: &Base<A>,
    adapter: &Adapter,
    example: &Example,
    grads: &mut [f32],
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    let each = Gradients::Each(&mut [grads]);
    let losses = lora_gradients_pack(base, adapter, &[example], None, each, ws)?;
    Ok(losses[0])
}

/// Forward and backward of several examples at once; the losses come in their order.
///
/// The gradient of an example is that of the mean loss over its target tokens, or, with
/// `per_target`, that of the sum of its losses times this factor: 1 over all targets of a batch
/// makes the sum over examples the gradient of the batch's mean.
///
/// Single-threaded. With [`Gradients::Each`] an example has the bits it would have alone.
///
/// # Errors
/// As [`loss`], and when a gradient has another length than the adapter's parameters.
///
/// # Panics
/// When there is not one gradient for each example.
pub fn lora_gradients_pack<A: Arithmetic>(
    base: &Base<A>,
    adapter: &Adapter,
    examples: &[&Example],
    per_target: Option<f32>,
    mut grads: Gradients<'_, '_>,
    ws: &mut Workspace,
) -> Result<Vec<Loss>, Error> {
    let expected = adapter.params().len();
    match &mut grads {
        Gradients::Sum(sum) => check_length(sum, expected)?,
        Gradients::Each(each) => {
            assert_eq!(each.len(), examples.len(), "one gradient an example");
            for grads in each.iter_mut() {
                check_length(grads, expected)?;
                grads.fill(0.0);
            }
        }
    }
    let wanted = Wanted::Lora(adapter, grads);
    run(base, Some(adapter), examples, per_target, wanted, ws)
}

/// Forward and backward of one example for pre-training: overwrites `grads` (in the order of
/// [`Base::layout`]) with the gradient of the mean loss over its target tokens.
///
/// # Errors
/// As [`loss`], and when `grads` has another length than the weights.
pub fn full_gradients<A: Arithmetic>(
    base: &Base<A>,
    example: &Example,
    grads: &mut [f32],
    ws: &mut Workspace,
) -> Result<Loss, Error> {
    grads.fill(0.0);
    Ok(full_gradients_pack(base, &[example], None, grads, ws)?[0])
}

/// As [`full_gradients`] for several examples at once, added up onto what `grads` holds;
/// `per_target` as in [`lora_gradients_pack`].
///
/// # Errors
/// As [`full_gradients`].
pub fn full_gradients_pack<A: Arithmetic>(
    base: &Base<A>,
    examples: &[&Example],
    per_target: Option<f32>,
    grads: &mut [f32],
    ws: &mut Workspace,
) -> Result<Vec<Loss>, Error> {
    check_length(grads, base::parameter_count(&base.config))?;
    run(base, None, examples, per_target, Wanted::Full(grads), ws)
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

fn check(c: &Config, example: &Example) -> Result<(), Error> {
    if example.targets() == 0 {
        let (tokens, loss_from) = (example.tokens.len(), example.loss_from);
        return Err(Error::NoTarget { tokens, loss_from });
    }
    let length = example.tokens.len() - 1;
    if length > c.context {
        let limit = c.context;
        return Err(Error::Length { length, limit });
    }
    check_tokens(&example.tokens, c.vocab)
}

/// One example's place in a pack.
struct Member<'a> {
    example: &'a Example,
    rows: Range<usize>,
    /// The rows whose next token is a target.
    predicting: Range<usize>,
    /// Factor on the gradient of each target's loss.
    factor: f32,
    nats: f64,
}

fn pack<'a>(examples: &[&'a Example], per_target: Option<f32>) -> Vec<Member<'a>> {
    let mut start = 0;
    let place = |example: &&'a Example| {
        let rows = start..start + example.tokens.len() - 1;
        start = rows.end;
        Member {
            example,
            predicting: rows.start + example.loss_from.max(1) - 1..rows.end,
            rows,
            factor: per_target.unwrap_or(1.0 / example.targets() as f32),
            nats: 0.0,
        }
    };
    examples.iter().map(place).collect()
}

fn run<A: Arithmetic>(
    base: &Base<A>,
    adapter: Option<&Adapter>,
    examples: &[&Example],
    per_target: Option<f32>,
    mut wanted: Wanted<'_, '_, '_>,
    ws: &mut Workspace,
) -> Result<Vec<Loss>, Error> {
    let c = &base.config;
    for example in examples {
        check(c, example)?;
    }
    if let Some(adapter) = adapter {
        adapter.check_base(c)?;
    }
    let mut members = pack(examples, per_target);
    let Some(last) = members.last() else {
        return Ok(Vec::new());
    };
    let count = last.rows.end;
    let tokens: Vec<u32> = examples
        .iter()
        .flat_map(|e| &e.tokens[..e.tokens.len() - 1])
        .copied()
        .collect();
    let segments = [Segment {
        rows: 0..count,
        adapter,
    }];
    // What is only evaluated is evaluated whole.
    let masks = match (ws.dropout, &wanted) {
        (Some(at), Wanted::Lora(adapter, _)) => {
            let examples = members.iter().map(|member| member.rows.clone());
            Masks::new(at, adapter.config.dropout, examples.collect())
        }
        _ => None,
    };
    let rows = Rows {
        isa: ws.isa,
        threads: 1,
        count,
        segments: &segments,
        masks: masks.as_ref(),
    };
    let keep = !matches!(wanted, Wanted::Nothing);
    forward(base, &rows, &members, &tokens, keep, ws);
    head(base, &mut members, count, &mut wanted, ws);
    if members.iter().any(|member| !member.nats.is_finite()) {
        return Err(Error::Diverged { what: "the loss" });
    }
    if keep {
        backward(base, &rows, &members, &tokens, &mut wanted, ws);
    }
    let loss = |member: &Member<'_>| Loss {
        sum: member.nats,
        tokens: member.predicting.len() as u32,
    };
    Ok(members.iter().map(loss).collect())
}

/// Runs all blocks; keeps the residual stream between them, and each block's activations unless
/// they will be computed again or not be needed.
fn forward<A: Arithmetic>(
    base: &Base<A>,
    rows: &Rows<'_>,
    members: &[Member<'_>],
    tokens: &[u32],
    keep: bool,
    ws: &mut Workspace,
) {
    let c = &base.config;
    let streams = if keep { c.layers + 1 } else { 2 };
    ws.stream.resize_with(streams, Buffer::default);
    let kept = if keep && !ws.checkpointing {
        c.layers
    } else {
        1
    };
    ws.blocks.resize_with(kept, Activations::default);
    for stream in &mut ws.stream {
        stream.resize(rows.count * c.hidden);
    }
    base.embed(tokens, &mut ws.stream[0]);
    for layer in 0..c.layers {
        let (input, output) = if keep {
            let (before, after) = ws.stream.split_at_mut(layer + 1);
            (&before[layer], &mut after[0])
        } else {
            if layer > 0 {
                ws.stream.swap(0, 1);
            }
            let (before, after) = ws.stream.split_at_mut(1);
            (&before[0], &mut after[0])
        };
        let acts = &mut ws.blocks[layer % kept];
        let (scratch, tiles) = (&mut ws.scratch, &mut ws.tiles);
        rows.forward(
            base,
            layer,
            input,
            acts,
            scratch,
            output,
            |qkv, attended, log_sums| {
                attend(
                    base,
                    rows.isa,
                    layer,
                    members,
                    (qkv, attended, log_sums),
                    tiles,
                );
            },
        );
    }
}

/// Rotates the raw queries and keys of every example and attends within each.
fn attend<A: Arithmetic>(
    base: &Base<A>,
    isa: Isa,
    layer: usize,
    members: &[Member<'_>],
    (qkv, attended, log_sums): (&mut [f32], &mut [f32], &mut [f32]),
    tiles: &mut attention::Tiles,
) {
    let c = &base.config;
    for Member { rows, .. } in members {
        let qkv = &mut qkv[rows.start * c.qkv_width()..rows.end * c.qkv_width()];
        rotate(base, isa, layer, qkv, rows.len(), false);
        let out = &mut attended[rows.start * c.q_width()..rows.end * c.q_width()];
        let log_sums = &mut log_sums[rows.start * c.heads..rows.end * c.heads];
        let sequence = Sequence { isa, c, layer, qkv };
        A::attend(sequence, out, log_sums, tiles);
    }
}

/// Rotates queries and keys (side by side) of a sequence that starts at position 0.
fn rotate<A: Arithmetic>(
    base: &Base<A>,
    isa: Isa,
    layer: usize,
    qkv: &mut [f32],
    rows: usize,
    inverse: bool,
) {
    let (c, table) = (&base.config, base.rope(layer));
    let heads = c.heads + c.kv_heads;
    isa.rope(qkv, c.qkv_width(), rows, heads, table, 0, inverse);
}

/// Final norm, output projection and losses; leaves the gradient of the residual stream in
/// `ws.back.stream` unless nothing is wanted.
fn head<A: Arithmetic>(
    base: &Base<A>,
    members: &mut [Member<'_>],
    rows: usize,
    wanted: &mut Wanted<'_, '_, '_>,
    ws: &mut Workspace,
) {
    let (c, isa) = (&base.config, ws.isa);
    let back = !matches!(wanted, Wanted::Nothing);
    let count: usize = members.iter().map(|m| m.predicting.len()).sum();
    let stream: &[f32] = match ws.stream.as_slice() {
        [_, last] if !back => last,
        all => &all[c.layers],
    };
    let hidden = ws.head.hidden.first(count * c.hidden);
    let inverse = ws.head.inverse.first(count);
    let norm = base.final_norm();
    let mut done = 0;
    for Member { predicting, .. } in members.iter() {
        let rows = &stream[predicting.start * c.hidden..predicting.end * c.hidden];
        let hidden = &mut hidden[done * c.hidden..];
        isa.rms_norm(rows, norm, c.norm_eps, hidden, &mut inverse[done..]);
        done += predicting.len();
    }
    if back {
        ws.back.norm.resize(count * c.hidden);
        ws.back.stream.resize(rows * c.hidden);
        ws.back.stream.fill(0.0);
    }

    let mut targets = members.iter_mut().flat_map(|member| {
        let Member {
            example,
            predicting,
            factor,
            nats,
            ..
        } = member;
        let first = example.tokens.len() - predicting.len();
        let nats = std::cell::Cell::from_mut(nats);
        example.tokens[first..]
            .iter()
            .map(move |token| (*token, *factor, nats))
    });
    let step = (LOGITS / c.vocab).clamp(64, 512);
    for from in (0..count).step_by(step) {
        let n = step.min(count - from);
        let hidden = &hidden[from * c.hidden..][..n * c.hidden];
        let logits = ws.head.logits.first(n * c.vocab);
        let all = 0..c.vocab;
        A::project(
            isa,
            n,
            hidden,
            c.hidden,
            base.head(),
            all,
            logits,
            c.vocab,
            Store::Overwrite,
        );
        let slopes = match c.features.logit_softcap {
            None => &mut [],
            Some(cap) => {
                let slopes = ws.head.slopes.first(n * c.vocab);
                isa.soft_cap(logits, cap, slopes);
                slopes
            }
        };
        // A row at a time, so that an example's sum is one chain wherever the pieces end.
        for (row, (token, factor, nats)) in logits.chunks_exact_mut(c.vocab).zip(&mut targets) {
            let loss = isa.cross_entropy(row, c.vocab, &[token], factor);
            nats.set(nats.get() + loss);
        }
        if back {
            if !slopes.is_empty() {
                isa.multiply(logits, slopes);
            }
            let d_norm = &mut ws.back.norm[from * c.hidden..];
            let over = Store::Overwrite;
            A::project_back(isa, n, logits, c.vocab, base.head(), d_norm, c.hidden, over);
        }
        if let Wanted::Full(grads) = wanted {
            let (logits, x) = (
                Lhs::transposed(logits, c.vocab),
                Rhs::rows(hidden, c.hidden),
            );
            let grads = &mut grads[base::head_at(c)..];
            A::product(
                isa,
                c.vocab,
                c.hidden,
                n,
                logits,
                x,
                grads,
                c.hidden,
                Store::Accumulate,
            );
        }
    }
    drop(targets);
    if !back {
        return;
    }
    let at = base::final_norm_at(c);
    let mut done = 0;
    for Member { predicting, .. } in members.iter() {
        let (start, end) = (predicting.start * c.hidden, predicting.end * c.hidden);
        let d_weight: &mut [f32] = match wanted {
            Wanted::Full(grads) => &mut grads[at..at + c.hidden],
            Wanted::Lora(..) | Wanted::Nothing => &mut [],
        };
        isa.rms_norm_backward(
            &ws.back.norm[done * c.hidden..][..end - start],
            &stream[start..end],
            norm,
            &inverse[done..][..predicting.len()],
            &mut ws.back.stream[start..end],
            d_weight,
        );
        done += predicting.len();
    }
}

/// All blocks in reverse, and the embedding.
fn backward<A: Arithmetic>(
    base: &Base<A>,
    rows: &Rows<'_>,
    members: &[Member<'_>],
    tokens: &[u32],
    wanted: &mut Wanted<'_, '_, '_>,
    ws: &mut Workspace,
) {
    let (c, count) = (&base.config, rows.count);
    let Workspace {
        stream,
        blocks,
        scratch,
        back,
        tiles,
        checkpointing,
        ..
    } = ws;
    back.gated.resize(count * c.mlp);
    back.gate_up.resize(count * 2 * c.mlp);
    back.attended.resize(count * c.q_width());
    back.qkv.resize(count * c.qkv_width());
    back.norm.resize(count * c.hidden);
    if c.features.post_norms {
        back.branch.resize(count * c.hidden);
    }
    back.inverse.resize(count);
    for layer in (0..c.layers).rev() {
        let acts = if *checkpointing {
            let acts = &mut blocks[0];
            let (before, after) = stream.split_at_mut(layer + 1);
            let (input, output) = (&before[layer], &mut after[0]);
            rows.forward(
                base,
                layer,
                input,
                acts,
                scratch,
                output,
                |qkv, attended, log_sums| {
                    attend(
                        base,
                        rows.isa,
                        layer,
                        members,
                        (qkv, attended, log_sums),
                        tiles,
                    );
                },
            );
            &blocks[0]
        } else {
            &blocks[layer]
        };
        let mut pass = backward::Pass {
            isa: rows.isa,
            base,
            layer,
            rows: count,
            members,
            masks: rows.masks,
            wanted,
        };
        pass.block(&stream[layer], acts, scratch, back, tiles);
    }
    if let Wanted::Full(grads) = wanted {
        let table = &mut grads[..c.vocab * c.hidden];
        if let Some(scale) = c.features.embedding_scale {
            rows.isa.scale(&mut back.stream, scale);
        }
        rows.isa.scatter_add(&back.stream, c.hidden, tokens, table);
    }
}
