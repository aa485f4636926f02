// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice The hash of a leaf. A type of its own, so that a node or a bare digest cannot be passed
/// where a leaf is meant.
type Leaf is bytes32;

/// @title Position-aware Merkle proofs over keccak256
/// @notice leaf = keccak256(0x00 ‖ data), node = keccak256(0x01 ‖ left ‖ right), leaves padded with
/// zero words to a power of two. The prefixes keep a node from being passed off as a leaf (RFC 6962
/// §2.1), and the index, not the order of the hashes, says on which side a sibling stands.
library Merkle {
    /// @notice The leaf that carries `data`.
    function leaf(bytes memory data) internal pure returns (Leaf) {
        return Leaf.wrap(keccak256(bytes.concat(hex"00", data)));
    }

    /// @notice The leaf of one account's line in a cumulative tree: `abi.encode(account, cumulative)`.
    function leaf(address account, uint128 cumulative) internal pure returns (Leaf hash) {
        assembly ("memory-safe") {
            // 1 + 32 + 32 bytes; the free memory behind the pointer serves as scratch space.
            let ptr := mload(0x40)
            mstore8(ptr, 0x00)
            mstore(add(ptr, 1), and(account, 0xffffffffffffffffffffffffffffffffffffffff))
            mstore(add(ptr, 33), and(cumulative, 0xffffffffffffffffffffffffffffffff))
            hash := keccak256(ptr, 65)
        }
    }

    /// @notice The leaf of one word, `abi.encode(word)`.
    function leaf(bytes32 word) internal pure returns (Leaf hash) {
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore8(ptr, 0x00)
            mstore(add(ptr, 1), word)
            hash := keccak256(ptr, 33)
        }
    }

    /// @notice Whether `item` stands at `index` of the tree with this `root`.
    /// @param proof The siblings from the leaf up to the root.
    function verify(bytes32 root, Leaf item, uint64 index, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        return rootOf(Leaf.unwrap(item), index, proof) == root;
    }

    /// @notice The root that follows from a node, its position in its level and its siblings; zero
    /// when the position lies outside a tree of that height (it would alias a lower one).
    function rootOf(bytes32 hash, uint64 index, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32 root)
    {
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore8(ptr, 0x01)
            let left := add(ptr, 1)
            let right := add(ptr, 33)
            let end := add(proof.offset, shl(5, proof.length))
            for { let sibling := proof.offset } lt(sibling, end) { sibling := add(sibling, 0x20) } {
                switch and(index, 1)
                case 0 {
                    mstore(left, hash)
                    mstore(right, calldataload(sibling))
                }
                default {
                    mstore(left, calldataload(sibling))
                    mstore(right, hash)
                }
                hash := keccak256(ptr, 65)
                index := shr(1, index)
            }
            if iszero(index) { root := hash }
        }
    }
}
