// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeGame} from "./IDisputeGame.sol";

/// @notice What a duel waits for, or how it ended.
enum DuelPhase {
    None,
    /// The proposer must claim the root in the middle.
    Proposer,
    /// The challenger must answer to it.
    Challenger,
    /// One block is left; the guardian must decide.
    Decision,
    ProposerWon,
    ChallengerWon,
    /// The game ended before the duel did; the challenger has the bond back.
    Void
}

/// @notice One challenger against the proposer.
struct Duel {
    address challenger;
    DuelPhase phase;
    /// The last block whose root both accept.
    uint64 low;
    /// The first block whose root they dispute.
    uint64 high;
    uint64 movedAt;
    uint32 proposerClock;
    uint32 challengerClock;
    bytes32 lowRoot;
    bytes32 highRoot;
    /// The proposer's root in the middle, while the challenger must answer.
    bytes32 middleRoot;
}

/// @title Bisection over output roots
/// @notice The claim is "the output root of L2 block N is R", on top of a parent game's claim or of
/// the anchor. Whoever disagrees opens a duel with a bond. Proposer and challenger halve the range of
/// blocks until one block is left whose start both accept and whose end they dispute; then the guardian
/// decides, until a proof of a single block can. Each side has a clock for all its moves of a duel.
///
/// Any number of duels run at once: the claim stands only if the proposer wins each, and falls with
/// the first that is lost, so a friendly challenger who loses on purpose shields nothing. A game whose
/// parent falls, falls too, and all bonds in it go back.
interface IOutputGame is IDisputeGame {
    /// @notice Somebody challenges the claim.
    event DuelOpened(uint256 indexed duel, address indexed challenger);
    /// @notice The proposer claims the root of a block between the ends.
    event MidpointClaimed(uint256 indexed duel, uint256 indexed l2BlockNumber, bytes32 root);
    /// @notice The challenger answered; the duel goes on between `low` and `high`.
    event MidpointAnswered(uint256 indexed duel, bool agrees, uint256 low, uint256 high);
    /// @notice A duel is over.
    event DuelEnded(uint256 indexed duel, DuelPhase indexed how);
    /// @notice Coins were taken out.
    event CreditWithdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice The factory initialises a game, once.
    error NotFactory();
    error AlreadyInitialised();
    /// @notice The extra data is not `abi.encode(l2BlockNumber, parentIndex)` of a block after the parent.
    error BadExtraData();
    /// @notice The parent game has fallen.
    error ParentLost();
    /// @notice The parent game is not over.
    error ParentGameNotResolved();
    /// @notice The game is over.
    error GameNotInProgress();
    /// @notice The game is not over.
    error GameInProgress();
    /// @notice The sent coins are not the bond.
    error IncorrectBondAmount();
    /// @notice No more challenges are taken.
    error ChallengeWindowClosed();
    /// @notice Challenges are still taken.
    error ChallengeWindowOpen();
    /// @notice A duel goes on.
    error DuelsOpen(uint256 count);
    /// @notice The duel waits for something else.
    error WrongPhase(DuelPhase phase);
    /// @notice It is somebody else's move.
    error NotYourMove();
    /// @notice The time for this move is over.
    error ClockExpired();
    /// @notice The time for this move is not over.
    error ClockRunning();
    /// @notice Nothing to take out.
    error NothingHeld();

    /// @notice Opens a duel with a bond as high as the proposer's. Anybody, within the window.
    function challenge() external payable returns (uint256 duel);

    /// @notice The proposer's move: the output root in the middle of the range.
    function claimMidpoint(uint256 duel, bytes32 root) external;

    /// @notice The challenger's move: the middle root is right, so the dispute is above it.
    function agree(uint256 duel) external;

    /// @notice The challenger's move: the middle root is wrong, so the dispute is below it.
    function disagree(uint256 duel) external;

    /// @notice The guardian's word on the last block: whether its disputed root is right.
    function decide(uint256 duel, bool proposerIsRight) external;

    /// @notice Ends a duel whose side to move let its time pass. The guardian's silence counts for the
    /// challenger. Anybody.
    function timeout(uint256 duel) external;

    /// @notice Gives the bond of an unfinished duel back, once the game is over. Anybody.
    function refund(uint256 duel) external;

    /// @notice Pays the caller's credit to `to`.
    function withdraw(address payable to) external returns (uint256 amount);

    /// @notice The duel with this number; numbers start at zero.
    function duels(uint256 duel) external view returns (Duel memory);

    /// @notice How many duels were opened.
    function duelCount() external view returns (uint256);

    /// @notice How many of them go on.
    function openDuels() external view returns (uint256);

    /// @notice The block in the middle of a duel's range.
    function midpoint(uint256 duel) external view returns (uint256);

    /// @notice What `withdraw` would pay.
    function credit(address account) external view returns (uint256);
}
