// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Parameters} from "../types/Records.sol";
import {IEpochClock} from "./IEpochClock.sol";

/// @title The governed parameters, by epoch
/// @notice A change takes effect with the epoch after the open one, so that nobody is settled by
/// rules that he could not see; the parameters of the open epoch and of past ones never change.
interface IProtocolParameters {
    /// @notice New parameters were set. `digest` is what settlements of these epochs name.
    event ParametersSet(uint64 indexed fromEpoch, bytes32 digest, Parameters parameters);

    /// @notice Field `field` (its position in the struct, from 0) lies outside the genesis bounds.
    error OutOfBounds(uint256 field, uint256 value, uint256 min, uint256 max);
    /// @notice The five shares of a fee sum to `sum` instead of 10,000.
    error SplitNotWhole(uint256 sum);
    /// @notice No parameters exist for epoch `epoch`.
    error NoSuchEpoch(uint64 epoch);
    /// @notice An address is zero.
    error ZeroAddress();

    /// @notice Sets the parameters of all epochs after the open one. Restricted.
    function set(Parameters calldata parameters) external;

    /// @notice The parameters of `epoch`.
    function parametersAt(uint64 epoch) external view returns (Parameters memory);

    /// @notice `keccak256(abi.encode(parametersAt(epoch)))`.
    function digestAt(uint64 epoch) external view returns (bytes32);

    /// @notice What posting needs, in one call: the digest and the challenge window in seconds.
    function termsAt(uint64 epoch) external view returns (bytes32 digest, uint64 challengeWindow);

    /// @notice The parameters of the open epoch.
    function current() external view returns (Parameters memory);

    /// @notice Number of parameter sets, and the first epoch of each.
    function versions() external view returns (uint64[] memory fromEpochs);

    /// @notice The contract that counts epochs.
    function clock() external view returns (IEpochClock);

    /// @notice Where the treasury's fees go.
    function treasury() external view returns (address);

    /// @notice Lowest and highest value of every field, fixed at genesis.
    function bounds() external view returns (Parameters memory min, Parameters memory max);
}
