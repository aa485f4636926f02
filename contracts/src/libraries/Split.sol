// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice How a fee is shared, in basis points that sum to 10,000.
struct FeeSplit {
    uint16 contributorsBps;
    uint16 operatorBps;
    uint16 modelOwnerBps;
    uint16 stakersBps;
    uint16 treasuryBps;
}

/// @title Basis-point arithmetic
library Split {
    /// @notice The whole, in basis points.
    uint256 internal constant WHOLE = 10_000;

    /// @notice The sum of the five shares.
    function total(FeeSplit memory s) internal pure returns (uint256) {
        return uint256(s.contributorsBps) + s.operatorBps + s.modelOwnerBps + s.stakersBps + s.treasuryBps;
    }
}
