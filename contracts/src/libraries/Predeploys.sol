// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Addresses that the L2 genesis fixes
library Predeploys {
    address internal constant WRAPPED_OPEN = 0x4200000000000000000000000000000000000006;
    address internal constant GAS_PRICE_ORACLE = 0x420000000000000000000000000000000000000F;
    address internal constant SEQUENCER_FEE_VAULT = 0x4200000000000000000000000000000000000011;
    address internal constant L1_BLOCK = 0x4200000000000000000000000000000000000015;
    address internal constant MESSAGE_PASSER = 0x4200000000000000000000000000000000000016;
    address internal constant BASE_FEE_VAULT = 0x4200000000000000000000000000000000000019;
    address internal constant L1_FEE_VAULT = 0x420000000000000000000000000000000000001A;
    address internal constant OPERATOR_FEE_VAULT = 0x420000000000000000000000000000000000001b;
    address internal constant NATIVE_ASSET_LIQUIDITY = 0x4200000000000000000000000000000000000029;
    address internal constant LIQUIDITY_CONTROLLER = 0x420000000000000000000000000000000000002a;
    address internal constant OPEN_MINTER = 0x4F50454E00000000000000000000000000000001;

    /// @notice Sender of the L1 attributes transaction, the first of every L2 block.
    address internal constant DEPOSITOR = 0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001;
}
