// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batch, Evidence, Fault, IContributionAnchor} from "../src/interfaces/IContributionAnchor.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {Payouts} from "../src/libraries/Payouts.sol";
import {Batches} from "./utils/Batches.sol";
import {Trees} from "./utils/Trees.sol";

contract ContributionAnchorTest is Batches {
    address internal alice = address(0xA1);
    address internal bob = address(0xB0);
    address internal carol = address(0xCA);
    uint64 internal datanet;

    function setUp() public {
        deployNetwork();
        vm.deal(alice, 100 ether);
        vm.deal(bob, 100 ether);
        vm.prank(alice);
        datanet = datanets.create{value: 2 ether}("Rivers", "MIT", 0, "");
    }

    function anchored(address who, bytes32 a, bytes32 b) internal returns (Draft memory d) {
        d = draft(who, datanet, texts(a, b));
        anchor(d);
    }

    function refuse(bytes4 selector, Draft memory d, uint256 i) internal {
        vm.expectRevert(abi.encodeWithSelector(selector, d.id, uint64(i)));
    }

    function testAnchorLocksTheBond() public {
        Draft memory d = anchored(alice, "a", "b");
        (uint128 total, uint128 locked) = anchors.bondOf(alice);
        eq(total, 0.02 ether, "total");
        eq(locked, 0.02 ether, "locked");
        Batch memory b = anchors.batchOf(d.id);
        eq(b.submitter, alice, "submitter");
        eq(b.count, 2, "count");
        eq(b.commitBlock, 100, "commit block");
        eq(b.challengeUntil, block.timestamp + WINDOW, "window");
    }

    function testCommitRules() public {
        Draft memory d = draft(alice, datanet, texts("a", "b"));
        bytes32 commitment = keccak256(abi.encode(alice, datanet, contentsRoot(d), d.salt));
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.AlreadyCommitted.selector, commitment));
        anchors.commit(commitment);
        vm.prank(alice);
        anchors.depositBond{value: 1 ether}();
        vm.expectRevert(IContributionAnchor.SameBlock.selector);
        tryAnchor(d);
        vm.roll(block.number + 1);
        d.id = tryAnchor(d);
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.AlreadyAnchored.selector, d.id));
        tryAnchor(d);
        // Nobody else can use the commitment.
        d.submitter = bob;
        vm.expectRevert(
            abi.encodeWithSelector(
                IContributionAnchor.NotCommitted.selector,
                keccak256(abi.encode(bob, datanet, contentsRoot(d), d.salt))
            )
        );
        tryAnchor(d);
    }

    function testAnchorRefusals() public {
        Draft memory d = draft(alice, datanet, texts("a", "b"));
        vm.roll(block.number + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionAnchor.BondTooLow.selector, uint256(0.02 ether), uint256(0))
        );
        tryAnchor(d);
        vm.expectRevert(IContributionAnchor.EmptyBatch.selector);
        anchors.anchor(datanet, "root", "contents", 0, 1, 0, 0);
        vm.expectRevert(IContributionAnchor.EmptyBatch.selector);
        anchors.anchor(datanet, 0, "contents", 1, 1, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NoSuchDatanet.selector, uint64(9)));
        anchors.anchor(9, "root", "contents", 1, 1, 0, 0);
    }

    function testDuplicateLosesHalfToTheChallengerHalfBurned() public {
        Draft memory first = anchored(alice, "a", "b");
        Draft memory second = anchored(bob, "c", "a");
        vm.prank(carol);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 1));
        yes(anchors.isSlashed(second.id, 1), "slashed");
        (uint128 won,) = anchors.bondOf(carol);
        eq(won, 0.005 ether, "challenger's half");
        eq(Payouts.BURN.balance, 0.005 ether, "burned half");
        (uint128 total, uint128 locked) = anchors.bondOf(bob);
        eq(total, 0.01 ether, "bob's rest");
        eq(locked, 0.01 ether, "still locked");
        refuse(IContributionAnchor.AlreadySlashed.selector, second, 1);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 1));

        vm.warp(block.timestamp + WINDOW + 1);
        anchors.finalise(second.id);
        (, locked) = anchors.bondOf(bob);
        eq(locked, 0, "free");
        vm.prank(carol);
        anchors.withdrawBond(carol, won);
        eq(carol.balance, 0.005 ether, "paid out");
    }

    /// I7: only an earlier (commit block, batch, index) wins.
    function testTheLaterCannotAccuseTheEarlier() public {
        Draft memory first = anchored(alice, "a", "a");
        Draft memory second = anchored(bob, "c", "a");
        vm.expectRevert(IContributionAnchor.NotEarlier.selector);
        anchors.challengeDuplicate(evidence(second, 1), contentsProof(second, 1), evidence(first, 0));
        vm.expectRevert(IContributionAnchor.NotEarlier.selector);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(first, 0));
        vm.expectRevert(IContributionAnchor.NotEarlier.selector);
        anchors.challengeDuplicate(evidence(first, 1), contentsProof(first, 1), evidence(first, 0));
        // Within one batch the position decides.
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(first, 1));
    }

    /// Who committed first wins, even if the other one anchored first.
    function testCommitOrderBeatsAnchorOrder() public {
        Draft memory early = draft(alice, datanet, texts("a", "b"));
        vm.roll(block.number + 1);
        Draft memory late = draft(bob, datanet, texts("a", "c"));
        anchor(late);
        anchor(early);
        le(late.id, early.id, "anchored before");
        anchors.challengeDuplicate(evidence(early, 0), contentsProof(early, 0), evidence(late, 0));
    }

    function testDuplicateRefusals() public {
        Draft memory first = anchored(alice, "a", "b");
        Draft memory second = anchored(bob, "c", "a");
        vm.expectRevert(IContributionAnchor.NotDuplicate.selector);
        anchors.challengeDuplicate(evidence(first, 1), contentsProof(first, 1), evidence(second, 1));
        bytes32[] memory none = new bytes32[](0);
        refuse(IContributionAnchor.BadContentsProof.selector, first, 0);
        anchors.challengeDuplicate(evidence(first, 0), none, evidence(second, 1));
        Evidence memory shifted = evidence(second, 1);
        shifted.index = 0;
        refuse(IContributionAnchor.BadProof.selector, second, 0);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), shifted);
        vm.warp(block.timestamp + WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.BatchClosed.selector, second.id));
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 1));
    }

    function testOtherDatanetIsNoDuplicate() public {
        Draft memory first = anchored(alice, "a", "b");
        vm.prank(alice);
        datanet = datanets.create{value: 2 ether}("Lakes", "MIT", 0, "");
        Draft memory second = anchored(bob, "a", "c");
        vm.expectRevert(IContributionAnchor.NotDuplicate.selector);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 0));
    }

    /// A slashed leaf is no evidence against others.
    function testSlashedLeafAccusesNobody() public {
        Draft memory first = draft(alice, datanet, texts("a", "b"));
        resign(first, 0, 0xBAD);
        anchor(first);
        Draft memory second = anchored(bob, "a", "c");
        anchors.challengeSignature(evidence(first, 0));
        refuse(IContributionAnchor.AlreadySlashed.selector, first, 0);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 0));
    }

    /// An old commitment to something else gives no priority for a stolen text.
    function testStolenTextUnderAnOldCommitment() public {
        Draft memory thief = draft(bob, datanet, texts("noise", "x"));
        vm.roll(block.number + 1);
        Draft memory author = anchored(alice, "poem", "y");
        thief.items[0].contentRoot = "poem";
        resign(thief, 0, KEY);
        anchor(thief);
        refuse(IContributionAnchor.BadContentsProof.selector, thief, 0);
        anchors.challengeDuplicate(evidence(thief, 0), contentsProof(thief, 0), evidence(author, 0));

        vm.expectRevert(IContributionAnchor.NoFault.selector);
        anchors.challengeCommitment(evidence(thief, 1), Trees.word("x"), contentsProof(thief, 1));
        // An inner node cannot be shown as the committed leaf.
        bytes32[] memory none = new bytes32[](0);
        refuse(IContributionAnchor.BadContentsProof.selector, thief, 0);
        anchors.challengeCommitment(evidence(thief, 0), contentsRoot(thief), none);
        anchors.challengeCommitment(evidence(thief, 0), Trees.word("noise"), contentsProof(thief, 0));
        yes(anchors.isSlashed(thief.id, 0), "slashed");
    }

    function testBadSignature() public {
        Draft memory d = draft(alice, datanet, texts("a", "b"));
        resign(d, 1, 0xBAD);
        anchor(d);
        vm.expectRevert(IContributionAnchor.NoFault.selector);
        anchors.challengeSignature(evidence(d, 0));
        vm.expectEmit();
        emit IContributionAnchor.ContributionSlashed(
            d.id, 1, address(this), Fault.BadSignature, vm.addr(KEY + 1), 0.005 ether, 0.005 ether
        );
        anchors.challengeSignature(evidence(d, 1));
    }

    /// The twin of a signature (n - s, other v) recovers to the same key, and is refused.
    function testHighSIsABadSignature() public {
        Draft memory d = draft(alice, datanet, texts("a", "b"));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, anchors.contributionHash(d.items[0]));
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        d.signatures[0] = bytes.concat(r, bytes32(order - uint256(s)), bytes1(v == 27 ? 28 : 27));
        anchor(d);
        anchors.challengeSignature(evidence(d, 0));
        yes(anchors.isSlashed(d.id, 0), "slashed");
    }

    function testWrongContext(uint8 which) public {
        Draft memory d = draft(alice, datanet, texts("a", "b"));
        if (which % 4 == 0) d.items[0].chainId += 1;
        else if (which % 4 == 1) d.items[0].datanet += 1;
        else if (which % 4 == 2) d.items[0].commitBlock -= 1;
        else d.items[0].version = 1;
        resign(d, 0, KEY);
        anchor(d);
        anchors.challengeSignature(evidence(d, 0));
        yes(anchors.isSlashed(d.id, 0), "slashed");
    }

    function testFinaliseOnceAndOnlyAfterTheWindow() public {
        Draft memory d = anchored(alice, "a", "b");
        vm.expectRevert(
            abi.encodeWithSelector(
                IContributionAnchor.BatchOpen.selector, d.id, uint64(block.timestamp + WINDOW)
            )
        );
        anchors.finalise(d.id);
        vm.warp(block.timestamp + WINDOW + 1);
        anchors.finalise(d.id);
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.BatchClosed.selector, d.id));
        anchors.finalise(d.id);
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.NoSuchBatch.selector, uint64(9)));
        anchors.finalise(9);
    }

    function testLockedBondStays() public {
        anchored(alice, "a", "b");
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IContributionAnchor.BondTooLow.selector, 1, 0));
        anchors.withdrawBond(alice, 1);
        vm.prank(alice);
        anchors.depositBond{value: 1 ether}();
        vm.prank(alice);
        anchors.withdrawBond(bob, 1 ether);
        eq(bob.balance, 101 ether, "to anybody");
    }
}
