// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {GameStatus} from "../types/Rollup.sol";

/// @title A claim about L2 that can be disputed
interface IDisputeGame {
    /// @notice The game is over.
    event Resolved(GameStatus indexed status);

    /// @notice Called by the factory with the proposer's bond, right after creation.
    function initialize() external payable;

    /// @notice Ends the game if its time is over.
    function resolve() external returns (GameStatus);

    /// @notice L1 time of the creation.
    function createdAt() external view returns (uint64);

    /// @notice L1 time of the end; zero while in progress.
    function resolvedAt() external view returns (uint64);

    /// @notice Who is ahead.
    function status() external view returns (GameStatus);

    /// @notice Which rules the game follows.
    function gameType() external view returns (uint32);

    /// @notice Who made the claim.
    function gameCreator() external view returns (address);

    /// @notice The claimed output root.
    function rootClaim() external view returns (bytes32);

    /// @notice Hash of the newest L1 block that the claim may depend on.
    function l1Head() external view returns (bytes32);

    /// @notice What the creator said beyond the root, as given to the factory.
    function extraData() external view returns (bytes memory);

    /// @notice The L2 block that the claim is about.
    function l2BlockNumber() external view returns (uint256);

    /// @notice The same number under its newer name.
    function l2SequenceNumber() external view returns (uint256);

    /// @notice Type, root and extra data: what makes the game's identity.
    function gameData() external view returns (uint32, bytes32, bytes memory);
}
