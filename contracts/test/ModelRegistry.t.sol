// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AdapterModel, IModelRegistry, VersionRef} from "../src/interfaces/IModelRegistry.sol";
import {FeeSplit} from "../src/libraries/Split.sol";
import {Adapter, Parameters, TrainingRun} from "../src/types/Records.sol";
import {Network} from "./utils/Network.sol";

contract ModelRegistryTest is Network {
    address internal owner = address(0x0A);
    bytes32 internal constant WEIGHTS = keccak256("base");
    bytes32 internal constant TOKENIZER = keccak256("tokenizer");
    uint64 internal base;
    bytes32 internal version;

    function setUp() public {
        deployNetwork();
        vm.deal(owner, 100 ether);
        vm.prank(owner);
        datanets.create{value: 2 ether}("Rivers", "MIT", keccak256("policy"), "");
        vm.prank(owner);
        version = datanets.publishVersion(versionRecord(1, 1, 0));
        vm.prank(owner);
        base = models.registerBase{value: 1 ether}(WEIGHTS, TOKENIZER, "file://base");
    }

    function refs() internal pure returns (VersionRef[] memory r) {
        r = new VersionRef[](1);
        r[0] = VersionRef(1, 1);
    }

    function records() internal view returns (Adapter memory a, TrainingRun memory r) {
        r = runRecord(WEIGHTS, TOKENIZER, version);
        a = adapterRecord(keccak256(abi.encode(r)), owner);
    }

    function register(Adapter memory a, TrainingRun memory r, FeeSplit memory s) internal returns (uint64) {
        vm.prank(owner);
        return models.registerAdapter{value: 1 ether}(base, a, r, refs(), s);
    }

    function refuse(Adapter memory a, TrainingRun memory r, string memory field) internal {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.BadLineage.selector, field));
        register(a, r, defaultSplit());
    }

    function refuseSplit(FeeSplit memory s, string memory field) internal {
        (Adapter memory a, TrainingRun memory r) = records();
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.BadSplit.selector, field));
        register(a, r, s);
    }

    function testAdapterWithLineage() public {
        (Adapter memory a, TrainingRun memory r) = records();
        uint64 id = register(a, r, defaultSplit());
        eq(id, 2, "ids are shared");
        eq(models.ownerOf(id), owner, "owner");
        AdapterModel memory m = models.adapterOf(id);
        eq(m.digest, keccak256(abi.encode(a)), "digest");
        eq(m.run, a.run, "run");
        eq(m.base, base, "base");
        eq(m.split.contributorsBps, 4000, "split");
        eq(m.priceOut, 20, "price");
        eq(models.idOf(m.digest), id, "lookup");
        eq(treasury.balance, 4 ether, "fees");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, id));
        register(a, r, defaultSplit());
    }

    function testBaseRefusals() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.AlreadyRegistered.selector, base));
        models.registerBase{value: 1 ether}(WEIGHTS, TOKENIZER, "");
        vm.expectRevert(IModelRegistry.ZeroDigest.selector);
        models.registerBase{value: 1 ether}(0, TOKENIZER, "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.WrongFee.selector, 1 ether, 0));
        models.registerBase(keccak256("other"), TOKENIZER, "");
    }

    function testEveryBrokenLinkIsRefused() public {
        (Adapter memory a, TrainingRun memory r) = records();
        r.base = keccak256("other base");
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.base");
        (a, r) = records();
        r.tokenizer = keccak256("other tokenizer");
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.tokenizer");
        (a, r) = records();
        r.datasets[0] = keccak256("other version");
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.datasets");
        (a, r) = records();
        r.datasets = new bytes32[](0);
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.datasets");
        (a, r) = records();
        r.chainId = 5;
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.chainId");
        (a, r) = records();
        a.run = keccak256("other run");
        refuse(a, r, "adapter.run");
        (a, r) = records();
        a.owner = address(0xBAD);
        refuse(a, r, "adapter.owner");
        (a, r) = records();
        a.chainId = 5;
        refuse(a, r, "adapter.chainId");
        (a, r) = records();
        a.version = 1;
        refuse(a, r, "adapter.version");
        (a, r) = records();
        a.mode = 1;
        refuse(a, r, "adapter.mode");
        (a, r) = records();
        r.mode = 2;
        a.mode = 2;
        a.run = keccak256(abi.encode(r));
        refuse(a, r, "run.mode");
    }

    function testDatasetAndBaseMustExist() public {
        (Adapter memory a, TrainingRun memory r) = records();
        VersionRef[] memory missing = refs();
        missing[0].number = 2;
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoSuchVersion.selector, uint64(1), uint64(2)));
        models.registerAdapter{value: 1 ether}(base, a, r, missing, defaultSplit());
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoSuchBase.selector, uint64(7)));
        models.registerAdapter{value: 1 ether}(7, a, r, refs(), defaultSplit());
        vm.prank(owner);
        models.retire(base);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoSuchBase.selector, base));
        register(a, r, defaultSplit());
    }

    function testSplitRules() public {
        refuseSplit(FeeSplit(4000, 3000, 1800, 600, 601), "sum");
        refuseSplit(FeeSplit(1999, 5000, 1801, 600, 600), "contributorsBps");
        refuseSplit(FeeSplit(4600, 3000, 1800, 0, 600), "stakersBps");
        refuseSplit(FeeSplit(4600, 3000, 1800, 600, 0), "treasuryBps");
        (Adapter memory a, TrainingRun memory r) = records();
        register(a, r, FeeSplit(8800, 0, 0, 600, 600));
    }

    function testSplitIsFrozen() public {
        (Adapter memory a, TrainingRun memory r) = records();
        uint64 id = register(a, r, defaultSplit());
        Parameters memory p = genesis();
        (p.stakersBps, p.treasuryBps) = (700, 500);
        vm.prank(governor);
        parameters.set(p);
        bondSettler();
        post(epochRecord(1, 0, 0, 0));
        eq(models.adapterOf(id).split.stakersBps, 600, "old adapter keeps its split");
        a.weights = keccak256("newer");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.BadSplit.selector, "stakersBps"));
        register(a, r, defaultSplit());
    }

    function testOnlyTheOwnerRetires() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotOwner.selector, base, address(this)));
        models.retire(base);
        vm.prank(owner);
        models.retire(base);
        yes(models.baseOf(base).retired, "retired");
    }
}
