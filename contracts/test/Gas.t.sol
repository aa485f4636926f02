// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClaimItem} from "../src/interfaces/IInferenceSettlement.sol";
import {VersionRef} from "../src/interfaces/IModelRegistry.sol";
import {Adapter, DatasetVersion, EpochSettlement, TrainingRun} from "../src/types/Records.sol";
import {Batches} from "./utils/Batches.sol";
import {Trees} from "./utils/Trees.sol";

/// @notice What users pay. Run with `--isolate`, where each call is a transaction of its own with
/// cold storage; the figures are the whole transaction's gas, 21,000 and calldata included.
contract GasTest is Batches {
    address internal alice = address(0xA1);
    address internal payer = address(0xBEE);

    function setUp() public {
        deployNetwork();
        bondSettler();
        vm.deal(alice, 100 ether);
        vm.deal(payer, 100 ether);
        settlement.depositFor{value: 50 ether}(payer);
    }

    function record(string memory group, string memory name) internal returns (uint256) {
        return vm.snapshotGasLastCall(group, name);
    }

    function finalised(bytes32 payers, bytes32 earners, uint128 fees) internal {
        post(epochRecord(settlement.openEpoch(), payers, earners, fees));
        vm.warp(block.timestamp + WINDOW + 1);
        settlement.finalise();
    }

    function testPost() public {
        post(epochRecord(1, "payers", "earners", 1));
        record("settlement", "post, first use of a ring slot");
        vm.warp(block.timestamp + WINDOW + 1);
        settlement.finalise();
        record("settlement", "finalise");
        for (uint64 i = 2; i <= settlement.RING(); ++i) {
            finalised("payers", "earners", 1);
        }
        post(epochRecord(settlement.openEpoch(), "payers", "earners", 1));
        vm.warp(block.timestamp + WINDOW + 1);
        EpochSettlement memory s = epochRecord(settlement.openEpoch(), "payers", "earners", 1);
        post(s);
        uint256 steady = record("settlement", "post, steady state, finalising the one before");
        vm.snapshotValue("settlement", "gas an inference at 10,000 a batch, times 100", steady / 100);
        // The goal of the protocol: at most 10 gas an inference at 10,000 a batch.
        le(steady, 100_000, "steady post");
    }

    function claimAt(uint256 depth, bool funded) internal returns (uint256 all, uint256 execution) {
        address earner = address(uint160(0xEA0000 + depth));
        if (funded) vm.deal(earner, 1);
        (bytes32 root, bytes32[] memory proof) = Trees.path(Trees.line(earner, 1 ether), 5, depth);
        finalised("payers", root, 1 ether);
        settlement.claim(earner, 1 ether, 5, proof);
        string memory name = depth == 10 ? "depth 10" : depth == 20 ? "depth 20" : "depth 30";
        string memory kind = funded ? "claim, first, " : "claim, first, to an empty account, ";
        all = record("settlement", string.concat(kind, name));
        execution = all - intrinsic(abi.encodeCall(settlement.claim, (earner, 1 ether, 5, proof)));
        if (funded) {
            vm.snapshotValue("settlement", string.concat("claim, first, execution only, ", name), execution);
        }
    }

    /// @dev 21,000, and 16 gas a non-zero and 4 gas a zero byte of calldata (EIP-2028).
    function intrinsic(bytes memory data) internal pure returns (uint256 gas) {
        gas = 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            gas += data[i] == 0 ? 4 : 16;
        }
    }

    function testClaim() public {
        for (uint256 depth = 10; depth <= 30; depth += 10) {
            (, uint256 execution) = claimAt(depth, true);
            le(execution, 80_000, "claim");
        }
    }

    function testClaimToEmptyAccount() public {
        claimAt(30, false);
    }

    function testClaimAgain() public {
        vm.deal(alice, 1);
        (bytes32 root, bytes32[] memory proof) = Trees.path(Trees.line(alice, 1 ether), 5, 30);
        finalised("payers", root, 1 ether);
        settlement.claim(alice, 1 ether, 5, proof);
        (root, proof) = Trees.path(Trees.line(alice, 2 ether), 5, 30);
        finalised("payers", root, 1 ether);
        settlement.claim(alice, 2 ether, 5, proof);
        record("settlement", "claim, later, depth 30");
    }

    function testClaimMany() public {
        ClaimItem[] memory items = new ClaimItem[](64);
        bytes32[] memory leaves = new bytes32[](64);
        for (uint256 i = 0; i < 64; ++i) {
            address earner = address(uint160(0xEA1000 + i));
            vm.deal(earner, 1);
            leaves[i] = Trees.line(earner, 1 ether / 64);
            items[i] = ClaimItem(earner, 1 ether / 64, uint64(i), new bytes32[](0));
        }
        for (uint256 i = 0; i < 64; ++i) {
            items[i].proof = Trees.proof(leaves, i);
        }
        finalised("payers", Trees.root(leaves), 1 ether);
        settlement.claimMany(items);
        vm.snapshotValue(
            "settlement",
            "claimMany, 64 earners, an earner",
            record("settlement", "claimMany, 64 earners") / 64
        );
    }

    function testDeposit() public {
        vm.prank(payer);
        settlement.deposit{value: 1 ether}();
        record("settlement", "deposit");
    }

    function testChallenges() public {
        post(epochRecord(1, Trees.line(payer, 51 ether), "earners", 50 ether));
        bytes32[] memory none = new bytes32[](0);
        settlement.challengeOverdraft(1, payer, 51 ether, 0, none);
        record("settlement", "challengeOverdraft");
    }

    function testDataAndModels() public {
        vm.prank(alice);
        datanets.create{value: 2 ether}("Rivers", "CC-BY-4.0", keccak256("policy"), "{text}");
        record("registry", "create Datanet");
        anchorTwice();
        DatasetVersion memory v = versionRecord(1, 1, 0);
        vm.prank(alice);
        bytes32 digest = datanets.publishVersion(v);
        record("registry", "publish version");
        vm.prank(alice);
        models.registerBase{value: 1 ether}("base", "tokenizer", "file://base");
        record("registry", "register base");
        TrainingRun memory r = runRecord("base", "tokenizer", digest);
        Adapter memory a = adapterRecord(keccak256(abi.encode(r)), alice);
        VersionRef[] memory refs = new VersionRef[](1);
        refs[0] = VersionRef(1, 1);
        vm.prank(alice);
        models.registerAdapter{value: 1 ether}(1, a, r, refs, defaultSplit());
        record("registry", "register adapter");
    }

    function anchorTwice() internal {
        anchors.commit("commitment");
        record("anchor", "commit");
        Draft memory first = draft(alice, 1, texts("a", "b"));
        anchor(first);
        record("anchor", "anchor a batch of any size");
        Draft memory second = draft(payer, 1, texts("c", "a"));
        anchor(second);
        anchors.challengeDuplicate(evidence(first, 0), contentsProof(first, 0), evidence(second, 1));
        record("anchor", "challengeDuplicate");
        vm.warp(block.timestamp + WINDOW + 1);
        anchors.finalise(first.id);
        record("anchor", "finalise");
    }
}
