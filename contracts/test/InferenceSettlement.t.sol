// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {InferenceSettlement} from "../src/InferenceSettlement.sol";
import {
    ClaimItem,
    DisableReason,
    IInferenceSettlement,
    Posting
} from "../src/interfaces/IInferenceSettlement.sol";
import {Payouts} from "../src/libraries/Payouts.sol";
import {EpochSettlement, Voucher} from "../src/types/Records.sol";
import {Network} from "./utils/Network.sol";
import {Trees} from "./utils/Trees.sol";

/// @notice A wallet that refuses coins.
contract Grump {
    InferenceSettlement internal immutable target;

    constructor(InferenceSettlement t) {
        target = t;
    }

    receive() external payable {
        revert("no");
    }

    function withdraw(address to) external {
        target.withdraw(to);
    }
}

/// @notice A wallet that burns all gas that it gets.
contract Glutton {
    receive() external payable {
        while (true) {}
    }
}

/// @notice An ERC-1271 wallet that accepts everything.
contract Yes {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }
}

contract InferenceSettlementTest is Network {
    uint256 internal constant KEY = 0xBEE;
    address internal payer = vm.addr(KEY);
    address internal alice = address(0xA1);
    address internal bob = address(0xB0);
    bytes32[] internal none;

    function setUp() public {
        deployNetwork();
        bondSettler();
        vm.deal(payer, 100 ether);
        vm.deal(bob, 100 ether);
        vm.prank(payer);
        settlement.deposit{value: 10 ether}();
    }

    // --- scenes ---

    /// One payer and one earner, so that both proofs are empty.
    function postSpent(uint128 fees, uint128 spent, uint128 earned) internal returns (uint64 epoch) {
        epoch = settlement.openEpoch();
        post(epochRecord(epoch, Trees.line(payer, spent), Trees.line(alice, earned), fees));
    }

    function pass() internal {
        vm.warp(block.timestamp + WINDOW + 1);
    }

    function finalised(uint128 fees, uint128 spent, uint128 earned) internal {
        postSpent(fees, spent, earned);
        pass();
        settlement.finalise();
    }

    function voucher(uint128 max) internal view returns (Voucher memory) {
        return Voucher(payer, settler, max, 1, 0);
    }

    function demand(uint64 epoch, uint128 cumulative) internal {
        vm.prank(bob);
        settlement.demandVoucher{value: DEMAND_BOND}(epoch, payer, cumulative, 0, none);
    }

    // --- deposits ---

    function testDeposits() public {
        vm.expectEmit();
        emit IInferenceSettlement.Deposited(payer, address(this), 2 ether, 12 ether);
        settlement.depositFor{value: 2 ether}(payer);
        eq(settlement.payerOf(payer).deposited, 12 ether, "deposited");
        vm.expectRevert(IInferenceSettlement.BadAmount.selector);
        settlement.deposit();
        vm.expectRevert(IInferenceSettlement.BadAmount.selector);
        settlement.depositFor{value: 1}(address(0));
    }

    // --- posting ---

    function testPostNeedsRoleAndBond() public {
        EpochSettlement memory s = epochRecord(1, 0, 0, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this))
        );
        settlement.post(s);
        vm.prank(settler);
        settlement.unbond(1);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceSettlement.BondTooLow.selector, SETTLER_BOND - 1, SETTLER_BOND)
        );
        post(s);
    }

    function refusePost(EpochSettlement memory s, string memory field) internal {
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BadSettlement.selector, field));
        post(s);
    }

    function testPostChecksTheRecord() public {
        EpochSettlement memory s = epochRecord(1, 0, 0, 0);
        s.version = 1;
        refusePost(s, "version");
        s = epochRecord(1, 0, 0, 0);
        s.chainId += 1;
        refusePost(s, "chainId");
        refusePost(epochRecord(2, 0, 0, 0), "epoch");
        s = epochRecord(1, 0, 0, 0);
        s.parameters = 0;
        refusePost(s, "parameters");
        s = epochRecord(1, 0, 0, 10 ether + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceSettlement.FeesExceedDeposits.selector, 10 ether + 1, 10 ether)
        );
        post(s);
    }

    function testPostStoresConstantSize() public {
        EpochSettlement memory s = epochRecord(1, "payers", "earners", 3 ether);
        vm.expectEmit();
        emit IInferenceSettlement.EpochPosted(
            1, settler, keccak256(abi.encode(s)), s, 3 ether, uint64(block.timestamp) + WINDOW, 1
        );
        post(s);
        Posting memory p = settlement.postingOf(1);
        eq(p.payerCumRoot, "payers", "payer root");
        eq(p.cumulativeFees, 3 ether, "fees");
        eq(p.settler, settler, "settler");
        eq(settlement.openEpoch(), 2, "open");
        eq(settlement.finalEpoch(), 0, "final");
    }

    function testFeesAccumulate() public {
        postSpent(3 ether, 3 ether, 3 ether);
        postSpent(4 ether, 7 ether, 7 ether);
        eq(settlement.postingOf(2).cumulativeFees, 7 ether, "sum");
        EpochSettlement memory s = epochRecord(3, 0, 0, 4 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceSettlement.FeesExceedDeposits.selector, 11 ether, 10 ether)
        );
        post(s);
    }

    function testPostFinalisesTheOldest() public {
        postSpent(1 ether, 1 ether, 1 ether);
        pass();
        postSpent(1 ether, 2 ether, 2 ether);
        eq(settlement.finalEpoch(), 1, "final");
    }

    function testTheRingFillsUpAndGoesRound() public {
        uint64 ring = settlement.RING();
        for (uint64 i = 1; i < ring; ++i) {
            postSpent(1, i, i);
        }
        EpochSettlement memory s = epochRecord(ring, 0, 0, 0);
        vm.expectRevert(IInferenceSettlement.TooManyPending.selector);
        post(s);
        pass();
        for (uint64 i = 1; i < ring; ++i) {
            settlement.finalise();
        }
        for (uint64 i = ring; i < 2 * ring; ++i) {
            finalised(1, i, i);
        }
        settlement.claim(alice, 2 * ring - 1, 0, none);
        eq(alice.balance, 2 * ring - 1, "claimed over all rounds");
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(1)));
        settlement.postingOf(1);
    }

    // --- finality ---

    function testFinaliseAfterTheWindowInOrder() public {
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(1)));
        settlement.finalise();
        postSpent(1 ether, 1 ether, 1 ether);
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.WindowOpen.selector, uint64(1)));
        settlement.finalise();
        vm.warp(block.timestamp + 1);
        settlement.finalise();
        eq(settlement.finalEpoch(), 1, "final");
    }

    // --- claims ---

    function testClaimPaysTheDifference() public {
        finalised(4 ether, 4 ether, 4 ether);
        vm.expectEmit();
        emit IInferenceSettlement.Claimed(alice, 1, 4 ether, 4 ether, address(this));
        settlement.claim(alice, 4 ether, 0, none);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.AlreadyClaimed.selector, alice, 4 ether));
        settlement.claim(alice, 4 ether, 0, none);
        finalised(3 ether, 7 ether, 7 ether);
        settlement.claim(alice, 7 ether, 0, none);
        eq(alice.balance, 7 ether, "all");
        eq(settlement.claimedOf(alice), 7 ether, "recorded");
    }

    function testClaimRefusals() public {
        vm.expectRevert(IInferenceSettlement.NothingFinal.selector);
        settlement.claim(alice, 1, 0, none);
        postSpent(4 ether, 4 ether, 4 ether);
        vm.expectRevert(IInferenceSettlement.NothingFinal.selector);
        settlement.claim(alice, 4 ether, 0, none);
        pass();
        settlement.finalise();
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.claim(alice, 5 ether, 0, none);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.claim(bob, 4 ether, 0, none);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.claim(alice, 4 ether, 1, none);
    }

    /// A root that promises more than the fees pays nobody beyond them.
    function testClaimsNeverExceedFees() public {
        finalised(4 ether, 4 ether, 5 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceSettlement.ClaimsExceedFees.selector, 5 ether, 4 ether)
        );
        settlement.claim(alice, 5 ether, 0, none);
    }

    function testClaimManySkipsAndHolds() public {
        Grump grump = new Grump(settlement);
        Glutton glutton = new Glutton();
        bytes32[] memory lines = new bytes32[](3);
        lines[0] = Trees.line(alice, 1 ether);
        lines[1] = Trees.line(address(grump), 2 ether);
        lines[2] = Trees.line(address(glutton), 3 ether);
        post(epochRecord(1, Trees.line(payer, 6 ether), Trees.root(lines), 6 ether));
        pass();
        settlement.finalise();
        settlement.claim(alice, 1 ether, 0, Trees.proof(lines, 0));
        ClaimItem[] memory items = new ClaimItem[](3);
        items[0] = ClaimItem(alice, 1 ether, 0, Trees.proof(lines, 0));
        items[1] = ClaimItem(address(grump), 2 ether, 1, Trees.proof(lines, 1));
        items[2] = ClaimItem(address(glutton), 3 ether, 2, Trees.proof(lines, 2));
        eq(settlement.claimMany(items), 5 ether, "without alice");
        eq(settlement.heldOf(address(grump)), 2 ether, "held for the grump");
        eq(settlement.heldOf(address(glutton)), 3 ether, "held for the glutton");
        grump.withdraw(bob);
        eq(bob.balance, 102 ether, "to another address");
        vm.expectRevert(IInferenceSettlement.NothingHeld.selector);
        grump.withdraw(bob);
    }

    /// Nobody can make a stranger's payout fail by sending too little gas.
    function testTooLittleGasIsRefused() public {
        finalised(1 ether, 1 ether, 1 ether);
        bytes memory call = abi.encodeCall(settlement.claim, (alice, 1 ether, 0, none));
        for (uint256 gas = 60_000; gas < 200_000; gas += 5000) {
            (bool ok,) = address(settlement).call{gas: gas}(call);
            if (ok) break;
        }
        eq(settlement.heldOf(alice), 0, "never held");
        eq(alice.balance, 1 ether, "paid");
    }

    // --- guardian ---

    function testDisableWithdrawsTheEpochAndAllAfter() public {
        postSpent(1 ether, 1 ether, 1 ether);
        postSpent(1 ether, 2 ether, 2 ether);
        postSpent(1 ether, 3 ether, 3 ether);
        vm.expectEmit();
        emit IInferenceSettlement.EpochDisabled(2, DisableReason.Guardian, guardian);
        vm.prank(guardian);
        settlement.disable(2);
        eq(settlement.openEpoch(), 2, "reopened");
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(3)));
        settlement.postingOf(3);
        // I8: what was withdrawn is never final, and never claimable.
        pass();
        settlement.finalise();
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(2)));
        settlement.finalise();
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.claim(alice, 2 ether, 0, none);
        // The new posting has its own window.
        postSpent(0.5 ether, 1.5 ether, 1.5 ether);
        eq(settlement.postingOf(2).cumulativeFees, 1.5 ether, "fees of the live line");
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.WindowOpen.selector, uint64(2)));
        settlement.finalise();
    }

    function testDisableRefusals() public {
        postSpent(1 ether, 1 ether, 1 ether);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, settler));
        settlement.disable(1);
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(2)));
        settlement.disable(2);
        pass();
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.WindowClosed.selector, uint64(1)));
        settlement.disable(1);
        settlement.finalise();
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NotPending.selector, uint64(1)));
        settlement.disable(1);
        vm.warp(SUNSET + 1);
        postSpent(1 ether, 2 ether, 2 ether);
        vm.prank(guardian);
        vm.expectRevert(IInferenceSettlement.GuardianSunset.selector);
        settlement.disable(2);
    }

    // --- overdraft ---

    function testOverdraftSlashesTheSettler() public {
        settlement.depositFor{value: 50 ether}(bob);
        postSpent(11 ether, 10 ether + 1, 11 ether);
        vm.prank(bob);
        settlement.challengeOverdraft(1, payer, 10 ether + 1, 0, none);
        eq(settlement.openEpoch(), 1, "withdrawn");
        eq(settlement.bondOf(settler).amount, 0, "bond lost");
        eq(settlement.heldOf(bob), SETTLER_BOND / 2, "challenger's half");
        eq(Payouts.BURN.balance, SETTLER_BOND / 2, "burned half");
        vm.prank(bob);
        settlement.withdraw(bob);
        eq(bob.balance, 100 ether + SETTLER_BOND / 2, "paid");
    }

    function testOverdraftRefusals() public {
        postSpent(10 ether, 10 ether, 10 ether);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.NoOverdraft.selector, 10 ether, 10 ether));
        settlement.challengeOverdraft(1, payer, 10 ether, 0, none);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.challengeOverdraft(1, payer, 11 ether, 0, none);
        pass();
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.WindowClosed.selector, uint64(1)));
        settlement.challengeOverdraft(1, payer, 10 ether, 0, none);
    }

    // --- demands ---

    function testDemandAnswered() public {
        postSpent(4 ether, 4 ether, 4 ether);
        demand(1, 4 ether);
        pass();
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.WindowOpen.selector, uint64(1)));
        settlement.finalise();
        bytes memory signature = signVoucher(KEY, voucher(4 ether));
        settlement.answerDemand(1, voucher(4 ether), signature);
        eq(settlement.heldOf(address(this)), DEMAND_BOND / 2, "answerer's half");
        eq(Payouts.BURN.balance, DEMAND_BOND / 2, "burned half");
        settlement.finalise();
        settlement.claim(alice, 4 ether, 0, none);
    }

    function testAnswerRefusals() public {
        postSpent(4 ether, 4 ether, 4 ether);
        vm.expectRevert(IInferenceSettlement.NoSuchDemand.selector);
        settlement.answerDemand(1, voucher(4 ether), "");
        demand(1, 4 ether);
        bytes memory signature = signVoucher(KEY, voucher(4 ether - 1));
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BadVoucher.selector, "maxCumulative"));
        settlement.answerDemand(1, voucher(4 ether - 1), signature);
        signature = signVoucher(KEY + 1, voucher(4 ether));
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BadVoucher.selector, "signature"));
        settlement.answerDemand(1, voucher(4 ether), signature);
        Voucher memory other = voucher(4 ether);
        other.settler = bob;
        signature = signVoucher(KEY, other);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BadVoucher.selector, "settler"));
        settlement.answerDemand(1, other, signature);
    }

    function testWalletContractsSignVouchersToo() public {
        payer = address(new Yes());
        settlement.depositFor{value: 10 ether}(payer);
        postSpent(4 ether, 4 ether, 4 ether);
        demand(1, 4 ether);
        settlement.answerDemand(1, voucher(4 ether), "anything");
    }

    function testUnansweredDemandWithdrawsAndSlashes() public {
        postSpent(4 ether, 4 ether, 4 ether);
        demand(1, 4 ether);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceSettlement.ResponseOpen.selector, uint64(block.timestamp + WINDOW)
            )
        );
        settlement.closeDemand(1, 1, payer);
        pass();
        settlement.closeDemand(1, 1, payer);
        eq(settlement.openEpoch(), 1, "withdrawn");
        eq(settlement.heldOf(bob), DEMAND_BOND + SETTLER_BOND / 2, "bond back and reward");
        vm.expectRevert(IInferenceSettlement.NoSuchDemand.selector);
        settlement.closeDemand(1, 1, payer);
    }

    function testDemandOfAWithdrawnEpochGivesTheBondBack() public {
        postSpent(4 ether, 4 ether, 4 ether);
        demand(1, 4 ether);
        vm.prank(guardian);
        settlement.disable(1);
        // The same epoch is posted anew; the old demand does not touch it.
        postSpent(3 ether, 3 ether, 3 ether);
        settlement.closeDemand(1, 1, payer);
        eq(settlement.heldOf(bob), DEMAND_BOND, "bond back");
        eq(settlement.openEpoch(), 2, "the new posting lives");
        eq(settlement.bondOf(settler).amount, SETTLER_BOND, "no slash");
        pass();
        settlement.finalise();
    }

    function testDemandRefusals() public {
        postSpent(4 ether, 4 ether, 4 ether);
        vm.expectRevert(IInferenceSettlement.BadAmount.selector);
        settlement.demandVoucher{value: 1}(1, payer, 4 ether, 0, none);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.demandVoucher{value: DEMAND_BOND}(1, payer, 5 ether, 0, none);
        demand(1, 4 ether);
        vm.expectRevert(IInferenceSettlement.AlreadyDemanded.selector);
        settlement.demandVoucher{value: DEMAND_BOND}(1, payer, 4 ether, 0, none);
        settlement.answerDemand(1, voucher(4 ether), signVoucher(KEY, voucher(4 ether)));
        vm.expectRevert(IInferenceSettlement.AlreadyDemanded.selector);
        settlement.demandVoucher{value: DEMAND_BOND}(1, payer, 4 ether, 0, none);
    }

    // --- settler's bond ---

    function testBondIsLockedWhilePostingsArePending() public {
        postSpent(1 ether, 1 ether, 1 ether);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BondLocked.selector, uint64(1)));
        settlement.unbond(1);
        // Withdrawing the newest posting does not free the bond of the one before.
        postSpent(1 ether, 2 ether, 2 ether);
        vm.prank(guardian);
        settlement.disable(2);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BondLocked.selector, uint64(2)));
        settlement.unbond(1);
        pass();
        settlement.finalise();
        uint256 before = settler.balance;
        vm.prank(settler);
        settlement.unbond(SETTLER_BOND);
        eq(settler.balance - before, SETTLER_BOND, "out");
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IInferenceSettlement.BondTooLow.selector, 0, 1));
        settlement.unbond(1);
    }

    // --- exits ---

    function requestExit() internal {
        vm.prank(payer);
        settlement.requestExit();
    }

    function exit(uint128 spent) internal {
        vm.prank(payer);
        settlement.exit(spent, 0, none);
    }

    function testExitPaysTheUnspentRest() public {
        finalised(4 ether, 4 ether, 4 ether);
        vm.expectRevert(IInferenceSettlement.ExitNotRequested.selector);
        exit(4 ether);
        requestExit();
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceSettlement.ExitTooEarly.selector, uint64(block.timestamp + EXIT_DELAY)
            )
        );
        exit(4 ether);
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        exit(3 ether);
        exit(4 ether);
        eq(payer.balance, 96 ether, "6 back");
        settlement.claim(alice, 4 ether, 0, none);
        eq(address(settlement).balance, SETTLER_BOND, "nothing left but the bond");
        vm.expectRevert(IInferenceSettlement.ExitNotRequested.selector);
        exit(4 ether);
    }

    /// What was posted before the cut-off counts: an old root does not help the payer.
    function testExitWaitsForEpochsPostedInTime() public {
        finalised(1 ether, 1 ether, 1 ether);
        requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        postSpent(5 ether, 6 ether, 6 ether);
        vm.expectRevert(IInferenceSettlement.ExitEpochsPending.selector);
        exit(1 ether);
        pass();
        settlement.finalise();
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        exit(1 ether);
        exit(6 ether);
        eq(payer.balance, 94 ether, "4 back");
    }

    /// A settler that posts on and on cannot hold the payer back.
    function testLaterPostingsDoNotBlockTheExit() public {
        finalised(1 ether, 1 ether, 1 ether);
        requestExit();
        vm.warp(block.timestamp + EXIT_DELAY + 1);
        settlement.depositFor{value: 5 ether}(bob);
        postSpent(2 ether, 1 ether, 3 ether);
        exit(1 ether);
        eq(payer.balance, 99 ether, "9 back");
    }

    /// Coins that belong to posted fees cannot leave, whatever a root says.
    function testExitNeverTouchesEarners() public {
        finalised(9 ether, 1 ether, 9 ether);
        requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.expectRevert(IInferenceSettlement.Insolvent.selector);
        exit(1 ether);
        settlement.claim(alice, 9 ether, 0, none);
    }

    function testExitUnspent() public {
        requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceSettlement.ExitTooEarly.selector, uint64(block.timestamp + EXIT_DELAY)
            )
        );
        settlement.exitUnspent();
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.prank(payer);
        settlement.exitUnspent();
        eq(payer.balance, 100 ether, "all back");
    }

    function testExitUnspentIsRefuted() public {
        vm.expectRevert(IInferenceSettlement.NothingFinal.selector);
        settlement.contestExit(payer, 1 ether, 0, none);
        finalised(4 ether, 4 ether, 4 ether);
        requestExit();
        vm.warp(block.timestamp + 2 * EXIT_DELAY);
        vm.expectRevert(IInferenceSettlement.BadProof.selector);
        settlement.contestExit(payer, 3 ether, 0, none);
        settlement.contestExit(payer, 4 ether, 0, none);
        vm.prank(payer);
        vm.expectRevert(IInferenceSettlement.PayerWasCharged.selector);
        settlement.exitUnspent();
        exit(4 ether);
    }

    function testOwnDepositCancelsTheExit() public {
        requestExit();
        settlement.depositFor{value: 1 ether}(payer);
        yes(settlement.payerOf(payer).exitRequestedAt != 0, "a stranger cannot cancel");
        vm.prank(payer);
        settlement.deposit{value: 1 ether}();
        eq(settlement.payerOf(payer).exitRequestedAt, 0, "cancelled");
    }

    // --- fuzz ---

    function testFuzzCumulativeClaims(uint64[6] calldata amounts) public {
        uint128 total = 0;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint128 fees = uint128(bound(amounts[i], 0, 1 ether));
            total += fees;
            finalised(fees, total, total);
            if (amounts[i] % 2 == 1 && settlement.claimedOf(alice) < total) {
                settlement.claim(alice, total, 0, none);
            }
        }
        if (settlement.claimedOf(alice) < total) settlement.claim(alice, total, 0, none);
        eq(alice.balance, total, "everything, once");
        (,, uint128 claims, uint128 fees_,,) = settlement.totals();
        eq(claims, fees_, "claims are the fees");
    }

    function testFuzzOnlySignedVouchersAnswer(uint256 key, uint128 max, uint128 cumulative) public {
        key = bound(key, 1, type(uint128).max);
        cumulative = uint128(bound(cumulative, 1, 10 ether));
        postSpent(cumulative, cumulative, cumulative);
        demand(1, cumulative);
        bytes memory signature = signVoucher(key, voucher(max));
        bool good = key == KEY && max >= cumulative;
        if (!good) vm.expectRevert();
        settlement.answerDemand(1, voucher(max), signature);
    }
}
