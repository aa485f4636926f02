//! Buffers that outlive a call, so that a step or an example allocates nothing once warm.

use openledger_kernels::{Buffer, Isa};

use crate::Config;
use crate::attention::Tiles;
use crate::dropout::Dropout;
use crate::lora::Group;

/// Reusable buffers and the instruction set to compute with.
///
/// Holds no state between calls: any workspace gives the same result.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    pub(crate) isa: Isa,
    /// Residual stream before each block, and after the last: `[layers + 1][rows, hidden]`.
    pub(crate) stream: Vec<Buffer>,
    /// One for each block, or a single one that every block's backward fills again.
    pub(crate) blocks: Vec<Activations>,
    pub(crate) scratch: Scratch,
    /// Keep only the residual stream between blocks, and run each block's forward again before
    /// its backward (Chen et al. 2016): less memory for a third more work, the same bits.
    pub checkpointing: bool,
    /// Where in a training run the next examples are. If given, the gradient functions of adapters
    /// drop the share of inputs that the adapter's configuration says; all else never does.
    pub dropout: Option<Dropout>,
    pub(crate) head: Head,
    pub(crate) back: Back,
    pub(crate) tiles: Tiles,
    /// Those of a step's threads.
    pub(crate) lane_tiles: Vec<Tiles>,
    /// Workspaces of the other threads of a step.
    pub(crate) others: Vec<Self>,
}

/// What one block's backward reads again. What it can cheaply compute from these (norms' outputs,
/// the gated product) is computed again instead of kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activations {
    pub(crate) inverse1: Buffer,
    /// Queries and keys before the norms of heads, if the model has those.
    pub(crate) raw: Buffer,
    /// Factors of the norms of query heads and of key heads.
    pub(crate) head_inverse: [Buffer; 2],
    /// Rotated queries, rotated keys, values.
    pub(crate) qkv: Buffer,
    pub(crate) attended: Buffer,
    /// Logarithms of the sums of the scores' exponentials, `[rows, heads]`.
    pub(crate) log_sums: Buffer,
    /// What attention adds to the residual stream, before its own norm if the model has one.
    pub(crate) branch1: Buffer,
    pub(crate) post_inverse1: Buffer,
    /// Residual stream between the two halves of the block.
    pub(crate) middle: Buffer,
    pub(crate) inverse2: Buffer,
    pub(crate) gate_up: Buffer,
    /// As `branch1`, of the gated unit.
    pub(crate) branch2: Buffer,
    pub(crate) post_inverse2: Buffer,
    /// `s A x` of each group of linears.
    pub(crate) inner: [Buffer; Group::ALL.len()],
}

impl Activations {
    pub(crate) fn resize(&mut self, c: &Config, rows: usize) {
        let heads = usize::from(c.features.qk_norm);
        let post = usize::from(c.features.post_norms);
        let [query_inverse, key_inverse] = &mut self.head_inverse;
        for (buffer, width) in [
            (&mut self.inverse1, 1),
            (&mut self.raw, heads * (c.q_width() + c.kv_width())),
            (query_inverse, heads * c.heads),
            (key_inverse, heads * c.kv_heads),
            (&mut self.qkv, c.qkv_width()),
            (&mut self.attended, c.q_width()),
            (&mut self.log_sums, c.heads),
            (&mut self.branch1, post * c.hidden),
            (&mut self.post_inverse1, post),
            (&mut self.middle, c.hidden),
            (&mut self.inverse2, 1),
            (&mut self.gate_up, 2 * c.mlp),
            (&mut self.branch2, post * c.hidden),
            (&mut self.post_inverse2, post),
        ] {
            buffer.resize(rows * width);
        }
    }
}

/// What one block computes and nobody keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// A norm's output.
    pub(crate) norm: Buffer,
    /// Input of the down projection.
    pub(crate) gated: Buffer,
    pub(crate) side: Side,
}

/// What adapters compute beside a linear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    /// Gradient of `A x`.
    pub(crate) inner: Buffer,
    /// Outputs before the magnitudes of `DoRA`.
    pub(crate) outputs: Buffer,
    /// Their gradient.
    pub(crate) d_outputs: Buffer,
    /// Inputs after dropout.
    pub(crate) dropped: Buffer,
    /// Their gradient.
    pub(crate) d_dropped: Buffer,
}

impl Scratch {
    pub(crate) fn resize(&mut self, c: &Config, rows: usize) {
        self.norm.resize(rows * c.hidden);
        self.gated.resize(rows * c.mlp);
    }
}

/// The output projection's rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) hidden: Buffer,
    pub(crate) inverse: Buffer,
    pub(crate) logits: Buffer,
    /// Slopes of the soft-cap.
    pub(crate) slopes: Buffer,
}

/// Gradients of one block's activations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Back {
    /// Of the residual stream.
    pub(crate) stream: Buffer,
    /// Of a norm's output.
    pub(crate) norm: Buffer,
    /// Of the gated product.
    pub(crate) gated: Buffer,
    pub(crate) gate_up: Buffer,
    pub(crate) attended: Buffer,
    pub(crate) qkv: Buffer,
    /// Of what a half of the block adds to the residual stream, before its norm.
    pub(crate) branch: Buffer,
    /// A norm's factors, which the forward saved already.
    pub(crate) inverse: Buffer,
}

impl Workspace {
    /// An empty workspace for the fastest instruction set of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty workspace for a given instruction set; the results have the same bits.
    #[must_use]
    pub fn with_isa(isa: Isa) -> Self {
        Self {
            isa,
            ..Self::default()
        }
    }

    /// The instruction set this workspace computes with.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
