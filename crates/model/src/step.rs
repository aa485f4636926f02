//! New tokens of many sequences through the model at once, each with its own adapter.

use openledger_kernels::{Buffer, Store};
use rayon::prelude::*;

use crate::arithmetic::{Arithmetic, Exact};
use crate::attention::{Sequence, Tiles};
use crate::awake::awake;
use crate::block::{self, Rows, Segment};
use crate::train::check_tokens;
use crate::workspace::{Activations, Workspace};
use crate::{Adapter, Base, Config, Error, KvCache};

/// One sequence's share of a step.
#[derive(Debug)]
pub struct Lane<'a, A: Arithmetic = Exact> {
    /// New tokens, at least one; the cache holds those before them.
    pub tokens: &'a [u32],
    /// Keys and values of the sequence; grows by the new tokens.
    pub cache: &'a mut KvCache<A>,
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
/// Lanes (or, of a large model, the products) are spread over the threads of the current rayon
/// pool, which changes no bit.
///
/// # Errors
/// When a lane has no new token, an unknown token, no room, or a cache or adapter of another
/// shape; names the lane or both shapes. No lane is advanced then.
pub fn step<A: Arithmetic>(
    base: &Base<A>,
    lanes: &mut [Lane<'_, A>],
    ws: &mut Workspace,
) -> Result<Vec<LaneOutput>, Error> {
    for (index, lane) in lanes.iter().enumerate() {
        check(&base.config, index, lane)?;
    }
    let rows: usize = lanes.iter().map(|lane| lane.tokens.len()).sum();
    let threads = rayon::current_num_threads();
    let parts = (rows / ROWS_PER_THREAD).min(threads).min(lanes.len());
    if parts <= 1 || base.bytes() > CACHED {
        if threads == 1 {
            return Ok(run(base, lanes, threads, ws));
        }
        return Ok(awake(|| run(base, lanes, threads, ws)));
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

/// A model of more bytes than this does not stay in the caches: its threads share each product
/// instead of the lanes, so that every weight is read from memory once.
const CACHED: usize = 16 << 20;

/// How many of the first lanes, and rows in them, make at least `fair` rows while leaving one
/// lane for each of the other `parts`; all lanes for the last part.
fn share<A: Arithmetic>(lanes: &[Lane<'_, A>], fair: usize, parts: usize) -> (usize, usize) {
    let (mut count, mut rows) = (0, 0);
    while parts == 1 && count < lanes.len()
        || parts > 1 && rows < fair && lanes.len() - count >= parts
    {
        rows += lanes[count].tokens.len();
        count += 1;
    }
    (count, rows)
}

fn check<A: Arithmetic>(c: &Config, index: usize, lane: &Lane<'_, A>) -> Result<(), Error> {
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
    lanes: &mut [Lane<'_, A>],
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
        masks: None,
    };
    let Workspace {
        stream,
        blocks,
        scratch,
        lane_tiles,
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
            |qkv, attended, _| attend(base, &rows, layer, lanes, qkv, attended, lane_tiles),
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

/// Rotates the new queries and keys of every lane and attends over its cache. One lane's rows, or
/// else the lanes, are shared by the threads.
fn attend<A: Arithmetic>(
    base: &Base<A>,
    rows: &Rows<'_>,
    layer: usize,
    lanes: &mut [Lane<'_, A>],
    qkv: &mut [f32],
    attended: &mut [f32],
    tiles: &mut Vec<Tiles>,
) {
    let c = &base.config;
    let (stride, width) = (c.qkv_width(), c.q_width());
    let parts = rows.threads.min(lanes.len());
    tiles.resize_with(tiles.len().max(parts), Tiles::default);
    let each = lanes.len().div_ceil(parts);
    let threads = if parts == 1 { rows.threads } else { 1 };
    let work = |(lanes, qkv, attended, tiles): (
        &mut [Lane<'_, A>],
        &mut [f32],
        &mut [f32],
        &mut Tiles,
    )| {
        let (mut qkv, mut attended) = (qkv, attended);
        for lane in lanes {
            let count = lane.tokens.len();
            let (own, rest) = qkv.split_at_mut(count * stride);
            qkv = rest;
            let (out, rest) = attended.split_at_mut(count * width);
            attended = rest;
            let held = lane.cache.len();
            let heads = c.heads + c.kv_heads;
            rows.isa
                .rope(own, stride, count, heads, base.rope(layer), held, false);
            let sequence = Sequence {
                isa: rows.isa,
                c,
                layer,
                qkv: own,
            };
            let cache = lane.cache.layer(layer);
            A::attend_cached(sequence, threads, held, cache, out, tiles);
        }
    };
    if parts == 1 {
        work((lanes, qkv, attended, &mut tiles[0]));
        return;
    }
    let (mut qkv, mut attended) = (qkv, attended);
    let mut shares = Vec::with_capacity(parts);
    for (lanes, tiles) in lanes.chunks_mut(each).zip(tiles) {
        let count: usize = lanes.iter().map(|lane| lane.tokens.len()).sum();
        let (own, rest) = qkv.split_at_mut(count * stride);
        qkv = rest;
        let (out, rest) = attended.split_at_mut(count * width);
        attended = rest;
        shares.push((lanes, own, out, tiles));
    }
    shares.into_par_iter().for_each(work);
}

/// Final norm and logits of the rows that lanes asked for.
fn project<A: Arithmetic>(
    base: &Base<A>,
    lanes: &[Lane<'_, A>],
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
