// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What OpenBridge calls on L2
interface IOpenMinter {
    /// @notice Gives `to` coins that `from` brought from L1. Only OpenBridge.
    function mint(address from, address to, uint256 amount) external;
}
