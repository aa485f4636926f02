// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {GameSearchResult, IDisputeGameFactory} from "../interfaces/IDisputeGameFactory.sol";
import {GameId, toGameId} from "../types/Rollup.sol";

/// @notice What the factory writes into the code of each game.
struct GameArguments {
    address factory;
    address creator;
    bytes32 rootClaim;
    bytes32 l1Head;
    bytes extraData;
}

/// @title Where claims about L2 are made, and found
/// @notice See IDisputeGameFactory. One implementation for ever: other rules are another factory, and
/// another portal. The owner can only change the bond of future claims.
contract DisputeGameFactory is Ownable2Step, IDisputeGameFactory {
    /// @notice The one implementation, and its type.
    IDisputeGame public immutable implementation;
    uint32 public immutable gameType;

    uint256 private _initBond;
    GameId[] private _list;
    mapping(bytes32 uuid => GameId) private _games;

    constructor(address owner, IDisputeGame implementation_, uint256 initBond) Ownable(owner) {
        implementation = implementation_;
        gameType = implementation_.gameType();
        emit ImplementationSet(address(implementation_), gameType);
        _setInitBond(initBond);
    }

    /// @inheritdoc IDisputeGameFactory
    function create(uint32 gameType_, bytes32 rootClaim, bytes calldata extraData)
        external
        payable
        returns (IDisputeGame game)
    {
        if (gameType_ != gameType) revert NoImplementation(gameType_);
        if (msg.value != _initBond) revert IncorrectBondAmount();
        bytes32 uuid = getGameUUID(gameType_, rootClaim, extraData);
        if (GameId.unwrap(_games[uuid]) != 0) revert GameAlreadyExists(uuid);
        bytes memory arguments = abi.encode(
            GameArguments(address(this), msg.sender, rootClaim, blockhash(block.number - 1), extraData)
        );
        address clone = Clones.cloneDeterministicWithImmutableArgs(address(implementation), arguments, uuid);
        game = IDisputeGame(clone);
        GameId id = toGameId(gameType_, uint64(block.timestamp), clone);
        _games[uuid] = id;
        _list.push(id);
        emit DisputeGameCreated(clone, gameType_, rootClaim);
        game.initialize{value: msg.value}();
    }

    /// @notice Sets the bond of future claims, and of challenges to them.
    function setInitBond(uint32 gameType_, uint256 bond) external onlyOwner {
        if (gameType_ != gameType) revert NoImplementation(gameType_);
        _setInitBond(bond);
    }

    /// @inheritdoc IDisputeGameFactory
    function games(uint32 gameType_, bytes32 rootClaim, bytes calldata extraData)
        external
        view
        returns (IDisputeGame, uint64)
    {
        GameId id = _games[getGameUUID(gameType_, rootClaim, extraData)];
        return (IDisputeGame(id.proxy()), id.timestamp());
    }

    /// @inheritdoc IDisputeGameFactory
    function gameAtIndex(uint256 index) external view returns (uint32, uint64, IDisputeGame) {
        GameId id = _list[index];
        return (id.gameType(), id.timestamp(), IDisputeGame(id.proxy()));
    }

    /// @inheritdoc IDisputeGameFactory
    function gameCount() external view returns (uint256) {
        return _list.length;
    }

    /// @inheritdoc IDisputeGameFactory
    function findLatestGames(uint32 gameType_, uint256 start, uint256 n)
        external
        view
        returns (GameSearchResult[] memory found)
    {
        if (start >= _list.length || gameType_ != gameType) return found;
        // All games have the one type, so the next `n` are the answer.
        found = new GameSearchResult[](n < start + 1 ? n : start + 1);
        for (uint256 i = 0; i < found.length; ++i) {
            GameId id = _list[start - i];
            IDisputeGame game = IDisputeGame(id.proxy());
            found[i] = GameSearchResult(start - i, id, id.timestamp(), game.rootClaim(), game.extraData());
        }
    }

    /// @inheritdoc IDisputeGameFactory
    function initBonds(uint32 gameType_) external view returns (uint256) {
        return gameType_ == gameType ? _initBond : 0;
    }

    /// @notice The implementation of a type; zero if there is none.
    function gameImpls(uint32 gameType_) external view returns (IDisputeGame) {
        return gameType_ == gameType ? implementation : IDisputeGame(address(0));
    }

    /// @notice The identity of a claim.
    function getGameUUID(uint32 gameType_, bytes32 rootClaim, bytes calldata extraData)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(gameType_, rootClaim, extraData));
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.4.0";
    }

    function _setInitBond(uint256 bond) private {
        _initBond = bond;
        emit InitBondUpdated(gameType, bond);
    }
}
