// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What other contracts need of the portal
interface IOptimismPortal {
    /// @notice Sends a call to L2. See OptimismPortal.
    function depositTransaction(
        address to,
        uint256 value,
        uint64 gasLimit,
        bool isCreation,
        bytes calldata data
    ) external payable;

    /// @notice The L2 account whose withdrawal is being executed.
    function l2Sender() external view returns (address);
}
