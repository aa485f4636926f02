// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {InferenceSettlement} from "../src/InferenceSettlement.sol";
import {ProtocolParameters} from "../src/ProtocolParameters.sol";
import {IInferenceSettlement} from "../src/interfaces/IInferenceSettlement.sol";
import {IProtocolParameters} from "../src/interfaces/IProtocolParameters.sol";
import {Parameters} from "../src/types/Records.sol";
import {Network} from "./utils/Network.sol";

contract ProtocolParametersTest is Network {
    function setUp() public {
        deployNetwork();
        bondSettler();
    }

    function post() internal {
        post(epochRecord(settlement.openEpoch(), 0, 0, 0));
    }

    function digest(Parameters memory p) internal pure returns (bytes32) {
        return keccak256(abi.encode(p));
    }

    function set(Parameters memory p) internal {
        vm.prank(governor);
        parameters.set(p);
    }

    function testGenesis() public view {
        eq(parameters.digestAt(0), digest(genesis()), "from the start");
        eq(digest(parameters.current()), digest(genesis()), "current");
        (Parameters memory min, Parameters memory max) = parameters.bounds();
        eq(digest(min), digest(lowest()), "min");
        eq(digest(max), digest(highest()), "max");
        eq(parameters.treasury(), treasury, "treasury");
        eq(address(parameters.clock()), address(settlement), "clock");
    }

    function testChangeTakesEffectWithTheNextEpoch() public {
        Parameters memory p = genesis();
        p.lambda = 7;
        vm.expectEmit();
        emit IProtocolParameters.ParametersSet(2, digest(p), p);
        set(p);
        eq(parameters.current().lambda, 20_000, "open epoch keeps its rules");
        eq(parameters.parametersAt(2).lambda, 7, "next epoch");
        post();
        eq(parameters.current().lambda, 7, "in force");
        eq(parameters.digestAt(1), digest(genesis()), "past epoch");
    }

    function testPendingChangeIsReplaced() public {
        Parameters memory p = genesis();
        p.lambda = 7;
        set(p);
        p.lambda = 8;
        set(p);
        eq(parameters.versions().length, 2, "one version an epoch");
        eq(parameters.parametersAt(2).lambda, 8, "the later one");
    }

    function testOnlyTheGovernorSets() public {
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this))
        );
        parameters.set(genesis());
    }

    function testBoundsHold() public {
        Parameters memory p = genesis();
        p.contributorsBps = 1999;
        p.operatorBps = 5001;
        vm.prank(governor);
        vm.expectRevert(
            abi.encodeWithSelector(IProtocolParameters.OutOfBounds.selector, 0, 1999, 2000, 10_000)
        );
        parameters.set(p);
        p = genesis();
        p.datanetFee = 101 ether;
        vm.prank(governor);
        vm.expectRevert(
            abi.encodeWithSelector(IProtocolParameters.OutOfBounds.selector, 14, 101 ether, 0, 100 ether)
        );
        parameters.set(p);
    }

    function testFuzzSharesSumToTheWhole(uint16 a, uint16 b, uint16 c, uint16 d, uint16 e) public {
        Parameters memory p = genesis();
        p.contributorsBps = uint16(bound(a, 2000, 10_000));
        p.operatorBps = uint16(bound(b, 0, 5000));
        p.modelOwnerBps = uint16(bound(c, 0, 5000));
        p.stakersBps = uint16(bound(d, 0, 2000));
        p.treasuryBps = uint16(bound(e, 0, 2000));
        uint256 sum =
            uint256(p.contributorsBps) + p.operatorBps + p.modelOwnerBps + p.stakersBps + p.treasuryBps;
        vm.prank(governor);
        if (sum != 10_000) {
            vm.expectRevert(abi.encodeWithSelector(IProtocolParameters.SplitNotWhole.selector, sum));
        }
        parameters.set(p);
    }

    /// I11: whatever is set later, the parameters of open and past epochs stay.
    function testFuzzPastIsImmutable(uint256[12] calldata steps) public {
        bytes32[] memory seen = new bytes32[](16);
        for (uint256 i = 0; i < steps.length; ++i) {
            uint64 open = settlement.openEpoch();
            seen[open] = parameters.digestAt(open);
            if (steps[i] % 3 == 0) {
                post();
            } else {
                Parameters memory p = genesis();
                p.lambda = uint32(bound(steps[i], 0, 1_000_000));
                set(p);
            }
            for (uint64 epoch = 1; epoch <= open; ++epoch) {
                eq(parameters.digestAt(epoch), seen[epoch], "past changed");
            }
        }
    }

    function testConstructorRefusesNonsense() public {
        Parameters memory p = genesis();
        vm.expectRevert(IProtocolParameters.ZeroAddress.selector);
        new ProtocolParameters(address(manager), settlement, address(0), p, lowest(), highest());
        p.treasuryBps = 601;
        vm.expectRevert(abi.encodeWithSelector(IProtocolParameters.SplitNotWhole.selector, 10_001));
        new ProtocolParameters(address(manager), settlement, treasury, p, lowest(), highest());
        vm.expectRevert(IInferenceSettlement.WrongClock.selector);
        new InferenceSettlement(address(manager), parameters, 1, 1, 1, 1);
    }
}
