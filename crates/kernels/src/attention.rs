//! Causal attention of one head (Vaswani et al. 2017, eq. 1), forward and backward.
//!
//! Keys come transposed, in panels of positions, which is both what a matrix product wants and
//! what a cache can append to. Values are rows. A query row sees the positions up to its own, or
//! a window of the last of them, and its output chain covers exactly those, so a row computed
//! alone during decoding has the bits of the same row inside a whole sequence.

use crate::buffer::Buffer;
use crate::gemm::{Lhs, PANEL, Packed, Rhs, STRIP, Store};
use crate::isa::{Isa, kernel};
use crate::{loss, pointwise, rows};

/// Query rows that share one product; free for the forward, and part of the mode for the
/// backward, whose chains run over whole blocks.
const BLOCK: usize = 32;

/// What happens to the products of queries and keys before the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Factor on the products.
    pub scale: f32,
    /// `cap` of `cap * tanh(score / cap)` after the scale (Gemma 2); 0 for none.
    pub softcap: f32,
    /// Positions a query sees, itself included, at least one; `usize::MAX` for all before it.
    pub window: usize,
}

impl Scores {
    /// `1 / sqrt(head_dim)`, no cap, no window.
    #[must_use]
    pub fn plain(head_dim: usize) -> Self {
        Self {
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: 0.0,
            window: usize::MAX,
        }
    }

    /// First position that a query sees which sees those before `end`.
    #[inline(always)]
    pub(crate) fn first(self, end: usize) -> usize {
        end.saturating_sub(self.window)
    }

    /// First column that a block of rows computes whose first row sees the positions before
    /// `end`: a whole number of panels.
    fn start(self, end: usize) -> usize {
        self.first(end) / PANEL * PANEL
    }

    fn check(self) {
        assert!(
            self.window > 0,
            "a query must see at least its own position"
        );
    }
}

/// One head's queries against one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct AttentionForward<'a> {
    /// Queries: row `i` starts at `i * query_stride`.
    pub queries: &'a [f32],
    /// Floats between query rows.
    pub query_stride: usize,
    /// Number of query rows.
    pub rows: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Transposed keys `[head_dim, positions]`, readable up to a multiple of 16 positions.
    pub keys: Rhs<'a>,
    /// Values: position `p` starts at `p * value_stride`.
    pub values: &'a [f32],
    /// Floats between value rows.
    pub value_stride: usize,
    /// Positions that row 0 sees, at least one.
    pub visible: usize,
    /// Further positions that each next row sees: 1 for a sequence, 0 for the heads of a group
    /// at one position.
    pub grow: usize,
    /// Scale, cap and window of the scores.
    pub scores: Scores,
}

impl Isa {
    /// `out_i = softmax(scores(q_i K^T)) V` over the visible positions; row `i` of `out` starts
    /// at `i * out_stride`.
    ///
    /// # Panics
    /// When a slice is shorter than the shapes say or nothing is visible.
    pub fn attention(
        self,
        job: &AttentionForward<'_>,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut Buffer,
    ) {
        assert!(
            job.visible > 0,
            "a query must see at least its own position"
        );
        job.scores.check();
        let (hd, stride) = (job.head_dim, job.value_stride);
        let mut first = 0;
        while first < job.rows {
            let count = BLOCK.min(job.rows - first);
            let shortest = job.visible + first * job.grow;
            let longest = shortest + (count - 1) * job.grow;
            let start = job.scores.start(shortest);
            let width = (longest - start).next_multiple_of(STRIP);
            let scores = scratch.first(count * width);
            self.gemm(
                count,
                width,
                hd,
                Lhs::rows(&job.queries[first * job.query_stride..], job.query_stride),
                job.keys.skip(start),
                scores,
                width,
                Store::Overwrite,
            );
            let seen = Seen {
                start,
                end: shortest,
                grow: job.grow,
            };
            self.causal_softmax(scores, width, seen, job.scores, &mut []);
            // Zeros ahead of a row's window leave its chain at +0.0; zeros behind its end could
            // turn a -0.0, so the columns that only some rows see are added row by row.
            let values = |from: usize| Rhs::rows(&job.values[from * stride..], stride);
            let out = &mut out[first * out_stride..];
            let common = shortest - start;
            self.gemm(
                count,
                hd,
                common,
                Lhs::rows(scores, width),
                values(start),
                out,
                out_stride,
                Store::Overwrite,
            );
            for i in 1..count {
                let more = i * job.grow;
                if more > 0 {
                    self.gemm(
                        1,
                        hd,
                        more,
                        Lhs::rows(&scores[i * width + common..], width),
                        values(shortest),
                        &mut out[i * out_stride..],
                        out_stride,
                        Store::Accumulate,
                    );
                }
            }
            first += count;
        }
    }
}

/// The positions that the rows of a block of scores see.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Position of the block's first column.
    pub start: usize,
    /// Position behind the last that row 0 sees.
    pub end: usize,
    /// How much further each next row sees.
    pub grow: usize,
}

impl Seen {
    /// The columns that row `i` sees: the first, and the one behind the last.
    #[inline(always)]
    fn columns(self, i: usize, scores: Scores) -> (usize, usize) {
        let end = self.end + i * self.grow;
        (
            scores.first(end).max(self.start) - self.start,
            end - self.start,
        )
    }
}

kernel! {
    /// Scales, caps and softmaxes what row `i` of `scores [n, width]` sees, and zeroes the rest
    /// of the row. `slopes [n, width]` takes the derivative of the cap unless it is empty.
    pub fn causal_softmax(
        scores: &mut [f32], width: usize, seen: Seen, rule: Scores, slopes: &mut [f32],
    ) {
        for i in 0..scores.len() / width {
            let row = &mut scores[i * width..][..width];
            let (from, to) = seen.columns(i, rule);
            let visible = &mut row[from..to];
            if rule.softcap > 0.0 {
                if slopes.is_empty() {
                    pointwise::soft_cap(visible, rule.scale, rule.softcap);
                } else {
                    let slopes = &mut slopes[i * width + from..][..to - from];
                    pointwise::soft_cap_slopes(visible, rule.scale, rule.softcap, slopes);
                }
                loss::softmax(visible, 1.0);
            } else {
                loss::softmax(visible, rule.scale);
            }
            row[..from].fill(0.0);
            row[to..].fill(0.0);
        }
    }
}

kernel! {
    /// Backward of `causal_softmax`: `d = p * (d - <p, d>) * scale`, times the slope of the cap,
    /// over what each row sees, zero elsewhere.
    pub fn causal_softmax_backward(
        d: &mut [f32], p: &[f32], width: usize, seen: Seen, rule: Scores, slopes: &[f32],
    ) {
        for i in 0..d.len() / width {
            let row = &mut d[i * width..][..width];
            let (from, to) = seen.columns(i, rule);
            let visible = &mut row[from..to];
            let n = visible.len();
            let p = &p[i * width + from..][..n];
            let mean = rows::dot(p, visible);
            for j in 0..n {
                visible[j] = (p[j] * (visible[j] - mean)) * rule.scale;
            }
            if rule.softcap > 0.0 {
                let slopes = &slopes[i * width + from..][..n];
                for j in 0..n {
                    visible[j] *= slopes[j];
                }
            }
            row[..from].fill(0.0);
            row[to..].fill(0.0);
        }
    }
}

/// One query head's backward over a whole sequence; `qkv` rows hold queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward<'a> {
    /// Saved rotated queries and keys, and values: `[rows, stride]`.
    pub qkv: &'a [f32],
    /// Floats between rows of `qkv` and of its gradient.
    pub stride: usize,
    /// First column of this query head.
    pub query_at: usize,
    /// First column of its key head.
    pub key_at: usize,
    /// First column of its value head.
    pub value_at: usize,
    /// Sequence length.
    pub rows: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The key head's transpose `[head_dim, rows]`, packed.
    pub keys: &'a Packed,
    /// The value head's transpose `[head_dim, rows]`, packed.
    pub values: &'a Packed,
    /// Scale, cap and window of the scores, as in the forward.
    pub scores: Scores,
}

impl Isa {
    /// Gradient of one head: overwrites the query columns of `d_qkv`, adds to the key and value
    /// columns (several query heads share them; call in increasing head order).
    ///
    /// `d_out` row `i` starts at `i * d_out_stride`. The probabilities are computed again, with
    /// the forward's bits. Chains over positions run over whole blocks: 32 rows, and the columns
    /// from the multiple of 32 at or before the first that the first row sees; with zeros where
    /// a row does not see.
    ///
    /// # Panics
    /// When a slice is shorter than the shapes say.
    pub fn attention_backward(
        self,
        job: &AttentionBackward<'_>,
        d_out: &[f32],
        d_out_stride: usize,
        d_qkv: &mut [f32],
        scratch: &mut Buffer,
    ) {
        job.scores.check();
        let (hd, stride) = (job.head_dim, job.stride);
        for first in (0..job.rows).step_by(BLOCK) {
            let count = BLOCK.min(job.rows - first);
            let start = job.scores.start(first + 1);
            let depth = first + count - start;
            let width = depth.next_multiple_of(STRIP);
            let capped = if job.scores.softcap > 0.0 {
                count * width
            } else {
                0
            };
            let (p, rest) = scratch
                .first(2 * count * width + capped)
                .split_at_mut(count * width);
            let (d, slopes) = rest.split_at_mut(count * width);
            let seen = Seen {
                start,
                end: first + 1,
                grow: 1,
            };
            let queries = &job.qkv[first * stride + job.query_at..];
            let d_out = &d_out[first * d_out_stride..];
            self.gemm(
                count,
                width,
                hd,
                Lhs::rows(queries, stride),
                job.keys.rhs().skip(start),
                p,
                width,
                Store::Overwrite,
            );
            self.causal_softmax(p, width, seen, job.scores, slopes);
            self.gemm(
                count,
                width,
                hd,
                Lhs::rows(d_out, d_out_stride),
                job.values.rhs().skip(start),
                d,
                width,
                Store::Overwrite,
            );
            self.causal_softmax_backward(d, p, width, seen, job.scores, slopes);
            self.gemm(
                count,
                hd,
                depth,
                Lhs::rows(d, width),
                Rhs::rows(&job.qkv[start * stride + job.key_at..], stride),
                &mut d_qkv[first * stride + job.query_at..],
                stride,
                Store::Overwrite,
            );
            self.gemm(
                depth,
                hd,
                count,
                Lhs::transposed(d, width),
                Rhs::rows(queries, stride),
                &mut d_qkv[start * stride + job.key_at..],
                stride,
                Store::Accumulate,
            );
            self.gemm(
                depth,
                hd,
                count,
                Lhs::transposed(p, width),
                Rhs::rows(d_out, d_out_stride),
                &mut d_qkv[start * stride + job.value_at..],
                stride,
                Store::Accumulate,
            );
        }
    }
}
