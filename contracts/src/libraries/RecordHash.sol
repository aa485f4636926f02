// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Contribution, Voucher} from "../types/Records.sol";

/// @title EIP-712 struct hashes of the objects that wallets sign
library RecordHash {
    bytes32 internal constant CONTRIBUTION_TYPEHASH = keccak256(
        "Contribution(uint16 version,uint64 chainId,uint64 datanet,address contributor,bytes32 contentRoot,uint64 size,string licence,uint64 nonce,uint64 commitBlock)"
    );

    bytes32 internal constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(address payer,address settler,uint128 maxCumulative,uint64 nonce,uint64 deadline)"
    );

    /// @notice EIP-712 `hashStruct` of a contribution.
    function structHash(Contribution calldata c) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                CONTRIBUTION_TYPEHASH,
                c.version,
                c.chainId,
                c.datanet,
                c.contributor,
                c.contentRoot,
                c.size,
                keccak256(bytes(c.licence)),
                c.nonce,
                c.commitBlock
            )
        );
    }

    /// @notice EIP-712 `hashStruct` of a voucher.
    function structHash(Voucher calldata v) internal pure returns (bytes32) {
        return
            keccak256(abi.encode(VOUCHER_TYPEHASH, v.payer, v.settler, v.maxCumulative, v.nonce, v.deadline));
    }
}
