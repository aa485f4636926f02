// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {GameId} from "../types/Rollup.sol";
import {IDisputeGame} from "./IDisputeGame.sol";

/// @notice A game as `findLatestGames` lists it.
struct GameSearchResult {
    uint256 index;
    GameId metadata;
    uint64 timestamp;
    bytes32 rootClaim;
    bytes extraData;
}

/// @title Where claims about L2 are made, and found
interface IDisputeGameFactory {
    /// @notice Somebody made a claim.
    event DisputeGameCreated(
        address indexed disputeProxy, uint32 indexed gameType, bytes32 indexed rootClaim
    );
    /// @notice The rules of a type of game. Once, at deployment.
    event ImplementationSet(address indexed impl, uint32 indexed gameType);
    /// @notice The bond of future claims changed.
    event InitBondUpdated(uint32 indexed gameType, uint256 indexed newBond);

    /// @notice There are no rules for this type.
    error NoImplementation(uint32 gameType);
    /// @notice The sent coins are not the bond.
    error IncorrectBondAmount();
    /// @notice The same claim was made before.
    error GameAlreadyExists(bytes32 uuid);

    /// @notice Makes a claim; the sent coins are its bond. Anybody.
    function create(uint32 gameType, bytes32 rootClaim, bytes calldata extraData)
        external
        payable
        returns (IDisputeGame proxy);

    /// @notice The game with this identity, and its creation time; zeros if there is none.
    function games(uint32 gameType, bytes32 rootClaim, bytes calldata extraData)
        external
        view
        returns (IDisputeGame proxy, uint64 timestamp);

    /// @notice The game with this number.
    function gameAtIndex(uint256 index)
        external
        view
        returns (uint32 gameType, uint64 timestamp, IDisputeGame proxy);

    /// @notice How many games there are.
    function gameCount() external view returns (uint256);

    /// @notice Up to `n` games of a type, from number `start` backwards.
    function findLatestGames(uint32 gameType, uint256 start, uint256 n)
        external
        view
        returns (GameSearchResult[] memory);

    /// @notice The bond of a claim.
    function initBonds(uint32 gameType) external view returns (uint256);
}
