// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {FastLz} from "../libraries/FastLz.sol";
import {Predeploys} from "../libraries/Predeploys.sol";
import {L1Block} from "./L1Block.sol";

/// @title What a transaction will cost beyond its gas
/// @notice Wallets ask here for the L1 fee and the operator fee. The node computes both by itself; this
/// contract must agree with it. Only the formulas of the newest fork are here.
/// @dev Predeploy 0x420000000000000000000000000000000000000F, no constructor, no storage.
contract GasPriceOracle {
    using FastLz for bytes;
    using Math for uint256;

    uint256 public constant DECIMALS = 6;
    /// @notice The node got the fork. There is no block of this chain before these.
    bool public constant isEcotone = true;
    bool public constant isFjord = true;
    bool public constant isIsthmus = true;
    bool public constant isJovian = true;

    L1Block private constant L1 = L1Block(Predeploys.L1_BLOCK);
    /// @dev A signature's bytes, which an unsigned transaction lacks and which do not compress.
    uint256 private constant SIGNATURE = 68;
    /// @dev The regression from FastLZ length to the share of a batch, in millionths of a byte (Fjord).
    uint256 private constant INTERCEPT = 42_585_600;
    uint256 private constant COEFFICIENT = 836_500;
    uint256 private constant MINIMUM_SIZE = 100_000_000;
    uint256 private constant NON_ZERO_BYTE_GAS = 16;
    uint256 private constant JOVIAN_MULTIPLIER = 100;

    /// @notice The L1 fee of a transaction, given in RLP without its signature.
    function getL1Fee(bytes memory data) external view returns (uint256) {
        return _fee(data.compressedLength() + SIGNATURE);
    }

    /// @notice A bound of the L1 fee of nearly all unsigned transactions of this length; much cheaper.
    function getL1FeeUpperBound(uint256 unsignedTxSize) external view returns (uint256) {
        uint256 size = unsignedTxSize + SIGNATURE;
        return _fee(size + size / 255 + 16);
    }

    /// @notice The transaction's share of a batch as calldata gas. Says nothing about blobs: deprecated.
    function getL1GasUsed(bytes memory data) external pure returns (uint256) {
        return _share(data.compressedLength() + SIGNATURE) * NON_ZERO_BYTE_GAS / 10 ** DECIMALS;
    }

    /// @notice The operator fee of so much gas.
    function getOperatorFee(uint256 gasUsed) external view returns (uint256) {
        return gasUsed.saturatingMul(L1.operatorFeeScalar()).saturatingMul(JOVIAN_MULTIPLIER)
            .saturatingAdd(L1.operatorFeeConstant());
    }

    /// @notice This block's base fee.
    function gasPrice() external view returns (uint256) {
        return block.basefee;
    }

    /// @notice This block's base fee.
    function baseFee() external view returns (uint256) {
        return block.basefee;
    }

    /// @notice L1's base fee.
    function l1BaseFee() public view returns (uint256) {
        return L1.basefee();
    }

    /// @notice L1's blob base fee.
    function blobBaseFee() public view returns (uint256) {
        return L1.blobBaseFee();
    }

    /// @notice Weight of L1's base fee, in millionths.
    function baseFeeScalar() public view returns (uint32) {
        return L1.baseFeeScalar();
    }

    /// @notice Weight of L1's blob base fee, in millionths.
    function blobBaseFeeScalar() public view returns (uint32) {
        return L1.blobBaseFeeScalar();
    }

    /// @notice Decimals of the scalars.
    function decimals() external pure returns (uint256) {
        return DECIMALS;
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.6.0";
    }

    function _fee(uint256 compressed) private view returns (uint256) {
        uint256 perByte =
            l1BaseFee() * NON_ZERO_BYTE_GAS * baseFeeScalar() + blobBaseFee() * blobBaseFeeScalar();
        return _share(compressed) * perByte / 10 ** (2 * DECIMALS);
    }

    function _share(uint256 compressed) private pure returns (uint256) {
        return (compressed * COEFFICIENT).saturatingSub(INTERCEPT).max(MINIMUM_SIZE);
    }
}
