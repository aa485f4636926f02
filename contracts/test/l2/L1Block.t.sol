// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {L1Block} from "../../src/l2/L1Block.sol";
import {Predeploys} from "../../src/libraries/Predeploys.sol";
import {Rollup} from "../utils/Rollup.sol";

/// @notice The attributes transaction's encodings, and the slots that the node reads.
contract L1BlockTest is Rollup {
    struct Attributes {
        uint32 baseFeeScalar;
        uint32 blobBaseFeeScalar;
        uint64 sequenceNumber;
        uint64 timestamp;
        uint64 number;
        uint256 basefee;
        uint256 blobBaseFee;
        bytes32 hash;
        bytes32 batcherHash;
        uint32 operatorFeeScalar;
        uint64 operatorFeeConstant;
        uint16 footprint;
    }

    function setUp() public {
        deployRollup();
    }

    function ecotone(Attributes memory a) internal pure returns (bytes memory) {
        return abi.encodePacked(
            a.baseFeeScalar,
            a.blobBaseFeeScalar,
            a.sequenceNumber,
            a.timestamp,
            a.number,
            a.basefee,
            a.blobBaseFee,
            a.hash,
            a.batcherHash
        );
    }

    function send(bytes memory data) internal {
        vm.prank(Predeploys.DEPOSITOR);
        (bool ok,) = address(l1Block).call(data);
        yes(ok, "attributes");
    }

    function slot(uint256 i) internal view returns (uint256) {
        return uint256(vm.load(address(l1Block), bytes32(i)));
    }

    function expectEcotone(Attributes memory a) internal view {
        eq(l1Block.baseFeeScalar(), a.baseFeeScalar, "baseFeeScalar");
        eq(l1Block.blobBaseFeeScalar(), a.blobBaseFeeScalar, "blobBaseFeeScalar");
        eq(l1Block.sequenceNumber(), a.sequenceNumber, "sequenceNumber");
        eq(l1Block.timestamp(), a.timestamp, "timestamp");
        eq(l1Block.number(), a.number, "number");
        eq(l1Block.basefee(), a.basefee, "basefee");
        eq(l1Block.blobBaseFee(), a.blobBaseFee, "blobBaseFee");
        eq(l1Block.hash(), a.hash, "hash");
        eq(l1Block.batcherHash(), a.batcherHash, "batcherHash");
        // The layout that op-revm reads.
        eq(slot(0), uint256(a.timestamp) << 64 | a.number, "slot 0");
        eq(slot(1), a.basefee, "slot 1");
        eq(
            slot(3),
            uint256(a.baseFeeScalar) << 96 | uint256(a.blobBaseFeeScalar) << 64 | a.sequenceNumber,
            "slot 3"
        );
        eq(slot(7), a.blobBaseFee, "slot 7");
    }

    function testEcotone(Attributes memory a) public {
        send(bytes.concat(hex"440a5e20", ecotone(a)));
        expectEcotone(a);
        eq(slot(8), 0, "slot 8");
    }

    function testIsthmus(Attributes memory a) public {
        send(
            bytes.concat(
                hex"098999be", ecotone(a), abi.encodePacked(a.operatorFeeScalar, a.operatorFeeConstant)
            )
        );
        expectEcotone(a);
        eq(slot(8), uint256(a.operatorFeeScalar) << 64 | a.operatorFeeConstant, "slot 8");
    }

    function testJovian(Attributes memory a) public {
        bytes memory fees = abi.encodePacked(a.operatorFeeScalar, a.operatorFeeConstant, a.footprint);
        bytes memory data = bytes.concat(hex"3db6be2b", ecotone(a), fees);
        eq(data.length, 178, "length");
        send(data);
        expectEcotone(a);
        eq(l1Block.operatorFeeScalar(), a.operatorFeeScalar, "operator scalar");
        eq(l1Block.operatorFeeConstant(), a.operatorFeeConstant, "operator constant");
        eq(l1Block.daFootprintGasScalar(), a.footprint, "footprint");
        uint256 packed =
            uint256(a.footprint) << 96 | uint256(a.operatorFeeScalar) << 64 | a.operatorFeeConstant;
        eq(slot(8), packed, "slot 8");
    }

    function testSelectors() public pure {
        eq(bytes32(L1Block.setL1BlockValuesEcotone.selector), bytes32(hex"440a5e20"), "ecotone");
        eq(bytes32(L1Block.setL1BlockValuesIsthmus.selector), bytes32(hex"098999be"), "isthmus");
        eq(bytes32(L1Block.setL1BlockValuesJovian.selector), bytes32(hex"3db6be2b"), "jovian");
    }

    function testOnlyTheDepositor() public {
        vm.expectRevert(L1Block.NotDepositor.selector);
        l1Block.setL1BlockValuesEcotone();
        vm.expectRevert(L1Block.NotDepositor.selector);
        l1Block.setL1BlockValuesIsthmus();
        vm.expectRevert(L1Block.NotDepositor.selector);
        l1Block.setL1BlockValuesJovian();
    }

    function testToken() public view {
        yes(l1Block.isCustomGasToken(), "custom gas token");
        eq(l1Block.DEPOSITOR_ACCOUNT(), Predeploys.DEPOSITOR, "depositor");
        (address token, uint8 decimals) = l1Block.gasPayingToken();
        eq(token, 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE, "token");
        eq(decimals, 18, "decimals");
        eq(keccak256(bytes(l1Block.gasPayingTokenName())), keccak256("OpenLedger"), "name");
        eq(keccak256(bytes(l1Block.gasPayingTokenSymbol())), keccak256("OPEN"), "symbol");
        yes(bytes(l1Block.version()).length > 0, "version");
    }
}
