//! New tokens of many sequences through the model at once, each with its own adapter.

use openledger_kernels::{AttentionForward, Buffer, Isa, Store};

use crate::arithmetic::Arithmetic;
use crate::attention;
use crate::block::{self, Rows, Segment};
use crate::train::check_tokens;
use crate::workspace::{Activations, Workspace};
use crate::{Adapter, Base, Config, Error, KvCache};

/// One sequence's share of a step.
#[derive(Debug)]
pub struct Lane<'a> {
    /// New tokens, at least one; the cache holds those before them.
    pub tokens: &'a [u32],
    /// Keys and values of the sequence; grows by the new tokens.
    pub cache: &'a mut KvCache,
    /// Adapter of the sequence, or the bare base model.
    pub adapter: Option<&'a Adapter>,
    /// Whether to return logits of every new token instead of the last one only.
    pub all_logits: bool,
}

/// What one lane gets back.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneOutput {
    /// `[1 or new tokens, vocab]`.
    pub logits: Vec<f32>,
    /// Final-norm hidden state of the last token, `[hidden]`.
    pub hidden: Vec<f32>,
}

/// Runs the new tokens of every lane in one batch: the base products span all lanes, adapters
/// apply lane by lane.
///
/// Every lane's output has the bits it would have alone, and the bits of a full forward of its
/// sequence. Caches grow only if the whole step succeeds.
///
/// Lanes are spread over the threads of the current rayon pool, which changes no bit.
///
/// # Errors
/// When a lane has no new token, an unknown token, no room, or a cache or adapter of another
/// shape; names the lane or both shapes. No lane is advanced then.
pub fn step<A: Arithmetic>(
    base: &Base<A>,
    lanes: &mut [Lane<'_>],
    ws: &mut Workspace,
) -> Result<Vec<LaneOutput>, Error> {
    for (index, lane) in lanes.iter().enumerate() {
        check(&base.config, index, lane)?;
    }
    let rows: usize = lanes.iter().map(|lane| lane.tokens.len()).sum();
    let threads = rayon::current_num_threads();
    let parts = (rows / ROWS_PER_THREAD).min(threads).min(lanes.len());
    if parts <= 1 {
        return Ok(run(base, lanes, threads, ws));
    }
    let isa = ws.isa;
    ws.others.resize_with(parts, || Workspace::with_isa(isa));
    let mut outputs: Vec<Vec<LaneOutput>> = vec![Vec::new(); parts];
    rayon::scope(|scope| {
        let (mut rest, mut left) = (lanes, rows);
        for (index, (ws, out)) in ws.others.iter_mut().zip(&mut outputs).enumerate() {
            let fair = left.div_ceil(parts - index);
            let (count, taken) = share(rest, fair, parts - index);
            let (own, others) = rest.split_at_mut(count);
            rest = others;
            left -= taken;
            scope.spawn(move |_| *out = run(base, own, 1, ws));
        }
    });
    Ok(outputs.into_iter().flatten().collect())
}

/// Fewer rows than this are not worth another thread.
const ROWS_PER_THREAD: usize = 8;

/// How many of the first lanes, and rows in them, make at least `fair` rows while leaving one
/// lane for each of the other `parts`; all lanes for the last part.
fn share(lanes: &[Lane<'_>], fair: usize, parts: usize) -> (usize, usize) {
    let (mut count, mut rows) = (0, 0);
    while parts == 1 && count < lanes.len()
        || parts > 1 && rows < fair && lanes.len() - count >= parts
    {
        rows += lanes[count].tokens.len();
        count += 1;
    }
    (count, rows)
}

fn check(c: &Config, index: usize, lane: &Lane<'_>) -> Result<(), Error> {
    if lane.tokens.is_empty() {
        return Err(Error::EmptyLane { lane: index });
    }
    check_tokens(lane.tokens, c.vocab)?;
    lane.cache.check(c, lane.tokens.len())?;
    lane.adapter.map_or(Ok(()), |adapter| adapter.check_base(c))
}

/// One thread's lanes, all checked.
fn run<A: Arithmetic>(
    base: &Base<A>,
    lanes: &mut [Lane<'_>],
    threads: usize,
    ws: &mut Workspace,
) -> Vec<LaneOutput> {
    let c = &base.config;
    let mut tokens = Vec::new();
    let mut segments = Vec::with_capacity(lanes.len());
    for lane in lanes.iter() {
        let start = tokens.len();
        tokens.extend_from_slice(lane.tokens);
        segments.push(Segment {
            rows: start..tokens.len(),
            adapter: lane.adapter,
        });
    }
    if lanes.is_empty() {
        return Vec::new();
    }
    let runs = merge(&segments);

    let rows = Rows {
        isa: ws.isa,
        threads,
        count: tokens.len(),
        segments: &runs,
    };
    let Workspace {
        stream,
        blocks,
        scratch,
        scores,
        ..
    } = ws;
    stream.resize_with(stream.len().max(2), Buffer::default);
    blocks.resize_with(blocks.len().max(1), Activations::default);
    let [input, output, ..] = stream.as_mut_slice() else {
        unreachable!("the stream was just made two buffers long")
    };
    input.resize(rows.count * c.hidden);
    output.resize(rows.count * c.hidden);
    base.embed(&tokens, input);
    for layer in 0..c.layers {
        let acts = &mut blocks[0];
        rows.forward(
            base,
            layer,
            input,
            acts,
            scratch,
            output,
            |qkv, attended| {
                attend(
                    rows.isa, base, layer, lanes, &segments, qkv, attended, scores,
                );
            },
        );
        std::mem::swap(input, output);
    }
    for lane in lanes.iter_mut() {
        lane.cache.advance(lane.tokens.len());
    }
    project(base, lanes, &segments, threads, ws)
}

/// Joins neighbours with the same adapter, so that its products run over all their rows.
fn merge<'a>(segments: &[Segment<'a>]) -> Vec<Segment<'a>> {
    let mut runs: Vec<Segment<'a>> = Vec::with_capacity(segments.len());
    for segment in segments {
        match (runs.last_mut(), segment.adapter) {
            (
                Some(Segment {
                    rows,
                    adapter: Some(last),
                }),
                Some(adapter),
            ) if std::ptr::eq(*last, adapter) => {
                rows.end = segment.rows.end;
            }
            _ => runs.push(segment.clone()),
        }
    }
    runs
}

#[allow(
    clippy::too_many_arguments,
    reason = "one layer's attention over all lanes"
)]
fn attend<A: Arithmetic>(
    isa: Isa,
    base: &Base<A>,
    layer: usize,
    lanes: &mut [Lane<'_>],
    segments: &[Segment<'_>],
    qkv: &mut [f32],
    attended: &mut [f32],
    scratch: &mut Buffer,
) {
    let c = &base.config;
    let (hd, stride, width) = (c.head_dim, c.qkv_width(), c.q_width());
    let group = c.heads / c.kv_heads;
    for (lane, segment) in lanes.iter_mut().zip(segments) {
        let rows = segment.rows.len();
        let qkv = &mut qkv[segment.rows.start * stride..][..rows * stride];
        let out = &mut attended[segment.rows.start * width..][..rows * width];
        let held = lane.cache.len();
        isa.rope(
            qkv,
            stride,
            rows,
            c.heads + c.kv_heads,
            base.rope(layer),
            held,
            false,
        );
        lane.cache.write(layer, &qkv[width..], stride, rows);
        for kv in 0..c.kv_heads {
            let (values, value_stride) = lane.cache.values(layer, kv);
            let first = kv * group * hd;
            let job = AttentionForward {
                queries: &qkv[first..],
                query_stride: hd,
                rows: group,
                head_dim: hd,
                keys: lane.cache.keys(layer, kv),
                values,
                value_stride,
                visible: held + 1,
                grow: 0,
                scores: attention::score_rule(c, layer),
            };
            if rows == 1 {
                // The heads of a group see the same positions: one product serves them all.
                isa.attention(&job, &mut out[first..], hd, scratch);
                continue;
            }
            for head in 0..group {
                let at = first + head * hd;
                let job = AttentionForward {
                    queries: &qkv[at..],
                    query_stride: stride,
                    rows,
                    grow: 1,
                    ..job
                };
                isa.attention(&job, &mut out[at..], width, scratch);
            }
        }
    }
}

/// Final norm and logits of the rows that lanes asked for.
fn project<A: Arithmetic>(
    base: &Base<A>,
    lanes: &[Lane<'_>],
    segments: &[Segment<'_>],
    threads: usize,
    ws: &mut Workspace,
) -> Vec<LaneOutput> {
    let (c, isa) = (&base.config, ws.isa);
    let stream = &ws.stream[0];
    let counts: Vec<usize> = lanes
        .iter()
        .map(|lane| {
            if lane.all_logits {
                lane.tokens.len()
            } else {
                1
            }
        })
        .collect();
    let total: usize = counts.iter().sum();
    let hidden = ws.head.hidden.first(total * c.hidden);
    let inverse = ws.head.inverse.first(total);
    let mut done = 0;
    for (segment, count) in segments.iter().zip(&counts) {
        let rows = &stream[(segment.rows.end - count) * c.hidden..segment.rows.end * c.hidden];
        let hidden = &mut hidden[done * c.hidden..];
        isa.rms_norm(
            rows,
            base.final_norm(),
            c.norm_eps,
            hidden,
            &mut inverse[done..],
        );
        done += count;
    }
    let logits = ws.head.logits.first(total * c.vocab);
    let over = Store::Overwrite;
    block::project::<A>(isa, threads, total, hidden, base.head(), logits, over);
    if let Some(cap) = c.features.logit_softcap {
        isa.soft_cap(logits, cap, &mut []);
    }
    let mut done = 0;
    counts
        .iter()
        .map(|count| {
            let end = done + count;
            let output = LaneOutput {
                logits: logits[done * c.vocab..end * c.vocab].to_vec(),
                hidden: hidden[(end - 1) * c.hidden..end * c.hidden].to_vec(),
            };
            done = end;
            output
        })
        .collect()
}
