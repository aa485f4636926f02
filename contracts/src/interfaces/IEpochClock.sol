// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The protocol's clock
/// @notice Implemented by InferenceSettlement: an epoch ends when its settlement is posted.
interface IEpochClock {
    /// @notice The epoch that collects receipts now, from 1.
    function openEpoch() external view returns (uint64);
}
