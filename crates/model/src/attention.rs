//! Attention within one sequence, head by head, forward and backward.

use openledger_kernels::{AttentionBackward, AttentionForward, Buffer, Isa, Packed, Scores};

use crate::Config;

/// Rotated queries, rotated keys and values of a sequence in one layer: `[rows, qkv_width]`.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    pub(crate) isa: Isa,
    pub(crate) c: &'a Config,
    pub(crate) layer: usize,
    pub(crate) qkv: &'a [f32],
}

/// Scratch of attention.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    /// Transposes of one key head and one value head.
    keys: Packed,
    values: Packed,
    scores: Buffer,
}

/// What happens to a layer's products of queries and keys before the softmax.
pub(crate) fn score_rule(c: &Config, layer: usize) -> Scores {
    let f = &c.features;
    let plain = Scores::plain(c.head_dim);
    Scores {
        scale: f.attention_scale.unwrap_or(plain.scale),
        softcap: f.attention_softcap.unwrap_or(plain.softcap),
        window: f.window(layer).unwrap_or(plain.window),
    }
}

impl Sequence<'_> {
    fn rows(&self) -> usize {
        self.qkv.len() / self.c.qkv_width()
    }

    /// Exact attention: one chain an output element, over the positions in order.
    pub(crate) fn exact(&self, attended: &mut [f32], tiles: &mut Tiles) {
        let (c, rows) = (self.c, self.rows());
        let (hd, stride, group) = (c.head_dim, c.qkv_width(), c.heads / c.kv_heads);
        for kv in 0..c.kv_heads {
            let key_at = c.q_width() + kv * hd;
            tiles
                .keys
                .fill_transposed(&self.qkv[key_at..], stride, rows, hd);
            for head in kv * group..(kv + 1) * group {
                let job = AttentionForward {
                    queries: &self.qkv[head * hd..],
                    query_stride: stride,
                    rows,
                    head_dim: hd,
                    keys: tiles.keys.rhs(),
                    values: &self.qkv[key_at + c.kv_width()..],
                    value_stride: stride,
                    visible: 1,
                    grow: 1,
                    scores: score_rule(c, self.layer),
                };
                let out = &mut attended[head * hd..];
                self.isa
                    .attention(&job, out, c.q_width(), &mut tiles.scores);
            }
        }
    }

    /// Gradient of [`Sequence::exact`]: overwrites `d_qkv`.
    pub(crate) fn exact_back(&self, d_attended: &[f32], d_qkv: &mut [f32], tiles: &mut Tiles) {
        let (c, rows) = (self.c, self.rows());
        let (hd, stride, group) = (c.head_dim, c.qkv_width(), c.heads / c.kv_heads);
        let Tiles {
            keys,
            values,
            scores,
        } = tiles;
        for row in d_qkv.chunks_exact_mut(stride) {
            row[c.q_width()..].fill(0.0);
        }
        for kv in 0..c.kv_heads {
            let key_at = c.q_width() + kv * hd;
            let value_at = key_at + c.kv_width();
            keys.fill_transposed(&self.qkv[key_at..], stride, rows, hd);
            values.fill_transposed(&self.qkv[value_at..], stride, rows, hd);
            for head in kv * group..(kv + 1) * group {
                let job = AttentionBackward {
                    qkv: self.qkv,
                    stride,
                    query_at: head * hd,
                    key_at,
                    value_at,
                    rows,
                    head_dim: hd,
                    keys,
                    values,
                    scores: score_rule(c, self.layer),
                };
                let d_out = &d_attended[head * hd..];
                self.isa
                    .attention_backward(&job, d_out, c.q_width(), d_qkv, scores);
            }
        }
    }
}
