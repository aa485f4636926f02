// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Predeploys} from "../libraries/Predeploys.sol";

/// @title What L2 knows about L1
/// @notice The first transaction of each L2 block writes here which L1 block it belongs to, and what the
/// fees are. The node reads the fees from these slots while it executes, so the layout is consensus.
/// @dev Predeploy 0x4200000000000000000000000000000000000015, no constructor. Slots, offsets in bytes
/// from the right: 0 number (0), timestamp (8); 1 basefee; 2 hash; 3 sequenceNumber (0),
/// blobBaseFeeScalar (8), baseFeeScalar (12); 4 batcherHash; 5 and 6 unused since Ecotone; 7 blobBaseFee;
/// 8 operatorFeeConstant (0), operatorFeeScalar (8), daFootprintGasScalar (12). All may be zero at
/// genesis; the first block after it fills them.
contract L1Block {
    /// @notice Only the attributes transaction writes here.
    error NotDepositor();

    /// @dev Stands for the native coin in token interfaces.
    address private constant NATIVE = 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE;

    uint64 public number;
    uint64 public timestamp;
    uint256 public basefee;
    bytes32 public hash;
    /// @notice L2 blocks since the L1 block changed.
    uint64 public sequenceNumber;
    uint32 public blobBaseFeeScalar;
    uint32 public baseFeeScalar;
    bytes32 public batcherHash;
    uint256 public l1FeeOverhead;
    uint256 public l1FeeScalar;
    uint256 public blobBaseFee;
    uint64 public operatorFeeConstant;
    uint32 public operatorFeeScalar;
    uint16 public daFootprintGasScalar;

    /// @notice Ecotone's attributes, packed behind the selector: see the specification's table.
    function setL1BlockValuesEcotone() external {
        _setEcotone();
    }

    /// @notice Ecotone's, then operator fee scalar (4 bytes) and constant (8 bytes).
    function setL1BlockValuesIsthmus() external {
        _setEcotone();
        _setOperatorFee();
    }

    /// @notice Isthmus's, then the gas scalar of the data footprint (2 bytes).
    function setL1BlockValuesJovian() external {
        _setEcotone();
        _setOperatorFee();
        daFootprintGasScalar = uint16(bytes2(msg.data[176:178]));
    }

    /// @notice The attributes transaction's sender.
    function DEPOSITOR_ACCOUNT() external pure returns (address) {
        return Predeploys.DEPOSITOR;
    }

    /// @notice Gas is paid in OPEN.
    function isCustomGasToken() external pure returns (bool) {
        return true;
    }

    /// @notice The gas coin is native here, not a token.
    function gasPayingToken() external pure returns (address, uint8) {
        return (NATIVE, 18);
    }

    /// @notice Name of the gas coin.
    function gasPayingTokenName() external pure returns (string memory) {
        return "OpenLedger";
    }

    /// @notice Symbol of the gas coin.
    function gasPayingTokenSymbol() external pure returns (string memory) {
        return "OPEN";
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "1.8.0";
    }

    function _setEcotone() private {
        if (msg.sender != Predeploys.DEPOSITOR) revert NotDepositor();
        baseFeeScalar = uint32(bytes4(msg.data[4:8]));
        blobBaseFeeScalar = uint32(bytes4(msg.data[8:12]));
        sequenceNumber = uint64(bytes8(msg.data[12:20]));
        timestamp = uint64(bytes8(msg.data[20:28]));
        number = uint64(bytes8(msg.data[28:36]));
        basefee = uint256(bytes32(msg.data[36:68]));
        blobBaseFee = uint256(bytes32(msg.data[68:100]));
        hash = bytes32(msg.data[100:132]);
        batcherHash = bytes32(msg.data[132:164]);
    }

    function _setOperatorFee() private {
        operatorFeeScalar = uint32(bytes4(msg.data[164:168]));
        operatorFeeConstant = uint64(bytes8(msg.data[168:176]));
    }
}
