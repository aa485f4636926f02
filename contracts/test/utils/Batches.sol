// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Evidence} from "../../src/interfaces/IContributionAnchor.sol";
import {Contribution, RECORD_VERSION} from "../../src/types/Records.sol";
import {Network} from "./Network.sol";
import {Trees} from "./Trees.sol";

/// @notice Builds, commits to and anchors batches of signed contributions.
abstract contract Batches is Network {
    struct Draft {
        address submitter;
        uint64 datanet;
        bytes32 salt;
        bytes32[] committed;
        Contribution[] items;
        bytes[] signatures;
        uint64 id;
    }

    uint256 internal constant KEY = 0xA11CE;

    function contentsRoot(Draft memory d) internal pure returns (bytes32) {
        return Trees.root(contentLeaves(d));
    }

    function contentLeaves(Draft memory d) internal pure returns (bytes32[] memory out) {
        out = new bytes32[](d.committed.length);
        for (uint256 i = 0; i < out.length; ++i) {
            out[i] = Trees.word(d.committed[i]);
        }
    }

    function leaves(Draft memory d) internal pure returns (bytes32[] memory out) {
        out = new bytes32[](d.items.length);
        for (uint256 i = 0; i < out.length; ++i) {
            out[i] = keccak256(bytes.concat(hex"00", abi.encode(d.items[i]), d.signatures[i]));
        }
    }

    /// @notice Commits in this block and signs `contents` as they are.
    function draft(address submitter, uint64 datanet, bytes32[] memory contents)
        internal
        returns (Draft memory d)
    {
        d.submitter = submitter;
        d.datanet = datanet;
        d.salt = keccak256(abi.encode(submitter, contents, block.number));
        d.committed = contents;
        d.items = new Contribution[](contents.length);
        d.signatures = new bytes[](contents.length);
        vm.prank(submitter);
        anchors.commit(keccak256(abi.encode(submitter, datanet, contentsRoot(d), d.salt)));
        for (uint256 i = 0; i < contents.length; ++i) {
            d.items[i] = Contribution({
                version: RECORD_VERSION,
                chainId: uint64(block.chainid),
                datanet: datanet,
                contributor: vm.addr(KEY + i),
                contentRoot: contents[i],
                size: 100,
                licence: "CC-BY-4.0",
                nonce: uint64(i),
                commitBlock: uint64(block.number)
            });
            resign(d, i, KEY + i);
        }
    }

    function resign(Draft memory d, uint256 i, uint256 key) internal view {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, anchors.contributionHash(d.items[i]));
        d.signatures[i] = bytes.concat(r, s, bytes1(v));
    }

    function tryAnchor(Draft memory d) internal returns (uint64) {
        bytes32 root = Trees.root(leaves(d));
        bytes32 contents = contentsRoot(d);
        vm.prank(d.submitter);
        return
            anchors.anchor(d.datanet, root, contents, uint64(d.items.length), 100, keccak256("data"), d.salt);
    }

    function anchor(Draft memory d) internal {
        vm.roll(block.number + 1);
        vm.prank(d.submitter);
        anchors.depositBond{value: 0.01 ether * d.items.length}();
        d.id = tryAnchor(d);
    }

    function evidence(Draft memory d, uint256 i) internal pure returns (Evidence memory) {
        return Evidence(d.id, uint64(i), d.items[i], d.signatures[i], Trees.proof(leaves(d), i));
    }

    function contentsProof(Draft memory d, uint256 i) internal pure returns (bytes32[] memory) {
        return Trees.proof(contentLeaves(d), i);
    }

    function texts(bytes32 a, bytes32 b) internal pure returns (bytes32[] memory out) {
        out = new bytes32[](2);
        (out[0], out[1]) = (a, b);
    }
}
