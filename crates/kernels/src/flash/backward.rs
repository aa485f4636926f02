//! Backward of fast attention: for each block of query rows and each block of positions that it
//! sees, the probabilities again, and five products (Dao 2023, algorithm 2, with query rows
//! outside).
//!
//! The gradients of keys and values are sums over query rows, so they are summed transposed, an
//! element of the head in each row: then the probabilities are the right operand, whose pairs
//! lie as they are computed, and only the queries and `d_out` have to be transposed, once a block.

use std::cell::RefCell;

use super::tile::{Form, Product, Rows, TALL, Unturn, narrow_columns, narrow_row, pack};
use super::{
    BLOCK, Block, MAX_HEAD, PROBABILITY_STRIDE, QUERY_STRIDE, ROWS, cap_slopes, exp2,
    exponent_factor,
};
use crate::attention::Scores;
use crate::buffer::{Buffer, Lines};
use crate::isa::Isa;
use crate::pairs::{PANEL, Pairs, Task, run};

/// First columns of a group's heads in rows that hold queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Of the first query head; the others of the group follow it.
    pub query: usize,
    /// Of the key head.
    pub key: usize,
    /// Of the value head.
    pub value: usize,
}

/// What the backward of the heads that share one key-value head reads.
#[derive(Clone, Copy, Debug)]
pub struct FlashBackward<'a> {
    /// Saved rotated queries and keys, and values: `[rows, stride]`.
    pub qkv: &'a [f32],
    /// Floats between rows of `qkv`.
    pub stride: usize,
    /// Where the heads are in `qkv`.
    pub at: Columns,
    /// Sequence length.
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The forward's output: row `i` of head `h` starts at `i * out_stride + h * head_dim`.
    pub out: &'a [f32],
    /// Gradient of the output, laid out as `out`.
    pub d_out: &'a [f32],
    /// Floats between rows of `out` and of `d_out`.
    pub out_stride: usize,
    /// What the forward left: `[rows, heads]`.
    pub log_sums: &'a [f32],
    /// Scale, cap and window of the scores.
    pub scores: Scores,
}

/// Where the backward writes: a buffer laid out as `qkv`, or one of the group alone, so that
/// threads can work on groups without sharing rows.
#[derive(Debug)]
pub struct FlashGradient<'a> {
    /// `[rows, stride]`.
    pub d_qkv: &'a mut [f32],
    /// Floats between rows.
    pub stride: usize,
    /// Where the heads are.
    pub at: Columns,
}

/// Packed operands of a group and of a block of its query rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// Transposes of keys and values, right operands of the scores and of their gradient.
    keys: Lines<u32>,
    values: Lines<u32>,
    /// Keys by pairs of positions.
    key_rows: Lines<u32>,
    /// Rows of `d_out`, as a left operand.
    d_left: Lines<u32>,
    /// Transposes of queries and `d_out`, left operands.
    queries_turned: Lines<u32>,
    d_out_turned: Lines<u32>,
    /// Probabilities and their gradient by pairs of query rows.
    p_pairs: Lines<u32>,
    d_pairs: Lines<u32>,
    /// The gradient of the scores.
    d_scores: Buffer,
    /// Transposed gradients.
    d_keys: Buffer,
    d_values: Buffer,
}

impl Isa {
    /// Gradient of [`Isa::flash_attention`] for one whole sequence: overwrites the group's
    /// columns of `gradient`.
    ///
    /// # Panics
    /// When a slice is shorter than the shapes say, a head is wider than 256 or the scale is not
    /// positive.
    pub fn flash_attention_backward(
        self,
        job: &FlashBackward<'_>,
        gradient: &mut FlashGradient<'_>,
        scratch: &mut super::FlashScratch,
    ) {
        if job.rows == 0 || job.heads == 0 {
            return;
        }
        let (rows, hd) = (job.rows, job.head_dim);
        assert!(hd <= MAX_HEAD, "heads are at most {MAX_HEAD} wide");
        assert!(
            job.scores.window > 0 && job.scores.scale > 0.0,
            "no window or scale"
        );
        let reach = |stride: usize, at: Columns| {
            let widest = (at.query + job.heads * hd)
                .max(at.key + hd)
                .max(at.value + hd);
            (rows - 1) * stride + widest
        };
        assert!(job.qkv.len() >= reach(job.stride, job.at), "qkv too short");
        assert!(
            gradient.d_qkv.len() >= reach(gradient.stride, gradient.at),
            "gradient too short"
        );
        let out = (rows - 1) * job.out_stride + job.heads * hd;
        assert!(
            job.out.len() >= out && job.d_out.len() >= out,
            "output too short"
        );
        assert!(job.log_sums.len() >= rows * job.heads, "log-sums too short");

        let (pairs, width) = (hd.div_ceil(2), hd.next_multiple_of(PANEL));
        let padded = rows.next_multiple_of(BLOCK);
        // Rows of the transposes: what the tallest tile and the transposition back touch. They
        // lie apart so that they do not all fall into the same sets of the cache.
        let (tall, across) = (hd.next_multiple_of(16 * TALL), padded + 16);
        let super::FlashScratch {
            left,
            probabilities,
            scores,
            sums,
            backward: own,
        } = scratch;
        let left = left.first(ROWS * QUERY_STRIDE);
        let probabilities = probabilities.first(ROWS * PROBABILITY_STRIDE);
        let scores = scores.first(ROWS * BLOCK);
        let sums = sums.first(ROWS * width);
        let d_scores = own.d_scores.first(ROWS * BLOCK);
        let d_left = own.d_left.first(ROWS * QUERY_STRIDE);
        let queries_turned = own.queries_turned.first(tall * PROBABILITY_STRIDE);
        let d_out_turned = own.d_out_turned.first(tall * PROBABILITY_STRIDE);
        let p_pairs = own.p_pairs.first(ROWS / 2 * BLOCK);
        let d_pairs = own.d_pairs.first(ROWS / 2 * BLOCK);
        let d_keys = own.d_keys.first(tall * across);
        let d_values = own.d_values.first(tall * across);
        let keys = own.keys.first(padded * pairs);
        let values = own.values.first(padded * pairs);
        let key_rows = own.key_rows.first(padded / 2 * width);
        d_keys[..hd * across].fill(0.0);
        d_values[..hd * across].fill(0.0);
        let key = Rows::of(&job.qkv[job.at.key..], job.stride, hd);
        let value = Rows::of(&job.qkv[job.at.value..], job.stride, hd);
        pack(self, Form::Panels(0), key, rows, keys);
        pack(self, Form::Panels(0), value, rows, values);
        pack(self, Form::Interleaved(width), key, rows, key_rows);
        key_rows[rows.div_ceil(2) * width..].fill(0);

        let all = rows * job.heads;
        for start in (0..all).step_by(ROWS) {
            let count = ROWS.min(all - start);
            let of = |data, stride| Rows {
                data,
                stride,
                heads: job.heads,
                head_dim: hd,
                start,
            };
            let queries = of(&job.qkv[job.at.query..], job.stride);
            let (out, d_out) = (of(job.out, job.out_stride), of(job.d_out, job.out_stride));
            pack(self, Form::Rows(QUERY_STRIDE), queries, count, left);
            pack(self, Form::Rows(QUERY_STRIDE), d_out, count, d_left);
            let turned = Form::Turned(PROBABILITY_STRIDE);
            pack(self, turned, queries, count, queries_turned);
            pack(self, turned, d_out, count, d_out_turned);
            // Steps of the depth are whole: zeros times what an earlier block left.
            let deep = count.next_multiple_of(PANEL) / 2;
            for pairs in [&mut *p_pairs, &mut *d_pairs] {
                pairs[count.div_ceil(2) * BLOCK..deep * BLOCK].fill(0);
            }
            let means: [f32; ROWS] = std::array::from_fn(|r| {
                if r < count {
                    self.dot(out.get(r), d_out.get(r))
                } else {
                    0.0
                }
            });
            sums.fill(0.0);
            let block = Block {
                rule: job.scores,
                heads: job.heads,
                first: 0,
                start,
                count,
            };
            for (base, seen) in block.positions() {
                let across_heads =
                    |left: &[u32], right: &[u32], sums: &mut [f32]| Product::<QUERY_STRIDE> {
                        left: left.as_ptr(),
                        right: right[base * pairs..].as_ptr(),
                        right_row: PANEL,
                        right_panel: pairs * PANEL,
                        sums: sums.as_mut_ptr(),
                        across: BLOCK,
                        pairs,
                        rows: count,
                        columns: seen.next_multiple_of(PANEL),
                        fresh: true,
                    };
                // SAFETY: all operands are whole blocks of the scratch, sized above.
                unsafe {
                    across_heads(left, keys, scores).run(self);
                    across_heads(d_left, values, d_scores).run(self);
                }
                let softmax = SoftmaxBackward {
                    block,
                    base,
                    log_sums: &job.log_sums[start..],
                    means: &means,
                    state: RefCell::new((scores, d_scores, probabilities, p_pairs, d_pairs)),
                };
                // SAFETY: the task holds slices.
                unsafe { run(self, &softmax) };
                let d_queries = Product::<PROBABILITY_STRIDE> {
                    left: probabilities.as_ptr(),
                    right: key_rows[base / 2 * width..].as_ptr(),
                    right_row: width,
                    right_panel: PANEL,
                    sums: sums.as_mut_ptr(),
                    across: width,
                    pairs: seen.next_multiple_of(PANEL) / 2,
                    rows: count,
                    columns: width,
                    fresh: false,
                };
                let across_rows =
                    |left: &[u32], right: &[u32], sums: &mut [f32]| Product::<PROBABILITY_STRIDE> {
                        left: left.as_ptr(),
                        right: right.as_ptr(),
                        right_row: BLOCK,
                        right_panel: PANEL,
                        sums: sums[base..].as_mut_ptr(),
                        across,
                        pairs: deep,
                        rows: hd,
                        columns: seen.next_multiple_of(PANEL),
                        fresh: false,
                    };
                // SAFETY: as above.
                unsafe {
                    d_queries.run(self);
                    across_rows(d_out_turned, p_pairs, d_values).run(self);
                    across_rows(queries_turned, d_pairs, d_keys).run(self);
                }
            }
            for r in 0..count {
                let (row, head) = ((start + r) / job.heads, (start + r) % job.heads);
                let at = row * gradient.stride + gradient.at.query + head * hd;
                for (to, sum) in gradient.d_qkv[at..][..hd]
                    .iter_mut()
                    .zip(&sums[r * width..])
                {
                    *to = sum * job.scores.scale;
                }
            }
        }
        let at = gradient.at;
        for (from, column, scale) in [
            (&*d_keys, at.key, job.scores.scale),
            (&*d_values, at.value, 1.0),
        ] {
            let rows = Unturn {
                from,
                across,
                rows,
                head_dim: hd,
                stride: gradient.stride,
                scale,
                to: gradient.d_qkv[column..].as_mut_ptr(),
            };
            // SAFETY: the gradient's reach was asserted.
            unsafe { rows.run(self) };
        }
    }
}

/// Scores and gradients of probabilities of one block of positions become packed probabilities
/// and gradients of the scaled scores.
struct SoftmaxBackward<'a> {
    block: Block,
    base: usize,
    log_sums: &'a [f32],
    means: &'a [f32],
    state: RefCell<Packed<'a>>,
}

/// Scores; their gradient; that packed by rows; both packed by pairs of rows.
type Packed<'a> = (
    &'a mut [f32],
    &'a mut [f32],
    &'a mut [u32],
    &'a mut [u32],
    &'a mut [u32],
);

impl Task for SoftmaxBackward<'_> {
    #[inline(always)]
    unsafe fn run<V: Pairs>(&self) {
        let mut state = self.state.borrow_mut();
        let (scores, d_scores, d_rows, p_pairs, d_pairs) = &mut *state;
        let count = self.block.count;
        for r in 0..count.next_multiple_of(2) {
            let p = &mut scores[r * BLOCK..][..BLOCK];
            let d = &mut d_scores[r * BLOCK..][..BLOCK];
            let (mut from, mut to) = (0, 0);
            if r < count {
                (from, to) = self.block.columns(r, self.base);
                // Whole vectors that cover what is seen; the others become zeros below.
                let (low, high) = (from / 16 * 16, to.next_multiple_of(16));
                let (log_sum, mean) = (self.log_sums[r], self.means[r]);
                let (p, d) = (&mut p[low..high], &mut d[low..high]);
                probabilities_and_gradient(p, d, self.block.rule, log_sum, mean);
            }
            for row in [&mut *p, &mut *d] {
                row[..from].fill(0.0);
                row[to..].fill(0.0);
            }
            if r < count {
                // SAFETY: `V` is enabled; 96 floats become 48 pairs.
                unsafe {
                    narrow_row::<V>(
                        d,
                        d_rows[r * PROBABILITY_STRIDE..][..BLOCK / 2].as_mut_ptr(),
                    );
                }
            }
            if r % 2 == 1 {
                for (from, to) in [(&*scores, &mut *p_pairs), (&*d_scores, &mut *d_pairs)] {
                    let (low, high) = from[(r - 1) * BLOCK..][..2 * BLOCK].split_at(BLOCK);
                    let to = to[r / 2 * BLOCK..][..BLOCK].as_mut_ptr();
                    // SAFETY: `V` is enabled; twice 96 floats become 96 pairs.
                    unsafe { narrow_columns::<V>(low, high, to) };
                }
            }
        }
    }
}

/// Turns the scores that a row sees of a block into probabilities, and the gradient of those into
/// that of the scaled scores: `d = p * (d - mean)`, times the slope of the cap.
#[inline(always)]
fn probabilities_and_gradient(p: &mut [f32], d: &mut [f32], rule: Scores, log_sum: f32, mean: f32) {
    let n = p.len();
    let d = &mut d[..n];
    let (factor, shift) = (exponent_factor(rule), log_sum * std::f32::consts::LOG2_E);
    if rule.softcap > 0.0 {
        cap_slopes(p, d, mean, rule);
        for i in 0..n {
            p[i] = exp2(p[i].mul_add(factor, -shift));
            d[i] *= p[i];
        }
    } else {
        for i in 0..n {
            p[i] = exp2(p[i].mul_add(factor, -shift));
            d[i] = (d[i] - mean) * p[i];
        }
    }
}
