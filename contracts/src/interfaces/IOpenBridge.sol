// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What OpenMinter calls on L1
interface IOpenBridge {
    /// @notice Pays OPEN that was burned on L2. Only a withdrawal of OpenMinter.
    function release(address to, uint256 amount) external;
}
