//! The weights of a base model, in the form that an arithmetic mode multiplies with.

use openledger_kernels::rope::{Yarn, frequencies, scale_linear, scale_llama3};
use openledger_kernels::{Format, RopeTable};
use rand_chacha::ChaCha12Rng;

use crate::arithmetic::{Arithmetic, Exact, Fast};
use crate::config::RopeScaling;
use crate::random;
use crate::{Config, Error};

/// Where one named tensor lies in a flat vector: name, offset, shape.
pub type Slot = (String, usize, Vec<usize>);

/// A base model for one arithmetic mode; `Base` alone means [`Exact`].
#[derive(Clone, Debug)]
pub struct Base<A: Arithmetic = Exact> {
    /// Shape of the model.
    pub config: Config,
    blocks: Vec<Block<A>>,
    /// The table `[vocab, hidden]`, where the head is another one.
    embedding: Option<A::Matrix>,
    /// Output projection `[vocab, hidden]`; also the embedding of a tied model.
    head: A::Matrix,
    final_norm: Norm,
    rope: RopeTable,
    /// Rotation of layers with a window, where it is another one.
    window_rope: Option<RopeTable>,
    format: A::Format,
}

/// One block's weights; linears that share an input are one matrix.
#[derive(Clone, Debug)]
pub(crate) struct Block<A: Arithmetic> {
    pub(crate) norm1: Norm,
    /// Query, key and value rows, `[q_width + 2 kv_width, hidden]`.
    pub(crate) qkv: A::Matrix,
    /// Their biases, if the family has them.
    pub(crate) qkv_bias: Option<Vec<f32>>,
    /// Norms of query heads and of key heads, `[head_dim]` each.
    pub(crate) head_norms: Option<[Norm; 2]>,
    pub(crate) o: A::Matrix,
    /// Norm between the output projection and the residual stream.
    pub(crate) post1: Option<Norm>,
    pub(crate) norm2: Norm,
    /// Gate, then up, `[2 mlp, hidden]`.
    pub(crate) gate_up: A::Matrix,
    pub(crate) down: A::Matrix,
    /// Norm between the down projection and the residual stream.
    pub(crate) post2: Option<Norm>,
}

/// Weights of a norm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// As in files and flat vectors.
    stored: Vec<f32>,
    /// Factors on the normalised row: the stored ones, or, in Gemma, one more than those.
    pub(crate) factors: Vec<f32>,
}

impl Norm {
    fn new(c: &Config, stored: &[f32]) -> Self {
        let mut norm = Self {
            stored: stored.to_vec(),
            factors: stored.to_vec(),
        };
        norm.assign(c, stored);
        norm
    }

    fn assign(&mut self, c: &Config, stored: &[f32]) {
        self.stored.copy_from_slice(stored);
        self.factors.copy_from_slice(stored);
        if c.features.architecture.is_gemma() {
            self.factors.iter_mut().for_each(|factor| *factor += 1.0);
        }
    }
}

/// Offsets of one block's tensors in the flat vector, in the order of the fields; those that the
/// model does not have are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockAt {
    pub(crate) norm1: usize,
    pub(crate) qkv: usize,
    pub(crate) qkv_bias: usize,
    pub(crate) q_norm: usize,
    pub(crate) k_norm: usize,
    pub(crate) o: usize,
    pub(crate) post1: usize,
    pub(crate) norm2: usize,
    pub(crate) gate_up: usize,
    pub(crate) down: usize,
    pub(crate) post2: usize,
    pub(crate) end: usize,
}

impl BlockAt {
    pub(crate) fn new(c: &Config, layer: usize) -> Self {
        let f = &c.features;
        let at = |start: usize| {
            let mut end = start;
            let mut take = |size: usize, present: bool| {
                let at = end;
                end += if present { size } else { 0 };
                at
            };
            Self {
                norm1: take(c.hidden, true),
                qkv: take(c.qkv_width() * c.hidden, true),
                qkv_bias: take(c.qkv_width(), f.qkv_bias),
                q_norm: take(c.head_dim, f.qk_norm),
                k_norm: take(c.head_dim, f.qk_norm),
                o: take(c.hidden * c.q_width(), true),
                post1: take(c.hidden, f.post_norms),
                norm2: take(c.hidden, true),
                gate_up: take(2 * c.mlp * c.hidden, true),
                down: take(c.hidden * c.mlp, true),
                post2: take(c.hidden, f.post_norms),
                end,
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
    let (f, fused) = (&c.features, c.is_fused());
    let (hidden, q, kv) = (c.hidden, c.q_width(), c.kv_width());
    for layer in 0..c.layers {
        let mut block = |name: &str, shape: &[usize]| {
            push(format!("model.layers.{layer}.{name}"), shape.to_vec());
        };
        block("input_layernorm.weight", &[hidden]);
        let heads = [("q", q), ("k", kv), ("v", kv)];
        if fused {
            block("self_attn.qkv_proj.weight", &[c.qkv_width(), hidden]);
        } else {
            for (name, width) in heads {
                block(&format!("self_attn.{name}_proj.weight"), &[width, hidden]);
            }
        }
        if f.qkv_bias {
            for (name, width) in heads {
                block(&format!("self_attn.{name}_proj.bias"), &[width]);
            }
        }
        if f.qk_norm {
            block("self_attn.q_norm.weight", &[c.head_dim]);
            block("self_attn.k_norm.weight", &[c.head_dim]);
        }
        block("self_attn.o_proj.weight", &[hidden, q]);
        // What Llama calls "post attention" stands before the gated unit.
        block("post_attention_layernorm.weight", &[hidden]);
        if f.post_norms {
            block("pre_feedforward_layernorm.weight", &[hidden]);
        }
        if fused {
            block("mlp.gate_up_proj.weight", &[2 * c.mlp, hidden]);
        } else {
            block("mlp.gate_proj.weight", &[c.mlp, hidden]);
            block("mlp.up_proj.weight", &[c.mlp, hidden]);
        }
        block("mlp.down_proj.weight", &[hidden, c.mlp]);
        if f.post_norms {
            block("post_feedforward_layernorm.weight", &[hidden]);
        }
    }
    push("model.norm.weight".into(), vec![c.hidden]);
    if !c.tie_embeddings {
        push("lm_head.weight".into(), vec![c.vocab, c.hidden]);
    }
    slots
}

/// What a model is made from: its tensors by their names in the layout, in any order.
pub(crate) trait Tensors {
    /// Writes the tensor's values to `out`, row-major.
    ///
    /// # Errors
    /// When it is missing, damaged or of another shape.
    fn read(&mut self, slot: &Slot, out: &mut [f32]) -> Result<(), Error>;
}

impl Tensors for Box<dyn Tensors> {
    fn read(&mut self, slot: &Slot, out: &mut [f32]) -> Result<(), Error> {
        (**self).read(slot, out)
    }
}

/// A flat vector in the order of the layout.
pub(crate) struct Flat<'a>(pub(crate) &'a [f32]);

impl Tensors for Flat<'_> {
    fn read(&mut self, (_, at, _): &Slot, out: &mut [f32]) -> Result<(), Error> {
        out.copy_from_slice(&self.0[*at..*at + out.len()]);
        Ok(())
    }
}

/// Reads tensors one after another, in the order of the layout.
struct Reader<'a, T> {
    slots: std::vec::IntoIter<Slot>,
    tensors: &'a mut T,
    rows: Vec<f32>,
}

impl<T: Tensors> Reader<'_, T> {
    /// The next `count` tensors, one under another.
    fn next(&mut self, count: usize) -> Result<&[f32], Error> {
        self.rows.clear();
        for slot in self.slots.by_ref().take(count) {
            let start = self.rows.len();
            let size = slot.2.iter().product::<usize>();
            self.rows.resize(start + size, 0.0);
            self.tensors.read(&slot, &mut self.rows[start..])?;
        }
        Ok(&self.rows)
    }

    fn post_norm(&mut self, c: &Config) -> Result<Option<Norm>, Error> {
        if !c.features.post_norms {
            return Ok(None);
        }
        Ok(Some(Norm::new(c, self.next(1)?)))
    }
}

/// Rotation of layers without a window, and of the others unless they have their own.
fn rope_table(c: &Config) -> RopeTable {
    let (dim, theta) = (c.head_dim, c.rope_theta);
    let mut all = frequencies(dim, theta);
    let mut factor = 1.0;
    match c.features.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => scale_linear(&mut all, factor),
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => scale_llama3(&mut all, factor, low, high, original_context),
        RopeScaling::Yarn {
            factor: divisor,
            beta_fast,
            beta_slow,
            original_context,
            attention_factor,
        } => {
            let yarn = Yarn {
                factor: divisor,
                beta_fast,
                beta_slow,
                original_context,
            };
            all = yarn.frequencies(dim, theta);
            factor = attention_factor.unwrap_or_else(|| yarn.attention_factor());
        }
    }
    RopeTable::from_frequencies(c.context, &all, factor)
}

fn window_rope_table(c: &Config) -> Option<RopeTable> {
    let theta = c.features.window_rope_theta?;
    let used = c.features.windows.iter().any(Option::is_some);
    used.then(|| RopeTable::new(c.context, c.head_dim, theta))
}

impl<A: Arithmetic> Base<A> {
    /// Takes one tensor after another from `tensors`, so that only one linear is ever held as
    /// `f32` beside the finished model.
    pub(crate) fn read(
        config: Config,
        format: A::Format,
        tensors: &mut impl Tensors,
    ) -> Result<Self, Error> {
        config.validate()?;
        let c = &config;
        let mut reader = Reader {
            slots: layout(c).into_iter(),
            tensors,
            rows: Vec::new(),
        };
        let (vocab, hidden) = (c.vocab, c.hidden);
        let outer = A::head_format(format);
        let first = reader.next(1)?;
        let (embedding, tied) = if c.tie_embeddings {
            (None, Some(A::matrix(outer, first, vocab, hidden)))
        } else {
            (Some(A::table(outer, first, vocab, hidden)), None)
        };
        let (qkv, gate_up) = if c.is_fused() { (1, 1) } else { (3, 2) };
        let mut blocks = Vec::with_capacity(c.layers);
        for _ in 0..c.layers {
            let norm1 = Norm::new(c, reader.next(1)?);
            blocks.push(Block {
                norm1,
                qkv: A::matrix(format, reader.next(qkv)?, c.qkv_width(), hidden),
                qkv_bias: if c.features.qkv_bias {
                    Some(reader.next(3)?.to_vec())
                } else {
                    None
                },
                head_norms: if c.features.qk_norm {
                    let query = Norm::new(c, reader.next(1)?);
                    Some([query, Norm::new(c, reader.next(1)?)])
                } else {
                    None
                },
                o: A::matrix(format, reader.next(1)?, hidden, c.q_width()),
                post1: reader.post_norm(c)?,
                norm2: Norm::new(c, reader.next(1)?),
                gate_up: A::matrix(format, reader.next(gate_up)?, 2 * c.mlp, hidden),
                down: A::matrix(format, reader.next(1)?, hidden, c.mlp),
                post2: reader.post_norm(c)?,
            });
        }
        let final_norm = Norm::new(c, reader.next(1)?);
        let head = match tied {
            Some(head) => head,
            None => A::matrix(outer, reader.next(1)?, vocab, hidden),
        };
        let (rope, window_rope) = (rope_table(c), window_rope_table(c));
        Ok(Self {
            config,
            blocks,
            embedding,
            head,
            final_norm,
            rope,
            window_rope,
            format,
        })
    }

    /// A model from its flat weights, in the order of [`Base::layout`], stored as `format`.
    ///
    /// # Errors
    /// When the configuration is out of range or the vector has another length.
    pub fn from_flat(config: Config, params: &[f32], format: A::Format) -> Result<Self, Error> {
        config.validate()?;
        let expected = parameter_count(&config);
        if params.len() != expected {
            return Err(Error::GradientLength {
                found: params.len(),
                expected,
            });
        }
        Self::read(config, format, &mut Flat(params))
    }

    /// Name, offset and shape of every tensor in a flat vector of weights or gradients.
    #[must_use]
    pub fn layout(&self) -> Vec<Slot> {
        layout(&self.config)
    }

    /// How the frozen matrices are stored.
    #[must_use]
    pub fn format(&self) -> A::Format {
        self.format
    }

    /// Bytes of all weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let matrices = self
            .blocks
            .iter()
            .flat_map(|b| [&b.qkv, &b.o, &b.gate_up, &b.down])
            .chain([&self.head])
            .chain(&self.embedding);
        let shape = |(_, _, shape): &Slot| match shape.as_slice() {
            [width] => *width,
            _ => 0,
        };
        let vectors: usize = self.layout().iter().map(shape).sum();
        matrices.map(A::bytes).sum::<usize>() + vectors * size_of::<f32>()
    }

    /// All weights as they are stored, in the order of [`Base::layout`].
    #[must_use]
    pub fn params(&self) -> Vec<f32> {
        let mut flat = Vec::with_capacity(parameter_count(&self.config));
        let matrix = |flat: &mut Vec<f32>, matrix: &A::Matrix| {
            let (outputs, inputs) = A::shape(matrix);
            let start = flat.len();
            flat.resize(start + outputs * inputs, 0.0);
            for (index, row) in flat[start..].chunks_exact_mut(inputs).enumerate() {
                A::row(matrix, index, row);
            }
        };
        matrix(&mut flat, self.embedding.as_ref().unwrap_or(&self.head));
        for block in &self.blocks {
            flat.extend_from_slice(&block.norm1.stored);
            matrix(&mut flat, &block.qkv);
            flat.extend(block.qkv_bias.iter().flatten());
            for norm in block.head_norms.iter().flatten() {
                flat.extend_from_slice(&norm.stored);
            }
            matrix(&mut flat, &block.o);
            if let Some(norm) = &block.post1 {
                flat.extend_from_slice(&norm.stored);
            }
            flat.extend_from_slice(&block.norm2.stored);
            matrix(&mut flat, &block.gate_up);
            matrix(&mut flat, &block.down);
            if let Some(norm) = &block.post2 {
                flat.extend_from_slice(&norm.stored);
            }
        }
        flat.extend_from_slice(&self.final_norm.stored);
        if self.embedding.is_some() {
            matrix(&mut flat, &self.head);
        }
        flat
    }

    /// Takes other weights, in the order of [`Base::layout`].
    ///
    /// # Panics
    /// When there are more or fewer of them.
    pub fn assign(&mut self, params: &[f32]) {
        let c = &self.config;
        assert_eq!(params.len(), parameter_count(c), "weights of another model");
        let table = &params[..c.vocab * c.hidden];
        A::refill(self.embedding.as_mut().unwrap_or(&mut self.head), table);
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let at = BlockAt::new(c, layer);
            block.norm1.assign(c, &params[at.norm1..at.qkv]);
            A::refill(&mut block.qkv, &params[at.qkv..at.qkv_bias]);
            if let Some(bias) = &mut block.qkv_bias {
                bias.copy_from_slice(&params[at.qkv_bias..at.q_norm]);
            }
            if let Some([query, key]) = &mut block.head_norms {
                query.assign(c, &params[at.q_norm..at.k_norm]);
                key.assign(c, &params[at.k_norm..at.o]);
            }
            A::refill(&mut block.o, &params[at.o..at.post1]);
            if let Some(norm) = &mut block.post1 {
                norm.assign(c, &params[at.post1..at.norm2]);
            }
            block.norm2.assign(c, &params[at.norm2..at.gate_up]);
            A::refill(&mut block.gate_up, &params[at.gate_up..at.down]);
            A::refill(&mut block.down, &params[at.down..at.post2]);
            if let Some(norm) = &mut block.post2 {
                norm.assign(c, &params[at.post2..at.end]);
            }
        }
        let at = final_norm_at(c);
        self.final_norm.assign(c, &params[at..at + c.hidden]);
        if self.embedding.is_some() {
            A::refill(&mut self.head, &params[at + c.hidden..]);
        }
    }

    /// Changes the weights through their flat form.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        let mut params = self.params();
        change(&mut params);
        self.assign(&params);
    }

    pub(crate) fn block(&self, layer: usize) -> &Block<A> {
        &self.blocks[layer]
    }

    /// Output projection `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &A::Matrix {
        &self.head
    }

    /// Copies the embeddings of `tokens` to `out [tokens, hidden]`.
    pub(crate) fn embed(&self, tokens: &[u32], out: &mut [f32]) {
        let table = self.embedding.as_ref().unwrap_or(&self.head);
        for (token, row) in tokens.iter().zip(out.chunks_exact_mut(self.config.hidden)) {
            A::row(table, *token as usize, row);
            if let Some(scale) = self.config.features.embedding_scale {
                row.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }

    pub(crate) fn final_norm(&self) -> &[f32] {
        &self.final_norm.factors
    }

    /// Rotation of a layer's queries and keys.
    pub(crate) fn rope(&self, layer: usize) -> &RopeTable {
        match &self.window_rope {
            Some(table) if self.config.features.window(layer).is_some() => table,
            _ => &self.rope,
        }
    }
}

impl Base {
    /// A model from its flat weights, in the order of [`Base::layout`].
    ///
    /// # Errors
    /// When the configuration is out of range or the vector has another length.
    pub fn from_params(config: Config, params: Vec<f32>) -> Result<Self, Error> {
        Self::from_flat(config, &params, ())
    }

    /// Random weights for pre-training: normal with deviation 0.02, divided by
    /// `sqrt(2 layers)` for the two projections that write to the residual stream (Radford et
    /// al. 2019, section 2.3); norms multiply by one and biases are zero. The same seed gives the same bits everywhere.
    ///
    /// # Panics
    /// When the configuration does not pass [`Config::validate`].
    #[must_use]
    pub fn random(config: Config, seed: u64) -> Self {
        let params = random_params(&config, seed);
        match Self::from_params(config, params) {
            Ok(base) => base,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same model for fast arithmetic.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "a valid model has valid weights")]
    pub fn to_fast(&self, format: Format) -> Base<Fast> {
        match Base::from_flat(self.config.clone(), &self.params(), format) {
            Ok(base) => base,
            Err(error) => panic!("a valid model has valid weights: {error}"),
        }
    }
}

/// Flat random weights for pre-training, see [`Base::random`].
#[must_use]
pub fn random_params(config: &Config, seed: u64) -> Vec<f32> {
    let mut rng: ChaCha12Rng = random::stream(seed, 0);
    let mut params = vec![0.0; parameter_count(config)];
    let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
    for (name, offset, shape) in layout(config) {
        let tensor = &mut params[offset..offset + shape.iter().product::<usize>()];
        if name.ends_with(".bias") {
            tensor.fill(0.0);
        } else if shape.len() == 1 {
            let gemma = config.features.architecture.is_gemma();
            tensor.fill(if gemma { 0.0 } else { 1.0 });
        } else if name.contains("o_proj") || name.contains("down_proj") {
            random::normal(&mut rng, residual, tensor);
        } else {
            random::normal(&mut rng, 0.02, tensor);
        }
    }
    params
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
