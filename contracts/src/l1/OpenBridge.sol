// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IOpenBridge} from "../interfaces/IOpenBridge.sol";
import {IOpenMinter} from "../interfaces/IOpenMinter.sol";
import {IOptimismPortal} from "../interfaces/IOptimismPortal.sol";
import {Predeploys} from "../libraries/Predeploys.sol";

/// @title Holds on L1 the OPEN that lives on L2
/// @notice What comes in is minted on L2 as the gas coin by OpenMinter, what is burned there is released
/// here. So `escrowed` is all of L2's coins outside of NativeAssetLiquidity, plus what is under way.
/// @dev A release that fails is lost, because the portal executes a withdrawal once. It cannot fail:
/// OpenMinter refuses receivers that OPEN refuses, asks for enough gas, and burns only coins that were
/// escrowed here.
contract OpenBridge is IOpenBridge {
    using SafeERC20 for IERC20;

    /// @notice OPEN left for L2.
    event Deposited(address indexed from, address indexed to, uint256 amount);
    /// @notice OPEN came back.
    event Released(address indexed to, uint256 amount);
    /// @notice The coins of the L2 genesis are covered.
    event GenesisEscrowed(uint256 amount);

    /// @notice No coins, or nobody who could get them.
    error BadDeposit();
    /// @notice The call is not a withdrawal of OpenMinter.
    error NotMinter();
    /// @notice Only the deployer, once.
    error NotDeployer();
    error GenesisAlreadyEscrowed();
    error ZeroAddress();

    /// @notice Gas of a mint on L2. Its own work needs half; the rest is for the receiver's hook. What the
    /// receiver spends cannot make the mint fail: see OpenMinter.
    uint64 public constant MINT_GAS_LIMIT = 250_000;

    IERC20 public immutable token;
    IOptimismPortal public immutable portal;
    address public immutable deployer;

    /// @notice OPEN that is, or will be, on L2.
    uint256 public escrowed;
    bool public genesisEscrowed;

    constructor(IERC20 token_, IOptimismPortal portal_, address deployer_) {
        if (address(token_) == address(0) || address(portal_) == address(0) || deployer_ == address(0)) {
            revert ZeroAddress();
        }
        token = token_;
        portal = portal_;
        deployer = deployer_;
    }

    /// @notice Moves `amount` of the caller's OPEN to `to` on L2. Needs an approval.
    function deposit(address to, uint256 amount) external {
        _deposit(to, amount);
    }

    /// @notice The same with a signed approval (EIP-2612) instead of one that was sent before.
    function depositWithPermit(address to, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        // If somebody used the signature before, the approval is there; if it is not, the transfer fails.
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
            catch {}
        _deposit(to, amount);
    }

    /// @notice Covers, once, the coins that the L2 genesis allocates outside of NativeAssetLiquidity. Must
    /// happen before such coins can be withdrawn.
    function escrowGenesis(uint256 amount) external {
        if (msg.sender != deployer) revert NotDeployer();
        if (genesisEscrowed) revert GenesisAlreadyEscrowed();
        genesisEscrowed = true;
        escrowed += amount;
        emit GenesisEscrowed(amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IOpenBridge
    function release(address to, uint256 amount) external {
        if (msg.sender != address(portal) || portal.l2Sender() != Predeploys.OPEN_MINTER) revert NotMinter();
        escrowed -= amount;
        emit Released(to, amount);
        token.safeTransfer(to, amount);
    }

    function _deposit(address to, uint256 amount) private {
        // Coins for the minter, or for the store of unminted coins, would be out of everybody's reach.
        if (
            to == address(0) || amount == 0 || to == Predeploys.OPEN_MINTER
                || to == Predeploys.NATIVE_ASSET_LIQUIDITY || to == Predeploys.LIQUIDITY_CONTROLLER
        ) revert BadDeposit();
        escrowed += amount;
        emit Deposited(msg.sender, to, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
        portal.depositTransaction(
            Predeploys.OPEN_MINTER,
            0,
            MINT_GAS_LIMIT,
            false,
            abi.encodeCall(IOpenMinter.mint, (msg.sender, to, amount))
        );
    }
}
