// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ChallengeStatus, DataAvailabilityChallenge} from "../../src/l1/DataAvailabilityChallenge.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice Challenges to unavailable data, and where the bonds go.
contract DataAvailabilityChallengeTest is Rollup {
    address internal resolver = address(0x4E5);

    function setUp() public {
        deployRollup();
    }

    function commitment(bytes memory data) internal pure returns (bytes memory) {
        return bytes.concat(hex"00", keccak256(data));
    }

    function challenged(bytes memory data) internal returns (bytes memory c) {
        c = commitment(data);
        vm.prank(challenger);
        availability.challenge{value: DA_BOND}(block.number, c);
    }

    function status(uint256 number, bytes memory c, ChallengeStatus want) internal view {
        eq(uint256(availability.getChallengeStatus(number, c)), uint256(want), "status");
    }

    function testChallenge() public {
        bytes memory c = commitment("data");
        status(block.number, c, ChallengeStatus.Uninitialized);
        vm.prank(challenger);
        availability.deposit{value: DA_BOND}();
        vm.prank(challenger);
        vm.expectEmit();
        emit DataAvailabilityChallenge.BalanceChanged(challenger, 0);
        vm.expectEmit();
        emit DataAvailabilityChallenge.ChallengeStatusChanged(block.number, c, ChallengeStatus.Active);
        availability.challenge(block.number, c);
        status(block.number, c, ChallengeStatus.Active);
        eq(availability.getChallenge(block.number, c).challenger, challenger, "challenger");
        eq(availability.getChallenge(block.number, c).lockedBond, DA_BOND, "bond");
        eq(availability.getChallenge(block.number, c).startBlock, block.number, "start");
        vm.prank(challenger);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeExists.selector);
        availability.challenge{value: DA_BOND}(block.number, c);
    }

    function testChallengeReverts() public {
        bytes memory c = commitment("data");
        vm.expectRevert(
            abi.encodeWithSelector(DataAvailabilityChallenge.BondTooLow.selector, DA_BOND - 1, DA_BOND)
        );
        availability.challenge{value: DA_BOND - 1}(block.number, c);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeWindowNotOpen.selector);
        availability.challenge{value: DA_BOND}(block.number + 1, c);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeWindowNotOpen.selector);
        availability.challenge{value: DA_BOND}(block.number - 101, c);
        availability.challenge{value: DA_BOND}(block.number - 100, c);
        vm.expectRevert(abi.encodeWithSelector(DataAvailabilityChallenge.UnknownCommitmentType.selector, 1));
        availability.challenge{value: DA_BOND}(block.number, bytes.concat(hex"01", keccak256("x")));
        vm.expectRevert(abi.encodeWithSelector(DataAvailabilityChallenge.UnknownCommitmentType.selector, 255));
        availability.challenge{value: DA_BOND}(block.number, "");
        vm.expectRevert(
            abi.encodeWithSelector(DataAvailabilityChallenge.InvalidCommitmentLength.selector, 0, 33, 34)
        );
        availability.challenge{value: DA_BOND}(block.number, bytes.concat(c, hex"00"));
    }

    /// @dev No wei appears or vanishes, whatever the fee, the length and the percentage.
    function testResolve(bytes memory data, uint256 fee, uint256 percentage) public {
        fee = bound(fee, 0, 300 gwei);
        percentage = bound(percentage, 0, 100);
        vm.prank(governor);
        availability.setResolverRefundPercentage(percentage);
        bytes memory c = challenged(data);
        vm.roll(block.number + 50);
        vm.fee(fee);
        uint256 burnedBefore = address(0).balance;
        vm.prank(resolver, resolver);
        vm.expectEmit();
        emit DataAvailabilityChallenge.ChallengeStatusChanged(1000, c, ChallengeStatus.Resolved);
        availability.resolve(1000, c, data);
        status(1000, c, ChallengeStatus.Resolved);
        uint256 cost = (72_925 + data.length * 16_640 / 1000) * fee;
        uint256 refund = cost * percentage / 100;
        if (refund > DA_BOND) refund = DA_BOND;
        eq(availability.balances(challenger), cost < DA_BOND ? DA_BOND - cost : 0, "challenger");
        eq(availability.balances(resolver), refund, "resolver");
        uint256 spent = cost < DA_BOND ? cost : DA_BOND;
        eq(address(0).balance - burnedBefore, spent - refund, "burned");
        eq(address(availability).balance, DA_BOND - (spent - refund), "kept");
        vm.prank(resolver, resolver);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeNotActive.selector);
        availability.resolve(1000, c, data);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeNotExpired.selector);
        availability.unlockBond(1000, c);
    }

    function testResolveReverts() public {
        bytes memory c = challenged("data");
        vm.prank(resolver, resolver);
        vm.expectRevert(
            abi.encodeWithSelector(
                DataAvailabilityChallenge.InvalidInputData.selector, commitment("other"), c
            )
        );
        availability.resolve(1000, c, "other");
        vm.prank(resolver, resolver);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeNotActive.selector);
        availability.resolve(999, c, "data");
        vm.expectRevert(DataAvailabilityChallenge.ChallengeNotExpired.selector);
        availability.unlockBond(1000, c);
        vm.roll(block.number + 51);
        status(1000, c, ChallengeStatus.Expired);
        vm.prank(resolver, resolver);
        vm.expectRevert(DataAvailabilityChallenge.ChallengeNotActive.selector);
        availability.resolve(1000, c, "data");
    }

    /// @dev Nodes read the calldata of the transaction: a contract in between would hide it from them.
    function testResolvesDirectlyOnly() public {
        bytes memory c = challenged("data");
        vm.prank(resolver, challenger);
        vm.expectRevert(DataAvailabilityChallenge.NotDirect.selector);
        availability.resolve(1000, c, "data");
        vm.etch(resolver, bytes.concat(hex"ef0100", bytes20(address(this))));
        vm.prank(resolver, resolver);
        vm.expectRevert(DataAvailabilityChallenge.NotDirect.selector);
        availability.resolve(1000, c, "data");
        status(1000, c, ChallengeStatus.Active);
    }

    function testExpire() public {
        bytes memory c = challenged("data");
        vm.roll(block.number + 51);
        availability.unlockBond(1000, c);
        availability.unlockBond(1000, c);
        eq(availability.balances(challenger), DA_BOND, "once");
        vm.prank(challenger);
        availability.withdraw();
        eq(challenger.balance, 1000 ether, "back");
        eq(address(availability).balance, 0, "empty");
    }

    function testOwner() public {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        availability.setBondSize(1);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        availability.setResolverRefundPercentage(1);
        vm.prank(governor);
        availability.setBondSize(1);
        eq(availability.bondSize(), 1, "bond");
        vm.prank(governor);
        vm.expectRevert(
            abi.encodeWithSelector(DataAvailabilityChallenge.InvalidResolverRefundPercentage.selector, 101)
        );
        availability.setResolverRefundPercentage(101);
        eq(availability.challengeWindow(), 100, "challenge window");
        eq(availability.resolveWindow(), 50, "resolve window");
        vm.prank(challenger);
        (bool ok,) = address(availability).call{value: 5}("");
        yes(ok, "receive");
        eq(availability.balances(challenger), 5, "deposited");
        yes(bytes(availability.version()).length > 0, "version");
    }
}
