// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// What the rollup's contracts exchange
// Field by field what the OP Stack specification defines, so that its wallets and tools can read it.

/// @notice A call from L2 to L1, as L2ToL1MessagePasser records it.
struct WithdrawalTransaction {
    uint256 nonce;
    address sender;
    address target;
    uint256 value;
    uint256 gasLimit;
    bytes data;
}

/// @notice What an output root commits to.
struct OutputRootProof {
    bytes32 version;
    bytes32 stateRoot;
    bytes32 messagePasserStorageRoot;
    bytes32 latestBlockhash;
}

/// @notice How a dispute game stands.
enum GameStatus {
    IN_PROGRESS,
    CHALLENGER_WINS,
    DEFENDER_WINS
}

/// @notice A game's type, creation time and address in one word, as DisputeGameFactory lists it.
type GameId is bytes32;

using {gameType, timestamp, proxy} for GameId global;

/// @notice Packs a game's type, creation time and address.
function toGameId(uint32 type_, uint64 created, address game) pure returns (GameId) {
    return GameId.wrap(bytes32(uint256(type_) << 224 | uint256(created) << 160 | uint160(game)));
}

function gameType(GameId id) pure returns (uint32) {
    return uint32(uint256(GameId.unwrap(id)) >> 224);
}

function timestamp(GameId id) pure returns (uint64) {
    return uint64(uint256(GameId.unwrap(id)) >> 160);
}

function proxy(GameId id) pure returns (address) {
    return address(uint160(uint256(GameId.unwrap(id))));
}
