// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

import {CommonsVault} from "../../src/CommonsVault.sol";
import {ContributionAnchor} from "../../src/ContributionAnchor.sol";
import {DatanetRegistry} from "../../src/DatanetRegistry.sol";
import {InferenceSettlement} from "../../src/InferenceSettlement.sol";
import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {ProtocolParameters} from "../../src/ProtocolParameters.sol";
import {FeeSplit} from "../../src/libraries/Split.sol";
import {
    Adapter,
    DatasetVersion,
    EpochSettlement,
    Parameters,
    RECORD_VERSION,
    ReasonCount,
    TrainingRun,
    Voucher
} from "../../src/types/Records.sol";
import {Vm} from "./Vm.sol";

/// @notice The whole protocol deployed as in production, with named accounts. Base of all tests.
abstract contract Network {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant SETTLER = 1;
    uint64 internal constant GUARDIAN = 2;
    uint64 internal constant GOVERNOR = 3;
    uint64 internal constant COMMONS = 4;

    uint64 internal constant WINDOW = 100;
    uint64 internal constant EXIT_DELAY = 1000;
    uint128 internal constant SETTLER_BOND = 5 ether;
    uint128 internal constant DEMAND_BOND = 0.1 ether;
    uint64 internal constant SUNSET = 1_000_000;

    address internal treasury = address(0x7EA);
    address internal settler = address(0x5E7);
    address internal guardian = address(0x60A);
    address internal governor = address(0x60B);

    AccessManager internal manager;
    ProtocolParameters internal parameters;
    InferenceSettlement internal settlement;
    DatanetRegistry internal datanets;
    ContributionAnchor internal anchors;
    ModelRegistry internal models;

    error AssertionFailed(string what, uint256 left, uint256 right);

    function deployNetwork() internal {
        vm.warp(10_000);
        vm.roll(100);
        manager = new AccessManager(address(this));
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        parameters = new ProtocolParameters(
            address(manager), InferenceSettlement(predicted), treasury, genesis(), lowest(), highest()
        );
        settlement = new InferenceSettlement(
            address(manager), parameters, SETTLER_BOND, DEMAND_BOND, EXIT_DELAY, SUNSET
        );
        datanets = new DatanetRegistry(address(manager), parameters);
        anchors = new ContributionAnchor(parameters, datanets);
        models = new ModelRegistry(parameters, datanets);
        allow(address(settlement), InferenceSettlement.post.selector, SETTLER, settler);
        allow(address(settlement), InferenceSettlement.disable.selector, GUARDIAN, guardian);
        allow(address(datanets), DatanetRegistry.setPaused.selector, GUARDIAN, guardian);
        allow(address(parameters), ProtocolParameters.set.selector, GOVERNOR, governor);
        allow(address(datanets), CommonsVault.release.selector, COMMONS, governor);
        vm.deal(settler, 1000 ether);
        vm.deal(guardian, 1000 ether);
        vm.deal(address(this), 1_000_000 ether);
    }

    function allow(address target, bytes4 selector, uint64 role, address account) internal {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = selector;
        manager.setTargetFunctionRole(target, selectors, role);
        manager.grantRole(role, account, 0);
    }

    // --- records ---

    function genesis() internal pure returns (Parameters memory p) {
        p = Parameters({
            contributorsBps: 4000,
            operatorBps: 3000,
            modelOwnerBps: 1800,
            stakersBps: 600,
            treasuryBps: 600,
            spanBps: 5000,
            minSpanTokens: 6,
            minSpanMillibits: 40_000,
            noiseQuantileBps: 9500,
            lambda: 20_000,
            dustFloor: 0,
            challengeWindow: WINDOW,
            contributionBond: 0.01 ether,
            registrationFee: 1 ether,
            datanetFee: 2 ether
        });
    }

    function lowest() internal pure returns (Parameters memory p) {
        p.contributorsBps = 2000;
        p.challengeWindow = 1;
    }

    function highest() internal pure returns (Parameters memory p) {
        p = Parameters({
            contributorsBps: 10_000,
            operatorBps: 5000,
            modelOwnerBps: 5000,
            stakersBps: 2000,
            treasuryBps: 2000,
            spanBps: 10_000,
            minSpanTokens: 64,
            minSpanMillibits: 1_000_000,
            noiseQuantileBps: 10_000,
            lambda: 1_000_000,
            dustFloor: 1 ether,
            challengeWindow: 30 days,
            contributionBond: 10 ether,
            registrationFee: 100 ether,
            datanetFee: 100 ether
        });
    }

    function epochRecord(uint64 epoch, bytes32 payers, bytes32 earners, uint128 fees)
        internal
        view
        returns (EpochSettlement memory s)
    {
        s.version = RECORD_VERSION;
        s.chainId = uint64(block.chainid);
        s.epoch = epoch;
        s.receiptRoot = keccak256("receipts");
        s.reportRoot = keccak256("reports");
        s.payerCumRoot = payers;
        s.earnerCumRoot = earners;
        s.fees = fees;
        s.receipts = 10_000;
        s.parameters = parameters.digestAt(epoch);
        s.daRef = keccak256("data");
    }

    /// @dev The record is an argument, so that building it cannot use up the prank.
    function post(EpochSettlement memory s) internal {
        vm.prank(settler);
        settlement.post(s);
    }

    function bondSettler() internal {
        vm.prank(settler);
        settlement.bond{value: SETTLER_BOND}();
    }

    function versionRecord(uint64 datanet, uint64 number, bytes32 parent)
        internal
        view
        returns (DatasetVersion memory v)
    {
        v.version = RECORD_VERSION;
        v.chainId = uint64(block.chainid);
        v.datanet = datanet;
        v.number = number;
        v.parent = parent;
        v.rowsRoot = keccak256("rows");
        v.clustersRoot = keccak256("clusters");
        v.policyHash = keccak256("policy");
        v.accepted = 700;
        v.rejected = new ReasonCount[](2);
        v.rejected[0] = ReasonCount("exact-duplicate", 3);
        v.rejected[1] = ReasonCount("personal-data", 4);
    }

    function runRecord(bytes32 base, bytes32 tokenizer, bytes32 dataset)
        internal
        view
        returns (TrainingRun memory r)
    {
        r.version = RECORD_VERSION;
        r.chainId = uint64(block.chainid);
        r.base = base;
        r.tokenizer = tokenizer;
        r.datasets = new bytes32[](1);
        r.datasets[0] = dataset;
        r.recipe = keccak256("recipe");
        r.codeVersion = "0.1.0";
        r.checkpoints = new bytes32[](1);
        r.checkpoints[0] = keccak256("checkpoint");
        r.metrics = keccak256("metrics");
    }

    function adapterRecord(bytes32 run, address owner) internal view returns (Adapter memory a) {
        a.version = RECORD_VERSION;
        a.chainId = uint64(block.chainid);
        a.run = run;
        a.weights = keccak256("weights");
        a.config = keccak256("config");
        a.sketchRoot = keccak256("sketches");
        a.indexRoot = keccak256("index");
        a.evalLossBeforeMicro = 2_000_000;
        a.evalLossAfterMicro = 1_500_000;
        a.priceIn = 10;
        a.priceOut = 20;
        a.owner = owner;
    }

    function defaultSplit() internal pure returns (FeeSplit memory) {
        return FeeSplit(4000, 3000, 1800, 600, 600);
    }

    function signVoucher(uint256 key, Voucher memory v) internal view returns (bytes memory) {
        (uint8 sv, bytes32 r, bytes32 s) = vm.sign(key, settlement.voucherHash(v));
        return bytes.concat(r, s, bytes1(sv));
    }

    // --- assertions ---

    function eq(uint256 left, uint256 right, string memory what) internal pure {
        if (left != right) revert AssertionFailed(what, left, right);
    }

    function eq(address left, address right, string memory what) internal pure {
        eq(uint256(uint160(left)), uint256(uint160(right)), what);
    }

    function eq(bytes32 left, bytes32 right, string memory what) internal pure {
        eq(uint256(left), uint256(right), what);
    }

    function le(uint256 left, uint256 right, string memory what) internal pure {
        if (left > right) revert AssertionFailed(what, left, right);
    }

    function yes(bool condition, string memory what) internal pure {
        if (!condition) revert AssertionFailed(what, 0, 1);
    }

    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + x % (high - low + 1);
    }
}
