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
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    DataAvailabilityChallenge,
    "../../contracts/abi/DataAvailabilityChallenge.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    DisputeGameFactory,
    "../../contracts/abi/DisputeGameFactory.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    L2ToL1MessagePasser,
    "../../contracts/abi/L2ToL1MessagePasser.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    OpenBridge,
    "../../contracts/abi/OpenBridge.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    OpenMinter,
    "../../contracts/abi/OpenMinter.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    OpenToken,
    "../../contracts/abi/OpenToken.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    OptimismPortal,
    "../../contracts/abi/OptimismPortal.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    OutputGame,
    "../../contracts/abi/OutputGame.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    SystemConfig,
    "../../contracts/abi/SystemConfig.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    FeeVault,
    "../../contracts/abi/FeeVault.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    GasPriceOracle,
    "../../contracts/abi/GasPriceOracle.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    L1Block,
    "../../contracts/abi/L1Block.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    LiquidityController,
    "../../contracts/abi/LiquidityController.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    NativeAssetLiquidity,
    "../../contracts/abi/NativeAssetLiquidity.json"
);
sol!(
    #[sol(extra_derives(Debug, PartialEq, Eq))]
    WrappedOpen,
    "../../contracts/abi/WrappedOpen.json"
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
