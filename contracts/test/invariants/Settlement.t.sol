// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {InferenceSettlement} from "../../src/InferenceSettlement.sol";
import {Payer} from "../../src/interfaces/IInferenceSettlement.sol";
import {Payouts} from "../../src/libraries/Payouts.sol";
import {Network} from "../utils/Network.sol";
import {SettlementHandler} from "./SettlementHandler.sol";

/// @notice The money invariants of InferenceSettlement (I1, I2, I4, I5, I8 of the protocol's list).
contract SettlementInvariants is Network {
    SettlementHandler internal handler;
    InferenceSettlement internal target;

    function setUp() public {
        handler = new SettlementHandler();
        target = handler.target();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// I1: the contract holds exactly what it owes, and what was forced on it.
    function invariant_Solvency() external view {
        (uint128 deposits, uint128 exits, uint128 claims,, uint128 bonds, uint128 held) = target.totals();
        uint256 owed = uint256(deposits) - exits - claims + bonds + held;
        eq(address(target).balance, owed + handler.donated(), "balance");
    }

    /// I2: what came in is what went out and what is left.
    function invariant_Flow() external view {
        (uint128 deposits, uint128 exits, uint128 claims,,,) = target.totals();
        eq(deposits, handler.ghostDeposits(), "deposits");
        eq(exits, handler.ghostExits(), "exits");
        eq(claims, handler.ghostClaims(), "claims");
        eq(Payouts.BURN.balance, handler.ghostBurned(), "burned");
    }

    /// I4: claims are covered by final fees, final fees by deposits, and nobody is paid twice.
    function invariant_ClaimsAreCovered() external view {
        (uint128 deposits, uint128 exits, uint128 claims, uint128 fees,,) = target.totals();
        le(claims, fees, "claims <= final fees");
        le(uint256(fees) + exits, deposits, "fees + exits <= deposits");
        uint64 fin = target.finalEpoch();
        uint256 sum = 0;
        for (uint256 i = 0; i < handler.EARNERS(); ++i) {
            uint128 claimed = target.claimedOf(handler.earners(i));
            sum += claimed;
            if (fin != 0) le(claimed, handler.book(fin).earned[i], "claimed <= earned");
        }
        eq(sum, claims, "sum of claims");
        eq(handler.violations(), 0, "no claim from elsewhere, none shrinks");
    }

    /// I5: with a watchful challenger no final root debits a payer beyond the balance.
    function invariant_DebitsAreCovered() external view {
        uint64 fin = target.finalEpoch();
        if (fin == 0) return;
        uint256 sum = 0;
        for (uint256 i = 0; i < handler.PAYERS(); ++i) {
            Payer memory p = target.payerOf(handler.payers(i));
            le(handler.book(fin).spent[i], p.deposited - p.withdrawn, "debit <= balance");
            sum += handler.book(fin).spent[i];
        }
        (,,, uint128 fees,,) = target.totals();
        eq(sum, fees, "debits are the fees");
    }

    /// I8: a withdrawn posting never becomes final.
    function invariant_WithdrawnIsNeverFinal() external view {
        uint64 fin = target.finalEpoch();
        le(fin + 1, target.openEpoch(), "final before open");
        if (fin != 0) yes(!handler.withdrawnSequence(target.postingOf(fin).sequence), "withdrawn and final");
    }
}
