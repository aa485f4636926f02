// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CommonsVault} from "../src/CommonsVault.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {DatasetVersion} from "../src/types/Records.sol";
import {Network} from "./utils/Network.sol";

contract DatanetRegistryTest is Network {
    address internal curator = address(0xC0);
    address internal stranger = address(0xBAD);

    function setUp() public {
        deployNetwork();
        vm.deal(curator, 100 ether);
    }

    function create() internal returns (uint64) {
        vm.prank(curator);
        return datanets.create{value: 2 ether}("Rivers", "CC-BY-4.0", keccak256("policy"), "{text}");
    }

    function publish(DatasetVersion memory v) internal returns (bytes32) {
        vm.prank(curator);
        return datanets.publishVersion(v);
    }

    function refusePublish(DatasetVersion memory v, string memory field) internal {
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.BadVersion.selector, field));
        publish(v);
    }

    function testCreatePaysTheTreasury() public {
        uint64 id = create();
        eq(id, 1, "first id");
        eq(datanets.ownerOf(1), curator, "owner");
        eq(treasury.balance, 2 ether, "fee");
        yes(datanets.commons(1).code.length > 0, "vault exists");
        eq(create(), 2, "second id");
        yes(datanets.commons(1) != datanets.commons(2), "a vault each");
    }

    function testCreateRefusals() public {
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.WrongFee.selector, 2 ether, 1 ether));
        datanets.create{value: 1 ether}("x", "MIT", 0, "");
        vm.expectRevert(IDatanetRegistry.BadName.selector);
        datanets.create{value: 2 ether}("", "MIT", 0, "");
        string memory long = "0123456789012345678901234567890123456789012345678901234567890123x";
        vm.expectRevert(IDatanetRegistry.BadName.selector);
        datanets.create{value: 2 ether}(long, "MIT", 0, "");
        vm.etch(treasury, hex"60006000fd");
        vm.expectRevert(IDatanetRegistry.TreasuryRefused.selector);
        datanets.create{value: 2 ether}("x", "MIT", 0, "");
    }

    function testVersionsFormAChain() public {
        create();
        DatasetVersion memory v = versionRecord(1, 1, 0);
        bytes32 first = publish(v);
        eq(first, keccak256(abi.encode(v)), "digest");
        eq(datanets.versionDigest(1, 1), first, "stored");
        refusePublish(v, "number");
        refusePublish(versionRecord(1, 3, first), "number");
        refusePublish(versionRecord(1, 2, 0), "parent");
        v = versionRecord(1, 2, first);
        v.chainId = 5;
        refusePublish(v, "chainId");
        v = versionRecord(1, 2, first);
        v.version = 1;
        refusePublish(v, "version");
        v = versionRecord(1, 2, first);
        v.policyHash = 0;
        refusePublish(v, "policyHash");
        publish(versionRecord(1, 2, first));
        (, uint64 latest,,) = datanets.info(1);
        eq(latest, 2, "latest");
    }

    function testPolicyAppliesToFutureVersions() public {
        create();
        vm.prank(curator);
        datanets.setPolicy(1, keccak256("stricter"));
        refusePublish(versionRecord(1, 1, 0), "policyHash");
        DatasetVersion memory v = versionRecord(1, 1, 0);
        v.policyHash = keccak256("stricter");
        publish(v);
    }

    function testCuratorRightsMoveWithTheToken() public {
        create();
        vm.prank(curator);
        datanets.transferFrom(curator, stranger, 1);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NotCurator.selector, uint64(1), curator));
        publish(versionRecord(1, 1, 0));
        vm.prank(stranger);
        datanets.publishVersion(versionRecord(1, 1, 0));
    }

    function testPause() public {
        create();
        datanets.requireOpen(1);
        vm.prank(guardian);
        datanets.setPaused(1, true);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.Paused.selector, uint64(1)));
        datanets.requireOpen(1);
        vm.prank(curator);
        datanets.setPaused(1, false);
        datanets.requireOpen(1);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NotCurator.selector, uint64(1), stranger));
        datanets.setPaused(1, true);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NoSuchDatanet.selector, uint64(9)));
        datanets.requireOpen(9);
    }

    function testOnlyGovernanceSpendsTheCommons() public {
        create();
        address vault = datanets.commons(1);
        (bool ok,) = vault.call{value: 3 ether}("");
        yes(ok, "the vault takes coins");
        vm.prank(curator);
        vm.expectRevert(abi.encodeWithSelector(CommonsVault.Unauthorised.selector, curator));
        CommonsVault(payable(vault)).release(payable(curator), 1 ether);
        vm.prank(governor);
        CommonsVault(payable(vault)).release(payable(stranger), 1 ether);
        eq(stranger.balance, 1 ether, "released");
        eq(vault.balance, 2 ether, "rest");
    }
}
