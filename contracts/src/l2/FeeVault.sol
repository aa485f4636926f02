// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title Collects one kind of fee
/// @notice Four vaults share this code: sequencer's tips (0x4200000000000000000000000000000000000011),
/// base fees (…19), L1 fees (…1A), operator fees (…1b). Anybody can send the content to the recipient.
/// @dev Predeploys without a constructor. Slots: 0 recipient, 1 minimum, 2 totalProcessed (zero at genesis).
contract FeeVault {
    /// @notice Where the fees go.
    enum WithdrawalNetwork {
        L1,
        L2
    }

    /// @notice The content was sent, in the older and the newer form of the event.
    event Withdrawal(uint256 value, address to, address from);
    event Withdrawal(uint256 value, address to, address from, WithdrawalNetwork withdrawalNetwork);

    /// @notice Too little to send.
    error BelowMinimum(uint256 balance, uint256 minimum);

    address public recipient;
    uint256 public minWithdrawalAmount;
    /// @notice Everything ever sent.
    uint256 public totalProcessed;

    receive() external payable {}

    /// @notice Sends the content to the recipient on L2.
    function withdraw() external returns (uint256 value) {
        value = address(this).balance;
        if (value < minWithdrawalAmount) revert BelowMinimum(value, minWithdrawalAmount);
        totalProcessed += value;
        emit Withdrawal(value, recipient, msg.sender);
        emit Withdrawal(value, recipient, msg.sender, WithdrawalNetwork.L2);
        Address.sendValue(payable(recipient), value);
    }

    /// @notice Fees stay on L2, where the coin is native.
    function withdrawalNetwork() public pure returns (WithdrawalNetwork) {
        return WithdrawalNetwork.L2;
    }

    /// @notice The same under the older name.
    function WITHDRAWAL_NETWORK() external pure returns (WithdrawalNetwork) {
        return withdrawalNetwork();
    }

    /// @notice The same under the older name.
    function RECIPIENT() external view returns (address) {
        return recipient;
    }

    /// @notice The same under the older name.
    function MIN_WITHDRAWAL_AMOUNT() external view returns (uint256) {
        return minWithdrawalAmount;
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.6.0";
    }
}
