// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice State of the market in one slot. The names are the specification's.
struct ResourceParams {
    uint128 prevBaseFee;
    uint64 prevBoughtGas;
    uint64 prevBlockNum;
}

/// @title The price of the L2 gas that deposits use
/// @notice Deposits do not pay for their gas on L2, so they burn gas on L1. Price and cap follow the
/// guaranteed gas market of the OP Stack: an EIP-1559 curve over L1 blocks.
library DepositMarket {
    /// @notice L2 gas that all deposits of one L1 block may buy.
    uint64 internal constant MAX_RESOURCE_LIMIT = 20_000_000;
    uint64 internal constant ELASTICITY = 10;
    uint64 internal constant TARGET = MAX_RESOURCE_LIMIT / ELASTICITY;
    uint64 internal constant CHANGE_DENOMINATOR = 8;
    uint128 internal constant MINIMUM_BASE_FEE = 1 gwei;
    /// @notice L2 gas that the L1 attributes transaction may use.
    uint64 internal constant SYSTEM_TX_MAX_GAS = 1_000_000;

    uint256 private constant WAD = 1e18;
    /// @dev (7/8)^700 < 2^-134: after as many empty blocks any 128-bit price is at the minimum.
    uint256 private constant FORGETS_AFTER = 700;

    /// @notice Deposits of this block already bought all of the block's gas.
    error OutOfGas();

    /// @notice Enters `bought` gas, and burns what it costs beyond the gas used since `gasAtStart`.
    function buy(ResourceParams storage params, uint64 bought, uint256 gasAtStart) internal {
        ResourceParams memory next = advance(params, uint64(block.number));
        uint256 sum = uint256(next.prevBoughtGas) + bought;
        if (sum > MAX_RESOURCE_LIMIT) revert OutOfGas();
        next.prevBoughtGas = uint64(sum);
        params.prevBaseFee = next.prevBaseFee;
        params.prevBoughtGas = next.prevBoughtGas;
        params.prevBlockNum = next.prevBlockNum;

        // The floor keeps the burn finite on chains whose base fee is close to nothing.
        uint256 cost = uint256(bought) * next.prevBaseFee / Math.max(block.basefee, 1 gwei);
        while (gasAtStart - gasleft() < cost) {}
    }

    /// @notice The market at block `number`, before anything is bought in it.
    function advance(ResourceParams memory params, uint64 number)
        internal
        pure
        returns (ResourceParams memory)
    {
        if (number == params.prevBlockNum) return params;
        int256 fee = int256(uint256(params.prevBaseFee));
        int256 surplus = int256(uint256(params.prevBoughtGas)) - int256(uint256(TARGET));
        fee = _clamp(fee + fee * surplus / int256(uint256(TARGET)) / int256(uint256(CHANGE_DENOMINATOR)));
        uint256 empty = number - params.prevBlockNum - 1;
        if (empty > 0) {
            uint256 factor = empty > FORGETS_AFTER ? 0 : _power(WAD - WAD / CHANGE_DENOMINATOR, empty);
            fee = _clamp(int256(uint256(fee) * factor / WAD));
        }
        return ResourceParams(uint128(uint256(fee)), 0, number);
    }

    function _clamp(int256 fee) private pure returns (int256) {
        if (fee < int256(uint256(MINIMUM_BASE_FEE))) return int256(uint256(MINIMUM_BASE_FEE));
        if (fee > int256(uint256(type(uint128).max))) return int256(uint256(type(uint128).max));
        return fee;
    }

    function _power(uint256 base, uint256 exponent) private pure returns (uint256 result) {
        result = WAD;
        for (; exponent > 0; exponent >>= 1) {
            if (exponent & 1 == 1) result = result * base / WAD;
            base = base * base / WAD;
        }
    }
}
