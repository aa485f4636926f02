// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ContributionAnchor} from "../../src/ContributionAnchor.sol";
import {Batch} from "../../src/interfaces/IContributionAnchor.sol";
import {Payouts} from "../../src/libraries/Payouts.sol";
import {Network} from "../utils/Network.sol";
import {AnchorHandler} from "./AnchorHandler.sol";

/// @notice The invariants of ContributionAnchor (I1, I2, I7 of the protocol's list).
contract AnchorInvariants is Network {
    AnchorHandler internal handler;
    ContributionAnchor internal target;

    function setUp() public {
        handler = new AnchorHandler();
        target = handler.target();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// I1 and I2: the pools hold what came in, less what went out and what was burned.
    function invariant_Solvency() external view {
        (uint128 total,) = target.bondOf(address(handler));
        for (uint256 i = 0; i < handler.ACCOUNTS(); ++i) {
            (uint128 pool, uint128 locked) = target.bondOf(handler.accounts(i));
            le(locked, pool, "locked <= total");
            total += pool;
        }
        eq(address(target).balance, total, "balance is the pools");
        eq(total, handler.ghostIn() - handler.ghostOut() - handler.ghostBurned(), "flow");
        eq(Payouts.BURN.balance, handler.ghostBurned(), "burned");
    }

    /// Locked is exactly the bond of the leaves that can still be challenged or wait to be freed.
    function invariant_LockedIsWhatBatchesLock() external view {
        uint256 locked = 0;
        uint256 expected = 0;
        uint256 slashed = 0;
        for (uint256 i = 0; i < handler.ACCOUNTS(); ++i) {
            (, uint128 l) = target.bondOf(handler.accounts(i));
            locked += l;
        }
        for (uint64 id = 1; id <= target.batches(); ++id) {
            Batch memory b = target.batchOf(id);
            if (!b.finalised) expected += b.bondPerLeaf * (b.count - b.slashed);
            slashed += b.slashed;
        }
        eq(locked, expected, "locked");
        eq(slashed, handler.ghostSlashed(), "slashed once each");
    }

    /// I7: the contract's verdict on any accusation is the true one.
    function invariant_VerdictsAreTrue() external view {
        eq(handler.violations(), 0, "verdicts");
    }
}
