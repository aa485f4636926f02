// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IDisputeGameFactory} from "../interfaces/IDisputeGameFactory.sol";
import {Duel, DuelPhase, IOutputGame} from "../interfaces/IOutputGame.sol";
import {Payouts} from "../libraries/Payouts.sol";
import {GameStatus} from "../types/Rollup.sol";
import {GameArguments} from "./DisputeGameFactory.sol";

/// @notice The rules that all games share.
struct GameSettings {
    /// Output root and number of the block that the first games start from.
    bytes32 anchorRoot;
    uint64 anchorBlock;
    /// Decides about single blocks.
    address guardian;
    /// Seconds after creation in which duels can be opened.
    uint32 challengeWindow;
    /// Seconds that each side has for all its moves of a duel.
    uint32 clock;
    /// Seconds that the guardian has.
    uint32 decisionWindow;
    /// Part of a lying proposer's bond that is burned, in basis points; the winner gets the rest. Above
    /// zero a proposer cannot get all of it back by losing to itself before the honest challenger wins.
    uint16 burnedBps;
}

/// @title Bisection over output roots
/// @notice See IOutputGame.
/// @dev Each game is a clone with its claim in the code. Coins leave in `withdraw` only, and the burned
/// part to an address without code. Every bond is in exactly one place: staked by the proposer while the
/// game runs, staked by the challenger of an open duel, credited, or gone.
contract OutputGame is IOutputGame {
    /// @notice "OP": this game's type.
    uint32 public constant gameType = 0x4f50;
    /// @notice Parent index that stands for the anchor.
    uint256 public constant NO_PARENT = type(uint256).max;
    uint256 private constant BPS = 10_000;

    bytes32 public immutable anchorRoot;
    uint64 public immutable anchorBlock;
    address public immutable guardian;
    uint32 public immutable challengeWindow;
    uint32 public immutable clock;
    uint32 public immutable decisionWindow;
    uint16 public immutable burnedBps;

    uint64 public createdAt;
    uint64 public resolvedAt;
    GameStatus public status;
    /// @notice The proposer's bond, and what a challenge costs.
    uint128 public bond;
    uint128 private _openDuels;
    Duel[] private _duels;
    mapping(address account => uint256) public credit;

    error BadSettings();

    constructor(GameSettings memory s) {
        if (s.guardian == address(0) || s.challengeWindow == 0 || s.clock == 0 || s.burnedBps > BPS) {
            revert BadSettings();
        }
        anchorRoot = s.anchorRoot;
        anchorBlock = s.anchorBlock;
        guardian = s.guardian;
        challengeWindow = s.challengeWindow;
        clock = s.clock;
        decisionWindow = s.decisionWindow;
        burnedBps = s.burnedBps;
        // Nobody can play with the implementation itself.
        createdAt = uint64(block.timestamp);
        resolvedAt = uint64(block.timestamp);
        status = GameStatus.CHALLENGER_WINS;
    }

    // --- the claim ---

    /// @inheritdoc IDisputeGame
    function initialize() external payable {
        if (createdAt != 0) revert AlreadyInitialised();
        GameArguments memory a = _arguments();
        if (msg.sender != a.factory) revert NotFactory();
        if (a.extraData.length != 64) revert BadExtraData();
        (uint256 number, uint256 index) = abi.decode(a.extraData, (uint256, uint256));
        if (_parentLost(a.factory, index)) revert ParentLost();
        (uint64 from,) = _start(a.factory, index);
        if (number <= from || number > type(uint64).max) revert BadExtraData();
        createdAt = uint64(block.timestamp);
        bond = uint128(msg.value);
    }

    /// @inheritdoc IDisputeGame
    function resolve() external returns (GameStatus) {
        _requireInProgress();
        GameArguments memory a = _arguments();
        (, uint256 index) = abi.decode(a.extraData, (uint256, uint256));
        GameStatus parent = _parentStatus(a.factory, index);
        if (parent == GameStatus.IN_PROGRESS) revert ParentGameNotResolved();
        if (parent == GameStatus.DEFENDER_WINS) {
            if (block.timestamp <= _challengeUntil()) revert ChallengeWindowOpen();
            if (_openDuels != 0) revert DuelsOpen(_openDuels);
        }
        // Whatever the parent did, this proposer was not proven wrong.
        credit[a.creator] += bond;
        _end(parent);
        return parent;
    }

    // --- duels ---

    /// @inheritdoc IOutputGame
    function challenge() external payable returns (uint256 duel) {
        _requireInProgress();
        if (msg.value != bond) revert IncorrectBondAmount();
        if (block.timestamp > _challengeUntil()) revert ChallengeWindowClosed();
        GameArguments memory a = _arguments();
        (uint256 number, uint256 index) = abi.decode(a.extraData, (uint256, uint256));
        if (_parentLost(a.factory, index)) revert ParentLost();
        (uint64 low, bytes32 lowRoot) = _start(a.factory, index);
        duel = _duels.length;
        _openDuels += 1;
        _duels.push(
            Duel({
                challenger: msg.sender,
                phase: number - low == 1 ? DuelPhase.Decision : DuelPhase.Proposer,
                low: low,
                high: uint64(number),
                movedAt: uint64(block.timestamp),
                proposerClock: clock,
                challengerClock: clock,
                lowRoot: lowRoot,
                highRoot: a.rootClaim,
                middleRoot: 0
            })
        );
        emit DuelOpened(duel, msg.sender);
    }

    /// @inheritdoc IOutputGame
    function claimMidpoint(uint256 duel, bytes32 root) external {
        Duel storage d = _turn(duel, DuelPhase.Proposer);
        if (msg.sender != gameCreator()) revert NotYourMove();
        d.proposerClock = _tick(d.proposerClock, d.movedAt);
        d.movedAt = uint64(block.timestamp);
        d.middleRoot = root;
        d.phase = DuelPhase.Challenger;
        emit MidpointClaimed(duel, _middle(d), root);
    }

    /// @inheritdoc IOutputGame
    function agree(uint256 duel) external {
        Duel storage d = _answer(duel);
        d.low = _middle(d);
        d.lowRoot = d.middleRoot;
        _next(duel, d, true);
    }

    /// @inheritdoc IOutputGame
    function disagree(uint256 duel) external {
        Duel storage d = _answer(duel);
        d.high = _middle(d);
        d.highRoot = d.middleRoot;
        _next(duel, d, false);
    }

    /// @inheritdoc IOutputGame
    function decide(uint256 duel, bool proposerIsRight) external {
        Duel storage d = _turn(duel, DuelPhase.Decision);
        if (msg.sender != guardian) revert NotYourMove();
        _tick(decisionWindow, d.movedAt);
        _endDuel(duel, d, proposerIsRight);
    }

    /// @inheritdoc IOutputGame
    function timeout(uint256 duel) external {
        _requireInProgress();
        Duel storage d = _duels[duel];
        DuelPhase phase = d.phase;
        uint32 time;
        if (phase == DuelPhase.Proposer) time = d.proposerClock;
        else if (phase == DuelPhase.Challenger) time = d.challengerClock;
        else if (phase == DuelPhase.Decision) time = decisionWindow;
        else revert WrongPhase(phase);
        if (block.timestamp - d.movedAt <= time) revert ClockRunning();
        _endDuel(duel, d, phase == DuelPhase.Challenger);
    }

    /// @inheritdoc IOutputGame
    function refund(uint256 duel) external {
        if (status == GameStatus.IN_PROGRESS) revert GameInProgress();
        Duel storage d = _duels[duel];
        if (d.phase == DuelPhase.None || d.phase > DuelPhase.Decision) revert WrongPhase(d.phase);
        d.phase = DuelPhase.Void;
        _openDuels -= 1;
        credit[d.challenger] += bond;
        emit DuelEnded(duel, DuelPhase.Void);
    }

    /// @inheritdoc IOutputGame
    function withdraw(address payable to) external returns (uint256 amount) {
        amount = credit[msg.sender];
        if (amount == 0) revert NothingHeld();
        credit[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, to, amount);
        Address.sendValue(to, amount);
    }

    // --- views ---

    /// @inheritdoc IDisputeGame
    function gameCreator() public view returns (address) {
        return _arguments().creator;
    }

    /// @inheritdoc IDisputeGame
    function rootClaim() public view returns (bytes32) {
        return _arguments().rootClaim;
    }

    /// @inheritdoc IDisputeGame
    function l1Head() external view returns (bytes32) {
        return _arguments().l1Head;
    }

    /// @inheritdoc IDisputeGame
    function extraData() public view returns (bytes memory) {
        return _arguments().extraData;
    }

    /// @inheritdoc IDisputeGame
    function gameData() external view returns (uint32, bytes32, bytes memory) {
        return (gameType, rootClaim(), extraData());
    }

    /// @inheritdoc IDisputeGame
    function l2BlockNumber() public view returns (uint256 number) {
        (number,) = abi.decode(extraData(), (uint256, uint256));
    }

    /// @inheritdoc IDisputeGame
    function l2SequenceNumber() external view returns (uint256) {
        return l2BlockNumber();
    }

    /// @notice Number of the parent game, or NO_PARENT.
    function parentIndex() public view returns (uint256 index) {
        (, index) = abi.decode(extraData(), (uint256, uint256));
    }

    /// @notice The block that the claim builds on.
    function startingBlockNumber() external view returns (uint256 number) {
        (number,) = _start(_arguments().factory, parentIndex());
    }

    /// @notice Its output root.
    function startingRootHash() external view returns (bytes32 root) {
        (, root) = _start(_arguments().factory, parentIndex());
    }

    /// @inheritdoc IOutputGame
    function duels(uint256 duel) external view returns (Duel memory) {
        return _duels[duel];
    }

    /// @inheritdoc IOutputGame
    function duelCount() external view returns (uint256) {
        return _duels.length;
    }

    /// @inheritdoc IOutputGame
    function openDuels() external view returns (uint256) {
        return _openDuels;
    }

    /// @inheritdoc IOutputGame
    function midpoint(uint256 duel) external view returns (uint256) {
        return _middle(_duels[duel]);
    }

    /// @notice Version of the rules.
    function version() external pure returns (string memory) {
        return "1.0.0";
    }

    // --- inside ---

    function _arguments() private view returns (GameArguments memory) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (GameArguments));
    }

    function _requireInProgress() private view {
        if (status != GameStatus.IN_PROGRESS) revert GameNotInProgress();
    }

    function _challengeUntil() private view returns (uint256) {
        return uint256(createdAt) + challengeWindow;
    }

    function _parent(address factory, uint256 index) private view returns (IDisputeGame game) {
        (,, game) = IDisputeGameFactory(factory).gameAtIndex(index);
    }

    /// @dev The anchor is as good as a game that stood.
    function _parentStatus(address factory, uint256 index) private view returns (GameStatus) {
        return index == NO_PARENT ? GameStatus.DEFENDER_WINS : _parent(factory, index).status();
    }

    function _parentLost(address factory, uint256 index) private view returns (bool) {
        return _parentStatus(factory, index) == GameStatus.CHALLENGER_WINS;
    }

    function _start(address factory, uint256 index) private view returns (uint64, bytes32) {
        if (index == NO_PARENT) return (anchorBlock, anchorRoot);
        IDisputeGame game = _parent(factory, index);
        return (uint64(game.l2BlockNumber()), game.rootClaim());
    }

    function _turn(uint256 duel, DuelPhase phase) private view returns (Duel storage d) {
        _requireInProgress();
        d = _duels[duel];
        if (d.phase != phase) revert WrongPhase(d.phase);
    }

    function _answer(uint256 duel) private returns (Duel storage d) {
        d = _turn(duel, DuelPhase.Challenger);
        if (msg.sender != d.challenger) revert NotYourMove();
        d.challengerClock = _tick(d.challengerClock, d.movedAt);
        d.movedAt = uint64(block.timestamp);
    }

    function _next(uint256 duel, Duel storage d, bool agrees) private {
        d.middleRoot = 0;
        d.phase = d.high - d.low == 1 ? DuelPhase.Decision : DuelPhase.Proposer;
        emit MidpointAnswered(duel, agrees, d.low, d.high);
    }

    function _middle(Duel storage d) private view returns (uint64) {
        return d.low + (d.high - d.low) / 2;
    }

    /// @dev What is left of `time` now, by a clock that started at `since`.
    function _tick(uint32 time, uint64 since) private view returns (uint32) {
        uint256 passed = block.timestamp - since;
        if (passed > time) revert ClockExpired();
        return time - uint32(passed);
    }

    function _endDuel(uint256 duel, Duel storage d, bool proposerWon) private {
        _openDuels -= 1;
        if (proposerWon) {
            d.phase = DuelPhase.ProposerWon;
            credit[gameCreator()] += bond;
            emit DuelEnded(duel, DuelPhase.ProposerWon);
            return;
        }
        d.phase = DuelPhase.ChallengerWon;
        emit DuelEnded(duel, DuelPhase.ChallengerWon);
        GameArguments memory a = _arguments();
        (, uint256 index) = abi.decode(a.extraData, (uint256, uint256));
        if (_parentLost(a.factory, index)) {
            // Nobody defends a claim on a fallen parent, so nobody is punished for not doing it.
            credit[a.creator] += bond;
            credit[d.challenger] += bond;
            _end(GameStatus.CHALLENGER_WINS);
            return;
        }
        uint256 burned = uint256(bond) * burnedBps / BPS;
        credit[d.challenger] += 2 * uint256(bond) - burned;
        _end(GameStatus.CHALLENGER_WINS);
        if (burned > 0) Address.sendValue(payable(Payouts.BURN), burned);
    }

    function _end(GameStatus how) private {
        status = how;
        resolvedAt = uint64(block.timestamp);
        emit Resolved(how);
    }
}
