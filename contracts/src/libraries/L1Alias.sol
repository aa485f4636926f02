// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who an L1 caller is on L2
/// @notice A contract's address is shifted by a constant: other code may live at the same address of
/// L2. An account with a key is the same on both sides and keeps its address.
library L1Alias {
    uint160 private constant OFFSET = uint160(0x1111000000000000000000000000000000001111);

    /// @notice The L2 address of the L1 contract `account`. Wraps around.
    function applyTo(address account) internal pure returns (address) {
        unchecked {
            return address(uint160(account) + OFFSET);
        }
    }

    /// @notice The L1 contract behind the L2 address `account`.
    function undo(address account) internal pure returns (address) {
        unchecked {
            return address(uint160(account) - OFFSET);
        }
    }

    /// @notice Whether the caller holds a key: it signed this transaction, or its code is a delegation
    /// of EIP-7702, which only a key can have installed.
    function callerHasKey() internal view returns (bool) {
        if (msg.sender == tx.origin) return true;
        bytes memory code = msg.sender.code.length == 23 ? msg.sender.code : bytes("");
        return code.length == 23 && bytes3(code) == 0xEF0100;
    }

    /// @notice The caller's L2 address.
    function ofCaller() internal view returns (address) {
        return callerHasKey() ? msg.sender : applyTo(msg.sender);
    }
}
