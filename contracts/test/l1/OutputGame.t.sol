// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IDisputeGame} from "../../src/interfaces/IDisputeGame.sol";
import {GameSearchResult, IDisputeGameFactory} from "../../src/interfaces/IDisputeGameFactory.sol";
import {Duel, DuelPhase, IOutputGame} from "../../src/interfaces/IOutputGame.sol";
import {GameSettings, OutputGame} from "../../src/l1/OutputGame.sol";
import {Payouts} from "../../src/libraries/Payouts.sol";
import {GameStatus} from "../../src/types/Rollup.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice Claims, duels and bonds; and the factory that lists them.
contract OutputGameTest is Rollup {
    address internal griefer = address(0x6F1E);
    uint256 internal constant BURNED = BOND * BURNED_BPS / 10_000;

    function setUp() public {
        deployRollup();
        vm.deal(griefer, 1000 ether);
    }

    /// @dev What L2 is.
    function truth(uint256 number) internal pure returns (bytes32) {
        return number == ANCHOR_BLOCK ? ANCHOR_ROOT : keccak256(abi.encode("true", number));
    }

    function lie(uint256 number) internal pure returns (bytes32) {
        return keccak256(abi.encode("lie", number));
    }

    function challengeBy(OutputGame game, address who) internal returns (uint256) {
        vm.prank(who);
        return game.challenge{value: BOND}();
    }

    function claim(OutputGame game, uint256 duel, bytes32 root) internal {
        vm.prank(proposer);
        game.claimMidpoint(duel, root);
    }

    function answer(OutputGame game, uint256 duel, bool yes_) internal {
        address who = game.duels(duel).challenger;
        vm.prank(who);
        if (yes_) game.agree(duel);
        else game.disagree(duel);
    }

    function decideTruly(OutputGame game, uint256 duel) internal {
        Duel memory d = game.duels(duel);
        vm.prank(guardian);
        game.decide(duel, d.highRoot == truth(d.high));
    }

    function status(OutputGame game, GameStatus want) internal view {
        eq(uint256(game.status()), uint256(want), "status");
    }

    // --- who wins ---

    /// @dev The liar's roots are true below `from` and false, or random, above.
    function testLyingProposerLoses(uint256 number, uint256 from, uint256 seed) public {
        number = bound(number, 1, type(uint64).max);
        from = bound(from, 1, number);
        OutputGame game = propose(lie(number), number, NO_PARENT);
        challengeBy(game, challenger);
        uint256 rounds = 0;
        while (game.duels(0).phase == DuelPhase.Proposer) {
            uint256 middle = game.midpoint(0);
            bool honest = seed == 0 ? middle < from : uint256(keccak256(abi.encode(seed, middle))) % 2 == 0;
            bytes32 root = honest ? truth(middle) : lie(middle);
            claim(game, 0, root);
            answer(game, 0, root == truth(middle));
            ++rounds;
        }
        le(rounds, 64, "rounds");
        decideTruly(game, 0);
        status(game, GameStatus.CHALLENGER_WINS);
        eq(game.credit(challenger), 2 * BOND - BURNED, "credit");
        eq(Payouts.BURN.balance, BURNED, "burned");
        eq(address(game).balance, game.credit(challenger), "nothing else is left");
        vm.prank(challenger);
        game.withdraw(payable(challenger));
        eq(challenger.balance, 1000 ether + BOND - BURNED, "paid");
    }

    function testHonestProposerWins(uint256 number, uint256 seed) public {
        number = bound(number, 1, type(uint64).max);
        OutputGame game = propose(truth(number), number, NO_PARENT);
        challengeBy(game, griefer);
        while (game.duels(0).phase == DuelPhase.Proposer) {
            uint256 middle = game.midpoint(0);
            claim(game, 0, truth(middle));
            answer(game, 0, uint256(keccak256(abi.encode(seed, middle))) % 2 == 0);
        }
        decideTruly(game, 0);
        status(game, GameStatus.IN_PROGRESS);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        vm.expectEmit();
        emit IDisputeGame.Resolved(GameStatus.DEFENDER_WINS);
        game.resolve();
        status(game, GameStatus.DEFENDER_WINS);
        eq(game.credit(proposer), 2 * BOND, "both bonds");
        vm.prank(proposer);
        game.withdraw(payable(proposer));
        eq(proposer.balance, 1000 ether + BOND, "paid");
        eq(address(game).balance, 0, "empty");
    }

    function testFriendlyChallengerShieldsNothing() public {
        OutputGame game = propose(lie(2), 2, NO_PARENT);
        challengeBy(game, proposer);
        challengeBy(game, challenger);
        // The friend gives up.
        claim(game, 0, lie(1));
        vm.warp(block.timestamp + CLOCK + 1);
        claimLate(game, 1);
        game.timeout(0);
        status(game, GameStatus.IN_PROGRESS);
        game.timeout(1);
        status(game, GameStatus.CHALLENGER_WINS);
        eq(game.credit(challenger), 2 * BOND - BURNED, "challenger");
        eq(game.credit(proposer), BOND, "the friend's bond");
    }

    function claimLate(OutputGame game, uint256 duel) internal {
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.ClockExpired.selector);
        game.claimMidpoint(duel, truth(1));
    }

    function testLosingToAFriendCosts() public {
        OutputGame game = propose(lie(1), 1, NO_PARENT);
        challengeBy(game, proposer);
        challengeBy(game, challenger);
        vm.warp(block.timestamp + DECISION_WINDOW + 1);
        game.timeout(0);
        eq(game.credit(proposer), 2 * BOND - BURNED, "a part is burned");
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.ChallengerWon));
        game.refund(0);
        game.refund(1);
        eq(game.credit(challenger), BOND, "refunded");
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.Void));
        game.refund(1);
        eq(address(game).balance, 3 * BOND - BURNED, "conserved");
    }

    // --- clocks ---

    function testClocksRunAcrossMoves() public {
        OutputGame game = propose(truth(8), 8, NO_PARENT);
        challengeBy(game, griefer);
        vm.warp(block.timestamp + 2 * CLOCK / 3);
        claim(game, 0, truth(4));
        eq(game.duels(0).proposerClock, CLOCK - 2 * CLOCK / 3, "spent");
        vm.warp(block.timestamp + CLOCK);
        vm.expectRevert(IOutputGame.ClockRunning.selector);
        game.timeout(0);
        answer(game, 0, false);
        eq(game.duels(0).challengerClock, 0, "all spent");
        vm.warp(block.timestamp + CLOCK - 2 * CLOCK / 3 + 1);
        game.timeout(0);
        status(game, GameStatus.CHALLENGER_WINS);
    }

    function testSilentChallengerLoses() public {
        OutputGame game = propose(truth(8), 8, NO_PARENT);
        challengeBy(game, griefer);
        claim(game, 0, truth(4));
        vm.warp(block.timestamp + CLOCK + 1);
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.ClockExpired.selector);
        game.agree(0);
        game.timeout(0);
        eq(uint256(game.duels(0).phase), uint256(DuelPhase.ProposerWon), "phase");
        eq(game.openDuels(), 0, "none left");
        eq(game.credit(proposer), BOND, "the griefer's bond");
    }

    function testSilentGuardianCountsForTheChallenger() public {
        OutputGame game = propose(truth(1), 1, NO_PARENT);
        challengeBy(game, challenger);
        eq(uint256(game.duels(0).phase), uint256(DuelPhase.Decision), "one block");
        vm.warp(block.timestamp + DECISION_WINDOW);
        vm.expectRevert(IOutputGame.ClockRunning.selector);
        game.timeout(0);
        vm.warp(block.timestamp + 1);
        vm.prank(guardian);
        vm.expectRevert(IOutputGame.ClockExpired.selector);
        game.decide(0, true);
        game.timeout(0);
        status(game, GameStatus.CHALLENGER_WINS);
    }

    function testWindow() public {
        OutputGame game = propose(truth(2), 2, NO_PARENT);
        vm.warp(block.timestamp + CHALLENGE_WINDOW);
        vm.expectRevert(IOutputGame.ChallengeWindowOpen.selector);
        game.resolve();
        challengeBy(game, griefer);
        vm.warp(block.timestamp + 1);
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.ChallengeWindowClosed.selector);
        game.challenge{value: BOND}();
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.DuelsOpen.selector, 1));
        game.resolve();
    }

    // --- parents ---

    function testChildOfALie() public {
        OutputGame parent = propose(lie(4), 4, NO_PARENT);
        OutputGame child = propose(truth(9), 9, 0);
        eq(child.startingBlockNumber(), 4, "start");
        eq(child.startingRootHash(), lie(4), "root");
        eq(child.parentIndex(), 0, "parent");
        challengeBy(child, griefer);
        vm.expectRevert(IOutputGame.ParentGameNotResolved.selector);
        child.resolve();
        challengeBy(parent, challenger);
        vm.warp(block.timestamp + CLOCK + 1);
        parent.timeout(0);
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.ParentLost.selector);
        child.challenge{value: BOND}();
        child.resolve();
        status(child, GameStatus.CHALLENGER_WINS);
        child.refund(0);
        eq(child.credit(proposer), BOND, "proposer");
        eq(child.credit(griefer), BOND, "challenger");
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.ParentLost.selector);
        factory.create{value: BOND}(GAME, truth(10), abi.encode(10, 0));
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.ParentLost.selector);
        factory.create{value: BOND}(GAME, truth(10), abi.encode(10, 1));
    }

    function testDuelEndsAfterParentFell() public {
        OutputGame parent = propose(lie(4), 4, NO_PARENT);
        OutputGame child = propose(truth(9), 9, 0);
        challengeBy(child, griefer);
        challengeBy(parent, challenger);
        vm.warp(block.timestamp + CLOCK + 1);
        parent.timeout(0);
        child.timeout(0);
        status(child, GameStatus.CHALLENGER_WINS);
        eq(child.credit(proposer), BOND, "no punishment");
        eq(child.credit(griefer), BOND, "no reward");
    }

    function testChain() public {
        OutputGame first = propose(truth(4), 4, NO_PARENT);
        OutputGame second = propose(truth(9), 9, 0);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        vm.expectRevert(IOutputGame.ParentGameNotResolved.selector);
        second.resolve();
        first.resolve();
        second.resolve();
        status(second, GameStatus.DEFENDER_WINS);
        OutputGame third = propose(truth(11), 11, 1);
        challengeBy(third, griefer);
        eq(third.duels(0).low, 9, "low");
        eq(third.duels(0).lowRoot, truth(9), "low root");
        eq(third.duels(0).high, 11, "high");
    }

    // --- reverts ---

    function testWrongMoves() public {
        OutputGame game = propose(truth(4), 4, NO_PARENT);
        vm.expectRevert(IOutputGame.GameInProgress.selector);
        game.refund(0);
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.IncorrectBondAmount.selector);
        game.challenge{value: BOND - 1}();
        challengeBy(game, griefer);
        vm.expectRevert(IOutputGame.NotYourMove.selector);
        game.claimMidpoint(0, "x");
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.Proposer));
        game.agree(0);
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.Proposer));
        game.decide(0, true);
        claim(game, 0, truth(2));
        vm.prank(proposer);
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.Challenger));
        game.claimMidpoint(0, "x");
        vm.expectRevert(IOutputGame.NotYourMove.selector);
        game.disagree(0);
        answer(game, 0, false);
        claim(game, 0, truth(1));
        answer(game, 0, true);
        vm.expectRevert(IOutputGame.NotYourMove.selector);
        game.decide(0, false);
        decideTruly(game, 0);
        vm.expectRevert(abi.encodeWithSelector(IOutputGame.WrongPhase.selector, DuelPhase.ProposerWon));
        game.timeout(0);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        game.resolve();
        vm.expectRevert(IOutputGame.GameNotInProgress.selector);
        game.resolve();
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.GameNotInProgress.selector);
        game.challenge{value: BOND}();
        vm.expectRevert(IOutputGame.GameNotInProgress.selector);
        game.timeout(0);
        vm.expectRevert(IOutputGame.NothingHeld.selector);
        game.withdraw(payable(address(this)));
    }

    function testBadClaims() public {
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.BadExtraData.selector);
        factory.create{value: BOND}(GAME, truth(1), abi.encode(1));
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.BadExtraData.selector);
        factory.create{value: BOND}(GAME, truth(0), abi.encode(ANCHOR_BLOCK, NO_PARENT));
        vm.prank(proposer);
        vm.expectRevert(IOutputGame.BadExtraData.selector);
        factory.create{value: BOND}(GAME, truth(1), abi.encode(uint256(1) << 64, NO_PARENT));
        vm.prank(proposer);
        vm.expectRevert();
        factory.create{value: BOND}(GAME, truth(1), abi.encode(1, 0));
        vm.prank(proposer);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGameFactory.NoImplementation.selector, 1));
        factory.create{value: BOND}(1, truth(1), abi.encode(1, NO_PARENT));
        vm.prank(proposer);
        vm.expectRevert(IDisputeGameFactory.IncorrectBondAmount.selector);
        factory.create{value: BOND - 1}(GAME, truth(1), abi.encode(1, NO_PARENT));
        OutputGame game = propose(truth(1), 1, NO_PARENT);
        bytes memory extra = game.extraData();
        bytes32 uuid = factory.getGameUUID(GAME, truth(1), extra);
        vm.prank(proposer);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGameFactory.GameAlreadyExists.selector, uuid));
        factory.create{value: BOND}(GAME, truth(1), extra);
        vm.expectRevert(IOutputGame.AlreadyInitialised.selector);
        game.initialize();
        vm.expectRevert(IOutputGame.AlreadyInitialised.selector);
        rules.initialize();
        vm.expectRevert(IOutputGame.GameNotInProgress.selector);
        rules.challenge();
    }

    function testBadSettings() public {
        GameSettings memory s = gameSettings();
        s.burnedBps = 10_001;
        vm.expectRevert(OutputGame.BadSettings.selector);
        new OutputGame(s);
        s = gameSettings();
        s.guardian = address(0);
        vm.expectRevert(OutputGame.BadSettings.selector);
        new OutputGame(s);
    }

    // --- views and factory ---

    function testGameViews() public {
        vm.expectRevert();
        factory.gameAtIndex(0);
        OutputGame game = propose(truth(5), 5, NO_PARENT);
        bytes memory extra = abi.encode(5, NO_PARENT);
        eq(game.gameType(), 20_304, "type");
        eq(game.rootClaim(), truth(5), "root");
        eq(game.gameCreator(), proposer, "creator");
        eq(game.l2BlockNumber(), 5, "number");
        eq(game.l2SequenceNumber(), 5, "sequence number");
        eq(game.l1Head(), blockhash(block.number - 1), "head");
        eq(game.createdAt(), block.timestamp, "created");
        eq(game.resolvedAt(), 0, "not resolved");
        eq(game.startingBlockNumber(), ANCHOR_BLOCK, "anchor");
        eq(game.startingRootHash(), ANCHOR_ROOT, "anchor root");
        (uint32 kind, bytes32 root, bytes memory data) = game.gameData();
        eq(kind, GAME, "data type");
        eq(root, truth(5), "data root");
        eq(keccak256(data), keccak256(extra), "extra data");
        (IDisputeGame found, uint64 time) = factory.games(GAME, truth(5), extra);
        eq(address(found), address(game), "found");
        eq(time, block.timestamp, "at");
        (found, time) = factory.games(GAME, truth(6), extra);
        eq(address(found), address(0), "none");
        (kind, time, found) = factory.gameAtIndex(0);
        eq(address(found), address(game), "listed");
        eq(kind, GAME, "listed type");
        eq(address(factory.gameImpls(GAME)), address(rules), "implementation");
        eq(address(factory.gameImpls(1)), address(0), "no other");
        eq(factory.initBonds(1), 0, "no other bond");
        yes(bytes(game.version()).length > 0 && bytes(factory.version()).length > 0, "versions");
    }

    function testFindLatestGames() public {
        eq(factory.findLatestGames(GAME, 0, 0).length, 0, "empty");
        for (uint256 i = 1; i <= 5; ++i) {
            propose(truth(i), i, NO_PARENT);
        }
        GameSearchResult[] memory found = factory.findLatestGames(GAME, 4, 3);
        eq(found.length, 3, "three");
        eq(found[0].index, 4, "newest first");
        eq(found[0].rootClaim, truth(5), "root");
        eq(found[2].index, 2, "third");
        eq(found[2].metadata.proxy(), address(gameAt(2)), "proxy in the metadata");
        eq(found[2].metadata.gameType(), GAME, "type in the metadata");
        eq(found[2].metadata.timestamp(), found[2].timestamp, "time in the metadata");
        eq(keccak256(found[2].extraData), keccak256(abi.encode(3, NO_PARENT)), "extra data");
        eq(factory.findLatestGames(GAME, 1, 100).length, 2, "no more");
        eq(factory.findLatestGames(GAME, 5, 1).length, 0, "past the end");
        eq(factory.findLatestGames(1, 4, 1).length, 0, "other type");
    }

    function testSetInitBond() public {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        factory.setInitBond(GAME, 1);
        vm.prank(governor);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGameFactory.NoImplementation.selector, 1));
        factory.setInitBond(1, 1);
        OutputGame old = propose(truth(1), 1, NO_PARENT);
        vm.prank(governor);
        factory.setInitBond(GAME, 1 ether);
        OutputGame game = propose(truth(2), 2, NO_PARENT);
        eq(game.bond(), 1 ether, "new bond");
        challengeBy(old, griefer);
        vm.prank(griefer);
        vm.expectRevert(IOutputGame.IncorrectBondAmount.selector);
        game.challenge{value: BOND}();
    }
}
