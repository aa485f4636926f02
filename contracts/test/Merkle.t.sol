// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaf, Merkle} from "../src/libraries/Merkle.sol";
import {Network} from "./utils/Network.sol";
import {Trees} from "./utils/Trees.sol";

contract MerkleTest is Network {
    function verify(bytes32 root, bytes32 leaf, uint64 index, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return Merkle.verify(root, Leaf.wrap(leaf), index, proof);
    }

    function leaves(uint256 count) internal pure returns (bytes32[] memory out) {
        out = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            out[i] = Trees.line(address(uint160(i + 1)), uint128(i));
        }
    }

    function testLeavesAreDomainSeparated() public pure {
        address account = address(0xA11CE);
        bytes32 expected = keccak256(abi.encodePacked(hex"00", abi.encode(account, uint128(7))));
        eq(Leaf.unwrap(Merkle.leaf(account, 7)), expected, "account line");
        eq(Leaf.unwrap(Merkle.leaf(abi.encode(account, uint128(7)))), expected, "bytes");
        bytes32 word = keccak256("x");
        eq(Leaf.unwrap(Merkle.leaf(word)), keccak256(abi.encodePacked(hex"00", word)), "word");
    }

    function testDirtyBitsDoNotEnterTheLeaf(uint256 dirt) public pure {
        address account;
        uint128 amount;
        assembly {
            account := or(shl(160, dirt), 0x1234)
            amount := or(shl(128, dirt), 7)
        }
        eq(Leaf.unwrap(Merkle.leaf(account, amount)), Trees.line(address(0x1234), 7), "clean");
    }

    function testFuzzEveryPositionHasItsProof(uint256 count, uint256 place, uint64 other) public view {
        count = bound(count, 1, 40);
        place = bound(place, 0, count - 1);
        bytes32[] memory all = leaves(count);
        bytes32 root = Trees.root(all);
        bytes32[] memory proof = Trees.proof(all, place);
        yes(this.verify(root, all[place], uint64(place), proof), "own place");
        if (other != place) yes(!this.verify(root, all[place], other, proof), "other place");
        yes(!this.verify(root, Trees.line(address(1), 999), uint64(place), proof), "other leaf");
    }

    function testFuzzPositionsBeyondTheTreeDoNotAlias(uint64 index, uint256 depth) public view {
        depth = bound(depth, 0, 40);
        uint64 inside = depth >= 64 ? index : uint64(index & ((1 << depth) - 1));
        (bytes32 root, bytes32[] memory proof) = Trees.path(keccak256("leaf"), inside, depth);
        yes(this.verify(root, keccak256("leaf"), inside, proof), "inside");
        if (index != inside) yes(!this.verify(root, keccak256("leaf"), index, proof), "beyond");
    }

    function testAnInnerNodeIsNoLeaf() public view {
        bytes32[] memory all = leaves(4);
        bytes32 inner = Trees.node(all[0], all[1]);
        bytes32[] memory shortProof = new bytes32[](1);
        shortProof[0] = Trees.node(all[2], all[3]);
        // The hash chain closes, which is why leaf data is always hashed with its own prefix first.
        yes(this.verify(Trees.root(all), inner, 0, shortProof), "as a raw hash");
        bytes memory preimage = abi.encodePacked(all[0], all[1]);
        yes(!this.verify(Trees.root(all), Leaf.unwrap(Merkle.leaf(preimage)), 0, shortProof), "as a leaf");
    }
}
