//! Attention within one sequence, head by head, forward and backward.

use openledger_kernels::{
    AttentionBackward, AttentionForward, Buffer, Columns, FlashBackward, FlashForward,
    FlashGradient, FlashScratch, Isa, Packed, Scores,
};
use rayon::prelude::*;

use crate::Config;
use crate::cache::{ExactCache, FastCache};

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
    /// Keys and values of a training example, in the fast mode.
    cache: Option<FastCache>,
    flash: FlashScratch,
}

/// Query rows that one thread attends for at once.
const CHUNK: usize = 64;

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
            ..
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

    /// Attention of new rows that continue `held` positions: adds their keys and values to the
    /// cache, and attends over all. `threads` threads of the current pool share the rows, which
    /// changes no bit.
    pub(crate) fn exact_cached(
        &self,
        threads: usize,
        held: usize,
        cache: &mut ExactCache,
        attended: &mut [f32],
        tiles: &mut Tiles,
    ) {
        let (c, rows) = (self.c, self.rows());
        let (stride, width) = (c.qkv_width(), c.q_width());
        cache.write(c, held, &self.qkv[width..], stride, rows);
        if threads == 1 || rows <= CHUNK {
            self.exact_rows(held, cache, attended, &mut tiles.scores);
            return;
        }
        attended
            .par_chunks_mut(CHUNK * width)
            .zip(self.qkv.par_chunks(CHUNK * stride))
            .enumerate()
            .for_each_init(Buffer::default, |scores, (chunk, (attended, qkv))| {
                let part = Sequence { qkv, ..*self };
                part.exact_rows(held + chunk * CHUNK, cache, attended, scores);
            });
    }

    /// Attention of rows at positions from `first` on, whose keys and values the cache holds.
    fn exact_rows(
        &self,
        first: usize,
        cache: &ExactCache,
        attended: &mut [f32],
        scores: &mut Buffer,
    ) {
        let (c, rows) = (self.c, self.rows());
        let (hd, stride, width) = (c.head_dim, c.qkv_width(), c.q_width());
        let group = c.heads / c.kv_heads;
        for kv in 0..c.kv_heads {
            let at = kv * group * hd;
            let job = AttentionForward {
                queries: &self.qkv[at..],
                query_stride: hd,
                rows: group,
                head_dim: hd,
                keys: cache.keys(c, kv),
                values: cache.values(c, kv),
                value_stride: c.kv_width(),
                visible: first + 1,
                grow: 0,
                scores: score_rule(c, self.layer),
            };
            if rows == 1 {
                // The heads of a group see the same positions: one product serves them all.
                self.isa.attention(&job, &mut attended[at..], hd, scores);
                continue;
            }
            for head in 0..group {
                let at = at + head * hd;
                let job = AttentionForward {
                    queries: &self.qkv[at..],
                    query_stride: stride,
                    rows,
                    grow: 1,
                    ..job
                };
                self.isa.attention(&job, &mut attended[at..], width, scores);
            }
        }
    }

    /// Attention in bf16 tiles (see [`Isa::flash_attention`]); leaves what the backward needs in
    /// `log_sums [kv_heads][rows, heads / kv_heads]`.
    pub(crate) fn fast(&self, attended: &mut [f32], log_sums: &mut [f32], tiles: &mut Tiles) {
        let mut cache = match tiles.cache.take() {
            Some(cache) if cache.fits(self.c) => cache,
            _ => FastCache::new(self.c),
        };
        cache.write(self.isa, self.c, 0, self.qkv);
        self.fast_rows(0, &cache, attended, log_sums, &mut tiles.flash);
        tiles.cache = Some(cache);
    }

    /// As [`Sequence::exact_cached`], in bf16 tiles.
    pub(crate) fn fast_cached(
        &self,
        threads: usize,
        held: usize,
        cache: &mut FastCache,
        attended: &mut [f32],
        tiles: &mut Tiles,
    ) {
        let (c, rows) = (self.c, self.rows());
        cache.write(self.isa, c, held, self.qkv);
        if threads == 1 || rows <= CHUNK {
            self.fast_rows(held, cache, attended, &mut [], &mut tiles.flash);
            return;
        }
        attended
            .par_chunks_mut(CHUNK * c.q_width())
            .zip(self.qkv.par_chunks(CHUNK * c.qkv_width()))
            .enumerate()
            .for_each_init(FlashScratch::default, |flash, (chunk, (attended, qkv))| {
                let part = Sequence { qkv, ..*self };
                part.fast_rows(held + chunk * CHUNK, cache, attended, &mut [], flash);
            });
    }

    fn fast_rows(
        &self,
        first: usize,
        cache: &FastCache,
        attended: &mut [f32],
        log_sums: &mut [f32],
        scratch: &mut FlashScratch,
    ) {
        let (c, rows) = (self.c, self.rows());
        let group = c.heads / c.kv_heads;
        let each = if log_sums.is_empty() { 0 } else { rows * group };
        for (kv, cache) in cache.heads.iter().enumerate() {
            let at = kv * group * c.head_dim;
            let job = FlashForward {
                queries: &self.qkv[at..],
                query_stride: c.qkv_width(),
                rows,
                heads: group,
                cache,
                first,
                scores: score_rule(c, self.layer),
            };
            let log_sums = &mut log_sums[kv * each..][..each];
            self.isa
                .flash_attention(&job, &mut attended[at..], c.q_width(), log_sums, scratch);
        }
    }

    /// Gradient of [`Sequence::fast`]: overwrites `d_qkv`.
    pub(crate) fn fast_back(
        &self,
        attended: &[f32],
        log_sums: &[f32],
        d_attended: &[f32],
        d_qkv: &mut [f32],
        tiles: &mut Tiles,
    ) {
        let (c, rows) = (self.c, self.rows());
        let (hd, stride, group) = (c.head_dim, c.qkv_width(), c.heads / c.kv_heads);
        for kv in 0..c.kv_heads {
            let at = Columns {
                query: kv * group * hd,
                key: c.q_width() + kv * hd,
                value: c.q_width() + c.kv_width() + kv * hd,
            };
            let job = FlashBackward {
                qkv: self.qkv,
                stride,
                at,
                rows,
                heads: group,
                head_dim: hd,
                out: &attended[at.query..],
                d_out: &d_attended[at.query..],
                out_stride: c.q_width(),
                log_sums: &log_sums[kv * rows * group..][..rows * group],
                scores: score_rule(c, self.layer),
            };
            let mut gradient = FlashGradient {
                d_qkv: &mut *d_qkv,
                stride,
                at,
            };
            self.isa
                .flash_attention_backward(&job, &mut gradient, &mut tiles.flash);
        }
    }
}
