// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";

/// @notice A plain builder of storage tries whose every value is true: the other half of TrieProof.
library StorageTries {
    /// @notice The path of L2ToL1MessagePasser's entry for a withdrawal.
    function path(bytes32 withdrawalHash) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(abi.encode(withdrawalHash, uint256(0)))));
    }

    function root(bytes32[] memory paths) internal pure returns (bytes32) {
        return keccak256(_node(paths, 0));
    }

    /// @notice The nodes from the root to `target`, as eth_getProof gives them.
    function proof(bytes32[] memory paths, bytes32 target) internal pure returns (bytes[] memory nodes) {
        nodes = new bytes[](64);
        uint256 depth = 0;
        uint256 count = 0;
        while (true) {
            nodes[count++] = _node(paths, depth);
            if (paths.length == 1) break;
            uint256 common = _common(paths, depth);
            if (common > 0) {
                depth += common;
            } else {
                paths = _children(paths, depth, _nibble(target, depth));
                depth += 1;
            }
        }
        assembly ("memory-safe") {
            mstore(nodes, count)
        }
    }

    function _node(bytes32[] memory paths, uint256 depth) private pure returns (bytes memory) {
        if (paths.length == 1) {
            return _pair(_compact(paths[0], depth, 64, true), RLP.encode(bytes(hex"01")));
        }
        uint256 common = _common(paths, depth);
        if (common > 0) {
            bytes memory below = _reference(_node(paths, depth + common));
            return _pair(_compact(paths[0], depth, depth + common, false), below);
        }
        bytes[] memory items = new bytes[](17);
        for (uint256 n = 0; n < 16; ++n) {
            bytes32[] memory children = _children(paths, depth, n);
            items[n] = children.length == 0 ? bytes(hex"80") : _reference(_node(children, depth + 1));
        }
        items[16] = hex"80";
        return RLP.encode(items);
    }

    function _pair(bytes memory first, bytes memory second) private pure returns (bytes memory) {
        bytes[] memory items = new bytes[](2);
        items[0] = RLP.encode(first);
        items[1] = second;
        return RLP.encode(items);
    }

    function _reference(bytes memory node) private pure returns (bytes memory) {
        return node.length < 32 ? node : RLP.encode(bytes.concat(keccak256(node)));
    }

    /// @dev Nibbles `from` to `to` with the flag of a leaf or an extension in front.
    function _compact(bytes32 word, uint256 from, uint256 to, bool leaf)
        private
        pure
        returns (bytes memory out)
    {
        bool odd = (to - from) % 2 == 1;
        uint8 flag = (leaf ? 0x20 : 0) + (odd ? 0x10 + uint8(_nibble(word, from)) : 0);
        out = abi.encodePacked(flag);
        for (uint256 i = odd ? from + 1 : from; i < to; i += 2) {
            out = bytes.concat(out, bytes1(uint8(_nibble(word, i) * 16 + _nibble(word, i + 1))));
        }
    }

    function _common(bytes32[] memory paths, uint256 depth) private pure returns (uint256 common) {
        while (true) {
            for (uint256 i = 1; i < paths.length; ++i) {
                if (_nibble(paths[i], depth + common) != _nibble(paths[0], depth + common)) return common;
            }
            ++common;
        }
    }

    function _children(bytes32[] memory paths, uint256 depth, uint256 nibble)
        private
        pure
        returns (bytes32[] memory out)
    {
        out = new bytes32[](paths.length);
        uint256 count = 0;
        for (uint256 i = 0; i < paths.length; ++i) {
            if (_nibble(paths[i], depth) == nibble) out[count++] = paths[i];
        }
        assembly ("memory-safe") {
            mstore(out, count)
        }
    }

    function _nibble(bytes32 word, uint256 i) private pure returns (uint256) {
        return (uint256(word) >> (252 - 4 * i)) & 15;
    }
}
