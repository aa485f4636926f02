// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {SystemConfig, SystemSettings} from "../../src/l1/SystemConfig.sol";
import {Rollup} from "../utils/Rollup.sol";
import {Vm} from "../utils/Vm.sol";

/// @notice The settings, and the events that nodes derive them from.
contract SystemConfigTest is Rollup {
    bytes32 internal constant CONFIG_UPDATE = keccak256("ConfigUpdate(uint256,uint8,bytes)");

    function setUp() public {
        deployRollup();
    }

    /// @dev The raw log, as a node parses it: pointer, length, words.
    function expectLog(Vm.Log memory log, uint256 kind, bytes memory words) internal view {
        eq(log.emitter, address(config), "emitter");
        eq(log.topics[0], CONFIG_UPDATE, "topic");
        eq(uint256(log.topics[1]), 0, "version");
        eq(uint256(log.topics[2]), kind, "kind");
        eq(keccak256(log.data), keccak256(bytes.concat(abi.encode(32, words.length), words)), "data");
    }

    function lastLog() internal returns (Vm.Log memory) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1, "one event");
        return logs[0];
    }

    function testStart() public {
        vm.recordLogs();
        SystemSettings memory s = systemSettings();
        config = new SystemConfig(s);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 5, "ownership and four settings");
        uint256 packed = 1 << 248 | uint256(1_014_213) << 32 | 5227;
        expectLog(logs[1], 0, abi.encode(s.batcherHash));
        expectLog(logs[2], 1, abi.encode(0, packed));
        expectLog(logs[3], 2, abi.encode(60_000_000));
        expectLog(logs[4], 3, abi.encode(address(0x516)));
        eq(config.batcherHash(), s.batcherHash, "batcher");
        eq(config.overhead(), 0, "overhead");
        eq(config.scalar(), packed, "scalar");
        eq(config.basefeeScalar(), 5227, "basefeeScalar");
        eq(config.blobbasefeeScalar(), 1_014_213, "blobbasefeeScalar");
        eq(config.gasLimit(), 60_000_000, "gasLimit");
        eq(config.eip1559Denominator(), 250, "denominator");
        eq(config.eip1559Elasticity(), 6, "elasticity");
        eq(config.operatorFeeScalar(), 1000, "operator scalar");
        eq(config.operatorFeeConstant(), 7, "operator constant");
        eq(config.minBaseFee(), 1_000_000, "minBaseFee");
        eq(config.daFootprintGasScalar(), 400, "footprint");
        eq(config.unsafeBlockSigner(), address(0x516), "signer");
        eq(config.batchInbox(), address(0xFF01), "inbox");
        eq(config.startBlock(), block.number, "startBlock");
        eq(config.optimismPortal(), address(portal), "portal");
        eq(config.disputeGameFactory(), address(factory), "factory");
        eq(config.owner(), governor, "owner");
        (address token, uint8 decimals) = config.gasPayingToken();
        eq(token, address(open), "token");
        eq(decimals, 18, "decimals");
        yes(config.isCustomGasToken() && config.isFeatureEnabled("CUSTOM_GAS_TOKEN"), "custom gas token");
        yes(!config.isFeatureEnabled("INTEROP"), "nothing else");
        yes(bytes(config.version()).length > 0, "version");
    }

    function testEventOfBatcher(uint256 x) public {
        vm.recordLogs();
        vm.prank(governor);
        config.setBatcherHash(bytes32(x | 1));
        expectLog(lastLog(), 0, abi.encode(x | 1));
    }

    function testEventsOfScalars(uint32 a, uint32 b) public {
        vm.recordLogs();
        vm.prank(governor);
        config.setGasConfigEcotone(a, b);
        bytes memory packed = abi.encodePacked(uint8(1), bytes23(0), b, a);
        expectLog(lastLog(), 1, abi.encodePacked(uint256(0), packed));
    }

    function testEventsOfLimits(uint256 x, uint32 a, uint32 b, uint64 c, uint16 d) public {
        uint64 gas = uint64(bound(x, config.minimumGasLimit(), config.maximumGasLimit()));
        (a, b) = (a | 1, b | 1);
        vm.recordLogs();
        vm.prank(governor);
        config.setGasLimit(gas);
        expectLog(lastLog(), 2, abi.encode(gas));
        vm.prank(governor);
        config.setUnsafeBlockSigner(address(uint160(x | 1)));
        expectLog(lastLog(), 3, abi.encode(address(uint160(x | 1))));
        vm.prank(governor);
        config.setEIP1559Params(a, b);
        expectLog(lastLog(), 4, abi.encodePacked(bytes24(0), a, b));
        vm.prank(governor);
        config.setOperatorFeeScalars(a, c);
        expectLog(lastLog(), 5, abi.encodePacked(bytes20(0), a, c));
        vm.prank(governor);
        config.setMinBaseFee(c);
        expectLog(lastLog(), 6, abi.encode(c));
        vm.prank(governor);
        config.setDAFootprintGasScalar(d);
        expectLog(lastLog(), 7, abi.encode(d));
        eq(config.gasLimit(), gas, "gas");
        eq(config.minBaseFee(), c, "min base fee");
        eq(config.daFootprintGasScalar(), d, "footprint");
    }

    function testBounds() public {
        uint64 low = config.minimumGasLimit() - 1;
        uint64 high = config.maximumGasLimit() + 1;
        vm.prank(governor);
        vm.expectRevert(abi.encodeWithSelector(SystemConfig.GasLimitOutOfRange.selector, low));
        config.setGasLimit(low);
        vm.prank(governor);
        vm.expectRevert(abi.encodeWithSelector(SystemConfig.GasLimitOutOfRange.selector, high));
        config.setGasLimit(high);
        vm.prank(governor);
        vm.expectRevert(SystemConfig.ZeroFeeParameter.selector);
        config.setEIP1559Params(0, 1);
        vm.prank(governor);
        vm.expectRevert(SystemConfig.ZeroFeeParameter.selector);
        config.setEIP1559Params(1, 0);
        vm.prank(governor);
        vm.expectRevert(SystemConfig.ZeroAddress.selector);
        config.setBatcherHash(0);
        vm.prank(governor);
        vm.expectRevert(SystemConfig.ZeroAddress.selector);
        config.setUnsafeBlockSigner(address(0));
        SystemSettings memory s = systemSettings();
        s.batchInbox = address(0);
        vm.expectRevert(SystemConfig.ZeroAddress.selector);
        new SystemConfig(s);
        s = systemSettings();
        s.eip1559Elasticity = 0;
        vm.expectRevert(SystemConfig.ZeroFeeParameter.selector);
        new SystemConfig(s);
    }

    function denied() internal {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
    }

    function testOnlyTheOwner() public {
        denied();
        config.setBatcherHash("x");
        denied();
        config.setGasConfigEcotone(1, 1);
        denied();
        config.setGasLimit(30_000_000);
        denied();
        config.setUnsafeBlockSigner(address(1));
        denied();
        config.setEIP1559Params(1, 1);
        denied();
        config.setOperatorFeeScalars(1, 1);
        denied();
        config.setMinBaseFee(1);
        denied();
        config.setDAFootprintGasScalar(1);
    }
}
