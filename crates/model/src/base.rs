//! The weights of a base model: one flat vector, plus the packed copies that products read.

use openledger_kernels::{Packed, RopeTable};
use rand_chacha::ChaCha12Rng;

use crate::random;
use crate::{Config, Error};

/// Where one named tensor lies in a flat vector: name, offset, shape.
pub type Slot = (String, usize, Vec<usize>);

/// A base model.
///
/// The flat vector holds the tensors in the order of [`Base::layout`], each row-major
/// `[out, in]` under its Hugging Face name. Products in the forward direction read packed
/// transposes; products in the backward direction read the flat vector itself.
#[derive(Clone, Debug)]
pub struct Base {
    /// Shape of the model.
    pub config: Config,
    params: Vec<f32>,
    packed: Vec<PackedBlock>,
    head: Packed,
    pub(crate) rope: RopeTable,
}

/// Packed transposes of one block's linears; those that share an input are side by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedBlock {
    pub(crate) qkv: Packed,
    pub(crate) o: Packed,
    pub(crate) gate_up: Packed,
    pub(crate) down: Packed,
}

/// Offsets of one block's tensors in the flat vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockAt {
    pub(crate) norm1: usize,
    pub(crate) qkv: usize,
    pub(crate) o: usize,
    pub(crate) norm2: usize,
    pub(crate) gate_up: usize,
    pub(crate) down: usize,
    end: usize,
}

impl BlockAt {
    pub(crate) fn new(c: &Config, layer: usize) -> Self {
        let at = |start: usize| {
            let norm1 = start;
            let qkv = norm1 + c.hidden;
            let o = qkv + c.qkv_width() * c.hidden;
            let norm2 = o + c.hidden * c.q_width();
            let gate_up = norm2 + c.hidden;
            let down = gate_up + 2 * c.mlp * c.hidden;
            Self {
                norm1,
                qkv,
                o,
                norm2,
                gate_up,
                down,
                end: down + c.hidden * c.mlp,
            }
        };
        let size = at(0).end;
        at(c.vocab * c.hidden + layer * size)
    }
}

/// Offset of the final norm's weight.
pub(crate) fn final_norm_at(c: &Config) -> usize {
    BlockAt::new(c, c.layers).norm1
}

/// Offset of the output projection `[vocab, hidden]`.
pub(crate) fn head_at(c: &Config) -> usize {
    if c.tie_embeddings {
        0
    } else {
        final_norm_at(c) + c.hidden
    }
}

/// Name, offset and shape of every tensor of a model of this shape.
pub(crate) fn layout(c: &Config) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut end = 0;
    let mut push = |name: String, shape: Vec<usize>| {
        let size: usize = shape.iter().product();
        slots.push((name, end, shape));
        end += size;
    };
    push("model.embed_tokens.weight".into(), vec![c.vocab, c.hidden]);
    for layer in 0..c.layers {
        let mut block = |name: &str, shape: Vec<usize>| {
            push(format!("model.layers.{layer}.{name}.weight"), shape);
        };
        block("input_layernorm", vec![c.hidden]);
        block("self_attn.q_proj", vec![c.q_width(), c.hidden]);
        block("self_attn.k_proj", vec![c.kv_width(), c.hidden]);
        block("self_attn.v_proj", vec![c.kv_width(), c.hidden]);
        block("self_attn.o_proj", vec![c.hidden, c.q_width()]);
        block("post_attention_layernorm", vec![c.hidden]);
        block("mlp.gate_proj", vec![c.mlp, c.hidden]);
        block("mlp.up_proj", vec![c.mlp, c.hidden]);
        block("mlp.down_proj", vec![c.hidden, c.mlp]);
    }
    push("model.norm.weight".into(), vec![c.hidden]);
    if !c.tie_embeddings {
        push("lm_head.weight".into(), vec![c.vocab, c.hidden]);
    }
    slots
}

impl Base {
    /// A model from its flat weights, in the order of [`Base::layout`].
    ///
    /// # Errors
    /// When the configuration is out of range or the vector has another length.
    pub fn from_params(config: Config, params: Vec<f32>) -> Result<Self, Error> {
        config.validate()?;
        let expected = parameter_count(&config);
        if params.len() != expected {
            return Err(Error::GradientLength {
                found: params.len(),
                expected,
            });
        }
        let rope = RopeTable::new(config.context, config.head_dim, config.rope_theta);
        let packed = vec![PackedBlock::default(); config.layers];
        let mut base = Self {
            config,
            params,
            packed,
            head: Packed::default(),
            rope,
        };
        base.repack();
        Ok(base)
    }

    /// Random weights for pre-training: normal with deviation 0.02, divided by
    /// `sqrt(2 layers)` for the two projections that write to the residual stream (Radford et
    /// al. 2019, section 2.3); norms are one. The same seed gives the same bits everywhere.
    ///
    /// # Panics
    /// When the configuration does not pass [`Config::validate`].
    #[must_use]
    pub fn random(config: Config, seed: u64) -> Self {
        let mut rng: ChaCha12Rng = random::stream(seed, 0);
        let mut params = vec![0.0; parameter_count(&config)];
        let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
        for (name, offset, shape) in layout(&config) {
            let tensor = &mut params[offset..offset + shape.iter().product::<usize>()];
            if shape.len() == 1 {
                tensor.fill(1.0);
            } else if name.contains("o_proj") || name.contains("down_proj") {
                random::normal(&mut rng, residual, tensor);
            } else {
                random::normal(&mut rng, 0.02, tensor);
            }
        }
        match Self::from_params(config, params) {
            Ok(base) => base,
            Err(error) => panic!("{error}"),
        }
    }

    /// Name, offset and shape of every tensor in the flat vector.
    #[must_use]
    pub fn layout(&self) -> Vec<Slot> {
        layout(&self.config)
    }

    /// The flat weights.
    #[must_use]
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Changes the flat weights in place and refreshes the packed copies.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        change(&mut self.params);
        self.repack();
    }

    fn repack(&mut self) {
        let c = &self.config;
        for (layer, block) in self.packed.iter_mut().enumerate() {
            let at = BlockAt::new(c, layer);
            let pack = |into: &mut Packed, at: usize, n: usize, k: usize| {
                into.fill_transposed(&self.params[at..at + n * k], k, n, k);
            };
            pack(&mut block.qkv, at.qkv, c.qkv_width(), c.hidden);
            pack(&mut block.o, at.o, c.hidden, c.q_width());
            pack(&mut block.gate_up, at.gate_up, 2 * c.mlp, c.hidden);
            pack(&mut block.down, at.down, c.hidden, c.mlp);
        }
        let at = head_at(c);
        self.head
            .fill_transposed(&self.params[at..], c.hidden, c.vocab, c.hidden);
    }

    pub(crate) fn packed(&self, layer: usize) -> &PackedBlock {
        &self.packed[layer]
    }

    pub(crate) fn packed_head(&self) -> &Packed {
        &self.head
    }

    /// `len` weights from `offset`.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> &[f32] {
        &self.params[offset..offset + len]
    }

    /// Output projection `[vocab, hidden]`, row-major.
    pub(crate) fn head_rows(&self) -> &[f32] {
        self.slice(
            head_at(&self.config),
            self.config.vocab * self.config.hidden,
        )
    }

    pub(crate) fn embedding(&self) -> &[f32] {
        self.slice(0, self.config.vocab * self.config.hidden)
    }

    pub(crate) fn final_norm(&self) -> &[f32] {
        self.slice(final_norm_at(&self.config), self.config.hidden)
    }
}

/// Number of weights of a model of this shape.
#[must_use]
pub fn parameter_count(config: &Config) -> usize {
    let end = final_norm_at(config) + config.hidden;
    if config.tie_embeddings {
        end
    } else {
        end + config.vocab * config.hidden
    }
}
