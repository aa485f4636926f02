// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ILiquidityController} from "../interfaces/ILiquidityController.sol";
import {Predeploys} from "../libraries/Predeploys.sol";
import {NativeAssetLiquidity} from "./NativeAssetLiquidity.sol";

/// @title Who may mint the gas coin
/// @notice The owner names minters; in production OpenMinter is the only one.
/// @dev Predeploy 0x420000000000000000000000000000000000002A; the constructor never runs there. Slots: 0
/// owner; 1 minters, where genesis sets `keccak256(abi.encode(OPEN_MINTER, 1))` to one.
contract LiquidityController is Ownable, ILiquidityController {
    /// @notice Somebody may mint.
    event MinterAuthorized(address indexed minter);
    /// @notice Somebody may no longer mint.
    event MinterDeauthorized(address indexed minter);
    /// @notice Coins came into circulation.
    event LiquidityMinted(address indexed minter, address indexed to, uint256 amount);
    /// @notice Coins left circulation.
    event LiquidityBurned(address indexed minter, uint256 amount);

    /// @notice The caller is not a minter; or coins were sent without a mint.
    error LiquidityController_Unauthorized();
    /// @notice Nothing to burn.
    error LiquidityController_ZeroAmount();
    /// @notice The receiver refused the coins.
    error LiquidityController_TransferFailed();

    NativeAssetLiquidity private constant LIQUIDITY = NativeAssetLiquidity(Predeploys.NATIVE_ASSET_LIQUIDITY);

    mapping(address account => bool) public minters;

    modifier onlyMinter() {
        if (!minters[msg.sender]) revert LiquidityController_Unauthorized();
        _;
    }

    constructor() Ownable(msg.sender) {}

    receive() external payable {
        if (msg.sender != address(LIQUIDITY)) revert LiquidityController_Unauthorized();
    }

    /// @notice Lets `minter` mint and burn.
    function authorizeMinter(address minter) external onlyOwner {
        minters[minter] = true;
        emit MinterAuthorized(minter);
    }

    /// @notice Stops `minter`.
    function deauthorizeMinter(address minter) external onlyOwner {
        minters[minter] = false;
        emit MinterDeauthorized(minter);
    }

    /// @inheritdoc ILiquidityController
    function mint(address to, uint256 amount) external onlyMinter {
        emit LiquidityMinted(msg.sender, to, amount);
        LIQUIDITY.withdraw(amount);
        bool sent;
        // Returned data is not copied, so the receiver cannot make its size the minter's cost.
        assembly ("memory-safe") {
            sent := call(gas(), to, amount, 0, 0, 0, 0)
        }
        if (!sent) revert LiquidityController_TransferFailed();
    }

    /// @inheritdoc ILiquidityController
    function burn() external payable onlyMinter {
        if (msg.value == 0) revert LiquidityController_ZeroAmount();
        emit LiquidityBurned(msg.sender, msg.value);
        LIQUIDITY.deposit{value: msg.value}();
    }

    /// @notice Name of the gas coin.
    function gasPayingAssetName() external pure returns (string memory) {
        return "OpenLedger";
    }

    /// @notice Symbol of the gas coin.
    function gasPayingAssetSymbol() external pure returns (string memory) {
        return "OPEN";
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.0.0";
    }
}
