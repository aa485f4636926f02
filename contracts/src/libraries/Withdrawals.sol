// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TrieProof} from "@openzeppelin/contracts/utils/cryptography/TrieProof.sol";

import {OutputRootProof, WithdrawalTransaction} from "../types/Rollup.sol";

/// @title Hashes of withdrawals, and proofs that one was sent
library Withdrawals {
    /// @notice What L2ToL1MessagePasser stores for a withdrawal.
    function hash(WithdrawalTransaction memory w) internal pure returns (bytes32) {
        return keccak256(abi.encode(w.nonce, w.sender, w.target, w.value, w.gasLimit, w.data));
    }

    /// @notice The output root that `proof` opens.
    function outputRoot(OutputRootProof memory proof) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(proof.version, proof.stateRoot, proof.messagePasserStorageRoot, proof.latestBlockhash)
        );
    }

    /// @notice Whether the storage trie with `root` maps `withdrawalHash` to true in slot 0's mapping.
    function isSent(bytes32 root, bytes32 withdrawalHash, bytes[] memory proof) internal pure returns (bool) {
        bytes32 slot = keccak256(abi.encode(withdrawalHash, uint256(0)));
        return TrieProof.verify(hex"01", root, bytes.concat(keccak256(abi.encode(slot))), proof);
    }
}
