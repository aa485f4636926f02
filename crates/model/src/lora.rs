//! Low-rank adapters (Hu et al. 2021): `y = W x + s B (A x)` on any of the linears of a block.

use std::sync::OnceLock;

use openledger_kernels::{Isa, Lhs, Rhs, Store};
use serde::{Deserialize, Serialize};

use crate::arithmetic::{Arithmetic, Exact, Fast};
use crate::base::{Base, Slot};
use crate::dora::Gains;
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
    /// Queries, keys and values, where they are one linear (Phi-3).
    Qkv,
    /// Gate and up, where they are one linear (Phi-3).
    #[serde(rename = "gate_up")]
    GateUp,
}

impl Target {
    /// The linears of a block, in layout order, in all families but Phi-3; see [`Target::of`].
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// All linears of a block of this model, in layout order.
    #[must_use]
    pub fn of(config: &Config) -> &'static [Self] {
        if config.is_fused() {
            &[Self::Qkv, Self::O, Self::GateUp, Self::Down]
        } else {
            &Self::ALL
        }
    }

    /// Module name in the Hugging Face code, as in PEFT's `target_modules`.
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
            Self::Qkv => "qkv_proj",
            Self::GateUp => "gate_up_proj",
        }
    }

    /// Path of the module inside a block.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Q | Self::K | Self::V | Self::O | Self::Qkv => {
                format!("self_attn.{}", self.module())
            }
            Self::Gate | Self::Up | Self::Down | Self::GateUp => format!("mlp.{}", self.module()),
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
            Self::Qkv => (c.hidden, c.qkv_width()),
            Self::GateUp => (c.hidden, 2 * c.mlp),
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
    /// Share of the inputs of `A` that a training step drops, in [0, 1); see
    /// [`crate::Workspace::dropout`]. Nothing else drops anything.
    pub dropout: f32,
    /// The linears that carry it, in every block.
    pub targets: Vec<Target>,
    /// Divides `alpha` by the root of the rank instead (Kalajdzievski, "rsLoRA", 2023).
    #[serde(default)]
    pub rank_stabilized: bool,
    /// Trains the length of every row of `W + s B A` apart from its direction (`DoRA`, Liu et al.
    /// 2024): `y = m / |W + s B A| * (W x + s B A x)`, by output.
    #[serde(default)]
    pub dora: bool,
}

impl Default for LoraConfig {
    /// Rank 16 and alpha 32 on the seven linears.
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Target::ALL.to_vec(),
            rank_stabilized: false,
            dora: false,
        }
    }
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

/// Linears that read the same input; their `A` matrices lie side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Group {
    Attention,
    Output,
    Gated,
    Down,
}

impl Group {
    pub(crate) const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::Gated, Self::Down];

    fn members(self, base: &Config) -> &'static [Target] {
        match self {
            Self::Attention if base.is_fused() => &[Target::Qkv],
            Self::Attention => &[Target::Q, Target::K, Target::V],
            Self::Output => &[Target::O],
            Self::Gated if base.is_fused() => &[Target::GateUp],
            Self::Gated => &[Target::Gate, Target::Up],
            Self::Down => &[Target::Down],
        }
    }
}

/// Where a group's parameters lie in the flat vector of one block: all `A [rank, in]` one after
/// another, then all `B [out, rank]`, then, of `DoRA`, all magnitudes `[out]`.
#[derive(Clone, Debug)]
pub(crate) struct GroupAt {
    pub(crate) a: usize,
    pub(crate) input: usize,
    /// Outputs of all the group's linears, adapted or not.
    pub(crate) columns: usize,
    /// Rows of all `A` together.
    rows: usize,
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    target: Target,
    pub(crate) b: usize,
    /// Offset of the magnitudes, if there are any.
    pub(crate) magnitude: usize,
    pub(crate) output: usize,
    /// First column of the target's output among the group's linears.
    pub(crate) column: usize,
}

/// Layout of one block's adapter parameters.
#[derive(Clone, Debug)]
struct BlockLayout {
    groups: [GroupAt; 4],
    size: usize,
}

impl BlockLayout {
    fn new(base: &Config, config: &LoraConfig) -> Self {
        let rank = config.rank;
        let mut size = 0;
        let groups = Group::ALL.map(|group| {
            let mut input = 0;
            let mut column = 0;
            let mut members = Vec::new();
            for &target in group.members(base) {
                let output;
                (input, output) = target.widths(base);
                if config.targets.contains(&target) {
                    members.push(Member {
                        target,
                        b: 0,
                        magnitude: 0,
                        output,
                        column,
                    });
                }
                column += output;
            }
            let (a, rows) = (size, members.len() * rank);
            size += rows * input;
            for member in &mut members {
                member.b = size;
                size += member.output * rank;
            }
            for member in &mut members {
                member.magnitude = size;
                size += if config.dora { member.output } else { 0 };
            }
            GroupAt {
                a,
                input,
                columns: column,
                rows,
                members,
            }
        });
        Self { groups, size }
    }
}

/// An adapter: the flat parameters `A [rank, in]`, `B [out, rank]` and, of `DoRA`, magnitudes
/// `[out]` of every target of every block, at the offsets of [`Adapter::layout`].
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it looks like; `targets` are sorted and unique.
    pub config: LoraConfig,
    pub(crate) base: Config,
    layout: BlockLayout,
    params: Vec<f32>,
    /// The matrices as each arithmetic mode multiplies with them, one entry per group of every
    /// block; made when first used.
    pub(crate) exact: OnceLock<Vec<PackedGroup<Exact>>>,
    pub(crate) fast: OnceLock<Vec<PackedGroup<Fast>>>,
    /// Factors of `DoRA` over a base in each form that it can be stored in.
    pub(crate) gains: [OnceLock<Gains>; 4],
}

/// A group's matrices: all `A` as one, and each `B`.
#[derive(Clone, Debug)]
pub struct PackedGroup<A: Arithmetic> {
    a: A::Matrix,
    b: Vec<A::Matrix>,
}

impl Adapter {
    /// A fresh adapter: `A` uniform in `+-1/sqrt(in)` (PEFT's Kaiming initialisation with
    /// `a = sqrt(5)`), `B` zero, so that it changes nothing yet.
    ///
    /// # Errors
    /// When the configuration is out of range, or asks for magnitudes, which start at those of the
    /// base's weights: see [`Adapter::for_base`].
    pub fn new(base: &Config, config: LoraConfig, seed: u64) -> Result<Self, Error> {
        if config.dora {
            return Err(Error::Setting {
                field: "dora",
                value: "true".into(),
                expected: "false where only the shape of the base is known",
            });
        }
        Self::fresh(base, config, seed)
    }

    /// As [`Adapter::new`]; the magnitudes of `DoRA` are those of the weights of `base`, so that the
    /// adapter changes nothing yet.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn for_base<A: Arithmetic>(
        base: &Base<A>,
        config: LoraConfig,
        seed: u64,
    ) -> Result<Self, Error> {
        let mut adapter = Self::fresh(&base.config, config, seed)?;
        if adapter.config.dora {
            adapter.start_magnitudes(base);
        }
        Ok(adapter)
    }

    fn fresh(base: &Config, config: LoraConfig, seed: u64) -> Result<Self, Error> {
        let mut adapter = Self::zeros(base, config)?;
        let mut rng = random::stream(seed, 1);
        for (name, at, shape) in adapter.layout() {
            if name.ends_with("lora_A.weight") {
                let bound = 1.0 / (shape[1] as f64).sqrt();
                for x in &mut adapter.params[at..at + shape[0] * shape[1]] {
                    *x = ((2.0 * random::uniform(&mut rng) - 1.0) * bound) as f32;
                }
            }
        }
        Ok(adapter)
    }

    pub(crate) fn zeros(base: &Config, mut config: LoraConfig) -> Result<Self, Error> {
        base.validate()?;
        config.check()?;
        config.targets.sort_unstable();
        config.targets.dedup();
        let known = Target::of(base);
        if let Some(other) = config.targets.iter().find(|t| !known.contains(t)) {
            return Err(Error::Setting {
                field: "targets",
                value: other.module().to_owned(),
                expected: if base.is_fused() {
                    "qkv_proj, o_proj, gate_up_proj, down_proj in this model"
                } else {
                    "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj in this model"
                },
            });
        }
        let layout = BlockLayout::new(base, &config);
        let params = vec![0.0; base.layers * layout.size];
        let base = base.clone();
        Ok(Self {
            config,
            base,
            layout,
            params,
            exact: OnceLock::new(),
            fast: OnceLock::new(),
            gains: Default::default(),
        })
    }

    /// Factor on `B A x`: `alpha / rank`, or `alpha / sqrt(rank)` for a rank-stabilised adapter
    /// (Kalajdzievski 2023).
    #[must_use]
    pub fn scale(&self) -> f32 {
        let rank = self.config.rank as f32;
        self.config.alpha
            / if self.config.rank_stabilized {
                rank.sqrt()
            } else {
                rank
            }
    }

    /// The flat parameters.
    #[must_use]
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The flat parameters, to change.
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.exact = OnceLock::new();
        self.fast = OnceLock::new();
        self.gains = Default::default();
        &mut self.params
    }

    /// PEFT name, offset and shape of every matrix in the flat vector.
    #[must_use]
    pub fn layout(&self) -> Vec<Slot> {
        let rank = self.config.rank;
        let mut slots = Vec::new();
        for layer in 0..self.base.layers {
            let start = layer * self.layout.size;
            for group in &self.layout.groups {
                for (index, member) in group.members.iter().enumerate() {
                    let path = member.target.path();
                    let name = format!("base_model.model.model.layers.{layer}.{path}");
                    let a = start + group.a + index * rank * group.input;
                    slots.push((format!("{name}.lora_A.weight"), a, vec![rank, group.input]));
                    let (b, shape) = (start + member.b, vec![member.output, rank]);
                    slots.push((format!("{name}.lora_B.weight"), b, shape));
                    if self.config.dora {
                        let at = start + member.magnitude;
                        let name = format!("{name}.lora_magnitude_vector");
                        slots.push((name, at, vec![member.output]));
                    }
                }
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
            && a.mlp == base.mlp
            && a.is_fused() == base.is_fused();
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

    fn packed<A: Arithmetic>(&self, layer: usize, group: Group) -> &PackedGroup<A> {
        let all = A::packed(self).get_or_init(|| {
            let (rank, format) = (self.config.rank, A::FINEST);
            let blocks = self.params.chunks_exact(self.layout.size);
            blocks
                .flat_map(|block| self.layout.groups.iter().map(move |group| (block, group)))
                .map(|(block, group)| PackedGroup {
                    a: A::matrix(
                        format,
                        &block[group.a..][..group.rows * group.input],
                        group.rows,
                        group.input,
                    ),
                    b: group
                        .members
                        .iter()
                        .map(|m| {
                            A::matrix(format, &block[m.b..][..m.output * rank], m.output, rank)
                        })
                        .collect(),
                })
                .collect()
        });
        &all[layer * Group::ALL.len() + group as usize]
    }

    /// Where a group's parameters lie in a block's part of the flat vector.
    pub(crate) fn group(&self, group: Group) -> &GroupAt {
        &self.layout.groups[group as usize]
    }

    /// A block's part of the flat vector.
    pub(crate) fn block_params(&self, layer: usize) -> &[f32] {
        &self.params[layer * self.layout.size..][..self.layout.size]
    }

    /// Where block `layer` begins in the flat vector.
    pub(crate) fn block_at(&self, layer: usize) -> usize {
        layer * self.layout.size
    }

    /// Width of what [`Adapter::shrink`] saves per row for a group.
    pub(crate) fn inner_width(&self, group: Group) -> usize {
        self.group(group).rows
    }

    /// Leaves `s A x` of all of a group's targets in `inner [rows, inner_width]`.
    pub(crate) fn shrink<A: Arithmetic>(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        rows: usize,
        x: &[f32],
        inner: &mut [f32],
    ) {
        let at = self.group(group);
        if at.members.is_empty() {
            return;
        }
        let (packed, width) = (self.packed::<A>(layer, group), at.rows);
        let inner = &mut inner[..rows * width];
        let a = &packed.a;
        A::project(
            isa,
            rows,
            x,
            at.input,
            a,
            0..width,
            inner,
            width,
            Store::Overwrite,
        );
        isa.scale(inner, self.scale());
    }

    /// Adds `B (s A x)` to the group's outputs `y`, continuing their chains, from what
    /// [`Adapter::shrink`] left.
    pub(crate) fn expand<A: Arithmetic>(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        rows: usize,
        inner: &[f32],
        (y, stride): (&mut [f32], usize),
    ) {
        let (at, rank) = (self.group(group), self.config.rank);
        if at.members.is_empty() {
            return;
        }
        let (packed, width) = (self.packed::<A>(layer, group), at.rows);
        for (index, (member, b)) in at.members.iter().zip(&packed.b).enumerate() {
            let inner = &inner[index * rank..];
            let (y, outputs) = (&mut y[member.column..], 0..member.output);
            A::project(
                isa,
                rows,
                inner,
                width,
                b,
                outputs,
                y,
                stride,
                Store::Accumulate,
            );
        }
    }

    /// Takes a group's gradient `dy` back to what [`Adapter::shrink`] left as `inner`: overwrites
    /// `d_inner [rows, inner_width]`, the gradient of `A x`.
    pub(crate) fn expand_back<A: Arithmetic>(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        rows: usize,
        (dy, stride): (&[f32], usize),
        d_inner: &mut [f32],
    ) {
        let (at, rank) = (self.group(group), self.config.rank);
        if at.members.is_empty() {
            return;
        }
        let (packed, width) = (self.packed::<A>(layer, group), at.rows);
        let d_inner = &mut d_inner[..rows * width];
        for (index, (member, b)) in at.members.iter().zip(&packed.b).enumerate() {
            let dy = &dy[member.column..];
            let d_inner = &mut d_inner[index * rank..];
            A::project_back(isa, rows, dy, stride, b, d_inner, width, Store::Overwrite);
        }
        isa.scale(d_inner, self.scale());
    }

    /// `dx [rows, in]` is or gains the part of the input's gradient that goes through `A`.
    pub(crate) fn shrink_back<A: Arithmetic>(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        rows: usize,
        d_inner: &[f32],
        dx: &mut [f32],
        store: Store,
    ) {
        let at = self.group(group);
        if at.members.is_empty() {
            return;
        }
        let a = &self.packed::<A>(layer, group).a;
        A::project_back(isa, rows, d_inner, at.rows, a, dx, at.input, store);
    }

    /// Adds the gradients of a group's matrices over `rows` rows to `grads`, the adapter's whole
    /// flat vector: `dB += dy^T inner`, `dA += d_inner^T x`.
    #[allow(clippy::too_many_arguments, reason = "one group's tensors")]
    pub(crate) fn gradients<A: Arithmetic>(
        &self,
        isa: Isa,
        (layer, group): (usize, Group),
        rows: usize,
        x: &[f32],
        inner: &[f32],
        (dy, stride): (&[f32], usize),
        d_inner: &[f32],
        grads: &mut [f32],
    ) {
        let (at, rank) = (self.group(group), self.config.rank);
        if at.members.is_empty() {
            return;
        }
        let grads = &mut grads[layer * self.layout.size..(layer + 1) * self.layout.size];
        let (width, input, add) = (at.rows, at.input, Store::Accumulate);
        for (index, member) in at.members.iter().enumerate() {
            let (m, size) = (member.output, member.output * rank);
            let dy = Lhs::transposed(&dy[member.column..], stride);
            let inner = Rhs::rows(&inner[index * rank..], width);
            let grads = &mut grads[member.b..member.b + size];
            A::product(isa, m, rank, rows, dy, inner, grads, rank, add);
        }
        let d_inner = Lhs::transposed(d_inner, width);
        let grads = &mut grads[at.a..at.a + width * input];
        let x = Rhs::rows(x, input);
        A::product(isa, width, input, rows, d_inner, x, grads, input, add);
    }
}
