//! Keys and values of the tokens a sequence already has.

use openledger_kernels::{HeadCache, Isa, PANEL, Rhs};

use crate::arithmetic::{Arithmetic, Exact};
use crate::{Config, Error};

/// A sequence's keys and values in all blocks; grows as tokens come, up to its capacity. The mode
/// says how they are held: `f32` in [`Exact`], bf16 in [`Fast`](crate::Fast).
#[derive(Clone, Debug)]
pub struct KvCache<A: Arithmetic = Exact> {
    layers: Vec<A::Cache>,
    len: usize,
    capacity: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// One block's keys and values in `f32`.
///
/// Keys lie in panels of 32 positions (`[kv_heads, head_dim, 32]` each), the layout in which the
/// score product reads them; values lie row by row.
#[derive(Clone, Debug, Default)]
pub struct ExactCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// One block's keys and values in bf16, one cache a key-value head.
#[derive(Clone, Debug)]
pub struct FastCache {
    pub(crate) heads: Vec<HeadCache>,
}

impl<A: Arithmetic> KvCache<A> {
    /// An empty cache for at most `capacity` tokens.
    #[must_use]
    pub fn new(config: &Config, capacity: usize) -> Self {
        Self {
            layers: (0..config.layers).map(|_| A::cache(config)).collect(),
            len: 0,
            capacity,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Tokens held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most tokens it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(A::cache_bytes).sum()
    }

    /// Forgets all tokens from position `len` on; does nothing when it holds fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Checks that the cache was made for this shape and that `new` more tokens fit.
    pub(crate) fn check(&self, config: &Config, new: usize) -> Result<(), Error> {
        if self.layers.len() != config.layers
            || self.kv_heads != config.kv_heads
            || self.head_dim != config.head_dim
        {
            let found = format!(
                "{} layers, {} key-value heads of {}",
                self.layers.len(),
                self.kv_heads,
                self.head_dim
            );
            return Err(Error::Mismatch {
                what: "the cache",
                found,
                expected: config.shape(),
            });
        }
        let (length, limit) = (self.len + new, self.capacity.min(config.context));
        if length > limit {
            Err(Error::Length { length, limit })
        } else {
            Ok(())
        }
    }

    pub(crate) fn layer(&mut self, layer: usize) -> &mut A::Cache {
        &mut self.layers[layer]
    }

    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}

impl ExactCache {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        (self.keys.capacity() + self.values.capacity()) * size_of::<f32>()
    }

    /// Writes keys and values of positions from `held` on; rows of `kv` hold keys then values and
    /// lie `stride` apart.
    pub(crate) fn write(
        &mut self,
        c: &Config,
        held: usize,
        kv: &[f32],
        stride: usize,
        rows: usize,
    ) {
        let (width, end) = (c.kv_width(), held + rows);
        let panel = width * PANEL;
        self.keys.resize(end.div_ceil(PANEL) * panel, 0.0);
        self.values.resize(end * width, 0.0);
        for i in 0..rows {
            let position = held + i;
            let (keys, values) = kv[i * stride..][..2 * width].split_at(width);
            let panel = &mut self.keys[position / PANEL * panel..][..panel];
            for (lane, key) in panel
                .iter_mut()
                .skip(position % PANEL)
                .step_by(PANEL)
                .zip(keys)
            {
                *lane = *key;
            }
            self.values[position * width..][..width].copy_from_slice(values);
        }
    }

    /// Transposed keys of one head.
    pub(crate) fn keys(&self, c: &Config, kv_head: usize) -> Rhs<'_> {
        let keys = &self.keys[kv_head * c.head_dim * PANEL..];
        Rhs::panels(keys, c.kv_width() * PANEL)
    }

    /// Value rows of one head, [`Config::kv_width`] apart.
    pub(crate) fn values(&self, c: &Config, kv_head: usize) -> &[f32] {
        &self.values[kv_head * c.head_dim..]
    }
}

impl FastCache {
    pub(crate) fn new(c: &Config) -> Self {
        Self {
            heads: vec![HeadCache::new(c.head_dim); c.kv_heads],
        }
    }

    /// Whether it was made for this shape.
    pub(crate) fn fits(&self, c: &Config) -> bool {
        self.heads.len() == c.kv_heads && self.heads.iter().all(|h| h.head_dim() == c.head_dim)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.heads.iter().map(HeadCache::bytes).sum()
    }

    /// Writes keys and values of positions from `held` on, out of rows `[rows, qkv_width]`.
    pub(crate) fn write(&mut self, isa: Isa, c: &Config, held: usize, qkv: &[f32]) {
        let stride = c.qkv_width();
        for (kv, head) in self.heads.iter_mut().enumerate() {
            let keys = &qkv[c.q_width() + kv * c.head_dim..];
            let values = &qkv[c.q_width() + c.kv_width() + kv * c.head_dim..];
            head.write(isa, held, keys, values, stride, qkv.len() / stride);
        }
    }
}
