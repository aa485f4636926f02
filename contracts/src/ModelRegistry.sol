// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {AdapterModel, BaseModel, IModelRegistry, VersionRef} from "./interfaces/IModelRegistry.sol";
import {IProtocolParameters} from "./interfaces/IProtocolParameters.sol";
import {Payouts} from "./libraries/Payouts.sol";
import {FeeSplit, Split} from "./libraries/Split.sol";
import {Adapter, MAX_MODE, Parameters, RECORD_VERSION, TrainingRun} from "./types/Records.sol";

/// @title Base models and adapters with their lineage
/// @notice See IModelRegistry.
contract ModelRegistry is ERC721, IModelRegistry {
    using Split for FeeSplit;

    /// @notice Least share of a fee that contributors get, whatever the model owner wishes.
    uint16 public constant MIN_CONTRIBUTORS_BPS = 2000;

    IProtocolParameters public immutable parameters;
    IDatanetRegistry public immutable datanets;

    /// @inheritdoc IModelRegistry
    uint64 public count;
    /// @inheritdoc IModelRegistry
    mapping(bytes32 weightsRootOrDigest => uint64 id) public idOf;
    mapping(uint64 id => BaseModel) private _bases;
    mapping(uint64 id => AdapterModel) private _adapters;

    constructor(IProtocolParameters parameters_, IDatanetRegistry datanets_)
        ERC721("OpenLedger Model", "MODEL")
    {
        parameters = parameters_;
        datanets = datanets_;
    }

    /// @inheritdoc IModelRegistry
    function registerBase(bytes32 weightsRoot, bytes32 tokenizer, string calldata uri)
        external
        payable
        returns (uint64 id)
    {
        if (weightsRoot == 0 || tokenizer == 0) revert ZeroDigest();
        uint256 fee = _requireFee(parameters.current());
        id = _register(weightsRoot);
        _bases[id] = BaseModel(weightsRoot, tokenizer, false);
        emit BaseRegistered(id, msg.sender, weightsRoot, tokenizer, uri, fee);
        _payFee(fee);
    }

    /// @inheritdoc IModelRegistry
    function registerAdapter(
        uint64 base,
        Adapter calldata adapter,
        TrainingRun calldata run,
        VersionRef[] calldata datasets,
        FeeSplit calldata split
    ) external payable returns (uint64 id) {
        Parameters memory p = parameters.current();
        uint256 fee = _requireFee(p);
        _checkSplit(split, p);
        bytes32 runDigest = keccak256(abi.encode(run));
        _checkAdapter(adapter, runDigest);
        if (adapter.mode != run.mode) revert BadLineage("adapter.mode");
        _checkRun(base, run);
        _checkDatasets(datasets, run.datasets);

        bytes32 digest = keccak256(abi.encode(adapter));
        id = _register(digest);
        AdapterModel storage model = _adapters[id];
        model.digest = digest;
        model.run = runDigest;
        model.lineage = keccak256(abi.encode(datasets));
        model.base = base;
        model.split = split;
        model.priceIn = adapter.priceIn;
        model.priceOut = adapter.priceOut;
        emit AdapterRegistered(id, base, digest, adapter, run, datasets, split, fee);
        _payFee(fee);
    }

    /// @inheritdoc IModelRegistry
    function retire(uint64 id) external {
        if (_ownerOf(id) != msg.sender) revert NotOwner(id, msg.sender);
        if (_bases[id].weightsRoot != 0) _bases[id].retired = true;
        else _adapters[id].retired = true;
        emit ModelRetired(id);
    }

    /// @inheritdoc IModelRegistry
    function baseOf(uint64 id) external view returns (BaseModel memory) {
        return _bases[id];
    }

    /// @inheritdoc IModelRegistry
    function adapterOf(uint64 id) external view returns (AdapterModel memory) {
        return _adapters[id];
    }

    function _register(bytes32 key) private returns (uint64 id) {
        if (idOf[key] != 0) revert AlreadyRegistered(idOf[key]);
        id = ++count;
        idOf[key] = id;
        _mint(msg.sender, id);
    }

    function _requireFee(Parameters memory p) private view returns (uint256 fee) {
        fee = p.registrationFee;
        if (msg.value != fee) revert WrongFee(fee, msg.value);
    }

    function _payFee(uint256 fee) private {
        if (fee > 0 && !Payouts.trySend(parameters.treasury(), fee)) revert TreasuryRefused();
    }

    function _checkSplit(FeeSplit memory split, Parameters memory p) private pure {
        if (split.total() != Split.WHOLE) revert BadSplit("sum");
        if (split.contributorsBps < MIN_CONTRIBUTORS_BPS) revert BadSplit("contributorsBps");
        if (split.stakersBps != p.stakersBps) revert BadSplit("stakersBps");
        if (split.treasuryBps != p.treasuryBps) revert BadSplit("treasuryBps");
    }

    /// @dev Only the owner can register its record: otherwise a copy seen in the mempool could be
    /// registered first with another split.
    function _checkAdapter(Adapter calldata adapter, bytes32 run) private view {
        if (adapter.version != RECORD_VERSION) revert BadLineage("adapter.version");
        if (adapter.chainId != block.chainid) revert BadLineage("adapter.chainId");
        if (adapter.run != run) revert BadLineage("adapter.run");
        if (adapter.weights == 0) revert ZeroDigest();
        if (adapter.owner != msg.sender) revert BadLineage("adapter.owner");
    }

    function _checkRun(uint64 id, TrainingRun calldata run) private view {
        BaseModel storage base = _bases[id];
        if (base.weightsRoot == 0 || base.retired) revert NoSuchBase(id);
        if (run.version != RECORD_VERSION) revert BadLineage("run.version");
        if (run.chainId != block.chainid) revert BadLineage("run.chainId");
        if (run.mode > MAX_MODE) revert BadLineage("run.mode");
        if (run.base != base.weightsRoot) revert BadLineage("run.base");
        if (run.tokenizer != base.tokenizer) revert BadLineage("run.tokenizer");
    }

    /// @dev The loop is over the caller's own list, paid by the caller.
    function _checkDatasets(VersionRef[] calldata refs, bytes32[] calldata digests) private view {
        if (refs.length == 0 || refs.length != digests.length) revert BadLineage("run.datasets");
        for (uint256 i = 0; i < refs.length; ++i) {
            bytes32 digest = datanets.versionDigest(refs[i].datanet, refs[i].number);
            if (digest == 0) revert NoSuchVersion(refs[i].datanet, refs[i].number);
            if (digest != digests[i]) revert BadLineage("run.datasets");
        }
    }
}
