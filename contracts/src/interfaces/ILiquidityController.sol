// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What a minter calls
interface ILiquidityController {
    /// @notice Puts `amount` coins into circulation, at `to`. Only minters. Reverts if `to` refuses.
    function mint(address to, uint256 amount) external;

    /// @notice Takes the sent coins out of circulation. Only minters.
    function burn() external payable;
}
