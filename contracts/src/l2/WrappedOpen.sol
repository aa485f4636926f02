// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title The gas coin as a token
/// @notice One coin in, one token out, and back: WETH9's interface.
/// @dev Predeploy 0x4200000000000000000000000000000000000006, no constructor. Slots: 0 balances,
/// 1 allowances. Both empty at genesis.
contract WrappedOpen is IERC20 {
    /// @notice Coins came in.
    event Deposit(address indexed account, uint256 amount);
    /// @notice Coins went out.
    event Withdrawal(address indexed account, uint256 amount);

    /// @notice The account has fewer tokens.
    error BalanceTooLow(uint256 balance, uint256 amount);
    /// @notice The owner allowed fewer.
    error AllowanceTooLow(uint256 allowance, uint256 amount);

    string public constant name = "Wrapped OPEN";
    string public constant symbol = "WOPEN";
    uint8 public constant decimals = 18;

    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    receive() external payable {
        deposit();
    }

    /// @notice Wraps the sent coins.
    function deposit() public payable {
        balanceOf[msg.sender] += msg.value;
        emit Deposit(msg.sender, msg.value);
        emit Transfer(address(0), msg.sender, msg.value);
    }

    /// @notice Unwraps.
    function withdraw(uint256 amount) external {
        _take(msg.sender, amount);
        emit Withdrawal(msg.sender, amount);
        emit Transfer(msg.sender, address(0), amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IERC20
    function totalSupply() external view returns (uint256) {
        return address(this).balance;
    }

    /// @inheritdoc IERC20
    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
        return true;
    }

    /// @inheritdoc IERC20
    function transfer(address to, uint256 amount) external returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    /// @inheritdoc IERC20
    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        // The owner needs no allowance, and the highest one is for ever: as WETH9 does it.
        if (from != msg.sender && allowed != type(uint256).max) {
            if (allowed < amount) revert AllowanceTooLow(allowed, amount);
            allowance[from][msg.sender] = allowed - amount;
        }
        _move(from, to, amount);
        return true;
    }

    function _move(address from, address to, uint256 amount) private {
        _take(from, amount);
        balanceOf[to] += amount;
        emit Transfer(from, to, amount);
    }

    function _take(address from, uint256 amount) private {
        uint256 balance = balanceOf[from];
        if (balance < amount) revert BalanceTooLow(balance, amount);
        balanceOf[from] = balance - amount;
    }
}
