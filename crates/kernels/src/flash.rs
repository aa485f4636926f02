//! Attention of the `fast` mode: tiles with an online softmax, bf16 products, `f32` sums.
//!
//! The algorithm is that of Dao et al. 2022 (`FlashAttention`) and Dao 2023: scores exist for a block of
//! query rows and a block of positions only, a running maximum and sum per row rescale what was
//! added before, and the backward computes the probabilities again from the logarithm of that
//! sum. Memory grows with the length, not with its square.
//!
//! The query heads that share a key-value head are rows of one operand, position by position:
//! they read the same keys and values. Blocks of positions begin at multiples of `BLOCK` and a
//! row that does not see a block is not touched by it, so on one [`Isa`] a row's bits do not
//! depend on the rows beside it: decoding, prefill in pieces and a whole sequence agree.

mod backward;
mod tile;

use std::cell::RefCell;

use crate::attention::Scores;
use crate::buffer::{Buffer, Lines};
use crate::isa::Isa;
use crate::math::{ln, tanh};
use crate::pairs::{PANEL, Pairs, Task, narrow, run};
use tile::{Form, Product, Rows, TALL, narrow_row, pack};

pub use backward::{Columns, FlashBackward, FlashGradient};

/// Positions whose scores exist at once: three panels, eight tiles.
const BLOCK: usize = 96;

/// Query rows of a block, of all heads of the group: whole steps of the depth in the backward.
const ROWS: usize = 8 * TALL;

/// Widest head.
const MAX_HEAD: usize = 256;

/// Pairs between rows of packed queries: no power of two, so that a tile's rows fall into
/// different sets of the cache.
const QUERY_STRIDE: usize = MAX_HEAD / 2 + 16;

/// Pairs between rows of packed probabilities.
const PROBABILITY_STRIDE: usize = BLOCK / 2 + 16;

/// Keys and values of one key-value head in bf16, as fast attention reads them: a cache that
/// grows with a sequence, or the scratch of one.
#[derive(Clone, Debug)]
pub struct HeadCache {
    head_dim: usize,
    /// Positions held.
    positions: usize,
    /// Panels of 32 positions, `[head_dim / 2, 32]` pairs along the head each.
    keys: Lines<u32>,
    /// `[positions / 2, width]` pairs along the positions; those that fill the last 32 are zero.
    values: Lines<u32>,
}

impl HeadCache {
    /// An empty cache of heads `head_dim` wide.
    ///
    /// # Panics
    /// When `head_dim` is above 256.
    #[must_use]
    pub fn new(head_dim: usize) -> Self {
        assert!(head_dim <= MAX_HEAD, "heads are at most {MAX_HEAD} wide");
        Self {
            head_dim,
            positions: 0,
            keys: Lines::default(),
            values: Lines::default(),
        }
    }

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<u32>()
    }

    fn pairs(&self) -> usize {
        self.head_dim.div_ceil(2)
    }

    /// Width of a row of values: whole panels.
    fn width(&self) -> usize {
        self.head_dim.next_multiple_of(PANEL)
    }

    /// Writes positions `first ..` behind those before, and forgets what was held from there on:
    /// row `i` of `keys` and of `values` starts at `i * stride`.
    ///
    /// # Panics
    /// When a slice is too short or there would be a gap.
    pub fn write(
        &mut self,
        isa: Isa,
        first: usize,
        keys: &[f32],
        values: &[f32],
        stride: usize,
        rows: usize,
    ) {
        if rows == 0 {
            return;
        }
        assert!(
            first <= self.positions,
            "positions before {first} are missing"
        );
        let (hd, end) = (self.head_dim, first + rows);
        assert!(
            keys.len().min(values.len()) >= (rows - 1) * stride + hd,
            "keys or values too short"
        );
        let (pairs, width) = (self.pairs(), self.width());
        self.keys
            .resize((end.div_ceil(PANEL) * pairs * PANEL).max(self.keys.len()));
        let whole = end.next_multiple_of(PANEL);
        self.values
            .resize((whole / 2 * width).max(self.values.len()));
        // Steps of the depth are whole, and a probability of zero times what an earlier sequence
        // left may be no number. Where the last panel was held already it ends in zeros.
        let entered = (end - 1) / PANEL * PANEL >= self.positions;
        if entered || end < self.positions {
            self.values[end.div_ceil(2) * width..whole / 2 * width].fill(0);
        }
        self.positions = end;
        let keys = Rows::of(keys, stride, hd);
        pack(
            isa,
            Form::Panels(first % PANEL),
            keys,
            rows,
            &mut self.keys[first / PANEL * pairs * PANEL..],
        );
        let mut values = Rows::of(values, stride, hd);
        if !first.is_multiple_of(2) {
            let row = &mut self.values[first / 2 * width..][..hd];
            for (word, x) in row.iter_mut().zip(values.get(0)) {
                *word = (*word & 0xffff) | (narrow(*x) << 16);
            }
            values.start = 1;
        }
        let at = first.div_ceil(2) * width;
        pack(
            isa,
            Form::Interleaved(width),
            values,
            rows - values.start,
            &mut self.values[at..],
        );
    }
}

/// Queries of the heads that share one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct FlashForward<'a> {
    /// Row `i` of head `h` starts at `i * query_stride + h * head_dim`.
    pub queries: &'a [f32],
    /// Floats between query rows.
    pub query_stride: usize,
    /// Number of query rows.
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    /// Their keys and values.
    pub cache: &'a HeadCache,
    /// Position of row 0: row `i` sees positions `0 ..= first + i`, or the window's.
    pub first: usize,
    /// Scale, cap and window of the scores.
    pub scores: Scores,
}

/// Working memory of fast attention, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct FlashScratch {
    left: Lines<u32>,
    probabilities: Lines<u32>,
    scores: Buffer,
    sums: Buffer,
    backward: backward::Scratch,
}

impl Isa {
    /// `out_i = softmax(scores(q_i K^T)) V` over the visible positions, in bf16 products. Row `i`
    /// of head `h` of `out` starts at `i * out_stride + h * head_dim`.
    ///
    /// `log_sums [rows, heads]` takes the logarithm of each row's sum of exponentials, which the
    /// backward needs, unless it is empty. `O(rows positions head_dim)` time, memory independent of
    /// both.
    ///
    /// # Panics
    /// When a slice is shorter than the shapes say, the cache holds fewer positions than are
    /// seen, or the scale is not positive.
    pub fn flash_attention(
        self,
        job: &FlashForward<'_>,
        out: &mut [f32],
        out_stride: usize,
        log_sums: &mut [f32],
        scratch: &mut FlashScratch,
    ) {
        if job.rows == 0 || job.heads == 0 {
            return;
        }
        let reach = |stride: usize| (job.rows - 1) * stride + job.heads * job.cache.head_dim;
        assert!(
            job.queries.len() >= reach(job.query_stride),
            "queries too short"
        );
        assert!(out.len() >= reach(out_stride), "output too short");
        assert!(
            job.first + job.rows <= job.cache.positions,
            "too few keys and values"
        );
        assert!(
            log_sums.is_empty() || log_sums.len() >= job.rows * job.heads,
            "log-sums too short"
        );
        assert!(
            job.scores.window > 0 && job.scores.scale > 0.0,
            "no window or scale"
        );
        let (hd, pairs, width) = (job.cache.head_dim, job.cache.pairs(), job.cache.width());
        let left = scratch.left.first(ROWS * QUERY_STRIDE);
        let probabilities = scratch.probabilities.first(ROWS * PROBABILITY_STRIDE);
        let scores = scratch.scores.first(ROWS * BLOCK);
        let sums = scratch.sums.first(ROWS * width);
        let all = job.rows * job.heads;
        for start in (0..all).step_by(ROWS) {
            let count = ROWS.min(all - start);
            let (data, stride) = (job.queries, job.query_stride);
            let queries = Rows {
                data,
                stride,
                heads: job.heads,
                head_dim: hd,
                start,
            };
            pack(self, Form::Rows(QUERY_STRIDE), queries, count, left);
            let mut running = [Running::default(); ROWS];
            sums.fill(0.0);
            let block = Block {
                rule: job.scores,
                heads: job.heads,
                first: job.first,
                start,
                count,
            };
            for (base, seen) in block.positions() {
                let scores_of_block = Product::<QUERY_STRIDE> {
                    left: left.as_ptr(),
                    right: job.cache.keys[base * pairs..].as_ptr(),
                    right_row: PANEL,
                    right_panel: pairs * PANEL,
                    sums: scores.as_mut_ptr(),
                    across: BLOCK,
                    pairs,
                    rows: count,
                    columns: seen.next_multiple_of(PANEL),
                    fresh: true,
                };
                // SAFETY: the cache holds whole panels of the positions that are seen, the
                // scratch has `ROWS` rows.
                unsafe { scores_of_block.run(self) };
                let softmax = Softmax {
                    block,
                    base,
                    width,
                    state: RefCell::new((scores, &mut running, sums, probabilities)),
                };
                // SAFETY: the task holds slices.
                unsafe { run(self, &softmax) };
                let outputs = Product::<PROBABILITY_STRIDE> {
                    left: probabilities.as_ptr(),
                    right: job.cache.values[base / 2 * width..].as_ptr(),
                    right_row: width,
                    right_panel: PANEL,
                    sums: sums.as_mut_ptr(),
                    across: width,
                    pairs: seen.next_multiple_of(PANEL) / 2,
                    rows: count,
                    columns: width,
                    fresh: false,
                };
                // SAFETY: as above.
                unsafe { outputs.run(self) };
            }
            for r in 0..count {
                let (row, head) = ((start + r) / job.heads, (start + r) % job.heads);
                let inverse = 1.0 / running[r].sum;
                let out = &mut out[row * out_stride + head * hd..][..hd];
                for (out, sum) in out.iter_mut().zip(&sums[r * width..]) {
                    *out = sum * inverse;
                }
                if let Some(log_sum) = log_sums.get_mut(start + r) {
                    *log_sum = running[r].log();
                }
            }
        }
    }
}

/// Some query rows, head by head of one position after the other.
#[derive(Clone, Copy)]
struct Block {
    rule: Scores,
    heads: usize,
    /// Position of the first query row of the whole job.
    first: usize,
    /// Rows of the job before this block.
    start: usize,
    count: usize,
}

impl Block {
    /// Position behind the last that row `r` sees.
    #[inline(always)]
    fn end(self, r: usize) -> usize {
        self.first + (self.start + r) / self.heads + 1
    }

    /// First positions and lengths of the blocks that any of the rows sees.
    fn positions(self) -> impl Iterator<Item = (usize, usize)> {
        let end = self.end(self.count - 1);
        let first = self.rule.first(self.end(0)) / BLOCK * BLOCK;
        (first..end)
            .step_by(BLOCK)
            .map(move |base| (base, BLOCK.min(end - base)))
    }

    /// Columns that row `r` sees of the block of positions at `base`.
    #[inline(always)]
    fn columns(self, r: usize, base: usize) -> (usize, usize) {
        let end = self.end(r);
        let to = end.saturating_sub(base).min(BLOCK);
        (self.rule.first(end).saturating_sub(base).min(to), to)
    }
}

/// A row's running maximum, in powers of 2, and sum.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        }
    }
}

impl Running {
    /// Natural logarithm of the sum of all exponentials.
    fn log(self) -> f32 {
        self.max * std::f32::consts::LN_2 + ln(f64::from(self.sum)) as f32
    }
}

/// Scores of one block of positions become packed probabilities, relative to the running maximum.
struct Softmax<'a> {
    block: Block,
    base: usize,
    width: usize,
    state: RefCell<Online<'a>>,
}

/// Scores, running maxima and sums, sums of outputs, packed probabilities.
type Online<'a> = (
    &'a mut [f32],
    &'a mut [Running; ROWS],
    &'a mut [f32],
    &'a mut [u32],
);

impl Task for Softmax<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let mut state = self.state.borrow_mut();
        let (scores, running, sums, probabilities) = &mut *state;
        for r in 0..self.block.count {
            let (from, to) = self.block.columns(r, self.base);
            let row = &mut scores[r * BLOCK..][..BLOCK];
            let packed = &mut probabilities[r * PROBABILITY_STRIDE..][..BLOCK / 2];
            if from == to {
                packed.fill(0);
                continue;
            }
            let sums = &mut sums[r * self.width..][..self.width];
            online_softmax(row, (from, to), self.block.rule, &mut running[r], sums);
            // SAFETY: `V` is enabled; 96 floats become 48 pairs.
            unsafe { narrow_row::<V>(row, packed.as_mut_ptr()) };
        }
    }
}

/// Turns the scores that a row sees of a block, columns `from .. to`, into `e^(score - max)`, the
/// others into zeros, and brings what was summed before to the new maximum.
#[inline(always)]
fn online_softmax(
    row: &mut [f32],
    (from, to): (usize, usize),
    rule: Scores,
    running: &mut Running,
    sums: &mut [f32],
) {
    // Whole vectors that cover what is seen.
    let (low, high) = (from / 16 * 16, to.next_multiple_of(16));
    if rule.softcap > 0.0 {
        cap(&mut row[low..high], rule);
    }
    let factor = exponent_factor(rule);
    row[low..from].fill(f32::NEG_INFINITY);
    row[to..high].fill(f32::NEG_INFINITY);
    let (chunks, _) = row[low..high].as_chunks_mut::<16>();
    let mut most = [f32::NEG_INFINITY; 16];
    for chunk in chunks.iter() {
        for l in 0..16 {
            most[l] = if chunk[l] > most[l] {
                chunk[l]
            } else {
                most[l]
            };
        }
    }
    let max = crate::rows::fold_max(most) * factor;
    if max > running.max {
        let less = exp2(running.max - max);
        running.max = max;
        running.sum *= less;
        for i in 0..sums.len() {
            sums[i] *= less;
        }
    }
    let max = running.max;
    // What is not seen adds 2^-126 to a sum of at least one term close to 1: nothing.
    let mut total = [0.0; 16];
    for chunk in chunks {
        for l in 0..16 {
            chunk[l] = exp2(chunk[l].mul_add(factor, -max));
            total[l] += chunk[l];
        }
    }
    running.sum += crate::rows::fold(total);
    row[..from].fill(0.0);
    row[to..].fill(0.0);
}

/// What takes a score, capped or not, to the exponent of 2.
#[inline(always)]
fn exponent_factor(rule: Scores) -> f32 {
    if rule.softcap > 0.0 {
        std::f32::consts::LOG2_E
    } else {
        rule.scale * std::f32::consts::LOG2_E
    }
}

/// The soft-cap of scores that are not scaled yet.
#[inline(always)]
fn cap(row: &mut [f32], rule: Scores) {
    let inner = rule.scale / rule.softcap;
    for i in 0..row.len() {
        row[i] = rule.softcap * tanh(row[i] * inner);
    }
}

/// The soft-cap of scores that are not scaled yet, and on the gradients `d` beside them
/// `(d - mean) * slope`.
#[inline(always)]
fn cap_slopes(row: &mut [f32], d: &mut [f32], mean: f32, rule: Scores) {
    let inner = rule.scale / rule.softcap;
    let d = &mut d[..row.len()];
    for i in 0..row.len() {
        let t = tanh(row[i] * inner);
        row[i] = rule.softcap * t;
        d[i] = (d[i] - mean) * (-t).mul_add(t, 1.0);
    }
}

/// `2^x` for `x` up to 127 within 3e-6, 0 or close to it below -126; what is rounded to bf16
/// afterwards needs no more.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let p = 9.570_084_5e-3_f32;
    let p = p.mul_add(r, 5.591_786e-2);
    let p = p.mul_add(r, 2.402_474_6e-1);
    let p = p.mul_add(r, 6.931_218e-1);
    let p = p.mul_add(r, 9.999_993e-1);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}
