// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaf, Merkle} from "../../src/libraries/Merkle.sol";

/// @notice A plain builder of the protocol's Merkle trees: the other half of `Merkle.verify`.
library Trees {
    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        bytes32[] memory level = _pad(leaves);
        while (level.length > 1) level = _up(level);
        return level.length == 0 ? bytes32(0) : level[0];
    }

    function proof(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32[] memory siblings) {
        bytes32[] memory level = _pad(leaves);
        uint256 depth = 0;
        for (uint256 n = level.length; n > 1; n /= 2) {
            ++depth;
        }
        siblings = new bytes32[](depth);
        for (uint256 i = 0; i < depth; ++i) {
            siblings[i] = level[index ^ 1];
            index /= 2;
            level = _up(level);
        }
    }

    /// @notice A made-up path of `depth` siblings and the root that it leads to.
    function path(bytes32 leaf, uint64 index, uint256 depth)
        internal
        pure
        returns (bytes32 top, bytes32[] memory siblings)
    {
        siblings = new bytes32[](depth);
        top = leaf;
        for (uint256 i = 0; i < depth; ++i) {
            siblings[i] = keccak256(abi.encode("sibling", i));
            top = (index >> i) & 1 == 0 ? node(top, siblings[i]) : node(siblings[i], top);
        }
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"01", left, right));
    }

    function line(address account, uint128 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"00", abi.encode(account, cumulative)));
    }

    function word(bytes32 data) internal pure returns (bytes32) {
        return Leaf.unwrap(Merkle.leaf(bytes.concat(data)));
    }

    function _pad(bytes32[] memory leaves) private pure returns (bytes32[] memory padded) {
        if (leaves.length == 0) return leaves;
        uint256 size = 1;
        while (size < leaves.length) size *= 2;
        padded = new bytes32[](size);
        for (uint256 i = 0; i < leaves.length; ++i) {
            padded[i] = leaves[i];
        }
    }

    function _up(bytes32[] memory level) private pure returns (bytes32[] memory above) {
        above = new bytes32[](level.length / 2);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = node(level[2 * i], level[2 * i + 1]);
        }
    }
}
