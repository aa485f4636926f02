// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {FeeVault} from "../../src/l2/FeeVault.sol";
import {L2ToL1MessagePasser} from "../../src/l2/L2ToL1MessagePasser.sol";
import {LiquidityController} from "../../src/l2/LiquidityController.sol";
import {NativeAssetLiquidity} from "../../src/l2/NativeAssetLiquidity.sol";
import {WrappedOpen} from "../../src/l2/WrappedOpen.sol";
import {Withdrawals} from "../../src/libraries/Withdrawals.sol";
import {WithdrawalTransaction} from "../../src/types/Rollup.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice A receiver that refuses.
contract Closed {}

/// @notice The small predeploys of L2.
contract PredeploysTest is Rollup {
    address internal alice = address(0xA11CE);
    address internal bob = address(0xB0B);

    function setUp() public {
        deployRollup();
        vm.deal(alice, 100 ether);
    }

    // --- messages ---

    function testMessage(address target, uint256 gas, bytes memory data) public {
        uint256 nonce = uint256(1) << 240;
        eq(passer.messageNonce(), nonce, "nonce");
        bytes32 hash = Withdrawals.hash(WithdrawalTransaction(nonce, alice, target, 0, gas, data));
        eq(hash, keccak256(abi.encode(nonce, alice, target, uint256(0), gas, data)), "hash");
        vm.prank(alice);
        vm.expectEmit();
        emit L2ToL1MessagePasser.MessagePassed(nonce, alice, target, 0, gas, data, hash);
        passer.initiateWithdrawal(target, gas, data);
        yes(passer.sentMessages(hash), "sent");
        eq(passer.messageNonce(), nonce + 1, "next");
        eq(vm.load(address(passer), bytes32(uint256(1))), bytes32(uint256(1)), "count in slot 1");
    }

    function testMessagesCarryNoCoins() public {
        vm.prank(alice);
        vm.expectRevert(L2ToL1MessagePasser.L2ToL1MessagePasser_NotAllowedOnCGTMode.selector);
        passer.initiateWithdrawal{value: 1}(bob, 0, "");
        vm.prank(alice);
        (bool ok,) = address(passer).call{value: 1}("");
        yes(!ok, "receive");
        eq(passer.MESSAGE_VERSION(), 1, "version");
        yes(bytes(passer.version()).length > 0, "interface version");
    }

    // --- liquidity ---

    function testMintAndBurn(uint256 amount) public {
        amount = bound(amount, 1, UNMINTED);
        vm.prank(address(minter));
        vm.expectEmit();
        emit LiquidityController.LiquidityMinted(address(minter), bob, amount);
        vm.expectEmit();
        emit NativeAssetLiquidity.LiquidityWithdrawn(address(controller), amount);
        controller.mint(bob, amount);
        eq(bob.balance, amount, "minted");
        eq(address(liquidity).balance, UNMINTED - amount, "taken");
        vm.deal(address(minter), amount);
        vm.prank(address(minter));
        vm.expectEmit();
        emit LiquidityController.LiquidityBurned(address(minter), amount);
        vm.expectEmit();
        emit NativeAssetLiquidity.LiquidityDeposited(address(controller), amount);
        controller.burn{value: amount}();
        eq(address(liquidity).balance, UNMINTED, "put back");
    }

    function testLiquidityReverts() public {
        vm.expectRevert(LiquidityController.LiquidityController_Unauthorized.selector);
        controller.mint(bob, 1);
        vm.expectRevert(LiquidityController.LiquidityController_Unauthorized.selector);
        controller.burn{value: 1}();
        vm.prank(address(minter));
        vm.expectRevert(LiquidityController.LiquidityController_ZeroAmount.selector);
        controller.burn();
        vm.prank(address(minter));
        vm.expectRevert();
        controller.mint(bob, UNMINTED + 1);
        address closed = address(new Closed());
        vm.prank(address(minter));
        vm.expectRevert(LiquidityController.LiquidityController_TransferFailed.selector);
        controller.mint(closed, 1);
        vm.expectRevert(NativeAssetLiquidity.NativeAssetLiquidity_Unauthorized.selector);
        liquidity.deposit{value: 1}();
        vm.expectRevert(NativeAssetLiquidity.NativeAssetLiquidity_Unauthorized.selector);
        liquidity.withdraw(1);
        (bool ok,) = address(controller).call{value: 1}("");
        yes(!ok, "no plain transfers to the controller");
        (ok,) = address(liquidity).call{value: 1}("");
        yes(!ok, "no plain transfers to the store");
    }

    function testMinters() public {
        eq(controller.owner(), governor, "owner");
        yes(controller.minters(address(minter)), "genesis minter");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        controller.authorizeMinter(bob);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        controller.deauthorizeMinter(bob);
        vm.prank(governor);
        vm.expectEmit();
        emit LiquidityController.MinterAuthorized(bob);
        controller.authorizeMinter(bob);
        vm.prank(bob);
        controller.mint(alice, 1);
        vm.prank(governor);
        vm.expectEmit();
        emit LiquidityController.MinterDeauthorized(bob);
        controller.deauthorizeMinter(bob);
        vm.prank(bob);
        vm.expectRevert(LiquidityController.LiquidityController_Unauthorized.selector);
        controller.mint(alice, 1);
        eq(keccak256(bytes(controller.gasPayingAssetName())), keccak256("OpenLedger"), "name");
        eq(keccak256(bytes(controller.gasPayingAssetSymbol())), keccak256("OPEN"), "symbol");
        yes(bytes(controller.version()).length > 0 && bytes(liquidity.version()).length > 0, "versions");
    }

    // --- fees ---

    function testFeeVault() public {
        eq(baseFeeVault.recipient(), operator, "recipient in slot 0");
        eq(baseFeeVault.RECIPIENT(), operator, "older name");
        eq(baseFeeVault.minWithdrawalAmount(), 1 ether, "minimum in slot 1");
        eq(baseFeeVault.MIN_WITHDRAWAL_AMOUNT(), 1 ether, "older name");
        eq(uint256(baseFeeVault.withdrawalNetwork()), 1, "L2");
        eq(uint256(baseFeeVault.WITHDRAWAL_NETWORK()), 1, "older name");
        vm.prank(alice);
        (bool ok,) = address(baseFeeVault).call{value: 1 ether - 1}("");
        yes(ok, "receive");
        vm.expectRevert(abi.encodeWithSelector(FeeVault.BelowMinimum.selector, 1 ether - 1, 1 ether));
        baseFeeVault.withdraw();
        vm.deal(address(baseFeeVault), 3 ether);
        vm.expectEmit();
        emit FeeVault.Withdrawal(3 ether, operator, address(this));
        vm.expectEmit();
        emit FeeVault.Withdrawal(3 ether, operator, address(this), FeeVault.WithdrawalNetwork.L2);
        eq(baseFeeVault.withdraw(), 3 ether, "value");
        eq(operator.balance, 3 ether, "paid");
        eq(baseFeeVault.totalProcessed(), 3 ether, "processed");
        yes(bytes(baseFeeVault.version()).length > 0, "version");
    }

    // --- wrapped ---

    function testWrapped(uint256 amount, uint256 part) public {
        amount = bound(amount, 1, 100 ether);
        part = bound(part, 0, amount);
        vm.prank(alice);
        vm.expectEmit();
        emit WrappedOpen.Deposit(alice, amount);
        wrapped.deposit{value: amount}();
        eq(wrapped.totalSupply(), amount, "supply");
        vm.prank(alice);
        yes(wrapped.transfer(bob, part), "transfer");
        eq(wrapped.balanceOf(alice), amount - part, "alice");
        vm.prank(bob);
        vm.expectEmit();
        emit WrappedOpen.Withdrawal(bob, part);
        wrapped.withdraw(part);
        eq(bob.balance, part, "unwrapped");
        eq(wrapped.totalSupply(), amount - part, "supply");
        vm.prank(alice);
        vm.expectRevert(
            abi.encodeWithSelector(WrappedOpen.BalanceTooLow.selector, amount - part, amount - part + 1)
        );
        wrapped.withdraw(amount - part + 1);
    }

    function testWrappedAllowances() public {
        vm.prank(alice);
        (bool ok,) = address(wrapped).call{value: 10}("");
        yes(ok, "receive");
        vm.prank(alice);
        yes(wrapped.approve(bob, 5), "approve");
        vm.prank(bob);
        yes(wrapped.transferFrom(alice, bob, 3), "transferFrom");
        eq(wrapped.allowance(alice, bob), 2, "allowance");
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(WrappedOpen.AllowanceTooLow.selector, 2, 3));
        wrapped.transferFrom(alice, bob, 3);
        vm.prank(alice);
        wrapped.approve(bob, type(uint256).max);
        vm.prank(bob);
        wrapped.transferFrom(alice, bob, 3);
        eq(wrapped.allowance(alice, bob), type(uint256).max, "for ever");
        vm.prank(alice);
        wrapped.transferFrom(alice, bob, 1);
        eq(wrapped.balanceOf(bob), 7, "bob");
        eq(keccak256(bytes(wrapped.name())), keccak256("Wrapped OPEN"), "name");
        eq(keccak256(bytes(wrapped.symbol())), keccak256("WOPEN"), "symbol");
        eq(wrapped.decimals(), 18, "decimals");
    }
}
