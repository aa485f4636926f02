// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OutputGame} from "../../src/l1/OutputGame.sol";
import {OpenMinter} from "../../src/l2/OpenMinter.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice A contract on L2 that takes no coins directly.
contract Stubborn {
    function collect(OpenMinter minter, address to) external {
        minter.claim(to);
    }
}

/// @notice Random users of the bridge on both layers, and a node between them.
contract BridgeHandler is Rollup {
    uint256 public constant USERS = 4;
    uint256 internal constant MAX_SENT = 10;

    address[] public users;
    Stubborn public stubborn = new Stubborn();
    uint256 public onTheWay;
    uint256 public failedDeposits;
    uint256 public released;
    uint256 internal l2Block = 1;
    mapping(uint256 message => bool) internal done;
    mapping(uint256 message => uint256) internal amountOf;

    constructor() payable {
        deployRollup();
        vm.recordLogs();
        for (uint256 i = 0; i < USERS; ++i) {
            users.push(address(uint160(0x5E40 + i)));
            fund(users[i], 10_000e18);
        }
        // The genesis allocation on L2.
        vm.deal(users[0], GENESIS_SUPPLY);
        vm.deal(proposer, type(uint96).max);
    }

    function deposit(uint256 from, uint256 to, uint256 amount) external {
        address sender = users[from % USERS];
        uint256 have = open.balanceOf(sender);
        if (have == 0) return;
        address receiver = to % (USERS + 1) == USERS ? address(stubborn) : users[to % (USERS + 1)];
        // The origin is a user: forge may choose the bridge itself, which would then count as a key holder.
        vm.prank(sender, sender);
        bridge.deposit(receiver, bound(amount, 1, have));
        failedDeposits += relay();
        vm.roll(block.number + 1);
    }

    function claim(uint256 to) external {
        if (minter.owed(address(stubborn)) == 0) return;
        stubborn.collect(minter, users[to % USERS]);
    }

    function withdraw(uint256 from, uint256 to, uint256 amount) external {
        address sender = users[from % USERS];
        if (sender.balance == 0 || sent.length >= MAX_SENT) return;
        amount = bound(amount, 1, sender.balance);
        vm.prank(sender);
        minter.withdraw{value: amount}(users[to % USERS], 0);
        relay();
        amountOf[sent.length - 1] = amount;
        onTheWay += amount;
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        address sender = users[from % USERS];
        vm.prank(sender);
        (bool ok,) = users[to % USERS].call{value: bound(amount, 0, sender.balance)}("");
        yes(ok, "transfer");
    }

    /// @notice A message on L2 that is none of the bridge's.
    function chatter(uint256 from) external {
        if (sent.length >= MAX_SENT) return;
        vm.prank(users[from % USERS]);
        passer.initiateWithdrawal(address(bridge), 300_000, abi.encodeCall(bridge.release, (users[0], 1e18)));
        relay();
    }

    /// @notice Proposes, proves and executes one message; twice must not work.
    function finalise(uint256 seed) external {
        if (sent.length == 0) return;
        uint256 i = seed % sent.length;
        if (block.timestamp + 30 days > PORTAL_SUNSET) return;
        (uint256 index, OutputGame game) = proposeSent(l2Block++);
        vm.warp(block.timestamp + 1);
        prove(i, index);
        win(game);
        try portal.finalizeWithdrawalTransaction(sent[i]) {
            yes(!done[i], "executed once");
            done[i] = true;
            onTheWay -= amountOf[i];
            released += amountOf[i];
        } catch {
            yes(done[i], "executed");
        }
    }
}
