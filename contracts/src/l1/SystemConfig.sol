// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {DepositMarket} from "../libraries/DepositMarket.sol";

/// @notice Everything that SystemConfig starts with.
struct SystemSettings {
    address owner;
    bytes32 batcherHash;
    uint64 gasLimit;
    uint32 basefeeScalar;
    uint32 blobbasefeeScalar;
    address unsafeBlockSigner;
    uint32 eip1559Denominator;
    uint32 eip1559Elasticity;
    uint32 operatorFeeScalar;
    uint64 operatorFeeConstant;
    uint64 minBaseFee;
    uint16 daFootprintGasScalar;
    address batchInbox;
    address optimismPortal;
    address disputeGameFactory;
    address gasPayingToken;
}

/// @title What the chain's operator can set
/// @notice Nodes read the changes as events while they derive L2 from L1, so the events are consensus:
/// names, order and encoding are the OP Stack's.
contract SystemConfig is Ownable2Step {
    /// @notice What a ConfigUpdate changes.
    enum UpdateType {
        BATCHER,
        FEE_SCALARS,
        GAS_LIMIT,
        UNSAFE_BLOCK_SIGNER,
        EIP_1559_PARAMS,
        OPERATOR_FEE,
        MIN_BASE_FEE,
        DA_FOOTPRINT_GAS_SCALAR
    }

    /// @notice A setting changed. Nodes apply it from the L1 block of this event on.
    event ConfigUpdate(uint256 indexed version, UpdateType indexed updateType, bytes data);

    /// @notice The gas limit is outside of `minimumGasLimit` and `maximumGasLimit`.
    error GasLimitOutOfRange(uint64 gasLimit);
    /// @notice Denominator and elasticity must not be zero.
    error ZeroFeeParameter();
    /// @notice A role or an address is empty.
    error ZeroAddress();

    /// @notice Version of the event.
    uint256 public constant VERSION = 0;
    /// @dev First byte of a packed scalar since Ecotone.
    uint256 private constant ECOTONE_SCALARS = 1 << 248;
    bytes32 private constant CUSTOM_GAS_TOKEN = "CUSTOM_GAS_TOKEN";

    address public immutable batchInbox;
    address public immutable optimismPortal;
    address public immutable disputeGameFactory;
    /// @notice L1 block of the deployment: nothing of this chain happened before.
    uint256 public immutable startBlock;
    address private immutable _gasPayingToken;

    /// @notice The batcher: version byte 0, then the address right-aligned.
    bytes32 public batcherHash;
    uint64 public gasLimit;
    uint32 public basefeeScalar;
    uint32 public blobbasefeeScalar;
    uint32 public eip1559Denominator;
    uint32 public eip1559Elasticity;
    uint32 public operatorFeeScalar;
    address public unsafeBlockSigner;
    uint64 public operatorFeeConstant;
    uint64 public minBaseFee;
    uint16 public daFootprintGasScalar;

    /// @dev Announces what the specification lists for the start. The rest reaches nodes in the genesis
    /// part of their rollup configuration, and an event of it could precede the fork that knows it.
    constructor(SystemSettings memory s) Ownable(s.owner) {
        if (
            s.batchInbox == address(0) || s.optimismPortal == address(0) || s.disputeGameFactory == address(0)
                || s.gasPayingToken == address(0)
        ) revert ZeroAddress();
        batchInbox = s.batchInbox;
        optimismPortal = s.optimismPortal;
        disputeGameFactory = s.disputeGameFactory;
        _gasPayingToken = s.gasPayingToken;
        startBlock = block.number;
        _setBatcherHash(s.batcherHash);
        _setFeeScalars(s.basefeeScalar, s.blobbasefeeScalar);
        _setGasLimit(s.gasLimit);
        _setUnsafeBlockSigner(s.unsafeBlockSigner);
        if (s.eip1559Denominator == 0 || s.eip1559Elasticity == 0) revert ZeroFeeParameter();
        eip1559Denominator = s.eip1559Denominator;
        eip1559Elasticity = s.eip1559Elasticity;
        operatorFeeScalar = s.operatorFeeScalar;
        operatorFeeConstant = s.operatorFeeConstant;
        minBaseFee = s.minBaseFee;
        daFootprintGasScalar = s.daFootprintGasScalar;
    }

    // --- settings ---

    /// @notice Names the account whose transactions to the inbox are batches.
    function setBatcherHash(bytes32 batcherHash_) external onlyOwner {
        _setBatcherHash(batcherHash_);
    }

    /// @notice Sets how L1's fees enter the L1 fee of a transaction, in millionths.
    function setGasConfigEcotone(uint32 basefeeScalar_, uint32 blobbasefeeScalar_) external onlyOwner {
        _setFeeScalars(basefeeScalar_, blobbasefeeScalar_);
    }

    /// @notice Sets the gas limit of L2 blocks.
    function setGasLimit(uint64 gasLimit_) external onlyOwner {
        _setGasLimit(gasLimit_);
    }

    /// @notice Names the key that signs unsafe blocks between nodes.
    function setUnsafeBlockSigner(address signer) external onlyOwner {
        _setUnsafeBlockSigner(signer);
    }

    /// @notice Sets the curve of L2's base fee.
    function setEIP1559Params(uint32 denominator, uint32 elasticity) external onlyOwner {
        if (denominator == 0 || elasticity == 0) revert ZeroFeeParameter();
        eip1559Denominator = denominator;
        eip1559Elasticity = elasticity;
        _announce(UpdateType.EIP_1559_PARAMS, abi.encode(uint256(denominator) << 32 | elasticity));
    }

    /// @notice Sets the operator fee: `gas * scalar * 100 + constant`.
    function setOperatorFeeScalars(uint32 scalar_, uint64 constant_) external onlyOwner {
        operatorFeeScalar = scalar_;
        operatorFeeConstant = constant_;
        _announce(UpdateType.OPERATOR_FEE, abi.encode(uint256(scalar_) << 64 | constant_));
    }

    /// @notice Sets the floor of L2's base fee, in wei of OPEN.
    function setMinBaseFee(uint64 minBaseFee_) external onlyOwner {
        minBaseFee = minBaseFee_;
        _announce(UpdateType.MIN_BASE_FEE, abi.encode(minBaseFee_));
    }

    /// @notice Sets the gas that a byte of data counts for in a block. Zero stands for the default.
    function setDAFootprintGasScalar(uint16 scalar_) external onlyOwner {
        daFootprintGasScalar = scalar_;
        _announce(UpdateType.DA_FOOTPRINT_GAS_SCALAR, abi.encode(scalar_));
    }

    // --- views ---

    /// @notice Lowest gas limit: deposits and the attributes transaction always fit.
    function minimumGasLimit() public pure returns (uint64) {
        return DepositMarket.MAX_RESOURCE_LIMIT + DepositMarket.SYSTEM_TX_MAX_GAS;
    }

    /// @notice Highest gas limit: what a verifier can be expected to follow.
    function maximumGasLimit() public pure returns (uint64) {
        return 500_000_000;
    }

    /// @notice Unused since Ecotone.
    function overhead() external pure returns (uint256) {
        return 0;
    }

    /// @notice Both fee scalars in Ecotone's packing.
    function scalar() public view returns (uint256) {
        return ECOTONE_SCALARS | uint256(blobbasefeeScalar) << 32 | basefeeScalar;
    }

    /// @notice Gas is paid in OPEN, not in ETH.
    function isCustomGasToken() external pure returns (bool) {
        return true;
    }

    /// @notice Whether an optional feature of the OP Stack is on.
    function isFeatureEnabled(bytes32 feature) external pure returns (bool) {
        return feature == CUSTOM_GAS_TOKEN;
    }

    /// @notice OPEN on L1, and its decimals.
    function gasPayingToken() external view returns (address, uint8) {
        return (_gasPayingToken, 18);
    }

    /// @notice Version of the interface.
    function version() external pure returns (string memory) {
        return "3.0.0";
    }

    // --- inside ---

    function _setBatcherHash(bytes32 hash) private {
        if (hash == 0) revert ZeroAddress();
        batcherHash = hash;
        _announce(UpdateType.BATCHER, abi.encode(hash));
    }

    function _setFeeScalars(uint32 base, uint32 blob) private {
        basefeeScalar = base;
        blobbasefeeScalar = blob;
        _announce(UpdateType.FEE_SCALARS, abi.encode(uint256(0), scalar()));
    }

    function _setGasLimit(uint64 limit) private {
        if (limit < minimumGasLimit() || limit > maximumGasLimit()) revert GasLimitOutOfRange(limit);
        gasLimit = limit;
        _announce(UpdateType.GAS_LIMIT, abi.encode(limit));
    }

    function _setUnsafeBlockSigner(address signer) private {
        if (signer == address(0)) revert ZeroAddress();
        unsafeBlockSigner = signer;
        _announce(UpdateType.UNSAFE_BLOCK_SIGNER, abi.encode(signer));
    }

    function _announce(UpdateType kind, bytes memory data) private {
        emit ConfigUpdate(VERSION, kind, data);
    }
}
