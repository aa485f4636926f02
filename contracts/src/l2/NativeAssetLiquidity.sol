// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {Predeploys} from "../libraries/Predeploys.sol";

/// @title The coins that nobody has yet
/// @notice Genesis puts coins here; minting takes some out, burning puts them back. What is elsewhere is
/// the circulating supply.
/// @dev Predeploy 0x4200000000000000000000000000000000000029, no constructor, no storage. Genesis gives it
/// at least OPEN's supply less what it allocates to others, so that no mint can find it empty.
contract NativeAssetLiquidity {
    /// @notice Coins were burned.
    event LiquidityDeposited(address indexed caller, uint256 value);
    /// @notice Coins were minted.
    event LiquidityWithdrawn(address indexed caller, uint256 value);

    /// @notice Only LiquidityController moves coins here.
    error NativeAssetLiquidity_Unauthorized();

    modifier onlyController() {
        if (msg.sender != Predeploys.LIQUIDITY_CONTROLLER) revert NativeAssetLiquidity_Unauthorized();
        _;
    }

    /// @notice Takes the sent coins out of circulation.
    function deposit() external payable onlyController {
        emit LiquidityDeposited(msg.sender, msg.value);
    }

    /// @notice Gives coins to the controller.
    function withdraw(uint256 amount) external onlyController {
        emit LiquidityWithdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.0.0";
    }
}
