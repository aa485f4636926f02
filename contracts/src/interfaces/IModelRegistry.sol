// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FeeSplit} from "../libraries/Split.sol";
import {Adapter, TrainingRun} from "../types/Records.sol";

/// @notice A sealed version of a Datanet.
struct VersionRef {
    uint64 datanet;
    uint64 number;
}

/// @notice A base model.
struct BaseModel {
    bytes32 weightsRoot;
    bytes32 tokenizer;
    bool retired;
}

/// @notice A tuned adapter: what others may rely on when they pay for it.
struct AdapterModel {
    bytes32 digest;
    bytes32 run;
    bytes32 lineage;
    uint64 base;
    FeeSplit split;
    bool retired;
    uint128 priceIn;
    uint128 priceOut;
}

/// @title Base models and adapters with their lineage
/// @notice Each is an ERC-721 token; ids are shared and run from 1. An adapter can only name a base
/// and dataset versions that exist on chain, and its records must agree with them, so the line from
/// an answer back to the contributors has no gap.
interface IModelRegistry {
    /// @notice A base model was registered.
    event BaseRegistered(
        uint64 indexed id,
        address indexed owner,
        bytes32 indexed weightsRoot,
        bytes32 tokenizer,
        string uri,
        uint256 fee
    );
    /// @notice An adapter was registered; `adapter` and `run` are the whole records.
    event AdapterRegistered(
        uint64 indexed id,
        uint64 indexed base,
        bytes32 indexed digest,
        Adapter adapter,
        TrainingRun run,
        VersionRef[] datasets,
        FeeSplit split,
        uint256 fee
    );
    /// @notice The owner no longer offers the model; what exists stays valid.
    event ModelRetired(uint64 indexed id);

    /// @notice The fee must be sent exactly.
    error WrongFee(uint256 expected, uint256 sent);
    /// @notice The treasury refused the fee.
    error TreasuryRefused();
    /// @notice The same weights or record are registered as `id`.
    error AlreadyRegistered(uint64 id);
    /// @notice A digest is zero.
    error ZeroDigest();
    /// @notice There is no base model with this id, or it was retired.
    error NoSuchBase(uint64 id);
    /// @notice There is no sealed version of the Datanet with this number.
    error NoSuchVersion(uint64 datanet, uint64 number);
    /// @notice The records do not agree with each other or with the chain: `field` is the first.
    error BadLineage(string field);
    /// @notice The shares do not sum to 10,000 or break a rule: `field` is the first.
    error BadSplit(string field);
    /// @notice Only the model's owner may do this.
    error NotOwner(uint64 id, address caller);

    /// @notice Registers a base model for the caller, who pays the registration fee.
    function registerBase(bytes32 weightsRoot, bytes32 tokenizer, string calldata uri)
        external
        payable
        returns (uint64 id);

    /// @notice Registers an adapter for the caller (`adapter.owner`), who pays the registration fee.
    /// @param base Id of the base model it was tuned on; `run.base` and `run.tokenizer` must be its.
    /// @param datasets The versions whose digests `run.datasets` lists, in that order.
    /// @param split How its fees are shared for ever. The stakers' and the treasury's share are the
    /// protocol's; contributors get at least `MIN_CONTRIBUTORS_BPS`.
    function registerAdapter(
        uint64 base,
        Adapter calldata adapter,
        TrainingRun calldata run,
        VersionRef[] calldata datasets,
        FeeSplit calldata split
    ) external payable returns (uint64 id);

    /// @notice Marks a model as no longer offered.
    function retire(uint64 id) external;

    /// @notice A base model.
    function baseOf(uint64 id) external view returns (BaseModel memory);

    /// @notice An adapter.
    function adapterOf(uint64 id) external view returns (AdapterModel memory);

    /// @notice Id of the base with these weights, or of the adapter with this digest; zero if none.
    function idOf(bytes32 weightsRootOrDigest) external view returns (uint64);

    /// @notice Number of models.
    function count() external view returns (uint64);
}
