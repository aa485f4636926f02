//! Bindings generated from the committed ABI of the contracts (`contracts/abi`).
//!
//! Structs that both sides know (the records) are generated anew in each contract's module; the
//! rest of the crate converts them to and from [`openledger_primitives::records`], which have the
//! same encoding.
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated; the documentation is the NatSpec in contracts/src/interfaces"
)]

use alloy_sol_types::{SolValue, sol};

sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    AccessManager,
    "../../contracts/abi/AccessManager.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    CommonsVault,
    "../../contracts/abi/CommonsVault.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    ContributionAnchor,
    "../../contracts/abi/ContributionAnchor.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    DatanetRegistry,
    "../../contracts/abi/DatanetRegistry.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    InferenceSettlement,
    "../../contracts/abi/InferenceSettlement.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    ModelRegistry,
    "../../contracts/abi/ModelRegistry.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    ProtocolParameters,
    "../../contracts/abi/ProtocolParameters.json"
);

/// The same ABI type under its other Rust name.
pub(crate) fn convert<A, B>(value: &A) -> B
where
    A: SolValue,
    B: SolValue + From<<B::SolType as alloy_sol_types::SolType>::RustType>,
{
    B::abi_decode(&value.abi_encode())
        .expect("both names stand for one ABI type: the tests compare the encodings")
}
