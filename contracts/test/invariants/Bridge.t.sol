// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OpenBridge} from "../../src/l1/OpenBridge.sol";
import {OpenToken} from "../../src/l1/OpenToken.sol";
import {Rollup} from "../utils/Rollup.sol";
import {BridgeHandler} from "./BridgeHandler.sol";

/// @notice OPEN on L1's escrow is OPEN on L2.
contract BridgeInvariants is Rollup {
    BridgeHandler internal handler;

    function setUp() public {
        handler = new BridgeHandler();
        bridge = OpenBridge(minter.bridge());
        open = OpenToken(address(bridge.token()));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// All in one campaign, because proving messages takes long.
    function invariant_Bridge() external view {
        checkEscrowIsSupply();
        checkEscrowIsHeld();
        checkUsersHaveAll();
        checkNoDepositFails();
    }

    /// What is escrowed circulates on L2, waits there to be claimed, or is on the way back.
    function checkEscrowIsSupply() internal view {
        uint256 circulating = GENESIS_SUPPLY + UNMINTED - address(liquidity).balance;
        uint256 owed = minter.owed(address(handler.stubborn()));
        eq(bridge.escrowed(), circulating + owed + handler.onTheWay(), "escrowed");
    }

    function checkEscrowIsHeld() internal view {
        eq(open.balanceOf(address(bridge)), bridge.escrowed(), "held");
    }

    /// The users have every coin that circulates: none is stuck in a contract.
    function checkUsersHaveAll() internal view {
        uint256 sum = 0;
        for (uint256 i = 0; i < handler.USERS(); ++i) {
            sum += handler.users(i).balance;
        }
        eq(sum, GENESIS_SUPPLY + UNMINTED - address(liquidity).balance, "balances");
    }

    function checkNoDepositFails() internal view {
        eq(handler.failedDeposits(), 0, "failed deposits");
    }
}
