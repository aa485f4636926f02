//! The weights of a base model, in the form that an arithmetic mode multiplies with.

use openledger_kernels::{Format, RopeTable};
use rand_chacha::ChaCha12Rng;

use crate::arithmetic::{Arithmetic, Exact, Fast};
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
    final_norm: Vec<f32>,
    pub(crate) rope: RopeTable,
    format: A::Format,
}

/// One block's weights; linears that share an input are one matrix.
#[derive(Clone, Debug)]
pub(crate) struct Block<A: Arithmetic> {
    pub(crate) norm1: Vec<f32>,
    /// Query, key and value rows, `[q_width + 2 kv_width, hidden]`.
    pub(crate) qkv: A::Matrix,
    pub(crate) o: A::Matrix,
    pub(crate) norm2: Vec<f32>,
    /// Gate, then up, `[2 mlp, hidden]`.
    pub(crate) gate_up: A::Matrix,
    pub(crate) down: A::Matrix,
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
    pub(crate) end: usize,
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

/// What a model is made from: its tensors by their names in the layout, in any order.
pub(crate) trait Tensors {
    /// Writes the tensor's values to `out`, row-major.
    ///
    /// # Errors
    /// When it is missing, damaged or of another shape.
    fn read(&mut self, slot: &Slot, out: &mut [f32]) -> Result<(), Error>;
}

/// A flat vector in the order of the layout.
struct Flat<'a>(&'a [f32]);

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
        let mut blocks = Vec::with_capacity(c.layers);
        for _ in 0..c.layers {
            blocks.push(Block {
                norm1: reader.next(1)?.to_vec(),
                qkv: A::matrix(format, reader.next(3)?, c.qkv_width(), hidden),
                o: A::matrix(format, reader.next(1)?, hidden, c.q_width()),
                norm2: reader.next(1)?.to_vec(),
                gate_up: A::matrix(format, reader.next(2)?, 2 * c.mlp, hidden),
                down: A::matrix(format, reader.next(1)?, hidden, c.mlp),
            });
        }
        let final_norm = reader.next(1)?.to_vec();
        let head = match tied {
            Some(head) => head,
            None => A::matrix(outer, reader.next(1)?, vocab, hidden),
        };
        let rope = RopeTable::new(c.context, c.head_dim, c.rope_theta);
        Ok(Self {
            config,
            blocks,
            embedding,
            head,
            final_norm,
            rope,
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
        let norms = (2 * self.config.layers + 1) * self.config.hidden * size_of::<f32>();
        matrices.map(A::bytes).sum::<usize>() + norms
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
            flat.extend_from_slice(&block.norm1);
            matrix(&mut flat, &block.qkv);
            matrix(&mut flat, &block.o);
            flat.extend_from_slice(&block.norm2);
            matrix(&mut flat, &block.gate_up);
            matrix(&mut flat, &block.down);
        }
        flat.extend_from_slice(&self.final_norm);
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
            block.norm1.copy_from_slice(&params[at.norm1..at.qkv]);
            A::refill(&mut block.qkv, &params[at.qkv..at.o]);
            A::refill(&mut block.o, &params[at.o..at.norm2]);
            block.norm2.copy_from_slice(&params[at.norm2..at.gate_up]);
            A::refill(&mut block.gate_up, &params[at.gate_up..at.down]);
            A::refill(&mut block.down, &params[at.down..at.end]);
        }
        let at = final_norm_at(c);
        self.final_norm.copy_from_slice(&params[at..at + c.hidden]);
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
        }
    }

    pub(crate) fn final_norm(&self) -> &[f32] {
        &self.final_norm
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
    /// al. 2019, section 2.3); norms are one. The same seed gives the same bits everywhere.
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
        if shape.len() == 1 {
            tensor.fill(1.0);
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
