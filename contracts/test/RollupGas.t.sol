// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OutputGame} from "../src/l1/OutputGame.sol";
import {Predeploys} from "../src/libraries/Predeploys.sol";
import {OutputRootProof, WithdrawalTransaction} from "../src/types/Rollup.sol";
import {Rollup} from "./utils/Rollup.sol";
import {StorageTries} from "./utils/StorageTries.sol";

/// @notice What users of the rollup pay. Like GasTest, run with `--isolate`, where L1's base fee is zero:
/// the deposit market then counts 1 gwei, so deposits burn the whole gas that they buy on L2.
contract RollupGasTest is Rollup {
    address internal alice = address(0xA1);

    function setUp() public {
        deployRollup();
        fund(alice, 1000e18);
        // Not the first deposit of the chain, nor of its user.
        vm.prank(alice, alice);
        bridge.deposit(alice, 1e18);
        vm.roll(block.number + 1);
    }

    function record(string memory name) internal returns (uint256) {
        return vm.snapshotGasLastCall("rollup", name);
    }

    function testDeposits() public {
        vm.prank(alice, alice);
        portal.depositTransaction(alice, 0, 100_000, false, new bytes(100));
        record("depositTransaction, 100 bytes, burning 100,000");
        vm.prank(alice, alice);
        bridge.deposit(alice, 1e18);
        record("bridge deposit, burning 250,000");
    }

    function testMint() public {
        vm.prank(aliased(address(bridge)));
        minter.mint(alice, address(0xF4E5), 1e18);
        uint256 used = record("L2 mint to an empty account");
        le(used, uint256(bridge.MINT_GAS_LIMIT()) * 2 / 3, "mint");
    }

    function testAttributes() public {
        bytes memory data = bytes.concat(
            hex"3db6be2b",
            bytes16(uint128(1) << 100),
            bytes16(uint128(7)),
            abi.encode(1, 2, 3, 4),
            bytes14(uint112(9))
        );
        vm.prank(Predeploys.DEPOSITOR);
        (bool ok,) = address(l1Block).call(data);
        yes(ok, "attributes");
        record("L2 attributes, first");
        data[19] = 0x09;
        vm.prank(Predeploys.DEPOSITOR);
        (ok,) = address(l1Block).call(data);
        yes(ok, "attributes");
        record("L2 attributes, later");
    }

    function testGames() public {
        vm.prank(proposer);
        factory.create{value: BOND}(GAME, "first", abi.encode(1, NO_PARENT));
        vm.prank(proposer);
        factory.create{value: BOND}(GAME, "root", abi.encode(1000, 0));
        record("propose");
        OutputGame game = OutputGame(address(gameAt(1)));
        vm.prank(challenger);
        game.challenge{value: BOND}();
        record("challenge");
        vm.prank(proposer);
        game.claimMidpoint(0, "middle");
        record("claim midpoint");
        vm.prank(challenger);
        game.disagree(0);
        record("answer");
    }

    /// @dev A million messages would make the proof two nodes deeper than two hundred do.
    function testWithdrawals() public {
        vm.recordLogs();
        vm.deal(alice, 100e18);
        vm.prank(alice);
        minter.withdraw{value: 1e18}(alice, 0);
        record("L2 withdraw");
        for (uint256 i = 0; i < 200; ++i) {
            vm.prank(alice);
            passer.initiateWithdrawal(alice, i, "");
        }
        relay();
        (uint256 index, OutputGame game) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        WithdrawalTransaction memory w = sent[0];
        OutputRootProof memory out = output();
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[0]);
        portal.proveWithdrawalTransaction(w, index, out, proof);
        record("prove, one of 201 messages");
        win(game);
        portal.finalizeWithdrawalTransaction(w);
        record("finalise, release of the bridge");
    }
}
