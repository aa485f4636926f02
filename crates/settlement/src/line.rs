//! Lines: the smallest payments, each with its evidence.

use openledger_primitives::{Address, B256, Wei};
use serde::{Deserialize, Serialize};

/// One payment and why it was made. An epoch's lines sum to its fees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// Adapter that answered.
    pub adapter: B256,
    /// Receipt whose fee it is; `None` if netted over the epoch.
    pub receipt: Option<B256>,
    /// Why it is paid, or not paid to a contributor.
    pub channel: Channel,
    /// Row that it is for: the first-committed row of a cluster, as position in the model's rows.
    pub row: Option<u32>,
    /// Wallet credited.
    pub earner: Address,
    /// Wei credited; never zero.
    pub amount: Wei,
}

/// Why a line exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Output tokens were found in the row.
    Span,
    /// The row's gradient pulled the epoch's answers.
    Gradient,
    /// The model failed its audit, so its clusters share the gradient pot equally.
    Equal,
    /// The operator's share of the fee.
    Operator,
    /// The model owner's share.
    ModelOwner,
    /// The stakers' share.
    Stakers,
    /// The treasury's share, with the fee's rounding dust.
    Treasury,
    /// What no contributor is paid.
    Commons(Unpaid),
}

/// Why a part of the contributors' share goes to the Datanet's commons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpaid {
    /// Output tokens in no admissible span.
    Uncovered,
    /// The gradient channel's unattributed mass: lambda, and everything if no score passes.
    Unattributed,
    /// The owner's earnings of the epoch stayed below the dust floor.
    BelowDustFloor,
}

/// Who is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Owner of rows.
    Contributor,
    /// Operator that served.
    Operator,
    /// Owner of the model.
    ModelOwner,
    /// The stakers' pool.
    Stakers,
    /// The treasury.
    Treasury,
    /// The Datanet's commons.
    Commons,
}

impl Channel {
    /// The role that a line of this channel credits.
    pub const fn role(self) -> Role {
        match self {
            Self::Span | Self::Gradient | Self::Equal => Role::Contributor,
            Self::Operator => Role::Operator,
            Self::ModelOwner => Role::ModelOwner,
            Self::Stakers => Role::Stakers,
            Self::Treasury => Role::Treasury,
            Self::Commons(_) => Role::Commons,
        }
    }

    /// A stable code for stores and APIs: `span`, `commons:uncovered`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Gradient => "gradient",
            Self::Equal => "equal",
            Self::Operator => "operator",
            Self::ModelOwner => "model-owner",
            Self::Stakers => "stakers",
            Self::Treasury => "treasury",
            Self::Commons(Unpaid::Uncovered) => "commons:uncovered",
            Self::Commons(Unpaid::Unattributed) => "commons:unattributed",
            Self::Commons(Unpaid::BelowDustFloor) => "commons:below-dust-floor",
        }
    }
}

impl Role {
    /// A stable code for stores and APIs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Contributor => "contributor",
            Self::Operator => "operator",
            Self::ModelOwner => "model_owner",
            Self::Stakers => "stakers",
            Self::Treasury => "treasury",
            Self::Commons => "commons",
        }
    }
}
