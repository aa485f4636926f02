// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeGame} from "../../src/interfaces/IDisputeGame.sol";
import {OptimismPortal} from "../../src/l1/OptimismPortal.sol";
import {OutputGame} from "../../src/l1/OutputGame.sol";
import {DepositMarket, ResourceParams} from "../../src/libraries/DepositMarket.sol";
import {Withdrawals} from "../../src/libraries/Withdrawals.sol";
import {OutputRootProof, WithdrawalTransaction} from "../../src/types/Rollup.sol";
import {Rollup} from "../utils/Rollup.sol";
import {StorageTries} from "../utils/StorageTries.sol";
import {Vm} from "../utils/Vm.sol";

/// @notice A target on L1 that notes what it sees, or misbehaves.
contract Probe {
    OptimismPortal internal portal;
    address public sender;
    uint256 public calls;
    bool public refused;
    WithdrawalTransaction internal again;
    bytes4 public reason;

    constructor(OptimismPortal p) {
        portal = p;
    }

    function hit() external {
        sender = portal.l2Sender();
        ++calls;
    }

    function fail() external pure {
        revert("no");
    }

    function remember(WithdrawalTransaction memory w) external {
        again = w;
    }

    function enterAgain() external {
        try portal.finalizeWithdrawalTransaction(again) {}
        catch (bytes memory data) {
            reason = bytes4(data);
        }
        ++calls;
    }

    function spend() external {
        uint256 start = gasleft();
        while (start - gasleft() < 400_000) {}
        ++calls;
    }
}

/// @notice Deposits, and withdrawals from the message on L2 to the call on L1.
contract OptimismPortalTest is Rollup {
    address internal alice = address(0xA11CE);
    Probe internal probe;

    function setUp() public {
        deployRollup();
        probe = new Probe(portal);
        vm.recordLogs();
    }

    // --- deposits ---

    function deposited() internal returns (address from, bytes memory opaque) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1, "one event");
        eq(logs[0].topics[0], DEPOSITED, "topic");
        eq(uint256(logs[0].topics[3]), 0, "version");
        return (address(uint160(uint256(logs[0].topics[1]))), abi.decode(logs[0].data, (bytes)));
    }

    function testOpaqueData(address to, uint256 value, uint256 gas, bool creation, bytes memory data) public {
        if (creation) to = address(0);
        uint64 limit = uint64(bound(gas, portal.minimumGasLimit(uint64(data.length)), 20_000_000));
        vm.fee(1000 gwei);
        vm.prank(alice, alice);
        portal.depositTransaction(to, value, limit, creation, data);
        (address from, bytes memory opaque) = deposited();
        eq(from, alice, "a key holder keeps the address");
        bytes memory head = bytes.concat(bytes32(0), bytes32(value), bytes8(limit));
        bytes memory tail = bytes.concat(creation ? bytes1(0x01) : bytes1(0x00), data);
        eq(keccak256(opaque), keccak256(bytes.concat(head, tail)), "opaque data");
    }

    function testAliases(address account) public {
        vm.assume(account.code.length == 0 && uint160(account) > 100);
        vm.prank(account, alice);
        portal.depositTransaction(alice, 0, 21_000, false, "");
        (address from,) = deposited();
        unchecked {
            uint160 shifted = uint160(account) + uint160(0x1111000000000000000000000000000000001111);
            eq(from, address(shifted), "alias");
        }
    }

    function testDelegatedAccountKeepsAddress() public {
        vm.etch(alice, abi.encodePacked(hex"ef0100", address(probe)));
        vm.prank(alice, address(0xB0B));
        portal.depositTransaction(alice, 0, 21_000, false, "");
        (address from,) = deposited();
        eq(from, alice, "delegated");
        // Code of the same length that is no delegation.
        vm.etch(alice, abi.encodePacked(hex"600100", address(probe)));
        vm.prank(alice, address(0xB0B));
        portal.depositTransaction(alice, 0, 21_000, false, "");
        (from,) = deposited();
        eq(from, aliased(alice), "contract");
    }

    function testDepositReverts() public {
        vm.expectRevert(OptimismPortal.OptimismPortal_NotAllowedOnCGTMode.selector);
        portal.depositTransaction{value: 1}(alice, 0, 100_000, false, "");
        vm.expectRevert(OptimismPortal.OptimismPortal_BadTarget.selector);
        portal.depositTransaction(alice, 0, 100_000, true, "");
        vm.expectRevert(OptimismPortal.OptimismPortal_GasLimitTooLow.selector);
        portal.depositTransaction(alice, 0, 21_039, false, "x");
        vm.expectRevert(OptimismPortal.OptimismPortal_CalldataTooLarge.selector);
        portal.depositTransaction(alice, 0, 10_000_000, false, new bytes(120_001));
        eq(portal.minimumGasLimit(120_000), 4_821_000, "minimum");
    }

    function testMarketCap() public {
        vm.fee(1000 gwei);
        portal.depositTransaction(alice, 0, 15_000_000, false, "");
        vm.expectRevert(DepositMarket.OutOfGas.selector);
        portal.depositTransaction(alice, 0, 5_000_001, false, "");
        portal.depositTransaction(alice, 0, 5_000_000, false, "");
        (uint128 price, uint64 boughtGas, uint64 number) = portal.params();
        eq(price, 1 gwei, "price");
        eq(boughtGas, 20_000_000, "bought");
        eq(number, block.number, "block");
        vm.roll(block.number + 1);
        portal.depositTransaction(alice, 0, 21_000, false, "");
        (price, boughtGas,) = portal.params();
        eq(price, 2.125 gwei, "price after a full block: 1 + 9/8");
        eq(boughtGas, 21_000, "bought");
    }

    /// @dev Block by block as the specification iterates; the closed form may differ by rounding.
    function testMarketForgets(uint64 start, uint256 blocks) public pure {
        ResourceParams memory p = ResourceParams(uint128(start) + 1 gwei, 2_000_000, 100);
        blocks = bound(blocks, 0, 60);
        ResourceParams memory q = DepositMarket.advance(p, uint64(101 + blocks));
        uint256 price = p.prevBaseFee;
        for (uint256 i = 0; i < blocks; ++i) {
            price = price * 7 / 8;
        }
        if (price < 1 gwei) price = 1 gwei;
        uint256 got = q.prevBaseFee;
        le(got > price ? got - price : price - got, 64, "price");
        eq(DepositMarket.advance(p, 100_000).prevBaseFee, 1 gwei, "minimum");
    }

    function testBurnsGas() public {
        uint256 start = gasleft();
        portal.depositTransaction(alice, 0, 1_000_000, false, "");
        yes(start - gasleft() >= 1_000_000, "burned at a price of 1 gwei");
        vm.fee(100 gwei);
        start = gasleft();
        portal.depositTransaction(alice, 0, 1_000_000, false, "");
        yes(start - gasleft() < 100_000, "the work itself was enough");
    }

    // --- withdrawals ---

    function message(address target, uint256 gas, bytes memory data) internal returns (uint256 i) {
        i = sent.length;
        vm.prank(alice);
        passer.initiateWithdrawal(target, gas, data);
        relay();
        eq(sent.length, i + 1, "noted");
    }

    function hit() internal returns (uint256) {
        return message(address(probe), 100_000, abi.encodeCall(Probe.hit, ()));
    }

    function proven(uint256 i) internal returns (OutputGame game) {
        uint256 index;
        (index, game) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        prove(i, index);
    }

    function testWithdraw() public {
        uint256 i = hit();
        bytes32 hash = Withdrawals.hash(sent[i]);
        eq(vm.load(address(passer), keccak256(abi.encode(hash, 0))), bytes32(uint256(1)), "slot of viem");
        (uint256 index, OutputGame game) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[i]);
        vm.expectEmit();
        emit OptimismPortal.WithdrawalProven(hash, alice, address(probe));
        vm.expectEmit();
        emit OptimismPortal.WithdrawalProvenExtension1(hash, address(this));
        portal.proveWithdrawalTransaction(sent[i], index, output(), proof);
        (, uint64 time) = portal.provenWithdrawals(hash, address(this));
        eq(time, block.timestamp, "proven");
        eq(portal.numProofSubmitters(hash), 1, "submitters");
        eq(portal.proofSubmitters(hash, 0), address(this), "submitter");
        eq(portal.l2Sender(), 0x000000000000000000000000000000000000dEaD, "nobody");
        win(game);
        portal.checkWithdrawal(hash, address(this));
        vm.expectEmit();
        emit OptimismPortal.WithdrawalFinalized(hash, true);
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(probe.sender(), alice, "sender");
        eq(portal.l2Sender(), 0x000000000000000000000000000000000000dEaD, "nobody again");
        yes(portal.finalizedWithdrawals(hash), "finalised");
        vm.expectRevert(OptimismPortal.OptimismPortal_AlreadyFinalized.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(probe.calls(), 1, "once");
    }

    /// @dev Proofs from tries of many shapes; each message is provable, and under no other's proof.
    function testProofs(uint256 count, uint256 which, uint256 other) public {
        count = bound(count, 1, 24);
        for (uint256 i = 0; i < count; ++i) {
            passer.initiateWithdrawal(address(probe), i, abi.encode(which));
        }
        relay();
        (uint256 index,) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        which %= count;
        prove(which, index);
        other %= count;
        if (other == which) return;
        OutputRootProof memory out = output();
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[other]);
        vm.expectRevert();
        portal.proveWithdrawalTransaction(sent[which], index, out, proof);
    }

    function testForgedMessage() public {
        uint256 i = hit();
        (uint256 index,) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        WithdrawalTransaction memory w = sent[i];
        w.sender = address(0xBAD);
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[i]);
        OutputRootProof memory out = output();
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidMerkleProof.selector);
        portal.proveWithdrawalTransaction(w, index, out, proof);
        out.stateRoot = "other";
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidOutputRootProof.selector);
        portal.proveWithdrawalTransaction(sent[i], index, out, proof);
    }

    function testProveReverts() public {
        uint256 i = hit();
        (uint256 index, OutputGame game) = proposeSent(10);
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[i]);
        OutputRootProof memory out = output();
        vm.expectRevert(OptimismPortal.OptimismPortal_ImproperDisputeGame.selector);
        portal.proveWithdrawalTransaction(sent[i], index, out, proof);
        vm.warp(block.timestamp + 1);
        WithdrawalTransaction memory w = sent[i];
        w.target = address(portal);
        vm.expectRevert(OptimismPortal.OptimismPortal_BadTarget.selector);
        portal.proveWithdrawalTransaction(w, index, out, proof);
        w.target = address(open);
        vm.expectRevert(OptimismPortal.OptimismPortal_BadTarget.selector);
        portal.proveWithdrawalTransaction(w, index, out, proof);
        (w.target, w.value) = (address(probe), 1);
        vm.expectRevert(OptimismPortal.OptimismPortal_NotAllowedOnCGTMode.selector);
        portal.proveWithdrawalTransaction(w, index, out, proof);
        vm.expectRevert();
        portal.proveWithdrawalTransaction(sent[i], index + 1, out, proof);
        lose(game);
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidDisputeGame.selector);
        portal.proveWithdrawalTransaction(sent[i], index, out, proof);
    }

    function lose(OutputGame game) internal {
        vm.prank(challenger);
        game.challenge{value: BOND}();
        vm.warp(block.timestamp + CLOCK + 1);
        game.timeout(0);
    }

    /// @dev The reasons in the order in which wallets meet them.
    function testCheckWithdrawal() public {
        uint256 i = hit();
        bytes32 hash = Withdrawals.hash(sent[i]);
        vm.expectRevert(OptimismPortal.OptimismPortal_Unproven.selector);
        portal.checkWithdrawal(hash, address(this));
        OutputGame game = proven(i);
        yes(portal.isGameProper(game) && portal.isGameRespected(game), "proper");
        yes(!portal.isGameFinalized(game) && !portal.isGameClaimValid(game), "not final");
        eq(portal.anchorStateRegistry(), address(portal), "registry");
        vm.expectRevert(OptimismPortal.OptimismPortal_ProofNotOldEnough.selector);
        portal.checkWithdrawal(hash, address(this));
        vm.warp(block.timestamp + MATURITY);
        vm.expectRevert(OptimismPortal.OptimismPortal_ProofNotOldEnough.selector);
        portal.checkWithdrawal(hash, address(this));
        vm.warp(block.timestamp + 1);
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidRootClaim.selector);
        portal.checkWithdrawal(hash, address(this));
        game.resolve();
        vm.warp(block.timestamp + FINALITY);
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidRootClaim.selector);
        portal.checkWithdrawal(hash, address(this));
        vm.warp(block.timestamp + 1);
        portal.checkWithdrawal(hash, address(this));
        yes(portal.isGameClaimValid(game), "valid");
        vm.expectRevert(OptimismPortal.OptimismPortal_Unproven.selector);
        portal.finalizeWithdrawalTransactionExternalProof(sent[i], alice);
        vm.prank(alice);
        portal.finalizeWithdrawalTransactionExternalProof(sent[i], address(this));
        eq(probe.calls(), 1, "executed");
    }

    function testProofTimestamp() public {
        uint256 i = hit();
        OutputGame game = proven(i);
        win(game);
        vm.mockCall(address(game), abi.encodeCall(IDisputeGame.createdAt, ()), abi.encode(block.timestamp));
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidProofTimestamp.selector);
        portal.checkWithdrawal(Withdrawals.hash(sent[i]), address(this));
    }

    function testLostGame() public {
        uint256 i = hit();
        OutputGame game = proven(i);
        lose(game);
        vm.warp(block.timestamp + 100 days);
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidRootClaim.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
    }

    function testCallIsNotRepeated() public {
        uint256 i = message(address(probe), 0, abi.encodeCall(Probe.fail, ()));
        win(proven(i));
        vm.prank(address(this), address(1));
        vm.expectRevert(OptimismPortal.OptimismPortal_GasEstimation.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
        vm.expectEmit();
        emit OptimismPortal.WithdrawalFinalized(Withdrawals.hash(sent[i]), false);
        portal.finalizeWithdrawalTransaction(sent[i]);
        vm.expectRevert(OptimismPortal.OptimismPortal_AlreadyFinalized.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
    }

    /// @dev Whatever gas the caller gives, the target gets what was asked for, or nothing happens.
    function testGas(uint256 gas) public {
        uint256 i = message(address(probe), 450_000, abi.encodeCall(Probe.spend, ()));
        win(proven(i));
        (bool ok,) = address(portal).call{gas: bound(gas, 50_000, 1_000_000)}(
            abi.encodeCall(OptimismPortal.finalizeWithdrawalTransaction, (sent[i]))
        );
        eq(probe.calls(), ok ? 1 : 0, "all or nothing");
        yes(portal.finalizedWithdrawals(Withdrawals.hash(sent[i])) == ok, "marked");
        if (!ok) portal.finalizeWithdrawalTransaction(sent[i]);
        eq(probe.calls(), 1, "executed");
    }

    function testReentrancy() public {
        uint256 i = message(address(probe), 300_000, abi.encodeCall(Probe.enterAgain, ()));
        uint256 j = hit();
        (uint256 index, OutputGame game) = proposeSent(10);
        vm.warp(block.timestamp + 1);
        prove(i, index);
        WithdrawalTransaction memory w = sent[j];
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[j]);
        OutputRootProof memory out = output();
        vm.prank(address(probe));
        portal.proveWithdrawalTransaction(w, index, out, proof);
        probe.remember(w);
        win(game);
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(probe.calls(), 1, "outer only");
        eq(bytes32(probe.reason()), bytes32(OptimismPortal.OptimismPortal_NoReentrancy.selector), "refused");
        portal.finalizeWithdrawalTransactionExternalProof(w, address(probe));
        eq(probe.calls(), 2, "later");
    }

    // --- guardian ---

    function testPause() public {
        uint256 i = hit();
        OutputGame game = proven(i);
        win(game);
        vm.expectRevert(OptimismPortal.OptimismPortal_Unauthorized.selector);
        portal.setPaused(true);
        vm.prank(portalGuardian);
        portal.setPaused(true);
        vm.expectRevert(OptimismPortal.OptimismPortal_CallPaused.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
        OutputRootProof memory out = output();
        vm.expectRevert(OptimismPortal.OptimismPortal_CallPaused.selector);
        portal.proveWithdrawalTransaction(sent[i], 0, out, new bytes[](0));
        portal.depositTransaction(alice, 0, 21_000, false, "");
        vm.prank(portalGuardian);
        portal.setPaused(false);
        portal.finalizeWithdrawalTransaction(sent[i]);
    }

    function testSunset() public {
        uint256 i = hit();
        OutputGame game = proven(i);
        win(game);
        vm.prank(portalGuardian);
        portal.setPaused(true);
        vm.warp(PORTAL_SUNSET);
        yes(!portal.paused(), "over");
        vm.prank(portalGuardian);
        vm.expectRevert(OptimismPortal.OptimismPortal_Unauthorized.selector);
        portal.setPaused(true);
        vm.prank(portalGuardian);
        vm.expectRevert(OptimismPortal.OptimismPortal_Unauthorized.selector);
        portal.blacklistDisputeGame(game);
        portal.finalizeWithdrawalTransaction(sent[i]);
    }

    function testBlacklist() public {
        uint256 i = hit();
        OutputGame game = proven(i);
        vm.prank(portalGuardian);
        portal.blacklistDisputeGame(game);
        OutputRootProof memory out = output();
        bytes[] memory proof = StorageTries.proof(sentPaths, sentPaths[i]);
        vm.expectRevert(OptimismPortal.OptimismPortal_ImproperDisputeGame.selector);
        portal.proveWithdrawalTransaction(sent[i], 0, out, proof);
        win(game);
        vm.expectRevert(OptimismPortal.OptimismPortal_InvalidRootClaim.selector);
        portal.finalizeWithdrawalTransaction(sent[i]);
        // The same root, claimed again, serves.
        propose(Withdrawals.outputRoot(out), 11, NO_PARENT);
        vm.warp(block.timestamp + 1);
        prove(i, 1);
        win(OutputGame(address(gameAt(1))));
        portal.finalizeWithdrawalTransaction(sent[i]);
        eq(probe.calls(), 1, "executed");
    }

    function testViews() public view {
        eq(address(portal.disputeGameFactory()), address(factory), "factory");
        eq(portal.respectedGameType(), GAME, "type");
        eq(portal.proofMaturityDelaySeconds(), MATURITY, "maturity");
        eq(portal.disputeGameFinalityDelaySeconds(), FINALITY, "finality");
        eq(keccak256(bytes(portal.version())), keccak256("5.0.0"), "wallets need a number from three on");
    }
}
