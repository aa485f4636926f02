// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IOptimismPortal} from "../../src/interfaces/IOptimismPortal.sol";
import {OpenBridge} from "../../src/l1/OpenBridge.sol";
import {OptimismPortal} from "../../src/l1/OptimismPortal.sol";
import {OutputGame} from "../../src/l1/OutputGame.sol";
import {OpenMinter} from "../../src/l2/OpenMinter.sol";
import {Predeploys} from "../../src/libraries/Predeploys.sol";
import {Withdrawals} from "../../src/libraries/Withdrawals.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice Receivers on L2 that make a mint as hard as they can.
contract Refuser {
    function collect(OpenMinter minter, address to) external {
        minter.claim(to);
    }

    receive() external payable {
        revert("no");
    }
}

contract Glutton {
    receive() external payable {
        while (true) {}
    }
}

contract Bomb {
    receive() external payable {
        assembly {
            revert(0, 100000)
        }
    }
}

contract Returner {
    OpenMinter internal minter;

    constructor(OpenMinter m) {
        minter = m;
    }

    receive() external payable {
        minter.withdraw{value: msg.value}(address(0xBEEF), 0);
    }
}

/// @notice OPEN from L1 to L2 and back, with everything that can go wrong on the other side.
contract OpenBridgeTest is Rollup {
    uint256 internal constant KEY = 0xA11CE;
    address internal alice = vm.addr(KEY);
    address internal bob = address(0xB0B);

    function setUp() public {
        deployRollup();
        fund(alice, 1000e18);
        vm.recordLogs();
    }

    function deposit(address to, uint256 amount) internal {
        vm.prank(alice);
        bridge.deposit(to, amount);
        eq(relay(), 0, "no deposit fails");
    }

    /// @dev Escrow is what circulates, what waits to be claimed, and what is on the way back.
    function expectCovered(uint256 onTheWay) internal view {
        uint256 circulating = GENESIS_SUPPLY + UNMINTED - address(liquidity).balance;
        uint256 owed = minter.owed(alice) + minter.owed(bob);
        eq(bridge.escrowed(), circulating + owed + onTheWay, "covered");
        eq(open.balanceOf(address(bridge)), bridge.escrowed(), "held");
        eq(address(minter).balance + address(controller).balance, 0, "nothing in between");
    }

    function testToken() public {
        eq(open.totalSupply(), 1_000_000_000e18, "supply");
        eq(keccak256(bytes(open.name())), keccak256("OpenLedger"), "name");
        eq(keccak256(bytes(open.symbol())), keccak256("OPEN"), "symbol");
        eq(open.decimals(), 18, "decimals");
        vm.prank(alice);
        open.delegate(bob);
        eq(open.getVotes(bob), 1000e18, "votes");
        eq(open.nonces(alice), 0, "nonce");
    }

    function testDeposit(uint256 amount) public {
        amount = bound(amount, 1, 1000e18);
        vm.prank(alice);
        vm.expectEmit();
        emit OpenBridge.Deposited(alice, bob, amount);
        bridge.deposit(bob, amount);
        eq(relay(), 0, "executed");
        eq(bob.balance, amount, "minted");
        eq(open.balanceOf(alice), 1000e18 - amount, "taken");
        expectCovered(0);
    }

    function testPermit(bool frontRun) public {
        vm.prank(alice);
        open.approve(address(bridge), 0);
        bytes32 kind =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 inner = keccak256(abi.encode(kind, alice, address(bridge), 5e18, 0, type(uint256).max));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", open.DOMAIN_SEPARATOR(), inner));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        if (frontRun) open.permit(alice, address(bridge), 5e18, type(uint256).max, v, r, s);
        vm.prank(alice);
        bridge.depositWithPermit(bob, 5e18, type(uint256).max, v, r, s);
        eq(relay(), 0, "executed");
        eq(bob.balance, 5e18, "minted");
        vm.prank(alice);
        vm.expectRevert();
        bridge.depositWithPermit(bob, 5e18, type(uint256).max, v, r, s);
    }

    function testBadDeposits() public {
        vm.prank(alice);
        vm.expectRevert(OpenBridge.BadDeposit.selector);
        bridge.deposit(address(0), 1);
        vm.prank(alice);
        vm.expectRevert(OpenBridge.BadDeposit.selector);
        bridge.deposit(bob, 0);
        vm.prank(alice);
        vm.expectRevert(OpenBridge.BadDeposit.selector);
        bridge.deposit(Predeploys.OPEN_MINTER, 1);
        vm.prank(alice);
        vm.expectRevert(OpenBridge.BadDeposit.selector);
        bridge.deposit(Predeploys.NATIVE_ASSET_LIQUIDITY, 1);
        vm.prank(alice);
        vm.expectRevert(OpenBridge.BadDeposit.selector);
        bridge.deposit(Predeploys.LIQUIDITY_CONTROLLER, 1);
        vm.prank(alice);
        vm.expectRevert();
        bridge.deposit(bob, 1001e18);
    }

    function testGenesis() public {
        vm.prank(treasury);
        vm.expectRevert(OpenBridge.GenesisAlreadyEscrowed.selector);
        bridge.escrowGenesis(1);
        OpenBridge other = new OpenBridge(open, portal, treasury);
        vm.expectRevert(OpenBridge.NotDeployer.selector);
        other.escrowGenesis(1);
        vm.expectRevert(OpenBridge.ZeroAddress.selector);
        new OpenBridge(IERC20(address(0)), portal, treasury);
        vm.expectRevert(OpenBridge.ZeroAddress.selector);
        new OpenBridge(open, IOptimismPortal(address(0)), treasury);
        vm.expectRevert(OpenBridge.ZeroAddress.selector);
        new OpenBridge(open, portal, address(0));
        eq(bridge.escrowed(), GENESIS_SUPPLY, "escrowed");
    }

    // --- receivers that refuse ---

    function refused(address to) internal {
        deposit(to, 3e18);
        eq(to.balance, 0, "not given");
        eq(minter.owed(to), 3e18, "owed");
        uint256 circulating = GENESIS_SUPPLY + UNMINTED - address(liquidity).balance;
        eq(bridge.escrowed(), circulating + 3e18, "covered");
    }

    function testRefuser() public {
        Refuser r = new Refuser();
        refused(address(r));
        vm.expectRevert();
        r.collect(minter, address(r));
        r.collect(minter, bob);
        eq(bob.balance, 3e18, "claimed");
        vm.expectRevert(OpenMinter.NothingOwed.selector);
        r.collect(minter, bob);
        expectCovered(0);
    }

    function testGlutton() public {
        refused(address(new Glutton()));
    }

    function testBomb() public {
        refused(address(new Bomb()));
    }

    /// @dev The receiver's hook may use the bridge; its gas suffices for a withdrawal or it is refused.
    function testReceiverThatSendsBack() public {
        Returner r = new Returner(minter);
        deposit(address(r), 3e18);
        eq(address(r).balance, 0, "sent back or refused");
        uint256 circulating = GENESIS_SUPPLY + UNMINTED - address(liquidity).balance;
        eq(bridge.escrowed(), circulating + 3e18, "covered");
    }

    /// @dev Even without its rights the minter loses nothing.
    function testDeauthorizedMinter() public {
        vm.prank(governor);
        controller.deauthorizeMinter(address(minter));
        refused(bob);
        vm.prank(governor);
        controller.authorizeMinter(address(minter));
        vm.prank(bob);
        minter.claim(bob);
        eq(bob.balance, 3e18, "claimed");
    }

    /// @dev With the deposit's gas, the mint never fails, whatever the receiver spends.
    function testMintNeverRunsOutOfGas(uint256 margin) public {
        address to = address(new Glutton());
        vm.prank(alice);
        bridge.deposit(to, 1e18);
        eq(relay(), 0, "executed");
        // What the deposit leaves after its intrinsic gas, and less.
        uint256 gas = 227_000 - bound(margin, 0, 15_000);
        cool();
        vm.prank(aliased(address(bridge)));
        minter.mint{gas: gas}(alice, to, 1e18);
        eq(minter.owed(to), 2e18, "owed");
    }

    function testOnlyTheBridgeMints() public {
        vm.expectRevert(OpenMinter.NotBridge.selector);
        minter.mint(alice, bob, 1);
        vm.prank(address(bridge));
        vm.expectRevert(OpenMinter.NotBridge.selector);
        minter.mint(alice, bob, 1);
    }

    // --- back ---

    function withdraw(address from, address to, uint256 amount) internal returns (uint256 i) {
        i = sent.length;
        vm.prank(from);
        minter.withdraw{value: amount}(to, 0);
        relay();
        eq(sent[i].target, address(bridge), "target");
        eq(sent[i].sender, address(minter), "sender");
        eq(sent[i].gasLimit, minter.MIN_RELEASE_GAS(), "gas");
    }

    function testRoundTrip(uint256 amount, uint256 back) public {
        amount = bound(amount, 1, 1000e18);
        back = bound(back, 1, amount);
        deposit(bob, amount);
        uint256 i = withdraw(bob, address(0xCA401), back);
        expectCovered(back);
        (uint256 index, OutputGame game) = proposeSent(7);
        vm.warp(block.timestamp + 1);
        prove(i, index);
        win(game);
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(open.balanceOf(address(0xCA401)), back, "released");
        expectCovered(0);
    }

    function testGenesisCoinsCanLeave() public {
        vm.deal(operator, GENESIS_SUPPLY);
        uint256 i = withdraw(operator, bob, GENESIS_SUPPLY);
        (uint256 index, OutputGame game) = proposeSent(7);
        vm.warp(block.timestamp + 1);
        prove(i, index);
        win(game);
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(open.balanceOf(bob), GENESIS_SUPPLY, "released");
        eq(bridge.escrowed(), 0, "nothing left");
    }

    /// @dev The most expensive release: cold, to a new holder, both sides with delegates whose votes have
    /// a new checkpoint each.
    function testReleaseFitsItsGas() public {
        deposit(bob, 10e18);
        vm.prank(alice);
        open.delegate(alice);
        vm.prank(address(bridge));
        open.delegate(treasury);
        vm.roll(block.number + 1);
        vm.warp(block.timestamp + 1);
        uint256 gas = minter.MIN_RELEASE_GAS();
        vm.mockCall(
            address(portal), abi.encodeCall(IOptimismPortal.l2Sender, ()), abi.encode(address(minter))
        );
        vm.cool(address(bridge));
        vm.cool(address(open));
        vm.prank(address(portal));
        bridge.release{gas: gas * 2 / 3}(alice, 10e18);
    }

    function testForcedWithdrawal() public {
        // A censored holder sends the withdrawal from L1; the coins come from the balance on L2.
        deposit(alice, 5e18);
        vm.prank(alice, alice);
        portal.depositTransaction(
            address(minter), 5e18, 400_000, false, abi.encodeCall(OpenMinter.withdraw, (bob, 0))
        );
        eq(relay(), 0, "executed");
        relay();
        eq(sent.length, 1, "message");
        eq(alice.balance, 0, "burned");
        expectCovered(5e18);
    }

    function testBadWithdrawals() public {
        deposit(bob, 10e18);
        vm.prank(bob);
        vm.expectRevert(OpenMinter.NoCoins.selector);
        minter.withdraw(bob, 0);
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(OpenMinter.BadReceiver.selector, address(0)));
        minter.withdraw{value: 1}(address(0), 0);
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(OpenMinter.BadReceiver.selector, address(bridge)));
        minter.withdraw{value: 1}(address(bridge), 0);
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(OpenMinter.BadGasLimit.selector, 5_000_001));
        minter.withdraw{value: 1}(bob, 5_000_001);
        vm.prank(bob);
        (bool ok,) = address(minter).call{value: 1}("");
        yes(!ok, "no plain transfers");
        vm.prank(bob);
        vm.expectEmit();
        emit OpenMinter.Withdrawn(bob, alice, 1);
        minter.withdraw{value: 1}(alice, 1_000_000);
        relay();
        eq(sent[0].gasLimit, 1_000_000, "own gas limit");
    }

    function testOnlyTheMinterReleases() public {
        vm.expectRevert(OpenBridge.NotMinter.selector);
        bridge.release(bob, 1);
        vm.prank(address(portal));
        vm.expectRevert(OpenBridge.NotMinter.selector);
        bridge.release(bob, 1);
        // A message of somebody else, through the real portal, moves nothing.
        vm.prank(bob);
        passer.initiateWithdrawal(address(bridge), 300_000, abi.encodeCall(OpenBridge.release, (bob, 1e18)));
        relay();
        (uint256 index, OutputGame game) = proposeSent(7);
        vm.warp(block.timestamp + 1);
        prove(0, index);
        win(game);
        vm.expectEmit();
        emit OptimismPortal.WithdrawalFinalized(Withdrawals.hash(sent[0]), false);
        portal.finalizeWithdrawalTransaction(sent[0]);
        eq(open.balanceOf(bob), 0, "nothing");
    }
}
