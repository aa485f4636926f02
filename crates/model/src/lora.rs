//! Low-rank adapters (Hu et al. 2021): `y = W x + s B (A x)` on any of the seven linears.

use std::sync::OnceLock;

use openledger_kernels::{Isa, Lhs, Packed, Rhs, Store};
use serde::{Deserialize, Serialize};

use crate::base::Slot;
use crate::random;
use crate::{Config, Error};

/// A linear layer that can carry an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Attention output projection.
    O,
    /// Gate of the gated linear unit.
    Gate,
    /// Up projection.
    Up,
    /// Down projection.
    Down,
}

impl Target {
    /// All linears of a block, in layout order.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// Module name in the Hugging Face Llama code, as in PEFT's `target_modules`.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Path of the module inside a block.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Q | Self::K | Self::V | Self::O => format!("self_attn.{}", self.module()),
            Self::Gate | Self::Up | Self::Down => format!("mlp.{}", self.module()),
        }
    }

    /// `(in, out)` widths of the linear.
    #[must_use]
    pub fn widths(self, c: &Config) -> (usize, usize) {
        match self {
            Self::Q => (c.hidden, c.q_width()),
            Self::K | Self::V => (c.hidden, c.kv_width()),
            Self::O => (c.q_width(), c.hidden),
            Self::Gate | Self::Up => (c.hidden, c.mlp),
            Self::Down => (c.mlp, c.hidden),
        }
    }
}

/// What an adapter looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`.
    pub alpha: f32,
    /// Share of adapter inputs that PEFT would drop in training; recorded, and applied only by
    /// a trainer that asks for it. Gradients here are always without dropout.
    pub dropout: f32,
    /// The linears that carry it, in every block.
    pub targets: Vec<Target>,
}

impl LoraConfig {
    fn check(&self) -> Result<(), Error> {
        let fail = |field, value: String, expected| {
            Err(Error::Setting {
                field,
                value,
                expected,
            })
        };
        if self.rank == 0 || self.rank > 1024 {
            return fail("rank", self.rank.to_string(), "1 to 1024");
        }
        if !self.alpha.is_finite() {
            return fail("alpha", self.alpha.to_string(), "a finite number");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(
                "dropout",
                self.dropout.to_string(),
                "0 up to but not including 1",
            );
        }
        if self.targets.is_empty() {
            return fail("targets", "[]".into(), "at least one linear");
        }
        Ok(())
    }
}

/// Where one linear's pair of matrices lies in the flat vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// `A [rank, in]`.
    pub(crate) a: usize,
    /// `B [out, rank]`.
    pub(crate) b: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

/// An adapter: the flat parameters `A [rank, in]`, `B [out, rank]` of every target of every
/// block, in the order of [`Adapter::layout`].
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it looks like; `targets` are sorted and unique.
    pub config: LoraConfig,
    pub(crate) base: Config,
    pub(crate) rs_lora: bool,
    params: Vec<f32>,
    packed: OnceLock<Vec<Option<PackedPair>>>,
}

/// Packed transposes for the forward direction.
#[derive(Clone, Debug)]
struct PackedPair {
    a: Packed,
    b: Packed,
}

impl Adapter {
    /// A fresh adapter: `A` uniform in `+-1/sqrt(in)` (PEFT's Kaiming initialisation with
    /// `a = sqrt(5)`), `B` zero, so that it changes nothing yet.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(base: &Config, config: LoraConfig, seed: u64) -> Result<Self, Error> {
        let mut adapter = Self::zeros(base, config, false)?;
        let mut rng = random::stream(seed, 1);
        for layer in 0..base.layers {
            for target in adapter.config.targets.clone() {
                let pair = adapter
                    .pair(layer, target)
                    .expect("targets come from the adapter");
                let bound = 1.0 / (pair.input as f64).sqrt();
                for x in &mut adapter.params[pair.a..pair.a + adapter.config.rank * pair.input] {
                    *x = ((2.0 * random::uniform(&mut rng) - 1.0) * bound) as f32;
                }
            }
        }
        Ok(adapter)
    }

    pub(crate) fn zeros(
        base: &Config,
        mut config: LoraConfig,
        rs_lora: bool,
    ) -> Result<Self, Error> {
        base.validate()?;
        config.check()?;
        config.targets.sort_unstable();
        config.targets.dedup();
        let mut adapter = Self {
            config,
            base: base.clone(),
            rs_lora,
            params: Vec::new(),
            packed: OnceLock::new(),
        };
        adapter.params = vec![0.0; base.layers * adapter.block_size()];
        Ok(adapter)
    }

    fn pair_size(&self, target: Target) -> usize {
        let (input, output) = target.widths(&self.base);
        self.config.rank * (input + output)
    }

    fn block_size(&self) -> usize {
        self.config.targets.iter().map(|t| self.pair_size(*t)).sum()
    }

    /// The matrices of one linear, if it is a target.
    pub(crate) fn pair(&self, layer: usize, target: Target) -> Option<Pair> {
        let index = self.config.targets.iter().position(|t| *t == target)?;
        let before: usize = self.config.targets[..index]
            .iter()
            .map(|t| self.pair_size(*t))
            .sum();
        let (input, output) = target.widths(&self.base);
        let a = layer * self.block_size() + before;
        Some(Pair {
            a,
            b: a + self.config.rank * input,
            input,
            output,
        })
    }

    /// Factor on `B A x`: `alpha / rank`, or `alpha / sqrt(rank)` for a rank-stabilised adapter
    /// (Kalajdzievski 2023).
    #[must_use]
    pub fn scale(&self) -> f32 {
        let rank = self.config.rank as f32;
        self.config.alpha / if self.rs_lora { rank.sqrt() } else { rank }
    }

    /// The flat parameters.
    #[must_use]
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The flat parameters, to change.
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.packed = OnceLock::new();
        &mut self.params
    }

    /// PEFT name, offset and shape of every matrix in the flat vector.
    #[must_use]
    pub fn layout(&self) -> Vec<Slot> {
        let rank = self.config.rank;
        let mut slots = Vec::new();
        for layer in 0..self.base.layers {
            for target in &self.config.targets {
                let pair = self
                    .pair(layer, *target)
                    .expect("targets come from the adapter");
                let name = format!("base_model.model.model.layers.{layer}.{}", target.path());
                slots.push((
                    format!("{name}.lora_A.weight"),
                    pair.a,
                    vec![rank, pair.input],
                ));
                slots.push((
                    format!("{name}.lora_B.weight"),
                    pair.b,
                    vec![pair.output, rank],
                ));
            }
        }
        slots
    }

    /// Bytes of the parameters as `f32`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.params.len() * size_of::<f32>()
    }

    /// Checks that the adapter was made for a base of this shape.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with both shapes.
    pub fn check_base(&self, base: &Config) -> Result<(), Error> {
        let a = &self.base;
        let same = a.layers == base.layers
            && a.hidden == base.hidden
            && a.q_width() == base.q_width()
            && a.kv_width() == base.kv_width()
            && a.mlp == base.mlp;
        if same {
            Ok(())
        } else {
            Err(Error::Mismatch {
                what: "the adapter",
                found: a.shape(),
                expected: base.shape(),
            })
        }
    }

    fn packed(&self) -> &[Option<PackedPair>] {
        self.packed.get_or_init(|| {
            let rank = self.config.rank;
            let linears = (0..self.base.layers).flat_map(|l| Target::ALL.map(|t| (l, t)));
            linears
                .map(|(layer, target)| {
                    let pair = self.pair(layer, target)?;
                    Some(PackedPair {
                        a: Packed::transpose_of(&self.params[pair.a..], rank, pair.input),
                        b: Packed::transpose_of(&self.params[pair.b..], pair.output, rank),
                    })
                })
                .collect()
        })
    }

    /// Adds `B (s A x)` to `y`, continuing its chains, and leaves `s A x` in `inner [rows, rank]`.
    ///
    /// Does nothing when the linear is no target.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        (layer, target): (usize, Target),
        rows: usize,
        x: &[f32],
        (y, stride): (&mut [f32], usize),
        inner: &mut [f32],
    ) {
        let Some(pair) = &self.packed()[layer * Target::ALL.len() + target as usize] else {
            return;
        };
        let (rank, input, output) = (self.config.rank, pair.a.depth(), pair.b.columns());
        let inner = &mut inner[..rows * rank];
        isa.gemm(
            rows,
            rank,
            input,
            Lhs::rows(x, input),
            pair.a.rhs(),
            inner,
            rank,
            Store::Overwrite,
        );
        isa.scale(inner, self.scale());
        isa.gemm(
            rows,
            output,
            rank,
            Lhs::rows(inner, rank),
            pair.b.rhs(),
            y,
            stride,
            Store::Accumulate,
        );
    }

    /// Gradients of one linear from `dy` and what the forward saved; adds to `dx` if given.
    #[allow(clippy::too_many_arguments, reason = "one linear's tensors")]
    pub(crate) fn backward(
        &self,
        isa: Isa,
        (layer, target): (usize, Target),
        rows: usize,
        x: &[f32],
        inner: &[f32],
        (dy, stride): (&[f32], usize),
        dx: Option<&mut [f32]>,
        grads: &mut [f32],
        d_inner: &mut [f32],
    ) {
        let Some(Pair {
            a,
            b,
            input,
            output,
        }) = self.pair(layer, target)
        else {
            return;
        };
        let rank = self.config.rank;
        let d_inner = &mut d_inner[..rows * rank];
        let (a_rows, b_rows) = (
            &self.params[a..a + rank * input],
            &self.params[b..b + output * rank],
        );
        isa.gemm(
            output,
            rank,
            rows,
            Lhs::transposed(dy, stride),
            Rhs::rows(inner, rank),
            &mut grads[b..b + output * rank],
            rank,
            Store::Overwrite,
        );
        isa.gemm(
            rows,
            rank,
            output,
            Lhs::rows(dy, stride),
            Rhs::rows(b_rows, rank),
            d_inner,
            rank,
            Store::Overwrite,
        );
        isa.scale(d_inner, self.scale());
        isa.gemm(
            rank,
            input,
            rows,
            Lhs::transposed(d_inner, rank),
            Rhs::rows(x, input),
            &mut grads[a..a + rank * input],
            input,
            Store::Overwrite,
        );
        if let Some(dx) = dx {
            isa.gemm(
                rows,
                input,
                rank,
                Lhs::rows(d_inner, rank),
                Rhs::rows(a_rows, input),
                dx,
                input,
                Store::Accumulate,
            );
        }
    }
}
