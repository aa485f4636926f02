// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Sending the native coin without trusting the receiver
library Payouts {
    /// @notice Where burned coins go: an address whose key nobody can have.
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    /// @notice Gas that a receiver may use: enough for the receive hooks of smart wallets, too
    /// little to make a batch of payouts fail.
    uint256 internal constant STIPEND = 50_000;

    /// @notice Too little gas is left to give the receiver its full stipend. Without this check a
    /// caller could make a stranger's payout fail on purpose.
    error NotEnoughGas();

    /// @notice Sends `amount` to `to`; false if the receiver refuses. Returned data is ignored, so
    /// that a receiver cannot make the sender pay for copying it.
    function trySend(address to, uint256 amount) internal returns (bool ok) {
        // A call forwards at most 63/64 of what is left (EIP-150) and costs up to 36,600 itself.
        if (gasleft() < STIPEND + STIPEND / 32 + 40_000) revert NotEnoughGas();
        assembly ("memory-safe") {
            ok := call(50000, to, amount, 0, 0, 0, 0)
        }
    }
}
