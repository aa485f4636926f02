// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ILiquidityController} from "../interfaces/ILiquidityController.sol";
import {IOpenBridge} from "../interfaces/IOpenBridge.sol";
import {IOpenMinter} from "../interfaces/IOpenMinter.sol";
import {L1Alias} from "../libraries/L1Alias.sol";
import {Predeploys} from "../libraries/Predeploys.sol";
import {L2ToL1MessagePasser} from "./L2ToL1MessagePasser.sol";

/// @title Moves OPEN between L2, where it is the gas coin, and L1, where it is a token
/// @notice The other half of OpenBridge. This contract never holds coins: they go from and to
/// NativeAssetLiquidity.
/// @dev Predeploy 0x4F50454E00000000000000000000000000000001, no constructor. Slots: 0 the L1 address of
/// OpenBridge, as it is on L1, right-aligned; its alias is computed. 1 owed, empty at genesis.
contract OpenMinter is IOpenMinter {
    /// @notice Coins arrived from L1.
    event Minted(address indexed from, address indexed to, uint256 amount);
    /// @notice Coins arrived, but could not be given to `to`, who can `claim` them.
    event MintRefused(address indexed from, address indexed to, uint256 amount);
    /// @notice Refused coins were given out.
    event Claimed(address indexed account, address indexed to, uint256 amount);
    /// @notice Coins left for L1; `to` gets OPEN there once the withdrawal is executed.
    event Withdrawn(address indexed from, address indexed to, uint256 amount);

    /// @notice The caller is not OpenBridge's alias.
    error NotBridge();
    /// @notice No coins were sent.
    error NoCoins();
    /// @notice OPEN cannot be released to this address.
    error BadReceiver(address to);
    /// @notice No L1 block could execute the withdrawal.
    error BadGasLimit(uint256 gasLimit);
    /// @notice Nothing to claim.
    error NothingOwed();

    /// @notice Gas for giving coins out. OpenBridge buys more than that for the whole mint, so that what
    /// remains suffices to note refused coins, whatever the receiver does.
    uint256 public constant MINT_GAS = 150_000;
    /// @notice Least gas of a release on L1: a transfer of OPEN that moves the votes of two delegates needs
    /// less than two thirds of it. A release that runs out of gas would be lost.
    uint256 public constant MIN_RELEASE_GAS = 300_000;
    uint256 public constant MAX_RELEASE_GAS = 5_000_000;

    ILiquidityController private constant CONTROLLER = ILiquidityController(Predeploys.LIQUIDITY_CONTROLLER);
    L2ToL1MessagePasser private constant PASSER = L2ToL1MessagePasser(payable(Predeploys.MESSAGE_PASSER));

    /// @notice OpenBridge on L1.
    address public bridge;
    /// @notice Coins that an account refused and can claim.
    mapping(address account => uint256) public owed;

    /// @inheritdoc IOpenMinter
    /// @dev Must not fail: a failed deposit is not repeated, and its coins would be lost.
    function mint(address from, address to, uint256 amount) external {
        if (msg.sender != L1Alias.applyTo(bridge)) revert NotBridge();
        try CONTROLLER.mint{gas: MINT_GAS}(to, amount) {
            emit Minted(from, to, amount);
        } catch {
            owed[to] += amount;
            emit MintRefused(from, to, amount);
        }
    }

    /// @notice Gives the coins that the caller refused to `to`.
    function claim(address to) external returns (uint256 amount) {
        amount = owed[msg.sender];
        if (amount == 0) revert NothingOwed();
        owed[msg.sender] = 0;
        emit Claimed(msg.sender, to, amount);
        CONTROLLER.mint(to, amount);
    }

    /// @notice Moves the sent coins to `to` on L1. The withdrawal must be proven and executed there.
    /// @param gasLimit Gas of the release; raised to `MIN_RELEASE_GAS`.
    function withdraw(address to, uint256 gasLimit) external payable {
        if (msg.value == 0) revert NoCoins();
        if (to == address(0) || to == bridge) revert BadReceiver(to);
        if (gasLimit < MIN_RELEASE_GAS) gasLimit = MIN_RELEASE_GAS;
        if (gasLimit > MAX_RELEASE_GAS) revert BadGasLimit(gasLimit);
        emit Withdrawn(msg.sender, to, msg.value);
        CONTROLLER.burn{value: msg.value}();
        PASSER.initiateWithdrawal(bridge, gasLimit, abi.encodeCall(IOpenBridge.release, (to, msg.value)));
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.0.0";
    }
}
