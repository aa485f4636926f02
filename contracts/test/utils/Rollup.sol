// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeGame} from "../../src/interfaces/IDisputeGame.sol";
import {DataAvailabilityChallenge} from "../../src/l1/DataAvailabilityChallenge.sol";
import {DisputeGameFactory} from "../../src/l1/DisputeGameFactory.sol";
import {OpenBridge} from "../../src/l1/OpenBridge.sol";
import {OpenToken} from "../../src/l1/OpenToken.sol";
import {OptimismPortal, PortalSettings} from "../../src/l1/OptimismPortal.sol";
import {GameSettings, OutputGame} from "../../src/l1/OutputGame.sol";
import {SystemConfig, SystemSettings} from "../../src/l1/SystemConfig.sol";
import {FeeVault} from "../../src/l2/FeeVault.sol";
import {GasPriceOracle} from "../../src/l2/GasPriceOracle.sol";
import {L1Block} from "../../src/l2/L1Block.sol";
import {L2ToL1MessagePasser} from "../../src/l2/L2ToL1MessagePasser.sol";
import {LiquidityController} from "../../src/l2/LiquidityController.sol";
import {NativeAssetLiquidity} from "../../src/l2/NativeAssetLiquidity.sol";
import {OpenMinter} from "../../src/l2/OpenMinter.sol";
import {WrappedOpen} from "../../src/l2/WrappedOpen.sol";
import {L1Alias} from "../../src/libraries/L1Alias.sol";
import {Predeploys} from "../../src/libraries/Predeploys.sol";
import {Withdrawals} from "../../src/libraries/Withdrawals.sol";
import {OutputRootProof, WithdrawalTransaction} from "../../src/types/Rollup.sol";
import {Network} from "./Network.sol";
import {StorageTries} from "./StorageTries.sol";
import {Vm} from "./Vm.sol";

/// @notice Both layers in one EVM: L1 deployed as in production, L2 as its genesis would have it, and
/// what nodes do between them. Base of the rollup's tests.
abstract contract Rollup is Network {
    uint32 internal constant GAME = 0x4f50;
    uint256 internal constant NO_PARENT = type(uint256).max;
    uint64 internal constant ANCHOR_BLOCK = 0;
    bytes32 internal constant ANCHOR_ROOT = keccak256("anchor");
    uint256 internal constant BOND = 0.08 ether;
    uint32 internal constant CHALLENGE_WINDOW = 3 days;
    uint32 internal constant CLOCK = 1 days;
    uint32 internal constant DECISION_WINDOW = 2 days;
    uint16 internal constant BURNED_BPS = 2500;
    uint64 internal constant MATURITY = 7 days;
    uint64 internal constant FINALITY = 3.5 days;
    uint64 internal constant PORTAL_SUNSET = 1_000_000_000;
    uint256 internal constant GENESIS_SUPPLY = 1_000_000e18;
    uint256 internal constant UNMINTED = type(uint128).max;
    uint256 internal constant DA_BOND = 0.01 ether;

    bytes32 internal constant DEPOSITED = keccak256("TransactionDeposited(address,address,uint256,bytes)");
    bytes32 internal constant PASSED =
        keccak256("MessagePassed(uint256,address,address,uint256,uint256,bytes,bytes32)");

    address internal proposer = address(0x9409);
    address internal challenger = address(0xC4A1);
    address internal portalGuardian = address(0x60AD);
    address internal operator = address(0x09E4);

    OpenToken internal open;
    OutputGame internal rules;
    DisputeGameFactory internal factory;
    OptimismPortal internal portal;
    OpenBridge internal bridge;
    SystemConfig internal config;
    DataAvailabilityChallenge internal availability;

    OpenMinter internal minter = OpenMinter(Predeploys.OPEN_MINTER);
    LiquidityController internal controller = LiquidityController(payable(Predeploys.LIQUIDITY_CONTROLLER));
    NativeAssetLiquidity internal liquidity = NativeAssetLiquidity(Predeploys.NATIVE_ASSET_LIQUIDITY);
    L2ToL1MessagePasser internal passer = L2ToL1MessagePasser(payable(Predeploys.MESSAGE_PASSER));
    L1Block internal l1Block = L1Block(Predeploys.L1_BLOCK);
    GasPriceOracle internal oracle = GasPriceOracle(Predeploys.GAS_PRICE_ORACLE);
    WrappedOpen internal wrapped = WrappedOpen(payable(Predeploys.WRAPPED_OPEN));
    FeeVault internal baseFeeVault = FeeVault(payable(Predeploys.BASE_FEE_VAULT));

    /// @notice What L2 sent to L1, in order.
    WithdrawalTransaction[] internal sent;
    bytes32[] internal sentPaths;

    function deployRollup() internal {
        vm.warp(100_000_000);
        vm.roll(1000);
        deployL1();
        deployL2();
        vm.deal(proposer, 1000 ether);
        vm.deal(challenger, 1000 ether);
    }

    function gameSettings() internal view returns (GameSettings memory) {
        return GameSettings({
            anchorRoot: ANCHOR_ROOT,
            anchorBlock: ANCHOR_BLOCK,
            guardian: guardian,
            challengeWindow: CHALLENGE_WINDOW,
            clock: CLOCK,
            decisionWindow: DECISION_WINDOW,
            burnedBps: BURNED_BPS
        });
    }

    function systemSettings() internal view returns (SystemSettings memory) {
        return SystemSettings({
            owner: governor,
            batcherHash: bytes32(uint256(0xBA7C4)),
            gasLimit: 60_000_000,
            basefeeScalar: 5227,
            blobbasefeeScalar: 1_014_213,
            unsafeBlockSigner: address(0x516),
            eip1559Denominator: 250,
            eip1559Elasticity: 6,
            operatorFeeScalar: 1000,
            operatorFeeConstant: 7,
            minBaseFee: 1_000_000,
            daFootprintGasScalar: 400,
            batchInbox: address(0xFF01),
            optimismPortal: address(portal),
            disputeGameFactory: address(factory),
            gasPayingToken: address(open)
        });
    }

    function deployL1() internal {
        open = new OpenToken(treasury);
        rules = new OutputGame(gameSettings());
        factory = new DisputeGameFactory(governor, rules, BOND);
        portal = new OptimismPortal(
            PortalSettings({
                disputeGameFactory: factory,
                openToken: address(open),
                guardian: portalGuardian,
                guardianSunset: PORTAL_SUNSET,
                proofMaturityDelay: MATURITY,
                disputeGameFinalityDelay: FINALITY,
                respectedGameType: GAME
            })
        );
        bridge = new OpenBridge(open, portal, treasury);
        config = new SystemConfig(systemSettings());
        availability = new DataAvailabilityChallenge(governor, 100, 50, DA_BOND, 50);
    }

    /// @notice What the genesis file does: code, the documented slots, and coins.
    function deployL2() internal {
        vm.etch(address(minter), address(new OpenMinter()).code);
        vm.etch(address(controller), address(new LiquidityController()).code);
        vm.etch(address(liquidity), address(new NativeAssetLiquidity()).code);
        vm.etch(address(passer), address(new L2ToL1MessagePasser()).code);
        vm.etch(address(l1Block), address(new L1Block()).code);
        vm.etch(address(oracle), address(new GasPriceOracle()).code);
        vm.etch(address(wrapped), address(new WrappedOpen()).code);
        vm.etch(address(baseFeeVault), address(new FeeVault()).code);
        vm.store(address(minter), bytes32(uint256(0)), word(address(bridge)));
        vm.store(address(controller), bytes32(uint256(0)), word(governor));
        vm.store(address(controller), keccak256(abi.encode(address(minter), 1)), bytes32(uint256(1)));
        vm.store(address(baseFeeVault), bytes32(uint256(0)), word(operator));
        vm.store(address(baseFeeVault), bytes32(uint256(1)), bytes32(uint256(1 ether)));
        vm.deal(address(liquidity), UNMINTED);
        vm.prank(treasury);
        open.approve(address(bridge), type(uint256).max);
        vm.prank(treasury);
        bridge.escrowGenesis(GENESIS_SUPPLY);
    }

    function word(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    /// @notice Gives `account` OPEN on L1, and the bridge its approval.
    function fund(address account, uint256 amount) internal {
        vm.prank(treasury);
        open.transfer(account, amount);
        vm.prank(account);
        open.approve(address(bridge), type(uint256).max);
    }

    // --- what nodes do ---

    /// @notice Executes on L2 the deposits that were logged since `vm.recordLogs`, with their gas, and
    /// notes the messages that L2 sent.
    function relay() internal returns (uint256 failed) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(passer) && logs[i].topics[0] == PASSED) note(logs[i]);
            if (logs[i].emitter == address(portal) && logs[i].topics[0] == DEPOSITED) {
                if (!execute(logs[i])) ++failed;
            }
        }
    }

    function execute(Vm.Log memory log) internal returns (bool ok) {
        address from = address(uint160(uint256(log.topics[1])));
        address to = address(uint160(uint256(log.topics[2])));
        (uint256 mint, uint256 value, uint64 gas,, bytes memory data) =
            this.unpack(abi.decode(log.data, (bytes)));
        if (mint != 0) revert AssertionFailed("nothing is minted", mint, 0);
        uint256 left = gas - 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            left -= data[i] == 0 ? 4 : 16;
        }
        cool();
        vm.cool(to);
        vm.prank(from);
        (ok,) = to.call{gas: left, value: value}(data);
    }

    /// @notice A transaction starts with cold accounts.
    function cool() internal {
        vm.cool(address(minter));
        vm.cool(address(controller));
        vm.cool(address(liquidity));
        vm.cool(address(passer));
    }

    function unpack(bytes calldata opaque)
        external
        pure
        returns (uint256 mint, uint256 value, uint64 gas, bool creation, bytes memory data)
    {
        mint = uint256(bytes32(opaque[0:32]));
        value = uint256(bytes32(opaque[32:64]));
        gas = uint64(bytes8(opaque[64:72]));
        creation = opaque[72] != 0;
        data = opaque[73:];
    }

    function note(Vm.Log memory log) internal {
        (uint256 value, uint256 gas, bytes memory data, bytes32 hash) =
            abi.decode(log.data, (uint256, uint256, bytes, bytes32));
        sent.push(
            WithdrawalTransaction({
                nonce: uint256(log.topics[1]),
                sender: address(uint160(uint256(log.topics[2]))),
                target: address(uint160(uint256(log.topics[3]))),
                value: value,
                gasLimit: gas,
                data: data
            })
        );
        sentPaths.push(StorageTries.path(hash));
    }

    /// @notice The parts of an output root over all that was sent.
    function output() internal view returns (OutputRootProof memory) {
        return OutputRootProof(0, keccak256("state"), StorageTries.root(sentPaths), keccak256("block"));
    }

    function propose(bytes32 root, uint256 number, uint256 parent) internal returns (OutputGame game) {
        uint256 bond = factory.initBonds(GAME);
        vm.prank(proposer);
        game = OutputGame(address(factory.create{value: bond}(GAME, root, abi.encode(number, parent))));
    }

    /// @notice Proposes what was sent so far as block `number`; the game's number.
    function proposeSent(uint256 number) internal returns (uint256 index, OutputGame game) {
        index = factory.gameCount();
        game = propose(Withdrawals.outputRoot(output()), number, NO_PARENT);
    }

    function prove(uint256 i, uint256 index) internal {
        portal.proveWithdrawalTransaction(
            sent[i], index, output(), StorageTries.proof(sentPaths, sentPaths[i])
        );
    }

    function win(OutputGame game) internal {
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        game.resolve();
        vm.warp(block.timestamp + MATURITY + FINALITY + 1);
    }

    function aliased(address account) internal pure returns (address) {
        return L1Alias.applyTo(account);
    }

    function gameAt(uint256 index) internal view returns (IDisputeGame game) {
        (,, game) = factory.gameAtIndex(index);
    }
}
