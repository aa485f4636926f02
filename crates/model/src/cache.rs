//! Keys and values of the tokens a sequence already has.

use openledger_kernels::{PANEL, Rhs};

use crate::{Config, Error};

/// A sequence's keys and values in all blocks; grows as tokens come, up to its capacity.
///
/// Keys lie in panels of 32 positions (`[kv_heads, head_dim, 32]` each), the layout in which the
/// score product reads them; values lie row by row.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    kv_heads: usize,
    head_dim: usize,
}

#[derive(Clone, Debug, Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache for at most `capacity` tokens.
    #[must_use]
    pub fn new(config: &Config, capacity: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); config.layers],
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
        let floats: usize = self
            .layers
            .iter()
            .map(|l| l.keys.capacity() + l.values.capacity())
            .sum();
        floats * size_of::<f32>()
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

    fn width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Writes one layer's keys and values of new positions, `len` on; rows of `kv` hold keys then
    /// values and lie `stride` apart.
    pub(crate) fn write(&mut self, layer: usize, kv: &[f32], stride: usize, rows: usize) {
        let (width, end) = (self.width(), self.len + rows);
        let cache = &mut self.layers[layer];
        let panel = width * PANEL;
        cache.keys.resize(end.div_ceil(PANEL) * panel, 0.0);
        cache.values.resize(end * width, 0.0);
        for i in 0..rows {
            let position = self.len + i;
            let (keys, values) = kv[i * stride..][..2 * width].split_at(width);
            let panel = &mut cache.keys[position / PANEL * panel..][..panel];
            for (lane, key) in panel
                .iter_mut()
                .skip(position % PANEL)
                .step_by(PANEL)
                .zip(keys)
            {
                *lane = *key;
            }
            cache.values[position * width..][..width].copy_from_slice(values);
        }
    }

    /// Transposed keys of one head.
    pub(crate) fn keys(&self, layer: usize, kv_head: usize) -> Rhs<'_> {
        let keys = &self.layers[layer].keys[kv_head * self.head_dim * PANEL..];
        Rhs::panels(keys, self.width() * PANEL)
    }

    /// Value rows of one head and the distance between them.
    pub(crate) fn values(&self, layer: usize, kv_head: usize) -> (&[f32], usize) {
        (
            &self.layers[layer].values[kv_head * self.head_dim..],
            self.width(),
        )
    }

    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}
