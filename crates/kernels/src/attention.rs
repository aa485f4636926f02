//! Causal attention of one head (Vaswani et al. 2017, eq. 1), forward and backward.
//!
//! Keys come transposed, in panels of positions, which is both what a matrix product wants and
//! what a cache can append to. Values are rows. A query row sees a prefix of
//! the positions, and its output chain covers exactly that prefix, so a row computed alone during
//! decoding has the bits of the same row inside a whole sequence.

use crate::buffer::Buffer;
use crate::gemm::{Lhs, Packed, Rhs, STRIP, Store};
use crate::isa::{Isa, kernel};
use crate::loss;
use crate::rows;

/// Query rows that share one product; free for the forward, and part of the mode for the
/// backward, whose chains run over whole blocks.
const BLOCK: usize = 32;

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
}

impl Isa {
    /// `out_i = softmax(q_i K^T / sqrt(head_dim)) V` over the visible prefix; row `i` of `out`
    /// starts at `i * out_stride`.
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
        let scale = inverse_root(job.head_dim);
        let mut first = 0;
        while first < job.rows {
            let count = BLOCK.min(job.rows - first);
            let shortest = job.visible + first * job.grow;
            let longest = shortest + (count - 1) * job.grow;
            let width = longest.next_multiple_of(STRIP);
            let scores = scratch.first(count * width);
            self.gemm(
                count,
                width,
                job.head_dim,
                Lhs::rows(&job.queries[first * job.query_stride..], job.query_stride),
                job.keys,
                scores,
                width,
                Store::Overwrite,
            );
            self.causal_softmax(scores, width, shortest, job.grow, scale);
            let values =
                |from: usize| Rhs::rows(&job.values[from * job.value_stride..], job.value_stride);
            let out = &mut out[first * out_stride..];
            self.gemm(
                count,
                job.head_dim,
                shortest,
                Lhs::rows(scores, width),
                values(0),
                out,
                out_stride,
                Store::Overwrite,
            );
            for i in 1..count {
                let more = i * job.grow;
                if more > 0 {
                    self.gemm(
                        1,
                        job.head_dim,
                        more,
                        Lhs::rows(&scores[i * width + shortest..], width),
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

#[inline(always)]
fn inverse_root(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

kernel! {
    /// Scales and softmaxes the first `visible + i * grow` scores of row `i` of `[n, width]`,
    /// and zeroes the rest of the row.
    pub fn causal_softmax(scores: &mut [f32], width: usize, visible: usize, grow: usize, scale: f32) {
        for i in 0..scores.len() / width {
            let row = &mut scores[i * width..][..width];
            let (seen, hidden) = row.split_at_mut(visible + i * grow);
            loss::softmax(seen, scale);
            hidden.fill(0.0);
        }
    }
}

kernel! {
    /// Backward of softmax and scale: `d = p * (d - <p, d>) * scale` over each visible prefix,
    /// zero behind it.
    pub fn causal_softmax_backward(
        d: &mut [f32], p: &[f32], width: usize, visible: usize, scale: f32,
    ) {
        for i in 0..d.len() / width {
            let (seen, hidden) = d[i * width..][..width].split_at_mut(visible + i);
            let n = seen.len();
            let p = &p[i * width..][..n];
            let mean = rows::dot(p, seen);
            for j in 0..n {
                seen[j] = (p[j] * (seen[j] - mean)) * scale;
            }
            hidden.fill(0.0);
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
}

impl Isa {
    /// Gradient of one head: overwrites the query columns of `d_qkv`, adds to the key and value
    /// columns (several query heads share them; call in increasing head order).
    ///
    /// `d_out` row `i` starts at `i * d_out_stride`. The probabilities are computed again, with
    /// the forward's bits. Chains over positions run over whole blocks of 32 rows with zeros
    /// above the diagonal.
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
        let (hd, stride) = (job.head_dim, job.stride);
        let scale = inverse_root(hd);
        for first in (0..job.rows).step_by(BLOCK) {
            let count = BLOCK.min(job.rows - first);
            let seen = first + count;
            let width = seen.next_multiple_of(STRIP);
            let (p, d) = scratch.first(2 * count * width).split_at_mut(count * width);
            let queries = &job.qkv[first * stride + job.query_at..];
            let d_out = &d_out[first * d_out_stride..];
            self.gemm(
                count,
                width,
                hd,
                Lhs::rows(queries, stride),
                job.keys.rhs(),
                p,
                width,
                Store::Overwrite,
            );
            self.causal_softmax(p, width, first + 1, 1, scale);
            self.gemm(
                count,
                width,
                hd,
                Lhs::rows(d_out, d_out_stride),
                job.values.rhs(),
                d,
                width,
                Store::Overwrite,
            );
            self.causal_softmax_backward(d, p, width, first + 1, scale);
            self.gemm(
                count,
                hd,
                seen,
                Lhs::rows(d, width),
                Rhs::rows(&job.qkv[job.key_at..], stride),
                &mut d_qkv[first * stride + job.query_at..],
                stride,
                Store::Overwrite,
            );
            self.gemm(
                seen,
                hd,
                count,
                Lhs::transposed(d, width),
                Rhs::rows(queries, stride),
                &mut d_qkv[job.key_at..],
                stride,
                Store::Accumulate,
            );
            self.gemm(
                seen,
                hd,
                count,
                Lhs::transposed(p, width),
                Rhs::rows(d_out, d_out_stride),
                &mut d_qkv[job.value_at..],
                stride,
                Store::Accumulate,
            );
        }
    }
}
