// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Withdrawals} from "../libraries/Withdrawals.sol";
import {WithdrawalTransaction} from "../types/Rollup.sol";

/// @title Where calls to L1 start
/// @notice Each is one entry in storage, which the output root commits to and the portal proves.
/// @dev Predeploy 0x4200000000000000000000000000000000000016, no constructor. Slots: 0 sentMessages,
/// 1 the message count. Both empty at genesis.
contract L2ToL1MessagePasser {
    /// @notice A call to L1 was asked for.
    event MessagePassed(
        uint256 indexed nonce,
        address indexed sender,
        address indexed target,
        uint256 value,
        uint256 gasLimit,
        bytes data,
        bytes32 withdrawalHash
    );

    /// @notice The native coin is not ETH, so it cannot leave here; use OpenMinter.
    error L2ToL1MessagePasser_NotAllowedOnCGTMode();

    /// @notice Version of the encoding, in the upper two bytes of a nonce.
    uint16 public constant MESSAGE_VERSION = 1;

    mapping(bytes32 withdrawalHash => bool) public sentMessages;
    uint240 private _count;

    receive() external payable {
        revert L2ToL1MessagePasser_NotAllowedOnCGTMode();
    }

    /// @notice Asks for a call of `target` on L1 with at least `gasLimit` gas.
    function initiateWithdrawal(address target, uint256 gasLimit, bytes memory data) external payable {
        if (msg.value != 0) revert L2ToL1MessagePasser_NotAllowedOnCGTMode();
        uint256 nonce = messageNonce();
        bytes32 hash = Withdrawals.hash(WithdrawalTransaction(nonce, msg.sender, target, 0, gasLimit, data));
        sentMessages[hash] = true;
        emit MessagePassed(nonce, msg.sender, target, 0, gasLimit, data, hash);
        _count += 1;
    }

    /// @notice The next message's nonce.
    function messageNonce() public view returns (uint256) {
        return uint256(MESSAGE_VERSION) << 240 | _count;
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.2.0";
    }
}
